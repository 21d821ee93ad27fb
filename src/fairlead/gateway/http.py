"""The HTTP side of the gateway: raw ASGI in, OpenAI-shaped answers and errors out. Knows no model and no record.

Starlette and pydantic would cost more per request than everything else here together; six endpoints do not need them.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any

import orjson

from fairlead.errors import BodyTooLarge, CallerGone, InternalFault, ServiceError
from fairlead.gateway.exchange import Exchange, clock
from fairlead.gateway.relay import Relay
from fairlead.providers import sse
from fairlead.providers.deadline import Handle, Until, wheel
from fairlead.records import new_id

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

JSON = b"application/json"
EVENTS = b"text/event-stream; charset=utf-8"
_SANE = re.compile(rb"[A-Za-z0-9._:\-]{1,128}")


class Head:
    """The headers of a request that matter here, read in one pass. Names are lower case, as ASGI has them."""

    __slots__ = (
        "authorization",
        "content_encoding",
        "content_length",
        "content_type",
        "conversation",
        "request",
        "timeout",
    )

    def __init__(self, scope: Scope) -> None:
        self.authorization = self.content_type = self.content_encoding = b""
        self.content_length = self.timeout = self.conversation = b""
        self.request = ""
        for name, value in scope["headers"]:
            if name == b"authorization":
                self.authorization = value
            elif name == b"content-type":
                self.content_type = value
            elif name == b"content-length":
                self.content_length = value
            elif name == b"x-request-id":
                if _SANE.fullmatch(value):
                    self.request = value.decode("ascii")
            elif name == b"x-request-timeout":
                self.timeout = value
            elif name == b"x-conversation-id":
                if _SANE.fullmatch(value):
                    self.conversation = value
            elif name == b"content-encoding":
                self.content_encoding = value
        self.request = self.request or new_id()

    def timeout_s(self, limit: float) -> float:
        """The deadline asked for in ``x-request-timeout`` (seconds), never above ``limit``."""
        if not self.timeout:
            return limit
        try:
            asked = float(self.timeout)
        except ValueError:
            return limit
        return min(limit, max(asked, 0.001)) if asked == asked else limit


async def read_body(receive: Receive, head: Head, limit: int) -> bytes:
    """The whole request body. Raises BodyTooLarge (by declaration or by count), CallerGone."""
    if head.content_length.isdigit() and int(head.content_length[:20]) > limit:
        raise BodyTooLarge(limit=limit)
    parts: list[bytes] = []
    size = 0
    while (message := await receive())["type"] == "http.request":
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise BodyTooLarge(limit=limit)
        parts.append(part)
        if not message.get("more_body"):
            return part if len(parts) == 1 else b"".join(parts)
    raise CallerGone


async def respond(
    send: Send,
    status: int,
    body: bytes,
    request: str,
    *,
    kind: bytes = JSON,
    extra: tuple[tuple[bytes, bytes], ...] = (),
) -> None:
    """Send a complete answer. ``request`` is echoed as x-request-id."""
    headers = [
        (b"content-type", kind),
        (b"content-length", b"%d" % len(body)),
        (b"x-request-id", request.encode("ascii")),
        *extra,
    ]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def error_object(error: ServiceError, request: str) -> dict[str, Any]:
    """``error`` as OpenAI's clients expect it, with the request id for whoever reads the log."""
    return {
        "error": {
            "message": str(error),
            "type": error.kind,
            "param": error.details.get("param"),
            "code": error.code,
            "request_id": request,
        }
    }


async def respond_error(
    send: Send, error: ServiceError, request: str, headers: tuple[tuple[bytes, bytes], ...] = ()
) -> None:
    """Send ``error`` with its status and the headers that help the client."""
    extra = [*headers]
    if error.status == 401:
        extra.append((b"www-authenticate", b"Bearer"))
    if retry := error.details.get("retry_after"):
        extra.append((b"retry-after", re.sub(r"[^\x20-\x7e]", "", str(retry)).encode()))
    if allowed := error.details.get("allowed"):
        extra.append((b"allow", allowed.encode("ascii")))
    if error.status in (408, 413, 503):
        extra.append((b"connection", b"close"))
    await respond(send, error.status, orjson.dumps(error_object(error, request)), request, extra=tuple(extra))


class Delivery:
    """Brings the answer of one exchange to one client. ``started`` tells whether a status has been sent."""

    __slots__ = ("_receive", "_send", "_task", "_timer", "_watch", "_x", "started")

    def __init__(self, x: Exchange, receive: Receive, send: Send) -> None:
        self._x = x
        self._receive = receive
        self._send = send
        self._task: asyncio.Task[Any] | None = None
        self._timer: Handle | None = None
        self._watch: asyncio.Task[None] | None = None
        self.started = False

    def watch(self) -> None:
        """From the next tick on, cancel the current task when the client goes away. The body must have been read.

        Not at once: most requests are over by then, and a watch costs 5 µs.
        """
        self._task = asyncio.current_task()
        self._timer = wheel().call_at(0.0, self._start_watch)

    def _start_watch(self) -> None:
        self._watch = asyncio.get_running_loop().create_task(self._await_hangup())

    async def _await_hangup(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._x.hung_up = True
        if self._task is not None:
            self._task.cancel()

    def unwatch(self) -> None:
        """Stop watching."""
        if self._timer is not None:
            self._timer.cancel()
        if self._watch is not None:
            self._watch.cancel()

    async def deliver(self) -> None:
        """Send the answer. Raises what the upstream's stream raises, and TimeoutError at the deadline."""
        x = self._x
        extra = ((b"x-inference-id", x.id.encode("ascii")), *x.headers)
        if x.reply is None:
            raise InternalFault(request=x.context.request)
        if x.reply.chunks is None or x.relay is None:
            self.started = True
            await respond(self._send, 200, x.reply.body or b"", x.context.request, extra=extra)
            return
        with Until(x.deadline):
            await self._relay(x, x.relay, x.reply.chunks, extra)

    async def _relay(
        self, x: Exchange, relay: Relay, chunks: AsyncIterator[bytes], extra: tuple[tuple[bytes, bytes], ...]
    ) -> None:
        send, marks = self._send, x.marks
        async for data in chunks:
            whole = relay.feed(data)
            if whole:
                marks.append(clock())
                if not self.started:  # not before: an upstream that fails at once still gets its own status
                    await self._start_stream(x, extra)
                await send({"type": "http.response.body", "body": whole, "more_body": True})
        rest = relay.end()
        if not self.started:
            await self._start_stream(x, extra)
        await send({"type": "http.response.body", "body": rest})

    async def _start_stream(self, x: Exchange, extra: tuple[tuple[bytes, bytes], ...]) -> None:
        self.started = True
        headers = [
            (b"content-type", EVENTS),
            (b"cache-control", b"no-cache"),
            (b"x-accel-buffering", b"no"),
            (b"x-request-id", x.context.request.encode("ascii")),
            *extra,
        ]
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})

    async def fail(self, error: ServiceError) -> None:
        """Tell the client; in a stream that has begun, by an error event and no [DONE]."""
        if self._x.hung_up:
            return
        request = self._x.context.request
        if self.started:
            await self._send({"type": "http.response.body", "body": sse.encode(error_object(error, request))})
        else:
            self.started = True
            await respond_error(self._send, error, request, self._x.headers)
