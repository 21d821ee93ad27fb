"""The upstream of a supervised engine: what had not begun is asked again, what had begun never."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from fairlead.engines.base import Health
from fairlead.engines.served import TRIES, ServedUpstream
from fairlead.engines.supervisor import Supervisor
from fairlead.errors import UpstreamBroken, UpstreamUnreachable
from fairlead.providers.base import Call, CallContext
from fairlead.providers.dialect import LLAMA_CPP, VLLM, Dialect
from fairlead.providers.openai_compatible import OpenAICompatible
from tests.gateway.hostile import END, STREAM, Part, chunked, hostile

EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"hi"}}]}\n\n'
DONE = b"data: [DONE]\n\n"


class Running:
    """Stands for a supervisor whose process is well."""

    name = "engine"
    generation = 1

    def __init__(self, url: str) -> None:
        self.address = url

    def health(self) -> Health:
        return Health(state="ready", pid=1)

    async def back(self, seconds: float) -> None:
        """It is there."""


def upstream(url: str, dialect: Dialect) -> ServedUpstream:
    def connect(address: str) -> OpenAICompatible:
        return OpenAICompatible("engine", address, "m", "k", dialect=dialect)

    return ServedUpstream(cast("Supervisor", Running(url)), connect, at_once=2)


def call() -> Call:
    body: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello"}], "stream": True}
    deadline = asyncio.get_running_loop().time() + 60
    return Call(operation="chat", body=body, stream=True, deadline=deadline, context=CallContext())


@pytest.mark.parametrize("dialect", [LLAMA_CPP, VLLM])
async def test_a_stream_that_breaks_before_its_first_piece_is_asked_for_again(dialect: Dialect) -> None:
    def answer(number: int) -> list[Part]:
        return [STREAM, b""] if number < 3 else [*chunked(EVENT, DONE), END]

    with hostile(answer) as server:
        engine = upstream(server.url, dialect)
        reply = await engine.open(call())
        assert reply.chunks is not None
        assert b"".join([data async for data in reply.chunks]) == EVENT + DONE
        await reply.aclose()
        assert len(server.requests) == 3
        await engine.aclose()


@pytest.mark.parametrize("dialect", [LLAMA_CPP, VLLM])
async def test_a_stream_that_has_begun_is_never_asked_for_again(dialect: Dialect) -> None:
    with hostile([*chunked(EVENT), b""]) as server:
        engine = upstream(server.url, dialect)
        reply = await engine.open(call())
        assert reply.chunks is not None
        with pytest.raises(UpstreamBroken):
            async for _ in reply.chunks:
                pass
        await reply.aclose()
        assert len(server.requests) == 1
        await engine.aclose()


async def test_one_that_never_begins_is_given_up_and_leaves_its_place() -> None:
    with hostile([STREAM, b""]) as server:
        engine = upstream(server.url, LLAMA_CPP)
        for _ in range(3):  # more often than there are places
            with pytest.raises(UpstreamUnreachable, match="before it began"):
                await engine.open(call())
        assert len(server.requests) == 3 * TRIES
        await engine.aclose()
