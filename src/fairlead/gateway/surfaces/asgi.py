"""Surface: another protocol in front of the gateway's own chat path, as ASGI around ASGI.

What comes is translated before the gateway reads it, what goes after it was written; keys, limits, caches, records and
errors are those of the chat path, in the other protocol's shape. Knows no particular protocol and no model.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Protocol

import orjson

from fairlead.errors import MethodWrong, PathUnserved, ServiceError, UpstreamBroken
from fairlead.gateway import body as bodies
from fairlead.gateway.fields import Record
from fairlead.gateway.http import JSON, ASGIApp, Head, Message, Receive, Scope, Send, error_object, read_body, respond
from fairlead.providers import sse

CHAT = "/v1/chat/completions"
Event = tuple[str, dict[str, Any]]
"""Name and data of a server-sent event."""


class Dialect(Protocol):
    """One request in another protocol and its answer. Pure; made anew for every request."""

    path: ClassVar[str]
    body: ClassVar[Record]
    """What a request body may hold."""
    elsewhere: ClassVar[str]
    """What to tell who asks for something below the path."""

    def request(self, body: dict[str, Any]) -> dict[str, Any]:
        """The chat request for ``body``, which has been checked. Raises RequestInvalid."""
        ...

    def answer(self, completion: Mapping[str, Any]) -> dict[str, Any]:
        """The answer for a whole chat completion. Raises UpstreamBroken."""
        ...

    def feed(self, chunk: Mapping[str, Any]) -> Iterator[Event]:
        """The events for one chunk of a streamed completion. Raises UpstreamBroken."""
        ...

    def end(self) -> Iterator[Event]:
        """The events that end a stream which ended well."""
        ...

    def fail(self, error: Mapping[str, Any]) -> Iterator[Event]:
        """The events that end a stream which broke off; ``error`` as the gateway words it."""
        ...

    def error(self, status: int, error: Mapping[str, Any]) -> dict[str, Any]:
        """The body of an error answer."""
        ...

    def headers(self, request: str) -> tuple[tuple[bytes, bytes], ...]:
        """Headers that clients of the protocol look for."""
        ...


class Surface:
    """An ASGI app that speaks ``dialect`` and asks ``app``, the gateway."""

    def __init__(self, app: ASGIApp, dialect: type[Dialect], *, max_body_bytes: int, max_depth: int) -> None:
        self._app = app
        self._dialect = dialect
        self._max_body_bytes = max_body_bytes
        self._max_depth = max_depth

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        head = Head(scope)
        dialect = self._dialect()
        out = _Out(dialect, send, head.request)
        try:
            self._refuse(scope["path"], scope["method"])
        except ServiceError as error:
            allow = ((b"allow", b"POST"),) if isinstance(error, MethodWrong) else ()
            body = dialect.error(error.status, error_object(error, head.request)["error"])
            await respond(send, error.status, orjson.dumps(body), head.request, extra=allow)
            return
        unread = True

        async def translated() -> Message:
            nonlocal unread
            if not unread:
                return await receive()
            unread = False
            asked = bodies.decode(await read_body(receive, head, self._max_body_bytes), max_depth=self._max_depth)
            dialect.body(asked, "")
            return {"type": "http.request", "body": orjson.dumps(dialect.request(asked)), "more_body": False}

        headers = _with_key([*scope["headers"], (b"x-request-id", head.request.encode("ascii"))])
        await self._app({**scope, "path": CHAT, "raw_path": CHAT.encode(), "headers": headers}, translated, out.send)

    def _refuse(self, path: str, method: str) -> None:
        if path != self._dialect.path:
            raise PathUnserved(method=method, path=path[:200], why=self._dialect.elsewhere)
        if method != "POST":
            raise MethodWrong(path=path, method=method, allowed="POST")


def _with_key(headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """``headers`` with a key from ``x-api-key`` where the gateway looks for it, unless there is one already."""
    names = {name: value for name, value in headers if name in (b"authorization", b"x-api-key")}
    if b"x-api-key" in names and b"authorization" not in names:
        headers.append((b"authorization", b"Bearer " + names[b"x-api-key"]))
    return headers


class _Out:
    """What the gateway sends, translated on its way to the client."""

    def __init__(self, dialect: Dialect, send: Send, request: str) -> None:
        self._dialect = dialect
        self._send = send
        self._request = request
        self._start: Message = {}
        self._streams = False
        self._over = False
        self._held: list[bytes] = []

    async def send(self, message: Message) -> None:
        """Take a message of the gateway."""
        if message["type"] == "http.response.start":
            self._start = message
            self._streams = any(
                name == b"content-type" and value.startswith(b"text/event-stream") for name, value in message["headers"]
            )
            if self._streams:
                headers = [*message["headers"], *self._dialect.headers(self._request)]
                await self._send({**message, "headers": headers})
        elif self._streams:
            await self._stream(message)
        else:
            self._held.append(message.get("body", b""))
            if not message.get("more_body"):
                await self._whole(b"".join(self._held))

    async def _whole(self, raw: bytes) -> None:
        status = self._start["status"]
        try:
            decoded = orjson.loads(raw)
            body = self._dialect.answer(decoded) if status == 200 else self._dialect.error(status, decoded["error"])
        except UpstreamBroken as error:
            status, body = error.status, self._dialect.error(error.status, error_object(error, self._request)["error"])
        data = orjson.dumps(body)
        kept = [each for each in self._start["headers"] if each[0] not in (b"content-length", b"content-type")]
        headers = [(b"content-type", JSON), (b"content-length", b"%d" % len(data)), *kept]
        headers += self._dialect.headers(self._request)
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._send({"type": "http.response.body", "body": data})

    async def _stream(self, message: Message) -> None:
        events: list[Event] = []
        try:
            for event in sse.split(message.get("body", b"")):
                for translated in self._translate(sse.payload(event)):
                    events.append(translated)  # noqa: PERF402  what came before a failure has been said
        except (UpstreamBroken, orjson.JSONDecodeError) as error:
            if not isinstance(error, UpstreamBroken):
                error = UpstreamBroken(name="the route", detail="an event that is not JSON")
            events += self._fail(error_object(error, self._request)["error"])
        body = b"".join(b"event: %b\ndata: %b\n\n" % (name.encode(), orjson.dumps(data)) for name, data in events)
        more = bool(message.get("more_body"))
        if body or not more:
            await self._send({"type": "http.response.body", "body": body, "more_body": more})

    def _translate(self, payload: bytes) -> Iterator[Event]:
        if self._over or not payload:
            return
        if payload == b"[DONE]":
            yield from self._dialect.end()
            self._over = True
            return
        chunk = orjson.loads(payload)
        if not isinstance(chunk, dict):
            raise UpstreamBroken(name="the route", detail="an event that is no chunk of an answer")
        if chunk.get("error") and not chunk.get("choices"):
            error = chunk["error"]
            yield from self._fail(error if isinstance(error, dict) else {"message": str(error)[:500]})
        else:
            yield from self._dialect.feed(chunk)

    def _fail(self, error: Mapping[str, Any]) -> Iterator[Event]:
        if not self._over:
            self._over = True
            yield from self._dialect.fail(error)
