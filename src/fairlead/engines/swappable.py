"""Swappable: an engine that is replaced while it serves, as for a new adapter, and nobody notices.

Blue and green: the new engine is started beside the old one, takes the calls once it answers, and the old one is
stopped when the calls it has are done. If the new one does not come up, nothing has changed. For a moment both are in
memory. Knows no engine in particular.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from fairlead.engines.base import Engine, Health
from fairlead.errors import UpstreamUnreachable
from fairlead.providers.base import Call, Reply, Upstream


class Swappable:
    """``engine``, until ``swap`` puts another in its place."""

    def __init__(self, engine: Engine) -> None:
        self.name = engine.name
        self._engine = engine
        self._turn = asyncio.Lock()

    async def start(self) -> None:
        """As the engine's."""
        await self._engine.start()

    async def stop(self) -> None:
        """As the engine's; a swap that is under way ends first."""
        async with self._turn:
            await self._engine.stop()

    def health(self) -> Health:
        """That of the engine that takes calls."""
        return self._engine.health()

    def upstream(self) -> Upstream:
        """Where to send calls; stays the same over swaps."""
        return _Current(self)

    async def swap(self, fresh: Engine, switched: Callable[[], None] = lambda: None) -> None:
        """Start ``fresh``, give it the calls, call ``switched``, let the old one finish its own, stop it.

        Raises what ``fresh`` raises when it cannot start; the old one then serves on.
        """
        async with self._turn:
            try:
                await fresh.start()
            except BaseException:
                await fresh.stop()
                raise
            old, self._engine = self._engine, fresh
            switched()
            await old.stop()

    async def open(self, call: Call) -> Reply:
        """Send a call to the engine that takes them now."""
        while True:
            engine = self._engine
            try:
                return await engine.upstream().open(call)
            except UpstreamUnreachable:
                if engine is self._engine:  # else it was replaced between the two lines above
                    raise


class _Current:
    """The upstream of a Swappable engine."""

    def __init__(self, engine: Swappable) -> None:
        self.name = engine.name
        self._engine = engine

    async def open(self, call: Call) -> Reply:
        return await self._engine.open(call)

    async def aclose(self) -> None:
        """The engine's stop closes what there is."""
