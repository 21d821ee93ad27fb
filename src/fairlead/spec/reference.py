"""The reference tables of ``docs/use-case-file.md``, made from the models, so that they cannot fall behind.

``python -m fairlead.spec.reference docs/use-case-file.md`` writes them between the page's two markers.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fairlead.spec.metrics import BUILT_IN
from fairlead.spec.problems import listed
from fairlead.spec.schema import json_schema

BEGIN = "<!-- begin: use-case-file -->"
END = "<!-- end: use-case-file -->"


def render() -> str:
    """Markdown: a table of keys for each part of the file, then the built-in metrics."""
    schema = json_schema()
    parts = schema["$defs"]
    sections = ["### The file\n\n" + _keys(schema, parts)]
    for path, name in _order(schema, parts):
        sections.append(f"### `{path}`\n\n{parts[name]['description']}\n\n{_keys(parts[name], parts)}")
    sections.append("## Built-in metrics\n\n" + _metrics())
    return "\n\n".join(sections)


def replace(page: str) -> str:
    """``page`` with what stands between the markers made anew. Raises ValueError when a marker is missing."""
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{render()}\n{END}{after}"


def _order(schema: Mapping[str, Any], parts: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """(key path, part name) of everything below, each part where it is used first."""
    for key, field in schema["properties"].items():
        name, suffix = _reference(field)
        if name and "properties" in parts[name]:
            here = f"{path}.{key}{suffix}" if path else f"{key}{suffix}"
            yield here, name
            yield from _order(parts[name], parts, here)


def _reference(field: Mapping[str, Any]) -> tuple[str, str]:
    """The part a field holds, if any, and how it is reached: itself, ``[]`` for a list, ``.NAME`` for a mapping."""
    for option in [field, *field.get("anyOf", ())]:
        if "$ref" in option:
            return option["$ref"].rsplit("/", 1)[-1], ""
        if "$ref" in option.get("items", {}):
            return option["items"]["$ref"].rsplit("/", 1)[-1], "[]"
        for inner in [option.get("additionalProperties"), *option.get("patternProperties", {}).values()]:
            if isinstance(inner, dict) and "$ref" in inner:
                return inner["$ref"].rsplit("/", 1)[-1], ".NAME"
    return "", ""


def _keys(schema: Mapping[str, Any], parts: Mapping[str, Any]) -> str:
    lines = ["| key | value | default | meaning |", "|---|---|---|---|"]
    required = schema.get("required", ())
    for key, field in schema["properties"].items():
        default = "**required**" if key in required else _default(field)
        lines.append(f"| `{key}` | {_type(field, parts)} | {default} | {_cell(field['description'])} |")
    return "\n".join(lines)


def _default(field: Mapping[str, Any]) -> str:
    value = field.get("default")
    if value is None or value in ({}, [], ""):
        return "–"
    if isinstance(value, dict):
        return "see below"
    return f"`{_cell(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))}`"


def _type(field: Mapping[str, Any], parts: Mapping[str, Any]) -> str:
    name, suffix = _reference(field)
    if name and "properties" in parts[name]:
        return {"": "mapping", "[]": "list of mappings", ".NAME": "mapping of names"}[suffix]
    options = [option for option in field.get("anyOf", [field]) if option.get("type") != "null"]
    return " or ".join(dict.fromkeys(_simple(option) for option in options))


def _simple(option: Mapping[str, Any]) -> str:
    if "const" in option:
        return f"`{option['const']}`"
    if "enum" in option:
        return _cell(listed([f"`{choice}`" if choice else "nothing" for choice in option["enum"]]))
    kind = option.get("type", "")
    if kind == "array":
        return f"list of {_simple(option['items']).replace('one of', 'any of')}"
    if kind == "object":
        inner = next(iter(option.get("patternProperties", {}).values()), option.get("additionalProperties", {}))
        return f"mapping of names to {_simple(inner)}"
    words = {"string": "text", "integer": "whole number", "number": "number", "boolean": "`true` or `false`"}[kind]
    return words + _limits(option)


def _limits(option: Mapping[str, Any]) -> str:
    low = option.get("minimum", option.get("exclusiveMinimum"))
    high = option.get("maximum")
    if low is None or high is None or high >= 1e6:
        return ""
    return f", {'above ' if 'exclusiveMinimum' in option else ''}{low:g} to {high:g}"


def _metrics() -> str:
    lines = ["| metric | counts | level | unit | better | aggregation | source |", "|---|---|---|---|---|---|---|"]
    for name, metric in BUILT_IN.items():
        better = "more" if metric.direction == "max" else "less"
        cells = [
            f"`{name}`", _cell(metric.definition), metric.level, metric.unit or "share", better,
            ", ".join(metric.allowed), metric.source,
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def main(arguments: list[str]) -> int:
    """Rewrites the tables of the pages named; with ``--check`` first, only says whether they are up to date."""
    check, pages = arguments[:1] == ["--check"], [Path(name) for name in arguments if name != "--check"]
    stale = [page for page in pages if replace(page.read_text(encoding="utf-8")) != page.read_text(encoding="utf-8")]
    for page in stale:
        if check:
            sys.stderr.write(f"{page}: its tables are not up to date; run: python -m {__spec__.name} {page}\n")
        else:
            page.write_text(replace(page.read_text(encoding="utf-8")), encoding="utf-8")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
