"""TF-IDF and logistic regression: what a text classifier was before language models, and often still should be.

The usual recipe (words and pairs of words, sublinear counts, rows of length one, cross entropy with a little ridge), in
numpy, because scikit-learn and scipy are 200 MB for these lines; tests compare the two. Knows no data set.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import Self

import numpy as np
import numpy.typing as npt

from fairlead.engines.embed.intents import descend
from fairlead.engines.embed.words import words_of

Floats = npt.NDArray[np.float32]
Row = tuple[npt.NDArray[np.int64], Floats]
SCALE = 4.0
"""Length of a row: with it the step size that fits the embedder's classifier fits here too."""
MOST_CHARS = 4_000
MOST_TERMS = 200_000


class TfIdf:
    """Fitted by ``fit``, asked by ``label``. Deterministic."""

    def __init__(
        self, labels: Sequence[str], terms: dict[str, int], idf: Floats, weights: Floats, bias: Floats
    ) -> None:
        self.labels = tuple(labels)
        self._terms, self._idf, self._weights, self._bias = terms, idf, weights, bias

    @classmethod
    def fit(cls, texts: Sequence[str], labels: Sequence[str]) -> Self:
        """Learn from labelled texts. Raises ValueError for fewer than two labels or lists of unequal length."""
        names = sorted(set(labels))
        if len(names) < 2 or len(texts) != len(labels):
            raise ValueError(
                f"{len(texts)} texts with {len(labels)} labels, {len(names)} different; expected two or more"
            )
        bags = [terms_of(text) for text in texts]
        seen = Counter(itertools.chain.from_iterable(bags))
        terms = {term: number for number, (term, _) in enumerate(seen.most_common(MOST_TERMS))}
        counts = np.array([seen[term] for term in terms], np.float32)
        idf = (1 + np.log((1 + len(texts)) / (1 + counts))).astype(np.float32)
        rows = [_row(bag, terms, idf) for bag in bags]
        truth = np.array([names.index(label) for label in labels])
        weights, bias = descend(rows, truth, len(names), len(terms))
        return cls(names, terms, idf, weights, bias)

    def label(self, text: str) -> str:
        """The likeliest label; of a text without known words the one that is likeliest anyway."""
        columns, values = _row(terms_of(text), self._terms, self._idf)
        return self.labels[int((values @ self._weights[columns] + self._bias).argmax())]

    @property
    def nbytes(self) -> int:
        """What it takes of memory, the terms' texts aside."""
        return int(self._weights.nbytes + self._bias.nbytes + self._idf.nbytes)


def terms_of(text: str) -> Counter[str]:
    """The folded words and pairs of neighbouring words of a text, and how often they stand there."""
    words = words_of(text[:MOST_CHARS])
    return Counter([*words, *(f"{one} {other}" for one, other in itertools.pairwise(words))])


def _row(bag: Counter[str], terms: dict[str, int], idf: Floats) -> Row:
    known = {terms[term]: count for term, count in bag.items() if term in terms}
    columns = np.fromiter(known, np.int64, len(known))
    values = (1 + np.log(np.fromiter(known.values(), np.float32, len(known)))) * idf[columns]
    return columns, (values * (SCALE / (float(np.sqrt(values @ values)) or 1.0))).astype(np.float32)
