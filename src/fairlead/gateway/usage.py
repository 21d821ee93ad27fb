"""Tokens of a finished exchange and what they cost: one count for the record, the limits and the budgets."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import orjson

from fairlead.gateway.exchange import Exchange
from fairlead.gateway.fold import Folded, fold
from fairlead.gateway.relay import Relay
from fairlead.gateway.route import Route

BYTES_PER_TOKEN: Final = 4
MOST: Final = 1_000_000_000
"""Tokens no request has; what a server reports beyond it is read as this."""


class Usage(msgspec.Struct, frozen=True):
    """Tokens read, written, and of those read the cached; ``estimated`` where the model did not say."""

    input: int = 0
    output: int = 0
    cached: int = 0
    estimated: bool = False


NOTHING: Final = Usage()


def usage_of(x: Exchange, folded: Folded | None = None) -> Usage:
    """What ``x`` used. ``folded`` is its stream, put together; it is done here when needed and not given."""
    if x.recalled:
        return NOTHING  # no model read or wrote any
    relay = x.relay
    if relay is not None:
        said = relay.usage
        if said is None:
            folded = folded or fold_of(relay)
            said = folded.usage
    else:
        said = (x.answer or {}).get("usage")
    if isinstance(said, dict):
        details = said.get("prompt_tokens_details")
        cached = details.get("cached_tokens") if isinstance(details, dict) else 0
        return Usage(_whole(said.get("prompt_tokens")), _whole(said.get("completion_tokens")), _whole(cached))
    if x.reply is None or x.reply.status != 200:
        return NOTHING
    output = folded.pieces if folded else len(x.reply.body or b"") // BYTES_PER_TOKEN
    return Usage(size_of(x) // BYTES_PER_TOKEN, 0 if x.operation == "embedding" else output, 0, True)


def cost_of(route: Route, usage: Usage, *, hedged: bool = False) -> int | None:
    """Nano-dollars; None where the price is unknown. ``hedged``: a second try that lost has read the question too."""
    if route.price is None:
        return None
    return round((1 + hedged) * usage.input * route.price[0] + usage.output * route.price[1])


def size_of(x: Exchange) -> int:
    """Bytes of the request's body."""
    return len(x.raw) or len(orjson.dumps(x.body))


def fold_of(relay: Relay) -> Folded:
    """What a stream said, from what was kept of it."""
    folded = fold(b"".join(relay.captured))
    if tail := relay.tail():
        last = fold(b"".join(tail))
        folded.finish = last.finish or folded.finish
    folded.usage = relay.usage or folded.usage
    return folded


def _whole(value: Any) -> int:
    return min(value, MOST) if isinstance(value, int) and value >= 0 else 0
