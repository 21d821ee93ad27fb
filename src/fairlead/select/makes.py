"""What a router was learnt from, and whether that is still what answers. Knows no file and calls nothing.

**Evidence is of one make.** What a model's answers were worth says nothing of the same model with another prompt, so a
router whose two were changed decides nothing until it is learnt again: every question goes to the big one, as it does
where nothing was shown. Another price leaves the quality as it was; it counts as long as the small model is still
cheaper for certain, and is said in any case. Other pages and tools are not noticed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from fairlead.evaluate.purse import Price
from fairlead.spec.canonical import digest

APART = {"knowledge": "", "tools": "", "routing": ""}
"""Parts of a release that change from day to day and are no part of a make."""
_WORDS = {"engine": "built-in model", "retrieval": "number of passages"}
"""What parts are called where their own names say too little."""
_UNCOUNTED = frozenset({"weights", "sampling"})
"""Parts of which one does not say "another"."""


class Make(msgspec.Struct, frozen=True, kw_only=True):
    """What decides a variant's answers, part by part (prompts and weights by their hash), and what its tokens cost.

    Without ``parts`` nobody knows what it was. ``price`` is None where it is unknown, or what an answer costs was told.
    """

    parts: dict[str, Any] = {}
    price: Price | None = None

    @property
    def hash(self) -> str:
        """SHA-256 (hex) of the parts."""
        return digest(self.parts)


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """What a router was learnt from: ``runs`` by their ids, the make of each of its two, and what an answer cost."""

    runs: tuple[str, ...] = ()
    makes: dict[str, Make] = {}
    costs: dict[str, float] = {}


class Stale(msgspec.Struct, frozen=True, kw_only=True):
    """What changed since a router was learnt, a sentence each; ``shut``: it decides nothing until it is learnt again.

    ``measured``: what its two answer has to be measured again before.
    """

    changes: tuple[str, ...]
    shut: bool
    measured: bool


def make_of_release(content: Mapping[str, Any], price: Price | None = None) -> Make:
    """The make in a release's content (see ``Variant.release_content``)."""
    return Make(parts={**content, **APART}, price=price)


def different(one: Make, other: Make) -> list[str]:
    """What one make has and the other has not, in words: "another prompt", "other weights"."""
    names = {**one.parts, **other.parts}
    words = [_WORDS.get(name, name) for name in names if one.parts.get(name) != other.parts.get(name)]
    return [f"{'other' if word in _UNCOUNTED else 'another'} {word}" for word in words]


def staleness(source: Source, small: str, big: str, now: Mapping[str, Make]) -> Stale | None:
    """What is no more as it was when the router was learnt, with the makes of today by variant; None: all is."""
    other = [said for name in (small, big) if (said := _told_of_parts(name, _make(source, name), now[name]))]
    prices = [said for name in (small, big) if (said := _told_of_price(name, _make(source, name), now[name]))]
    if not other and not prices:
        return None
    dearer = bool(prices) and not _still_cheaper(source, small, big, now)
    if dearer:
        prices.append(f"whether {small} is still cheaper than {big} is not certain")
    return Stale(changes=(*other, *prices), shut=bool(other) or dearer, measured=bool(other))


def _make(source: Source, name: str) -> Make:
    return source.makes.get(name, Make())


def _told_of_parts(name: str, then: Make, now: Make) -> str:
    if not then.parts:
        return f"what {name} was when it was learnt is not known"
    if then.hash == now.hash:
        return ""
    return f"{name} has {' and '.join(different(then, now))}"


def _told_of_price(name: str, then: Make, now: Make) -> str:
    if then.price is None or then.price == now.price:
        return ""
    return f"the price of {name} was {_usd(then.price)} and is {_usd(now.price)}"


def _usd(price: Price | None) -> str:
    return "unknown" if price is None else f"{price[0] / 1000:g} in, {price[1] / 1000:g} out (USD a million tokens)"


def _still_cheaper(source: Source, small: str, big: str, now: Mapping[str, Make]) -> bool:
    """Whether an answer of the small one costs less, however many tokens of it are read and how many written."""
    if not {small, big} <= source.costs.keys():
        return False
    most = source.costs[small] * max(_factors(_make(source, small).price, now[small].price))
    return most < source.costs[big] * min(_factors(_make(source, big).price, now[big].price))


def _factors(then: Price | None, now: Price | None) -> tuple[float, float]:
    """By how much tokens read and written became dearer; where nobody knows, from nothing to endless."""
    if then is None:
        return 1.0, 1.0
    if now is None:
        return 0.0, float("inf")
    return _factor(then[0], now[0]), _factor(then[1], now[1])


def _factor(then: float, now: float) -> float:
    return now / then if then else (float("inf") if now else 1.0)
