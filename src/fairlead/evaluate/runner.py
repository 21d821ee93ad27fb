"""The runner: asks candidates about samples, scores what they say, and keeps both as they come.

**An answer is paid for once.** It is kept under the hash of everything that decides it, so a run that was stopped,
killed or repeated asks only for what is missing. What a call may cost is set aside before it is made. A call that
failed is asked again while that may help, then counted and left out, never scored. Knows no objective, decides nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import msgspec

from fairlead.errors import ModelResting, ServiceError, UpstreamRefused
from fairlead.evaluate.candidates import Candidate
from fairlead.evaluate.dialogue import GOAL, PAID, THEN
from fairlead.evaluate.notebook import Notebook
from fairlead.evaluate.purse import BYTES_PER_TOKEN, FREE, Costs, Expectation, Purse
from fairlead.evaluate.scorers import Answer, Score, Scorer, not_paid, score_later
from fairlead.evaluate.throttle import Throttle
from fairlead.gateway.reliable import AGAIN, seconds_of
from fairlead.records import Answered, Result, Run, Sample, new_id, now_us
from fairlead.store import Store

VERSION = 2
"""Of what the key of an answer is made of; another number makes every answer be asked for again."""
RETRIES = 3
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 20.0
HOPELESS = 10
"""Failures from the first call on, without one answer, after which a candidate is not asked any more."""
_FINAL = frozenset((400, 401, 403, 404, 409, 413, 415, 422))
"""What an upstream says that asking again does not change."""
USER = "(user)"
NOTHING = Costs(price=FREE, prompt=0, longest=0)
NO_SCORES: Mapping[str, Any] = MappingProxyType({})
_UNSAID = msgspec.to_builtins(Answer())
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


class Bill(msgspec.Struct, kw_only=True):
    """What one judge did: answers it looked at now, those whose judgement was ``known``, those it gave no verdict on
    (``invalid``) and those it was not asked about because the money did not suffice (``unpaid``). ``cost`` is in
    nano-dollars, None where nobody knows.
    """

    looks: int = 0
    known: int = 0
    invalid: int = 0
    unpaid: int = 0
    cost: int | None = 0


class Runner:
    """One run. ``scorers`` may have to be waited for. ``tell`` is called after every answer with the candidate's id.

    ``items`` holds everything measured, by candidate, then (sample, epoch); ``tallies`` how far each is, ``bills`` what
    the judges did, ``users_nanos`` what the models that played users cost.
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
        self.bills: dict[str, Bill] = {each.name: Bill() for each in scorers if each.judge}
        self.users_nanos: int | None = 0
        self._store = store
        self._concurrency = concurrency
        self._retries = retries
        self._fresh = fresh
        self._tell = tell or (lambda _: None)
        self._notebook = Notebook(store.runs)
        self._throttles: dict[str, Throttle] = {}
        self._expectations: dict[tuple[str, str], Expectation] = {}
        self._judges = [each for each in scorers if each.costs is not None]

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
        """Set aside, ask, settle, score, keep; False where the money does not suffice.

        Set aside are answer and judgement together: an answer that nobody can judge any more would be paid for nothing.
        What answers for nothing is asked all the same, and goes without a judgement then.
        """
        tally = self.tallies[candidate.id]
        answering, judging = self._expect(candidate, sample), self._expect_judging(candidate, sample)
        judged = await self.purse.wait_for(_both(answering, judging))
        if not judged and not (judging != 0 and answering == 0):
            tally.unpaid = True
            return False
        held = [answering, judging if judged else 0]
        paid: int | None = 0
        try:
            answer, paid = await self._ask(candidate, sample, epoch, throttle)
            self.purse.settle(held.pop(0), paid)
            self._count(candidate, tally, answer)
            kept = self._answered(candidate, sample, epoch, answer)
            self._notebook.add(kept)
            paid = await self._score(candidate, sample, epoch, answer, kept.id, {}, cached=False, judged=judged)
            self.purse.settle(held.pop(0), paid)
        finally:
            for amount in held:
                self.purse.settle(amount, 0)
        self._tell(candidate.id)
        return True

    async def _ask(
        self, candidate: Candidate, sample: Sample, epoch: int, throttle: Throttle
    ) -> tuple[Answer, int | None]:
        """The answer, or why there is none, and what was paid for it.

        Only failures of the transport are tried again, never what was said.
        """
        attempt = 0
        lost: int | None = 0
        while True:
            try:
                answer = await candidate.ask(sample, epoch)
            except ServiceError as error:
                lost = _both(lost, error.details.get(PAID, 0))
                if attempt >= self._retries or not _may_pass(error):
                    return Answer(error=f"{error.code}: {error}"[:500]), lost
                wait = _pause_s(error, attempt)
                if error.status in (429, 503):
                    throttle.was_busy(wait)
                self.tallies[candidate.id].retries += 1
                attempt += 1
                await asyncio.sleep(wait)
            else:
                throttle.went_well()
                self.users_nanos = _both(self.users_nanos, answer.user_nanos)
                self._expectations[candidate.id, ""].learn(answer.cost_nanos)
                self._expectations[candidate.id, USER].learn(answer.user_nanos)
                return answer, _both(lost, _both(answer.cost_nanos, answer.user_nanos))

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
        judged: bool = True,
    ) -> int | None:
        """Score and keep; what judging cost now, in nano-dollars."""
        scores: dict[str, Score] = {}
        cost: int | None = 0
        for scorer in self.scorers:
            bill = self.bills.get(scorer.name)
            before = _known(scorer, known)
            if before is not None:
                scores[scorer.name] = msgspec.convert(before, Score)
                if bill is not None:
                    bill.known += 1
                continue
            if scorer.costs is not None and not judged and not answer.error:
                scores[scorer.name] = not_paid(scorer, sample)
                self.bills[scorer.name].unpaid += 1
                continue
            found = scores[scorer.name] = await score_later(scorer, sample, answer)
            cost = _both(cost, found.cost_nanos)
            if scorer.costs is not None:
                self._expectations[candidate.id, scorer.name].learn(found.cost_nanos)
            if bill is not None and not answer.error:
                bill.looks += 1
                bill.invalid += found.excluded
                bill.cost = _both(bill.cost, found.cost_nanos)
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
        return cost

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
            self._expect(candidate, sample)
            self._expectations[candidate.id, ""].learn(answer.cost_nanos)
            self._expectations[candidate.id, USER].learn(answer.user_nanos)
            await self._judge_again(candidate, sample, epoch, answer, found.id, known.get(found.id, {}))
        self._tell(candidate.id)
        return missing

    async def _judge_again(
        self, candidate: Candidate, sample: Sample, epoch: int, answer: Answer, answered: str, known: dict[str, Any]
    ) -> None:
        """Score an answer that was paid for before; a judge that has not seen it is paid for now, if it can be."""
        amount = self._expect_judging(candidate, sample, known)
        judged = await self.purse.wait_for(amount)
        paid: int | None = 0
        try:
            paid = await self._score(candidate, sample, epoch, answer, answered, known, cached=True, judged=judged)
        finally:
            self.purse.settle(amount if judged else 0, paid)

    def _expectation(self, candidate: Candidate, of: str, costs: Costs) -> Expectation:
        if (candidate.id, of) not in self._expectations:
            self._expectations[candidate.id, of] = Expectation(costs)
        return self._expectations[candidate.id, of]

    def _expect(self, candidate: Candidate, sample: Sample) -> int | None:
        """What an answer may cost, with what is paid to the model that plays the user."""
        text, calls = text_of(sample), candidate.calls(sample)
        answering = self._expectation(candidate, "", candidate.costs).of(text, calls)
        beside = self._expectation(candidate, USER, candidate.beside or NOTHING).of(text, calls)
        return _both(answering, beside)

    def _expect_judging(self, candidate: Candidate, sample: Sample, known: Mapping[str, Any] = NO_SCORES) -> int | None:
        """What judging an answer may cost: it is read with its question and its sources."""
        expected: int | None = 0
        for scorer in self._judges:
            if scorer.costs is not None and _known(scorer, known) is None:
                costs = judging_costs(candidate, scorer.costs)
                expected = _both(expected, self._expectation(candidate, scorer.name, costs).of(text_of(sample)))
        return expected

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
    return {name: value for name, value in plain.items() if value != _UNSAID[name]}


def _both(one: int | None, other: int | None) -> int | None:
    """Together; None, unknown, where either is."""
    return None if one is None or other is None else one + other


def judging_costs(candidate: Candidate, costs: Costs) -> Costs:
    """What judging an answer of this candidate may cost: it is read together with what it rests on."""
    seen = candidate.prompt + candidate.longest * BYTES_PER_TOKEN
    return msgspec.structs.replace(costs, prompt=costs.prompt + seen)


def text_of(sample: Sample) -> str:
    """All that a model reads of a sample."""
    return sample.input + "".join(turn.text for turn in sample.earlier)


def _known(scorer: Scorer, known: Mapping[str, Any]) -> Any:
    """What the same scorer gave the answer before; nothing where it could not."""
    before = known.get(scorer.name)
    return before if before is not None and before.get("hash") == scorer.hash and not before.get("excluded") else None


def _may_pass(error: ServiceError) -> bool:
    if isinstance(error, UpstreamRefused) and error.details.get("upstream_status") in _FINAL:
        return False
    return error.status in AGAIN


def _pause_s(error: ServiceError, attempt: int) -> float:
    asked = seconds_of(str(error.details.get("retry_after") or ""))
    least = 0.0 if isinstance(error, ModelResting) else FIRST_PAUSE_S * 2.0**attempt
    return min(LONGEST_PAUSE_S, max(asked, least))
