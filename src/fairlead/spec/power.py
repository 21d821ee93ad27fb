"""How small a difference a number of samples can show. Pure formulas, each with its source; no data is seen.

``confidence`` is two-sided throughout, as in the intervals verdicts rest on; ``POWER`` is the chance of showing a
difference that is really there.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

POWER = 0.80
_EXACT_UP_TO = 5_000
_STEPS = 60


def z_two_sided(confidence: float) -> float:
    """The normal quantile of a two-sided interval: 1.96 at 0.95."""
    return NormalDist().inv_cdf(1 - (1 - confidence) / 2)


def z_power() -> float:
    """The normal quantile of ``POWER``: 0.84."""
    return NormalDist().inv_cdf(POWER)


def wilson(share: float, n: float, confidence: float) -> tuple[float, float]:
    """The score interval of an observed share; ``n`` may be an effective number of samples.

    Source: E. B. Wilson, JASA 22 (1927), 209-212.
    """
    z = z_two_sided(confidence)
    scale = 1 + z * z / n
    middle = (share + z * z / (2 * n)) / scale
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / scale
    return max(0.0, middle - half), min(1.0, middle + half)


def share_interval(hits: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """Wilson's interval of ``hits`` out of ``n``; (0, 1), which says nothing, without samples."""
    low, high = wilson(hits / n, n, confidence) if n else (0.0, 1.0)
    return (0.0 if hits == 0 else low), (1.0 if hits == n else high)  # exact where rounding would miss by a hair


def share_half_width(share: float, n: int, confidence: float) -> float:
    """Half the width of the Wilson interval when ``share`` is observed."""
    low, high = wilson(share, n, confidence)
    return (high - low) / 2


def share_needed(bound: float, better: float, confidence: float) -> int:
    """Samples that show, with ``POWER``, that a true share of ``better`` keeps ``bound``.

    The score test of one proportion, which is the Wilson interval clearing the bound. Source: Fleiss, Levin and Paik,
    Statistical Methods for Rates and Proportions, 3rd ed. (2003), section 2.5, without continuity correction.
    """
    deviation = z_two_sided(confidence) * math.sqrt(bound * (1 - bound)) + z_power() * math.sqrt(better * (1 - better))
    return max(1, math.ceil((deviation / (better - bound)) ** 2))


def share_detectable(bound: float, n: int, confidence: float, *, upwards: bool) -> float | None:
    """How much better than ``bound`` a true share must be for ``n`` samples to show it; None when none would be enough.

    The inverse of ``share_needed``.
    """
    room = 1 - bound if upwards else bound
    sign = 1 if upwards else -1
    return _smallest(room, lambda gap: share_needed(bound, bound + sign * gap, confidence) <= n)


def paired_needed(difference: float, discordance: float, confidence: float) -> int:
    """Items on which two variants must both be tried to show a difference of shares, with ``POWER``.

    ``discordance`` is the share of items on which exactly one of the two is right. McNemar's test; source:
    R. J. Connor, Biometrics 43 (1987), 207-211.
    """
    spread = z_two_sided(confidence) * math.sqrt(discordance)
    spread += z_power() * math.sqrt(max(0.0, discordance - difference**2))
    return max(1, math.ceil((spread / difference) ** 2))


def paired_detectable(n: int, discordance: float, confidence: float) -> float | None:
    """The smallest difference of shares that ``n`` paired items show; None when no possible difference would be."""
    return _smallest(discordance, lambda gap: paired_needed(gap, discordance, confidence) <= n)


def unpaired_needed(share: float, difference: float, confidence: float) -> int:
    """Items for each of two variants, tried on different items, to show ``share`` against ``share + difference``.

    The test of two proportions with pooled variance. Source: Fleiss, Levin and Paik (2003), section 4.2, without
    continuity correction.
    """
    other = share + difference
    middle = (share + other) / 2
    spread = z_two_sided(confidence) * math.sqrt(2 * middle * (1 - middle))
    spread += z_power() * math.sqrt(share * (1 - share) + other * (1 - other))
    return max(1, math.ceil((spread / difference) ** 2))


def unpaired_detectable(share: float, n_each: int, confidence: float) -> float | None:
    """The smallest difference from ``share``, in the direction of 0.5, that ``n_each`` items for each of two show."""
    share = min(share, 1 - share)
    return _smallest(1 - share, lambda gap: unpaired_needed(share, gap, confidence) <= n_each)


def two_groups_half_width(n_each: float, confidence: float, comparisons: int = 1) -> float:
    """Half the width of the interval of a difference of two shares at its worst (both 0.5).

    With Bonferroni's correction for ``comparisons``. Source: Fleiss, Levin and Paik (2003), section 3.
    """
    level = 1 - (1 - confidence) / comparisons
    return z_two_sided(level) * math.sqrt(0.5 / n_each)


def percentile_ranks(quantile: float, n: int, confidence: float) -> tuple[int | None, int | None]:
    """Ranks (1..n) of the ordered values that enclose the true percentile; None where n is too small for that side.

    Distribution-free. Source: W. J. Conover, Practical Nonparametric Statistics, 3rd ed. (1999), section 3.2.
    """
    tail = (1 - confidence) / 2
    lower = _binomial_quantile(tail, n, quantile)
    upper = _binomial_quantile(1 - tail, n, quantile) + 1
    return (lower if lower >= 1 else None), (upper if upper <= n else None)


def percentile_needed(quantile: float, confidence: float) -> int:
    """Fewest values for which the interval of a percentile has an upper end: the largest lies above with confidence."""
    return math.ceil(math.log((1 - confidence) / 2) / math.log(quantile))


def _smallest(room: float, enough: Callable[[float], bool]) -> float | None:
    """The smallest gap in (0, room] that is ``enough``, by bisection; None when even ``room`` is not."""
    if room <= 0 or not enough(room):
        return None
    low, high = 0.0, room
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _binomial_quantile(level: float, n: int, share: float) -> int:
    """The smallest k with P(X <= k) >= level, for X binomial; by the normal approximation beyond 5,000."""
    if n > _EXACT_UP_TO:
        return max(0, math.ceil(n * share + NormalDist().inv_cdf(level) * math.sqrt(n * share * (1 - share)) - 0.5))
    total = 0.0
    for k in range(n + 1):
        total += math.exp(
            math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
            + k * math.log(share) + (n - k) * math.log1p(-share)
        )  # fmt: skip
        if total >= level:
            return k
    return n
