"""How many samples an answer takes, and the smallest difference a number of samples can show.

Shares, percentiles and paired comparisons are in ``fairlead.spec.power`` (``fairlead check`` prints them before there
is any data). Here is what needs data: means with a known spread, clusters, and looking again and again; and ``plan``,
which puts them side by side (``fairlead plan``).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec

from fairlead.errors import UsageError
from fairlead.evaluate import sequences
from fairlead.spec import power
from fairlead.spec.plan import DISCORDANCE

MOST = 1_000_000_000
"""More samples than this are no answer."""
LEAST, LARGEST = 1e-9, 1e12
"""Differences and deviations that can be planned with."""


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


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """What one wants to know, and what must be assumed for it. Shares and differences are 0..1.

    ``share`` is about what is expected, ``discordance`` the share of samples on which exactly one of two variants is
    right. ``cluster`` samples belong together (a conversation, a customer), alike by ``alike`` (0: not at all, 1: all
    the same). ``deviation`` is that of a number that is no share; with it only means are planned.
    """

    share: float = 0.8
    discordance: float = DISCORDANCE
    confidence: float = 0.95
    cluster: float = 1.0
    alike: float = 0.1
    deviation: float | None = None


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """One way to ask. ``needed`` samples show the difference, ``detectable`` is what the samples at hand show; None
    where nothing does, or was not asked. ``impossible``: there cannot be such a difference; where there can and
    ``needed`` is None all the same, it takes more than ``MOST``.
    """

    way: str
    needed: int | None = None
    impossible: bool = False
    detectable: float | None = None


def plan(case: Case, *, difference: float | None = None, samples: int | None = None) -> list[Planned]:
    """How many samples show ``difference``, and what ``samples`` show, each way one may ask; power ``power.POWER``.

    Sizes are samples in all that one variant is asked. Raises UsageError for what cannot be.
    """
    _allow(case, difference, samples)
    effect = design_effect(case.cluster, case.alike)
    effective = None if samples is None else max(1, int(samples / effect))
    found = []
    for way, most, needed, detectable in _ways(case):
        impossible = difference is not None and difference > most + 1e-12
        more = None if difference is None or impossible else needed(difference)
        found.append(
            Planned(
                way=way,
                needed=None if more is None else _possible(more * effect),
                impossible=impossible,
                detectable=None if effective is None else detectable(effective),
            )
        )
    return found


Needed = Callable[[float], int | None]
Detectable = Callable[[int], float | None]


def _ways(case: Case) -> list[tuple[str, float, Needed, Detectable]]:
    """What each is called, the largest difference there can be, and how it is planned."""
    confidence = case.confidence
    if case.deviation is not None:
        one = case.deviation
        apart = math.sqrt(2) * one
        return [
            ("a mean against a bound", math.inf, lambda d: mean_needed(d, one, confidence),
             lambda n: mean_detectable(n, one, confidence)),
            ("two means, on samples of their own", math.inf, lambda d: mean_needed(d, apart, confidence),
             lambda n: mean_detectable(n, apart, confidence)),
            ("the first, looked at while asking", math.inf, lambda d: anytime_needed(d, one, confidence),
             lambda n: anytime_detectable(n, one, confidence)),
        ]  # fmt: skip
    share, discordance, spread = case.share, case.discordance, math.sqrt(case.discordance)
    rarer = min(share, 1 - share)

    def paired(gap: float) -> int | None:
        return power.paired_needed(gap, discordance, confidence)

    def above(gap: float) -> int | None:
        return power.share_needed(share, share + gap, confidence)

    return [
        ("two variants, the same samples", discordance, paired,
         lambda n: power.paired_detectable(n, discordance, confidence)),
        ("the same, looked at while asking", discordance, lambda d: anytime_needed(d, spread, confidence),
         lambda n: _possible_gap(anytime_detectable(n, spread, confidence), discordance)),
        ("two variants, samples of their own", 1 - rarer, lambda d: power.unpaired_needed(rarer, d, confidence),
         lambda n: power.unpaired_detectable(share, n, confidence)),
        ("one variant better than a bound", 1 - share, above,
         lambda n: power.share_detectable(share, n, confidence, upwards=True)),
    ]  # fmt: skip


def anytime_detectable(n: int, deviation: float, confidence: float) -> float | None:
    """The smallest distance ``n`` values show however often one looks: inverse of ``anytime_needed``."""
    if n < sequences.FEWEST:
        return None
    return sequences.margin(n, deviation, confidence) + power.z_power() * deviation / math.sqrt(n)


def _possible_gap(gap: float | None, most: float) -> float | None:
    return gap if gap is not None and gap <= most else None


def _allow(case: Case, difference: float | None, samples: int | None) -> None:
    wrong = [
        (difference is None or LEAST <= difference < (1 if case.deviation is None else LARGEST),
         f"a difference of at least {LEAST:g}, below "
         + (f"{LARGEST:g}" if case.deviation is not None else "1, as 0.03 for three points")),
        (samples is None or 1 <= samples <= MOST, f"samples from 1 to {MOST:,}"),
        (0 < case.share < 1, "an expected share above 0 and below 1"),
        (0 < case.discordance <= 1, "a discordance above 0, at most 1"),
        (0.5 <= case.confidence <= 0.999, "a confidence from 0.5 to 0.999"),
        (case.cluster >= 1 and 0 <= case.alike <= 1, "at least one sample together, alike by 0 to 1"),
        (case.deviation is None or LEAST <= case.deviation < LARGEST,
         f"a deviation of at least {LEAST:g}, below {LARGEST:g}"),
    ]  # fmt: skip
    for fine, expected in wrong:
        if not fine:
            raise UsageError(detail=f"A plan needs {expected}")
