"""The worker: takes jobs that are due, says again and again that it lives, and takes over from workers that died.

Any number of them may run over one store, in one process or many. A worker that was killed on this machine is known to
be dead at once; one that hangs, or ran elsewhere, when its beat has stood still for ``patience_s`` on our own clock. So
a clock that jumps neither takes a job away nor keeps one. Knows no kind of work.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping

from fairlead.errors import FairleadError
from fairlead.records import Job
from fairlead.store import Store

POLL_S = 0.5
BEAT_S = 1.0
PATIENCE_S = 30.0
_LONGEST_NOTE = 500
logger = logging.getLogger(__name__)


class LeaseLost(Exception):
    """Another worker has the job now; what this one still does counts for nothing."""


class Lease:
    """A job while it is ours. A handler reads ``job`` and says how far it is; it ends by returning or raising."""

    def __init__(self, job: Job, store: Store) -> None:
        self.job = job
        self._store = store
        self._done, self._total, self._note = job.done, job.total, job.note

    def report(self, done: int, total: int, note: str = "") -> None:
        """How far it is; written with the next beat. An attempt that gets further is no failure."""
        self._done, self._total, self._note = done, total, note[:_LONGEST_NOTE]

    async def beat(self) -> Job:
        """Say that its worker lives. Raises LeaseLost."""
        job = await asyncio.to_thread(
            self._store.jobs.beat, self.job, done=self._done, total=self._total, note=self._note
        )
        if job is None:
            raise LeaseLost(self.job.id)
        self.job = job
        return job


Handler = Callable[[Lease], Awaitable[None]]
"""Does one kind of job. Called again, with the same payload, whenever an attempt did not end: it must cope with that.
Cancelled when the job is, when the worker stops, or when the lease is lost."""


class Worker:
    """Works on at most ``at_once`` jobs of the kinds it has ``handlers`` for, in the running loop."""

    def __init__(
        self,
        store: Store,
        handlers: Mapping[str, Handler],
        *,
        at_once: int = 4,
        poll_s: float = POLL_S,
        beat_s: float = BEAT_S,
        patience_s: float = PATIENCE_S,
    ) -> None:
        self._store = store
        self._handlers = dict(handlers)
        self._at_once = at_once
        self._poll_s = poll_s
        self._beat_s = beat_s
        self._patience_s = patience_s
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._seen: dict[str, tuple[int, int, float]] = {}
        self._wake = asyncio.Event()

    async def run(self) -> None:
        """Work until cancelled; then what runs is put back for another worker."""
        with self._store.presence.enter() as name:
            try:
                while True:
                    self._wake.clear()
                    with _survived("The queue of jobs cannot be used now"):
                        if await asyncio.to_thread(self._store.jobs.anything):
                            await self._release_dead()
                            await self._take(name)
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(self._poll_s):  # wait_for of 3.11 can swallow a cancellation
                            await self._wake.wait()
            finally:
                await self._stop()

    def wake(self) -> None:
        """Look for work now instead of a little later. Call from the worker's loop."""
        self._wake.set()

    async def _take(self, name: str) -> None:
        while len(self._tasks) < self._at_once:
            claim = asyncio.create_task(asyncio.to_thread(self._store.jobs.claim, list(self._handlers), name))
            try:
                job = await asyncio.shield(claim)
            except asyncio.CancelledError:  # the thread goes on and may take a job that nobody would work on
                if (job := await claim) is not None:
                    await asyncio.to_thread(self._store.jobs.put_back, job)
                raise
            if job is None:
                return
            task = asyncio.create_task(self._work(job), name=f"job {job.id}")
            self._tasks[job.id] = task
            task.add_done_callback(functools.partial(self._left, job.id))

    def _left(self, identifier: str, _: asyncio.Task[None]) -> None:
        self._tasks.pop(identifier, None)
        self._wake.set()

    async def _release_dead(self) -> None:
        """Put back every job whose worker does not live any more."""
        running = await asyncio.to_thread(self._store.jobs.running)
        now = time.monotonic()
        seen, self._seen = self._seen, {}
        for job in running:
            if job.id in self._tasks:
                continue
            attempt, beat, since = seen.get(job.id, (-1, -1, now))
            if (attempt, beat) != (job.attempt, job.beat):
                since = now
            self._seen[job.id] = (job.attempt, job.beat, since)
            if now - since > self._patience_s or self._store.presence.is_gone(job.worker):
                note = f"The worker {job.worker} ended without a word."
                await asyncio.to_thread(self._store.jobs.fail, job, note, died=True)

    async def _work(self, job: Job) -> None:
        lease = Lease(job, self._store)
        work = asyncio.ensure_future(self._handlers[job.kind](lease))
        try:
            lost, cancelled = await self._watch(lease, work)
        except asyncio.CancelledError:  # the worker stops
            await _end(work)
            await asyncio.to_thread(self._store.jobs.put_back, lease.job)
            raise
        if lost:
            logger.warning("job %s (%s) is another worker's now", job.id, job.kind)
            return
        with _survived(f"How the job {job.id} ended cannot be written"), contextlib.suppress(LeaseLost):
            await lease.beat()  # its last figures
            if cancelled:
                await asyncio.to_thread(self._store.jobs.finish, lease.job, "cancelled")
            elif (error := work.exception()) is None:
                await asyncio.to_thread(self._store.jobs.finish, lease.job, "done")
            else:
                logger.error("job %s (%s) failed", job.id, job.kind, exc_info=error)
                note = str(error) if isinstance(error, FairleadError) else f"{type(error).__name__}: {error}"
                await asyncio.to_thread(self._store.jobs.fail, lease.job, note[:_LONGEST_NOTE])

    async def _watch(self, lease: Lease, work: asyncio.Future[None]) -> tuple[bool, bool]:
        """Beat until the work ends. Returns whether the lease was lost, and whether the job was cancelled."""
        while not work.done():
            await asyncio.wait({work}, timeout=self._beat_s)
            if work.done():
                break
            try:
                job = await lease.beat()
            except LeaseLost:
                await _end(work)
                return True, False
            except FairleadError as error:  # a store that is busy or full: the work goes on, the next beat may reach it
                logger.warning("job %s: %s", lease.job.id, error)
                continue
            if job.cancelling:
                await _end(work)
                return False, True
        lost = not work.cancelled() and isinstance(work.exception(), LeaseLost)
        return lost, work.cancelled()

    async def _stop(self) -> None:
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _end(work: asyncio.Future[None]) -> None:
    work.cancel()
    await asyncio.gather(work, return_exceptions=True)


@contextlib.contextmanager
def _survived(what: str) -> Iterator[None]:
    """A store that is busy or full for a while must not end the worker."""
    try:
        yield
    except (FairleadError, OSError):
        logger.exception("%s; the worker tries again.", what)
