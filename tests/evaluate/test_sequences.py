"""Confidence sequences hold however often one looks, on both sides, and are not much wider than they must be."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.evaluate import intervals, sequences
from fairlead.evaluate.intervals import Interval
from fairlead.evaluate.numbers import Numbers

LEVEL = 0.95
LOOKS = range(50, 2_001, 50)
"""Forty of them."""
Draw = Callable[[np.random.Generator, int], Numbers]

BOUNDED: dict[str, tuple[Draw, float]] = {
    "share": (lambda chance, n: (chance.random(n) < 0.9).astype(np.float64), 0.9),
    "scores": (lambda chance, n: chance.beta(8, 2, n), 0.8),
    "mostly right": (lambda chance, n: np.where(chance.random(n) < 0.05, chance.random(n), 1.0), 0.975),
}


def _ever_wrong(values: Numbers, truth: float, look: Callable[[Numbers], Interval]) -> bool:
    found = (look(values[:n]) for n in LOOKS)
    return any(not each.low <= truth <= each.high for each in found)


@pytest.mark.parametrize("name", BOUNDED)
def test_betting_is_wrong_under_forty_looks_in_at_most_five_percent(name: str) -> None:
    draw, truth = BOUNDED[name]
    chance = np.random.default_rng(1)
    enough = math.log(2 / (1 - LEVEL))
    wrong = 0
    for _ in range(250):
        values = draw(chance, max(LOOKS))
        # The interval excludes the truth exactly where one of the two capitals at the truth is enough.
        wrong += any(
            max(sequences.evidence_above(values[:n], truth), sequences.evidence_above(1 - values[:n], 1 - truth))
            >= enough
            for n in LOOKS
        )
    assert wrong / 250 <= 0.05


@pytest.mark.parametrize("side", ["low", "high"])
def test_one_side_spends_its_whole_error_there(side: sequences.Side) -> None:
    chance = np.random.default_rng(2)
    values = (chance.random(400) < 0.8).astype(np.float64)
    both, one = sequences.betting(values, LEVEL), sequences.betting(values, LEVEL, side=side)
    assert (one.low > both.low and one.high == 1) if side == "low" else (one.high < both.high and one.low == 0)
    wrong = sum(
        not one.low <= 0.8 <= one.high
        for one in (
            sequences.betting((chance.random(300) < 0.8).astype(np.float64), LEVEL, side=side) for _ in range(300)
        )
    )
    assert wrong / 300 <= 0.06
    assert sequences.asymptotic(values, LEVEL, side=side).high == (
        math.inf if side == "low" else pytest.approx(0.9, abs=0.1)
    )


def test_the_interval_is_what_the_capital_does_not_contradict_whatever_the_order() -> None:
    values = np.random.default_rng(3).beta(2, 3, 500)
    found = sequences.betting(values, LEVEL)
    enough = math.log(2 / (1 - LEVEL))
    assert sequences.evidence_above(values, found.low - 1e-6) >= enough
    assert sequences.evidence_above(values, found.low + 1e-6) < enough
    assert sequences.evidence_above(1 - values, 1 - found.high - 1e-6) >= enough
    for fixed in (False, True):
        ordered = sequences.betting(np.sort(values), LEVEL, fixed=fixed)
        found = sequences.betting(values, LEVEL, fixed=fixed)
        assert (ordered.low, ordered.high) == pytest.approx((found.low, found.high))


def test_the_asymptotic_sequence_is_wrong_under_forty_looks_in_at_most_five_percent() -> None:
    chance = np.random.default_rng(4)
    for symmetric, truth in ((True, 0.0), (False, 1.0)):
        data = chance.normal(0, 1, (300, max(LOOKS))) if symmetric else chance.exponential(1, (300, max(LOOKS)))
        wrong = sum(_ever_wrong(values, truth, lambda seen: sequences.asymptotic(seen, LEVEL)) for values in data)
        assert wrong / 300 <= 0.05


def test_a_plain_interval_is_wrong_far_more_often_under_the_same_looks() -> None:
    chance = np.random.default_rng(5)
    wrong = sum(
        _ever_wrong(chance.normal(0, 1, max(LOOKS)), 0.0, lambda seen: intervals.mean(seen, LEVEL)) for _ in range(200)
    )
    assert wrong / 200 > 0.2


def test_one_look_at_a_known_size_is_narrower_and_still_covered() -> None:
    chance = np.random.default_rng(7)
    draw, truth = BOUNDED["mostly right"]
    data = [draw(chance, 200) for _ in range(300)]
    once = [sequences.betting(values, LEVEL, fixed=True) for values in data]
    always = [sequences.betting(values, LEVEL) for values in data]
    assert sum(each.low <= truth <= each.high for each in once) / 300 >= 0.95
    assert np.mean([each.high - each.low for each in once]) < np.mean([each.high - each.low for each in always])


def test_the_width_stays_near_that_of_a_plain_interval() -> None:
    for n in (200, 2_000, 50_000):
        values = (np.random.default_rng(8).random(n) < 0.9).astype(np.float64)
        plain = intervals.share(int(values.sum()), len(values), LEVEL)
        for found in (sequences.betting(values, LEVEL), sequences.asymptotic(values, LEVEL)):
            assert 1 < (found.high - found.low) / (plain.high - plain.low) < 1.9


@settings(max_examples=60)
@given(st.lists(st.floats(-3, 7, allow_nan=False), min_size=0, max_size=60), st.floats(0.5, 0.99))
def test_it_stays_in_its_range_and_holds_the_mean(values: list[float], confidence: float) -> None:
    array = np.array(values, np.float64)
    for fixed in (False, True):
        found = sequences.betting(array, confidence, low=-3, high=7, fixed=fixed)
        assert -3 <= found.low <= found.high <= 7
        if len(array) == 0:
            assert math.isnan(found.value)
            assert (found.low, found.high) == (-3, 7)


def test_equal_values_do_not_make_certainty() -> None:
    found = sequences.betting(np.ones(100), LEVEL)
    assert 0.9 < found.low < 1.0
    assert found.high == 1.0


def test_few_values_say_nothing_without_limits() -> None:
    assert sequences.asymptotic(np.arange(sequences.FEWEST - 1.0), LEVEL).low == -math.inf
    assert math.isnan(sequences.asymptotic(np.array([]), LEVEL).value)
