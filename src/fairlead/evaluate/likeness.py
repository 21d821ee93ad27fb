"""Which texts are the same, or nearly: duplicates in a data set, and leaks between what is learnt and what is measured.

Nearly the same means that the sets of five-byte pieces overlap by ``THRESHOLD`` (Jaccard), found by MinHash with bands
(A. Z. Broder, "On the resemblance and containment of documents", 1997) and then computed exactly; or that a run of
thirteen words stands in both, the usual measure of contamination (T. B. Brown et al., 2020). Two wordings of the same
question are not the same text; that is the embedder's matter.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

THRESHOLD = 0.8
RUN = 13
_PIECE = 5
_BANDS, _ROWS = 16, 4
_CANDIDATES = 64
"""Of a band's texts at most this many are compared, so that a thousand texts of one template stay cheap."""
_WORDS = re.compile(r"\w+")
_MIX = np.random.default_rng(20261123)
_FACTORS = _MIX.integers(1, 2**63, (_BANDS * _ROWS, 1), np.uint64) * 2 + 1
_OFFSETS = _MIX.integers(0, 2**63, (_BANDS * _ROWS, 1), np.uint64)

Pieces = npt.NDArray[np.uint64]


def normal(text: str) -> str:
    """The words of a text in lower case: what is compared."""
    return " ".join(_WORDS.findall(unicodedata.normalize("NFKC", text).casefold()))


def pieces(text: str) -> Pieces:
    """The distinct five-byte pieces of a normalised text, as numbers; a shorter text is one piece."""
    data = np.frombuffer(text.encode("utf-8", "replace").ljust(_PIECE), np.uint8).astype(np.uint64)
    count = len(data) - _PIECE + 1
    packed = np.zeros(count, np.uint64)
    for place in range(_PIECE):
        packed |= data[place : place + count] << np.uint64(8 * place)
    return np.unique(packed)


def overlap(one: Pieces, other: Pieces) -> float:
    """Jaccard's index of two sets of pieces, 0..1."""
    both = len(np.intersect1d(one, other, assume_unique=True))
    return both / (len(one) + len(other) - both)


class Likeness:
    """Texts with a key each; finds the one that is the same or nearly."""

    def __init__(self, threshold: float = THRESHOLD) -> None:
        self._threshold = threshold
        self._texts: dict[str, str] = {}
        self._pieces: dict[str, Pieces] = {}
        self._bands: dict[tuple[int, bytes], list[str]] = {}
        self._runs: dict[tuple[str, ...], str] = {}

    def add(self, key: str, text: str) -> None:
        """Remember a text. Of equal texts the first key stays."""
        plain = normal(text)
        if self._texts.setdefault(plain, key) != key:
            return
        found = pieces(plain)
        self._pieces[key] = found
        for band in _bands(found):
            keys = self._bands.setdefault(band, [])
            if len(keys) < _CANDIDATES:
                keys.append(key)
        for run in _runs(plain):
            self._runs.setdefault(run, key)

    def same(self, text: str) -> str | None:
        """The key of the text that is this one but for case, spaces and punctuation."""
        return self._texts.get(normal(text))

    def near(self, text: str) -> tuple[str, float] | None:
        """(key, overlap) of the nearest text that is nearly this one; 1.0 where a run of thirteen words is shared."""
        found = self.all_near(text)
        return max(found.items(), key=lambda item: item[1]) if found else None

    def all_near(self, text: str) -> dict[str, float]:
        """Key to overlap of every text that is nearly this one."""
        plain = normal(text)
        own = pieces(plain)
        keys = {key for band in _bands(own) for key in self._bands.get(band, ())}
        found = {key: share for key in keys if (share := overlap(own, self._pieces[key])) >= self._threshold}
        return found | {self._runs[run]: 1.0 for run in _runs(plain) if run in self._runs}


def _bands(found: Pieces) -> Iterator[tuple[int, bytes]]:
    # Multiplication modulo 2**64 with the high half kept spreads numbers well enough for MinHash.
    smallest = ((found[None, :] * _FACTORS + _OFFSETS) >> np.uint64(32)).min(axis=1)
    for band, rows in enumerate(smallest.reshape(_BANDS, _ROWS)):
        yield band, rows.tobytes()


def _runs(plain: str) -> Iterator[tuple[str, ...]]:
    words = plain.split()
    for start in range(len(words) - RUN + 1):
        yield tuple(words[start : start + RUN])
