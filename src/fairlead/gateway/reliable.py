"""Whether to ask a model once more, another one, or none for a while: retry budget, pauses, breaker. Knows no HTTP.

Only what has not begun to answer is ever asked again. Retries are a share of the traffic, so that a model in trouble is
not buried under them; pauses have full jitter (Brooker 2015, "Exponential Backoff And Jitter"), and what a server says
in ``Retry-After`` counts. A model that failed several times in a row rests; then one request tries it.
"""

from __future__ import annotations

import email.utils
import random
import time
from collections.abc import Callable
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

    def failed(self) -> None:
        """It did not answer, or broke off."""
        self._failures += 1
        if self._trying or self._failures >= FAILURES:
            self._rest_s = min(LONGEST_REST_S, self._rest_s * 2) if self._trying else REST_S
            self._until = self._clock() + self._rest_s
        self._trying = False

    def left(self) -> None:
        """Whoever asked went away before it was known how it went."""
        self._trying = False

    def pause_s(self, attempt: int, retry_after: str) -> float:
        """Seconds to wait before try ``attempt`` + 1: drawn between 0 and a growing bound, or what the server asks."""
        drawn = self._draw(0.0, min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0**attempt))
        return max(drawn, seconds_of(retry_after))


def seconds_of(retry_after: str) -> float:
    """A ``Retry-After`` header in seconds; it holds seconds or a date. 0 when there is none or it cannot be read."""
    if not retry_after:
        return 0.0
    try:
        return max(0.0, float(retry_after))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0


def is_sick(error: BaseException) -> bool:
    """Whether an error speaks against the model's health."""
    return isinstance(error, UpstreamUnreachable | UpstreamTimeout | UpstreamBroken)
