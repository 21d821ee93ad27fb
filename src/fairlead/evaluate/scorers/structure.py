"""Scorers of answers with a form: JSON by a schema, numbers within a tolerance, tool calls."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterable
from typing import Any, Literal

import jsonschema_rs
import msgspec

from fairlead.errors import ScorerInvalid
from fairlead.evaluate.scorers import Answer, Call
from fairlead.records import Sample

_FENCE = re.compile(r"\A\s*```(?:json)?[ \t]*\n(.*?)\n?[ \t]*```\s*\Z", re.DOTALL)
_NUMBER = re.compile(r"-?\d++(?:[.,'\u00a0\u202f]\d++)*+")
_MANY = 10_000


def json_schema(sample: Sample, answer: Answer, *, schema: dict[str, Any] | None = None) -> bool | None:
    """Whether the answer is JSON that its schema allows: ``schema``, or the sample's field of that name.

    A Markdown fence around the JSON is allowed. Nothing is fetched, and patterns are linear in the text. Raises
    ScorerInvalid for a schema that is none.
    """
    wanted = schema if schema is not None else sample.fields.get("schema")
    if not isinstance(wanted, dict):
        return None
    fenced = _FENCE.match(answer.text)
    try:
        value = msgspec.json.decode(fenced[1] if fenced else answer.text)
    except (msgspec.DecodeError, RecursionError):
        return False
    return bool(_validator(msgspec.json.encode(wanted, order="deterministic")).is_valid(value))


@functools.lru_cache(maxsize=256)
def _validator(schema: bytes) -> Any:
    try:
        return jsonschema_rs.validator_for(
            msgspec.json.decode(schema), offline=True, pattern_options=jsonschema_rs.RegexOptions()
        )
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ScorerInvalid(name="json_schema", detail=f"the schema cannot be used: {reason}") from error


def numeric(
    sample: Sample,
    answer: Answer,
    *,
    absolute: float = 0.0,
    relative: float = 1e-9,
    which: Literal["only", "last", "any"] = "only",
) -> bool | None:
    """Whether the answer's number is the reference's, within either tolerance.

    ``which``: the answer has one number only, its last one counts, or any of them will do. A number that can be read
    in two ways (1.000) may mean either.
    """
    wanted = _reference(sample.reference)
    if wanted is None:
        return None
    found = [_readings(text) for text in _NUMBER.findall(answer.text)[:_MANY]]
    if not found or (which == "only" and len(found) > 1):
        return False
    chosen = found if which == "any" else found[-1:]
    allowed = max(absolute, relative * abs(wanted))
    return any(abs(value - wanted) <= allowed for readings in chosen for value in readings)


def _reference(reference: Any) -> float | None:
    if isinstance(reference, bool) or reference is None:
        return None
    try:
        value = float(reference)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def _readings(text: str) -> set[float]:
    """What digits with separators can mean: the last separator is a decimal point, or all separate thousands."""
    negative, text = text.startswith("-"), text.lstrip("-")
    groups = re.split(r"[^\d]", text)
    readings = set()
    if len(groups) == 1 or (all(len(group) == 3 for group in groups[1:]) and len(groups[0]) <= 3):
        readings.add(float("".join(groups)))
    marks = re.sub(r"\d", "", text)
    if len(groups) > 1 and marks[-1] in ".," and marks[-1] not in marks[:-1]:
        readings.add(float("".join(groups[:-1]) + "." + groups[-1]))
    return {-value for value in readings} if negative else readings


def tool_calls(sample: Sample, answer: Answer) -> bool | None:
    """Whether exactly the expected tools were called with the expected arguments, in any order.

    Expected is the reference, or the sample's field ``calls``: a call or a list of {name, arguments}; an empty list
    says that none may be called. Arguments that are null count as left out; texts are compared without case and outer
    spaces, numbers by value.
    """
    wanted = _expected(sample)
    if wanted is None:
        return None
    return _multiset(wanted) == _multiset(answer.calls)


def tool_names(sample: Sample, answer: Answer) -> bool | None:
    """Whether exactly the expected tools were called, whatever their arguments."""
    wanted = _expected(sample)
    if wanted is None:
        return None
    return sorted(call.name for call in wanted) == sorted(call.name for call in answer.calls)


def _expected(sample: Sample) -> list[Call] | None:
    given = sample.fields.get("calls", sample.reference)
    if isinstance(given, dict):
        given = [given]
    if not isinstance(given, list):
        return None
    try:
        return [msgspec.convert(each, Call) for each in given]
    except msgspec.ValidationError:
        return None


def _multiset(calls: Iterable[Call]) -> list[bytes]:
    return sorted(
        msgspec.json.encode([call.name, _canonical(call.arguments)], order="deterministic") for call in calls
    )  # fmt: skip


def _canonical(value: Any) -> Any:
    if isinstance(value, str):
        return value.strip().casefold()
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {key: _canonical(item) for key, item in value.items() if item is not None}
    if isinstance(value, list | tuple):
        return [_canonical(item) for item in value]
    return value
