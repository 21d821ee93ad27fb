"""Reads YAML into plain data and remembers the line and column of everything in it.

Stricter than YAML where YAML surprises people. Scalars follow the JSON schema of YAML 1.2, so ``no`` is Norwegian,
``12:30`` a time of day and ``010`` a text; a key written twice, a tag, a merge key, a second document and numbers that
are not finite are problems; size, depth and the expansion of aliases are bounded. The tree is built from PyYAML's
events with a stack of its own, so no input can exhaust the interpreter's. Knows nothing of use cases.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import yaml

from fairlead.spec.problems import HIDDEN, SECRET_NAMES, SECRET_VALUES, Location, Problem, key_text, redact

MAX_BYTES = 262_144
MAX_DEPTH = 32
MAX_NODES = 20_000
MAX_DIGITS = 18
MAX_KEY = 200

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
_PLAIN_TAGS = frozenset({"!", "tag:yaml.org,2002:str", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"})

# What PyYAML says -> what the writer should do. The first fragment that occurs in the message wins.
_ADVICE = (
    ("'\\t' that cannot start any token", "spaces for indentation; YAML does not allow tabs there"),
    ("chomping or indentation indicators", 'quotes around a text that begins with > or |, as in bound: ">= 0.60"'),
    ("cannot start any token", "quotes around a text that begins with a special character"),
    (
        "mapping values are not allowed",
        "quotes around a text that contains ': ', and the same indentation for all keys",
    ),
    ("could not find expected ':'", "`key: value`, with a space after the colon"),
    ("expected <block end>", "the same indentation for all keys of a mapping or items of a list"),
    ("expected ',' or", "a comma or the closing bracket"),
    ("quoted scalar", "a closing quote"),
    ("undefined alias", "an anchor (&name) before the alias (*name) that uses it"),
    ("unknown escape character", "single quotes, in which a backslash is only a backslash"),
)


class Mark(NamedTuple):
    """A place in the file, counted from 1."""

    line: int
    column: int


@dataclass
class Source:
    """``data`` is None when nothing could be read; then ``problems`` says why."""

    file: str
    data: Any = None
    keys: dict[Location, Mark] = field(default_factory=dict)
    values: dict[Location, Mark] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def mark(self, location: Location, *, key: bool = False) -> Mark:
        """Where ``location`` stands (its key, or its value); the nearest part above it when it is not written."""
        if key and location in self.keys:
            return self.keys[location]
        for length in range(len(location), -1, -1):
            if location[:length] in self.values:
                return self.values[location[:length]]
        return Mark(1, 1)

    def problem(
        self,
        location: Location,
        found: str,
        expected: str,
        nearest: str = "",
        *,
        key: bool = False,
        mark: Mark | None = None,
    ) -> Problem:
        """A problem at ``location``, nothing in it looking like a secret; not yet added to ``problems``."""
        line, column = mark or self.mark(location, key=key)
        return Problem(
            file=self.file,
            line=line,
            column=column,
            key=key_text(location),
            found=redact(found),
            expected=redact(expected),
            nearest=redact(nearest),
        )


class _Stop(Exception):
    """The rest of the file cannot be read. Never leaves this module."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem


@dataclass
class _Frame:
    value: dict[str, Any] | list[Any]
    location: Location
    anchor: str | None
    key: str | None = None
    size: int = 1
    height: int = 1


class _Anchored(NamedTuple):
    value: Any
    size: int
    height: int


def read(text: str | bytes, file: str) -> Source:
    """Reads ``text``; never raises. ``source.data`` is a dict when the file's top is a mapping, else None."""
    source = Source(file)
    try:
        _Builder(source).build(_decode(text, source))
    except _Stop as stop:
        source.data = None
        source.problems.append(stop.problem)
    return source


def _decode(text: str | bytes, source: Source) -> str:
    size = len(text)
    if size > MAX_BYTES:
        raise _Stop(source.problem((), f"{size:,} bytes", f"at most {MAX_BYTES:,} bytes"))
    if isinstance(text, str):
        return text.removeprefix("\ufeff")
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        wrong: bytes = error.object
        mark = Mark(wrong.count(b"\n", 0, error.start) + 1, error.start - wrong.rfind(b"\n", 0, error.start))
        found = f"the byte 0x{wrong[error.start]:02x}, which is not UTF-8"
        raise _Stop(source.problem((), found, "a text file in UTF-8", mark=mark)) from error


class _Builder:
    def __init__(self, source: Source) -> None:
        self.source = source
        self.stack: list[_Frame] = []
        self.anchors: dict[str, _Anchored | None] = {}
        self.nodes = 0
        self.documents = 0

    def build(self, text: str) -> None:
        for event in self._events(text):
            if isinstance(event, yaml.DocumentStartEvent):
                self.documents += 1
                if self.documents > 1:
                    raise self._stop(event, "a second document (---)", "one document in the file")
            elif isinstance(event, (yaml.MappingStartEvent, yaml.SequenceStartEvent)):
                self._open(event)
            elif isinstance(event, (yaml.MappingEndEvent, yaml.SequenceEndEvent)):
                frame = self.stack.pop()
                self._add(frame.value, frame.size, frame.height, frame.anchor)
            elif isinstance(event, yaml.ScalarEvent):
                self._scalar(event)
            elif isinstance(event, yaml.AliasEvent):
                self._alias(event)
        if not isinstance(self.source.data, dict):
            empty = self.source.data is None
            found = "an empty file" if empty else "a file that is not a mapping (key: value)"
            expected = "a use case that begins with `fairlead: 1`; `fairlead init` writes one"
            raise _Stop(self.source.problem((), found, expected))

    def _events(self, text: str) -> Iterator[yaml.Event]:
        try:
            yield from yaml.parse(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            raise _Stop(_syntax_problem(error, text, self.source)) from error
        except yaml.reader.ReaderError as error:
            before = text[: error.position]
            mark = Mark(before.count("\n") + 1, error.position - before.rfind("\n"))
            character = error.character if isinstance(error.character, int) else ord(error.character)
            found = f"the character U+{character:04X}"
            raise _Stop(self.source.problem((), found, "printable text (remove it)", mark=mark)) from error
        except (ValueError, OverflowError) as error:  # PyYAML on \U99999999 and on %YAML 9999...
            raise _Stop(self.source.problem((), f"an escape that cannot be read ({error})", "valid YAML")) from error

    def _open(self, event: yaml.CollectionStartEvent) -> None:
        if len(self.stack) >= MAX_DEPTH:
            raise self._stop(event, f"more than {MAX_DEPTH} levels of nesting", f"at most {MAX_DEPTH} levels")
        value: dict[str, Any] | list[Any] = {} if isinstance(event, yaml.MappingStartEvent) else []
        self._refuse_tag(event)
        frame = _Frame(value, self._place(event, "a list or mapping as a key"), event.anchor)
        if event.anchor:
            self.anchors[event.anchor] = None
        self.stack.append(frame)

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        if self.stack and isinstance(self.stack[-1].value, dict) and self.stack[-1].key is None:
            self._key(event)
            return
        self._refuse_tag(event)
        location = self._place(event, "")
        if found := _CONTROL.search(event.value):
            expected = "printable text (remove it)"
            self._report(location, f"the character U+{ord(found.group()):04X}", expected)
            self._add("", 1, 0, event.anchor)
            return
        plain = event.style is None and event.tag is None
        self._add(self._resolve(event.value, location) if plain else event.value, 1, 0, event.anchor)

    def _key(self, event: yaml.ScalarEvent) -> None:
        frame = self.stack[-1]
        frame.key = event.value
        location = (*frame.location, event.value)
        mark = _mark(event)
        if event.value == "<<" and event.style is None:
            raise self._stop(
                event, "the merge key `<<`", "every key written out; an alias (*name) may stand for a value"
            )
        if _CONTROL.search(event.value) or len(event.value) > MAX_KEY or not event.value.strip():
            raise self._stop(
                event, "a key that is empty, too long or not printable", f"a key of 1 to {MAX_KEY} characters"
            )
        if event.value in frame.value:
            first = self.source.keys[location].line
            expected = f"each key once; it stands on line {first} already"
            self.source.problems.append(
                self.source.problem(location, f"the key {event.value!r} a second time", expected, mark=mark)
            )
        self.source.keys.setdefault(location, mark)

    def _resolve(self, text: str, location: Location) -> Any:
        if text in _NULL:
            return None
        if text in _BOOL:
            return _BOOL[text]
        if _NOT_FINITE.fullmatch(text):
            self._report(location, f"the number {text}", "a finite number")
            return 0
        number = _NUMBER.fullmatch(text)
        if number is None:
            return text
        if number.group(1) is None and number.group(2) is None and len(text.lstrip("-")) <= MAX_DIGITS:
            return int(text)
        value = float(text)
        if math.isinf(value) or (number.group(1) is None and number.group(2) is None):
            self._report(location, "a number that is too large", f"a number of at most {MAX_DIGITS} digits")
            return 0
        return value

    def _alias(self, event: yaml.AliasEvent) -> None:
        location = self._place(event, "an alias as a key")
        known = self.anchors.get(event.anchor or "", ...)
        if known is ...:
            raise self._stop(event, f"the alias *{event.anchor}", f"an anchor &{event.anchor} before it")
        if known is None:
            raise self._stop(event, f"the alias *{event.anchor} inside its own anchor", "an alias to something else")
        if len(location) + known.height > MAX_DEPTH:
            raise self._stop(event, f"more than {MAX_DEPTH} levels of nesting", f"at most {MAX_DEPTH} levels")
        self._add(known.value, known.size, known.height, None)

    def _place(self, event: yaml.NodeEvent, as_key: str) -> Location:
        """The location the node of ``event`` will have, and notes its mark there."""
        location: Location = ()
        if self.stack:
            frame = self.stack[-1]
            if isinstance(frame.value, list):
                location = (*frame.location, len(frame.value))
            elif frame.key is None:
                raise self._stop(event, as_key, "a key that is a plain text")
            else:
                location = (*frame.location, frame.key)
        self.source.values.setdefault(location, _mark(event))
        return location

    def _add(self, value: Any, size: int, height: int, anchor: str | None) -> None:
        if anchor:
            self.anchors[anchor] = _Anchored(value, size, height)
        if not self.stack:
            self.source.data = value
            return
        frame = self.stack[-1]
        frame.size += size
        frame.height = max(frame.height, height + 1)
        if frame.size > MAX_NODES:
            raise _Stop(
                self.source.problem(frame.location, f"more than {MAX_NODES:,} values", f"at most {MAX_NODES:,}")
            )
        if isinstance(frame.value, list):
            frame.value.append(value)
        elif frame.key is not None:
            frame.value.setdefault(frame.key, value)
            frame.key = None

    def _refuse_tag(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent) -> None:
        if event.tag is not None and event.tag not in _PLAIN_TAGS:
            raise self._stop(event, f"the tag {event.tag[:60]!r}", "plain values; this file uses no YAML tags")

    def _report(self, location: Location, found: str, expected: str) -> None:
        self.source.problems.append(self.source.problem(location, found, expected))

    def _stop(self, event: yaml.Event, found: str, expected: str) -> _Stop:
        location = self.stack[-1].location if self.stack else ()
        return _Stop(self.source.problem(location, found, expected, mark=_mark(event)))


def _mark(event: yaml.Event) -> Mark:
    assert event.start_mark is not None  # events from text always have one
    return Mark(event.start_mark.line + 1, event.start_mark.column + 1)


def _syntax_problem(error: yaml.MarkedYAMLError, text: str, source: Source) -> Problem:
    mark = error.problem_mark or error.context_mark
    said = f"{error.context or ''} {error.problem or ''}"
    expected = next((advice for fragment, advice in _ADVICE if fragment in said), f"valid YAML ({error.problem})")
    if mark is None:
        return source.problem((), "broken YAML", expected)
    lines = text.splitlines()
    line = lines[mark.line].strip() if mark.line < len(lines) else ""
    if SECRET_NAMES.search(line) or SECRET_VALUES.search(line):
        found = HIDDEN
    else:
        found = f"{line[:60]!r}" if line else "the end of the file"
    return source.problem((), found, expected, mark=Mark(mark.line + 1, mark.column + 1))
