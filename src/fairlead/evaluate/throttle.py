"""How many calls of one candidate run at once: as many as allowed, fewer while its provider says it is busy.

Halved when a provider refuses for its load, one more after as many answers as run at once (the rule of TCP:
V. Jacobson, SIGCOMM 1988). Knows no model; times are of the event loop.
"""

from __future__ import annotations

import asyncio


class Throttle:
    """For workers numbered from 0, of which those below ``allowed`` may work. Used by the tasks of one event loop."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.allowed = most
        self._until = 0.0
        self._streak = 0
        self._changed = asyncio.Event()
        self._open = True

    async def turn(self, worker: int) -> None:
        """Wait until ``worker`` may make a call, or until everything is over."""
        loop = asyncio.get_running_loop()
        while self._open:
            if worker < self.allowed:
                wait = self._until - loop.time()
                if wait <= 0:
                    return
                await asyncio.sleep(wait)
            else:
                self._changed.clear()
                await self._changed.wait()

    def begin(self, most: int) -> None:
        """Something is to be asked again, at most so much at once; what was learnt of the provider holds on."""
        self.most = most
        self.allowed = max(1, min(self.allowed, most))
        self._open = True

    def went_well(self) -> None:
        """A call was answered."""
        self._streak += 1
        if self.allowed < self.most and self._streak >= self.allowed:
            self._streak = 0
            self.allowed += 1
            self._changed.set()

    def was_busy(self, wait_s: float) -> None:
        """The provider refused for its load and wants to be left alone so long."""
        self._streak = 0
        self.allowed = max(1, self.allowed // 2)
        self._until = max(self._until, asyncio.get_running_loop().time() + wait_s)

    def over(self) -> None:
        """There is nothing left to ask: let every worker go."""
        self._open = False
        self._changed.set()
