"""Scorers of an answer against what it was given to read: numbers, prices, dates and the like, by code."""

from __future__ import annotations

from fairlead.evaluate.scorers import Answer
from fairlead.guard.grounding import grounded as unsupported
from fairlead.records import Sample


def grounded(sample: Sample, answer: Answer) -> float | None:
    """Share of the facts of the answer that stand in its documents; 1 where it states none.

    Facts are numbers, prices, dates, times, codes and addresses; meaning is a judge's matter. None without documents.
    """
    if not answer.documents:
        return None
    claims = len(unsupported(answer.text, ()))
    return 1 - len(unsupported(answer.text, answer.documents)) / claims if claims else 1.0


def all_grounded(sample: Sample, answer: Answer) -> bool | None:
    """Whether every fact of the answer stands in its documents."""
    return not unsupported(answer.text, answer.documents) if answer.documents else None
