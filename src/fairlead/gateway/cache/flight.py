"""Flight: one call of a model that several wait for, so that a question asked ten times at once is paid once.

Nobody who waits depends on who came first. Where the first hangs up before there is an answer, the next one asks; where
its call fails, everyone goes on alone, as if nobody had waited. A stream is passed on while it runs: as long as one
alone listens nothing is added to it, and when a second joins, a task of its own reads the model (`Tap`), so that
neither the first one's hanging up nor its slow reading is felt by the others. Knows no keys and no HTTP.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from typing import Final, Literal

from fairlead.errors import ServiceError, UpstreamBroken
from fairlead.gateway.cache.entry import Entry
from fairlead.gateway.route import Route
from fairlead.providers.base import Pumped

LARGEST_STREAM: Final = 4 * 1024 * 1024
"""A longer stream is not kept and takes nobody on."""
LARGEST_SHARED: Final = 16 * 1024 * 1024
"""A shared stream that grows beyond this is broken off: it is in memory for those who are behind."""

Outcome = Entry | Literal["left", "failed"]


class Flight:
    """One call under way. ``tap`` is set when its stream has begun, ``route`` is who answers, ``ends`` its deadline."""

    __slots__ = ("_waiting", "ends", "over", "route", "tap")

    def __init__(self, route: Route, ends: float = math.inf) -> None:
        self.route = route
        self.ends = ends
        self.tap: Tap | None = None
        self.over = False
        self._waiting: set[asyncio.Future[Outcome | Tap]] = set()

    async def outcome(self) -> Outcome | Listener:
        """How the call went, or its stream from the beginning, read by a task of its own from now on."""
        if self.tap is not None:
            return await self.tap.join() or "failed"
        waiter: asyncio.Future[Outcome | Tap] = asyncio.get_running_loop().create_future()
        self._waiting.add(waiter)
        try:
            outcome = await waiter
        finally:
            self._waiting.discard(waiter)
        return await outcome.join() or "failed" if isinstance(outcome, Tap) else outcome

    def begun(self, tap: Tap) -> None:
        """The stream of the call has begun."""
        self.tap = tap
        self._tell(tap)

    def land(self, outcome: Outcome) -> None:
        """The call has ended. Only the first outcome counts."""
        if not self.over:
            self.over = True
            self._tell(outcome)

    def _tell(self, outcome: Outcome | Tap) -> None:
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(outcome)


class Tap:
    """The chunks of one stream, for whoever listens. ``ended`` is called once, when the stream has.

    ``pieces`` are those that came, but for the first ``before``: of a long stream that one alone listens to, only the
    last is kept.
    """

    def __init__(self, chunks: AsyncIterator[bytes], ended: Callable[[Tap], None]) -> None:
        self.pieces: list[bytes] = []
        self.before = 0
        self.size = 0
        self.over = False
        self.error: ServiceError | None = None
        self._chunks = chunks
        self._ended = ended
        self._pump: asyncio.Task[None] | None = None
        self._read = False
        self._closing: asyncio.Task[None] | None = None
        self._pulling = False
        self._handing = False
        self._listeners = 0
        self._wanted = False
        self._news: list[asyncio.Future[None]] = []

    @property
    def whole(self) -> bool:
        """Whether all of the stream is in ``pieces`` and it ended well."""
        return self.over and self.error is None and self.size <= LARGEST_STREAM

    def listen(self, *, first: bool = False) -> Listener:
        """The stream from its beginning. ``first``: for who made the call."""
        self._listeners += 1
        return First(self) if first and isinstance(self._chunks, Pumped) else Listener(self)

    async def join(self) -> Listener | None:
        """The stream from its beginning, for one more; None where it has broken, or is too long to be shared."""
        self._wanted = True
        listener = self.listen()
        try:
            while self._pump is None and not self.over and self.size <= LARGEST_STREAM:
                if self._handing:  # goes on with whoever is left, so it needs no task while the first is there
                    self.resume()
                    break
                if not self._pulling:
                    self._start()
                else:  # who waits for a piece would break the stream by leaving: not before it is there
                    await self.news()
        except BaseException:
            await listener.aclose()
            raise
        if self.error is not None or self.before:
            await listener.aclose()
            return None
        return listener

    async def news(self) -> None:
        """Return when another piece has come or the stream has ended."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._news.append(waiter)
        await waiter

    async def pull(self) -> bool:
        """Read one piece for who listens alone; False when another now reads, or the stream has ended."""
        if self._pump is not None or self._handing or self._pulling or self.over:
            return False
        self._pulling = True
        try:
            piece = await anext(self._chunks)
        except StopAsyncIteration:
            self._pulling = False
            self._finish(None)
            return False
        except BaseException as error:
            self._pulling = False
            self._finish(error)
            raise
        self._pulling = False
        self._add(piece)
        if self._wanted and self._pump is None:
            self._start()
        return True

    async def hand_on(self, take: Callable[[bytes], bool]) -> bool:
        """Give ``take`` all that is left, as it arrives; False where somebody else reads already. See Pumped.pump.

        When the first leaves and others listen, a task takes over: what comes in between waits in the connection.
        """
        chunks = self._chunks
        if self._pump is not None or self.over or not isinstance(chunks, Pumped):
            return False

        def tee(data: bytes) -> bool:
            self._add(data)
            if self._listeners > 1 and self.size > LARGEST_SHARED:
                raise UpstreamBroken(name="the model", detail="its stream is too long to be shared")
            return take(data) or self._listeners > 1  # one slow reader holds up nobody else

        self._handing = True
        try:
            await chunks.pump(tee)
        except asyncio.CancelledError as error:
            if self._listeners > 1:
                self._start()
            else:
                self._finish(error)
            raise
        except BaseException as error:
            self._finish(error)
            raise
        finally:
            self._handing = False
        self._finish(None)
        return True

    def resume(self) -> None:
        """More may come."""
        if isinstance(self._chunks, Pumped):
            self._chunks.resume()

    async def leave(self) -> None:
        """One listener has gone; with the last one the stream ends."""
        self._listeners -= 1
        if self._listeners > 0:
            return
        self._finish(asyncio.CancelledError())
        if self._pump is None:
            await _close(self._chunks)
        else:  # not waited for: a request that has been answered must not wait again, it would be taken for hung up
            self._pump.cancel()

    def _start(self) -> None:
        self._pump = asyncio.get_running_loop().create_task(self._run())
        self._pump.add_done_callback(self._close_late)
        self._tell()

    def _close_late(self, pump: asyncio.Task[None]) -> None:
        if not self._read:  # stopped before it began, so nothing in it has run
            self._closing = asyncio.get_running_loop().create_task(_close(self._chunks))

    async def _run(self) -> None:
        self._read = True
        try:
            async for piece in self._chunks:
                self._add(piece)
                if self.size > LARGEST_SHARED:
                    raise UpstreamBroken(name="the model", detail="its stream is too long to be shared")
        except BaseException as error:
            self._finish(error)
            if not isinstance(error, Exception):
                raise
        else:
            self._finish(None)
        finally:
            await _close(self._chunks)

    def _add(self, piece: bytes) -> None:
        self.size += len(piece)
        if self.size > LARGEST_STREAM and self._listeners <= 1:  # who listens alone has had the others
            self.before += len(self.pieces)
            self.pieces = []
        self.pieces.append(piece)
        if self._news:
            self._tell()

    def _finish(self, error: BaseException | None) -> None:
        if self.over:
            return
        self.over = True
        if error is not None:
            broken = UpstreamBroken(name="the model", detail="its stream broke off")
            self.error = error if isinstance(error, ServiceError) else broken
        self._tell()
        self._ended(self)

    def _tell(self) -> None:
        told, self._news = self._news, []
        for waiter in told:
            if not waiter.done():
                waiter.set_result(None)


class Listener:
    """One who listens to a tap; an asynchronous iterator of its pieces."""

    __slots__ = ("_place", "_tap")

    def __init__(self, tap: Tap) -> None:
        self._tap: Tap | None = tap
        self._place = 0

    def __aiter__(self) -> Listener:
        return self

    async def __anext__(self) -> bytes:
        tap = self._tap
        if tap is None:
            raise StopAsyncIteration
        while True:
            place = self._place - tap.before
            if place < len(tap.pieces):
                self._place += 1
                return tap.pieces[place]
            if tap.over:
                if tap.error is not None:
                    raise type(tap.error)(**tap.error.details)
                raise StopAsyncIteration
            if not await tap.pull() and not tap.over:
                await tap.news()

    async def aclose(self) -> None:
        """Listen no more. Idempotent."""
        tap, self._tap = self._tap, None
        if tap is not None:
            await tap.leave()


class First(Listener, Pumped):
    """Who made the call of a stream that can be handed on without waking a task for every piece."""

    __slots__ = ("_drained",)

    def __init__(self, tap: Tap) -> None:
        super().__init__(tap)
        self._drained: asyncio.Event | None = None

    async def pump(self, take: Callable[[bytes], bool]) -> None:
        """See Pumped."""
        tap = self._tap
        if tap is None:
            return
        while self._place < tap.before + len(tap.pieces):
            take(await anext(self))
        if await tap.hand_on(take):
            return
        self._drained = asyncio.Event()
        async for piece in self:
            self._drained.clear()
            if not take(piece):
                await self._drained.wait()

    def resume(self) -> None:
        """See Pumped."""
        if self._drained is not None:
            self._drained.set()
        elif self._tap is not None:
            self._tap.resume()


async def _close(chunks: AsyncIterator[bytes]) -> None:
    close = getattr(chunks, "aclose", None)
    if close is not None:
        await close()
