"""Which likeness may be answered from memory: bands of it, each with what was learnt when its answers were checked.

A band is open while the most its share of wrong answers can be (one-sided, valid however often one looks, all bands at
once) is within what is allowed. Evidence older than its window no longer counts: a band that was right last month has
to prove it again. Knows no texts; the bound itself is passed in.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from fairlead.gateway.cache.rules import Verified

Bound = Callable[[int, int, float], float]
"""The most a share can be: (wrong, checked, confidence) to a number in 0..1, at any time."""

EDGES: Final = (0.6, 0.8, 0.9, 0.93)
"""Lower ends of the bands, in odds that two texts say the same. Few, since each has to be learnt for itself."""


WEIGHED_AGAIN: Final = 1.02


class Evidence(msgspec.Struct, kw_only=True):
    """What checks found since ``since`` (microseconds since the epoch)."""

    since: int
    checked: int = 0
    wrong: int = 0


class Band(msgspec.Struct, kw_only=True):
    """One band of one route of one tenant. ``counted`` is in force, ``younger`` takes its place when that is old."""

    name: str
    counted: Evidence
    younger: Evidence
    served: int = 0
    bound: float = 1.0
    weighed: int = 0


class Bands:
    """All bands. ``load`` and ``dump`` carry them over a restart."""

    def __init__(self, rules: Verified, bound: Bound) -> None:
        self._rules = rules
        self._bound = bound
        self._confidence = 1 - (1 - rules.confidence) / len(EDGES)
        self._window_us = round(rules.evidence_s * 1e6)
        self._bands: dict[str, Band] = {}

    def of(self, tenant: str, route: str, odds: float, now: int) -> Band | None:
        """The band of these odds; None below the lowest."""
        place = sum(odds >= edge for edge in EDGES) - 1
        if place < 0:
            return None
        name = f"{tenant}\0{route}\0{EDGES[place]:g}"
        band = self._bands.get(name)
        if band is None:
            band = Band(name=name, counted=Evidence(since=now), younger=Evidence(since=now + self._window_us // 2))
            self._bands[name] = band
        if now - band.counted.since >= self._window_us:
            late = now - band.younger.since >= self._window_us
            band.counted = Evidence(since=now) if late else band.younger
            band.younger = Evidence(since=band.counted.since + self._window_us // 2)
            self._weigh(band)
        return band

    def is_open(self, band: Band) -> bool:
        """Whether its answers may be given."""
        return band.bound <= self._rules.max_error

    def learn(self, band: Band, *, wrong: bool, now: int) -> None:
        """A check found that the kept answer was right or wrong."""
        for evidence in (band.counted, band.younger):
            if now >= evidence.since:
                evidence.checked += 1
                evidence.wrong += wrong
        # A bound that holds at any time goes on holding while nothing wrong is found, and takes a millisecond to make.
        if wrong or band.counted.checked >= band.weighed * WEIGHED_AGAIN:
            self._weigh(band)

    def _weigh(self, band: Band) -> None:
        band.weighed = band.counted.checked
        band.bound = self._bound(band.counted.wrong, band.counted.checked, self._confidence)

    def show(self) -> list[dict[str, Any]]:
        """For people and programs: every band with its evidence and its bound."""
        shown = []
        for band in sorted(self._bands.values(), key=lambda each: each.name):
            tenant, route, low = band.name.split("\0")
            shown.append(
                {
                    "tenant": tenant, "route": route, "from": float(low), "open": self.is_open(band),
                    "checked": band.counted.checked, "wrong": band.counted.wrong, "at_most": round(band.bound, 5),
                    "allowed": self._rules.max_error, "served": band.served, "since": band.counted.since,
                }
            )  # fmt: skip
        return shown

    def clear(self, tenant: str | None = None) -> None:
        """Forget what was learnt, of one tenant or of all."""
        others = {name: band for name, band in self._bands.items() if not name.startswith(f"{tenant}\0")}
        self._bands = {} if tenant is None else others

    def dump(self) -> bytes:
        """What was learnt, as bytes."""
        return msgspec.json.encode(list(self._bands.values()))

    def load(self, data: bytes) -> None:
        """Take over what ``dump`` gave; bands of other edges are left out. Raises nothing on bytes of another form."""
        try:
            bands = msgspec.json.decode(data, type=list[Band])
        except (msgspec.DecodeError, msgspec.ValidationError):
            return
        known = {f"{edge:g}" for edge in EDGES}
        for band in bands:
            if band.name.rpartition("\0")[2] in known:
                self._weigh(band)  # by the rules of today
                self._bands[band.name] = band
