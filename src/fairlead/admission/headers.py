"""The headers that tell a client how much is left, named as OpenAI's clients read them."""

from __future__ import annotations

from collections.abc import Iterable

from fairlead.admission.books import Book
from fairlead.admission.rates import Meter

Headers = tuple[tuple[bytes, bytes], ...]


def of(books: Iterable[Book], now: int) -> Headers:
    """Limit, what is left and when all of it is back, of requests and tokens: those of whoever has the least left."""
    requests: Meter | None = None
    tokens: Meter | None = None
    fewest = least = 0
    for book in books:
        if (meter := book.requests) is not None and (requests is None or meter.left(now) < fewest):
            requests, fewest = meter, meter.left(now)
        if (meter := book.tokens) is not None and (tokens is None or meter.left(now) < least):
            tokens, least = meter, meter.left(now)
    found: Headers = ()
    if requests is not None:
        found = (
            (b"x-ratelimit-limit-requests", b"%d" % requests.per_minute),
            (b"x-ratelimit-remaining-requests", b"%d" % fewest),
            (b"x-ratelimit-reset-requests", duration(requests.full_ns(now))),
        )
    if tokens is not None:
        found += (
            (b"x-ratelimit-limit-tokens", b"%d" % tokens.per_minute),
            (b"x-ratelimit-remaining-tokens", b"%d" % least),
            (b"x-ratelimit-reset-tokens", duration(tokens.full_ns(now))),
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
