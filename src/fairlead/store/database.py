"""The SQL database under the entities: opening, migrating, transactions, and errors people can act on.

Only this module knows that it is SQLite: write-ahead log, ``secure_delete`` (what is deleted is overwritten), one
writer at a time. It knows nothing of the tables' meaning.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shlex
import sqlite3
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event, exc

from fairlead.errors import StoreBusy, StoreDamaged, StoreError, StoreFull, StoreNewer
from fairlead.store.schema import HEAD, metadata

BUSY_MS = 10_000
_WRITE = "fairlead_write"
_DAMAGED = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
_BUSY = ("SQLITE_BUSY", "SQLITE_LOCKED")
_FULL = ("SQLITE_FULL", "SQLITE_IOERR")


class Database:
    """One database file. Thread-safe; any number of processes may hold it open."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._watch_lock = threading.Lock()
        self._watch: sqlite3.Connection | None = None
        self.engine = _engine(path)
        try:
            with self._explained(), _exclusive(path.with_name("store.lock")):
                self._migrate()
        except BaseException:
            self.close()
            raise

    @contextlib.contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection whose statements see one snapshot."""
        with self._explained(), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextlib.contextmanager
    def write(self, *, durable: bool = False) -> Iterator[Connection]:
        """A write transaction, committed at the end of the block. ``durable`` waits until the disk has it."""
        with self._lock, self._explained(), self.engine.connect() as connection:
            connection = connection.execution_options(**{_WRITE: True})
            if durable:
                _driver(connection).execute("PRAGMA synchronous=FULL")
            try:
                with connection.begin():
                    yield connection
            finally:
                if durable:
                    _driver(connection).execute("PRAGMA synchronous=NORMAL")

    def change(self) -> int:
        """A number that changes when anyone commits a change to the database; a few microseconds."""
        with self._watch_lock, self._explained():
            return int(self._watcher().execute("PRAGMA data_version").fetchone()[0])

    def scalar(self, sql: str, *values: Any) -> Any:
        """The first column of the first row, without SQLAlchemy's overhead; None when there is no row."""
        with self._watch_lock, self._explained():
            row = self._watcher().execute(sql, values).fetchone()
        return None if row is None else row[0]

    def truncate_log(self, *, patience_s: float = 5.0) -> bool:
        """Move the write-ahead log into the file and empty it. False when a reader kept it busy all the time."""
        deadline = time.monotonic() + patience_s
        while True:
            with self._lock, self._explained(), self.engine.connect() as connection:
                busy = _driver(connection).execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]
            if not busy or time.monotonic() > deadline:
                return not busy
            time.sleep(0.05)

    def vacuum(self) -> None:
        """Rewrite the file, so that no page keeps bytes of deleted rows."""
        with self._lock, self._explained(), self.engine.connect() as connection:
            _driver(connection).execute("VACUUM")

    def problems(self) -> list[str]:
        """What a full check of the file finds; empty when it is whole."""
        try:
            with self._explained(), self.engine.connect() as connection:
                lines = [str(row[0]) for row in _driver(connection).execute("PRAGMA integrity_check(20)")]
        except StoreDamaged as error:
            return [str(error.details["detail"])]
        return [] if lines == ["ok"] else lines

    def revision(self) -> str | None:
        """The schema revision the file is at; empty before the first, None for a file without tables."""
        with self.engine.connect() as connection:
            driver = _driver(connection)
            if not driver.execute("SELECT 1 FROM sqlite_master WHERE name = 'alembic_version'").fetchone():
                return None
            row = driver.execute("SELECT version_num FROM alembic_version").fetchone()
            return "" if row is None else str(row[0])

    def close(self) -> None:
        """Release every connection."""
        with self._watch_lock:
            if self._watch is not None:
                self._watch.close()
                self._watch = None
        self.engine.dispose()

    def _watcher(self) -> sqlite3.Connection:
        # Its own connection, because data_version only counts the commits of others.
        if self._watch is None:
            self._watch = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
            self._watch.execute(f"PRAGMA busy_timeout={BUSY_MS}")
        return self._watch

    def _migrate(self) -> None:
        found = self.revision()
        if found == HEAD:
            return
        if found is None:
            self._create()
            return
        from fairlead.store import migrations  # Alembic takes 0.2 s to import and is needed once per upgrade

        if found and found not in migrations.revisions():
            raise StoreNewer(path=self.path, found=found, expected=HEAD)
        migrations.upgrade(self.engine)

    def _create(self) -> None:
        # The tables as they are now; a test proves that migrating step by step gives the very same schema.
        with self.engine.connect() as plain:
            connection = plain.execution_options(**{_WRITE: True})
            with connection.begin():
                metadata.create_all(connection)
                connection.exec_driver_sql(
                    "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, "
                    "CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
                )
                connection.exec_driver_sql("INSERT INTO alembic_version (version_num) VALUES (?)", (HEAD,))

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except exc.DBAPIError as error:
            raise _explain(error.orig, self.path) from error
        except sqlite3.Error as error:
            raise _explain(error, self.path) from error


def _mending(directory: Path) -> str:
    """The command that mends a store, for the Python that runs now: another may not have Fairlead."""
    return shlex.join([sys.executable, "-m", "fairlead.store", "mend", str(directory)])


def _explain(error: BaseException | None, path: Path) -> Exception:
    name = getattr(error, "sqlite_errorname", "") or ""
    if name.startswith(_DAMAGED):
        return StoreDamaged(path=path, detail=str(error), command=_mending(path.parent))
    if name.startswith(_BUSY):
        return StoreBusy(path=path, seconds=BUSY_MS // 1000)
    if name.startswith(_FULL):
        return StoreFull(path=path, detail=str(error))
    return StoreError(detail=f"The store {path} refused: {error}")


def _driver(connection: Connection) -> sqlite3.Connection:
    driver = connection.connection.driver_connection
    assert isinstance(driver, sqlite3.Connection)
    return driver


def _engine(path: Path) -> Engine:
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": BUSY_MS / 1000, "check_same_thread": False})

    @event.listens_for(engine, "connect")
    def _prepare(driver: sqlite3.Connection, _: Any) -> None:
        driver.isolation_level = None  # transactions are ours: see _begin
        try:
            for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "secure_delete=ON", "foreign_keys=ON"):
                driver.execute(f"PRAGMA {pragma}")
        except BaseException:  # the pool does not know this connection yet
            driver.close()
            raise

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # IMMEDIATE: a transaction that reads, then writes, would otherwise fail when another wrote in between.
        write = connection.get_execution_options().get(_WRITE)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")

    return engine


@contextlib.contextmanager
def _exclusive(path: Path) -> Iterator[None]:
    """Hold the lock file: two processes must not create or migrate at once."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
