"""Lanes: how many calls one model has at once, and who goes next when it has enough. Knows no HTTP and no money.

The number a model takes is found out (additive increase, multiplicative decrease; Chiu and Jain 1989): it grows while
all places are taken and answers begin in time, and shrinks when the model refuses or answers begin late. Those who wait
go by priority, then by fair turns of their tenants (start-time fair queueing; Goyal, Vin and Cheng 1996). Nobody waits
who would wait too long: the queue is bounded by predicted time, not by length.
"""

from __future__ import annotations

import asyncio
import math
from bisect import bisect_left, insort
from collections.abc import Callable, Mapping
from typing import Final

from fairlead.errors import ModelBusy
from fairlead.records import Priority

RANKS: Final[Mapping[Priority, int]] = {"interactive": 0, "standard": 1, "batch": 2}
CUT: Final = 0.7
"""What is left of the limit after a sign of too much."""
LATE_S: Final = 1.0
LATE_FACTOR: Final = 5.0
"""An answer begins late after a second, and five times what is usual when the model has little to do."""
USUAL_DOUBLES_S: Final = 600.0
"""What is usual follows quicker beginnings at once, and slower ones so slowly that a queue of minutes stays unusual."""
FIRST_SERVICE_S: Final = 1.0
MOST_TENANTS: Final = 1_000


class Waiter:
    """One call that waits, ordered by rank, then by turn."""

    __slots__ = ("go", "order", "tenant")

    def __init__(self, order: tuple[int, float, int], tenant: str, go: asyncio.Future[None]) -> None:
        self.order = order
        self.tenant = tenant
        self.go = go


class Lane:
    """The places of one model. Used on one event loop.

    ``start`` places at first, between ``least`` and ``most`` later; ``longest_wait_s`` bounds the predicted wait of all
    but batch work, which waits as long as its deadline lets it; ``weights`` are tenants' shares, 1 where none is given.
    """

    def __init__(
        self,
        name: str,
        *,
        start: float,
        least: int = 1,
        most: int = 10_000,
        longest_wait_s: float = 10.0,
        weights: Mapping[str, float] | None = None,
        clock: Callable[[], float],
    ) -> None:
        self.name = name
        self.limit = start
        self.busy = 0
        self.service_s = FIRST_SERVICE_S
        self._least, self._most = least, most
        self._longest_wait_s = longest_wait_s
        self._weights = weights or {}
        self._clock = clock
        self._waiting: list[Waiter] = []
        self._arrivals = 0
        self._turn = [0.0] * len(RANKS)
        self._last: list[dict[str, float]] = [{} for _ in RANKS]
        self._usual_s = math.inf
        self._usual_at = 0.0
        self._cut_at = -math.inf
        self._in = [0] * len(RANKS)
        self._gap_s = [0.0] * len(RANKS)
        self._went_at: list[float | None] = [None] * len(RANKS)

    @property
    def waiting(self) -> int:
        """How many calls wait."""
        return len(self._waiting)

    def enter_now(self) -> bool:
        """Take a place if one is free and nobody waits for it."""
        if self.busy >= int(self.limit) or self._waiting:
            return False
        self.busy += 1
        return True

    async def enter(self, tenant: str, priority: Priority, deadline: float) -> None:
        """Take a place, now or when it is one's turn. Raises ModelBusy instead of waiting too long."""
        if self.enter_now():
            return
        rank = RANKS[priority]
        tag = max(self._turn[rank], self._last[rank].get(tenant, 0.0)) + 1.0 / self._weights.get(tenant, 1.0)
        order = (rank, tag, self._arrivals)
        self._refuse_long(self.wait_s(rank, bisect_left(self._waiting, order, key=_order)), rank, deadline)
        self._arrivals += 1
        self._in[rank] += 1
        self._last[rank][tenant] = tag
        waiter = Waiter(order, tenant, asyncio.get_running_loop().create_future())
        insort(self._waiting, waiter, key=_order)
        try:
            await waiter.go
        except asyncio.CancelledError:
            if waiter.go.done() and not waiter.go.cancelled():
                self._free()  # the place came too late
            elif waiter in self._waiting:
                self._waiting.remove(waiter)
                self._in[rank] -= 1
            raise

    def wait_s(self, rank: int, ahead: int) -> float:
        """Predicted seconds until a place is free for one of ``rank`` with ``ahead`` waiting before.

        Those of its own rank go as fast as they went lately, which counts who overtook them; higher ones as places
        become free.
        """
        free_every = self.service_s / max(1.0, self.limit)
        above = sum(self._in[:rank])
        return above * free_every + (ahead - above + 1) * max(free_every, self._gap_s[rank])

    def _refuse_long(self, wait: float, rank: int, deadline: float) -> None:
        left = deadline - self._clock()
        longest = left if rank == RANKS["batch"] else min(left, self._longest_wait_s)
        if wait > longest:
            raise ModelBusy(name=self.name, waiting=len(self._waiting), retry_after=max(1, math.ceil(wait - longest)))

    def began(self, seconds: float) -> None:
        """An answer's first words came after ``seconds``."""
        now = self._clock()
        risen = self._usual_s * 2.0 ** min(64.0, (now - self._usual_at) / USUAL_DOUBLES_S)
        self._usual_s, self._usual_at = min(seconds, risen), now
        if seconds > max(LATE_S, LATE_FACTOR * self._usual_s):
            self._cut(now, now - seconds)

    def leave(self, seconds: float, *, refused: bool = False, answered: bool = True) -> None:
        """Give the place back after ``seconds``. ``refused``: the model has too much to do."""
        if refused:
            now = self._clock()
            self._cut(now, now - seconds)
        elif answered:
            self.service_s += 0.1 * (seconds - self.service_s)
            if self.busy >= int(self.limit):
                self.limit = min(self._most, self.limit + 1.0 / self.limit)
        self._free()

    def _cut(self, now: float, asked_at: float) -> None:
        if asked_at >= self._cut_at:  # what was asked before the last cut says nothing of what it changed
            self._cut_at = now
            self.limit = max(self._least, min(self.limit, self.busy) * CUT)

    def _free(self) -> None:
        self.busy -= 1
        while self._waiting and self.busy < int(self.limit):
            waiter = self._waiting.pop(0)
            rank, tag, _ = waiter.order
            self._in[rank] -= 1
            self._turn[rank] = tag
            if not waiter.go.done():
                self._time(rank)
                self.busy += 1
                waiter.go.set_result(None)
        if not self._waiting and sum(map(len, self._last)) > MOST_TENANTS:
            self._last = [{} for _ in RANKS]  # nobody waits, so nobody has had a turn before another

    def _time(self, rank: int) -> None:
        """Note how long after the one before it one of ``rank`` goes, while others of it go on waiting."""
        now, before = self._clock(), self._went_at[rank]
        if before is not None:
            self._gap_s[rank] += 0.05 * (now - before - self._gap_s[rank])
        self._went_at[rank] = now if self._in[rank] else None


def _order(waiter: Waiter) -> tuple[int, float, int]:
    return waiter.order
