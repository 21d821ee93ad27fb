"""``/v1/files`` and ``/v1/batches`` as OpenAI's API has them. Translates; what happens is in ``service``."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, Response
from starlette.routing import Match, Route

from fairlead.batch.lines import MOST_BYTES
from fairlead.batch.service import KEEP_S, Batches
from fairlead.batch.shapes import show_batch, show_file
from fairlead.batch.upload import receive_form
from fairlead.errors import (
    BodyTooLarge,
    CallerGone,
    InternalFault,
    MethodWrong,
    PathUnknown,
    RequestInvalid,
    ServiceError,
    StorageFull,
    StoreFull,
)
from fairlead.gateway import INFERENCE, Gateway, Principal
from fairlead.gateway import body as bodies
from fairlead.gateway.http import ASGIApp, Head, error_answer
from fairlead.store import Store

PREFIXES = ("/v1/files", "/v1/batches")
MOST_FILES, MOST_BATCHES = 10_000, 100
LONGEST_BODY, DEEPEST_BODY = 65_536, 8
logger = logging.getLogger(__name__)
Endpoint = Callable[[Request, Principal], Awaitable[Any]]


class Surface:
    """The ASGI app behind ``surfaces``, as the gateway wants them. ``wake`` is called when there is something to do."""

    def __init__(
        self,
        gateway: Gateway,
        store: Store,
        batches: Batches,
        *,
        wake: Callable[[], None] = lambda: None,
        most_file_bytes: int = MOST_BYTES,
    ) -> None:
        self._gateway = gateway
        self._store = store
        self._batches = batches
        self._wake = wake
        self._most_file_bytes = most_file_bytes
        acts = [
            ("/v1/files", "POST", self._upload),
            ("/v1/files", "GET", self._list_files),
            ("/v1/files/{id}", "GET", self._file),
            ("/v1/files/{id}", "DELETE", self._delete_file),
            ("/v1/files/{id}/content", "GET", self._content),
            ("/v1/batches", "POST", self._create),
            ("/v1/batches", "GET", self._list_batches),
            ("/v1/batches/{id}", "GET", self._batch),
            ("/v1/batches/{id}/cancel", "POST", self._cancel),
        ]
        self._routes = [Route(path, self._served(act), methods=[verb]) for path, verb, act in acts]
        app = Starlette(routes=self._routes, exception_handlers={HTTPException: self._wrong})
        app.router.redirect_slashes = False
        self.surfaces: dict[str, ASGIApp] = dict.fromkeys(PREFIXES, app)

    def _wrong(self, request: Request, _: Exception) -> Response:
        """Refuse a path that is none, or a method that it does not take, in words of the API."""
        path, method, head = request.url.path, request.method, Head(request.scope)
        fitting = [route for route in self._routes if route.matches(request.scope)[0] is not Match.NONE]
        allowed = ", ".join(sorted({verb for route in fitting for verb in route.methods or ()}))
        if not allowed:
            return _refuse(PathUnknown(method=method, path=path[:200]), head.request)
        answer = _refuse(MethodWrong(path=path[:200], method=method, allowed=allowed), head.request)
        answer.headers["allow"] = allowed
        return answer

    def _served(self, act: Endpoint) -> Callable[[Request], Awaitable[Response]]:
        """``act`` for a caller who proved who they are, its errors as OpenAI's clients expect them."""

        async def endpoint(request: Request) -> Response:
            head = Head(request.scope)
            try:
                made = await act(request, self._gateway.demand(head, INFERENCE))
            except ServiceError as error:
                return _refuse(error, head.request)
            except StoreFull as error:
                logger.error("%s", error)
                return _refuse(StorageFull(), head.request)
            except ClientDisconnect:
                return _refuse(CallerGone(), head.request)
            except Exception:  # the last who can answer in words
                logger.exception("Request %s failed.", head.request)
                return _refuse(InternalFault(request=head.request), head.request)
            if not isinstance(made, Response):
                made = Response(orjson.dumps(made), media_type="application/json")
            made.headers["x-request-id"] = head.request
            return made

        return endpoint

    # --- files --------------------------------------------------------------------------------------------------

    async def _upload(self, request: Request, principal: Principal) -> Any:
        room = await run_in_threadpool(self._batches.room, principal)
        limit = min(self._most_file_bytes, room)
        headers = request.headers
        with self._store.files.writing() as (target, path):
            form = await receive_form(
                request.stream(), headers.get("content-type", ""), headers.get("content-length", ""), target, limit
            )
            purpose = form.fields.get("purpose", "")
            if purpose != "batch":
                raise RequestInvalid(problem=f"purpose is {purpose[:80]!r}; expected 'batch'.", param="purpose")
            keep_s = _keep_s(
                form.fields.get("expires_after[anchor]"), form.fields.get("expires_after[seconds]"), "expires_after"
            )
            name = form.filename or ""
            file = await run_in_threadpool(self._batches.keep_file, principal, path, name, keep_s)
        return show_file(file)

    async def _list_files(self, request: Request, principal: Principal) -> Any:
        query = request.query_params
        limit = _limit(query.get("limit"), MOST_FILES, MOST_FILES)
        order = query.get("order", "desc")
        if order not in ("asc", "desc"):
            raise RequestInvalid(problem=f"order is {order[:40]!r}; expected 'asc' or 'desc'.", param="order")
        after = self._batches.file(principal, query["after"]) if query.get("after") else None
        found = await run_in_threadpool(
            self._store.files.page, principal.tenant, purpose=query.get("purpose"), after=after, limit=limit + 1,
            order="asc" if order == "asc" else "desc",
        )  # fmt: skip
        return _page([show_file(file) for file in found], limit)

    async def _file(self, request: Request, principal: Principal) -> Any:
        return show_file(self._batches.file(principal, request.path_params["id"]))

    async def _delete_file(self, request: Request, principal: Principal) -> Any:
        file = self._batches.file(principal, request.path_params["id"])
        await run_in_threadpool(self._store.files.delete, file)
        return {"id": file.id, "object": "file", "deleted": True}

    async def _content(self, request: Request, principal: Principal) -> Any:
        file, path = self._batches.content(principal, request.path_params["id"])
        return FileResponse(path, media_type="application/octet-stream", filename=file.name)

    # --- batches ------------------------------------------------------------------------------------------------

    async def _create(self, request: Request, principal: Principal) -> Any:
        body = await _json(request)
        expires = body.get("output_expires_after") or {}
        if not isinstance(expires, dict):
            raise RequestInvalid(problem="output_expires_after must be an object.", param="output_expires_after")
        keep_s = _keep_s(expires.get("anchor"), expires.get("seconds"), "output_expires_after")
        names = ("input_file_id", "endpoint", "completion_window", "metadata")
        given = {name: body.get(name) for name in names}
        batch = await run_in_threadpool(self._batches.create, principal, **given, keep_s=keep_s)
        self._wake()
        return show_batch(batch)

    async def _list_batches(self, request: Request, principal: Principal) -> Any:
        query = request.query_params
        limit = _limit(query.get("limit"), 20, MOST_BATCHES)
        after = self._batches.batch(principal, query["after"]) if query.get("after") else None
        found = await run_in_threadpool(self._store.batches.page, principal.tenant, after=after, limit=limit + 1)
        return _page([show_batch(batch) for batch in found], limit)

    async def _batch(self, request: Request, principal: Principal) -> Any:
        return show_batch(self._batches.batch(principal, request.path_params["id"]))

    async def _cancel(self, request: Request, principal: Principal) -> Any:
        batch = await run_in_threadpool(self._batches.cancel, principal, request.path_params["id"])
        self._wake()
        return show_batch(batch)


def _refuse(error: ServiceError, request: str) -> Response:
    body, extra = error_answer(error, request)
    headers = {name.decode(): value.decode("latin-1") for name, value in extra}
    return Response(body, error.status, {**headers, "x-request-id": request}, media_type="application/json")


def _page(shown: list[dict[str, Any]], limit: int) -> dict[str, Any]:
    data = shown[:limit]
    first, last = (data[0]["id"], data[-1]["id"]) if data else (None, None)
    return {"object": "list", "data": data, "first_id": first, "last_id": last, "has_more": len(shown) > limit}


def _limit(text: str | None, usual: int, most: int) -> int:
    if text is None:
        return usual
    if not text.isascii() or not text.isdigit() or len(text) > 6 or not 1 <= int(text) <= most:
        raise RequestInvalid(problem=f"limit is {text[:40]!r}; expected 1 to {most}.", param="limit")
    return int(text)


def _keep_s(anchor: Any, seconds: Any, name: str) -> int:
    """How long a file shall stay; KEEP_S when nothing is said."""
    if anchor is None and seconds is None:
        return KEEP_S
    if anchor != "created_at":
        raise RequestInvalid(problem=f"{name}.anchor must be 'created_at'.", param=f"{name}.anchor")
    try:
        return int(seconds)
    except (TypeError, ValueError, OverflowError):
        problem = f"{name}.seconds must be a whole number."
        raise RequestInvalid(problem=problem, param=f"{name}.seconds") from None


async def _json(request: Request) -> dict[str, Any]:
    raw = bytearray()
    async for piece in request.stream():
        raw += piece
        if len(raw) > LONGEST_BODY:
            raise BodyTooLarge(limit=LONGEST_BODY)
    return bodies.decode(bytes(raw), max_depth=DEEPEST_BODY)
