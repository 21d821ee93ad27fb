"""What the cache has done, counted by tenant, route and outcome: hits of each kind, money and time saved. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

OUTCOMES: Final = ("exact", "coalesced", "semantic", "miss", "bypassed")
HITS: Final = frozenset(("exact", "coalesced", "semantic"))


class Tallied(msgspec.Struct, kw_only=True):
    """One line. ``nanos`` and ``saved_us`` are what calls that were not made would have cost."""

    tenant: str
    route: str
    outcome: str
    requests: int = 0
    nanos: int = 0
    saved_us: int = 0


class Tally:
    """Counts since the start, and those not yet handed to the disk."""

    def __init__(self) -> None:
        self._all: dict[tuple[str, str, str], Tallied] = {}
        self._new: dict[tuple[str, str, str], Tallied] = {}

    def count(self, tenant: str, route: str, outcome: str, nanos: int = 0, saved_us: int = 0) -> None:
        """One request more."""
        key = (tenant, route, outcome)
        for lines in (self._all, self._new):
            line = lines.get(key)
            if line is None:
                line = lines[key] = Tallied(tenant=tenant, route=route, outcome=outcome)
            line.requests += 1
            line.nanos += nanos
            line.saved_us += saved_us

    def __iter__(self) -> Iterator[Tallied]:
        return iter(self._all.values())

    def take_new(self) -> list[Tallied]:
        """What was counted since this was last called."""
        taken, self._new = list(self._new.values()), {}
        return taken

    def give_back(self, lines: list[Tallied]) -> None:
        """Lines that could not be written down after all."""
        for line in lines:
            key = (line.tenant, line.route, line.outcome)
            if (known := self._new.get(key)) is None:
                self._new[key] = line
            else:
                known.requests += line.requests
                known.nanos += line.nanos
                known.saved_us += line.saved_us
