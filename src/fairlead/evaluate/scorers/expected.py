"""Scorers of what a sample expects to be done: answer, decline, ask back, use a tool, hand over.

The field ``expect`` says it (answer, unanswerable, ask, tool, handoff); without one an answer with the reference is
expected. Acts are the assistant's own words for what it did; of a plain model the wording is read.
"""

from __future__ import annotations

from fairlead.evaluate.scorers import Answer
from fairlead.evaluate.scorers.texts import contains, declined, texts_of
from fairlead.records import Sample

HANDING = ("handoff", "complaint")


def right(sample: Sample, answer: Answer) -> bool | None:
    """Whether it did what was expected and said what had to be said. None where nothing is expected."""
    expected = str(sample.fields.get("expect", ""))
    if expected == "unanswerable":
        return declined(sample, answer)
    if expected == "handoff":
        return handed_over(sample, answer)
    if expected == "ask":
        return answer.act == "ask" if answer.act else answer.text.rstrip().endswith("?")
    if not texts_of(sample.reference):
        return None
    return bool(contains(sample, answer)) and not declined(sample, answer)


def handed_over(sample: Sample, answer: Answer) -> bool:
    """Whether a person was called; a plain model can only decline."""
    return answer.act in HANDING if answer.act else declined(sample, answer)
