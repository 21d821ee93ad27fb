"""What a use case can be expected to show and to cost, before any money is spent.

For each objective: the smallest difference that the evaluation data and a week of the declared traffic can show, and
how many samples a verdict needs. For each variant: what the declared traffic costs. Pure functions of the use case and
of how many samples there are; nothing is called and nothing is measured.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Literal

import msgspec

from fairlead.spec import power
from fairlead.spec.metrics import PERCENTILES, Metric
from fairlead.spec.model import Objective, UseCase
from fairlead.spec.variant import Variant

ASSUMED_GAIN = 0.05
"""How much better than its bound the truth is assumed to be where an objective declares no margin: 5 points."""
DISCORDANCE = 0.15
"""Share of items on which exactly one of two compared variants is right, assumed for comparisons."""
RESPONSE_RATE = 0.10
"""Share of conversations that are rated, assumed for metrics made of ratings."""
DAYS_A_WEEK = 7
DAYS_A_MONTH = 30
LABELLED = "code:label"
FROM_TRAFFIC_ONLY = ("outcome", "feedback", "person")


Measure = Literal["share", "value", "standard deviations"]


class Sight(msgspec.Struct, frozen=True, kw_only=True):
    """What ``n`` samples can show about an objective, in the unit of ``ObjectivePlan.measure``.

    ``half_width``: half of the confidence interval when the bound itself is observed. ``detectable``: how much better
    than the bound the truth must be to be shown in 4 of 5 cases. ``comparison``: the smallest difference between two
    variants that is shown, tried on the same items (evaluation) or each on half of the traffic (week). None: cannot be
    said, or no possible difference would be shown.
    """

    n: int
    half_width: float | None = None
    detectable: float | None = None
    comparison: float | None = None


class ObjectivePlan(msgspec.Struct, frozen=True, kw_only=True):
    """What can be known about an objective. ``needed``: samples to confirm it if the truth is better by ``assumed``."""

    objective: str
    metric: str
    aggregation: str
    bound: str
    kind: str
    measure: Measure
    evaluation: Sight | None
    week: Sight | None
    needed: int | None
    assumed: float | None
    note: str = ""


class CostPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What a variant costs in model fees, in USD. None is unknown, never 0. ``breaks`` names budgets it exceeds.

    ``at_most``: of a router, as if the big one answered everything.
    """

    variant: str
    model: str
    per_conversation_usd: float | None
    per_day_usd: float | None
    per_month_usd: float | None
    evaluation_usd: float | None
    per_resolution_usd: float | None
    breaks: tuple[str, ...] = ()
    at_most: bool = False
    note: str = ""


def plan_objectives(usecase: UseCase, samples: Mapping[str, int]) -> list[ObjectivePlan]:
    """One row for each objective. ``samples``: objective id to the evaluation rows that count for it."""
    return [_plan(usecase, objective, samples.get(objective.id, 0)) for objective in usecase.objectives]


def _plan(usecase: UseCase, objective: Objective, rows: int) -> ObjectivePlan:
    metric = usecase.effective_metrics[objective.metric]
    notes: list[str] = []
    offline = rows if is_measured_offline(metric) else 0
    if not is_measured_offline(metric):
        notes.append("only live traffic shows it")
    weekly = _weekly(usecase, metric, notes)
    if objective.slice:
        tags = ", ".join(f"{tag}={value}" for tag, value in objective.slice.items())
        notes.append(f"of the traffic only rows with {tags} count, so a week shows less than stated")
    planner = _planner(usecase, objective, metric)
    needed, assumed, measure = planner.need(notes)
    return ObjectivePlan(
        objective=objective.id,
        metric=objective.metric,
        aggregation=objective.aggregation,
        bound=str(objective.bound),
        kind=objective.kind,
        measure=measure,
        evaluation=planner.see(offline, paired=True) if offline else None,
        week=planner.see(weekly, paired=False) if weekly else None,
        needed=needed,
        assumed=assumed,
        note="; ".join(notes),
    )


def is_measured_offline(metric: Metric) -> bool:
    """Whether running the evaluation data gives values of this metric; an outcome or a rating needs real users."""
    return metric.source.partition(":")[0] not in FROM_TRAFFIC_ONLY


def _weekly(usecase: UseCase, metric: Metric, notes: list[str]) -> int:
    """Values of a metric that a week of the declared traffic gives."""
    if metric.source == LABELLED:
        notes.append("needs labels, so traffic does not show it by itself")
        return 0
    if usecase.traffic is None:
        return 0
    cases = usecase.traffic.conversations_per_day * DAYS_A_WEEK
    count = cases * usecase.traffic.turns_per_conversation if metric.level == "inference" else cases
    if metric.source.partition(":")[0] == "feedback" and "response_rate" not in " ".join(metric.reported_with):
        return int(count)
    if metric.source.partition(":")[0] == "feedback":
        notes.append(f"assumes that {RESPONSE_RATE:.0%} of conversations are rated")
        count *= RESPONSE_RATE
    return int(count * metric.sample)


class _Planner(ABC):
    """How to see an objective of one kind; the subclasses hold the formula."""

    def __init__(self, usecase: UseCase, objective: Objective, metric: Metric) -> None:
        self.usecase = usecase
        self.objective = objective
        self.metric = metric
        self.confidence = usecase.confidence
        self.bound = objective.bound.value
        self.upwards = objective.bound.op == ">="

    @abstractmethod
    def see(self, n: int, *, paired: bool) -> Sight:
        """What ``n`` samples show."""

    @abstractmethod
    def need(self, notes: list[str]) -> tuple[int | None, float | None, Measure]:
        """(samples, assumed gain, measure)."""


class _Bounded(_Planner):
    """A mean of values between two limits; a share is the case 0..1.

    The spread of others is at most that of values which all lie at a limit, so the figures are the worst case. Source:
    R. Bhatia and C. Davis, American Mathematical Monthly 107 (2000), 353-357.
    """

    def __init__(self, usecase: UseCase, objective: Objective, metric: Metric, low: float, high: float) -> None:
        super().__init__(usecase, objective, metric)
        self.low, self.width = low, high - low
        self.share = (self.bound - low) / self.width

    def see(self, n: int, *, paired: bool) -> Sight:
        detectable = power.share_detectable(self.share, n, self.confidence, upwards=self.upwards)
        if paired:
            comparison = power.paired_detectable(n, DISCORDANCE, self.confidence)
        else:
            comparison = power.unpaired_detectable(self.share, n // 2, self.confidence) if n > 1 else None
        return Sight(
            n=n,
            half_width=self.width * power.share_half_width(self.share, n, self.confidence),
            detectable=None if detectable is None else self.width * detectable,
            comparison=None if comparison is None else self.width * comparison,
        )

    def need(self, notes: list[str]) -> tuple[int | None, float | None, Measure]:
        measure: Measure = "share" if self.metric.is_share else "value"
        room = 1 - self.share if self.upwards else self.share
        if room <= 0:
            notes.append("a bound at the very end of the range can never be confirmed from samples")
            return None, None, measure
        gain = self.objective.margin.value / self.width or ASSUMED_GAIN
        if gain > room / 2:
            gain = room / 2
        better = self.share + (gain if self.upwards else -gain)
        return power.share_needed(self.share, better, self.confidence), gain * self.width, measure


class _Percentile(_Bounded):
    """A percentile: ``p95 <= 1.5 s`` says that at least 95 % of the values are within 1.5 s, which is a share."""

    def __init__(self, usecase: UseCase, objective: Objective, metric: Metric) -> None:
        super().__init__(usecase, objective, metric, 0.0, 1.0)
        quantile = PERCENTILES[objective.aggregation]
        # Of a metric to maximise the values above the bound count: p50 >= 3 says that half are at least 3.
        self.quantile = quantile
        self.share = quantile if objective.bound.op == "<=" else 1 - quantile
        self.upwards = True

    def need(self, notes: list[str]) -> tuple[int | None, float | None, Measure]:
        least = power.percentile_needed(self.quantile, self.confidence)
        notes.append(
            f"in shares of values that keep {self.objective.bound}, of which {self.share:.0%} must; an interval of "
            f"{self.objective.aggregation} needs at least {least} values"
        )
        room = 1 - self.share
        gain = min(ASSUMED_GAIN, room / 2)
        return power.share_needed(self.share, self.share + gain, self.confidence), gain, "share"

    def see(self, n: int, *, paired: bool) -> Sight:
        # Ranks of the order-statistic interval, as a distance in percentiles around the one that is bounded.
        low, high = power.percentile_ranks(self.quantile, n, self.confidence)
        half = None if low is None or high is None else (high - low) / (2 * n)
        detectable = power.share_detectable(self.share, n, self.confidence, upwards=True)
        return Sight(n=n, half_width=half, detectable=detectable)


class _Unknown(_Planner):
    """A mean or ratio whose spread nobody knows yet: everything is said in standard deviations of a value."""

    def see(self, n: int, *, paired: bool) -> Sight:
        z = power.z_two_sided(self.confidence)
        difference = (z + power.z_power()) / math.sqrt(n)
        return Sight(n=n, half_width=z / math.sqrt(n), detectable=difference, comparison=None)

    def need(self, notes: list[str]) -> tuple[int | None, float | None, Measure]:
        notes.append("the spread of the values is unknown before a first run, so in standard deviations of one value")
        return None, None, "standard deviations"


class _Gap(_Planner):
    """The largest difference between groups: every pair is compared, at the worst share (0.5) and equal group sizes."""

    def __init__(self, usecase: UseCase, objective: Objective, metric: Metric) -> None:
        super().__init__(usecase, objective, metric)
        known = {
            "language": len(usecase.users.languages),
            "channel": len(usecase.channels),
            "variant": len(usecase.variants),
        } | {tag: len(values) for tag, values in usecase.slices.items()}
        self.declared = objective.by in known
        self.groups = max(2, known.get(objective.by, 2))
        self.pairs = self.groups * (self.groups - 1) // 2

    def see(self, n: int, *, paired: bool) -> Sight:
        each = n / self.groups
        half = power.two_groups_half_width(each, self.confidence, self.pairs)
        level = 1 - (1 - self.confidence) / self.pairs
        factor = (power.z_two_sided(level) + power.z_power()) / power.z_two_sided(level)
        return Sight(n=n, half_width=min(1.0, half), detectable=half * factor if half * factor < 1 else None)

    def need(self, notes: list[str]) -> tuple[int | None, float | None, Measure]:
        known = "" if self.declared else " (assumed; declare them in `slices:`)"
        notes.append(f"for {self.groups} groups of equal size{known}; smaller groups show less")
        gain = self.objective.margin.value or min(ASSUMED_GAIN, self.bound / 2)
        if gain <= 0:
            notes.append("a gap of 0 can never be confirmed from samples")
            return None, None, "share"
        level = 1 - (1 - self.confidence) / self.pairs
        each = 0.5 * ((power.z_two_sided(level) + power.z_power()) / gain) ** 2
        return self.groups * math.ceil(each), gain, "share"


def _planner(usecase: UseCase, objective: Objective, metric: Metric) -> _Planner:
    if objective.aggregation == "gap":
        return _Gap(usecase, objective, metric)
    if objective.aggregation in PERCENTILES:
        return _Percentile(usecase, objective, metric)
    low, high = metric.range
    if objective.aggregation == "mean" and low is not None and high is not None:
        return _Bounded(usecase, objective, metric, low, high)
    return _Unknown(usecase, objective, metric)


def plan_costs(usecase: UseCase, evaluation_rows: int) -> list[CostPlan]:
    """One row for each variant that answers. An evaluation run asks every row once."""
    return [_cost(usecase, variant, evaluation_rows) for variant in usecase.variants if variant.answers]


def _cost(usecase: UseCase, variant: Variant, rows: int) -> CostPlan:
    own = not any(each.target.remote for each in usecase.answering(variant))
    price = usecase.price_of(variant)
    nanos = price.nanos_per_token if price else (0.0, 0.0) if own else None
    note = "runs on your own machine: no model fees, the machine is not counted" if own and not variant.price else ""
    if price is not None and variant.price is None:
        note = f"price of {usecase.price_table.date} by {usecase.price_table.source}"
    if variant.between is not None and not own:
        note = f"at most, as if {variant.between.big} answered everything"
    if nanos is None or usecase.traffic is None:
        unknown = "no `price:`, and none in the price table" if nanos is None else "`traffic:` is not declared"
        return CostPlan(
            variant=variant.id, model=variant.model, per_conversation_usd=None, per_day_usd=None, per_month_usd=None,
            evaluation_usd=None, per_resolution_usd=None, note=f"unknown: {unknown}",
        )  # fmt: skip
    traffic = usecase.traffic
    turn = traffic.input_tokens * nanos[0] + traffic.output_tokens * nanos[1]
    conversation = turn * traffic.turns_per_conversation / 1e9
    day = conversation * traffic.conversations_per_day
    costs = {"evaluation": turn * rows / 1e9, "per_day": day, "per_month": day * DAYS_A_MONTH}
    resolution = [each.bound.value for each in usecase.objectives if each.metric == "resolution" and not each.slice]
    per_resolution = conversation / resolution[0] if resolution and resolution[0] > 0 else None
    return CostPlan(
        variant=variant.id,
        model=variant.model,
        per_conversation_usd=conversation,
        per_day_usd=day,
        per_month_usd=costs["per_month"],
        evaluation_usd=costs["evaluation"],
        per_resolution_usd=per_resolution,
        breaks=tuple(_broken(usecase, costs)),
        at_most=variant.between is not None,
        note=note,
    )


def _broken(usecase: UseCase, costs: Mapping[str, float]) -> list[str]:
    limits = usecase.budget.model_dump()
    return [name for name, cost in costs.items() if (limit := limits[f"{name}_usd"]) is not None and cost > limit]
