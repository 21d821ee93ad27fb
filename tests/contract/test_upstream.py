"""What every Upstream must do, run on every implementation there is: over HTTP, in process, scripted.

A new provider or engine is one more factory in FACTORIES.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import orjson
import pytest

from fairlead.engines.embed import Embed
from fairlead.engines.extractive import Extractive
from fairlead.gateway.fold import fold
from fairlead.gateway.relay import Relay
from fairlead.providers.anthropic import Anthropic
from fairlead.providers.base import Call, CallContext, Operation, Upstream
from fairlead.providers.openai_compatible import OpenAICompatible
from fairlead.providers.scripted import Script, Scripted
from tests.gateway.gateway_harness import build, serving
from tests.providers.messages_server import messages_server


class Subject(msgspec.Struct):
    """One implementation: the upstream and the operations it has."""

    upstream: Upstream
    operations: frozenset[Operation]


@contextlib.asynccontextmanager
async def scripted() -> AsyncIterator[Subject]:
    yield Subject(Scripted(script=Script(text="It is on its way.")), frozenset({"chat", "completion", "embedding"}))


@contextlib.asynccontextmanager
async def over_http() -> AsyncIterator[Subject]:
    with serving(build(Script(text="It is on its way.")).gateway) as url:
        upstream = OpenAICompatible("http", f"{url}/v1", "support")
        yield Subject(upstream, frozenset({"chat", "completion", "embedding"}))
        await upstream.aclose()


@contextlib.asynccontextmanager
async def messages_api() -> AsyncIterator[Subject]:
    async with messages_server() as (url, _):
        upstream = Anthropic("hosted", url, "claude-haiku-4-5")
        yield Subject(upstream, frozenset({"chat"}))
        await upstream.aclose()


@contextlib.asynccontextmanager
async def extractive() -> AsyncIterator[Subject]:
    engine = Extractive()
    await engine.start()
    yield Subject(engine.upstream(), frozenset({"chat"}))
    await engine.stop()


@contextlib.asynccontextmanager
async def embed() -> AsyncIterator[Subject]:
    engine = Embed()
    await engine.start()
    yield Subject(engine.upstream(), frozenset({"embedding"}))
    await engine.stop()


FACTORIES: list[Callable[[], contextlib.AbstractAsyncContextManager[Subject]]] = [
    scripted,
    over_http,
    messages_api,
    extractive,
    embed,
]
DOCUMENTS = [
    {
        "id": "returns#1",
        "title": "Returns",
        "text": "You can return an item within 30 days of delivery.",
        "location": "r.md",
    }
]
BODIES: dict[Operation, dict[str, Any]] = {
    "chat": {
        "model": "m",
        "messages": [{"role": "user", "content": "How many days do I have to return an item?"}],
        "documents": DOCUMENTS,
    },
    "completion": {"model": "m", "prompt": "It began"},
    "embedding": {"model": "m", "input": ["a parcel", "un colis"]},
}


@pytest.fixture(params=FACTORIES, ids=lambda factory: factory.__name__)
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    async with request.param() as made:
        yield made


def call(operation: Operation, *, stream: bool = False, **body: Any) -> Call:
    body = {**BODIES[operation], **body}
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    deadline = asyncio.get_running_loop().time() + 20
    context = CallContext(request="r-1", tenant="acme")
    return Call(operation=operation, body=body, stream=stream, deadline=deadline, context=context)


async def whole(upstream: Upstream, asked: Call) -> dict[str, Any]:
    reply = await upstream.open(asked)
    assert reply.status == 200, reply.body
    assert reply.chunks is None
    assert reply.body is not None
    await reply.aclose()
    answer: dict[str, Any] = orjson.loads(reply.body)
    return answer


async def streamed(upstream: Upstream, asked: Call) -> tuple[bytes, Relay]:
    reply = await upstream.open(asked)
    assert reply.status == 200, reply.body
    assert reply.body is None
    assert reply.chunks is not None
    relay = Relay(upstream.name, wants_usage=True)
    passed = b"".join([relay.feed(chunk) async for chunk in reply.chunks]) + relay.end()
    await reply.aclose()
    return passed, relay


def speaking(subject: Subject) -> list[Operation]:
    return sorted(subject.operations - {"embedding"})


async def test_a_whole_answer_has_choices_a_finish_and_usage(subject: Subject) -> None:
    for operation in speaking(subject):
        answer = await whole(subject.upstream, call(operation))
        choice = answer["choices"][0]
        text = choice["text"] if operation == "completion" else choice["message"]["content"]
        assert isinstance(text, str)
        assert text
        assert choice["index"] == 0
        assert choice["finish_reason"] == "stop"
        assert answer["object"] == {"chat": "chat.completion", "completion": "text_completion"}[operation]
        usage = answer["usage"]
        assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 0


async def test_a_stream_says_the_same_as_the_whole_answer(subject: Subject) -> None:
    for operation in speaking(subject):
        answer = await whole(subject.upstream, call(operation))
        passed, relay = await streamed(subject.upstream, call(operation, stream=True))
        folded = fold(passed)
        key = "text" if operation == "completion" else "message"
        said, again = answer["choices"][0][key], folded.choices[0][key]
        assert (again if operation == "completion" else again["content"]) == (
            said if operation == "completion" else said["content"]
        )
        assert folded.finish == "stop"
        assert passed.endswith(b"data: [DONE]\n\n")
        assert relay.usage is not None, "no usage in the stream"
        assert relay.usage["completion_tokens"] == answer["usage"]["completion_tokens"]


async def test_the_callers_body_is_left_alone(subject: Subject) -> None:
    for operation in subject.operations:
        asked = call(operation)
        before = orjson.dumps(asked.body)
        await whole(subject.upstream, asked)
        assert orjson.dumps(asked.body) == before


async def test_many_calls_at_once_do_not_mix(subject: Subject) -> None:
    for operation in subject.operations:
        answers = await asyncio.gather(*(whole(subject.upstream, call(operation)) for _ in range(16)))
        key = "data" if operation == "embedding" else "choices"
        assert all(answer[key] == answers[0][key] for answer in answers)


async def test_a_stream_may_be_left_at_any_time(subject: Subject) -> None:
    for operation in speaking(subject):
        for read in (0, 1, 2):
            reply = await subject.upstream.open(call(operation, stream=True))
            assert reply.chunks is not None
            iterator = aiter(reply.chunks)
            for _ in range(read):
                with contextlib.suppress(StopAsyncIteration):
                    await anext(iterator)
            await reply.aclose()
        assert await whole(subject.upstream, call(operation)), "no answer after streams that were left"


async def test_embeddings_are_in_order_and_equal_for_equal_texts(subject: Subject) -> None:
    if "embedding" not in subject.operations:
        return
    answer = await whole(subject.upstream, call("embedding", input=["a", "b", "a"]))
    assert [item["index"] for item in answer["data"]] == [0, 1, 2]
    vectors = [item["embedding"] for item in answer["data"]]
    assert vectors[0] == vectors[2] != vectors[1]
    single = await whole(subject.upstream, call("embedding", input="a"))
    assert single["data"][0]["embedding"] == pytest.approx(vectors[0])


async def test_closing_twice_is_closing_once(subject: Subject) -> None:
    await subject.upstream.aclose()
    await subject.upstream.aclose()


async def test_it_has_a_name(subject: Subject) -> None:
    assert subject.upstream.name
