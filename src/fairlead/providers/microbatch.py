"""MicroBatcher: what is asked at nearly the same time is computed together, and each gets its own result.

What Triton calls dynamic batching. Nothing waits longer than it is told to: with a delay of 0 only what has arrived
within the same turn of the event loop goes together. Knows nothing of what is computed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class MicroBatcher(Generic[Item, Result]):
    """``compute`` is given the items of one batch and returns, in their order, a result or an error for each; what it
    raises, all of them get. A batch holds at most ``max_batch_size``; its first item waits at most
    ``max_queue_delay_s`` seconds. Used by the tasks of one event loop.

    What waits is bounded by who asks: an item is let go of when its caller is cancelled, and a batch that nobody waits
    for any more is cancelled.
    """

    def __init__(
        self,
        compute: Callable[[list[Item]], Awaitable[Sequence[Result | Exception]]],
        *,
        max_batch_size: int,
        max_queue_delay_s: float = 0.0,
    ) -> None:
        self._compute = compute
        self._most = max_batch_size
        self._delay_s = max_queue_delay_s
        self._open: dict[Hashable, _Batch[Item, Result]] = {}

    async def ask(self, item: Item, *, size: int = 1, key: Hashable = None) -> Result:
        """The result of ``item``, which counts as ``size``; only items of equal ``key`` go together. One that is
        larger than a batch may be goes alone. Raises the item's error.
        """
        batch = self._open.get(key)
        if batch is not None and batch.size + size > self._most:
            self._send(key, batch)
            batch = None
        if batch is None:
            batch = self._open[key] = _Batch()
            loop = asyncio.get_running_loop()
            if self._delay_s:
                batch.due = loop.call_later(self._delay_s, self._send, key, batch)
            else:
                batch.due = loop.call_soon(self._send, key, batch)
        waiter = batch.add(item, size)
        if batch.size >= self._most:
            self._send(key, batch)
        try:
            outcome = await waiter
        except asyncio.CancelledError:
            if batch.abandoned:
                self._send(key, batch)
            raise
        if isinstance(outcome, Exception):
            try:
                raise outcome
            finally:  # its traceback holds this frame: neither may hold the other, nor what holds it
                del outcome, waiter, batch
        return outcome

    def _send(self, key: Hashable, batch: _Batch[Item, Result]) -> None:
        """Take no more into ``batch`` and have it computed, or stop that where nobody waits for it."""
        if self._open.get(key) is batch:
            del self._open[key]
        if batch.due is not None:
            batch.due.cancel()
            batch.due = None
        if batch.abandoned:
            if batch.task is not None:
                batch.task.cancel()
        elif batch.task is None:
            batch.task = asyncio.get_running_loop().create_task(batch.run(self._compute))


class _Batch(Generic[Item, Result]):
    """Items that go together, and who waits for each. ``due`` is when it is sent, None once it was."""

    __slots__ = ("_waiting", "due", "size", "task")

    def __init__(self) -> None:
        self._waiting: list[tuple[Item, asyncio.Future[Result | Exception]]] = []
        self.due: asyncio.Handle | None = None
        self.size = 0
        self.task: asyncio.Task[None] | None = None

    def add(self, item: Item, size: int) -> asyncio.Future[Result | Exception]:
        """What the item's outcome will be put in: an error too, so that none is lost with a caller that leaves."""
        waiter: asyncio.Future[Result | Exception] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, waiter))
        self.size += size
        return waiter

    @property
    def abandoned(self) -> bool:
        """Whether nobody waits for an outcome."""
        return all(waiter.done() for _, waiter in self._waiting)

    async def run(self, compute: Callable[[list[Item]], Awaitable[Sequence[Result | Exception]]]) -> None:
        """Give everybody who still waits an outcome."""
        waiting = [(item, waiter) for item, waiter in self._waiting if not waiter.done()]
        if not waiting:  # they left in the very turn in which it was sent
            return
        try:
            outcomes = await _outcomes_of(compute, [item for item, _ in waiting])
        except asyncio.CancelledError:
            for _, waiter in waiting:
                waiter.cancel()
            raise
        for (_, waiter), outcome in zip(waiting, outcomes, strict=True):
            if not waiter.done():
                waiter.set_result(outcome)
        del outcomes, outcome, waiter, waiting  # an error's traceback can hold this frame, which must not hold it
        self._waiting = []


async def _outcomes_of(
    compute: Callable[[list[Item]], Awaitable[Sequence[Result | Exception]]], items: list[Item]
) -> Sequence[Result | Exception]:
    """What ``compute`` returns, or what it raises for each."""
    try:
        outcomes = await compute(items)
        if len(outcomes) != len(items):
            raise ValueError(f"{len(outcomes)} results for {len(items)} items")
    except Exception as error:  # noqa: BLE001 - told to those who wait, whatever it is
        return [error] * len(items)
    return outcomes
