"""Routers: they find what can be found, promise no more than a bound, and are refused where a coin does as well."""

from __future__ import annotations

import asyncio
import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression, Ridge

from fairlead.cli import main
from fairlead.errors import RoutingRefused
from fairlead.evaluate import datasets, measures
from fairlead.providers.base import Call
from fairlead.providers.scripted import Script
from fairlead.records import Release, Sample, now_us
from fairlead.select.gains import Words, features, fit, fit_words, learn_gains
from fairlead.select.makes import Make, Source, staleness
from fairlead.select.results import results_of
from fairlead.select.routing import FEWEST, Tried, from_file, judge, learn, threshold_for, to_file
from fairlead.select.selection import Options, Selection
from fairlead.select.tfidf import terms_of
from fairlead.store import Store
from tests.evaluate.runner_harness import Models
from tests.select.select_harness import questions, usecase
from tests.spec.samples import SMALLEST


def test_a_router_learns_which_questions_are_hard() -> None:
    learnt = learn(questions(3_000), "small", "big", small_cost=0.01, big_cost=1.0, keep=0.95)
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
    learnt = learn(questions(1_200, told=False), "small", "big", small_cost=0.01, big_cost=1.0)
    assert any("coin" in reason or "saving" in reason for reason in learnt.report.reasons)


def test_a_small_model_that_is_good_enough_is_the_answer() -> None:
    chance = random.Random(1)
    tried = [Tried(text=f"Question {n}?", small=float(chance.random() < 0.9), big=1.0) for n in range(2_000)]
    learnt = learn(tried, "small", "big", small_cost=0.01, big_cost=1.0, keep=0.8)
    assert "the small model alone keeps the quality: use it" in learnt.report.reasons
    assert not learnt.report.saving.low > 0, "nothing is saved of the cost of the best single model"
    free = learn(tried, "small", "big", small_cost=0.0, big_cost=1.0, keep=0.8)
    assert "inf" not in " ".join(free.report.reasons), "of what is free no share can be saved"


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


def test_the_words_are_weighed_as_scikit_learn_does() -> None:
    asked = questions(300)
    texts = [each.text for each in asked]
    gains = np.array([each.big - each.small for each in asked])
    words = fit_words([terms_of(text) for text in texts], gains, 3.0)
    rows = np.array([_row(text, words) for text in texts])
    theirs = Ridge(alpha=3.0, fit_intercept=False, tol=1e-12).fit(rows, gains - gains.mean())
    assert np.allclose(words.weights, theirs.coef_, atol=1e-4)
    assert np.allclose(words.gains(texts), rows @ theirs.coef_, atol=1e-3)
    assert words.gains(["", "nothing known here"]).tolist() == [0.0, 0.0]


def _row(text: str, words: Words) -> list[float]:
    """TF-IDF by the book."""
    bag = terms_of(text)
    row = [
        (1 + math.log(bag[term])) * idf if bag[term] else 0.0 for term, idf in zip(words.terms, words.idf, strict=True)
    ]
    length = math.sqrt(sum(value * value for value in row))
    return [value / (length or 1.0) for value in row]


def test_what_is_chosen_is_chosen_within_what_is_learnt_from() -> None:
    """Words tell here, the form does not: all questions look alike but for one word."""
    chance = random.Random(3)
    names = [f"{chance.getrandbits(40):x}" for _ in range(40)]
    picked = [chance.randrange(40) for _ in range(1_200)]
    texts = [f"What of {names[number]} today?" for number in picked]
    gains = np.array([1.0 if number % 2 else -1.0 for number in picked])
    model = learn_gains(texts, gains)
    assert model.share > 0
    said = model.gains(texts)
    assert said[gains > 0].min() > said[gains < 0].max()
    assert learn_gains(texts, gains) == model, "the same questions give the same model"
    useless = learn_gains(texts, np.array([float(chance.random() < 0.5) for _ in texts]))
    assert np.isfinite(useless.gains(["What of anything?", ""])).all()


@given(st.lists(st.text(max_size=50), min_size=1, max_size=5))
def test_any_text_has_features(texts: list[str]) -> None:
    found = features(texts)
    assert found.shape[0] == len(texts)
    assert np.isfinite(found).all()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"n": FEWEST - 1}, "at least"),
        ({"same": True}, "too few different questions: 1 among 200"),
        ({"small_cost": 2.0}, "nothing to save"),
        ({"small_cost": 1e-300}, "expected 0 or 1e-12 to 1e"),
        ({"small_cost": math.nan}, "costs nan; expected"),
        ({"keep": 0.0}, "share above 0"),
        ({"worse": True}, "no better than the small one"),
        ({"score": 1.5}, "from 0 to 1"),
        ({"score": math.nan}, "from 0 to 1"),
    ],
)
def test_what_cannot_be_learnt_from_is_refused(change: dict[str, float], told: str) -> None:
    tried = questions(int(change.get("n", 200)))
    if "worse" in change:
        tried = [Tried(text=each.text, small=1.0, big=0.0) for each in tried]
    if "same" in change:
        tried = [Tried(text="x", small=each.small, big=each.big) for each in tried]
    if "score" in change:
        tried[3] = Tried(text="x", small=change["score"], big=1.0)
    with pytest.raises(RoutingRefused, match=told):
        learn(tried, "s", "b", small_cost=change.get("small_cost", 0.1), big_cost=1.0, keep=change.get("keep", 0.9))


def test_a_file_gives_the_router_back() -> None:
    learnt = learn(questions(400), "small", "big", small_cost=0.01, big_cost=1.0)
    back = from_file(to_file(learnt))
    assert back.router == learnt.router
    assert back.content == learnt.content
    for wrong in (
        b"",
        b"[]",
        b"{}",
        b'{"router": 1, "report": {}}',
        to_file(learnt).replace(b'"format": 3', b'"format": 9'),
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
    code, out, err = run("learn", write("good.jsonl", questions(3_000)), *costs, "--output", "router.json")
    assert (code, "a coin" in out, Path("router.json").exists()) == (0, True, True), err
    assert json.loads(run("show", "router.json", "--json")[1])["enabled"] is True
    code, out, _ = run("learn", write("bad.jsonl", questions(600, told=False)), *costs, "--output", "no.json", "--json")
    assert (code, json.loads(out)["enabled"], Path("no.json").exists()) == (3, False, False)
    code, _, err = run("learn", "good.jsonl", "--small", "x", *costs[2:])
    assert (code, "no column 'x' (--small). There are: question, s, b." in err) == (2, True), err
    assert "found no file" in run("learn", "nowhere", *costs)[2]
    Path("odd.jsonl").write_text('{"question": "Where is it?", "s": "often", "b": 1}')
    assert "'often' in s" in run("learn", "odd.jsonl", *costs)[2]
    assert "two different" in run("learn", "good.jsonl", "--small", "s", "--big", "s", *costs[4:])[2]
    for name in ("good.jsonl", "nowhere.json"):
        code, _, err = run("show", name)
        assert (code, "fairlead route learn" in err) == (2, True), err


async def _hard_and_easy(folder: Path, **options: Any) -> tuple[str, Store]:
    """A run of two candidates on questions of which the cheap one gets the hard ones wrong."""
    asked = questions(1_600)
    right = {each.text: each for each in asked}

    def say(name: str) -> Callable[[Call], Script]:
        def answer(call: Call) -> Script:
            text = str(call.body["messages"][-1]["content"])
            return Script(text="yes" if getattr(right[text], name) else "no")

        return answer

    samples = [Sample(id=f"s{n}", input=each.text, reference="yes") for n, each in enumerate(asked)]
    models = Models(small=say("small"), big=say("big"))
    prices = {"small": (10.0, 10.0), "big": (1_000.0, 1_000.0)}
    store = Store.open(folder)
    kept = datasets.add(store, "desk", samples, purpose="eval", licence="CC0-1.0").version
    case = usecase(list(prices), "")
    candidates = [models.candidate(name, price=price) for name, price in prices.items()]
    plan = measures.plan(case, samples, "exact")
    report = await Selection(store, case, kept, samples, candidates, plan, Options(racing=False, **options)).run()
    return report.run, store


def test_a_router_is_learnt_from_a_run_on_the_own_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "fairlead.yaml").write_text(SMALLEST, encoding="utf-8")
    run, store = asyncio.run(_hard_and_easy(tmp_path / ".fairlead"))
    found = results_of(store, [run, run], "small", "big")
    assert (len(found.tried), found.left_out) == (1_600, 0)
    assert {each.text: each for each in found.tried} == {each.text: each for each in questions(1_600)}
    assert found.costs["big"] == pytest.approx(100 * (found.costs["small"] or 0))
    assert found.runs == (run,)
    dearer = results_of(store, [run], "small", "big", {"small": (20.0, 20.0)})
    assert dearer.costs["small"] == pytest.approx(2 * (found.costs["small"] or 0)), "at the price of today"
    assert dearer.costs["big"] == found.costs["big"]
    store.close()
    monkeypatch.chdir(tmp_path)

    def command(*words: str) -> tuple[int, str, str]:
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            main(["route", "learn", "--small", "small", "--big", "big", *words])
        shown = capfd.readouterr()
        return int(left.value.code or 0), shown.out, " ".join(shown.err.split())

    code, out, err = command("--run", run[-8:], "--output", "router.json")
    assert code == 0, err
    for line in ("best single: big", "small alone: small", "a coin (random mix)", "an oracle", "router:./FILE.json"):
        assert line in out
    assert from_file(Path("router.json").read_bytes()).router.big == "big"
    code, out, _ = command("--run", run, "--keep", "0.5", "--json", "--output", "no.json")
    assert (code, json.loads(out)["enabled"], Path("no.json").exists()) == (3, False, False)
    for words, told in (
        (("--run", run, "--big", "nobody"), "measured no 'nobody'; it measured"),
        (("--run", "nowhere"), "nowhere"),
        ((), "--run with a run of fairlead select"),
        (("rows.jsonl", "--run", run), "Give a file of results, or --run"),
        (("rows.jsonl",), "found no file that can be read"),
    ):
        code, _, err = command(*words)
        assert (code, told in err) == (2, True), err


async def test_questions_that_one_has_no_score_for_teach_nothing(tmp_path: Path) -> None:
    asked = questions(60)

    def fails(call: Call) -> Script:
        text = str(call.body["messages"][-1]["content"])
        return Script(status=400, message="no") if text == asked[0].text else Script(text="yes")

    samples = [Sample(id=f"s{n}", input=each.text, reference="yes") for n, each in enumerate(asked)]
    models = Models(small=fails, big=Script(text="yes"))
    with Store.open(tmp_path) as store:
        kept = datasets.add(store, "desk", samples, purpose="eval", licence="CC0-1.0").version
        candidates = [models.candidate("small", price=None), models.candidate("big")]
        plan = measures.plan(usecase(["small", "big"], ""), samples, "exact")
        selection = Selection(
            store, usecase(["small", "big"], ""), kept, samples, candidates, plan, Options(racing=False)
        )
        report = await selection.run()
        found = results_of(store, [report.run], "small", "big")
        assert (len(found.tried), found.left_out) == (59, 1)
        assert found.costs["small"] is None, "an unknown price is unknown, never 0"
        assert found.costs["big"]


async def test_answers_of_two_makes_of_a_model_teach_nothing(tmp_path: Path) -> None:
    """What the old prompt's answers were worth says nothing of the new one; another day's pages do not matter."""
    samples = [Sample(id=f"s{n}", input=f"Is {n} even?", reference="yes") for n in range(5)]
    models = Models(small=Script(text="no"), big=Script(text="yes"))
    with Store.open(tmp_path) as store:
        kept = datasets.add(store, "desk", samples, purpose="eval", licence="CC0-1.0").version
        plan = measures.plan(usecase(["small", "big"], ""), samples, "exact")

        async def measure(name: str, **content: str) -> str:
            content = {"model": "m", "prompt": "one", "knowledge": "old", "tools": "", "routing": ""} | content
            store.releases.put(
                Release(
                    id=name, time=now_us(), tenant="default", subject="", usecase="bank", spec_hash="",
                    release=name, variant="small", content=json.dumps(content), state="proposed",
                )
            )  # fmt: skip
            candidates = [models.candidate("small", release=name), models.candidate("big", release="gone")]
            case, options = usecase(["small", "big"], ""), Options(racing=False)
            return (await Selection(store, case, kept, samples, candidates, plan, options).run()).run

        runs = [await measure("first"), await measure("pages", knowledge="new"), await measure("other", prompt="two")]
        found = results_of(store, runs[:2], "small", "big")
        assert found.makes["small"].parts == {
            "model": "m",
            "prompt": "one",
            "knowledge": "",
            "tools": "",
            "routing": "",
        }
        assert found.makes["big"].parts == {}, "a release that is gone tells nothing"
        with pytest.raises(RoutingRefused, match="small was not the same in these runs, but had another prompt"):
            results_of(store, runs[1:], "small", "big")


PRICES = st.none() | st.tuples(*(st.sampled_from([0.0, 1.0, 3.0, 1_000.0]) for _ in "io"))


@given(st.tuples(*(PRICES for _ in "sbSB")), st.integers(0, 1_000), st.integers(0, 1_000))
def test_a_router_goes_on_at_other_prices_only_where_the_small_one_stays_cheaper(
    prices: tuple[tuple[float, float] | None, ...], read: int, written: int
) -> None:
    """However many tokens an answer has: what the prices of today make of it is less."""

    def cost(price: tuple[float, float] | None) -> float:
        return math.nan if price is None else read * price[0] + written * price[1]

    then, now = (
        {name: Make(parts={"model": name}, price=price) for name, price in zip(("s", "b"), each, strict=True)}
        for each in (prices[:2], prices[2:])
    )
    source = Source(makes=then, costs={"s": cost(prices[0]), "b": cost(prices[1])})
    stale = staleness(source, "s", "b", now)
    if stale is None:
        assert all(then[name].price in (None, now[name].price) for name in then)
    elif not stale.shut and None not in prices:
        assert cost(prices[2]) < cost(prices[3])
    if stale is not None:
        assert not stale.measured
