"""The cascade: the fluent model speaks only where it holds a skill, and only what the evidence says."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from fairlead.engines.extractive import Extractive
from fairlead.gateway.cascade import SKILLS, Cascade, skill_of
from fairlead.providers import sse
from fairlead.providers.base import Call, CallContext
from fairlead.providers.scripted import Script, Scripted

DOCUMENTS = [
    {
        "id": "returns", "title": "Returns", "location": "returns.md",
        "text": "You can return unused items within 30 days of delivery. A return label costs €4.90.",
    }
]  # fmt: skip
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
    assert fluent.calls[0].body["documents"] == DOCUMENTS
    assert fluent.calls[0].body["temperature"] == 0


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
            Call(**{f: getattr(slow, f) for f in slow.__struct_fields__} | {"deadline": slow.deadline - 9.8})
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
    assert (await said(cascade, "Hello!"))["content"] == "Hi!"
    assert len(fluent.calls) == 1


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


async def test_handing_over_and_not_knowing_are_never_reworded() -> None:
    cascade, fluent = cascade_with(Script(text="Certainly maybe."), ALL | {"hand_off", "refuse"})
    for message in ("I want to talk to a person", "This is the second broken mug, I am really annoyed!"):
        assert (await said(cascade, message))["content"] != "Certainly maybe."
    assert fluent.calls == []
