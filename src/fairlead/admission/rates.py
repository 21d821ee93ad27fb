"""How much may come in a minute: the generic cell rate algorithm, in whole numbers. Knows no keys and no clock.

A meter remembers one number: the time until which what was admitted so far is paid for (the theoretical arrival time,
ITU-T I.371). A minute's worth may come at once; in any t seconds no more comes than that and what t seconds bring.
Times are nanoseconds; they are kept multiplied by the limit, so that nothing is ever rounded.
"""

from __future__ import annotations

from typing import Final

MINUTE_NS: Final = 60_000_000_000


class Meter:
    """One stream of arrivals, of at most ``per_minute`` units. ``now`` must not run backwards; if it does, it waits."""

    __slots__ = ("_burst", "_paid", "per_minute")

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self._burst = per_minute * MINUTE_NS
        self._paid = 0

    def wait_ns(self, units: int, now: int) -> int:
        """Nanoseconds until ``units`` may be taken; 0: they may be now, -1: never, as a minute brings less."""
        if units > self.per_minute:
            return -1
        at = now * self.per_minute
        over = max(self._paid, at) + units * MINUTE_NS - at - self._burst
        return 0 if over <= 0 else -(-over // self.per_minute)

    def take(self, units: int, now: int) -> int:
        """Take ``units`` if they may be taken now: whole units left after that; -1, with nothing taken, if not."""
        at = now * self.per_minute
        paid = self._paid
        paid = max(at, paid) + units * MINUTE_NS
        left = at + self._burst - paid
        if left < 0:
            return -1
        self._paid = paid
        return left // MINUTE_NS

    def correct(self, units: int) -> None:
        """Take ``units`` more than were taken before; negative gives back."""
        self._paid += units * MINUTE_NS

    def left(self, now: int) -> int:
        """Whole units that may be taken now."""
        at = now * self.per_minute
        return max(0, (self._burst + at - max(self._paid, at)) // MINUTE_NS)

    def standing(self, now: int) -> tuple[int, int]:
        """What ``left`` and ``full_ns`` say, in one go."""
        per_minute = self.per_minute
        over = self._paid - now * per_minute
        if over <= 0:
            return per_minute, 0
        return max(0, (self._burst - over) // MINUTE_NS), -(-over // per_minute)

    def full_ns(self, now: int) -> int:
        """Nanoseconds until everything may be taken again."""
        over = self._paid - now * self.per_minute
        return 0 if over <= 0 else -(-over // self.per_minute)
