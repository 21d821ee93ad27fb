"""Batches: the row that says how one stands, and the folder where its work lies until it is over.

While a job works on a batch, its writes carry the job's ``attempt``: those of an earlier one change nothing any more.
The end of a batch, with the files made for it, is one transaction.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, select, update

from fairlead.records import Batch, BatchStatus, StoredFile, now_us
from fairlead.store import files, schema
from fairlead.store.database import Database
from fairlead.store.rows import clean, record_of, row_of

_TABLE = schema.batches
INPUT = "input.jsonl"
RUNNING: tuple[BatchStatus, ...] = ("validating", "in_progress", "finalizing", "cancelling")


class Batches:
    """Batches by id."""

    def __init__(self, database: Database, directory: Path) -> None:
        self._database = database
        self._directory = directory

    # --- who wants answers --------------------------------------------------------------------------------------

    def create(self, batch: Batch, source: Path) -> Batch:
        """Keep a new batch. Its input is its own from now on, whatever becomes of the file. Raises StoreFull."""
        folder = self.folder(batch.id)
        with files.explained(folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                os.link(source, folder / INPUT)
            except FileNotFoundError:
                raise
            except OSError:  # a file system without hard links
                shutil.copyfile(source, folder / INPUT)
        with self._database.write(durable=True) as connection:
            connection.execute(_TABLE.insert().values(row_of(batch)))
        return batch

    def get(self, identifier: str, tenant: str | None = None) -> Batch | None:
        """The batch with this id, if it is ``tenant``'s (None: anyone's)."""
        query = select(_TABLE).where(_TABLE.c.id == clean(identifier))
        if tenant is not None:
            query = query.where(_TABLE.c.tenant == tenant)
        with self._database.read() as connection:
            row = connection.execute(query).first()
        return None if row is None else record_of(Batch, row)

    def page(self, tenant: str | None, *, after: Batch | None = None, limit: int = 20) -> list[Batch]:
        """A tenant's batches (None: everyone's), newest first, those older than one of them."""
        query = select(_TABLE).order_by(_TABLE.c.id.desc()).limit(limit)
        if tenant is not None:
            query = query.where(_TABLE.c.tenant == tenant)
        if after is not None:
            query = query.where(_TABLE.c.id < after.id)
        with self._database.read() as connection:
            return [record_of(Batch, row) for row in connection.execute(query)]

    def unfinished(self) -> list[Batch]:
        """Everyone's batches that have not ended."""
        with self._database.read() as connection:
            rows = connection.execute(select(_TABLE).where(_TABLE.c.status.in_(RUNNING)).order_by(_TABLE.c.id))
            return [record_of(Batch, row) for row in rows]

    def cancel(self, identifier: str) -> Batch | None:
        """Ask for its end; one that has ended stays as it is. The job that works on it sees to the rest."""
        with self._database.write(durable=True) as connection:
            row = _row(connection, identifier)
            if row is None or row.status not in RUNNING or row.status == "cancelling":
                return None if row is None else record_of(Batch, row)
            return _change(connection, row, {"status": "cancelling"})

    # --- the job that works on it -------------------------------------------------------------------------------

    def begin(self, identifier: str, attempt: int) -> Batch | None:
        """Make it ``attempt``'s. None when a later attempt has it."""
        with self._database.write(durable=True) as connection:
            row = _row(connection, identifier)
            if row is None or row.attempt > attempt:
                return None
            return _change(connection, row, {"attempt": attempt})

    def change(self, batch: Batch, values: dict[str, Any], *, only: Collection[BatchStatus] = RUNNING) -> Batch | None:
        """Write as ``batch.attempt``, if its status is one of ``only``; else it comes back as it is.

        None when a later attempt has it.
        """
        with self._database.write(durable="status" in values) as connection:
            row = _row(connection, batch.id)
            if row is None or row.attempt != batch.attempt:
                return None
            return _change(connection, row, values) if row.status in only else record_of(Batch, row)

    def finish(self, batch: Batch, values: dict[str, Any], made: Collection[StoredFile] = ()) -> Batch | None:
        """End it, with the files made for it; ``values`` holds the status. A wish to cancel that came in time counts.

        None when a later attempt has it, or it has ended.
        """
        with self._database.write(durable=True) as connection:
            row = _row(connection, batch.id)
            if row is None or row.attempt != batch.attempt or row.status not in RUNNING:
                return None
            if row.status == "cancelling" and values["status"] != "failed":
                values = {**values, "status": "cancelled"}
            for file in made:
                files.insert(connection, file)
            return _change(connection, row, values)

    # --- its folder ---------------------------------------------------------------------------------------------

    def folder(self, identifier: str) -> Path:
        """Where its input and what is answered so far lie."""
        return self._directory / identifier

    def clear(self, identifier: str) -> None:
        """Delete the folder of a batch that has ended. Idempotent."""
        with contextlib.suppress(FileNotFoundError):
            shutil.rmtree(self.folder(identifier))


def _row(connection: Connection, identifier: str) -> Row[Any] | None:
    return connection.execute(select(_TABLE).where(_TABLE.c.id == clean(identifier))).first()


def _change(connection: Connection, row: Row[Any], values: dict[str, Any]) -> Batch:
    if values.get("status", row.status) != row.status:
        values = {**values, "times": {**row.times, values["status"]: now_us()}}
    connection.execute(update(_TABLE).where(_TABLE.c.id == row.id).values(clean(values)))
    return record_of(Batch, connection.execute(select(_TABLE).where(_TABLE.c.id == row.id)).one())
