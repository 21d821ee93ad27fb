"""The race: it finds a good candidate with few calls, claims nothing that a look too many would make false."""

from __future__ import annotations

from statistics import NormalDist

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.evaluate.numbers import Numbers
from fairlead.evaluate.significance import benjamini_hochberg
from fairlead.records import Sample
from fairlead.select import race
from fairlead.select.order import in_order
from fairlead.select.race import Rules

RULES = Rules()
TRUE = np.array([0.86, 0.85, 0.84, 0.80, 0.77, 0.74, 0.70, 0.65])


def outcomes(chance: np.random.Generator, truths: Numbers, samples: int, shared: float = 0.5) -> Numbers:
    """Right or wrong by candidate and sample; some samples are hard for all of them."""
    bars = np.array([NormalDist().inv_cdf(share) for share in truths])
    ease = np.sqrt(shared) * chance.standard_normal(samples)
    own = np.sqrt(1 - shared) * chance.standard_normal((len(truths), samples))
    return np.asarray((ease + own) < bars[:, None], np.float64)


def values(rows: Numbers) -> dict[str, dict[str, float]]:
    return {str(k): {str(n): float(value) for n, value in enumerate(row)} for k, row in enumerate(rows)}


def test_it_finds_one_of_the_best_with_less_than_a_third_of_the_calls() -> None:
    chance = np.random.default_rng(5)
    right, calls = 0, 0
    for _ in range(60):
        order = chance.permutation(len(TRUE))
        chosen, took = race.simulate(outcomes(chance, TRUE, 1_000)[order], RULES)
        right += TRUE[order][chosen] >= 0.84
        calls += took
    assert right >= 58
    assert calls / 60 <= 0.33 * 8_000


def test_of_two_equal_ones_none_is_called_better_however_often_one_looks() -> None:
    chance = np.random.default_rng(7)
    wrong = 0
    for _ in range(100):
        rows = values(outcomes(chance, np.array([0.8, 0.8]), 1_000))
        wrong += any(
            race.look({k: dict(list(v.items())[:size]) for k, v in rows.items()}, {}, RULES).beaten
            for size in range(25, 1_001, 25)
        )
    assert wrong <= 10  # 5 expected at most; more than 10 has a chance of 1 %


@given(st.integers(1, 40), st.integers(1, 5_000))
def test_rungs_grow_and_end_with_the_finalists(contenders: int, samples: int) -> None:
    rungs = race.rungs(contenders, samples)
    sizes = [rung.samples for rung in rungs]
    assert sizes == sorted(sizes)
    assert all(1 <= size <= samples for size in sizes)
    keeps = [rung.keep for rung in rungs]
    assert keeps == sorted(keeps, reverse=True)
    assert (keeps[-1] if keeps else contenders) <= max(race.FINALISTS, 1)
    start = sizes[-1] if sizes else 0
    steps = race.finish_steps(start, samples)
    assert steps[-1] == samples
    assert steps == sorted(set(steps))


def test_a_dear_one_that_is_no_better_is_not_worth_it() -> None:
    chance = np.random.default_rng(2)
    rows = values(outcomes(chance, np.array([0.90, 0.80, 0.97]), 900))
    costs = {"0": 0.0, "1": 5.0, "2": 9.0}
    assert race.not_worth_it(rows, costs, RULES) == {"1": "0"}
    assert race.not_worth_it(rows, dict.fromkeys(rows, 1.0), RULES) == {}


def test_equal_scores_are_a_tie_that_the_cheaper_one_wins() -> None:
    rows = {"dear": dict.fromkeys("abcdefgh", 1.0), "cheap": dict.fromkeys("abcdefgh", 1.0)}
    assert race.ranked(rows, {"dear": 2.0, "cheap": 1.0}) == ["cheap", "dear"]
    finish = race.look(rows, {"dear": 2.0, "cheap": 1.0}, RULES)
    assert (finish.leader, finish.beaten, finish.over) == ("cheap", (), False)


@pytest.mark.parametrize("rows", [{"a": {}, "b": {}}, {"a": {"1": 1.0}, "b": {"2": 0.0}}])
def test_without_common_samples_nothing_is_claimed(rows: dict[str, dict[str, float]]) -> None:
    finish = race.look(rows, {}, RULES)
    assert finish.beaten == ()
    assert not finish.over
    assert race.not_worth_it(rows, {"a": 1.0, "b": 2.0}, RULES) == {}


def test_a_difference_holds_its_confidence_at_any_time() -> None:
    chance = np.random.default_rng(11)
    missed = 0
    for _ in range(100):
        rows = values(outcomes(chance, np.array([0.9, 0.8]), 400))
        looks = [
            race.difference(dict(list(rows["0"].items())[:size]), dict(list(rows["1"].items())[:size]), RULES)
            for size in range(50, 401, 50)
        ]
        missed += any(not each.low <= 0.1 <= each.high for each in looks)
    assert missed <= 10


@given(st.lists(st.sampled_from("abcde"), min_size=1, max_size=200), st.integers(0, 5))
def test_the_order_is_a_permutation_that_depends_on_ids_alone(labels: list[str], seed: int) -> None:
    samples = [Sample(id=str(n), input=f"q{n}", reference=label) for n, label in enumerate(labels)]
    ordered = in_order(samples, seed)
    assert sorted(each.id for each in ordered) == sorted(each.id for each in samples)
    assert in_order(samples[::-1], seed) == ordered


def test_every_slice_is_spread_evenly() -> None:
    samples = [Sample(id=str(n), input="q", fields={"expect": "rare" if n < 50 else "usual"}) for n in range(500)]
    for size in (50, 100, 250):
        rare = sum(each.fields["expect"] == "rare" for each in in_order(samples)[:size])
        assert abs(rare - size / 10) <= 2


def test_of_false_findings_benjamini_and_hochberg_let_few_through() -> None:
    """Ten slices of which three really differ: at most 5 % of what is found is false, on average."""
    chance, shares = np.random.default_rng(3), []
    for _ in range(400):
        null, real = chance.uniform(size=7), chance.beta(0.05, 5, size=3)
        found = [value <= 0.05 for value in benjamini_hochberg([*null, *real])]
        shares.append(sum(found[:7]) / max(1, sum(found)))
    assert np.mean(shares) <= 0.05


def test_a_limit_of_another_kind_scales_with_it() -> None:
    chance = np.random.default_rng(2)
    rows = values(outcomes(chance, np.array([0.9, 0.8]), 300))
    wide = {k: {n: value * 2 - 1 for n, value in row.items()} for k, row in rows.items()}
    plain = race.difference(rows["0"], rows["1"], RULES)
    found = race.difference(wide["0"], wide["1"], msgspec.structs.replace(RULES, limits=(-1.0, 1.0)))
    assert found.low == pytest.approx(2 * plain.low)
    assert found.high == pytest.approx(2 * plain.high)
