"""Two candidates before a pairwise judge: which of the two answers to the same sample is the better one.

Each pair is looked at in both orders, and a judge that changes its mind with the order has said that they tie. Decides
nothing: what a judge may decide hangs on its calibration.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from fairlead.errors import SelectionImpossible, UsageError
from fairlead.evaluate.intervals import Interval, share
from fairlead.evaluate.judges import Compared, Instrument, compare
from fairlead.evaluate.judges.looks import case_of
from fairlead.evaluate.judges.till import Kept, Till, each_within, total
from fairlead.evaluate.scorers import Answer
from fairlead.evaluate.significance import sign_test
from fairlead.records import Sample
from fairlead.select.stored import Comparison
from fairlead.store.runs import Measured


class Duel(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it. ``better`` is how often the second candidate's answer was preferred, ``worse`` the first's.

    ``ties`` count those that the order decided (``flips``) too; ``invalid`` pairs got no verdict. ``preferred`` is the
    share of the second among the pairs that were decided, None where none was. ``verdicts`` are by sample.
    """

    pairs: int
    better: int
    worse: int
    ties: int
    flips: int
    invalid: int
    preferred: Interval | None
    p_value: float | None
    verdicts: dict[str, str]
    calls: int
    known: int
    cost_nanos: int | None
    stopped: str = ""


async def duel(
    judge: Instrument,
    comparison: Comparison,
    samples: Mapping[str, Sample],
    *,
    confidence: float,
    budget_nanos: int | None = None,
    kept: Kept | None = None,
    concurrency: int = 4,
    progress: Callable[[int, int], None] = lambda done, count: None,
) -> Duel:
    """Have the judge compare what both answered, at their first epoch. Raises UsageError, SelectionImpossible."""
    if judge.definition.kind != "pairwise":
        raise UsageError(detail=f"the judge {judge.definition.id} looks at one answer; expected one of kind: pairwise")
    sides = comparison.before, comparison.after
    if len({(side.run.id, side.candidate) for side in sides}) == 1:
        detail = f"{sides[0].candidate} of run {sides[0].run.id[-8:]} twice. Compare two: RUN:ONE RUN:OTHER"
        raise UsageError(detail=detail)
    keys = [
        key for key in comparison.before.found
        if key[1] == 0 and key in comparison.after.found and key[0] in samples
        and not (comparison.before.found[key].answered.error or comparison.after.found[key].answered.error)
    ]  # fmt: skip
    if not keys:
        raise SelectionImpossible(detail="the two have no answered sample in common whose text is still kept")
    cases = {key[0]: case_of(samples[key[0]], *(_answer(side.found[key]) for side in sides)) for key in keys}
    till, looks, done = Till(judge, kept, budget_nanos, cases.values()), dict[str, Compared](), 0

    async def look(place: int) -> None:
        nonlocal done
        name = keys[place][0]
        looks[name] = await compare(till.instrument, cases[name])
        done += 1
        progress(done, len(keys))

    await each_within(look, len(keys), concurrency, till)
    return _counted(looks, till, confidence)


def _counted(looks: Mapping[str, Compared], till: Till, confidence: float) -> Duel:
    words = {"first": "worse", "second": "better", "tie": "tie", "": "invalid"}
    verdicts = {name: words[each.verdict] for name, each in looks.items()}
    said = list(verdicts.values())
    better, worse = said.count("better"), said.count("worse")
    return Duel(
        pairs=len(looks), better=better, worse=worse, ties=said.count("tie"),
        flips=sum(each.flipped for each in looks.values()), invalid=said.count("invalid"),
        preferred=share(better, better + worse, confidence) if better + worse else None,
        p_value=sign_test(better, worse) if better + worse else None, verdicts=verdicts, calls=till.calls,
        known=till.found, cost_nanos=total(till.judgements, "cost_nanos") if till.judgements else 0,
        stopped=till.stopped,
    )  # fmt: skip


def _answer(measured: Measured) -> Answer:
    return msgspec.convert(measured.answered.answer, Answer)
