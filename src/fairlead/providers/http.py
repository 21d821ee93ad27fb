"""Call: one small interface over the HTTP client, so that the client can be replaced where measured.

Posts JSON bytes over pooled keep-alive connections and says what went wrong in Fairlead's errors. Knows no protocol
above HTTP. (Why aiohttp: httpx costs 2,000 CPU-µs a request on this path, aiohttp 130.)
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from fairlead.errors import UpstreamBroken, UpstreamTimeout, UpstreamUnreachable
from fairlead.providers.deadline import wheel

STALE_S = 0.1
"""A reused connection the server had already closed fails within this time; only then is a call sent once more."""
_CLOSED = (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError, ConnectionResetError)


async def read(name: str, response: aiohttp.ClientResponse) -> bytes:
    """The whole body; the connection goes back to the pool. Raises UpstreamBroken."""
    try:
        return await response.read()
    except (aiohttp.ClientError, ConnectionError) as error:
        raise UpstreamBroken(name=name, detail=_say(error)) from error
    finally:
        response.release()


class Chunks:
    """A body as it arrives: an async iterator of bytes. Raises UpstreamBroken, UpstreamTimeout.

    A class and not a generator, so that ``aclose`` before the first chunk works too.
    """

    __slots__ = ("_late", "_name", "_response", "_seconds", "_timer")

    def __init__(self, name: str, response: aiohttp.ClientResponse, deadline: float, seconds: float) -> None:
        self._name = name
        self._response = response
        self._seconds = seconds
        self._late = False
        self._timer = wheel().call_at(deadline, self._expire)

    def __aiter__(self) -> Chunks:
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await self._response.content.readany()
        except (aiohttp.ClientError, ConnectionError) as error:
            self._timer.cancel()
            if self._late:
                raise UpstreamTimeout(name=self._name, seconds=self._seconds) from error
            raise UpstreamBroken(name=self._name, detail=_say(error)) from error
        if not chunk:
            self._timer.cancel()
            raise StopAsyncIteration
        return chunk

    def _expire(self) -> None:
        self._late = True
        self._response.close()

    async def aclose(self) -> None:
        """Left early this closes the connection, which tells the server to stop; at the end it keeps it."""
        self._timer.cancel()
        if self._response.content.at_eof():
            self._response.release()
        else:
            self._response.close()


class HttpClient:
    """A pool of connections to one server. Opens it when first used, in the loop that uses it."""

    def __init__(self, name: str, *, headers: Mapping[str, str], connect_timeout_s: float) -> None:
        self._name = name
        self._headers = CIMultiDict(headers)
        self._connect_timeout_s = connect_timeout_s
        self._session: aiohttp.ClientSession | None = None

    async def post(self, url: URL, data: bytes) -> aiohttp.ClientResponse:
        """Send ``data`` and return when the status is known. Raises UpstreamUnreachable.

        Sends once more only over a connection that was already closed.
        """
        started = time.monotonic()
        try:
            return await self._post(url, data)
        except UpstreamUnreachable as error:
            if not isinstance(error.__cause__, _CLOSED) or isinstance(error.__cause__, aiohttp.ClientConnectorError):
                raise
            if time.monotonic() - started > STALE_S:
                raise
        return await self._post(url, data)

    async def _post(self, url: URL, data: bytes) -> aiohttp.ClientResponse:
        session = self._session or self._open()
        try:
            return await session.request("POST", url, data=data, allow_redirects=False)
        except aiohttp.ConnectionTimeoutError as error:
            detail = f"no connection to {url.host}:{url.port} within {self._connect_timeout_s:g} s"
            raise UpstreamUnreachable(name=self._name, detail=detail) from error
        except (aiohttp.ClientError, ConnectionError) as error:
            raise UpstreamUnreachable(name=self._name, detail=_say(error)) from error

    def _open(self) -> aiohttp.ClientSession:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60, ttl_dns_cache=60),
            headers=self._headers,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=True,
            trust_env=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._connect_timeout_s),
        )
        return self._session

    async def aclose(self) -> None:
        """Close every pooled connection. Idempotent."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()


def _say(error: BaseException) -> str:
    return str(error) or type(error).__name__
