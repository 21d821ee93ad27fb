"""The OpenAI-compatible provider against servers that misbehave on purpose, over real sockets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import orjson
import pytest

from fairlead.errors import UpstreamBroken, UpstreamTimeout, UpstreamUnreachable
from fairlead.providers import registry
from fairlead.providers.base import Call, CallContext, Reply
from fairlead.providers.network import Network
from fairlead.providers.openai_compatible import OpenAICompatible, read_error
from tests.gateway.gateway_harness import pass_time

Handler = Callable[[bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
WHOLE = b'{"choices":[{"index":0,"message":{"role":"assistant","content":"ok"},"finish_reason":"stop"}]}'
EVENT = b'data: {"choices":[{"index":0,"delta":{"content":"ok"}}]}\n\n'


def whole(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", "content-type: application/json", f"content-length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


@contextlib.asynccontextmanager
async def server(handle: Handler) -> AsyncIterator[tuple[str, list[bytes]]]:
    """Calls ``handle`` for every request that has arrived whole; the requests are collected."""
    requests: list[bytes] = []
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                requests.append(head + await reader.readexactly(length))
                await handle(requests[-1], reader, writer)
                await writer.drain()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1", requests
    finally:
        listening.close()
        for writer in writers:
            writer.close()
        await asyncio.sleep(0)


def call(*, stream: bool = False, timeout_s: float = 30.0, **body: Any) -> Call:
    body = {"messages": [{"role": "user", "content": "Hello"}], **body}
    deadline = asyncio.get_running_loop().time() + timeout_s
    return Call(operation="chat", body=body, stream=stream, deadline=deadline, context=CallContext())


async def read(reply: Reply) -> bytes:
    assert reply.chunks is not None
    try:
        return b"".join([data async for data in reply.chunks])
    finally:
        await reply.aclose()


@contextlib.asynccontextmanager
async def provider(url: str, **given: Any) -> AsyncIterator[OpenAICompatible]:
    made = registry.build("openai", "hosted", url, "model-1", **given)
    assert isinstance(made, OpenAICompatible)
    try:
        yield made
    finally:
        await made.aclose()
        await made.aclose()


def always(answer: bytes, *, close: bool = False) -> Handler:
    async def handle(request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        if close:
            await writer.drain()
            writer.close()

    return handle


async def test_the_key_and_the_model_go_out_and_nothing_of_the_caller() -> None:
    async with server(always(whole(WHOLE))) as (url, requests), provider(url, api_key="sk-own") as hosted:
        reply = await hosted.open(call(model="alias"))
        assert (reply.status, reply.body) == (200, WHOLE)
    head, body = requests[0].split(b"\r\n\r\n", 1)
    assert b"POST /v1/chat/completions HTTP/1.1" in head
    assert b"authorization: bearer sk-own" in head.lower()
    assert orjson.loads(body)["model"] == "model-1"


async def test_connections_are_kept() -> None:
    ports: set[object] = set()

    async def handle(request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ports.add(writer.get_extra_info("peername"))
        writer.write(whole(WHOLE))

    async with server(handle) as (url, _), provider(url) as hosted:
        for _ in range(5):
            await (await hosted.open(call())).aclose()
    assert len(ports) == 1


async def test_a_kept_connection_the_server_has_closed_is_replaced_without_a_word() -> None:
    async def handle(request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(requests) % 2 == 0 and len(requests) < 4:
            writer.transport.abort()  # as a server does whose keep-alive has run out while the request travelled
        else:
            writer.write(whole(WHOLE))

    async with server(handle) as (url, requests), provider(url) as hosted:
        for _ in range(2):
            assert (await hosted.open(call())).status == 200
        assert len(requests) == 3


async def test_a_server_that_dies_while_it_works_is_not_asked_twice() -> None:
    async def handle(request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.2)
        writer.transport.abort()

    async with server(handle) as (url, requests), provider(url) as hosted:
        with pytest.raises(UpstreamUnreachable):
            await hosted.open(call())
        assert len(requests) == 1


async def test_nobody_there() -> None:
    async with provider("http://127.0.0.1:1/v1") as hosted:
        with pytest.raises(UpstreamUnreachable, match="hosted cannot be reached"):
            await hosted.open(call())


async def test_a_name_that_does_not_exist() -> None:
    async with provider("http://nowhere.invalid/v1", network=Network(connect_s=2)) as hosted:
        with pytest.raises(UpstreamUnreachable):
            await hosted.open(call())


async def silent(request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


async def test_silence_ends_at_the_deadline() -> None:
    async with server(silent) as (url, _), provider(url) as hosted:
        with pytest.raises(UpstreamTimeout):
            await hosted.open(call(timeout_s=0.2))
        with pytest.raises(UpstreamTimeout):
            await hosted.open(call(timeout_s=-1))


async def test_a_stream_that_falls_silent_ends_at_the_deadline() -> None:
    async def handle(request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD + chunk(EVENT))
        await asyncio.sleep(60)

    async with server(handle) as (url, _), provider(url) as hosted:
        pass_time()
        reply = await hosted.open(call(stream=True, timeout_s=90))
        assert reply.chunks is not None
        assert await anext(reply.chunks) == EVENT
        pass_time(100)
        with pytest.raises(UpstreamTimeout):
            await read(reply)


async def test_a_stream_passes_as_it_is() -> None:
    async def handle(request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD)
        stream = EVENT + b"data: [DONE]\n\n"
        for place in range(0, len(stream), 7):
            writer.write(chunk(stream[place : place + 7]))
            await writer.drain()
        writer.write(b"0\r\n\r\n")

    async with server(handle) as (url, _), provider(url) as hosted:
        for _ in range(2):
            assert await read(await hosted.open(call(stream=True))) == EVENT + b"data: [DONE]\n\n"


@pytest.mark.parametrize("end", [chunk(EVENT), chunk(EVENT)[:-5], b"5\r\nab"])
async def test_a_stream_cut_off_is_broken(end: bytes) -> None:
    async with server(always(STREAM_HEAD + end, close=True)) as (url, _), provider(url) as hosted:
        with pytest.raises(UpstreamBroken):
            await read(await hosted.open(call(stream=True)))


async def test_a_whole_answer_cut_off_is_broken() -> None:
    async with server(always(whole(WHOLE)[:-10], close=True)) as (url, _), provider(url) as hosted:
        with pytest.raises(UpstreamBroken):
            await hosted.open(call())


async def test_who_asked_for_a_stream_and_gets_none_is_told() -> None:
    async with server(always(whole(WHOLE))) as (url, _), provider(url) as hosted:
        with pytest.raises(UpstreamBroken, match="application/json"):
            await hosted.open(call(stream=True))


@pytest.mark.parametrize("started", [True, False])
async def test_leaving_a_stream_early_closes_the_connection(started: bool) -> None:
    closed = asyncio.Event()

    async def handle(request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(STREAM_HEAD + chunk(EVENT))
        await writer.drain()
        await reader.read()
        closed.set()

    async with server(handle) as (url, _), provider(url) as hosted:
        reply = await hosted.open(call(stream=True))
        assert reply.chunks is not None
        if started:
            assert await anext(aiter(reply.chunks)) == EVENT
        await reply.aclose()
        await asyncio.wait_for(closed.wait(), 20)


async def test_cancelling_a_call_closes_the_connection() -> None:
    begun, closed = asyncio.Event(), asyncio.Event()

    async def handle(request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        begun.set()
        await reader.read()
        closed.set()

    async with server(handle) as (url, _), provider(url) as hosted:
        task = asyncio.create_task(hosted.open(call()))
        await asyncio.wait_for(begun.wait(), 20)
        task.cancel()
        await asyncio.wait_for(closed.wait(), 20)
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_garbage_is_no_answer() -> None:
    async with server(always(b"\x00\x01 not http\r\n\r\n", close=True)) as (url, _), provider(url) as hosted:
        with pytest.raises(UpstreamUnreachable):
            await hosted.open(call())


async def test_redirects_are_not_followed() -> None:
    answer = b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/steal\r\ncontent-length: 0\r\n\r\n"
    async with server(always(answer)) as (url, requests), provider(url, api_key="sk-own") as hosted:
        assert (await hosted.open(call())).status == 302
        assert len(requests) == 1


async def test_a_refusal_keeps_status_and_retry_after_and_hides_our_key() -> None:
    body = orjson.dumps(
        {"error": {"message": "bad key sk-own", "type": "auth", "param": None, "code": "invalid_api_key"}}
    )
    answer = whole(body, "429 Too Many Requests", "retry-after: 12", "set-cookie: a=b")
    async with server(always(answer)) as (url, _), provider(url, api_key="sk-own") as hosted:
        reply = await hosted.open(call(stream=True))
    assert reply.status == 429
    assert reply.headers == {"retry-after": "12"}
    assert reply.body is not None
    assert b"sk-own" not in reply.body
    assert orjson.loads(reply.body)["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error": {"message": "m", "code": 3}}', "m"),
        (b'{"error": "just text"}', "just text"),
        (b'{"detail": [{"loc": ["body"], "msg": "field required"}]}', '[{"loc":["body"],"msg":"field required"}]'),
        (b'{"message": "m"}', "m"),
        (b'{"object": "error", "message": "old vLLM"}', "old vLLM"),
        (b"plain words", "plain words"),
        (b"<html><body>502 Bad Gateway</body></html>", ""),
        (b"", ""),
        (b"{}", ""),
        (b"[1]", "[1]"),
        (b"null", ""),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b'{"error": {"message": ["not", "text"]}}', ""),
        (b'{"error": "' + b"x" * 5000 + b'"}', "x" * 2000),
    ],
)
def test_errors_in_every_shape(body: bytes, message: str) -> None:
    assert read_error(body)["message"] == message
