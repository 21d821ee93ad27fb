"""Text of others as it is shown: nothing in it moves a cursor, turns a line around or hides."""

from __future__ import annotations

import json
import logging
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.readable import UNREADABLE, escaped, legible, readable
from fairlead.secret import HidingFormatter

ANY = st.text(
    st.characters(codec=None) | st.sampled_from("\u202e\u2066\u200b\u200c\u200d\ufeff\x1b\x9b\r\ud800a\u0645")
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("pay\u202e 001\u2069", "pay 001"),
        ("\x1b[2Jred\x9b31m\r\x07", "[2Jred31m"),
        ("ad\u200bm\u2060i\u00adn\ufeff", "admin"),
        ("a\u200d\u200cb\ud800", "ab"),
        ("tag\U000e0041\U000e007f", "tag"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645", "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"),
        ("\U0001f469\u200d\U0001f4bb", "\U0001f469\u200d\U0001f4bb"),
        ("\u0645\u200d\u200d\u200c\u0645", "\u0645\u0645"),
    ],
    ids=["direction", "control", "no width", "joiners", "tags", "white space", "Persian", "emoji", "many joiners"],
)
def test_what_is_left_out_and_what_stays(text: str, shown: str) -> None:
    assert readable(text) == shown


@given(ANY)
def test_nothing_that_does_something_is_left(text: str) -> None:
    shown = readable(text)
    assert readable(shown) == shown or "\u200c" in text or "\u200d" in text
    left = {unicodedata.category(each) for each in shown if each not in "\n\t"}
    assert not left & {"Cc", "Cs", "Zl", "Zp"}
    assert not any(unicodedata.bidirectional(each) in {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
                   for each in shown)  # fmt: skip


@given(ANY)
def test_a_document_means_the_same_and_can_be_looked_at(text: str) -> None:
    document = escaped(json.dumps({"text": text}, ensure_ascii=False))
    assert json.loads(document) == {"text": text}
    assert readable(document) == document


@pytest.mark.parametrize("text", ["", " \n", "\u202e\u200b", "\u3164\u2800", "\ud800"])
def test_a_text_of_which_nothing_is_seen(text: str) -> None:
    assert not legible(text)
    assert legible(UNREADABLE)
    assert legible(f"{text}?")


def test_a_log_line_does_nothing_to_the_terminal() -> None:
    record = logging.LogRecord("x", logging.WARNING, "f", 1, "said %s", ("\x1b]0;owned\x07\u202e",), None)
    assert HidingFormatter("%(message)s").format(record) == "said ]0;owned"
