"""Judges in a selection: their money is the run's, every report has their badge, and only who is calibrated decides."""

from __future__ import annotations

import html
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fairlead.cli.select import show
from fairlead.errors import ScorerInvalid, SelectionImpossible
from fairlead.evaluate import measures
from fairlead.evaluate import runner as runner_module
from fairlead.evaluate.candidates import context, principal
from fairlead.evaluate.dialogue import calls_of, conversing, costs_of_playing, played
from fairlead.evaluate.judges import (
    Case,
    Definition,
    Instrument,
    Judgement,
    Labelled,
    calibrate,
    prompted,
    scorer_of,
    standing_of,
)
from fairlead.evaluate.judges import Standing as JudgeStanding
from fairlead.evaluate.judges.calibration import record_of
from fairlead.evaluate.judges.prompted import Messages, Said
from fairlead.evaluate.purse import NANOS, Price, cost_of
from fairlead.providers.base import Call
from fairlead.providers.scripted import Script
from fairlead.records import Sample
from fairlead.select import page
from fairlead.select.forecast import forecast
from fairlead.select.report import Report
from fairlead.select.selection import Options, Selection
from fairlead.spec import UseCase, parse
from fairlead.spec.model import JudgeBar
from fairlead.store import Store
from tests.evaluate.runner_harness import Models
from tests.select.select_harness import FILE, labelled, right_for, version

PRICE: Price = (400.0, 1_600.0)
POLITE = Definition(id="polite", kind="rubric", rubric="Is the answer polite?", model="m")
OBJECTIVES = """
  politeness: {definition: Polite answers., level: inference, type: bool, direction: max, source: "judge:polite"}
objectives: [{id: polite, metric: politeness, bound: ">= 0.50", kind: guardrail}]
judges: [{id: polite, variant: a, rubric: "Is the answer polite?"}]
"""
SAYS_YES = Script(text="It is kind.\nVERDICT: YES")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner_module, "FIRST_PAUSE_S", 0.001)


def _usecase() -> UseCase:
    text = FILE.replace("OBJECTIVES", OBJECTIVES.strip("\n")).replace("LIVE", "a")
    return parse(text.replace("VARIANTS", '  - {id: a, model: "http://127.0.0.1:9/v1#a"}'))


def _judge(models: Models, price: Price | None = PRICE) -> Instrument:
    async def ask(messages: Messages, repetition: int) -> Said:
        sample = Sample(id="s", input="")
        body = {"model": "judge", "messages": messages}
        reply = await models.gateway.complete(body, principal=principal(sample), context=context(sample))
        tokens = reply["usage"]["prompt_tokens"], reply["usage"]["completion_tokens"]
        return Said(
            text=reply["choices"][0]["message"]["content"], input_tokens=tokens[0], output_tokens=tokens[1],
            cost_nanos=cost_of(price, tokens),
        )  # fmt: skip

    return prompted(POLITE, ask, price=price, longest=20)


async def _run(
    store: Store,
    models: Models,
    *,
    price: Price | None = PRICE,
    own: Price = (10.0, 40.0),
    standings: list[JudgeStanding] | None = None,
    count: int = 100,
    **options: Any,
) -> tuple[Report, Selection]:
    samples, usecase = labelled(count), _usecase()
    plan = measures.plan(usecase, samples, "right_label", [scorer_of(_judge(models, price))])
    candidates = [models.candidate("a", price=own, sampling={"max_tokens": 20})]
    selection = Selection(
        store, usecase, version(samples), samples, candidates, plan, Options(racing=False, concurrency=4, **options),
        judges=standings or [],
    )  # fmt: skip
    return await selection.run(), selection


def _both(said: Script | Callable[[Call], Script] = SAYS_YES) -> Models:
    return Models(a=right_for(1.0), judge=said)


async def test_what_judges_cost_is_spent_and_shown(tmp_path: Path) -> None:
    models = _both()
    with Store.open(tmp_path) as store:
        report, selection = await _run(store, models)
        assert models.calls("judge") == 100
        [judged] = report.judges
        assert (judged.looks, judged.known, judged.invalid, judged.unpaid) == (100, 0, 0, 0)
        answers = selection.runner.tallies["a"].cost or 0
        assert judged.cost_usd is not None
        assert judged.cost_usd * NANOS > 10 * answers
        assert (report.spent_usd or 0) * NANOS == pytest.approx(answers + judged.cost_usd * NANOS)
        assert store.runs.get(report.run).cost == selection.runner.purse.spent
        again, _ = await _run(store, models)
        assert models.calls("judge") == 100, "what was judged is judged for good"
        assert (again.judges[0].looks, again.judges[0].known, again.spent_usd) == (0, 100, 0)


async def test_judging_stops_before_the_money_is_spent(tmp_path: Path) -> None:
    for number, usd in enumerate((0.0001, 0.0005, 0.001)):
        models = _both()
        with Store.open(tmp_path / str(number)) as store:
            report, selection = await _run(store, models, budget_usd=usd)
            assert selection.runner.purse.spent <= usd * NANOS
            assert models.calls("a") == models.calls("judge") < 100, "no answer is paid for that nobody can judge"
            assert report.standings[0].unasked == 100 - models.calls("a")
            assert selection.runner.purse.reserved == 0


async def test_a_judge_that_always_needs_a_second_look_stays_within_too(tmp_path: Path) -> None:
    models = _both(lambda call: Script(text="Well.") if len(call.body["messages"]) == 2 else SAYS_YES)
    with Store.open(tmp_path) as store:
        report, selection = await _run(store, models, budget_usd=0.003)
        assert selection.runner.purse.spent <= 0.003 * NANOS
        assert models.calls("judge") == 2 * report.judges[0].looks > 0


async def test_what_is_free_is_asked_without_its_judge_when_there_is_no_money(tmp_path: Path) -> None:
    models = _both()
    with Store.open(tmp_path) as store:
        report, _ = await _run(store, models, own=(0.0, 0.0), budget_usd=0)
        assert (models.calls("a"), models.calls("judge")) == (100, 0)
        assert report.standings[0].quality.value == 1.0
        assert report.judges[0].unpaid == 100
        assert "100 not judged, as the budget did not suffice" in page.markdown(report)
        report, _ = await _run(store, models, own=(0.0, 0.0), budget_usd=5)
        assert (models.calls("a"), models.calls("judge")) == (100, 100), "with money they are judged, and asked once"


async def test_invalid_judgements_are_paid_for_and_counted(tmp_path: Path) -> None:
    models = _both(Script(text="No idea."))
    with Store.open(tmp_path) as store:
        report, _ = await _run(store, models)
        [judged] = report.judges
        assert (judged.looks, judged.invalid) == (100, 100)
        assert judged.cost_usd
        assert report.standings[0].verdicts[0].excluded == 100


async def test_a_judge_of_unknown_price_and_a_budget_do_not_go_together(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        with pytest.raises(SelectionImpossible, match="the price of judge:polite is unknown"):
            await _run(store, _both(), price=None, budget_usd=1)
        report, _ = await _run(store, _both(), price=None)
        assert report.judges[0].cost_usd is None
        assert report.spent_usd is None, "unknown is never 0"


async def test_who_plays_the_user_is_paid_from_the_same_purse(tmp_path: Path) -> None:
    models = Models(a=Script(text="card"), user=Script(text="And then?"))
    samples = [Sample(id=f"s{n}", input=f"message {n}", reference="card", fields={"goal": "know"}) for n in range(40)]
    plain = models.candidate("a", price=(10.0, 40.0), sampling={"max_tokens": 20})

    def conversing_one(ask: Any) -> Any:
        return msgspec.structs.replace(
            plain, ask=conversing(ask, played(models.gateway, "user", PRICE)), calls=calls_of,
            beside=costs_of_playing(PRICE, 20),
        )  # fmt: skip

    usecase = _usecase()
    plan = measures.plan(usecase, samples, "contains", [scorer_of(_judge(_both()))])
    with Store.open(tmp_path) as store:
        for usd in (0.0, 0.003, None):
            selection = Selection(
                store, usecase, version(samples), samples, [conversing_one(plain.ask)], plan,
                Options(racing=False, budget_usd=usd),
            )  # fmt: skip
            report = await selection.run()
            if usd is not None:
                assert selection.runner.purse.spent <= usd * NANOS
                assert models.calls("user") < 7 * 40
        assert models.calls("user") == 7 * 40, "eight messages of the user, the first of which stands in the sample"
        assert (report.users_usd or 0) > 0
        assert "played users" in page.html(report)
        answers = (selection.runner.tallies["a"].cost or 0) / NANOS
        everything = answers + (report.users_usd or 0) + (report.judges[0].cost_usd or 0)
        assert report.spent_usd == pytest.approx(everything), "what earlier runs had paid for is not paid again"


def test_a_forecast_names_judges_and_users() -> None:
    models, samples = _both(), labelled(10)
    candidate = models.candidate("a", price=(10.0, 40.0))
    lines = forecast([candidate], [scorer_of(_judge(models))], samples)
    assert [(each.id, each.calls) for each in lines] == [("a", 10), ("judge:polite", 20)]
    assert (lines[1].nanos or 0) > (lines[0].nanos or 0) > 0


async def _standing(store: Store, right: int) -> JudgeStanding:
    """As the store knows the judge after it was calibrated on 240 labels of which it gets so many in a hundred."""
    cases = [
        Labelled(case=Case(question=str(n), answers=("a",)), people=("yes" if n % 2 else "no",)) for n in range(240)
    ]

    async def look(case: Case, repetition: int) -> Judgement:
        truth = int(case.question) % 2 == 1
        return Judgement(verdict="yes" if truth == (int(case.question) // 2 % 100 < right) else "no")

    judge = Instrument(definition=POLITE, look=look)
    store.calibrations.add(record_of(judge, await calibrate(judge, cases), cases, "labels.jsonl"))
    return standing_of("polite", POLITE.hash, JudgeBar(), store.calibrations.list(judge="polite"))


@pytest.mark.parametrize(
    ("right", "state", "told", "outcome"),
    [
        (None, "uncalibrated", "uncalibrated – may not decide: it was never calibrated", "not_enough_data"),
        (60, "failed", "failed: kappa 0.", "not_enough_data"),
        (100, "calibrated", "calibrated: kappa 1.00", "pass"),
    ],
)
async def test_every_report_carries_the_badge(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], right: int | None, state: str, told: str, outcome: str
) -> None:
    with Store.open(tmp_path) as store:
        standing = (
            standing_of("polite", POLITE.hash, JudgeBar(), []) if right is None else await _standing(store, right)
        )
        report, _ = await _run(store, _both(), standings=[standing])
        assert report.judges[0].state == state
        assert report.standings[0].verdicts[0].outcome == outcome
        capsys.readouterr()
        show(report)
        written = html.unescape(re.sub(r"<[^>]+>", "", page.html(report)))
        for text in (capsys.readouterr().out, written, page.markdown(report)):
            flat = " ".join(text.replace("\\", "").split())
            assert told in flat
            assert ("may not decide" in flat) == (state != "calibrated")
            assert "100 answers judged for" in flat


async def test_a_judge_that_is_not_calibrated_ranks_nobody_and_says_so(tmp_path: Path) -> None:
    """Of a goal and of no verdict at all, it is said that the judge decides nothing, not that nobody answered."""
    samples = labelled(40)
    goal = OBJECTIVES.replace("guardrail", "goal")
    text = FILE.replace("OBJECTIVES", goal.strip("\n")).replace("LIVE", "a")
    case = parse(text.replace("VARIANTS", '  - {id: a, model: "http://127.0.0.1:9/v1#a"}'))
    models = _both(Script(text="Well."))
    judge = scorer_of(_judge(models))
    assert measures.plan(case, samples, given=[judge], calibrated={judge.judge}).quality == "judge:polite"
    plan = measures.plan(case, samples, given=[judge])
    assert plan.quality == "right_label"
    with pytest.raises(ScorerInvalid, match="fairlead judge calibrate polite"):
        measures.plan(case, samples, "judge:polite", [judge])
    with Store.open(tmp_path) as store:
        candidates = [models.candidate("a", sampling={"max_tokens": 20})]
        options = Options(racing=False)
        report = await Selection(store, case, version(samples), samples, candidates, plan, options).run()
        [ruled] = report.standings[0].verdicts
        assert (ruled.outcome, ruled.n, ruled.needed) == ("not_enough_data", 0, None)
        assert any("fairlead judge calibrate" in each for each in report.choice.reasons)
        assert "more would" not in " ".join((*report.choice.reasons, *report.choice.changes))
        plan = measures.plan(case, samples, given=[judge], calibrated={judge.judge})
        report = await Selection(store, case, version(samples), samples, candidates, plan, options).run()
        assert "judge:polite gave no answer a value" in report.choice.headline
