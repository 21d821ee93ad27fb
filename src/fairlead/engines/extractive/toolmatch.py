"""A message and the tools on offer as numbers, and how likely the message asks for each tool.

Knows no thresholds but those of calibration.json and decides nothing about who may do what. A tool is what its name,
its descriptions and the types of its arguments say; no list of known tools stands anywhere.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fairlead.engines.embed.embedder import Embedder, Vectors
from fairlead.engines.embed.words import words_of
from fairlead.engines.extractive.arguments import Parameter, extract, kind_of
from fairlead.engines.extractive.evidence import Readers
from fairlead.engines.extractive.manner import Manner, deeds_of, manner_of
from fairlead.engines.extractive.odds import Odds
from fairlead.engines.extractive.question import bare_of
from fairlead.engines.extractive.text import STOP, concepts_of, near, respell, stem
from fairlead.engines.scorer import with_context

CALIBRATION = Path(__file__).with_name("calibration.json")
SPACED = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[_\-.:/]+")
TOOL_FEATURES = (
    "cosine", "cosine with name", "lead in cosine", "ideas of name", "ideas", "own idea", "ideas elsewhere",
    "no idea shared", "stems of name", "stems", "coverage", "lead in coverage", "name covered", "arguments given",
    "all arguments given", "any argument given", "number wanted", "nothing wanted", "personal", "request", "policy",
    "general", "personal and number wanted", "policy, nothing given", "vague day", "few words", "asks", "action",
    "same action", "other action", "detail given", "my own", "policy of it", "general of it", "request of it",
    "own of it", "only it", "indefinite", "condition", "given to it alone", "all given to it alone", "telling given",
    "given and same action", "given and other action", "given and no idea shared", "given and no action",
    "shared and covered", "given alone and no action", "only it and request",
    "sense", "lead in sense", "read", "lead in reading",
)  # fmt: skip


class Tool(NamedTuple):
    """A function the request offers."""

    name: str
    description: str
    parameters: tuple[Parameter, ...]

    @property
    def required(self) -> list[Parameter]:
        """Parameters it cannot do without."""
        return [p for p in self.parameters if p.required]


class Meaning(NamedTuple):
    """What a tool's name and descriptions say, prepared once."""

    vector: Vectors
    name_vector: Vectors
    name_stems: frozenset[str]
    stems: frozenset[str]
    concepts: frozenset[str]
    name_concepts: frozenset[str]
    words: Vectors
    name_words: Vectors
    deeds: frozenset[str]


@lru_cache(maxsize=512)
def _meaning_of(name: str, description: str, details: str, embedder: Embedder) -> Meaning:
    title = words_of(SPACED.sub(" ", name))
    told = words_of(description)[:60]
    more = words_of(details)[:60]
    vectors = embedder.encode_lists([title + told, title])
    own = [w for w in dict.fromkeys(title) if w not in STOP] or title
    every = [w for w in dict.fromkeys(title + told + more) if w not in STOP]
    return Meaning(
        vectors[0],
        vectors[1],
        frozenset(stem(w) for w in own),
        frozenset(stem(w) for w in every),
        concepts_of(title + told),
        concepts_of(title),
        embedder.encode_words(every),
        embedder.encode_words(own),
        (deeds_of(" ".join(title)) | deeds_of(" ".join(told[:1]))) or deeds_of(" ".join(told)),
    )


def meaning_of(tool: Tool, embedder: Embedder) -> Meaning:
    """The meaning of a tool, from a cache."""
    details = " ".join(f"{SPACED.sub(' ', p.name)} {p.description[:200]}" for p in tool.parameters[:20])
    return _meaning_of(tool.name[:100], tool.description[:1000], details, embedder)


class _Message(NamedTuple):
    """A message prepared for the comparison with tools."""

    text: str
    words: list[str]
    weights: Vectors
    vector: Vectors
    word_vectors: Vectors
    concepts: frozenset[str]
    stems: frozenset[str]
    deeds: frozenset[str]
    manner: Manner


class _Given(NamedTuple):
    """Which required arguments a message holds: ``kinds`` found of ``wanted`` of a telling type; ``alone`` are those
    that no other tool on offer wants; ``detail`` is a reason or a product.
    """

    kinds: list[str]
    wanted: int
    alone: list[str]
    detail: bool


def tool_features(tools: Sequence[Tool], message: str, readers: Readers) -> Vectors:
    """The features (tools, len(TOOL_FEATURES)) of a message with at least one word."""
    embedder = readers.embedder
    told = [with_context(SPACED.sub(" ", tool.name), tool.description[:1000]) for tool in tools]
    alike = readers.scorer.alike(message, told).tolist()
    answers = (readers.scorer.score(message, told) / 4).tolist()
    asked = _read(message, embedder)
    meanings = [meaning_of(tool, embedder) for tool in tools]
    given = _given(tools, message)
    cosines = [float(asked.vector @ m.vector) for m in meanings]
    cover = [_coverage(asked.word_vectors, asked.weights, m.words) for m in meanings]
    spread = Counter(idea for meaning in meanings for idea in meaning.concepts)
    rows = []
    for i, (tool, meaning) in enumerate(zip(tools, meanings, strict=True)):
        found = {
            "cosine": cosines[i],
            "lead in cosine": _lead(cosines, i, 0.3),
            "coverage": cover[i],
            "lead in coverage": _lead(cover, i, 0.3),
            "sense": alike[i],
            "lead in sense": _lead(alike, i, 0.3),
            "read": answers[i],
            "lead in reading": _lead(answers, i, answers[i]),
            "only it": any(
                not any(deed in other.deeds for j, other in enumerate(meanings) if j != i)
                for deed in meaning.deeds & asked.deeds
            ),
            **_likeness(asked, meaning, spread),
            **_arguments(tool, given[i]),
            **_manner(tool, asked, meaning, given[i]),
        }
        found |= _together(found)
        rows.append([float(found[name]) for name in TOOL_FEATURES])
    return np.array(rows, np.float32)


def _lead(values: Sequence[float], i: int, alone: float) -> float:
    """How far one value is above the highest of the others; above ``alone`` where there is no other."""
    return values[i] - max((value for j, value in enumerate(values) if j != i), default=alone)


def _together(found: dict[str, float]) -> dict[str, float]:
    """Signs that say more together than each alone."""
    given, alone = found["any argument given"], found["given to it alone"]
    return {
        "given and same action": given * found["same action"],
        "given and other action": given * found["other action"],
        "given and no idea shared": given * found["no idea shared"],
        "given and no action": given * (1 - found["action"]),
        "given alone and no action": alone * (1 - found["action"]),
        "shared and covered": found["own idea"] * found["name covered"],
        "only it and request": found["only it"] * found["request"],
    }


def _read(message: str, embedder: Embedder) -> _Message:
    words = [_mended(w, embedder) for w in words_of(bare_of(message))]
    telling = [w for w in dict.fromkeys(words) if w not in STOP]
    return _Message(
        message,
        telling,
        np.array([embedder.weight(w) for w in telling], np.float32) + 0.05,
        embedder.encode_lists([words])[0],
        embedder.encode_words(telling),
        concepts_of(words),
        frozenset(stem(w) for w in telling),
        deeds_of(" ".join(words)),
        manner_of(message),
    )


def _likeness(asked: _Message, meaning: Meaning, spread: Counter[str]) -> dict[str, float]:
    """How far a message and a tool speak of the same."""
    shared = asked.concepts & meaning.concepts
    alike = asked.deeds & meaning.deeds
    return {
        "cosine with name": float(asked.vector @ meaning.name_vector),
        "ideas of name": min(2, len(asked.concepts & meaning.name_concepts)) / 2,
        "ideas": min(2, len(shared)) / 2,
        "own idea": max((1 / spread[idea] for idea in shared), default=0.0),
        "ideas elsewhere": min(2, len(asked.concepts - meaning.concepts)) / 2,
        "no idea shared": bool(asked.concepts) and not shared,
        "stems of name": min(2, len(asked.stems & meaning.name_stems)) / 2,
        "stems": min(3, len(asked.stems & meaning.stems)) / 3,
        "name covered": _coverage(meaning.name_words, np.ones(len(meaning.name_words), np.float32), asked.word_vectors),
        "few words": len(asked.words) < 3,
        "action": bool(asked.deeds),
        "same action": bool(alike),
        "other action": bool(asked.deeds and meaning.deeds and not alike),
    }


def _arguments(tool: Tool, given: _Given) -> dict[str, float]:
    """What of the tool's arguments the message holds."""
    every = bool(given.kinds) and len(given.kinds) == given.wanted
    return {
        "arguments given": len(given.kinds) / given.wanted if given.wanted else 0.0,
        "all arguments given": every,
        "any argument given": bool(given.kinds),
        "number wanted": _wants_number(tool, given),
        "nothing wanted": not tool.required,
        "detail given": given.detail,
        "given to it alone": bool(given.alone),
        "all given to it alone": bool(given.alone) and every,
        "telling given": not _TELLING.isdisjoint(given.alone),
    }


def _manner(tool: Tool, asked: _Message, meaning: Meaning, given: _Given) -> dict[str, float]:
    """Whether the message wants something done for this customer, rather than a rule explained."""
    manner, same = asked.manner, not asked.deeds.isdisjoint(meaning.deeds)
    told_all = given.detail and manner.own  # "can I return my lamp? It is broken.": no question on policy
    policy, general = manner.policy and not told_all, manner.general and not told_all
    days = any(kind_of(p) == "date" for p in tool.parameters)
    return {
        "personal": manner.personal,
        "request": manner.request,
        "policy": policy,
        "general": general,
        "my own": manner.own,
        "asks": manner.asks,
        "condition": manner.conditional,
        "indefinite": manner.indefinite and not given.kinds,
        "vague day": manner.vague_day and days and "date" not in given.kinds,
        "personal and number wanted": manner.personal and _wants_number(tool, given),
        "policy, nothing given": policy and not given.kinds,
        "policy of it": policy and same and not given.kinds,
        "general of it": general and same and not given.kinds,
        "request of it": manner.request and same,
        "own of it": manner.own and same,
    }


def _wants_number(tool: Tool, given: _Given) -> bool:
    return any(kind_of(p) == "id" for p in tool.required) and "id" not in given.kinds


_SHORT = (
    "call ring phone stop come bill order code size track return left send price have where cancel parcel invoice "
    "voucher coupon back free open status"
).split()


def _mended(word: str, embedder: Embedder) -> str:
    """A word respelt; one that nobody knows becomes the short word of requests that it is a slip away from."""
    better = respell(word)
    if better != word or len(word) < 3 or embedder.knows(word) or not word.isalpha():
        return better
    return next((known for known in _SHORT if near(word, known)), word)


def _coverage(wanted: Vectors, weights: Vectors, words: Vectors) -> float:
    """How much of some words, by weight, has a near one among others."""
    if not len(wanted) or not len(words):
        return 0.0
    best = np.clip((wanted @ words.T).max(axis=1), 0, 1)
    return float(best @ weights) / float(weights.sum())


_TYPED = frozenset(
    ("email", "iban", "phone", "date", "time", "id", "code", "address", "postcode", "size", "amount", "weight", "place")
)
_TELLING = frozenset(("email", "iban", "phone", "date", "time", "code", "weight", "address"))


def _given(tools: Sequence[Tool], message: str) -> list[_Given]:
    """For each tool which of its required arguments a message holds."""
    typed = [[p for p in tool.required if kind_of(p) in _TYPED or p.choices] for tool in tools]
    found = [[kind_of(p) for p in some if extract(p, message, asked=False) is not None] for some in typed]
    often = Counter(kind for kinds in found for kind in set(kinds))
    details = [
        any(kind_of(p) in ("reason", "product") and extract(p, message, asked=False) for p in tool.required)
        for tool in tools
    ]
    return [
        _Given(kinds, len(some), [kind for kind in kinds if often[kind] == 1], detail)
        for kinds, some, detail in zip(found, typed, details, strict=True)
    ]


@cache
def tool_odds() -> Odds:
    """The constants of calibration.json."""
    return Odds.read(json.loads(CALIBRATION.read_text(encoding="utf-8"))["tool"], TOOL_FEATURES)


def rank(tools: Sequence[Tool], message: str, readers: Readers) -> list[tuple[Tool, float]]:
    """Tools with the chance, 0 to 1, that the message asks for them, best first; what is left to 1 is for none."""
    if not tools or not words_of(message):
        return []
    odds = np.append(tool_odds().of(tool_features(tools, message, readers)), 0)  # the last is for none
    shares = np.exp(odds - odds.max())
    scored = list(zip(tools, (shares / shares.sum()).tolist(), strict=False))
    scored.sort(key=lambda pair: -pair[1])
    return scored


def chance_of_kind(ranked: Sequence[tuple[Tool, float]], embedder: Embedder) -> float:
    """The chance, 0 to 1, that the first of ``rank`` is meant or one that does the same with the same arguments.

    Two tools that look up an order halve the odds between them, although a message is sure to want one of the two.
    """
    if not ranked:
        return 0.0
    first = ranked[0][0]
    deeds = meaning_of(first, embedder).deeds
    wanted = {p.name for p in first.required}
    return sum(
        share
        for tool, share in ranked
        if tool is first or (deeds & meaning_of(tool, embedder).deeds and {p.name for p in tool.required} == wanted)
    )


__all__ = ["TOOL_FEATURES", "Meaning", "Tool", "chance_of_kind", "meaning_of", "rank", "tool_features", "tool_odds"]
