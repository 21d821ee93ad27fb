"""Routers: they find what can be found, promise no more than a bound, and are refused where a coin does as well."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from fairlead.cli import main
from fairlead.errors import RoutingRefused
from fairlead.select.routing import FEWEST, Tried, features, fit, from_file, judge, learn, threshold_for, to_file

EASY = ["When do you open on day {n}?", "Where is parcel number {n}?", "How do I return item {n}?"]
HARD = ["Prove that {n} is the sum of two primes.", "Integrate x to the power {n} times the sine of x."]


def _tried(n: int, *, told: bool = True, seed: int = 0) -> list[Tried]:
    """The big model is right in 90 %; the small one in 90 % of the easy questions and 20 % of the hard ones."""
    chance = random.Random(seed)
    tried = []
    for place in range(n):
        hard = chance.random() < 0.4
        pattern = chance.choice(HARD if hard else EASY) if told else "Question {n}?"
        right = chance.random() < (0.2 if hard else 0.9)
        tried.append(
            Tried(text=pattern.format(n=place), small=float(right), big=float(chance.random() < 0.9))
        )  # fmt: skip
    return tried


def test_a_router_learns_which_questions_are_hard() -> None:
    learnt = learn(_tried(3_000), "small", "big", small_cost=0.01, big_cost=1.0, keep=0.95)
    report = learnt.report
    assert report.reasons == ()
    assert 0.3 < report.calls.value < 0.55, "two fifths are hard"
    assert report.calls.value < report.coin
    assert report.over_coin.low > 0.1
    assert report.saving.low > 0.4
    assert report.kept.high >= 0.95
    assert report.oracle < report.calls.value
    assert report.best_oracle > report.big.value
    assert learnt.router.wants_big("Prove that 77 is the sum of two primes.")
    assert not learnt.router.wants_big("When do you open on day 9?")


def test_where_questions_do_not_tell_a_router_is_refused() -> None:
    learnt = learn(_tried(1_200, told=False), "small", "big", small_cost=0.01, big_cost=1.0)
    assert any("coin" in reason or "saving" in reason for reason in learnt.report.reasons)


def test_a_small_model_that_is_good_enough_is_the_answer() -> None:
    chance = random.Random(1)
    tried = [Tried(text=f"Question {n}?", small=float(chance.random() < 0.9), big=1.0) for n in range(2_000)]
    learnt = learn(tried, "small", "big", small_cost=0.01, big_cost=1.0, keep=0.8)
    assert "the small model alone keeps the quality: use it" in learnt.report.reasons
    assert not learnt.report.saving.low > 0, "nothing is saved of the cost of the best single model"


def test_the_threshold_keeps_the_quality_as_often_as_it_says() -> None:
    broken = 0
    for seed in range(100):
        chance = np.random.default_rng(seed)
        gains = chance.random(8_000)
        big = (chance.random(8_000) < 0.9).astype(float)
        small = (chance.random(8_000) < 0.9 - 0.5 * gains).astype(float)
        scores = np.column_stack([small, big])
        threshold = threshold_for(gains[:400], scores[:400], 0.95)
        worth = np.where(gains[400:] > threshold, big[400:], small[400:])
        broken += worth.mean() < 0.95 * big[400:].mean()
    assert broken <= 8, "a one-sided bound at 97.5 % breaks in about 2.5 of 100"


def test_without_evidence_all_go_to_the_big_model() -> None:
    scores = np.column_stack([np.zeros(100), np.ones(100)])
    threshold = threshold_for(np.arange(100.0), scores, 1.0)
    assert threshold == -math.inf
    report = judge(np.arange(100.0) > threshold, scores, 1.0, 0.1, 1.0)
    assert (report.calls.value, report.saving.value) == (1.0, 0.0)
    assert any("not above zero" in reason for reason in report.reasons)


@given(st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), min_size=2, max_size=40))
def test_what_is_compared_is_consistent(rows: list[tuple[bool, bool, bool]]) -> None:
    to_big = np.array([row[0] for row in rows])
    scores = np.array([row[1:] for row in rows], np.float64)
    report = judge(to_big, scores, 0.95, 0.1, 1.0)
    assert 0 <= report.oracle <= 1
    assert report.best_oracle >= max(report.small.value, report.big.value, report.quality.value) - 1e-12
    reached = np.sort(scores[:, 1] - scores[:, 0])[::-1][: round(report.oracle * len(rows))].sum() + scores[:, 0].sum()
    best = scores.max(axis=1).sum()
    assert reached >= min(best, 0.95 * scores[:, 1].sum()) - 1e-9


def test_the_fit_is_that_of_scikit_learn() -> None:
    chance = np.random.default_rng(0)
    table = chance.normal(size=(400, 5))
    gains = np.where(chance.random(400) < 1 / (1 + np.exp(-table[:, 0])), 1.0, -1.0)
    weights, means, spreads = fit(table, gains, ridge=2.0)
    theirs = LogisticRegression(C=0.5, tol=1e-10, max_iter=1_000).fit((table - means) / spreads, gains)
    assert np.allclose(weights[:-1], theirs.coef_[0], atol=1e-4)
    assert weights[-1] == pytest.approx(theirs.intercept_[0], abs=1e-4)


@given(st.lists(st.text(max_size=50), min_size=1, max_size=5))
def test_any_text_has_features(texts: list[str]) -> None:
    found = features(texts)
    assert found.shape[0] == len(texts)
    assert np.isfinite(found).all()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"n": FEWEST - 1}, "at least"),
        ({"small_cost": 2.0}, "nothing to save"),
        ({"keep": 0.0}, "share above 0"),
        ({"worse": True}, "no better than the small one"),
        ({"score": 1.5}, "from 0 to 1"),
        ({"score": math.nan}, "from 0 to 1"),
    ],
)
def test_what_cannot_be_learnt_from_is_refused(change: dict[str, float], told: str) -> None:
    tried = _tried(int(change.get("n", 200)))
    if "worse" in change:
        tried = [Tried(text=each.text, small=1.0, big=0.0) for each in tried]
    if "score" in change:
        tried[3] = Tried(text="x", small=change["score"], big=1.0)
    with pytest.raises(RoutingRefused, match=told):
        learn(tried, "s", "b", small_cost=change.get("small_cost", 0.1), big_cost=1.0, keep=change.get("keep", 0.9))


def test_a_file_gives_the_router_back() -> None:
    learnt = learn(_tried(400), "small", "big", small_cost=0.01, big_cost=1.0)
    back = from_file(to_file(learnt))
    assert back.router == learnt.router
    assert back.content == learnt.content
    for wrong in (
        b"",
        b"[]",
        b"{}",
        b'{"router": 1, "report": {}}',
        to_file(learnt).replace(b'"format": 1', b'"format": 9'),
    ):
        with pytest.raises(RoutingRefused):
            from_file(wrong)


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            main(["route", *words])
        shown = capfd.readouterr()
        return int(left.value.code or 0), shown.out, " ".join(shown.err.split())

    def write(name: str, tried: list[Tried]) -> str:
        rows = [{"question": each.text, "s": bool(each.small), "b": bool(each.big)} for each in tried]
        Path(name).write_text("\n".join(map(json.dumps, rows)))
        return name

    costs = ("--small", "s", "--big", "b", "--small-cost", "0.01", "--big-cost", "1")
    code, out, err = run("learn", write("good.jsonl", _tried(3_000)), *costs, "--output", "router.json")
    assert (code, "a coin" in out, Path("router.json").exists()) == (0, True, True), err
    assert json.loads(run("show", "router.json", "--json")[1])["enabled"] is True
    code, out, _ = run("learn", write("bad.jsonl", _tried(600, told=False)), *costs, "--output", "no.json", "--json")
    assert (code, json.loads(out)["enabled"], Path("no.json").exists()) == (3, False, False)
    code, _, err = run("learn", "good.jsonl", "--small", "x", *costs[2:])
    assert (code, "None in x" in err) == (2, True)
    assert run("show", "good.jsonl")[0] == 2
    assert run("show", "nowhere.json")[0] == 2
