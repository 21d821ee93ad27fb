"""Selections end to end: the objectives decide, money is kept, failures are told, and nothing is claimed too soon."""

from __future__ import annotations

import asyncio
import random
import re
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest

from fairlead.errors import ScorerInvalid, SelectionImpossible
from fairlead.evaluate import measures
from fairlead.evaluate import runner as runner_module
from fairlead.evaluate.scorers import Answer
from fairlead.providers.base import Call
from fairlead.providers.scripted import Script
from fairlead.records import Sample
from fairlead.select import page
from fairlead.select.baselines import make_baselines
from fairlead.select.report import CHOSEN, NONE_PASSES, NOT_ENOUGH, Report
from fairlead.select.words import percent
from fairlead.store import Store
from tests.evaluate.runner_harness import Models
from tests.select.select_harness import ACCURATE, labelled, right_for, run, usecase

CHEAP, DEAR = (10.0, 40.0), (4_000.0, 16_000.0)


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner_module, "FIRST_PAUSE_S", 0.001)


async def test_the_cheapest_that_holds_every_objective_is_chosen(tmp_path: Path) -> None:
    models = Models(dear=right_for(0.99), cheap=right_for(0.93), bad=right_for(0.5))
    report, _ = await run(tmp_path, models, {"dear": DEAR, "cheap": CHEAP, "bad": CHEAP}, labelled(400))
    assert report.choice.status == CHOSEN
    assert report.choice.candidate == "cheap"
    assert re.search(r"at 1/400 of the cost of dear: use it", report.choice.headline)
    assert any("would lead to dear" in each for each in report.choice.changes)
    bad = report.standing("bad")
    assert bad is not None
    assert bad.left
    assert report.calls < report.all_calls


async def test_verdicts_and_the_report_are_kept_for_everyone_who_asks(tmp_path: Path) -> None:
    models = Models(a=right_for(0.95))
    report, selection = await run(tmp_path, models, {"a": CHEAP}, labelled(200))
    with Store.open(tmp_path) as store:
        kept = store.runs.get(report.run)
        verdicts = store.verdicts.list(since=0, until=2**60, step="select")
        assert len(list(store.runs.results(report.run))) == report.calls
    assert kept.state == "done"
    assert msgspec.convert(kept.report, Report) == report
    assert [(each.objective, each.outcome, each.release) for each in verdicts] == [("accurate", "pass", "release of a")]
    assert kept.cost == selection.runner.purse.spent > 0


async def test_a_second_selection_is_free_and_says_the_same(tmp_path: Path) -> None:
    models = Models(a=right_for(0.95), b=right_for(0.6))
    first, _ = await run(tmp_path, models, {"a": CHEAP, "b": DEAR}, labelled(200))
    calls = models.calls("a") + models.calls("b")
    second, _ = await run(tmp_path, models, {"a": CHEAP, "b": DEAR}, labelled(200))
    assert models.calls("a") + models.calls("b") == calls
    assert second.paid_calls == 0
    assert second.spent_usd == 0
    assert [each.quality for each in second.standings] == [each.quality for each in first.standings]
    assert second.choice == first.choice


async def test_none_passes_and_too_little_data_are_told_apart(tmp_path: Path) -> None:
    models = Models(a=right_for(0.3))
    report, _ = await run(tmp_path / "1", models, {"a": CHEAP}, labelled(300))
    assert report.choice.status == NONE_PASSES
    assert "misses accurate" in report.choice.headline
    assert report.choice.candidate == ""
    models = Models(a=right_for(0.82))
    report, _ = await run(tmp_path / "2", models, {"a": CHEAP}, labelled(60))
    assert report.choice.status == NOT_ENOUGH
    assert any("samples more" in each for each in report.choice.reasons)


async def test_without_objectives_the_best_is_chosen_or_a_cheaper_one_as_good(tmp_path: Path) -> None:
    models = Models(dear=right_for(0.98), cheap=right_for(0.97), bad=right_for(0.4))
    report, _ = await run(tmp_path, models, {"dear": DEAR, "cheap": CHEAP, "bad": CHEAP}, labelled(600), objectives="")
    assert report.choice.candidate == "cheap", report.choice
    assert report.choice.status == CHOSEN


async def test_equal_scores_everywhere_break_nothing(tmp_path: Path) -> None:
    for share in (1.0, 0.0):
        models = Models(a=right_for(share), b=right_for(share))
        report, _ = await run(tmp_path / str(share), models, {"a": DEAR, "b": CHEAP}, labelled(100))
        assert {each.quality.value for each in report.standings} == {share}
        assert report.choice.status == (CHOSEN if share else NONE_PASSES)
        assert page.html(report)


@pytest.mark.parametrize("count", [1, 2, 5])
async def test_a_handful_of_samples_is_never_enough(tmp_path: Path, count: int) -> None:
    models = Models(a=right_for(1.0), b=right_for(0.0))
    report, _ = await run(tmp_path, models, {"a": CHEAP, "b": CHEAP}, labelled(count), scorer="right_label")
    assert report.choice.status == NOT_ENOUGH
    assert report.samples == count
    assert page.html(report)
    assert page.markdown(report)


@pytest.mark.parametrize("racing", [True, False])
async def test_macro_f1_stands_beside_the_share_of_right_labels(tmp_path: Path, racing: bool) -> None:
    models = Models(a=lambda call: Script(text="card"))
    report, _ = await run(tmp_path, models, {"a": CHEAP}, labelled(200), racing=racing)
    found = report.standings[0].macro_f1
    assert found is not None
    assert found.value == pytest.approx(2 / 3 / 2), "of one label 2/3 of the F1, of the other none"
    assert (found.low is None) == racing, "an interval for one look is none for a race"
    for written in (page.html(report), page.markdown(report)):
        assert "a 33.3 %" in written


def test_an_empty_data_set_is_refused() -> None:
    with pytest.raises(SelectionImpossible, match="no sample"):
        measures.plan(usecase(["a"]), [])


def test_labels_are_no_number_to_rank_by() -> None:
    with pytest.raises(ScorerInvalid, match="ranked by a bool or a number"):
        measures.plan(usecase(["a"]), labelled(5), "label")


async def test_samples_without_reference_have_no_quality_and_no_choice(tmp_path: Path) -> None:
    samples = [Sample(id=str(n), input=f"message {n}") for n in range(40)]
    models = Models(a=right_for(1.0))
    report, _ = await run(tmp_path, models, {"a": CHEAP}, samples)
    assert report.choice.status == NOT_ENOUGH
    assert report.standings[0].n == 0
    assert page.html(report)


async def test_a_provider_that_fails_for_three_of_ten_calls_is_not_chosen(tmp_path: Path) -> None:
    chance = random.Random(5)
    good = right_for(1.0)

    def flaky(call: Call) -> Script:
        return Script(status=400, message="no") if chance.random() < 0.3 else good(call)

    models = Models(flaky=flaky, steady=right_for(0.97))
    report, _ = await run(tmp_path, models, {"flaky": CHEAP, "steady": DEAR}, labelled(300))
    standing = report.standing("flaky")
    assert standing is not None
    assert standing.quality.value == 1.0  # of what was answered: failures are no wrong answers
    assert standing.failed >= 5
    assert standing.n == standing.answered
    assert report.choice.candidate == "steady"
    assert any("calls of flaky failed" in each for each in report.choice.reasons)


async def test_a_budget_of_zero_leaves_what_is_free(tmp_path: Path) -> None:
    models = Models(dear=right_for(1.0), own=right_for(0.95), unknown=right_for(1.0))
    prices = {"dear": DEAR, "own": (0.0, 0.0), "unknown": None}
    report, _ = await run(tmp_path, models, prices, labelled(200), budget_usd=0.0)
    assert models.calls("dear") == models.calls("unknown") == 0
    assert report.choice.candidate == "own"
    assert report.spent_usd == 0
    left = {each.id: each.left for each in report.standings}
    assert left["dear"] == "the budget did not suffice"
    assert "price" in left["unknown"]


async def test_a_dear_candidate_that_is_no_better_is_let_go(tmp_path: Path) -> None:
    models = Models(dear=right_for(0.6, "x"), cheap=right_for(0.97))
    report, _ = await run(tmp_path, models, {"dear": DEAR, "cheap": CHEAP}, labelled(500), live="cheap")
    dear = report.standing("dear")
    assert dear is not None
    assert "costs more than cheap" in dear.left
    assert models.calls("dear") < 500


async def test_a_slice_says_of_how_many_samples_each_candidate_was_asked(tmp_path: Path) -> None:
    models = Models(dear=right_for(0.6, "x"), cheap=right_for(0.97))
    report, _ = await run(tmp_path, models, {"dear": DEAR, "cheap": CHEAP}, labelled(500), live="cheap")
    dear = report.standing("dear")
    assert dear is not None
    parts = [each for each in report.slices if each.tag == "part"]
    assert sum(each.counts["dear"] for each in parts) == dear.n
    assert all(each.counts["cheap"] == each.n > each.counts["dear"] for each in parts)
    cell = f"{percent(parts[0].quality['dear'])} of {parts[0].counts['dear']}"
    assert f"| {cell} |" in page.markdown(report)
    assert f"<td>{cell}</td>" in page.html(report)
    for text in (page.markdown(report), page.html(report)):
        assert "no other candidate was both better and cheaper." in text


async def test_what_is_open_says_what_was_measured_in_which_unit(tmp_path: Path) -> None:
    objectives = (
        'objectives: [{id: accurate, metric: accuracy, bound: ">= 0.85"}, '
        '{id: quick, metric: total_latency, aggregation: p95, bound: "<= 9 s", kind: guardrail}]'
    )
    report, _ = await run(tmp_path, Models(a=right_for(0.9)), {"a": CHEAP}, labelled(40), objectives=objectives)
    said = " ".join(report.choice.reasons)
    assert re.search(r"accurate \(mean >= 0\.85?.*?\) is open: measured 0\.\d+ of 1", said), said
    assert re.search(r"quick \(p95 <= 9 s\) (holds|is open): measured [\d.e-]+ s[.;]", said), said


async def test_a_candidate_worse_than_what_is_live_by_more_than_its_margin_fails(tmp_path: Path) -> None:
    objectives = 'objectives: [{id: accurate, metric: accuracy, bound: ">= 0.50", kind: guardrail, margin: 0.05}]'
    models = Models(live=right_for(0.98), new=right_for(0.75))
    prices = {"live": DEAR, "new": CHEAP}
    report, _ = await run(tmp_path, models, prices, labelled(500), objectives=objectives, racing=False)
    new = report.standing("new")
    assert new is not None
    assert new.verdicts[0].outcome == "fail"
    assert "worse than what is live" in new.verdicts[0].note
    assert report.choice.candidate == "live"


async def test_an_unknown_price_is_unknown_and_never_zero(tmp_path: Path) -> None:
    models = Models(a=right_for(0.97))
    report, _ = await run(tmp_path, models, {"a": None}, labelled(200))
    assert report.standings[0].cost_per_1000.value is None
    assert report.standings[0].cost_per_resolution is None
    assert report.spent_usd is None
    assert "unknown" in page.html(report)
    assert any("price of a is unknown" in each for each in report.choice.changes)


async def test_epochs_ask_again_and_belong_to_their_sample(tmp_path: Path) -> None:
    answers = iter(range(10_000))

    def fickle(call: Call) -> Script:
        return Script(text=("card", "loan")[next(answers) % 2])

    models = Models(a=fickle)
    report, selection = await run(tmp_path, models, {"a": CHEAP}, labelled(50), epochs=2, racing=False)
    assert report.calls == 100
    evidence = measures.evidence_for(selection.usecase, selection.plan, selection.runner.items["a"], selection.samples)
    assert len(evidence["accurate"]) == 100
    assert evidence["accurate"].clusters is not None
    assert report.standings[0].n == 50


async def test_stopping_at_any_moment_keeps_what_was_answered(tmp_path: Path) -> None:
    models = Models(a=Script(text="card", delay_s=0.01))
    task = asyncio.create_task(run(tmp_path, models, {"a": CHEAP}, labelled(500)))
    while models.calls("a") < 40:  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    with Store.open(tmp_path) as store:
        [stopped] = store.runs.list(since=0, until=2**60)
        kept = sum(store.runs.count(stopped.id).values())
    assert stopped.state == "stopped"
    assert stopped.ended >= stopped.time
    assert kept >= 30


async def test_a_scorer_that_breaks_its_promise_ends_the_run_and_says_so(tmp_path: Path) -> None:
    models = Models(a=right_for(1.0))
    case_samples = labelled(30)
    plan = measures.plan(usecase(["a"]), case_samples)

    def broken(sample: Sample, answer: Answer) -> bool:
        return float("nan")  # type: ignore[return-value]

    from fairlead.evaluate.scorers import scorer_of
    from fairlead.select.selection import Options, Selection
    from tests.select.select_harness import version

    plan = msgspec.structs.replace(plan, scorers={**plan.scorers, "right_label": scorer_of(broken, "right_label")})
    with Store.open(tmp_path) as store:
        selection = Selection(
            store, usecase(["a"]), version(case_samples), case_samples, [models.candidate("a")], plan, Options()
        )
        with pytest.raises(ScorerInvalid, match="promises a bool"):
            await selection.run()
        assert store.runs.get(selection.run_record.id).state == "failed"


async def test_the_page_is_one_file_and_shows_no_markup_of_others(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script><img src=//x onerror=y> [a](http://x) | `b`"
    models = Models(a=Script(text=evil), b=right_for(0.9))
    samples = [msgspec.structs.replace(each, input=f"{each.input}") for each in labelled(100)]
    report, _ = await run(tmp_path, models, {"a": CHEAP, "b": DEAR}, samples, racing=False)
    text = page.html(report)

    class Tags(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.found: set[str] = set()
            self.links: list[str] = []

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.found.add(tag)
            self.links += [value or "" for name, value in attrs if name in ("src", "href")]

    parser = Tags()
    parser.feed(text)
    assert not {"script", "img", "link", "iframe"} & parser.found
    assert parser.links == []
    assert "svg" in parser.found
    assert "alert(1)" in text
    assert "<script" not in page.markdown(report)
    assert "[a](" not in page.markdown(report)


async def test_baselines_answer_what_they_have_not_seen(tmp_path: Path) -> None:
    topics = {
        "card": "plastic card eaten swallowed machine stripe chip wallet",
        "loan": "monthly credit rate interest mortgage repay borrow debt",
        "app": "login screen hangs password phone update crash button",
    }
    chance = random.Random(1)
    samples = [
        Sample(id=f"{label}{n}", input=f"{' '.join(chance.sample(words.split(), 4))} {n}", reference=label)
        for label, words in topics.items()
        for n in range(20)
    ]
    found = make_baselines(samples, [], None)
    assert [each.id for each in found] == ["baseline:tf-idf", "baseline:embed", "baseline:nearest"]
    assert all("four fifths" in each.note or "4 fifths" in each.note for each in found)
    models = Models(a=right_for(0.0))
    report, _ = await run(tmp_path, models, {"a": DEAR}, samples, more=found, racing=False)
    quality = {each.id: each.quality.value for each in report.standings}
    assert all((quality[each.id] or 0) > 0.9 for each in found)
    assert report.choice.headline.startswith("No language model is needed")
    assert all((each.memory or 0) > 0 for each in report.standings if each.baseline)


@pytest.mark.parametrize("shared", ["subject", "conversation", "text", ""])
async def test_what_belongs_together_is_never_learnt_and_answered(shared: str) -> None:
    """Every label is a coin's, so it can only be known by who has seen the sample's twin."""
    chance = random.Random(2)
    samples = []
    for number in range(60):
        label = chance.choice(["heads", "tails"])
        words = [f"{chance.choice('bdfgklmnprstvz')}{chance.getrandbits(40):x}" for _ in range(12)]
        for twin in range(2):
            # Half of the words are other ones: no near text, but near enough for whoever has learnt the other half.
            said = words if shared == "text" else [*words[:6], *(f"{word}{twin}" for word in words[6:])]
            subject, conversation = (f"u{number}" if shared == each else "" for each in ("subject", "conversation"))
            text = " ".join(said) + "!" * twin
            samples.append(
                Sample(id=f"{number}-{twin}", input=text, reference=label, subject=subject, conversation=conversation)
            )
    nearest = next(each for each in make_baselines(samples, [], None) if each.id == "baseline:nearest")
    right = sum([(await nearest.ask(each, 0)).text == each.reference for each in samples]) / len(samples)
    if shared:
        assert 0.25 < right < 0.75, "a coin is guessed half of the time"
    else:
        assert right > 0.85, "what nothing marks as the same is learnt"


def test_baselines_need_something_to_learn_from() -> None:
    assert make_baselines(labelled(3), [], None) == []
    assert make_baselines([Sample(id=str(n), input="q", reference="same") for n in range(50)], [], None) == []


def test_what_objectives_measure_comes_from_their_metric() -> None:
    objectives = (
        'objectives: [{id: scope, metric: out_of_scope_recall, bound: ">= 0.8"}, '
        '{id: wait, metric: first_token_latency, aggregation: p95, bound: "<= 1 s"}, '
        '{id: res, metric: resolution, bound: ">= 0.6"}, {id: right, metric: accuracy, bound: ">= 0.8"}]'
    )
    plan = measures.plan(usecase(["a"], objectives), labelled(10))
    assert plan.of == {"scope": "declined", "wait": "first_token", "right": "right_label"}
    assert plan.unmeasured == ("res",)
    assert ACCURATE


@pytest.mark.parametrize(
    ("references", "scorer"),
    [
        (["a", "b"] * 10, "right_label"),
        ([["x"], ["y"]] * 10, "right"),
        (["An answer that is long enough to be a whole one. " * 6] * 10, "similarity"),
        ([None] * 10, "right"),
    ],
)
def test_the_quality_fits_the_references(references: list[object], scorer: str) -> None:
    samples = [Sample(id=str(n), input="q", reference=each) for n, each in enumerate(references)]
    assert measures.guess_quality(samples) == scorer
