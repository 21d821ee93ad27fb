"""Spare: the room that live traffic leaves. A batch's request starts only while there is some.

**Of ``places`` at once, every live request in flight takes one away.** Requests that have begun go on to their end, so
live traffic that rises meets at most ``places`` of ours. Knows nothing of batches.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

LOOK_S = 0.02
"""Pause between two looks for room while there is none."""


class Spare:
    """``in_flight`` counts all requests of the process, ours too. All batches of a process share one."""

    def __init__(self, in_flight: Callable[[], int]) -> None:
        self.taken = 0
        self._in_flight = in_flight

    def live(self) -> int:
        """Live requests in flight."""
        return max(0, self._in_flight() - self.taken)

    @asynccontextmanager
    async def place(self, places: int, stop: asyncio.Event) -> AsyncIterator[bool]:
        """A place for one request as soon as there is one of ``places``; False when ``stop`` was set before."""
        while not stop.is_set() and self.taken >= places - self.live():  # noqa: ASYNC110  live traffic tells nobody
            await asyncio.sleep(LOOK_S)
        if stop.is_set():
            yield False
            return
        self.taken += 1
        try:
            yield True
        finally:
            self.taken -= 1
