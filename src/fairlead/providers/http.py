"""Call: JSON posted over pooled keep-alive connections, failures told in Fairlead's errors.

A client of our own on the event loop's transports and llhttp, because the general ones cost more than everything else
on the request path together (docs/design/request-path.md has the figures). HTTP/1.1 with TLS, through a proxy where one
is set; no redirects, no cookies, no HTTP/2. Knows no protocol above HTTP.
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
from fairlead.providers.deadline import Wheel, wheel
from fairlead.providers.network import NETWORK, Network, allowed_addresses
from fairlead.providers.wire import Broken, Connection

STALE_S: Final = 0.1
"""A reused connection the server had already closed fails within this time; only then is a call sent once more."""
IDLE_S: Final = 55.0
"""How long an unused connection is kept; servers commonly close theirs after 60 s or more."""


class Response(Pumped):
    """An answer whose head has come: an async iterator of its body. ``headers`` have lower-case names. To be read, or
    closed, in every case. What reads raises UpstreamBroken, and UpstreamTimeout once a deadline has passed.
    """

    __slots__ = ("_connection", "_name", "_patience", "headers", "status")

    def __init__(self, name: str, connection: Connection, patience: Patience) -> None:
        self._name = name
        self._connection: Connection | None = connection
        self._patience = patience
        self.status = connection.status
        self.headers: Mapping[str, str] = connection.headers

    def __aiter__(self) -> Response:
        return self

    async def __anext__(self) -> bytes:
        data = await self.chunk()
        if not data:
            raise StopAsyncIteration
        return data

    async def chunk(self) -> bytes:
        """The next piece of the body, b"" at its end."""
        connection = self._connection
        if connection is None:
            return b""
        try:
            data = await connection.chunk()
        except Broken as error:
            raise self._failure(error) from error
        if not data:
            self.close()
        return data

    async def arrive(self) -> None:
        """Return when a piece of the body has come, without reading it. Raises as reading does."""
        if self._connection is not None:
            try:
                await self._connection.arrived()
            except Broken as error:
                raise self._failure(error) from error

    async def pump(self, take: Callable[[bytes], bool]) -> None:
        """See Pumped."""
        connection = self._connection
        if connection is not None:
            try:
                await connection.pump(take)
            except Broken as error:
                raise self._failure(error) from error
            self.close()

    def resume(self) -> None:
        """See Pumped."""
        if self._connection is not None:
            self._connection.resume()

    async def read(self) -> bytes:
        """The whole body; the connection goes back to the pool."""
        connection = self._connection
        if connection is None:
            return b""
        try:
            return await connection.body()
        except Broken as error:
            raise self._failure(error) from error
        finally:
            self.close()

    def _failure(self, error: Broken) -> UpstreamBroken | UpstreamTimeout:
        self._patience.end()
        if self._patience.late_s:
            return UpstreamTimeout(name=self._name, seconds=self._patience.late_s)
        return UpstreamBroken(name=self._name, detail=str(error))

    def close(self) -> None:
        """Left early this closes the connection, which tells the server to stop; at the end it keeps it. Idempotent."""
        self._patience.end()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.release()

    async def aclose(self) -> None:
        """The same as ``close``."""
        self.close()


class Patience:
    """How long one exchange may take, to its first byte, between two, and altogether. Ends it when that has passed;
    ``late_s`` is then the time that was waited.
    """

    __slots__ = ("_connection", "_deadline", "_first_s", "_handle", "_idle_s", "_seconds", "_wheel", "late_s")

    def __init__(
        self, timers: Wheel, connection: Connection, deadline: float, *, now: float, first_s: float, idle_s: float
    ) -> None:
        self._wheel = timers
        self._connection = connection
        self._deadline = deadline
        self._seconds = max(0.001, round(deadline - now, 3))
        self._first_s = first_s
        self._idle_s = idle_s
        self.late_s = 0.0
        self._handle = timers.call_at(min(deadline, now + first_s) if first_s else deadline, self._due)

    def begun(self) -> None:
        """The head has come."""
        self._first_s = 0.0
        if self._idle_s:
            self._handle.cancel()
            self._due()

    def _due(self) -> None:
        connection, now = self._connection, self._connection.now()
        due = self._deadline
        if self._first_s:
            self.late_s = self._first_s
        elif self._idle_s and not connection.paused:  # it is not the server's fault when nobody reads
            due = min(due, connection.heard + self._idle_s)
            self.late_s = self._idle_s
        elif self._idle_s:
            due = min(due, now + self._idle_s)
        if now >= self._deadline:
            self.late_s = self._seconds
        elif now < due and not self._first_s:
            self.late_s = 0.0
            self._handle = self._wheel.call_at(due, self._due)
            return
        connection.fail("it took too long")

    def end(self) -> None:
        """It is over. Idempotent."""
        self._handle.cancel()


class HttpClient:
    """A pool of connections to one server, ``base_url`` (http or https). Opens them as they are needed."""

    def __init__(self, name: str, base_url: str, *, headers: Mapping[str, str], network: Network = NETWORK) -> None:
        parts = urlsplit(base_url)
        self._name = name
        self._host = parts.hostname or ""
        self._tls = parts.scheme == "https"
        self._port = parts.port or (443 if self._tls else 80)
        self._path = parts.path.rstrip("/")
        self._network = network
        self._proxy = network.proxy_for(parts.scheme, self._host, self._port)
        lines = {"host": parts.netloc.rpartition("@")[2], **headers}
        if self._proxy is not None and not self._tls:  # the proxy reads the request itself
            self._path = f"http://{lines['host']}{self._path}"
            lines |= self._proxy.headers
        for key, value in lines.items():
            if any(mark in key + value for mark in "\r\n\0"):
                raise ValueError(f"the header {key} holds a line break")
        self._head = "".join(f"{key}: {value}\r\n" for key, value in lines.items()).encode("latin-1")
        self._starts: dict[str, bytes] = {}
        self._context: ssl.SSLContext | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wheel: Wheel | None = None
        self._idle: list[tuple[float, Connection]] = []
        self._open: set[Connection] = set()

    async def post(
        self, path: str, data: bytes, extra: bytes = b"", *, deadline: float, stream: bool = False
    ) -> Response:
        """Send ``data`` to ``path`` below the base and return when the status is known.

        ``extra`` are header lines of this request alone, each ended. ``deadline`` is a time of the loop; the server is
        told what is left until then. ``stream``: the status is awaited no longer than the network's ``first_byte_s``.
        Sends once more only over a connection that was already closed. Raises UpstreamUnreachable, UpstreamTimeout.
        """
        loop = asyncio.get_running_loop()
        if self._loop is not loop or self._wheel is None:
            self._loop, self._wheel = loop, wheel()
            self._idle.clear()  # they belong to a loop that has ended
            self._open.clear()
        now = loop.time()
        if now >= deadline:
            raise UpstreamTimeout(name=self._name, seconds=0)
        start = self._starts.get(path)
        if start is None:
            start = self._starts[path] = f"POST {self._path}{path} HTTP/1.1\r\n".encode("ascii") + self._head
        request = b"%b%bx-request-timeout: %.3f\r\ncontent-length: %d\r\n\r\n%b" % (
            start, extra, deadline - now, len(data), data,
        )  # fmt: skip
        connection = self._kept()
        if connection is not None:
            try:
                return await self._exchange(connection, request, deadline, stream)
            except Broken as error:
                if error.begun or loop.time() - now > STALE_S:
                    raise UpstreamUnreachable(name=self._name, detail=str(error)) from error
        connection = await self._connect(loop, deadline)
        try:
            return await self._exchange(connection, request, deadline, stream)
        except Broken as error:
            raise UpstreamUnreachable(name=self._name, detail=str(error)) from error

    async def _exchange(self, connection: Connection, request: bytes, deadline: float, stream: bool) -> Response:
        assert self._wheel is not None
        network = self._network
        patience = Patience(
            self._wheel, connection, deadline, now=connection.now(),
            first_s=network.first_byte_s if stream else 0.0, idle_s=network.idle_s,
        )  # fmt: skip
        try:
            await connection.exchange(request)
        except BaseException as error:  # a caller that went away too: the server must not go on working
            patience.end()
            connection.close()
            self._open.discard(connection)
            if patience.late_s and isinstance(error, Broken):
                raise UpstreamTimeout(name=self._name, seconds=patience.late_s) from error
            raise
        patience.begun()
        return Response(self._name, connection, patience)

    def _kept(self) -> Connection | None:
        """The connection used last, if there is one that is still open."""
        now = time.monotonic()
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

    async def _connect(self, loop: asyncio.AbstractEventLoop, deadline: float) -> Connection:
        limit_s = min(self._network.connect_s, max(0.0, deadline - loop.time()))
        try:
            async with asyncio.timeout(limit_s):
                connection = await self._dial(loop)
        except TimeoutError as error:
            if limit_s < self._network.connect_s:
                raise UpstreamTimeout(name=self._name, seconds=round(limit_s, 3)) from error
            detail = f"no connection to {self._host}:{self._port} within {limit_s:g} s"
            raise UpstreamUnreachable(name=self._name, detail=detail) from error
        except (OSError, ssl.SSLError, UnicodeError) as error:
            detail = f"no connection to {self._host}:{self._port}: {error}"
            raise UpstreamUnreachable(name=self._name, detail=detail) from error
        self._open.add(connection)
        return connection

    async def _dial(self, loop: asyncio.AbstractEventLoop) -> Connection:
        """A new connection, to an address that may be called. Raises OSError."""

        def made() -> Connection:
            return Connection(loop, self._free)

        context = self._tls_context() if self._tls else None
        if self._proxy is not None:
            _, connection = await loop.create_connection(made, self._proxy.host, self._proxy.port)
            if context is not None:
                request = self._proxy.connect(self._host, self._port)
                try:
                    await connection.tunnel(request, context, self._host)
                except BaseException:
                    connection.close()
                    raise
            return connection
        failure: OSError = OSError("it has no address")
        for address in await allowed_addresses(loop, self._host, self._port, private=self._network.private):
            try:
                name = self._host if context is not None else None
                _, connection = await loop.create_connection(
                    made, address, self._port, ssl=context, server_hostname=name
                )
            except OSError as error:
                failure = error
            else:
                return connection
        raise failure

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
