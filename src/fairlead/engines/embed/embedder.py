"""The static embedder: a text's vector is the weighted sum of its words' vectors, brought to length one.

A word of the vocabulary has a row of its own, and so have common pairs of neighbouring words ("how long"); any other
word is the mean of its character n-grams, so a slip of the finger stays close to what was meant. The rows are signed
bytes with a scale each; training is `training/embed.py`. Beyond those pairs word order does not count: whether two
texts that share a subject say the same is for `likeness.py`.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import zipfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from fairlead.engines.embed.words import BUCKETS, buckets_of, words_of
from fairlead.errors import WeightsDamaged, WeightsMissing

WEIGHTS = Path(__file__).with_name("weights") / "embed.npz"
Vectors = npt.NDArray[np.float32]
_CACHED_WORDS = 4096


class Rows:
    """A table (n, d) of signed bytes with a scale a row, kept so in memory: a quarter of its floats."""

    def __init__(self, bytes_: npt.NDArray[np.int8], scale: Vectors) -> None:
        """Raises ValueError where the two do not fit."""
        if bytes_.ndim != 2 or scale.shape != bytes_.shape[:1]:
            raise ValueError(f"a table of shape {bytes_.shape} has scales of shape {scale.shape}")
        self.bytes_, self.scale, self.width = bytes_, scale, int(bytes_.shape[1])

    def take(self, rows: Sequence[int]) -> Vectors:
        """Some rows (len(rows), d) as floats."""
        chosen: Vectors = self.bytes_[rows].astype(np.float32) * self.scale[rows][:, None]
        return chosen


class Embedder:
    """Texts to vectors of ``dimension`` float32, L2-normalised; a text without words gives the zero vector.

    Deterministic and free of state that shows: the cache of rare words changes no result.
    """

    def __init__(self, vocabulary: Sequence[str], words: Rows, weights: Vectors, grams: Rows) -> None:
        """``words`` of V rows, ``weights`` (V + 1,) the last for rare words, ``grams`` of BUCKETS rows.

        An entry of the vocabulary is a folded word or two of them with a space between.
        """
        self.dimension = words.width
        self.digest = ""
        self._row = {word: i for i, word in enumerate(vocabulary)}
        self._words = words
        self._share = weights[:-1] * words.scale
        self._weight_of: list[float] = weights.tolist()
        self._grams = grams
        self._rare: dict[str, Vectors] = {}

    @property
    def nbytes(self) -> int:
        """What its tables take of memory, the vocabulary's texts aside."""
        tables = (self._words.bytes_, self._words.scale, self._grams.bytes_, self._grams.scale, self._share)
        return sum(int(table.nbytes) for table in tables)

    @classmethod
    def load(cls, path: Path = WEIGHTS) -> Self:
        """Read the weights, checked against the SHA-256 of their card. Raises WeightsMissing or WeightsDamaged."""
        card_path = path.with_suffix(".json")
        if not path.is_file() or not card_path.is_file():
            raise WeightsMissing(path=path if card_path.is_file() else card_path)
        data = path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        try:
            card: dict[str, Any] = json.loads(card_path.read_bytes())
            if card.get("sha256") != digest:
                raise WeightsDamaged(path=path, detail=f"its SHA-256 is {digest}, the card says {card.get('sha256')}")
            with np.load(path, allow_pickle=False) as arrays:
                embedder = cls(
                    arrays["vocabulary"].tobytes().decode("utf-8").split("\n"),
                    Rows(arrays["words"], arrays["word_scale"].astype(np.float32)),
                    arrays["weights"].astype(np.float32),
                    Rows(arrays["grams"], arrays["gram_scale"].astype(np.float32)),
                )
        except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
            raise WeightsDamaged(path=path, detail=str(error) or type(error).__name__) from error
        if len(embedder._weight_of) != len(embedder._row) + 1 or len(embedder._grams.scale) != BUCKETS:
            raise WeightsDamaged(path=path, detail="its tables do not fit each other")
        embedder.digest = digest
        return embedder

    def knows(self, word: str) -> bool:
        """Whether a folded word has a row of its own."""
        return word in self._row

    def weight(self, word: str) -> float:
        """How much a folded word counts in a text: near 0 for "the", around 1 for a rare word."""
        return self._weight_of[self._row.get(word, -1)]

    def vector(self, word: str) -> Vectors:
        """The vector (d,) of a folded word, not normalised."""
        row = self._row.get(word)
        if row is not None:
            known: Vectors = self._words.take([row])[0]
            return known
        found = self._rare.get(word)
        if found is None:
            found = self._grams.take(list(buckets_of(word))).mean(axis=0)
            if len(self._rare) >= _CACHED_WORDS:
                self._rare.clear()
            self._rare[word] = found
        return found

    def encode_words(self, words: Sequence[str]) -> Vectors:
        """Vectors (n, d) of folded words, each L2-normalised."""
        out = np.zeros((len(words), self.dimension), np.float32)
        rows = [self._row.get(word, -1) for word in words]
        known = [i for i, row in enumerate(rows) if row >= 0]
        if known:
            out[known] = self._words.take([rows[i] for i in known])
        for i, row in enumerate(rows):
            if row < 0:
                out[i] = self.vector(words[i])
        return _normalised(out)

    def encode(self, texts: Sequence[str]) -> Vectors:
        """Vectors (n, d) of texts, each L2-normalised (zero for a text without words)."""
        return self.encode_lists([words_of(text) for text in texts])

    def encode_lists(self, lists: Sequence[Sequence[str]]) -> Vectors:
        """As ``encode``, of texts already split into folded words."""
        out = np.zeros((len(lists), self.dimension), np.float32)
        for i, words in enumerate(lists):
            rows = [row for word in words if (row := self._row.get(word)) is not None]
            rare = len(rows) < len(words)
            rows += [row for a, b in itertools.pairwise(words) if (row := self._row.get(f"{a} {b}")) is not None]
            if rows:
                out[i] = self._share[rows] @ self._words.bytes_[rows].astype(np.float32)
            if rare:
                for word in words:
                    if word not in self._row:
                        out[i] += self._weight_of[-1] * self.vector(word)
        return _normalised(out)


def _normalised(vectors: Vectors) -> Vectors:
    length = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
    length[length == 0] = 1
    scaled: Vectors = vectors / length[:, None]
    return scaled


@cache
def shared() -> Embedder:
    """The embedder of this process, loaded once."""
    return Embedder.load()
