"""Rows of Parquet files that came from outside, through DuckDB. Knows nothing of what the rows mean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from fairlead.errors import TableUnreadable

BATCH = 1_000


def parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Each row as column name to value, in the order of the file. Raises TableUnreadable."""
    import duckdb  # 60 ms, and only needed for these files

    try:
        with duckdb.connect(":memory:", config=_SETTINGS) as connection:
            result = connection.execute("SELECT * FROM read_parquet($1)", [str(path)])
            names: Sequence[str] = [column[0] for column in result.description]
            while batch := result.fetchmany(BATCH):
                for row in batch:
                    yield dict(zip(names, row, strict=True))
    except duckdb.Error as error:
        raise TableUnreadable(path=path, detail=str(error).splitlines()[0]) from error


def parquet_note(path: Path, name: str) -> str:
    """The text that the file's writer left under ``name``; empty when there is none. Raises TableUnreadable."""
    import duckdb

    try:
        with duckdb.connect(":memory:", config=_SETTINGS) as connection:
            query = "SELECT value FROM parquet_kv_metadata($1) WHERE key = $2"
            row = connection.execute(query, [str(path), name.encode()]).fetchone()
    except duckdb.Error as error:
        raise TableUnreadable(path=path, detail=str(error).splitlines()[0]) from error
    return "" if row is None else bytes(row[0]).decode("utf-8", "replace")


_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "threads": 1,
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}
