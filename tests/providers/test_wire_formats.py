"""Every OpenAI-compatible provider in its own wire format, over real sockets: what goes out, and what comes back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from fairlead.errors import UpstreamBroken
from fairlead.gateway.fold import fold
from fairlead.gateway.relay import Relay
from fairlead.gateway.surfaces.parts import parts_of
from fairlead.providers.base import Call, CallContext
from fairlead.providers.dialect import DIALECTS
from fairlead.providers.facts import FACTS, facts_of, window_of
from fairlead.providers.openai_compatible import OpenAICompatible
from fairlead.spec.target import HOSTED
from tests.providers.test_openai_compatible import STREAM_HEAD, always, chunk, server, whole
from tests.providers.wire_formats import WIRES, Wire

ASKED: dict[str, Any] = {
    "messages": [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "name": "ada", "content": [
            {"type": "text", "text": "Where is it?", "cache_control": {"type": "ephemeral"}}]},
        {"role": "assistant", "content": None, "thinking_blocks": [{"type": "thinking"}], "tool_calls": [
            {"id": "call_abc", "type": "function", "function": {"name": "find", "arguments": "{}"}}]},
        {"role": "tool", "tool_call_id": "call_abc", "content": "sent"},
    ],
    "tools": [{"type": "function", "function": {"name": "find", "parameters": {"type": "object"}}}],
    "tool_choice": "required", "max_tokens": 50, "seed": 7, "user": "u", "top_k": 5, "n": 1, "logprobs": False,
    "thinking": {"type": "enabled"}, "stream": True, "stream_options": {"include_usage": True},
}  # fmt: skip
COMMON = {"model", "messages", "tools", "tool_choice", "stream"}
SENT: dict[str, set[str]] = {
    "openai": {"max_completion_tokens", "seed", "user", "n", "logprobs", "stream_options"},
    "azure": {"max_completion_tokens", "seed", "user", "n", "logprobs", "stream_options"},
    "bedrock": {"max_completion_tokens", "seed", "user", "n", "logprobs", "stream_options"},
    "gemini": {"max_tokens", "seed", "n", "logprobs", "stream_options"},
    "mistral": {"max_tokens", "random_seed", "n"},
    "groq": {"max_completion_tokens", "seed", "user", "stream_options"},
    "together": {"max_tokens", "seed", "user", "top_k", "n", "logprobs", "stream_options"},
    "deepseek": {"max_tokens", "thinking", "logprobs", "stream_options"},
    "openrouter": {"max_tokens", "seed", "user", "top_k", "n", "logprobs", "stream_options"},
    "vllm": {"max_tokens", "seed", "user", "top_k", "n", "logprobs", "stream_options"},
    "sglang": {"max_tokens", "seed", "user", "top_k", "n", "logprobs", "stream_options"},
    "ollama": {"max_tokens", "seed", "user", "top_k", "logprobs", "stream_options"},
    "llamacpp": {"max_tokens", "seed", "user", "top_k", "n", "logprobs", "stream_options"},
    "http": {"max_tokens", "seed", "user", "top_k", "n", "logprobs", "stream_options"},
}
"""Which fields of ASKED, by which name, a provider is sent beside the common ones."""


def call(**changes: Any) -> Call:
    body = {**ASKED, **changes}
    deadline = asyncio.get_running_loop().time() + 30
    return Call(
        operation="chat", body=body, stream=body.get("stream") is True, deadline=deadline, context=CallContext()
    )


@contextlib.asynccontextmanager
async def asking(
    provider: str, answer: bytes, key: str = "sk-own"
) -> AsyncIterator[tuple[OpenAICompatible, list[bytes]]]:
    async with server(always(answer)) as (url, requests):
        upstream = OpenAICompatible("hosted", url, "m", key, dialect=DIALECTS[provider])
        yield upstream, requests
        await upstream.aclose()


def on_the_wire(wire: Wire, step: int = 0) -> bytes:
    """The stream as bytes, in chunks of ``step``."""
    lines = [
        f"{each}\n\n".encode() if isinstance(each, str) else b"data: %b\n\n" % orjson.dumps(each)
        for each in wire.stream
    ]
    data = b"".join([*lines, b"data: [DONE]\n\n"])
    size = step or len(data)
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    return STREAM_HEAD + b"".join(map(chunk, pieces)) + b"0\r\n\r\n"


def test_every_provider_has_a_dialect_facts_and_a_format() -> None:
    compatible = {scheme for scheme, host in HOSTED.items() if host.kind == "openai"} | {"http"}
    assert set(DIALECTS) == set(WIRES) == set(SENT) == compatible
    assert set(FACTS) == set(HOSTED) | {"http"}


@pytest.mark.parametrize("provider", WIRES)
async def test_a_request_in_its_dialect(provider: str) -> None:
    wire, dialect = WIRES[provider], DIALECTS[provider]
    async with asking(provider, on_the_wire(wire)) as (upstream, requests):
        reply = await upstream.open(call())
        await reply.aclose()
    head, _, raw = requests[0].partition(b"\r\n\r\n")
    body = orjson.loads(raw)
    assert set(body) == COMMON | SENT[provider]
    assert head.startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
    expected = b"api-key: sk-own" if provider == "azure" else b"authorization: Bearer sk-own"
    assert expected in head.split(b"\r\n")
    messages = body["messages"]
    assert ("cache_control" in str(messages)) == dialect.marks
    assert "thinking_blocks" not in str(messages)
    assert ("name" in messages[1]) == dialect.names
    assert messages[2]["tool_calls"][0]["id"] == messages[3]["tool_call_id"]
    assert body["tool_choice"] == ("any" if provider == "mistral" else "required")


@pytest.mark.parametrize("provider", WIRES)
async def test_a_whole_answer_in_its_format(provider: str) -> None:
    wire = WIRES[provider]
    async with asking(provider, whole(orjson.dumps(wire.whole))) as (upstream, _):
        reply = await upstream.open(call(stream=False))
        assert reply.body is not None
        answer = orjson.loads(reply.body)
        await reply.aclose()
    choice = answer["choices"][0]
    assert choice["message"]["content"] == wire.text
    assert (choice["message"].get("reasoning_content") or "") == wire.thought
    assert choice["finish_reason"] == wire.finish
    assert (answer["usage"].get("prompt_tokens_details") or {}).get("cached_tokens", 0) == wire.cached
    assert [part.kind for part in parts_of(answer).parts] == ["thought"] * bool(wire.thought) + ["text"]


@pytest.mark.parametrize("step", [0, 7])
@pytest.mark.parametrize("provider", WIRES)
async def test_a_stream_in_its_format(provider: str, step: int) -> None:
    wire = WIRES[provider]
    async with asking(provider, on_the_wire(wire, step)) as (upstream, _):
        reply = await upstream.open(call())
        assert reply.chunks is not None
        relay = Relay("hosted", wants_usage=True)
        passed = b"".join([relay.feed(data) async for data in reply.chunks]) + relay.end()
        await reply.aclose()
    folded = fold(passed)
    message = folded.choices[0]["message"]
    assert message["content"] == wire.text
    assert (message.get("reasoning_content") or "") == wire.thought
    assert folded.finish == wire.finish
    assert relay.usage is not None
    assert relay.usage["completion_tokens"] == 7
    assert (relay.usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0) == wire.cached


@pytest.mark.parametrize("provider", WIRES)
async def test_an_error_in_its_format(provider: str) -> None:
    status, body, said = WIRES[provider].error
    async with asking(provider, whole(orjson.dumps(body), f"{status} Wrong")) as (upstream, _):
        reply = await upstream.open(call())
    assert reply.status == status
    assert reply.body is not None
    assert said in orjson.loads(reply.body)["error"]["message"]


async def test_an_error_within_a_stream_that_looks_like_a_piece_of_it() -> None:
    broken = orjson.dumps(
        {"id": "c", "error": {"code": 502, "message": "provider fell over"},
         "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}]}
    )  # fmt: skip
    answer = STREAM_HEAD + chunk(b"data: %b\n\ndata: [DONE]\n\n" % broken) + b"0\r\n\r\n"
    async with asking("openrouter", answer) as (upstream, _):
        reply = await upstream.open(call())
        assert reply.chunks is not None
        relay = Relay("hosted", wants_usage=True)
        data = await anext(aiter(reply.chunks))
        with pytest.raises(UpstreamBroken, match="provider fell over"):
            relay.feed(data)
        await reply.aclose()


async def test_what_a_provider_cannot_do_is_refused_without_asking_it() -> None:
    async with asking("mistral", b"") as (upstream, requests):
        reply = await upstream.open(call(logprobs=True))
    assert reply.status == 400
    assert reply.body is not None
    assert orjson.loads(reply.body)["error"]["param"] == "logprobs"
    assert not requests


async def test_a_dated_azure_deployment_names_its_version_in_every_path() -> None:
    async with server(always(whole(orjson.dumps(WIRES["azure"].whole)))) as (url, requests):
        base = url.replace("/v1", "/openai/deployments/chat?api-version=2024-10-21")
        upstream = OpenAICompatible("hosted", base, "chat", "key", dialect=DIALECTS["azure"])
        assert (await upstream.open(call(stream=False))).status == 200
        await upstream.aclose()
    assert requests[0].startswith(b"POST /openai/deployments/chat/chat/completions?api-version=2024-10-21 HTTP/1.1\r\n")


async def test_aws_credentials_sign_and_are_never_sent() -> None:
    async with asking("bedrock", whole(orjson.dumps(WIRES["bedrock"].whole)), "AKIDEXAMPLE:very/secret:tok") as (
        upstream, requests,
    ):  # fmt: skip
        assert (await upstream.open(call(stream=False))).status == 200
    head = requests[0].partition(b"\r\n\r\n")[0].decode()
    assert "authorization: AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/" in head
    assert "/bedrock/aws4_request" in head
    assert "x-amz-security-token: tok" in head
    assert "very/secret" not in requests[0].decode()


def test_windows_by_the_longest_beginning() -> None:
    for model, context, output in (
        ("gpt-4.1-mini", 1_047_576, 32_768), ("gpt-5-2025-08-07", 400_000, 128_000), ("gpt-5-pro", 400_000, 272_000),
        ("gpt-5.4", 1_050_000, 128_000),
    ):  # fmt: skip
        found = window_of("openai", model)
        assert found is not None
        assert (found.context, found.output) == (context, output)
        assert found.source
    assert window_of("openai", "gpt-5.5") is None, "another model whose name begins alike"
    assert window_of("openai", "unheard-of") is None
    assert window_of("nobody", "gpt-4.1") is None
    assert facts_of("nobody").tools is None
