"""What a newcomer reads where something is missing or odd: sentences, never the insides of Python or the system."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from fairlead.cli.output import write_report
from fairlead.cli.serve import check_tls
from fairlead.errors import MachineError, UsageError
from fairlead.settings import load
from fairlead.store import Store
from tests.cli.ran import Command
from tests.store.store_helpers import make_inference

SHOP = Path(__file__).parents[2] / "examples" / "shop"
WORDS = "tent stove lamp rope boot river night snow lake fox map stone wind fire coat bread".split()
INSIDES = re.compile(r"\[Errno|Traceback|_ssl|\[SSL|\{'|\[\]|None\b|malformed|<class|OSError")
Say = Callable[..., tuple[int, str]]


@pytest.fixture(name="say")
def say_fixture(run: Command) -> Say:
    def say(*arguments: str | Path) -> tuple[int, str]:
        """The exit code and all that is shown, which must be free of insides."""
        ran = run(*arguments)
        text = ran.out + ran.err
        assert "--json" in arguments or not INSIDES.search(text), text
        return ran.code, " ".join(text.split())

    return say


def test_a_store_that_cannot_be(say: Say) -> None:
    code, text = say("keys", "list", "--data-dir", "/proc/nowhere")
    assert code != 0
    assert "The store /proc/nowhere cannot be used (No such file or directory)" in text
    assert "--data-dir" in text


def test_certificates_that_cannot_be_read_or_are_none(tmp_path: Path) -> None:
    text = tmp_path / "text.pem"
    text.write_text("hello")
    for certificate, key, told in (
        ("/nowhere.pem", "", "The certificate /nowhere.pem cannot be read (No such file or directory)"),
        (str(text), "/nowhere.key", "The key /nowhere.key cannot be read"),
        (str(text), str(text), f"{text} and {text} are no certificate with the key that belongs to it"),
        (str(text), "", f"{text} holds no certificate with the key that belongs to it"),
        (str(tmp_path), "", "cannot be read (Is a directory)"),
    ):
        with pytest.raises(UsageError) as refused:
            check_tls(load({"tls_certificate": certificate, "tls_key": key}, {}))
        assert told in str(refused.value)
        assert "Give PEM files with --tls-certificate" in str(refused.value)
        assert not INSIDES.search(str(refused.value))


def test_data_that_is_not_there(say: Say, shop: Path) -> None:
    code, text = say("data", "add", "x", shop / "missing.csv", "--project", shop)
    assert code == 2
    assert f"There is no file {shop / 'missing.csv'}. Give one that ends in .csv" in text


def test_where_a_data_set_comes_from_is_told_in_words(say: Say, shop: Path) -> None:
    file = shop / "mine.jsonl"
    rows = [{"frage": " ".join(random.Random(number).choices(WORDS, k=9))} for number in range(60)]
    file.write_text("\n".join(map(json.dumps, rows)))
    flags = ("--purpose", "eval", "--licence", "own", "--map", "input=frage", "--project", shop)
    assert say("data", "add", "mine", file, *flags)[0] == 0
    assert "lineage file mine.jsonl, format jsonl, map input=frage" in say("data", "show", "mine", "--project", shop)[1]
    code, text = say("data", "split", "mine", "--into", "train=0.8", "--into", "eval=0.5", "--project", shop)
    assert code == 2
    assert "train=0.8 and eval=0.5 are no shares above 0 with a sum of 1" in text
    assert say("data", "split", "mine", "--into", "train=0.5", "--into", "eval=0.5", "--project", shop)[0] == 0
    text = say("data", "show", "mine-train", "--project", shop)[1]
    assert re.search(r"shares train=0\.5 eval=0\.5, salt none", text), text


def test_an_empty_store_says_none(say: Say, shop: Path) -> None:
    text = say("traces", "status", "--project", shop)[1]
    assert "oldest none newest none" in text
    assert "error none recovered none" in text


def test_what_was_mended_is_told_as_it_was(say: Say, shop: Path) -> None:
    with Store.open(shop / ".fairlead") as store:
        store.traces.append(make_inference())
    (journal,) = shop.glob(".fairlead/traces/journal/*.jsonl")
    journal.write_bytes(journal.read_bytes()[:-40])
    assert "written only in part" in say("traces", "status", "--project", shop)[1]


def test_prices_that_are_no_json(say: Say, shop: Path) -> None:
    file = shop / "prices.txt"
    file.write_text("gpt 5 dollars")
    code, text = say("prices", "update", file, "--project", shop)
    assert code == 2
    assert "it is no JSON; expected a JSON table of models, or a .csv with the columns model" in text


@pytest.mark.parametrize("template", ["blank", "shop-support"])
def test_the_first_question_a_template_proposes_is_one_it_can_answer(say: Say, tmp_path: Path, template: str) -> None:
    code, text = say("init", template, tmp_path / "mine")
    assert code == 0
    found = re.search(r'fairlead ask "(.*?)"', text)
    assert found
    code, answered = say("ask", found[1], "--project", tmp_path / "mine", "--json")
    assert code == 0
    assert json.loads(answered)["sources"], answered


@pytest.mark.parametrize("question", ["", "  \n"])
def test_an_empty_question_is_bad_input_like_any_other(say: Say, shop: Path, question: str) -> None:
    code, text = say("ask", question, "--project", shop)
    assert code == 2
    assert "The question is empty" in " ".join(text.split())


def test_a_report_that_cannot_be_written_is_told_in_plain_words(tmp_path: Path) -> None:
    places = [tmp_path, tmp_path / "gone" / "r.html", *(each for each in [Path("/dev/full")] if each.exists())]
    for place in places:
        with pytest.raises(MachineError) as caught:
            write_report(place, "x" * 100_000)
        assert str(place) in str(caught.value)
        assert not INSIDES.search(str(caught.value))
        assert "Something went wrong" not in str(caught.value)
