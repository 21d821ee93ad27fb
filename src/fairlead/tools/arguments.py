"""Arguments of a call: from a model's JSON text to checked data, for tools whose schema is all that is known.

A server checks its arguments itself; this check lets a model mend its call, and keeps what people are shown before
they say yes to what the schema allows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

MAX_BYTES = 8_000
NOT_UNDERSTOOD = "I did not understand what to look up."
NOT_USABLE = "This is missing or not in a form that I can use: {names}."

_KINDS: dict[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
    "null": lambda value: value is None,
}


class ArgumentsWrong(ValueError):
    """Why a call cannot be made: a sentence for the customer, and a detail by which a model can mend its call."""

    def __init__(self, sentence: str, detail: str) -> None:
        super().__init__(sentence)
        self.sentence, self.detail = sentence, detail


def decode(arguments: str | dict[str, Any]) -> dict[str, Any]:
    """The JSON object a model wrote. Raises ArgumentsWrong."""
    if isinstance(arguments, dict):
        return arguments
    if len(arguments) > MAX_BYTES:
        raise ArgumentsWrong(NOT_UNDERSTOOD, f"longer than {MAX_BYTES} characters")
    try:
        return msgspec.json.decode(arguments or "{}", type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeError) as error:
        raise ArgumentsWrong(NOT_UNDERSTOOD, f"not a JSON object ({error})") from error


def check(arguments: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """``arguments`` if the top level of ``schema`` allows them. Raises ArgumentsWrong."""
    properties = schema.get("properties")
    properties = properties if isinstance(properties, dict) else {}
    required = schema.get("required")
    needed = [name for name in required if isinstance(name, str)] if isinstance(required, list) else []
    wrong = [(name, "is missing") for name in needed if name not in arguments]
    if not schema.get("additionalProperties") and properties:
        wrong += [(name[:60], "is not an argument") for name in arguments if name not in properties]
    for name, part in properties.items():
        if name in arguments and isinstance(part, dict) and (fault := _fault(arguments[name], part)):
            wrong.append((name, fault))
    if wrong:
        known = {name: part.get("description") for name, part in properties.items() if isinstance(part, dict)}
        names = dict.fromkeys(str(known.get(name) or name)[:120] for name, _ in wrong)
        detail = "; ".join(f"{name}: {fault}" for name, fault in wrong)
        raise ArgumentsWrong(NOT_USABLE.format(names="; ".join(names)), detail)
    return arguments


def _fault(value: Any, part: dict[str, Any]) -> str:
    kind = part.get("type")
    kinds = [kind] if isinstance(kind, str) else kind if isinstance(kind, list) else []
    tests = [_KINDS[each] for each in kinds if isinstance(each, str) and each in _KINDS]
    if tests and not any(test(value) for test in tests):
        return f"is not {' or '.join(map(str, kinds))}"
    if isinstance(part.get("enum"), list) and value not in part["enum"]:
        return f"is none of {', '.join(map(str, part['enum'][:20]))}"
    if isinstance(value, str):
        # A pattern is left to the server: one written badly, or in ill will, could keep this process busy for hours.
        longest = part.get("maxLength")
        return f"is longer than {longest} characters" if isinstance(longest, int) and len(value) > longest else ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        low, high = part.get("minimum"), part.get("maximum")
        if (isinstance(low, int | float) and value < low) or (isinstance(high, int | float) and value > high):
            return "is out of range"
    return ""
