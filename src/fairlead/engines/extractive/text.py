"""Words of a text, made comparable: stems, stop words, ideas, slips of the finger, sentences.

Knows no documents, no questions and no vectors.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from pathlib import Path

from fairlead.engines.embed.words import words_of

STOP = frozenset(
    """a an the and or but if so as at by for from in into of off on onto out over to too up with about than then there
    this that these those it its it's he she they them their we us our ours you your yours i me my mine i'm i'd i've
    i'll am is are was were be been being do does did done doing have has had having will would shall should can could
    may might must what which who whom whose when where why how not no nor don't doesn't didn't isn't aren't wasn't
    won't can't cannot couldn't wouldn't please pls thanks thank hi hello hey dear just also only very really actually
    some any all each every much many more most such own same other hm um well ok okay yes yeah yep sure right let's
    u ur im ive dont doesnt didnt isnt cant wont id ill whats wheres hows thats theres tell know want like need get got
    give going go gonna wanna possible able quick question sorry bother good morning afternoon evening day sir madam
    one ones thing things something anything stuff someone anyone everything here now still already even yet maybe
    guys folks team kindly wondering wonder ask asking help say said says think exactly else per via etc""".split()
)
_GAP = "~"
_AS_WRITTEN = "="
_MOST_BETWEEN = 3
_SUFFIXES = (
    "ization",
    "isation",
    "ations",
    "ation",
    "ingly",
    "edly",
    "ings",
    "ies",
    "ied",
    "ing",
    "ers",
    "ed",
    "es",
    "er",
    "ly",
    "s",
)
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[\"'(\[]?[A-Z0-9€$£À-Þ])")
_ABBREVIATION = re.compile(
    r"(?:\b(?:e\.g|i\.e|approx|max|min|incl|excl|nr|st|mr|mrs|ms|dr|vs|tel|ca|resp|inc|ltd|p\.m|a\.m)|\b(?-i:[A-Z]))\.$",
    re.IGNORECASE,
)


@lru_cache(maxsize=16384)
def stem(word: str) -> str:
    """A folded word without its English ending: crude, the same for both sides, never shorter than three letters."""
    word = word.removesuffix("'s").replace("'", "")
    if len(word) < 4 or not word.isalpha():
        return word
    for suffix in _SUFFIXES:
        if word.endswith(suffix) and len(word) - len(suffix) >= 3:
            if suffix == "s" and word.endswith(("ss", "us", "is")):
                break
            word = word[: -len(suffix)] + ("y" if suffix in ("ies", "ied") else "")
            break
    if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "lsaeiou":
        word = word[:-1]
    return word.removesuffix("e") if len(word) > 3 else word


def content(words: Iterable[str]) -> list[str]:
    """Folded words that carry meaning, in order, as stems."""
    return [stem(w) for w in words if w not in STOP]


@cache
def _concept_table() -> dict[str, list[tuple[tuple[str, ...], str]]]:
    """First stem to (stems of the wording, idea), longest first; a part that counts as written has its mark before."""
    table: dict[str, list[tuple[tuple[str, ...], str]]] = {}
    for line in Path(__file__).with_name("concepts.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            name, _, wordings = line.partition(":")
            for wording in wordings.split(","):
                parts = tuple(part for word in wording.split() for part in _parts_of(word))
                table.setdefault(_stem_of(parts[0]), []).append((parts, name.strip()))
    for entries in table.values():
        entries.sort(key=lambda entry: -len(entry[0]))
    return table


def _parts_of(word: str) -> list[str]:
    """A word of a wording as it is compared: its stem, or the gap, or the word itself after its mark."""
    if word == _GAP:
        return [_GAP]
    if word.startswith(_AS_WRITTEN):
        return [_AS_WRITTEN + folded for folded in words_of(word)]
    return [stem(folded) for folded in words_of(word) or [word]]


def _stem_of(part: str) -> str:
    return stem(part.removeprefix(_AS_WRITTEN)) if part.startswith(_AS_WRITTEN) else part


def concepts_of(words: Sequence[str]) -> frozenset[str]:
    """The ideas (names in concepts.txt) that folded words speak of."""
    table = _concept_table()
    stems = [stem(w) for w in words]
    found: set[str] = set()
    for i, first in enumerate(stems):
        for wording, name in table.get(first, ()):
            if name not in found and _reads(words, stems, i, wording):
                found.add(name)
    return frozenset(found)


def _reads(words: Sequence[str], stems: Sequence[str], at: int, wording: Sequence[str]) -> bool:
    """Whether a wording stands at a place; a gap in it stands for up to _MOST_BETWEEN words."""
    for i, part in enumerate(wording, start=at):
        if part == _GAP:
            rest = wording[i - at + 1 :]
            return any(_reads(words, stems, i + between, rest) for between in range(_MOST_BETWEEN + 1))
        if i >= len(stems) or part != (_AS_WRITTEN + words[i] if part.startswith(_AS_WRITTEN) else stems[i]):
            return False
    return True


@cache
def _idea_stems() -> frozenset[str]:
    return frozenset(_stem_of(s) for entries in _concept_table().values() for wording, _ in entries for s in wording)


def names_thing(word: str) -> bool:
    """Whether a folded word is about a thing of its own (a product, a place) rather than one of the ideas."""
    return word not in STOP and stem(word) not in _idea_stems()


@cache
def known_words() -> frozenset[str]:
    """Words of the ideas, the first candidates when a word is misspelt."""
    words: set[str] = set()
    for line in Path(__file__).with_name("concepts.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            words.update(words_of(line.partition(":")[2]))
    return frozenset(w for w in words if len(w) > 3)


def near(a: str, b: str) -> bool:
    """Whether two words are one slip apart: a letter more, less, other, or two neighbours swapped."""
    if a == b:
        return True
    short, long = (a, b) if len(a) <= len(b) else (b, a)
    if len(long) - len(short) > 1:
        return False
    i = 0
    while i < len(short) and short[i] == long[i]:
        i += 1
    if len(short) == len(long):
        swapped = i + 1 < len(a) and a[i] == b[i + 1] and a[i + 1] == b[i] and a[i + 2 :] == b[i + 2 :]
        return swapped or a[i + 1 :] == b[i + 1 :]
    return short[i:] == long[i + 1 :]


@cache
def _slips() -> dict[str, list[str]]:
    """Known words by each form with one letter left out: the index of a spelling check by deletion."""
    index: dict[str, list[str]] = {}
    for word in sorted(known_words()):
        if len(word) > 4:
            for i in range(len(word)):
                index.setdefault(word[:i] + word[i + 1 :], []).append(word)
            index.setdefault(word, []).append(word)
    return index


# Frequent slips in words too short to be mended by likeness.
_SHORT_SLIPS = {
    "hwo": "how", "waht": "what", "wat": "what", "wht": "what", "mcuh": "much", "muhc": "much", "wehn": "when",
    "whne": "when", "wher": "where", "wehre": "where", "teh": "the", "adn": "and", "yuo": "you", "yuor": "your",
    "od": "do", "cna": "can", "si": "is", "thsi": "this", "taht": "that", "woh": "who", "lnog": "long", "tiem": "time",
    "shiping": "shipping", "recieve": "receive", "oder": "order", "ordr": "order", "odrer": "order",
    "retrun": "return", "retun": "return", "cancle": "cancel", "refnd": "refund", "mony": "money", "adress": "address",
}  # fmt: skip


@lru_cache(maxsize=4096)
def respell(word: str) -> str:
    """The word of the ideas that a folded word of five letters or more is one slip away from, or the word itself."""
    if word in _SHORT_SLIPS:
        return _SHORT_SLIPS[word]
    if len(word) < 5 or word in STOP or not word.isalpha() or word in known_words():
        return word
    doubled = next((word[:i] + word[i + 1 :] for i in range(len(word) - 1) if word[i] == word[i + 1]), "")
    if doubled in known_words():
        return doubled
    index = _slips()
    for form in (word, *(word[:i] + word[i + 1 :] for i in range(len(word)))):
        for candidate in index.get(form, ()):
            if near(word, candidate) and stem(candidate) != stem(word):
                return candidate
    return word


def split_sentences(text: str) -> list[str]:
    """Sentences of a paragraph, verbatim but for the white space around them."""
    parts: list[str] = []
    for part in _SENTENCE_END.split(text):
        if parts and _ABBREVIATION.search(parts[-1][-12:]):
            parts[-1] += " " + part
        elif part.strip():
            parts.append(part.strip())
    return parts
