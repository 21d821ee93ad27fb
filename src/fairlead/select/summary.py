"""From what was measured to the report: figures of each candidate, comparisons, slices, and the samples that hurt.

Says nothing in words and decides nothing: ``words`` does. Everything here is computed from the run's items, so that the
same items always give the same report.
"""

from __future__ import annotations

import itertools
import math
import platform
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from fairlead import __version__
from fairlead.evaluate import bootstrap, intervals, measures, sequences
from fairlead.evaluate.measures import LONG_CHARS
from fairlead.evaluate.numbers import Numbers
from fairlead.evaluate.purse import NANOS
from fairlead.evaluate.runner import Bill
from fairlead.evaluate.scorers.labels import classify
from fairlead.evaluate.scorers.texts import plain
from fairlead.evaluate.significance import benjamini_hochberg, mcnemar, sign_test
from fairlead.evaluate.verdict import Overall, Ruling
from fairlead.records import Sample
from fairlead.select import race, words
from fairlead.select.report import Against, Case, Judged, Report, Ruled, Slice, Standing, Stat, stat_of
from fairlead.spec import power

if TYPE_CHECKING:
    from fairlead.select.selection import Selection

DRAWS = 400
FEWEST_IN_SLICE = 10
MOST_SLICES, MOST_CASES, MOST_CHARS = 60, 12, 600
SEED = 20261129


def summarise(selection: Selection, rulings: Mapping[str, Sequence[Ruling]], overall: Mapping[str, Overall]) -> Report:
    """The report of a selection that has ended."""
    values = {
        name: measures.quality_of(selection.plan, selection.runner.items.get(name, {})) for name in selection.candidates
    }
    standings = [_standing(selection, name, values[name], rulings.get(name, ()), overall) for name in values]
    standings = _with_frontier(standings, values, selection)
    order = race.ranked(values, selection.costs())
    standings.sort(key=lambda each: order.index(each.id))
    chosen = words.pick(standings, selection.plan, selection.options.tolerance)
    against = _against(selection, chosen, values) if chosen else []
    slices = _slices(selection, chosen, values, standings)
    run = selection.run_record
    tallies = selection.runner.tallies.values()
    discordance = _discordance(against)
    return Report(
        run=run.id,
        usecase=run.usecase,
        spec_hash=run.spec_hash,
        dataset=run.dataset,
        content=run.content,
        time=run.time,
        samples=len(selection.samples),
        epochs=selection.options.epochs,
        quality=selection.plan.quality,
        confidence=selection.usecase.confidence,
        tolerance=selection.options.tolerance,
        raced=selection.options.racing,
        calls=sum(each.answered + each.failed for each in tallies),
        paid_calls=sum(each.calls for each in tallies),
        all_calls=len(selection.samples) * selection.options.epochs * len(selection.candidates),
        spent_usd=_usd(selection.spent),
        budget_usd=selection.options.budget_usd,
        unmeasured=selection.plan.unmeasured,
        detectable=power.paired_detectable(len(selection.samples), discordance, selection.usecase.confidence),
        standings=tuple(standings),
        against=tuple(against),
        slices=tuple(slices),
        cases=tuple(_cases(selection, chosen, values, [each.id for each in standings])),
        choice=words.choose(standings, against, slices, chosen, selection.plan, clear=selection.clear),
        made_with={"fairlead": __version__, "python": platform.python_version(), "machine": platform.machine()},
        learnt_from=selection.options.learnt_from,
        left_out=selection.options.left_out,
        judges=tuple(_judged(selection, name, bill) for name, bill in selection.runner.bills.items()),
        users_usd=_usd(selection.runner.users_nanos),
    )


def _usd(nanos: int | None) -> float | None:
    return None if nanos is None else nanos / NANOS


def _judged(selection: Selection, name: str, bill: Bill) -> Judged:
    standing = selection.judges.get(name)
    return Judged(
        judge=name.removeprefix("judge:"), state=standing.state if standing else "uncalibrated",
        badge=standing.badge if standing else "uncalibrated", reasons=standing.reasons if standing else (),
        looks=bill.looks, known=bill.known, invalid=bill.invalid, unpaid=bill.unpaid, cost_usd=_usd(bill.cost),
    )  # fmt: skip


def _standing(
    selection: Selection,
    name: str,
    values: race.Values,
    rulings: Sequence[Ruling],
    overall: Mapping[str, Overall],
) -> Standing:
    candidate, items = selection.candidates[name], selection.runner.items.get(name, {})
    tally = selection.runner.tallies[name]
    first, total = (measures.number_of(items, scorer) for scorer in ("first_token", "latency"))
    cost = _cost(selection, name)
    quality = _quality(values, selection)
    return Standing(
        id=name,
        model=candidate.model,
        release=candidate.release,
        baseline=candidate.baseline,
        live=name == selection.usecase.live_id,
        note=candidate.note,
        n=len(values),
        answered=tally.answered,
        cached=tally.cached,
        failed=tally.failed,
        unasked=tally.unasked,
        retries=tally.retries,
        quality=quality,
        first_p50=_quantile(first, 0.5),
        first_p95=_quantile(first, 0.95),
        total_p50=_quantile(total, 0.5),
        total_p95=_quantile(total, 0.95),
        cost_per_1000=cost,
        cost_per_resolution=_per_resolution(selection, cost, quality),
        memory=candidate.memory(),
        left=selection.left.get(name, ""),
        outcome=overall[name].outcome if name in overall else "not_enough_data",
        verdicts=tuple(_ruled(each) for each in rulings),
        error=tally.last_error,
        macro_f1=_macro_f1(selection, name),
    )


def _macro_f1(selection: Selection, name: str) -> Stat | None:
    """Of the labels a candidate gave, each sample once; None where the references are none."""
    if selection.plan.quality != "right_label":
        return None
    items = selection.runner.items.get(name, {})
    rows = [
        (plain(each.reference), plain(item.answer.text))
        for each in selection.samples
        if isinstance(each.reference, str) and (item := items.get((each.id, 0))) is not None and not item.answer.error
    ]
    if not rows:
        return None
    found = classify([row[0] for row in rows], [row[1] for row in rows], selection.usecase.confidence).macro_f1
    return Stat(value=found.value) if selection.options.racing else stat_of(found)


def _ruled(ruling: Ruling) -> Ruled:
    return Ruled(**{name: getattr(ruling, name) for name in Ruled.__struct_fields__})


def _quality(values: race.Values, selection: Selection) -> Stat:
    """The mean with an interval that holds for the way it was looked at."""
    found: Numbers = np.array(list(values.values()), np.float64)
    low, high = selection.plan.limits
    if not len(found):
        return Stat(value=None)
    if selection.options.racing:
        return stat_of(sequences.betting(found, selection.usecase.confidence, low=low, high=high))
    if set(np.unique(found)) <= {0.0, 1.0}:
        return stat_of(intervals.share(int(found.sum()), len(found), selection.usecase.confidence))
    return stat_of(sequences.betting(found, selection.usecase.confidence, low=low, high=high, fixed=True))


def _cost(selection: Selection, name: str) -> Stat:
    if selection.candidates[name].free:
        return Stat(value=0.0, low=0.0, high=0.0)
    costs = measures.number_of(selection.runner.items.get(name, {}), "cost")
    if len(costs) < 2 or selection.candidates[name].price is None:
        return Stat(value=None)
    return stat_of(bootstrap.bootstrap_ratio(costs * 1_000, None, selection.usecase.confidence, draws=DRAWS, seed=SEED))


def _per_resolution(selection: Selection, cost: Stat, quality: Stat) -> float | None:
    """Fees of a conversation by the share of right answers, which stands in for the share of resolved ones."""
    traffic = selection.usecase.traffic
    if cost.value is None or traffic is None or not quality.value or quality.value <= 0:
        return None
    return cost.value / 1_000 * traffic.turns_per_conversation / quality.value


def _quantile(values: Numbers, quantile: float) -> float | None:
    return float(np.quantile(values, quantile, method="inverted_cdf")) if len(values) else None


# --- comparisons ----------------------------------------------------------------------------------------------------


def _against(selection: Selection, chosen: str, values: Mapping[str, race.Values]) -> list[Against]:
    found = []
    for other, theirs in values.items():
        common = sorted(values[chosen].keys() & theirs.keys())
        if other == chosen or not common:
            continue
        mine = np.array([values[chosen][name] for name in common])
        rest = np.array([theirs[name] for name in common])
        if selection.options.racing:
            gap = race.difference(values[chosen], theirs, selection.rules)
        else:
            gap = bootstrap.paired_bootstrap(mine, rest, selection.usecase.confidence, draws=DRAWS, seed=SEED)
        shares = set(np.unique(np.concatenate([mine, rest]))) <= {0.0, 1.0}
        paired = mcnemar(mine > 0.5, rest > 0.5) if shares else None
        found.append(
            Against(
                other=other, n=len(common), difference=stat_of(gap),
                only_chosen=int((mine > rest).sum()), only_other=int((rest > mine).sum()),
                p_value=paired.p_value if paired else None,
            )
        )  # fmt: skip
    return found


def _discordance(against: Sequence[Against]) -> float:
    """Share of samples on which exactly one of two is right, as seen; assumed 15 % where nothing was seen."""
    seen = [(each.only_chosen + each.only_other) / each.n for each in against if each.n >= FEWEST_IN_SLICE]
    return max(min(seen), 0.005) if seen else 0.15


def _with_frontier(
    standings: Sequence[Standing], values: Mapping[str, race.Values], selection: Selection
) -> list[Standing]:
    """How often each is on the frontier of quality and cost when samples are drawn again."""
    able = [each for each in standings if each.n and each.quality.value is not None]
    priced = words.by_cost(able)
    axis = {each.id: (each.cost_per_1000.value if priced else each.total_p95) for each in able}
    able = [each for each in able if axis[each.id] is not None]
    chance = np.random.default_rng(SEED)
    order = [sample.id for sample in selection.samples]
    arrays = {each.id: np.array([values[each.id].get(name, math.nan) for name in order]) for each in able}
    counts = dict.fromkeys(arrays, 0)
    for _ in range(DRAWS if able else 0):
        rows = chance.integers(0, len(order), len(order))
        drawn = {name: float(np.nanmean(array[rows])) for name, array in arrays.items() if _any(array[rows])}
        for name, quality in drawn.items():
            beaten = any(
                _dominates(drawn[other], float(axis[other] or 0), quality, float(axis[name] or 0))
                for other in drawn
                if other != name
            )
            counts[name] += not beaten
    return [
        msgspec.structs.replace(each, frontier=counts.get(each.id, 0) / DRAWS if able else 0.0) for each in standings
    ]


def _any(values: Numbers) -> bool:
    return bool((~np.isnan(values)).any())


def _dominates(quality: float, cost: float, other_quality: float, other_cost: float) -> bool:
    return quality >= other_quality and cost <= other_cost and (quality > other_quality or cost < other_cost)


# --- slices and cases -----------------------------------------------------------------------------------------------


def _slices(
    selection: Selection, chosen: str, values: Mapping[str, race.Values], standings: Sequence[Standing]
) -> list[Slice]:
    """Quality by tag; where another is better than the chosen one is tested, all slices together."""
    members: dict[tuple[str, str], list[str]] = {}
    asked = values.get(chosen, {})
    for sample in (each for each in selection.samples if each.id in asked):
        for tag, value in _tags(sample, selection.plan.quality).items():
            members.setdefault((tag, value), []).append(sample.id)
    large = {key: ids for key, ids in members.items() if FEWEST_IN_SLICE <= len(ids) < len(asked)}
    found, p_values = [], []
    for (tag, value), ids in sorted(large.items(), key=lambda pair: (pair[0][0], -len(pair[1]), pair[0][1])):
        seen = {name: [row[each] for each in ids if each in row] for name, row in values.items()}
        quality = {name: float(np.mean(found_here)) for name, found_here in seen.items() if found_here}
        counts = {name: len(seen[name]) for name in quality}
        best = max((name for name in quality if name != chosen), key=lambda name: quality[name], default="")
        worse = chosen in quality and bool(best) and quality[best] > quality[chosen]
        p_value = 1.0
        if worse:
            common = [each for each in ids if each in values[chosen] and each in values[best]]
            ahead = sum(values[best][each] > values[chosen][each] for each in common)
            p_value = sign_test(ahead, sum(values[best][each] < values[chosen][each] for each in common))
        p_values.append(p_value)
        found.append(
            Slice(
                tag=tag, value=value, n=len(ids), quality=quality, counts=counts, worse_than=best if worse else ""
            )
        )  # fmt: skip
    adjusted = benjamini_hochberg(p_values) if p_values else []
    return [
        msgspec.structs.replace(each, p_value=p if each.worse_than else None)
        for each, p in itertools.islice(zip(found, adjusted, strict=True), MOST_SLICES)
    ]


def _tags(sample: Sample, quality: str) -> dict[str, str]:
    tags = dict(sample.tags)
    if "expect" in sample.fields:
        tags["expect"] = str(sample.fields["expect"])
    if quality == "right_label" and isinstance(sample.reference, str):
        tags["label"] = sample.reference
    return tags


def _cases(selection: Selection, chosen: str, values: Mapping[str, race.Values], order: Sequence[str]) -> list[Case]:
    """Samples the chosen one got most wrong, those first that another got right."""
    if not chosen:
        return []
    mine = values[chosen]

    def hurt(sample: Sample) -> tuple[float, float]:
        others = [row[sample.id] for name, row in values.items() if name != chosen and sample.id in row]
        return mine[sample.id] - max(others, default=mine[sample.id]), mine[sample.id]

    best = selection.plan.limits[1]
    wrong = sorted((each for each in selection.samples if mine.get(each.id, best) < best), key=hurt)
    return [
        Case(
            sample=each.id, input=each.input[:MOST_CHARS], reference=_short(each.reference),
            answers={
                name: (item.answer.text[:MOST_CHARS] or item.answer.error, values[name].get(each.id))
                for name in order
                if (item := selection.runner.items.get(name, {}).get((each.id, 0))) is not None
            },
        )
        for each in wrong[:MOST_CASES]
    ]  # fmt: skip


def _short(reference: object) -> object:
    return reference[:LONG_CHARS] if isinstance(reference, str) else reference
