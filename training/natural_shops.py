"""The hand-written shops under `natural/` as reading material: sections of their pages, questions, what answers them.

Only shops whose `split` is `train` may train weights; the others are for evaluation. Knows no documents and no tokens.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).with_name("natural")
_MARKUP = re.compile(r"\*\*|__|`|\\")
_BULLET = re.compile(r"^\s*(?:[-*+]|\d{1,2}[.)])\s+")


@dataclass(frozen=True)
class Asked:
    """A question. `unit` is the plain text of the line that answers it and `section` the number of its section; both
    are empty (-1) when the pages do not answer. `right` are the texts an answer must hold, `a|b` for either."""

    question: str
    unit: str
    section: int
    right: tuple[str, ...]


@dataclass(frozen=True)
class Shop:
    name: str
    split: str
    sections: tuple[str, ...]
    asked: tuple[Asked, ...]


def plain(line: str, header: Sequence[str] = ()) -> str:
    """A line of Markdown as it reads: no marks; a table row with the names of its columns."""
    if line.lstrip().startswith("|"):
        cells = [_MARKUP.sub("", cell).strip() for cell in line.strip().strip("|").split("|")]
        names = [*header[1 : len(cells)], *[""] * (len(cells) - 1 - len(header[1:]))]
        rest = (f"{name}: {cell}" if name else cell for name, cell in zip(names, cells[1:], strict=True) if cell)
        return f"{cells[0]} – {', '.join(rest)}"
    return _MARKUP.sub("", _BULLET.sub("", line)).strip()


def read_sections(page: str) -> tuple[list[str], dict[str, tuple[int, str]]]:
    """Texts of the sections of a page, and for each of its lines where it stands and how it reads."""
    body = re.sub(r"\A---\n.*?\n---\n", "", page, flags=re.DOTALL)
    sections: list[str] = []
    lines: dict[str, tuple[int, str]] = {}
    for part in re.split(r"^#+ .*$", body, flags=re.MULTILINE):
        header: list[str] = []
        kept: list[str] = []
        for line in part.splitlines():
            if re.fullmatch(r"\s*\|?[\s:|-]+\|?\s*", line):
                continue
            if line.startswith("|") and not header:
                header = [_MARKUP.sub("", cell).strip() for cell in line.strip().strip("|").split("|")]
                continue
            header = header if line.startswith("|") else []
            text = plain(line, header)
            lines[line] = (len(sections), text)
            kept += [text] if text else []
        if kept:
            sections.append(" ".join(kept))
    return sections, lines


def _find(unit: str, sections: Sequence[str], lines: dict[str, tuple[int, str]]) -> tuple[int, str]:
    """Section and plain text of a unit; (-1, "") when the page does not hold it as it is written there."""
    if unit in lines:
        return lines[unit]
    text = plain(unit)
    return next(((number, text) for number, section in enumerate(sections) if text in section), (-1, ""))


def read_shop(path: Path) -> Shop:
    """The shop of one `.json` file and the page beside it. Follow-ups are left out: they need the turn before."""
    record = json.loads(path.read_text(encoding="utf-8"))
    sections, lines = read_sections(path.with_suffix(".md").read_text(encoding="utf-8"))
    asked: list[Asked] = []
    for entry in record["questions"]:
        if entry.get("earlier"):
            continue
        right, unit = tuple(entry["right"]), entry.get("unit", "")
        if not right:
            asked.append(Asked(entry["q"], "", -1, ()))
        elif isinstance(unit, str) and unit:
            place, text = _find(unit, sections, lines)
            if place >= 0:
                asked.append(Asked(entry["q"], text, place, right))
    return Shop(path.stem, record["split"], tuple(sections), tuple(asked))


def read_shops(split: str, folder: Path = FOLDER) -> list[Shop]:
    """All shops of a split, in the order of their names."""
    shops = (read_shop(path) for path in sorted(folder.glob("*.json")) if path.with_suffix(".md").exists())
    return [shop for shop in shops if shop.split == split]
