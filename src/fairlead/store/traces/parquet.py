"""DuckDB, in memory, over files: journals to Parquet, and questions to Parquet. Imported only when needed.

Values and paths always travel as parameters, never inside the text of a statement. Knows no manifest and no journal
format beyond "JSON lines".
"""

# ruff: noqa: S608 - statements are built from the constants of this module only
from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import msgspec

from fairlead.errors import StoreError, TracesUnconvertible, TracesUnreadable
from fairlead.records import Inference
from fairlead.store.traces.index import Filter

TYPES = {
    "id": "VARCHAR",
    "time": "BIGINT",
    "tenant": "VARCHAR",
    "subject": "VARCHAR",
    "usecase": "VARCHAR",
    "spec_hash": "VARCHAR",
    "release": "VARCHAR",
    "conversation": "VARCHAR",
    "parent": "VARCHAR",
    "request": "VARCHAR",
    "key": "VARCHAR",
    "operation": "VARCHAR",
    "variant": "VARCHAR",
    "provider": "VARCHAR",
    "model": "VARCHAR",
    "stream": "BOOLEAN",
    "status": "BIGINT",
    "error": "VARCHAR",
    "finish": "VARCHAR",
    "input_tokens": "BIGINT",
    "output_tokens": "BIGINT",
    "cached_tokens": "BIGINT",
    "cost": "BIGINT",
    "first_token_us": "BIGINT",
    "total_us": "BIGINT",
    "steps": "JSON",
    "input": "VARCHAR",
    "output": "VARCHAR",
    "tags": "JSON",
}
"""Column of a segment to its type. The names are the fields of Inference (a test proves it)."""

ROW_GROUP = 20_480
LEVEL = 1
"""Of zstd, for 1.9 kB rows: 14 µs of CPU and 574 bytes a row; 2 gives 16 and 511, 3 (the default) 18 and 488."""

_NAMES = ", ".join(f'"{name}"' for name in TYPES)
_SCHEMA = ", ".join(f"'{name}': '{kind}'" for name, kind in TYPES.items())
_JSON = ("steps", "tags")


class Duck:
    """An in-memory DuckDB. Thread-safe: every statement has its own cursor.

    With ``spill``, a directory of its own, what does not fit in ``memory`` goes there; without, it is an error.
    Methods raise TracesUnreadable when files cannot be read, StoreError when they cannot be written.
    """

    def __init__(self, *, memory: str, threads: int, spill: Path | None = None) -> None:
        self._settings: dict[str, str | bool | int | float | list[str]] = {
            "threads": threads,
            "memory_limit": memory,
            "temp_directory": "" if spill is None else str(spill),
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
        }
        self._lock = threading.Lock()
        self._root: duckdb.DuckDBPyConnection | None = None

    @contextlib.contextmanager
    def cursor(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection to the shared database."""
        with self._lock:
            if self._root is None:
                self._root = duckdb.connect(":memory:", config=self._settings)
                self._end = weakref.finalize(self, self._root.close)
            cursor = self._root.cursor()
        try:
            with cursor:
                yield cursor
        except (duckdb.FatalException, duckdb.InternalException) as error:
            self.close()  # it refuses everything from now on; the next statement gets a new one
            raise TracesUnreadable(detail=str(error)) from error
        except duckdb.Error as error:
            raise TracesUnreadable(detail=str(error)) from error

    def close(self) -> None:
        """Free its memory."""
        with self._lock:
            if self._root is not None:
                self._end()
                self._root = None

    def roll(self, journals: Sequence[Path], target: Path, *, longest: int, origin: str) -> None:
        """JSON lines to one Parquet file sorted by time. ``longest`` is the size of the longest line in bytes.

        Raises TracesUnconvertible when a line has a member of another type, StoreError when the disk takes no more.
        """
        statement = (
            f"COPY (SELECT {_NAMES} FROM read_json($1, columns={{{_SCHEMA}}}, format='newline_delimited', "
            f"maximum_object_size={max(1 << 20, 2 * int(longest))}) ORDER BY time) TO $2 {_options(origin)}"
        )
        try:
            with self.cursor() as cursor:
                cursor.execute(statement, [[str(path) for path in journals], str(target)])
        except TracesUnreadable as error:
            if isinstance(error.__cause__, duckdb.IOException | duckdb.OutOfMemoryException):
                raise StoreError(detail=f"Traces cannot be rolled: {error.__cause__}") from error
            raise TracesUnconvertible(**error.details) from error

    def merge(
        self, sources: Sequence[Path], target: Path, *, origin: str, bounds: tuple[int, int] | None = None
    ) -> None:
        """Parquet files to one, sorted by time; with ``bounds`` only rows with ``bounds[0] <= time < bounds[1]``."""
        bound = "WHERE time >= $3 AND time < $4" if bounds else ""
        with self.cursor() as cursor:
            cursor.execute(
                f"COPY (SELECT {_NAMES} FROM {_relation('$1', old=True)} {bound} ORDER BY time) "
                f"TO $2 {_options(origin)}",
                [[str(path) for path in sources], str(target), *(bounds or ())],
            )

    def bounds(self, path: Path) -> tuple[int, int, int, str, str]:
        """Rows, first and last time, smallest and greatest id of a segment."""
        with self.cursor() as cursor:
            row = cursor.execute(
                "SELECT count(*), min(time), max(time), min(id), max(id) FROM read_parquet($1)", [[str(path)]]
            ).fetchone()
        count, first, last, low, high = row or (0, None, None, None, None)
        return int(count), int(first or 0), int(last or 0), str(low or ""), str(high or "")

    def origin(self, path: Path) -> str:
        """What ``origin`` the segment was written with; empty when none."""
        with self.cursor() as cursor:
            row = cursor.execute(
                "SELECT value FROM parquet_kv_metadata($1) WHERE key = 'fairlead'::BLOB", [str(path)]
            ).fetchone()
        return bytes(row[0]).decode() if row else ""

    def days(self, path: Path, day_us: int) -> list[int]:
        """The days, counted from the epoch, that a segment has rows of."""
        with self.cursor() as cursor:
            rows = cursor.execute(
                f"SELECT DISTINCT {_floor('$2')} // $2 FROM read_parquet($1) ORDER BY 1", [[str(path)], day_us]
            ).fetchall()
        return [int(row[0]) for row in rows]

    def select(self, paths: Sequence[Path], wanted: Filter, limit: int, *, old: bool) -> list[Inference]:
        """The first ``limit`` matching records of some segments. ``old`` when one may lack a column."""
        where, values = _conditions(wanted)
        order = "DESC" if wanted.descending else "ASC"
        statement = (
            f"SELECT {_NAMES} FROM {_relation('$files', old=old)} WHERE {where} "
            f"ORDER BY time {order}, id {order} LIMIT $limit"
        )
        return self._records(statement, {"files": [str(path) for path in paths], "limit": limit, **values})

    def find(self, paths: Sequence[Path], identifier: str, *, old: bool) -> Inference | None:
        """The record with an id."""
        statement = f"SELECT {_NAMES} FROM {_relation('$files', old=old)} WHERE id = $id LIMIT 1"
        found = self._records(statement, {"files": [str(path) for path in paths], "id": identifier})
        return found[0] if found else None

    def summarise(
        self, paths: Sequence[Path], columns: Mapping[str, Any], wanted: Filter, bucket_us: int, *, old: bool
    ) -> list[dict[str, Any]]:
        """Figures per bucket of time over segments and over ``columns`` (arrays of the journals' figures)."""
        where, values = _conditions(wanted)
        figures = "time, status, total_us, first_token_us, input_tokens, output_tokens, cost"
        parts = []
        if columns:
            parts.append(f"SELECT {figures} FROM journals")
        if paths:
            values["files"] = [str(path) for path in paths]
            parts.append(f"SELECT {figures} FROM {_relation('$files', old=old)} WHERE {where}")
        elif columns:
            values = {}
        if not parts:
            return []
        statement = (
            f"SELECT {_floor('$bucket')} AS time, count(*) AS count, "
            "count(*) FILTER (status >= 400) AS errors, "
            "quantile_cont(total_us, 0.5) AS p50_total_us, quantile_cont(total_us, 0.95) AS p95_total_us, "
            "quantile_cont(first_token_us, 0.5) AS p50_first_token_us, "
            "quantile_cont(first_token_us, 0.95) AS p95_first_token_us, "
            "sum(input_tokens)::BIGINT AS input_tokens, sum(output_tokens)::BIGINT AS output_tokens, "
            "sum(cost)::BIGINT AS cost, count(*) - count(cost) AS without_cost "
            f"FROM ({' UNION ALL '.join(parts)}) GROUP BY 1 ORDER BY 1"
        )
        with self.cursor() as cursor:
            if columns:
                cursor.register("journals_raw", dict(columns))
                cursor.execute(_JOURNALS)
            rows = cursor.execute(statement, {"bucket": bucket_us, **values})
            names = [column[0] for column in rows.description or ()]
            return [dict(zip(names, row, strict=True)) for row in rows.fetchall()]

    def _records(self, statement: str, values: dict[str, Any]) -> list[Inference]:
        with self.cursor() as cursor:
            rows = cursor.execute(statement, values).fetchall()
        return [_record(row) for row in rows]


_JOURNALS = """CREATE TEMP VIEW journals AS SELECT time, status, total_us,
    nullif(first_token_us, -(1::BIGINT << 62)) AS first_token_us, input_tokens, output_tokens,
    nullif(cost, -(1::BIGINT << 62)) AS cost FROM journals_raw"""


def _floor(size: str) -> str:
    # DuckDB divides towards zero; times before 1970 must not fall into the bucket of those after.
    return f"(time - (time % {size} + {size}) % {size})"


def _options(origin: str) -> str:
    # KV_METADATA takes no parameter; the origin is our own JSON of ids, and is checked to be nothing else.
    if not set(origin) <= _ORIGIN:
        raise ValueError(origin)
    compression = f"COMPRESSION zstd, COMPRESSION_LEVEL {LEVEL}, ROW_GROUP_SIZE {ROW_GROUP}"
    return f"(FORMAT parquet, {compression}, KV_METADATA {{fairlead: '{origin}'}})"


_ORIGIN = frozenset('0123456789abcdefghijklmnopqrstuvwxyz-_{}[]",: ')


def _relation(files: str, *, old: bool = False) -> str:
    """Segments as a relation with every column, also those that older segments lack."""
    if not old:
        return f"read_parquet({files})"
    empty = ", ".join(f'NULL::{kind} AS "{name}"' for name, kind in TYPES.items())
    return f"(SELECT {empty} WHERE false UNION ALL BY NAME SELECT * FROM read_parquet({files}, union_by_name=true))"


def _conditions(wanted: Filter) -> tuple[str, dict[str, Any]]:
    """The WHERE clause of a filter and its parameters. Column names are our own, values never enter the text."""
    parts = ["time >= $since", "time < $until"]
    values: dict[str, Any] = {"since": wanted.since, "until": wanted.until}
    for name, value in wanted.equal().items():
        parts.append(f'"{name}" = ${name}')
        values[name] = value
    if wanted.cursor is not None:
        sign = "<" if wanted.descending else ">"
        parts.append(f"(time {sign} $edge OR (time = $edge AND id {sign} $edge_id))")
        values["edge"], values["edge_id"] = wanted.cursor
    return " AND ".join(parts), values


def _record(row: Iterable[Any]) -> Inference:
    values = {
        name: msgspec.json.decode(value) if name in _JSON else value
        for name, value in zip(TYPES, row, strict=True)
        if value is not None
    }
    return msgspec.convert(values, Inference)
