"""LiteLLM as a provider: against a real server where the library is installed, and what is said where it is not."""

from __future__ import annotations

import asyncio
import importlib.util
import sys
from typing import Any

import orjson
import pytest

from fairlead.errors import ExtraMissing, UpstreamUnreachable
from fairlead.gateway.relay import Relay
from fairlead.providers import registry
from fairlead.providers.base import Call, CallContext
from fairlead.providers.litellm import LiteLLM
from tests.providers.test_openai_compatible import always, server, whole
from tests.providers.test_wire_formats import on_the_wire
from tests.providers.wire_formats import WIRES

installed = pytest.mark.skipif(
    importlib.util.find_spec("litellm") is None, reason="litellm is an extra and not installed here"
)
quiet = pytest.mark.filterwarnings("ignore")  # the library warns of its own affairs


def call(*, stream: bool = False) -> Call:
    body: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello"}], "stream": stream}
    if stream:
        body["stream_options"] = {"include_usage": True}
    deadline = asyncio.get_running_loop().time() + 60
    return Call(operation="chat", body=body, stream=stream, deadline=deadline, context=CallContext())


async def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "litellm", None)
    upstream = registry.build("litellm", "tail", "", "cohere/command-a", None)
    with pytest.raises(ExtraMissing, match=r"pip install '\.\[litellm\]'"):
        await upstream.open(call())
    await upstream.aclose()


@installed
@quiet
async def test_whole_and_streamed_and_refused() -> None:
    wire = WIRES["http"]
    async with server(always(whole(orjson.dumps(wire.whole)))) as (url, requests):
        upstream = LiteLLM("tail", url, "openai/m", "sk-own")
        reply = await upstream.open(call())
        assert reply.body is not None
        assert orjson.loads(reply.body)["choices"][0]["message"]["content"] == wire.text
        assert b"Bearer sk-own" in requests[0]
    async with server(always(on_the_wire(wire))) as (url, _):
        reply = await LiteLLM("tail", url, "openai/m", "sk-own").open(call(stream=True))
        assert reply.chunks is not None
        relay = Relay("tail", wants_usage=True)
        passed = b"".join([relay.feed(data) async for data in reply.chunks]) + relay.end()
        assert b"on its way" in passed
        assert relay.usage is not None
    refusal = whole(b'{"error": {"message": "bad key sk-own"}}', "401 Unauthorized")
    async with server(always(refusal)) as (url, _):
        reply = await LiteLLM("tail", url, "openai/m", "sk-own").open(call())
        assert reply.status == 401
        assert reply.body is not None
        assert b"sk-own" not in reply.body


@installed
@quiet
async def test_a_server_that_is_not_there_is_a_failure_that_may_be_tried_again() -> None:
    try:
        reply = await LiteLLM("tail", "http://127.0.0.1:9/v1", "openai/m", "sk-own").open(call())
    except UpstreamUnreachable:
        return
    assert reply.status == 500  # as the library words it for servers that speak the OpenAI protocol
