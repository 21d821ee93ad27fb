"""Arrays and the few distributions the statistics rest on, without scipy, which weighs 143 MB installed.

Tests compare each function with scipy. Knows no data and no decision.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from functools import lru_cache
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]
Flags = npt.NDArray[np.bool_]

_TINY = 1e-300
_CLOSE = 1e-15
_TERMS = 10_000
_STEPS = 60
_MANY = 200


def codes_of(labels: Sequence[Hashable]) -> Codes:
    """Labels as whole numbers from 0, in the order of their first appearance: the clusters of a bootstrap."""
    known: dict[Hashable, int] = {}
    return np.array([known.setdefault(label, len(known)) for label in labels], np.int64)


def totals(values: Numbers, clusters: Codes) -> Numbers:
    """The sum of each cluster's values; clusters are numbered from 0 without gaps."""
    return np.bincount(clusters, weights=values).astype(np.float64)


def beta_cdf(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function I_x(a, b), by Lentz's continued fraction.

    Source: Press et al., Numerical Recipes, 3rd ed. (2007), section 6.4. Relative error below 1e-10 up to a + b = 1e6.
    """
    if x <= 0:
        return 0.0
    if x >= 1:
        return 1.0
    scale = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    if x < (a + 1) / (a + b + 2):
        return math.exp(scale) * _fraction(x, a, b) / a
    return 1 - math.exp(scale) * _fraction(1 - x, b, a) / b


def _fraction(x: float, a: float, b: float) -> float:
    above, below = 1.0, 1 / _nonzero(1 - (a + b) * x / (a + 1))
    value = below
    for m in range(1, _TERMS):
        for factor in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            below = 1 / _nonzero(1 + factor * below)
            above = _nonzero(1 + factor / above)
            value *= above * below
        if abs(above * below - 1) < _CLOSE:
            break
    return value


def _nonzero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY


def binomial_cdf(k: int, n: int, share: float) -> float:
    """P(X <= k) of n trials."""
    if k < 0:
        return 0.0
    return 1.0 if k >= n else beta_cdf(1 - share, n - k, k + 1)


@lru_cache(maxsize=4_096)
def student_quantile(level: float, freedom: float) -> float:
    """The quantile of Student's t at ``level`` (0..1) with ``freedom`` degrees of freedom (> 0).

    From 200 on by the expansion of Abramowitz and Stegun (1964), 26.7.5, whose error is then below 1e-7.
    """
    if level == 0.5:
        return 0.0
    if freedom >= _MANY:
        z = NormalDist().inv_cdf(level)
        terms = (
            (z**3 + z) / 4,
            (5 * z**5 + 16 * z**3 + 3 * z) / 96,
            (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
            (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
        )
        return z + sum(term / freedom**power for power, term in enumerate(terms, start=1))
    tail = 2 * min(level, 1 - level)
    # P(|T| > t) = I_x(freedom / 2, 1 / 2) with x = freedom / (freedom + t^2), which grows with x.
    low, high = 0.0, 1.0
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if beta_cdf(middle, freedom / 2, 0.5) < tail else (low, middle)
    size = math.sqrt(freedom * (1 - high) / high)
    return size if level > 0.5 else -size
