"""Telling those who listen that something was stored, by this process or another: one cheap look for all of them.

The store has a number that changes with every commit. While anyone listens, it is read every EVERY_S; only when it
has changed are the news read, and only those whose conversation is in them are woken. Knows nothing of HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Callable

from fairlead.errors import StoreError
from fairlead.store import Store
from fairlead.store.news import MOST

EVERY_S = 0.3
SWEEP_S = 2.0
"""How often ``sweep`` is called while anyone listens."""
EVERYTHING = ""
"""Listen to this to be woken by every commit."""

log = logging.getLogger(__name__)


class Pulse:
    """One task that looks, any number of listeners. Call it from one event loop."""

    def __init__(self, store: Store, sweep: Callable[[], None], *, every_s: float = EVERY_S) -> None:
        self._store = store
        self._sweep = sweep
        self._every_s = every_s
        self._listeners: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._task: asyncio.Task[None] | None = None

    @contextlib.asynccontextmanager
    async def listen(self, conversation: str) -> AsyncIterator[asyncio.Event]:
        """An event that is set whenever there is news of a conversation; the listener clears it before it looks."""
        event = asyncio.Event()
        self._listeners[conversation].add(event)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._look())
        try:
            yield event
        finally:
            self._listeners[conversation].discard(event)
            if not self._listeners[conversation]:
                del self._listeners[conversation]

    async def _look(self) -> None:
        news, seen, last, swept = self._store.news, -1, -1, 0.0
        loop = asyncio.get_running_loop()
        while self._listeners:
            try:
                change = await asyncio.to_thread(news.change)
                if change != seen and last < 0:
                    last = await asyncio.to_thread(news.last)
                    seen = change
                    self._wake(set(self._listeners))  # what came between their own look and this one
                elif change != seen:
                    lines = await asyncio.to_thread(news.after, last)
                    last = lines[-1].sequence if lines else last
                    seen = change if len(lines) < MOST else -1
                    self._wake({line.conversation for line in lines} | {EVERYTHING})
                if loop.time() - swept >= SWEEP_S:
                    swept = loop.time()
                    await asyncio.to_thread(self._sweep)
            except StoreError as error:
                log.warning("news cannot be read now: %s", error)
            await asyncio.sleep(self._every_s)

    def _wake(self, names: set[str]) -> None:
        for name in names:
            for event in self._listeners.get(name, ()):
                event.set()

    async def aclose(self) -> None:
        """Stop looking."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


async def woken(event: asyncio.Event, beat_s: float) -> bool:
    """Wait for news at most ``beat_s`` seconds; False when there was none."""
    try:
        async with asyncio.timeout(beat_s):
            await event.wait()
    except TimeoutError:
        return False
    event.clear()
    return True
