"""An objective and evidence give a verdict: pass, fail, or not enough data (and how much more is needed).

**A verdict comes from a confidence bound, never from the value itself**: pass when the whole interval keeps the bound,
fail when none of it does. Every step (selection, release, canary, alert, tuning) asks this function, so they agree.

``looks`` says how the number is looked at: ``once`` at a size fixed beforehand, or at ``any`` time, which costs wider
intervals and is the only honest way when one stops as soon as the answer is there. Calls nothing, stores nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Literal

import msgspec
import numpy as np

from fairlead.errors import EvidenceInvalid
from fairlead.evaluate import bootstrap, intervals, sequences
from fairlead.evaluate.evidence import Evidence, gather
from fairlead.evaluate.intervals import Interval
from fairlead.evaluate.numbers import Codes, Flags, Numbers
from fairlead.evaluate.planning import MOST
from fairlead.records import Outcome, Verdict, new_id, now_us
from fairlead.spec import power
from fairlead.spec.metrics import PERCENTILES, Metric
from fairlead.spec.model import Objective, UseCase

Looks = Literal["once", "any"]
RESAMPLED_UP_TO = 5_000
"""Units (values or clusters) up to which a mean without limits is resampled; beyond, the delta method says the same."""
UNCALIBRATED = "judged by a model without a passing calibration: fairlead judge calibrate"
"""Why a value that a judge gave decides nothing."""
_BESIDE_LIVE: dict[Outcome, str] = {
    "fail": "worse than what is live",
    "not_enough_data": "may be worse than what is live",
}
_ORDER: dict[Outcome, int] = {"fail": 0, "not_enough_data": 1, "pass": 2}


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """How strict to be. ``confidence`` is two-sided, ``calibrated`` are hashes of judges that may decide something."""

    confidence: float = 0.95
    min_samples: int = 200
    looks: Looks = "once"
    calibrated: frozenset[str] = frozenset()


class Ruling(msgspec.Struct, frozen=True, kw_only=True):
    """What follows for one objective. The fields are those of ``records.Verdict``, which also says for whom and when.

    ``difference`` is the candidate minus what is live, where that was given; ``unit`` is that of ``value``, in words.
    """

    objective: str
    kind: Literal["goal", "guardrail"]
    weight: float
    bound: str
    slice: dict[str, str]
    outcome: Outcome
    value: float | None
    low: float | None
    high: float | None
    n: int
    confidence: float
    needed: int | None = None
    excluded: int = 0
    method: str = ""
    note: str = ""
    difference: Interval | None = None
    unit: str = ""


class Overall(msgspec.Struct, frozen=True, kw_only=True):
    """What follows from all objectives together. ``broken`` and ``open`` name guardrails that fail or are undecided.

    ``held``, ``missed`` and ``undecided`` are shares of the weight of all goals; they add up to 1 where there are any.
    """

    outcome: Outcome
    broken: tuple[str, ...]
    open: tuple[str, ...]
    held: float
    missed: float
    undecided: float


def verdict_on(
    objective: Objective, metric: Metric, evidence: Evidence, rules: Rules, live: Evidence | None = None
) -> Ruling:
    """The verdict on one objective.

    ``live`` is the same metric of what answers now, on the same samples in the same order: then the candidate must
    also be no worse than it by more than the objective's margin. Raises EvidenceInvalid for values the metric cannot
    have, and for infinite ones where a mean is asked for.

    What a judge without a passing calibration measured is shown and decides nothing, whatever it is.
    """
    n = len(evidence)
    if n:
        _refuse(objective, metric, evidence)
    found = _measure(objective, metric, evidence, rules) if n else intervals.unknown(0, "none")
    outcome = _compare(found, objective.bound.value, upwards=objective.bound.op == ">=")
    needed = 0 if outcome != "not_enough_data" else _needed(objective, found, evidence, rules)
    notes = [] if n else ["no values"]
    difference = None
    if live is not None and n:
        difference = _difference(objective, metric, evidence, live, rules)
        against, more = _no_worse(objective, difference, rules)
        outcome = min(outcome, against, key=_ORDER.__getitem__)
        needed = None if needed is None or more is None else max(needed, more)
        notes += [_BESIDE_LIVE[against]] if against in _BESIDE_LIVE else []
    if n < rules.min_samples:
        outcome = "not_enough_data"
        needed = max(needed or 0, rules.min_samples - n)
        notes.append(f"a verdict rests on at least {rules.min_samples} samples")
        if not n and evidence.excluded:  # it was asked, and nothing came of it: more of the same tells nothing
            needed = None
    if not _judges(evidence, live) <= rules.calibrated:
        outcome, needed = "not_enough_data", None
        notes.append(UNCALIBRATED)
    return Ruling(
        objective=objective.id,
        kind=objective.kind,
        weight=objective.weight,
        bound=f"{objective.aggregation} {objective.bound}",
        slice=dict(objective.slice),
        outcome=outcome,
        value=_finite(found.value),
        low=_finite(found.low),
        high=_finite(found.high),
        n=n,
        confidence=rules.confidence,
        needed=needed if outcome == "not_enough_data" else None,
        excluded=evidence.excluded,
        method=found.method,
        note="; ".join(notes),
        difference=difference,
        unit=metric.unit or ("of 1" if metric.is_share else ""),
    )


def _judges(*all_evidence: Evidence | None) -> set[str]:
    """The hashes of the judges that gave values."""
    return {each.judge for each in all_evidence if each is not None and each.judge}


def verdicts_on(
    usecase: UseCase,
    evidence: Mapping[str, Evidence],
    *,
    looks: Looks = "once",
    live: Mapping[str, Evidence] | None = None,
    only: Collection[str] | None = None,
    calibrated: Collection[str] = (),
) -> list[Ruling]:
    """A ruling for each objective, in the order of the file; without evidence there is not enough data.

    ``only`` names the objectives that are in question, such as those a run can measure at all. ``calibrated`` are
    hashes of the judges that may decide something, as ``judges.calibrated_hashes`` gives them.

    That all objectives hold needs no correction for their number. That one of many slices does *not* hold does: with
    twenty slices one fails by chance alone. So a failing slice counts only if it still fails by Holm's procedure.
    """
    rules = Rules(
        confidence=usecase.confidence, min_samples=usecase.min_samples, looks=looks, calibrated=frozenset(calibrated)
    )
    before, nothing = live or {}, gather([])

    judges = {f"judge:{judge.id}" for judge in usecase.judges}

    def ask(objective: Objective, how: Rules) -> Ruling:
        metric, found = usecase.effective_metrics[objective.metric], evidence.get(objective.id, nothing)
        if metric.source in judges and not found.judge and len(found):
            # Values of a judge that do not say so are values of a judge nobody knows.
            found = msgspec.structs.replace(found, judge=metric.source)
        return verdict_on(objective, metric, found, how, before.get(objective.id))

    asked = [each for each in usecase.objectives if only is None or each.id in only]
    rulings = {each.id: ask(each, rules) for each in asked}
    sliced = [each for each in asked if each.slice]
    doubted = {each.id for each in sliced if rulings[each.id].outcome == "fail"}
    confirmed: set[str] = set()
    while doubted:
        error = (1 - rules.confidence) / (len(sliced) - len(confirmed))
        strict = msgspec.structs.replace(rules, confidence=1 - error)
        again = {each.id: ask(each, strict) for each in sliced if each.id in doubted}
        failing = {name for name, ruling in again.items() if ruling.outcome == "fail"}
        if not failing:
            note = f"fails by itself, but not as one of {len(sliced)} slices (Holm)"
            rulings |= {name: msgspec.structs.replace(ruling, note=note) for name, ruling in again.items()}
            break
        confirmed |= failing
        doubted -= failing
    return list(rulings.values())


def decide(rulings: Sequence[Ruling]) -> Overall:
    """Guardrails first, then weighted goals.

    A failing guardrail fails it all, an undecided one leaves it all undecided. Then goals are traded by weight: pass
    when those that hold outweigh all others, fail when those that are missed weigh at least as much as all others.
    Without any ruling there is not enough data.
    """
    goals = [each for each in rulings if each.kind == "goal"]
    broken, undecided = _guardrails(rulings, "fail"), _guardrails(rulings, "not_enough_data")
    weight = {outcome: sum(each.weight for each in goals if each.outcome == outcome) for outcome in _ORDER}
    total = sum(weight.values())
    outcome: Outcome = "pass"
    if broken:
        outcome = "fail"
    elif undecided or not rulings:
        outcome = "not_enough_data"
    elif goals:
        outcome = _traded(weight["pass"], weight["fail"], total)
    parts = {outcome: part / total if total else 0.0 for outcome, part in weight.items()}
    return Overall(
        outcome=outcome,
        broken=broken,
        open=undecided,
        held=parts["pass"],
        missed=parts["fail"],
        undecided=parts["not_enough_data"],
    )


def _guardrails(rulings: Sequence[Ruling], outcome: Outcome) -> tuple[str, ...]:
    return tuple(each.objective for each in rulings if each.kind == "guardrail" and each.outcome == outcome)


def _traded(held: float, missed: float, total: float) -> Outcome:
    if 2 * held > total:
        return "pass"
    return "fail" if 2 * missed >= total else "not_enough_data"


def record(
    ruling: Ruling, usecase: UseCase, *, step: str, release: str = "", dataset: str = "", tenant: str = "default"
) -> Verdict:
    """The fact to store: this ruling, for this use case, now. ``dataset`` is the hash of what was measured on."""
    same = {name: getattr(ruling, name) for name in Ruling.__struct_fields__ if name in Verdict.__struct_fields__}
    return Verdict(
        id=new_id(), time=now_us(), tenant=tenant, subject="", usecase=usecase.name, spec_hash=usecase.spec_hash,
        release=release, step=step, dataset=dataset, **same,
    )  # fmt: skip


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _refuse(objective: Objective, metric: Metric, evidence: Evidence) -> None:
    values, name = evidence.values, objective.metric
    infinite = int(np.isinf(values).sum())
    if infinite and objective.aggregation not in PERCENTILES:
        raise EvidenceInvalid(
            detail=f"{infinite} of {len(values)} values of {name} are infinite; a mean has no place for them"
        )
    if objective.aggregation == "ratio":
        if evidence.denominators is None:
            raise EvidenceInvalid(detail=f"{name} is a ratio and has nothing below the line")
        return
    if objective.aggregation == "gap":
        if len(evidence.groups) != len(values):
            raise EvidenceInvalid(detail=f"{name} compares groups, and the samples carry no {objective.by or 'group'}")
        return
    low, high = metric.range
    outside = int(
        ((values < (-math.inf if low is None else low)) | (values > (math.inf if high is None else high))).sum()
    )
    if outside:
        limits = f"{'-∞' if low is None else low}..{'∞' if high is None else high}"
        raise EvidenceInvalid(detail=f"{outside} of {len(values)} values of {name} are outside {limits}")


def _compare(found: Interval, bound: float, *, upwards: bool) -> Outcome:
    if math.isnan(found.value):
        return "not_enough_data"
    low, high, limit = (found.low, found.high, bound) if upwards else (-found.high, -found.low, -bound)
    if low >= limit:
        return "pass"
    return "fail" if high < limit else "not_enough_data"


def _measure(objective: Objective, metric: Metric, evidence: Evidence, rules: Rules) -> Interval:
    """The interval of what the objective bounds."""
    if objective.aggregation in PERCENTILES:
        return _percentile(evidence, PERCENTILES[objective.aggregation], rules)
    if objective.aggregation == "gap":
        return _gap(evidence, rules)
    if objective.aggregation == "ratio":
        return _unlimited(evidence.values, evidence.denominators, evidence.clusters, rules)
    return _mean(evidence.values, metric.range, evidence.clusters, rules)


def _mean(values: Numbers, limits: tuple[float | None, float | None], clusters: Codes | None, rules: Rules) -> Interval:
    low, high = limits
    if low is None or high is None:
        found = _unlimited(values, None, clusters, rules)
    elif (low, high) == (0.0, 1.0) and bool(np.isin(values, (0.0, 1.0)).all()):
        found = _share(values, clusters, rules)
    elif clusters is None:
        found = sequences.betting(values, rules.confidence, low=low, high=high, fixed=rules.looks == "once")
    elif values.min() == values.max():
        # Equal values show no spread, so only what limits alone allow can be said: one value for each cluster.
        each = values[: int(clusters.max()) + 1]
        found = sequences.betting(each, rules.confidence, low=low, high=high, fixed=rules.looks == "once")
    else:
        found = _unlimited(values, None, clusters, rules)
    return msgspec.structs.replace(
        found,
        low=found.low if low is None else max(low, found.low),
        high=found.high if high is None else min(high, found.high),
        n=len(values),
    )


def _share(hits: Numbers, clusters: Codes | None, rules: Rules) -> Interval:
    """A share of 0 and 1."""
    if rules.looks == "once":
        if clusters is None:
            return intervals.share(int(hits.sum()), len(hits), rules.confidence)
        return intervals.clustered_share(hits, clusters, rules.confidence)
    if clusters is None:
        return sequences.betting(hits, rules.confidence)
    if hits.min() == hits.max():
        return sequences.betting(hits[: int(clusters.max()) + 1], rules.confidence)
    return _unlimited(hits, None, clusters, rules)


def _unlimited(values: Numbers, denominators: Numbers | None, clusters: Codes | None, rules: Rules) -> Interval:
    """A mean or ratio of values without limits, or of clusters."""
    below = np.ones(len(values)) if denominators is None else denominators
    if below.sum() <= 0:
        return intervals.unknown(len(values), "ratio")
    if rules.looks == "any":
        found = sequences.asymptotic(intervals.influences(values, below, clusters), rules.confidence)
        return msgspec.structs.replace(found, n=len(values))
    units = len(values) if clusters is None else int(clusters.max()) + 1
    if units <= RESAMPLED_UP_TO:
        return bootstrap.bootstrap_ratio(values, below, rules.confidence, clusters=clusters)
    return intervals.ratio(values, below, rules.confidence, clusters)


def _percentile(evidence: Evidence, quantile: float, rules: Rules) -> Interval:
    """A percentile; where values belong together or are looked at again, by what is known of the share below."""
    plain = intervals.percentile(evidence.values, quantile, rules.confidence)
    if rules.looks == "once" and evidence.clusters is None:
        return plain
    ordered = np.unique(evidence.values)

    def below(place: int) -> Interval:
        return _share((evidence.values <= ordered[place]).astype(np.float64), evidence.clusters, rules)

    # The true share up to x exceeds the quantile from the first x whose lower bound does; it is short of it up to the
    # last x whose upper bound is.
    first = _first(len(ordered), lambda place: below(place).low >= quantile)
    last = _first(len(ordered), lambda place: below(place).high >= quantile)
    return msgspec.structs.replace(
        plain,
        low=float(ordered[last]) if 0 < last < len(ordered) else -math.inf,
        high=float(ordered[first]) if first < len(ordered) else math.inf,
        method=f"percentile by {below(0).method}",
    )


def _first(count: int, holds: Callable[[int], bool]) -> int:
    """The first place from which ``holds`` is true; ``count`` where it never is."""
    low, high = 0, count
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low


def _gap(evidence: Evidence, rules: Rules) -> Interval:
    """The largest difference of means between any two groups, with all pairs at the wanted confidence together."""
    names = sorted(set(evidence.groups))
    n, tags = len(evidence), np.array(evidence.groups)
    if len(names) < 2:
        return intervals.unknown(n, "gap")
    # Once: each pair at its share of the error. Any time: each group, since then only the plain difference holds.
    comparisons = len(names) * (len(names) - 1) // 2 if rules.looks == "once" else len(names)
    shares = bool(((evidence.values >= 0) & (evidence.values <= 1)).all())
    limits = (0.0, 1.0) if shares else (None, None)
    strict = msgspec.structs.replace(rules, confidence=1 - (1 - rules.confidence) / comparisons)
    means = [_mean(evidence.values[tags == name], limits, _within(evidence, tags == name), strict) for name in names]
    found = [_apart(one, other, rules) for place, one in enumerate(means) for other in means[place + 1 :]]
    return Interval(
        value=max(each.value for each in found),
        low=max(each.low for each in found),
        high=max(each.high for each in found),
        n=n,
        method=f"gap of {len(names)} groups, {means[0].method}",
    )


def _within(evidence: Evidence, chosen: Flags) -> Codes | None:
    if evidence.clusters is None:
        return None
    codes = np.unique(evidence.clusters[chosen], return_inverse=True)[1].astype(np.int64)
    return codes if int(codes.max()) + 1 < len(codes) else None


def _apart(one: Interval, other: Interval, rules: Rules) -> Interval:
    """How far two means are apart, whichever is larger."""
    found = intervals.difference(one, other)
    if rules.looks == "any":
        found = msgspec.structs.replace(found, low=one.low - other.high, high=one.high - other.low)
    if math.isnan(found.low) or math.isnan(found.high):
        return intervals.unknown(found.n, found.method, abs(found.value))
    low = max(0.0, found.low, -found.high)
    return Interval(value=abs(found.value), low=low, high=max(-found.low, found.high), n=found.n, method=found.method)


def _difference(objective: Objective, metric: Metric, ours: Evidence, live: Evidence, rules: Rules) -> Interval:
    """The candidate minus what is live, on the same samples."""
    if len(ours) != len(live):
        found = (
            f"{len(ours)} values of the candidate and {len(live)} of what is live; both on the same samples expected"
        )
        raise EvidenceInvalid(detail=found)
    _refuse(objective, metric, live)
    if objective.aggregation in PERCENTILES or objective.aggregation == "gap":
        return _resampled(objective, ours, live, rules)
    if objective.aggregation == "ratio":
        parts = [
            intervals.influences(each.values, _below(each), None) for each in (ours, live) if _below(each).sum() > 0
        ]
        if len(parts) < 2:
            return intervals.unknown(len(ours), "ratio")
        return _mean(parts[0] - parts[1], (None, None), ours.clusters, rules)
    low, high = metric.range
    width = None if low is None or high is None else high - low
    limits = (None, None) if width is None else (-width, width)
    return _mean(ours.values - live.values, limits, ours.clusters, rules)


def _below(evidence: Evidence) -> Numbers:
    return np.zeros(len(evidence)) if evidence.denominators is None else evidence.denominators


def _resampled(objective: Objective, ours: Evidence, live: Evidence, rules: Rules) -> Interval:
    """A difference of percentiles or of gaps has no formula: pairs of samples are drawn again, for one look only."""
    if rules.looks == "any":
        return intervals.unknown(len(ours), "no sequence for a difference of this kind")
    if objective.aggregation == "gap":
        tags = np.array(ours.groups)

        def summary(values: Numbers, rows: Codes) -> float:
            means = [values[rows][tags[rows] == name].mean() for name in np.unique(tags[rows])]
            return float(max(means) - min(means))
    else:
        quantile = PERCENTILES[objective.aggregation]

        def summary(values: Numbers, rows: Codes) -> float:
            return float(np.quantile(values[rows], quantile, method="inverted_cdf"))

    def statistic(rows: Codes) -> float:
        one, other = summary(ours.values, rows), summary(live.values, rows)
        return 0.0 if one == other else one - other

    return bootstrap.bootstrap(statistic, len(ours), rules.confidence, clusters=ours.clusters, kind="percentile")


def _no_worse(objective: Objective, difference: Interval, rules: Rules) -> tuple[Outcome, int | None]:
    """Whether the margin to what is live holds, and how many samples more it takes to know."""
    upwards, margin = objective.bound.op == ">=", objective.margin.value
    limit = -margin if upwards else margin
    outcome = _compare(difference, limit, upwards=upwards)
    return outcome, _more(difference, limit, rules) if outcome == "not_enough_data" else 0


def _needed(objective: Objective, found: Interval, evidence: Evidence, rules: Rules) -> int | None:
    """Samples more after which the bound would be decided; a percentile is planned as the share that keeps it."""
    bound = objective.bound
    if objective.aggregation not in PERCENTILES or not found.n:
        return _more(found, bound.value, rules)
    quantile = PERCENTILES[objective.aggregation]
    upwards = bound.op == ">="
    kept = evidence.values >= bound.value if upwards else evidence.values <= bound.value
    share = _share(kept.astype(np.float64), evidence.clusters, rules)
    least = power.percentile_needed(quantile, rules.confidence) - found.n
    more = _more(share, 1 - quantile if upwards else quantile, rules)
    return None if more is None else max(least, more)


def _more(found: Interval, bound: float, rules: Rules) -> int | None:
    """Samples more after which the interval would clear the bound in 4 of 5 cases, if what was seen holds.

    An interval shrinks with the root of the number of samples, so the number is read off the one there is; for a plain
    share it is the formula of the plan. None: the value is at the bound, or it would take more than a billion.
    """
    if math.isnan(found.value):
        return max(1, rules.min_samples - found.n)
    gap = bound - found.value
    if gap == 0:
        return None
    end = found.low if gap < 0 else found.high
    if not math.isfinite(end):
        return max(1, sequences.FEWEST - found.n)
    if found.method == "wilson" and 0 < bound < 1:
        total: float = power.share_needed(bound, found.value, rules.confidence)
    else:
        reach = abs(end - found.value) * (1 + power.z_power() / power.z_two_sided(rules.confidence))
        total = found.n * (reach / gap) ** 2
    return max(1, math.ceil(total) - found.n) if total < MOST else None
