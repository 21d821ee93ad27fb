"""What a request body may hold: one table of fields that both checks a body and describes it (JSON Schema).

Only the fields Fairlead or every model server interprets are here; any other field passes untouched. Knows no HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from fairlead.errors import RequestInvalid
from fairlead.providers.base import Operation

Schema = dict[str, Any]
_LARGEST_WHOLE = 2**53


def shorten(value: object) -> str:
    """``value`` as a short piece of text for an error message."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    words: dict[object, str] = {None: "null", True: "true", False: "false"}
    text = words[value] if value is None or isinstance(value, bool) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def refuse(where: str, value: object, expected: str) -> RequestInvalid:
    """The error for a field out of type or range."""
    found = "missing or null" if value is None else shorten(value)
    return RequestInvalid(problem=f"{where} is {found}; expected {expected}.", param=where)


class Check:
    """One value: ``fits`` decides, ``expected`` says what in words, ``schema`` says it in JSON Schema.

    ``plain``, where there is one, knows at a glance some of the values that fit.
    """

    __slots__ = ("expected", "fits", "plain", "schema")

    def __init__(self, expected: str, schema: Schema, fits: Callable[[Any], bool]) -> None:
        self.expected = expected
        self.schema = schema
        self.fits = fits
        self.plain: Callable[[Any], bool] | None = None

    def __call__(self, value: Any, where: str) -> None:
        """Raise RequestInvalid unless ``value`` fits."""
        if not self.fits(value):
            raise refuse(where, value, self.expected)


class ListOf(Check):
    """A list of ``low`` to ``high`` items, each as ``item`` wants it."""

    __slots__ = ("item",)

    def __init__(self, item: Check, low: int, high: int, expected: str) -> None:
        schema = {"type": "array", "items": item.schema, "minItems": low, "maxItems": high}
        super().__init__(expected, schema, lambda value: isinstance(value, list) and low <= len(value) <= high)
        self.item = item

    def __call__(self, value: Any, where: str) -> None:
        """Raise RequestInvalid unless ``value`` and all its items fit."""
        super().__call__(value, where)
        item, plain = self.item, self.item.plain
        for place, part in enumerate(value):
            if plain is None or not plain(part):
                item(part, f"{where}[{place}]")


class Record(Check):
    """An object with known ``fields``; null stands for absent unless required; unknown fields are not looked at."""

    __slots__ = ("fields", "required")

    def __init__(
        self, fields: Mapping[str, Check], *, required: Sequence[str] = (), expected: str = "an object"
    ) -> None:
        schema: Schema = {
            "type": "object",
            "properties": {
                name: check.schema if name in required else nullable(check.schema) for name, check in fields.items()
            },
            "additionalProperties": True,
        }
        if required:
            schema["required"] = list(required)
        super().__init__(expected, schema, lambda value: isinstance(value, dict))
        self.fields = fields
        self.required = tuple(required)

    def __call__(self, value: Any, where: str) -> None:
        """Raise RequestInvalid unless ``value`` and its known fields fit."""
        super().__call__(value, where)
        prefix = f"{where}." if where else ""
        for name in self.required:
            if value.get(name) is None:
                raise refuse(prefix + name, None, self.fields[name].expected)
        fields = self.fields
        for name, part in value.items():
            if part is not None and (check := fields.get(name)) is not None:
                if type(check) is not Check:
                    check(part, prefix + name)
                elif not check.fits(part):
                    raise refuse(prefix + name, part, check.expected)


class Either(Check):
    """A value that fits one of several checks, chosen by the JSON type it has."""

    __slots__ = ("choices",)

    def __init__(self, expected: str, *choices: tuple[type, Check]) -> None:
        super().__init__(expected, {"anyOf": [check.schema for _, check in choices]}, lambda value: True)
        self.choices = choices

    def __call__(self, value: Any, where: str) -> None:
        """Raise RequestInvalid unless ``value`` fits the choice for its type."""
        for kind, check in self.choices:
            if type(value) is kind:
                return check(value, where)
        raise refuse(where, value, self.expected)


def nullable(schema: Schema) -> Schema:
    """``schema``, or null."""
    return {"anyOf": [schema, {"type": "null"}]}


def text(low: int = 0, high: int | None = None, expected: str = "text") -> Check:
    """A string of ``low`` to ``high`` characters."""
    schema: Schema = {"type": "string"}
    if low:
        schema["minLength"] = low
    if high is not None:
        schema["maxLength"] = high
    return Check(expected, schema, lambda v: isinstance(v, str) and low <= len(v) and (high is None or len(v) <= high))


def choice(*names: str) -> Check:
    """One of ``names``."""
    known = frozenset(names)
    return Check(
        "one of " + ", ".join(names),
        {"type": "string", "enum": list(names)},
        lambda v: isinstance(v, str) and v in known,
    )


def number(low: float, high: float) -> Check:
    """A number in the closed range; true and false are none."""
    return Check(
        f"a number from {low:g} to {high:g}",
        {"type": "number", "minimum": low, "maximum": high},
        lambda v: (type(v) is float or type(v) is int) and low <= v <= high,
    )


def whole(low: int, high: int = _LARGEST_WHOLE) -> Check:
    """A whole number in the closed range."""
    open_above = high == _LARGEST_WHOLE and low >= 0  # nobody reaches that limit by mistake
    words = f"a whole number, at least {low}" if open_above else f"a whole number from {low} to {high}"
    return Check(
        words,
        {"type": "integer", "minimum": low, "maximum": high},
        lambda v: type(v) is int and low <= v <= high,
    )


FLAG = Check("true or false", {"type": "boolean"}, lambda v: isinstance(v, bool))
OBJECT = Record({})
TOKENS = ListOf(whole(0), 1, 2**20, "a list of token numbers")


def _message_schema() -> Schema:
    content = {"anyOf": [{"type": "string"}, {"type": "array", "minItems": 1, "items": PART.schema}]}
    common = {"name": nullable({"type": "string"}), "tool_call_id": nullable({"type": "string"})}
    others = {"type": "string", "enum": [role for role in ROLES if role != "assistant"]}
    return {
        "anyOf": [
            {
                "type": "object",
                "required": ["role", "content"],
                "properties": {"role": others, "content": content, **common},
                "additionalProperties": True,
            },
            {
                "type": "object",
                "required": ["role"],
                "properties": {
                    "role": {"const": "assistant"},
                    "content": nullable(content),
                    "tool_calls": nullable(TOOL_CALLS.schema),
                    **common,
                },
                "additionalProperties": True,
            },
        ]
    }


class _Message(Record):
    """A chat message: only the assistant's may lack ``content``."""

    __slots__ = ()

    def __call__(self, value: Any, where: str) -> None:
        super().__call__(value, where)
        if value.get("content") is None and value["role"] != "assistant":
            raise refuse(f"{where}.content", None, CONTENT.expected)


def _is_plain_message(value: Any) -> bool:
    """A role and a text and nothing else, as nearly all messages are."""
    if type(value) is not dict or len(value) != 2:
        return False
    role = value.get("role")
    return type(value.get("content")) is str and type(role) is str and role in ROLES


ROLES = ("system", "developer", "user", "assistant", "tool", "function")
PART = Record({"type": text(1)}, required=["type"], expected="a content part, an object with a type")
CONTENT = Either("text or a list of content parts", (str, text()), (list, ListOf(PART, 1, 10_000, "content parts")))
TOOL_CALLS = ListOf(
    Record({"function": Record({"name": text(1), "arguments": text()}, required=["name"])}, expected="a tool call"),
    0,
    1024,
    "a list of tool calls",
)
MESSAGE = _Message(
    {
        "role": choice(*ROLES),
        "content": CONTENT,
        "name": text(),
        "tool_call_id": text(),
        "tool_calls": TOOL_CALLS,
    },
    required=["role"],
    expected="a message, an object with role and content",
)
MESSAGE.schema = _message_schema()
MESSAGE.plain = _is_plain_message
_FUNCTION = Record({"name": text(1, 128), "description": text(), "parameters": OBJECT}, required=["name"])

COMMON: Mapping[str, Check] = MappingProxyType(
    {
        "model": text(1, 256, "the name of a model"),
        "stream": FLAG,
        "stream_options": Record({"include_usage": FLAG}),
        "n": whole(1, 16),
        "max_tokens": whole(1),
        "temperature": number(0, 2),
        "top_p": number(0, 1),
        "presence_penalty": number(-2, 2),
        "frequency_penalty": number(-2, 2),
        "seed": whole(-_LARGEST_WHOLE),
        "stop": Either(
            "text or a list of up to 16 texts",
            (str, text()),
            (list, ListOf(text(1, expected="text that is not empty"), 0, 16, "up to 16 texts")),
        ),
        "logit_bias": OBJECT,
        "user": text(),
    }
)
CHAT = Record(
    {
        **COMMON,
        "messages": ListOf(MESSAGE, 1, 100_000, "a list of at least one message"),
        "max_completion_tokens": whole(1),
        "logprobs": FLAG,
        "top_logprobs": whole(0, 20),
        "tools": ListOf(
            Record({"type": text(1), "function": _FUNCTION}, required=["type"]), 0, 1024, "a list of tools"
        ),
        "tool_choice": Either("text or an object", (str, text()), (dict, OBJECT)),
        "parallel_tool_calls": FLAG,
        "response_format": Record({"type": text(1), "json_schema": OBJECT}, required=["type"]),
        "documents": ListOf(
            Record({"id": text(), "title": text(), "text": text(), "location": text()}), 0, 1024, "a list of documents"
        ),
        "safety_identifier": text(),
    },
    required=["model", "messages"],
)
_TEXT_OR_TOKENS = Either("text or token numbers", (str, text()), (int, whole(0)), (list, TOKENS))
PROMPT = Either(
    "text, a list of texts, or token numbers",
    (str, text()),
    (list, ListOf(_TEXT_OR_TOKENS, 1, 4096, "a list of 1 to 4096 texts or token lists")),
)
COMPLETION = Record(
    {**COMMON, "prompt": PROMPT, "logprobs": whole(0, 20), "echo": FLAG, "best_of": whole(1, 16), "suffix": text()},
    required=["model", "prompt"],
)
EMBEDDING = Record(
    {
        "model": COMMON["model"],
        "input": PROMPT,
        "encoding_format": choice("float", "base64"),
        "dimensions": whole(1, 65_536),
        "user": text(),
    },
    required=["model", "input"],
)
BODIES: Mapping[Operation, Record] = MappingProxyType({"chat": CHAT, "completion": COMPLETION, "embedding": EMBEDDING})
