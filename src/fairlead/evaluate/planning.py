"""How many samples an answer takes, and the smallest difference a number of samples can show.

Shares, percentiles and paired comparisons are in ``fairlead.spec.power`` (``fairlead check`` prints them before there
is any data). Here is what needs data: means with a known spread, clusters, and looking again and again.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from fairlead.evaluate import sequences
from fairlead.spec import power

MOST = 1_000_000_000
"""More samples than this are no answer."""


def mean_needed(difference: float, deviation: float, confidence: float) -> int | None:
    """Values that show, with power ``power.POWER``, a mean ``difference`` away from a bound; None: above ``MOST``.

    ``deviation`` is the standard deviation of one value, or of one difference between two variants on one sample.
    """
    if difference == 0:
        return None
    z = power.z_two_sided(confidence) + power.z_power()
    return _possible((z * deviation / difference) ** 2)


def mean_detectable(n: int, deviation: float, confidence: float) -> float:
    """The smallest distance from a bound that ``n`` values show, with power ``power.POWER``: inverse of the above."""
    return (power.z_two_sided(confidence) + power.z_power()) * deviation / math.sqrt(n)


def anytime_needed(difference: float, deviation: float, confidence: float) -> int | None:
    """Values after which a confidence sequence has shown it with power ``power.POWER``, however often one looked."""
    if difference == 0:
        return None

    def enough(n: int) -> bool:
        reach = sequences.margin(n, deviation, confidence) + power.z_power() * deviation / math.sqrt(n)
        return reach <= abs(difference)

    return _first(enough, sequences.FEWEST)


def design_effect(cluster_size: float, correlation: float) -> float:
    """By how much clusters of this mean size raise the samples needed; ``correlation`` is within a cluster, 0..1.

    Source: L. Kish, Survey Sampling (1965), section 5.4.
    """
    return 1 + (cluster_size - 1) * correlation


def _first(enough: Callable[[int], bool], low: int) -> int | None:
    """The smallest number from ``low`` on that is enough; ``enough`` must not turn false again."""
    high = low
    while not enough(high):
        low, high = high, high * 2
        if high > MOST:
            return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return high


def _possible(samples: float) -> int | None:
    return max(1, math.ceil(samples)) if samples <= MOST else None
