"""Other tools' files in and out: promptfoo's YAML, Inspect's `.eval` logs, JUnit for CI. No call, no store.

What cannot be said in the other form is named, never dropped in silence.
"""

from __future__ import annotations

from typing import Any

import msgspec

from fairlead.evaluate.reading import Row
from fairlead.evaluate.scorers import Answer, Value, make_scorer, score
from fairlead.records import Sample

CHECKS = "checks"
"""Field of a sample with the assertions that came with it."""


class Check(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """An assertion: a scorer of ours with its options and, for a number, the bound that must hold.

    ``reference`` replaces the sample's where there is one; ``negated`` turns the outcome round.
    """

    scorer: str
    options: dict[str, Any] = {}
    reference: Any = None
    least: float | None = None
    most: float | None = None
    negated: bool = False


class Imported(msgspec.Struct, frozen=True, kw_only=True):
    """Rows for ``make_samples``, and ``unmapped``: what the file says and we cannot, each once with how often."""

    rows: list[Row]
    unmapped: dict[str, int] = {}


def checks_of(sample: Sample) -> list[Check]:
    """The assertions that came with a sample."""
    return msgspec.convert(sample.fields.get(CHECKS, []), list[Check])


def holds(check: Check, sample: Sample, answer: Answer) -> bool | None:
    """Whether an answer keeps an assertion; None where it cannot be said (nothing was measured, the call failed)."""
    asked = sample if check.reference is None else msgspec.structs.replace(sample, reference=check.reference)
    value: Value = score(make_scorer(check.scorer, **check.options), asked, answer).value
    if value is None or isinstance(value, str):
        return None
    if isinstance(value, bool):
        kept = value
    else:
        kept = (check.least is None or value >= check.least) and (check.most is None or value <= check.most)
    return kept != check.negated
