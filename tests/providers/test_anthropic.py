"""The Messages API provider: translation both ways, over real sockets.

The server's wire format is proved by Anthropic's own SDK reading it, our requests by the SDK's own types.
"""

from __future__ import annotations

import asyncio
import contextlib
import warnings
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import orjson
import pydantic
import pytest
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming, MessageCreateParamsStreaming

from fairlead.errors import UpstreamBroken, UpstreamUnreachable
from fairlead.gateway.fold import Folded, fold
from fairlead.providers import registry
from fairlead.providers.anthropic import Anthropic
from fairlead.providers.base import Call, CallContext, Reply
from fairlead.providers.messages_dialect import request_body
from tests.providers.messages_server import EVENTS, WHOLE, Talk, messages_server

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "find_order",
            "description": "Find an order.",
            "parameters": {"type": "object", "properties": {"order": {"type": "string"}}, "required": ["order"]},
        },
    }
]
TOOL_CALL = {"id": "toolu_1", "type": "function", "function": {"name": "find_order", "arguments": '{"order":"TT-1"}'}}
HISTORY: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {"role": "assistant", "content": "Hello, I am the assistant."},
    {"role": "user", "content": [{"type": "text", "text": "Where is TT-1?"}, {"type": "text", "text": ""}]},
    {"role": "assistant", "content": None, "tool_calls": [TOOL_CALL]},
    {"role": "tool", "tool_call_id": "toolu_1", "content": '{"state":"sent"}'},
    {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}]},
]


def call(*, stream: bool = False, **body: Any) -> Call:
    body = {"messages": [{"role": "user", "content": "Where is it?"}], **body}
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    deadline = asyncio.get_running_loop().time() + 30
    return Call(operation="chat", body=body, stream=stream, deadline=deadline, context=CallContext())


@contextlib.asynccontextmanager
async def served(**given: Any) -> AsyncIterator[tuple[Anthropic, Talk]]:
    async with messages_server() as (url, talk):
        made = registry.build("anthropic", "hosted", url, "claude-haiku-4-5", **given)
        assert isinstance(made, Anthropic)
        try:
            yield made, talk
        finally:
            await made.aclose()


async def body_of(reply: Reply) -> dict[str, Any]:
    assert reply.body is not None
    await reply.aclose()
    found: dict[str, Any] = orjson.loads(reply.body)
    return found


async def read(reply: Reply) -> tuple[Folded, bytes]:
    assert reply.chunks is not None
    try:
        passed = b"".join([data async for data in reply.chunks])
    finally:
        await reply.aclose()
    return fold(passed), passed


async def test_anthropics_own_sdk_reads_the_test_server() -> None:
    async with (
        messages_server() as (url, talk),
        anthropic.AsyncAnthropic(base_url=url.removesuffix("/v1"), api_key="k") as client,
    ):
        asked: Any = {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "Hello"}]}
        answer = await client.messages.create(**asked)
        assert answer.model_dump(exclude_none=True)["content"] == WHOLE["content"]
        talk.step = 11
        async with client.messages.stream(**asked) as stream:
            assert await stream.get_final_text() == "It is on its way."


@pytest.mark.parametrize("stream", [False, True])
async def test_requests_are_what_anthropics_own_types_describe(stream: bool) -> None:
    asked = call(
        stream=stream, messages=HISTORY, tools=TOOLS, tool_choice="required", parallel_tool_calls=False,
        temperature=1.7, stop=["\n\n", "END"], user="pseudonym", max_completion_tokens=50,
        documents=[{"id": "1", "text": "Parcels take two days."}],
        response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}},
    )  # fmt: skip
    sent = orjson.loads(request_body("claude-opus-5", asked))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the SDK's own types warn of its own field names
        shape: Any = MessageCreateParamsStreaming if stream else MessageCreateParamsNonStreaming
        known: set[str] = set(shape.__annotations__)
        for parent in shape.__orig_bases__:
            known |= set(getattr(parent, "__annotations__", {}))
        adapter: pydantic.TypeAdapter[Any] = pydantic.TypeAdapter(shape)
        adapter.validate_python(sent)
    assert set(sent) <= known
    assert "temperature" not in sent, "newer models refuse it"
    assert orjson.loads(request_body("claude-haiku-4-5", asked))["temperature"] == 1.0
    assert sent["stop_sequences"] == ["END"]
    assert sent["max_tokens"] == 50
    assert sent["tool_choice"] == {"type": "any", "disable_parallel_tool_use": True}
    assert sent["metadata"] == {"user_id": "pseudonym"}
    assert sent["system"].startswith("Be brief.")
    assert "Parcels take two days." in sent["system"]
    assert "Hello, I am the assistant." in sent["system"]
    assert [turn["role"] for turn in sent["messages"]] == ["user", "assistant", "user"]
    asked_turn, called, results = sent["messages"]
    assert asked_turn["content"] == [{"type": "text", "text": "Where is TT-1?"}]
    assert called["content"] == [
        {"type": "tool_use", "id": "toolu_1", "name": "find_order", "input": {"order": "TT-1"}}
    ]
    assert [block["type"] for block in results["content"]] == ["tool_result", "image"]
    assert results["content"][1]["source"] == {"type": "base64", "media_type": "image/png", "data": "aGk="}


async def test_a_whole_answer_in_the_openai_protocols_words() -> None:
    async with served(api_key="secret-key") as (upstream, talk):
        answer = await body_of(await upstream.open(call()))
        assert answer["choices"][0]["message"] == {"role": "assistant", "content": "It is on its way."}
        assert answer["choices"][0]["finish_reason"] == "stop"
        assert answer["usage"]["prompt_tokens"] == 1825
        assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == 1800
        assert answer["usage"]["completion_tokens"] == 7
        head, sent = talk.asked[0]
        assert head.startswith("POST /v1/messages HTTP/1.1")
        assert "x-api-key: secret-key" in head
        assert "anthropic-version: 2023-06-01" in head
        assert sent["model"] == "claude-haiku-4-5"


@pytest.mark.parametrize(
    ("model", "samples"),
    [
        ("claude-3-5-haiku-20241022", True),
        ("claude-opus-4-20250514", True),
        ("claude-sonnet-4-6", True),
        ("claude-haiku-4-5-20251001", True),
        ("claude-opus-4-7", False),
        ("claude-haiku-5-5", False),
        ("claude-of-tomorrow", False),
    ],
)
async def test_only_models_that_take_a_temperature_get_one(model: str, samples: bool) -> None:
    sent = orjson.loads(request_body(model, call(temperature=0, top_p=0.5)))
    assert ("temperature" in sent) is samples
    assert "top_p" not in sent


@pytest.mark.parametrize("step", [0, 1, 3, 64])
async def test_a_stream_cut_anywhere(step: int) -> None:
    async with served() as (upstream, talk):
        talk.step = step
        folded, passed = await read(await upstream.open(call(stream=True)))
        assert folded.choices[0]["message"]["content"] == "It is on its way."
        assert folded.finish == "stop"
        assert passed.endswith(b"data: [DONE]\n\n")
        assert b'"completion_tokens":7' in passed


async def test_tools_and_thoughts_whole_and_streamed() -> None:
    thought = {"type": "thinking", "thinking": "An order number.", "signature": "c2ln"}
    use = {"type": "tool_use", "id": "toolu_2", "name": "find_order", "input": {"order": "TT-2"}}
    async with served() as (upstream, talk):
        talk.whole = {**WHOLE, "content": [thought, use], "stop_reason": "tool_use"}
        whole = (await body_of(await upstream.open(call(tools=TOOLS))))["choices"][0]
        talk.events = [
            EVENTS[0],
            {"type": "content_block_start", "index": 0, "content_block": {**thought, "thinking": "", "signature": ""}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "An order "}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "number."}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "c2ln"}},
            {"type": "content_block_stop", "index": 0},
            {"type": "content_block_start", "index": 1, "content_block": {**use, "input": {}}},
            *(
                {"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": part}}
                for part in ('{"ord', 'er":"TT-2"}')
            ),
            {"type": "content_block_stop", "index": 1},
            {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 12}},
            {"type": "message_stop"},
        ]  # fmt: skip
        folded, passed = await read(await upstream.open(call(stream=True, tools=TOOLS)))
    assert whole["finish_reason"] == folded.finish == "tool_calls"
    assert whole["message"]["content"] is None
    assert whole["message"]["thinking_blocks"] == [thought]
    made = whole["message"]["tool_calls"][0]
    again = folded.choices[0]["message"]["tool_calls"][0]
    assert made["function"]["name"] == again["function"]["name"] == "find_order"
    assert (
        orjson.loads(made["function"]["arguments"]) == orjson.loads(again["function"]["arguments"]) == {"order": "TT-2"}
    )
    assert made["id"] == again["id"] == "toolu_2"
    assert orjson.dumps(thought) in passed
    # What came back goes out again as the model wants it: its signed thoughts before its call.
    back = orjson.loads(request_body("m", call(messages=[HISTORY[2], whole["message"]])))
    assert [block["type"] for block in back["messages"][1]["content"]] == ["thinking", "tool_use"]


async def test_a_stream_that_breaks_off_or_errs_is_never_a_success() -> None:
    async with served() as (upstream, talk):
        for events, said in (
            (EVENTS[:5], "ended before"),
            (EVENTS[:-1], "ended before"),
            ([*EVENTS[:4], {"type": "error", "error": {"message": "Overloaded"}}], "Overloaded"),
            ([*EVENTS[:4], {"type": "an_event_of_tomorrow"}], "ended before"),
        ):
            talk.events = events
            with pytest.raises(UpstreamBroken, match=said):
                await read(await upstream.open(call(stream=True)))


async def test_errors_keep_status_reason_and_wait_but_never_the_key() -> None:
    async with served(api_key="secret-key") as (upstream, talk):
        talk.status = "529 Overloaded"
        talk.whole = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded secret-key"}}
        reply = await upstream.open(call(stream=True))
        assert reply.status == 529
        assert reply.headers["retry-after"] == "7"
        assert (await body_of(reply))["error"]["message"] == "Overloaded [key]"


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"grammar": "root ::= x"}, "grammar"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]}, "messages"),
        ({"tools": [{"type": "function"}]}, None),
    ],
)
async def test_what_has_no_counterpart_is_refused_by_name(body: dict[str, Any], param: str | None) -> None:
    async with served() as (upstream, talk):
        reply = await upstream.open(call(**body))
        assert reply.status == 400
        assert (await body_of(reply))["error"]["param"] == param
        assert talk.asked == []


@pytest.mark.parametrize("whole", [[], "text", {"content": [7]}])
async def test_an_answer_that_cannot_be_read_is_broken(whole: object) -> None:
    async with served() as (upstream, talk):
        talk.whole = whole
        with pytest.raises(UpstreamBroken):
            await upstream.open(call())


async def test_nobody_listens() -> None:
    upstream = Anthropic("hosted", "http://127.0.0.1:9/v1", "m")
    with pytest.raises(UpstreamUnreachable):
        await upstream.open(call())
    await upstream.aclose()
