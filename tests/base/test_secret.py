"""Secrets: read by reference, and in no line that is logged or shown."""

from __future__ import annotations

import importlib.util
import io
import logging
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead import secret
from fairlead.errors import SecretUnreadable


def test_where_a_secret_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", " from-the-environment\n")
    (tmp_path / "key.txt").write_text("from-a-file\n", encoding="utf-8")
    assert secret.read("env:A_KEY", tmp_path) == "from-the-environment"
    assert secret.read("file:key.txt", tmp_path) == "from-a-file"
    assert secret.read("env:NOT_SET_AT_ALL", tmp_path) == ""
    with pytest.raises(SecretUnreadable, match="file:gone"):
        secret.read("file:gone", tmp_path)


@pytest.mark.skipif(importlib.util.find_spec("keyring") is not None, reason="the keyring library is installed")
def test_the_keyring_names_what_it_needs(tmp_path: Path) -> None:
    with pytest.raises(SecretUnreadable, match=r"pip install '\.\[keyring\]'"):
        secret.read("keyring:fairlead/openai", tmp_path)


@pytest.mark.parametrize("text", ["env:A", "env:_a1", "file:secrets/key", "keyring:fairlead/openai"])
def test_a_reference(text: str) -> None:
    assert re.fullmatch(secret.REFERENCE, text)


@pytest.mark.parametrize(
    "text", ["sk-abc", "env:", "env:1A", "env:A B", "file:", "keyring:fairlead", "keyring:/a", "vault:x"]
)
def test_what_is_no_reference(text: str) -> None:
    assert not re.fullmatch(secret.REFERENCE, text)


@given(st.text(st.characters(codec="ascii", exclude_categories=["C", "Z"]), min_size=secret.SHORTEST, max_size=40),
       st.text(max_size=40), st.text(max_size=40))  # fmt: skip
def test_what_has_been_read_is_in_no_log_line_and_in_no_traceback(value: str, before: str, after: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(secret, "_known", set())
        patch.setenv("PLANTED", value)
        planted = secret.read("env:PLANTED", Path())
        stream = io.StringIO()
        handler = logging.StreamHandler(stream)
        handler.setFormatter(secret.HidingFormatter("%(levelname)s %(message)s"))
        logger = logging.Logger("planted")
        logger.addHandler(handler)
        logger.error("%s%s%s", before, planted, after)
        try:
            raise ValueError(f"{before}{planted}")
        except ValueError:
            logger.exception("it failed with %r", planted)
        written = stream.getvalue().replace("[secret]", "").replace("ValueError", "").replace("Traceback", "")
        if (
            planted not in "ERROR it failed with most recent call last File line raise"
            and planted not in before + after
        ):
            assert f"{before}{planted}" not in written
            assert planted not in secret.hide(f"x {planted} y").replace("[secret]", "")


@pytest.mark.parametrize(
    "text", ["sk-0123456789abcdef", "Bearer abcdefgh12345678", "fl-AbCdEfGhIjKl", "key-0123456789"]
)
def test_what_looks_like_a_key_is_hidden_though_nobody_read_it(text: str) -> None:
    assert secret.hide(f"refused {text}.") in ("refused [key].", "refused [key]")


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("via http://ada:pass@proxy:80 now", "via http://ada:[secret]@proxy:80 now"),
        ("https://:p@h/x and http://a:b:c@h", "https://:[secret]@h/x and http://a:[secret]@h"),
        ("redis://default:s3@host", "redis://default:[secret]@host"),
        ("http://host:80/a@b", "http://host:80/a@b"),
        ("ada@example.com", "ada@example.com"),
        ("http://ada@host", "http://ada@host"),
    ],
)
def test_passwords_in_addresses_are_hidden(text: str, hidden: str) -> None:
    assert secret.hide(text) == hidden


def test_ordinary_words_stay() -> None:
    said = "The key is missing; a bearer of the token asks for skating, sk-ies and fl-oors."
    assert secret.hide(said) == said
