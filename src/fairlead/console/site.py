"""The pages as one ASGI application: which path leads where, and what holds for all of them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from fairlead.console.chat import Chat
from fairlead.console.choose import Choose
from fairlead.console.conversations import Conversations
from fairlead.console.desk import Desk
from fairlead.console.http import MAX_BODY_BYTES, BodyLimit, SecurityHeaders, problem
from fairlead.console.inbox import Inbox
from fairlead.console.overview import Overview
from fairlead.console.pulse import Pulse
from fairlead.console.steps import Steps
from fairlead.console.traces import Traces
from fairlead.console.turns import Turns
from fairlead.console.view import STATIC, Pages
from fairlead.errors import StoreError

if TYPE_CHECKING:
    from fairlead.app import Fairlead

log = logging.getLogger(__name__)

_EXPLAINED = {
    400: "The request could not be read.",
    403: "That form did not come from this console. Go back, reload the page and try again.",
    404: "There is no page at this address.",
    405: "This address does not take that kind of request.",
    413: f"That is more than can be taken at once ({MAX_BODY_BYTES // 1024} KiB). Shorten it.",
    503: "What is stored cannot be read or written at the moment. On the server, `fairlead doctor` finds out why.",
}


class VersionedFiles(StaticFiles):
    """Static files: for ever when the address carries the content's hash, revalidated otherwise."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        versioned = b"v=" in scope.get("query_string", b"")
        response.headers["cache-control"] = "public, max-age=31536000, immutable" if versioned else "no-cache"
        return response


class Site:
    """The chat, the widget and the console as one ASGI application."""

    def __init__(self, app: Starlette, turns: Turns, pulse: Pulse, *, widget_origins: str) -> None:
        # Around everything, so that error pages carry the headers too.
        self._app = SecurityHeaders(BodyLimit(app), widget_origins=widget_origins)
        self._turns = turns
        self._pulse = pulse

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    async def aclose(self) -> None:
        """Cancel answers that still run; call it when the server stops."""
        await self._pulse.aclose()
        await self._turns.aclose()


def create_site(fairlead: Fairlead) -> Site:
    """The pages over one ``Fairlead``."""
    pages = Pages()
    pulse = Pulse(fairlead.store, fairlead.assistant.desk.free)
    chat = Chat(fairlead, pages, pulse)
    desk = Desk(fairlead, pages)

    async def root(request: Request) -> Response:
        return RedirectResponse("/chat", status_code=307)

    async def widget_script(request: Request) -> Response:
        return FileResponse(
            STATIC / "widget.js", media_type="text/javascript", headers={"cache-control": "public, max-age=3600"}
        )

    async def explain(request: Request, error: Exception) -> Response:
        status = 503 if isinstance(error, StoreError) else getattr(error, "status_code", 500)
        if status >= 500:
            log.error("%s %s: %s", request.method, request.url.path, error)
        sentence = _EXPLAINED.get(status, "Something went wrong on our side. Try again, or tell who runs this service.")
        headers = error.headers if isinstance(error, HTTPException) else None
        if request.url.path.startswith("/chat/api/"):
            response = problem(status, f"http_{status}", sentence)
        else:
            response = pages.render(request, "problem.html", status=status, code=status, sentence=sentence)
        response.headers.update(headers or {})
        return response

    app = Starlette(
        routes=[
            Route("/", root),
            Route("/widget.js", widget_script),
            Mount("/static", VersionedFiles(directory=STATIC)),
            *chat.routes(),
            *desk.routes(),
            *Overview(desk).routes(),
            *Conversations(desk).routes(),
            *Traces(desk).routes(),
            *Choose(desk).routes(),
            *Steps(desk).routes(),
            *Inbox(desk, pulse).routes(),
        ],
        exception_handlers={HTTPException: explain, StoreError: explain, 500: explain},
    )
    return Site(app, chat.turns, pulse, widget_origins=fairlead.settings.widget_origins)
