"""The HTTP side of the gateway: requests in, OpenAI-shaped answers and errors out. Knows no model and no record.

Who asks is a ``Client``: behind any ASGI server an ``AsgiClient``, behind ours the connection itself (``front``).
Starlette and pydantic would cost more per request than everything else here together; six endpoints do not need them.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Protocol

import orjson

from fairlead.errors import BodyTooLarge, CallerGone, InternalFault, ServiceError, UpstreamBroken, UpstreamTimeout
from fairlead.gateway.exchange import Exchange, clock
from fairlead.gateway.relay import Relay
from fairlead.providers import sse
from fairlead.providers.base import Pumped
from fairlead.providers.deadline import Handle, Until, wheel
from fairlead.records import new_id
from fairlead.secret import hide

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]
Headers = tuple[tuple[bytes, bytes], ...]
Write = Callable[[int, Headers, bytes], None]
"""Sends a complete answer: status, headers, body."""

JSON = b"application/json"
EVENTS = b"text/event-stream; charset=utf-8"
LINGER_S = 1.0
"""How long a stream may stay open after its [DONE], so that its connection can be kept for the next."""
_SANE = re.compile(rb"[A-Za-z0-9._:\-]{1,128}")


class Head:
    """The headers of a request that matter here, read in one pass. Names are lower case, as ASGI has them."""

    __slots__ = (
        "authorization",
        "cache_control",
        "content_encoding",
        "content_length",
        "content_type",
        "conversation",
        "origin",
        "request",
        "timeout",
    )

    def __init__(self, scope: Mapping[str, Any]) -> None:
        given = dict(scope["headers"]).get  # of one that is there twice the last one counts
        self.authorization = given(b"authorization", b"")
        self.content_type = given(b"content-type", b"")
        self.content_encoding = given(b"content-encoding", b"")
        self.content_length = given(b"content-length", b"")
        self.cache_control = given(b"cache-control", b"")
        self.origin = given(b"origin", b"")
        self.timeout = given(b"x-request-timeout", b"")
        conversation, request = given(b"x-conversation-id", b""), given(b"x-request-id", b"")
        self.conversation = conversation if conversation and _SANE.fullmatch(conversation) else b""
        self.request = request.decode("ascii") if request and _SANE.fullmatch(request) else new_id()

    def timeout_s(self, limit: float) -> float:
        """The deadline asked for in ``x-request-timeout`` (seconds), never above ``limit``."""
        if not self.timeout:
            return limit
        try:
            asked = float(self.timeout)
        except ValueError:
            return limit
        return min(limit, max(asked, 0.001)) if asked == asked else limit

    def check_length(self, limit: int) -> None:
        """Raise BodyTooLarge when the declared length is above ``limit``."""
        if self.content_length.isdigit() and int(self.content_length[:20]) > limit:
            raise BodyTooLarge(limit=limit)


class Client(Protocol):
    """Who asked, at the other end of a connection. ``push`` writes a piece of a begun stream at once and says whether
    more may follow now; where it may not, ``drained`` is called when it may. Where ``push`` is None, ``send`` is the
    only way.
    """

    push: Callable[[bytes], bool] | None
    drained: Callable[[], None] | None

    async def read(self, head: Head, limit: int) -> bytes:
        """The whole request body. Raises BodyTooLarge (by declaration or by count), CallerGone."""
        ...

    def watch(self, left: Callable[[], None]) -> None:
        """Call ``left`` when the client goes away. The body must have been read."""
        ...

    def unwatch(self) -> None:
        """Stop watching. Idempotent."""
        ...

    async def respond(self, status: int, headers: Headers, body: bytes) -> None:
        """Send a complete answer."""
        ...

    async def start(self, headers: Headers) -> None:
        """Begin a stream with status 200."""
        ...

    async def send(self, data: bytes, *, last: bool = False) -> None:
        """Send a piece of a stream that has begun."""
        ...


class AsgiClient:
    """A client behind any ASGI server."""

    __slots__ = ("_left", "_receive", "_send", "_timer", "_watch", "drained", "push")

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive = receive
        self._send = send
        self._left: Callable[[], None] | None = None
        self._timer: Handle | None = None
        self._watch: asyncio.Task[None] | None = None
        self.push: Callable[[bytes], bool] | None = None
        self.drained: Callable[[], None] | None = None

    async def read(self, head: Head, limit: int) -> bytes:
        """See Client."""
        return await read_body(self._receive, head, limit)

    def watch(self, left: Callable[[], None]) -> None:
        """See Client. Not at once: most requests are over by the next tick, and a watch costs 5 µs."""
        self._left = left
        self._timer = wheel().call_at(0.0, self._start_watch)

    def _start_watch(self) -> None:
        self._watch = asyncio.get_running_loop().create_task(self._await_hangup())

    async def _await_hangup(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if self._left is not None:
            self._left()

    def unwatch(self) -> None:
        """See Client."""
        self._left = None
        if self._timer is not None:
            self._timer.cancel()
        if self._watch is not None:
            self._watch.cancel()

    async def respond(self, status: int, headers: Headers, body: bytes) -> None:
        """See Client."""
        await self._send({"type": "http.response.start", "status": status, "headers": list(headers)})
        await self._send({"type": "http.response.body", "body": body})

    async def start(self, headers: Headers) -> None:
        """See Client."""
        await self._send({"type": "http.response.start", "status": 200, "headers": list(headers)})

    async def send(self, data: bytes, *, last: bool = False) -> None:
        """See Client."""
        await self._send({"type": "http.response.body", "body": data, "more_body": not last})


async def read_body(receive: Receive, head: Head, limit: int) -> bytes:
    """The whole request body. Raises BodyTooLarge (by declaration or by count), CallerGone."""
    head.check_length(limit)
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


def headers_of(body: bytes, request: str, *, kind: bytes = JSON, extra: Headers = ()) -> Headers:
    """The headers of a complete answer. ``request`` is echoed as x-request-id."""
    return (
        (b"content-type", kind),
        (b"content-length", b"%d" % len(body)),
        (b"x-request-id", request.encode("ascii")),
        *extra,
    )


async def respond(
    send: Send, status: int, body: bytes, request: str, *, kind: bytes = JSON, extra: Headers = ()
) -> None:
    """Send a complete answer through ASGI."""
    headers = list(headers_of(body, request, kind=kind, extra=extra))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def error_object(error: ServiceError, request: str) -> dict[str, Any]:
    """``error`` as OpenAI's clients expect it, with the request id for whoever reads the log and without secrets."""
    param = error.details.get("param")
    return {
        "error": {
            "message": hide(str(error)),
            "type": error.kind,
            "param": hide(param) if isinstance(param, str) else param,
            "code": hide(error.code),
            "request_id": request,
        }
    }


async def respond_error(send: Send, error: ServiceError, request: str, headers: Headers = ()) -> None:
    """Send ``error`` through ASGI."""
    body, extra = error_answer(error, request)
    await respond(send, error.status, body, request, extra=(*headers, *extra))


def error_answer(error: ServiceError, request: str) -> tuple[bytes, Headers]:
    """What tells a client of ``error``, and the headers that help it."""
    extra: list[tuple[bytes, bytes]] = []
    if error.status == 401:
        extra.append((b"www-authenticate", b"Bearer"))
    if retry := error.details.get("retry_after"):
        extra.append((b"retry-after", hide(re.sub(r"[^\x20-\x7e]", "", str(retry))).encode()))
    if allowed := error.details.get("allowed"):
        extra.append((b"allow", allowed.encode("ascii")))
    if error.status in (408, 413, 503):
        extra.append((b"connection", b"close"))
    return orjson.dumps(error_object(error, request)), tuple(extra)


class _GoesOn(Exception):
    """A server sends more after the end of its answer."""


class Delivery:
    """Brings the answer of one exchange to one client. ``started`` tells whether a status has been sent."""

    __slots__ = ("_client", "_head", "_task", "_x", "started")

    def __init__(self, x: Exchange, head: Head, client: Client) -> None:
        self._x = x
        self._head = head
        self._client = client
        self._task: asyncio.Task[Any] | None = None
        self.started = False

    async def read(self, limit: int) -> bytes:
        """The request's body. From then on the current task is cancelled when the client goes away."""
        raw = await self._client.read(self._head, limit)
        self._task = asyncio.current_task()
        self._client.watch(self._hang_up)
        return raw

    def _hang_up(self) -> None:
        self._x.hung_up = True
        if self._task is not None:
            self._task.cancel()

    def end(self) -> None:
        """Let go of the client."""
        self._client.unwatch()
        self._client.drained = None

    async def deliver(self) -> None:
        """Send the answer. Raises what the upstream's stream raises, and TimeoutError at the deadline."""
        x = self._x
        if x.reply is None:
            raise InternalFault(request=x.context.request)
        if x.reply.chunks is None or x.relay is None:
            self.started = True
            extra = ((b"x-inference-id", x.id.encode("ascii")), *x.headers)
            body = x.reply.body or b""
            await self._client.respond(200, headers_of(body, x.context.request, extra=extra), body)
            return
        limit = Until(x.deadline)
        try:
            with limit:
                if self._client.push is not None and isinstance(x.reply.chunks, Pumped):
                    await self._pump(x.relay, x.reply.chunks, self._client.push, limit)
                else:
                    await self._relay(x.relay, x.reply.chunks, limit)
        except (_GoesOn, TimeoutError, UpstreamBroken, UpstreamTimeout):
            if not x.relay.is_done():  # else the answer has come, whatever its server does now
                raise
        with Until(x.deadline):
            rest = x.relay.end()
            if not self.started:
                await self._start_stream()
            await self._client.send(rest, last=True)

    def _feed(self, relay: Relay, data: bytes, limit: Until) -> bytes:
        """What may be sent now. Raises _GoesOn for what comes after the end."""
        if relay.is_done():
            raise _GoesOn
        whole = relay.feed(data)
        if relay.is_done():
            limit.sooner(asyncio.get_running_loop().time() + LINGER_S)
        return whole

    async def _relay(self, relay: Relay, chunks: AsyncIterator[bytes], limit: Until) -> None:
        """Pass a stream on, piece by piece."""
        marks = self._x.marks
        async for data in chunks:
            whole = self._feed(relay, data, limit)
            if whole:
                marks.append(clock())
                if not self.started:  # not before: an upstream that fails at once still gets its own status
                    await self._start_stream()
                await self._client.send(whole)

    async def _pump(self, relay: Relay, chunks: Pumped, push: Callable[[bytes], bool], limit: Until) -> None:
        """Pass a stream on from one connection to the other as it arrives; this task wakes only at its ends.

        Waking a task for every piece costs 10 µs each, half of what relaying it costs altogether.
        """
        async for data in chunks:  # until the first event is whole, so that a failure before it keeps its own status
            whole = self._feed(relay, data, limit)
            if whole:
                self._x.marks.append(clock())
                await self._start_stream()
                await self._client.send(whole)
                break
        marks = self._x.marks

        def take(data: bytes) -> bool:
            whole = self._feed(relay, data, limit)
            if not whole:
                return True
            marks.append(clock())
            return push(whole)

        self._client.drained = chunks.resume
        await chunks.pump(take)

    async def _start_stream(self) -> None:
        self.started = True
        x = self._x
        await self._client.start(
            (
                (b"content-type", EVENTS),
                (b"cache-control", b"no-cache"),
                (b"x-accel-buffering", b"no"),
                (b"x-request-id", x.context.request.encode("ascii")),
                (b"x-inference-id", x.id.encode("ascii")),
                *x.headers,
            )
        )

    async def fail(self, error: ServiceError) -> None:
        """Tell the client; in a stream that has begun, by an error event and no [DONE]."""
        if self._x.hung_up:
            return
        request = self._x.context.request
        if self.started:
            await self._client.send(sse.encode(error_object(error, request)), last=True)
        else:
            self.started = True
            body, extra = error_answer(error, request)
            headers = headers_of(body, request, extra=(*self._x.headers, *extra))
            await self._client.respond(error.status, headers, body)
