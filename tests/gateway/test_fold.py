"""Folding a stream gives what the same call would have answered without streaming."""

from __future__ import annotations

from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from fairlead.gateway.fold import fold
from fairlead.providers import sse
from fairlead.providers.base import Call, CallContext
from fairlead.providers.scripted import Script, Scripted


async def both(script: Script, **body: Any) -> tuple[dict[str, Any], bytes]:
    """The same call answered whole and as a stream."""
    upstream = Scripted(script=script)
    operation = "completion" if "prompt" in body else "chat"
    if operation == "chat":
        body["messages"] = [{"role": "user", "content": "Hello there."}]

    def call(stream: bool) -> Call:
        asked = {**body, "stream": stream, "stream_options": {"include_usage": True}}
        return Call(operation=operation, body=asked, stream=stream, deadline=1e12, context=CallContext())  # type: ignore[arg-type]

    whole = await upstream.open(call(stream=False))
    streamed = await upstream.open(call(stream=True))
    assert whole.body is not None
    assert streamed.chunks is not None
    return orjson.loads(whole.body), b"".join([chunk async for chunk in streamed.chunks])


async def test_text_of_several_choices() -> None:
    answer, stream = await both(Script(text="One two three."), n=2)
    folded = fold(stream)
    assert [choice["message"]["content"] for choice in folded.choices] == [
        choice["message"]["content"] for choice in answer["choices"]
    ]
    assert folded.usage == answer["usage"]
    assert folded.finish == "stop"
    assert folded.pieces == 6


async def test_tool_calls() -> None:
    calls = (("find_order", '{"order":"F-1001","email":"a@b.c"}'), ("greet", "{}"))
    answer, stream = await both(Script(tool_calls=calls))
    message = fold(stream).choices[0]["message"]
    assert message["tool_calls"] == answer["choices"][0]["message"]["tool_calls"]
    assert message["content"] is None
    assert fold(stream).finish == "tool_calls"


async def test_a_completion_without_chat() -> None:
    answer, stream = await both(Script(text="and so on"), prompt="It began")
    assert fold(stream).choices[0]["text"] == answer["choices"][0]["text"]


def test_arguments_in_pieces_reasoning_and_logprobs() -> None:
    deltas: list[dict[str, Any]] = [
        {"delta": {"role": "assistant", "reasoning_content": "Let me "}},
        {"delta": {"reasoning_content": "see."}},
        {
            "delta": {
                "tool_calls": [{"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}]
            }
        },
        {"delta": {"tool_calls": [{"index": 0, "function": {"arguments": '{"a":'}}]}},
        {"delta": {"tool_calls": [{"index": 0, "function": {"arguments": "1}"}}]}},
        {"delta": {"content": "ok"}, "logprobs": {"content": [{"token": "ok", "logprob": -0.1}]}},
        {"delta": {}, "finish_reason": "tool_calls", "fairlead": {"act": "tool"}},
    ]
    stream = b"".join(sse.encode({"choices": [{"index": 0, **delta}]}) for delta in deltas) + sse.DONE
    choice = fold(stream).choices[0]
    assert choice["message"]["tool_calls"][0]["function"] == {"name": "f", "arguments": '{"a":1}'}
    assert choice["message"]["reasoning_content"] == "Let me see."
    assert choice["message"]["fairlead"] == {"act": "tool"}
    assert choice["logprobs"]["content"][0]["token"] == "ok"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "choices",
                    "delta",
                    "index",
                    "content",
                    "tool_calls",
                    "function",
                    "usage",
                    "finish_reason",
                    "logprobs",
                    "text",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.lists(JSON, max_size=5), st.binary(max_size=40))
def test_nothing_an_upstream_sends_can_break_the_recorder(payloads: list[Any], noise: bytes) -> None:
    stream = b"".join(b"data: " + orjson.dumps(payload) + b"\n\n" for payload in payloads) + noise
    orjson.dumps(fold(stream).choices)
