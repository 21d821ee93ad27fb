"""A selection from the first call to the report: ask, let go who is out, ask on, judge, choose, keep.

Everything that decides is elsewhere: who goes on in ``race``, what holds in ``verdict``, what to do in ``words``. Here
is the order of it, and that it may be stopped at any moment without losing an answer.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence

import msgspec

from fairlead.errors import SelectionImpossible
from fairlead.evaluate import measures
from fairlead.evaluate.candidates import Candidate
from fairlead.evaluate.judges import Standing, calibrated_hashes
from fairlead.evaluate.measures import Plan
from fairlead.evaluate.purse import NANOS, Purse
from fairlead.evaluate.runner import Item, Runner
from fairlead.evaluate.scorers import Scorer
from fairlead.evaluate.verdict import Looks, Ruling, decide, record, verdict_on, verdicts_on
from fairlead.evaluate.verdict import Rules as VerdictRules
from fairlead.records import DatasetVersion, Run, Sample, new_id, now_us
from fairlead.select import race, summary, words
from fairlead.select.order import in_order
from fairlead.select.report import Report
from fairlead.spec import UseCase
from fairlead.spec.metrics import PERCENTILES
from fairlead.store import Store

STEP = "select"
FEWEST_FAILED = 5
"""Failed calls from which their share says something."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """How a selection is run. ``racing`` False asks everything of everyone; ``fresh`` pays again for what is known.

    ``left_out`` samples were taken out before, as they belong with what baselines learn from: ``learnt_from``.
    """

    tolerance: float = 0.02
    racing: bool = True
    epochs: int = 1
    concurrency: int = 8
    fresh: bool = False
    seed: int = 0
    budget_usd: float | None = None
    learnt_from: str = ""
    left_out: int = 0


class Selection:
    """One selection of one use case. ``tell`` is called with a sentence whenever something was decided.

    ``judges`` are those that are declared, as they stand: only who is calibrated may decide something. Raises
    SelectionImpossible where a budget cannot be kept, as the price of a judge or of who plays the user is unknown.
    """

    def __init__(
        self,
        store: Store,
        usecase: UseCase,
        version: DatasetVersion,
        samples: Sequence[Sample],
        candidates: Sequence[Candidate],
        plan: Plan,
        options: Options,
        *,
        judges: Sequence[Standing] = (),
        tell: Callable[[str], None] = lambda _: None,
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.usecase = usecase
        self.version = version
        self.samples = in_order(samples, options.seed)
        self.candidates = {each.id: each for each in candidates}
        self.plan = plan
        self.options = options
        self.left: dict[str, str] = {}
        """Why a candidate is asked no further."""
        self.rules = race.Rules(confidence=usecase.confidence, tolerance=options.tolerance, limits=plan.limits)
        limit = None if options.budget_usd is None else round(options.budget_usd * NANOS)
        self.run_record = Run(
            id=new_id(), time=now_us(), tenant="default", subject="", usecase=usecase.name,
            spec_hash=usecase.spec_hash, release="", step=STEP, dataset=f"{version.name}@{version.version}",
            content=version.content, plan=self._described(),
        )  # fmt: skip
        self.runner = Runner(
            store, self.run_record, list(plan.scorers.values()), purse=Purse(limit),
            concurrency=options.concurrency, fresh=options.fresh, tell=progress,
        )  # fmt: skip
        self._store = store
        self._tell = tell
        self.judges = {f"judge:{each.judge}": each for each in judges}
        self._calibrated = calibrated_hashes(judges)
        if options.budget_usd is not None:
            _refuse_unpriced(list(plan.scorers.values()), candidates, options.budget_usd)

    def _described(self) -> dict[str, object]:
        return {
            "candidates": {each.id: each.identity for each in self.candidates.values()},
            "scorers": {name: scorer.hash for name, scorer in self.plan.scorers.items()},
            "quality": self.plan.quality,
            "samples": len(self.samples),
            "options": msgspec.to_builtins(self.options),
        }

    async def run(self) -> Report:
        """Do it. Whatever stops it, answers and the run's record are kept. Raises StoreError."""
        self._store.runs.begin(self.run_record)
        state = "stopped"
        report: Report | None = None
        try:
            await self._go()
            report = await asyncio.to_thread(self._conclude)
            state = "done"
        except asyncio.CancelledError:
            raise
        except Exception:
            state = "failed"
            raise
        finally:
            self._store.runs.end(
                msgspec.structs.replace(
                    self.run_record,
                    state=state,
                    ended=max(now_us(), self.run_record.time),
                    cost=self.spent,
                    report=msgspec.to_builtins(report) if report else {},
                )
            )
        return report

    # --- asking -----------------------------------------------------------------------------------------------------

    async def _go(self) -> None:
        if not self.options.racing:
            await self._ask(len(self.samples))
            self._expel_stuck()
            return
        done = 0
        contenders = [name for name in self.candidates if not self._spared(name)]
        for rung in race.rungs(len(contenders), len(self.samples)):
            done = rung.samples
            await self._ask(done)
            self._expel(done)
            self._halve(rung.keep, done)
        for size in race.finish_steps(done, len(self.samples)):
            if size > done and done and self._over():
                self._tell(f"clear after {done} of {len(self.samples)} samples")
                break
            done = size
            await self._ask(size)
            self._expel(size)
            self._let_go_of_the_beaten(size)

    async def _ask(self, size: int) -> None:
        asked = [each for name, each in self.candidates.items() if name not in self.left]
        await self.runner.measure(asked, self.samples[:size], self.options.epochs)

    def _spared(self, name: str) -> bool:
        return stays(self.candidates[name], self.usecase, self.plan)

    def _alive(self) -> list[str]:
        return [name for name in self.candidates if name not in self.left]

    def _values(self, names: Sequence[str]) -> dict[str, race.Values]:
        return {name: measures.quality_of(self.plan, self.runner.items.get(name, {})) for name in names}

    def costs(self) -> dict[str, float]:
        """Nano-dollars a call by candidate; infinite where the price is unknown."""
        found = {}
        for name, each in self.candidates.items():
            costs = measures.number_of(self.runner.items.get(name, {}), "cost")
            found[name] = 0.0 if each.free else float(costs.mean()) if len(costs) else math.inf
        return found

    def _expel_stuck(self) -> None:
        for name in self._alive():
            tally = self.runner.tallies[name]
            tried = tally.answered + tally.failed
            if tally.gave_up:
                self._out(name, tally.gave_up)
            elif tally.failed >= FEWEST_FAILED and tally.failed > words.MOST_FAILED * tried:
                self._out(name, f"{tally.failed} of {tried} calls failed")
            elif tally.unpaid:
                priced = self.candidates[name].price is not None
                self._out(
                    name, "the budget did not suffice" if priced else "its price is unknown, and there is a budget"
                )

    def _expel(self, size: int) -> None:
        """Let go who cannot be asked, breaks a guardrail, or costs more and is shown to be no better."""
        self._expel_stuck()
        guardrails = [
            each.id for each in self.usecase.objectives if each.kind == "guardrail" and each.id in self.plan.of
        ]
        for name in self._alive():
            broken = [each for each in self.rulings(name, only=guardrails) if each.outcome == "fail"]
            if broken and not self._spared(name):
                self._out(name, f"breaks {', '.join(each.objective for each in broken)} after {size} samples")
        alive = self._alive()
        for name, rival in race.not_worth_it(self._values(alive), self.costs(), self.rules).items():
            if not self._spared(name):
                self._out(name, f"costs more than {rival} and is not better by {self.options.tolerance:.0%}")

    def _let_go_of_the_beaten(self, size: int) -> None:
        alive = self._alive()
        if len(alive) < 2:
            return
        finish = race.look(self._values(alive), self.costs(), self.rules)
        for name in set(finish.beaten) - self._cheapest_hope(alive):
            if not self._spared(name):
                self._out(name, f"shown to be worse than {finish.leader} after {size} samples")

    def _halve(self, keep: int, size: int) -> None:
        competing = [name for name in self._alive() if not self._spared(name)]
        values = self._values(competing)
        staying = set(race.survivors(values, self.costs(), keep)) | self._cheapest_hope(competing)
        for name in competing:
            if name not in staying:
                self._out(name, f"not among the best {keep} after {size} samples")

    def _cheapest_hope(self, names: Sequence[str]) -> set[str]:
        """The cheapest that no objective speaks against: it may be what the objectives choose, whoever is best."""
        if not self.plan.of:
            return set()
        costs = self.costs()
        hopeful = [name for name in names if all(each.outcome != "fail" for each in self.rulings(name))]
        return {min(hopeful, key=lambda name: (costs[name], name))} if hopeful else set()

    def _over(self) -> bool:
        """Whether more samples would change nothing: the finish is clear, and so is every verdict of who is left."""
        alive = [name for name in self._alive() if self.runner.items.get(name)]
        if len(alive) < 2:
            return not alive or all(each.outcome != "not_enough_data" for each in self.rulings(alive[0]))
        if not race.look(self._values(alive), self.costs(), self.rules).over:
            return False
        leading = race.ranked(self._values(alive), self.costs())[: race.FINALISTS]
        return all(each.outcome != "not_enough_data" for name in leading for each in self.rulings(name))

    @property
    def clear(self) -> bool:
        """Whether asking on would not be worth it to know who is best."""
        alive = self._alive()
        return len(alive) == 1 or (len(alive) > 1 and race.look(self._values(alive), self.costs(), self.rules).over)

    def _out(self, name: str, reason: str) -> None:
        self.left[name] = reason
        self._tell(f"{name}: {reason}")

    # --- judging ----------------------------------------------------------------------------------------------------

    def rulings(self, name: str, only: Sequence[str] | None = None) -> list[Ruling]:
        """The verdicts on one candidate as they stand now."""
        items = self.runner.items.get(name, {})
        evidence = measures.evidence_for(self.usecase, self.plan, items, self.samples)
        wanted = list(self.plan.of) if only is None else only
        found = verdicts_on(self.usecase, evidence, looks=self._looks, only=wanted, calibrated=self._calibrated)
        return [self._beside_live(name, each) for each in found] if only is None else found

    def _beside_live(self, name: str, ruling: Ruling) -> Ruling:
        """The ruling, and where the objective has a margin also whether it is no worse than what is live."""
        objective = next(each for each in self.usecase.objectives if each.id == ruling.objective)
        live = self.runner.items.get(self.usecase.live_id, {})
        mine = self.runner.items.get(name, {})
        unable = objective.aggregation in PERCENTILES or objective.aggregation == "gap"
        if name == self.usecase.live_id or not live or not objective.margin.value or (unable and self.options.racing):
            return ruling
        scorer = self.plan.of[objective.id]
        both = [key for key in mine if key in live and _valued(mine[key], scorer) and _valued(live[key], scorer)]
        ours, theirs = (
            measures.evidence_for(self.usecase, self.plan, items, self.samples, both)[objective.id]
            for items in (mine, live)
        )
        if not len(ours):
            return ruling
        rules = VerdictRules(
            confidence=self.usecase.confidence, min_samples=self.usecase.min_samples,
            looks=self._looks,
            calibrated=self._calibrated,
        )  # fmt: skip
        beside = verdict_on(objective, self.usecase.effective_metrics[objective.metric], ours, rules, theirs)
        order = ("fail", "not_enough_data", "pass")
        if order.index(beside.outcome) >= order.index(ruling.outcome):
            return msgspec.structs.replace(ruling, difference=beside.difference)
        return msgspec.structs.replace(
            ruling, outcome=beside.outcome, needed=beside.needed, note=beside.note, difference=beside.difference
        )

    @property
    def _looks(self) -> Looks:
        return "any" if self.options.racing else "once"

    def _conclude(self) -> Report:
        rulings = {name: self.rulings(name) for name in self.candidates if self.runner.items.get(name)}
        self._store.verdicts.add(
            record(each, self.usecase, step=STEP, release=self.candidates[name].release, dataset=self.version.content)
            for name, found in rulings.items()
            for each in found
        )
        return summary.summarise(self, rulings, {name: decide(found) for name, found in rulings.items()})

    @property
    def spent(self) -> int | None:
        """Nano-dollars for answers, judgements and played users; None where a part is unknown."""
        runner = self.runner
        parts = [*(each.cost for each in runner.tallies.values()), *(each.cost for each in runner.bills.values())]
        return None if None in (*parts, runner.users_nanos) else runner.purse.spent


def stays(candidate: Candidate, usecase: UseCase, plan: Plan) -> bool:
    """Who stays to the end: what costs next to nothing to ask, and what is live where others must be no worse."""
    compared = any(each.margin.value for each in usecase.objectives if each.id in plan.of)
    return candidate.light or (candidate.id == usecase.live_id and compared)


def _valued(item: Item, scorer: str) -> bool:
    return item.scores[scorer].value is not None


def _refuse_unpriced(scorers: Sequence[Scorer], candidates: Sequence[Candidate], usd: float) -> None:
    """A candidate of unknown price is left out; what every sample needs cannot be."""
    unknown = [each.name for each in scorers if each.costs is not None and each.costs.price is None]
    if any(each.beside is not None and each.beside.price is None for each in candidates):
        unknown.append("the variant that plays the user")
    if unknown:
        detail = (
            f"a budget of {usd:g} USD cannot be kept, the price of {unknown[0]} is unknown. Give its variant a `price:`"
        )
        raise SelectionImpossible(detail=detail)
