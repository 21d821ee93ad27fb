"""Front: the server's side of a connection. Requests for a model go straight from the parser to the gateway and
their answers straight to the socket; everything else goes uvicorn's usual way through ASGI.

Uvicorn keeps what it does well: parsing (llhttp, strict), pipelining, flow control, shutting down. Left out is what
ASGI costs a request: a scope, two dictionaries a message, a task that waits for the client to go away, a timer of the
loop between requests. Bounds heads in time and size, for every path. Knows no model.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Callable
from typing import Any, Final, Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from fairlead.errors import BodyTooLarge, CallerGone
from fairlead.gateway.http import Client, Head, Headers, Write
from fairlead.providers.base import Operation
from fairlead.providers.deadline import Handle, wheel

HEAD_S: Final = 20.0
"""How long a request may take from its first byte to the end of its head."""
HEAD_BYTES: Final = 64 * 1024
IDLE_S: Final = 75.0
"""How long a connection without a request is kept; clients keep theirs for a minute or less, and should close first."""
logger = logging.getLogger(__name__)


class Served(Protocol):
    """What answers requests for a model."""

    def operation_at(self, url: bytes) -> Operation | None:
        """What a POST to ``url`` (path and query, as sent) asks for; None for what goes through ASGI."""
        ...

    async def infer(self, operation: Operation, head: Head, client: Client) -> None:
        """Answer one request. Never raises."""
        ...

    def answer_now(self, operation: Operation, head: Head, raw: bytes, write: Write) -> bool:
        """Answer a request whose answer is in memory, through ``write``, now; False: it is for ``infer``."""
        ...


def fronting(served: Served) -> Any:
    """What uvicorn takes as ``http=``: connections of ours in front of ``served``."""
    return functools.partial(Front, served)


class Front(HttpToolsProtocol):
    """One connection."""

    def __init__(self, served: Served, **given: Any) -> None:
        super().__init__(**given)
        self._served = served
        self._in_head = False
        self._head_bytes = 0
        self._late: Handle | None = None
        self._fresh: Direct | None = None
        """A request whose body has not been looked at: nothing has begun for it yet."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        super().connection_made(transport)  # type: ignore[arg-type]  # a stream's transport is an asyncio.Transport
        self._rest()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop."""
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        self._head_is_over()
        if self.cycle is not None and self.cycle.response_complete:
            self.cycle = None  # type: ignore[assignment]  # they know each other; nobody else should have to find out

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        super().data_received(data)
        if self._fresh is not None:  # its body comes in more than one piece
            self._begin(self._fresh)
        if self._in_head and not self.transport.is_closing():
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES:
                self._refuse(431, b"The head of the request is too large.")
            elif self._late is None:
                self._late = wheel().call_at(self.loop.time() + HEAD_S, self._head_is_late)

    def on_message_begin(self) -> None:
        """Called by the parser."""
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._in_head = True
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        self._head_is_over()
        parser = self.parser
        if parser.get_http_version() == "1.1" and [name for name, _ in self.headers].count(b"host") != 1:
            raise ValueError("a request names one host (RFC 9112, section 3.2)")  # the parser's error: 400, and closed
        operation = self._served.operation_at(self.url)
        if (
            operation is None
            or parser.get_method() != b"POST"
            or parser.get_http_version() != "1.1"
            or parser.should_upgrade()
        ):
            given = self.url, self.headers, self.expect_100_continue
            super().on_message_begin()  # makes the scope, which requests for a model can do without
            self.url, self.headers, self.expect_100_continue = given
            self.scope["headers"] = self.headers
            super().on_headers_complete()
            return
        before = self.cycle
        fresh = Direct(self, self._served, operation)
        self.cycle = fresh  # type: ignore[assignment]  # all that uvicorn uses of it
        if before is not None and not before.response_complete:
            self.flow.pause_reading()
            self.pipeline.appendleft((self.cycle, self.app))
        elif self.expect_100_continue:
            self._begin(fresh)
        else:
            self._fresh = fresh

    def on_message_complete(self) -> None:
        """Called by the parser."""
        super().on_message_complete()
        fresh = self._fresh
        if fresh is not None:
            self._fresh = None
            if not fresh.answer_now():
                self._begin(fresh)

    def _begin(self, fresh: Direct) -> None:
        """Start the task that answers ``fresh``; it takes itself out of the server's list, which spares a callback."""
        self._fresh = None
        fresh.task = task = self.loop.create_task(fresh.run_asgi(self.app))
        self.tasks.add(task)

    def on_response_complete(self) -> None:
        """Called when a response has been written: the next request's turn."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        else:
            self._rest()

    def resume_writing(self) -> None:
        """Called by the transport when the client has read enough of what waits for it."""
        super().resume_writing()
        cycle: object = self.cycle
        if isinstance(cycle, Direct) and cycle.drained is not None:
            cycle.drained()

    def _rest(self) -> None:
        """Wait for a request, but not for ever. A coarse timer: one of the loop costs more than parsing the request."""
        self._unset_keepalive_if_required()
        self.timeout_keep_alive_task = wheel().call_at(  # type: ignore[assignment]  # used to cancel it only
            self.loop.time() + self.timeout_keep_alive, self.timeout_keep_alive_handler
        )

    def _head_is_over(self) -> None:
        self._in_head = False
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _head_is_late(self) -> None:
        self._late = None
        if self._in_head and not self.transport.is_closing():
            self._refuse(408, b"The head of the request did not come in time.")

    def send_400_response(self, msg: str) -> None:
        """Called where bytes came that are no request, also while one before them is being answered."""
        self._refuse(400, msg.encode())

    def _refuse(self, status: int, said: bytes) -> None:
        """Answer without a request, and close. Not in the middle of another answer: then it is only closed."""
        self._head_is_over()
        if self.cycle is None or self.cycle.response_complete:
            self.transport.write(
                b"%bcontent-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
                % (STATUS_LINE[status], len(said), said)
            )
        self.transport.close()


class Direct:
    """One request for a model and its answer, as a Client. The attributes in the first part are what uvicorn's
    connection reads and sets of a request.
    """

    __slots__ = (
        "_expect",
        "_front",
        "_head_read",
        "_headers",
        "_left",
        "_operation",
        "_raw",
        "_served",
        "_started",
        "_waiter",
        "body",
        "disconnected",
        "drained",
        "keep_alive",
        "more_body",
        "push",
        "response_complete",
        "task",
    )  # fmt: skip

    def __init__(self, owner: Front, served: Served, operation: Operation) -> None:
        self.body = bytearray()
        self.more_body = True
        self.disconnected = False
        self.response_complete = False
        self.keep_alive: bool = owner.parser.should_keep_alive()
        self._front = owner
        self._served = served
        self._operation = operation
        self._headers = owner.headers
        self._expect = owner.expect_100_continue
        self._head_read: Head | None = None
        self._raw = b""
        self.task: asyncio.Task[None] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._left: Callable[[], None] | None = None
        self.push: Callable[[bytes], bool] | None = self._push
        self.drained: Callable[[], None] | None = None

    @property
    def message_event(self) -> Direct:
        """What uvicorn sets (an asyncio.Event elsewhere) when a piece of the body came, or the client went away."""
        return self

    def set(self) -> None:
        """Something has changed."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        if self.disconnected and self._left is not None:
            left, self._left = self._left, None
            left()

    def answer_now(self) -> bool:
        """Answer the request, whose body is there, if its answer is: without a task, within the parser's callback."""
        if self._front.flow.write_paused:
            return False
        self._head_read = head = Head({"headers": self._headers})
        self._raw = raw = bytes(self.body)
        try:
            return self._served.answer_now(self._operation, head, raw, self._write)
        except Exception:
            logger.exception("A request failed.")
            self._front.transport.close()
            return True

    async def run_asgi(self, app: object) -> None:
        """Called by uvicorn: answer the request. Not through ``app``."""
        head = self._head_read or Head({"headers": self._headers})
        try:
            await self._served.infer(self._operation, head, self)
        except Exception:
            logger.exception("A request failed.")
        finally:
            self.push = self.drained = self._left = None
            if self.task is not None:
                self._front.tasks.discard(self.task)
                self.task = None
            if not self.response_complete and not self.disconnected:
                self._front.transport.close()  # nothing that was begun may look like an end

    # --- Client ----------------------------------------------------------------------------------------------------

    async def read(self, head: Head, limit: int) -> bytes:
        """See Client."""
        head.check_length(limit)
        if self._expect and self.more_body and not self._front.transport.is_closing():
            self._front.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        while self.more_body and not self.disconnected and len(self.body) <= limit:
            self._front.flow.resume_reading()
            self._waiter = self._front.loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if self.disconnected:
            raise CallerGone
        if len(self.body) > limit:
            raise BodyTooLarge(limit=limit)
        body, self._raw = self._raw or bytes(self.body), b""
        self.body = bytearray()
        return body

    def watch(self, left: Callable[[], None]) -> None:
        """See Client."""
        self._left = left

    def unwatch(self) -> None:
        """See Client."""
        self._left = None

    async def respond(self, status: int, headers: Headers, body: bytes) -> None:
        """See Client."""
        await self._writable()
        if not self.disconnected:
            self._write(status, headers, body)

    def _write(self, status: int, headers: Headers, body: bytes) -> None:
        self._front.transport.write(self._head(status, headers) + body)
        self._complete()

    async def start(self, headers: Headers) -> None:
        """See Client."""
        await self._writable()
        if not self.disconnected:
            self._front.transport.write(self._head(200, (*headers, (b"transfer-encoding", b"chunked"))))

    async def send(self, data: bytes, *, last: bool = False) -> None:
        """See Client."""
        await self._writable()
        if self.disconnected:
            return
        if last:
            self._front.transport.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data) if data else b"0\r\n\r\n")
            self._complete()
        elif data:
            self._front.transport.write(b"%x\r\n%b\r\n" % (len(data), data))

    def _push(self, data: bytes) -> bool:
        if not self.disconnected:
            self._front.transport.write(b"%x\r\n%b\r\n" % (len(data), data))
        return not self._front.flow.write_paused

    async def _writable(self) -> None:
        if self._front.flow.write_paused and not self.disconnected:
            await self._front.flow.drain()

    def _head(self, status: int, headers: Headers) -> bytes:
        """The head of a response. Raises ValueError for a header that would be more than one."""
        given = (*self._front.server_state.default_headers, *headers)
        lines = [b"%b: %b\r\n" % header for header in given]
        if (b"connection", b"close") in headers:
            self.keep_alive = False
        elif not self.keep_alive:
            lines.append(b"connection: close\r\n")
        head = STATUS_LINE[status] + b"".join(lines)
        if head.count(b"\n") != len(lines) + 1 or head.count(b"\r") != len(lines) + 1 or b"\0" in head:
            raise ValueError("a header holds a line break")
        return head + b"\r\n"

    def _complete(self) -> None:
        self.response_complete = True
        self._left = None
        if not self.keep_alive:
            self._front.transport.close()
        self._front.on_response_complete()
