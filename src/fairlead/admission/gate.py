"""Gate: an upstream behind a lane. A call waits here for its turn, and gives its place back when its answer is over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Final

from fairlead.admission.lanes import Lane
from fairlead.providers.base import Call, Pumped, Reply, Upstream

TOO_MUCH: Final = frozenset((429, 503, 529))
"""Statuses with which a model says that it has too much to do."""
MOST_UNSENT: Final = 10_000
"""Where nobody is charged, nobody takes the names of given-up calls out again."""


class Gated:
    """``upstream``, entered through ``lane``. ``unsent`` is told the parents of calls that gave up waiting."""

    def __init__(self, upstream: Upstream, lane: Lane, unsent: set[str]) -> None:
        self.name = upstream.name
        self.upstream = upstream
        self.lane = lane
        self._unsent = unsent

    async def open(self, call: Call) -> Reply:
        """See Upstream. Raises ModelBusy where the wait would be too long."""
        lane, context = self.lane, call.context
        try:
            if not lane.enter_now():
                await lane.enter(context.tenant, context.priority, call.deadline)
        except asyncio.CancelledError:
            if len(self._unsent) >= MOST_UNSENT:
                self._unsent.clear()
            self._unsent.add(context.parent)
            raise
        began = time.monotonic()
        try:
            reply = await self.upstream.open(call)
        except BaseException:
            # Not a sign of too much: how long a client waits is the client's choice, and who is sick is left alone.
            lane.leave(time.monotonic() - began, answered=False)
            raise
        if reply.chunks is not None and reply.status == 200:
            return _Held(reply, lane, began)
        answered = reply.status == 200
        lane.leave(time.monotonic() - began, refused=reply.status in TOO_MUCH, answered=answered)
        return reply

    async def aclose(self) -> None:
        """Close the upstream."""
        await self.upstream.aclose()


class _Held(Reply):
    """A stream that keeps its place until it is closed."""

    __slots__ = ("_began", "_inner", "_lane")

    def __init__(self, inner: Reply, lane: Lane, began: float) -> None:
        assert inner.chunks is not None
        kind = _PumpedChunks if isinstance(inner.chunks, Pumped) else _Chunks
        super().__init__(inner.status, chunks=kind(inner.chunks, lane, began), headers=inner.headers)
        self._inner: Reply | None = inner
        self._lane = lane
        self._began = began

    async def aclose(self) -> None:
        inner, self._inner = self._inner, None
        if inner is None:
            return
        try:
            await inner.aclose()
        finally:
            self._lane.leave(time.monotonic() - self._began)


class _Chunks:
    """The pieces of a stream as they come; the first one says how long the model took to begin."""

    __slots__ = ("_anext", "_began", "_inner", "_lane")

    def __init__(self, inner: AsyncIterator[bytes], lane: Lane, began: float) -> None:
        self._inner = inner
        self._anext: Callable[[], Any] = inner.__anext__
        self._lane: Lane | None = lane
        self._began = began

    def __aiter__(self) -> _Chunks:
        return self

    def __anext__(self) -> Any:
        return self._anext() if self._lane is None else self._first()

    async def _first(self) -> bytes:
        lane, self._lane = self._lane, None
        piece: bytes = await self._anext()
        if lane is not None:
            lane.began(time.monotonic() - self._began)
        return piece

    async def aclose(self) -> None:
        """Stop the stream."""
        close = getattr(self._inner, "aclose", None)
        if close is not None:
            await close()


class _PumpedChunks(_Chunks, Pumped):
    """The same, of a stream that can also be handed on as it arrives."""

    __slots__ = ("_pumped",)

    def __init__(self, inner: Any, lane: Lane, began: float) -> None:
        super().__init__(aiter(inner), lane, began)
        self._pumped: Pumped = inner

    async def pump(self, take: Callable[[bytes], bool]) -> None:
        """See Pumped."""
        await self._pumped.pump(take)

    def resume(self) -> None:
        """See Pumped."""
        self._pumped.resume()
