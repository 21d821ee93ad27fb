"""Scorers of what was found before anything was answered. Right ids are the reference, or the field ``relevant``."""

from __future__ import annotations

from fairlead.evaluate.scorers import Answer
from fairlead.evaluate.scorers.texts import texts_of
from fairlead.records import Sample


def recall(sample: Sample, answer: Answer, *, k: int = 5) -> float | None:
    """Share of the right passages among the first ``k`` found."""
    relevant = _relevant(sample)
    return len(relevant & set(answer.retrieved[:k])) / len(relevant) if relevant else None


def reciprocal_rank(sample: Sample, answer: Answer) -> float | None:
    """1 / place of the first right passage, 0 when none was found; its mean is the MRR."""
    relevant = _relevant(sample)
    if not relevant:
        return None
    return next((1 / place for place, found in enumerate(answer.retrieved, start=1) if found in relevant), 0.0)


def _relevant(sample: Sample) -> set[str]:
    return set(texts_of(sample.fields.get("relevant", sample.reference)))
