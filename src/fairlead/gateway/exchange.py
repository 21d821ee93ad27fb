"""Exchange: one request on its way, from the first header to its record. Mutable, owned by one task at a time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from fairlead.errors import ServiceError
from fairlead.gateway.fold import Folded
from fairlead.gateway.keyring import Principal
from fairlead.gateway.relay import Relay
from fairlead.gateway.route import Route
from fairlead.providers.base import CallContext, Operation, Reply
from fairlead.records import Priority, now_us

Step = Callable[["Exchange"], Awaitable[None]]
"""A step of the request path that another room supplies. It may change the exchange, set ``reply`` (then no model is
called, and ``recalled`` says where it is from) or refuse by raising a ServiceError."""

clock = time.perf_counter_ns


class Usage(msgspec.Struct, frozen=True):
    """Tokens read, written, and of those read the cached; ``estimated`` where the model did not say, or said what
    cannot be (``disbelieved``).
    """

    input: int = 0
    output: int = 0
    cached: int = 0
    estimated: bool = False
    disbelieved: bool = False


class Shown(msgspec.Struct):
    """What the records show of a request and its answer, masked, once it was worked out for the first of many."""

    finish: str
    input: str | None = None
    output: str | None = None


class Known(msgspec.Struct, kw_only=True):
    """A request body that came before, byte by byte, and all that was read out of it. Nothing in it may be changed."""

    principal: Principal
    body: dict[str, Any]
    sent: dict[str, Any]
    stream: bool
    subject: str
    route: Route
    key: bytes
    entry: Any
    shown: Shown
    size: int


class Exchange(msgspec.Struct, eq=False):
    """One request. ``body`` is what the client sent, ``sent`` what goes to the model; ``steps`` are microseconds.

    ``raw`` is the body as it came over HTTP; ``known``, ``lookup`` and ``shown`` are the cache's.
    ``tags`` go into the record, ``headers`` to an HTTP client, with an answer or an error. ``recalled`` is how an
    answer was found that no model was called for, empty for others; ``afterwards`` are told when the last byte has gone
    or the request has failed, in order; they must not raise.
    ``enter`` is told, before a model is asked, whom; it may refuse with a ServiceError.
    ``route`` is who answers, ``named`` whom the client asked for where that one only chose. ``answer`` is the decoded
    reply of a call that does not stream, ``folded`` what a stream said (``usage.folded_of`` puts it together);
    ``marks`` are the times (of ``clock``) at which the pieces arrived that ``relay`` captured. ``hung_up``: if it is
    cancelled, then by who asked.
    """

    id: str
    operation: Operation
    context: CallContext
    timeout_s: float
    principal: Principal | None = None
    body: dict[str, Any] = {}
    authorization: bytes = b""
    sent: dict[str, Any] = {}
    receive: Callable[[], Awaitable[bytes]] | None = None
    subject: str = ""
    stream: bool = False
    enter: Callable[[Exchange, Route], Awaitable[None]] | None = None
    route: Route | None = None
    named: Route | None = None
    candidates: tuple[Route, ...] = ()
    reply: Reply | None = None
    answer: dict[str, Any] | None = None
    relay: Relay | None = None
    folded: Folded | None = None
    marks: list[int] = []
    error: ServiceError | None = None
    headers: tuple[tuple[bytes, bytes], ...] = ()
    priority: Priority = "standard"
    hung_up: bool = True
    recalled: str = ""
    raw: bytes = b""
    cache_control: bytes = b""
    known: Known | None = None
    lookup: Any = None
    shown: Shown | None = None
    afterwards: list[Callable[[Exchange], None]] = []
    steps: dict[str, int] = {}
    tags: dict[str, str] = {}
    total_us: int = 0
    usage: Usage | None = None
    deadline: float = 0.0
    time: int = 0
    started: int = 0
    _mark: int = 0

    def __post_init__(self) -> None:
        self.deadline = asyncio.get_running_loop().time() + self.timeout_s
        self.sent = self.body
        self.subject = self.context.subject
        self.priority = self.context.priority
        self.time = now_us()
        self.started = self._mark = clock()

    def read_raw(self, receive: Callable[[], Awaitable[bytes]]) -> None:
        """Take the body from ``receive`` when it is known who asks; a cancellation is ours until told otherwise."""
        self.receive = receive
        self.hung_up = False

    def mark(self, step: str) -> None:
        """Note that ``step`` has just ended."""
        now = clock()
        self.steps[step] = (now - self._mark) // 1000
        self._mark = now

    def elapsed_us(self) -> int:
        """Microseconds since the request arrived."""
        return (clock() - self.started) // 1000

    async def close(self) -> None:
        """Let go of the upstream; a stream that still runs is cancelled there."""
        if self.reply is not None:
            await self.reply.aclose()
