"""Passing on to a person: the queue, waiting, coming back, and office hours across a change of clocks."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from fairlead.assistant.assistant import RESUMED, WAITING
from fairlead.assistant.events import HandedOff
from fairlead.assistant.handoff import Desk, summarise, wants_to_resume
from fairlead.errors import ConversationUnknown
from fairlead.records import Message
from tests.assistant.assistant_harness import act_of, spoken
from tests.assistant.conftest import MakeShop

BERLIN = ZoneInfo("Europe/Berlin")


async def test_asking_for_a_person_queues_the_conversation(make_shop: MakeShop) -> None:
    shop = make_shop()
    first, _ = shop.assistant.open_conversation()
    second, _ = shop.assistant.open_conversation()
    await shop.say(first.id, "I would like to talk to a person, my mail is mira.holm@example.com")
    events = await shop.say(second.id, "I want to talk to a human")
    state = next(event for event in events if isinstance(event, HandedOff))
    assert (state.state, state.position, state.hours) == ("waiting", 2, "Mon-Fri 09:00-17:00 (Europe/Berlin)")
    assert act_of(events) == "handoff"
    waiting = shop.store.handoffs.waiting()
    assert [handoff.conversation for handoff in waiting] == [first.id, second.id]
    assert "[email]" in waiting[0].summary
    stored = shop.store.conversations.get(second.id)
    assert stored is not None
    assert stored.state == "waiting"


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (["..."], "Asked: ..."),
        (["\u202e\u200b", "..", "Where is it?"], "Asked: .. / Where is it?"),
        (["\u3164"], "Asked: (no readable text)"),
        (["", " \n"], "Asked: (no readable text)"),
        (["One\u202e.", "\x1b", "two", "three", "four."], "Asked: One / three / four"),
        (["long " * 100], f"Asked: {'long ' * 31}long…"),
        ([], ""),
    ],
    ids=["dots", "first unreadable", "blank", "empty", "many", "long", "nothing"],
)
def test_a_summary_never_says_that_nothing_was_asked_by_saying_nothing(asked: list[str], told: str) -> None:
    same: dict[str, Any] = {"tenant": "default", "subject": "", "usecase": "", "spec_hash": "", "release": ""}
    messages = [
        Message(id=str(n), time=n, conversation="c", role="user", text=text, **same) for n, text in enumerate(asked)
    ]
    assert summarise(messages) == told


async def test_a_terminal_does_not_stand_in_the_customers_line(make_shop: MakeShop) -> None:
    shop = make_shop()
    conversation, _ = shop.assistant.open_conversation(channel="cli")
    events = await shop.say(conversation.id, "I want to talk to a human")
    state = next(event for event in events if isinstance(event, HandedOff))
    assert (state.state, state.position) == ("open", 0)
    assert state.message
    assert shop.store.handoffs.waiting() == []
    assert act_of(await shop.say(conversation.id, "How much is delivery to Austria?")) == "answer"


async def test_while_waiting_messages_are_kept_and_the_bot_says_so(make_shop: MakeShop) -> None:
    shop = make_shop()
    conversation, _ = shop.assistant.open_conversation()
    shop.assistant.handoff(conversation.id, "wants a discount")
    events = await shop.say(conversation.id, "hello?")
    assert (spoken(events), act_of(events)) == (WAITING, "waiting")
    assert [m.text for m in shop.assistant.transcript(conversation.id)][-2:] == ["hello?", WAITING]
    shop.store.handoffs.take(shop.store.handoffs.waiting()[0].id, operator="Ada", key="k1", lease=1 << 60)
    events = await shop.say(conversation.id, "are you there?")
    assert spoken(events) == ""
    state = next(event for event in events if isinstance(event, HandedOff))
    assert state.state == "with_person"
    assert shop.assistant.transcript(conversation.id)[-1].text == "are you there?"


async def test_a_customer_can_go_back_to_the_assistant(make_shop: MakeShop) -> None:
    shop = make_shop()
    conversation, _ = shop.assistant.open_conversation()
    shop.assistant.handoff(conversation.id)
    assert spoken(await shop.say(conversation.id, "never mind")) == RESUMED
    assert shop.store.handoffs.waiting() == []
    assert act_of(await shop.say(conversation.id, "How much is delivery to Austria?")) == "answer"
    shop.assistant.handoff(conversation.id)
    assert shop.assistant.resume(conversation.id).state == "open"


async def test_asking_twice_at_once_queues_once(make_shop: MakeShop) -> None:
    shop = make_shop()
    conversation, _ = shop.assistant.open_conversation()
    with ThreadPoolExecutor(8) as pool:
        states = list(pool.map(lambda _: shop.assistant.handoff(conversation.id, "now"), range(16)))
    assert {state.position for state in states} == {1}
    assert len(shop.store.handoffs.waiting()) == 1


async def test_a_shop_without_people_says_so(make_shop: MakeShop) -> None:
    shop = make_shop(change={"enabled: true": "enabled: false"})
    conversation, _ = shop.assistant.open_conversation()
    assert shop.assistant.handoff(conversation.id).state == "unavailable"
    assert shop.store.handoffs.waiting() == []
    with pytest.raises(ConversationUnknown):
        shop.assistant.handoff("nowhere")


@pytest.mark.parametrize(
    ("local", "opens"),
    [
        ((2026, 11, 23, 10, 0), None),
        ((2026, 11, 23, 16, 59), None),
        ((2026, 11, 23, 17, 0), "Tuesday, 24 November, at 09:00"),
        ((2026, 11, 20, 18, 0), "Monday, 23 November, at 09:00"),
        # The clocks go forward on 29 March 2026 and back on 25 October 2026, both a Sunday.
        ((2026, 3, 28, 12, 0), "Monday, 30 March, at 09:00"),
        ((2026, 10, 24, 12, 0), "Monday, 26 October, at 09:00"),
        ((2026, 3, 30, 9, 0), None),
        ((2026, 10, 26, 8, 59), "Monday, 26 October, at 09:00"),
    ],
)
def test_hours_are_those_of_the_office(
    make_shop: MakeShop, local: tuple[int, int, int, int, int], opens: str | None
) -> None:
    shop = make_shop()
    now = datetime(*local, tzinfo=BERLIN).astimezone(UTC)
    notice = Desk(shop.store, shop.usecase.policy.handoff).notice(now)
    message = shop.usecase.policy.handoff.message
    assert notice == (message if opens is None else f"{message} Our team is back on {opens}.")


def test_nine_in_berlin_is_not_one_hour_of_utc(make_shop: MakeShop) -> None:
    """Half past seven UTC is half past eight in winter and half past nine in summer."""
    desk = Desk(make_shop().store, make_shop().usecase.policy.handoff)
    assert "back on" in desk.notice(datetime(2026, 3, 27, 7, 30, tzinfo=UTC))
    assert "back on" not in desk.notice(datetime(2026, 3, 30, 7, 30, tzinfo=UTC))


@pytest.mark.parametrize(
    ("text", "resumes"),
    [
        ("never mind", True),
        ("Back to the assistant", True),
        ("cancel that", True),
        ("I don't want to wait any longer, back to the bot please", True),
        ("hello?", False),
        ("please cancel my order TT-482913", False),
    ],
)
def test_words_for_coming_back(text: str, resumes: bool) -> None:
    assert wants_to_resume(text) is resumes
