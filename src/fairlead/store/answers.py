"""Kept answers on disk, in a database file of their own: losing it costs time and money, never data.

An answer of the same key that was kept later counts; the older one goes when its time is over. To look for it at once
would cost more than all else: keys are random, so nearly each of a large index's pages would be written anew.

So it is not migrated and not mended: a file of another version, or one that is broken, is put aside with a word and a
new one begun. Any number of processes share it; each reads what the others wrote by the growing number of the rows.
``generation`` grows with every purge, which tells all of them to forget. Knows nothing of keys or of what is alike.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from fairlead.errors import StoreError
from fairlead.records import KeptAnswer, now_us

VERSION: Final = 2
"""Also at the end of the schema."""
BUSY_S: Final = 5.0
_PAGE: Final = 500
_OVERHEAD: Final = 400
_UNKNOWN: Final = 1 << 62
_WEIGHINGS: Final = 16
"""What is kept is weighed when a 16th of the limit has come new, and then a 16th of room is made."""
_SCHEMA: Final = """
CREATE TABLE answers (
    number INTEGER PRIMARY KEY AUTOINCREMENT, key BLOB NOT NULL, tenant TEXT NOT NULL, subject TEXT NOT NULL,
    route TEXT NOT NULL, release TEXT NOT NULL, created INTEGER NOT NULL, expires INTEGER NOT NULL,
    size INTEGER NOT NULL, answer BLOB NOT NULL
);
CREATE INDEX answers_age ON answers (expires, number, size);
CREATE TABLE tally (
    tenant TEXT NOT NULL, route TEXT NOT NULL, outcome TEXT NOT NULL, requests INTEGER NOT NULL, nanos INTEGER NOT NULL,
    saved_us INTEGER NOT NULL, since INTEGER NOT NULL, PRIMARY KEY (tenant, route, outcome)
);
CREATE TABLE state (name TEXT PRIMARY KEY, value BLOB NOT NULL);
INSERT INTO state VALUES ('generation', 1), ('bands', x'');
PRAGMA user_version = 2;
"""
_COUNT: Final = (
    "SELECT count(DISTINCT key) FROM answers WHERE (:tenant IS NULL OR tenant = :tenant) "
    "AND (:route IS NULL OR route = :route) AND (:release IS NULL OR release = :release) "
    "AND (:subject IS NULL OR subject = :subject)"
)
_PURGE: Final = (
    "DELETE FROM answers WHERE (:tenant IS NULL OR tenant = :tenant) AND (:route IS NULL OR route = :route) "
    "AND (:release IS NULL OR release = :release) AND (:subject IS NULL OR subject = :subject)"
)
_INSERT: Final = "INSERT INTO answers (key, tenant, subject, route, release, created, expires, size, answer) VALUES "
_PLACES: Final = "(?, ?, ?, ?, ?, ?, ?, ?, ?)"
_ROWS: Final = 100
"""Rows a statement. One row each would have this thread ask for the interpreter once a row, and live requests wait."""
logger = logging.getLogger(__name__)


class Line(Protocol):
    """A line of what was counted."""

    tenant: str
    route: str
    outcome: str
    requests: int
    nanos: int
    saved_us: int


class Told(msgspec.Struct, kw_only=True):
    """``last`` is the number of the newest row that was read; ``bands`` is only given at the first reading."""

    generation: int
    last: int
    answers: list[KeptAnswer]
    bands: bytes = b""


def _row(answer: KeptAnswer) -> tuple[Any, ...]:
    data = msgspec.msgpack.encode(answer)
    return (
        answer.key, answer.tenant, answer.subject, answer.route, answer.release, answer.created, answer.expires,
        len(data) + _OVERHEAD, data,
    )  # fmt: skip


class Answers:
    """The file, opened when it is first needed. Thread-safe. ``words`` are sentences about what had to be put aside."""

    def __init__(self, path: Path, *, limit: int = 64 * 1024 * 1024) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._unweighed = _UNKNOWN
        self.limit = limit
        self.words: list[str] = []

    def exchange(
        self, answers: list[KeptAnswer], tallied: Sequence[Line], bands: bytes, *, after: int, generation: int
    ) -> Told:
        """Write what is new and read what others wrote after number ``after`` (-1: everything, the newest first bytes).

        Answers and bands are not written where ``generation`` (-1: the first time) is no longer the file's.
        Raises StoreError.
        """
        with self._opened() as connection:
            if not (answers or tallied or (bands and generation >= 0)):
                return self._read(connection, after, generation)
            with _writing(connection):
                told = self._read(connection, after, generation)  # before, so that what is written is not read again
                if generation in (-1, told.generation):
                    told.last = max(told.last, self._write(connection, answers))
                    if bands and generation >= 0:
                        connection.execute("UPDATE state SET value = ? WHERE name = 'bands'", (bands,))
                self._count(connection, tallied)
            return told

    def _write(self, connection: sqlite3.Connection, answers: list[KeptAnswer]) -> int:
        """Returns the number of the last one; -1 where there is none."""
        if not answers:
            return -1
        added = 0
        for start in range(0, len(answers), _ROWS):
            rows = [_row(answer) for answer in answers[start : start + _ROWS]]
            connection.execute(_INSERT + ", ".join([_PLACES] * len(rows)), [value for row in rows for value in row])
            added += sum(len(row[-1]) + _OVERHEAD for row in rows)
        connection.execute("DELETE FROM answers WHERE expires <= ?", (now_us(),))
        self._unweighed += added
        if self._unweighed > self.limit // _WEIGHINGS:  # takes a while where there is much
            self._unweighed = 0
            self._shrink(connection, self.limit - self.limit // _WEIGHINGS)
        return int(connection.execute("SELECT max(number) FROM answers").fetchone()[0] or -1)

    def _shrink(self, connection: sqlite3.Connection, limit: int) -> None:
        """Delete what ends first until no more than ``limit`` bytes are held. Looks into the index, not the answers."""
        over = int(connection.execute("SELECT coalesce(sum(size), 0) FROM answers").fetchone()[0]) - limit
        if over <= 0:
            return
        last = (0, 0)
        for expires, number, size in connection.execute(
            "SELECT expires, number, size FROM answers ORDER BY expires, number"
        ):
            last = (expires, number)
            over -= size
            if over <= 0:
                break
        connection.execute("DELETE FROM answers WHERE (expires, number) <= (?, ?)", last)

    def _count(self, connection: sqlite3.Connection, tallied: Sequence[Line]) -> None:
        connection.executemany(
            "INSERT INTO tally VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (tenant, route, outcome) DO UPDATE SET "
            "requests = requests + excluded.requests, nanos = nanos + excluded.nanos, "
            "saved_us = saved_us + excluded.saved_us",
            [
                (line.tenant, line.route, line.outcome, line.requests, line.nanos, line.saved_us, now_us())
                for line in tallied
            ],
        )

    def _read(self, connection: sqlite3.Connection, after: int, generation: int) -> Told:
        current = self._generation(connection)
        first = generation != current
        rows = connection.execute(
            "SELECT number, key, answer FROM answers WHERE number > ? AND expires > ? ORDER BY number DESC LIMIT ?",
            (-1 if first else after, now_us(), 1_000_000 if first else _PAGE),
        ).fetchall()
        last = max([after if not first else -1, *(number for number, _, _ in rows)])
        newest: dict[bytes, bytes] = {}
        for _, key, data in rows:
            newest.setdefault(key, data)
        answers = []
        for data in reversed(newest.values()):
            with contextlib.suppress(msgspec.DecodeError, msgspec.ValidationError):
                answers.append(msgspec.msgpack.decode(data, type=KeptAnswer))
        bands = b""
        if first:
            bands = bytes(connection.execute("SELECT value FROM state WHERE name = 'bands'").fetchone()[0])
        return Told(generation=current, last=last, answers=answers, bands=bands)

    def newest(self, limit: int = 2_000) -> list[KeptAnswer]:
        """The answers kept last, newest first."""
        with self._opened() as connection:
            rows = connection.execute("SELECT answer FROM answers ORDER BY number DESC LIMIT ?", (limit,)).fetchall()
        return [msgspec.msgpack.decode(data, type=KeptAnswer) for (data,) in rows]

    def stats(self) -> dict[str, Any]:
        """``kept`` (tenant, route, answers, bytes, oldest) and ``counted`` (tenant, route, outcome, requests, ...)."""
        with self._opened() as connection:
            kept = connection.execute(
                "SELECT tenant, route, count(DISTINCT key), sum(size), min(created) FROM answers WHERE expires > ? "
                "GROUP BY tenant, route ORDER BY tenant, route",
                (now_us(),),
            ).fetchall()
            counted = connection.execute(
                "SELECT tenant, route, outcome, requests, nanos, saved_us, since FROM tally ORDER BY 1, 2, 3"
            ).fetchall()
            bands = bytes(connection.execute("SELECT value FROM state WHERE name = 'bands'").fetchone()[0])
        names = ("tenant", "route", "answers", "bytes", "oldest")
        counts = ("tenant", "route", "outcome", "requests", "nanos", "saved_us", "since")
        return {
            "kept": [dict(zip(names, row, strict=True)) for row in kept],
            "counted": [dict(zip(counts, row, strict=True)) for row in counted],
            "bands": bands,
        }

    def count(
        self, *, tenant: str | None = None, route: str | None = None, release: str | None = None,
        subject: str | None = None,
    ) -> int:  # fmt: skip
        """How many answers ``purge`` with the same limits would delete."""
        limits = _limits(tenant, route, release, subject)
        with self._opened() as connection:
            return int(connection.execute(_COUNT, limits).fetchone()[0])

    def purge(
        self, *, tenant: str | None = None, route: str | None = None, release: str | None = None,
        subject: str | None = None, learnt: bool = False,
    ) -> int:  # fmt: skip
        """Delete answers within all limits that are given, and leave no bytes of them; returns how many.

        Every process forgets what it holds in memory within a second, and reads what is left anew. ``learnt``: what
        was learnt of likeness, too.
        """
        limits = _limits(tenant, route, release, subject)
        with self._opened() as connection:
            with _writing(connection):
                gone = connection.execute(_COUNT, limits).fetchone()[0]
                connection.execute(_PURGE, limits)
                connection.execute("UPDATE state SET value = value + 1 WHERE name = 'generation'")
                if learnt:
                    connection.execute("UPDATE state SET value = x'' WHERE name = 'bands'")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return int(gone)

    def close(self) -> None:
        """Let go of the file. Idempotent; it opens again when it is needed."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _generation(self, connection: sqlite3.Connection) -> int:
        return int(connection.execute("SELECT value FROM state WHERE name = 'generation'").fetchone()[0])

    @contextlib.contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = self._open()
                yield self._connection
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError) and "malformed" not in str(error):
                    raise StoreError(detail=f"The kept answers in {self._path} cannot be used: {error}") from error
                self._put_aside(str(error))
                raise StoreError(detail=self.words[-1]) from error

    def _open(self) -> sqlite3.Connection:
        try:
            return self._connect()
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError):
                raise
            self._put_aside(str(error))
            return self._connect()

    def _connect(self) -> sqlite3.Connection:
        if not self._path.exists():
            self._path.touch(mode=0o600)
        connection = sqlite3.connect(self._path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        try:
            for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "secure_delete=ON"):
                connection.execute(f"PRAGMA {pragma}")
            with _writing(connection):
                version = connection.execute("PRAGMA user_version").fetchone()[0]
                if version == 0:
                    for statement in _SCHEMA.split(";"):
                        connection.execute(statement)
            if version not in (0, VERSION):
                raise sqlite3.DatabaseError(f"it is of version {version}, this Fairlead writes {VERSION}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _put_aside(self, why: str) -> None:
        """Delete the file and say so; another process that has it open finds out in the same way."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        for suffix in ("", "-wal", "-shm"):
            Path(f"{self._path}{suffix}").unlink(missing_ok=True)
        self.words.append(f"The kept answers in {self._path} could not be read ({why}) and were dropped.")
        logger.warning(self.words[-1])


@contextlib.contextmanager
def _writing(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _limits(tenant: str | None, route: str | None, release: str | None, subject: str | None) -> dict[str, str | None]:
    return {"tenant": tenant, "route": route, "release": release, "subject": subject}
