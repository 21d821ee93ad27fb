"""A judge with a purse and a memory: what it looked at is not paid for again, and it stops before all is spent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import msgspec

from fairlead.evaluate.judges.looks import Case, Instrument, Judgement
from fairlead.evaluate.purse import Expectation
from fairlead.spec.canonical import digest


class Kept(Protocol):
    """Where looks are kept; ``store.derived`` is one."""

    def get(self, key: str) -> bytes | None:
        """What was put under a key of 64 hex digits."""
        ...

    def put(self, key: str, data: bytes) -> None:
        """Keep it."""
        ...


class Till:
    """The judge with a purse and a memory: keeps looks, counts what they cost, and stops before the budget is spent."""

    def __init__(
        self, judge: Instrument, kept: Kept | None, budget_nanos: int | None, cases: Iterable[Case] = ()
    ) -> None:
        """``cases`` are those to come: from them is told what a look may cost before the first has been paid for."""
        self.instrument = msgspec.structs.replace(judge, look=self._look)
        self.judgements: list[Judgement] = []
        self.calls = self.found = 0
        self.stopped = ""
        self._judge, self._kept, self._budget = judge, kept, budget_nanos
        self._spent = self._open = 0
        self._dearest = 0 if budget_nanos is None else _dearest(judge, cases)

    def affordable(self) -> bool:
        """Whether another case may begin; what one look cost at most is what each open one is taken to cost."""
        if self._budget is not None and not self.stopped:
            looks = 2 if self._judge.definition.kind == "pairwise" else 1
            ahead = (self._open + looks) * self._dearest
            if self._spent + ahead > self._budget or self._budget == 0:
                self.stopped = f"the budget of {self._budget / 1e9:g} USD would have been passed"
        return not self.stopped

    async def _look(self, case: Case, repetition: int) -> Judgement:
        key = digest([self._judge.definition.hash, msgspec.to_builtins(case), repetition])
        known = None if self._kept is None else self._kept.get(key)
        if known is not None:
            self.found += 1
            return msgspec.json.decode(known, type=Judgement)
        self._open += 1
        try:
            judgement = await self._judge.look(case, repetition)
        finally:
            self._open -= 1
        self.judgements.append(judgement)
        self.calls += judgement.calls
        self._spent += judgement.cost_nanos or 0
        self._dearest = max(self._dearest, judgement.cost_nanos or 0)
        if self._kept is not None and not judgement.failed and judgement.calls:
            self._kept.put(key, msgspec.json.encode(judgement))
        return judgement


async def each_within(look: Callable[[int], Any], total: int, concurrency: int, till: Till) -> None:
    """Have ``look`` look at every place below ``total``, some at once, while there is money."""
    places = iter(range(total))

    async def work() -> None:
        for place in places:
            if not till.affordable():
                return
            await look(place)

    async with asyncio.TaskGroup() as group:
        for _ in range(max(1, min(concurrency, total))):
            group.create_task(work())


def _dearest(judge: Instrument, cases: Iterable[Case]) -> int:
    """Nano-dollars that a look at the longest of these may cost; 0 where its price is not known."""
    if judge.costs is None:
        return 0
    expectation = Expectation(judge.costs)
    texts = ("".join((case.question, case.reference, *case.answers, *case.sources)) for case in cases)
    return max((expectation.of(text) or 0 for text in texts), default=0)


def total(judgements: Sequence[Judgement], field: str) -> int | None:
    """The sum of what all looks took; None where one does not say, or there were none."""
    known = [value for each in judgements if (value := getattr(each, field)) is not None]
    return sum(known) if len(known) == len(judgements) and known else None
