"""The worker: real processes over one store, killed at any moment."""

from __future__ import annotations

import asyncio
import contextlib
import random
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from fairlead.errors import UsageError
from fairlead.jobs import Lease, LeaseLost, Worker
from fairlead.records import Job
from fairlead.store import Store
from tests.store.store_helpers import run_script

WORK = """
import asyncio, os, sys
from pathlib import Path
from fairlead.jobs import Worker
from fairlead.store import Store
folder = Path(sys.argv[2])
store = Store.open(Path(sys.argv[1]))
async def handle(lease):
    mine = folder / f"{lease.job.payload['n']}.{lease.job.attempt}"
    mine.write_text("begun")
    for step in range(5):
        await asyncio.sleep(0.04)
        lease.report(step, 5)
    mine.with_suffix(mine.suffix + ".end").write_text("ended")
async def main():
    worker = Worker(store, {"k": handle}, at_once=3, poll_s=0.02, beat_s=0.02)
    await worker.run()
print("ready", flush=True)
asyncio.run(main())
"""


@pytest.fixture(name="store")
def store_fixture(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "data") as opened:
        yield opened


@contextlib.asynccontextmanager
async def working(worker: Worker) -> AsyncIterator[None]:
    task = asyncio.create_task(worker.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(true: Callable[[], bool], within_s: float = 60.0) -> None:
    end = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


def state(store: Store, job: Job) -> str:
    found = store.jobs.get(job.id)
    assert found is not None
    return found.state


def make(store: Store, handler: Callable[[Lease], object], **options: float) -> Worker:
    async def handle(lease: Lease) -> None:
        result = handler(lease)
        if asyncio.iscoroutine(result):
            await result

    return Worker(store, {"k": handle}, poll_s=0.02, beat_s=0.02, **options)  # type: ignore[arg-type]


async def test_works_on_what_is_due_and_writes_its_last_figures(store: Store) -> None:
    jobs = [store.jobs.add("k", {"n": n}) for n in range(6)]
    async with working(make(store, lambda lease: lease.report(lease.job.payload["n"], 5, "so far"))):
        await until(lambda: all(state(store, job) == "done" for job in jobs))
    assert [store.jobs.get(job.id).done for job in jobs] == list(range(6))  # type: ignore[union-attr]


async def test_an_error_is_kept_and_the_job_tried_again(store: Store) -> None:
    def fail(_: Lease) -> None:
        raise UsageError(detail="The input is not there.")

    job = store.jobs.add("k", {}, most_failures=1)
    patient = store.jobs.add("k", {}, most_failures=3)
    async with working(make(store, fail)):
        await until(lambda: state(store, job) == "failed")
        await until(lambda: state(store, patient) == "waiting")
    assert store.jobs.get(job.id).note == "The input is not there."  # type: ignore[union-attr]


async def test_cancelling_ends_a_running_job(store: Store) -> None:
    ended = asyncio.Event()

    async def wait(_: Lease) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    job = store.jobs.add("k", {})
    async with working(make(store, wait)):
        await until(lambda: state(store, job) == "running")
        store.jobs.cancel(job.id)
        await until(lambda: state(store, job) == "cancelled")
    assert ended.is_set()


async def test_a_worker_that_stops_puts_its_jobs_back_at_once(store: Store) -> None:
    job = store.jobs.add("k", {})
    async with working(make(store, lambda _: asyncio.sleep(60))):
        await until(lambda: state(store, job) == "running")
    found = store.jobs.get(job.id)
    assert found is not None
    assert (found.state, found.failures) == ("waiting", 0)


async def test_a_hanging_worker_loses_its_job_and_a_zombie_changes_nothing(store: Store) -> None:
    """The first worker's beat stands still as that of a stopped process; the second takes over, the first is told."""
    job = store.jobs.add("k", {})
    first = store.jobs.claim(["k"], "elsewhere-1-a")  # of another machine: only its beat can tell
    assert first is not None
    async with working(make(store, lambda _: None, patience_s=0.2)):
        await until(lambda: state(store, job) == "done")
    with pytest.raises(LeaseLost):
        await Lease(first, store).beat()


async def test_a_clock_that_jumps_takes_no_job_away(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    job = store.jobs.add("k", {})
    release = asyncio.Event()
    attempts: list[int] = []

    async def wait(lease: Lease) -> None:
        attempts.append(lease.job.attempt)
        await release.wait()

    def beats() -> int:
        found = store.jobs.get(job.id)
        assert found is not None
        return found.beat

    async with working(make(store, wait, patience_s=60.0)), working(make(store, wait, patience_s=60.0)):
        await until(lambda: state(store, job) == "running")
        for jump in (86_400, -86_400):
            real, before = time.time_ns(), beats()
            monkeypatch.setattr("fairlead.records.time.time_ns", lambda t=real + jump * 10**9: t)
            await until(lambda: beats() > before + 20)  # noqa: B023  the other looks as often
        release.set()
        await until(lambda: state(store, job) == "done")
    assert attempts == [1]


def test_killed_workers_lose_no_job_and_end_none_twice(store: Store, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    jobs: list[Job] = []
    chance = random.Random(3)
    workers: dict[int, subprocess.Popen[str]] = {}

    def start() -> None:
        worker = run_script(WORK, store.directory, marks)
        workers[worker.pid] = worker

    try:
        for _ in range(2):
            start()
        for _ in range(4):
            victims: list[int] = []
            while not victims:
                if not store.jobs.newest(state="waiting"):
                    jobs += [store.jobs.add("k", {"n": len(jobs) + n}, most_failures=0) for n in range(8)]
                time.sleep(chance.uniform(0, 0.04))
                victims = [int(job.worker.split("-")[-2]) for job in store.jobs.running()]
            victim = workers.pop(chance.choice(victims), None)
            if victim is not None:
                victim.kill()
                victim.communicate()
                start()
        end = time.monotonic() + 240
        while (done := len(store.jobs.newest(state="done"))) < len(jobs):
            assert time.monotonic() < end, f"{done} of {len(jobs)} are done"
            time.sleep(0.2)
    finally:
        for worker in workers.values():
            worker.kill()
            worker.communicate()
    attempts = 0
    for job in jobs:
        found = store.jobs.get(job.id)
        assert found is not None
        attempts += found.attempt
        assert (marks / f"{job.payload['n']}.{found.attempt}.end").exists(), "the attempt that counts ended"
    assert attempts > len(jobs), "no worker was killed at work"
