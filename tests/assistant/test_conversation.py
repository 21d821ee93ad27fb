"""Conversations: secrets, masking, order, repeats, interruptions, restarts, feedback."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing

import pytest

from fairlead.assistant import Answer, Delta, Done, Failed
from fairlead.assistant.assistant import APOLOGY
from fairlead.assistant.conversation import MAX_REMEMBERED, Threads
from fairlead.errors import ConversationClosed, ConversationUnknown, FeedbackInvalid, MessageEmpty, MessageTooLong
from fairlead.providers.scripted import Script
from tests.assistant.assistant_harness import GREETING, act_of, spoken
from tests.assistant.conftest import MakeShop

AUSTRIA = "How much is standard delivery to Austria?"


async def test_it_says_what_it_is_before_the_first_answer(make_shop: MakeShop) -> None:
    shop = make_shop()
    conversation, _ = shop.assistant.open_conversation("widget", language="en")
    (greeting,) = shop.assistant.transcript(conversation.id)
    assert greeting.role == "assistant"
    assert greeting.text == shop.assistant.greeting
    assert greeting.text.startswith(GREETING)
    assert (conversation.channel, conversation.language, conversation.state) == ("widget", "en", "open")


async def test_only_the_secret_opens_a_conversation(make_shop: MakeShop) -> None:
    shop = make_shop()
    conversation, secret = shop.assistant.open_conversation()
    other, other_secret = shop.assistant.open_conversation()
    assert shop.assistant.authorise(conversation.id, secret).id == conversation.id
    stored = shop.store.conversations.get(conversation.id)
    assert stored is not None
    assert secret not in str(stored)
    for identifier, wrong in (
        (conversation.id, ""),
        (conversation.id, other_secret),
        (conversation.id, conversation.secret_hash),
        (other.id, secret),
        ("no-such-id", secret),
        (conversation.id, "\ud800"),
    ):
        with pytest.raises(ConversationUnknown):
            shop.assistant.authorise(identifier, wrong)


async def test_what_is_stored_is_masked_and_what_tools_need_is_not(make_shop: MakeShop) -> None:
    shop = make_shop()
    conversation, _ = shop.assistant.open_conversation()
    await shop.say(conversation.id, "Where is my order TT-482913?")
    events = await shop.say(conversation.id, "my address is mira.holm@example.com and my phone is +49 171 3920017")
    assert "20 November 2026" in spoken(events) or "NordPaket" in spoken(events)
    stored = "\n".join(f"{m.text} {m.facts}" for m in shop.assistant.transcript(conversation.id))
    stored += "".join(
        f"{trace.input} {trace.output}" for trace in await shop.traces() if trace.operation == "assistant"
    )
    stored += str(shop.store.conversations.get(conversation.id))
    assert "[email]" in stored
    assert "mira.holm" not in stored
    assert "3920017" not in stored


@pytest.mark.parametrize(
    ("question", "contact"),
    [
        ("How quickly do you answer e-mails?", "help@tarnandtinder.example"),
        ("What is your phone number?", "+49 40 66969 210"),
    ],
)
async def test_the_shops_own_address_stays_readable(make_shop: MakeShop, question: str, contact: str) -> None:
    shop = make_shop(script=Script(text=f"You reach us at {contact}, not at me@example.org."))
    conversation, _ = shop.assistant.open_conversation()
    await shop.say(conversation.id, f"{question} I am me@example.org", variant="mini")
    _, asked, answer = shop.assistant.transcript(conversation.id)
    assert asked.text.endswith("I am [email]")
    assert contact in answer.text


async def test_without_content_only_figures_are_stored(make_shop: MakeShop) -> None:
    shop = make_shop(change={"store_content: true": "store_content: false"})
    conversation, _ = shop.assistant.open_conversation()
    events = await shop.say(conversation.id, AUSTRIA)
    assert "€5.90" in spoken(events)
    messages = shop.assistant.transcript(conversation.id)
    assert [m.text for m in messages] == ["", "", ""]
    stored = shop.store.conversations.get(conversation.id)
    assert stored is not None
    assert (stored.title, stored.turns) == ("", 1)


async def test_turns_title_and_trace_are_kept(make_shop: MakeShop) -> None:
    shop = make_shop()
    conversation, _ = shop.assistant.open_conversation()
    events = await shop.say(conversation.id, AUSTRIA)
    await shop.say(conversation.id, "And to Italy?")
    stored = shop.store.conversations.get(conversation.id)
    assert stored is not None
    assert (stored.title, stored.turns) == (AUSTRIA, 2)
    answer = shop.assistant.transcript(conversation.id)[2]
    done = events[-1]
    assert isinstance(done, Done)
    assert (answer.id, answer.inference) == (done.message_id, done.inference_id)
    assert answer.sources
    assert answer.release == "release-extractive"
    trace = next(t for t in await shop.traces() if t.id == done.inference_id)
    assert (trace.conversation, trace.operation, trace.subject) == (conversation.id, "assistant", conversation.subject)


async def test_two_messages_at_once_are_answered_one_after_the_other(make_shop: MakeShop) -> None:
    shop = make_shop(script=Script(text="It costs €5.90.", pace_s=0.01))
    conversation, _ = shop.assistant.open_conversation()
    both = await asyncio.gather(*(shop.say(conversation.id, f"{AUSTRIA} {n}", variant="mini") for n in range(3)))
    assert all(isinstance(events[-1], Done) for events in both)
    roles = [message.role for message in shop.assistant.transcript(conversation.id)]
    assert roles == ["assistant", *["user", "assistant"] * 3]
    stored = shop.store.conversations.get(conversation.id)
    assert stored is not None
    assert stored.turns == 3


async def test_a_repeated_message_is_asked_once(make_shop: MakeShop) -> None:
    shop = make_shop(script=Script(text="It costs €5.90."))
    conversation, _ = shop.assistant.open_conversation()
    first, second = await asyncio.gather(
        *(shop.say(conversation.id, AUSTRIA, variant="mini", client_id="message-1") for _ in range(2))
    )
    assert first == second
    assert len(shop.model.calls) == 1
    assert len(shop.assistant.transcript(conversation.id)) == 3
    await shop.say(conversation.id, AUSTRIA, variant="mini", client_id="message-2")
    assert len(shop.model.calls) == 2


async def test_a_repeat_after_a_restart_is_still_recognised(make_shop: MakeShop) -> None:
    shop = make_shop()
    conversation, _ = shop.assistant.open_conversation()
    first = await shop.say(conversation.id, AUSTRIA, client_id="message-1")
    shop.assistant._threads = Threads()
    again = await shop.say(conversation.id, AUSTRIA, client_id="message-1")
    assert spoken(again) == spoken(first)
    assert act_of(again) == act_of(first)
    assert len(shop.assistant.transcript(conversation.id)) == 3


async def test_a_conversation_goes_on_after_a_restart(make_shop: MakeShop) -> None:
    shop = make_shop(script=Script(text="It costs €8.90."))
    conversation, _ = shop.assistant.open_conversation()
    await shop.say(conversation.id, AUSTRIA)
    shop.assistant._threads = Threads()
    await shop.say(conversation.id, "And to Italy?", variant="mini")
    sent = [message["content"] for message in shop.model.calls[0].body["messages"]]
    assert AUSTRIA in sent


async def test_memory_is_bounded(make_shop: MakeShop) -> None:
    threads = Threads(limit=3)
    busy = threads.get("busy")
    busy.users = 1
    for n in range(20):
        threads.get(f"c{n}")
    assert len(threads) == 3
    assert threads.get("busy") is busy
    for n in range(100):
        busy.remember("user", str(n))
    assert len(busy.said) == MAX_REMEMBERED


async def test_a_client_that_leaves_in_the_middle_stops_the_model(make_shop: MakeShop) -> None:
    shop = make_shop(script=Script(text="It costs €5.90. " * 40, pace_s=0.005))
    conversation, _ = shop.assistant.open_conversation()
    async with aclosing(shop.assistant.reply(conversation.id, AUSTRIA, variant="mini", client_id="m1")) as events:
        async for event in events:
            if isinstance(event, Delta):
                break
    assert shop.model.cancelled == 1
    kept = shop.assistant.transcript(conversation.id)
    assert [m.role for m in kept] == ["assistant", "user", "assistant"]
    assert kept[-1].text.startswith("It costs €5.90.")
    shop.model.script = Script(text="It costs €5.90.")
    again = await shop.say(conversation.id, AUSTRIA, variant="mini", client_id="m1")
    assert isinstance(again[-1], Done)
    assert [m.role for m in shop.assistant.transcript(conversation.id)].count("user") == 1
    cancelled = [t for t in await shop.traces() if t.error == "cancelled" and t.operation == "assistant"]
    assert len(cancelled) == 1


async def test_a_failure_is_the_last_event_and_can_be_retried(make_shop: MakeShop) -> None:
    change = {
        "  - {id: extractive, model: extractive, retrieval: {passages: 16}}\n": "",
        "live: extractive": "live: mini",
    }
    shop = make_shop(script=Script(status=503, retry_after="7", message="host 10.0.0.1 is down"), change=change)
    conversation, _ = shop.assistant.open_conversation()
    events = await shop.say(conversation.id, AUSTRIA, client_id="m1")
    failed = events[-1]
    assert isinstance(failed, Failed)
    assert (failed.code, failed.message, failed.retry_after) == ("upstream_refused", APOLOGY, 7.0)
    assert "10.0.0.1" not in str(events)
    shop.model.script = Script(text="It costs €5.90.")
    assert isinstance((await shop.say(conversation.id, AUSTRIA, client_id="m1"))[-1], Done)


async def test_wrong_messages_are_refused_before_anything_is_stored(make_shop: MakeShop) -> None:
    shop = make_shop()
    conversation, _ = shop.assistant.open_conversation()
    with pytest.raises(MessageEmpty):
        await shop.say(conversation.id, " ")
    with pytest.raises(MessageTooLong):
        await shop.say(conversation.id, "x" * 4001)
    with pytest.raises(ConversationUnknown):
        await shop.say("nowhere", "hello")
    assert len(shop.assistant.transcript(conversation.id)) == 1
    shop.store.conversations.update(conversation.id, state="closed")
    with pytest.raises(ConversationClosed):
        await shop.say(conversation.id, "hello")
    assert len(shop.assistant._threads) == 1


async def test_another_conversation_never_hears_of_it(make_shop: MakeShop) -> None:
    shop = make_shop()
    mine, _ = shop.assistant.open_conversation()
    other, _ = shop.assistant.open_conversation()
    await shop.say(mine.id, "My order is TT-482913 and my mail is mira.holm@example.com")
    events = await shop.say(other.id, "Where is my order?")
    assert act_of(events) == "ask"
    assert "TT-482913" not in json.dumps([m.text for m in shop.assistant.transcript(other.id)])


async def test_feedback_is_checked_masked_and_appended(make_shop: MakeShop) -> None:
    shop = make_shop()
    conversation, _ = shop.assistant.open_conversation()
    other, _ = shop.assistant.open_conversation()
    done = (await shop.say(conversation.id, AUSTRIA))[-1]
    assert isinstance(done, Done)
    shop.assistant.feedback(conversation.id, done.message_id, "thumb", 0.0)
    shop.assistant.feedback(conversation.id, done.message_id, "comment", text="wrong, write to me@example.org")
    shop.assistant.feedback(conversation.id, "", "csat", 4)
    kept = shop.store.feedback.of_conversation(conversation.id)
    assert [(f.kind, f.value, f.text) for f in kept] == [
        ("thumb", 0.0, ""),
        ("comment", None, "wrong, write to [email]"),
        ("csat", 4, ""),
    ]
    user = shop.assistant.transcript(conversation.id)[1]
    for arguments in (
        (conversation.id, done.message_id, "thumb", 0.5),
        (conversation.id, done.message_id, "thumb", None),
        (conversation.id, done.message_id, "csat", 6.0),
        (conversation.id, done.message_id, "comment", None),
        (conversation.id, done.message_id, "stars", 1.0),
        (conversation.id, user.id, "thumb", 1.0),
        (conversation.id, "nowhere", "thumb", 1.0),
        (other.id, done.message_id, "thumb", 1.0),
    ):
        with pytest.raises(FeedbackInvalid):
            shop.assistant.feedback(*arguments)
    with pytest.raises(ConversationUnknown):
        shop.assistant.feedback("nowhere", "", "thumb", 1.0)
    assert len(shop.store.feedback.of_conversation(conversation.id)) == 3


async def test_answers_are_json(make_shop: MakeShop) -> None:
    answer = await make_shop().assistant.ask(AUSTRIA)
    assert isinstance(answer, Answer)
    assert json.loads(json.dumps(answer.extras()))["act"] == "answer"


async def test_feedback_and_transcripts_do_not_cross_tenants(make_shop: MakeShop) -> None:
    shop = make_shop()
    one, _ = shop.assistant.open_conversation(tenant="one")
    two, _ = shop.assistant.open_conversation(tenant="two")
    for conversation in (one, two):
        await shop.say(conversation.id, AUSTRIA)
        shop.assistant.handoff(conversation.id)
    assert shop.assistant.place_in_line(two.id).position == 1
    assert {m.tenant for m in shop.assistant.transcript(two.id)} == {"two"}
    assert {t.tenant for t in await shop.traces() if t.conversation == two.id} == {"two"}
    assert {h.tenant for h in shop.store.handoffs.waiting(tenant="one")} == {"one"}
