"""Keypool: several keys of one provider, used in turn; one that is refused is set aside, and another key asks.

An Upstream around Upstreams that differ in nothing but their key. Every key has a breaker of its own, since quotas,
balances and blocks belong to keys. Knows no provider and no secret.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import Final

import orjson

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
        self._pause_s = 0.0

    def aside(self, status: int, retry_after: str, now: float) -> float:
        """Set it aside, longer each time in a row; seconds."""
        again = self._pause_s * 2 if status == self.status else 0.0
        self.status, self._pause_s = status, min(LONGEST_S[status], again or FIRST_S[status])
        seconds = max(self._pause_s, min(LONGEST_ASKED_S, seconds_of(retry_after)))
        self.until = now + seconds
        return seconds

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

        When no key is left, the last refusal, or a 429 of ours that says when the first of them may be used again.
        """
        refused: Reply | None = None
        for member in self._turn():
            if member.until > self._clock() or member.line.resting_s():
                continue
            if refused is not None:
                await refused.aclose()
            refused = None
            try:
                reply = await member.upstream.open(call)
            except BaseException as error:
                member.line.failed() if is_sick(error) else member.line.left()
                raise
            if reply.status not in ASIDE:
                member.line.failed() if reply.status in SICK else member.line.succeeded()
                if reply.status < 400:
                    member.works()
                return reply
            member.line.left()
            seconds = member.aside(reply.status, reply.headers.get("retry-after", ""), self._clock())
            log.warning(
                "%s: key %d of %d was refused with status %d and is set aside for %.0f s",
                self.name, member.place + 1, len(self._members), reply.status, seconds,
            )  # fmt: skip
            refused = reply
        return refused if refused is not None else self._exhausted()

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

    def _exhausted(self) -> Reply:
        now = self._clock()
        waits = [max(member.until - now, member.line.rests_for_s()) for member in self._members]
        seconds = max(1, round(min(waits)))
        refused = {member.status for member in self._members if member.until > now}
        message = f"every one of the {len(waits)} keys of this model is set aside"
        status = 401 if refused and refused <= {401, 402} else 429 if refused else 503
        body = orjson.dumps({"error": {"message": message, "type": None, "param": None, "code": None}})
        return Reply(status, body=body, headers={"retry-after": str(seconds)})
