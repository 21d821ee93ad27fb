"""How much one client may ask of the pages: token buckets and open-stream counts, in memory, per address.

Knows nothing of HTTP beyond a client's address. Tables are bounded: the least recently seen client is forgotten first,
which can only ever be generous to it.
"""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable

MAX_CLIENTS = 10_000


def client_group(address: str) -> str:
    """The key a client is limited under: an IPv4 address, or an IPv6 /64 (one subscriber usually owns a whole /64)."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)


class TokenBuckets:
    """Per client: ``burst`` tokens, refilled at ``per_minute``.

    ``take`` costs one token and says how many seconds to wait when there is none (0.0 means go on).
    """

    def __init__(
        self,
        *,
        per_minute: float,
        burst: int,
        clock: Callable[[], float] = time.monotonic,
        max_clients: int = MAX_CLIENTS,
    ) -> None:
        self._rate = per_minute / 60.0
        self._burst = float(burst)
        self._clock = clock
        self._max_clients = max_clients
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, client: str) -> float:
        """Spend one token of ``client``; the seconds to wait if it has none."""
        now = self._clock()
        level, seen = self._levels.get(client, (self._burst, now))
        level = min(self._burst, level + (now - seen) * self._rate)
        wait = 0.0 if level >= 1.0 else (1.0 - level) / self._rate
        self._levels[client] = (level - 1.0 if wait == 0.0 else level, now)
        self._levels.move_to_end(client)
        if len(self._levels) > self._max_clients:
            self._levels.popitem(last=False)
        return wait

    def __len__(self) -> int:
        return len(self._levels)


class OpenStreams:
    """How many streams a client holds open; ``enter`` refuses (False) beyond ``most``."""

    def __init__(self, *, most: int) -> None:
        self._most = most
        self._open: dict[str, int] = {}

    def enter(self, client: str) -> bool:
        """Count one more stream of ``client``, or refuse it."""
        held = self._open.get(client, 0)
        if held >= self._most:
            return False
        self._open[client] = held + 1
        return True

    def leave(self, client: str) -> None:
        """Give one stream of ``client`` back."""
        held = self._open.get(client, 0) - 1
        if held > 0:
            self._open[client] = held
        else:
            self._open.pop(client, None)

    def __len__(self) -> int:
        return len(self._open)
