"""What to do, in plain words: which candidate, why, and what would lead to another choice.

**The objectives decide.** Of those that hold every measured objective the cheapest is taken, whoever is best; only
where no objective measures quality is the best one taken, or a cheaper one within the tolerance. A candidate that
failed for a tenth of its calls is not chosen, for what is left says nothing of the rest.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from fairlead.evaluate.measures import Plan
from fairlead.evaluate.verdict import UNCALIBRATED
from fairlead.select.report import CHOSEN, NONE_PASSES, NOT_ENOUGH, Against, Choice, Judged, Ruled, Slice, Standing

MOST_FAILED = 0.10
FEWEST = 30
"""Samples below which nothing is chosen where no objective says how many it takes."""
PLAIN = 0.05
"""Error of a finding in a slice."""
NO_RECORD = "fairlead judge calibrate was not run for it"
SECONDS, DOLLARS = ("first_token", "latency"), ("cost",)
"""Scorers whose values have a unit."""
NAMES = {"right": "right answers", "right_label": "right labels", "exact": "exact answers", "similarity": "similarity"}


def quality_name(scorer: str) -> str:
    """What is ranked by, in words."""
    return NAMES.get(scorer, scorer.replace("_", " "))


def by_cost(standings: Sequence[Standing]) -> bool:
    """Whether money tells the candidates apart; where all are free, time does."""
    costs = {each.cost_per_1000.value for each in standings}
    return len(costs - {None}) > 1


def unreliable(standing: Standing) -> bool:
    """Whether too many of its calls failed."""
    tried = standing.answered + standing.failed
    return not standing.answered or standing.failed > MOST_FAILED * tried


def pick(standings: Sequence[Standing], plan: Plan, tolerance: float) -> str:
    """The candidate to take, or to look at first where none can be taken; empty where nothing was answered.

    ``standings`` are ordered by quality.
    """
    able = [each for each in standings if each.n and not unreliable(each)]
    for outcome in ("pass", "not_enough_data", "fail"):
        group = [each for each in able if each.outcome == outcome or not each.verdicts]
        if group:
            return _of_equals(group, plan, tolerance, passing=outcome == "pass").id
    return ""


def _of_equals(group: Sequence[Standing], plan: Plan, tolerance: float, *, passing: bool) -> Standing:
    if passing and plan.quality in plan.of.values():
        cheapest = min(_cost(each) for each in group)
        group = [each for each in group if _cost(each) == cheapest]
    best = max(_quality(each) for each in group)
    close = [each for each in group if _quality(each) >= best - tolerance]
    return min(close, key=lambda each: (_cost(each), each.total_p95 or math.inf, -_quality(each), each.id))


def _cost(standing: Standing) -> float:
    return math.inf if standing.cost_per_1000.value is None else standing.cost_per_1000.value


def _quality(standing: Standing) -> float:
    return -math.inf if standing.quality.value is None else standing.quality.value


def choose(
    standings: Sequence[Standing],
    against: Sequence[Against],
    slices: Sequence[Slice],
    picked: str,
    plan: Plan,
    *,
    clear: bool,
) -> Choice:
    """The choice with its reasons. ``clear``: asking on would not be worth it to know who is best."""
    chosen = next((each for each in standings if each.id == picked), None)
    if chosen is None:
        return _nobody(standings, plan)
    judged = bool(chosen.verdicts)
    enough = chosen.quality.value is not None and chosen.n >= FEWEST
    decided = (judged and chosen.outcome == "pass") or (not judged and clear and enough)
    status = CHOSEN if decided else NONE_PASSES if judged and chosen.outcome == "fail" else NOT_ENOUGH
    return Choice(
        status=status,
        candidate=chosen.id if status == CHOSEN else "",
        headline=_headline(chosen, standings, status, judged=judged),
        reasons=tuple(_reasons(chosen, standings, against, plan)),
        changes=tuple(_changes(chosen, standings, against, slices, plan, status)),
    )


def _nobody(standings: Sequence[Standing], plan: Plan) -> Choice:
    """Nobody can be looked at: nobody answered, nobody reliably, or what ranks gave no answer a value."""
    unvalued = [each for each in standings if each.answered and not each.n]
    if not any(each.answered for each in standings):
        headline = "Nothing can be chosen: no candidate answered."
    elif unvalued:
        who = quality_name(plan.quality)
        headline = f"Nothing can be chosen: {who} gave no answer a value, so nothing is decided by it."
    else:
        headline = "Nothing can be chosen: too many calls of every candidate failed."
    said = {each.id: f"{each.answered} answers, none of them with a value" for each in unvalued}
    reasons = tuple(f"{each.id}: {each.left or each.error or said.get(each.id, 'no answer')}" for each in standings)
    return Choice(status=NOT_ENOUGH, candidate="", headline=headline, reasons=reasons, changes=())


def _headline(chosen: Standing, standings: Sequence[Standing], status: int, *, judged: bool) -> str:
    if status == NONE_PASSES:
        broken = ", ".join(each.objective for each in chosen.verdicts if each.outcome == "fail")
        return f"No candidate holds the objectives. The nearest is {chosen.id}, which misses {broken}."
    if status == NOT_ENOUGH:
        open_ones = ", ".join(each.objective for each in chosen.verdicts if each.outcome == "not_enough_data")
        what = f"whether {chosen.id} holds {open_ones}" if open_ones else f"whether {chosen.id} is the best"
        return f"The data cannot tell yet {what}. It leads so far."
    holds = "holds every measured objective" if judged else "is as good as any other, as far as these samples can tell"
    price = _price_words(chosen, standings)
    start = "No language model is needed: " if chosen.baseline else ""
    return f"{start}{chosen.id} {holds}{price}: use it."


def _price_words(chosen: Standing, standings: Sequence[Standing]) -> str:
    dearer = [each for each in standings if each.cost_per_1000.value and each.id != chosen.id and each.n]
    if not dearer or chosen.cost_per_1000.value is None:
        return ""
    other = max(dearer, key=lambda each: (_quality(each), _cost(each)))
    if chosen.cost_per_1000.value == 0:
        return f" without model fees ({other.id} takes {other.cost_per_1000.value:,.2f} USD for 1,000)"
    if _cost(chosen) < _cost(other):
        return f" at 1/{_cost(other) / _cost(chosen):,.3g} of the cost of {other.id}"
    return ""


def _reasons(chosen: Standing, standings: Sequence[Standing], against: Sequence[Against], plan: Plan) -> list[str]:
    quality = f"{percent(chosen.quality.value)}{bounds(chosen.quality)}"
    found = [f"Of {chosen.n} samples, {quality_name(plan.quality)}: {quality}."]
    for ruled in chosen.verdicts:
        words = {"pass": "holds", "fail": "is missed", "not_enough_data": "is open"}[ruled.outcome]
        more = f"; about {ruled.needed:,} samples more would tell" if ruled.needed else ""
        more += f"; {UNCALIBRATED}" if UNCALIBRATED in ruled.note else ""
        found.append(f"{ruled.objective} ({ruled.bound}) {words}: {_measured(ruled)}{more}.")
    found += [_compared(chosen.id, other) for other in against]
    found += [f"{each.id} was asked no further: {each.left}." for each in standings if each.left]
    for each in standings:
        if each.failed:
            tried = each.answered + each.failed
            rule = "; it cannot be chosen, as the rest says nothing of these" if unreliable(each) else ""
            found.append(f"{each.failed} of {tried} calls of {each.id} failed and are left out{rule}.")
    if plan.unmeasured:
        names = ", ".join(plan.unmeasured)
        found.append(f"Not measured here, because only real users show it: {names}.")
    if chosen.note:
        found.append(f"{chosen.id}: {chosen.note}.")
    return found


def _compared(name: str, other: Against) -> str:
    gap = other.difference
    low, high, value = gap.low or 0.0, gap.high or 0.0, gap.value or 0.0
    if low > 0:
        return f"{name} is better than {other.other} by {points(value)} ({points(low)} to {points(high)})."
    if high < 0:
        return f"{other.other} is better than {name} by {points(-value)} ({points(-high)} to {points(-low)})."
    return f"{name} and {other.other} cannot be told apart ({points(low)} to {points(high)}, n = {other.n})."


def _changes(
    chosen: Standing,
    standings: Sequence[Standing],
    against: Sequence[Against],
    slices: Sequence[Slice],
    plan: Plan,
    status: int,
) -> list[str]:
    found = []
    better = [each for each in against if each.difference.low is not None and each.difference.low > 0]
    ahead = [each for each in against if each.difference.high is not None and each.difference.high < 0]
    if status == CHOSEN and ahead:
        best = min(ahead, key=lambda each: each.difference.value or 0.0)
        found.append(
            f"A bound above what {chosen.id} reaches would lead to {best.other}, "
            f"which is better by {points(-(best.difference.value or 0.0))}."
        )
    if status == CHOSEN and plan.quality in plan.of.values():
        found.append("Do not fine-tune for these objectives: they hold as it is.")
    if status == NONE_PASSES:
        found.append("Fine-tuning, better prompts or pages may close the gap; a bound that was a wish may be lowered.")
    undecided = [each for each in against if each not in better and each not in ahead]
    if undecided:
        names = ", ".join(each.other for each in undecided)
        found.append(f"More samples could show a difference to {names}, in either direction.")
    needed = [each.needed for each in chosen.verdicts if each.outcome == "not_enough_data" and each.needed]
    if needed:
        found.append(f"About {max(needed):,} samples more would decide every open objective, if what was seen holds.")
    unpriced = [each.id for each in standings if each.cost_per_1000.value is None and each.n]
    if unpriced:
        found.append(
            f"The price of {', '.join(unpriced)} is unknown: `price:` of the variant, or fairlead prices update."
        )
    found += [
        f"Where {part.tag} is {part.value} (n = {part.n}), {part.worse_than} is better: "
        f"{percent(part.quality[part.worse_than])} against {percent(part.quality[chosen.id])}."
        for part in slices
        if part.p_value is not None and part.p_value <= PLAIN
    ]
    return found


def of_judge(judged: Judged) -> str:
    """What a judge may decide, and what it did and cost in this run."""
    may = "" if judged.state == "calibrated" else f" – may not decide: {'; '.join(judged.reasons) or NO_RECORD}"
    cost = "at an unknown cost" if judged.cost_usd is None else f"for {judged.cost_usd:,.4g} USD"
    did = [f"{judged.looks:,} answers judged {cost}"]
    did += [f"{judged.known:,} known from before"] if judged.known else []
    did += [f"{judged.invalid:,} without a verdict"] if judged.invalid else []
    did += [f"{judged.unpaid:,} not judged, as the budget did not suffice"] if judged.unpaid else []
    return f"{judged.badge}{may} ({', '.join(did)})"


def percent(value: float | None) -> str:
    """A share in percent; a dash for what is unknown."""
    return "–" if value is None else f"{100 * value:.1f} %"


def score(name: str, value: object) -> str:
    """What a scorer found in one answer, as it is read: with its unit, and yes or no to what its name asks.

    Yes is no praise: ``declined`` is no for most answers that are right.
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if not isinstance(value, int | float):
        return "–" if value is None else str(value)
    if not math.isfinite(value):
        return "–"
    if name in SECONDS:
        return f"{1000 * value:.3g} ms" if value < 0.9995 else f"{value:,.2f} s"
    if float(value).is_integer():
        return f"{value:,.0f}" + (" USD" if name in DOLLARS else "")
    return f"{value:.3g}" + (" USD" if name in DOLLARS else "")


def points(value: float) -> str:
    """A difference of shares in points."""
    return f"{100 * value:.1f} points"


def bounds(stat: object) -> str:
    """The interval in brackets; empty where there is none."""
    low, high = getattr(stat, "low", None), getattr(stat, "high", None)
    return "" if low is None or high is None else f" ({100 * low:.1f} to {100 * high:.1f})"


def _measured(ruled: Ruled) -> str:
    """The value of what an objective bounds, with its unit."""
    return _number(ruled.value) if ruled.value is None else f"measured {_number(ruled.value)} {ruled.unit}".rstrip()


def _number(value: float | None) -> str:
    return "nothing was measured" if value is None else f"{value:.4g}"
