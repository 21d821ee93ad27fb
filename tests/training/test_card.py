"""The page people read says what the card says."""

from __future__ import annotations

import json

import pytest

from training.card import BEGIN, CARD, END, PAGE, place_card, render_card

READ = json.loads(CARD.read_text(encoding="utf-8"))


def test_the_page_is_up_to_date() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert place_card(page, READ) == page, "run: python -m training.card"


def test_every_skill_and_source_stands_on_the_page() -> None:
    text = render_card(READ)
    for line in READ["skills"]:
        assert f"(`{line['skill']}`) | {line['right']} of {line['n']} |" in text
    for source in READ["data"]:
        assert f"| {source['name']} | {source['licence']} |" in text


def test_placing_renews_only_what_lies_between_the_marks() -> None:
    page = f"before\n{BEGIN}\nSTALE\n{END}\nafter\n"
    placed = place_card(page, READ)
    assert placed.startswith(f"before\n{BEGIN}\n")
    assert placed.endswith(f"\n{END}\nafter\n")
    assert "STALE" not in placed
    with pytest.raises(ValueError, match="lacks the lines"):
        place_card("no marks", READ)
