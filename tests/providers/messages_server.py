"""A server that speaks the Messages API on loopback: answers in the wire format its reference documents."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import orjson

USAGE = {
    "input_tokens": 25, "output_tokens": 1, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 1800,
    "service_tier": "standard",
}  # fmt: skip
EVENTS: list[dict[str, Any]] = [
    {
        "type": "message_start",
        "message": {
            "id": "msg_01", "type": "message", "role": "assistant", "model": "claude-haiku-4-5", "content": [],
            "stop_reason": None, "stop_sequence": None, "usage": USAGE,
        },
    },
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "ping"},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "It is "}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "on its way."}},
    {"type": "content_block_stop", "index": 0},
    {
        "type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None},
        "usage": {"output_tokens": 7},
    },
    {"type": "message_stop"},
]  # fmt: skip
WHOLE: dict[str, Any] = {
    "id": "msg_01", "type": "message", "role": "assistant", "model": "claude-haiku-4-5",
    "content": [{"type": "text", "text": "It is on its way."}],
    "stop_reason": "end_turn", "stop_sequence": None, "usage": {**USAGE, "output_tokens": 7},
}  # fmt: skip


def wire(events: list[dict[str, Any]]) -> bytes:
    """Events as bytes: each with its name, as the API sends them."""
    return b"".join(b"event: %b\ndata: %b\n\n" % (each["type"].encode(), orjson.dumps(each)) for each in events)


class Talk:
    """What the server answers, and what it was asked: (head, body) of every request."""

    def __init__(self) -> None:
        self.whole: Any = WHOLE
        self.events = EVENTS
        self.status = "200 OK"
        self.step = 0
        """Bytes of a stream sent at once; 0 for all."""
        self.writers: list[asyncio.StreamWriter] = []
        self.asked: list[tuple[str, dict[str, Any]]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = int(head.lower().split("content-length:")[1].split("\r\n")[0])
                body = orjson.loads(await reader.readexactly(length))
                self.asked.append((head, body))
                await self._answer(writer, streams=bool(body.get("stream")))
        writer.close()

    async def _answer(self, writer: asyncio.StreamWriter, *, streams: bool) -> None:
        if not streams or not self.status.startswith("200"):
            data = orjson.dumps(self.whole)
            head = f"HTTP/1.1 {self.status}\r\ncontent-type: application/json\r\nretry-after: 7\r\n"
            writer.write(head.encode() + b"content-length: %d\r\n\r\n" % len(data) + data)
            return
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        data = wire(self.events)
        step = self.step or len(data)
        for place in range(0, len(data), step):
            part = data[place : place + step]
            writer.write(b"%x\r\n%b\r\n" % (len(part), part))
            await writer.drain()
        writer.write(b"0\r\n\r\n")


@contextlib.asynccontextmanager
async def messages_server() -> AsyncIterator[tuple[str, Talk]]:
    """Base address (with /v1) and the talk."""
    talk = Talk()
    server = await asyncio.start_server(talk.serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", talk
    finally:
        server.close()
        for writer in talk.writers:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
