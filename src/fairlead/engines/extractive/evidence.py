"""How well a quotable unit answers a question, as numbers, and how sure that makes us.

Two logistic models: one orders the units, one says how likely the first of them answers the question at all. Their
constants and the thresholds stand in calibration.json, written by `python -m benchmarks.calibrate_answers` from shops
whose wordings neither this engine nor the embedder was trained on.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fairlead.engines.embed.embedder import Embedder, Vectors
from fairlead.engines.extractive.question import Query
from fairlead.engines.extractive.text import STOP, names_thing, near, stem
from fairlead.engines.extractive.units import Passage, Unit

CALIBRATION = Path(__file__).with_name("calibration.json")
_UNIT_OF_TIME = r"(?:working |business |calendar |week)?(?:day|week|month|year|hour|minute)s?"
_FITS: dict[str, re.Pattern[str]] = {
    "duration": re.compile(
        rf"\b(?:\d+|one|two|three|four|five|six|seven|ten|fourteen|thirty)\b[\s-]*(?:(?:-|–|to"
        rf"|or)\s*\d+)?[\s-]*{_UNIT_OF_TIME}\b"
        r"|\b(?:next|same) (?:working |business )?day|\btomorrow\b|\bimmediately\b|\bat once\b|\bany ?time\b"
        r"|\blifetime\b|\buntil\b",
        re.IGNORECASE,
    ),
    "money": re.compile(
        r"[€$£¥]\s?\d|\d\s?(?:€|£|\$|eur\b|euros?\b|usd\b|gbp\b|chf\b|pounds?\b|dollars?\b|cents?\b|%|percent)"
        r"|\b(?:CHF|EUR|USD|GBP)\s?\d"
        r"|\bfree\b|\bno (?:extra )?(?:charge|cost|fee)|\bincluded\b|\bat our (?:cost|expense)|\bwe pay\b"
        r"|\bcosts? nothing",
        re.IGNORECASE,
    ),
    "time": re.compile(
        r"\b\d{1,2}[:.]\d\d\b|\b\d{1,2}\s?(?:am|pm|o'clock)\b|\b(?:mon|tues|wednes|thurs|fri|satur|sun)days?\b"
        r"|\bmon\b|\bfri\b|\bdaily\b|\bclosed?\b|\b24/7\b|\bnoon\b|\bmidnight\b",
        re.IGNORECASE,
    ),
    "place": re.compile(
        r"\b\d+[a-z]?,? [A-Z]\w+|\b[A-Z]\w+ (?:Street|Road|Lane|Avenue|Square|Way|Row|Quay|Place)\b|\b(?:in|at"
        r"|from) (?:the )?[A-Z]\w+|\bbehind\b|\bnext to\b|\bopposite\b"
    ),
    "contact": re.compile(r"[\w.+-]+@[\w-]+\.\w+|\+?\d[\d\s()/-]{5,}\d|\bcontact form\b", re.IGNORECASE),
    "number": re.compile(r"\d"),
}
FEATURES = (
    "cosine", "cosine with context", "words", "words with context", "soft words", "ideas", "ideas with context",
    "fit", "rank", "item", "list", "row", "own words", "length", "soft words alone", "things",
    "row meant", "row not meant",
)  # fmt: skip
SURENESS = (
    "score", "lead", "cosine with context", "words with context", "soft words", "ideas with context", "fit",
    "has ideas", "strangest word", "strange share", "own words", "words", "things", "has things", "row not meant",
)  # fmt: skip


class Calibration(NamedTuple):
    """The constants: a weight a feature, and the thresholds on the confidence."""

    order: Vectors
    sure: Vectors
    bias: float
    answer_from: float
    sure_from: float


class Match(NamedTuple):
    """A unit with its features, its score among the units, and its passage."""

    unit: Unit
    passage: Passage
    features: Vectors
    score: float


@cache
def calibration() -> Calibration:
    """The constants of calibration.json."""
    constants: dict[str, Any] = json.loads(CALIBRATION.read_text(encoding="utf-8"))
    order = np.array([constants["order"][name] for name in FEATURES], np.float32)
    sure = np.array([constants["sure"][name] for name in SURENESS], np.float32)
    return Calibration(order, sure, constants["bias"], constants["answer_from"], constants["sure_from"])


def fit(kind: str, text: str) -> float:
    """1 when a text holds the kind of value asked for, -1 when it lacks it, 0 when any text will do."""
    pattern = _FITS.get(kind)
    return 0.0 if pattern is None else 1.0 if pattern.search(text) else -1.0


def match(query: Query, passages: Sequence[Passage], embedder: Embedder) -> list[Match]:
    """Every unit with its features and score, best first."""
    units = [(p, rank, u) for rank, p in enumerate(passages) for u in p.units]
    if not units or not query.words:
        return []
    vector = embedder.encode_lists([query.words])[0]
    meaning = list(dict.fromkeys(w for w in query.words if w not in STOP)) or list(dict.fromkeys(query.words))
    weights = np.array([embedder.weight(w) for w in meaning], np.float32) + 0.05
    word_vectors = embedder.encode_words(meaning)
    stems = [stem(w) for w in meaning]
    ideas = _idea_weights(query, [u for _, _, u in units])
    things = np.array([names_thing(w) for w in meaning], np.float32) * weights
    own = np.array([w in query.own for w in meaning], np.float32) * weights if query.leaning else None
    rows = np.empty((len(units), len(FEATURES)), np.float32)
    for i, (_, rank, unit) in enumerate(units):
        rows[i] = _features(query, unit, rank, vector, weights, word_vectors, stems, ideas, own, things)
    scores = rows @ calibration().order
    order = sorted(range(len(units)), key=lambda i: (-scores[i], units[i][1], units[i][2].position))
    return [Match(units[i][2], units[i][0], rows[i], float(scores[i])) for i in order]


def _idea_weights(query: Query, units: list[Unit]) -> dict[str, float]:
    """Ideas of the question, rare ones among the units counting more."""
    return {
        idea: math.log(1 + len(units) / (1 + sum(idea in u.concepts or idea in u.context_concepts for u in units)))
        for idea in query.concepts
    }


def _features(
    query: Query,
    unit: Unit,
    rank: int,
    vector: Vectors,
    weights: Vectors,
    word_vectors: Vectors,
    stems: list[str],
    ideas: dict[str, float],
    own: Vectors | None,
    things: Vectors,
) -> tuple[float, ...]:
    total = float(weights.sum())
    in_text = np.array([_has(s, unit.stems) for s in stems], np.float32)
    in_joint = np.maximum(in_text, np.array([_has(s, unit.context_stems) for s in stems], np.float32))
    soft = np.maximum(_soft(word_vectors, unit), in_joint)
    idea_total = sum(ideas.values()) or 1.0
    idea_text = sum(w for idea, w in ideas.items() if idea in unit.concepts) / idea_total
    idea_joint = sum(w for i, w in ideas.items() if i in unit.concepts or i in unit.context_concepts) / idea_total
    return (
        float(vector @ unit.vector),
        float(vector @ unit.context_vector),
        float(in_text @ weights) / total,
        float(in_joint @ weights) / total,
        float(soft @ weights) / total,
        idea_text,
        idea_joint,
        fit(query.kind, unit.text),
        1.0 / (1 + rank),
        float(unit.kind == "item"),
        float(unit.kind == "list"),
        float(unit.kind == "row"),
        float(own @ soft) / (float(own.sum()) + 1e-6) if own is not None else 0.0,
        min(1.0, len(unit.text) / 400),
        float(soft.min()),
        float(things @ soft) / float(things.sum()) if things.any() else 0.0,
        float(bool(unit.label) and unit.label <= set(stems)),
        float(bool(unit.label) and unit.label.isdisjoint(stems)),
    )


def _has(wanted: str, stems: frozenset[str]) -> float:
    if wanted in stems:
        return 1.0
    if len(wanted) > 4 and any(len(s) > 4 and s[0] == wanted[0] and near(wanted, s) for s in stems):
        return 0.8
    return 0.0


def _soft(word_vectors: Vectors, unit: Unit) -> Vectors:
    if not len(unit.word_vectors):
        return np.zeros(len(word_vectors), np.float32)
    best: Vectors = np.clip((word_vectors @ unit.word_vectors.T).max(axis=1), 0, 1)
    return best


def sureness(query: Query, matches: Sequence[Match], embedder: Embedder) -> Vectors:
    """The features (len(SURENESS),) that say whether the first match answers the question at all."""
    best = matches[0]
    named = dict(zip(FEATURES, best.features.tolist(), strict=True))
    other = next((m.score for m in matches if m.passage is not best.passage), best.score - 4)
    meaning = [w for w in dict.fromkeys(query.words) if w not in STOP]
    weights = np.array([embedder.weight(w) for w in meaning], np.float32)
    if meaning:
        joint = best.unit.stems | best.unit.context_stems
        found = np.maximum(_soft(embedder.encode_words(meaning), best.unit), [_has(stem(w), joint) for w in meaning])
        strangest = float((weights * (1 - found)).max())
        strange = float((weights * (found < 0.5)).sum() / (weights.sum() + 1e-6))
    else:
        strangest = strange = 1.0
    return np.array(
        [
            best.score,
            min(4.0, best.score - other),
            named["cosine with context"],
            named["words with context"],
            named["soft words"],
            named["ideas with context"],
            named["fit"],
            float(bool(query.concepts)),
            strangest,
            strange,
            named["own words"],
            named["words"],
            named["things"],
            float(any(names_thing(w) for w in meaning)),
            named["row not meant"],
        ],
        np.float32,
    )


def confidence(query: Query, matches: Sequence[Match], embedder: Embedder) -> float:
    """The calibrated odds, 0 to 1, that the first match answers the question; 0 without a match."""
    if not matches:
        return 0.0
    constants = calibration()
    value = float(constants.sure @ sureness(query, matches, embedder)) + constants.bias
    return 1 / (1 + math.exp(-max(-30.0, min(30.0, value))))
