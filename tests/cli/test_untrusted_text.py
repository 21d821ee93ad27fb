"""What customers wrote, as the commands print it: it does nothing to the terminal, and JSON keeps it as it was."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from fairlead.readable import readable
from fairlead.records import Inference, new_id, now_us
from fairlead.store import Store
from tests.cli.ran import Command, Ran

TRICK = "\u202e\u2067\u200b\ufeff\x1b[2J\x1b]0;owned\x07\x9b31m\r"
ASKED = f"How long does {TRICK}delivery take?"


@pytest.fixture(autouse=True)
def stands_in_the_shop(inside: Path) -> None:
    """Every command is run in a shop where everything a stranger can write holds the trick."""


def _texts(found: Any) -> Iterator[str]:
    if isinstance(found, str):
        yield found
    elif isinstance(found, dict):
        for key, value in found.items():
            yield from (key, *_texts(value))
    elif isinstance(found, list):
        for value in found:
            yield from _texts(value)


def _check(ran: Ran, *, code: int = 0, tricked: bool = True) -> None:
    assert ran.code == code, ran.err
    for text in (ran.out, ran.err):
        assert readable(text) == text
    assert not tricked or "How long does" in ran.out


def _check_json(ran: Ran) -> None:
    _check(ran, tricked=False)
    assert any(TRICK in text for text in _texts(json.loads(ran.out)))


WORDS = "parcel invoice kettle lamp return refund colour size voucher gift courier address key mail blue".split()


def _samples(path: Path, *, answer: str) -> str:
    """Two labels, and texts that are far enough apart to learn the one from the other."""
    rows = [
        {
            "id": f"s{n}{TRICK}",
            "question": f"{' '.join(WORDS[n % 7 + k] for k in range(n % 9))} {n}: {ASKED}",
            "reference": f"{answer if n % 2 else 'no'}{TRICK}",
            "tags": {f"a{TRICK}": TRICK},
        }
        for n in range(24)
    ]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return str(path)


def test_asking_and_what_is_recorded_of_it(run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "asked.jsonl"
    file.write_text(json.dumps({"text": ASKED}), encoding="utf-8")
    _check(run("ask", ASKED), tricked=False)
    _check_json(run("ask", ASKED, "--json"))
    _check(run("ask", "--file", str(file)))
    _check_json(run("ask", "--file", str(file), "--json"))
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{ASKED.replace(chr(13), '')}\n\n"))
    _check(run("chat"), tricked=False)
    _check(run("conversations", "list"))
    assert any("\u202e" in text for text in _texts(json.loads(run("conversations", "list", "--json").out)))
    _check(run("conversations", "outcomes"), tricked=False)
    found = json.loads(run("traces", "list", "--json").out)
    asked = next(each for each in found if "\u202e" in each["input"])
    _check(run("traces", "show", asked["id"]))
    for words in (("list",), ("summary",), ("status",)):
        _check(run("traces", *words), tricked=False)


def test_every_field_of_a_trace(run: Command) -> None:
    """A client names its model and its tags; a provider its errors."""
    fields = {
        each.name: TRICK + each.name
        for each in msgspec.structs.fields(Inference)
        if each.type is str and each.name not in ("id", "tenant")
    }
    trace = Inference(
        **{
            **fields, "id": new_id(), "time": now_us(), "tenant": "default", "operation": "chat", "status": 200,
            "input": ASKED, "output": ASKED, "tags": {TRICK: TRICK}, "steps": {f"call{TRICK}": 5},
        }  # type: ignore[arg-type]
    )  # fmt: skip
    with Store.open(Path(".fairlead")) as store:
        assert store.traces.append(trace)
    _check(run("traces", "show", trace.id))
    _check(run("traces", "list"), tricked=False)
    _check_json(run("traces", "show", trace.id, "--json"))


def test_samples_and_what_was_measured_on_them(run: Command, tmp_path: Path) -> None:
    for name, answer in (("tricky", "3 days"), ("tricky", "4 days")):
        file = _samples(tmp_path / "rows.jsonl", answer=answer)
        _check(run("data", "add", name, file, "--purpose", "eval", "--licence", f"CC0{TRICK}"), tricked=False)
    _check(run("data", "list"), tricked=False)
    _check(run("data", "show", "tricky"))
    _check_json(run("data", "show", "tricky", "--json"))
    _check(run("data", "diff", "tricky@1", "tricky@2"), tricked=False)
    files = [str(tmp_path / name) for name in ("report.html", "report.md", "suite.yaml")]
    chosen = ("--candidates", "baseline:tf-idf,baseline:nearest", "--data", "tricky")
    ran = run("select", *chosen, "--html", files[0], "--markdown", files[1])
    assert ran.code in (1, 3), ran.err
    _check(ran, code=ran.code, tricked=False)
    for file in files[:2]:
        text = Path(file).read_text(encoding="utf-8")
        assert "delivery take?" in text
        assert readable(text) == text
    [measured] = json.loads(run("runs", "list", "--json").out)
    _check(run("runs", "list"), tricked=False)
    for words in (("show", measured["id"]), ("show", measured["id"], "--variant", "baseline:nearest")):
        _check(run("runs", *words), tricked=False)
    answers = run("runs", "show", measured["id"], "--variant", "baseline:nearest", "--json")
    _check_json(answers)
    sides = (f"{measured['id']}:baseline:tf-idf", f"{measured['id']}:baseline:nearest")
    _check(run("runs", "diff", *sides), tricked=False)
    _check(run("interchange", "export", "tricky", files[2]), tricked=False)
    exported = yaml.safe_load(Path(files[2]).read_text(encoding="utf-8"))
    assert any(TRICK in text for text in _texts(exported)), "a file for programs has it as it was"


def test_pages_and_what_is_searched_in_them(run: Command) -> None:
    Path("knowledge/trick.md").write_text(f"# Parcels{TRICK}\n\nHow long does {TRICK}delivery take? 9 days.\n")
    _check(run("knowledge", "search", ASKED))
    for words in (("list",), ("list", "--passages"), ("check",)):
        ran = run("knowledge", *words)
        _check(ran, code=ran.code, tricked=False)


def test_names_and_mistakes(run: Command, tmp_path: Path) -> None:
    """An error quotes what was given to it."""
    _check(run("keys", "create", f"me{TRICK}", "--scope", "inference"), tricked=False)
    _check(run("keys", "list"), tricked=False)
    batch = tmp_path / "batch.jsonl"
    line = {"custom_id": TRICK, "method": "POST", "url": "/v1/chat/completions", "body": {"model": f"m{TRICK}"}}
    batch.write_text(json.dumps(line), encoding="utf-8")
    rows = tmp_path / "rows.csv"
    rows.write_text(f"question,s,b\n{ASKED.replace(chr(13), '')},{TRICK[:4]},1\n", encoding="utf-8")
    for words in (
        ("batch", "submit", str(batch)),
        ("traces", "show", TRICK),
        ("runs", "show", TRICK),
        ("data", "show", f"x{TRICK}"),
        ("route", "learn", str(rows), "--small", "s", "--big", "b", "--small-cost", "0", "--big-cost", "1"),
        ("ask", "--file", f"{TRICK}.jsonl"),
        ("select", "--candidates", f"x{TRICK}"),
        ("interchange", "export", f"x{TRICK}", "x.yaml"),
        ("judge", "show", f"x{TRICK}"),
        (f"x{TRICK}",),
    ):
        _check(run(*words), code=2, tricked=False)


def test_a_text_between_colons_is_no_picture(run: Command) -> None:
    shown = run("batch", "show", "x:100:y")
    assert "x:100:y" in shown.err
