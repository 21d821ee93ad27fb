"""Finding the passages for a question: BM25 over word stems and embeddings, their scores scaled and added.

Source: BM25 after Robertson and Zaragoza (2009), "The Probabilistic Relevance Framework". Knows texts and numbers
only, no pages and no models. Measured by ``benchmarks/retrieval.py``; why BM25 is written here is in
docs/design/assistant.md.
"""

from __future__ import annotations

import hashlib
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fairlead.engines.embed.embedder import Embedder, shared
from fairlead.engines.embed.words import words_of
from fairlead.engines.extractive import places as places_module
from fairlead.engines.extractive import text as text_module
from fairlead.engines.extractive.places import places_of
from fairlead.engines.extractive.question import bare_of
from fairlead.engines.extractive.text import STOP, concepts_of, content, respell, stem

Scores = npt.NDArray[np.float32]

WORDS_SHARE = 0.4
"""How much the words count beside the meaning when their scores, each a share of its highest, are added. Measured
better than reciprocal rank fusion, which throws the distances away (docs/design/assistant.md)."""
OTHER_SHARE = 0.9
"""How much the less likely reading of a message counts: by itself, or together with the one before it."""
FAR_SHARE = 0.5
"""How much a document counts that holds no word of a follow-up's own."""
MAX_QUERY_CHARS = 2_000
"""Characters of a message that are looked at; the end counts, for that is where a long message asks."""
_FOLLOW_UP = re.compile(
    r"^\s*(and|or|but|what about|how about|what if|also|then|ok(ay)?,? (and|but)|same for|for|with|in|to|by)\b",
    re.IGNORECASE,
)
_ANAPHORA = frozenset(("it", "that", "this", "they", "them", "those", "these", "there", "one", "ones", "same"))


class Bm25:
    """Okapi BM25 over lists of terms. ``k1`` and ``b`` are the usual middle values."""

    def __init__(self, documents: Sequence[Sequence[str]], *, k1: float = 1.2, b: float = 0.6) -> None:
        self.size = len(documents)
        lengths = np.array([len(terms) for terms in documents], np.float32)
        norm = k1 * (1 - b + b * lengths / max(float(lengths.mean()) if self.size else 1.0, 1.0))
        postings: dict[str, tuple[list[int], list[int]]] = {}
        for number, terms in enumerate(documents):
            for term, count in Counter(terms).items():
                numbers, counts = postings.setdefault(term, ([], []))
                numbers.append(number)
                counts.append(count)
        self._weights: dict[str, tuple[npt.NDArray[np.intp], Scores]] = {}
        for term, (numbers, counts) in postings.items():
            where, often = np.array(numbers, np.intp), np.array(counts, np.float32)
            rarity = np.log(1 + (self.size - len(numbers) + 0.5) / (len(numbers) + 0.5))
            self._weights[term] = where, (rarity * often * (k1 + 1) / (often + norm[where])).astype(np.float32)

    def scores(self, terms: Sequence[str]) -> Scores:
        """One score per document, 0 where no term occurs. Shape (documents,)."""
        scores = np.zeros(self.size, np.float32)
        for term in terms:
            if term in self._weights:
                where, weights = self._weights[term]
                scores[where] += weights
        return scores


class Prepared(NamedTuple):
    """What the index needs of each document: its terms, and its vector in a row of ``vectors`` (documents, d)."""

    terms: Sequence[Sequence[str]]
    vectors: Scores


def prepare(documents: Sequence[tuple[str, str]], embedder: Embedder | None = None) -> Prepared:
    """Terms and vectors of (title, text) pairs. The title counts as much as a sentence of the text."""
    texts = [f"{title}. {text}" for title, text in documents]
    return Prepared([terms_of(text) for text in texts], (embedder or shared()).encode(texts))


def identity() -> str:
    """A hash of all that ``prepare`` depends on: its code, its lists and the embedder's weights."""
    digest = hashlib.sha256(shared().digest.encode())
    for module in (sys.modules[__name__], text_module, places_module):
        digest.update(Path(str(module.__file__)).read_bytes())
    digest.update(Path(str(text_module.__file__)).with_name("concepts.txt").read_bytes())
    return digest.hexdigest()


class Index:
    """Ranks (title, text) pairs for a question; ``prepared`` spares preparing them."""

    def __init__(
        self,
        documents: Sequence[tuple[str, str]],
        embedder: Embedder | None = None,
        *,
        prepared: Prepared | None = None,
    ) -> None:
        self.size = len(documents)
        self._embedder = shared() if embedder is None else embedder
        terms, self._vectors = prepared or prepare(documents, self._embedder)
        self._bm25 = Bm25(terms)

    def rank(self, query: str, *, previous: str = "") -> list[int]:
        """Numbers of the documents that have anything to do with the question, best first.

        Of a follow-up ("And to Italy?") documents with one of its own words come first, if there are any: the new
        word is what it is about. Any other message after a question may lean on it too, so what both find together
        stands beside what the message finds alone.
        """
        query, previous = bare_of(query[-MAX_QUERY_CHARS:]), bare_of(previous[-MAX_QUERY_CHARS:])
        alone = self._fused(query)
        if not previous:
            return best_first(alone)
        both = self._fused(f"{previous} {query}")
        if not is_follow_up(query):
            return best_first(np.maximum(alone, OTHER_SHARE * both))
        focus = self._bm25.scores([stem(respell(word)) for word in words_of(query) if word not in STOP])
        if focus.any():
            both = np.where(focus > 0, both, FAR_SHARE * both)
        return best_first(np.maximum(both, OTHER_SHARE * alone))

    def _fused(self, query: str) -> Scores:
        return add_shares(self.word_scores(terms_of(query, asked=True)), self.meaning_scores(query))

    def word_scores(self, terms: Sequence[str]) -> Scores:
        """BM25 alone, one score per document."""
        return self._bm25.scores(terms)

    def meaning_scores(self, query: str) -> Scores:
        """The cosine of the embeddings alone, one score per document."""
        scores: Scores = self._vectors @ self._embedder.encode([query])[0]
        return scores


def add_shares(words: Scores, meaning: Scores) -> Scores:
    """Both scores, each as a share of its highest, added."""
    first, second = (scores / max(float(scores.max(initial=0.0)), 1e-9) for scores in (words, meaning))
    added: Scores = WORDS_SHARE * first + (1 - WORDS_SHARE) * second
    return added


def best_first(scores: Scores) -> list[int]:
    """Numbers of the documents with a score above 0, best first, earlier ones first where equal."""
    order = np.argsort(-scores, kind="stable")
    return [int(number) for number in order[scores[order] > 0]]


def expand(query: str, previous: str = "") -> str:
    """The question as it is searched for: a follow-up ("and for shoes?") gets the question before in front."""
    query, previous = query[-MAX_QUERY_CHARS:], previous[-MAX_QUERY_CHARS:]
    return f"{previous} {query}" if previous and is_follow_up(query) else query


def is_follow_up(query: str) -> bool:
    """Whether a message leans on the one before: it begins like one, or has hardly a word of its own."""
    words = words_of(query)
    own = [word for word in words if word not in STOP]
    if len(words) > 12:
        return False
    return (bool(_FOLLOW_UP.match(query)) and len(own) <= 4) or (len(own) <= 2 and not _ANAPHORA.isdisjoint(words))


def terms_of(text: str, *, asked: bool = False) -> list[str]:
    """Stems, ideas ("#refund") and countries ("@united kingdom" for "UK" and, in what is ``asked``, for "London").

    In what is asked, slips of the finger are mended first.
    """
    words = words_of(text)
    if asked:
        words = [respell(word) for word in words]
    stems = content(words) or [stem(word) for word in words]
    places = places_of(text, words)
    countries = places.countries | places.home if asked else places.countries
    return [*stems, *(f"#{name}" for name in sorted(concepts_of(words))), *(f"@{name}" for name in sorted(countries))]
