"""Versions of data sets, with their samples as an object under the hash of its content; and verdicts."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from sqlalchemy import func, select

from fairlead.errors import DatasetUnknown
from fairlead.records import DatasetVersion, Sample, Verdict
from fairlead.store import schema
from fairlead.store.database import Database
from fairlead.store.objects import Objects
from fairlead.store.rows import clean, record_of, row_of

_ENCODER = msgspec.json.Encoder(order="deterministic")
_DECODER = msgspec.json.Decoder(Sample)


class Datasets:
    """What is measured on and learnt from. A version never changes; the same samples are the same version."""

    def __init__(self, database: Database, objects: Objects) -> None:
        self._database = database
        self._objects = objects

    def put(self, version: DatasetVersion, samples: Iterable[Sample]) -> DatasetVersion:
        """Keep samples as the newest version and return it; ``content``, ``version`` and ``parent`` are filled in here.

        When the newest version has the same content, purpose and licence, that one is returned. Raises StoreFull.
        """
        lines = b"".join(_ENCODER.encode(clean(msgspec.to_builtins(sample))) + b"\n" for sample in samples)
        content = self._objects.put(lines)
        table = schema.datasets
        newest = select(table).where(table.c.name == clean(version.name)).order_by(table.c.version.desc()).limit(1)
        with self._database.write(durable=True) as connection:
            row = connection.execute(newest).first()
            before = None if row is None else record_of(DatasetVersion, row)
            if before is not None and _same(before, version, content):
                return before
            kept = msgspec.structs.replace(
                version,
                content=content,
                version=before.version + 1 if before else 1,
                parent=before.content if before else "",
            )
            connection.execute(table.insert().values(row_of(kept)))
        return kept

    def get(self, name: str, version: int | None = None) -> DatasetVersion:
        """The newest version, or the one asked for. Raises DatasetUnknown."""
        table = schema.datasets
        query = select(table).where(table.c.name == clean(name))
        if version is not None:
            query = query.where(table.c.version == version)
        with self._database.read() as connection:
            row = connection.execute(query.order_by(table.c.version.desc()).limit(1)).first()
        if row is None:
            shown = name if version is None else f"{name}@{version}"
            known = ", ".join(f"{each.name}@{each.version}" for each in self.newest())
            raise DatasetUnknown(name=shown, known=known or "none")
        return record_of(DatasetVersion, row)

    def newest(self) -> list[DatasetVersion]:
        """The newest version of every data set, by name."""
        table = schema.datasets
        last = select(table.c.name, func.max(table.c.version).label("version")).group_by(table.c.name).subquery()
        query = select(table).join(last, (table.c.name == last.c.name) & (table.c.version == last.c.version))
        with self._database.read() as connection:
            return [record_of(DatasetVersion, row) for row in connection.execute(query.order_by(table.c.name))]

    def versions(self, name: str) -> list[DatasetVersion]:
        """All versions, oldest first; empty for an unknown name."""
        table = schema.datasets
        query = select(table).where(table.c.name == clean(name)).order_by(table.c.version)
        with self._database.read() as connection:
            return [record_of(DatasetVersion, row) for row in connection.execute(query)]

    def samples(self, version: DatasetVersion) -> list[Sample]:
        """The samples of a version, in their order. Raises RecordUnknown or ObjectDamaged when they have gone."""
        with self._objects.get(version.content).open("rb") as file:
            return [_DECODER.decode(line) for line in file]


def _same(before: DatasetVersion, now: DatasetVersion, content: str) -> bool:
    return (before.content, before.purpose, before.licence) == (content, now.purpose, now.licence)


class Verdicts:
    """What followed for objectives: written once, read by whoever shows or obeys it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, verdicts: Iterable[Verdict]) -> None:
        """Keep verdicts, all or none."""
        rows = [row_of(verdict) for verdict in verdicts]
        if rows:
            with self._database.write(durable=True) as connection:
                connection.execute(schema.verdicts.insert(), rows)

    def list(
        self,
        *,
        since: int,
        until: int,
        usecase: str | None = None,
        objective: str | None = None,
        step: str | None = None,
        release: str | None = None,
        limit: int = 1_000,
    ) -> list[Verdict]:
        """Verdicts of ``since <= time < until``, newest first."""
        table = schema.verdicts
        query = select(table).where(table.c.time >= since, table.c.time < until)
        wanted = {"usecase": usecase, "objective": objective, "step": step, "release": release}
        for name, value in wanted.items():
            if value is not None:
                query = query.where(table.c[name] == clean(value))
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(table.c.time.desc(), table.c.id.desc()).limit(limit)).all()
        return [record_of(Verdict, row) for row in rows]
