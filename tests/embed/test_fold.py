"""Folding looks only at what is not ASCII; it must come to what looking at every character comes to."""

from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from fairlead.engines.embed.words import fold


def by_character(text: str) -> str:
    """The obvious way."""
    if text.isascii():
        return text.lower()
    spread = unicodedata.normalize("NFKD", "".join("'" if c in "’‘ʼ`" else c for c in text))
    return "".join(c for c in spread if not unicodedata.combining(c)).lower()


@given(st.text(st.one_of(st.characters(max_codepoint=0x36F), st.sampled_from("’‘ʼ`ﬁ½é"), st.characters())))
def test_the_same_as_character_by_character(text: str) -> None:
    assert fold(text) == by_character(text)


def test_accents_quotes_and_forms() -> None:
    assert fold("Café’s ﬁne ½") == "cafe's fine 1\u20442"
