"""``fairlead data`` as a person meets it: add, look, split, compare, and what is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from fairlead.cli import main
from fairlead.records import Conversation, Message, new_id, now_us
from fairlead.store import Store

SHOP = Path(__file__).parents[2] / "examples" / "shop"


class Ran(NamedTuple):
    code: int
    out: str
    err: str


Data = Callable[..., Ran]


@pytest.fixture(name="shop")
def shop_fixture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    target = tmp_path / "shop"
    shutil.copytree(SHOP, target, ignore=shutil.ignore_patterns(".fairlead", "__pycache__"))
    monkeypatch.chdir(target)
    return target


@pytest.fixture(name="data")
def data_fixture(shop: Path, capfd: pytest.CaptureFixture[str]) -> Data:
    def run(*arguments: str | Path) -> Ran:
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            main(["data", *map(str, arguments)])
        shown = capfd.readouterr()
        code = left.value.code
        return Ran(code if isinstance(code, int) else int(code is not None), shown.out, " ".join(shown.err.split()))

    return run


def _json(ran: Ran) -> Any:
    assert ran.code == 0, ran.err
    return json.loads(ran.out)


def _file(folder: Path, *rows: dict[str, Any], name: str = "x.jsonl") -> Path:
    path = folder / name
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def test_a_declared_set_needs_only_its_name(data: Data) -> None:
    tried = _json(data("add", "questions", "--dry-run", "--json"))
    assert (tried["kept"], tried["version"]["purpose"], tried["version"]["licence"]) == (False, "eval", "Apache-2.0")
    assert "No data set is kept yet" in data("list").out
    assert "kept questions@1" in data("add", "questions").out
    assert "has already questions@1" in data("add", "questions").out
    [kept] = _json(data("list", "--json"))
    assert kept["rows"] == tried["version"]["rows"]
    shown = _json(data("show", "questions", "--slice", "expect=handoff", "--slice", "order", "--json", "--limit", "1"))
    assert shown["matching"] >= len(shown["samples"])
    assert "expect" in str(_json(data("show", "questions", "--json"))["samples"][0]["fields"])
    assert "question" in data("show", "questions").out


def test_parts_stand_for_what_was_split(data: Data, shop: Path) -> None:
    rows = [
        {"id": f"r{n}", "question": f"{n * 7919} is my number, where is it?", "user": f"u{n % 40}"} for n in range(120)
    ]
    file = _file(shop, *rows)
    data("add", "mail", file, "--purpose", "eval", "--licence", "own")
    parts = _json(data("split", "mail", "--into", "train=0.7", "--into", "eval=0.3", "--json"))
    purposes = {part["version"]["name"]: part["version"]["purpose"] for part in parts}
    assert purposes == {"mail-train": "train", "mail-eval": "eval"}
    assert sum(part["version"]["rows"] + part["dropped"] for part in parts) == 120
    again = data("add", "post", file, "--purpose", "eval", "--licence", "own")
    assert (again.code, "mail-train@1" in again.err) == (2, True)


def test_versions_are_compared(data: Data, shop: Path) -> None:
    about = ("--purpose", "eval", "--licence", "own")
    rows = [{"id": f"r{n}", "question": f"{n * 7919} is my number"} for n in range(5)]
    data("add", "mail", _file(shop, *rows), *about)
    data("add", "mail", _file(shop, *rows[1:], {"id": "new", "question": "Something new"}), *about)
    found = _json(data("diff", "mail@1", "--json"))
    assert (found["after"], found["added"], found["removed"], found["same"]) == ("mail@2", ["new"], ["r0"], 4)
    assert "removed  1: r0" in data("diff", "mail@1").out
    assert _json(data("show", "mail@1", "--json"))["rows"] == 5


def test_what_is_refused_says_how_to_mend_it(data: Data, shop: Path) -> None:
    twice = _file(shop, {"id": "a", "question": "Hi"}, {"id": "b", "question": "hi!"})
    ran = data("add", "mail", twice, "--purpose", "eval", "--licence", "own")
    assert (ran.code, "--drop" in ran.err) == (2, True)
    assert (
        _json(data("add", "mail", twice, "--purpose", "eval", "--licence", "own", "--drop", "--json"))["dropped"] == 1
    )
    leak = data("add", "lessons", _file(shop, {"id": "c", "question": "HI"}), "--purpose", "train", "--licence", "own")
    assert (leak.code, "c by its text with a of mail@1" in leak.err) == (2, True)
    bad = _file(shop, {"question": "fine"}, {"none": 1})
    assert "x.jsonl:2:1: found no question" in data("add", "m", bad, "--purpose", "eval", "--licence", "own").err


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
def test_mistakes_are_explained(data: Data, shop: Path, arguments: list[str], told: str) -> None:
    _file(shop, {"question": "fine"})
    ran = data(*arguments)
    assert (ran.code, told in ran.err) == (2, True), ran.err


def test_production_becomes_a_data_set(data: Data, shop: Path) -> None:
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
    added = _json(data("add", "asked", "--from-production", "--purpose", "eval", "--json"))
    assert (added["version"]["rows"], added["review"]["unreferenced"]) == (1, 1)
    assert added["version"]["lineage"]["from"] == "production"
