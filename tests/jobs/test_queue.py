"""The queue: one transaction a step, and whoever lost a job can write nothing any more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fairlead.records import Job, now_us
from fairlead.store import Store
from fairlead.store.jobs import QUICK

HOUR = 3_600_000_000


@pytest.fixture(name="store")
def store_fixture(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path) as opened:
        yield opened


def claim(store: Store, worker: str = "w") -> Job:
    job = store.jobs.claim(["k"], worker)
    assert job is not None
    return job


def test_jobs_are_taken_in_the_order_they_fall_due_and_not_before(store: Store) -> None:
    later = store.jobs.add("k", {"n": 1}, due=now_us() + HOUR)
    second = store.jobs.add("k", {"n": 2})
    first = store.jobs.add("k", {"n": 3}, due=second.due - 5)
    other = store.jobs.add("other", {})
    assert [claim(store).id, claim(store).id] == [first.id, second.id]
    assert store.jobs.claim(["k"], "w") is None
    assert store.jobs.get(later.id) == later
    assert store.jobs.claim(["k", "other"], "w").id == other.id  # type: ignore[union-attr]
    assert store.jobs.anything(), "running jobs must be watched"


def test_who_lost_a_job_writes_nothing_any_more(store: Store) -> None:
    store.jobs.add("k", {})
    old = claim(store, "old")
    assert store.jobs.fail(old, "gone", died=True)
    new = claim(store, "new")
    assert new.attempt == old.attempt + 1
    assert store.jobs.beat(old, done=9, total=9, note="zombie") is None
    assert store.jobs.finish(old, "done") is None
    assert store.jobs.put_back(old) is None
    assert store.jobs.fail(old, "zombie") is None
    assert store.jobs.get(new.id) == new


def test_a_worker_heard_of_meanwhile_is_not_dead(store: Store) -> None:
    store.jobs.add("k", {})
    seen = claim(store)
    assert store.jobs.beat(seen, done=1, total=2, note="") is not None
    assert store.jobs.fail(seen, "gone", died=True) is None


def test_failures_end_a_job_unless_it_gets_further(store: Store) -> None:
    job = store.jobs.add("k", {}, most_failures=2)
    before = now_us()
    store.jobs.fail(claim(store), "once")
    waiting = store.jobs.get(job.id)
    assert waiting is not None
    assert (waiting.state, waiting.failures, waiting.note) == ("waiting", 1, "once")
    assert waiting.due >= before + 1_000_000, "it is tried again a little later"


def test_a_dead_worker_s_job_is_taken_up_at_once_a_few_times(store: Store) -> None:
    job = store.jobs.add("k", {}, most_failures=0)
    for _ in range(QUICK):
        store.jobs.fail(claim(store), "died", died=True)
    before = now_us()
    store.jobs.fail(claim(store), "died", died=True)
    found = store.jobs.get(job.id)
    assert found is not None
    assert found.due >= before + 1_000_000, "by now it may be the job that kills"


def test_progress_forgives_failures(store: Store) -> None:
    job = store.jobs.add("k", {}, most_failures=2)
    for done in range(1, 6):
        mine = claim(store)
        store.jobs.beat(mine, done=done, total=9, note="")
        failed = store.jobs.fail(mine, "died", died=True)
        assert failed is None, "its worker was heard of since it was claimed"
        beaten = store.jobs.get(job.id)
        assert beaten is not None
        assert store.jobs.fail(beaten, "died", died=True) is not None
    found = store.jobs.get(job.id)
    assert found is not None
    assert (found.state, found.failures) == ("waiting", 1)


def test_a_key_names_one_job(store: Store) -> None:
    first = store.jobs.add("k", {"v": 1}, key="only", every_s=60)
    again = store.jobs.add("k", {"v": 2}, key="only", every_s=30)
    assert (again.id, again.payload, again.every) == (first.id, {"v": 2}, 30_000_000)
    other = store.jobs.add("other", {}, key="only")
    assert other.id != first.id
    store.jobs.cancel(first.id)
    assert store.jobs.add("k", {}, key="only").state == "waiting"


def test_a_recurring_job_comes_again_and_once_after_a_long_sleep(store: Store) -> None:
    job = store.jobs.add("k", {}, every_s=60, due=now_us() - HOUR)
    store.jobs.finish(claim(store), "done")
    found = store.jobs.get(job.id)
    assert found is not None
    assert found.state == "waiting"
    assert now_us() < found.due <= now_us() + 60_000_000
    assert (found.due - job.due) % 60_000_000 == 0, "it keeps its rhythm"


def test_cancelling_and_trying_again(store: Store) -> None:
    waiting = store.jobs.add("k", {}, due=now_us() + HOUR)
    assert store.jobs.cancel(waiting.id).state == "cancelled"  # type: ignore[union-attr]
    running = store.jobs.add("k", {})
    mine = claim(store)
    assert store.jobs.cancel(running.id).cancelling  # type: ignore[union-attr]
    assert store.jobs.beat(mine, done=0, total=0, note="").cancelling  # type: ignore[union-attr]
    store.jobs.finish(mine, "cancelled")
    assert store.jobs.retry(running.id).state == "waiting"  # type: ignore[union-attr]
    assert claim(store).cancelling is False
    assert store.jobs.cancel("nobody") is None
    assert store.jobs.retry("nobody") is None


def test_ended_jobs_are_forgotten_others_stay(store: Store) -> None:
    store.jobs.add("k", {})
    store.jobs.finish(claim(store), "done")
    kept = store.jobs.add("k", {})
    assert store.jobs.forget(ended_before=now_us() + 1) == 1
    assert [job.id for job in store.jobs.newest()] == [kept.id]
    assert store.jobs.newest(kind="other") == []
    assert [job.id for job in store.jobs.newest(kind="k", state="waiting")] == [kept.id]


class Queue(RuleBasedStateMachine):
    """Claims, deaths and ends in any order: a job has one owner, and its done attempts are one."""

    def __init__(self) -> None:
        super().__init__()
        import tempfile

        self.folder = tempfile.TemporaryDirectory()
        self.store = Store.open(Path(self.folder.name))
        self.held: list[Job] = []
        self.lost: list[Job] = []
        self.ended: dict[str, int] = {}

    @rule(count=st.integers(1, 3))
    def add(self, count: int) -> None:
        for _ in range(count):
            self.ended[self.store.jobs.add("k", {}, most_failures=0).id] = 0

    @rule()
    def take(self) -> None:
        job = self.store.jobs.claim(["k"], "w")
        if job is not None:
            assert job.id not in {held.id for held in self.held}, "two workers hold one job"
            self.held.append(job)

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 100))
    def die(self, which: int) -> None:
        job = self.held.pop(which % len(self.held))
        assert self.store.jobs.fail(job, "died", died=True)
        self.lost.append(job)

    @precondition(lambda self: self.held)
    @rule(which=st.integers(0, 100))
    def end(self, which: int) -> None:
        job = self.held.pop(which % len(self.held))
        assert self.store.jobs.finish(job, "done")
        self.ended[job.id] += 1

    @precondition(lambda self: self.lost)
    @rule(which=st.integers(0, 100))
    def haunt(self, which: int) -> None:
        job = self.lost[which % len(self.lost)]
        assert self.store.jobs.finish(job, "done") is None
        assert self.store.jobs.beat(job, done=1, total=1, note="") is None

    @invariant()
    def ends_once(self) -> None:
        assert all(times <= 1 for times in self.ended.values())
        states = {job.id: job.state for job in self.store.jobs.newest(limit=1000)}
        assert {key for key, state in states.items() if state == "running"} == {job.id for job in self.held}

    def teardown(self) -> None:
        self.store.close()
        self.folder.cleanup()


TestQueue = Queue.TestCase
TestQueue.settings = hypothesis_settings(max_examples=15, stateful_step_count=25)
