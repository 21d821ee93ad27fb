"""Deadlines by the thousand: coarse timers that share one timer of the event loop.

Nearly every deadline is cancelled long before it passes. A timer of the loop for each of them (asyncio.timeout, the
HTTP client's own) costs some 10 µs a request; an entry in a set that is looked through TICK_S apart costs almost
nothing. The price is precision: what is due happens up to TICK_S late. Knows no requests.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from types import TracebackType

TICK_S = 0.05


def _nothing() -> None:
    pass


class Handle:
    """Something to run at ``when``, unless cancelled."""

    __slots__ = ("_entries", "run", "when")

    def __init__(self, when: float, run: Callable[[], None], entries: set[Handle]) -> None:
        self.when = when
        self.run = run
        self._entries = entries

    def cancel(self) -> None:
        """Do not run it. Idempotent. Forgets what to run, so that it and its owner do not keep each other alive."""
        self._entries.discard(self)
        self.run = _nothing


class Wheel:
    """The coarse timers of one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)
        self._entries: set[Handle] = set()
        self._ticking = False

    def call_at(self, when: float, run: Callable[[], None]) -> Handle:
        """Run something at a time of the loop, or up to TICK_S later."""
        handle = Handle(when, run, self._entries)
        self._entries.add(handle)
        if not self._ticking:
            self._ticking = True
            self._schedule()
        return handle

    def turns(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Whether it is the wheel of ``loop``."""
        return self._loop() is loop

    def _schedule(self) -> None:
        loop = self._loop()
        if loop is not None:
            loop.call_later(TICK_S, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._entries:
            self._ticking = False
            return
        now = loop.time()
        for handle in [handle for handle in self._entries if handle.when <= now]:
            run = handle.run
            handle.cancel()
            run()
        self._schedule()


_wheels: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Wheel] = weakref.WeakKeyDictionary()
_latest: Wheel | None = None
"""The one asked for last: where a process has one loop, always the right one."""


def wheel() -> Wheel:
    """The wheel of the running loop."""
    global _latest
    loop, latest = asyncio.get_running_loop(), _latest
    if latest is not None and latest.turns(loop):
        return latest
    found = _wheels.get(loop)
    if found is None:
        found = _wheels[loop] = Wheel(loop)
    _latest = found
    return found


class Until:
    """``with Until(when):`` cancels what runs inside once ``when`` (a time of the loop) has passed, and makes of that
    cancellation a TimeoutError, as asyncio.timeout_at does. Not to be entered twice.
    """

    __slots__ = ("_cancelling", "_expired", "_handle", "_task", "_when")

    def __init__(self, when: float) -> None:
        self._when = when
        self._expired = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a deadline needs a task to cancel")
        self._task = task
        self._cancelling = task.cancelling()
        self._handle = wheel().call_at(self._when, self._expire)

    def sooner(self, when: float) -> None:
        """End it at ``when``, if that is before. Only inside."""
        if when < self._when:
            self._when = when
            self._handle.cancel()
            self._handle = wheel().call_at(when, self._expire)

    def _expire(self) -> None:
        self._expired = True
        self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._handle.cancel()
        if self._expired and self._task.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise TimeoutError from error
