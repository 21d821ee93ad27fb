"""Times as people type and read them."""

from __future__ import annotations

import datetime
import re

from fairlead.errors import UsageError
from fairlead.records import now_us

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def parse_duration(text: str) -> int:
    """Microseconds in a duration such as ``90s``, ``15m``, ``24h``, ``30d``. Raises UsageError."""
    match = re.fullmatch(r"(\d{1,6})\s*([smhdw])", text.strip())
    if not match or int(match[1]) == 0:
        raise UsageError(
            detail=f"{text!r} is not a duration. Expected a number and s, m, h, d or w, such as 24h or 30d."
        )
    return int(match[1]) * _UNITS[match[2]] * 1_000_000


def parse_moment(text: str) -> int:
    """A point in time in microseconds: a duration before now (``24h``) or ISO 8601 (UTC if no offset is given)."""
    try:
        moment = datetime.datetime.fromisoformat(text.strip())
    except ValueError:
        try:
            return now_us() - parse_duration(text)
        except UsageError:
            expected = "a duration before now such as 24h or 30d, or a time such as 2026-11-22T10:00"
            raise UsageError(detail=f"{text!r} is no point in time. Expected {expected}.") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return int(moment.timestamp() * 1_000_000)


def moment(time: int) -> str:
    """``2026-11-22 14:05:09`` in UTC."""
    return datetime.datetime.fromtimestamp(time / 1e6, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")


def span(microseconds: int | None) -> str:
    """A duration with three significant figures: ``840 µs``, ``12.3 ms``, ``1.20 s``."""
    if microseconds is None:
        return ""
    if microseconds < 1_000:
        return f"{microseconds} µs"
    if microseconds < 1_000_000:
        return f"{microseconds / 1e3:.3g} ms"
    return f"{microseconds / 1e6:.3g} s"


def money(nano_dollars: int | None) -> str:
    """Dollars, from a hundred on without their millionths, or ``unknown``: an unknown price is never shown as 0."""
    if nano_dollars is None:
        return "unknown"
    return f"${nano_dollars / 1e9:.{2 if abs(nano_dollars) >= 100 * 10**9 else 6}f}" if nano_dollars else "$0"
