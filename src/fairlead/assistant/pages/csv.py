"""CSV to blocks: a table whose first line names the columns, or a list of questions with their answers."""

from __future__ import annotations

import csv
import io

from fairlead.assistant.pages.blocks import Block, Heading, Page, PageInvalid, Table, Text, clean

QUESTION, ANSWER = ("question", "q", "frage", "title"), ("answer", "a", "antwort", "text")
MAX_ROWS = 20_000


def read(text: str) -> Page:
    """One page. Raises PageInvalid for a file without columns or with too many rows."""
    heads, *body = _rows(text)
    names = [head.lower() for head in heads]
    asked, told = _place(names, QUESTION), _place(names, ANSWER)
    if asked is None or told is None:
        return Page(blocks=(Table(tuple(heads), tuple(tuple(row) for row in body)),))
    blocks: list[Block] = []
    for row in body:
        if max(asked, told) < len(row) and row[asked] and row[told]:
            blocks += [Heading(2, row[asked]), Text(row[told])]
    return Page(blocks=tuple(blocks))


def _rows(text: str) -> list[list[str]]:
    """The names of the columns, and every row that holds something. Raises PageInvalid."""
    try:
        dialect: type[csv.Dialect] | csv.Dialect = csv.Sniffer().sniff(text[:20_000], delimiters=",;\t|")
    except csv.Error:
        dialect = csv.excel
    try:
        rows = [[clean(cell) for cell in row] for row in csv.reader(io.StringIO(text), dialect, strict=True)]
    except csv.Error as error:
        raise PageInvalid(
            f"is not CSV ({error}). Close every quote, double quotes within a cell, and keep a cell below "
            f"{csv.field_size_limit():,} characters."
        ) from error
    rows = [row for row in rows if any(row)]
    if len(rows) < 2:
        raise PageInvalid("needs a first line that names the columns and at least one row below it.")
    if len(rows) > MAX_ROWS:
        raise PageInvalid(f"has {len(rows):,} rows; a page may have {MAX_ROWS:,}. Split it.")
    return rows


def _place(names: list[str], wanted: tuple[str, ...]) -> int | None:
    return next((names.index(name) for name in wanted if name in names), None)
