"""Mending a damaged database: everything that can still be read goes into a new one, the damaged file is kept aside.

Reads each row by its number, so that one bad page costs the rows on it and no others. Segments of traces are files of
their own: those the new database does not know are taken in again by the next roll.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import exc

from fairlead.errors import StoreBusy, StoreError
from fairlead.store.database import Database
from fairlead.store.schema import metadata
from fairlead.store.store import DATABASE, IN_USE, Store

_STEP = 256
_PEOPLE_MISS = {
    "keys": "API keys",
    "conversations": "conversations",
    "messages": "messages",
    "feedback": "feedback",
    "handoffs": "handoffs",
    "releases": "releases",
    "audit": "audit entries",
}
"""Tables whose loss a person must be told of, as people call what is in them."""


def mend(directory: Path) -> list[str]:
    """Mend the database of a store nobody has open, and return sentences about what was done.

    Raises StoreBusy when another process uses it, StoreError when there is no store.
    """
    path = directory / DATABASE
    if not path.is_file():
        raise StoreError(detail=f"There is no store in {directory}: {DATABASE} is missing.")
    with _alone(directory):
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        aside = directory / f"damaged-{stamp}"
        aside.mkdir(mode=0o700)
        for suffix in ("", "-wal", "-shm"):
            part = path.with_name(path.name + suffix)
            if part.exists():
                part.rename(aside / part.name)
    report = [f"The damaged database was moved to {aside}."]
    database = Database(path)
    try:
        lines, lost = _copy(aside / DATABASE, database)
        report += lines + _gone(lost)
    finally:
        database.close()
    with Store.open(directory) as store:
        store.traces.roll()
        report += store.recovered
        if not store.audit.verify():
            report.append("The audit log is not complete any more: its chain of hashes is broken.")
        left = store.check()
        report.append("The new database is sound." if not left else f"The new database is not sound: {left[0]}")
    return report


def _gone(lost: list[str]) -> list[str]:
    """What to tell a person about tables of which nothing could be read."""
    missed = [name for table, name in _PEOPLE_MISS.items() if table in lost]
    if not missed:
        return []
    listed = " and ".join(filter(None, [", ".join(missed[:-1]), missed[-1]]))
    keys = "; create new keys with: fairlead keys create NAME" if "keys" in lost else ""
    return [f"Nothing of these could be read, all are gone: {listed}{keys}."]


def _copy(source: Path, database: Database) -> tuple[list[str], list[str]]:
    """Copy what can be read, table by table. Returns sentences, and the tables of which nothing could be read."""
    report, gone = [], []
    old = sqlite3.connect(source, isolation_level=None)
    old.row_factory = sqlite3.Row
    try:
        for table in metadata.sorted_tables:
            names = [column.name for column in table.columns]
            copied, lost = 0, 0
            with database.write(durable=True) as connection:
                for row in _rows(old, table.name):
                    if row is None:
                        lost += 1
                        continue
                    values = {name: row[name] for name in names if name in row.keys()}  # noqa: SIM118 - a Row iterates values
                    marks = ", ".join("?" for _ in values)
                    columns = ", ".join(f'"{name}"' for name in values)
                    statement = f'INSERT OR IGNORE INTO "{table.name}" ({columns}) VALUES ({marks})'  # noqa: S608 - our own names
                    try:
                        connection.exec_driver_sql(statement, tuple(values.values()))
                        copied += 1
                    except exc.DBAPIError:
                        lost += 1
            if lost and not copied:
                gone.append(table.name)
            if copied or lost:
                report.append(f"{table.name}: {copied} rows kept" + (f", {lost} places unreadable." if lost else "."))
    finally:
        old.close()
    return report, gone


def _rows(old: sqlite3.Connection, table: str) -> Iterator[sqlite3.Row | None]:
    """The rows of a table, None for a place that cannot be read."""
    try:
        first, last = old.execute(f'SELECT min(rowid), max(rowid) FROM "{table}"').fetchone()  # noqa: S608 - our own name
    except sqlite3.Error:
        yield None
        return
    if first is None:
        return
    for start in range(first, last + 1, _STEP):
        yield from _between(old, table, start, min(start + _STEP, last + 1))


def _between(old: sqlite3.Connection, table: str, start: int, end: int) -> Iterator[sqlite3.Row | None]:
    statement = f'SELECT * FROM "{table}" WHERE rowid >= ? AND rowid < ?'  # noqa: S608 - our own name
    try:
        rows = old.execute(statement, (start, end)).fetchall()
    except sqlite3.Error:
        if end - start == 1:
            yield None
            return
        middle = (start + end) // 2
        yield from _between(old, table, start, middle)
        yield from _between(old, table, middle, end)
        return
    yield from rows


@contextlib.contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Keep others from opening the store meanwhile. Raises StoreBusy when one has it open."""
    handle = os.open(directory / IN_USE, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreBusy(path=directory / DATABASE, seconds=0) from None
        yield
    finally:
        os.close(handle)
