"""Whole conversations that act in the reference shop, with the engine that quotes: what a support lead expects."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import jwt
import pytest

from benchmarks.shop_questions import make_orders
from fairlead.assistant import Tools
from tests.assistant.assistant_harness import SHOP, Shop, act_of, spoken
from tests.assistant.conftest import MakeShop

SECRET = "a-secret-that-two-sites-share-with-each-other"
POLICY = {"  disclosure:\n": "  identity: {secret: env:SHOP_IDENTITY}\n  disclosure:\n"}
MIRA, SELMA, THEO = "mira.holm@example.com", "selma.rahimi@example.com", "theo.calloway@example.org"
Turn = tuple[str, str, str]


@pytest.fixture
def shop(make_shop: MakeShop, tmp_path: Path) -> Shop:
    """The reference shop over a database of its own, whose site signs its customers in."""
    folder = tmp_path / "shop"
    shutil.copytree(SHOP, folder, ignore=shutil.ignore_patterns(".fairlead", "working-*"))
    return make_shop(tools=Tools.load([folder / "tools.py"]), change=POLICY)


async def talk(shop: Shop, *turns: Turn, signed: str = "") -> str:
    """Say each message and expect an act and a part of the answer; returns the conversation."""
    conversation, _ = await asyncio.to_thread(shop.assistant.open_conversation)
    if signed:
        claims = {"sub": signed, "aud": "shop-support", "exp": time.time() + 600}
        await shop.assistant.identify(conversation.id, jwt.encode(claims, SECRET, algorithm="HS256"))
    for said, act, part in turns:
        events = await shop.say(conversation.id, said)
        assert (act_of(events), part in spoken(events)) == (act, True), f"{said!r}: {act_of(events)}: {spoken(events)}"
    return conversation.id


def customer_of(tmp_path: Path, email: str) -> str:
    """The shop's id of a customer."""
    make_orders(tmp_path / "look.sqlite")
    with closing(sqlite3.connect(tmp_path / "look.sqlite")) as database:
        return str(database.execute("SELECT id FROM customers WHERE email = ?", (email,)).fetchone()[0])


NUMBER, ADDRESS = (
    "Could you please tell me the order number?",
    "Could you please tell me the e-mail address of the order?",
)
CANCEL_THEO = "Shall I cancel your order TT-730158"
ON_ITS_WAY = "Your order TT-482913 is on its way"


@pytest.mark.parametrize(
    "turns",
    [
        [
            ("when will my order TT-10482 arrive?", "ask", "“TT-10482” cannot be the order number: it should"),
            ("oh sorry, TT-482913", "ask", ADDRESS),
            (MIRA, "tool", ON_ITS_WAY),
        ],
        [("where is my order?", "ask", NUMBER), ("tt 482913", "ask", ADDRESS), (f"it's {MIRA}", "tool", ON_ITS_WAY)],
        [("where is my order?", "ask", NUMBER), ("10482", "ask", "“10482” cannot be"), ("482913", "ask", ADDRESS)],
        [("Where are TT-482913 and TT-416863? " + MIRA, "tool", "TT-416863 ")],
        [("tt 482913 " + MIRA, "tool", "TT-482913")],
        [("TT-482913", "ask", ADDRESS), (MIRA, "tool", "TT-482913")],
        [("Wo ist meine Bestellung TT-482913? " + MIRA, "tool", ON_ITS_WAY)],
        [("how much was TT-482913? " + MIRA, "tool", "Total: €")],
        [(f"order 482913 {MIRA}, what did it cost and when does it arrive?", "tool", "Total: €"),
         ("what did it cost and when does it arrive?", "tool", ON_ITS_WAY)],
        [("TT-48291", "ask", "“TT-48291” cannot be"), (f"TT-482913, {MIRA}", "tool", "TT-482913")],
        [("where's order TT-482913", "ask", ADDRESS), ("holm@example.com", "tool", "cannot find"),
         ("I don't have another address", "tool", "cannot find"), (MIRA, "tool", "TT-482913 ")],
        [("my phone number is 0151 482913, where is my order?", "ask", NUMBER)],
        [("is TT-482913 cancelled? " + MIRA, "tool", ON_ITS_WAY)],
        [("where is my order? TT-482913", "ask", ADDRESS), ("mira.holm@", "ask", "“mira.holm@” cannot be")],
    ],
)  # fmt: skip
async def test_a_number_is_taken_as_it_is_written_and_one_of_another_form_is_named(
    shop: Shop, turns: list[Turn]
) -> None:
    await talk(shop, *turns)


@pytest.mark.parametrize(
    "turns",
    [
        [("cancel it", "ask", NUMBER), (f"TT-730158 {THEO}", "confirm", CANCEL_THEO), ("ja", "action", "is cancelled")],
        [("cancel my order", "ask", NUMBER), ("730158", "ask", ADDRESS), (THEO, "confirm", CANCEL_THEO),
         ("ok do it", "action", "is cancelled")],
        [("cancel my order TT-730158", "ask", ADDRESS), ("what does delivery to Austria cost?", "answer", "€5.90"),
         (THEO, "confirm", CANCEL_THEO)],
        [(f"cancel my order TT-730159, {THEO}", "tool", "cannot find"),
         ("sorry, it's TT-730158", "confirm", CANCEL_THEO), ("no", "action", "not done")],
        [(f"cancel my order TT-730158, {THEO}", "confirm", CANCEL_THEO), ("wait", "confirm", "Take your time."),
         ("ok, yes", "action", "is cancelled")],
        [(f"cancel my order TT-730158, {THEO}", "confirm", CANCEL_THEO),
         ("how long does the refund take?", "answer", CANCEL_THEO), ("yes please", "action", "is cancelled")],
        [(f"please refund order TT-215604, {SELMA}", "ask", "the amount in euros?"), ("20", "confirm", "€20.00"),
         ("no, 25", "confirm", "€25.00"), ("no", "action", "not done")],
        [("cancel my order TT-730158", "ask", ADDRESS), ("hmm, actually no", "small_talk", "All right."),
         ("ok, do cancel it", "ask", ADDRESS), (THEO, "confirm", CANCEL_THEO)],
        [("change my address", "ask", NUMBER), ("TT-730158", "ask", ADDRESS), (THEO, "ask", "the new address?"),
         ("Hafenkai 12, 28195 Bremen", "confirm", "to Hafenkai 12"),
         ("no wait, Hafenkai 14, 28195 Bremen", "confirm", "to Hafenkai 14"),
         ("yes that's correct", "action", "now goes to Hafenkai 14")],
        [("where is my order", "ask", NUMBER), ("I don't have the number", "answer", ""),
         ("it's 482913", "ask", ADDRESS),
         ("I don't want to give my email", "answer", ""), ("ok " + MIRA, "tool", "TT-482913")],
    ],
)  # fmt: skip
async def test_a_wish_is_kept_until_the_customer_is_known_and_asked(shop: Shop, turns: list[Turn]) -> None:
    await talk(shop, *turns)


@pytest.mark.parametrize("drop", ["no, forget it", "never mind", "I changed my mind", "no"])
async def test_a_wish_that_is_taken_back_is_not_gone_on_with(shop: Shop, drop: str) -> None:
    kept = await talk(
        shop,
        ("cancel my order", "ask", NUMBER),
        (drop, "small_talk", "All right."),
        (f"where is my order TT-730158, {THEO}", "tool", "We have received your order"),
    )
    assert shop.store.actions.list(conversation=kept) == []


async def test_another_wish_in_place_of_an_answer_replaces_the_first(shop: Shop) -> None:
    await talk(
        shop,
        ("cancel my order", "ask", NUMBER),
        (f"actually, where is my order TT-730158? {THEO}", "tool", "We have received your order"),
    )


async def test_questions_on_what_was_shown_are_answered_from_it(shop: Shop) -> None:
    await talk(
        shop,
        (f"when does order TT-482913 come? {MIRA}", "tool", ON_ITS_WAY),
        ("and TT-416863?", "tool", "Your order TT-416863 was delivered"),
        ("and TT-482913?", "tool", ON_ITS_WAY),
        ("and when does it arrive?", "tool", ON_ITS_WAY),
        ("where is it now?", "tool", "travels with NordPaket"),
        ("what did I pay?", "tool", "Total: €"),
        ("what did I order?", "tool", "1 × "),
        ("what was in it again?", "tool", "1 × "),
        ("can I still change the address?", "tool", "can only be changed until the order is packed"),
        ("can I cancel it?", "tool", "can no longer be cancelled"),
        ("what does delivery to Austria cost?", "answer", "€5.90"),
        ("Can I return boots that I tried on at home?", "answer", "wear boots on a carpet"),
    )


async def test_the_only_order_that_can_be_meant_is_not_asked_for(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_IDENTITY", SECRET)
    await talk(
        shop,
        ("where is my order?", "tool", "We have received your order TT-730158"),
        ("cancel it", "confirm", CANCEL_THEO),
        signed=customer_of(tmp_path, THEO),
    )


async def test_a_change_that_is_not_possible_is_refused_before_its_details_are_asked_for(shop: Shop) -> None:
    wish = f"I'd like to change the address of my order TT-482913, {MIRA}"
    await talk(shop, (wish, "tool", "can only be changed until the order is packed"))


async def test_thanks_after_an_offer_is_no_wish_for_a_person(shop: Shop) -> None:
    await talk(shop, ("do you sell kayaks for hire in Norway?", "unknown", "person?"), ("ok, thanks", "small_talk", ""))
