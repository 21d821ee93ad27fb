"""Counts the rows of a data set, a JSON object per line, and finds the lines that are none.

What a row means to a scorer is not known here; only its ``id`` and the tags that filters name are looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from fairlead.spec.problems import Problem

MAX_LINE = 1_048_576
MAX_PROBLEMS = 20
PRESENT = "*"
"""A filter's value that any value satisfies."""


@dataclass
class Scan:
    """``rows`` that can be read; ``matches``: filter name to rows that fit; ``unseen``: tags that no row carries."""

    rows: int = 0
    matches: dict[str, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)


def scan(path: Path, filters: Mapping[str, Mapping[str, str]], *, shown: str) -> Scan:
    """Reads ``path`` line by line. A row fits a filter when it carries each tag with that value, at its top or in
    ``tags``. ``shown`` is the file's name in problems, of which at most 20 are kept. Raises OSError.
    """
    result = Scan(matches=dict.fromkeys(filters, 0))
    seen: dict[str, int] = {}
    with path.open("rb") as file:
        number = 0
        while line := file.readline(MAX_LINE + 1):
            number += 1
            if len(line) > MAX_LINE:
                _report(result, shown, number, f"a line of more than {MAX_LINE:,} bytes", "shorter lines")
                break
            if not line.strip() or (number == 1 and not line.removeprefix(b"\xef\xbb\xbf").strip()):
                continue
            row = _row(line, number, shown, result)
            if row is None:
                continue
            result.rows += 1
            _unique(row, number, seen, shown, result)
            for name, wanted in filters.items():
                result.matches[name] += _fits(row, wanted)
    return result


def _row(line: bytes, number: int, shown: str, result: Scan) -> dict[str, Any] | None:
    expected = 'one JSON object on a line, as in {"id": "q1", "question": "..."}'
    try:
        row = msgspec.json.decode(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        reason = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        _report(result, shown, number, f"a line that is not JSON ({reason[:120]})", expected)
        return None
    if not isinstance(row, dict) or not row:
        _report(result, shown, number, "JSON that is not an object with keys", expected)
        return None
    return row


def _unique(row: dict[str, Any], number: int, seen: dict[str, int], shown: str, result: Scan) -> None:
    identifier = row.get("id")
    if not isinstance(identifier, str):
        return
    if identifier in seen:
        expected = f"an id of its own; line {seen[identifier]} has it"
        _report(result, shown, number, f"the id {identifier[:60]!r} a second time", expected)
    seen.setdefault(identifier, number)


def _fits(row: Mapping[str, Any], wanted: Mapping[str, str]) -> bool:
    tags = row.get("tags")
    carried = {**tags, **row} if isinstance(tags, dict) else row
    return all(tag in carried and (value == PRESENT or str(carried[tag]) == value) for tag, value in wanted.items())


def _report(result: Scan, shown: str, number: int, found: str, expected: str) -> None:
    if len(result.problems) < MAX_PROBLEMS:
        result.problems.append(Problem(file=shown, line=number, column=1, found=found, expected=expected))
