"""Tasks played through the whole application: what is right passes, and everything that is wrong does not."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import tau2
from benchmarks.tau2_retail import rules
from benchmarks.tau2_retail.agents import Address
from benchmarks.tau2_retail.database import Database
from benchmarks.tau2_retail.run import REFUSING, SCRIPTED, Cast, Log, interval, pass_k, play_all
from benchmarks.tau2_retail.stage import Played, stage
from benchmarks.tau2_retail.tasks import Data, DataMissing, Task, load
from benchmarks.tau2_retail.users import END, Heard, ScriptedUser
from fairlead.providers.base import Call
from fairlead.providers.scripted import Script
from tests.tau2 import retail_data
from tests.tau2.retail_data import BEN, CY


@pytest.fixture
def data(tmp_path: Path) -> Data:
    return retail_data.data(tmp_path)


def changing(data: Data) -> list[Task]:
    return [task for task in data.tasks if task.actions]


async def test_the_right_actions_pass_every_task(data: Data) -> None:
    played = await play_all(data, data.tasks, Cast())
    assert [(each.task, each.reason) for each in played] == [(task.id, "") for task in data.tasks]
    assert [each.writes for each in played] == [1, 1, 2, 1, 1, 0]
    assert sum(each.unconfirmed + each.twice + each.foreign for each in played) == 0
    assert any("55.25" in text for who, text in played[0].talk if who == "assistant")


@pytest.mark.parametrize(("kind", "writes"), [("wrong", True), ("missing", None), ("unknown", False), ("other", False)])
async def test_what_is_wrong_does_not_pass(data: Data, kind: str, writes: bool | None) -> None:
    played = await play_all(data, changing(data), Cast(agent=f"{SCRIPTED}:{kind}"))
    assert [each.task for each in played if each.passed] == []
    assert all(each.differs for each in played)
    assert sum(each.unconfirmed + each.foreign for each in played) == 0
    if writes is not None:
        assert any(each.writes for each in played) is writes


async def test_whoever_says_no_is_left_alone(data: Data) -> None:
    played = await play_all(data, changing(data), Cast(user=REFUSING))
    assert [(each.passed, each.writes) for each in played] == [(False, 0)] * len(played)
    assert all("Please answer yes or no." in str(each.talk) for each in played)


async def test_a_second_customer_of_a_conversation_is_not_served(data: Data) -> None:
    played = await play_all(data, changing(data), Cast(agent=f"{SCRIPTED}:turncoat"))
    assert all(each.passed for each in played), [each.reason for each in played]
    assert not any(each.refused for each in played), "no tool was even asked about the second customer"
    assert not any(each.unproved for each in played)


async def test_what_has_gone_out_of_view_is_counted(data: Data) -> None:
    tasks = [task for task in data.tasks if task.id in {"exchange", "return"}]
    seen = await play_all(data, tasks, Cast(agent=f"{SCRIPTED}:careful"))
    blind = await play_all(data, tasks, Cast(agent=f"{SCRIPTED}:unknown"))
    assert [(each.passed, each.unseen) for each in seen] == [(True, 0)] * 2
    assert [each.unseen for each in blind] == [1, 1]


class Intruder(ScriptedUser):
    """Changes the shop behind the assistant's back while talking."""

    def __init__(self, task: Task, path: Path) -> None:
        super().__init__(task)
        self._path = path

    async def open(self) -> str:
        database = Database(self._path)
        database.change("forged", lambda shop: rules.cancel(shop, BEN, "#W3", "ordered by mistake"))
        database.note("cancel_pending_order", {"order_id": "#W3"}, key="forged", customer=BEN)
        database.note("cancel_pending_order", {"order_id": "#W3"}, key="forged", customer=CY)
        database.note("find_user_id_by_email", {"email": "cy.hill33@example.com"}, customer=CY)
        database.note("find_user_id_by_name_zip", {"first_name": "Ben", "zip": "60602"}, customer=BEN)
        database.note("find_user_id_by_email", {"email": "nobody@example.com"}, refused="not found")
        database.close()
        return await super().open()


async def test_the_judge_sees_changes_nobody_agreed_to(data: Data, tmp_path: Path) -> None:
    (tmp_path / "stage").mkdir()
    async with Address() as address, stage(data, tmp_path / "stage", agent=f"{address.url}#scripted") as scene:
        address.model = Says("Hello.")
        played = await scene.play(data.tasks[0], Intruder(data.tasks[0], tmp_path / "stage" / "live.sqlite"))
    assert (played.writes, played.unconfirmed, played.twice, played.foreign) == (2, 2, 1, 1)
    assert played.unproved == 1, "nobody wrote Cy's address"
    assert not played.passed, "nobody told the customer the amount"
    assert played.differs == ()
    assert played.unsaid == ("55.25",)


class Says:
    """A model that says the same whatever is asked."""

    def __init__(self, *texts: str) -> None:
        self._texts = itertools.chain(texts, itertools.repeat(texts[-1]))

    def answer(self, _: Call) -> Script:
        return Script(text=next(self._texts))


async def test_any_model_can_play_the_customer(data: Data) -> None:
    async with Address() as customer:
        heard: list[str] = []

        def script(call: Call) -> Script:
            heard.append(call.body["messages"][-1]["content"])
            if "yes or no" in heard[-1]:
                return Script(text="Yes")
            return Script(text=END if "is cancelled" in heard[-1] else "I am Ben Lake, 60602; please cancel #W3.")

        customer.model = Acts(script)
        (played,) = await play_all(data, data.tasks[:1], Cast(user=f"{customer.url}#customer"))
    assert played.passed, played.reason
    assert played.unconfirmed == 0
    assert any("Order: #W3" in each and "Desk Lamp" in each for each in heard), "the card is shown to the customer"


class Acts:
    """A model by a function."""

    def __init__(self, script: Callable[[Call], Script]) -> None:
        self.answer = script


async def test_a_model_that_breaks_fails_the_task_and_says_so(data: Data) -> None:
    async with Address() as address:
        address.model = Acts(lambda _: Script(status=500))
        (played,) = await play_all(data, data.tasks[:1], Cast(agent=f"{address.url}#broken"))
    assert not played.passed
    assert played.reason.startswith("broken: ")


async def test_a_customer_that_breaks_fails_the_task_and_says_so(data: Data) -> None:
    async with Address() as customer:
        customer.model = Acts(lambda _: Script(status=500))
        (played,) = await play_all(data, data.tasks[:1], Cast(user=f"{customer.url}#broken"))
    assert not played.passed
    assert played.reason.startswith("broken: customer: ")


async def test_a_customer_who_writes_too_much_fails_the_task_only(data: Data) -> None:
    async with Address() as customer:
        customer.model = Says("please " * 1_000)
        played = await play_all(data, data.tasks[:2], Cast(user=f"{customer.url}#talkative"))
    assert [each.reason for each in played] == ["broken: message_too_long"] * 2


async def test_quoting_pages_changes_nothing_by_itself(data: Data) -> None:
    played = await play_all(data, data.tasks, Cast(agent="extractive"))
    assert sum(each.unconfirmed + each.twice + each.foreign for each in played) == 0
    assert not all(each.passed for each in played)


# --- the runner -------------------------------------------------------------------------------------------------------


async def test_a_broken_run_goes_on_from_its_log(data: Data, tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    cast = Cast()
    first = await play_all(data, data.tasks[:2], cast, log=Log(path))
    path.write_bytes(path.read_bytes() + b'{"cast": {"agent": "scrip')  # cut off in the middle of a line
    steps: list[Played] = []
    whole = await play_all(data, data.tasks[:3], cast, log=Log(path), step=steps.append)
    assert whole[:2] == first
    assert steps == whole
    assert len(path.read_text().splitlines()) == 3
    again = await play_all(data, data.tasks[:1], Cast(seed=1), log=Log(path))
    assert len(path.read_text().splitlines()) == 4, "another seed is another run"
    assert again[0].passed


def result(task: str, passed: bool) -> Played:
    return Played(task=task, passed=passed)


def test_pass_k_is_the_chance_that_k_drawn_trials_all_pass() -> None:
    trials = {"a": [True, True, False, True], "b": [False, False, True, False], "c": [True] * 4}
    played = [result(task, passed) for task, results in trials.items() for passed in results]
    for k in (1, 2, 3, 4):
        # As many draws for each task.
        drawn = [all(each) for results in trials.values() for each in itertools.combinations(results, k)]
        assert pass_k(played, k) == pytest.approx(sum(drawn) / len(drawn))
    with pytest.raises(ValueError, match="needs 5 trials"):
        pass_k(played, 5)
    low, high = interval(played)
    assert low < pass_k(played, 1) < high
    low, high = interval([result(str(number), passed=True) for number in range(74)])
    assert (low, high) == pytest.approx((0.9506, 1.0), abs=1e-4)


def test_without_data_the_runner_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("FAIRLEAD_DATA", raising=False)
    assert tau2.main([]) == 2
    assert "FAIRLEAD_DATA" in capsys.readouterr().err
    monkeypatch.setenv("FAIRLEAD_DATA", str(tmp_path))
    assert tau2.main(["--model", "scripted"]) == 2
    assert "db.json" in capsys.readouterr().err
    with pytest.raises(DataMissing):
        load()


@pytest.mark.parametrize(
    ("wanted", "message"), [("id:nix", "no task 'nix'"), ("0", "a number up to 6"), ("x", "found 'x'")]
)
def test_tasks_that_are_not_there_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str], wanted: str, message: str
) -> None:
    monkeypatch.setenv("FAIRLEAD_DATA", str(retail_data.write(tmp_path)))
    assert tau2.main(["--model", "scripted", "--tasks", wanted]) == 2
    assert message in capsys.readouterr().err


def figures(path: Path) -> dict[str, Any]:
    return {each["figure"]: each for each in json.loads(path.read_text())["figures"]}


def test_the_whole_benchmark_on_a_small_shop(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FAIRLEAD_DATA", str(retail_data.write(tmp_path)))
    tau2.main(["--tasks", "id:exchange,move,ask", "--json", str(tmp_path / "out" / "tau2.json")])
    found = figures(tmp_path / "out" / "tau2.json")
    assert found["pass^1, scripted model that is right"]["value"] == 1.0
    assert found["changes without a yes to their question"]["value"] == 0
    assert found["changes without a yes to their question"]["n"] > 5
    missed = {figure for figure, each in found.items() if each["holds"] is False}
    assert missed <= {"customers recognised by facts they did not write"}, missed
    assert found["passes with a wrong argument"]["n"] == 2
    assert found["changes of these that the rules let through"]["value"] > 0
    assert "pass^1, extractive" in capsys.readouterr().out


def test_a_model_of_its_own_gets_its_own_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("FAIRLEAD_DATA", str(retail_data.write(tmp_path)))
    out = tmp_path / "out.json"
    assert (
        tau2.main(["--model", "scripted:missing", "--tasks", "id:cancel,ask", "--trials", "2", "--json", str(out)]) == 0
    )
    found = figures(out)
    assert found["pass^1, scripted:missing"]["value"] == found["pass^2, scripted:missing"]["value"]
    assert found["changes made twice"]["value"] == 0


async def test_a_scripted_customer_gives_up_when_nothing_happens(data: Data) -> None:
    user = ScriptedUser(data.tasks[0])
    assert (
        await user.open()
        == "Hello! I am Ben Lake in zip 60602. I want to cancel my order #W3 and know what I get back."
    )
    assert await user.reply(Heard(text="", asks=True)) == "I am Ben Lake in zip 60602."
    assert await user.reply(Heard(text="", progress=True)) == "Please go on."
    assert await user.reply(Heard(text="", confirm=True)) == "Yes"
    assert await user.reply(Heard(text="")) == "Please go on."
    assert await user.reply(Heard(text="")) is None
