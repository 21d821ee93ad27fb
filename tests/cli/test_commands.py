"""The commands as a person meets them: what they print, what they refuse, and how the refusal reads."""

from __future__ import annotations

import csv
import datetime
import importlib.util
import io
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from rich.console import Console

from fairlead.cli import COMMANDS, output
from fairlead.cli.talk import read_messages
from fairlead.cli.times import money, parse_duration, parse_moment
from fairlead.errors import ExtraMissing, UsageError
from fairlead.store import Store
from fairlead.store.ledger import Account, Change
from tests.cli.ran import Command
from tests.engines.tiny_gguf import write_model
from tests.processes import await_address


def test_help_lists_the_commands_in_the_order_one_uses_them(run: Command) -> None:
    shown = run("--help")
    assert shown.code == 0
    lines = [line.split()[0] for line in shown.out.splitlines() if line.startswith("  ") and line.split()]
    assert [word for word in lines if word in COMMANDS] == list(COMMANDS)


@pytest.mark.parametrize("command", list(COMMANDS))
def test_every_command_explains_itself(run: Command, command: str) -> None:
    shown = run(command, "--help")
    assert shown.code == 0
    assert "Usage: fairlead" in shown.out


def test_an_unknown_command_is_refused(run: Command) -> None:
    shown = run("srve")
    assert shown.code == 2
    assert "srve" in shown.err


def test_init_check_ask_make_a_working_project(run: Command, tmp_path: Path) -> None:
    project = tmp_path / "mine"
    planned = run("init", "shop-support", project, "--dry-run", "--json")
    assert planned.code == 0
    assert not project.exists()
    assert run("init", "shop-support", project).code == 0
    assert sorted(json.loads(planned.out)["files"]) == sorted(
        str(path) for path in project.rglob("*") if path.is_file()
    )
    again = run("init", "shop-support", project)
    assert again.code == 2
    assert "--force" in again.err

    checked = run("check", project, "--json")
    assert checked.code == 0, checked.out
    report = json.loads(checked.out)
    assert len(report["spec_hash"]) == 64
    assert report["objectives"]

    asked = run("ask", "How long does delivery take?", "--project", project, "--json")
    assert asked.code == 0, asked.err
    answer = json.loads(asked.out)
    assert answer["text"]
    assert answer["sources"]


def test_check_names_file_line_and_nearest_key(run: Command, shop: Path) -> None:
    path = shop / "fairlead.yaml"
    text = path.read_text(encoding="utf-8").replace("min_samples:", "min_sampels:")
    path.write_text(text, encoding="utf-8")
    line = next(number for number, row in enumerate(text.splitlines(), 1) if "min_sampels" in row)
    shown = run("check", shop)
    assert shown.code == 2
    assert f"fairlead.yaml:{line}" in shown.err.replace("\n", "")
    assert "min_samples" in shown.err


def test_schema_is_a_json_schema(run: Command) -> None:
    schema = json.loads(run("schema").out)
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert {"objectives", "variants", "policy"} <= set(schema["properties"])


def test_keys_are_shown_once_listed_and_revoked(run: Command, shop: Path) -> None:
    where = ("--project", shop)
    made = run("keys", "create", "app", *where, "--json")
    secret = json.loads(made.out)["secret"]
    listed = run("keys", "list", *where, "--json")
    assert secret not in listed.out
    assert [key["name"] for key in json.loads(listed.out)] == ["app"]
    prefix = json.loads(listed.out)[0]["prefix"]
    assert run("keys", "revoke", prefix, *where).code == 0
    assert json.loads(run("keys", "list", *where, "--json").out)[0]["revoked"]
    files = [file for file in (shop / ".fairlead").rglob("*") if file.is_file()]
    assert files
    assert not any(secret.encode() in file.read_bytes() for file in files)


def test_a_rotated_key_leaves_a_successor_with_the_same_terms(run: Command, shop: Path) -> None:
    where = ("--project", shop)
    terms = ("--models", "extractive,mini", "--operations", "chat", "--rpm", "60", "--usd-per-day", "1.5")
    first = json.loads(run("keys", "create", "app", *terms, *where, "--json").out)
    made = run("keys", "rotate", first["prefix"], "--overlap", "1h", *where, "--json")
    second = json.loads(made.out)
    assert second["secret"] not in ("", first["secret"])
    assert "works until" in made.err
    for same in ("name", "scopes", "models", "operations", "limits", "origin", "expires"):
        assert second[same] == first[same], same
    old, new = json.loads(run("keys", "list", *where, "--json").out)
    assert old["expires"] is not None
    assert (new["origin"], new["limits"]["nanos_per_day"]) == (old["id"], 1_500_000_000)
    assert run("keys", "revoke", old["prefix"], *where).code == 0
    again = run("keys", "rotate", old["prefix"], *where)
    assert (again.code, "revoked" in again.err) == (2, True)


def test_budgets_are_shown_with_their_ledger(run: Command, shop: Path) -> None:
    where = ("--project", shop)
    key = json.loads(run("keys", "create", "app", "--usd-per-day", "2", *where, "--json").out)
    with Store.open(shop / ".fairlead") as store:
        period = datetime.datetime.now(datetime.UTC).date().isoformat()
        account = Account(usecase="shop-support", tenant="default", scope="key", name=key["origin"], period=period)
        store.ledger.change([Change(account=account, want=500_000_000, limit=2_000_000_000)])
        store.ledger.change([Change(account=account, paid=300_000_000, requests=4, back=200_000_000)])
    shown = json.loads(run("budget", "show", *where, "--json").out)
    assert shown["reconciles"] is True
    budgets = {(each["scope"], len(each["period"])): each for each in shown["budgets"]}
    assert set(budgets) == {("usecase", 10), ("usecase", 7), ("key", 10)}
    assert (budgets["key", 10]["label"], budgets["key", 10]["left"]) == ("app", 1_700_000_000)
    assert "app" in run("budget", "show", *where).out
    lines = json.loads(run("budget", "ledger", *where, "--json").out)
    assert [(line["kind"], line["amount"]) for line in lines] == [
        ("release", 200_000_000), ("settle", 300_000_000), ("reserve", 500_000_000)
    ]  # fmt: skip
    assert "settle" in run("budget", "ledger", "--since", "1h", *where).out


def test_a_budget_needs_the_price_of_what_a_key_opens(run: Command, shop: Path) -> None:
    path = shop / "fairlead.yaml"
    text = path.read_text().replace("external_models: false", "external_models: true")
    text = re.sub(r"^budget: .*$", "", text, flags=re.MULTILINE)
    path.write_text(text.replace("\nlive:", "\n  - {id: hosted, model: 'openai:gpt-4.1-mini'}\nlive:"))
    refused = run("keys", "create", "app", "--usd-per-day", "2", "--project", shop)
    assert (refused.code, "price: {input_usd_per_million" in refused.err) == (2, True)
    assert run("keys", "create", "app", "--usd-per-day", "2", "--models", "extractive", "--project", shop).code == 0


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("budget", "ledger", "--since", "yesterday"), "24h or 30d"),
        (("keys", "create", "x", "--models", "gpt-9"), "extractive"),
        (("keys", "create", "x", "--operations", "sing"), "chat, completion, embedding"),
        (("keys", "create", "x", "--priority", "first"), "interactive, standard, batch"),
        (("keys", "create", "x", "--tenant", ""), "--tenant acme"),
        (("keys", "create", "x", "--tenant", "a\nb"), "--tenant acme"),
        (("keys", "create", "x", "--rpm", "0"), "rpm"),
        (("keys", "rotate", "fl-nothing"), "fairlead keys list"),
        (("keys", "create", "x", "--scope", "root"), "inference, admin"),
        (("keys", "create", "x", "--expires", "soon"), "24h or 30d"),
        (("keys", "revoke", "fl-nothing"), "fairlead keys list"),
        (("traces", "show", "nonsense"), "fairlead traces list"),
        (("traces", "list", "--since", "yesterday"), "24h or 30d"),
        (("ask",), "fairlead ask"),
        (("ask", "hi", "--output", "x.jsonl"), "go with --file"),
        (("keys", "create", " "), "needs a name"),
        (("keys", "create", "x", "--expires", "0s"), "24h or 30d"),
        (("traces", "list", "--since", "1h", "--until", "2h"), "swap them"),
        (("traces", "list", "--since", "2026-99-99"), "no point in time"),
        (("ask", "hi", "--variant", "nope"), "extractive"),
        (("ask", "--file", "does-not-exist.txt"), "does-not-exist.txt"),
        (("serve", "--port", "99999"), "at most 65535"),
    ],
)
def test_bad_arguments_are_refused_with_what_would_be_right(
    run: Command, shop: Path, arguments: tuple[str, ...], expected: str
) -> None:
    shown = run(*arguments, "--project", shop)
    assert shown.code == 2
    assert expected in " ".join(shown.err.split())
    assert "Traceback" not in shown.err


def test_without_a_project_the_mending_command_is_named(run: Command, tmp_path: Path) -> None:
    shown = run("ask", "hello", "--project", tmp_path)
    assert shown.code == 2
    assert "fairlead init" in shown.err


def test_traces_show_what_was_asked(run: Command, shop: Path) -> None:
    run("ask", "How much is delivery? Write to jo@example.com", "--project", shop)
    rows = json.loads(run("traces", "list", "--project", shop, "--json").out)
    assert {row["operation"] for row in rows} == {"assistant", "chat"}
    assert len({row["spec_hash"] for row in rows}) == 1
    assert "jo@example.com" not in json.dumps(rows)
    shown = run("traces", "show", rows[0]["id"], "--project", shop)
    assert rows[0]["id"] in shown.out
    assert json.loads(run("traces", "status", "--project", shop, "--json").out)["rows"] == len(rows)
    assert run("traces", "summary", "--project", shop).code == 0


def test_ask_file_takes_csv_and_goes_on_where_it_stopped(run: Command, shop: Path, tmp_path: Path) -> None:
    source, answers = tmp_path / "in.csv", tmp_path / "out.jsonl"
    messages = ["How long does delivery take?", "Können Sie mir helfen? \x00 ", "?" * 500, "refund plz 😀"]
    with source.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["id", "message"], *([number, text] for number, text in enumerate(messages))])
    first = run("ask", "--file", source, "--limit", "2", "--output", answers, "--project", shop)
    assert first.code == 0, first.err
    assert len(answers.read_text(encoding="utf-8").splitlines()) == 2
    assert run("ask", "--file", source, "--output", answers, "--project", shop).code == 0
    rows = [json.loads(line) for line in answers.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == len(messages)
    assert all(row.get("text") for row in rows)


def test_a_file_can_be_one_conversation(run: Command, shop: Path, tmp_path: Path) -> None:
    source = tmp_path / "talk.txt"
    source.write_text("How much does delivery to Austria cost?\nAnd to Italy?\n", encoding="utf-8")
    rows = run("ask", "--file", source, "--conversation", "--json", "--project", shop).out.splitlines()
    told = json.loads(rows[1])["text"]
    assert "8.90" in told
    alone = json.loads(run("ask", "And to Italy?", "--json", "--project", shop).out)["text"]
    assert len(told) < len(alone) or "8.90" not in alone  # alone it has not been told that the cost is meant


def test_an_answer_of_several_paragraphs_stays_together_under_its_question(
    run: Command, shop: Path, tmp_path: Path
) -> None:
    source = tmp_path / "talk.txt"
    source.write_text("how long does delivery to italy take? do you sell kayaks?\nhello\n", encoding="utf-8")
    told = run("ask", "--file", source, "--project", shop).out.splitlines()
    after = told[1 : told.index("> hello") - 1]
    assert after[0].startswith("  For Italy, the standard delivery time is 4–6 working days")
    assert after[1] == ""
    assert after[2].startswith("  I'm sorry, I can't find an answer to “do you sell kayaks?”")
    assert after[3].startswith("    [1] Delivery")
    assert all(line == "" or line.startswith("  ") for line in after)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("a.csv", "id,when\n1,2\n", "--column"),
        ("a.jsonl", '{"text": "a"}\n{"text": \n', "line 2"),
        ("a.jsonl", "[1]\n", "line 1"),
        ("a.csv", f'question\n"{"x" * 200_000}"\n', "Close every quote"),
    ],
)
def test_a_file_that_cannot_be_read_names_the_line(tmp_path: Path, name: str, text: str, expected: str) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=expected):
        list(read_messages(path, None))


def test_a_file_that_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(UsageError, match=r"no UTF-8 text \(byte 0\)"):
        list(read_messages(path, None))
    with pytest.raises(UsageError, match="Is a directory"):
        list(read_messages(tmp_path, None))


def test_a_question_that_is_not_text_is_refused(run: Command, shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(b"hi \xff".decode(errors="surrogateescape")))
    shown = run("ask", "-", "--project", shop)
    assert (shown.code, "no UTF-8 text (character 4)" in shown.err) == (2, True)


def test_a_message_that_is_refused_does_not_end_the_chat(
    run: Command, shop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("x" * 5_000 + "\nthanks\n"))
    shown = run("chat", "--project", shop)
    assert (shown.code, "5000 characters; 4000 are possible" in shown.err) == (0, True)
    assert "welcome" in shown.out


def test_durations_and_moments() -> None:
    assert parse_duration("90s") == 90_000_000
    assert parse_moment("2026-01-02T03:04:05") == 1_767_323_045_000_000
    assert parse_moment("2026-01-02T04:04:05+01:00") == 1_767_323_045_000_000
    with pytest.raises(UsageError):
        parse_duration("-1h")


def test_doctor_finds_what_is_missing(run: Command, tmp_path: Path, shop: Path) -> None:
    broken = run("doctor", "--project", tmp_path, "--port", "0", "--json")
    findings = {row["what"]: row for row in json.loads(broken.out)}
    assert broken.code == 1
    assert findings["use case"]["state"] == "missing"
    assert findings["use case"]["mend"].startswith("fairlead init")
    healthy = run("doctor", "--project", shop, "--port", "0", "--json")
    assert healthy.code == 0, healthy.out


def test_check_and_doctor_tell_of_keys_and_engines_that_are_not_there(run: Command, shop: Path) -> None:
    path = shop / "fairlead.yaml"
    text = path.read_text(encoding="utf-8")
    write_model(shop / "m.gguf")
    empty = "variants:\n  - {id: far, model: 'http://127.0.0.1:1/v1#m', api_keys: []}\n"
    path.write_text(text.replace("variants:\n", empty, 1), encoding="utf-8")
    assert "`api_keys:` is empty" in " ".join(" ".join(run("check", shop)[1:]).split())
    for line in ("api_key: 'file:nope'", "api_keys: ['file:nope', 'env:UNSET_KEY', 'file:nope2']"):
        more = f"variants:\n  - {{id: far, model: 'openai:gpt-4.1-mini', {line}}}\n"
        more += "  - {id: other, model: 'openvino:./m.gguf'}\n"
        path.write_text(text.replace("variants:\n", more, 1), encoding="utf-8")
        assert "there is no file nope here" in " ".join(" ".join(run("check", shop)[1:]).split())
        doctor = run("doctor", "--project", shop, "--port", "0", "--json")
        assert doctor.code == 1
        found = [each for each in json.loads(doctor.out) if each["what"] in ("key of far", "engine of other")]
        told = [f"{each['state']} {each['detail']} {each['mend']}" for each in found]
        assert len([each for each in told if "file:nope" in each and "missing" in each]) == line.count("nope")
        assert not any("Errno" in each for each in told)
        if importlib.util.find_spec("openvino_genai") is None:
            assert any("openvino-genai" in each and "pip install" in each for each in told)
        else:
            assert not any("openvino-genai" in each for each in told)


def test_doctor_tells_of_vllm_that_is_not_there_or_not_told_how_to_call_tools(run: Command, shop: Path) -> None:
    definition = shop / "fairlead.yaml"
    text = definition.read_text(encoding="utf-8")
    assert "variants:\n" in text
    added = text.replace("variants:\n", 'variants:\n  - {id: far, model: "vllm-serve:org/qwen"}\n', 1)
    definition.write_text(added, encoding="utf-8")

    def found(*more: str) -> dict[str, str]:
        told = json.loads(run("doctor", "--project", shop, "--port", "0", "--json", *more).out)
        return {each["what"]: each["state"] for each in told if "vLLM" in each["what"]}

    assert found("--vllm-command", "no-such-vllm") == {"vLLM": "missing", "tools with vLLM": "warning"}
    parser = "--enable-auto-tool-choice --tool-call-parser hermes"
    assert found("--vllm-command", "true", "--vllm-arguments", parser) == {"vLLM": "ok"}


def test_doctor_shows_no_password_of_a_proxy(run: Command, tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text('proxy = "http://ada:planted-pass@proxy.example:8080"\n')
    for more in ((), ("--json",)):
        shown = run("doctor", "--settings", "--project", tmp_path, *more)
        assert "planted-pass" not in shown.out + shown.err
        assert "proxy.example" in shown.out


def test_doctor_shows_the_settings_in_force(run: Command, tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text("port = 1234\n")
    rows = {row["name"]: row for row in json.loads(run("doctor", "--settings", "--project", tmp_path, "--json").out)}
    assert rows["port"]["value"] == 1234


class Server(NamedTuple):
    process: subprocess.Popen[bytes]
    port: int
    log: Path


@pytest.fixture(name="server")
def server_fixture(shop: Path, tmp_path: Path) -> Iterator[Server]:
    command = [sys.executable, "-m", "fairlead", "serve", "--project", str(shop), "--port", "0"]
    log = tmp_path / "serve.log"
    with log.open("wb") as said, subprocess.Popen(command, stdout=said, stderr=said) as process:
        try:
            url = await_address(log, process)
            with urllib.request.urlopen(f"{url}/healthz", timeout=60):
                yield Server(process, int(url.rpartition(":")[2]), log)
        finally:
            process.kill()


def test_serve_answers_says_where_and_stops_on_ctrl_c(server: Server, shop: Path) -> None:
    with urllib.request.urlopen(f"http://127.0.0.1:{server.port}/chat", timeout=60) as page:
        assert b"AI assistant" in page.read()
    children = _children(server.process.pid)
    server.process.send_signal(signal.SIGINT)
    assert server.process.wait(120) == 0, server.log.read_text()
    assert f"http://127.0.0.1:{server.port}/v1" in server.log.read_text()
    assert "Traceback" not in server.log.read_text()
    assert not any(Path(f"/proc/{child}").exists() for child in children)


def test_a_taken_port_is_named_and_nothing_is_left_running(server: Server, run: Command, shop: Path) -> None:
    shown = run("serve", "--project", shop, "--port", str(server.port))
    assert shown.code == 1
    assert f"Port {server.port} on 127.0.0.1 is already in use" in " ".join(shown.err.split())
    assert "--port" in shown.err


def test_commands_work_beside_a_running_server(server: Server, run: Command, shop: Path) -> None:
    assert server.process.poll() is None
    assert run("ask", "Do you ship to Norway?", "--project", shop).code == 0
    assert json.loads(run("traces", "list", "--project", shop, "--json").out)


def _children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text(encoding="ascii").split()] if path.exists() else []


def test_demo_leaves_without_a_terminal(shop: Path) -> None:
    command = [sys.executable, "-m", "fairlead", "demo", "--project", str(shop), "--port", "0", "--questions", "3"]
    environment = {**os.environ, "NO_COLOR": "1"}
    shown = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, env=environment)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.count("customer") >= 3
    assert "answers recorded: 3;" in shown.stdout
    # What has ended is not offered: no address, no key, and the command that stays, as it can be typed here.
    assert f"{sys.executable} -m fairlead demo --keep" in shown.stdout
    assert not re.search(r"/chat|/console|fl-", shown.stdout)


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("tools.py", b"def broken(:\n", "tools.py"),
        ("tools.py", b"1 / 0\n", "ZeroDivisionError"),
        ("knowledge/returns.md", b"\xff\xfe\x00", "UTF-8"),
        ("w.gguf", b"MZ" * 400, "w.gguf"),
    ],
)
def test_check_and_doctor_find_what_would_keep_it_from_starting(
    run: Command, shop: Path, name: str, content: bytes, expected: str
) -> None:
    if name == "w.gguf":
        path = shop / "fairlead.yaml"
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace("live: ex", "  - {id: own, model: ./w.gguf}\nlive: ex"), encoding="utf-8")
    (shop / name).write_bytes(content)
    checked = run("check", shop)
    assert checked.code == 2
    assert expected in checked.err
    assert json.loads(run("check", shop, "--json").out)["ok"] is False
    doctor = run("doctor", "--project", shop, "--port", "0")
    assert doctor.code == 1
    assert expected in doctor.out


def test_doctor_says_what_to_do_about_a_port_in_use(run: Command, shop: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        shown = run("doctor", "--project", shop, "--port", taken.getsockname()[1], "--json")
    (port,) = [each for each in json.loads(shown.out) if each["what"] == "port"]
    assert (port["state"], "--port" in port["mend"]) == ("warning", True)
    assert shown.code == 0


def test_a_folder_with_a_space_can_be_entered_as_told(run: Command, tmp_path: Path) -> None:
    assert f"cd '{tmp_path / 'my shop'}' && fairlead check" in run("init", "blank", tmp_path / "my shop").out


@pytest.mark.parametrize(
    ("called", "on_path", "text", "told"),
    [
        ("bin/fairlead", False, "Next: fairlead check; `fairlead ask`", "Next: bin/fairlead check; `bin/fairlead ask`"),
        ("bin/fairlead", False, "cd x && fairlead check", "cd x && {here}/bin/fairlead check"),
        ("bin/fairlead", False, "See /my/fairlead demo, fairlead.yaml", "See /my/fairlead demo, fairlead.yaml"),
        ("bin/fairlead", True, "Next: fairlead check", "Next: fairlead check"),
        ("fairlead/__main__.py", False, "Next: fairlead check", "Next: {python} -m fairlead check"),
        ("pytest", False, "Next: fairlead check", "Next: fairlead check"),
    ],
)
def test_commands_are_told_as_they_can_be_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, called: str, on_path: bool, text: str, told: str
) -> None:
    program = tmp_path / called
    program.parent.mkdir(exist_ok=True)
    program.write_text("#!/bin/sh\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [called])
    monkeypatch.setenv("PATH", str(program.parent) if on_path else "/nonexistent")
    assert output.runnable(text) == told.format(here=tmp_path, python=sys.executable)


def test_an_undo_that_is_told_finds_the_same_store(run: Command, shop: Path, tmp_path: Path) -> None:
    for elsewhere in ((), ("--data-dir", tmp_path / "kept here")):
        made = run("keys", "create", "app", "--project", shop, *elsewhere)
        undo = made.err.partition("Undo: fairlead ")[2]
        assert run(*shlex.split(undo)).code == 0
        (key,) = json.loads(run("keys", "list", "--project", shop, *elsewhere, "--json").out)
        assert key["revoked"]


def test_the_demo_leaves_no_key_behind(shop: Path, run: Command) -> None:
    command = [sys.executable, "-m", "fairlead", "demo", "--project", str(shop), "--port", "0", "--keep"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "Serving until" in line:
                process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
    (key,) = json.loads(run("keys", "list", "--project", shop, "--json").out)
    assert key["revoked"]
    assert key["expires"]


def demo(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fairlead", "demo", "--questions", "1", "--exit", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)


def test_the_demo_leaves_the_project_one_stands_in_alone(shop: Path, tmp_path: Path) -> None:
    (shop / "settings.toml").write_text("port = \n", encoding="utf-8")
    shown = demo(shop, "--port", "0", "--data-dir", str(tmp_path / "kept"))
    assert shown.returncode == 0, shown.stderr
    assert "answers recorded: 1;" in shown.stdout
    assert not (shop / ".fairlead").exists()


def test_the_demo_asks_no_remote_model_unasked(shop: Path) -> None:
    file = shop / "fairlead.yaml"
    text = file.read_text(encoding="utf-8")
    live = re.search(r"^live: (\S+)", text, re.MULTILINE)
    assert live
    text = text.replace(live[0], "live: far").replace("external_models: false", "external_models: true")
    far = "{id: far, model: 'openai:gpt-x', price: {input_usd_per_million: 1, output_usd_per_million: 1}}"
    text = text.replace("variants:\n", f"variants:\n  - {far}\n", 1)
    file.write_text(text, encoding="utf-8")
    shown = demo(shop, "--project", str(shop), "--port", "0")
    assert shown.returncode == 2, shown.stderr
    assert "far (openai:gpt-x), outside your network" in shown.stderr
    assert "--yes" in shown.stderr
    assert not (shop / ".fairlead").exists()


def test_the_demo_refuses_a_port_it_was_given_and_cannot_have(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        shown = demo(tmp_path, "--port", port, "--data-dir", str(tmp_path))
    assert shown.returncode == 1
    assert f"Port {port} on 127.0.0.1 is already in use" in shown.stderr


def test_doctor_finds_a_broken_settings_file(run: Command, shop: Path) -> None:
    (shop / "settings.toml").write_text("retries = 3\nlog_level = \n", encoding="utf-8")
    shown = run("doctor", "--project", shop, "--port", "0")
    assert shown.code == 1
    assert "settings.toml is not TOML, line 2" in shown.out
    assert "Python" in shown.out
    listed = run("doctor", "--settings", "--project", shop)
    assert listed.code == 2
    assert "log_level" in listed.out
    assert "is not TOML" in listed.err


def test_what_installs_an_extra_works_where_there_is_no_index(run: Command, shop: Path) -> None:
    assert "pip install '.[litellm]'" in str(ExtraMissing(what="model", extra="litellm", detail="gone"))
    assert "fairlead[" not in run("doctor", "--project", shop, "--port", "0").out


@pytest.mark.parametrize("columns", ["60", "80", "120"])
def test_the_objectives_are_read_in_whole_lines_on_any_terminal(shop: Path, columns: str) -> None:
    command = [sys.executable, "-m", "fairlead", "check", str(shop)]
    shown = subprocess.run(
        command, capture_output=True, text=True, timeout=300, check=True, env={**os.environ, "COLUMNS": columns}
    ).stdout
    begin, end = shown.index("What can be shown"), shown.index("What the declared traffic")
    lines = shown[begin:end].splitlines()
    assert max(map(len, lines)) <= int(columns)
    rows = [line for line in lines if line.startswith("out-of-scope ")]
    assert len(rows) == (1 if columns == "120" else 2)
    assert "guardrail  mean >= 0.8" in rows[0]
    assert "±14% n=28" in rows[-1]


def test_no_money_is_no_row_of_zeros() -> None:
    assert [money(each) for each in (None, 0, 1_000, 99_999_999_999, 200 * 10**9)] == [
        "unknown", "$0", "$0.000001", "$100.000000", "$200.00"
    ]  # fmt: skip


@pytest.mark.parametrize("columns", [None, "80", "40"])
def test_ids_and_money_are_never_broken_over_lines(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: str | None
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns:
        monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr(output, "out", Console(highlight=False, soft_wrap=True))
    identifier, cost, words = f"batch_{'7' * 32}", "$1234567.000001", "some words that may be folded " * 3
    output.print_table(
        ["batch", "of", "cost so far", "note"], [[identifier, "[red]x", cost, words]] * 2, right=["cost so far"]
    )
    shown = capsys.readouterr().out
    assert shown.count(identifier) == shown.count(cost) == 2
    assert "[red]x" in shown
    lines = shown.splitlines()
    if columns is None:
        assert [words.strip() in line for line in lines] == [False, True, True]
    else:
        assert len(lines) > 3
        assert max(map(len, lines)) <= max(int(columns), len(identifier) + len(cost) + 2 * output.NARROW + 6)


def test_a_file_as_one_conversation_can_act_and_says_what_an_answer_rests_on(
    run: Command, shop: Path, tmp_path: Path
) -> None:
    source = tmp_path / "talk.txt"
    source.write_text(
        "cancel my order\nTT-730158 theo.calloway@example.org\nno\nwhen does it arrive?\n", encoding="utf-8"
    )
    shown = run("ask", "--file", source, "--conversation", "--project", shop).out
    told = shown.replace("\n", " ")
    assert "Could you please tell me the order number?" in told
    assert "Shall I cancel your order TT-730158" in told
    assert "All right, I have not done that." in told
    assert "We have received your order TT-730158" in told
    assert shown.rstrip().endswith("from: Order TT-730158")
