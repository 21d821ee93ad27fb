"""Intervals keep their confidence, agree with scipy where it has them, and say nothing where nothing can be said."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from fairlead.evaluate import bootstrap as boot
from fairlead.evaluate import intervals, planning, sequences, significance
from fairlead.evaluate.intervals import Interval
from fairlead.evaluate.judges.agreement import kappa
from fairlead.evaluate.numbers import Codes, Numbers, beta_cdf, binomial_cdf, codes_of, student_quantile

LEVEL = 0.95


def _covered(found: list[Interval], truth: float) -> float:
    return sum(each.low <= truth <= each.high for each in found) / len(found)


def _clustered(chance: np.random.Generator, clusters: int, size: int) -> tuple[Numbers, Codes]:
    """Shares that differ from cluster to cluster around 0.7: correlation 1 / (1 + 7 + 3) within."""
    shares = np.repeat(chance.beta(7, 3, clusters), size)
    return (chance.random(len(shares)) < shares).astype(np.float64), np.repeat(np.arange(clusters), size)


@given(st.floats(0.0, 1.0, allow_subnormal=False), st.floats(0.01, 3_000), st.floats(0.01, 3_000))
def test_the_beta_distribution_is_scipys(x: float, a: float, b: float) -> None:
    assert beta_cdf(x, a, b) == pytest.approx(stats.beta.cdf(x, a, b), rel=1e-8, abs=1e-10)


@given(st.integers(1, 2_000), st.floats(0.01, 0.99), st.data())
def test_the_binomial_distribution_is_scipys(n: int, share: float, data: st.DataObject) -> None:
    k = data.draw(st.integers(-1, n))
    assert binomial_cdf(k, n, share) == pytest.approx(stats.binom.cdf(k, n, share), rel=1e-7, abs=1e-10)


@given(st.floats(0.0005, 0.9995), st.integers(1, 5_000))
def test_students_quantile_is_scipys(level: float, freedom: int) -> None:
    assert student_quantile(level, freedom) == pytest.approx(stats.t.ppf(level, freedom), rel=1e-7, abs=1e-9)


@given(st.integers(1, 3_000), st.data())
def test_a_share_is_scipys_wilson_interval(n: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, n))
    peer = stats.binomtest(hits, n).proportion_ci(LEVEL, method="wilson")
    ours = intervals.share(hits, n, LEVEL)
    assert (ours.low, ours.high) == pytest.approx((peer.low, peer.high), abs=1e-9)


def test_a_mean_is_scipys() -> None:
    one = np.random.default_rng(1).lognormal(0, 1, 40)
    peer = stats.ttest_1samp(one, 0).confidence_interval(LEVEL)
    ours = intervals.mean(one, LEVEL)
    assert (ours.low, ours.high) == pytest.approx((peer.low, peer.high))


def test_the_bootstrap_is_scipys_within_its_noise() -> None:
    values = np.random.default_rng(2).lognormal(0, 1, 120)
    peer = stats.bootstrap((values,), np.mean, n_resamples=6_000, method="BCa", rng=np.random.default_rng(3))
    scale = peer.confidence_interval.high - peer.confidence_interval.low
    for ours in (
        boot.bootstrap_ratio(values, None, LEVEL, draws=6_000, kind="bca"),
        boot.bootstrap(lambda rows: float(values[rows].mean()), len(values), LEVEL, draws=6_000),
    ):
        assert ours.low == pytest.approx(peer.confidence_interval.low, abs=0.05 * scale)
        assert ours.high == pytest.approx(peer.confidence_interval.high, abs=0.05 * scale)


def test_the_bootstrap_repeats_itself_and_a_seed_changes_it() -> None:
    values = np.random.default_rng(4).normal(0, 1, 50)
    first, again, other = (boot.bootstrap_ratio(values, None, LEVEL, seed=seed) for seed in (7, 7, 8))
    assert first == again
    assert (first.low, first.high) != (other.low, other.high)


def test_skewed_values_are_covered_by_the_studentized_bootstrap() -> None:
    chance = np.random.default_rng(5)
    found = [boot.bootstrap_ratio(chance.lognormal(0, 0.8, 80), None, LEVEL, draws=600) for _ in range(300)]
    assert _covered(found, math.exp(0.32)) >= 0.91


def test_a_ratio_keeps_its_confidence_though_both_parts_vary() -> None:
    chance = np.random.default_rng(6)
    found = []
    for _ in range(500):
        cost, solved = chance.gamma(2, 1, 150), (chance.random(150) < 0.6).astype(np.float64)
        found.append(intervals.ratio(cost, solved, LEVEL))
    assert 0.92 <= _covered(found, 2 / 0.6) <= 0.98


def test_clusters_are_covered_and_ignoring_them_is_not() -> None:
    chance = np.random.default_rng(7)
    data = [_clustered(chance, 40, 12) for _ in range(400)]
    naive = [intervals.share(int(hits.sum()), len(hits), LEVEL) for hits, _ in data]
    assert _covered(naive, 0.7) < 0.88
    for found in (
        [intervals.clustered_share(hits, codes, LEVEL) for hits, codes in data],
        [intervals.mean(hits, LEVEL, codes) for hits, codes in data],
        [boot.bootstrap_ratio(hits, None, LEVEL, clusters=codes, draws=400) for hits, codes in data],
    ):
        assert _covered(found, 0.7) >= 0.92
        # Correlation 1/11 in clusters of 12 doubles the variance.
        widened = np.mean([each.high - each.low for each in found]) / np.mean([each.high - each.low for each in naive])
        assert 1.2 < widened < 1.7


def test_the_general_bootstrap_draws_whole_clusters() -> None:
    hits, codes = _clustered(np.random.default_rng(8), 30, 10)
    slow = boot.bootstrap(lambda rows: float(hits[rows].mean()), len(hits), LEVEL, clusters=codes, kind="percentile")
    fast = boot.bootstrap_ratio(hits, None, LEVEL, clusters=codes, kind="percentile")
    assert (slow.low, slow.high) == pytest.approx((fast.low, fast.high), abs=0.02)


def test_a_statistic_that_is_often_undefined_gives_no_interval() -> None:
    assert boot.bootstrap(lambda rows: math.nan, 20, LEVEL, draws=50).low == -math.inf


def test_one_cluster_says_nothing() -> None:
    values, codes = np.ones(50), np.zeros(50, np.int64)
    for found in (intervals.mean(values, LEVEL, codes), boot.bootstrap_ratio(values, None, LEVEL, clusters=codes)):
        assert (found.value, found.low, found.high) == (1.0, -math.inf, math.inf)
    assert intervals.clustered_share(values, codes, LEVEL).low < 0.25


def test_a_ratio_without_anything_below_the_line_is_unknown() -> None:
    for found in (
        intervals.ratio(np.ones(5), np.zeros(5), LEVEL),
        boot.bootstrap_ratio(np.ones(5), np.zeros(5), LEVEL),
    ):
        assert math.isnan(found.value)
        assert found.low == -math.inf


@settings(max_examples=50)
@given(st.integers(1, 400), st.sampled_from([0.5, 0.9, 0.95]), st.integers(0, 2**32))
def test_a_percentile_lies_between_its_order_statistics(n: int, quantile: float, seed: int) -> None:
    values = np.random.default_rng(seed).exponential(1, n)
    found = intervals.percentile(values, quantile, LEVEL)
    assert found.low <= found.value <= found.high


def test_percentiles_are_covered_with_infinite_values_among_them() -> None:
    chance = np.random.default_rng(9)
    found = []
    for _ in range(500):
        values = chance.exponential(1, 300)
        values[chance.random(300) < 0.01] = math.inf
        found.append(intervals.percentile(values, 0.9, LEVEL))
    # 1 % never comes back, so the 90th percentile of all is the 90.909th of those that do.
    assert _covered(found, -math.log(1 - 0.9 / 0.99)) >= 0.94


def test_differences_of_shares_are_covered() -> None:
    chance = np.random.default_rng(10)
    pairs = zip(chance.binomial(120, 0.9, 600), chance.binomial(80, 0.8, 600), strict=True)
    found = [
        intervals.difference(intervals.share(int(one), 120, LEVEL), intervals.share(int(two), 80, LEVEL))
        for one, two in pairs
    ]
    assert 0.93 <= _covered(found, 0.1) <= 0.98


def test_mcnemar_is_scipys_binomial_test() -> None:
    chance = np.random.default_rng(11)
    first, second = chance.random(200) < 0.8, chance.random(200) < 0.7
    found = significance.mcnemar(first, second)
    peer = stats.binomtest(found.only_first, found.only_first + found.only_second)
    assert found.p_value == pytest.approx(peer.pvalue, abs=1e-9)
    assert found.difference == pytest.approx(first.mean() - second.mean())
    assert significance.mcnemar(first, first).p_value == 1.0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_benjamini_hochberg_is_scipys_and_holm_is_stricter(p_values: list[float]) -> None:
    ours = significance.benjamini_hochberg(p_values)
    assert ours == pytest.approx(list(stats.false_discovery_control(p_values)))
    strict = significance.holm(p_values)
    assert all(own <= bh + 1e-12 <= fwer + 2e-12 for own, bh, fwer in zip(p_values, ours, strict, strict=True))


def test_holm_by_hand() -> None:
    assert significance.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_planned_sizes_reach_their_power() -> None:
    chance = np.random.default_rng(12)
    n = planning.mean_needed(0.2, 1.0, LEVEL)
    assert n == 197
    assert planning.mean_detectable(n, 1.0, LEVEL) == pytest.approx(0.2, abs=0.001)
    shown = sum(intervals.mean(chance.normal(0.2, 1, n), LEVEL).low > 0 for _ in range(1_000)) / 1_000
    assert 0.77 <= shown <= 0.83
    looked = planning.anytime_needed(0.2, 1.0, LEVEL)
    assert looked is not None
    assert n < looked < 4 * n
    shown = sum(sequences.asymptotic(chance.normal(0.2, 1, looked), LEVEL).low > 0 for _ in range(500)) / 500
    assert 0.75 <= shown <= 0.85
    assert planning.mean_needed(0.0, 1.0, LEVEL) is None
    assert planning.mean_needed(1e-9, 1.0, LEVEL) is None
    assert planning.anytime_needed(1e-9, 1.0, LEVEL) is None
    assert planning.design_effect(12, 1 / 11) == pytest.approx(2)


def test_codes_number_labels_in_order() -> None:
    assert codes_of(["b", "a", "b"]).tolist() == [0, 1, 0]


def test_what_statsmodels_says_of_the_same_numbers() -> None:
    """Written down from statsmodels 0.15.0, which is no dependency: proportion_confint, mcnemar, multipletests."""
    wilson = {(0, 10): (0.0, 0.27753280), (3, 10): (0.10779127, 0.60322185), (170, 200): (0.79394421, 0.89286406),
              (999, 1_000): (0.99435744, 0.99982345)}  # fmt: skip
    for (hits, n), bounds in wilson.items():
        found = intervals.share(hits, n, 0.95)
        assert (found.low, found.high) == pytest.approx(bounds, abs=1e-7)
    for only_one, only_other, p_value in ((5, 1, 0.21875), (12, 3, 0.03515625), (20, 20, 1.0), (40, 18, 0.00535486)):
        first = np.array([True] * (10 + only_one) + [False] * (only_other + 10))
        second = np.array([True] * 10 + [False] * only_one + [True] * only_other + [False] * 10)
        paired = significance.mcnemar(first, second)
        assert paired.p_value == pytest.approx(p_value, abs=1e-7)
        assert significance.sign_test(only_one, only_other) == pytest.approx(p_value, abs=1e-7)
    p_values = [
        0.001, 0.008, 0.039, 0.041, 0.042, 0.06, 0.074, 0.205, 0.212, 0.216, 0.222, 0.251, 0.269, 0.275, 0.34, 0.341,
        0.384, 0.569, 0.594, 0.696, 0.762, 0.94, 0.942, 0.975, 0.986,
    ]  # fmt: skip
    assert significance.holm(p_values) == pytest.approx([0.025, 0.192, 0.897, 0.902, 0.902, *[1.0] * 20])
    assert significance.benjamini_hochberg(p_values) == pytest.approx(
        [0.025, 0.1, 0.21, 0.21, 0.21, 0.25, 0.2642857143, *[0.4910714286] * 7, 0.5328125, 0.5328125, 0.5647058824,
         0.7815789474, 0.7815789474, 0.87, 0.9071428571, *[0.986] * 4]
    )  # fmt: skip
    tables = {0.6995192308: [[40, 9], [6, 45]], 0.6818181818: [[20, 5, 3], [4, 30, 2], [1, 6, 29]]}
    for value, table in tables.items():
        rows = [(one, other) for one, row in enumerate(table) for other, n in enumerate(row) for _ in range(n)]
        ours, theirs = (np.array(each) for each in zip(*rows, strict=True))
        assert kappa(ours, theirs, len(table)) == pytest.approx(value)
