"""What stored runs say: how far they got, what they came to, and where two candidates differ sample by sample.

Two candidates may be of one run or of two. Compared is by sample id, so where the data changed in between only what
both have seen counts; a sample that one of them has no score for is neither better nor worse.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from fairlead.errors import DatasetUnknown, UsageError
from fairlead.evaluate.significance import sign_test
from fairlead.records import Run, Sample
from fairlead.select.report import Report
from fairlead.store import Store
from fairlead.store.runs import Measured

Kind = Literal["better", "worse", "unscored", "reworded", "same"]


class Side(msgspec.Struct, frozen=True, kw_only=True):
    """One candidate of one run, with its results by sample and epoch; ``scorer`` is what the run ranked by."""

    run: Run
    candidate: str
    scorer: str
    found: dict[tuple[str, int], Measured]


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """One sample as both answered it."""

    sample: str
    epoch: int
    kind: Kind
    values: tuple[Any, Any]
    answers: tuple[str, str]

    @property
    def difference(self) -> float:
        """By how much the second is better; 0 where one has no score."""
        one, other = (_number(each) for each in self.values)
        return 0.0 if one is None or other is None else other - one


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Every sample both have answered, in the order of the first. ``p_value`` is that of a sign test.

    None with several answers to a sample, which do not count as so many samples.
    """

    before: Side
    after: Side
    changes: list[Change]
    p_value: float | None

    def count(self, kind: Kind) -> int:
        """How many samples are of a kind."""
        return sum(each.kind == kind for each in self.changes)


def state_of(run: Run) -> str:
    """A run that never ended was killed or still runs; from here the two look alike."""
    return "not ended" if run.state == "running" else run.state


def came_to(run: Run) -> str:
    """The candidate a run chose, or why it chose none; empty without a report."""
    choice = run.report.get("choice") or {}
    return str(choice.get("candidate") or {1: "none holds", 3: "not enough data"}.get(choice.get("status", 0), ""))


def report_of(run: Run) -> Report | None:
    """The report of a selection; None where a run has none, or one that is none of ours."""
    try:
        return msgspec.convert(run.report, Report) if run.report else None
    except msgspec.ValidationError:
        return None


def side_of(store: Store, text: str) -> Side:
    """What ``RUN`` or ``RUN:CANDIDATE`` names; without a candidate the chosen one. Raises FairleadError."""
    name, _, candidate = text.partition(":")
    run = store.runs.get(name)
    counts = store.runs.count(run.id)
    candidate = candidate or str(run.report.get("choice", {}).get("candidate") or next(iter(counts), ""))
    if candidate not in counts:
        known = ", ".join(counts) or "nothing"
        raise UsageError(detail=f"run {run.id[-8:]} measured no {candidate!r}; it measured {known}")
    found = {(each.result.sample, each.result.epoch): each for each in store.runs.results(run.id, variant=candidate)}
    return Side(run=run, candidate=candidate, scorer=str(run.plan.get("quality", "")), found=found)


def compare(before: Side, after: Side) -> Comparison:
    """The second against the first, by the scorer of the first."""
    changes = []
    for key in (key for key in before.found if key in after.found):
        pair = before.found[key], after.found[key]
        one, other = (value_of(each, before.scorer) for each in pair)
        texts = text_of(pair[0]), text_of(pair[1])
        changes.append(
            Change(sample=key[0], epoch=key[1], kind=_kind(one, other, texts), values=(one, other), answers=texts)
        )
    single = len({each.sample for each in changes}) == len(changes)
    better, worse = (sum(each.kind == kind for each in changes) for kind in ("better", "worse"))
    return Comparison(
        before=before, after=after, changes=changes, p_value=sign_test(better, worse) if single and changes else None
    )


def samples_of(store: Store, run: Run) -> dict[str, Sample]:
    """The samples a run was about, by id; none when the data set is gone."""
    name, _, number = run.dataset.rpartition("@")
    try:
        version = store.datasets.get(name, int(number))
    except (DatasetUnknown, ValueError):
        return {}
    return {each.id: each for each in store.datasets.samples(version)}


def text_of(measured: Measured) -> str:
    """What was answered, or the error that came instead."""
    return str(measured.answered.answer.get("text", measured.answered.error))


def value_of(measured: Measured, scorer: str) -> Any:
    """What a scorer gave an answer; None where it gave nothing."""
    return measured.result.scores.get(scorer, {}).get("value")


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _kind(one: Any, other: Any, texts: tuple[str, str]) -> Kind:
    first, second = _number(one), _number(other)
    if first is None or second is None:
        return "unscored" if one != other else ("same" if texts[0] == texts[1] else "reworded")
    if first != second:
        return "better" if second > first else "worse"
    return "same" if texts[0] == texts[1] else "reworded"
