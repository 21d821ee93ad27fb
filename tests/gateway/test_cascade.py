"""The cascade: the fluent model speaks only where it holds a skill, and only what the evidence says."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from fairlead.engines.extractive import Extractive
from fairlead.gateway.cascade import ANSWER, MOST_TOKENS, REPORT, SKILLS, Cascade, keeps, skill_of, sure
from fairlead.providers import sse
from fairlead.providers.base import Call, CallContext
from fairlead.providers.scripted import Script, Scripted

DOCUMENTS = [
    {
        "id": "returns", "title": "Returns", "location": "returns.md",
        "text": "You can return unused items within 30 days of delivery. A return label costs €4.90.",
    }
]  # fmt: skip
QUOTE = "You can return unused items within 30 days of delivery."
QUESTION = "How many days do I have to return something?"
ALL = frozenset({"grounded_one", "grounded_few", *SKILLS.values()})


def call(question: str = QUESTION, *, stream: bool = False, **more: Any) -> Call:
    body = {"model": "x", "messages": [{"role": "user", "content": question}], "documents": DOCUMENTS, **more}
    deadline = asyncio.get_running_loop().time() + 10
    return Call(operation="chat", body=body, stream=stream, deadline=deadline, context=CallContext())


async def said(cascade: Cascade, question: str = QUESTION) -> dict[str, Any]:
    reply = await cascade.open(call(question))
    assert reply.status == 200
    assert reply.body is not None
    message: dict[str, Any] = orjson.loads(reply.body)["choices"][0]["message"]
    return message


def cascade_with(script: Script, skills: frozenset[str] = ALL) -> tuple[Cascade, Scripted]:
    fluent = Scripted("fluent", script)
    return Cascade("cascade", Extractive().upstream(), fluent, skills), fluent


async def test_a_grounded_wording_replaces_the_quote_and_keeps_its_sources() -> None:
    cascade, fluent = cascade_with(Script(text="You have 30 days to send it back."))
    message = await said(cascade)
    assert message["content"] == "You have 30 days to send it back."
    assert message["fairlead"]["sources"] == ["returns"]
    asked = fluent.calls[0].body
    assert [document["text"] for document in asked["documents"]] == [QUOTE]
    assert asked["messages"] == [{"role": "system", "content": ANSWER}, {"role": "user", "content": QUESTION}]
    assert asked["temperature"] == 0
    assert asked["max_tokens"] == MOST_TOKENS


async def test_a_customer_who_wants_less_gets_less() -> None:
    cascade, fluent = cascade_with(Script(text="You have 30 days to send it back."))
    await cascade.open(call(max_completion_tokens=40))
    assert fluent.calls[0].body["max_tokens"] == 40
    assert "max_completion_tokens" not in fluent.calls[0].body


RESULT = '{"status": "shipped", "carrier": "Postline", "delivery_date": "2026-05-13"}'


async def reported(text: str) -> str:
    """What a customer is told about RESULT when the fluent model says `text`."""
    cascade, fluent = cascade_with(Script(text=text))
    call_made = {"id": "1", "type": "function", "function": {"name": "track_order", "arguments": '{"order": "A17"}'}}
    messages = [
        {"role": "user", "content": "Where is my order A17?"},
        {"role": "assistant", "content": None, "tool_calls": [call_made]},
        {"role": "tool", "tool_call_id": "1", "content": RESULT},
    ]
    tool = {"type": "function", "function": {"name": "track_order", "parameters": {"type": "object"}}}
    reply = await cascade.open(call(messages=messages, tools=[tool]))
    assert reply.body is not None
    assert [document["text"] for document in fluent.calls[0].body["documents"]] == [RESULT]
    assert fluent.calls[0].body["messages"][0]["content"] == REPORT
    assert "tools" not in fluent.calls[0].body
    said: str = orjson.loads(reply.body)["choices"][0]["message"]["content"]
    return said


async def test_a_tool_result_is_put_into_words() -> None:
    text = "It has been sent with Postline and should be there on 2026-05-13."
    assert await reported(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "It was delivered by Postline on 2026-05-13.",
        "It has been sent with Quickbox and should be there on 2026-05-13.",
        "It has been sent with Postline.",
        "It has been sent and should be there on 2026-05-13.",
        "It has been sent with Postline and should be there on 2026-05-14.",
        "It has not been sent with Postline; 2026-05-13.",
    ],
    ids=["another state", "another name", "a date lost", "a name lost", "another date", "a negation"],
)
async def test_a_tool_result_said_wrongly_stays_as_it_was(text: str) -> None:
    assert "Postline" in await reported(text)
    assert await reported(text) != text


@pytest.mark.parametrize(
    ("draft", "text", "same"),
    [
        ("Bikes are held for three weeks, parcels for ten days.", "We hold bikes three weeks, parcels ten days.", True),
        ("Bikes are held for three weeks, parcels for ten days.", "We hold it for three weeks.", False),
        ("Returns are free within 30 days.", "It is free to send back for 30 days.", True),
        ("Returns are free within 30 days.", "Returns are possible for 30 days.", False),
        ("Sale goods cannot be returned.", "Sale goods can be returned.", False),
        ("Ask for Petra at the desk.", "Please ask for Anna at the desk.", False),
        ("Allow 3 working days.", "Allow 3 days.", False),
        ("Care for the sofa: machine wash at 40 degrees.", "Colours of the sofa: machine wash at 40 degrees.", False),
        ("Students get 52% off with a valid card.", "Students save 52%.", False),
        ("Contains gluten and egg.", "It contains egg.", False),
        ("Contains gluten and egg.", "It contains gluten and egg.", True),
        ("Delivery within 3 days.", "It is delivered within 3 days.", True),
        ("Returns take 3 days.", "I don't know, it may be 3 days.", False),
    ],
)
def test_a_wording_keeps_figures_names_number_words_and_negations(draft: str, text: str, same: bool) -> None:
    assert keeps(draft, text, [draft], "grounded_one") is same


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("Your order is cancelled. You get €5 back.", False),
        ("Sorry, the order cannot be cancelled; it is €5.", True),
    ],
)
def test_a_result_that_says_no_is_not_told_as_a_yes(text: str, same: bool) -> None:
    draft, source = "Cancelled: no. Fee: €5.", '{"cancelled": false, "fee": "€5"}'
    assert keeps(draft, text, [source], "tool_result", "please cancel my order") is same


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("The code is valid until 3 September and worth 45 euros.", True),
        ("The code is valid until 45 euros and worth 3 September.", False),
        ("It is worth 45 euros, until 3 September.", True),
    ],
)
def test_a_price_does_not_stand_where_a_date_belongs(text: str, same: bool) -> None:
    draft = "Valid: yes. Value: 45 euros. Until: 3 September."
    source = '{"valid": true, "value": "45 euros", "until": "3 September"}'
    assert keeps(draft, text, [source], "tool_result", "what is my code worth") is same


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("Which order number is it?", True),
        ("What is the order number, please?", True),
        ("What is your phone number?", False),
        ("Your order number.", False),
        ("What is your email order number?", False),
        ("Which order number can we reach you online?", False),
    ],
)
def test_a_question_for_a_detail_asks_for_the_same_detail(text: str, same: bool) -> None:
    assert keeps("Could you please tell me your order number?", text, [], "ask_missing") is same


def test_a_token_the_model_was_unsure_of_makes_a_wording_unusable() -> None:
    def choice(*logprobs: float) -> dict[str, Any]:
        return {"logprobs": {"content": [{"token": "x", "logprob": logprob} for logprob in logprobs]}}

    assert sure(choice(-0.01, -0.5))
    assert not sure(choice(-0.01, -3.0))
    assert sure({"logprobs": None})


@pytest.mark.parametrize(
    "script",
    [
        Script(text="You have 60 days to send it back."),
        Script(text="You have 30 days and the label costs €5.90."),
        Script(text="   "),
        Script(text="cut off in the mid", finish="length"),
        Script(status=500),
        Script(tool_calls=(("refund", "{}"),)),
        Script(delay_s=60),
    ],
    ids=["wrong number", "wrong price", "empty", "truncated", "failed", "tool call", "late"],
)
async def test_anything_else_leaves_the_quote_as_it_is(script: Script) -> None:
    cascade, fluent = cascade_with(script)
    alone = await said(Cascade("alone", Extractive().upstream(), fluent, ()))
    if script.delay_s:
        slow = call()
        body = await cascade.open(
            Call(**{f: getattr(slow, f) for f in slow.__struct_fields__} | {"deadline": slow.deadline - 8})
        )
        assert body.body is not None
        assert orjson.loads(body.body)["choices"][0]["message"]["content"] == alone["content"]
    else:
        assert await said(cascade) == alone
    assert "30 days" in alone["content"]


async def test_a_skill_that_is_not_held_is_never_asked_for() -> None:
    cascade, fluent = cascade_with(Script(text="Hi!"), ALL - {"grounded_one", "grounded_few"})
    assert "30 days" in (await said(cascade))["content"]
    assert fluent.calls == []


async def test_a_stream_says_the_same_as_one_answer() -> None:
    cascade, _ = cascade_with(Script(text="You have 30 days."))
    reply = await cascade.open(call(stream=True, stream_options={"include_usage": True}))
    assert reply.chunks is not None
    raw = b"".join([chunk async for chunk in reply.chunks])
    assert raw.endswith(sse.DONE)
    chunks = [orjson.loads(sse.payload(event)) for event in sse.split(raw) if b"[DONE]" not in event]
    text = "".join(c["delta"].get("content") or "" for chunk in chunks for c in chunk["choices"])
    assert text == "You have 30 days."
    assert chunks[-1]["usage"]["total_tokens"] > 0
    assert chunks[-2]["choices"][0]["finish_reason"] == "stop"


async def test_a_request_the_careful_model_refuses_is_refused() -> None:
    cascade, fluent = cascade_with(Script(text="{}"))
    reply = await cascade.open(call(response_format={"type": "json_object"}))
    assert reply.status == 400
    assert fluent.calls == []


def test_a_tool_call_is_no_skill_to_pass_on() -> None:
    message = {"content": None, "tool_calls": [{"id": "1"}], "fairlead": {"act": "tool", "sources": []}}
    assert skill_of({"choices": [{"message": message}]}, {"messages": [{"role": "user", "content": "x"}]}) == ""


async def test_small_talk_handing_over_and_not_knowing_are_never_reworded() -> None:
    cascade, fluent = cascade_with(Script(text="Certainly maybe."), ALL | {"hand_off", "refuse"})
    for message in (
        "Hello!",
        "Do you sell elephants?",
        "I want to talk to a person",
        "This is the second broken mug, I am really annoyed!",
    ):
        assert (await said(cascade, message))["content"] != "Certainly maybe."
    assert fluent.calls == []
