"""The upstream of an engine that is a supervised process: always the running one, and a bounded number of calls.

An engine restarts at another address, so whoever holds this upstream keeps it and each call goes to the process that
runs now. Knows no engine in particular.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from fairlead.engines.supervisor import Supervisor
from fairlead.errors import UpstreamBroken, UpstreamTimeout, UpstreamUnreachable
from fairlead.providers.base import Call, Reply, Upstream

TRIES: Final = 5
PATIENCE_S: Final = 2.0
"""A call waits this long for an engine that is being restarted."""


class ServedUpstream:
    """Passes calls to ``connect(address)`` of the process that runs, at most ``at_once`` of them at a time.

    The rest wait here, where waiting and giving up cost nothing; a call inside the engine holds one of its threads.
    """

    def __init__(self, supervisor: Supervisor, connect: Callable[[str], Upstream], *, at_once: int) -> None:
        self.name = supervisor.name
        self._supervisor = supervisor
        self._connect = connect
        self._places = asyncio.Semaphore(at_once)
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._draining = False
        self._generation = 0
        self._current: Upstream | None = None
        self._retired: list[Upstream] = []

    async def open(self, call: Call) -> Reply:
        """Send the call; one that arrives during a restart waits for its end a moment.

        Raises UpstreamUnreachable while the engine is not ready, else as the Upstream behind does.
        """
        await self._back(call)
        self._ready()
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout_at(call.deadline):
                await self._places.acquire()
        except TimeoutError as error:
            raise UpstreamTimeout(name=self.name, seconds=loop.time() - began) from error
        place = _Place(self._leave)
        self._running += 1
        self._idle.clear()
        try:
            reply = await self._open(call)
        except BaseException:
            place.leave()
            raise
        if reply.chunks is None:
            place.leave()
            return reply
        return _PlacedReply(reply, place)

    async def _open(self, call: Call) -> Reply:
        """Send the call, again if it did not arrive while the process is well: a model's answer has no side effect.

        llama.cpp closes kept connections when it likes, and several of those we hold may be closed at once.
        """
        tries = 0
        while True:
            try:
                return await self._begun(await self._ready().open(call))
            except UpstreamUnreachable:
                tries += 1
                if tries == TRIES:
                    raise
                await asyncio.sleep(0.01 * tries)
                await self._back(call)
                self._ready()  # raises, with the reason, when it was the process that went away

    async def _begun(self, reply: Reply) -> Reply:
        """``reply``, once a piece of it has come. Raises UpstreamUnreachable for a stream that breaks before: its
        client has been told nothing, so that the call may be sent again.
        """
        arrive = getattr(reply.chunks, "arrive", None)
        if arrive is not None:
            try:
                await arrive()
            except UpstreamBroken as error:
                await reply.aclose()
                raise UpstreamUnreachable(name=self.name, detail="it broke off before it began") from error
            except BaseException:
                await reply.aclose()
                raise
        return reply

    async def _back(self, call: Call) -> None:
        """Wait out a short restart, within the call's deadline."""
        left = call.deadline - asyncio.get_running_loop().time()
        await self._supervisor.back(min(PATIENCE_S, left))

    async def drain(self, seconds: float) -> None:
        """Take no more calls and wait until those that run have ended, at most ``seconds``."""
        self._draining = True
        try:
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        except TimeoutError:
            return

    def reopen(self) -> None:
        """Take calls again, after ``drain``."""
        self._draining = False

    async def aclose(self) -> None:
        """Close pooled connections, those to earlier processes too. Idempotent."""
        current, self._current = self._current, None
        retired, self._retired = self._retired, []
        for upstream in (*retired, *([current] if current else [])):
            await upstream.aclose()

    def _ready(self) -> Upstream:
        """The upstream of the process that runs now."""
        health = self._supervisor.health()
        if self._draining or health.state != "ready":
            detail = "it is stopping" if self._draining else (health.detail or f"it is {health.state}").splitlines()[0]
            raise UpstreamUnreachable(name=self.name, detail=detail)
        if self._current is None or self._generation != self._supervisor.generation:
            # Not closed yet: a stream from the process that died may still be telling its reader so.
            if self._current is not None:
                self._retired.append(self._current)
            self._current = self._connect(self._supervisor.address)
            self._generation = self._supervisor.generation
        return self._current

    def _leave(self) -> None:
        self._places.release()
        self._running -= 1
        if not self._running:
            self._idle.set()


class _Place:
    """One of the places in the engine; left once however often it is said."""

    __slots__ = ("_leave",)

    def __init__(self, leave: Callable[[], None]) -> None:
        self._leave: Callable[[], None] | None = leave

    def leave(self) -> None:
        leave, self._leave = self._leave, None
        if leave is not None:
            leave()


class _PlacedReply(Reply):
    """A stream that leaves its place when it is closed; the chunks pass untouched."""

    __slots__ = ("_inner", "_place")

    def __init__(self, inner: Reply, place: _Place) -> None:
        super().__init__(inner.status, chunks=inner.chunks, headers=inner.headers)
        self._inner = inner
        self._place = place

    async def aclose(self) -> None:
        try:
            await self._inner.aclose()
        finally:
            self._place.leave()
