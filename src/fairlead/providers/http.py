"""Call: JSON posted over pooled keep-alive connections, failures told in Fairlead's errors.

A client of our own on the event loop's transports and llhttp, because the general ones cost more than everything else
on the request path together (docs/design/request-path.md has the figures). HTTP/1.1 with TLS; no redirects, no cookies,
no proxies, no HTTP/2. Knows no protocol above HTTP.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import urlsplit

from fairlead.errors import UpstreamBroken, UpstreamTimeout, UpstreamUnreachable
from fairlead.providers.base import Pumped
from fairlead.providers.deadline import wheel
from fairlead.providers.wire import Broken, Connection

STALE_S: Final = 0.1
"""A reused connection the server had already closed fails within this time; only then is a call sent once more."""
IDLE_S: Final = 55.0
"""How long an unused connection is kept; servers commonly close theirs after 60 s or more."""


class Response:
    """An answer whose head has come. ``headers`` have lower-case names. To be read, or closed, in every case."""

    __slots__ = ("_connection", "_name", "headers", "status")

    def __init__(self, name: str, connection: Connection) -> None:
        self._name = name
        self._connection: Connection | None = connection
        self.status = connection.status
        self.headers: Mapping[str, str] = connection.headers

    async def chunk(self) -> bytes:
        """The next piece of the body, b"" at its end. Raises UpstreamBroken."""
        connection = self._connection
        if connection is None:
            return b""
        try:
            data = await connection.chunk()
        except Broken as error:
            raise UpstreamBroken(name=self._name, detail=str(error)) from error
        if not data:
            self._connection = None
        return data

    async def pump(self, take: Callable[[bytes], bool]) -> None:
        """Give ``take`` every piece as it arrives; returns at the body's end. Raises UpstreamBroken."""
        connection = self._connection
        if connection is not None:
            try:
                await connection.pump(take)
            except Broken as error:
                raise UpstreamBroken(name=self._name, detail=str(error)) from error
            self._connection = None

    def resume(self) -> None:
        """``take`` may be given more."""
        if self._connection is not None:
            self._connection.resume()

    async def read(self) -> bytes:
        """The whole body; the connection goes back to the pool. Raises UpstreamBroken."""
        connection = self._connection
        if connection is None:
            return b""
        try:
            return await connection.body()
        except Broken as error:
            raise UpstreamBroken(name=self._name, detail=str(error)) from error
        finally:
            self.close()

    def close(self) -> None:
        """Left early this closes the connection, which tells the server to stop; at the end it keeps it. Idempotent."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.release()

    def abort(self) -> None:
        """Close the connection now; whoever reads is told so."""
        if self._connection is not None:
            self._connection.fail("it took too long")


class Chunks(Pumped):
    """A body as it arrives: an async iterator of bytes. Raises UpstreamBroken, UpstreamTimeout.

    A class and not a generator, so that ``aclose`` before the first chunk works too.
    """

    __slots__ = ("_late", "_name", "_response", "_seconds", "_timer")

    def __init__(self, name: str, response: Response, deadline: float, seconds: float) -> None:
        self._name = name
        self._response = response
        self._seconds = seconds
        self._late = False
        self._timer = wheel().call_at(deadline, self._expire)

    def __aiter__(self) -> Chunks:
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await self._response.chunk()
        except UpstreamBroken as error:
            self._timer.cancel()
            if self._late:
                raise UpstreamTimeout(name=self._name, seconds=self._seconds) from error
            raise
        if not chunk:
            self._timer.cancel()
            raise StopAsyncIteration
        return chunk

    async def pump(self, take: Callable[[bytes], bool]) -> None:
        """See Pumped."""
        try:
            await self._response.pump(take)
        except UpstreamBroken as error:
            if self._late:
                raise UpstreamTimeout(name=self._name, seconds=self._seconds) from error
            raise
        finally:
            self._timer.cancel()

    def resume(self) -> None:
        """See Pumped."""
        self._response.resume()

    def _expire(self) -> None:
        self._late = True
        self._response.abort()

    async def aclose(self) -> None:
        """Left early this closes the connection; at the end it keeps it."""
        self._timer.cancel()
        self._response.close()


class HttpClient:
    """A pool of connections to one server, ``base_url`` (http or https). Opens them as they are needed."""

    def __init__(self, name: str, base_url: str, *, headers: Mapping[str, str], connect_timeout_s: float) -> None:
        parts = urlsplit(base_url)
        self._name = name
        self._host = parts.hostname or ""
        self._tls = parts.scheme == "https"
        self._port = parts.port or (443 if self._tls else 80)
        self._path = parts.path.rstrip("/")
        self._connect_timeout_s = connect_timeout_s
        lines = {"host": parts.netloc.rpartition("@")[2], **headers}
        for key, value in lines.items():
            if any(mark in key + value for mark in "\r\n\0"):
                raise ValueError(f"the header {key} holds a line break")
        self._head = "".join(f"{key}: {value}\r\n" for key, value in lines.items()).encode("latin-1")
        self._starts: dict[str, bytes] = {}
        self._context: ssl.SSLContext | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._idle: list[tuple[float, Connection]] = []
        self._open: set[Connection] = set()

    async def post(self, path: str, data: bytes, extra: bytes = b"") -> Response:
        """Send ``data`` to ``path`` below the base and return when the status is known. Raises UpstreamUnreachable.

        ``extra`` are header lines of this request alone, each ended.
        Sends once more only over a connection that was already closed.
        """
        start = self._starts.get(path)
        if start is None:
            start = self._starts[path] = f"POST {self._path}{path} HTTP/1.1\r\n".encode("ascii") + self._head
        request = b"%b%bcontent-length: %d\r\n\r\n%b" % (start, extra, len(data), data)
        connection = self._kept()
        if connection is not None:
            began = time.monotonic()
            try:
                await self._exchange(connection, request)
            except Broken as error:
                if error.begun or time.monotonic() - began > STALE_S:
                    raise UpstreamUnreachable(name=self._name, detail=str(error)) from error
            else:
                return Response(self._name, connection)
        connection = await self._connect()
        try:
            await self._exchange(connection, request)
        except Broken as error:
            raise UpstreamUnreachable(name=self._name, detail=str(error)) from error
        return Response(self._name, connection)

    async def _exchange(self, connection: Connection, request: bytes) -> None:
        try:
            await connection.exchange(request)
        except BaseException:  # a deadline or a caller that went away: the server must not go on working
            connection.close()
            self._open.discard(connection)
            raise

    def _kept(self) -> Connection | None:
        """The connection used last, if there is one that is still open."""
        now = time.monotonic()
        if self._loop is not asyncio.get_running_loop():
            self._idle.clear()  # they belong to a loop that has ended
            self._open.clear()
        while self._idle:
            since, connection = self._idle.pop()
            if connection.closed:
                self._open.discard(connection)
            elif now - since > IDLE_S:
                for _, older in (*self._idle, (since, connection)):  # those below it are older still
                    older.close()
                    self._open.discard(older)
                self._idle.clear()
            else:
                return connection
        return None

    def _free(self, connection: Connection) -> None:
        self._idle.append((time.monotonic(), connection))

    async def _connect(self) -> Connection:
        loop = self._loop = asyncio.get_running_loop()
        context = self._tls_context() if self._tls else None
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                _, connection = await loop.create_connection(
                    lambda: Connection(loop, self._free), self._host, self._port, ssl=context
                )
        except TimeoutError as error:
            detail = f"no connection to {self._host}:{self._port} within {self._connect_timeout_s:g} s"
            raise UpstreamUnreachable(name=self._name, detail=detail) from error
        except (OSError, ssl.SSLError, UnicodeError) as error:
            detail = f"no connection to {self._host}:{self._port}: {error}"
            raise UpstreamUnreachable(name=self._name, detail=detail) from error
        self._open.add(connection)
        return connection

    def _tls_context(self) -> ssl.SSLContext:
        """Verifies the server's certificate and name against the system's authorities."""
        if self._context is None:
            self._context = ssl.create_default_context()
            self._context.set_alpn_protocols(["http/1.1"])
        return self._context

    async def aclose(self) -> None:
        """Close every connection. Idempotent."""
        for connection in self._open:
            connection.close()
        self._open.clear()
        self._idle.clear()
