"""What must agree in two texts that say the same; and the judge on top of it."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fairlead.guard.agreement import disagreement, facts_of
from fairlead.guard.sameness import SAME_ANSWER, Sameness

JUDGE = Sameness()


@pytest.mark.parametrize(
    ("one", "other", "what"),
    [
        ("refund within 14 days", "refund within 30 days", "number"),
        ("where is order A-10423", "where is order A-10432", "number"),
        ("ship three boxes", "ship 4 boxes", "number"),
        ("the lamp works", "the lamp does not work", "negation"),
        ("I was charged", "I wasn't charged", "negation"),
        ("reset my_account", "reset my_profile", "name"),
        ("parcels to Vienna", "parcels to Cardiff", "name"),
        ("set useCache", "set useProxy", "name"),
        ("who sent it", "when was it sent", "question"),
        ("may I send it back", "must I send it back", "modality"),
        ("pay before delivery", "pay after delivery", "opposite"),
        ("turn it on", "turn it off", "opposite"),
        ("change it until it is packed", "change it once it is packed", "relation"),
        ("what is the price of it and how", "was ist der Preis und wie ist das", "language"),
        ("доставка", "delivery", "language"),
    ],
)
def test_what_differs_is_named(one: str, other: str, what: str) -> None:
    assert disagreement(facts_of(one), facts_of(other)) == what
    assert disagreement(facts_of(other), facts_of(one)) == what
    assert JUDGE.odds(JUDGE.prepare(one), JUDGE.prepare(other)) == 0.0


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Where is my parcel?", "where is my parcel"),
        ("two boxes", "2 boxes"),
        ("can I return it", "Am I allowed to return it"),
        ("refund within 30 days", "a refund in 30 days"),
    ],
)
def test_what_agrees_is_left_to_the_judge(one: str, other: str) -> None:
    assert disagreement(facts_of(one), facts_of(other)) == ""


@given(st.text(max_size=80), st.text(max_size=80))
def test_any_text_agrees_with_itself_and_order_does_not_matter(one: str, other: str) -> None:
    a, b = facts_of(one), facts_of(other)
    assert disagreement(a, a) == ""
    assert disagreement(a, b) == disagreement(b, a)


@given(st.text(max_size=60), st.text(max_size=60))
@example("B;\u0620", "A;B;a")
def test_odds_are_odds_and_symmetric(one: str, other: str) -> None:
    a, b = JUDGE.prepare(one), JUDGE.prepare(other)
    odds = JUDGE.odds(a, b)
    assert 0.0 <= odds <= 1.0
    assert odds == pytest.approx(JUDGE.odds(b, a), abs=1e-6)


def test_answers_agree_in_the_same_words_or_nearly() -> None:
    assert JUDGE.agree("It left on Monday.", "It  left on\nMonday.")
    assert not JUDGE.agree("You have 14 days to return it.", "You have 30 days to return it.")
    assert not JUDGE.agree("We deliver to your home.", "The shop opens at nine.")
    assert SAME_ANSWER >= 0.9
