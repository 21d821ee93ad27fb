"""Plain questions on the shop, put as customers put them: paraphrases of what its pages say, rules, and own matters.

Each stands for a general cause that was mended (an idea for which customers have other words, words that only look
alike, a rule taken for an order, two tools that share the odds), so it must be answered rightly, however sure the
answer is.
"""

from __future__ import annotations

import pytest

from benchmarks.shop_plain import Served, follow, read_plain, tool_of
from fairlead.engines.embed.words import words_of
from fairlead.engines.extractive.text import concepts_of

PARAPHRASES = (
    "How long do I have to send something back?",
    "what do I pay if I send something back from France?",
    "i threw the box away, can i still return it",
    "does swapping cost anything",
    "can you just leave it on the porch?",
    "Can I pick my order up at the shop in Munich?",
    "I wasn't in when the driver came. What happens to my parcel?",
    "someone ordered with my account and it wasn't me!",
    "do points run out?",
    "how do I stop your mails",
    "do you also fix things from other brands?",
    "where do I drop the return parcel",
    "my parcel hasn't moved for a week",
)
OWN = (
    "has my order been sent yet",
    "where is my parcel right now?",
    "I want to cancel",
    "make me a return label for order 215604 please",
    "are you open today?",
)
APART = (  # (words that only share a stem, the idea they do not speak of)
    ("most customers take a size more", "vat"),
    ("the nearest pick-up point", "loyalty"),
    ("the last parcel of your order", "battery"),
    ("Can I pick my order up?", "account"),
    ("United Kingdom", "quantity"),
    ("the care label of my car", "jobs"),
)


@pytest.fixture(scope="module")
def plain() -> dict[str, Served]:
    questions, requests = read_plain()
    return {served[0].text: served for served in (*questions, *requests)}


@pytest.mark.parametrize("text", PARAPHRASES)
def test_a_plain_question_is_answered_from_the_page_that_answers_it(plain: dict[str, Served], text: str) -> None:
    outcome = follow(*plain[text])
    assert outcome.where == "right", outcome.said


@pytest.mark.parametrize("text", OWN)
def test_what_is_the_customers_own_matter_goes_to_its_tool(plain: dict[str, Served], text: str) -> None:
    asked, wanted = plain[text]
    assert tool_of(asked, follow(asked).said) in wanted


@pytest.mark.parametrize(("text", "idea"), APART)
def test_words_that_only_look_alike_share_no_idea(text: str, idea: str) -> None:
    assert idea not in concepts_of(words_of(text))
    written = {"vat": "customs", "loyalty": "points", "battery": "it lasts", "account": "my orders"}
    written |= {"quantity": "units", "jobs": "a career"}
    assert idea in concepts_of(words_of(written[idea]))


def test_how_long_the_shop_takes_decides_nothing_about_the_customers_time(plain: dict[str, Served]) -> None:
    said = follow(*plain["Is it too late after 5 weeks?"]).said
    assert not said.text.startswith(("Yes", "No"))


def test_the_set_is_whole(plain: dict[str, Served]) -> None:
    questions, requests = read_plain()
    assert len(plain) == len(questions) + len(requests)
    for asked, _ in questions:
        assert not asked.right or asked.documents
