"""Whether the statistics keep their promise: coverage, width, and false alarms when one looks forty times.

    make bench NAME=statistics          # about three minutes of CPU, no data needed

Every figure is a simulation with a fixed seed: ``n`` data sets are drawn from a known truth and the interval is asked
whether it holds it. Nominal is 95 %. A simulated coverage is itself uncertain, so each has its Wilson interval. Targets
of exact methods are exact; those of approximate ones say how far off they may be.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np

from benchmarks.report import Report
from fairlead.evaluate import bootstrap, intervals, sequences
from fairlead.evaluate.intervals import Interval
from fairlead.evaluate.numbers import Codes, Numbers
from fairlead.spec.power import wilson

LEVEL = 0.95
LOOKS = range(100, 2_051, 50)
SETS = 1_000
Draw = Callable[[np.random.Generator, int], Numbers]
Look = Callable[[Numbers], Interval]


def _mostly_right(chance: np.random.Generator, n: int) -> Numbers:
    """Groundedness as it looks: 94 of 100 answers are wholly supported, the others anything."""
    return np.where(chance.random(n) < 0.06, chance.choice([0.0, 0.5, 2 / 3, 0.8], n), 1.0)


MOSTLY_RIGHT = 0.94 + 0.06 * float(np.mean([0, 0.5, 2 / 3, 0.8]))


def _share(chance: np.random.Generator, n: int) -> Numbers:
    return (chance.random(n) < 0.9).astype(np.float64)


def _cost(chance: np.random.Generator, n: int) -> Numbers:
    return chance.lognormal(0, 1, n)


def add_coverage(report: Report, name: str, found: list[Interval], truth: float, target: str = "") -> None:
    """The share of intervals that hold the truth, in percent, and their mean width."""
    held = sum(each.low <= truth <= each.high for each in found)
    low, high = (100 * bound for bound in wilson(held / len(found), len(found), LEVEL))
    report.add(f"coverage, {name}", 100 * held / len(found), "%", n=len(found), low=low, high=high, target=target)
    report.add(f"width, {name}", float(np.mean([each.high - each.low for each in found])), "", n=len(found))


def fixed_sizes(report: Report, chance: np.random.Generator) -> None:
    """One look at 200 values."""
    data = [_share(chance, 200) for _ in range(SETS)]
    add_coverage(
        report, "share .9, n=200, wilson", [intervals.share(int(v.sum()), 200, LEVEL) for v in data], 0.9, ">= 94"
    )
    scores = [_mostly_right(chance, 200) for _ in range(SETS)]
    several: list[tuple[str, Look, str]] = [
        ("betting, one look", lambda v: sequences.betting(v, LEVEL, fixed=True), ">= 95"),
        ("BCa", lambda v: bootstrap.bootstrap_ratio(v, None, LEVEL, draws=1_000, kind="bca"), ""),
        ("t", lambda v: intervals.mean(v, LEVEL), ""),
    ]
    for name, look, target in several:
        add_coverage(report, f"mostly right, n=200, {name}", [look(v) for v in scores], MOSTLY_RIGHT, target)
    few = [_mostly_right(chance, 50) for _ in range(SETS)]
    for name, look, target in several[:2]:
        add_coverage(report, f"mostly right, n=50, {name}", [look(v) for v in few], MOSTLY_RIGHT, target)
    costs = [_cost(chance, 200) for _ in range(SETS)]
    several = [
        ("studentized", lambda v: bootstrap.bootstrap_ratio(v, None, LEVEL, draws=1_000), ">= 92"),
        ("BCa", lambda v: bootstrap.bootstrap_ratio(v, None, LEVEL, draws=1_000, kind="bca"), ""),
        ("t", lambda v: intervals.mean(v, LEVEL), ""),
    ]
    for name, look, target in several:
        add_coverage(report, f"log-normal cost, n=200, {name}", [look(v) for v in costs], math.exp(0.5), target)
    waits = [chance.lognormal(0, 1, 400) for _ in range(SETS)]
    add_coverage(
        report,
        "p95 of a wait, n=400, order statistics",
        [intervals.percentile(v, 0.95, LEVEL) for v in waits],
        math.exp(1.6448536),
        ">= 94",
    )


def clusters(report: Report, chance: np.random.Generator) -> None:
    """40 conversations of 12 answers, correlation 1/11 within."""
    data: list[tuple[Numbers, Codes]] = []
    for _ in range(SETS):
        shares = np.repeat(chance.beta(7, 3, 40), 12)
        data.append(((chance.random(480) < shares).astype(np.float64), np.repeat(np.arange(40), 12)))
    for name, found, target in (
        ("ignored", [intervals.share(int(v.sum()), 480, LEVEL) for v, _ in data], ""),
        ("wilson", [intervals.clustered_share(v, c, LEVEL) for v, c in data], ">= 93"),
        ("bootstrap", [bootstrap.bootstrap_ratio(v, None, LEVEL, clusters=c, draws=1_000) for v, c in data], ">= 93"),
    ):
        add_coverage(report, f"share .7, 40 clusters of 12, {name}", found, 0.7, target)


def ever_wrong(draw: Draw, truth: float, look: Look, chance: np.random.Generator) -> bool:
    """Whether any of forty looks at one stream excludes the truth."""
    values = draw(chance, max(LOOKS))
    return any(not (found := look(values[:n])).low <= truth <= found.high for n in LOOKS)


def looks(report: Report, chance: np.random.Generator) -> None:
    """False alarms under forty looks, at 100, 150, ... 2,050 values."""
    plain: Look = lambda v: intervals.mean(v, LEVEL)  # noqa: E731
    bet: Look = lambda v: sequences.betting(v, LEVEL)  # noqa: E731
    grown: Look = lambda v: sequences.asymptotic(v, LEVEL)  # noqa: E731
    cases: list[tuple[str, Draw, float, Look, int, str]] = [
        ("share .9, t interval", _share, 0.9, plain, SETS, ""),
        ("share .9, betting", _share, 0.9, bet, SETS, "<= 5"),
        ("mostly right, betting", _mostly_right, MOSTLY_RIGHT, bet, SETS, "<= 5"),
        ("share .9, asymptotic", _share, 0.9, grown, 4 * SETS, "<= 5"),
        ("log-normal cost, asymptotic", _cost, math.exp(0.5), grown, 4 * SETS, "<= 5"),
    ]
    for name, draw, truth, look, sets, target in cases:
        wrong = sum(ever_wrong(draw, truth, look, chance) for _ in range(sets))
        low, high = (100 * bound for bound in wilson(wrong / sets, sets, LEVEL))
        report.add(
            f"false alarms in 40 looks, {name}", 100 * wrong / sets, "%", n=sets, low=low, high=high, target=target
        )


def early(report: Report, chance: np.random.Generator) -> None:
    """Why an asymptotic sequence does not begin sooner: looks every 50 values, from 50, 100 or 200 on."""
    cases: list[tuple[str, Draw, float]] = [
        ("share .9", _share, 0.9),
        ("share .98", lambda chance, n: (chance.random(n) < 0.98).astype(np.float64), 0.98),
        ("log-normal cost", _cost, math.exp(0.5)),
    ]
    sizes = np.arange(50, 2_001, 50)
    margins = np.array([sequences.margin(float(n), 1.0, LEVEL) for n in sizes])
    for name, draw, truth in cases:
        values = np.array([draw(chance, 2_000) for _ in range(SETS)])
        means = values.cumsum(axis=1)[:, sizes - 1] / sizes
        spread = np.maximum((values**2).cumsum(axis=1)[:, sizes - 1] / sizes - means**2, 0) * sizes / (sizes - 1)
        outside = np.abs(means - truth) > margins * np.sqrt(spread)
        for begin in (50, 100, 200):
            wrong = float(outside[:, sizes >= begin].any(axis=1).mean())
            low, high = (100 * bound for bound in wilson(wrong, SETS, LEVEL))
            report.add(f"false alarms, {name}, asymptotic from {begin}", 100 * wrong, "%", n=SETS, low=low, high=high)


def widths(report: Report, chance: np.random.Generator) -> None:
    """What being allowed to look again costs, as width relative to the interval for one look."""
    for n in (200, 1_000, 5_000):
        values = _share(chance, n)
        one = intervals.share(int(values.sum()), n, LEVEL)
        for name, found in (
            ("betting", sequences.betting(values, LEVEL)),
            ("asymptotic", sequences.asymptotic(values, LEVEL)),
        ):
            report.add(f"width of {name} by Wilson's, n={n}", (found.high - found.low) / (one.high - one.low), "", n=n)


def speed(report: Report, chance: np.random.Generator) -> None:
    """CPU of the interval of 10,000 values."""
    values = _share(chance, 10_000)
    several: list[tuple[str, Look, Numbers]] = [
        ("betting, 10,000 values", lambda v: sequences.betting(v, LEVEL), values),
        ("asymptotic, 10,000 values", lambda v: sequences.asymptotic(v, LEVEL), values),
        ("studentized bootstrap, 1,000", lambda v: bootstrap.bootstrap_ratio(v, None, LEVEL), values[:1_000]),
    ]
    for name, look, seen in several:
        begin = time.process_time()
        for _ in range(5):
            look(seen)
        report.add(f"CPU, {name}", (time.process_time() - begin) / 5 * 1_000, "ms", n=5)


def main() -> int:
    """Run every simulation."""
    report = Report("statistics", note="simulations with a fixed seed; no data of anyone is used")
    chance = np.random.default_rng(20261123)
    for part in (fixed_sizes, clusters, looks, early, widths, speed):
        part(report, chance)
    return report.finish()


if __name__ == "__main__":
    raise SystemExit(main())
