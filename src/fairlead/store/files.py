"""Clients' files: what they upload for batches and what is made for them, as it came, under ids of their own.

A file belongs to one tenant and is deleted when it expires. It lies under its id, so that deleting it is one step; the
row counts, and a file without one is the rest of an upload that never ended.
"""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal

from sqlalchemy import Connection, delete, func, select

from fairlead.errors import RecordUnknown, StoreFull
from fairlead.records import StoredFile, now_us
from fairlead.store import schema
from fairlead.store.database import Database
from fairlead.store.rows import clean, record_of, row_of

_TABLE = schema.files
STALE_S = 6 * 3600.0
"""Age at which a file without a row is the rest of an upload, not one that still runs."""


class Files:
    """Files by id. ``writing`` makes one, ``keep`` gives it its row."""

    def __init__(self, database: Database, directory: Path) -> None:
        self._database = database
        self._directory = directory

    @contextlib.contextmanager
    def writing(self) -> Iterator[tuple[BinaryIO, Path]]:
        """A new file to write into, gone at the end of the block unless it was kept. Raises StoreFull."""
        with explained(self._directory):
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self._directory, prefix=".new-")
            path = Path(name)
            try:
                with os.fdopen(handle, "wb") as file:
                    yield file, path
            finally:
                path.unlink(missing_ok=True)

    def keep(self, written: Path, file: StoredFile) -> StoredFile:
        """Take in what was written, on disk before it has its row. Raises StoreFull."""
        place(written, self.target(file.id))
        with self._database.write(durable=True) as connection:
            connection.execute(_TABLE.insert().values(row_of(file)))
        return file

    def get(self, identifier: str, tenant: str) -> StoredFile | None:
        """A tenant's file; None also when it has expired."""
        found = (_TABLE.c.id == clean(identifier)) & (_TABLE.c.tenant == tenant)
        with self._database.read() as connection:
            row = connection.execute(select(_TABLE).where(found)).first()
        file = None if row is None else record_of(StoredFile, row)
        return None if file is None or (file.expires is not None and file.expires <= now_us()) else file

    def path(self, file: StoredFile) -> Path:
        """Where it lies. Raises RecordUnknown when it does not."""
        path = self.target(file.id)
        if not path.is_file():
            raise RecordUnknown(kind="file", id=file.id)
        return path

    def page(
        self,
        tenant: str,
        *,
        purpose: str | None = None,
        after: StoredFile | None = None,
        limit: int = 100,
        order: Literal["asc", "desc"] = "desc",
    ) -> list[StoredFile]:
        """A tenant's files by the time they came, those after one of them."""
        now = now_us()
        query = select(_TABLE).where(_TABLE.c.tenant == tenant, _TABLE.c.expires.is_(None) | (_TABLE.c.expires > now))
        if purpose is not None:
            query = query.where(_TABLE.c.purpose == clean(purpose))
        if after is not None:
            query = query.where(_TABLE.c.id > after.id if order == "asc" else _TABLE.c.id < after.id)
        column = _TABLE.c.id.asc() if order == "asc" else _TABLE.c.id.desc()
        with self._database.read() as connection:
            return [record_of(StoredFile, row) for row in connection.execute(query.order_by(column).limit(limit))]

    def held_bytes(self, tenant: str) -> int:
        """Bytes of all files of a tenant."""
        with self._database.read() as connection:
            query = select(func.coalesce(func.sum(_TABLE.c.bytes), 0)).where(_TABLE.c.tenant == tenant)
            return int(connection.execute(query).scalar_one())

    def delete(self, file: StoredFile) -> bool:
        """Delete a file; False when it was gone already."""
        with self._database.write(durable=True) as connection:
            gone = connection.execute(delete(_TABLE).where(_TABLE.c.id == file.id)).rowcount
        self.target(file.id).unlink(missing_ok=True)
        return bool(gone)

    def sweep(self, *, stale_s: float = STALE_S) -> int:
        """Delete what has expired and what is left of uploads that never ended; returns how many files."""
        with self._database.read() as connection:
            rows = connection.execute(select(_TABLE).where(_TABLE.c.expires <= now_us())).all()
            expired = [record_of(StoredFile, row) for row in rows]
            known = set(connection.execute(select(_TABLE.c.id)).scalars())
        swept = sum(self.delete(file) for file in expired)
        for path in self._directory.glob("*"):
            with contextlib.suppress(FileNotFoundError):
                if path.name not in known and time.time() - path.stat().st_mtime > stale_s:
                    path.unlink()
                    swept += 1
        return swept

    def target(self, identifier: str) -> Path:
        """Where the file with this id lies, or would."""
        return self._directory / identifier


def insert(connection: Connection, file: StoredFile) -> None:
    """Give a file its row inside another's transaction."""
    connection.execute(_TABLE.insert().values(row_of(file)))


def place(written: Path, target: Path) -> None:
    """Move a file to its place so that it is there whole or not at all, also after a power cut. Raises StoreFull."""
    with explained(target):
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with written.open("rb") as file:
            os.fsync(file.fileno())
        written.replace(target)
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """A full disk as StoreFull."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise StoreFull(path=path, detail=error.strerror) from error
        raise
