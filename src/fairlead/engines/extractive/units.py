"""Passages cut into what can be quoted: a sentence, a list with its lead, a list item, a row of a table.

Knows no question. A unit's text stands in its passage word for word (a table row is written with its column names);
sentences that address a machine instead of a customer are left out, so that they cannot be quoted.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Literal, NamedTuple

from fairlead.engines.embed.embedder import Embedder, Vectors
from fairlead.engines.embed.words import words_of
from fairlead.engines.extractive.amounts import Span, measures_of, spans_of
from fairlead.engines.extractive.places import Places, places_of
from fairlead.engines.extractive.text import STOP, concepts_of, content, split_sentences, stem

MOST_CHARACTERS = 40_000  # of one passage that are looked at
MOST_UNITS = 200  # of one passage
LONGEST_LIST = 900  # characters of a list quoted as a whole
Kind = Literal["sentence", "item", "list", "row"]
_BULLET = re.compile(r"^\s{0,6}(?:[-*+•]|\d{1,2}[.)])\s+")
_RULE_ROW = re.compile(r"^\s*\|?[\s:|-]+\|?\s*$")
_MARKUP = re.compile(r"\*\*|__|`|<[^<>\n]{1,200}>|!\[[^\]\n]{0,200}\]\([^)\s]{0,500}\)")
_LINK = re.compile(r"\[([^\]\n]{1,200})\]\([^)\s]{1,500}\)")
_HEADING = re.compile(r"^\s{0,3}#{1,6}\s+(.*)$")
_WRITTEN_ROW = re.compile(r"^[^:;.\n]{1,60}: ([^;:\n]{1,80}); [^:;\n]{1,60}: ")
_TO_MACHINE = re.compile(
    r"\b(?:ignore|disregard|forget|override|bypass)\b.{0,40}\b(?:instruction|prompt|rule|previous|above|polic"
    r"|guideline)"
    r"|\bsystem prompt\b|\byou are now\b|\b(?:as an|the|dear) (?:ai|assistant|language model|llm|chatbot)\b.{0,60}"
    r"\b(?:must|should|shall|will|tell|say|reply|respond|answer|reveal|call|use)\b"
    r"|<\|?(?:im_start|im_end|system|endoftext)|\b(?:assistant|system)\s*:",
    re.IGNORECASE,
)


class Unit(NamedTuple):
    """One quotable piece. ``context`` is what it hangs on: headings, the lead of its list, the row's table.

    ``label`` holds the stems of what a table row is about (its first cell), empty for anything else; ``columns`` are
    its other cells as (name, value), ``table`` is what the rows of one table have in common. ``section`` is the last
    heading above.
    """

    text: str
    kind: Kind
    context: str
    position: int
    stems: frozenset[str]
    context_stems: frozenset[str]
    concepts: frozenset[str]
    context_concepts: frozenset[str]
    vector: Vectors
    context_vector: Vectors
    word_vectors: Vectors
    label: frozenset[str]
    columns: tuple[tuple[str, str], ...]
    table: tuple[str, ...]
    section_stems: frozenset[str]
    section_concepts: frozenset[str]
    section_vector: Vectors
    section_words: Vectors
    places: Places
    spans: tuple[Span, ...]


class Passage(NamedTuple):
    """A document of the request, cut."""

    id: str
    title: str
    units: tuple[Unit, ...]


def cut(documents: list[dict[str, str]], embedder: Embedder) -> list[Passage]:
    """Every document of a request as a Passage, in order. Passages seen lately come from a cache."""
    return [Passage(d["id"], d["title"], _units(d["title"], d["text"][:MOST_CHARACTERS], embedder)) for d in documents]


def addresses_machine(text: str) -> bool:
    """Whether a sentence gives orders to a language model; such text is never quoted."""
    return bool(_TO_MACHINE.search(text))


@lru_cache(maxsize=2048)
def _units(title: str, text: str, embedder: Embedder) -> tuple[Unit, ...]:
    pieces = [p for p in _pieces(title, text) if p[0] and not addresses_machine(p[0])][:MOST_UNITS]
    texts = [words_of(piece) for piece, _, _ in pieces]
    contexts = {context: words_of(context) for _, _, context in pieces}  # most units of a passage share theirs
    sections = {context: words_of(section_of(context)) for context in contexts}
    joint = [contexts[context] + text for (_, _, context), text in zip(pieces, texts, strict=True)]
    vectors = embedder.encode_lists([*texts, *joint, *sections.values()])
    heading = dict(zip(sections, vectors[2 * len(texts) :], strict=True))
    words = list(dict.fromkeys(w for some in (*contexts.values(), *texts, *sections.values()) for w in some))
    row = {word: i for i, word in enumerate(words)}
    table = embedder.encode_words(words)
    about = {context: (frozenset(content(told)), concepts_of(told)) for context, told in contexts.items()}
    headed = {
        context: (frozenset(content(told)), concepts_of(told), [row[w] for w in dict.fromkeys(told) if w not in STOP])
        for context, told in sections.items()
    }
    units = []
    for i, (piece, kind, context) in enumerate(pieces):
        label, columns = row_of(piece, kind)
        stems, concepts, rows = headed[context]
        units.append(
            Unit(
                piece,
                kind,
                context,
                i,
                frozenset(content(texts[i])),
                about[context][0],
                concepts_of(texts[i]),
                about[context][1],
                vectors[i],
                vectors[len(texts) + i],
                table[[row[w] for w in list(dict.fromkeys(joint[i]))[:160]]],
                frozenset(stem(w) for w in words_of(label)),
                columns,
                (title, *(name for name, _ in columns)) if columns else (),
                stems,
                concepts,
                heading[context],
                table[rows],
                places_of(label or piece, words_of(label) if label else texts[i]),
                (*spans_of(piece), *measures_of(piece)),
            )
        )
    return tuple(units)


def section_of(context: str) -> str:
    """The last heading of a context, or its title."""
    return re.split(r" (?:>|›|»|/) ", context)[-1]


def row_of(text: str, kind: Kind) -> tuple[str, tuple[tuple[str, str], ...]]:
    """(label, columns) of a table row, written "Austria – Cost: €5" or "Country: Austria; Cost: €5"; else empty."""
    if kind == "row":
        label, _, rest = text.partition(" – ")
        cells = rest.split(", ")
    elif found := _WRITTEN_ROW.match(text):
        label, cells = found[1], text.rstrip(".").split("; ")[1:]
    else:
        return "", ()
    pairs = [cell.partition(": ") for cell in cells]
    return label, tuple((name, value) for name, colon, value in pairs if colon)


def _pieces(title: str, text: str) -> list[tuple[str, Kind, str]]:
    """(text, kind, context) of every quotable piece."""
    blocks: list[tuple[str, Kind, str]] = []
    lines = text.replace("\r", "").split("\n")
    heading, lead, i = title, "", 0
    while i < len(lines):
        line = lines[i].strip()
        found = _HEADING.match(line)
        if found:
            heading, lead, i = f"{title} > {found[1]}", "", i + 1
        elif not line:
            i += 1
        elif line.startswith("|"):
            end = _run(lines, i, lambda s: s.strip().startswith("|"))
            blocks += _rows(lines[i:end], f"{heading} {lead}".strip())
            i = end
        elif _BULLET.match(line):
            end = _run(lines, i, lambda s: bool(_BULLET.match(s)) or (s.startswith("  ") and bool(s.strip())))
            blocks += _items(lines[i:end], heading, lead)
            i = end
        else:
            end = _run(
                lines, i, lambda s: bool(s.strip()) and not s.strip().startswith(("|", "#")) and not _BULLET.match(s)
            )
            paragraph = split_sentences(_plain(" ".join(part.strip() for part in lines[i:end])))
            lead = _sentences(paragraph, heading, blocks)
            i = end
    return blocks


def _run(lines: list[str], start: int, belongs: object) -> int:
    end = start
    while end < len(lines) and belongs(lines[end]):  # type: ignore[operator]
        end += 1
    return max(end, start + 1)


def _sentences(paragraph: list[str], heading: str, blocks: list[tuple[str, Kind, str]]) -> str:
    """Add the sentences of a paragraph; a question among them is the heading of the rest. Gives the list lead."""
    asked = ""
    for sentence in paragraph:
        if sentence.endswith("?"):
            asked = sentence
        else:
            blocks.append((sentence, "sentence", f"{heading} {asked}".strip()))
    last = paragraph[-1] if paragraph else ""
    return last if last.endswith((":", "?")) else ""


def _items(lines: list[str], heading: str, lead: str) -> list[tuple[str, Kind, str]]:
    items: list[str] = []
    for line in lines:
        if _BULLET.match(line):
            items.append(_plain(line.strip()))
        elif items:
            items[-1] += " " + _plain(line.strip())
    context = f"{heading} {lead}".strip()
    pieces: list[tuple[str, Kind, str]] = [(_BULLET.sub("", item), "item", context) for item in items]
    whole = "\n".join([lead, *items] if lead else items)
    if len(items) > 1 and len(whole) <= LONGEST_LIST:
        pieces.append((whole, "list", heading))
    return pieces


def _rows(lines: list[str], context: str) -> list[tuple[str, Kind, str]]:
    cells = [
        [_plain(c.strip()) for c in line.strip().strip("|").split("|")] for line in lines if not _RULE_ROW.match(line)
    ]
    if len(cells) < 2:
        return [(", ".join(c for c in row if c), "row", context) for row in cells]
    header = cells[0]
    rows: list[tuple[str, Kind, str]] = []
    for row in cells[1:]:
        named = [f"{name}: {cell}" if name else cell for name, cell in zip(header[1:], row[1:], strict=False) if cell]
        rows.append((f"{row[0]} – {', '.join(named)}" if named else row[0], "row", f"{context} {' '.join(header)}"))
    return rows


def _plain(text: str) -> str:
    """Markdown and HTML marks dropped, the words kept."""
    return re.sub(r"\s+", " ", _MARKUP.sub("", _LINK.sub(r"\1", text))).strip()


def is_lead(unit: Unit) -> bool:
    """Whether a unit only announces a list."""
    return unit.kind == "sentence" and unit.text.endswith(":")
