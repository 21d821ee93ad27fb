"""Which passages an answer rests on, for models that do not say so themselves. Pure functions on words."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from fairlead.assistant.knowledge import Passage
from fairlead.engines.embed.words import words_of
from fairlead.engines.extractive.text import content

MAX_SOURCES: Final = 3
ENOUGH: Final = 0.4
"""Share of an answer's words, or of its numbers, that a passage must hold to be named as its source."""
_UNKNOWN = re.compile(
    r"\b(do not|don't|does not|doesn't|cannot|can't|can not|not) (\w+ ){0,2}"
    r"(know|find|have (any |that )?information|say|sure|contain|mention)\b"
    r"|\bno information\b|\bunable to\b",
    re.IGNORECASE,
)


def pick_sources(answer: str, passages: Sequence[Passage]) -> list[Passage]:
    """The passages that share the most with the answer, in the order of the passages; none when none shares enough."""
    said = set(content(words_of(answer)))
    if not said:
        return []
    numbers = {word for word in said if word.isdigit()}
    rated = []
    for passage in passages:
        there = set(content(words_of(f"{passage.title} {passage.text}")))
        share = len(said & there) / len(said)
        if numbers:
            share = max(share, 0.9 * len(numbers & there) / len(numbers)) if len(said & there) > 1 else share
        rated.append((share, passage))
    best = sorted((pair for pair in rated if pair[0] >= ENOUGH), key=lambda pair: -pair[0])[:MAX_SOURCES]
    return [passage for passage in passages if any(passage is each for _, each in best)]


def says_unknown(answer: str) -> bool:
    """Whether a generated answer says that it does not know."""
    return bool(_UNKNOWN.search(answer))
