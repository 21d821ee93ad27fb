"""The runner: nothing is paid for twice, nothing answered is lost, no failure is scored, no budget is passed."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.errors import RecordUnknown, RunAmbiguous, UpstreamBroken
from fairlead.evaluate import runner as runner_module
from fairlead.evaluate.candidates import Candidate
from fairlead.evaluate.purse import Costs, Expectation, Purse, cost_of
from fairlead.evaluate.runner import HOPELESS, Runner
from fairlead.evaluate.scorers import Answer, make_scorer, scorer_of
from fairlead.evaluate.throttle import Throttle
from fairlead.providers.base import Call
from fairlead.providers.scripted import Script
from fairlead.records import Answered, Result, Sample
from fairlead.store import Store
from tests.evaluate.runner_harness import Models, make_run, make_samples, running
from tests.gateway.gateway_harness import await_true

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner_module, "FIRST_PAUSE_S", 0.001)


async def test_answers_are_scored_and_can_be_read_back(tmp_path: Path) -> None:
    models = Models(good=Script(text="Yes"), bad=Script(text="no"))
    with running(tmp_path, [make_scorer("exact"), make_scorer("cost"), make_scorer("first_token")]) as (runner, store):
        await runner.measure([models.candidate("good"), models.candidate("bad")], make_samples(5))
        kept = list(store.runs.results(runner.run.id))
        assert store.runs.count(runner.run.id) == {"good": 5, "bad": 5}
    assert {(each.result.variant, each.result.scores["exact"]["value"]) for each in kept} == {
        ("good", True), ("bad", False),
    }  # fmt: skip
    first = next(each for each in kept if each.result.variant == "good")
    assert first.answered.answer["text"] == "Yes"
    assert first.answered.answer["total_s"] >= first.answered.answer["first_token_s"] > 0
    assert first.result.release == first.answered.release != ""
    assert runner.tallies["good"].cost == sum(
        round(each.answered.answer["input_tokens"] * 400 + each.answered.answer["output_tokens"] * 1600)
        for each in kept
        if each.result.variant == "good"
    )


async def test_a_repeat_costs_nothing_and_fresh_pays_again(tmp_path: Path) -> None:
    models = Models(a=Script(text="yes"))
    for fresh, calls in ((False, 4), (False, 4), (True, 8), (False, 8)):
        with running(tmp_path, fresh=fresh) as (runner, _):
            await runner.measure([models.candidate("a")], make_samples(4))
        assert models.calls("a") == calls
        assert [item.scores["exact"].value for item in runner.items["a"].values()] == [True] * 4
        assert runner.purse.spent == (0 if calls == 4 and runner.tallies["a"].cached else runner.purse.spent)
    assert runner.tallies["a"].cached == 4


@pytest.mark.parametrize(
    "change",
    [
        {"release": "another"},
        {"sample": {"input": "another question"}},
        {"sample": {"fields": {"then": ["and then?"]}}},
        {"sample": {"tenant": "other"}},
        {"epochs": 2},
    ],
)
async def test_what_decides_an_answer_is_asked_anew(tmp_path: Path, change: dict[str, object]) -> None:
    models = Models(a=Script(text="yes"))
    sample = {"id": "1", "input": "?", "reference": "yes"}
    with running(tmp_path) as (runner, _):
        await runner.measure([models.candidate("a", release="r")], [Sample(**sample)])  # type: ignore[arg-type]
    with running(tmp_path) as (runner, _):
        changed = Sample(**{**sample, **change.get("sample", {})})  # type: ignore[arg-type, dict-item]
        candidate = models.candidate("a", release=str(change.get("release", "r")))
        await runner.measure([candidate], [changed], epochs=int(str(change.get("epochs", 1))))
    assert models.calls("a") == 2


async def test_a_new_reference_is_scored_without_asking(tmp_path: Path) -> None:
    models = Models(a=Script(text="yes"))
    with running(tmp_path) as (runner, _):
        await runner.measure([models.candidate("a")], make_samples(3))
    with running(tmp_path, [make_scorer("contains")]) as (runner, _):
        await runner.measure([models.candidate("a")], make_samples(3, reference="maybe"))
    assert models.calls("a") == 3
    assert [item.scores["contains"].value for item in runner.items["a"].values()] == [False] * 3


async def test_scores_of_the_same_scorer_are_not_judged_twice(tmp_path: Path) -> None:
    judged = itertools.count(1)

    async def judge(sample: Sample, answer: Answer) -> bool:
        next(judged)
        await asyncio.sleep(0)
        return True

    models = Models(a=Script(text="yes"))
    for _ in range(2):
        with running(tmp_path, [scorer_of(judge)]) as (runner, _store):
            await runner.measure([models.candidate("a")], make_samples(3))
            assert [item.scores["judge"].value for item in runner.items["a"].values()] == [True] * 3
    assert next(judged) == 4


async def test_a_judge_that_fails_excludes_the_sample(tmp_path: Path) -> None:
    async def judge(sample: Sample, answer: Answer) -> bool:
        raise UpstreamBroken(name="judge", detail="gone")

    models = Models(a=Script(text="yes"))
    with running(tmp_path, [scorer_of(judge)]) as (runner, _):
        await runner.measure([models.candidate("a")], make_samples(2))
    assert all(item.scores["judge"].excluded for item in runner.items["a"].values())
    assert runner.tallies["a"].failed == 0


async def test_a_provider_that_fails_for_three_of_ten_calls_biases_nothing(tmp_path: Path) -> None:
    chance = random.Random(3)

    def flaky(call: Call) -> Script:
        return Script(status=503, message="overloaded") if chance.random() < 0.3 else Script(text="yes")

    models = Models(a=flaky)
    with running(tmp_path, retries=0) as (runner, store):
        await runner.measure([models.candidate("a")], make_samples(100))
        scores = [item.scores["exact"] for item in runner.items["a"].values()]
        failed = [each for each in scores if each.excluded]
        assert len(failed) == runner.tallies["a"].failed > 15
        assert all(each.value is None and "503" in each.note for each in failed)
        assert all(each.value is True for each in scores if not each.excluded)
    with running(tmp_path) as (again, store):
        await again.measure([models.candidate("a")], make_samples(100))
        assert again.tallies["a"].cached == 100 - len(failed)
        assert again.tallies["a"].answered + again.tallies["a"].failed == 100
        assert again.tallies["a"].failed < 10
        assert again.tallies["a"].retries > 0
        assert len(list(store.runs.results(again.run.id))) == 100


async def test_a_hopeless_candidate_is_not_asked_on(tmp_path: Path) -> None:
    models = Models(a=Script(status=401, message="wrong key"), b=Script(text="yes"))
    with running(tmp_path, concurrency=1) as (runner, _):
        await runner.measure([models.candidate("a"), models.candidate("b")], make_samples(50))
    assert models.calls("a") == HOPELESS  # a refused key is refused again, so not even tried twice
    assert "401" in runner.tallies["a"].gave_up
    assert runner.tallies["a"].unasked == 40
    assert runner.tallies["b"].answered == 50


@pytest.mark.parametrize("limit", [0, 1, 2_000_000, 10_000_000])
async def test_a_budget_is_never_passed(tmp_path: Path, limit: int) -> None:
    models = Models(a=Script(text="yes " * 200), free=Script(text="yes"))
    purse = Purse(limit)
    dear = models.candidate("a", sampling={"max_tokens": 200})
    with running(tmp_path, purse=purse) as (runner, _):
        await runner.measure([dear, models.candidate("free", price=(0.0, 0.0))], make_samples(60))
    assert purse.spent <= limit
    assert purse.reserved == 0
    assert runner.tallies["free"].answered == 60
    assert runner.tallies["a"].answered + runner.tallies["a"].unasked == 60
    assert runner.tallies["a"].unpaid
    if limit > 2_000_000:
        assert purse.spent > limit * 0.8


async def test_what_has_no_price_is_not_asked_within_a_budget(tmp_path: Path) -> None:
    models = Models(a=Script(text="yes"))
    with running(tmp_path, purse=Purse(10**12)) as (runner, _):
        await runner.measure([models.candidate("a", price=None)], make_samples(3))
    assert models.calls("a") == 0
    assert runner.tallies["a"].unasked == 3
    with running(tmp_path) as (runner, _):
        await runner.measure([models.candidate("a", price=None)], make_samples(3))
    assert runner.tallies["a"].cost is None


@given(
    st.integers(0, 10_000),
    st.lists(st.tuples(st.integers(0, 3_000), st.floats(0, 1)), max_size=60),
)
def test_spending_stays_within_the_limit_whatever_is_asked(limit: int, calls: list[tuple[int, float]]) -> None:
    purse = Purse(limit)
    open_calls: list[tuple[int, int]] = []
    for amount, share in calls:
        if purse.reserve(amount):
            open_calls.append((amount, int(amount * share)))
        if len(open_calls) > 3:
            purse.settle(*open_calls.pop(0))
        assert purse.spent + purse.reserved <= limit
        assert purse.left == limit - purse.spent - purse.reserved


@given(st.text(max_size=300), st.integers(0, 2_000), st.integers(1, 500))
def test_what_a_call_may_cost_is_guessed_from_above(text: str, prompt: int, longest: int) -> None:
    """For any text with at least three bytes a token, which is what tokenisers do at worst on real languages."""
    expected = Expectation(Costs(price=(400.0, 1600.0), prompt=prompt, longest=longest)).of(text)
    most = (len(text.encode("utf-8", "replace")) + prompt) // 3
    assert expected is not None
    assert expected >= (cost_of((400.0, 1600.0), (most, longest)) or 0)


def test_a_dear_answer_makes_the_next_one_expected_dear() -> None:
    expectation = Expectation(Costs(price=(400.0, 1600.0), prompt=0, longest=10))
    expectation.learn(1_000_000)
    assert (expectation.of("x") or 0) > 1_000_000


async def test_as_many_calls_at_once_as_allowed_and_models_of_this_machine_alone(tmp_path: Path) -> None:
    seen: dict[str, list[int]] = {"a": [], "own": []}
    open_calls = {"a": 0, "own": 0}
    full = asyncio.Event()

    async def ask(name: str) -> Answer:
        open_calls[name] += 1
        seen[name].append(sum(open_calls.values()) if name == "own" else open_calls[name])
        if open_calls["a"] == 5:
            full.set()
        await (asyncio.sleep(0.002) if name == "own" else full.wait())
        open_calls[name] -= 1
        return Answer(text="yes")

    remote = Candidate(
        id="a", release="a", identity="a", ask=lambda sample, epoch: ask("a"), own=False, price=(0.0, 0.0)
    )
    own = msgspec.structs.replace(remote, id="own", identity="own", ask=lambda sample, epoch: ask("own"), own=True)
    with running(tmp_path, concurrency=5) as (runner, _):
        await runner.measure([own, remote], make_samples(30))
    assert max(seen["a"]) == 5
    assert max(seen["own"]) == 1


async def test_a_busy_provider_gets_fewer_calls_at_once() -> None:
    throttle = Throttle(8)
    throttle.was_busy(0.0)
    throttle.was_busy(0.0)
    assert throttle.allowed == 2
    waiting = asyncio.create_task(throttle.turn(7))
    await asyncio.wait_for(throttle.turn(1), 20)
    for _ in range(60):
        throttle.went_well()
    await asyncio.wait_for(waiting, 20)
    assert throttle.allowed == 8


async def test_leaving_early_keeps_what_was_answered(tmp_path: Path) -> None:
    models = Models(a=Script(text="yes", delay_s=0.01))
    with running(tmp_path, concurrency=4) as (runner, store):
        task = asyncio.create_task(runner.measure([models.candidate("a")], make_samples(1_000)))
        while runner.tallies.get("a", None) is None or runner.tallies["a"].answered < 20:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        kept = len(list(store.runs.results(runner.run.id)))
        assert kept == runner.tallies["a"].answered >= 20
    assert runner.purse.reserved == 0


_KILLED = """
import asyncio, sys
from pathlib import Path
from fairlead.providers.scripted import Script
from tests.evaluate.runner_harness import Models, make_samples, running

async def main():
    models = Models(a=Script(text="yes", delay_s=0.005))
    with running(Path(sys.argv[1]), concurrency=4) as (runner, store):
        await runner.measure([models.candidate("a")], make_samples(2000))
asyncio.run(main())
"""


def _kept(folder: Path) -> int:
    """Answers that a run, of another process maybe, has kept so far."""
    if not (folder / "fairlead.db").exists():
        return 0
    with contextlib.closing(sqlite3.connect(folder / "fairlead.db")) as database:
        try:
            return int(database.execute("select count(*) from answers").fetchone()[0])
        except sqlite3.OperationalError:  # the tables are being made
            return 0


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _KILLED, str(tmp_path)], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    await_true(lambda: _kept(tmp_path) >= 150, "answers are kept while it runs", 120)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = _kept(tmp_path)

    async def go_on() -> Runner:
        models = Models(a=Script(text="yes"))
        with running(tmp_path) as (runner, _):
            await runner.measure([models.candidate("a")], make_samples(2_000))
        assert models.calls("a") == 2_000 - runner.tallies["a"].cached
        return runner

    runner = asyncio.run(go_on())
    assert runner.tallies["a"].cached == kept >= 150
    assert runner.tallies["a"].answered == 2_000


def test_a_clock_that_jumps_back_changes_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times = itertools.count(2_000_000_000_000_000_000, -1_000_000_000_000)
    monkeypatch.setattr("fairlead.records.time.time_ns", lambda: next(times))

    async def measure() -> Runner:
        models = Models(a=Script(text="yes"))
        with running(tmp_path) as (runner, _):
            await runner.measure([models.candidate("a")], make_samples(5))
        with running(tmp_path) as (runner, _):
            await runner.measure([models.candidate("a")], make_samples(5))
        return runner

    runner = asyncio.run(measure())
    assert runner.tallies["a"].cached == 5
    assert all((item.answer.total_s or 0) >= 0 for item in runner.items["a"].values())


def test_runs_are_found_by_the_end_of_their_id(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        runs = [make_run() for _ in range(3)]
        for run in runs:
            store.runs.begin(run)
        assert store.runs.get(runs[0].id) == runs[0]
        assert store.runs.get(runs[1].id[-8:]) == runs[1]
        assert [each.id for each in store.runs.list(since=0, until=2**60)] == [run.id for run in reversed(runs)]
        with pytest.raises(RecordUnknown):
            store.runs.get("zz")
        with pytest.raises(RecordUnknown):
            store.runs.get("%")
        store.runs.begin(make_run(id="x1-aaaa"))
        store.runs.begin(make_run(id="x2-aaaa"))
        with pytest.raises(RunAmbiguous):
            store.runs.get("-aaaa")
        store.runs.delete(runs[0].id)
        with pytest.raises(RecordUnknown):
            store.runs.get(runs[0].id)


def test_texts_no_file_can_hold_are_kept_readable(tmp_path: Path) -> None:
    columns: Any = {"time": 1, "tenant": "t", "subject": "s", "usecase": "u", "spec_hash": "h", "release": "r"}
    answered = Answered(id="a", **columns, key="k", variant="v", sample="\ud800", answer={"text": "\ud800 x"})
    result = Result(
        id="r", **columns, run="run", variant="v", sample="\ud800", answered="a", scores={"x": {"value": 1}}
    )
    with Store.open(tmp_path) as store:
        store.runs.add([answered], [result])
        found = list(store.runs.results("run"))
    assert json.dumps(found[0].answered.answer) == '{"text": "? x"}'
