"""The stretch of time a page is about, as its address says it, and the links that keep or change it.

Times are microseconds since the epoch, UTC. Knows nothing of what is shown.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import msgspec

SECOND = 1_000_000
UNITS = {"m": 60, "h": 3_600, "d": 86_400}
CHOICES = {"1h": "hour", "24h": "24 hours", "7d": "7 days", "30d": "30 days"}
DEFAULT = "24h"
LONGEST_S = 400 * 86_400
BUCKETS_S = (10, 30, 60, 120, 300, 600, 1_800, 3_600, 7_200, 14_400, 21_600, 43_200, 86_400, 172_800, 604_800)
MOST_BUCKETS = 60


class Range(msgspec.Struct, frozen=True, kw_only=True):
    """``since <= time < until``; ``name`` is the choice it came from (empty: two moments); ``note`` what was odd."""

    since: int
    until: int
    name: str = ""
    note: str = ""

    @property
    def words(self) -> str:
        """``the last 24 hours``, or from when to when."""
        if self.name:
            if self.name in CHOICES:
                return f"the last {CHOICES[self.name]}"
            number, unit = int(self.name[:-1]), {"m": "minutes", "h": "hours", "d": "days"}[self.name[-1]]
            return f"the last {number} {unit if number > 1 else unit[:-1]}"
        return f"{_iso(self.since)} to {_iso(self.until)} UTC"

    @property
    def params(self) -> dict[str, str]:
        """What an address needs to say it again."""
        if self.name:
            return {} if self.name == DEFAULT else {"range": self.name}
        return {"since": _iso(self.since), "until": _iso(self.until)}

    @property
    def bucket(self) -> int:
        """A round width for charts, in microseconds, so that there are at most 60."""
        length = (self.until - self.since) / SECOND
        return SECOND * next((width for width in BUCKETS_S if length / width <= MOST_BUCKETS), BUCKETS_S[-1])


def parse(query: Mapping[str, str], now: int) -> Range:
    """The range an address asks for. What cannot be read is replaced by the last 24 hours, and ``note`` says so."""
    name, note = query.get("range", ""), ""
    if not name and (query.get("since") or query.get("until")):
        since, until = _moment(query.get("since", ""), now - 86_400 * SECOND), _moment(query.get("until", ""), now)
        if since is not None and until is not None and since < until:
            longest = max(since, until - LONGEST_S * SECOND)
            return Range(since=longest, until=until, note="" if longest == since else "Shortened to 400 days.")
        note = "The time range could not be read (expected since and until like 2026-11-22T14:00); showing 24 hours."
    match = re.fullmatch(r"([1-9]\d{0,4})([mhd])", name)
    seconds = int(match[1]) * UNITS[match[2]] if match else 0
    if not 0 < seconds <= LONGEST_S:
        if name:
            note = f"There is no range {name!r} (expected one like 1h, 24h or 30d, up to 400d); showing 24 hours."
        name, seconds = DEFAULT, 86_400
    return Range(since=now - seconds * SECOND, until=now + 1, name=name, note=note)


def link(path: str, params: Mapping[str, Any]) -> str:
    """An address with a query; empty values are left out."""
    query = urlencode({name: value for name, value in params.items() if value not in (None, "")})
    return f"{path}?{query}" if query else path


def _moment(text: str, otherwise: int) -> int | None:
    if not text:
        return otherwise
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    try:
        return int(moment.timestamp() * SECOND)
    except (OverflowError, ValueError):
        return None


def _iso(time: int) -> str:
    moment = datetime.datetime.fromtimestamp(time / SECOND, datetime.UTC).replace(tzinfo=None)
    return moment.isoformat(timespec="minutes" if time % (60 * SECOND) == 0 else "seconds")
