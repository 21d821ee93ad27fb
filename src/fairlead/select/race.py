"""The race: who is asked about more samples, and when the finish is clear.

Two parts. The screen is successive halving (Z. Karnin, T. Koren and O. Somekh, ICML 2013): after each rung the better
half goes on. The finish rests on confidence sequences, so that it may be looked at after every step: whoever is shown
to be worse leaves, and it is over when the leader is shown to be no worse than the others by more than ``tolerance``,
or when asking on is not worth it: what is expected to be lost by taking the leader now is a small part of the
tolerance. Stopping for that reason proves nothing and nothing is claimed from it; a sequence holds whyever one stops.

**Who leaves for good leaves by rank among many or by a bound that holds at any time, never by a bare p-value.** Pure
functions of numbers: knows no model and no money but a price to compare.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import NormalDist

import msgspec
import numpy as np

from fairlead.evaluate import sequences
from fairlead.evaluate.intervals import Interval
from fairlead.evaluate.numbers import Numbers

FINALISTS = 2
FEWEST = 40
"""Samples of the first rung, where there are so many: below, ranks are little but luck."""
STEPS = 20
"""Looks during the finish."""
SMALL = 0.1
"""The part of the tolerance that may be lost, on average, by not asking on."""
_NORMAL = NormalDist()

Values = Mapping[str, float]
"""Sample id to the quality of the answer."""


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """``tolerance`` is the difference that does not matter; ``limits`` are those of one value; ``confidence`` is
    two-sided.
    """

    confidence: float = 0.95
    tolerance: float = 0.02
    limits: tuple[float, float] = (0.0, 1.0)


class Rung(msgspec.Struct, frozen=True):
    """Everyone still there answers the first ``samples``; then ``keep`` of those who have to compete go on."""

    samples: int
    keep: int


def rungs(contenders: int, samples: int) -> list[Rung]:
    """The screen: as many halvings as lead to the finalists, each rung twice as long as the one before.

    Empty where there is nothing to screen. The last rung ends at a quarter of the samples, so that the finish has room.
    """
    halvings = max(0, math.ceil(math.log2(contenders / FINALISTS))) if contenders > FINALISTS else 0
    found, left = [], contenders
    for number in range(halvings):
        left = max(FINALISTS, math.ceil(left / 2))
        size = max(FEWEST, round(samples / 4 / 2 ** (halvings - 1 - number)))
        found.append(Rung(min(size, samples), left))
    return found


def finish_steps(start: int, samples: int) -> list[int]:
    """Sizes at which the finish is looked at, up to all samples."""
    if start >= samples:
        return [samples]
    width = max(1, math.ceil((samples - start) / STEPS))
    return [*range(start + width, samples, width), samples]


def difference(one: Values, other: Values, rules: Rules) -> Interval:
    """One minus the other on the samples both answered, valid whenever one looks."""
    common = one.keys() & other.keys()
    gaps: Numbers = np.array([one[name] - other[name] for name in sorted(common)], np.float64)
    width = rules.limits[1] - rules.limits[0]
    return sequences.betting(gaps, rules.confidence, low=-width, high=width)


def expected_loss(one: Values, other: Values) -> float:
    """By how much, on average, ``one`` would turn out worse than ``other``, from what was seen (a normal posterior)."""
    gaps = np.array([one[name] - other[name] for name in one.keys() & other.keys()], np.float64)
    if len(gaps) < 2:
        return math.inf
    # One more value half a limit away keeps twenty equal answers from being taken for certainty.
    error = math.sqrt((float(gaps.var(ddof=1)) + 0.25 / len(gaps)) / len(gaps))
    z = float(gaps.mean()) / error
    return error * (_NORMAL.pdf(z) - z * _NORMAL.cdf(-z))


def mean(values: Values) -> float:
    """The mean; below everything where there is no value."""
    return float(np.mean(list(values.values()))) if values else -math.inf


def ranked(values: Mapping[str, Values], costs: Mapping[str, float]) -> list[str]:
    """Names by quality, best first; of equals the cheaper one first."""
    return sorted(values, key=lambda name: (-mean(values[name]), costs.get(name, math.inf), name))


def survivors(values: Mapping[str, Values], costs: Mapping[str, float], keep: int) -> list[str]:
    """Who goes on after a rung."""
    return ranked(values, costs)[:keep]


def not_worth_it(values: Mapping[str, Values], costs: Mapping[str, float], rules: Rules) -> dict[str, str]:
    """Those that cost more than a rival and are shown not to be better by more than the tolerance: name to rival."""
    found: dict[str, str] = {}
    order = ranked(values, costs)
    for name in order:
        cheaper = [
            each for each in order if each not in found and costs.get(each, math.inf) < costs.get(name, math.inf)
        ]
        for rival in cheaper:
            if difference(values[name], values[rival], rules).high < rules.tolerance:
                found[name] = rival
                break
    return found


class Finish(msgspec.Struct, frozen=True, kw_only=True):
    """Where the finish stands: the ``leader``, who is ``beaten`` (shown to be worse), and whether it is over."""

    leader: str
    beaten: tuple[str, ...]
    over: bool


def look(values: Mapping[str, Values], costs: Mapping[str, float], rules: Rules) -> Finish:
    """Look at the finalists; each comparison at its share of the error, so that all of them hold together."""
    order = ranked(values, costs)
    leader, others = order[0], order[1:]
    shared = msgspec.structs.replace(rules, confidence=1 - (1 - rules.confidence) / max(1, len(others)))
    beaten, safe = [], True
    for name in others:
        ahead = difference(values[leader], values[name], shared)
        if ahead.low > 0:
            beaten.append(name)
        settled = ahead.low > -rules.tolerance
        safe = safe and (settled or expected_loss(values[leader], values[name]) < SMALL * rules.tolerance)
    return Finish(leader=leader, beaten=tuple(beaten), over=safe)


def simulate(outcomes: Numbers, rules: Rules, costs: Sequence[float] | None = None) -> tuple[int, int]:
    """Race candidates whose values are known, shape (candidates, samples): (the chosen one, calls it took).

    The same decisions as in a selection, without models: for planning and for the benchmark.
    """
    count, total = outcomes.shape
    prices = {str(k): float(costs[k]) if costs is not None else 0.0 for k in range(count)}
    alive, calls, done = [str(k) for k in range(count)], 0, 0

    def seen(size: int) -> dict[str, Values]:
        names = [str(place) for place in range(size)]
        return {each: dict(zip(names, outcomes[int(each), :size].tolist(), strict=True)) for each in alive}

    for rung in rungs(count, total):
        calls += len(alive) * (rung.samples - done)
        done = rung.samples
        alive = survivors(seen(done), prices, rung.keep)
    for size in finish_steps(done, total) if len(alive) > 1 else []:
        calls += len(alive) * (size - done)
        done = size
        finish = look(seen(done), prices, rules)
        alive = [name for name in alive if name not in finish.beaten]
        if finish.over or len(alive) == 1:
            break
    return int(ranked(seen(done), prices)[0]), calls
