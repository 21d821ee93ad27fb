"""One HTTP/1.1 connection to a server that is not trusted: writes a request, reads its response, says when it may be
used again.

The parser is llhttp (httptools), strict. What a hostile or broken server sends ends as ``Broken`` with a reason: heads
and bodies have limits, compressed bodies cannot unpack without end, a body cut short is never a whole one, and bytes
after a response close the connection. Knows no pools, no deadlines and no protocol above HTTP.
"""

from __future__ import annotations

import asyncio
import ssl
import zlib
from collections import deque
from collections.abc import Callable
from typing import Final

import httptools

MAX_HEAD_BYTES: Final = 64 * 1024
MAX_BODY_BYTES: Final = 64 * 1024 * 1024
"""Of a body that is read whole, unpacked."""
MAX_INTERIM: Final = 8
"""Interim responses (100 Continue, 103 Early Hints) before the real one."""
HIGH = 256 * 1024
"""Bytes waiting to be read at which the server is no longer read from until they are."""
_NO_BODY = (204, 304)
_ONCE = frozenset(("content-length", "transfer-encoding", "content-encoding", "content-type"))


class Broken(ConnectionError):
    """The server broke off or sent what is no response. ``begun`` tells whether anything of a response had come."""

    def __init__(self, detail: str, *, begun: bool) -> None:
        super().__init__(detail)
        self.begun = begun


class Connection(asyncio.Protocol):
    """A connection carrying one exchange at a time. ``freed`` is called when it can carry another."""

    __slots__ = (
        "_body_length", "_chunked", "_chunks", "_done", "_error", "_head_bytes", "_interim", "_keep", "_length",
        "_loop",
        "_parser", "_take", "_thrown", "_transport", "_unpack", "_waiter", "_waiting", "begun", "closed",
        "freed", "headers", "heard", "now", "paused", "status", "unread",
    )  # fmt: skip

    def __init__(self, loop: asyncio.AbstractEventLoop, freed: Callable[[Connection], None]) -> None:
        self._loop = loop
        self.now = loop.time
        self.heard = 0.0
        self.freed = freed
        self.closed = False
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._reset()

    def _reset(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self.status = 0
        self.headers: dict[str, str] = {}
        self.begun = False
        self.unread = 0
        self._chunks: deque[bytes] = deque()
        self._done = False
        self._error: Broken | None = None
        self.paused = False
        self._head_bytes = 0
        self._interim = 0
        self._length: int | None = None
        self._chunked = False
        self._body_length = 0
        self._unpack: zlib._Decompress | None = None
        self._keep = False
        self._waiting = False
        self._take: Callable[[bytes], bool] | None = None
        self._thrown: Exception | None = None

    # --- what the pool does --------------------------------------------------------------------------------------

    async def exchange(self, request: bytes) -> None:
        """Send a request; returns when status and headers are known. Raises Broken."""
        if self.closed or self._transport is None:
            raise Broken("the connection is closed", begun=False)
        self._reset()
        self._waiting = True
        self._transport.write(request)
        while not self.status or self.status < 200:
            if self._error is not None:
                raise self._error
            await self._wait()

    async def tunnel(self, request: bytes, context: ssl.SSLContext, name: str) -> None:
        """Ask a proxy for a tunnel and speak TLS through it with the server ``name``. Raises Broken, OSError."""
        await self.exchange(request)
        if self.status != 200 or self._chunks:
            raise Broken(f"the proxy refused with status {self.status}", begun=False)
        self._waiting = False
        assert self._transport is not None
        made = await self._loop.start_tls(self._transport, self, context, server_hostname=name)
        if made is None:
            raise Broken("the proxy closed the tunnel", begun=False)
        self._transport = made
        self.closed = False

    async def chunk(self) -> bytes:
        """The next piece of the body, b"" at its end. Raises Broken."""
        while True:
            if self._chunks:
                data = self._chunks.popleft() if len(self._chunks) == 1 else b"".join(self._chunks)
                self._chunks.clear()
                self.unread = 0
                self.resume()
                return data
            if self._error is not None:
                raise self._error
            if self._done:
                self._finish()
                return b""
            await self._wait()

    async def arrived(self) -> None:
        """Return when a piece of the body waits to be read, or its end. Raises Broken when neither comes any more."""
        while not self._chunks and not self._done:
            if self._error is not None:
                raise self._error
            await self._wait()

    async def pump(self, take: Callable[[bytes], bool]) -> None:
        """Call ``take`` with every piece of the body that is left, as it arrives; returns at the end.

        When it returns False, the server is not read from until ``resume``. Raises Broken, and what ``take`` raises.
        """
        self._take = take
        try:
            if self._chunks:
                self._hand_on()
            while not self._done and self._error is None and self._thrown is None:
                await self._wait()
        finally:
            self._take = None
        if self._thrown is not None:
            raise self._thrown
        if self._error is not None:
            raise self._error
        self._finish()

    def _hand_on(self) -> None:
        data = self._chunks.popleft() if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        self.unread = 0
        try:
            goes_on = self._take is None or self._take(data)
        except Exception as error:  # noqa: BLE001  it belongs to who called pump, not to the event loop
            self._thrown = error
            self.close()
            return
        if goes_on:
            self.resume()
        elif not self.paused and self._transport is not None and not self.closed:
            self.paused = True
            self._transport.pause_reading()

    async def body(self) -> bytes:
        """The whole body. Raises Broken, also for one of more than MAX_BODY_BYTES."""
        if self._done and len(self._chunks) == 1 and self.unread <= MAX_BODY_BYTES:  # as most bodies come
            data = self._chunks.popleft()
            self.unread = 0
            self._finish()
            return data
        parts: list[bytes] = []
        size = 0
        while data := await self.chunk():
            parts.append(data)
            size += len(data)
            if size > MAX_BODY_BYTES:
                self.close()
                raise Broken(f"a body of more than {MAX_BODY_BYTES:,} bytes", begun=True)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    @property
    def at_end(self) -> bool:
        """Whether the whole body has come, read or not."""
        return self._done

    def release(self) -> None:
        """The exchange is over: free the connection if the whole response has come, else close it. Idempotent."""
        if self._done:
            self._chunks.clear()
            self._finish()
        else:
            self.close()

    def close(self) -> None:
        """Close it, which tells the server to stop. Idempotent."""
        if not self.closed:
            self.closed = True
            if self._transport is not None:
                self._transport.abort()
        self._waiting = False

    def _finish(self) -> None:
        if not self._waiting:
            return
        self._waiting = False
        if self.closed:
            return
        if self._keep:
            self.resume()
            self.freed(self)
        else:
            self.close()

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def resume(self) -> None:
        """Read from the server again. Idempotent."""
        if self.paused and self._transport is not None and not self.closed:
            self.paused = False
            self._transport.resume_reading()

    # --- what the transport calls ----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the event loop."""
        self._transport = transport  # type: ignore[assignment]  # a stream's transport is an asyncio.Transport

    def data_received(self, data: bytes) -> None:
        """Called by the event loop."""
        if not self._waiting or self._done:
            self.fail("bytes that belong to no response")  # an unasked response could be taken for the next one
            return
        self.begun = True
        self.heard = self.now()
        if not self.status or self.status < 200:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.fail("it wants to change the protocol")
        except httptools.HttpParserError as error:
            self.fail(f"no valid HTTP ({_reason(error)})")
        if self._head_bytes > MAX_HEAD_BYTES and (not self.status or self.status < 200):
            self.fail(f"a head of more than {MAX_HEAD_BYTES:,} bytes")
        if self._take is not None:
            if self._chunks:
                self._hand_on()
            if not self._done and self._error is None and self._thrown is None:
                return  # nobody need wake
        if self._error is not None:
            self.close()
        elif self.unread > HIGH and not self.paused and self._transport is not None:
            self.paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        """Called by the event loop: the server sends no more."""
        return False

    def connection_lost(self, error: Exception | None) -> None:
        """Called by the event loop."""
        self.closed = True
        if self._waiting and not self._done and self._error is None:
            until_close = self.status >= 200 and not self._chunked and self._length is None and error is None
            if until_close and not self._bodiless():
                self._end_body()
            else:
                said = str(error) if error is not None and str(error) else "it closed the connection"
                self._error = Broken(f"{said} within the answer" if self.begun else said, begun=self.begun)
        self._wake()

    def fail(self, detail: str) -> None:
        """End the exchange; whoever waits for it is told ``detail``."""
        if self._error is None:
            self._error = Broken(detail, begun=self.begun)
        self.close()
        self._wake()

    # --- what the parser calls -------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """Called by the parser."""
        if self._done:
            self._keep = False  # a second answer that nobody asked for: the first holds, the connection ends with it

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser."""
        if self.status >= 200:
            return  # trailers come after the body and could change what was decided by the head
        key = name.decode("latin-1").lower()
        if key in self.headers and key in _ONCE:
            self._error = self._error or Broken(f"two headers {key}", begun=True)
        self.headers[key] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        if self._done:
            return
        status = self._parser.get_status_code()
        if status < 200:
            self._interim += 1
            self.headers = {}
            if status == 101 or self._interim > MAX_INTERIM:
                self._error = self._error or Broken("interim answers without end", begun=True)
            return
        length = self.headers.get("content-length")
        self._length = int(length) if length is not None and length.isdigit() else None
        self._chunked = "chunked" in self.headers.get("transfer-encoding", "").lower()
        packed = self.headers.get("content-encoding", "identity").strip().lower()
        if packed in ("gzip", "x-gzip", "deflate"):
            self._unpack = zlib.decompressobj(wbits=47 if packed != "deflate" else 15)
        elif packed not in ("", "identity"):
            self._error = self._error or Broken(
                f"a body packed as {packed[:40]!r}, which was not asked for", begun=True
            )
        self.status = status

    def on_body(self, data: bytes) -> None:
        """Called by the parser."""
        if self._done:
            return
        if self._unpack is not None:
            data = self._unpacked(data)
        if data and self._error is None:
            self._body_length += len(data)
            self.unread += len(data)
            self._chunks.append(data)

    def _unpacked(self, data: bytes) -> bytes:
        """At most MAX_BODY_BYTES in all: a small body must not become a large memory."""
        assert self._unpack is not None
        left = MAX_BODY_BYTES - self._body_length
        try:
            found = self._unpack.decompress(data, left + 1)
        except zlib.error as error:
            self._error = self._error or Broken(f"a packed body that cannot be unpacked ({error})", begun=True)
            return b""
        if len(found) > left:
            self._error = self._error or Broken(f"a packed body of more than {MAX_BODY_BYTES:,} bytes", begun=True)
            return b""
        return found

    def on_message_complete(self) -> None:
        """Called by the parser."""
        if self.status >= 200 and not self._done:
            self._keep = self._parser.should_keep_alive()  # only now: a moment later the parser has forgotten
            self._end_body()

    def _end_body(self) -> None:
        if self._unpack is not None and not self._unpack.eof and self._body_length:
            self._error = self._error or Broken("a packed body cut short", begun=True)
        self._done = self._error is None

    def _bodiless(self) -> bool:
        return self.status in _NO_BODY


def _reason(error: httptools.HttpParserError) -> str:
    return (str(error) or type(error).__name__)[:80]
