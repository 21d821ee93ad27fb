"""A light classifier for the intents of a use case: fitted from labelled examples in seconds, asked in microseconds.

Features are the embedder's vector and hashed words, pairs of words and character n-grams; the model is a multinomial
logistic regression (fitted here with Adagrad, numpy only), so a handful of examples an intent rests on the vector's
meaning and hundreds of them on the wordings. Every answer carries a score of how well the message fits what was learnt
at all: the threshold for "none of these" is set on the examples themselves, each judged by a model that did not see it.
Knows no use case and no data set.
"""

from __future__ import annotations

import io
import itertools
import json
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from fairlead.engines.embed.embedder import Embedder
from fairlead.engines.embed.words import words_of

Floats = npt.NDArray[np.float32]
BUCKETS = 1 << 15
MEANING, WORDINGS = 6.0, 4.0  # lengths of the two parts of a message's features
EPOCHS, BATCH, RATE, RIDGE = 10, 64, 0.05, 2e-5
FOLDS, KEPT = 3, 0.95
NEAR, SURE = 0.5, 0.5  # what likeness to the intent's examples and the odds count in the fit
SEED = 5
_MOST_CHARS = 2_000


@dataclass(frozen=True)
class Guess:
    """``intent`` is the likeliest, ``odds`` its probability, ``fit`` from 0 to 1 how well the message fits at all.

    ``known`` says whether the fit reaches the threshold; if not, the message is best taken for none of the intents.
    """

    intent: str
    odds: float
    fit: float
    known: bool


class Intents:
    """Fitted by ``Intents.fit``; asked by ``guess``. Deterministic."""

    def __init__(
        self, labels: Sequence[str], weights: Floats, bias: Floats, idf: Floats, centres: Floats, threshold: float
    ) -> None:
        """``weights`` (BUCKETS + d, k), ``bias`` (k,), ``idf`` (BUCKETS,), ``centres`` (k, d) of the intents."""
        self.labels = tuple(labels)
        self.threshold = threshold
        self._weights, self._bias, self._idf, self._centres = weights, bias, idf, centres

    @classmethod
    def fit(cls, texts: Sequence[str], labels: Sequence[str], embedder: Embedder, *, kept: float = KEPT) -> Self:
        """Learn from labelled texts. ``kept`` is the share of such messages that must count as known; 1 spares the
        time to set the threshold: then all count as known.

        Raises ValueError for fewer than two intents or lists of unequal length.
        """
        names = sorted(set(labels))
        if len(names) < 2 or len(texts) != len(labels):
            raise ValueError(f"{len(names)} intents, {len(texts)} texts, {len(labels)} labels; expected two or more")
        truth = np.array([names.index(label) for label in labels])
        bags = [bag_of(text) for text in texts]
        vectors = embedder.encode(texts)
        whole = cls._learn(names, bags, vectors, truth)
        if kept < 1:
            fold = np.random.default_rng(SEED).permutation(len(texts)) % FOLDS
            fits = np.zeros(len(texts), np.float32)
            for k in range(FOLDS):
                inside, outside = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
                part = cls._learn(names, [bags[i] for i in inside], vectors[inside], truth[inside])
                fits[outside] = part.judge([bags[i] for i in outside], vectors[outside])[1]
            whole.threshold = float(np.quantile(fits, 1 - kept))
        return whole

    @classmethod
    def _learn(
        cls, names: list[str], bags: list[npt.NDArray[np.int64]], vectors: Floats, truth: npt.NDArray[np.int64]
    ) -> Self:
        idf = _rarity(bags)
        rows = [_row(bag, vector, idf) for bag, vector in zip(bags, vectors, strict=True)]
        weights, bias = descend(rows, truth, len(names), BUCKETS + vectors.shape[1])
        return cls(names, weights, bias, idf, _centres(vectors, truth, len(names)), 0.0)

    def guess(self, text: str, embedder: Embedder) -> Guess:
        """The likeliest intent of a message and whether it is one of them at all."""
        return self.guesses([text], embedder)[0]

    def guesses(self, texts: Sequence[str], embedder: Embedder) -> list[Guess]:
        """As ``guess``, of several messages."""
        odds, fits = self.judge([bag_of(text) for text in texts], embedder.encode(texts))
        best = odds.argmax(axis=1)
        return [
            Guess(self.labels[k], float(odds[i, k]), float(fits[i]), bool(fits[i] >= self.threshold))
            for i, k in enumerate(best)
        ]

    def judge(self, bags: Sequence[npt.NDArray[np.int64]], vectors: Floats) -> tuple[Floats, Floats]:
        """Odds (n, k) and fits (n,) of messages given as buckets and vectors (n, d)."""
        scores = np.zeros((len(bags), len(self.labels)), np.float32)
        for i, bag in enumerate(bags):
            _, values = _row(bag, vectors[i], self._idf)
            scores[i] = (
                values[: len(bag)] @ self._weights[bag] + values[len(bag) :] @ self._weights[BUCKETS:] + self._bias
            )
        odds = _softmax(scores)
        near = (vectors * self._centres[odds.argmax(axis=1)]).sum(axis=1)
        fits: Floats = NEAR * near + SURE * odds.max(axis=1)
        return odds, fits

    @property
    def nbytes(self) -> int:
        """What it takes of memory, the embedder aside."""
        return int(self._weights.nbytes + self._bias.nbytes + self._idf.nbytes + self._centres.nbytes)

    def encode(self) -> bytes:
        """The classifier as bytes, some megabytes."""
        data = io.BytesIO()
        np.savez_compressed(
            data,
            labels=np.frombuffer(json.dumps(self.labels).encode(), np.uint8),
            weights=self._weights.astype(np.float16),
            bias=self._bias,
            idf=self._idf.astype(np.float16),
            centres=self._centres.astype(np.float16),
            threshold=np.array([self.threshold]),
        )
        return data.getvalue()

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read what ``encode`` gave. Raises ValueError for anything else."""
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                return cls(
                    json.loads(arrays["labels"].tobytes()),
                    arrays["weights"].astype(np.float32),
                    arrays["bias"],
                    arrays["idf"].astype(np.float32),
                    arrays["centres"].astype(np.float32),
                    float(arrays["threshold"][0]),
                )
        except (KeyError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(f"no classifier: {error}") from error


def bag_of(text: str) -> npt.NDArray[np.int64]:
    """The distinct buckets of the words, pairs of words and 3- to 5-grams of characters of a text, sorted."""
    words = words_of(text[:_MOST_CHARS])
    padded = f" {' '.join(words)} "
    terms = {*words, *(f"{a} {b}" for a, b in itertools.pairwise(words))}
    terms.update(f"#{padded[i : i + n]}" for n in (3, 4, 5) for i in range(len(padded) - n + 1))
    found = {zlib.crc32(term.encode("utf-8", "surrogatepass")) % BUCKETS for term in terms}
    return np.array(sorted(found), np.int64)


def _centres(vectors: Floats, truth: npt.NDArray[np.int64], classes: int) -> Floats:
    """The mean of each intent's vectors, brought to length one."""
    sums = np.zeros((classes, vectors.shape[1]), np.float32)
    np.add.at(sums, truth, vectors)
    unit: Floats = sums / (np.linalg.norm(sums, axis=1, keepdims=True) + 1e-9)
    return unit


def _rarity(bags: Sequence[npt.NDArray[np.int64]]) -> Floats:
    seen = np.bincount(np.concatenate(bags), minlength=BUCKETS).astype(np.float32)
    rarity: Floats = (1 + np.log((1 + len(bags)) / (1 + seen))).astype(np.float32)
    rarity[seen == 0] = 0
    return rarity


def _row(bag: npt.NDArray[np.int64], vector: Floats, idf: Floats) -> tuple[npt.NDArray[np.int64], Floats]:
    """The columns and values of a message's features."""
    wordings = idf[bag]
    length = float(np.sqrt(wordings @ wordings)) or 1.0
    columns = np.concatenate([bag, np.arange(BUCKETS, BUCKETS + len(vector))])
    return columns, np.concatenate([wordings * (WORDINGS / length), vector * MEANING]).astype(np.float32)


def _softmax(scores: Floats) -> Floats:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    odds: Floats = powers / powers.sum(axis=1, keepdims=True)
    return odds


def descend(
    rows: Sequence[tuple[npt.NDArray[np.int64], Floats]], truth: npt.NDArray[np.int64], classes: int, width: int
) -> tuple[Floats, Floats]:
    """Weights (width, classes) and bias by Adagrad (Duchi et al. 2011) on the cross entropy, in small batches."""
    rng = np.random.default_rng(SEED)
    weights, squares = np.zeros((width, classes), np.float32), np.full((width, classes), 1e-6, np.float32)
    bias, bias_squares = np.zeros(classes, np.float32), np.full(classes, 1e-6, np.float32)
    for epoch in range(EPOCHS):
        rate = RATE * (1 - epoch / EPOCHS)
        order = rng.permutation(len(rows))
        for start in range(0, len(rows), BATCH):
            chosen = order[start : start + BATCH]
            columns, place = np.unique(np.concatenate([rows[i][0] for i in chosen]), return_inverse=True)
            dense = np.zeros((len(chosen), len(columns)), np.float32)
            owner = np.repeat(np.arange(len(chosen)), [len(rows[i][0]) for i in chosen])
            dense[owner, place] = np.concatenate([rows[i][1] for i in chosen])
            local = weights[columns]
            error = _softmax(dense @ local + bias)
            error[np.arange(len(chosen)), truth[chosen]] -= 1
            error /= len(chosen)
            slope = dense.T @ error + RIDGE * local
            squares[columns] += slope * slope
            weights[columns] = local - rate * slope / np.sqrt(squares[columns])
            down = error.sum(axis=0)
            bias_squares += down * down
            bias -= rate * down / np.sqrt(bias_squares)
    return weights, bias
