"""The way of a request: one screen of code whose steps are verbs.

A step another room supplies (limits, budgets, pseudonyms, screening, caches) is a callable in the tuple of its name;
an empty tuple costs nothing and leaves no trace. How bytes come and go is the carrier's business (``http``, or the
caller of ``complete`` and ``stream``): it delivers inside ``async with travel(exchange)``.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine, Mapping
from types import TracebackType
from typing import Any, Literal

import orjson

from fairlead.errors import (
    BodyLate,
    BudgetSpent,
    CallerGone,
    InternalFault,
    ModelBusy,
    ModelResting,
    RateLimited,
    ScopeMissing,
    ServiceError,
    ShuttingDown,
    TooManyAtOnce,
    UpstreamBroken,
    UpstreamRefused,
    UpstreamTimeout,
)
from fairlead.gateway import body as bodies
from fairlead.gateway.encoding import fit_encoding
from fairlead.gateway.exchange import Exchange, Step
from fairlead.gateway.keyring import INFERENCE, KeyRing, Principal, pseudonym
from fairlead.gateway.relay import Relay
from fairlead.gateway.reliable import AGAIN, SICK, Line, is_sick, ordered, seconds_of
from fairlead.gateway.route import Route, chosen_for, find_route
from fairlead.providers.base import Call, CallContext, Reply
from fairlead.providers.deadline import Until
from fairlead.secret import hide

Slot = Literal["admit", "mask", "screen", "recall", "restore", "check"]
SLOTS: tuple[Slot, ...] = ("admit", "mask", "screen", "recall", "restore", "check")

Tried = tuple[Reply, ServiceError | None]
"""A reply and, unless it is an answer, its error."""
Try = Coroutine[Any, Any, Tried]
LONGEST_WAIT_S = 1.0
"""Pause before another try from which a model that stands in is asked instead."""
LONGEST_TOLD_S = 86_400.0
"""Most of an upstream's Retry-After that is passed on."""
_UPSTREAM_STATUS = {400: 400, 409: 409, 413: 413, 415: 400, 422: 400, 408: 504, 429: 429, 503: 503, 504: 504, 529: 503}
"""What the client sees of an upstream's status. Others are 502: a refused key or a missing model upstream is not the
client's mistake, and a 401 or 404 would send people looking in the wrong place."""


class Path:
    """The request path of one gateway. ``record`` is called once for every exchange, after its last byte."""

    def __init__(
        self,
        *,
        routes: Mapping[str, Route],
        keyring: KeyRing,
        steps: Mapping[Slot, tuple[Step, ...]],
        record: Callable[[Exchange], None],
        max_depth: int,
        retry_after_s: int,
        secret: bytes,
        recognise: Callable[[Exchange], bool] | None = None,
    ) -> None:
        self.routes = routes
        self.keyring = keyring
        self.steps = {slot: tuple(steps.get(slot, ())) for slot in SLOTS}
        self.record = record
        self.max_depth = max_depth
        self.retry_after_s = retry_after_s
        self.secret = secret
        self.recognise = recognise
        self.closing = False
        self.in_flight = 0
        self.lines: dict[str, Line] = {}

    def travel(self, x: Exchange) -> Journey:
        """Take ``x`` to its answer; the carrier delivers it inside the ``async with``. Raises ServiceError."""
        return Journey(self, x)

    async def go(self, x: Exchange) -> None:
        """From the first header to an answer that may be delivered."""
        steps = self.steps
        self.authenticate(x)
        await self.read(x)
        await self.admit(x)
        if steps["mask"]:
            await self.run("mask", x)
        if steps["screen"]:
            await self.run("screen", x)
        self.choose(x)
        if steps["recall"]:
            await self.run("recall", x)
        if x.reply is None:
            await self.call(x)
        if steps["restore"]:
            await self.run("restore", x)
        await self.check(x)

    def failed(self, x: Exchange, error: BaseException) -> BaseException:
        """Note why ``x`` has ended early; returns what is to be raised."""
        late = isinstance(error, UpstreamTimeout) and not error.details["seconds"]  # no time was left to ask it in
        if isinstance(error, ServiceError) and not late:
            x.error = error
        elif isinstance(error, TimeoutError) or late:
            x.error = timed_out(x)
            return x.error
        elif isinstance(error, asyncio.CancelledError | GeneratorExit):
            x.error = CallerGone() if x.hung_up else ShuttingDown(retry_after=self.retry_after_s)
        elif isinstance(error, Exception):
            x.error = InternalFault(request=x.context.request)
        return error

    async def leave(self, x: Exchange) -> None:
        """The end of ``x``, however it came."""
        began = x.reply is not None and not x.recalled
        if began and x.route is not None and isinstance(x.error, UpstreamBroken | UpstreamTimeout):
            self._line(x.route).failed()  # it began and broke off
        for told in x.afterwards:
            told(x)
        await x.close()
        self.over(x)

    def over(self, x: Exchange) -> None:
        """The last byte has gone, and whoever wanted to be told was."""
        x.total_us = x.elapsed_us()
        self.record(x)

    def authenticate(self, x: Exchange) -> None:
        """Who asks: given in process, proved by a key over HTTP."""
        if x.principal is None:
            x.principal = self.keyring.identify(x.authorization)
            x.priority = x.principal.priority
        if INFERENCE not in x.principal.scopes:
            raise ScopeMissing(scope=INFERENCE)
        x.mark("authenticate")

    async def read(self, x: Exchange) -> None:
        """What is asked: decoded once, checked, with the caller's name replaced by a pseudonym."""
        receive, x.receive = x.receive, None
        if receive is not None:
            x.raw = await receive()
            if self.recognise is not None and self.recognise(x):
                x.mark("read")
                return
            x.body = bodies.decode(x.raw, max_depth=self.max_depth)
        bodies.check(x.body, x.operation)
        x.stream = x.operation != "embedding" and x.body.get("stream") is True
        x.sent = dict(x.body)
        self._pseudonymise(x)
        x.mark("read")

    async def admit(self, x: Exchange) -> None:
        """Whether it may start now."""
        if self.closing:
            raise ShuttingDown(retry_after=self.retry_after_s)
        if x.principal is not None:
            x.principal.demand(x.body["model"], x.operation)
        if self.steps["admit"]:
            await self.run("admit", x)

    def choose(self, x: Exchange) -> None:
        """Who answers, and who in its place."""
        x.route = self.pick(x)
        x.mark("choose")

    def pick(self, x: Exchange) -> Route:
        """Who answers; who stands in for it is noted."""
        route = find_route(self.routes, x.body["model"], x.operation)
        if route.split is not None:
            x.named = route
            route, why = chosen_for(self.routes, route, x.body)
            x.tags["routed"], x.tags["routed_why"] = route.name, why
        if route.fallback:
            others = [self.routes[name] for name in route.fallback if name in self.routes]
            if x.operation == "embedding":  # another model's vectors look like success and fit none that are kept
                others = [other for other in others if other.model == route.model]
            x.candidates = (route, *(other for other in others if x.operation in other.operations))
            if route.weights:
                names = ordered([each.name for each in x.candidates], route.weights, x.context.conversation or x.id)
                x.candidates = tuple(self.routes[name] for name in names)
                route = x.candidates[0]
        return route

    async def call(self, x: Exchange) -> None:
        """Ask the model, again or another one while nothing has begun; returns when its status is known."""
        asked = dict(x.sent)
        if x.stream:
            asked["stream_options"] = {**(asked.get("stream_options") or {}), "include_usage": True}
        if x.route is None:
            raise InternalFault(request=x.context.request)
        others = () if x.context.alone else x.candidates
        routes = [x.route, *(route for route in others if route is not x.route)]
        for place, route in enumerate(routes):
            x.route = route
            x.sent = {**asked, "model": route.model}
            for name, value in route.defaults.items():
                if x.sent.get(name) is None:
                    x.sent[name] = value
            if route.salt:  # made of the tenant's own wish too, never that wish alone: it could name another tenant's
                tenant = x.principal.tenant if x.principal else ""
                x.sent[route.salt] = pseudonym(self.secret, f"{tenant}\0{route.salt}", str(x.sent.get(route.salt, "")))
            try:
                if x.enter is not None:
                    await x.enter(x, route)
                x.reply = await self._ask(x, route, last=place + 1 == len(routes))
                break
            except ServiceError as error:
                if place + 1 == len(routes) or not _passes_on(error):
                    raise
                x.tags["fallback"] = ",".join(filter(None, (x.tags.get("fallback"), f"{route.name}:{error.code}")))
        x.mark("call")

    async def _ask(self, x: Exchange, route: Route, *, last: bool) -> Reply:
        """One model's answer, at its first try or a later one. Raises ServiceError."""
        line = self._line(route)
        resting = line.resting_s() if route.rests else 0.0
        if resting:
            raise ModelResting(name=route.name, retry_after=max(1, round(resting)))
        line.began()
        attempt = 1
        while True:
            late_s = line.late_s() if route.hedge and not x.stream else None
            trying = self._try(x, route, line)
            reply, error = await (trying if late_s is None else self._hedge(x, route, line, trying, late_s))
            if error is None:
                return reply
            wait = line.pause_s(attempt, reply.headers.get("retry-after", ""))
            await reply.aclose()
            in_time = asyncio.get_running_loop().time() + wait < x.deadline
            patient = last or wait < LONGEST_WAIT_S  # a model that stands in is better than a long wait
            rests = route.rests and line.rests_for_s() > 0  # since this try, or another's meanwhile
            able = reply.status in AGAIN and attempt <= route.retries and not rests
            if not (able and in_time and patient and line.may_retry()):
                raise error
            attempt += 1
            x.tags["attempts"] = str(attempt)
            await asyncio.sleep(wait)

    def _line(self, route: Route) -> Line:
        name = route.line or route.name
        line = self.lines.get(name)
        if line is None:
            line = self.lines[name] = Line()
        return line

    async def _hedge(self, x: Exchange, route: Route, line: Line, trying: Try, late_s: float) -> Tried:
        """One try and, when it is later than nearly all before it, a second beside it; whoever answers first counts.

        The other is cancelled, which closes its connection. What it has cost is recorded with the request.
        """
        tries = [asyncio.ensure_future(trying)]
        try:
            await asyncio.wait(tries, timeout=late_s)
            if not tries[0].done() and line.may_retry():
                x.tags["hedge"] = "lost"
                tries.append(asyncio.ensure_future(self._try(x, route, line)))
            waiting = set(tries)
            while True:
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for each in done:
                    if not waiting or (each.exception() is None and each.result()[1] is None):
                        if len(tries) > 1 and each is tries[1]:
                            x.tags["hedge"] = "won"
                        return each.result()
        finally:
            for each in tries:
                each.cancel()
            await asyncio.gather(*tries, return_exceptions=True)

    async def _try(self, x: Exchange, route: Route, line: Line) -> Tried:
        """One try: the reply and, unless it is an answer, its error. Who cannot be reached replies 502 or 504."""
        principal = x.principal or Principal()
        context = CallContext(
            request=x.context.request,
            tenant=principal.tenant,
            subject=x.subject,
            conversation=x.context.conversation,
            parent=x.id,
            channel=x.context.channel,
            payer=principal.account or x.context.payer,
            priority=x.priority,
        )
        began = asyncio.get_running_loop().time() if route.hedge else 0.0
        call = Call(operation=x.operation, body=x.sent, stream=x.stream, deadline=x.deadline, context=context)
        try:
            reply = await route.upstream.open(call)
        except BaseException as error:
            line.failed() if is_sick(error) else line.left()
            if isinstance(error, ServiceError):
                return Reply(error.status if is_sick(error) else 400), error
            raise
        if reply.status == 200:
            line.succeeded()
            if route.hedge and not x.stream:
                line.took(asyncio.get_running_loop().time() - began)
            return reply, None
        line.failed() if reply.status in SICK else line.succeeded()
        return reply, refusal(route.upstream.name, reply)

    async def check(self, x: Exchange) -> None:
        """Whether the answer is one."""
        if x.reply is None:
            raise InternalFault(request=x.context.request)
        name = x.route.upstream.name if x.route else "the model"
        if x.reply.chunks is not None:
            wants = (x.body.get("stream_options") or {}).get("include_usage") is True
            x.relay = Relay(name, wants_usage=wants)
        elif x.shown is None or len(self.steps["check"]) > 1 or self.steps["restore"]:
            x.answer = decode_answer(name, x.reply.body or b"")
            if x.stream:
                raise UpstreamBroken(name=name, detail="asked for a stream, it sent one piece")
            if (lack := _lack_of(x)) is not None:
                raise UpstreamBroken(name=name, detail=lack)
            if x.operation == "embedding" and fit_encoding(x.answer, x.body.get("encoding_format")):
                x.reply.body = orjson.dumps(x.answer)
        if self.steps["check"]:
            await self.run("check", x)

    async def run(self, slot: Slot, x: Exchange) -> None:
        """Run the steps other rooms supply for ``slot``, in order."""
        for step in self.steps[slot]:
            await step(x)
        x.mark(slot)

    def _pseudonymise(self, x: Exchange) -> None:
        """The model server sees a stable stand-in for the caller's name, the record the same."""
        tenant = x.principal.tenant if x.principal else ""
        for field in ("safety_identifier", "user"):
            if user := x.body.get(field):
                x.sent[field] = pseudonym(self.secret, tenant, user)
                x.subject = x.subject or x.sent[field]
        if not x.subject and x.principal:
            x.subject = x.principal.subject


class Journey:
    """One exchange on its way. A class: to go through a generator as context manager costs three times as much."""

    __slots__ = ("_path", "_x")

    def __init__(self, path: Path, x: Exchange) -> None:
        self._path = path
        self._x = x

    async def __aenter__(self) -> Exchange:
        x, path = self._x, self._path
        path.in_flight += 1
        try:
            with Until(x.deadline):
                await path.go(x)
        except BaseException as error:
            await self._end(error)
            raise
        return x

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self._x.mark("deliver")
        await self._end(error)

    async def _end(self, error: BaseException | None) -> None:
        raised = error if error is None else self._path.failed(self._x, error)
        self._path.in_flight -= 1
        await self._path.leave(self._x)
        if raised is not error and raised is not None:
            raise raised from error


def _passes_on(error: ServiceError) -> bool:
    """Whether another model may be asked: not when the request itself is at fault, or nobody waits any more."""
    if isinstance(error, UpstreamRefused):
        return error.details.get("upstream_status") not in (400, 409, 413, 415, 422)
    return is_sick(error) or isinstance(error, ModelResting | ModelBusy | RateLimited | TooManyAtOnce | BudgetSpent)


def timed_out(x: Exchange) -> ServiceError:
    """What a passed deadline means for ``x``: who was waited for."""
    if x.principal is not None and not x.body:
        return BodyLate(seconds=x.timeout_s)
    return UpstreamTimeout(name=x.route.name if x.route else "the gateway", seconds=x.timeout_s)


def decode_answer(name: str, raw: bytes) -> dict[str, Any]:
    """An upstream's JSON answer. Raises UpstreamBroken when it is none, or an error dressed as success."""
    try:
        answer = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise UpstreamBroken(name=name, detail="its answer is not JSON") from error
    if not isinstance(answer, dict):
        raise UpstreamBroken(name=name, detail="its answer is not a JSON object")
    if answer.get("error") and not answer.get("choices") and not answer.get("data"):
        raise UpstreamBroken(name=name, detail=hide(str(answer["error"])[:500]))
    return answer


def _lack_of(x: Exchange) -> str | None:
    """What an answer lacks that every one of its kind has: a choice, or a vector for each text."""
    answer = x.answer or {}
    if x.operation != "embedding":
        return None if isinstance(answer.get("choices"), list) and answer["choices"] else "its answer holds no choices"
    data, asked = answer.get("data"), x.body["input"]
    wanted = len(asked) if isinstance(asked, list) and not isinstance(asked[0], int) else 1
    found = len(data) if isinstance(data, list) else 0
    return None if found == wanted else f"of {wanted} texts it made {found} vectors"


def refusal(name: str, reply: Reply) -> UpstreamRefused:
    """What the client is told when an upstream refuses."""
    try:
        error = orjson.loads(reply.body or b"{}").get("error") or {}
    except (orjson.JSONDecodeError, AttributeError):
        error = {}
    status = _UPSTREAM_STATUS.get(reply.status, 502)
    said = str(error.get("message") or "")
    if reply.status in (401, 403):
        said = "it does not accept the key Fairlead has for it; check `api_key:` of the variant"
    if 300 <= reply.status < 400:
        said = "it points to another address, and none but the one in `model:` of the variant is asked"
    said = hide(said)
    message = f"The model behind {name} refused with status {reply.status}: {said or 'no reason given'}"
    if reply.status == 400 and said:  # the request was at fault, so the reason is all its sender needs
        message = said
    details: dict[str, Any] = {"upstream_status": reply.status}
    if status < 500 and isinstance(error.get("param"), str):
        details["param"] = error["param"]
    wait_s = math.ceil(min(LONGEST_TOLD_S, seconds_of(reply.headers.get("retry-after", ""))))
    if wait_s or status in (429, 503):
        details["retry_after"] = wait_s or 1
    own = error.get("code") if isinstance(error.get("code"), str) and status < 500 else None
    code = own or ("rate_limit_exceeded" if status == 429 else "upstream_refused")
    kind = {429: "rate_limit_error"}.get(status, "invalid_request_error" if status < 500 else "server_error")
    return UpstreamRefused(status=status, code=code, kind=kind, message=message, **details)
