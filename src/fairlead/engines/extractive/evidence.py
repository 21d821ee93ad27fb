"""Which quotable unit answers a question best, and how sure that makes us.

Three models: a linear one over the numbers of `features` picks the units worth a closer look, a second one orders these
by the same numbers and by what the learned scorer says of each, and a third one says how likely the first of them
answers the question at all. Their constants and the thresholds stand in calibration.json, written by
`python -m benchmarks.calibrate_answers` from questions that no reported figure rests on.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from fairlead.engines.embed.embedder import Embedder, Vectors
from fairlead.engines.embed.embedder import shared as embedder_of_process
from fairlead.engines.embed.words import words_of
from fairlead.engines.extractive.features import (
    FEATURES,
    aspects_of,
    compare,
    contradicts,
    fit,
    has_word,
    soft_words,
)
from fairlead.engines.extractive.odds import Odds
from fairlead.engines.extractive.question import Query
from fairlead.engines.extractive.text import STOP, names_thing, stem
from fairlead.engines.extractive.units import Passage, Unit, is_lead
from fairlead.engines.scorer import LEAST, Opinion, with_context
from fairlead.engines.scorer import shared as scorer_of_process

CALIBRATION = Path(__file__).with_name("calibration.json")
_OF_BEST = (
    "cosine", "cosine with context", "cosine with section", "words with context", "soft words", "rare words",
    "ideas", "ideas with context", "ideas in passage", "section asked", "fit", "loose fit", "rank", "own words",
    "things", "things in text", "row meant", "row not meant", "place agrees", "place differs", "in range",
    "soft words alone", "other section ideas", "counted", "person named", "rate told", "wrong way",
)  # fmt: skip
TRAITS = tuple(f"trait {i}" for i in range(96))  # the scorer's last layer
READ = ("answers", "answers below best", "answers likely")
SURENESS = (
    "score", "lead", "margin", "answers", "answers most", "answers lead", "answers margin", "answers likely",
    "any answers", "first is most", *_OF_BEST, "has ideas", "strangest word", "strange share", "strangest anywhere",
    "strange share anywhere", "unseen word", "unseen share", "unseen word anywhere", "unseen share anywhere",
    "yes or no of the unseen", "has things", "strange name", "asks yes or no", "asks for a value", "asks nothing",
    "few words", *TRAITS,
)  # fmt: skip
_NAME = re.compile(r"(?<=[\w,] )[A-Z][\w'’-]+")


class Calibration(NamedTuple):
    """The constants: a weight a feature, and the thresholds on the confidence."""

    order: Vectors
    choose: Vectors
    sure: Odds
    answer_from: float
    likely_from: float
    sure_from: float


_UNREAD = np.zeros(len(TRAITS), np.float32)
MOST_READ = 16  # units of a question that the scorer reads


class Scores(Protocol):
    """What is asked of the learned scorer."""

    digest: str

    def score(self, question: str, units: Sequence[str]) -> Vectors:
        """Log-odds (units,) that each unit answers the question."""

    def consider(self, question: str, units: Sequence[str]) -> Opinion:
        """The log-odds with the traits (units, len(TRAITS)) that they are a sum of."""

    def alike(self, message: str, units: Sequence[str]) -> Vectors:
        """How alike a message and each unit are as wholes (units,), -1 to 1."""


class Readers(NamedTuple):
    """The two learned models: the embedder for words and texts, the scorer for a question beside a unit."""

    embedder: Embedder
    scorer: Scores


@cache
def shared() -> Readers:
    """The models of this process, loaded once. Raises WeightsMissing or WeightsDamaged."""
    return Readers(embedder_of_process(), scorer_of_process())


class Match(NamedTuple):
    """A unit with its passage, its features, its score among the units, and what the scorer makes of it.

    ``answers`` is the scorer's log-odds, LEAST if it did not read the unit, ``traits`` what led to these.
    """

    unit: Unit
    passage: Passage
    features: Vectors
    score: float
    answers: float
    traits: Vectors


class Compared(NamedTuple):
    """The units that may be quoted, with their passages, and their features (units, len(FEATURES))."""

    units: list[tuple[Passage, Unit]]
    rows: Vectors


@cache
def calibration() -> Calibration:
    """The constants of calibration.json."""
    constants: dict[str, Any] = json.loads(CALIBRATION.read_text(encoding="utf-8"))
    order = np.array([constants["order"].get(name, 0.0) for name in FEATURES], np.float32)
    choose = np.array([constants["choose"].get(name, 0.0) for name in (*FEATURES, *READ)], np.float32)
    sure = Odds.read(constants["sure"], SURENESS)
    return Calibration(order, choose, sure, *(constants[name] for name in ("answer_from", "likely_from", "sure_from")))


def match(query: Query, passages: Sequence[Passage], readers: Readers) -> list[Match]:
    """Every unit that does not contradict the question nor only announces others, with its features, best first."""
    return order(query, prepare(query, passages, readers.embedder), readers)


def prepare(query: Query, passages: Sequence[Passage], embedder: Embedder) -> Compared:
    """The units that may be quoted with their features, which depend on no constant of the calibration."""
    units = [(passage, unit) for passage in passages for unit in passage.units]
    if not units or not query.words:
        return Compared([], np.zeros((0, len(FEATURES)), np.float32))
    rows = compare(aspects_of(query, [unit for _, unit in units], embedder), passages)
    usable = [i for i, (_, unit) in enumerate(units) if not contradicts(rows[i]) and not is_lead(unit)]
    return Compared([units[i] for i in usable], rows[usable])


def order(query: Query, compared: Compared, readers: Readers) -> list[Match]:
    """The units best first: the likely ones are read by the scorer, the others follow."""
    units, rows = compared
    if not units:
        return []
    scores = rows @ calibration().order
    first = sorted(range(len(units)), key=lambda i: (-scores[i], i))
    near, far = first[:MOST_READ], first[MOST_READ:]
    told = readers.scorer.consider(query.text, [with_context(units[i][1].context, units[i][1].text) for i in near])
    chosen = np.concatenate([rows[near], read_features(told.odds)], axis=1) @ calibration().choose
    found = [
        Match(units[i][1], units[i][0], rows[i], float(score), float(odd), traits)
        for i, score, odd, traits in zip(near, chosen, told.odds, told.traits, strict=True)
    ]
    found.sort(key=lambda m: -m.score)
    drop = float(chosen.min() - scores[near[-1]])
    found += [Match(units[i][1], units[i][0], rows[i], float(scores[i]) + drop, LEAST, _UNREAD) for i in far]
    return found


def read_features(odds: Vectors) -> Vectors:
    """What the scorer says of the units read, as features (units, len(READ))."""
    most = float(odds.max())
    return np.stack([odds / 4, np.maximum(odds - most, -8) / 4, 1 / (1 + np.exp(-odds))], axis=1).astype(np.float32)


def sureness(query: Query, matches: Sequence[Match], embedder: Embedder) -> Vectors:
    """The features (len(SURENESS),) that say whether the first match answers the question at all."""
    odds = np.array([m.answers for m in matches if m.answers > LEAST] or [LEAST], np.float32)
    best = matches[0]
    named = dict(zip(FEATURES, best.features.tolist(), strict=True))
    other = next((m.score for m in matches if m.passage is not best.passage), best.score - 4)
    second = matches[1].score if len(matches) > 1 else best.score - 4
    meaning = [w for w in dict.fromkeys(query.words) if w not in STOP]
    weights = np.array([embedder.weight(w) for w in meaning], np.float32)
    strange = [1.0] * 8
    if meaning:
        vectors = embedder.encode_words(meaning)
        exact = np.array([[has_word(stem(w), m.unit.stems | m.unit.context_stems) for w in meaning] for m in matches])
        soft = np.maximum(np.stack([soft_words(vectors, m.unit) for m in matches]), exact)
        kinds = (soft[0], soft.max(axis=0), exact[0], exact.max(axis=0))
        strange = [value for found in kinds for value in _strange(found, weights)]
    values = np.array(
        [
            best.score,
            min(4.0, best.score - other),
            min(4.0, best.score - second),
            best.answers / 4,
            float(odds.max()) / 4,
            min(8.0, max(-8.0, best.answers - max((m.answers for m in matches[1:]), default=LEAST))) / 4,
            min(
                8.0,
                max(
                    -8.0,
                    best.answers - max((m.answers for m in matches if m.passage is not best.passage), default=LEAST),
                ),
            )
            / 4,
            1 / (1 + math.exp(-best.answers)),
            1 - float(np.prod(1 - 1 / (1 + np.exp(-odds)))),
            float(best.answers >= float(odds.max())),
            *(named[name] for name in _OF_BEST),
            float(bool(query.concepts)),
            *strange,
            strange[6] * (query.kind == "yesno"),
            float(any(names_thing(w) for w in meaning)),
            float(_strange_name(query, matches)),
            float(query.kind == "yesno"),
            float(abs(fit(query.kind, best.unit.text))),
            float(query.kind == "other"),
            float(len(meaning) < 3),
        ],
        np.float32,
    )
    return np.concatenate([values, best.traits])


def _strange(found: Vectors, weights: Vectors) -> tuple[float, float]:
    """(the weightiest word not found, the share of weight not found)."""
    return float((weights * (1 - found)).max()), float((weights * (found < 0.5)).sum() / (weights.sum() + 1e-6))


def _strange_name(query: Query, matches: Sequence[Match]) -> bool:
    """Whether the question names something with a capital letter that stands in no passage."""
    names = {stem(w) for name in _NAME.findall(query.text) for w in words_of(name)} - {"i"}
    names = {name for name in names if name not in STOP}
    return any(not any(name in m.unit.stems or name in m.unit.context_stems for m in matches) for name in names)


def confidence(query: Query, matches: Sequence[Match], embedder: Embedder) -> float:
    """The calibrated odds, 0 to 1, that the first match answers the question; 0 without a match."""
    if not matches:
        return 0.0
    value = float(calibration().sure.of(sureness(query, matches, embedder)[None])[0])
    return 1 / (1 + math.exp(-value))


__all__ = [
    "CALIBRATION",
    "FEATURES",
    "SURENESS",
    "Calibration",
    "Match",
    "Readers",
    "calibration",
    "confidence",
    "fit",
    "match",
    "shared",
    "sureness",
]
