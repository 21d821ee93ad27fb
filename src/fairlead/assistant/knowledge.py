"""The knowledge an assistant answers from: pages cut into passages of a few sentences, kept under a snapshot hash.

Headings become the passage's title ("Returns › Exceptions"); every table row becomes a passage of its own
("Country: Austria; Standard: €5.90; …"), so that it can be found and quoted. Pages are untrusted text: markup is
dropped, nothing in a page is run, followed or obeyed. What was made of a page is kept by the hash of its content, so
that only changed pages are read again. Knows nothing of models or of how passages are ranked.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import msgspec
import numpy as np

from fairlead.assistant.pages import MAX_PASSAGE_CHARS, READERS, PageInvalid, cut, read_page
from fairlead.assistant.retrieve import Index, Prepared, identity, prepare
from fairlead.errors import KnowledgeInvalid
from fairlead.records import Source

__all__ = ["MAX_PASSAGE_CHARS", "Knowledge", "PageInfo", "Passage"]

VERSION = 1
"""Counts up when the same pages are cut differently, so that a snapshot hash also says how."""


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


class PageInfo(msgspec.Struct, frozen=True, kw_only=True):
    """One page as it was read. ``name`` is what locations begin with; ``passages`` is how many were cut from it."""

    name: str
    path: str
    title: str
    updated: str
    passages: int
    links: tuple[str, ...] = ()


class Cache(Protocol):
    """Where what was made of a page is kept. Losing it costs time only."""

    def get(self, key: str) -> bytes | None:
        """What was put under ``key``."""
        ...

    def put(self, key: str, data: bytes) -> None:
        """Keep ``data``."""
        ...


class _Made(msgspec.Struct, frozen=True):
    """A page as it is kept: terms and vector (float32 bytes) of each passage beside it."""

    info: PageInfo
    passages: tuple[Passage, ...]
    terms: tuple[list[str], ...]
    vectors: bytes


class Knowledge:
    """All passages of the pages of a use case, in the order of the pages.

    ``content`` holds them as JSON, ``snapshot`` is its SHA-256; ``reread`` are the names of the pages that had to be
    read because no cache knew them.
    """

    def __init__(
        self,
        passages: Sequence[Passage],
        pages: Sequence[PageInfo] = (),
        prepared: Prepared | None = None,
        reread: Sequence[str] = (),
    ) -> None:
        self.passages = tuple(passages)
        self.pages = tuple(pages)
        self.reread = tuple(reread)
        self.content = msgspec.json.encode({"version": VERSION, "passages": self.passages})
        self.snapshot = hashlib.sha256(self.content).hexdigest()
        self._prepared = prepared
        self._index: Index | None = None
        self._making = threading.Lock()

    @classmethod
    def load(cls, paths: Sequence[Path], cache: Cache | None = None) -> Knowledge:
        """Read pages (Markdown, HTML, PDF, CSV) and folders of them, nested. No paths give an empty knowledge.

        With a ``cache`` pages whose content it knows are not read again. Raises KnowledgeInvalid with every problem
        found: what is missing, unreadable, empty, too large, not UTF-8, or a link that leads out of its folder.
        """
        problems: list[str] = []
        made: list[_Made] = []
        reread: list[str] = []
        how = identity() if cache is not None else ""
        for path in paths:
            for name, file in _pages(path, problems):
                try:
                    data = file.read_bytes()
                    key = hashlib.sha256(f"{VERSION}\n{how}\n{name}\n".encode() + data).hexdigest()
                    kept = _decode(cache.get(key)) if cache is not None else None
                    if kept is None:
                        kept = _cut_page(name, file, data, prepared=cache is not None)
                        reread.append(name)
                        if cache is not None:
                            cache.put(key, msgspec.msgpack.encode(kept))
                except PageInvalid as error:
                    said = str(error)
                    problems.append(f"{file}: {said}")
                except OSError as error:
                    problems.append(f"{file}: cannot be read ({error.strerror}).")
                else:
                    made.append(kept)
        if problems:
            raise KnowledgeInvalid(count=len(problems), problems="\n".join(f"  {problem}" for problem in problems))
        passages = [passage for page in made for passage in page.passages]
        return cls(passages, [page.info for page in made], _join(made) if cache is not None else None, reread)

    @classmethod
    def from_content(cls, content: bytes) -> Knowledge:
        """The knowledge of an earlier ``content``. Raises KnowledgeInvalid for what is none."""
        try:
            found = msgspec.json.decode(content, type=_Content)
        except msgspec.DecodeError as error:
            raise KnowledgeInvalid(count=1, problems=f"  this is no snapshot of a knowledge ({error}).") from error
        return cls(found.passages)

    def search(self, query: str, k: int = 5, *, previous: str = "") -> list[Passage]:
        """The ``k`` best passages for a question, best first; ``previous`` is the question before, for follow-ups."""
        return [self.passages[number] for number in self.index.rank(query, previous=previous)[:k]]

    @property
    def ready(self) -> bool:
        """Whether the search index is there; making it takes about 0.3 ms a passage, a tenth with a cache."""
        return self._index is not None

    @property
    def index(self) -> Index:
        """The search index, made on first use. Thread-safe."""
        with self._making:
            if self._index is None:
                texts = [(passage.title, passage.text) for passage in self.passages]
                self._index = Index(texts, prepared=self._prepared)
                self._prepared = None
        return self._index


class _Content(msgspec.Struct):
    version: int
    passages: tuple[Passage, ...]


def _decode(data: bytes | None) -> _Made | None:
    try:
        return None if data is None else msgspec.msgpack.decode(data, type=_Made)
    except msgspec.DecodeError:
        return None  # damaged, or of another version: it is made anew


def _join(made: Sequence[_Made]) -> Prepared | None:
    terms = [one for page in made for one in page.terms]
    vectors = np.frombuffer(b"".join(page.vectors for page in made), np.float32)
    return Prepared(terms, vectors.reshape(len(terms), -1)) if terms else None


def _pages(path: Path, problems: list[str]) -> Iterator[tuple[str, Path]]:
    """(name used in locations, file) of every page under ``path``, sorted."""
    if path.is_file():
        yield f"{path.parent.name}/{path.name}", path
        return
    if not path.is_dir():
        problems.append(f"{path}: there is no such file or folder. Check `knowledge:` in fairlead.yaml.")
        return
    root = path.resolve()
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in READERS and not file.is_dir())
    if not files:
        problems.append(f"{path}: no page found in it; expected a file that ends in {', '.join(READERS)}.")
    for file in files:
        if not file.resolve().is_relative_to(root):
            problems.append(f"{file}: is a link that leads out of {path}. Copy the page into the folder.")
            continue
        yield f"{path.name}/{file.relative_to(path).as_posix()}", file


def _cut_page(name: str, file: Path, data: bytes, *, prepared: bool) -> _Made:
    page = read_page(file, data)
    title = page.title or file.stem.replace("-", " ").replace("_", " ").capitalize()
    found = [(" › ".join([title, *path]), anchor, passage) for path, anchor, passage in cut(page, title)]
    if not found:
        raise PageInvalid("has no text to answer from. Write something below its headings, or remove it.")
    passages: list[Passage] = []
    seen: Counter[tuple[str, str]] = Counter()
    for heading, anchor, passage in found:
        location = f"{name}#{anchor}" if anchor else name
        seen[location, passage] += 1
        key = f"{location}\n{passage}\n{seen[location, passage]}"
        identifier = hashlib.sha256(key.encode()).hexdigest()[:12]
        passages.append(Passage(id=identifier, title=heading, location=location, text=passage, updated=page.updated))
    info = PageInfo(
        name=name, path=str(file), title=title, updated=page.updated, passages=len(passages), links=page.links
    )
    if not prepared:
        return _Made(info, tuple(passages), (), b"")
    terms, vectors = prepare([(passage.title, passage.text) for passage in passages])
    return _Made(info, tuple(passages), tuple(list(one) for one in terms), vectors.astype(np.float32).tobytes())
