"""Scorers of what an answer took: time in seconds, tokens, money in USD. Unknown is None, never 0."""

from __future__ import annotations

from fairlead.evaluate.scorers import Answer
from fairlead.records import Sample


def first_token(sample: Sample, answer: Answer) -> float | None:
    """Seconds until the first token."""
    return answer.first_token_s


def latency(sample: Sample, answer: Answer) -> float | None:
    """Seconds until the end of the answer."""
    return answer.total_s


def input_tokens(sample: Sample, answer: Answer) -> int | None:
    """Tokens read."""
    return answer.input_tokens


def output_tokens(sample: Sample, answer: Answer) -> int | None:
    """Tokens written."""
    return answer.output_tokens


def cost(sample: Sample, answer: Answer) -> float | None:
    """Model fees in USD; None when the price is unknown."""
    return None if answer.cost_nanos is None else answer.cost_nanos / 1e9
