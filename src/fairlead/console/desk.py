"""What all console pages share: the login, the guard before every page, the rail and the top line around it.

Pages are plain functions of a request and its session; they run in worker threads because the store blocks. What a
session may see is bounded by its tenant.
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from fairlead.console import ranges
from fairlead.console.figures import Summaries
from fairlead.console.http import client_address, is_secure, problem, retry_headers, same_origin
from fairlead.console.limits import TokenBuckets, client_group
from fairlead.console.sessions import AGE_S, Session, Sessions
from fairlead.console.view import Pages
from fairlead.records import now_us

if TYPE_CHECKING:
    from fairlead.app import Fairlead

COOKIE = "fairlead_session"
HOME = "/console"
INBOX = HOME + "/inbox"
JSON = "application/json"
STEPS = (
    ("define", "Define"),
    ("choose", "Choose"),
    ("deploy", "Deploy"),
    ("tune", "Tune"),
    ("improve", "Improve"),
    ("govern", "Govern"),
    ("scale", "Scale"),
)
LOGGED_OUT = "You are logged out. Open this page in another tab, log in there, then try again: what you typed is kept."
LOGINS_PER_MINUTE = 6
LOGIN_BURST = 6
ALL_LOGINS_PER_MINUTE = 60
"""Over all addresses together, so that many addresses do not buy many guesses."""

Page = Callable[[Request, Session], Response]


class Desk:
    """The console's frame over one ``Fairlead``."""

    def __init__(self, fairlead: Fairlead, pages: Pages) -> None:
        self.fairlead = fairlead
        self.pages = pages
        self.sessions = Sessions(fairlead.store)
        self.summaries = Summaries(fairlead.store)
        self._logins = TokenBuckets(per_minute=LOGINS_PER_MINUTE, burst=LOGIN_BURST)
        self._all_logins = TokenBuckets(per_minute=ALL_LOGINS_PER_MINUTE, burst=ALL_LOGINS_PER_MINUTE)

    def routes(self) -> list[Route]:
        """The login's paths."""
        return [
            Route(HOME + "/login", self.login_page, methods=["GET"]),
            Route(HOME + "/login", self.login, methods=["POST"]),
            Route(HOME + "/logout", self.logout, methods=["POST"]),
        ]

    def route(self, path: str, page: Page, *, people: bool = False) -> Route:
        """A page behind the login; operators are led to the inbox unless it is for ``people`` like them."""

        def guarded(request: Request) -> Response:
            session = self.sessions.get(request.cookies.get(COOKIE, ""))
            if session is None:
                return self._to_login(request)
            if not session.admin and not people:
                return RedirectResponse(INBOX, status_code=303)
            return page(request, session)

        return Route(HOME + path, guarded, methods=["GET"])

    def people_route(self, path: str, page: Callable[[Request, Session], Awaitable[Response]]) -> Route:
        """A page for operators too, which runs on the event loop and calls what blocks in a thread."""

        async def guarded(request: Request) -> Response:
            session = self.sessions.get(request.cookies.get(COOKIE, ""))
            return self._to_login(request) if session is None else await page(request, session)

        return Route(HOME + path, guarded, methods=["GET"])

    def action(self, path: str, act: Callable[[Request, Session, dict[str, str]], Awaitable[Response]]) -> Route:
        """Something that a form of ours does, for operators too; its fields are given as texts."""

        async def guarded(request: Request) -> Response:
            session = self.sessions.get(request.cookies.get(COOKIE, ""))
            if session is None:
                return (
                    self._to_login(request)
                    if request.headers.get("accept") != JSON
                    else problem(401, "logged_out", LOGGED_OUT)
                )
            form = await request.form(max_files=0, max_fields=12)
            fields = {name: value for name, value in form.items() if isinstance(value, str)}
            given = fields.get("csrf", "").encode()
            if not same_origin(request) or not hmac.compare_digest(given, session.csrf.encode()):
                raise HTTPException(403)
            return await act(request, session, fields)

        return Route(HOME + path, guarded, methods=["POST"])

    def render(
        self,
        request: Request,
        session: Session,
        template: str,
        *,
        page: str,
        title: str,
        span: ranges.Range | None = None,
        status: int = 200,
        **values: Any,
    ) -> Response:
        """A page within the frame. ``page`` names the entry of the rail, ``span`` the time range it is about."""
        now = now_us()
        usecase, store = self.fairlead.usecase, self.fairlead.store
        span = span or ranges.parse(request.query_params, now)
        return self.pages.render(
            request,
            template,
            status=status,
            page=page,
            title=title,
            span=span,
            now=now,
            session=session,
            steps=STEPS,
            usecase=usecase,
            release=store.releases.live(usecase.name),
            waiting=self.waiting(session.tenant),
            choices=ranges.CHOICES,
            **values,
        )

    def waiting(self, tenant: str) -> int:
        """How many customers wait for a person, and actions for a colleague's approval."""
        store = self.fairlead.store
        return len(store.handoffs.waiting(tenant=tenant)) + len(
            store.actions.list(tenant=tenant, states=("awaiting_approval", "unknown"))
        )

    def missing(self, request: Request, session: Session, sentence: str) -> Response:
        """A page that says what was not found."""
        return self.render(request, session, "missing.html", page="", title="Not found", status=404, sentence=sentence)

    # --- login --------------------------------------------------------------------------------------------------

    async def login_page(self, request: Request) -> Response:
        """``GET /console/login``."""
        if self.sessions.get(request.cookies.get(COOKIE, "")) is not None:
            return RedirectResponse(_safe_next(request.query_params.get("next", "")), status_code=303)
        return self._login_form(request, _safe_next(request.query_params.get("next", "")))

    async def login(self, request: Request) -> Response:
        """``POST /console/login``: an API key of scope admin or operator for a session."""
        if not same_origin(request):
            raise HTTPException(403)
        form = await request.form(max_files=0, max_fields=4)
        after = _safe_next(str(form.get("next", "")))
        wait = self._logins.take(client_group(client_address(request))) or self._all_logins.take("all")
        if wait:
            words = f"Too many attempts. Wait {max(1, round(wait))} seconds, then try again."
            response = self._login_form(request, after, words, status=429)
            response.headers.update(retry_headers(wait))
            return response
        found = await run_in_threadpool(self.sessions.login, str(form.get("key", "")).strip())
        if found is None:
            words = (
                "This key does not open the console. It needs the scope admin or operator, neither revoked nor expired."
            )
            return self._login_form(request, after, words, status=401)
        response = RedirectResponse(after, status_code=303)
        response.set_cookie(
            COOKIE, found[0], max_age=int(AGE_S), path=HOME, secure=is_secure(request), httponly=True, samesite="strict"
        )
        return response

    async def logout(self, request: Request) -> Response:
        """``POST /console/logout``."""
        token = request.cookies.get(COOKIE, "")
        session = self.sessions.get(token)
        form = await request.form(max_files=0, max_fields=4)
        if session is not None:
            given = str(form.get("csrf", "")).encode()
            if not same_origin(request) or not hmac.compare_digest(given, session.csrf.encode()):
                raise HTTPException(403)
            self.sessions.logout(token)
        response = RedirectResponse(HOME + "/login", status_code=303)
        response.delete_cookie(COOKIE, path=HOME, secure=is_secure(request), httponly=True, samesite="strict")
        return response

    def _login_form(self, request: Request, after: str, problem: str = "", status: int = 200) -> Response:
        return self.pages.render(
            request, "login.html", status=status, after=after, problem=problem, usecase=self.fairlead.usecase
        )

    def _to_login(self, request: Request) -> Response:
        query = f"?{request.url.query}" if request.url.query else ""
        after = urlencode({"next": request.url.path + query})
        return RedirectResponse(f"{HOME}/login?{after}", status_code=303)


def _safe_next(text: str) -> str:
    """An address inside the console, or its home: never another site."""
    parts = urlsplit(text)
    if parts.scheme or parts.netloc or not (parts.path == HOME or parts.path.startswith(HOME + "/")):
        return HOME
    if "\\" in text or any(ord(letter) < 33 for letter in text) or parts.path.startswith(HOME + "/log"):
        return HOME
    return f"{parts.path}?{parts.query}" if parts.query else parts.path
