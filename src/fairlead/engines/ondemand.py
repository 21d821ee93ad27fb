"""OnDemand: an engine that is unloaded when nobody asks it for a while, and loaded again by the next call.

Stands around any engine whose start and stop cost memory. A call that wakes it waits for it, within its deadline.
Knows no engine in particular.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from fairlead.engines.base import Engine, Health
from fairlead.errors import FairleadError, UpstreamTimeout, UpstreamUnreachable
from fairlead.providers.base import Call, Reply, Upstream

log = logging.getLogger(__name__)


class OnDemand:
    """``engine``, unloaded after ``idle_s`` seconds without a call. ``wakes`` counts how often a call loaded it."""

    def __init__(self, engine: Engine, idle_s: float) -> None:
        self.name = engine.name
        self.wakes = 0
        self._engine = engine
        self._idle_s = idle_s
        self._running = 0
        self._asleep = False
        self._stopped = True
        self._turn = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None
        self._loads: set[asyncio.Task[None]] = set()
        self._unloads: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """As the engine's. Loaded at first, so that a model that cannot run is known at once."""
        async with self._turn:
            await self._engine.start()
            self._asleep = self._stopped = False
        self._rest()

    async def stop(self) -> None:
        """As the engine's; no call wakes it any more."""
        self._stopped = True
        self._cancel_timer()
        loads = list(self._loads)
        for task in loads:
            task.cancel()
        await asyncio.gather(*loads, *self._unloads, return_exceptions=True)  # half an unloading would leave a process
        async with self._turn:
            self._asleep = False
            await self._engine.stop()

    def health(self) -> Health:
        """The engine's, or ``asleep``."""
        if self._asleep:
            return Health(state="asleep", detail=f"{self.name} is unloaded; the next call loads it")
        return self._engine.health()

    def upstream(self) -> Upstream:
        """Where to send calls; stays the same over sleep and restarts."""
        return _Waking(self)

    async def open(self, call: Call) -> Reply:
        """Send a call, waking the engine if need be. Raises UpstreamTimeout, UpstreamUnreachable and as the engine."""
        self._running += 1
        self._cancel_timer()
        try:
            if self._asleep:
                await self._wake(call)
            reply = await self._engine.upstream().open(call)
        except BaseException:
            self._leave()
            raise
        if reply.chunks is None:
            self._leave()
            return reply
        return _Held(reply, self._leave)

    async def _wake(self, call: Call) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        task = loop.create_task(self._load(), name=f"wake {self.name}")
        self._loads.add(task)
        task.add_done_callback(self._loads.discard)
        try:
            async with asyncio.timeout_at(call.deadline):
                await asyncio.shield(task)  # a caller that gives up must not stop what others wait for
        except TimeoutError as error:
            raise UpstreamTimeout(name=self.name, seconds=loop.time() - began) from error
        except FairleadError as error:
            raise UpstreamUnreachable(name=self.name, detail=str(error).splitlines()[0]) from error

    async def _load(self) -> None:
        async with self._turn:
            if self._asleep and not self._stopped:
                log.info("%s is loaded for a call", self.name)
                await self._engine.start()
                self._asleep = False
                self.wakes += 1

    def _leave(self) -> None:
        self._running -= 1
        self._rest()

    def _rest(self) -> None:
        if not self._running and not self._asleep and not self._stopped:
            self._cancel_timer()
            self._timer = asyncio.get_running_loop().call_later(self._idle_s, self._fall_asleep)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fall_asleep(self) -> None:
        task = asyncio.get_running_loop().create_task(self._unload(), name=f"unload {self.name}")
        self._unloads.add(task)
        task.add_done_callback(self._unloads.discard)

    async def _unload(self) -> None:
        async with self._turn:
            # A call that has come meanwhile keeps it awake; one that comes from here on waits its turn and wakes it.
            if self._running or self._asleep or self._stopped:
                return
            self._asleep = True
            log.info("%s is unloaded after %g s without a call", self.name, self._idle_s)
            await self._engine.stop()


class _Waking:
    """The upstream of an OnDemand engine."""

    def __init__(self, engine: OnDemand) -> None:
        self.name = engine.name
        self._engine = engine

    async def open(self, call: Call) -> Reply:
        return await self._engine.open(call)

    async def aclose(self) -> None:
        """The engine's stop closes what there is."""


class _Held(Reply):
    """A stream that keeps its engine awake until it is closed."""

    def __init__(self, reply: Reply, leave: Callable[[], None]) -> None:
        super().__init__(reply.status, chunks=reply.chunks, headers=reply.headers)
        self._reply = reply
        self._leave: Callable[[], None] | None = leave

    async def aclose(self) -> None:
        leave, self._leave = self._leave, None
        try:
            await self._reply.aclose()
        finally:
            if leave is not None:
                leave()
