"""The Responses API and the Messages API: their official clients, unchanged, against a live gateway."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import orjson
import pytest
from anthropic import Anthropic
from anthropic.types import MessageParam, ToolParam
from hypothesis import given
from hypothesis import strategies as st
from openai import OpenAI
from openai.types.responses import FunctionToolParam, ResponseInputParam
from pydantic import BaseModel

from fairlead.errors import RequestInvalid, UpstreamBroken
from fairlead.gateway.surfaces.messages import Messages
from fairlead.gateway.surfaces.parts import Parts, parts_of
from fairlead.gateway.surfaces.responses import Responses
from fairlead.providers.anthropic import Anthropic as Hosted
from fairlead.providers.base import Call
from fairlead.providers.scripted import Script, Scripted
from tests.gateway.gateway_harness import House, build, route, serving, stored
from tests.providers.messages_server import EVENTS, WHOLE, Talk, messages_server

PIXEL = "iVBORw0KGgo="
SAID = "Your parcel is on its way."


def answer(call: Call) -> Script:
    """Calls the first tool once, then words its result; refuses, breaks off or cuts short on demand."""
    last = call.body["messages"][-1]
    said = last["content"] if isinstance(last.get("content"), str) else orjson.dumps(last.get("content")).decode()
    if "status" in said:
        return Script(status=int(said.split()[-1]), message="because you asked", retry_after="7")
    if "break" in said:
        return Script(text="one two three four", break_after=3)
    if "long" in said:
        return Script(text="It goes on and", finish="length")
    if call.body.get("response_format"):
        return Script(text='{"city": "Lyon", "people": 522250}')
    if call.body.get("tools") and last["role"] != "tool":
        return Script(tool_calls=(("find_order", '{"order": "F-1001"}'), ("find_order", '{"order": "F-1002"}')))
    if last["role"] == "tool":
        return Script(text=f"It says: {last['content']}")
    return Script(text=SAID)


@pytest.fixture(scope="module")
def house() -> House:
    return build(Scripted(script=answer))


@pytest.fixture(scope="module")
def url(house: House) -> Iterator[str]:
    with serving(house.gateway) as base:
        yield base


@pytest.fixture
def client(url: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0) as made:
        yield made


@pytest.fixture
def claude(url: str) -> Iterator[Anthropic]:
    with Anthropic(base_url=url, api_key="unused", max_retries=0) as made:
        yield made


def asked(house: House) -> dict[str, Any]:
    body: dict[str, Any] = house.upstream.calls[-1].body
    return body


class City(BaseModel):
    city: str
    people: int


# --- OpenAI's client -------------------------------------------------------------------------------------------------

FUNCTION: FunctionToolParam = {
    "type": "function",
    "name": "find_order",
    "description": "Look up an order.",
    "parameters": {"type": "object", "properties": {"order": {"type": "string"}}, "required": ["order"]},
    "strict": True,
}


def test_a_response(client: OpenAI, house: House) -> None:
    made = client.responses.create(
        model="support", input="Where is it?", instructions="Be kind.", max_output_tokens=50, temperature=0.5,
        metadata={"a": "b"}, user="u-7", reasoning={"effort": "low"}, store=True,
    )  # fmt: skip
    assert made.output_text == SAID
    assert made.status == "completed"
    assert made.id.startswith("resp_")
    assert made.usage is not None
    assert made.usage.output_tokens == 6
    assert made.usage.total_tokens == made.usage.input_tokens + 6
    assert made.metadata == {"a": "b"}
    assert made.model_extra == {"store": False}
    assert made._request_id
    body = asked(house)
    assert body["messages"] == [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Where is it?"}]
    assert body["max_tokens"] == 50
    assert body["temperature"] == 0.5
    assert body["reasoning_effort"] == "low"
    assert body["user"] != "u-7"
    assert not {"input", "instructions", "max_output_tokens", "store", "metadata", "reasoning"} & set(body)


def test_a_streamed_response_has_the_events_of_its_protocol_in_order(client: OpenAI) -> None:
    events = list(client.responses.create(model="support", input="Where is it?", stream=True))
    kinds = [event.type for event in events]
    assert kinds[:4] == [
        "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
    ]  # fmt: skip
    assert kinds[-4:] == [
        "response.output_text.done", "response.content_part.done", "response.output_item.done", "response.completed",
    ]  # fmt: skip
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == SAID
    last = events[-1]
    assert last.type == "response.completed"
    assert last.response.output_text == SAID
    assert last.response.usage is not None
    with client.responses.stream(model="support", input="Where is it?") as stream:
        assert stream.get_final_response().output_text == SAID


@pytest.mark.parametrize("streams", [False, True])
def test_tools_and_their_results_through_the_responses_api(client: OpenAI, house: House, streams: bool) -> None:
    given: ResponseInputParam = [{"role": "user", "content": "Where are they?"}]
    if streams:
        with client.responses.stream(model="support", input=given, tools=[FUNCTION]) as stream:
            output = stream.get_final_response().output
    else:
        output = client.responses.create(model="support", input=given, tools=[FUNCTION]).output  # type: ignore[assignment]
    calls = [item for item in output if item.type == "function_call"]
    assert [json.loads(call.arguments)["order"] for call in calls] == ["F-1001", "F-1002"]
    assert asked(house)["tools"][0]["function"]["name"] == "find_order"
    given += [item.to_dict() for item in output]  # type: ignore[misc]  # as the reference tells clients to do
    given += [{"type": "function_call_output", "call_id": call.call_id, "output": f"{call.name} ok"} for call in calls]
    made = client.responses.create(model="support", input=given, tools=[FUNCTION], parallel_tool_calls=False)
    assert made.output_text == "It says: find_order ok"
    messages = asked(house)["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "tool"]
    assert [call["id"] for call in messages[1]["tool_calls"]] == [call.call_id for call in calls]
    assert asked(house)["parallel_tool_calls"] is False


def test_a_parsed_response(client: OpenAI, house: House) -> None:
    made = client.responses.parse(model="support", input="Tell me a city", text_format=City)
    assert made.output_parsed == City(city="Lyon", people=522250)
    wanted = asked(house)["response_format"]["json_schema"]
    assert wanted["name"] == "City"
    assert wanted["strict"] is True


def test_a_picture_in_the_responses_api(client: OpenAI, house: House) -> None:
    part: Any = {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}", "detail": "low"}
    client.responses.create(
        model="support", input=[{"role": "user", "content": [{"type": "input_text", "text": "What?"}, part]}]
    )
    content = asked(house)["messages"][0]["content"]
    assert content[1] == {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}", "detail": "low"}}


def test_a_response_cut_short_is_incomplete(client: OpenAI) -> None:
    made = client.responses.create(model="support", input="long")
    assert made.status == "incomplete"
    assert made.incomplete_details is not None
    assert made.incomplete_details.reason == "max_output_tokens"
    events = list(client.responses.create(model="support", input="long", stream=True))
    assert events[-1].type == "response.incomplete"


def test_a_response_that_breaks_off_is_never_a_success(client: OpenAI) -> None:
    events = list(client.responses.create(model="support", input="break", stream=True))
    assert [event.type for event in events[-2:]] == ["error", "response.failed"]
    last = events[-1]
    assert last.type == "response.failed"
    assert last.response.status == "failed"
    assert last.response.error is not None
    assert "gave no whole answer" in last.response.error.message


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("status 400", openai.BadRequestError),
        ("status 429", openai.RateLimitError),
        ("status 503", openai.InternalServerError),
    ],
)
def test_errors_of_the_responses_api(client: OpenAI, said: str, kind: type[openai.APIStatusError]) -> None:
    with pytest.raises(kind) as caught:
        client.responses.create(model="support", input=said)
    assert caught.value.request_id
    if not said.endswith("400"):
        assert caught.value.response.headers["retry-after"] == "7"
    with pytest.raises(openai.NotFoundError, match="Nearest: support"):
        client.responses.create(model="suport", input="Hi")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("previous_response_id", "resp_1"),
        ("conversation", "conv_1"),
        ("background", True),
        ("max_output_tokens", 0),
        ("tools", [{"type": "web_search"}]),
        ("input", [{"type": "item_reference", "id": "msg_1"}]),
        ("input", [{"role": "user", "content": [{"type": "input_audio"}]}]),
        ("input", [{"type": "function_call_output", "output": "x"}]),
        ("input", [{"role": "owner", "content": "x"}]),
    ],
)
def test_what_the_responses_api_cannot_have_is_refused_by_name(client: OpenAI, field: str, value: Any) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(**{"model": "support", "input": "Hi", field: value})
    assert str(caught.value.param).startswith(field)
    assert field in str(caught.value)


def test_a_response_is_not_kept(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="keeps no responses"):
        client.responses.retrieve("resp_1")


# --- Anthropic's client ----------------------------------------------------------------------------------------------

HELLO: list[MessageParam] = [{"role": "user", "content": "Where is it?"}]
TOOL: ToolParam = {
    "name": "find_order",
    "description": "Look up an order.",
    "input_schema": {"type": "object", "properties": {"order": {"type": "string"}}},
}


def test_a_message(claude: Anthropic, house: House) -> None:
    made = claude.messages.create(
        model="support", max_tokens=50, system="Be kind.", messages=HELLO, stop_sequences=["END"],
        metadata={"user_id": "u-7"}, extra_body={"temperature": 0.5, "top_k": 5},
    )  # fmt: skip
    assert [block.text for block in made.content if block.type == "text"] == [SAID]
    assert made.stop_reason == "end_turn"
    assert made.usage.output_tokens == 6
    assert made._request_id
    body = asked(house)
    assert body["messages"] == [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Where is it?"}]
    assert (body["max_tokens"], body["stop"], body["temperature"], body["top_k"]) == (50, ["END"], 0.5, 5)
    assert body["user"] != "u-7"


def test_a_streamed_message(claude: Anthropic) -> None:
    with claude.messages.stream(model="support", max_tokens=50, messages=HELLO) as stream:
        assert "".join(stream.text_stream) == SAID
        final = stream.get_final_message()
    assert final.stop_reason == "end_turn"
    assert final.usage.output_tokens == 6
    assert final.usage.input_tokens > 0
    kinds = [event.type for event in claude.messages.create(
        model="support", max_tokens=50, messages=HELLO, stream=True)]  # fmt: skip
    assert kinds[:2] == ["message_start", "content_block_start"]
    assert kinds[-3:] == ["content_block_stop", "message_delta", "message_stop"]


@pytest.mark.parametrize("streams", [False, True])
def test_tools_and_their_results_through_the_messages_api(claude: Anthropic, house: House, streams: bool) -> None:
    messages = [*HELLO]
    if streams:
        with claude.messages.stream(model="support", max_tokens=50, messages=messages, tools=[TOOL]) as stream:
            made: Any = stream.get_final_message()
    else:
        made = claude.messages.create(
            model="support", max_tokens=50, messages=messages, tools=[TOOL], tool_choice={"type": "any"}
        )
        assert asked(house)["tool_choice"] == "required"
    assert made.stop_reason == "tool_use"
    calls = [block for block in made.content if block.type == "tool_use"]
    assert [call.input for call in calls] == [{"order": "F-1001"}, {"order": "F-1002"}]
    picture: Any = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
    messages += [
        {"role": "assistant", "content": made.content},
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": calls[0].id, "content": "sent"},
                {
                    "type": "tool_result", "tool_use_id": calls[1].id, "is_error": True,
                    "content": [{"type": "text", "text": "no such order"}],
                },
            ],
        },
    ]  # fmt: skip
    told = claude.messages.create(model="support", max_tokens=50, messages=messages, tools=[TOOL])
    assert [block.text for block in told.content if block.type == "text"] == ["It says: Error: no such order"]
    sent = asked(house)["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "tool", "tool"]
    assert json.loads(sent[1]["tool_calls"][1]["function"]["arguments"]) == {"order": "F-1002"}
    messages.append({"role": "user", "content": [picture, {"type": "text", "text": "This one"}]})
    claude.messages.create(model="support", max_tokens=50, messages=messages)
    assert asked(house)["messages"][-1]["content"][0]["image_url"]["url"] == f"data:image/png;base64,{PIXEL}"


def test_a_message_cut_short_and_one_that_breaks_off(claude: Anthropic) -> None:
    made = claude.messages.create(model="support", max_tokens=5, messages=[{"role": "user", "content": "long"}])
    assert made.stop_reason == "max_tokens"
    with (
        pytest.raises(anthropic.APIStatusError, match="gave no whole answer"),
        claude.messages.stream(model="support", max_tokens=5, messages=[{"role": "user", "content": "break"}]) as it,
    ):
        it.get_final_message()


@pytest.mark.parametrize(
    ("said", "kind", "name"),
    [
        ("status 400", anthropic.BadRequestError, "invalid_request_error"),
        ("status 429", anthropic.RateLimitError, "rate_limit_error"),
        ("status 500", anthropic.InternalServerError, "api_error"),
        ("status 503", anthropic.InternalServerError, "overloaded_error"),
    ],
)
def test_errors_of_the_messages_api(
    claude: Anthropic, said: str, kind: type[anthropic.APIStatusError], name: str
) -> None:
    with pytest.raises(kind) as caught:
        claude.messages.create(model="support", max_tokens=5, messages=[{"role": "user", "content": said}])
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["type"] == "error"
    assert caught.value.body["error"]["type"] == name
    assert caught.value.request_id
    with pytest.raises(anthropic.NotFoundError, match="Nearest: support"):
        claude.messages.create(model="suport", max_tokens=5, messages=HELLO)
    with pytest.raises(anthropic.NotFoundError, match="POST /v1/messages alone"):
        claude.messages.count_tokens(model="support", messages=HELLO)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tools", [{"type": "web_search_20250305", "name": "web_search"}]),
        ("container", "c_1"),
        ("max_tokens", 0),
        ("system", [{"type": "image"}]),
        ("messages", [{"role": "user", "content": [{"type": "image", "source": {"type": "file", "file_id": "f"}}]}]),
        ("messages", [{"role": "user", "content": [{"type": "tool_result", "content": "x"}]}]),
        ("messages", [{"role": "assistant", "content": [{"type": "server_tool_use"}]}]),
        ("tool_choice", {"type": "some"}),
        ("stop_sequences", [""]),
    ],
)
def test_what_the_messages_api_cannot_have_is_refused_by_name(url: str, field: str, value: Any) -> None:
    body = {"model": "support", "max_tokens": 5, "messages": HELLO, field: value}
    answer = httpx.post(f"{url}/v1/messages", json=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["type"] == "error"
    assert field in answer.json()["error"]["message"]


# --- both ------------------------------------------------------------------------------------------------------------


def test_keys_by_either_header_and_records_of_both(tmp_path: Path) -> None:
    with stored(tmp_path) as store:
        _, secret = store.keys.create("shop", ["inference"], tenant="acme")
        house = build(Scripted(script=answer), keys=store.keys)
        with serving(house.gateway) as url:
            good = Anthropic(base_url=url, api_key=secret)
            assert good.messages.create(model="support", max_tokens=5, messages=HELLO).stop_reason == "end_turn"
            assert OpenAI(base_url=f"{url}/v1", api_key=secret).responses.create(model="support", input="Hi").output
            with pytest.raises(anthropic.AuthenticationError):
                Anthropic(base_url=url, api_key="wrong").messages.create(model="support", max_tokens=5, messages=HELLO)
            with pytest.raises(openai.AuthenticationError):
                OpenAI(base_url=f"{url}/v1", api_key="wrong").responses.create(model="support", input="Hi")
            records = house.written(2)
    assert [record.tenant for record in records] == ["acme", "acme"]
    assert records[0].operation == "chat"


def test_limits_of_the_gateway_hold() -> None:
    with serving(build(max_body_bytes=2000).gateway) as url:
        large = {"model": "support", "input": "x" * 3000}
        assert httpx.post(f"{url}/v1/responses", json=large).status_code == 413
        kind = httpx.post(f"{url}/v1/messages", json={**large, "max_tokens": 1}).json()["error"]["type"]
        assert kind == "request_too_large"
        assert httpx.post(f"{url}/v1/messages", content=b"{", headers={"content-type": "application/json"}).json() == {
            "type": "error",
            "error": {"type": "invalid_request_error", "message": any_text()},
            "request_id": any_text(),
        }
        assert httpx.get(f"{url}/v1/messages").headers["allow"] == "POST"


class any_text:  # noqa: N801
    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and bool(other)

    __hash__ = None  # type: ignore[assignment]


THOUGHT = {"type": "thinking", "thinking": "Let me see.", "signature": "c2ln"}


@pytest.fixture
async def hosted() -> AsyncIterator[tuple[str, Talk]]:
    """A gateway whose only model speaks the Messages API itself."""
    async with messages_server() as (server, talk):
        house = build(Scripted(), routes={"support": route(Hosted("hosted", server, "claude-haiku-4-5"))})
        with serving(house.gateway) as url:
            yield url, talk
        for writer in talk.writers:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


async def test_signed_thoughts_and_cache_marks_go_round_through_both_surfaces(hosted: tuple[str, Talk]) -> None:
    url, talk = hosted
    talk.whole = {**WHOLE, "content": [THOUGHT, *WHOLE["content"]]}
    mark: Any = {"type": "ephemeral"}
    async with anthropic.AsyncAnthropic(base_url=url, api_key="unused") as claude:
        made = await claude.messages.create(
            model="support", max_tokens=5, messages=HELLO, thinking={"type": "enabled", "budget_tokens": 1024},
            system=[{"type": "text", "text": "Be kind.", "cache_control": mark}],
        )  # fmt: skip
        assert made.content[0].to_dict() == THOUGHT
        assert made.usage.cache_read_input_tokens == 1800
        assert made.usage.input_tokens == 25
        assert talk.asked[-1][1]["thinking"] == {"type": "enabled", "budget_tokens": 1024}
        assert talk.asked[-1][1]["system"] == [{"type": "text", "text": "Be kind.", "cache_control": mark}]
        turns: Any = [*HELLO, {"role": "assistant", "content": made.content}, *HELLO]
        await claude.messages.create(model="support", max_tokens=5, messages=turns)
        assert talk.asked[-1][1]["messages"][1]["content"][0] == THOUGHT
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="unused") as client:
        first = await client.responses.create(model="support", input="Hi")
        given: Any = [{"role": "user", "content": "Hi"}, *(item.to_dict() for item in first.output)]
        await client.responses.create(model="support", input=[*given, {"role": "user", "content": "And?"}])
        assert talk.asked[-1][1]["messages"][1]["content"][0] == THOUGHT
        assert first.usage is not None
        assert first.usage.input_tokens_details.cached_tokens == 1800


async def test_streamed_thoughts_go_round(hosted: tuple[str, Talk]) -> None:
    url, talk = hosted
    thinking = [
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "Let me "}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "see."}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "signature_delta", "signature": "c2ln"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "redacted_thinking", "data": "xx"}},
        {"type": "content_block_stop", "index": 1},
    ]
    talk.events = [EVENTS[0], *thinking, *({**each, "index": 2} if "index" in each else each for each in EVENTS[1:])]
    async with (
        anthropic.AsyncAnthropic(base_url=url, api_key="unused") as claude,
        claude.messages.stream(model="support", max_tokens=5, messages=HELLO) as stream,
    ):
        final = await stream.get_final_message()
    assert [block.type for block in final.content] == ["thinking", "redacted_thinking", "text"]
    assert final.content[0].to_dict() == THOUGHT
    assert final.content[1].to_dict() == {"type": "redacted_thinking", "data": "xx"}


# --- translation alone -----------------------------------------------------------------------------------------------


def chunk(delta: Mapping[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"id": "c", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def test_tool_calls_that_interleave_come_one_after_the_other() -> None:
    def piece(index: int, text: str, name: str = "") -> dict[str, Any]:
        function = {"name": name, "arguments": text} if name else {"arguments": text}
        return chunk({"tool_calls": [{"index": index, "id": f"c{index}" if name else None, "function": function}]})

    parts = Parts()
    steps = [
        step
        for each in (piece(0, '{"a', "f"), piece(1, '{"b', "g"), piece(0, '":1}'), piece(1, '":2}'))
        for step in parts.feed(each)
    ]
    steps += parts.end()
    assert [(step.what, step.part.index) for step in steps if step.what != "delta"] == [
        ("begin", 0), ("end", 0), ("begin", 1), ("end", 1),
    ]  # fmt: skip
    assert [(part.name, part.text, part.id) for part in parts.parts] == [("f", '{"a":1}', "c0"), ("g", '{"b":2}', "c1")]


def test_a_tool_call_that_goes_on_after_its_end_is_told() -> None:
    parts = Parts()
    call = {"index": 0, "id": "a", "function": {"name": "f", "arguments": "{"}}
    list(parts.feed(chunk({"tool_calls": [call]})))
    list(parts.feed(chunk({"content": "so"})))
    with pytest.raises(UpstreamBroken, match="had ended"):
        list(parts.feed(chunk({"tool_calls": [call]})))


@pytest.mark.parametrize(
    "bad",
    [
        {},
        {"choices": []},
        {"choices": [None]},
        {"choices": [{"message": "x"}]},
        {"choices": [{"message": {"tool_calls": 5}}]},
    ],
)
def test_an_answer_that_is_none_is_told(bad: Any) -> None:
    with pytest.raises(UpstreamBroken):
        parts_of(bad)


PIECES = st.lists(
    st.one_of(
        st.text(max_size=6).map(lambda text: {"content": text}),
        st.text(max_size=6).map(lambda text: {"reasoning_content": text}),
        st.text(max_size=6).map(lambda text: {"refusal": text}),
    ),
    max_size=12,
)


@given(PIECES, st.lists(st.text(max_size=8), max_size=3))
def test_a_stream_tells_what_the_whole_answer_tells(pieces: list[dict[str, str]], arguments: list[str]) -> None:
    calls = [{"index": n, "id": f"c{n}", "function": {"name": "f", "arguments": a}} for n, a in enumerate(arguments)]
    for dialect in (Messages(), Responses()):
        events = [event for each in pieces for event in dialect.feed(chunk(each))]
        events += [event for call in calls for event in dialect.feed(chunk({"tool_calls": [call]}))]
        events += [*dialect.feed(chunk({}, "stop")), *dialect.end()]
        begun = [e for name, e in events if name in ("content_block_start", "response.output_item.added")]
        ended = [e for name, e in events if name in ("content_block_stop", "response.output_item.done")]
        assert len(begun) == len(ended)
        told = "".join(
            each.get("delta", "") if isinstance(each.get("delta"), str) else each["delta"].get("text", "")
            for name, each in events
            if name in ("content_block_delta", "response.output_text.delta", "response.refusal.delta")
        )
        said = [p.get("content", "") + p.get("refusal", "") for p in pieces]
        assert told == "".join(said)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "role", "content", "text", "id", "name", "source", "output"]), inner)
    ),
    max_leaves=12,
)


@given(st.lists(JSON, min_size=1, max_size=3), JSON)
def test_whatever_is_sent_is_translated_or_refused(items: list[Any], other: Any) -> None:
    for dialect, body in (
        (Responses(), {"model": "m", "input": items, "tools": other, "text": other}),
        (Messages(), {"model": "m", "max_tokens": 1, "messages": items, "system": other, "tool_choice": other}),
    ):
        try:
            dialect.body(body, "")
            translated = dialect.request(body)
        except RequestInvalid:
            continue
        assert isinstance(translated["messages"], list)
        orjson.dumps(translated)
