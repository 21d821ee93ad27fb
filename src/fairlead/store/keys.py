"""API keys at rest. A secret is 256 random bits, so a plain SHA-256 of it cannot be guessed back."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable

import msgspec
from sqlalchemy import Connection, or_, select, update

from fairlead.errors import KeyAmbiguous, KeyEnded, KeyUnknown
from fairlead.records import Key, Limits, Priority, new_id, now_us
from fairlead.store import schema
from fairlead.store.database import Database
from fairlead.store.rows import record_of, row_of

_PREFIX = 11
_VERSION = "keys_version"


def digest_of(secret: str) -> str:
    """What is stored of a secret: its SHA-256 in hex."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


class Keys:
    """Create, rotate, revoke, list. Secrets are shown once and never stored."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._seen: tuple[int, int] | None = None

    def create(
        self,
        name: str,
        scopes: Iterable[str],
        tenant: str = "default",
        expires: int | None = None,
        *,
        models: Iterable[str] = (),
        operations: Iterable[str] = (),
        priority: Priority = "standard",
        limits: Limits | None = None,
    ) -> tuple[Key, str]:
        """A new key and its secret. ``expires`` is a time in microseconds since the epoch."""
        identifier, secret = new_id(), _new_secret()
        key = Key(
            id=identifier,
            name=name,
            prefix=secret[:_PREFIX],
            digest=digest_of(secret),
            scopes=tuple(scopes),
            tenant=tenant,
            created=now_us(),
            expires=expires,
            origin=identifier,
            models=tuple(models),
            operations=tuple(operations),
            priority=priority,
            limits=limits or Limits(),
        )
        with self._database.write(durable=True) as connection:
            connection.execute(schema.keys.insert().values(row_of(key)))
            _bump(connection)
        return key, secret

    def rotate(self, id_or_prefix: str, overlap_us: int) -> tuple[Key, Key, str]:
        """Replace a key: (the old one, which ends ``overlap_us`` from now at the latest, its successor, whose secret).

        The successor opens the same, ends when the old one was to end, and counts against the same limits and budgets.
        Raises KeyUnknown, KeyAmbiguous, or KeyEnded for a key that opens nothing any more.
        """
        secret, now, table = _new_secret(), now_us(), schema.keys
        with self._database.write(durable=True) as connection:
            old = _find(connection, id_or_prefix)
            if old.revoked is not None or (old.expires is not None and old.expires <= now):
                raise KeyEnded(name=old.prefix, state="revoked" if old.revoked is not None else "expired")
            ends = now + overlap_us if old.expires is None else min(old.expires, now + overlap_us)
            new = msgspec.structs.replace(
                old, id=new_id(), prefix=secret[:_PREFIX], digest=digest_of(secret), created=now
            )
            connection.execute(table.insert().values(row_of(new)))
            connection.execute(update(table).where(table.c.id == old.id).values(expires=ends))
            _bump(connection)
        return msgspec.structs.replace(old, expires=ends), new, secret

    def revoke(self, id_or_prefix: str) -> Key:
        """Make a key invalid, for good. Raises KeyUnknown or KeyAmbiguous."""
        table = schema.keys
        with self._database.write(durable=True) as connection:
            key = _find(connection, id_or_prefix)
            when = key.revoked or now_us()
            connection.execute(update(table).where(table.c.id == key.id).values(revoked=when))
            _bump(connection)
        return msgspec.structs.replace(key, revoked=when)

    def find(self, name: str) -> Key | None:
        """The newest key with this id or origin."""
        table = schema.keys
        query = select(table).where(or_(table.c.id == name, table.c.origin == name)).order_by(table.c.created.desc())
        with self._database.read() as connection:
            row = connection.execute(query.limit(1)).first()
        return None if row is None else record_of(Key, row)

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


def _new_secret() -> str:
    return "fl-" + secrets.token_urlsafe(32)


def _find(connection: Connection, id_or_prefix: str) -> Key:
    table = schema.keys
    wanted = or_(table.c.id == id_or_prefix, table.c.prefix == id_or_prefix[:_PREFIX])
    found = [record_of(Key, row) for row in connection.execute(select(table).where(wanted))]
    if not found:
        raise KeyUnknown(name=id_or_prefix[:_PREFIX])
    if len(found) > 1:
        raise KeyAmbiguous(name=id_or_prefix[:_PREFIX], found=", ".join(key.id for key in found))
    return found[0]


def _bump(connection: Connection) -> None:
    table = schema.meta
    value = connection.execute(select(table.c.value).where(table.c.name == _VERSION)).scalar_one_or_none()
    if value is None:
        connection.execute(table.insert().values(name=_VERSION, value="1"))
    else:
        connection.execute(update(table).where(table.c.name == _VERSION).values(value=str(int(value) + 1)))
