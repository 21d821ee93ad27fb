"""What a big model is expected to gain on a question: learnt from vectors, form and words, calls nothing.

Two regressions side by side: a logistic one on the vector of ``embed`` and the question's form, and a ridge regression
on its words and pairs of words (TF-IDF). How much each is shrunk and how they are mixed is chosen by cross-validation
within what is learnt from, never on what a router is judged by.
"""

from __future__ import annotations

import functools
import itertools
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence

import msgspec
import numpy as np

from fairlead.engines.embed.embedder import shared
from fairlead.evaluate.numbers import Codes, Numbers
from fairlead.select.tfidf import terms_of

LONGEST = 8_000
"""Characters of a question that are looked at: a long one must not take the time of the others."""
RIDGES = (20.0, 200.0, 1_000.0, 4_000.0)
ALPHAS = (3.0, 10.0, 30.0)
"""How much the two regressions may be shrunk."""
SHARES = (0.0, 0.5, 1.0, 2.0, 4.0)
"""How much the words may count against vector and form."""
INNER = 3
MOST_TERMS = 50_000
FEWEST_TEXTS = 2
"""Texts a term must stand in, and terms that are kept at most, the most frequent."""
_NUMBER = re.compile(r"\d")
_WORD = re.compile(r"\w+")


class Words(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """Ridge regression on TF-IDF: the terms with their idf and weight."""

    terms: tuple[str, ...]
    idf: tuple[float, ...]
    weights: tuple[float, ...]

    def gains(self, texts: Sequence[str]) -> Numbers:
        """The part of the gain that words tell, around 0."""
        place, idf, weights = self._ready
        return _Rows.of([terms_of(text[:LONGEST]) for text in texts], place, idf).times(weights)

    @functools.cached_property
    def _ready(self) -> tuple[dict[str, int], Numbers, Numbers]:
        place = {term: number for number, term in enumerate(self.terms)}
        return place, np.array(self.idf, np.float64), np.array(self.weights, np.float64)


class Model(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """What was learnt. ``weights`` belong to ``features``, the constant last; ``share`` is what the words count.

    ``scales`` bring the two parts to a spread of one where they were learnt.
    """

    weights: tuple[float, ...]
    means: tuple[float, ...]
    spreads: tuple[float, ...]
    words: Words
    share: float
    scales: tuple[float, float]

    def gains(self, texts: Sequence[str], table: Numbers | None = None) -> Numbers:
        """What the big model is expected to gain on each question, up to scale; ``table`` are their features."""
        means, spreads, weights = self._ready
        seen = features(texts) if table is None else table
        found = (((seen - means) / spreads) @ weights[:-1] + weights[-1]) * self.scales[0]
        if self.share:
            found += self.share * self.scales[1] * self.words.gains(texts)
        return np.asarray(found, np.float64)

    @functools.cached_property
    def _ready(self) -> tuple[Numbers, Numbers, Numbers]:
        means, spreads, weights = (np.array(each, np.float64) for each in (self.means, self.spreads, self.weights))
        return means, spreads, weights


def learn_gains(texts: Sequence[str], gains: Numbers, table: Numbers | None = None, *, seed: int = 0) -> Model:
    """A model of ``gains`` (-1..1) of the big model on ``texts``. Everything it chooses it chooses within these."""
    table = features(texts) if table is None else table
    bags = [terms_of(text[:LONGEST]) for text in texts]
    folds = np.random.default_rng(seed).permutation(len(texts)) % INNER
    ridge, formed = _best([(each, _held_out(folds, _form_of(table, gains, each))) for each in RIDGES], gains)
    alpha, worded = _best([(each, _held_out(folds, _words_of(bags, gains, each))) for each in ALPHAS], gains)
    share, _ = _best([(each, _even(formed) + each * _even(worded)) for each in SHARES], gains)
    weights, means, spreads = fit(table, gains, ridge)
    words = fit_words(bags, gains, alpha)
    form = ((table - means) / spreads) @ weights[:-1] + weights[-1]
    said = words.gains(texts)
    return Model(
        weights=tuple(weights.tolist()), means=tuple(means.tolist()), spreads=tuple(spreads.tolist()), words=words,
        share=share, scales=(1 / (float(form.std()) or 1.0), 1 / (float(said.std()) or 1.0)),
    )  # fmt: skip


def features(texts: Sequence[str]) -> Numbers:
    """Cheap features of questions, shape (n, d): the vector of ``embed`` and a few of form. Microseconds a question."""
    texts = [text[:LONGEST] for text in texts]
    form = [
        (
            math.log1p(len(text)),
            math.log1p(len(_WORD.findall(text))),
            math.log1p(len(_NUMBER.findall(text))),
            float(text.count("?")),
            math.log1p(text.count("\n")),
        )
        for text in texts
    ]
    return np.hstack([np.asarray(shared().encode(texts), np.float64), np.array(form)])


def fit(table: Numbers, gains: Numbers, ridge: float) -> tuple[Numbers, Numbers, Numbers]:
    """(weights with the constant last, means, spreads): logistic regression of the gain, moved to 0..1, by Newton.

    Features are brought to mean 0 and spread 1, weights are shrunk by ``ridge``, the constant is not.
    """
    means, spreads = table.mean(axis=0), table.std(axis=0)
    spreads = np.where(spreads < 1e-9, 1.0, spreads)
    rows = np.column_stack([(table - means) / spreads, np.ones(len(table))])
    target, penalty = (gains + 1) / 2, np.diag([ridge] * table.shape[1] + [1e-6])
    weights = np.zeros(rows.shape[1])
    for _ in range(25):
        odds = 1 / (1 + np.exp(-np.clip(rows @ weights, -30, 30)))
        slope = rows.T @ (odds - target) + penalty @ weights
        curve = (rows * (odds * (1 - odds))[:, None]).T @ rows + penalty
        step = np.linalg.solve(curve, slope)
        weights = weights - step
        if float(np.abs(step).max()) < 1e-8:
            break
    return np.asarray(weights, np.float64), np.asarray(means, np.float64), np.asarray(spreads, np.float64)


def fit_words(bags: Sequence[Counter[str]], gains: Numbers, alpha: float) -> Words:
    """Ridge regression of the gain, less its mean, on TF-IDF rows of length one, by conjugate gradients."""
    seen = Counter(itertools.chain.from_iterable(bags))
    kept = [(term, count) for term, count in seen.most_common(MOST_TERMS) if count >= FEWEST_TEXTS]
    kept.sort()  # the order of equally frequent terms must not depend on that of the texts
    place = {term: number for number, (term, _) in enumerate(kept)}
    counts = np.array([count for _, count in kept], np.float64)
    idf = 1 + np.log((1 + len(bags)) / (1 + counts))
    rows = _Rows.of(bags, place, idf)
    weights = _solve(rows, gains - gains.mean(), alpha)
    return Words(terms=tuple(place), idf=_short(idf), weights=_short(weights))


def _short(values: Numbers) -> tuple[float, ...]:
    """To five digits: there are tens of thousands of them in a file, and more decides nothing."""
    return tuple(float(f"{value:.5g}") for value in values)


class _Rows:
    """A sparse matrix (n, d): the places of its values, and they."""

    def __init__(self, n: int, d: int, row: Codes, column: Codes, values: Numbers) -> None:
        self.n, self.d, self._row, self._column, self._values = n, d, row, column, values

    @classmethod
    def of(cls, bags: Sequence[Counter[str]], place: dict[str, int], idf: Numbers) -> _Rows:
        """TF-IDF with sublinear counts; terms that are not known are left out."""
        found = [[(place[term], count) for term, count in bag.items() if term in place] for bag in bags]
        row = np.repeat(np.arange(len(bags)), [len(each) for each in found])
        column = np.array([number for each in found for number, _ in each], np.int64)
        values = (1 + np.log(np.array([count for each in found for _, count in each], np.float64))) * idf[column]
        lengths = np.sqrt(np.bincount(row, values * values, len(bags)))
        return cls(len(bags), len(idf), row, column, values / np.where(lengths == 0, 1.0, lengths)[row])

    def times(self, weights: Numbers) -> Numbers:
        """(n,) of (d,)."""
        return np.asarray(np.bincount(self._row, self._values * weights[self._column], self.n), np.float64)

    def turned(self, values: Numbers) -> Numbers:
        """(d,) of (n,)."""
        return np.asarray(np.bincount(self._column, self._values * values[self._row], self.d), np.float64)


def _solve(rows: _Rows, target: Numbers, alpha: float, steps: int = 200) -> Numbers:
    """The weights w that are smallest in |rows w - target|² + alpha |w|²."""
    weights = np.zeros(rows.d)
    left = rows.turned(target)
    way, before = left.copy(), float(left @ left)
    goal = 1e-10 * before
    for _ in range(steps):
        if before <= goal:
            break
        pushed = rows.turned(rows.times(way)) + alpha * way
        size = before / float(way @ pushed)
        weights, left = weights + size * way, left - size * pushed
        after = float(left @ left)
        way, before = left + (after / before) * way, after
    return weights


# --- choosing within what is learnt from ----------------------------------------------------------------------------

_Predict = Callable[[Codes, Codes], Numbers]
"""(places learnt from, places asked) to what is expected there."""


def _form_of(table: Numbers, gains: Numbers, ridge: float) -> _Predict:
    def predict(learnt: Codes, asked: Codes) -> Numbers:
        weights, means, spreads = fit(table[learnt], gains[learnt], ridge)
        return np.asarray(((table[asked] - means) / spreads) @ weights[:-1], np.float64)

    return predict


def _words_of(bags: Sequence[Counter[str]], gains: Numbers, alpha: float) -> _Predict:
    def predict(learnt: Codes, asked: Codes) -> Numbers:
        words = fit_words([bags[number] for number in learnt], gains[learnt], alpha)
        place = {term: number for number, term in enumerate(words.terms)}
        return _Rows.of([bags[number] for number in asked], place, np.array(words.idf)).times(np.array(words.weights))

    return predict


def _held_out(folds: Codes, predict: _Predict) -> Numbers:
    """What is expected of each question by those that have not seen it."""
    found = np.zeros(len(folds))
    for fold in range(INNER):
        found[folds == fold] = predict(np.flatnonzero(folds != fold), np.flatnonzero(folds == fold))
    return found


def _best(tried: Sequence[tuple[float, Numbers]], gains: Numbers) -> tuple[float, Numbers]:
    """The setting whose expectations go best with what was gained; of equal ones the first."""
    return max(tried, key=lambda each: _along(each[1], gains))


def _along(one: Numbers, other: Numbers) -> float:
    """Their correlation; 0 where either never changes."""
    return float(_even(one) @ _even(other)) / max(1, len(one))


def _even(values: Numbers) -> Numbers:
    """Brought to mean 0 and a spread of one."""
    spread = float(values.std())
    return np.asarray((values - values.mean()) / (spread or 1.0), np.float64)
