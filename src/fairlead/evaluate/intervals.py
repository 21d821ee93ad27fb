"""Intervals that hold at a sample size fixed beforehand; for numbers looked at again and again see ``sequences``.

``confidence`` is two-sided. ``clusters`` are codes (0, 1, ...) of what belongs together, such as the conversation of
each value: values of one cluster are not independent, and an interval that ignores it is too narrow. Formulas for
shares and percentiles come from ``fairlead.spec.power``, so that plan and verdict agree.
"""

from __future__ import annotations

import math

import msgspec
import numpy as np

from fairlead.evaluate.numbers import Codes, Numbers, student_quantile, totals
from fairlead.spec import power


class Interval(msgspec.Struct, frozen=True, kw_only=True):
    """A value with its bounds, the number of values behind it, and by which method.

    A bound is infinite where the data says nothing in that direction; ``value`` is NaN where there is none at all.
    """

    value: float
    low: float
    high: float
    n: int
    method: str


def unknown(n: int, method: str, value: float = math.nan) -> Interval:
    """Nothing can be said."""
    return Interval(value=value, low=-math.inf, high=math.inf, n=n, method=method)


def share(hits: int, n: int, confidence: float) -> Interval:
    """A share of independent cases: Wilson's score interval. ``n`` is at least 1."""
    low, high = power.wilson(hits / n, n, confidence)
    return Interval(value=hits / n, low=low, high=high, n=n, method="wilson")


def clustered_share(hits: Numbers, clusters: Codes, confidence: float) -> Interval:
    """A share of cases that come in clusters: Wilson's interval with the effective number of cases.

    ``hits`` are 0 or 1. The effective number is n divided by the design effect (variance with clusters to variance
    without) and by a correction for few clusters. Where nothing varies, every cluster counts once. Source: E. L. Korn
    and B. I. Graubard, Survey Methodology 24 (1998), 193-201, with Wilson's interval in place of the exact one.
    """
    n, groups = len(hits), int(clusters.max()) + 1
    value = float(hits.mean())
    plain = value * (1 - value) / n
    if plain == 0 or groups < 2:
        effective = float(groups)
    else:
        ratio = student_quantile(0.5 + confidence / 2, groups - 1) / power.z_two_sided(confidence)
        effect = max(1.0, _variance(hits, np.ones(n), clusters) / plain)
        effective = n / effect / ratio**2
    low, high = power.wilson(value, effective, confidence)
    return Interval(value=value, low=low, high=high, n=n, method="wilson, clustered")


def mean(values: Numbers, confidence: float, clusters: Codes | None = None) -> Interval:
    """A mean without known limits: Student's t, with clusters by linearisation. Unknown below two values or clusters.

    Right for values that are not very skewed; where limits are known ``sequences`` has intervals without assumption.
    """
    return ratio(values, np.ones(len(values)), confidence, clusters, method="t")


def ratio(
    numerators: Numbers,
    denominators: Numbers,
    confidence: float,
    clusters: Codes | None = None,
    *,
    method: str = "delta",
) -> Interval:
    """Sum above by sum below, by the delta method: both may vary and depend on each other.

    Source: W. G. Cochran, Sampling Techniques, 3rd ed. (1977), section 6.4. Unknown where the sum below is not
    positive or there are fewer than two units. As in any delta interval, the sum below must be clearly above zero.
    """
    n, below = len(numerators), float(denominators.sum())
    units = n if clusters is None else int(clusters.max()) + 1 if n else 0
    if below <= 0:
        return unknown(n, method)
    value = float(numerators.sum()) / below
    if units < 2:
        return unknown(n, method, value)
    half = student_quantile(0.5 + confidence / 2, units - 1) * math.sqrt(_variance(numerators, denominators, clusters))
    name = method if clusters is None else f"{method}, clustered"
    return Interval(value=value, low=value - half, high=value + half, n=n, method=name)


def influences(numerators: Numbers, denominators: Numbers, clusters: Codes | None = None) -> Numbers:
    """One number a unit (value or cluster) whose mean is the ratio and whose spread is the ratio's: linearisation."""
    value = numerators.sum() / denominators.sum()
    residuals = numerators - value * denominators
    if clusters is not None:
        residuals = totals(residuals, clusters)
    return np.asarray(value + residuals * len(residuals) / denominators.sum(), np.float64)


def _variance(numerators: Numbers, denominators: Numbers, clusters: Codes | None) -> float:
    units = influences(numerators, denominators, clusters)
    return float(units.var(ddof=1)) / len(units)


def percentile(values: Numbers, quantile: float, confidence: float) -> Interval:
    """A percentile of independent values: the order statistics that enclose it, without any assumption on their shape.

    ``quantile`` is in 0..1. Infinite values (a call that never came back) are welcome.
    """
    ordered = np.sort(values)
    n = len(ordered)
    low, high = power.percentile_ranks(quantile, n, confidence)
    return Interval(
        value=float(ordered[max(0, math.ceil(quantile * n) - 1)]),
        low=-math.inf if low is None else float(ordered[low - 1]),
        high=math.inf if high is None else float(ordered[high - 1]),
        n=n,
        method="order statistics",
    )


def difference(one: Interval, other: Interval) -> Interval:
    """The first value minus the second, of independent cases, from the interval of each at the wanted confidence.

    Of two Wilson intervals it is method 10 of R. G. Newcombe, Statistics in Medicine 17 (1998), 873-890; in general
    G. Y. Zou and A. Donner, Statistics in Medicine 27 (2008), 1693-1702.
    """
    value = one.value - other.value
    low = value - math.hypot(one.value - one.low, other.high - other.value)
    high = value + math.hypot(one.high - one.value, other.value - other.low)
    return Interval(value=value, low=low, high=high, n=one.n + other.n, method=f"difference, {one.method}")
