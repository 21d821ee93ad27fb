"""The runner: asks candidates about samples, scores what they say, and keeps both as they come.

**An answer is paid for once.** It is kept under the hash of everything that decides it, so a run that was stopped,
killed or repeated asks only for what is missing. What a call may cost is set aside before it is made. A call that
failed is asked again while that may help, then counted and left out, never scored. Knows no objective, decides nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from fairlead.errors import ModelResting, ServiceError, UpstreamRefused
from fairlead.evaluate.candidates import Candidate
from fairlead.evaluate.dialogue import GOAL, THEN
from fairlead.evaluate.notebook import Notebook
from fairlead.evaluate.purse import Expectation, Purse
from fairlead.evaluate.scorers import Answer, Score, Scorer, score_later
from fairlead.evaluate.throttle import Throttle
from fairlead.gateway.reliable import AGAIN, seconds_of
from fairlead.records import Answered, Result, Run, Sample, new_id, now_us
from fairlead.store import Store

VERSION = 1
"""Of what the key of an answer is made of; another number makes every answer be asked for again."""
RETRIES = 3
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 20.0
HOPELESS = 10
"""Failures from the first call on, without one answer, after which a candidate is not asked any more."""
_FINAL = frozenset((400, 401, 403, 404, 409, 413, 415, 422))
"""What an upstream says that asking again does not change."""
_ENCODER = msgspec.json.Encoder(order="deterministic")


class Item(msgspec.Struct, frozen=True, kw_only=True):
    """One answer and what it was worth, by the name of the scorer. ``cached``: nobody had to be asked."""

    variant: str
    sample: str
    epoch: int
    answer: Answer
    scores: dict[str, Score]
    answered: str
    cached: bool


class Tally(msgspec.Struct, kw_only=True):
    """How far a candidate is. ``unasked`` samples were left out, because the money did not suffice (``unpaid``) or
    because it answered nothing (``gave_up`` says what it did instead).
    """

    answered: int = 0
    cached: int = 0
    failed: int = 0
    unasked: int = 0
    unpaid: bool = False
    retries: int = 0
    cost: int | None = 0
    gave_up: str = ""
    last_error: str = ""

    @property
    def calls(self) -> int:
        """Calls that were made now, answered or not."""
        return self.answered - self.cached + self.failed


class Runner:
    """One run. ``scorers`` may have to be waited for. ``tell`` is called after every answer with the candidate's id.

    ``items`` holds everything measured, by candidate, then (sample, epoch); ``tallies`` how far each is.
    """

    def __init__(
        self,
        store: Store,
        run: Run,
        scorers: Sequence[Scorer],
        *,
        purse: Purse | None = None,
        concurrency: int = 8,
        retries: int = RETRIES,
        fresh: bool = False,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self.run = run
        self.scorers = tuple(scorers)
        self.purse = purse or Purse(None)
        self.items: dict[str, dict[tuple[str, int], Item]] = {}
        self.tallies: dict[str, Tally] = {}
        self._store = store
        self._concurrency = concurrency
        self._retries = retries
        self._fresh = fresh
        self._tell = tell or (lambda _: None)
        self._notebook = Notebook(store.runs)
        self._throttles: dict[str, Throttle] = {}
        self._expectations: dict[str, Expectation] = {}

    async def measure(self, candidates: Sequence[Candidate], samples: Sequence[Sample], epochs: int = 1) -> None:
        """Have every candidate answer every sample as often as ``epochs``; what is known already is not asked again.

        Those behind a network go side by side; those on this machine one after the other, since they would take each
        other's time. Whatever ends it, what was answered is kept. Raises StoreError.
        """
        try:
            wanted = [(sample, epoch) for epoch in range(epochs) for sample in samples]
            await asyncio.gather(*(self._measure(each, wanted) for each in candidates if not each.own))
            for candidate in candidates:
                if candidate.own:
                    await self._measure(candidate, wanted)
        finally:
            await self._notebook.close()

    async def _measure(self, candidate: Candidate, wanted: Sequence[tuple[Sample, int]]) -> None:
        board = self.items.setdefault(candidate.id, {})
        tally = self.tallies.setdefault(candidate.id, Tally())
        missing = [(sample, epoch) for sample, epoch in wanted if (sample.id, epoch) not in board]
        if not self._fresh:
            missing = await self._recall(candidate, missing)
        if not missing or tally.gave_up or tally.unpaid:
            tally.unasked += len(missing)
            return
        waiting = iter(missing)
        most = 1 if candidate.own else min(self._concurrency, len(missing))
        throttle = self._throttles.setdefault(candidate.id, Throttle(most))
        throttle.begin(most)
        tasks = [asyncio.create_task(self._work(candidate, waiting, throttle, number)) for number in range(most)]
        try:
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _work(
        self, candidate: Candidate, waiting: Iterable[tuple[Sample, int]], throttle: Throttle, number: int
    ) -> None:
        tally = self.tallies[candidate.id]
        await throttle.turn(number)
        for sample, epoch in waiting:
            if tally.gave_up or not await self._one(candidate, sample, epoch, throttle):
                # What is not asked any more is the rest of the order, so it is no choice by how a sample looks.
                tally.unasked += 1 + sum(1 for _ in waiting)
                break
            await throttle.turn(number)
        throttle.over()

    async def _one(self, candidate: Candidate, sample: Sample, epoch: int, throttle: Throttle) -> bool:
        """Set aside, ask, settle, score, keep; False where the money does not suffice."""
        tally = self.tallies[candidate.id]
        expected = self._expect(candidate, sample)
        if not await self.purse.wait_for(expected):
            tally.unpaid = True
            return False
        paid: int | None = 0
        try:
            answer = await self._ask(candidate, sample, epoch, throttle)
            paid = answer.cost_nanos if not answer.error else 0
        finally:
            self.purse.settle(expected, paid)
        self._expectations[candidate.id].learn(paid)
        self._count(candidate, tally, answer)
        kept = self._answered(candidate, sample, epoch, answer)
        self._notebook.add(kept)
        await self._score(candidate, sample, epoch, answer, kept.id, {}, cached=False)
        self._tell(candidate.id)
        return True

    async def _ask(self, candidate: Candidate, sample: Sample, epoch: int, throttle: Throttle) -> Answer:
        """The answer, or why there is none: only failures of the transport are tried again, never what was said."""
        attempt = 0
        while True:
            try:
                answer = await candidate.ask(sample, epoch)
            except ServiceError as error:
                if attempt >= self._retries or not _may_pass(error):
                    return Answer(error=f"{error.code}: {error}"[:500])
                wait = _pause_s(error, attempt)
                if error.status in (429, 503):
                    throttle.was_busy(wait)
                self.tallies[candidate.id].retries += 1
                attempt += 1
                await asyncio.sleep(wait)
            else:
                throttle.went_well()
                return answer

    def _count(self, candidate: Candidate, tally: Tally, answer: Answer) -> None:
        if not answer.error:
            tally.answered += 1
            tally.cost = None if tally.cost is None or answer.cost_nanos is None else tally.cost + answer.cost_nanos
            return
        tally.failed += 1
        tally.last_error = answer.error
        if tally.failed >= HOPELESS and not tally.answered:
            tally.gave_up = f"its first {tally.failed} calls failed, the last with {answer.error}"

    async def _score(
        self,
        candidate: Candidate,
        sample: Sample,
        epoch: int,
        answer: Answer,
        answered: str,
        known: dict[str, Any],
        *,
        cached: bool,
    ) -> None:
        scores: dict[str, Score] = {}
        for scorer in self.scorers:
            before = known.get(scorer.name)
            if before is not None and before.get("hash") == scorer.hash and not before.get("excluded"):
                scores[scorer.name] = msgspec.convert(before, Score)
            else:
                scores[scorer.name] = await score_later(scorer, sample, answer)
        self.items[candidate.id][sample.id, epoch] = Item(
            variant=candidate.id, sample=sample.id, epoch=epoch, answer=answer, scores=scores, answered=answered,
            cached=cached,
        )  # fmt: skip
        self._notebook.add(
            Result(
                **self._columns(candidate, sample), run=self.run.id, variant=candidate.id, sample=sample.id,
                answered=answered, epoch=epoch, cached=cached, scores=msgspec.to_builtins(scores),
            )
        )  # fmt: skip

    async def _recall(self, candidate: Candidate, wanted: Sequence[tuple[Sample, int]]) -> list[tuple[Sample, int]]:
        """Take what is kept from earlier runs; returns what is not."""
        if not wanted:
            return []
        tally = self.tallies[candidate.id]
        keys = [key_of(candidate, sample, epoch) for sample, epoch in wanted]
        kept = await asyncio.to_thread(self._store.runs.answers, keys)
        known = await asyncio.to_thread(self._store.runs.scores, [each.id for each in kept.values()])
        missing = []
        for key, (sample, epoch) in zip(keys, wanted, strict=True):
            found = kept.get(key)
            if found is None:
                missing.append((sample, epoch))
                continue
            answer = msgspec.convert(found.answer, Answer)
            tally.cached += 1
            tally.answered += 1
            await self._score(candidate, sample, epoch, answer, found.id, known.get(found.id, {}), cached=True)
            self._expect(candidate, sample)
            self._expectations[candidate.id].learn(answer.cost_nanos)
        self._tell(candidate.id)
        return missing

    def _expect(self, candidate: Candidate, sample: Sample) -> int | None:
        if candidate.id not in self._expectations:
            self._expectations[candidate.id] = Expectation(
                candidate.price, prompt=candidate.prompt, longest=candidate.longest
            )
        return self._expectations[candidate.id].of(sample.input + "".join(turn.text for turn in sample.earlier))

    def _answered(self, candidate: Candidate, sample: Sample, epoch: int, answer: Answer) -> Answered:
        return Answered(
            **self._columns(candidate, sample), key=key_of(candidate, sample, epoch), variant=candidate.id,
            sample=sample.id, epoch=epoch, error=answer.error, answer=_plain(answer),
        )  # fmt: skip

    def _columns(self, candidate: Candidate, sample: Sample) -> dict[str, Any]:
        return {
            "id": new_id(),
            "time": now_us(),
            "tenant": sample.tenant,
            "subject": sample.subject,
            "usecase": self.run.usecase,
            "spec_hash": self.run.spec_hash,
            "release": candidate.release,
        }


def key_of(candidate: Candidate, sample: Sample, epoch: int) -> str:
    """The hash of everything that decides an answer; a label or tag of the sample does not."""
    follows = [sample.fields.get(name) for name in (THEN, GOAL)]
    said = [(turn.role, turn.text) for turn in sample.earlier]
    decided = (VERSION, candidate.identity, sample.tenant, sample.input, said, follows, epoch)
    return hashlib.sha256(_ENCODER.encode(decided)).hexdigest()


def _plain(answer: Answer) -> dict[str, Any]:
    """Without what is not there: most answers are a text, two times and two numbers."""
    plain: dict[str, Any] = msgspec.to_builtins(answer)
    return {name: value for name, value in plain.items() if value not in (None, "", ())}


def _may_pass(error: ServiceError) -> bool:
    if isinstance(error, UpstreamRefused) and error.details.get("upstream_status") in _FINAL:
        return False
    return error.status in AGAIN


def _pause_s(error: ServiceError, attempt: int) -> float:
    asked = seconds_of(str(error.details.get("retry_after") or ""))
    least = 0.0 if isinstance(error, ModelResting) else FIRST_PAUSE_S * 2.0**attempt
    return min(LONGEST_PAUSE_S, max(asked, least))
