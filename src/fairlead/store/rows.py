"""Records to rows and back, the same way for every table. Knows no table."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec
from sqlalchemy import Row, RowMapping

T = TypeVar("T", bound=msgspec.Struct)


def row_of(record: msgspec.Struct) -> dict[str, Any]:
    """Column name to value. Half surrogate pairs, which no file can hold, become question marks."""
    return {name: clean(getattr(record, name)) for name in record.__struct_fields__}


def record_of(kind: type[T], row: Row[Any] | RowMapping | dict[str, Any]) -> T:
    """The record in a row that has at least its columns."""
    mapping = row._mapping if isinstance(row, Row) else row  # noqa: SLF001 - SQLAlchemy's public name for it
    return msgspec.convert({name: mapping[name] for name in kind.__struct_fields__}, kind)


def clean(value: Any) -> Any:
    """The value with every text in it encodable as UTF-8."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return value.encode("utf-8", "replace").decode()
        return value
    if isinstance(value, dict):
        return {clean(key): clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(clean(item) for item in value)
    return value


def like(text: str) -> str:
    r"""A LIKE pattern (escape character ``\``) that finds ``text`` anywhere, taken literally."""
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"
