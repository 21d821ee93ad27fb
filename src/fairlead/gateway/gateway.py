"""Gateway: the data plane. Serves the OpenAI protocol over HTTP, and the same path in process.

Both ways take the steps of ``path`` and leave the same records. It knows upstreams and keys only by their interfaces
and imports nothing above it: what must act inside a request from there is passed in as a step.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import orjson

from fairlead.errors import (
    CallerGone,
    InternalFault,
    MethodWrong,
    PathUnknown,
    ScopeMissing,
    ServiceError,
    UpstreamBroken,
    UpstreamTimeout,
)
from fairlead.gateway import body as bodies
from fairlead.gateway import http, openapi
from fairlead.gateway.cache import Cache
from fairlead.gateway.edge import Origins
from fairlead.gateway.exchange import Exchange, Step, clock
from fairlead.gateway.http import ASGIApp, AsgiClient, Client, Delivery, Head, Message, Receive, Scope, Send
from fairlead.gateway.keyring import ADMIN, INFERENCE, KeyRing, KeySource, Principal
from fairlead.gateway.now import AdmitNow, Now
from fairlead.gateway.path import Path, Slot
from fairlead.gateway.recorder import Recorder
from fairlead.gateway.route import Identity, Route, find_route
from fairlead.gateway.surfaces import DIALECTS, Surface
from fairlead.providers import sse
from fairlead.providers.base import CallContext, Operation
from fairlead.providers.deadline import Until
from fairlead.records import Inference, new_id
from fairlead.settings import Settings
from fairlead.telemetry import CONTENT_TYPE, Telemetry

OPERATIONS: dict[str, Operation] = {
    "/v1/chat/completions": "chat",
    "/v1/completions": "completion",
    "/v1/embeddings": "embedding",
}
_OPERATION_AT = {path.encode("ascii"): operation for path, operation in OPERATIONS.items()}
READS = ("/v1/models", "/healthz", "/readyz", "/metrics", "/openapi.json")
logger = logging.getLogger(__name__)


class Gateway:
    """The data plane of one process.

    ``record`` and ``mask`` are called off the request path. ``ready`` says what is not ready yet (empty: all is).
    ``pseudonym_secret`` keys the stand-ins for callers' user names; without one they change with every start.
    ``steps`` are those of other rooms, by the name of their place in the path. ``fallback`` answers every path that
    is not the gateway's. Without a ``cache`` every request calls its model. ``admit_now`` does what the one step of
    ``admit`` does where that would not wait.
    """

    def __init__(
        self,
        *,
        routes: Mapping[str, Route],
        keys: KeySource,
        record: Callable[[Inference], bool],
        settings: Settings,
        mask: Callable[[str], str],
        identity: Identity,
        fallback: ASGIApp | None = None,
        ready: Callable[[], list[str]] = list,
        telemetry: Telemetry | None = None,
        steps: Mapping[Slot, tuple[Step, ...]] | None = None,
        pseudonym_secret: bytes | None = None,
        cache: Cache | None = None,
        admit_now: AdmitNow | None = None,
    ) -> None:
        self.routes = routes
        self.settings = settings
        self.identity = identity
        self.telemetry = telemetry or Telemetry()
        limits = {"max_body_bytes": settings.max_body_bytes, "max_depth": settings.max_depth}
        self.surfaces: dict[str, ASGIApp] = {
            path: Surface(self, dialect, **limits) for path, dialect in DIALECTS.items()
        }
        """What answers other protocols and services: a path of two names (``/v1/files``) and all below it, to an ASGI
        app, which refuses by raising ServiceError or by itself. To be filled before serving."""
        self.description = openapi.describe()
        """What /openapi.json says; a service adds its own part."""
        self._origins = Origins(settings.cors_origins)
        self._fallback = fallback
        self._ready = ready
        self._created = int(time.time())
        self._keyring = KeyRing(keys, required=settings.require_key)
        self._recorder = Recorder(
            record=record,
            mask=mask,
            identity=identity,
            telemetry=self.telemetry,
            store_content=settings.store_content,
            limit=settings.record_queue,
        )
        self.cache = cache
        given = dict(steps or {})
        if cache is not None:  # kept last: what another check refuses must not be
            given["recall"] = (*given.get("recall", ()), cache.recall)
            given["check"] = (*given.get("check", ()), cache.keep)
        self._path = Path(
            routes=routes,
            keyring=self._keyring,
            steps=given,
            recognise=cache.recognise if cache is not None else None,
            record=self._recorder.add,
            max_depth=settings.max_depth,
            retry_after_s=max(1, round(settings.shutdown_grace_s)),
            secret=pseudonym_secret or os.urandom(32),
        )
        now = Now(self._path, cache, admit_now) if cache is not None else None
        self._now = now if now is not None and now.able else None
        self._tasks: set[asyncio.Task[Any]] = set()
        if cache is not None:
            lines = cache.tally
            self.telemetry.watch_cache(
                lambda: ((line.route, line.outcome, line.requests, line.nanos, line.saved_us) for line in lines)
            )
        self.telemetry.watch_in_flight(lambda: self._path.in_flight)
        self.telemetry.watch_in_flight(lambda: self.in_flight)

    # --- in process -------------------------------------------------------------------------------------------------

    async def complete(
        self,
        body: dict[str, Any],
        *,
        principal: Principal,
        context: CallContext | None = None,
        operation: Operation = "chat",
    ) -> dict[str, Any]:
        """One answer, decoded. Raises ServiceError with the status and code an HTTP client would get."""
        x = await self.ask(body, principal=principal, context=context, operation=operation)
        return x.answer or {}

    async def ask(
        self,
        body: dict[str, Any],
        *,
        principal: Principal,
        context: CallContext | None = None,
        operation: Operation = "chat",
    ) -> Exchange:
        """The whole way of one request, at its end: the answer, and who gave it. Raises as ``complete`` does."""
        x = self._exchange_in_process({**body, "stream": False}, principal, context, operation)
        async with self._path.travel(x):
            return x

    async def stream(
        self,
        body: dict[str, Any],
        *,
        principal: Principal,
        context: CallContext | None = None,
        operation: Operation = "chat",
        ended: Callable[[Exchange], None] | None = None,
    ) -> AsyncIterator[dict[str, Any]]:
        """The decoded chunks of one answer. Leaving the iteration early (``aclose``) cancels the model's work.

        ``ended`` is told when the last byte has come, or the request has failed. Raises ServiceError, also in the
        middle of the stream.
        """
        x = self._exchange_in_process({**body, "stream": True}, principal, context, operation)
        if ended is not None:
            x.afterwards.append(ended)
        async with self._path.travel(x):
            async for chunk in self._chunks(x):
                yield chunk

    async def _chunks(self, x: Exchange) -> AsyncIterator[dict[str, Any]]:
        relay, chunks = x.relay, x.reply.chunks if x.reply else None
        if relay is None or chunks is None:
            raise InternalFault(request=x.context.request)
        iterator, until = aiter(chunks), x.deadline
        while True:
            try:
                # Around each wait, not around the loop: between two chunks the caller's own work must not be cancelled.
                with Until(until):
                    data = await anext(iterator)
            except StopAsyncIteration:
                break
            except (TimeoutError, UpstreamBroken, UpstreamTimeout):
                if relay.is_done():
                    break
                raise
            if relay.is_done():
                break
            whole = relay.feed(data)
            if relay.is_done():
                until = min(until, asyncio.get_running_loop().time() + http.LINGER_S)
            if whole:
                x.marks.append(clock())
                for chunk in _decoded(whole):
                    yield chunk
        for chunk in _decoded(relay.end()):
            yield chunk

    def _exchange_in_process(
        self, body: dict[str, Any], principal: Principal, context: CallContext | None, operation: Operation
    ) -> Exchange:
        identifier = new_id()
        context = context or CallContext(request=identifier, channel="internal")
        return Exchange(
            identifier,
            operation,
            context=context,
            timeout_s=self.settings.request_timeout_s,
            principal=principal,
            body=body,
        )

    # --- over HTTP --------------------------------------------------------------------------------------------------

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one ASGI connection."""
        if scope["type"] != "http":
            await self._other(scope, receive, send)
            return
        path: str = scope["path"]
        if self._origins and path.startswith("/v1/"):
            if scope["method"] == "OPTIONS" and (granted := self._origins.preflight(dict(scope["headers"]))):
                await http.respond(send, 200, b"", Head(scope).request, extra=granted)
                return
            send = self._sharing(send, Head(scope).origin)
        operation = OPERATIONS.get(path)
        if operation is not None and scope["method"] == "POST":
            await self.infer(operation, Head(scope), AsgiClient(receive, send))
            return
        surface = self.surfaces.get("/".join(path.split("/", 3)[:3])) if operation is None else None
        if surface is not None:
            await self._served(surface, scope, receive, send)
            return
        ours = operation is not None or path.startswith("/v1/") or path in READS or self._meant(path)
        if not ours and self._fallback is not None:
            await self._fallback(scope, receive, send)
            return
        head = Head(scope)
        try:
            await self._read_only(path, scope["method"], head, send)
        except ServiceError as error:
            await http.respond_error(send, error, head.request)

    async def _served(self, surface: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await surface(scope, receive, send)
        except ServiceError as error:
            await http.respond_error(send, error, Head(scope).request)

    def _sharing(self, send: Send, origin: bytes) -> Send:
        """``send`` with the headers that let a page of ``origin`` read the answer."""
        granted = self._origins.headers(origin)

        async def sending(message: Message) -> None:
            if granted and message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *granted]
            await send(message)

        return sending

    def operation_at(self, url: bytes) -> Operation | None:
        """What a POST to ``url`` asks of a model; None when it has a query, or is none of a model's."""
        return _OPERATION_AT.get(url)

    def answer_now(self, operation: Operation, head: Head, raw: bytes, write: http.Write) -> bool:
        """Answer a request whose answer is in memory; False: it is for ``infer``, and nothing has happened."""
        now = self._now
        if now is None or head.cache_control or head.content_encoding or (head.origin and self._origins):
            return False
        if head.content_type != http.JSON or not now.memory.may_know(head.authorization, operation, raw):
            return False
        x = self._arrived(operation, head)
        x.raw = raw
        try:
            if not now.take(x):
                return False
            body = x.reply.body or b"" if x.reply is not None else b""
            extra = ((b"x-inference-id", x.id.encode("ascii")), *x.headers)
            write(200, http.headers_of(body, head.request, extra=extra), body)
            x.mark("deliver")
        except ServiceError as error:
            x.error = error
            body, extra = http.error_answer(error, head.request)
            write(error.status, http.headers_of(body, head.request, extra=(*x.headers, *extra)), body)
        now.over(x)
        return True

    def _arrived(self, operation: Operation, head: Head) -> Exchange:
        """What begins with a request whose head has come."""
        self._keyring.watch()
        if self.cache is not None:
            self.cache.watch()
        x = Exchange(
            new_id(),
            operation,
            context=CallContext(request=head.request, conversation=head.conversation.decode("ascii")),
            timeout_s=head.timeout_s(self.settings.request_timeout_s),
            authorization=head.authorization,
        )
        x.cache_control = head.cache_control
        return x

    async def infer(self, operation: Operation, head: Head, client: Client) -> None:
        """Answer one request for a model."""
        x = self._arrived(operation, head)
        if head.origin and self._origins and client.push is not None:  # else ``_sharing`` does it
            x.headers = self._origins.headers(head.origin)
        delivery = Delivery(x, head, client)

        async def read() -> bytes:
            bodies.check_content_type(head.content_type, head.content_encoding)
            return await delivery.read(self.settings.max_body_bytes)

        x.read_raw(read)
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
        try:
            async with self._path.travel(x):
                await delivery.deliver()
        except ServiceError as error:
            await delivery.fail(error)
        except asyncio.CancelledError:
            # Whoever cancelled, a client that is still there gets an end it can read; uvicorn closes the rest.
            if task is not None:
                task.uncancel()
            await delivery.fail(x.error or CallerGone())
        except Exception:
            logger.exception("Request %s failed.", head.request)
            await delivery.fail(InternalFault(request=head.request))
        finally:
            delivery.end()
            if task is not None:
                self._tasks.discard(task)

    def _meant(self, path: str) -> str:
        """The path of the API that one with /v1 left out or said twice, or with a slash behind it, stands for."""
        tail = path.rstrip("/")
        while tail.startswith("/v1/"):
            tail = tail.removeprefix("/v1")
        meant = f"/v1{tail}"
        return meant if meant != path and (meant in OPERATIONS or meant in READS or meant in self.surfaces) else ""

    async def _read_only(self, path: str, method: str, head: Head, send: Send) -> None:
        if path in OPERATIONS:
            raise MethodWrong(path=path, method=method, allowed="POST")
        model = path.removeprefix("/v1/models/") if path.startswith("/v1/models/") else ""
        if path not in READS and not model:
            if meant := self._meant(path):
                hint = f"Nearest: {meant}. The base URL of OpenAI's clients ends in /v1, that of Anthropic's does not."
                raise PathUnknown(method=method, path=path[:200], hint=hint)
            raise PathUnknown(method=method, path=path[:200])
        if method not in ("GET", "HEAD"):
            raise MethodWrong(path=path, method=method, allowed="GET, HEAD")
        status, body, kind = 200, b"", http.JSON
        if path == "/healthz":
            body = b'{"status":"ok"}'
        elif path == "/readyz":
            status, body = self._readiness()
        elif path == "/openapi.json":
            body = orjson.dumps(self.description)
        elif path == "/metrics":
            self.demand(head, ADMIN)
            body, kind = self.telemetry.expose(), CONTENT_TYPE.encode("ascii")
        else:
            principal = self.demand(head, INFERENCE)
            body = orjson.dumps(self._model(model, principal) if model else self._models(principal))
        await http.respond(send, status, body, head.request, kind=kind)

    def demand(self, head: Head, scope: str) -> Principal:
        """The caller. Raises unless they may do what ``scope`` names; without required keys anyone here may."""
        self._keyring.watch()
        principal = self._keyring.identify(head.authorization)
        if scope not in principal.scopes and self.settings.require_key:
            raise ScopeMissing(scope=scope)
        return principal

    def _readiness(self) -> tuple[int, bytes]:
        waiting = ["shutting down"] if self._path.closing else self._ready()
        if waiting:
            return 503, orjson.dumps({"status": "not ready", "waiting_for": waiting})
        return 200, b'{"status":"ready"}'

    def _models(self, principal: Principal) -> dict[str, Any]:
        routes = [route for name, route in self.routes.items() if not principal.models or name in principal.models]
        return {"object": "list", "data": [self._show(route) for route in routes]}

    def _model(self, name: str, principal: Principal) -> dict[str, Any]:
        principal.demand(name)
        if name not in self.routes:
            find_route(self.routes, name, "chat")
        return self._show(self.routes[name])

    def _show(self, route: Route) -> dict[str, Any]:
        return {"id": route.name, "object": "model", "created": self._created, "owned_by": route.owned_by}

    async def _other(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            if self._fallback is not None:
                await self._fallback(scope, receive, send)
            else:
                await send({"type": "websocket.close", "code": 1000})
            return
        while True:  # lifespan
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._keyring.watch()
                if self.cache is not None:
                    self.cache.watch()
                await send({"type": "lifespan.startup.complete"})
            else:
                await self.aclose()
                await send({"type": "lifespan.shutdown.complete"})
                return

    @property
    def in_flight(self) -> int:
        """Requests on their way, also those in process."""
        return self._path.in_flight

    def drain(self) -> None:
        """Take no new requests; /readyz says so."""
        self._path.closing = True

    def write_records(self) -> None:
        """Hand over every record of a finished request, now instead of a little later."""
        self._recorder.flush()

    async def aclose(self) -> None:
        """Let open requests finish for ``shutdown_grace_s``, cancel the rest, write every record, close upstreams."""
        self.drain()
        if self._tasks:
            _, late = await asyncio.wait(set(self._tasks), timeout=self.settings.shutdown_grace_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        self._recorder.flush()
        if self.cache is not None:
            await self.cache.aclose()
        await self._keyring.aclose()
        for upstream in {id(route.upstream): route.upstream for route in self.routes.values()}.values():
            await upstream.aclose()


def _decoded(events: bytes) -> list[dict[str, Any]]:
    chunks = []
    for event in sse.split(events):
        data = sse.payload(event)
        if data and data != b"[DONE]":
            chunks.append(orjson.loads(data))
    return chunks
