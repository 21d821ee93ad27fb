"""The manifest: which Parquet segments hold what, and which journals have become segments. Kept in the database.

A segment is *live*, *quarantined* (damaged: its file was moved aside) or *doomed* (replaced or expired: its file is to
be deleted). Files of segments are never changed.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Select, delete, select, update

from fairlead.records import now_us
from fairlead.store import schema
from fairlead.store.database import Database
from fairlead.store.rows import record_of, row_of

FORMAT = 1
"""Goes up when segments get another column; older ones are then read with the column missing."""

_table = schema.segments


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """One Parquet file: ``path`` relative to the traces, ``digest`` the SHA-256 of the file, bounds inclusive."""

    id: str
    path: str
    state: str
    detail: str
    rows: int
    bytes: int
    digest: str
    min_time: int
    max_time: int
    min_id: str
    max_id: str
    format: int
    created: int


class Manifest:
    """What the database knows of the segments under ``directory``."""

    def __init__(self, database: Database, directory: Path) -> None:
        self._database = database
        self._directory = directory

    def between(self, since: int, until: int) -> list[Segment]:
        """Live segments that may hold rows with ``since <= time < until``."""
        with self._database.read() as connection:
            return [record_of(Segment, row) for row in connection.execute(_between(since, until))]

    def snapshot(self, since: int, until: int, journals: Iterable[str]) -> tuple[list[Segment], set[str]]:
        """``between`` and ``rolled`` at one moment; asked one after the other, a roll in between would hide rows."""
        table = schema.rolled_journals
        names = list(journals)
        with self._database.read() as connection:
            segments = [record_of(Segment, row) for row in connection.execute(_between(since, until))]
            rolled = set(connection.execute(select(table.c.id).where(table.c.id.in_(names))).scalars())
        return segments, rolled

    def around(self, identifier: str) -> list[Segment]:
        """Live segments that may hold a row with this id."""
        query = select(_table).where(
            _table.c.state == "live", _table.c.min_id <= identifier, _table.c.max_id >= identifier
        )
        with self._database.read() as connection:
            return [record_of(Segment, row) for row in connection.execute(query)]

    def of_state(self, state: str) -> list[Segment]:
        """Segments in a state, oldest first."""
        query = select(_table).where(_table.c.state == state).order_by(_table.c.min_time, _table.c.id)
        with self._database.read() as connection:
            return [record_of(Segment, row) for row in connection.execute(query)]

    def rolled(self, journals: Iterable[str]) -> set[str]:
        """Those of the journals that have become segments."""
        table = schema.rolled_journals
        with self._database.read() as connection:
            return set(connection.execute(select(table.c.id).where(table.c.id.in_(list(journals)))).scalars())

    def add(self, segments: Iterable[Segment], *, journals: Iterable[str] = (), replaces: Iterable[str] = ()) -> None:
        """Record segments, and in the same transaction what they came from: journals, or older segments."""
        with self._database.write(durable=True) as connection:
            rows = [row_of(segment) for segment in segments]
            if rows:
                connection.execute(_table.insert(), rows)
            done = [{"id": journal, "rolled": now_us()} for journal in journals]
            if done:
                connection.execute(schema.rolled_journals.insert(), done)
            old = list(replaces)
            if old:
                connection.execute(update(_table).where(_table.c.id.in_(old)).values(state="doomed"))

    def mark(self, segment: str, state: str, detail: str) -> None:
        """Change the state of a segment."""
        with self._database.write(durable=True) as connection:
            connection.execute(update(_table).where(_table.c.id == segment).values(state=state, detail=detail))

    def doom(self, before: int) -> list[Segment]:
        """Doom live and quarantined segments that hold only rows older than a time, and return them."""
        old = (_table.c.max_time < before) & (_table.c.state != "doomed")
        with self._database.write(durable=True) as connection:
            found = [record_of(Segment, row) for row in connection.execute(select(_table).where(old))]
            connection.execute(update(_table).where(old).values(state="doomed"))
        return found

    def bury(self) -> None:
        """Delete the files of doomed segments, then their rows."""
        for segment in self.of_state("doomed"):
            (self._directory / segment.path).unlink(missing_ok=True)
            with self._database.write() as connection:
                connection.execute(delete(_table).where(_table.c.id == segment.id, _table.c.state == "doomed"))

    def forget_journals(self, before: int, present: Iterable[str]) -> None:
        """Drop the notes about journals rolled before a time whose files are gone."""
        table = schema.rolled_journals
        with self._database.write() as connection:
            connection.execute(delete(table).where(table.c.rolled < before, table.c.id.not_in(list(present))))

    def is_empty(self) -> bool:
        """Whether no segment is known."""
        with self._database.read() as connection:
            return connection.execute(select(_table.c.id).limit(1)).first() is None


def _between(since: int, until: int) -> Select[Any]:
    live = (_table.c.state == "live") & (_table.c.max_time >= since) & (_table.c.min_time < until)
    return select(_table).where(live).order_by(_table.c.min_time)
