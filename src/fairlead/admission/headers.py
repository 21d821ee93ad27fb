"""The headers that tell a client how much is left, named as OpenAI's clients read them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fairlead.admission.books import Book
from fairlead.admission.rates import Meter

Headers = tuple[tuple[bytes, bytes], ...]


def of(books: Sequence[Book], now: int) -> Headers:
    """What is left of requests and tokens to whoever has the least left."""
    return told(_scarcest((book.requests for book in books), now), _scarcest((book.tokens for book in books), now), now)


def _scarcest(meters: Iterable[Meter | None], now: int) -> Meter | None:
    return min((meter for meter in meters if meter is not None), key=lambda meter: meter.left(now), default=None)


def told(requests: Meter | None, tokens: Meter | None, now: int) -> Headers:
    """Limit, what is left and when all of it is back, of requests and of tokens."""
    found: Headers = ()
    if requests is not None:
        left, full_ns = requests.standing(now)
        found = (
            (b"x-ratelimit-limit-requests", b"%d" % requests.per_minute),
            (b"x-ratelimit-remaining-requests", b"%d" % left),
            (b"x-ratelimit-reset-requests", duration(full_ns)),
        )
    if tokens is not None:
        left, full_ns = tokens.standing(now)
        found += (
            (b"x-ratelimit-limit-tokens", b"%d" % tokens.per_minute),
            (b"x-ratelimit-remaining-tokens", b"%d" % left),
            (b"x-ratelimit-reset-tokens", duration(full_ns)),
        )
    return found


def duration(nanoseconds: int) -> bytes:
    """``250ms``, ``1.5s``, ``6m0s``: as Go writes durations, rounded up to a millisecond."""
    milliseconds = -(-nanoseconds // 1_000_000)
    if milliseconds < 1_000:
        return b"%dms" % milliseconds
    minutes, rest = divmod(milliseconds, 60_000)
    seconds = (b"%d.%03d" % divmod(rest, 1_000)).rstrip(b"0").rstrip(b".")
    return b"%dm%ss" % (minutes, seconds) if minutes else b"%ss" % seconds
