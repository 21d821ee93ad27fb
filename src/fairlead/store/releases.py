"""Releases (frozen variants) and the use case files that produced them."""

from __future__ import annotations

import msgspec
from sqlalchemy import select, update

from fairlead.errors import RecordUnknown
from fairlead.records import Release, now_us
from fairlead.store import schema
from fairlead.store.database import Database
from fairlead.store.rows import clean, record_of, row_of


class StoredUseCase(msgspec.Struct, frozen=True, kw_only=True):
    """A use case file as it once was. ``content`` is its canonical JSON, ``time`` when it was first seen."""

    name: str
    spec_hash: str
    content: str
    time: int


class UseCases:
    """Every version of every use case that ever ran here, by its hash."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, name: str, spec_hash: str, content_json: str) -> None:
        """Keep a version. Idempotent."""
        table = schema.usecases
        with self._database.write() as connection:
            if connection.execute(select(table.c.name).where(table.c.spec_hash == spec_hash)).first() is None:
                connection.execute(
                    table.insert().values(
                        name=clean(name), spec_hash=spec_hash, content=clean(content_json), time=now_us()
                    )
                )

    def get(self, spec_hash: str) -> StoredUseCase | None:
        """The version with this hash."""
        with self._database.read() as connection:
            row = connection.execute(select(schema.usecases).where(schema.usecases.c.spec_hash == spec_hash)).first()
        return None if row is None else record_of(StoredUseCase, row)

    def list(self) -> list[StoredUseCase]:
        """All versions, oldest first."""
        table = schema.usecases
        with self._database.read() as connection:
            rows = connection.execute(select(table).order_by(table.c.time, table.c.spec_hash)).all()
        return [record_of(StoredUseCase, row) for row in rows]


class Releases:
    """What may answer, and which one does."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, release: Release) -> None:
        """Keep a release. Idempotent: one that is known keeps its state."""
        table = schema.releases
        known = select(table.c.id).where(table.c.id == release.id, table.c.usecase == release.usecase)
        with self._database.write() as connection:
            if connection.execute(known).first() is None:
                connection.execute(table.insert().values(row_of(release)))

    def get(self, release: str) -> Release | None:
        """The release with this hash."""
        with self._database.read() as connection:
            row = connection.execute(select(schema.releases).where(schema.releases.c.id == release)).first()
        return None if row is None else record_of(Release, row)

    def list(self, usecase: str | None = None) -> list[Release]:
        """All releases, oldest first."""
        table = schema.releases
        query = select(table).order_by(table.c.time, table.c.id)
        if usecase is not None:
            query = query.where(table.c.usecase == usecase)
        with self._database.read() as connection:
            return [record_of(Release, row) for row in connection.execute(query)]

    def live(self, usecase: str) -> Release | None:
        """The release that answers for a use case."""
        table = schema.releases
        with self._database.read() as connection:
            row = connection.execute(select(table).where(table.c.usecase == usecase, table.c.state == "live")).first()
        return None if row is None else record_of(Release, row)

    def set_live(self, usecase: str, release: str) -> Release:
        """Let this release answer; the one that did is retired. Raises RecordUnknown when it was never put."""
        table = schema.releases
        mine = table.c.usecase == usecase
        with self._database.write(durable=True) as connection:
            row = connection.execute(select(table).where(mine, table.c.id == release)).first()
            if row is None:
                raise RecordUnknown(kind="release", id=release)
            connection.execute(
                update(table).where(mine, table.c.state == "live", table.c.id != release).values(state="retired")
            )
            connection.execute(update(table).where(mine, table.c.id == release).values(state="live"))
            row = connection.execute(select(table).where(mine, table.c.id == release)).one()
        return record_of(Release, row)
