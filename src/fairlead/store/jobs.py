"""Work that outlives the process that does it: a queue any number of processes may take from.

Who takes a job gets its ``attempt``, and writes with that number only: when someone else has taken the job meanwhile,
the write changes nothing and says so. No clock decides whether a worker lives, only whether its ``beat`` goes on, or
what ``Presence`` says. Knows no kind of work.
"""

from __future__ import annotations

import random
from collections.abc import Collection
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, delete, select, update

from fairlead.records import Job, JobState, new_id, now_us
from fairlead.store import schema
from fairlead.store.database import Database
from fairlead.store.rows import clean, record_of, row_of

_TABLE = schema.jobs
_SECOND = 1_000_000
LONGEST_PAUSE_S = 300.0
"""Longest wait before a job that failed is tried again."""
QUICK = 3
"""So many times a job whose worker died is taken up again at once; after that it may be what kills them."""


class Jobs:
    """The queue. Every method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # --- who wants work done ------------------------------------------------------------------------------------

    def add(
        self,
        kind: str,
        payload: dict[str, Any],
        *,
        tenant: str = "default",
        key: str = "",
        due: int | None = None,
        every_s: float = 0.0,
        most_failures: int = 5,
    ) -> Job:
        """Queue a job. One that stands under ``key`` already is brought up to date, or queued again if it had ended."""
        now = now_us()
        fresh = Job(
            id=new_id(), time=now, kind=kind, tenant=tenant, key=key, payload=payload, due=now if due is None else due,
            every=round(every_s * _SECOND), most_failures=most_failures, updated=now,
        )  # fmt: skip
        with self._database.write(durable=True) as connection:
            same = select(_TABLE).where(_TABLE.c.kind == kind, _TABLE.c.key == key)
            row = connection.execute(same).first() if key else None
            if row is None:
                connection.execute(_TABLE.insert().values(row_of(fresh)))
                return fresh
            values: dict[str, Any] = {
                "payload": clean(payload), "every": fresh.every, "most_failures": most_failures, "updated": now,
            }  # fmt: skip
            if row.state not in ("waiting", "running"):
                values |= {"state": "waiting", "due": fresh.due, "failures": 0, "cancelling": False}
            return _change(connection, row.id, values)

    def cancel(self, identifier: str) -> Job | None:
        """End a job that waits, ask the worker of one that runs to end it; one that has ended stays as it is."""
        with self._database.write(durable=True) as connection:
            row = _row(connection, identifier)
            if row is None:
                return None
            if row.state not in ("waiting", "running"):
                return record_of(Job, row)
            values: dict[str, Any] = {"state": "cancelled"} if row.state == "waiting" else {"cancelling": True}
            return _change(connection, row.id, {**values, "updated": now_us()})

    def retry(self, identifier: str) -> Job | None:
        """Queue a job that failed or was cancelled once more; any other stays as it is."""
        with self._database.write(durable=True) as connection:
            row = _row(connection, identifier)
            if row is None or row.state not in ("failed", "cancelled"):
                return None if row is None else record_of(Job, row)
            values = {"state": "waiting", "due": now_us(), "failures": 0, "cancelling": False, "updated": now_us()}
            return _change(connection, row.id, values)

    def get(self, identifier: str) -> Job | None:
        """The job with this id."""
        with self._database.read() as connection:
            row = _row(connection, identifier)
        return None if row is None else record_of(Job, row)

    def newest(
        self, *, kind: str | None = None, state: JobState | None = None, since: int = 0, limit: int = 100
    ) -> list[Job]:
        """Jobs queued since a time, newest first."""
        query = select(_TABLE).where(_TABLE.c.time >= since).order_by(_TABLE.c.time.desc(), _TABLE.c.id.desc())
        if kind is not None:
            query = query.where(_TABLE.c.kind == kind)
        if state is not None:
            query = query.where(_TABLE.c.state == state)
        with self._database.read() as connection:
            return [record_of(Job, row) for row in connection.execute(query.limit(limit))]

    def forget(self, *, ended_before: int) -> int:
        """Delete jobs that ended before a time; returns how many."""
        ended = _TABLE.c.state.in_(("done", "failed", "cancelled"))
        with self._database.write() as connection:
            return connection.execute(delete(_TABLE).where(ended, _TABLE.c.updated < ended_before)).rowcount

    # --- who does it --------------------------------------------------------------------------------------------

    def anything(self) -> bool:
        """Whether a worker has anything to look at now; some ten microseconds, made to be asked often."""
        query = "SELECT 1 FROM jobs WHERE state = 'running' OR (state = 'waiting' AND due <= ?) LIMIT 1"
        return self._database.scalar(query, now_us()) is not None

    def claim(self, kinds: Collection[str], worker: str) -> Job | None:
        """The job that has been due longest, now ``worker``'s; None when nothing is due."""
        with self._database.write(durable=True) as connection:
            row = connection.execute(
                select(_TABLE)
                .where(_TABLE.c.state == "waiting", _TABLE.c.due <= now_us(), _TABLE.c.kind.in_(list(kinds)))
                .order_by(_TABLE.c.due, _TABLE.c.id)
                .limit(1)
            ).first()
            if row is None:
                return None
            values = {
                "state": "running", "worker": worker, "attempt": row.attempt + 1, "beat": 0, "before": row.done,
                "updated": now_us(),
            }  # fmt: skip
            return _change(connection, row.id, values)

    def running(self) -> list[Job]:
        """Every job somebody works on, or did before dying."""
        with self._database.read() as connection:
            return [
                record_of(Job, row) for row in connection.execute(select(_TABLE).where(_TABLE.c.state == "running"))
            ]

    def beat(self, job: Job, *, done: int, total: int, note: str) -> Job | None:
        """Say that its worker lives, and how far it is. None when it is not this attempt's any more."""
        values = {"beat": _TABLE.c.beat + 1, "done": done, "total": total, "note": clean(note), "updated": now_us()}
        return self._as(job, values)

    def finish(self, job: Job, state: JobState, note: str = "") -> Job | None:
        """It is over; one with ``every`` waits for its next time. None when it is not this attempt's any more."""
        now = now_us()
        values: dict[str, Any] = {"state": state, "worker": "", "note": clean(note), "updated": now}
        if state == "done" and job.every:
            missed = (
                max(0, now - job.due) // job.every
            )  # after a long sleep it runs once, not once for each time missed
            values |= {"state": "waiting", "due": job.due + (missed + 1) * job.every}
        if state == "done":
            values["failures"] = 0
        return self._as(job, values)

    def put_back(self, job: Job, note: str = "") -> Job | None:
        """Its worker stops in good order: let another take it at once. None when it is not this attempt's any more."""
        values = {"state": "waiting", "worker": "", "due": now_us(), "note": clean(note), "updated": now_us()}
        return self._as(job, values)

    def fail(self, job: Job, note: str, *, died: bool = False) -> Job | None:
        """It went wrong, or (``died``) its worker is gone: try again later, or give up after ``most_failures``.

        None when it is not this attempt's any more, or its worker has been heard of since ``job`` was read.
        """
        with self._database.write(durable=True) as connection:
            row = _row(connection, job.id)
            if row is None or (row.state, row.attempt) != ("running", job.attempt) or (died and row.beat != job.beat):
                return None
            failures = 1 if row.done > row.before else row.failures + 1
            values: dict[str, Any] = {"failures": failures, "worker": "", "note": clean(note), "updated": now_us()}
            if row.cancelling:
                values["state"] = "cancelled"
            elif row.most_failures and failures >= row.most_failures:
                values["state"] = "failed"
                if row.every:  # a recurring job has its next chance at its next time
                    values |= {"state": "waiting", "due": now_us() + row.every, "failures": 0}
            else:
                at_once = died and failures <= QUICK
                values |= {"state": "waiting", "due": now_us() + (0 if at_once else _pause_us(failures))}
            return _change(connection, row.id, values)

    def _as(self, job: Job, values: dict[str, Any]) -> Job | None:
        mine: ColumnElement[bool] = (_TABLE.c.attempt == job.attempt) & (_TABLE.c.state == "running")
        with self._database.write() as connection:
            changed = connection.execute(update(_TABLE).where(_TABLE.c.id == job.id, mine).values(values)).rowcount
            row = _row(connection, job.id) if changed else None
        return None if row is None else record_of(Job, row)


def _pause_us(failures: int) -> int:
    bound = min(LONGEST_PAUSE_S, 2.0 ** min(failures, 20))
    return round(random.uniform(bound / 2, bound) * _SECOND)


def _row(connection: Connection, identifier: str) -> Row[Any] | None:
    return connection.execute(select(_TABLE).where(_TABLE.c.id == clean(identifier))).first()


def _change(connection: Connection, identifier: str, values: dict[str, Any]) -> Job:
    connection.execute(update(_TABLE).where(_TABLE.c.id == identifier).values(values))
    return record_of(Job, connection.execute(select(_TABLE).where(_TABLE.c.id == identifier)).one())
