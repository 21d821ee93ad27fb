"""A question and a quotable unit as numbers: the features that calibration.json holds weights for.

Knows no weights and no thresholds. Everything is a share between 0 and 1 or a sign, so that no feature outweighs the
others by its unit alone.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from fairlead.engines.embed.embedder import Embedder, Vectors
from fairlead.engines.embed.words import words_of
from fairlead.engines.extractive.amounts import Span, measures_of, within
from fairlead.engines.extractive.places import Places, agree, places_of
from fairlead.engines.extractive.question import Query
from fairlead.engines.extractive.text import STOP, concepts_of, content, names_thing, near, stem
from fairlead.engines.extractive.units import Passage, Unit

_UNIT_OF_TIME = r"(?:working |business |calendar |week)?(?:day|week|month|year|hour|minute|night)s?"
_MONTH = r"(?:January|February|March|April|May|June|July|August|September|October|November|December)"
_COUNT = r"(?:\d+|one|two|three|four|five|six|seven|eight|nine|ten|twelve|fourteen|twenty|thirty|forty|sixty|a|half a)"
_FITS: dict[str, re.Pattern[str]] = {
    "duration": re.compile(
        rf"\b{_COUNT}\b[\s-]*(?:(?:-|–|to|or)\s*\w+)?[\s-]*{_UNIT_OF_TIME}\b"
        r"|\b(?:next|same) (?:working |business )?day|\btomorrow\b|\bimmediately\b|\bat once\b|\bany ?time\b"
        rf"|\blifetime\b|\buntil\b|\bonce a\b|\bevery\b|\b\d{{1,2}}:\d\d\b|\b\d{{1,2}} {_MONTH}\b|\b{_MONTH} \d",
        re.IGNORECASE,
    ),
    "money": re.compile(
        r"[€$£¥]\s?\d|\d\s?(?:€|£|\$|eur\b|euros?\b|usd\b|gbp\b|chf\b|pounds?\b|dollars?\b|cents?\b|%|percent)"
        r"|\b(?:CHF|EUR|USD|GBP)\s?\d"
        r"|\bfree\b|\bno (?:extra )?(?:charge|cost|fee|postage)|\bat no\b|\bincluded\b|\bat our (?:cost|expense)"
        r"|\bwe pay\b|\bhalf (?:the )?price|\bcosts? (?:you )?nothing|\bfor nothing",
        re.IGNORECASE,
    ),
    "time": re.compile(
        r"\b\d{1,2}[:.]\d\d\b|\b\d{1,2}\s?(?:am|pm|o'clock)\b|\b(?:mon|tues|wednes|thurs|fri|satur|sun)days?\b"
        rf"|\b(?:mon|tue|thu|fri|sat|sun)\b|\bdaily\b|\bclosed?\b|\b24/7\b|\bnoon\b|\bmidnight\b|\b\d{{1,2}} {_MONTH}\b"
        r"|\bfrom \w+ (?:to|until) \w+",
        re.IGNORECASE,
    ),
    "place": re.compile(
        r"\b\d+[a-z]?,? [A-Z]\w+|\b[A-Z]\w+ (?:Street|Road|Lane|Avenue|Square|Way|Row|Quay|Place)\b|\b[A-Z]\w+ \d+\b"
        r"|\b(?:in|at|from|near) (?:the )?[A-Z]\w+|\bbehind\b|\bnext to\b|\bopposite\b"
    ),
    "contact": re.compile(r"[\w.+-]+@[\w-]+\.\w+|\+?\d[\d\s()/-]{5,}\d|\bcontact form\b", re.IGNORECASE),
    "number": re.compile(r"\d"),
}
_LOOSE: dict[str, re.Pattern[str]] = {
    "yesno": re.compile(
        r"\b(?:cannot|can|can't|may|must|not|never|no|only|unless|both|allowed|possible|yes|all|always|any|except"
        r"|welcome|offer|accept|need|fine|included|available|free)\b|n't\b",
        re.IGNORECASE,
    ),
    "how": re.compile(
        r"^(?:\d[.)] )?(?:log|open|go|choose|click|press|write|send|tell|call|ring|use|enter|put|take|bring|drop|pack"
        r"|make|book|ask|check|print|show|keep|please|just|simply|select|give|add|sign|contact|report|find|never"
        r"|don't|do not|wash|wipe|dry|turn|visit|name)\b"
        r"|\bunder \"|\b(?:you can|please|simply|just) \w+|\bby (?:e-?mail|phone|post)\b|\bon the page\b|\"[^\"]+\"",
        re.IGNORECASE,
    ),
    "why": re.compile(
        r"\bbecause\b|\bsince\b|\bfor (?:they|it|we|safety|legal|hygiene)\b|\bas (?:the|it|they|we|our)\b|\bdue to\b"
        r"|\breasons?\b|\busually\b|\bso that\b|\bmost\b|\bif\b|\bcheck\b|\bcannot\b",
        re.IGNORECASE,
    ),
    "who": re.compile(r"\b[A-Z][\w'-]+ [A-Z]\w+|\bwe\b|\byou pay\b|\bat our\b|\b(?:with|by) [A-Z]\w+"),
    "list": re.compile(r"\w, [\w ]+(?:,| and | or )|: \w", re.IGNORECASE),
}
FEATURES = (
    "cosine", "cosine with context", "cosine with section", "words", "words with context", "soft words",
    "soft words nearby", "soft words in passage", "rare words", "ideas", "ideas with context", "ideas in passage",
    "ideas of section", "section asked", "other ideas", "other section ideas", "fit", "loose fit", "rank", "item",
    "list", "row", "own words", "length", "soft words alone", "things", "things in text", "row meant",
    "row not meant", "row of another", "column meant", "place agrees", "place differs", "in range", "out of range",
    "first", "counted", "person named", "rate told", "wrong way",
)  # fmt: skip
_WAYS = ("delivery", "return")
_NUMBERS = ("duration", "money", "time", "number")


class Aspects(NamedTuple):
    """A question prepared for the comparison with units. Arrays are over its distinct words that carry meaning."""

    query: Query
    vector: Vectors
    words: list[str]
    stems: list[str]
    weights: Vectors
    word_vectors: Vectors
    things: Vectors
    own: Vectors | None
    ideas: dict[str, float]
    rarity: Vectors
    places: Places
    measures: list[Span]


def fit(kind: str, text: str) -> float:
    """1 when a text holds the kind of value asked for, -1 when it lacks it, 0 when any text will do."""
    pattern = _FITS.get(kind)
    return 0.0 if pattern is None else 1.0 if pattern.search(text) else -1.0


def loose_fit(query: Query, text: str) -> float:
    """As ``fit``, for questions that want no value: a rule, a step, a reason, a name, a list."""
    kind = "why" if query.words[:1] == ("why",) else query.kind
    pattern = _LOOSE.get(kind)
    return 0.0 if pattern is None else 1.0 if pattern.search(text) else -1.0


def aspects_of(query: Query, units: Sequence[Unit], embedder: Embedder) -> Aspects:
    """What is the same for all units of a question with at least one word."""
    words = list(dict.fromkeys(w for w in query.words if w not in STOP)) or list(dict.fromkeys(query.words))
    weights = np.array([embedder.weight(w) for w in words], np.float32) + 0.05
    stems = [stem(w) for w in words]
    spread = Counter(s for unit in units for s in unit.stems | unit.context_stems)
    rarity = np.array([math.log(1 + len(units) / (1 + spread[s])) / math.log(1 + len(units)) for s in stems])
    return Aspects(
        query,
        embedder.encode_lists([query.words])[0],
        words,
        stems,
        weights,
        embedder.encode_words(words),
        np.array([names_thing(w) for w in words], np.float32) * weights,
        np.array([w in query.own for w in words], np.float32) * weights if query.leaning else None,
        _idea_weights(query, units),
        (weights * rarity).astype(np.float32) + 1e-6,
        places_of(query.text, query.words),
        measures_of(query.text),
    )


def _idea_weights(query: Query, units: Sequence[Unit]) -> dict[str, float]:
    """Ideas of the question, rare ones among the units counting more."""
    return {
        idea: math.log(1 + len(units) / (1 + sum(idea in u.concepts or idea in u.context_concepts for u in units)))
        for idea in sorted(query.concepts)
    }


def compare(asked: Aspects, passages: Sequence[Passage]) -> Vectors:
    """The features (units, len(FEATURES)) of every unit of the passages, in order."""
    labels = _meant_labels(asked, passages)
    rows: list[tuple[float, ...]] = []
    for rank, passage in enumerate(passages):
        if not passage.units:
            continue
        hits = np.array([[_has(s, u.stems) for s in asked.stems] for u in passage.units], np.float32)
        around = np.array([[_has(s, u.context_stems) for s in asked.stems] for u in passage.units], np.float32)
        joint = np.maximum(hits, around)
        soft = np.maximum(np.stack([soft_words(asked.word_vectors, u) for u in passage.units]), joint)
        before = np.concatenate([np.zeros((1, soft.shape[1]), np.float32), soft[:-1]])
        after = np.concatenate([soft[1:], np.zeros((1, soft.shape[1]), np.float32)])
        near_by = np.maximum(soft, 0.8 * np.maximum(before, after))
        whole = soft.max(axis=0)
        spoken = frozenset[str]().union(*(u.concepts | u.context_concepts for u in passage.units))
        for i, unit in enumerate(passage.units):
            rows.append(
                _features(
                    asked, unit, rank, (hits[i], joint[i], soft[i], near_by[i], whole), spoken, labels.get(unit.table)
                )
            )
    return np.array(rows, np.float32)


def _meant_labels(asked: Aspects, passages: Sequence[Passage]) -> dict[tuple[str, ...], frozenset[frozenset[str]]]:
    """For every table, the labels of the rows that the question names."""
    stems = set(asked.stems)
    named: dict[tuple[str, ...], set[frozenset[str]]] = {}
    for passage in passages:
        for unit in passage.units:
            if unit.label and (unit.label <= stems or agree(asked.places, unit.places) == 1.0):
                named.setdefault(unit.table, set()).add(unit.label)
    return {table: frozenset(labels) for table, labels in named.items()}


def _features(
    asked: Aspects,
    unit: Unit,
    rank: int,
    found: tuple[Vectors, Vectors, Vectors, Vectors, Vectors],
    spoken: frozenset[str],
    labels: frozenset[frozenset[str]] | None,
) -> tuple[float, ...]:
    hits, joint, soft, near_by, whole = found
    weights, things, own = asked.weights, asked.things, asked.own
    total, rare = float(weights.sum()), float(asked.rarity.sum())
    ideas, idea_total = asked.ideas, sum(asked.ideas.values()) or 1.0
    told = unit.concepts | unit.context_concepts
    place = agree(asked.places, unit.places)
    span = within(asked.measures, list(unit.spans)) if asked.measures and unit.spans else 0.0
    return (
        float(asked.vector @ unit.vector),
        float(asked.vector @ unit.context_vector),
        float(asked.vector @ unit.section_vector),
        float(hits @ weights) / total,
        float(joint @ weights) / total,
        float(soft @ weights) / total,
        float(near_by @ weights) / total,
        float(whole @ weights) / total,
        float(soft @ asked.rarity) / rare,
        sum(w for idea, w in ideas.items() if idea in unit.concepts) / idea_total,
        sum(w for idea, w in ideas.items() if idea in told) / idea_total,
        sum(w for idea, w in ideas.items() if idea in spoken) / idea_total,
        sum(w for idea, w in ideas.items() if idea in unit.section_concepts) / idea_total,
        _section_asked(asked, unit),
        min(3, len(unit.concepts - asked.query.concepts)) / 3,
        min(3, len(unit.section_concepts - asked.query.concepts)) / 3 if asked.query.concepts else 0.0,
        fit(asked.query.kind, "; ".join(value for _, value in unit.columns) or unit.text),
        loose_fit(asked.query, unit.text),
        1.0 / (1 + rank),
        float(unit.kind == "item"),
        float(unit.kind == "list"),
        float(bool(unit.label)),
        float(own @ soft) / (float(own.sum()) + 1e-6) if own is not None else 0.0,
        min(1.0, len(unit.text) / 400),
        float(soft.min()),
        float(things @ soft) / float(things.sum()) if things.any() else 0.0,
        float(things @ hits) / float(things.sum()) if things.any() else 0.0,
        _row_meant(asked, unit, place),
        float(bool(unit.label) and unit.label.isdisjoint(asked.stems) and place < 1.0),
        float(bool(unit.label) and labels is not None and unit.label not in labels),
        _column_meant(asked, unit),
        max(0.0, place),
        max(0.0, -place),
        max(0.0, span),
        max(0.0, -span),
        float(unit.position == 0),
        _counted(asked.query, unit),
        _person(asked.query, unit),
        _rate(asked.query, unit),
        _wrong_way(asked.query.concepts, told | unit.section_concepts),
    )  # fmt: skip


_HOW_MANY = re.compile(r"\bhow many (?:more |different |of (?:the|your) )?([a-z'-]+)(?: ([a-z'-]+))?")
_WHO = re.compile(r"\bwho (?!pays|do|can|should|will|could|else|is this|are you|am i)|\bwhose\b|\bsurname\b|\bwho'?s\b")
_PERSON = re.compile(r"\b[A-Z][a-z'-]+ [A-Z][\w'-]+|\b(?:by|with|ask(?: for)?|and|is|our \w+) [A-Z][a-z'-]{2,}")
_RATE = re.compile(r"\b(?:interest|percent\w*|per cent|what rate|apr)\b")
_COUNTS = re.compile(rf"\b(?:{_COUNT}|a dozen|both|several)\b(?:[\s-]+\w+){{0,2}}?[\s-]+$", re.IGNORECASE)


def _counted(query: Query, unit: Unit) -> float:
    """1 when the thing whose number is asked for is told with a number, -1 when it is not, 0 when none is asked for."""
    found = _HOW_MANY.search(query.text.lower())
    if not found:
        return 0.0
    wanted = {stem(w) for w in found.groups() if w and w not in STOP}
    if any(wanted & {stem(w) for w in words_of(name)} for name, value in unit.columns if _FITS["number"].search(value)):
        return 1.0
    for word in re.finditer(r"[A-Za-z'-]+", unit.text):
        if stem(word[0].lower()) in wanted and _COUNTS.search(unit.text[: word.start()]):
            return 1.0
    return -1.0


def _person(query: Query, unit: Unit) -> float:
    """1 when a person is asked for and one is named, -1 when none is, 0 when none is asked for."""
    if not _WHO.search(query.text.lower()):
        return 0.0
    return 1.0 if _PERSON.search(unit.text) else -1.0


def _rate(query: Query, unit: Unit) -> float:
    """The same for a rate of interest or a percentage."""
    if not _RATE.search(query.text.lower()):
        return 0.0
    return 1.0 if re.search(r"%|per ?cent|APR|interest", unit.text) else -1.0


def _wrong_way(asked: frozenset[str], told: frozenset[str]) -> float:
    """1 when one direction of a parcel is asked for and the unit with its section speaks of the other alone."""
    for wanted, other in (_WAYS, _WAYS[::-1]):
        if wanted in asked and other not in asked:
            return float(other in told and wanted not in told)
    return 0.0


def _section_asked(asked: Aspects, unit: Unit) -> float:
    """How much of the heading's words the question speaks of."""
    if not len(unit.section_words):
        return 0.0
    return float(np.clip((unit.section_words @ asked.word_vectors.T).max(axis=1), 0, 1).mean())


def _row_meant(asked: Aspects, unit: Unit, place: float) -> float:
    """1 when the question names the whole label of a row or its place, 0.6 when it names a thing of it ("Otter")."""
    if not unit.label:
        return 0.0
    if unit.label <= set(asked.stems) or place == 1.0:
        return 1.0
    named = any(s in unit.label and weight > 0 for s, weight in zip(asked.stems, asked.things, strict=True))
    return 0.6 * named


def _column_meant(asked: Aspects, unit: Unit) -> float:
    """1 when a column of the row has a name that shares a word or an idea with the question and a fitting value."""
    if not unit.columns:
        return 0.0
    good = any(
        name_likeness(asked.query, name) > 0 and fit(asked.query.kind, value) >= 0 for name, value in unit.columns
    )
    return float(good)


def name_likeness(query: Query, name: str) -> int:
    """How many words and ideas a column's name shares with a question."""
    words = words_of(name)
    return len(set(content(words)) & set(query.stems)) + len(concepts_of(words) & query.concepts)


def contradicts(features: Vectors) -> bool:
    """Whether a unit speaks of another country or another row than the question names, so that it may not be quoted."""
    return bool(features[_DIFFERS] >= 1.0) or bool(features[_ANOTHER] and not features[_MEANT])


_DIFFERS, _ANOTHER, _MEANT = (FEATURES.index(n) for n in ("place differs", "row of another", "row meant"))


def _has(wanted: str, stems: frozenset[str]) -> float:
    if wanted in stems:
        return 1.0
    if len(wanted) > 4 and any(len(s) > 4 and s[0] == wanted[0] and near(wanted, s) for s in stems):
        return 0.8
    return 0.0


def soft_words(word_vectors: Vectors, unit: Unit) -> Vectors:
    """For each word of a question the nearest word of the unit or its context, as a cosine of at least 0."""
    if not len(unit.word_vectors):
        return np.zeros(len(word_vectors), np.float32)
    best: Vectors = np.clip((word_vectors @ unit.word_vectors.T).max(axis=1), 0, 1)
    return best


def has_word(wanted: str, stems: frozenset[str]) -> float:
    """1 when a stem is among others, 0.8 when one a slip away is."""
    return _has(wanted, stems)


__all__ = [
    "FEATURES",
    "Aspects",
    "aspects_of",
    "compare",
    "contradicts",
    "fit",
    "has_word",
    "name_likeness",
    "soft_words",
]
