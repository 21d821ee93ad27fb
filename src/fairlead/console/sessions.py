"""Who is logged in to the console: opaque tokens held here, each bound to an API key of a scope in SCOPES.

A session ends when its key is revoked or expires (by any process), when it is left alone, or when it grows old. It
lives in this process's memory: after a restart one logs in again. Knows nothing of cookies or pages.
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from fairlead.store import Store

ADMIN = "admin"
SCOPES = frozenset({ADMIN, "operator"})
"""``admin`` sees everything of its tenant, ``operator`` the inbox and the conversations only."""
IDLE_S = 2 * 3600.0
AGE_S = 12 * 3600.0
MAX_SESSIONS = 1_000


class Session(msgspec.Struct, kw_only=True):
    """One login. ``csrf`` must come back with every form; ``tenant`` and ``admin`` bound everything that is shown."""

    key_id: str
    key_name: str
    tenant: str
    admin: bool
    csrf: str
    started: float
    seen: float


class Sessions:
    """Open sessions by the digest of their token. Thread-safe."""

    def __init__(self, store: Store, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._keys = store.keys
        self._clock = clock
        self._lock = threading.Lock()
        self._open: OrderedDict[str, Session] = OrderedDict()
        self._version: int | None = None
        self._valid: frozenset[str] = frozenset()
        self._checked = float("-inf")

    def login(self, secret: str) -> tuple[str, Session] | None:
        """A token and its session when ``secret`` is a valid key that may; None says nothing about why not."""
        key = self._keys.verify(secret)
        if key is None or not SCOPES & set(key.scopes):
            return None
        token, now = secrets.token_urlsafe(32), self._clock()
        session = Session(
            key_id=key.id,
            key_name=key.name,
            tenant=key.tenant,
            admin=ADMIN in key.scopes,
            csrf=secrets.token_urlsafe(24),
            started=now,
            seen=now,
        )
        with self._lock:
            self._open[_digest(token)] = session
            while len(self._open) > MAX_SESSIONS:
                self._open.popitem(last=False)
        return token, session

    def get(self, token: str) -> Session | None:
        """The session of a token that still holds."""
        now = self._clock()
        with self._lock:
            session = self._open.get(_digest(token))
            if session is None:
                return None
            holds = now - session.seen < IDLE_S and now - session.started < AGE_S and self._key_holds(session, now)
            if not holds:
                del self._open[_digest(token)]
                return None
            session.seen = now
            self._open.move_to_end(_digest(token))
            return session

    def logout(self, token: str) -> None:
        """End a session. Unknown tokens are fine."""
        with self._lock:
            self._open.pop(_digest(token), None)

    def _key_holds(self, session: Session, now: float) -> bool:
        # The version sees every revocation at once; expiry changes nothing in the store, so look again each minute.
        version = self._keys.version()
        if version != self._version or now - self._checked > 60.0:
            self._valid = frozenset(key.id for key in self._keys.active() if SCOPES & set(key.scopes))
            self._version, self._checked = version, now
        return session.key_id in self._valid


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
