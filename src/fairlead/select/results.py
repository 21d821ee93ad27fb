"""What stored runs teach a router: each question with what the small and the big candidate's answers were worth."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from fairlead.errors import RoutingRefused, UsageError
from fairlead.evaluate.purse import NANOS
from fairlead.records import Run
from fairlead.select.routing import Tried
from fairlead.select.stored import Side, samples_of, side_of, value_of
from fairlead.store import Store


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """Questions both candidates have a score for. Costs are USD a call, None where a price is unknown; ``left_out``
    counts questions that one of them has no score for, because its call failed or it was let go before.
    """

    tried: list[Tried]
    small_cost: float | None
    big_cost: float | None
    left_out: int


def results_of(store: Store, runs: Iterable[str], small: str, big: str) -> Results:
    """What both candidates made of the samples of ``runs``; a question asked in several counts once, by the newest.

    Epochs are averaged. Raises RoutingRefused, UsageError, RunUnknown.
    """
    tried: dict[str, Tried] = {}
    costs: tuple[list[int | None], list[int | None]] = [], []
    left_out = 0
    for run in sorted({found.id: found for found in map(store.runs.get, runs)}.values(), key=lambda each: each.time):
        sides = [side_of(store, f"{run.id}:{name}") for name in (small, big)]
        texts = _texts(store, run)
        values = [by_sample(side) for side in sides]
        for paid, side in zip(costs, sides, strict=True):
            paid += [each.answered.answer.get("cost_nanos") for each in side.found.values() if not each.answered.error]
        for sample in dict.fromkeys(key[0] for side in sides for key in side.found):
            found = [each.get(sample) for each in values]
            if sample not in texts or found[0] is None or found[1] is None:
                left_out += 1
            else:
                tried[texts[sample]] = Tried(text=texts[sample], small=found[0], big=found[1])
    if not tried:
        raise RoutingRefused(detail=f"{small} and {big} have no question in common that both have a score for")
    return Results(tried=list(tried.values()), small_cost=_mean(costs[0]), big_cost=_mean(costs[1]), left_out=left_out)


def _texts(store: Store, run: Run) -> dict[str, str]:
    samples = samples_of(store, run)
    if not samples:
        raise UsageError(detail=f"the data set {run.dataset} of run {run.id[-8:]} is gone: fairlead data list")
    return {name: each.input for name, each in samples.items()}


def by_sample(side: Side) -> dict[str, float]:
    """Sample id to the mean of what its answers were worth; what no scorer could judge is not in it."""
    found: dict[str, list[float]] = {}
    for (sample, _), measured in side.found.items():
        value = value_of(measured, side.scorer)
        if isinstance(value, int | float):
            found.setdefault(sample, []).append(float(value))
    return {sample: sum(values) / len(values) for sample, values in found.items()}


def _mean(nanos: list[int | None]) -> float | None:
    known = [each for each in nanos if each is not None]
    return sum(known) / len(known) / NANOS if known and len(known) == len(nanos) else None
