"""Intervals that hold at every sample size at once, so that a number may be looked at as often as one likes.

Two kinds. For values between known limits, what somebody who bets on the mean could have won: exact at every size, no
assumption but independence, and the same whatever the order of the values (I. Waudby-Smith and A. Ramdas, JRSS B 86
(2024), 1-27; the mixture over constant bets of their appendix B). For values without limits, ratios and clusters the
asymptotic confidence sequence: right only as the sample grows, so it says nothing below ``FEWEST`` values
(I. Waudby-Smith, D. Arbour, R. Sinha, E. H. Kennedy and A. Ramdas, Annals of Statistics 52 (2024), 2613-2640).

Which values come next must not have been chosen by looking at them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import numpy as np

from fairlead.evaluate.intervals import Interval, unknown
from fairlead.evaluate.numbers import Numbers

Side = Literal["both", "low", "high"]
"""Which bound is wanted: with one, all of the error goes to it, the other is the end of the range."""

FEWEST = 200
"""Values before an asymptotic sequence says anything; from 100 on it was wrong in 18 % of streams of shares of .98."""
TIGHTEST = 1_000
"""Sample size at which an asymptotic sequence is narrowest relative to the interval of that size."""
BETS: Numbers = np.geomspace(0.004, 0.95, 16)
"""Shares of the most one can stake. The small ones pay where the spread is large or the sample is, the large ones where
nearly all values are at a limit."""
CAUTION = 0.75
"""The most that is staked of what one can, where bets are made for one look."""
_STEPS = 45
_SEED = 20261123


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

    ``fixed`` gives bets that suit one look at a size known beforehand: narrower, still exact, but for that look. Its
    bets follow each other, so the values are drawn in a random order (always the same), as files are often sorted.
    """
    name = "betting, one look" if fixed else "betting"
    n = len(values)
    if n == 0:
        return Interval(value=math.nan, low=low, high=high, n=0, method=name)
    scaled = (values - low) / (high - low)
    if fixed:
        scaled = np.random.default_rng(_SEED).permutation(np.sort(scaled))
    error = (1 - confidence) / (2 if side == "both" else 1)
    capital = _staking if fixed else _mixing
    least = 0.0 if side == "high" else _contradicted(capital(scaled, error), error)
    most = 1.0 if side == "low" else 1 - _contradicted(capital(1 - scaled, error), error)
    width = high - low
    return Interval(value=float(values.mean()), low=low + width * least, high=low + width * most, n=n, method=name)


Capital = Callable[[float], float]
"""The natural log of what betting that the mean is above a number has made of 1; it falls as the number grows."""


def evidence_above(values: Numbers, mean: float) -> float:
    """Log of the capital of who bets that the mean of values in 0..1 is above ``mean``, at any time.

    At least ``log(1 / error)`` contradicts a mean of ``mean`` or less with this error (J. Ville, 1939).
    """
    return _mixing(values, 0.05)(mean)


def _mixing(values: Numbers, error: float) -> Capital:
    """The same bet on every value, with the money spread evenly over ``BETS``; needs no error to tune to."""
    # A share has two values, however many there are: equal ones are counted together.
    distinct, counts = np.unique(values, return_counts=True)

    def capital(mean: float) -> float:
        if mean <= 0:
            return math.inf if distinct[-1] > 0 else 0.0
        won = np.log1p(BETS[:, None] * (distinct / mean - 1)) @ counts
        top = float(won.max())
        return top + math.log(float(np.exp(won - top).mean()))

    return capital


def _staking(values: Numbers, error: float) -> Capital:
    """Bets that suit one look after all values, each from the values before it (their section 4.3)."""
    n = len(values)
    counts = np.arange(1, n + 1)
    means = (0.5 + values.cumsum()) / (counts + 1)
    spread = (0.25 + ((values - means) ** 2).cumsum()) / (counts + 1)
    before = np.concatenate([[0.25], spread[:-1]])
    bets = np.sqrt(2 * math.log(1 / error) / (before * n))

    def capital(mean: float) -> float:
        stakes = bets if mean <= 0 else np.minimum(bets, CAUTION / mean)
        # One may stop betting when ahead, so the most that was ever owned counts.
        return float(np.log1p(stakes * (values - mean)).cumsum().max())

    return capital


def _contradicted(capital: Capital, error: float) -> float:
    """The largest mean in 0..1 that is contradicted, by bisection; 0 where none is."""
    enough = math.log(1 / error)
    if capital(0.0) < enough:
        return 0.0
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if capital(middle) >= enough else (low, middle)
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
