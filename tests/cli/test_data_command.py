"""``fairlead data`` as a person meets it: add, look, split, compare, and what is refused."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from fairlead.records import Conversation, Message, new_id, now_us
from fairlead.store import Store
from tests.cli.ran import Command


@pytest.fixture(name="data")
def data_fixture(inside: Path, run: Command) -> Command:
    """Runs `fairlead data ...` in the shop."""
    return partial(run, "data")


def _file(folder: Path, *rows: dict[str, Any], name: str = "x.jsonl") -> Path:
    path = folder / name
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def test_a_declared_set_needs_only_its_name(data: Command) -> None:
    tried = data("add", "questions", "--dry-run", "--json").json()
    assert (tried["kept"], tried["version"]["purpose"], tried["version"]["licence"]) == (False, "eval", "Apache-2.0")
    assert "No data set is kept yet" in data("list").out
    assert "kept questions@1" in data("add", "questions").out
    assert "has already questions@1" in data("add", "questions").out
    [kept] = data("list", "--json").json()
    assert kept["rows"] == tried["version"]["rows"]
    shown = data("show", "questions", "--slice", "expect=handoff", "--slice", "order", "--json", "--limit", "1").json()
    assert shown["matching"] >= len(shown["samples"])
    assert "expect" in str(data("show", "questions", "--json").json()["samples"][0]["fields"])
    assert "question" in data("show", "questions").out


def test_parts_stand_for_what_was_split(data: Command, shop: Path) -> None:
    rows = [
        {"id": f"r{n}", "question": f"{n * 7919} is my number, where is it?", "user": f"u{n % 40}"} for n in range(120)
    ]
    file = _file(shop, *rows)
    data("add", "mail", file, "--purpose", "eval", "--licence", "own")
    parts = data("split", "mail", "--into", "train=0.7", "--into", "eval=0.3", "--json").json()
    purposes = {part["version"]["name"]: part["version"]["purpose"] for part in parts}
    assert purposes == {"mail-train": "train", "mail-eval": "eval"}
    assert sum(part["version"]["rows"] + part["dropped"] for part in parts) == 120
    again = data("add", "post", file, "--purpose", "eval", "--licence", "own")
    assert (again.code, "mail-train@1" in again.said) == (2, True)


def test_versions_are_compared(data: Command, shop: Path) -> None:
    about = ("--purpose", "eval", "--licence", "own")
    rows = [{"id": f"r{n}", "question": f"{n * 7919} is my number"} for n in range(5)]
    data("add", "mail", _file(shop, *rows), *about)
    data("add", "mail", _file(shop, *rows[1:], {"id": "new", "question": "Something new"}), *about)
    found = data("diff", "mail@1", "--json").json()
    assert (found["after"], found["added"], found["removed"], found["same"]) == ("mail@2", ["new"], ["r0"], 4)
    assert "removed  1: r0" in data("diff", "mail@1").out
    assert data("show", "mail@1", "--json").json()["rows"] == 5


def test_what_is_refused_says_how_to_mend_it(data: Command, shop: Path) -> None:
    twice = _file(shop, {"id": "a", "question": "Hi"}, {"id": "b", "question": "hi!"})
    ran = data("add", "mail", twice, "--purpose", "eval", "--licence", "own")
    assert (ran.code, "--drop" in ran.said) == (2, True)
    assert (
        data("add", "mail", twice, "--purpose", "eval", "--licence", "own", "--drop", "--json").json()["dropped"] == 1
    )
    leak = data("add", "lessons", _file(shop, {"id": "c", "question": "HI"}), "--purpose", "train", "--licence", "own")
    assert (leak.code, "c by its text with a of mail@1" in leak.said) == (2, True)
    bad = _file(shop, {"question": "fine"}, {"none": 1})
    assert "x.jsonl:2:1: found no question" in data("add", "m", bad, "--purpose", "eval", "--licence", "own").said


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["add", "question"], "nearest: questions"),
        (["add", "m", "x.jsonl", "--licence", "own"], "--purpose with one of train, eval, calibration"),
        (["add", "m", "x.jsonl", "--purpose", "eval"], "add --licence"),
        (["add", "m", "x.jsonl", "--map", "input"], "is no NAME=VALUE"),
        (["add", "m", "--from-production", "--purpose", "train"], "training_use is false"),
        (["add", "m", "--from-production", "--purpose", "eval"], "it has no samples"),
        (["add", "m", "x.jsonl", "--from-production"], "leave the file out"),
        (["show", "nothing"], "Known: none"),
        (["show", "m@x"], "is no version"),
        (["split", "m", "--into", "train=1"], "two or three of"),
        (["split", "m", "--into", "train=a", "--into", "eval=b"], "is no share"),
    ],
)  # fmt: skip
def test_mistakes_are_explained(data: Command, shop: Path, arguments: list[str], told: str) -> None:
    _file(shop, {"question": "fine"})
    ran = data(*arguments)
    assert (ran.code, told in ran.said) == (2, True), ran.said


def test_production_becomes_a_data_set(data: Command, shop: Path) -> None:
    columns: dict[str, Any] = {
        "tenant": "default",
        "subject": "anna",
        "usecase": "shop",
        "spec_hash": "",
        "release": "",
    }
    with Store.open(shop / ".fairlead") as store:
        talk = store.conversations.create(Conversation(id=new_id(), time=now_us(), **columns))
        said: list[tuple[Any, str]] = [("user", "Where is it?"), ("assistant", "On its way.")]
        for role, text in said:
            message = Message(id=new_id(), time=now_us(), **columns, conversation=talk.id, role=role, text=text)
            store.conversations.add(message)
    added = data("add", "asked", "--from-production", "--purpose", "eval", "--json").json()
    assert (added["version"]["rows"], added["review"]["unreferenced"]) == (1, 1)
    assert added["version"]["lineage"]["from"] == "production"
