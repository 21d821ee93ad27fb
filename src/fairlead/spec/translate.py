"""Turns what pydantic says about wrong data into problems a person can mend, at their line in the file."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Mapping
from typing import Any, get_args, get_origin

from pydantic import BaseModel, ValidationError

from fairlead.spec.problems import (
    HIDDEN,
    Location,
    Problem,
    describe,
    expected_of,
    listed,
    nearest,
)
from fairlead.spec.yaml_source import Source

MAX_COMPLAINTS = 200
_WORDS = {
    "string_type": "text",
    "string_sub_type": "text",
    "bool_type": "true or false",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing_size": "a smaller number",
    "float_type": "a number",
    "tuple_type": "a list, as in [a, b]",
    "dict_type": "a mapping, as in {key: value}",
    "model_type": "a mapping, as in {key: value}",
    "model_attributes_type": "a mapping, as in {key: value}",
}
_LIMITS = {
    "greater_than": "a number greater than {gt:g}",
    "greater_than_equal": "a number of at least {ge:g}",
    "less_than": "a number less than {lt:g}",
    "less_than_equal": "a number of at most {le:g}",
    "string_too_long": "a text of at most {max_length} characters",
    "too_long": "at most {max_length} items",
}
_PATTERNS = {
    "api_keys": "a reference, env:NAME, file:PATH or keyring:SERVICE/NAME; never the key itself",
    "api_key": "a reference, env:NAME, file:PATH or keyring:SERVICE/NAME; never the key itself",
    "secret": "a reference, env:NAME, file:PATH or keyring:SERVICE/NAME; never the secret itself",
    "secrets": "a name with a reference, env:NAME, file:PATH or keyring:SERVICE/NAME; never the secret itself",
    "url": "an address such as https://tools.shop.example/mcp",
    "email": "an e-mail address such as ada@example.com",
    "languages": "a language code such as en or pt-BR",
    "regions": "a region code such as eu, us or eu-central-1",
    "source": "trace, outcome, feedback, judge, code or person, with a detail after a colon if needed",
    "metric": "a metric's name: small letters, digits and _",
    "metrics": "a metric's name: small letters, digits and _",
}
_NAME_PATTERN = "a name of small letters, digits, dots, - and _, at most 63 long, that begins with a letter or digit"
_LANGUAGES = {"english": "en", "german": "de", "deutsch": "de", "french": "fr", "spanish": "es", "italian": "it",
              "dutch": "nl", "portuguese": "pt", "polish": "pl", "norwegian": "no", "swedish": "sv"}  # fmt: skip
_WITH_UNIT = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?) ?(%|USD|\$)")
_YAML_1_1 = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}
ARTICLE_5 = (
    "minimal, limited or high; practices of unacceptable risk are prohibited by Article 5 of the EU AI Act "
    "(Regulation (EU) 2024/1689) and Fairlead does not serve them"
)


def problems_of(error: ValidationError, model: type[BaseModel], source: Source) -> list[Problem]:
    """One problem for each of pydantic's first complaints; of 20,000 wrong values nobody reads the rest."""
    complaints = [dict(complaint) for complaint in error.errors(include_url=False)[:MAX_COMPLAINTS]]
    return [_problem(complaint, model, source) for complaint in complaints if not _follows(complaint)]


def _follows(complaint: Mapping[str, Any]) -> bool:
    """Whether it only says that a list would be too short without those items that have problems of their own."""
    given = complaint.get("input")
    return complaint["type"] == "too_short" and isinstance(given, list) and len(given) >= complaint["ctx"]["min_length"]


def _problem(complaint: dict[str, Any], model: type[BaseModel], source: Source) -> Problem:
    location: Location = tuple(complaint["loc"])
    kind: str = complaint["type"]
    if location and location[-1] == "[key]":
        location = location[:-1]
        return source.problem(location, f"the key {str(location[-1])!r}", _pattern_words(location[:-1]), key=True)
    if kind == "extra_forbidden":
        keys = known_keys(model, location[:-1])
        name = str(location[-1])
        near = nearest(name, keys)
        found = f"the unknown key {name!r}"
        return source.problem(location, found, expected_of(keys, near, "a key of this part"), near, key=True)
    if kind == "missing":
        parent = location[:-1]
        what = _description(model, location)
        return source.problem(location, "nothing", f"the key `{location[-1]}`: {what}", mark=source.mark(parent))
    found = describe(complaint.get("input"), location)
    expected, near = _expectation(kind, complaint, location)
    if kind == "secret" or (kind == "string_pattern_mismatch" and {"api_key", "api_keys"} & set(location[-2:])):
        found = HIDDEN
    return source.problem(location, found, expected, near)


def _expectation(kind: str, complaint: dict[str, Any], location: Location) -> tuple[str, str]:
    """(expected, nearest) for a wrong value."""
    context: Mapping[str, Any] = complaint.get("ctx") or {}
    value = complaint.get("input")
    if kind in _WORDS:
        return _WORDS[kind], _nearest_of_type(kind, value)
    if kind in _LIMITS:
        return _LIMITS[kind].format(**context), ""
    if kind == "literal_error":
        return _literal(location, value, str(context["expected"]))
    if kind == "string_pattern_mismatch":
        near = _LANGUAGES.get(str(value).lower(), "") if "languages" in location else ""
        return _pattern_words(location), near or _simple_name(str(value), location)
    if kind in {"string_too_short", "too_short"}:
        return "something here" if kind == "string_too_short" else "at least one item", ""
    if "near" in context:
        return str(context["expected"]), str(context["near"])
    return str(complaint["msg"])[:1].lower() + str(complaint["msg"])[1:], ""


def _literal(location: Location, value: object, expected: str) -> tuple[str, str]:
    if location == ("risk",) and isinstance(value, str) and value.lower() in {"unacceptable", "prohibited"}:
        return ARTICLE_5, ""
    if location == ("fairlead",):
        return "1, the version of the format this Fairlead reads; a newer file needs a newer Fairlead", ""
    choices = [choice.strip().strip("'") for choice in expected.replace(" or ", ", ").split(",")]
    return listed([choice or '""' for choice in choices]), nearest(str(value), choices)


def _nearest_of_type(kind: str, value: object) -> str:
    if kind == "string_type" and isinstance(value, (int, float)):
        return f'"{str(value).lower() if isinstance(value, bool) else value}", in quotes'
    if kind == "bool_type" and isinstance(value, str):
        return _YAML_1_1.get(value.lower(), "")
    if kind == "float_type" and isinstance(value, str) and (written := _WITH_UNIT.fullmatch(value.strip())):
        return f"{float(written[1]) / (100 if written[2] == '%' else 1):g}"
    if kind in {"int_type", "float_type"} and isinstance(value, str):
        plain = value.replace("_", "").lstrip("+").lstrip("0") or "0"
        return plain if plain.replace(".", "", 1).isdecimal() and plain[0] != "." else ""
    if kind == "tuple_type" and isinstance(value, str) and len(value) < 40:
        return f"[{value}]"
    return ""


def _pattern_words(location: Location) -> str:
    names = [part for part in location if isinstance(part, str)]
    for name in reversed(names):
        if name in _PATTERNS:
            return _PATTERNS[name]
    return _NAME_PATTERN


def _simple_name(text: str, location: Location) -> str:
    """What a name might have been meant as: "Shop Support" → "shop-support"."""
    if _pattern_words(location) != _NAME_PATTERN:
        return ""
    words = "".join(letter if letter.isascii() and letter.isalnum() else " " for letter in text.lower()[:63]).split()
    return "-".join(words)


def known_keys(model: type[BaseModel], location: Location) -> list[str]:
    """The keys that may stand at ``location``."""
    inner = model_at(model, location)
    return [] if inner is None else [field.alias or name for name, field in inner.model_fields.items()]


def _description(model: type[BaseModel], location: Location) -> str:
    inner = model_at(model, location[:-1])
    if inner is not None:
        for name, field in inner.model_fields.items():
            if (field.alias or name) == location[-1]:
                return (field.description or "").rstrip(".")
    return "required"


def model_at(model: type[BaseModel], location: Location) -> type[BaseModel] | None:
    """The model that describes what stands at ``location``; None when no model does."""
    kind: Any = model
    for part in location:
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            fields = {field.alias or name: field for name, field in kind.model_fields.items()}
            if part not in fields:
                return None
            kind = fields[str(part)].annotation
        else:
            kind = _item_of(kind)
        kind = _without_none(kind)
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


def _item_of(kind: Any) -> Any:
    """``X`` of ``tuple[X, ...]`` and of ``dict[str, X]``."""
    arguments = get_args(kind)
    if get_origin(kind) is dict:
        return _without_none(arguments[1])
    return _without_none(arguments[0]) if arguments else None


def _without_none(kind: Any) -> Any:
    while get_origin(kind) is typing.Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) in {types.UnionType, typing.Union}:
        rest = [each for each in get_args(kind) if each is not type(None)]
        return _without_none(rest[0]) if rest else None
    return kind
