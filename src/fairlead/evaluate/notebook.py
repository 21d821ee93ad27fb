"""What a run has to keep, on its way to the store: many rows at a time, none waits long. Knows no candidate."""

from __future__ import annotations

import asyncio

from fairlead.errors import FairleadError
from fairlead.records import Answered, Result
from fairlead.store.runs import Runs

DELAY_S = 0.2
"""Longest time an answer is only in memory."""


class Notebook:
    """Used by the tasks of one event loop; ``flush`` also when that loop is being torn down."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self._answered: list[Answered] = []
        self._results: list[Result] = []
        self._timer: asyncio.TimerHandle | None = None
        self._writing: asyncio.Task[None] | None = None

    def add(self, row: Answered | Result) -> None:
        """Note a row; it is written a little later. A failed write shows in ``flush``."""
        if isinstance(row, Answered):
            self._answered.append(row)
        else:
            self._results.append(row)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(DELAY_S, self._due)

    def _due(self) -> None:
        self._timer = None
        if self._writing is not None and not self._writing.done():
            self._timer = asyncio.get_running_loop().call_later(DELAY_S, self._due)
        elif self._answered or self._results:
            self._writing = asyncio.create_task(self._write())

    async def _write(self) -> None:
        answered, results = self._answered, self._results
        self._answered, self._results = [], []
        try:
            await asyncio.to_thread(self._runs.add, answered, results)
        except FairleadError:
            # Back to be written again by ``flush``, which tells whoever runs it.
            self._answered[:0], self._results[:0] = answered, results

    async def close(self) -> None:
        """Write everything and wait for it. Raises StoreError."""
        try:
            if self._writing is not None:
                await asyncio.wait({self._writing})
        finally:
            self.flush()

    def flush(self) -> None:
        """Write what is noted, now. Blocks. Raises StoreError."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        answered, results = self._answered, self._results
        self._answered, self._results = [], []
        self._runs.add(answered, results)
