"""Keypool: several keys of one provider, used in turn; one that is refused is set aside, and another key asks.

An Upstream around Upstreams that differ in nothing but their key. Every key has a breaker of its own, since quotas,
balances and blocks belong to keys. Knows no provider and no secret.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import Final

from fairlead.errors import UpstreamRefused
from fairlead.gateway.reliable import SICK, Line, is_sick, seconds_of
from fairlead.providers.base import Call, Reply, Upstream

ASIDE: Final = frozenset((401, 402, 429))
"""What is said of a key: not known, not paid for, too much asked of it. The request was not worked on, so that another
key may ask at once. Not 403: providers say it of a request's words too, and one request must not empty the pool."""
FIRST_S: Final = {401: 60.0, 402: 60.0, 429: 1.0}
LONGEST_S: Final = {401: 600.0, 402: 600.0, 429: 60.0}
LONGEST_ASKED_S: Final = 3600.0
"""Most a provider's own Retry-After sets a key aside."""
log = logging.getLogger(__name__)


class _Member:
    """One key and how it has fared."""

    def __init__(self, upstream: Upstream, place: int, clock: Callable[[], float]) -> None:
        self.upstream = upstream
        self.place = place
        self.line = Line(clock=clock)
        self.until = 0.0
        self.status = 0
        self.times = 0
        """How often it was set aside. A call that began before the last time says nothing new."""
        self._pause_s = 0.0

    def aside(self, status: int, retry_after: str, now: float) -> float:
        """Set it aside, longer each time in a row; seconds."""
        self.times += 1
        again = self._pause_s * 2 if status == self.status else 0.0
        self.status, self._pause_s = status, min(LONGEST_S[status], again or FIRST_S[status])
        seconds = max(self._pause_s, min(LONGEST_ASKED_S, seconds_of(retry_after)))
        self.until = now + seconds
        return seconds

    def aside_longer(self, retry_after: str, now: float) -> None:
        """A call that was under way when it was set aside was refused too; only what that asks for counts."""
        self.until = max(self.until, now + min(LONGEST_ASKED_S, seconds_of(retry_after)))

    def works(self) -> None:
        """It was accepted."""
        self.status, self.until, self._pause_s = 0, 0.0, 0.0


class KeyPool:
    """``members`` are the same model by different keys, at least one. Used by the tasks of one event loop."""

    def __init__(self, name: str, members: Sequence[Upstream], *, clock: Callable[[], float] = time.monotonic) -> None:
        self.name = name
        self._clock = clock
        self._members = [_Member(upstream, place, clock) for place, upstream in enumerate(members)]
        self._next = 0

    async def open(self, call: Call) -> Reply:
        """Send the call with the next key that may be used; see Upstream.open.

        When no key is left, at once: UpstreamRefused with 429 and when the first may be used again, with 502 if all of
        them were refused as unknown or unpaid, with 503 if none was told that too much is asked and some failed.
        """
        for member in self._turn():
            if member.until > self._clock() or member.line.resting_s():
                continue
            times = member.times
            try:
                reply = await member.upstream.open(call)
            except BaseException as error:
                member.line.failed() if is_sick(error) else member.line.left()
                raise
            if reply.status not in ASIDE:
                member.line.failed() if reply.status in SICK else member.line.succeeded()
                if reply.status < 400 and member.times == times:
                    member.works()
                return reply
            member.line.left()
            await reply.aclose()
            retry_after = reply.headers.get("retry-after", "")
            if member.times != times:
                member.aside_longer(retry_after, self._clock())
                continue
            seconds = member.aside(reply.status, retry_after, self._clock())
            log.warning(
                "%s: key %d of %d was refused with status %d and is set aside for %.0f s",
                self.name, member.place + 1, len(self._members), reply.status, seconds,
            )  # fmt: skip
        raise self._exhausted()

    def able(self) -> int:
        """How many keys may be used now."""
        now = self._clock()
        return sum(member.until <= now for member in self._members)

    async def aclose(self) -> None:
        """Close what stands behind. Idempotent."""
        for member in self._members:
            await member.upstream.aclose()

    def _turn(self) -> list[_Member]:
        """All, beginning with the one after who began last."""
        start, self._next = self._next, (self._next + 1) % len(self._members)
        return [*self._members[start:], *self._members[:start]]

    def _exhausted(self) -> UpstreamRefused:
        now = self._clock()
        waits = [max(member.until - now, member.line.rests_for_s()) for member in self._members]
        seconds = max(1, math.ceil(min(waits)))
        refused = [member.status for member in self._members if member.until > now]
        told = f"Each of the {len(waits)} keys in `api_keys:` of {self.name}"
        if len(refused) == len(waits) and 429 not in refused:
            status, upstream, kind, code = 502, 401, "server_error", "upstream_refused"
            said = f"{told} was refused as unknown or unpaid; correct them. They are tried again in {seconds} s."
        elif 429 in refused:
            status, upstream, kind, code = 429, 429, "rate_limit_error", "rate_limit_exceeded"
            said = f"{told} is set aside for now. Send this again in {seconds} s."
        else:
            status, upstream, kind, code = 503, 503, "server_error", "upstream_refused"
            why = "was refused or rests" if refused else "rests"
            said = f"{told} {why} after calls that failed. Send this again in {seconds} s."
        return UpstreamRefused(
            status=status, code=code, kind=kind, message=said, upstream_status=upstream, retry_after=seconds
        )
