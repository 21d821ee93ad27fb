"""The headers that tell a client how much is left, named as OpenAI's clients read them."""

from __future__ import annotations

from collections.abc import Iterable

from fairlead.admission.books import Book

Headers = tuple[tuple[bytes, bytes], ...]


def of(books: Iterable[Book], now: int) -> Headers:
    """Limit, what is left and when all of it is back, of requests and tokens: those of whoever has the least left."""
    requests: tuple[int, int, int] | None = None
    tokens: tuple[int, int, int] | None = None
    for book in books:
        if (meter := book.requests) is not None:
            each = (*meter.standing(now), meter.per_minute)
            requests = each if requests is None or each < requests else requests
        if (meter := book.tokens) is not None:
            each = (*meter.standing(now), meter.per_minute)
            tokens = each if tokens is None or each < tokens else tokens
    found: Headers = ()
    if requests is not None:
        found = (
            (b"x-ratelimit-limit-requests", b"%d" % requests[2]),
            (b"x-ratelimit-remaining-requests", b"%d" % requests[0]),
            (b"x-ratelimit-reset-requests", duration(requests[1])),
        )
    if tokens is not None:
        found += (
            (b"x-ratelimit-limit-tokens", b"%d" % tokens[2]),
            (b"x-ratelimit-remaining-tokens", b"%d" % tokens[0]),
            (b"x-ratelimit-reset-tokens", duration(tokens[1])),
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
