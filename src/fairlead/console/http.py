"""What every response of the pages carries: security headers, sentences for errors, sizes of bodies.

Knows nothing of what a page shows.
"""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterator, Callable, Mapping

from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fairlead.errors import SettingInvalid

MAX_BODY_BYTES = 65_536
"""Largest body a page or the chat's API takes. A message is at most a few thousand characters."""

_POLICY = (
    "default-src 'self'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; frame-src 'self'; "
    "object-src 'none'; base-uri 'none'; form-action 'self'; require-trusted-types-for 'script'; trusted-types 'none'; "
    "frame-ancestors {ancestors}"
)
_ALWAYS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=(), browsing-topics=()",
    "cross-origin-opener-policy": "same-origin",
}


class SecurityHeaders:
    """Adds the headers to every response. Only ``/widget`` may be framed, by ``widget_origins`` (CSP source list)."""

    def __init__(self, app: ASGIApp, *, widget_origins: str) -> None:
        self._app = app
        self._page = _POLICY.format(ancestors="'none'")
        self._widget = _POLICY.format(ancestors=_checked(widget_origins))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        framed = scope["path"] == "/widget" or scope["path"].startswith("/widget/")
        shared = scope["path"] == "/widget.js"

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _ALWAYS.items():
                    headers[name] = value
                headers["content-security-policy"] = self._widget if framed else self._page
                headers["cross-origin-resource-policy"] = "cross-origin" if shared or framed else "same-origin"
                if not framed:
                    headers["x-frame-options"] = "DENY"
                headers.setdefault("cache-control", "no-store")
            await send(message)

        await self._app(scope, receive, send_with_headers)


class BodyLimit:
    """Refuses bodies over MAX_BODY_BYTES with HTTPException 413, declared or not, before they are kept in memory."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        too_large = not declared.isdigit() or int(declared) > MAX_BODY_BYTES
        taken = 0

        async def receive_some() -> Message:
            nonlocal taken
            if too_large:
                raise HTTPException(413)
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > MAX_BODY_BYTES:
                raise HTTPException(413)
            return message

        await self._app(scope, receive_some, send)


def _checked(origins: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9 .:/*'_-]+", origins):
        raise SettingInvalid(
            name="widget_origins", found=origins, source="settings", expected="CSP sources parted by spaces, such as *"
        )
    return origins


def client_address(request: Request) -> str:
    """The address of the peer (behind a proxy: what uvicorn took from its trusted headers)."""
    return request.client.host if request.client is not None else ""


def is_secure(request: Request) -> bool:
    """Whether the browser speaks TLS, so that a cookie may be marked Secure."""
    return request.url.scheme == "https"


def same_origin(request: Request) -> bool:
    """Whether a form comes from our own pages, as far as the browser says; no word of it is not a browser's page."""
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        return False
    origin = request.headers.get("origin")
    return origin is None or origin.partition("://")[2] == request.headers.get("host", "")


def retry_headers(wait_s: float) -> Mapping[str, str]:
    """``Retry-After`` in whole seconds, rounded up."""
    return {"retry-after": str(max(1, math.ceil(wait_s)))}


def problem(status: int, code: str, message: str, *, wait_s: float | None = None) -> Response:
    """A JSON error: ``{"error": {"code", "message", "retry_after"}}``."""
    return JSONResponse(
        {"error": {"code": code, "message": message, "retry_after": None if wait_s is None else math.ceil(wait_s)}},
        status_code=status,
        headers=retry_headers(wait_s) if wait_s is not None else None,
    )


def frame(data: bytes, *, identifier: int | str = "") -> bytes:
    """A server-sent event. ``identifier`` is what a client that comes back says it has seen."""
    return (f"id: {identifier}\n".encode() if identifier != "" else b"") + b"data: " + data + b"\n\n"


class EventStream(StreamingResponse):
    """Server-sent events; ``at_end`` runs once, also when the client left before the first byte."""

    def __init__(self, frames: AsyncIterator[bytes], at_end: Callable[[], None] | None = None) -> None:
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        super().__init__(frames, media_type="text/event-stream", headers=headers)
        self._at_end = at_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            if self._at_end is not None:
                self._at_end()
