"""The audit log: who did what, when and why. Each entry holds the hash of the one before, so that a change shows.

The chain proves that entries were not altered, removed or put in between by someone who cannot rewrite the whole
database; keep ``head`` somewhere else to prove it against someone who can.
"""

from __future__ import annotations

import hashlib

import msgspec
from sqlalchemy import Connection, select, update

from fairlead.records import AuditEntry
from fairlead.store import schema
from fairlead.store.database import Database
from fairlead.store.rows import clean, record_of, row_of

_HEAD = "audit_head"
_START = "0" * 64


class Audit:
    """Append and verify; entries are never changed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def append(self, entry: AuditEntry) -> AuditEntry:
        """Add an entry; its ``previous`` is filled in. Returns it as stored."""
        with self._database.write(durable=True) as connection:
            count, head = _head(connection)
            row = row_of(msgspec.structs.replace(entry, previous=head))
            stored = msgspec.convert(row, AuditEntry)
            digest = _digest(stored)
            connection.execute(schema.audit.insert().values(**row, hash=digest))
            value = f"{count + 1} {digest}"
            if count:
                connection.execute(update(schema.meta).where(schema.meta.c.name == _HEAD).values(value=value))
            else:
                connection.execute(schema.meta.insert().values(name=_HEAD, value=value))
        return stored

    def list(
        self, *, since: int, until: int, tenant: str | None = None, limit: int = 100, before: str | None = None
    ) -> list[AuditEntry]:
        """Entries with ``since <= time < until``, newest first; ``before`` is the id of the last one already seen."""
        table = schema.audit
        query = select(table).where(table.c.time >= since, table.c.time < until)
        if tenant is not None:
            query = query.where(table.c.tenant == clean(tenant))
        if before is not None:
            seen = select(table.c.sequence).where(table.c.id == clean(before)).scalar_subquery()
            query = query.where(table.c.sequence < seen)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(table.c.sequence.desc()).limit(limit)).all()
        return [record_of(AuditEntry, row) for row in rows]

    def head(self) -> tuple[int, str]:
        """How many entries there are and the hash of the last."""
        with self._database.read() as connection:
            return _head(connection)

    def verify(self) -> bool:
        """Whether every entry is as it was written, none is missing, and the last one is the last one written."""
        previous, count = _START, 0
        with self._database.read() as connection:
            rows = connection.execute(select(schema.audit).order_by(schema.audit.c.sequence))
            for row in rows:
                entry = record_of(AuditEntry, row)
                if entry.previous != previous or row.hash != _digest(entry):
                    return False
                previous, count = row.hash, count + 1
            return _head(connection) == (count, previous)


def _head(connection: Connection) -> tuple[int, str]:
    value = connection.execute(select(schema.meta.c.value).where(schema.meta.c.name == _HEAD)).scalar_one_or_none()
    if value is None:
        return 0, _START
    count, _, digest = value.partition(" ")
    return int(count), digest


def _digest(entry: AuditEntry) -> str:
    return hashlib.sha256(msgspec.json.encode(entry, order="deterministic")).hexdigest()
