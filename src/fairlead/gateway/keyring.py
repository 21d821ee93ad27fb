"""Who asks: principals, and the keys that prove them, held in memory so that no request waits for a database.

A key is looked up by the SHA-256 of its secret. Keys made or revoked by another process take effect within POLL_S.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
from collections.abc import Sequence
from typing import Protocol

import msgspec

from fairlead.errors import FairleadError, KeyMissing, KeyRefused, ModelForbidden, OperationForbidden
from fairlead.providers.base import Operation
from fairlead.records import Key, Limits, Priority, now_us

POLL_S = 0.5
INFERENCE, ADMIN = "inference", "admin"
NO_LIMITS = Limits()
logger = logging.getLogger(__name__)


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks. ``subject`` is a pseudonym or empty, ``key_id`` empty for a caller without a key.

    ``account`` is what limits and budgets of the key are counted under (it outlives a rotation); ``models`` and
    ``operations`` are those the key opens, all when empty.
    """

    tenant: str = "default"
    subject: str = ""
    key_id: str = ""
    scopes: frozenset[str] = frozenset({INFERENCE})
    account: str = ""
    models: frozenset[str] = frozenset()
    operations: frozenset[str] = frozenset()
    priority: Priority = "standard"
    limits: Limits = NO_LIMITS

    def demand(self, model: str, operation: Operation | None = None) -> None:
        """Raise ModelForbidden or OperationForbidden unless the key opens them."""
        if self.models and model not in self.models:
            raise ModelForbidden(model=repr(model[:80]), allowed=", ".join(sorted(self.models)), param="model")
        if self.operations and operation is not None and operation not in self.operations:
            raise OperationForbidden(operation=operation, allowed=", ".join(sorted(self.operations)))


def principal_of(key: Key) -> Principal:
    """Whom a key proves."""
    return Principal(
        tenant=key.tenant,
        subject=f"key:{key.id}",
        key_id=key.id,
        scopes=frozenset(key.scopes),
        account=key.origin or key.id,
        models=frozenset(key.models),
        operations=frozenset(key.operations),
        priority=key.priority,
        limits=key.limits,
    )


ANONYMOUS = Principal(subject="anonymous")


class KeySource(Protocol):
    """Where keys are kept; ``store.keys`` is one."""

    def active(self) -> Sequence[Key]:
        """Every key that is neither revoked nor expired."""
        ...

    def version(self) -> int:
        """A counter that changes with every change of a key, also one made by another process."""
        ...


class KeyRing:
    """The active keys of ``source``, by digest."""

    def __init__(self, source: KeySource, *, required: bool) -> None:
        self._source = source
        self._required = required
        self._version: int | None = None
        self._keys: dict[str, tuple[Principal, int | None]] = {}
        self._task: asyncio.Task[None] | None = None

    def refresh(self) -> None:
        """Read the keys again if any has changed."""
        version = self._source.version()
        if version == self._version:
            return
        self._keys = {key.digest: (principal_of(key), key.expires) for key in self._source.active()}
        self._version = version

    def watch(self) -> None:
        """Read the keys now and, in the running loop, follow their changes."""
        if self._task is None or self._task.done():
            self.refresh()
            self._task = asyncio.get_running_loop().create_task(self._follow())

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(POLL_S)
            try:
                await asyncio.to_thread(self.refresh)
            except (FairleadError, OSError):
                logger.exception("The API keys could not be read; those known so far stay in force.")

    async def aclose(self) -> None:
        """Stop following. Idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    def identify(self, authorization: bytes) -> Principal:
        """The principal an ``Authorization`` header proves. Raises KeyMissing, KeyRefused."""
        scheme, _, secret = authorization.strip().partition(b" ")
        secret = secret.strip()
        if scheme.lower() != b"bearer" or not secret:
            if self._required:
                raise KeyMissing
            return ANONYMOUS
        found = self._keys.get(hashlib.sha256(secret).hexdigest())
        if found is not None and (found[1] is None or found[1] > now_us()):
            return found[0]
        if self._required:
            raise KeyRefused
        return ANONYMOUS


def pseudonym(secret: bytes, tenant: str, user: str) -> str:
    """A stable stand-in for a caller's user name: HMAC-SHA-256 under ``secret``, separate for every tenant."""
    message = tenant.encode() + b"\0" + user.encode("utf-8", "surrogatepass")
    return "user:" + hmac.digest(secret, message, "sha256").hex()[:24]
