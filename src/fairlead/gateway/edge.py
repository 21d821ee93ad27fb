"""Edge: which paths a listener shows, and which web pages a browser lets call the API. Knows no requests for models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from fairlead.errors import PathUnknown
from fairlead.gateway.http import ASGIApp, Head, Headers, Receive, Scope, Send, respond_error

ADMIN: Final = ("/console", "/metrics", "/admin")
"""What only those who run the system need."""
BESIDE: Final = ("/healthz", "/readyz", "/static")
"""What a listener for them needs as well."""


class Shown:
    """``app``, as far as a listener shows it: the paths of administration alone, or all but them."""

    def __init__(self, app: ASGIApp, *, admin: bool) -> None:
        self._app = app
        self._admin = admin

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] == "http" and not self.shows(scope["path"]):
            refused = PathUnknown(method=scope["method"], path=scope["path"][:200])
            await respond_error(send, refused, Head(scope).request)
            return
        await self._app(scope, receive, send)

    def shows(self, path: str) -> bool:
        """Whether ``path`` is answered here."""
        if self._admin:
            return _below(path, (*ADMIN, *BESIDE))
        return not _below(path, ADMIN)


def _below(path: str, roots: tuple[str, ...]) -> bool:
    return any(path == root or path.startswith(root + "/") for root in roots)


class Origins:
    """Origins whose pages may call the API: a list with commas, ``*`` for all, empty for none (the browser's rule)."""

    def __init__(self, listed: str) -> None:
        origins = {origin.strip().rstrip("/") for origin in listed.split(",") if origin.strip()}
        self._all = "*" in origins
        self._origins = {origin.encode("latin-1") for origin in origins}

    def __bool__(self) -> bool:
        return bool(self._origins)

    def headers(self, origin: bytes) -> Headers:
        """What lets a page of ``origin`` read an answer; nothing for others."""
        if not origin or not (self._all or origin in self._origins):
            return ()
        return (
            (b"access-control-allow-origin", b"*" if self._all else origin),
            (b"access-control-expose-headers", b"x-request-id, x-inference-id, retry-after"),
            (b"vary", b"origin"),
        )

    def preflight(self, headers: Mapping[bytes, bytes]) -> Headers:
        """The answer to a browser that asks before it sends; nothing when the page may not."""
        granted = self.headers(headers.get(b"origin", b""))
        if not granted or b"access-control-request-method" not in headers:
            return ()
        return (
            *granted,
            (b"access-control-allow-methods", b"GET, POST, DELETE"),
            (b"access-control-allow-headers", headers.get(b"access-control-request-headers", b"")),
            (b"access-control-max-age", b"600"),
        )
