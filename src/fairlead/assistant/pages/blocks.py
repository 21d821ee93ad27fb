"""What a page is made of, whatever its format: headings, texts, list items, table rows; and how passages are cut.

Every reader gives the same blocks, so that a rule about passages stands once. Knows no files and no formats.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from fairlead.engines.extractive.text import split_sentences

MAX_PASSAGE_CHARS = 480
_ANCHOR = re.compile(r"[^\w.:-]")
_SPACE = re.compile(r"\s+")


class PageInvalid(ValueError):
    """Why a file cannot be used as a page: what was found, and what to do."""


class Heading(msgspec.Struct, frozen=True):
    """A heading of level 1 to 6; ``anchor`` is its own, else one is made of the text."""

    level: int
    text: str
    anchor: str = ""


class Mark(msgspec.Struct, frozen=True):
    """From here on the page is found under ``anchor`` (a PDF's ``page=3``); headings keep their own names above it."""

    anchor: str


class Text(msgspec.Struct, frozen=True):
    """Running text. ``whole`` texts (code, say) are not cut into sentences."""

    text: str
    whole: bool = False


class Item(msgspec.Struct, frozen=True):
    """One item of a list; it reads as a sentence."""

    text: str


class Table(msgspec.Struct, frozen=True):
    """``heads`` name the columns ("" where one has no name); every row is a fact of its own."""

    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


Block = Heading | Mark | Text | Item | Table


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """One page. ``title`` is empty when it gives none, ``updated`` is a date in ISO 8601 or empty.

    ``links`` are the targets of its links, as written.
    """

    title: str = ""
    updated: str = ""
    blocks: tuple[Block, ...] = ()
    links: tuple[str, ...] = ()


def cut(page: Page, title: str) -> Iterator[tuple[list[str], str, str]]:
    """(headings above, anchor, passage) of each passage; a first heading equal to ``title`` is left out."""
    for path, anchor, blocks in _sections(page.blocks, title):
        for passage in _cut_section(blocks):
            yield path, anchor, passage


def _sections(blocks: Iterable[Block], title: str) -> Iterator[tuple[list[str], str, list[Block]]]:
    """(headings above, anchor, blocks) of each run of blocks under one heading or mark."""
    place, mark, found = _Place(title), "", list[Block]()
    for block in blocks:
        if not isinstance(block, Mark | Heading):
            found.append(block)
            continue
        yield place.names, mark or place.anchor, found
        found = []
        if isinstance(block, Mark):
            mark = block.anchor
        else:
            place.enter(block)
    yield place.names, mark or place.anchor, found


class _Place:
    """Where in a page one is: below which headings, and the anchor of the last, once for each of the same name."""

    def __init__(self, title: str) -> None:
        self.anchor = ""
        self._title = title
        self._path: list[tuple[int, str]] = []
        self._anchors: Counter[str] = Counter()

    @property
    def names(self) -> list[str]:
        """The headings above, outermost first."""
        return [name for _, name in self._path]

    def enter(self, heading: Heading) -> None:
        """Go on below a heading; one without text, or that repeats the title, only ends what was before."""
        self._path = [(above, name) for above, name in self._path if above < heading.level]
        self.anchor = ""
        if not heading.text or (heading.level == 1 and heading.text == self._title):
            return
        self._path.append((heading.level, heading.text))
        slug = _ANCHOR.sub("", heading.anchor)[:100] or slug_of(heading.text)
        self._anchors[slug] += 1
        self.anchor = slug if self._anchors[slug] == 1 else f"{slug}-{self._anchors[slug] - 1}"


def _cut_section(blocks: Sequence[Block]) -> Iterator[str]:
    """Passages of one section: sentences packed up to MAX_PASSAGE_CHARS; table rows one by one."""
    waiting = ""
    for block in blocks:
        if isinstance(block, Table):
            if waiting:
                yield waiting
            waiting = ""
            yield from rows_of(block)
            continue
        for sentence in _sentences(block):
            if waiting and len(waiting) + len(sentence) >= MAX_PASSAGE_CHARS:
                yield waiting
                waiting = ""
            waiting = f"{waiting} {sentence}".strip()
    if waiting:
        yield waiting


def _sentences(block: Block) -> Iterator[str]:
    """Sentences of a block, none longer than MAX_PASSAGE_CHARS."""
    if isinstance(block, Text) and block.whole:
        yield from _fold(block.text)
    elif isinstance(block, Text | Item):
        text = block.text
        if isinstance(block, Item) and text and not text.endswith((".", "!", "?", ":", ";")):
            text += "."
        for sentence in split_sentences(text):
            yield from _fold(sentence)


def rows_of(table: Table) -> Iterator[str]:
    """``Column: cell; Column: cell`` for each row. Empty cells are left out."""
    for row in table.rows:
        heads = [*table.heads, *[""] * (len(row) - len(table.heads))]
        pairs = [f"{head}: {cell}" if head else cell for head, cell in zip(heads, row, strict=False) if cell]
        if pairs:
            yield from _fold("; ".join(pairs))


def _fold(text: str) -> Iterator[str]:
    """``text`` in pieces of at most MAX_PASSAGE_CHARS, broken at spaces where there are any."""
    while len(text) > MAX_PASSAGE_CHARS:
        end = text.rfind(" ", 1, MAX_PASSAGE_CHARS)
        end = end if end > 0 else MAX_PASSAGE_CHARS
        yield text[:end].strip()
        text = text[end:].strip()
    if text:
        yield text


def clean(text: str) -> str:
    """One line without control and invisible formatting characters (which could hide text from a reader)."""
    kept = "".join(c if c.isspace() or unicodedata.category(c) not in {"Cc", "Cf", "Co", "Cs"} else "" for c in text)
    return _SPACE.sub(" ", kept).strip()


def slug_of(title: str) -> str:
    """The anchor of a heading as GitHub makes it, with runs of dashes joined."""
    return re.sub(r"-{2,}", "-", re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-"))
