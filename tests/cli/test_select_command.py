"""``fairlead select``, ``runs`` and ``prices`` as a person meets them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pty
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml

from fairlead.providers.base import Call
from fairlead.providers.scripted import Script, Scripted
from fairlead.settings import load
from tests.cli.ran import SHOP, Command, Ran
from tests.gateway.gateway_harness import build, route, serving

QUICK = ("--candidates", "extractive,baseline:retrieval", "--samples", "12")


@pytest.fixture(autouse=True)
def stands_in_the_shop(inside: Path) -> None:
    """Every command is run in the shop."""


def _json(ran: Ran, *codes: int) -> Any:
    assert ran.code in (codes or (0,)), ran.said
    return json.loads(ran.out)


def test_a_selection_is_forecast_run_kept_compared_and_deleted(run: Command, tmp_path: Path) -> None:
    forecast = _json(run("select", *QUICK, "--dry-run", "--json"))
    assert forecast["samples"] == 12
    assert forecast["unmeasured"] == ["resolution", "cost"]
    assert [each["at_most_usd"] for each in forecast["candidates"]] == [0.0, 0.0]
    assert "12 samples" in run("select", *QUICK, "--dry-run").out
    assert _json(run("runs", "list", "--json")) == []

    pages = tmp_path / "r.html", tmp_path / "r.md"
    report = _json(run("select", *QUICK, "--html", pages[0], "--markdown", pages[1], "--json"), 3)
    assert report["choice"]["status"] == 3  # twelve samples are no evidence
    assert {each["id"] for each in report["standings"]} == {"extractive", "baseline:retrieval"}
    assert "<svg" in pages[0].read_text(encoding="utf-8")
    assert pages[1].read_text(encoding="utf-8").startswith("# Selection for shop-support")

    again = _json(run("select", *QUICK, "--json"), 3)
    assert again["paid_calls"] == 0
    shown = run("select", *QUICK)
    assert shown.code == 3
    assert "The data cannot tell yet" in shown.out

    listed = _json(run("runs", "list", "--json"))
    assert [each["state"] for each in listed] == ["done"] * 3
    assert listed[-1]["id"] == report["run"]
    short = report["run"][-8:]
    assert _json(run("runs", "show", short, "--json"))["report"] == report
    assert "extractive" in run("runs", "show", short).out
    assert run("runs", "show", short, "--html", "/proc/r.html").code == 2
    answers = _json(run("runs", "show", short, "--variant", "extractive", "--limit", "3", "--json"))
    assert len(answers) == 3
    assert answers[0]["answer"]["text"]
    read = run("runs", "show", short, "--variant", "extractive", "--limit", "3").out
    assert " ms" in read
    assert "USD" in read
    assert not re.search(r"declined\s+(right|wrong)", read)
    compared = _json(run("runs", "diff", f"{short}:baseline:retrieval", f"{short}:extractive", "--json"))
    assert compared["common"] == 12
    assert compared["better"] + compared["worse"] == len(compared["samples"])
    assert "on 12 samples" in run("runs", "diff", f"{short}:baseline:retrieval", f"{short}:extractive").out
    wrong = run("runs", "diff", f"{short}:nobody", short)
    assert wrong.code == 2
    assert "it measured" in wrong.said
    assert _json(run("runs", "delete", short, "--dry-run", "--json"))["deleted"] is False
    assert _json(run("runs", "delete", short, "--json"))["results"] == 24
    for gone in (("show", short), ("diff", short, short), ("delete", short)):
        ran = run("runs", *gone)
        assert ran.code == 2
        assert "fairlead runs list" in ran.said


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (("--candidates", "nobody"), "There is no candidate 'nobody'"),
        (("--candidates", ""), "--candidates names nobody"),
        (("--data", "nothing"), "There is no data set 'nothing'"),
        (("--data", "questions@x"), "is no version"),
        (("--scorer", "nothing"), "There is no scorer 'nothing'"),
        (("--scorer", "label"), "ranked by a bool or a number"),
        (("--through", "mail"), "expected assistant or gateway"),
        (("--train", "nothing"), "There is no data set"),
        (("--user", "nobody", "--dry-run"), "There is no variant 'nobody'"),
        (("--html", "/proc/self/nowhere/r.html"), "cannot be written"),
        (("--html", "/proc/r.html"), "cannot be written"),
        (("--markdown", "."), "is a folder"),
    ],
)
def test_what_cannot_be_asked_is_said(run: Command, arguments: tuple[str, ...], found: str) -> None:
    ran = run("select", *arguments, *(() if "--candidates" in arguments else QUICK))
    assert ran.code == 2
    assert found in ran.said
    assert _json(run("runs", "list", "--json")) == []  # nobody was asked


def test_a_file_that_can_be_written_is_tried_and_left_as_it_was(run: Command, tmp_path: Path) -> None:
    new, old = tmp_path / "new.html", tmp_path / "old.md"
    old.write_text("mine", encoding="utf-8")
    assert run("select", *QUICK, "--dry-run", "--html", new, "--markdown", old).code == 0
    assert not new.exists()
    assert old.read_text(encoding="utf-8") == "mine"


def _lab(run: Command, path: Path, rows: Iterable[int], name: str = "lab") -> None:
    """Messages with a label each, of which no two are alike."""
    lines = [f"{hashlib.sha256(str(n).encode()).hexdigest()},{('card', 'loan')[n % 2]}" for n in rows]
    path.write_text("\n".join(["text,label", *lines]) + "\n", encoding="utf-8")
    ran = run("data", "add", name, path, "--purpose", "eval", "--licence", "CC0-1.0")
    assert ran.code == 0, ran.said


SPLIT = ("--into", "train=0.5", "--into", "eval=0.5")
NEAREST = ("--candidates", "baseline:nearest", "--dry-run", "--json")


def test_what_the_baselines_learnt_from_is_never_measured(run: Command, tmp_path: Path) -> None:
    _lab(run, tmp_path / "lab.csv", range(60))
    assert run("data", "split", "lab", *SPLIT).code == 0
    rows = {each["name"]: each["rows"] for each in _json(run("data", "list", "--json"))}

    whole = run("select", "--data", "lab", *NEAREST)
    assert whole.code == 2
    assert "lab-eval, lab-train" in whole.said
    assert "--data lab-eval" in whole.said

    part = _json(run("select", "--data", "lab-eval", *NEAREST))
    assert (part["learnt_from"], part["left_out"], part["samples"]) == ("lab-train@1", 0, rows["lab-eval"])
    same = run("select", "--data", "lab-eval", "--train", "lab@1", *NEAREST)
    assert same.code == 2
    assert f"All {rows['lab-eval']} samples of lab-eval@1" in same.said


def test_samples_that_are_in_what_is_learnt_from_are_left_out_and_counted(run: Command, tmp_path: Path) -> None:
    _lab(run, tmp_path / "lab.csv", range(60))
    _lab(run, tmp_path / "more.csv", range(30, 90), name="more")
    asked = ("select", "--data", "more", "--train", "lab", "--candidates", "baseline:nearest")
    forecast = run(*asked, "--dry-run", "--json")
    found = _json(forecast)
    assert (found["learnt_from"], found["left_out"], found["samples"]) == ("lab@1", 30, 30)
    assert "30 of 60 samples are left out" in forecast.said
    report = _json(run(*asked, "--markdown", tmp_path / "r.md", "--json"), 1, 3)
    assert (report["learnt_from"], report["left_out"], report["samples"]) == ("lab@1", 30, 30)
    assert "30 samples, which share" in (tmp_path / "r.md").read_text(encoding="utf-8")
    alone = ("select", "--data", "more", "--candidates", "extractive", "--through", "assistant", "--no-baselines")
    assert _json(run(*alone, "--dry-run", "--json"))["samples"] == 60


def test_a_train_set_of_the_same_split_is_found_among_others(run: Command, tmp_path: Path) -> None:
    _lab(run, tmp_path / "lab.csv", range(60))
    assert run("data", "split", "lab", *SPLIT).code == 0
    (tmp_path / "other.csv").write_text("text,label\nquite another matter,card\nand one more,loan\n", encoding="utf-8")
    other = ("data", "add", "other", tmp_path / "other.csv", "--purpose", "train", "--licence", "CC0-1.0")
    assert run(*other).code == 0
    assert _json(run("select", "--data", "lab-eval", *NEAREST))["learnt_from"] == "lab-train@1"


def test_a_set_that_was_split_is_not_the_default(run: Command) -> None:
    assert run("data", "add", "questions").code == 0
    assert run("data", "split", "questions", *SPLIT).code == 0
    found = _json(run("select", "--candidates", "extractive", "--dry-run", "--json"))
    assert found["dataset"] == "questions-eval@1"
    assert found["learnt_from"] == "questions-train@1"
    _undeclare()
    assert _json(run("select", "--candidates", "extractive", "--dry-run", "--json"))["dataset"] == "questions-eval@1"


def _undeclare() -> None:
    file = Path("fairlead.yaml")
    text = file.read_text(encoding="utf-8")
    declared = next(line for line in text.splitlines() if "id: questions" in line)
    file.write_text(text.replace(f"datasets:\n{declared}\n", ""), encoding="utf-8")


def test_without_data_nothing_is_chosen(run: Command) -> None:
    _undeclare()
    ran = run("select")
    assert ran.code == 2
    assert "fairlead data add" in ran.said


def test_prices_are_listed_shown_updated_and_reset(run: Command) -> None:
    listed = _json(run("prices", "list", "--like", "gpt-4.1-mini", "--json"))
    assert listed["prices"]["openai:gpt-4.1-mini"] == [0.4, 1.6]
    assert listed["source"]
    assert "As of" in run("prices", "list", "--like", "gpt-4.1-mini").out
    assert _json(run("prices", "show", "openai:none", "--json"))["openai:none"]["usd_per_million"] is None
    assert "unknown" in run("prices", "show", "openai:none").out
    assert run("prices", "show", "???").code == 2
    assert _json(run("prices", "show", "--json"))["extractive"]["usd_per_million"] == [0, 0]

    Path("new.csv").write_text("model,input,output\nopenai:gpt-4.1-mini,9,18\n", encoding="utf-8")
    tried = _json(run("prices", "update", "new.csv", "--dry-run", "--json"))
    assert tried["changed"]["openai:gpt-4.1-mini"] == [[0.4, 1.6], [9.0, 18.0]]
    assert not Path("prices.json").exists()
    kept = _json(run("prices", "update", "new.csv", "--date", "2026-10-01", "--source", "our contract", "--json"))
    assert kept["source"] == "our contract"
    shown = _json(run("prices", "show", "openai:gpt-4.1-mini", "--json"))["openai:gpt-4.1-mini"]
    assert shown["usd_per_million"] == [9.0, 18.0]
    assert "our contract, 2026-10-01" in shown["says"]
    assert "differ" in run("prices", "update", "--reset").out
    assert Path("prices.json.old").exists()
    again = _json(run("prices", "show", "openai:gpt-4.1-mini", "--json"))["openai:gpt-4.1-mini"]
    assert again["usd_per_million"] == [0.4, 1.6]
    assert run("prices", "update").code == 2
    assert run("prices", "update", "new.csv", "--date", "soon").code == 2
    assert run("prices", "update", "nowhere.csv").code == 2


def test_hosted_models_are_candidates_where_their_key_is_present(
    run: Command, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    path = Path("fairlead.yaml")
    hosted = '  - {id: hosted, model: "openai+http://127.0.0.1:9/v1#m", api_key: env:MY_KEY}\nlive: extractive'
    path.write_text(path.read_text(encoding="utf-8").replace("live: extractive", hosted), encoding="utf-8")
    monkeypatch.delenv("MY_KEY", raising=False)
    wanted = ("--candidates", "extractive,hosted", "--samples", "12", "--dry-run", "--json")
    ran = run("select", *wanted)
    assert [each["id"] for each in _json(ran)["candidates"]] == ["extractive"]
    assert "hosted is left out: the key of hosted is not there (env:MY_KEY)" in ran.said
    monkeypatch.setenv("MY_KEY", "k")
    assert [each["id"] for each in _json(run("select", *wanted))["candidates"]] == ["extractive", "hosted"]


_INTERRUPTED = """
import os, runpy, signal, sys

signal.signal(signal.SIGINT, signal.default_int_handler)  # who runs the tests in the background has it ignored

def interrupt(event, arguments):
    if event == "import" and arguments[0] == "{module}":
        os.kill(os.getpid(), signal.SIGINT)

sys.addaudithook(interrupt)
runpy.run_module("fairlead", run_name="__main__", alter_sys=True)
"""


@pytest.mark.parametrize(
    ("module", "status"), [("fairlead.cli", -signal.SIGINT), ("typer", -signal.SIGINT), ("fairlead.evaluate", 130)]
)
def test_an_interrupt_while_it_is_loaded_ends_it_without_a_traceback(run: Command, module: str, status: int) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", _INTERRUPTED.format(module=module), "select", "--candidates", "extractive"],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout, "Traceback" in ended.stderr) == (status, "", False), ended.stderr


@pytest.mark.parametrize("after", [1, 5, 60])
def test_an_interrupt_at_any_moment_loses_no_answer(run: Command, after: int) -> None:
    """Ctrl-C at the first answer, early and later: the exit status says so, and the same command goes on from there."""
    assert run("data", "list").code == 0
    command = [sys.executable, "-m", "fairlead", "select", "--candidates", "extractive", "--no-baselines", "--all"]
    process = subprocess.Popen([*command, "--fresh"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    settings = load({"project": Path()}, {})
    until = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < until:
        if _kept(settings.data_path) >= after:
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode in (130, 3), said  # 3: it was done before the signal came
    assert "Traceback" not in said
    kept = _kept(settings.data_path)
    assert kept >= after
    report = _json(run("select", *command[4:], "--json"), 3)
    assert report["paid_calls"] == report["calls"] - kept


def _kept(folder: Path) -> int:
    """Answers that a run of another process has kept so far."""
    if not (folder / "fairlead.db").exists():
        return 0
    with sqlite3.connect(f"file:{folder / 'fairlead.db'}?mode=ro", uri=True) as database:
        try:
            return int(database.execute("select count(*) from answers").fetchone()[0])
        except sqlite3.OperationalError:  # the tables are being made
            return 0


def test_the_example_for_github_actions_does_what_it_says(run: Command) -> None:
    page = (SHOP.parents[1] / "docs" / "interchange.md").read_text(encoding="utf-8")
    example = yaml.safe_load(page[page.index("```yaml\nname: objectives") + 8 :].split("```")[0])
    [job] = example["jobs"].values()
    commands = [step["run"] for step in job["steps"] if step.get("run", "").startswith("fairlead")]
    assert [command.split()[1] for command in commands] == ["check", "select", "interchange"]
    quick = {"select": ("--candidates", "extractive", "--samples", "12", "--no-baselines")}
    codes = []
    for command in commands:
        words = command.split()[1:]
        codes.append(run(*words, *quick.get(words[0], ())).code)
    assert codes == [0, 3, 0], "twelve samples are no evidence, and nothing failed"
    verdicts = ElementTree.parse("verdicts.xml").getroot()
    assert verdicts.findall(".//testcase")
    assert Path("report.md").read_text(encoding="utf-8").startswith("# Selection")


@pytest.fixture(name="hosted")
def hosted_fixture() -> Iterator[tuple[Scripted, str]]:
    """A model behind a server of its own: it plays the customer, who asks once more and is content."""

    def say(call: Call) -> Script:
        said = [each for each in call.body["messages"] if each["role"] == "assistant"]
        return Script(text="And how much does express cost?" if len(said) == 1 else "[END]")

    upstream = Scripted(script=say)
    with serving(build(upstream, routes={"m": route(upstream, "m")}).gateway) as url:
        yield upstream, url


def test_whole_conversations_are_measured_with_a_script_and_with_a_model_as_the_user(
    run: Command, hosted: tuple[Scripted, str], tmp_path: Path
) -> None:
    path = Path("fairlead.yaml")
    price = "{input_usd_per_million: 1, output_usd_per_million: 1}"
    line = f'  - {{id: customer, model: "{hosted[1]}/v1#m", price: {price}}}\nlive: extractive'
    path.write_text(path.read_text(encoding="utf-8").replace("live: extractive", line), encoding="utf-8")
    asked = "How long does delivery take?"
    for name, fields in (("script", {"then": ["And how much does express cost?"]}), ("goal", {"goal": "know costs"})):
        rows = [{"id": f"{name}{n}", "input": f"{asked}{'?' * n}", "reference": ["days"], **fields} for n in range(2)]
        file = tmp_path / f"{name}.jsonl"
        file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        assert run("data", "add", name, file, "--purpose", "eval", "--licence", "CC0-1.0", "--drop").code == 0
    wanted = ("--candidates", "extractive", "--no-baselines", "--scorer", "right", "--json")
    texts = {}
    for name, more in (("script", ()), ("goal", ("--user", "customer", "--budget", "1"))):
        report = _json(run("select", "--data", name, *more, *wanted), 3)
        assert report["standings"][0]["answered"] == report["samples"] > 0
        shown = _json(run("runs", "show", report["run"], "--variant", "extractive", "--json"))
        texts[name] = [each["answer"]["text"] for each in shown]
    assert all("\n\n" in text and "express" in text.casefold() for text in texts["script"]), "two answers, not one"
    assert texts["goal"] == texts["script"], "the same was asked, once by a script and once by a model"
    assert len(hosted[0].calls) == 2 * report["samples"]
    assert report["users_usd"] > 0
    assert report["spent_usd"] == pytest.approx(report["users_usd"])


def test_a_terminal_shows_running_intervals(run: Command) -> None:
    """On a terminal the figures of every candidate stand on one line while it is asked, with their interval."""
    assert run("data", "list").code == 0
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "fairlead", "select", *QUICK[:2], "--no-baselines", "--fresh"]
    command[command.index("extractive,baseline:retrieval")] = "extractive"
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    said = b""
    with contextlib.suppress(OSError):  # the terminal is gone when the last process has closed it
        while piece := os.read(ours, 4_096):
            said += piece
    os.close(ours)
    assert process.wait(120) == 3
    assert re.search(r"extractive \d+: \d+–\d+ %", said.decode("utf-8", "replace")), said


def closed_port() -> int:
    """A port nobody listens on."""
    with contextlib.closing(socket.socket()) as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


@pytest.mark.parametrize("more", ["", ", fallback: [extractive]"])
def test_a_model_that_cannot_be_reached_is_never_scored_by_what_stands_in_for_it(run: Command, more: str) -> None:
    """The assistant would quote the pages instead, which is another's answer."""
    path = Path("fairlead.yaml")
    price = "price: {input_usd_per_million: 1, output_usd_per_million: 2}"
    model = f'model: "http://127.0.0.1:{closed_port()}/v1#bad", {price}'
    text = path.read_text(encoding="utf-8").replace("variants:\n", f"variants:\n  - {{id: bad, {model}{more}}}\n")
    path.write_text(text, encoding="utf-8")
    asked = ("select", "--candidates", "bad,extractive", "--samples", "1", "--all", "--json")
    for _ in range(2):  # nothing is kept of it: the second run asks it again
        report = _json(run(*asked), 0, 1, 3)
        standings = {each["id"]: each for each in report["standings"]}
        bad = standings["bad"]
        assert (bad["answered"], bad["cached"], bad["n"], bad["quality"]["value"]) == (0, 0, 0, None)
        assert bad["failed"] == 1
        assert standings["extractive"]["answered"] == 1
        assert report["choice"]["candidate"] != "bad"
        assert report["spent_usd"] == 0


def test_an_unknown_price_of_a_router_is_that_of_its_two(run: Command) -> None:
    """A router has no price of its own to add."""
    path = Path("fairlead.yaml")
    hosted = "".join(f'  - {{id: {name}, model: "http://127.0.0.1:9/v1#{name}"}}\n' for name in ("far", "near"))
    routed = '  - {id: routed, model: "router:./none.json", between: {small: far, big: near}}\n'
    text = path.read_text(encoding="utf-8").replace("variants:\n", f"variants:\n{hosted}{routed}")
    path.write_text(text, encoding="utf-8")
    Path("none.json").write_text("{}", encoding="utf-8")
    says = {name: each["says"] for name, each in _json(run("prices", "show", "--json")).items()}
    assert says["routed"] == "unknown: add `price:` to far and near"
    assert says["far"] == "unknown: add `price:` to far"
