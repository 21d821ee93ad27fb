"""Whether two messages say the same, beyond sharing a subject: what a sum of word vectors cannot see.

"Refund within 30 days" and "refund after 30 days" lie side by side for any embedder. Here a pair of texts becomes a
handful of named numbers (how near, another number, a "not" on one side, the roles of "I" and "you" or the ends of
"from" and "to" exchanged, one or two words alone exchanged for unlike ones), and a small logistic model, fitted by
`training/embed_likeness.py`, says how likely the two mean the same. Knows no use case; a cache that answers from
memory, or anything else that acts upon likeness, should ask here and not trust a cosine.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fairlead.engines.embed.embedder import Embedder, Vectors
from fairlead.engines.embed.words import words_of

FITTED = Path(__file__).with_name("weights") / "likeness.json"
NAMES = (
    "distance",
    "another number",
    "not on one side",
    "roles exchanged",
    "way exchanged",
    "word exchanged",
)
MOST_WORDS = 60
MOST_EXCHANGED = 2
_MEASURES = frozenset(("day", "days", "week", "weeks"))
_NEGATIONS = frozenset("not no never none nobody nothing without cannot cant dont doesnt didnt isnt wasnt wont".split())
_SPELT = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen".split()
_NUMBERS = {word: number for number, word in enumerate(_SPELT)} | {
    "seventeen": 17, "eighteen": 18, "nineteen": 19, "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50,
    "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90, "hundred": 100, "first": 1, "second": 2, "third": 3,
    "twice": 2, "pair": 2, "dozen": 12, "once": 1, "half": 0.5,
}  # fmt: skip
_ME = frozenset(("i", "me", "my", "mine", "we", "us", "our", "i'm", "i've", "im"))
_YOU = frozenset(("you", "your", "yours", "you're", "you've"))


class Prepared(NamedTuple):
    """A text as it is compared: its folded words, and the vector (d,) of them, of length one or zero."""

    words: list[str]
    vector: Vectors


class Likeness:
    """How likely two texts say the same. Deterministic; raises nothing on any text."""

    def __init__(self, embedder: Embedder) -> None:
        fitted = json.loads(FITTED.read_text(encoding="utf-8"))
        self._embedder = embedder
        self._weights = np.array([fitted["weights"][name] for name in NAMES])
        self._bias = float(fitted["bias"])
        self.threshold = float(fitted["threshold"])

    def of(self, one: str, other: str) -> float:
        """The odds, from 0 to 1, that the two say the same; the order does not matter."""
        return self.of_prepared(self.prepare(one), self.prepare(other))

    def prepare(self, text: str) -> Prepared:
        """What is needed of a text to compare it with many."""
        return prepare(text, self._embedder)

    def of_prepared(self, one: Prepared, other: Prepared) -> float:
        """As ``of``."""
        score = self._bias + float(self._weights @ compare_prepared(one, other, self._embedder))
        return 1 / (1 + math.exp(-max(-50.0, min(50.0, score))))

    def same(self, one: str, other: str) -> bool:
        """Whether the odds reach the fitted threshold."""
        return self.of(one, other) >= self.threshold


def compare(one: str, other: str, embedder: Embedder) -> npt.NDArray[np.float64]:
    """The numbers (len(NAMES),) of a pair of texts, all 0 for two equal texts."""
    return compare_prepared(prepare(one, embedder), prepare(other, embedder), embedder)


def prepare(text: str, embedder: Embedder) -> Prepared:
    """The words of a text that are looked at, and their vector."""
    words = words_of(text)[:MOST_WORDS]
    return Prepared(words, embedder.encode_lists([words])[0])


def compare_prepared(one: Prepared, other: Prepared, embedder: Embedder) -> npt.NDArray[np.float64]:
    """As ``compare``."""
    a, b = one.words, other.words
    numbers_a, numbers_b = _numbers(a), _numbers(b)
    return np.array(
        [
            1 - float(one.vector @ other.vector),
            float(bool(numbers_a - numbers_b) and bool(numbers_b - numbers_a)),
            float(_negations(a) % 2 != _negations(b) % 2),
            float(_roles(a) * _roles(b) < 0),
            float(_ways(a, b)),
            _exchanged(a, b, embedder),
        ]
    )


def _exchanged(a: Sequence[str], b: Sequence[str], embedder: Embedder) -> float:
    """How unlike the one or two words are in which alone the texts differ; 0 where they differ otherwise."""
    same = _MEASURES if _numbers(a) == _numbers(b) else frozenset[str]()
    left = [w for w in a if w not in b and not (same and (w in same or _is_number(w)))]
    right = [w for w in b if w not in a and not (same and (w in same or _is_number(w)))]
    most = max(len(left), len(right))
    if not left or not right or most > MOST_EXCHANGED or min(len(a), len(b)) <= most:
        return 0.0
    one, other = embedder.encode_lists([left, right])
    return 1 - float(one @ other)


def _is_number(word: str) -> bool:
    return word.isdigit() or word in _NUMBERS


def _numbers(words: Sequence[str]) -> set[str]:
    """The numbers of a text; weeks as days. "One" is too often no number to count unless it is written 1."""
    found: set[str] = set()
    for i, word in enumerate(words):
        if word.isdigit():
            value: float = int(word[:18])
        elif word in _NUMBERS and word not in ("one", "first", "second", "once", "half"):
            value = _NUMBERS[word]
        else:
            continue
        weeks = i + 1 < len(words) and words[i + 1] in ("week", "weeks")
        found.add(f"{value * 7 if weeks else value:g}" if len(word) < 16 else word)
    return found


def _negations(words: Sequence[str]) -> int:
    return sum(word in _NEGATIONS or word.endswith("n't") for word in words)


def _roles(words: Sequence[str]) -> int:
    """1 where "I" comes before "you", -1 where after, 0 where one of them is missing."""
    me = next((i for i, word in enumerate(words) if word in _ME), -1)
    you = next((i for i, word in enumerate(words) if word in _YOU), -1)
    return 0 if min(me, you) < 0 else (1 if me < you else -1)


def _ways(a: Sequence[str], b: Sequence[str]) -> bool:
    """Whether what one text has after "from" the other has after "to"."""
    ends = [{way: {y for x, y in itertools.pairwise(words) if x == way} for way in ("from", "to")} for words in (a, b)]
    return bool(ends[0]["from"] & ends[1]["to"] or ends[0]["to"] & ends[1]["from"])
