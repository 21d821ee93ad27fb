"""API keys at rest. A secret is 256 random bits, so a plain SHA-256 of it cannot be guessed back."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable

from sqlalchemy import Connection, or_, select, update

from fairlead.errors import KeyAmbiguous, KeyUnknown
from fairlead.records import Key, new_id, now_us
from fairlead.store import schema
from fairlead.store.database import Database
from fairlead.store.rows import record_of, row_of

_PREFIX = 11
_VERSION = "keys_version"


def digest_of(secret: str) -> str:
    """What is stored of a secret: its SHA-256 in hex."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


class Keys:
    """Create, revoke, list. Secrets are shown once and never stored."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._seen: tuple[int, int] | None = None

    def create(
        self, name: str, scopes: Iterable[str], tenant: str = "default", expires: int | None = None
    ) -> tuple[Key, str]:
        """A new key and its secret. ``expires`` is a time in microseconds since the epoch."""
        secret = "fl-" + secrets.token_urlsafe(32)
        key = Key(
            id=new_id(),
            name=name,
            prefix=secret[:_PREFIX],
            digest=digest_of(secret),
            scopes=tuple(scopes),
            tenant=tenant,
            created=now_us(),
            expires=expires,
        )
        with self._database.write(durable=True) as connection:
            connection.execute(schema.keys.insert().values(row_of(key)))
            _bump(connection)
        return key, secret

    def revoke(self, id_or_prefix: str) -> Key:
        """Make a key invalid, for good. Raises KeyUnknown or KeyAmbiguous."""
        table = schema.keys
        with self._database.write(durable=True) as connection:
            rows = connection.execute(
                select(table).where(or_(table.c.id == id_or_prefix, table.c.prefix == id_or_prefix[:_PREFIX]))
            ).all()
            found = [record_of(Key, row) for row in rows]
            if not found:
                raise KeyUnknown(name=id_or_prefix[:_PREFIX])
            if len(found) > 1:
                raise KeyAmbiguous(name=id_or_prefix[:_PREFIX], found=", ".join(key.id for key in found))
            key = found[0]
            when = key.revoked or now_us()
            connection.execute(update(table).where(table.c.id == key.id).values(revoked=when))
            _bump(connection)
            row = connection.execute(select(table).where(table.c.id == key.id)).one()
        return record_of(Key, row)

    def active(self) -> list[Key]:
        """The keys that open the door now: neither revoked nor expired."""
        now = now_us()
        return [key for key in self.list() if key.revoked is None and (key.expires is None or key.expires > now)]

    def verify(self, secret: str) -> Key | None:
        """The active key this secret belongs to. Compares in constant time."""
        digest = digest_of(secret)
        found: Key | None = None
        for key in self.active():
            if hmac.compare_digest(key.digest, digest):
                found = key
        return found

    def version(self) -> int:
        """Changes whenever a key is made or revoked, by any process. A few microseconds: made to be asked often."""
        change = self._database.change()
        seen = self._seen
        if seen is None or seen[0] != change:
            value = self._database.scalar("SELECT value FROM meta WHERE name = ?", _VERSION)
            seen = self._seen = (change, int(value or 0))
        return seen[1]

    def list(self) -> list[Key]:
        """Every key ever made, oldest first."""
        with self._database.read() as connection:
            rows = connection.execute(select(schema.keys).order_by(schema.keys.c.created, schema.keys.c.id)).all()
        return [record_of(Key, row) for row in rows]


def _bump(connection: Connection) -> None:
    table = schema.meta
    value = connection.execute(select(table.c.value).where(table.c.name == _VERSION)).scalar_one_or_none()
    if value is None:
        connection.execute(table.insert().values(name=_VERSION, value="1"))
    else:
        connection.execute(update(table).where(table.c.name == _VERSION).values(value=str(int(value) + 1)))
