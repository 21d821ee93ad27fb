"""Answers that fit their schemas: checked, asked for once more, or refused."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.errors import AnswerUnfit, RequestInvalid
from fairlead.gateway import ANONYMOUS
from fairlead.gateway.fold import fold
from fairlead.providers.base import Call, CallContext
from fairlead.providers.facts import Facts
from fairlead.providers.schemas import Unfit, schema_of
from fairlead.providers.scripted import Script, Scripted
from fairlead.providers.structured import Structured
from tests.gateway.gateway_harness import build

CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "people": {"type": "integer"}},
    "required": ["city", "people"],
    "additionalProperties": False,
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY}}
TOOL = {"type": "function", "function": {"name": "find", "strict": True, "parameters": CITY}}
GOOD, BAD = '{"city": "Lyon", "people": 522250}', '{"city": "Lyon", "people": "many"}'
UNKNOWN = Facts()


def saying(*scripts: Script) -> Scripted:
    left = list(scripts)
    return Scripted(script=lambda _: left.pop(0) if len(left) > 1 else left[0])


def texts(*said: str, **more: Any) -> Scripted:
    return saying(*(Script(text=each, **more) for each in said))


def calls(*arguments: str) -> Scripted:
    return saying(*(Script(tool_calls=(("find", each),)) for each in arguments))


async def ask(upstream: Scripted, facts: Facts = UNKNOWN, *, stream: bool = False, **body: Any) -> dict[str, Any]:
    """The answer's first choice and usage, however it came."""
    body = {"model": "m", "messages": [{"role": "user", "content": "A city"}], "stream": stream, **body}
    if stream:
        body["stream_options"] = {"include_usage": True}
    deadline = asyncio.get_running_loop().time() + 30
    call = Call(operation="chat", body=body, stream=stream, deadline=deadline, context=CallContext())
    reply = await Structured(upstream, facts).open(call)
    try:
        if reply.chunks is None:
            found: dict[str, Any] = orjson.loads(reply.body or b"{}")
            return found
        folded = fold(b"".join([chunk async for chunk in reply.chunks]))
        return {"choices": folded.choices, "usage": folded.usage}
    finally:
        await reply.aclose()


@pytest.mark.parametrize("stream", [False, True])
async def test_an_answer_that_fits_is_asked_for_once(stream: bool) -> None:
    upstream = texts(GOOD)
    answer = await ask(upstream, stream=stream, response_format=FORMAT)
    assert answer["choices"][0]["message"]["content"] == GOOD
    assert len(upstream.calls) == 1
    assert upstream.calls[0].stream is False


@pytest.mark.parametrize("stream", [False, True])
async def test_one_that_does_not_fit_is_asked_for_again_with_what_is_wrong(stream: bool) -> None:
    upstream = texts(BAD, GOOD)
    answer = await ask(upstream, stream=stream, response_format=FORMAT)
    assert answer["choices"][0]["message"]["content"] == GOOD
    first, second = upstream.calls
    assert second.body["messages"][:1] == first.body["messages"]
    assert second.body["messages"][1] == {"role": "assistant", "content": BAD}
    assert 'people: "many" is not of type "integer"' in second.body["messages"][2]["content"]
    assert answer["usage"]["completion_tokens"] > len(GOOD.split())  # both answers were paid for


async def test_one_that_never_fits_is_refused() -> None:
    upstream = texts(BAD, "no JSON at all")
    with pytest.raises(AnswerUnfit, match="it is not JSON"):
        await ask(upstream, response_format=FORMAT)
    assert len(upstream.calls) == 2


async def test_an_answer_cut_off_is_told_apart() -> None:
    with pytest.raises(AnswerUnfit, match="cut off at the limit of tokens"):
        await ask(texts('{"city": "Ly', finish="length"), response_format=FORMAT)


async def test_a_fence_is_no_fault() -> None:
    upstream = texts(f"```json\n{GOOD}\n```")
    answer = await ask(upstream, response_format=FORMAT)
    assert answer["choices"][0]["message"]["content"] == GOOD
    assert len(upstream.calls) == 1


async def test_arguments_of_a_strict_tool() -> None:
    upstream = calls(BAD, GOOD)
    answer = await ask(upstream, tools=[TOOL])
    assert json.loads(answer["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"]) == json.loads(GOOD)
    told = upstream.calls[1].body["messages"][-1]
    assert told["role"] == "tool"
    assert told["tool_call_id"] == upstream.calls[1].body["messages"][-2]["tool_calls"][0]["id"]
    assert "people" in told["content"]
    with pytest.raises(AnswerUnfit):
        await ask(calls(BAD), tools=[TOOL])


async def test_text_beside_strict_tools_is_left_alone() -> None:
    answer = await ask(texts("Which city?"), tools=[TOOL], stream=True)
    assert answer["choices"][0]["message"]["content"] == "Which city?"


LOOSE_TOOL = {"type": "function", "function": {"name": "find", "parameters": CITY}}
LOOSE_FORMAT = {"type": "json_schema", "json_schema": {"name": "city", "strict": False, "schema": CITY}}


@pytest.mark.parametrize(
    ("facts", "body"),
    [
        (UNKNOWN, {}),
        (UNKNOWN, {"response_format": {"type": "json_object"}}),
        (UNKNOWN, {"response_format": LOOSE_FORMAT}),
        (UNKNOWN, {"tools": [LOOSE_TOOL]}),
        (Facts(json_schema=True), {"response_format": FORMAT}),
        (Facts(strict_tools=True), {"tools": [TOOL]}),
    ],
)
async def test_what_needs_no_checking_streams_as_it_comes(facts: Facts, body: dict[str, Any]) -> None:
    upstream = texts(BAD)
    await ask(upstream, facts, stream=True, **body)
    assert len(upstream.calls) == 1
    assert upstream.calls[0].stream is True
    assert {name: upstream.calls[0].body.get(name) for name in body} == body


async def test_a_server_that_knows_no_schema_is_told_it_in_words() -> None:
    upstream = texts(GOOD)
    await ask(upstream, Facts(json_schema=False), response_format=FORMAT)
    body = upstream.calls[0].body
    assert body["response_format"] == {"type": "json_object"}
    assert '"additionalProperties":false' in body["messages"][0]["content"]
    await ask(upstream, Facts(json_schema=False), response_format=LOOSE_FORMAT, stream=True)
    assert upstream.calls[1].body["response_format"] == {"type": "json_object"}


@pytest.mark.parametrize(
    "schema",
    [None, {"type": "objec"}, {"$ref": "http://127.0.0.1:9/x"}, {"$ref": "file:///etc/passwd"}, {"pattern": "("}],
)
async def test_a_schema_that_is_none_is_the_senders_fault(schema: Any) -> None:
    upstream = texts(GOOD)
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    with pytest.raises(RequestInvalid, match=r"response_format\.json_schema\.schema is no usable JSON Schema"):
        await ask(upstream, response_format=wanted)
    assert not upstream.calls


def test_a_pattern_cannot_run_for_long() -> None:
    schema = schema_of({"type": "string", "pattern": "^(a+)+$"}, "s")
    with pytest.raises(Unfit):
        schema.fit(json.dumps("a" * 5000 + "!"))


async def test_an_error_of_the_server_passes() -> None:
    upstream = saying(Script(status=429, message="slow down"))
    answer = await ask(upstream, response_format=FORMAT)
    assert answer["error"]["message"] == "slow down"
    assert len(upstream.calls) == 1


async def test_behind_the_gateway_it_is_an_error_with_a_code() -> None:
    house = build(Structured(texts(BAD), UNKNOWN))
    body = {"model": "support", "messages": [{"role": "user", "content": "A city"}], "response_format": FORMAT}
    with pytest.raises(AnswerUnfit) as caught:
        await house.gateway.complete(body, principal=ANONYMOUS)
    assert caught.value.status == 502
    house.gateway.write_records()
    assert house.records[0].error == "schema_not_met"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@given(VALUES, st.sampled_from(["null", "boolean", "integer", "string", "array", "object"]))
def test_a_text_fits_exactly_when_its_value_does(value: Any, kind: str) -> None:
    is_kind: dict[str, type | Sequence[type]] = {
        "null": type(None), "boolean": bool, "integer": int, "string": str, "array": list, "object": dict,
    }  # fmt: skip
    expected = type(value) is is_kind[kind]
    schema = schema_of({"type": kind}, "s")
    for text in (json.dumps(value), f"```json\n{json.dumps(value)}\n```"):
        try:
            assert json.loads(schema.fit(text)) == value
            assert expected
        except Unfit:
            assert not expected
