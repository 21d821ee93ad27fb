"""Schemas: whether a text is JSON that fits a JSON Schema, and what is wrong with it in words a model understands.

A schema comes from whoever sends the request and is not trusted: it can fetch nothing, and a pattern in it cannot run
for long. Pure; knows no model.
"""

from __future__ import annotations

import functools
import re
from typing import Any

import jsonschema_rs
import orjson

from fairlead.errors import RequestInvalid

MOST_ERRORS = 5
LONGEST_ERROR = 200
_FENCED = re.compile(r"\s*```(?:json)?\s*\n(.*?)\n?\s*```\s*", re.DOTALL)
_BACKTRACKS = 10_000


class Unfit(ValueError):
    """A text does not fit; the message says why."""


class Schema:
    """One compiled schema."""

    def __init__(self, validator: Any) -> None:
        self._validator = validator

    def fit(self, text: str) -> str:
        """``text`` itself if it fits, or the JSON inside its fence. Raises Unfit."""
        fenced = _FENCED.fullmatch(text)
        text = fenced[1] if fenced else text
        try:
            value = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            raise Unfit(f"it is not JSON: {error.msg} at character {error.pos + 1}") from error
        problems = []
        for wrong in self._validator.iter_errors(value):
            where = "/".join(map(str, wrong.instance_path)) or "the whole"
            problems.append(f"{where}: {wrong.message}"[:LONGEST_ERROR])
            if len(problems) == MOST_ERRORS:
                break
        if problems:
            raise Unfit("; ".join(problems))
        return text


def schema_of(schema: Any, param: str) -> Schema:
    """``schema``, compiled; the last few hundred are kept. Raises RequestInvalid, naming ``param``, for none."""
    try:
        return _compiled(orjson.dumps(schema, option=orjson.OPT_SORT_KEYS))
    except (ValueError, jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError) as error:
        reason = str(error).splitlines()[0][:LONGEST_ERROR]
        raise RequestInvalid(problem=f"{param} is no usable JSON Schema: {reason}", param=param) from error


@functools.lru_cache(maxsize=256)
def _compiled(raw: bytes) -> Schema:
    validator = jsonschema_rs.validator_for(
        orjson.loads(raw),
        retriever=_refuse,
        pattern_options=jsonschema_rs.FancyRegexOptions(backtrack_limit=_BACKTRACKS),
    )
    return Schema(validator)


def _refuse(uri: str) -> Any:
    raise ValueError(f"it refers to {uri[:100]}, and nothing is fetched")
