"""Tables as files: CSV that a spreadsheet opens without running anything, and JSON. Knows no row's meaning."""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from starlette.responses import Response, StreamingResponse

MOST_ROWS = 100_000
_TRIGGERS = ("=", "+", "-", "@", "\t", "\r", "\n", "|", "%")


def cell(value: Any) -> str | int | float:
    """A value for CSV. Text that a spreadsheet would take for a formula gets an apostrophe in front (OWASP)."""
    if value is None:
        return ""
    if isinstance(value, bool | int | float):
        return value
    text = str(value)
    return "'" + text if text.lstrip(" ").startswith(_TRIGGERS) else text


def respond(kind: str, name: str, columns: list[str], rows: Iterable[Mapping[str, Any]]) -> Response:
    """The rows as a download, streamed; ``kind`` is ``csv`` or ``json``. At most 100,000 rows."""
    rows = itertools.islice(rows, MOST_ROWS)
    headers = {"content-disposition": f'attachment; filename="{name}.{kind}"', "cache-control": "no-store"}
    if kind == "csv":
        return StreamingResponse(_csv(columns, rows), media_type="text/csv; charset=utf-8", headers=headers)
    return StreamingResponse(_json(columns, rows), media_type="application/json", headers=headers)


def _csv(columns: list[str], rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    writer.writerow(columns)
    for row in rows:
        writer.writerow([cell(row.get(column)) for column in columns])
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue()


def _json(columns: list[str], rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    lead = "[\n"
    for row in rows:
        yield lead + json.dumps({column: row.get(column) for column in columns}, ensure_ascii=False)
        lead = ",\n"
    yield "]\n" if lead == ",\n" else "[]\n"
