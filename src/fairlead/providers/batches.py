"""A provider's own batches: OpenAI's ``/files`` and ``/batches``, from the client's side. Knows nothing of our batches.

Nothing here is hot, files are large and the calls are few, so the general HTTP client serves; files go to the disk and
come from it in pieces.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from fairlead.errors import UpstreamBroken, UpstreamRefused, UpstreamUnreachable
from fairlead.providers.network import NETWORK, AddressRefused, Network, allowed_addresses
from fairlead.providers.openai_compatible import read_error

_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=30, sock_read=120)
_PIECE = 1 << 20
PAGES = 20
"""Pages of the provider's list that are looked through for a batch of ours."""


class ProviderBatches:
    """The batches of one provider account. ``base_url`` ends where the protocol's paths begin."""

    def __init__(self, name: str, base_url: str, api_key: str | None, network: Network = NETWORK) -> None:
        self.name = name
        self._network = network
        self._base = base_url.rstrip("/")
        self._secret = api_key
        self._headers = {"authorization": f"Bearer {api_key}"} if api_key else {}

    async def upload(self, path: Path, filename: str) -> str:
        """Upload an input; returns its id."""
        form = aiohttp.FormData()
        form.add_field("purpose", "batch")
        with path.open("rb") as file:
            form.add_field("file", file, filename=filename, content_type="application/jsonl")
            return str((await self._call("POST", "/files", data=form))["id"])

    async def create(self, file: str, endpoint: str, window: str, metadata: Mapping[str, str]) -> dict[str, Any]:
        """Start a batch."""
        body = {
            "input_file_id": file, "endpoint": endpoint, "completion_window": window, "metadata": dict(metadata),
        }  # fmt: skip
        return await self._call("POST", "/batches", json=body)

    async def find(self, metadata: Mapping[str, str]) -> dict[str, Any] | None:
        """The batch with these pairs among its metadata, of the newest ones."""
        after = ""
        for _ in range(PAGES):
            page = await self._call("GET", "/batches?limit=100" + (f"&after={after}" if after else ""))
            found = page.get("data") or []
            for batch in found:
                if metadata.items() <= (batch.get("metadata") or {}).items():
                    return dict(batch)
            if not page.get("has_more") or not found:
                break
            after = found[-1]["id"]
        return None

    async def get(self, batch: str) -> dict[str, Any]:
        """How a batch stands."""
        return await self._call("GET", f"/batches/{batch}")

    async def cancel(self, batch: str) -> None:
        """Ask for its end; one that has ended is left as it is."""
        try:
            await self._call("POST", f"/batches/{batch}/cancel")
        except UpstreamRefused as error:
            if error.details.get("upstream_status") not in (400, 404, 409):
                raise

    async def download(self, file: str, target: Path) -> None:
        """Fetch a file's content."""
        async with self._explained(), self._session() as session, self._get(session, file) as response:
            await self._check(response)
            with target.open("wb") as written:
                async for piece in response.content.iter_chunked(_PIECE):
                    written.write(piece)

    async def delete(self, file: str) -> None:
        """Delete a file; one that is gone is as well."""
        try:
            await self._call("DELETE", f"/files/{file}")
        except UpstreamRefused as error:
            if error.details.get("upstream_status") != 404:
                raise

    def _session(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(resolver=_Resolver(private=self._network.private), use_dns_cache=False)
        return aiohttp.ClientSession(headers=self._headers, timeout=_TIMEOUT, connector=connector)

    def _get(self, session: aiohttp.ClientSession, file: str) -> Any:
        return session.get(f"{self._base}/files/{file}/content", allow_redirects=False)

    async def _call(self, method: str, path: str, **body: Any) -> dict[str, Any]:
        async with (
            self._explained(),
            self._session() as session,
            session.request(method, self._base + path, allow_redirects=False, **body) as response,
        ):
            await self._check(response)
            answer = await response.json(content_type=None)
        if not isinstance(answer, dict):
            raise UpstreamBroken(name=self.name, detail=f"{method} {path} gave no JSON object")
        return answer

    async def _check(self, response: aiohttp.ClientResponse) -> None:
        if response.status < 300:
            return
        said = str(read_error(await response.read()).get("message") or "no reason given")
        if self._secret:
            said = said.replace(self._secret, "[key]")
        raise UpstreamRefused(
            status=502, code="upstream_refused", kind="server_error", upstream_status=response.status,
            message=f"The provider behind {self.name} refused with status {response.status}: {said}",
        )  # fmt: skip

    def _explained(self) -> _Explained:
        return _Explained(self.name)


class _Resolver(AbstractResolver):
    """Addresses that may be called, asked for at every connection."""

    def __init__(self, *, private: bool) -> None:
        self._private = private

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """See AbstractResolver. Raises AddressRefused, OSError."""
        loop = asyncio.get_running_loop()
        return [
            ResolveResult(
                hostname=host, host=address, port=port, proto=0, flags=socket.AI_NUMERICHOST,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
            )
            for address in await allowed_addresses(loop, host, port, private=self._private)
        ]  # fmt: skip

    async def close(self) -> None:
        """Nothing to close."""


class _Explained:
    """The client's errors as Fairlead's."""

    def __init__(self, name: str) -> None:
        self._name = name

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, aiohttp.ClientConnectionError | TimeoutError):
            cause = getattr(error, "os_error", None)
            detail = str(cause if isinstance(cause, AddressRefused) else error) or "no answer in time"
            raise UpstreamUnreachable(name=self._name, detail=detail) from error
        if isinstance(error, aiohttp.ClientError | ValueError):
            raise UpstreamBroken(name=self._name, detail=str(error) or type(error).__name__) from error
