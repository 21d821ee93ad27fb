"""Texts to the pieces the scorer has vectors for: folded words, numbers, and the marks that carry meaning.

The same functions serve training and use, so that a trained table fits. Knows no vectors.
"""

from __future__ import annotations

import re
import zlib
from functools import lru_cache

from fairlead.engines.embed.words import fold

BUCKETS = 8192
LONGEST_WORD = 32  # characters of a word that are looked at
LONGEST_TEXT = 2_000  # characters of a text that are looked at
QUESTION_PIECES, UNIT_PIECES, CONTEXT_PIECES = 24, 56, 12
_PIECE = re.compile(r"[^\W\d_]+(?:'[^\W\d_]{1,3})?|\d+|[€$£¥%?]")
_BREAK = "\n\n"
_PLAIN = str.maketrans({"’": "'", "‘": "'", "–": "-", "—": "-", "›": ">", "…": ".", "“": '"', "”": '"'})
_MARKS = str.maketrans("", "", "€£¥")


def with_context(context: str, text: str) -> str:
    """A unit as the scorer takes it: what it hangs on (headings, the lead of its list), an empty line, its text."""
    return f"{' '.join(context.split())}{_BREAK}{text}"


def apart(unit: str) -> tuple[str, str]:
    """(context, text) of a unit; without an empty line all of it is text."""
    context, found, text = unit.partition(_BREAK)
    return (context, text) if found else ("", unit)


def pieces_of(text: str) -> list[str]:
    """The folded pieces of a text, in order."""
    return _PIECE.findall(folded(text[:LONGEST_TEXT]))


def folded(text: str) -> str:
    """As ``fold`` for what becomes of it in pieces, without its slow way where only common marks are not ASCII."""
    plain = text.translate(_PLAIN)
    return plain.lower() if plain.translate(_MARKS).isascii() else fold(plain)


def question_pieces(question: str) -> list[str]:
    """The pieces of a question; of a long one the end, for that is where it asks."""
    return _PIECE.findall(folded(question[-LONGEST_TEXT:]))[-QUESTION_PIECES:]


def unit_pieces(unit: str) -> tuple[list[str], int]:
    """(pieces, how many of them are context) of a unit; of a long context the end, of a long text the beginning."""
    context, text = apart(unit)
    hung = _PIECE.findall(folded(context[-LONGEST_TEXT:]))[-CONTEXT_PIECES:]
    return hung + pieces_of(text)[: UNIT_PIECES - len(hung)], len(hung)


def match_key(piece: str) -> str:
    """What two pieces share when they count as the same word: the first six letters, a plural dropped."""
    return piece.rstrip("s")[:6] or piece


@lru_cache(maxsize=8192)
def buckets_of(piece: str) -> tuple[int, ...]:
    """Buckets of the 3- to 5-grams of ``<piece>``; never empty. Numbers share the buckets of their length."""
    if piece.isdigit():
        return (zlib.crc32(f"#{min(len(piece), 5)}".encode()) % BUCKETS,)
    marked = f"<{piece[:LONGEST_WORD]}>"
    grams = {marked[i : i + n] for n in (3, 4, 5) for i in range(len(marked) - n + 1)} or {marked}
    return tuple(sorted(zlib.crc32(gram.encode("utf-8", "surrogatepass")) % BUCKETS for gram in grams))
