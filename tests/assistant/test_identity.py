"""Who the customer is: from the customer's own words and a tool, or from a token the site has signed."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import time
from pathlib import Path
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.shop_questions import DAY
from fairlead.assistant import Facts
from fairlead.assistant.identity import FACTS_KEPT, Session, read_token
from fairlead.assistant.tools import Tools
from fairlead.errors import IdentityRefused
from fairlead.providers.base import Call
from fairlead.providers.scripted import Script
from fairlead.tools import Customer
from tests.assistant.assistant_harness import MIRA, SHOP, spoken
from tests.assistant.conftest import MakeShop

SECRET = b"a-secret-that-two-sites-share-with-each-other"
CLAIMS = {"sub": "1", "aud": "shop-support", "exp": 2_000_000_000, "email": "mira.holm@example.com", "name": "Mira"}
POLICY = {"  disclosure:\n": "  identity: {secret: env:SHOP_IDENTITY}\n  disclosure:\n"}


def test_a_token_of_any_jwt_library_is_read() -> None:
    token = jwt.encode(CLAIMS, SECRET, algorithm="HS256")
    assert read_token(token, SECRET, audience="shop-support") == Customer("1", "mira.holm@example.com", "Mira")
    several = jwt.encode({**CLAIMS, "aud": ["other", "shop-support"]}, SECRET, algorithm="HS256")
    assert read_token(several, SECRET, audience="shop-support").id == "1"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"exp": 1}, "expired"), ({"exp": None}, "expired"), ({"exp": "2999"}, "expired"),
        ({"aud": "other"}, "aud"), ({"aud": None}, "aud"), ({"sub": ""}, "sub"), ({"sub": None}, "sub"),
        ({"sub": 7}, "sub"), ({"nbf": 2_000_000_000}, "not valid yet"), ({"email": ["x"]}, "texts"),
    ],
)  # fmt: skip
def test_claims_that_do_not_fit_are_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(IdentityRefused, match=said):
        read_token(signed({**CLAIMS, **change}), SECRET, audience="shop-support", now=1_800_000_000)


def signed(claims: dict[str, Any], header: dict[str, Any] | None = None, secret: bytes = SECRET) -> str:
    parts = [
        base64.urlsafe_b64encode(json.dumps(each).encode()).rstrip(b"=")
        for each in (header or {"alg": "HS256"}, claims)
    ]
    mac = hmac.new(secret, b".".join(parts), hashlib.sha256).digest()
    return b".".join([*parts, base64.urlsafe_b64encode(mac).rstrip(b"=")]).decode()


def test_nobody_else_can_sign() -> None:
    good = signed(CLAIMS)
    head, body, mac = good.split(".")
    other = base64.urlsafe_b64encode(json.dumps({**CLAIMS, "sub": "2"}).encode()).rstrip(b"=").decode()
    bad = [
        signed(CLAIMS, secret=b"x" * 40), f"{head}.{other}.{mac}", f"{head}.{body}.", f"{head}.{body}", "", "a.b.c",
        "é.é.é", signed(CLAIMS, header={"alg": "none"}), signed(CLAIMS, header={"alg": "HS512"}), good + "A" * 5_000,
    ]  # fmt: skip
    for token in bad:
        with pytest.raises(IdentityRefused):
            read_token(token, SECRET, audience="shop-support")
    with pytest.raises(IdentityRefused, match="32 bytes"):
        read_token(good, b"short", audience="shop-support")


@given(st.text(max_size=200))
def test_no_text_is_a_token(text: str) -> None:
    with pytest.raises(IdentityRefused):
        read_token(text, SECRET, audience="shop-support")


@pytest.mark.parametrize(
    ("said", "fact", "known"),
    [
        ("my order is TT-482913", "TT-482913", True),
        ("my order is 482913.", "TT-482913", True),
        ("tt 482913", "TT-482913", True),
        ("my order is TT-4829137", "TT-482913", False),
        ("my order is 48291", "TT-482913", False),
        ("I am Mira.Holm@example.com", "mira.holm@example.com", True),
        ("<mira.holm@example.com>.", "mira.holm@example.com", True),
        ("xmira.holm@example.com", "mira.holm@example.com", False),
        ("mira.holm@example.com.evil.org", "mira.holm@example.com", False),
        ("mira.holm@example.com", "theo.calloway@example.org", False),
        ("a.mira.holm@example.com", "mira.holm@example.com", False),
        ("anything", "", False),
        ("", "TT-482913", False),
        ("12 34 56", "123456", False),
    ],
)
def test_only_what_the_customer_wrote_is_known(said: str, fact: str, known: bool) -> None:
    session = Session()
    session.hear([said])
    assert session.has_said(fact) is known


def calls(name: str, **arguments: Any) -> Any:
    def script(call: Call) -> Script:
        if call.body["messages"][-1]["role"] == "tool":
            return Script(text="Here it is.")
        return Script(tool_calls=((name, json.dumps(arguments)),))

    return script


async def test_a_customer_who_is_signed_in_need_not_say_anything(
    make_shop: MakeShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_IDENTITY", SECRET.decode())
    shop = make_shop(change=POLICY, script=calls("find_order", order_id="TT-482913"))
    conversation, _ = await asyncio.to_thread(shop.assistant.open_conversation)
    claims = {**CLAIMS, "exp": time.time() + 60}
    await shop.assistant.identify(conversation.id, jwt.encode(claims, SECRET, algorithm="HS256"))
    events = await shop.say(conversation.id, "Where is my order?", variant="mini")
    assert any(isinstance(event, Facts) and event.title == "Order TT-482913" for event in events)
    offered = {tool["function"]["name"]: tool["function"] for tool in shop.model.calls[0].body["tools"]}
    assert "email" not in offered["find_order"]["parameters"]["properties"]
    assert "recognise" not in offered
    # Nothing that is said makes another customer of them.
    other = calls("find_order", order_id="TT-730158", email="theo.calloway@example.org")
    shop.model.script = other
    events = await shop.say(conversation.id, "I am theo.calloway@example.org, my order is TT-730158", variant="mini")
    assert not any(isinstance(event, Facts) for event in events)
    quoted = await shop.say(conversation.id, "Where is my order TT-482913?")
    assert "TT-482913" in spoken(quoted)


async def test_without_a_policy_no_token_is_taken(make_shop: MakeShop) -> None:
    shop = make_shop()
    conversation, _ = await asyncio.to_thread(shop.assistant.open_conversation)
    with pytest.raises(IdentityRefused, match=r"policy\.identity"):
        await shop.assistant.identify(conversation.id, signed(CLAIMS))


async def test_the_customer_stays_known_and_another_proof_changes_it(make_shop: MakeShop) -> None:
    shop = make_shop(script=calls("find_order", **MIRA))
    conversation, _ = await asyncio.to_thread(shop.assistant.open_conversation)
    await shop.say(conversation.id, f"Where is {MIRA['order_id']}? {MIRA['email']}", variant="mini")
    shop.model.script = calls("track_parcel")
    events = await shop.say(conversation.id, "and the parcel?", variant="mini")
    assert any(isinstance(event, Facts) and event.title.startswith("Parcel") for event in events)
    sent = shop.model.calls[-2].body["messages"]
    assert [each["role"] for each in sent[-5:]] == ["user", "assistant", "tool", "assistant", "user"]
    assert "on its way" in sent[-3]["content"]  # the facts of the turn before are still there
    theo = {"order_id": "TT-730158", "email": "theo.calloway@example.org"}
    shop.model.script = calls("find_order", **theo)
    events = await shop.say(conversation.id, "and TT-730158 of theo.calloway@example.org?", variant="mini")
    assert any(isinstance(event, Facts) and event.title == "Order TT-730158" for event in events)
    shop.model.script = calls("find_order", order_id=MIRA["order_id"])
    events = await shop.say(conversation.id, "and mine again", variant="mini")
    assert not any(isinstance(event, Facts) for event in events)  # one customer at a time


async def test_the_offline_variant_remembers_what_was_spoken_of(make_shop: MakeShop) -> None:
    shop = make_shop()
    conversation, _ = await asyncio.to_thread(shop.assistant.open_conversation)
    for text in ("where is my order", "TT-482913", "mira.holm@example.com"):
        events = await shop.say(conversation.id, text)
    assert any(isinstance(event, Facts) for event in events)
    for text in ("and when does it arrive?", "when will it be here?"):
        assert "20 November 2026" in spoken(await shop.say(conversation.id, text))
    # The order need not be named again: what was spoken of last is meant, and shown.
    assert "A return can be started once" in spoken(await shop.say(conversation.id, "I want to send it back"))
    assert shop.assistant._threads.get(conversation.id).session.last == {"order_id": "TT-482913"}


async def test_what_was_spoken_of_last_fills_in_for_any_model(make_shop: MakeShop) -> None:
    shop = make_shop(script=calls("find_order", order_id="TT-730158", email="theo.calloway@example.org"))
    conversation, _ = await asyncio.to_thread(shop.assistant.open_conversation)
    await shop.say(conversation.id, "TT-730158, theo.calloway@example.org", variant="mini")
    shop.model.script = calls("cancel_order")
    events = await shop.say(conversation.id, "cancel it", variant="mini")
    assert spoken(events).startswith("Shall I cancel your order TT-730158")
    offered = {tool["function"]["name"]: tool["function"] for tool in shop.model.calls[-1].body["tools"]}
    assert offered["cancel_order"]["parameters"]["required"] == []
    assert offered["refund"]["parameters"]["required"] == ["amount"]


async def test_facts_are_forgotten_after_some_turns_and_with_the_customer() -> None:
    session = Session()
    session.identify(Customer("1"))
    session.remember([{"role": "tool", "content": "{}"}])
    for _ in range(FACTS_KEPT - 1):
        session.remember([])
    assert session.facts
    session.remember([])
    assert session.facts == []
    session.remember([{"role": "tool", "content": "{}"}])
    session.identify(Customer("2"))
    assert session.facts == []


async def test_over_the_api_nothing_that_changes_something_is_offered(make_shop: MakeShop) -> None:
    shop = make_shop(script=calls("cancel_order", order_id="TT-730158", email="theo.calloway@example.org"))
    answer = await shop.assistant.ask("Cancel TT-730158, theo.calloway@example.org", variant="mini")
    offered = [tool["function"]["name"] for tool in shop.model.calls[0].body["tools"]]
    assert offered == ["find_order", "track_parcel", "opening_hours"]
    result = json.loads(shop.model.calls[1].body["messages"][-1]["content"])
    assert "only be done in a conversation" in result["error"]
    assert answer.facts == ()
    assert not list((Path(SHOP) / "data").glob(f"working-{DAY}*"))


OFFERED = '''
from fairlead.tools import Customer, reads

@reads(identifies=True)
def who_is(email: str) -> dict:
    """Find out who the customer is."""
    return {"found": True, "customer": {"id": email, "email": email, "name": "N"}}

@reads
def orders(customer: Customer) -> dict:
    """The customer's orders."""
    return {"found": True, "summary": f"orders of {customer.id}"}
'''


async def test_a_model_cannot_recognise_a_customer_by_facts_nobody_wrote(tmp_path: Path) -> None:
    path = tmp_path / "offered.py"
    path.write_text(OFFERED)
    tools = Tools.load([path])
    session = Session()
    session.hear(["Hello, what did I order? I am anna@example.com"])
    try:
        known = await tools.call("who_is", {"email": "victim@example.com"}, session)
        assert not known.ok
        assert "yourself" in known.text()
        assert "victim" not in (await tools.call("orders", {}, session)).text()
        assert (await tools.call("who_is", {"email": "anna@example.com"}, session)).ok
        assert "anna" in (await tools.call("orders", {}, session)).text()
    finally:
        await tools.aclose()
