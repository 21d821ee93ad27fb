"""The knowledge an assistant answers from: Markdown pages cut into passages of a few sentences.

Headings become the passage's title ("Returns › Exceptions"); every table row becomes a passage of its own
("Country: Austria; Standard: €5.90; …"), so that it can be found and quoted. Pages are untrusted text: markup is
dropped, nothing in a page is run, followed or obeyed. Knows nothing of models or of how passages are ranked.
"""

from __future__ import annotations

import datetime
import hashlib
import re
import threading
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import yaml
from markdown_it import MarkdownIt
from markdown_it.tree import SyntaxTreeNode

from fairlead.assistant.retrieve import Index
from fairlead.engines.extractive.text import split_sentences
from fairlead.errors import KnowledgeInvalid
from fairlead.records import Source

VERSION = 1
"""Counts up when the same pages are cut differently, so that a snapshot hash also says how."""

MAX_PAGE_BYTES = 2_000_000
MAX_PASSAGE_CHARS = 480
_FRONT_MATTER = re.compile(r"\A---[ \t]*\r?\n(.*?)(?:^|\n)---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_SPACE = re.compile(r"\s+")


class Passage(msgspec.Struct, frozen=True, kw_only=True):
    """A few sentences, or one table row, with where they stand.

    ``id`` depends on place and text alone, so it survives changes elsewhere. ``location`` is ``folder/page.md#anchor``.
    """

    id: str
    title: str
    location: str
    text: str
    updated: str = ""

    def source(self) -> Source:
        """What an answer cites."""
        return Source(id=self.id, title=self.title, location=self.location, text=self.text)

    def document(self) -> dict[str, str]:
        """What a model is given in ``documents``."""
        return {"id": self.id, "title": self.title, "text": self.text, "location": self.location}


class Knowledge:
    """All passages of the pages of a use case, in the order of the pages. ``snapshot`` is a hash of the content."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self.passages = tuple(passages)
        digest = hashlib.sha256(f"passages {VERSION}".encode())
        for passage in self.passages:
            digest.update(msgspec.json.encode(passage))
        self.snapshot = digest.hexdigest()
        self._index: Index | None = None
        self._making = threading.Lock()

    @classmethod
    def load(cls, paths: Sequence[Path]) -> Knowledge:
        """Read Markdown files and folders of them (``*.md``, nested). No paths give an empty knowledge.

        Raises KnowledgeInvalid with every problem found: what is missing, unreadable, empty, too large, not UTF-8, or
        a link that leads out of its folder.
        """
        problems: list[str] = []
        passages: list[Passage] = []
        for path in paths:
            for name, file in _pages(path, problems):
                text = _read(file, problems)
                if text is not None:
                    passages.extend(_cut_page(name, text, file, problems))
        if problems:
            raise KnowledgeInvalid(count=len(problems), problems="\n".join(f"  {problem}" for problem in problems))
        return cls(passages)

    def search(self, query: str, k: int = 5, *, previous: str = "") -> list[Passage]:
        """The ``k`` best passages for a question, best first; ``previous`` is the question before, for follow-ups."""
        return [self.passages[number] for number in self.index.rank(query, previous=previous)[:k]]

    @property
    def ready(self) -> bool:
        """Whether the search index is there; making it takes about 0.3 ms a passage."""
        return self._index is not None

    @property
    def index(self) -> Index:
        """The search index, made on first use. Thread-safe."""
        with self._making:
            if self._index is None:
                self._index = Index([(passage.title, passage.text) for passage in self.passages])
        return self._index


def _pages(path: Path, problems: list[str]) -> Iterator[tuple[str, Path]]:
    """(name used in locations, file) of every page under ``path``, sorted."""
    if path.is_file():
        yield f"{path.parent.name}/{path.name}", path
        return
    if not path.is_dir():
        problems.append(f"{path}: there is no such file or folder. Check `knowledge:` in fairlead.yaml.")
        return
    root = path.resolve()
    files = sorted(file for file in path.rglob("*.md") if not file.is_dir())
    if not files:
        problems.append(f"{path}: no page found in it; expected at least one file that ends in .md.")
    for file in files:
        if not file.resolve().is_relative_to(root):
            problems.append(f"{file}: is a link that leads out of {path}. Copy the page into the folder.")
            continue
        yield f"{path.name}/{file.relative_to(path).as_posix()}", file


def _read(file: Path, problems: list[str]) -> str | None:
    try:
        size = file.stat().st_size
        if size > MAX_PAGE_BYTES:
            problems.append(f"{file}: has {size:,} bytes; a page may have {MAX_PAGE_BYTES:,}. Split it.")
            return None
        text = file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        problems.append(f"{file}: byte {error.start} is not UTF-8. Save the file as UTF-8.")
        return None
    except OSError as error:
        problems.append(f"{file}: cannot be read ({error.strerror}).")
        return None
    if "\x00" in text:
        problems.append(f"{file}: contains NUL bytes, so it is not a text file.")
        return None
    return text


def _cut_page(name: str, text: str, file: Path, problems: list[str]) -> list[Passage]:
    meta, body = _split_front_matter(text, file, problems)
    tree = SyntaxTreeNode(_MARKDOWN.parse(body))
    page = _clean(str(meta.get("title") or "")) or _first_heading(tree) or file.stem.replace("-", " ").capitalize()
    updated = meta.get("updated", "")
    updated = updated.isoformat() if isinstance(updated, datetime.date) else str(updated or "")
    found = [
        (" › ".join([page, *path]), anchor, passage)
        for path, anchor, blocks in _sections(tree, page)
        for passage in _cut_section(blocks)
    ]
    if not found:
        problems.append(f"{file}: has no text to answer from. Write something below its headings, or remove it.")
    passages: list[Passage] = []
    seen: Counter[tuple[str, str]] = Counter()
    for title, anchor, passage in found:
        location = f"{name}#{anchor}" if anchor else name
        seen[location, passage] += 1
        key = f"{location}\n{passage}\n{seen[location, passage]}"
        identifier = hashlib.sha256(key.encode()).hexdigest()[:12]
        passages.append(Passage(id=identifier, title=title, location=location, text=passage, updated=updated))
    return passages


def _split_front_matter(text: str, file: Path, problems: list[str]) -> tuple[dict[str, Any], str]:
    match = _FRONT_MATTER.match(text)
    if match is None:
        return {}, text
    try:
        meta = yaml.safe_load(match[1]) or {}
    except yaml.YAMLError as error:
        problems.append(f"{file}: its front matter is not YAML ({str(error).splitlines()[0]}).")
        return {}, text[match.end() :]
    if not isinstance(meta, dict):
        problems.append(f"{file}: its front matter is not `key: value` lines; expected title and updated.")
        return {}, text[match.end() :]
    return meta, text[match.end() :]


_MARKDOWN = MarkdownIt("commonmark").enable("table")


def _first_heading(tree: SyntaxTreeNode) -> str:
    return next((_inline(node) for node in tree.children if node.type == "heading" and node.tag == "h1"), "")


def _sections(tree: SyntaxTreeNode, page: str) -> Iterator[tuple[list[str], str, list[SyntaxTreeNode]]]:
    """(headings above, anchor, blocks) of each run of blocks under one heading; the page's own title is left out."""
    path: list[tuple[int, str]] = []
    anchors: Counter[str] = Counter()
    anchor, blocks = "", list[SyntaxTreeNode]()
    for node in tree.children:
        if node.type != "heading":
            blocks.append(node)
            continue
        yield [title for _, title in path], anchor, blocks
        level, title, blocks = int(node.tag[1]), _inline(node), []
        path = [(above, name) for above, name in path if above < level]
        anchor = ""
        if title and not (level == 1 and title == page):
            path.append((level, title))
            slug = _slug(title)
            anchors[slug] += 1
            anchor = slug if anchors[slug] == 1 else f"{slug}-{anchors[slug] - 1}"
    yield [title for _, title in path], anchor, blocks


def _cut_section(blocks: list[SyntaxTreeNode]) -> Iterator[str]:
    """Passages of one section: sentences packed up to MAX_PASSAGE_CHARS; table rows one by one."""
    waiting = ""
    for node in blocks:
        if node.type == "table":
            if waiting:
                yield waiting
            waiting = ""
            yield from _rows(node)
            continue
        for sentence in _sentences(node):
            if waiting and len(waiting) + len(sentence) >= MAX_PASSAGE_CHARS:
                yield waiting
                waiting = ""
            waiting = f"{waiting} {sentence}".strip()
    if waiting:
        yield waiting


def _sentences(node: SyntaxTreeNode) -> Iterator[str]:
    """Sentences of a block, none longer than MAX_PASSAGE_CHARS. HTML is dropped."""
    if node.type in {"html_block", "hr"}:
        return
    if node.type in {"fence", "code_block"}:
        yield from _fold(_clean(node.content))
    elif node.type in {"paragraph", "inline"}:
        for sentence in split_sentences(_inline(node)):
            yield from _fold(sentence)
    elif node.type == "heading":
        yield _inline(node)
    elif node.type == "table":
        yield from _rows(node)
    elif node.type == "list_item":
        for number, child in enumerate(node.children):
            sentences = list(_sentences(child))
            if sentences and number == 0 and not sentences[-1].endswith((".", "!", "?", ":", ";")):
                sentences[-1] += "."
            yield from sentences
    else:
        for child in node.children:
            yield from _sentences(child)


def _rows(table: SyntaxTreeNode) -> Iterator[str]:
    """``Column: cell; Column: cell`` for each row. Empty cells are left out."""
    rows = [node for part in table.children for node in part.children if node.type == "tr"]
    heads = [_inline(cell) for cell in rows[0].children]
    for row in rows[1:]:
        cells = [_inline(cell) for cell in row.children]
        pairs = [f"{head}: {cell}" if head else cell for head, cell in zip(heads, cells, strict=False) if cell]
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


def _inline(node: SyntaxTreeNode) -> str:
    """The words of a node, without markup."""
    return _clean("".join(_words(node)))


def _words(node: SyntaxTreeNode) -> Iterator[str]:
    if node.type in {"text", "code_inline", "image"}:
        yield node.content
    elif node.type in {"softbreak", "hardbreak"}:
        yield " "
    elif node.type != "html_inline":
        for child in node.children:
            yield from _words(child)


def _clean(text: str) -> str:
    """One line without control and invisible formatting characters (which could hide text from a reader)."""
    kept = "".join(c if c.isspace() or unicodedata.category(c) not in {"Cc", "Cf", "Co", "Cs"} else "" for c in text)
    return _SPACE.sub(" ", kept).strip()


def _slug(title: str) -> str:
    """The anchor of a heading as GitHub makes it, with runs of dashes joined."""
    return re.sub(r"-{2,}", "-", re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-"))
