"""What is wrong with a use-case file, told so that it can be mended: where, what was found, what was expected.

Knows nothing of the file's format or of the rules: it only carries and words them. A value that may be a secret is
never shown.
"""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Iterable, Sequence
from itertools import islice

import msgspec

from fairlead.errors import UsageError

Location = tuple[str | int, ...]
"""A path into the file: ``("objectives", 0, "bound")``."""

SECRET_NAMES = re.compile(r"key|secret|token(?!s)|passw|credential|bearer", re.IGNORECASE)
SECRET_VALUES = re.compile(
    r"\b(?:sk-[A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|AKIA[A-Z0-9]{12,}|AIza[A-Za-z0-9_-]{20,}"
    r"|xox[abpr]-[A-Za-z0-9-]{10,}|hf_[A-Za-z0-9]{20,}|fl-[A-Za-z0-9_-]{20,})"
)
HIDDEN = "a value that is not shown, since it may be a secret"
SHOWN = 60
COMPARED = 1_000
"""Choices a word is compared with at most: each takes some 20 µs."""


class Problem(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """One thing to mend. ``line`` and ``column`` count from 1; both are 0 when the whole file is meant."""

    file: str
    line: int = 0
    column: int = 0
    key: str = ""
    found: str = ""
    expected: str = ""
    nearest: str = ""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}:{self.column}" if self.line else self.file
        key = f" {self.key}:" if self.key else ""
        hint = f" Nearest: {self.nearest}." if self.nearest else ""
        return f"{place}:{key} found {self.found}; expected {self.expected}.{hint}"


class SpecError(UsageError):
    """{file} cannot be used yet, {count} to mend:
    {listing}
    """

    def __init__(self, *, file: str, problems: Iterable[Problem]) -> None:
        super().__init__(file=file, problems=tuple(sorted(problems)))

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Everything that was found, in the order of the file."""
        problems: tuple[Problem, ...] = self.details["problems"]
        return problems

    def __str__(self) -> str:
        count = f"{len(self.problems)} {'thing' if len(self.problems) == 1 else 'things'}"
        listing = "\n".join(f"  {problem}" for problem in self.problems)
        return inspect.cleandoc(type(self).__doc__ or "").format(
            file=self.details["file"], count=count, listing=listing
        )


def redact(text: str) -> str:
    """``text`` with everything that looks like a provider's key replaced by ``***``."""
    return SECRET_VALUES.sub("***", text)


def key_text(location: Location) -> str:
    """``("objectives", 0, "bound")`` as people write it: ``objectives[0].bound``."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else str(part)
    return redact(text)


def nearest(word: str, choices: Iterable[str], count: int = 3) -> str:
    """The choices that look most like ``word``, comma-separated; empty when none does."""
    known = {choice.lower(): choice for choice in islice(choices, COMPARED)}
    found = difflib.get_close_matches(word[:200].lower(), known, n=count, cutoff=0.55)
    return ", ".join(known[name] for name in found)


def expected_of(choices: Sequence[str], near: str, short: str) -> str:
    """All choices in words; only ``short`` when they are many and the nearest says what was probably meant."""
    return short if near and len(choices) > 8 else listed(choices)


def listed(choices: Sequence[str]) -> str:
    """``one of a, b or c``; just ``a`` when there is one."""
    if len(choices) < 2:
        return "".join(choices) or "nothing"
    return f"one of {', '.join(choices[:-1])} or {choices[-1]}"


def describe(value: object, location: Location = ()) -> str:
    """A found value in words, shortened; hidden when it or its key looks like a secret."""
    if isinstance(value, str):
        last = next((part for part in reversed(location) if isinstance(part, str)), "")
        if SECRET_VALUES.search(value) or (SECRET_NAMES.search(last) and value):
            return HIDDEN
        text = value if len(value) <= SHOWN else value[:SHOWN] + "…"
        return f"the text {text!r}" if value else "an empty text"
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return f"the number {value!r}"
    if isinstance(value, dict):
        return "a mapping (key: value)" if value else "an empty mapping"
    return "a list" if value else "an empty list"
