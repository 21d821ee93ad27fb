"""PDF to blocks: its lines joined to paragraphs, larger or bold short lines taken as headings.

A PDF holds places of letters, not structure, so this guesses: tables come as lines, and columns in the order in which
they were written. Lines that stand on most pages (headers, footers, page numbers) are left out. Nothing in it is run.
"""

from __future__ import annotations

import io
import logging
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

import msgspec
from pypdf import PdfReader
from pypdf.errors import PyPdfError

from fairlead.assistant.pages.blocks import Block, Heading, Item, Mark, Page, PageInvalid, Text, clean

MAX_PAGES = 1_000
LARGER = 1.12
"""From which share of the commonest letter size a line may be a heading."""
_BULLET = re.compile(r"^[•◦▪●‣·–*-]\s+|^\(?\d{1,2}[.)]\s+")
_DIGITS = re.compile(r"\d+")

logging.getLogger("pypdf").setLevel(logging.ERROR)  # it warns of every oddity it gets along with


class Line(msgspec.Struct):
    """One line of a page with its letters' size in points, rounded to halves, and whether they are bold."""

    text: str
    size: float
    bold: bool


def read(data: bytes) -> Page:
    """One page, however many sheets it has. Raises PageInvalid for what is damaged, locked, or only pictures."""
    try:
        reader = PdfReader(io.BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):  # many are locked against changes only and open for all
            raise PageInvalid("is locked with a password. Save it without one.")
        if len(reader.pages) > MAX_PAGES:
            raise PageInvalid(f"has {len(reader.pages):,} sheets; {MAX_PAGES:,} are possible. Split it.")
        sheets = [_lines(sheet) for sheet in reader.pages]
        meta = reader.metadata
        title = clean((meta.title if meta is not None else "") or "")
        changed = meta.modification_date if meta is not None else None
    except PageInvalid:
        raise
    except (PyPdfError, ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError, OSError) as error:
        # The library raises what it stumbles over; a damaged file is the file's fault, not the program's.
        said = str(error)[:100] or type(error).__name__
        raise PageInvalid(f"cannot be read as a PDF ({said}). Save or print it as a PDF anew.") from error
    sheets = _without_running_lines(sheets)
    if not any(sheets):
        raise PageInvalid("holds no text, perhaps only scanned pictures. Run a text recognition on it first.")
    blocks = tuple(_blocks(sheets))
    first = next((block.text for block in blocks if isinstance(block, Heading)), "")
    return Page(title=title or first, updated=changed.date().isoformat() if changed is not None else "", blocks=blocks)


def _lines(sheet: Any) -> list[Line]:
    """The lines of a sheet. Letters come in runs, each with its font; a line has the size of most of its letters."""
    lines: list[Line] = []
    runs: list[tuple[str, float, bool]] = []

    def end_line() -> None:
        text = clean("".join(part for part, _, _ in runs))
        if text:
            letters: Counter[tuple[float, bool]] = Counter()
            for part, size, bold in runs:
                letters[size, bold] += len(part.strip())
            (size, bold), _ = letters.most_common(1)[0]
            lines.append(Line(text, size, bold))
        elif lines and lines[-1].text:
            lines.append(Line("", 0.0, bold=False))
        runs.clear()

    def visit(text: str, _: Any, matrix: Any, font: Any, size: Any) -> None:
        scale = abs(float(matrix[3])) or abs(float(matrix[1])) or 1.0
        name = str((font or {}).get("/BaseFont", "")).lower()
        bold = any(word in name for word in ("bold", "black", "heavy"))
        for number, part in enumerate(text.split("\n")):
            if number:
                end_line()
            if part:
                runs.append((part, round(float(size or 0) * scale * 2) / 2, bold))

    sheet.extract_text(visitor_text=visit)
    end_line()
    return lines


def _without_running_lines(sheets: list[list[Line]]) -> list[list[Line]]:
    """Sheets without the lines that stand on most of them, numbers aside; only where there are three or more."""
    if len(sheets) < 3:
        return sheets
    seen = Counter(key for sheet in sheets for key in {_DIGITS.sub("0", line.text) for line in sheet if line.text})
    often = {key for key, count in seen.items() if count > len(sheets) / 2}
    return [[line for line in sheet if _DIGITS.sub("0", line.text) not in often] for sheet in sheets]


def _blocks(sheets: list[list[Line]]) -> Iterator[Block]:
    letters: Counter[float] = Counter()
    for sheet in sheets:
        for line in sheet:
            letters[line.size] += len(line.text)
    usual = letters.most_common(1)[0][0]
    sizes = sorted({line.size for sheet in sheets for line in sheet if line.size > usual * LARGER}, reverse=True)
    paragraph: list[str] = []
    for number, sheet in enumerate(sheets, 1):
        yield from _end(paragraph)
        yield Mark(f"page={number}")
        for line in sheet:
            level = _level(line, usual, sizes)
            if level or not line.text:
                yield from _end(paragraph)
                if level:
                    yield Heading(level, line.text)
                continue
            if _BULLET.match(line.text):
                yield from _end(paragraph)
            paragraph.append(line.text)
    yield from _end(paragraph)


def _level(line: Line, usual: float, sizes: list[float]) -> int:
    """The level of a heading, 0 for text: larger letters, or a short bold line that ends like no sentence."""
    short = 0 < len(line.text) <= 100 and not line.text.endswith((".", ",", ";", ":"))
    if short and line.size in sizes:
        return min(6, sizes.index(line.size) + 1)
    return min(6, len(sizes) + 1) if short and line.bold and line.size >= usual and len(line.text) <= 60 else 0


def _end(paragraph: list[str]) -> Iterator[Block]:
    """The lines so far as one block; a word cut at a line's end is joined."""
    text = ""
    for line in paragraph:
        joins = text.endswith("-") and line[:1].islower() and len(text) > 1 and text[-2].isalpha()
        text = text[:-1] + line if joins else f"{text} {line}".strip()
    paragraph.clear()
    bullet = _BULLET.match(text)
    if bullet is not None and not bullet[0].strip()[:-1].strip("(").isdigit():
        yield Item(text[bullet.end() :])
    elif text:
        yield Text(text)
