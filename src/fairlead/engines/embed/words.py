"""Text to the pieces the embedder has vectors for: folded words, and character n-grams hashed to buckets.

The same functions serve training and use, so that a trained table fits. Knows no vectors.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from functools import lru_cache

BUCKETS = 8192
LONGEST_WORD = 40  # characters of a word that are looked at
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]{1,3})?|\d+")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
_QUOTES = "’‘ʼ`"


def fold(text: str) -> str:
    """Lower case, compatibility forms joined, accents dropped: ``Café’s`` becomes ``cafe's``."""
    if text.isascii():
        return text.lower()
    for quote in _QUOTES:
        text = text.replace(quote, "'")
    spread = unicodedata.normalize("NFKD", text)
    return _NOT_ASCII.sub(_without_accents, spread).lower()


def _without_accents(found: re.Match[str]) -> str:
    return "".join(c for c in found[0] if not unicodedata.combining(c))


def words_of(text: str) -> list[str]:
    """The folded words and numbers of a text, in order."""
    return _WORD.findall(fold(text))


@lru_cache(maxsize=8192)
def buckets_of(word: str) -> tuple[int, ...]:
    """Buckets of the 3- to 5-grams of ``<word>``; never empty."""
    marked = f"<{word[:LONGEST_WORD]}>"
    grams = {marked[i : i + n] for n in (3, 4, 5) for i in range(len(marked) - n + 1)} or {marked}
    return tuple(sorted(zlib.crc32(gram.encode("utf-8", "surrogatepass")) % BUCKETS for gram in grams))
