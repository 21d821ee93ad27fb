"""An MCP server at an address, spoken to by streamable HTTP: each request is a POST, its answer JSON or one stream.

Redirects are not followed: an answer comes from where the file says, or not at all.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping
from typing import Any, Final

import aiohttp
import msgspec

from fairlead.tools.faults import NotRun, Unsure
from fairlead.tools.process import LONGEST_MESSAGE, Greet

ACCEPT: Final = "application/json, text/event-stream"
VERSION_HEADER: Final = "MCP-Protocol-Version"
SESSION_HEADER: Final = "Mcp-Session-Id"


class HttpTransport:
    """Requests to one address. ``greet`` opens a session; a session the server has forgotten is opened again."""

    def __init__(self, name: str, url: str, headers: Mapping[str, str]) -> None:
        self.name = name
        self._url = url
        self._headers = {**headers, "Accept": ACCEPT, "Content-Type": "application/json"}
        self._numbers = itertools.count(1)
        self._client: tuple[asyncio.AbstractEventLoop, aiohttp.ClientSession] | None = None
        self._session = ""
        self._greeted = False
        self.version = ""
        self.starts = 0
        self.greet: Greet | None = None

    async def request(self, method: str, params: dict[str, Any], *, timeout_s: float) -> dict[str, Any]:
        """The whole answer message. Raises NotRun when the server took nothing, Unsure otherwise."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._open()
                try:
                    return await self._ask(method, params)
                except _SessionGone:
                    self._greeted = False
                    await self._open()
                    return await self._ask(method, params)
        except TimeoutError:
            raise Unsure(f"{self.name}: no answer within {timeout_s:g} s", "That took too long.") from None
        except _SessionGone as error:
            raise NotRun(f"{self.name} keeps no session") from error

    async def _open(self) -> None:
        if self._greeted or self.greet is None:
            return
        self._session, self.version = "", ""
        self.starts += 1
        notes: list[dict[str, Any]] = []
        await self.greet(self._ask, notes.append)
        for note in notes:
            await self._post({"jsonrpc": "2.0", **note})
        self._greeted = True

    async def _ask(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        number = next(self._numbers)
        answers = await self._post({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        for answer in answers:
            if answer.get("id") == number and "method" not in answer:
                return answer
        raise Unsure(f"{self.name} did not answer the request")

    async def _post(self, message: dict[str, Any]) -> list[dict[str, Any]]:
        headers = dict(self._headers)
        if self._session:
            headers[SESSION_HEADER] = self._session
        if self.version:
            headers[VERSION_HEADER] = self.version
        try:
            async with self._http().post(
                self._url, data=msgspec.json.encode(message), headers=headers, allow_redirects=False
            ) as response:
                if response.status == 404 and self._session:
                    raise _SessionGone
                if response.status >= 300:
                    kind = NotRun if response.status < 500 else Unsure
                    raise kind(f"{self.name} answered with the status {response.status}")
                self._session = response.headers.get(SESSION_HEADER, self._session)
                return _messages(await _read(response, self.name), response.content_type, self.name)
        except (aiohttp.ClientConnectorError, aiohttp.InvalidURL) as error:
            raise NotRun(f"{self.name} cannot be reached: {error}") from error
        except aiohttp.ClientError as error:
            raise Unsure(f"{self.name}: {error}") from error

    def _http(self) -> aiohttp.ClientSession:
        loop = asyncio.get_running_loop()
        if self._client is None or self._client[0] is not loop:
            self._client = (loop, aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)))
        return self._client[1]

    async def aclose(self) -> None:
        """Close the connections. Idempotent."""
        client, self._client = self._client, None
        if client is not None and client[0] is asyncio.get_running_loop():
            await client[1].close()


class _SessionGone(Exception):
    """The server does not know the session any more; nothing was done."""


async def _read(response: aiohttp.ClientResponse, name: str) -> bytes:
    body = bytearray()
    async for piece in response.content.iter_chunked(65_536):
        body += piece
        if len(body) > LONGEST_MESSAGE:
            raise Unsure(f"{name} answered with more than {LONGEST_MESSAGE} bytes")
    return bytes(body)


def _messages(body: bytes, kind: str, name: str) -> list[dict[str, Any]]:
    """The JSON-RPC messages of an answer, a JSON body or the data of server-sent events."""
    texts = [body] if body.strip() else []
    if kind == "text/event-stream":
        events = body.replace(b"\r\n", b"\n").split(b"\n\n")
        lines = ([line[5:].strip() for line in event.split(b"\n") if line.startswith(b"data:")] for event in events)
        texts = [b"\n".join(data) for data in lines if any(data)]
    try:
        return [msgspec.json.decode(text, type=dict[str, Any]) for text in texts]
    except (msgspec.DecodeError, UnicodeError) as error:
        raise Unsure(f"{name} answered what is no message") from error
