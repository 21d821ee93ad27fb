"""Opening hours: ``"Mon-Fri 09:00-17:00, Sat 10:00-14:00"`` or ``"24/7"``, in the local time of a zone.

Knows days and minutes; what happens outside the hours is the hand-off's business.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
ALWAYS = "24/7"
_DAY_MINUTES = 24 * 60
_PART = re.compile(r"([A-Za-z]{3})(?: ?[-–] ?([A-Za-z]{3}))? +([0-9]{2}):([0-9]{2}) ?[-–] ?([0-9]{2}):([0-9]{2})")


class HoursError(ValueError):
    """What is wrong with the hours, and what was expected."""


@dataclass(frozen=True)
class Hours:
    """``windows`` are (first day, last day, opening minute, closing minute), Monday = 0, minutes since midnight."""

    windows: tuple[tuple[int, int, int, int], ...]

    @classmethod
    def read(cls, text: str) -> Hours:
        """Parses the text form. Raises HoursError."""
        if text.strip() == ALWAYS:
            return cls(((0, 6, 0, _DAY_MINUTES),))
        return cls(tuple(_window(part.strip()) for part in text.split(",")))

    def __str__(self) -> str:
        if self.windows == ((0, 6, 0, _DAY_MINUTES),):
            return ALWAYS
        return ", ".join(
            f"{DAYS[first]}{'' if first == last else '-' + DAYS[last]} {_clock(opens)}-{_clock(closes)}"
            for first, last, opens, closes in self.windows
        )

    def is_open(self, when: datetime, timezone: str) -> bool:
        """Whether ``when`` (aware) lies within the hours of ``timezone``."""
        local = when.astimezone(zone(timezone))
        minute = local.hour * 60 + local.minute
        return any(opens <= minute < closes for opens, closes in self._of_day(local.weekday()))

    def next_opening(self, when: datetime, timezone: str) -> datetime:
        """The moment, in the zone, when it opens next; ``when`` itself while it is open. ``when`` must be aware."""
        local = when.astimezone(zone(timezone))
        if self.is_open(when, timezone):
            return local
        for ahead in range(2 * len(DAYS) + 1):
            day = local.date() + timedelta(days=ahead)
            for opens, _ in sorted(self._of_day(day.weekday())):
                opening = datetime.combine(day, time(opens // 60, opens % 60), tzinfo=zone(timezone))
                # Where the clock jumps forward the opening may not exist; then the next one counts.
                if opening > local and self.is_open(opening.astimezone(UTC), timezone):
                    return opening
        raise AssertionError("hours have at least one window a week")

    def _of_day(self, day: int) -> list[tuple[int, int]]:
        return [
            (opens, closes)
            for first, last, opens, closes in self.windows
            if (first <= day <= last if first <= last else day >= first or day <= last)
        ]


def zone(name: str) -> tzinfo:
    """The IANA time zone ``name``. Raises HoursError for an unknown one or when the machine has no zone data."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise HoursError("an IANA time zone such as Europe/Berlin") from error


def zones() -> set[str]:
    """Every zone this machine knows; empty when it has no zone data (install ``tzdata``)."""
    return available_timezones()


def _window(text: str) -> tuple[int, int, int, int]:
    match = _PART.fullmatch(text)
    if match is None:
        raise HoursError('days and times such as "Mon-Fri 09:00-17:00, Sat 10:00-14:00", or "24/7"')
    first, last = _day(match.group(1)), _day(match.group(2) or match.group(1))
    opens, closes = _minute(match.group(3), match.group(4)), _minute(match.group(5), match.group(6))
    if opens >= closes:
        raise HoursError(
            f"an opening time before the closing time; write hours past midnight as two parts, as in "
            f'"Mon {_clock(opens % _DAY_MINUTES)}-24:00, Tue 00:00-06:00"'
        )
    return first, last, opens, closes


def _day(text: str) -> int:
    try:
        return DAYS.index(text.capitalize())
    except ValueError:
        raise HoursError(f"days named {', '.join(DAYS)}") from None


def _minute(hours: str, minutes: str) -> int:
    value = int(hours) * 60 + int(minutes)
    if int(minutes) > 59 or value > _DAY_MINUTES:
        raise HoursError("times from 00:00 to 24:00")
    return value


def _clock(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"
