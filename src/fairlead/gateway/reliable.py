"""Whether to ask a model once more, another one, or none for a while: retry budget, pauses, breaker, hedges, weights.
Knows no HTTP.

Only what has not begun to answer is ever asked again. Retries are a share of the traffic, so that a model in trouble is
not buried under them; pauses have full jitter (Brooker 2015, "Exponential Backoff And Jitter"), and what a server says
in ``Retry-After`` counts. A model that failed several times in a row rests; then one request tries it.
"""

from __future__ import annotations

import email.utils
import hashlib
import math
import random
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from fairlead.errors import UpstreamBroken, UpstreamTimeout, UpstreamUnreachable

AGAIN: Final = frozenset((408, 429, 500, 502, 503, 504, 529))
"""Statuses that may be gone at the next try."""
SICK: Final = frozenset((500, 502, 503, 504, 529))
"""Statuses that count against a model's health; 429 says that it is well and busy."""
SHARE: Final = 0.1
"""Retries for each call that is made, at most."""
SAVED: Final = 10.0
"""Retries that can be saved up in quiet times; there are so many at the start."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.1, 5.0
FAILURES: Final = 5
"""Failures in a row after which a model rests."""
REST_S, LONGEST_REST_S = 2.0, 60.0
TIMES, FEWEST_TIMES = 128, 20
"""Times of whole answers that are remembered, and how many it takes to say what is late."""
LATE: Final = 0.95
"""Share of answers after whose time a second try is made beside the first (Dean and Barroso 2013, "The Tail at
Scale"): one in twenty, out of the same budget as retries."""


class Line:
    """What is known of one upstream. Used by the tasks of one event loop. ``clock`` and ``draw`` are for tests."""

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, draw: Callable[[float, float], float] = random.uniform
    ) -> None:
        self._clock = clock
        self._draw = draw
        self._saved = SAVED
        self._failures = 0
        self._rest_s = REST_S
        self._until = 0.0
        self._trying = False
        self._times: deque[float] = deque(maxlen=TIMES)

    def resting_s(self) -> float:
        """Seconds until it may be asked again; 0 when it may be now, and after a rest for one caller alone."""
        if not self._until:
            return 0.0
        left = self._until - self._clock()
        if left > 0:
            return left
        if self._trying:
            return REST_S
        self._trying = True
        return 0.0

    def rests_for_s(self) -> float:
        """Seconds it still rests; asking this gives nobody leave to try it."""
        return max(0.0, self._until - self._clock()) if self._until else 0.0

    def began(self) -> None:
        """A call is made."""
        self._saved = min(SAVED, self._saved + SHARE)

    def may_retry(self) -> bool:
        """Take a retry out of the budget, if there is one."""
        if self._saved < 1.0:
            return False
        self._saved -= 1.0
        return True

    def succeeded(self) -> None:
        """It has begun to answer."""
        self._failures, self._rest_s, self._until, self._trying = 0, REST_S, 0.0, False

    def took(self, seconds: float) -> None:
        """A whole answer has come after ``seconds``."""
        self._times.append(seconds)

    def late_s(self) -> float | None:
        """Seconds after which an answer is later than nearly all before it; None while too few are known."""
        if len(self._times) < FEWEST_TIMES:
            return None
        return sorted(self._times)[math.ceil(LATE * len(self._times)) - 1]

    def failed(self) -> None:
        """It did not answer, or broke off."""
        self._failures += 1
        now = self._clock()
        if self._trying:
            self._rest_s = min(LONGEST_REST_S, self._rest_s * 2)
            self._until = now + self._rest_s
        elif self._failures >= FAILURES and self._until <= now:  # calls from before a rest do not change it
            self._until = now + self._rest_s
        self._trying = False

    def left(self) -> None:
        """Whoever asked went away before it was known how it went."""
        self._trying = False

    def pause_s(self, attempt: int, retry_after: str) -> float:
        """Seconds to wait before try ``attempt`` + 1: drawn between 0 and a growing bound, or what the server asks."""
        drawn = self._draw(0.0, min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0**attempt))
        return max(drawn, seconds_of(retry_after))


def ordered(names: list[str], weights: Mapping[str, float], seed: str) -> list[str]:
    """``names`` as they are to be asked: those with a weight first, each first as often as its weight says, drawn by
    ``seed``; then the others in their order. The same seed gives the same order, whoever else is there or not.

    Weighted sampling without replacement (Efraimidis and Spirakis 2006) by a hash instead of a random number.
    """

    def place(name: str) -> float:
        drawn = int.from_bytes(hashlib.blake2b(f"{seed}\0{name}".encode(), digest_size=8).digest(), "big")
        return -math.log((drawn + 1) / (2**64 + 1)) / weights[name]

    return [*sorted((name for name in names if name in weights), key=place), *(n for n in names if n not in weights)]


def seconds_of(retry_after: str) -> float:
    """A ``Retry-After`` header in seconds; it holds seconds or a date. 0 when there is none or it cannot be read.

    Never NaN; infinite for a number too large.
    """
    if not retry_after:
        return 0.0
    try:
        return max(0.0, float(retry_after))  # 0 for NaN, which no comparison finds larger
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0


def is_sick(error: BaseException) -> bool:
    """Whether an error speaks against the model's health."""
    return isinstance(error, UpstreamUnreachable | UpstreamTimeout | UpstreamBroken)
