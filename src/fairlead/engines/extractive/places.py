"""Whether a text speaks of the country a question names, of others, or of a group that holds it.

"What does a return from France cost?" must not be answered with Austria's row. Knows countries and large cities by
their English names (places.txt), the European Union, and words such as "other countries"; no streets, no regions.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from fairlead.engines.embed.words import words_of

_UNION = re.compile(r"\b(?:EU|E\.U\.|European Union)\b")
_OUTSIDE = re.compile(r"\b(?:outside|beyond)\b", re.IGNORECASE)
_REST = re.compile(
    r"\b(?:other|another|all|any other|every|foreign|remaining) (?:[\w-]+ )?"
    r"(?:countr(?:y|ies)|nations?|destinations?)\b"
    r"|\brest of\b|\belsewhere\b|\beverywhere\b|\bworldwide\b|\babroad\b|\binternational(?:ly)?\b|\boverseas\b"
    r"|\bEurope\b|\bcontinent\b|\bonly\b",
    re.IGNORECASE,
)
_US = re.compile(r"\b(?:US|U\.S\.)(?:\b|\s|$)")


class Places(NamedTuple):
    """Countries a text names, the countries of the cities it names, these cities, and the groups it speaks of."""

    countries: frozenset[str]
    home: frozenset[str]
    cities: frozenset[str]
    union: bool
    rest: bool


class _Names(NamedTuple):
    """``by_first``: (words of a name, country, whether it is a city) by the first word, longest first."""

    by_first: dict[str, list[tuple[tuple[str, ...], str, bool]]]
    members: frozenset[str]


@cache
def _names() -> _Names:
    table: dict[str, list[tuple[tuple[str, ...], str, bool]]] = {}
    members: set[str] = set()
    for line in Path(__file__).with_name("places.txt").read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        head, _, names = line.partition(": ")
        country = head.removesuffix(" eu")
        if country != head:
            members.add(country)
        own, _, cities = names.partition("; ")
        for group, is_city in ((own, False), (cities, True)):
            for name in filter(None, group.split(", ")):
                words = tuple(words_of(name))
                table.setdefault(words[0], []).append((words, country, is_city))
    for entries in table.values():
        entries.sort(key=lambda entry: -len(entry[0]))
    return _Names(table, frozenset(members))


def places_of(text: str, words: Sequence[str]) -> Places:
    """What a text says of places; ``words`` are its folded words."""
    countries, home, cities = set[str](), set[str](), set[str]()
    table, start = _names().by_first, 0
    for i, word in enumerate(words):
        if i < start:
            continue
        for name, country, is_city in table.get(word.removesuffix("'s"), ()):
            if tuple(words[i + 1 : i + len(name)]) == name[1:]:
                (home if is_city else countries).add(country)
                cities.update([" ".join(name)] if is_city else [])
                start = i + len(name)
                break
    if _US.search(text):
        countries.add("united states")
    union = bool(_UNION.search(text)) and not _OUTSIDE.search(text)
    rest = bool(_REST.search(text) or _OUTSIDE.search(text))
    return Places(frozenset(countries), frozenset(home), frozenset(cities), union, rest)


def agree(asked: Places, told: Places) -> float:
    """How far a text speaks of the place asked for.

    1: it names it, 0.6 or 0.4: a group that may hold it, 0: it says nothing of places, -0.5: it names another city,
    -1: it names other countries only.
    """
    wanted = asked.countries | asked.home
    if not wanted:
        return 0.0
    if asked.cities & told.cities or wanted & told.countries:
        return 1.0
    if told.union:
        return 0.6 if wanted & _names().members else -1.0
    if told.rest:
        return 0.4
    if told.countries:
        return -1.0
    if told.cities:
        return 0.5 if not asked.cities and wanted & told.home else -0.5
    return 0.0
