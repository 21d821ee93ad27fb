"""Tokens of a finished exchange and what they cost: one count for the record, the limits and the budgets."""

from __future__ import annotations

from typing import Any, Final

import orjson

from fairlead.errors import AnswerUnfit
from fairlead.gateway.exchange import Exchange, Usage
from fairlead.gateway.fold import Folded, fold
from fairlead.gateway.relay import Relay
from fairlead.gateway.route import Route

BYTES_PER_TOKEN: Final = 4
MOST: Final = 100_000_000
"""Tokens no request has; a server that reports more is not believed."""


NOTHING: Final = Usage()


def usage_of(x: Exchange) -> Usage:
    """What ``x``, which is over, used."""
    if x.recalled:
        return NOTHING  # no model read or wrote any
    if x.usage is None:
        x.usage = _said(x)
    return x.usage


def _said(x: Exchange) -> Usage:
    relay = x.relay
    if relay is not None:
        said = relay.usage if relay.usage is not None else folded_of(x, relay).usage
    elif isinstance(x.error, AnswerUnfit):
        said = x.error.details.get("usage")  # of both questions, though neither answer fitted
    else:
        said = (x.answer or {}).get("usage")
    if isinstance(said, dict) and (told := _told(x, said)) is not None:
        return told
    if x.reply is None or x.reply.status != 200:
        return NOTHING
    output = folded_of(x, relay).pieces if relay is not None else len(x.reply.body or b"") // BYTES_PER_TOKEN
    output = 0 if x.operation == "embedding" else output
    return Usage(size_of(x) // BYTES_PER_TOKEN, output, 0, True, bool(isinstance(said, dict) and said))


def tokens_of(usage: Any) -> tuple[int | None, int | None]:
    """Tokens read and written as a ``usage`` object says them; None for what is no such number."""
    said = usage if isinstance(usage, dict) else {}
    return _whole(said.get("prompt_tokens")), _whole(said.get("completion_tokens"))


def _told(x: Exchange, said: dict[str, Any]) -> Usage | None:
    """What a server says it used; None for what cannot be: no numbers, none read, none written for an answer."""
    read, written = tokens_of(said)
    if x.operation == "embedding" and said.get("completion_tokens") is None:
        written = 0
    if not read or written is None:
        return None
    if not written and x.operation != "embedding" and _says(x):
        return None
    details = said.get("prompt_tokens_details")
    cached = _whole(details.get("cached_tokens")) if isinstance(details, dict) else 0
    return Usage(read, written, min(cached or 0, read))


def _says(x: Exchange) -> bool:
    """Whether an answer holds anything."""
    if x.relay is not None:
        return bool(folded_of(x, x.relay).pieces)
    choices = (x.answer or {}).get("choices")
    for choice in choices if isinstance(choices, list) else ():
        message = choice.get("message") if isinstance(choice, dict) else None
        said = message if isinstance(message, dict) else choice if isinstance(choice, dict) else {}
        if any(said.get(name) for name in ("content", "text", "tool_calls", "reasoning_content")):
            return True
    return False


def cost_of(route: Route, usage: Usage, *, hedged: bool = False) -> int | None:
    """Nano-dollars; None where the price is unknown. ``hedged``: a second try that lost has read the question too."""
    if route.price is None:
        return None
    return round((1 + hedged) * usage.input * route.price[0] + usage.output * route.price[1])


def size_of(x: Exchange) -> int:
    """Bytes of the request's body."""
    return len(x.raw) or len(orjson.dumps(x.body))


def folded_of(x: Exchange, relay: Relay) -> Folded:
    """What the stream of ``x``, which is over, said, from what was kept of it; put together once."""
    if x.folded is None:
        x.folded = folded = fold(b"".join(relay.captured))
        if tail := relay.tail():
            last = fold(b"".join(tail))
            folded.finish = last.finish or folded.finish
        folded.usage = relay.usage or folded.usage
    return x.folded


def _whole(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value <= MOST else None
