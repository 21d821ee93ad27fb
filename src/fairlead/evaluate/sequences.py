"""Intervals that hold at every sample size at once, so that a number may be looked at as often as one likes.

Two kinds. For values between known limits the hedged capital process of betting: exact at every size, no assumption
but independence (I. Waudby-Smith and A. Ramdas, JRSS B 86 (2024), 1-27). For values without limits, ratios and clusters
the asymptotic confidence sequence: exact only as the sample grows, so not below ``FEWEST`` values (I. Waudby-Smith,
D. Arbour, R. Sinha, E. H. Kennedy and A. Ramdas, Annals of Statistics 52 (2024), 2613-2640).

The order of the values is the order they were seen in, and must not have been chosen by looking at them.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from fairlead.evaluate.intervals import Interval, unknown
from fairlead.evaluate.numbers import Numbers

Side = Literal["both", "low", "high"]
"""Which bound is wanted: with one, all of the error goes to it, the other is the end of the range."""

FEWEST = 50
"""Values before an asymptotic sequence says anything."""
TIGHTEST = 500
"""Sample size at which an asymptotic sequence is narrowest relative to the interval of that size."""
_CAUTION = 0.75
_STEPS = 50


def betting(
    values: Numbers,
    confidence: float,
    *,
    low: float = 0.0,
    high: float = 1.0,
    side: Side = "both",
    fixed: bool = False,
) -> Interval:
    """The mean of values in ``low``..``high``, valid at every sample size.

    ``fixed`` gives bets that suit one look at the size known beforehand: narrower, still exact, but for one look.
    """
    name = "betting, one look" if fixed else "betting"
    n = len(values)
    if n == 0:
        return Interval(value=math.nan, low=low, high=high, n=0, method=name)
    scaled = (values - low) / (high - low)
    error = (1 - confidence) / (2 if side == "both" else 1)
    bets = _bets(scaled, error, fixed=fixed)
    least = 0.0 if side == "high" else _lower(scaled, bets, error)
    most = 1.0 if side == "low" else 1 - _lower(1 - scaled, bets, error)
    width = high - low
    return Interval(
        value=float(values.mean()), low=low + width * least, high=low + width * most, n=n, method=name
    )  # fmt: skip


def evidence_above(values: Numbers, mean: float, error: float, *, fixed: bool = False) -> float:
    """The largest natural log of the capital of who bets that the mean of values in 0..1 is above ``mean``.

    At least ``log(1 / error)`` contradicts a mean of ``mean`` or less, whenever it is first reached.
    """
    return _capital(values, _bets(values, error, fixed=fixed), mean)


def _bets(values: Numbers, error: float, *, fixed: bool) -> Numbers:
    """How much is staked on each value, from those before it: Waudby-Smith and Ramdas, section 4.2 and 4.3."""
    counts = np.arange(1, len(values) + 1)
    means = (0.5 + values.cumsum()) / (counts + 1)
    spread = (0.25 + ((values - means) ** 2).cumsum()) / (counts + 1)
    before = np.concatenate([[0.25], spread[:-1]])
    horizon = float(len(values)) if fixed else counts * np.log1p(counts)
    return np.asarray(np.sqrt(2 * math.log(1 / error) / (before * horizon)), np.float64)


def _capital(values: Numbers, bets: Numbers, mean: float) -> float:
    stakes = bets if mean <= 0 else np.minimum(bets, _CAUTION / mean)
    return float(np.log1p(stakes * (values - mean)).cumsum().max())


def _lower(values: Numbers, bets: Numbers, error: float) -> float:
    """The largest mean that is contradicted. The capital falls as the mean in question grows, so bisection finds it."""
    enough = math.log(1 / error)
    low, high = 0.0, 1.0
    if _capital(values, bets, low) < enough:
        return 0.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if _capital(values, bets, middle) >= enough else (low, middle)
    return low


def asymptotic(values: Numbers, confidence: float, *, side: Side = "both", tightest: int = TIGHTEST) -> Interval:
    """The mean of values without limits, valid at every sample size from ``FEWEST`` on; unknown below.

    ``tightest`` is the size at which it shall be narrowest; it must not be chosen by looking at the values.
    """
    n = len(values)
    value = float(values.mean()) if n else math.nan
    if n < FEWEST:
        return unknown(n, "asymptotic sequence", value)
    half = margin(n, float(values.std(ddof=1)), confidence, side=side, tightest=tightest)
    low = -math.inf if side == "high" else value - half
    high = math.inf if side == "low" else value + half
    return Interval(value=value, low=low, high=high, n=n, method="asymptotic sequence")


def margin(n: float, deviation: float, confidence: float, *, side: Side = "both", tightest: int = TIGHTEST) -> float:
    """How far an asymptotic sequence reaches from the mean of ``n`` values with this standard deviation."""
    error = 1 - confidence
    tuned = error if side == "both" else min(0.5, 2 * error)
    rho2 = (2 * math.log(1 / tuned) + math.log1p(2 * math.log(1 / tuned))) / tightest
    grown = n * rho2 + 1
    log = math.log(math.sqrt(grown) / error) if side == "both" else math.log1p(math.sqrt(grown) / (2 * error))
    return deviation * math.sqrt(2 * grown * log / (n * n * rho2))
