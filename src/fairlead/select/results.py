"""What stored runs teach a router: each question with what the small and the big candidate's answers were worth."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from fairlead.errors import RoutingRefused, UsageError
from fairlead.evaluate.purse import NANOS, Price, cost_of
from fairlead.records import Run
from fairlead.select.makes import Make, different, make_of_release
from fairlead.select.routing import Tried
from fairlead.select.stored import Side, samples_of, side_of, value_of
from fairlead.store import Store


class Results(msgspec.Struct, frozen=True, kw_only=True):
    """Questions both candidates have a score for, and by candidate what it was (``makes``) and what a call costs in USD
    (``costs``, None where a price is unknown).

    ``left_out`` counts questions that one of them has no score for, because its call failed or it was let go before.
    ``runs`` are the ids of where they come from.
    """

    tried: list[Tried]
    makes: dict[str, Make]
    costs: dict[str, float | None] = {}
    left_out: int = 0
    runs: tuple[str, ...] = ()


def results_of(
    store: Store, runs: Iterable[str], small: str, big: str, prices: Mapping[str, Price | None] | None = None
) -> Results:
    """What both candidates made of the samples of ``runs``; a question asked in several counts once, by the newest.

    Epochs are averaged. Calls are counted at ``prices`` by candidate where they are known, else at what was paid.
    Raises RoutingRefused, UsageError, RunUnknown.
    """
    tried: dict[str, Tried] = {}
    prices = prices or {}
    costs: dict[str, list[int | None]] = {small: [], big: []}
    makes: dict[str, Make] = {}
    left_out = 0
    found_runs = sorted({found.id: found for found in map(store.runs.get, runs)}.values(), key=lambda each: each.time)
    for run in found_runs:
        sides = side_of(store, f"{run.id}:{small}"), side_of(store, f"{run.id}:{big}")
        for side in sides:
            name, price = side.candidate, prices.get(side.candidate)
            answers = [each.answered.answer for each in side.found.values() if not each.answered.error]
            costs[name] += [_nanos(answer, price) for answer in answers]
            makes[name] = _make(store, side, makes.get(name), price)
        scored, missing = _scored(_texts(store, run), *sides)
        tried |= scored
        left_out += missing
    if not tried:
        raise RoutingRefused(detail=f"{small} and {big} have no question in common that both have a score for")
    return Results(
        tried=list(tried.values()),
        makes=makes,
        costs={name: _mean(paid) for name, paid in costs.items()},
        left_out=left_out,
        runs=tuple(run.id for run in found_runs),
    )


def _scored(texts: Mapping[str, str], small: Side, big: Side) -> tuple[dict[str, Tried], int]:
    """(what both were worth on a question, by its text; how many questions one of them has no score for)."""
    one, other = by_sample(small), by_sample(big)
    asked = {sample for side in (small, big) for sample, _ in side.found}
    both = [sample for sample in one if sample in other and sample in texts]
    scored = {texts[sample]: Tried(text=texts[sample], small=one[sample], big=other[sample]) for sample in both}
    return scored, len(asked) - len(both)


def _make(store: Store, side: Side, before: Make | None, price: Price | None) -> Make:
    """What a candidate was, as its release says. Raises RoutingRefused where other runs asked another make of it."""
    for name in {each.answered.release for each in side.found.values()}:
        release = store.releases.get(name)
        make = make_of_release(json.loads(release.content), price) if release is not None else Make(price=price)
        if before is not None and before != make:
            other = " and ".join(different(before, make))
            detail = f"{side.candidate} was not the same in these runs, but had {other}"
            raise RoutingRefused(detail=f"{detail}. Learn from runs of one make, or measure again: fairlead select")
        before = make
    return before or Make(price=price)


def _nanos(answer: Mapping[str, Any], price: Price | None) -> int | None:
    """What an answer costs at a price; what somebody else answered costs what was paid."""
    paid: int | None = answer.get("cost_nanos")
    if price is None or answer.get("answered"):
        return paid
    return cost_of(price, (answer.get("input_tokens"), answer.get("output_tokens")))


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
