"""Intervals by resampling, for whatever statistic: seeded, by cluster where values belong together.

The whole cluster is drawn, never a part of it. Source of ``bca``: B. Efron, JASA 82 (1987), 171-185; of
``studentized``: see ``bootstrap_ratio``. Knows no metric.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist
from typing import Literal

import numpy as np
import numpy.typing as npt

from fairlead.evaluate.intervals import Interval, unknown
from fairlead.evaluate.numbers import Codes, Numbers, totals

DRAWS = 2_000
BLOCKS = 400
"""The acceleration of BCa comes from leaving out units one by one; beyond this many, block by block."""
_CELLS = 4_000_000
_NORMAL = NormalDist()

Kind = Literal["bca", "percentile", "studentized"]
Statistic = Callable[[Codes], float]


def bootstrap(
    statistic: Statistic,
    n: int,
    confidence: float,
    *,
    clusters: Codes | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    kind: Literal["bca", "percentile"] = "bca",
) -> Interval:
    """The interval of ``statistic``, which is called with the positions (0..n-1) of the rows of a resample.

    Draws on which it is NaN (no row of a class was drawn, say) do not count; unknown when most are. Fewer than two
    units say nothing.
    """
    members = [np.array([row]) for row in range(n)] if clusters is None else _members(clusters)
    value = statistic(np.arange(n))
    name = kind if clusters is None else f"{kind}, clustered"
    if len(members) < 2:
        return unknown(n, name, value)
    chance = np.random.default_rng(seed)

    def rows(units: npt.NDArray[np.int64]) -> Codes:
        return units if clusters is None else np.concatenate([members[unit] for unit in units])

    drawn = np.array([statistic(rows(chance.integers(0, len(members), len(members)))) for _ in range(draws)])
    left = [statistic(rows(kept)) for kept in _leaving_out(len(members))] if kind == "bca" else []
    return _interval(value, drawn, np.array(left), confidence, n, name)


def bootstrap_totals(
    statistic: Callable[[Numbers], Numbers],
    parts: Numbers,
    confidence: float,
    *,
    clusters: Codes | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> Interval:
    """BCa for a statistic of sums: ``statistic`` takes sums (draws, k) of the rows of ``parts`` (n, k), gives (draws,).

    What it is NaN on does not count. A hundred times quicker than ``bootstrap`` where a table of counts says it all.
    """
    n, name = len(parts), "bca" if clusters is None else "bca, clustered"
    if clusters is not None:
        parts = np.column_stack([totals(column, clusters) for column in parts.T])
    value, units = float(statistic(parts.sum(axis=0, keepdims=True))[0]), len(parts)
    if units < 2:
        return unknown(n, name, value)
    chance = np.random.default_rng(seed)
    drawn = np.concatenate([statistic(_weights(chance, rows, units) @ parts) for rows in _portions(draws, units)])
    left = statistic(parts.sum(axis=0) - parts)
    return _interval(value, drawn, left[~np.isnan(left)], confidence, n, name)


def bootstrap_ratio(
    numerators: Numbers,
    denominators: Numbers | None,
    confidence: float,
    *,
    clusters: Codes | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    kind: Kind = "studentized",
) -> Interval:
    """Sum above by sum below; without ``denominators`` the mean. Milliseconds for hundreds of units.

    ``studentized`` divides each draw by its own standard error (P. Hall, Annals of Statistics 16 (1988), 927-953): of
    the three it keeps its confidence best where a few values are far above the rest, as costs are.
    """
    n = len(numerators)
    above, below = numerators, np.ones(n) if denominators is None else denominators
    if clusters is not None:
        above, below = totals(above, clusters), totals(below, clusters)
    name = kind if clusters is None else f"{kind}, clustered"
    if below.sum() <= 0:
        return unknown(n, name)
    value, units = float(above.sum() / below.sum()), len(above)
    if units < 2:
        return unknown(n, name, value)
    chance = np.random.default_rng(seed)
    parts = [_ratios(_weights(chance, rows, units), above, below) for rows in _portions(draws, units)]
    drawn, errors = (np.concatenate(column) for column in zip(*parts, strict=True))
    if kind == "studentized":
        _, own = _ratios(np.ones((1, units)), above, below)
        return _studentized(value, drawn, errors, float(own[0]), confidence, n, name)
    left = [above[kept].sum() / below[kept].sum() for kept in _leaving_out(units) if below[kept].sum() > 0]
    return _interval(value, drawn, np.array(left if kind == "bca" else []), confidence, n, name)


def paired_bootstrap(
    values: Numbers,
    others: Numbers,
    confidence: float,
    *,
    clusters: Codes | None = None,
    draws: int = DRAWS,
    seed: int = 0,
    kind: Kind = "studentized",
) -> Interval:
    """The mean of ``values - others``, both of the same samples in the same order."""
    return bootstrap_ratio(values - others, None, confidence, clusters=clusters, draws=draws, seed=seed, kind=kind)


def _members(clusters: Codes) -> list[Codes]:
    order = np.argsort(clusters, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(clusters[order])) + 1)


def _leaving_out(units: int) -> list[Codes]:
    everyone = np.arange(units)
    return [np.delete(everyone, block) for block in np.array_split(everyone, min(units, BLOCKS))]


def _portions(draws: int, units: int) -> list[int]:
    size = max(1, _CELLS // units)
    return [min(size, draws - start) for start in range(0, draws, size)]


def _weights(chance: np.random.Generator, draws: int, units: int) -> Numbers:
    """How often each unit comes up in each draw. Shape (draws, units)."""
    drawn = chance.integers(0, units, (draws, units)) + np.arange(draws)[:, None] * units
    return np.bincount(drawn.ravel(), minlength=draws * units).reshape(draws, units).astype(np.float64)


def _ratios(weights: Numbers, above: Numbers, below: Numbers) -> tuple[Numbers, Numbers]:
    """The ratio of each draw and its standard error by linearisation; NaN where the sum below is not positive."""
    over, under = weights @ above, weights @ below
    under = np.where(under > 0, under, np.nan)
    ratios = over / under
    squares = weights @ above**2 - 2 * ratios * (weights @ (above * below)) + ratios**2 * (weights @ below**2)
    units = len(above)
    return ratios, np.sqrt(np.maximum(squares, 0) * units / (units - 1)) / under


def _studentized(
    value: float, drawn: Numbers, errors: Numbers, own: float, confidence: float, n: int, name: str
) -> Interval:
    if own == 0:
        return Interval(value=value, low=value, high=value, n=n, method=name)
    # A draw of equal values has no error to divide by and says nothing of the spread.
    usable = errors > own * 1e-9
    scores = (drawn[usable] - value) / errors[usable]
    if 2 * len(scores) < len(drawn):
        return unknown(n, name, value)
    low, high = np.quantile(scores, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(value=value, low=value - float(high) * own, high=value - float(low) * own, n=n, method=name)


def _interval(value: float, drawn: Numbers, left: Numbers, confidence: float, n: int, name: str) -> Interval:
    found = drawn[~np.isnan(drawn)]
    if math.isnan(value) or 2 * len(found) < len(drawn):
        return unknown(n, name, value)
    tails = (1 - confidence) / 2, (1 + confidence) / 2
    if len(left):
        tails = _corrected(tails, value, found, left[~np.isnan(left)])
    low, high = np.quantile(found, tails)
    return Interval(value=value, low=float(low), high=float(high), n=n, method=name)


def _corrected(tails: tuple[float, float], value: float, found: Numbers, left: Numbers) -> tuple[float, float]:
    """The tails to read instead: for the bias of the draws and for a spread that changes with the value."""
    # Half of the ties count, which is what makes a statistic with few values (a median, a share) come out right.
    below = (np.count_nonzero(found < value) + np.count_nonzero(found == value) / 2) / len(found)
    deviations = left.mean() - left
    power = float((deviations**2).sum()) ** 1.5
    if not 0 < below < 1 or power == 0:
        return tails
    bias, acceleration = _NORMAL.inv_cdf(below), float((deviations**3).sum()) / (6 * power)

    def shifted(tail: float) -> float:
        z = bias + _NORMAL.inv_cdf(tail)
        return _NORMAL.cdf(bias + z / (1 - acceleration * z)) if acceleration * z < 1 else float(z > 0)

    return shifted(tails[0]), shifted(tails[1])
