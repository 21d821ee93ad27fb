"""Fragments: to which tool call each piece of a stream belongs, also where a server numbers them wrong or not at all.

Servers in the field leave the index out, give every call the index 0, or the id in the first piece alone. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Fragments:
    """The tool calls of one choice as far as they have come."""

    __slots__ = ("_at", "_ids", "_last")

    def __init__(self) -> None:
        self._at: dict[int, int] = {}
        self._ids: dict[int, str] = {}
        self._last = 0

    def place(self, fragment: Mapping[str, Any]) -> int:
        """The number of the call a fragment belongs to; calls are numbered as they begin, or as the server does."""
        identifier = text_of(fragment.get("id"))
        index = fragment.get("index")
        if type(index) is int and abs(index) < 1 << 31:
            place = self._at.get(index, index)
            known = self._ids.get(place)
            if identifier and known and identifier != known and text_of(_function(fragment).get("name")):
                place = self._at[index] = self._next()  # another call under a number that is taken
        elif identifier:
            place = next((place for place, known in self._ids.items() if known == identifier), self._next())
        else:
            place = self._last
        self._last = place
        self._ids[place] = self._ids.get(place) or identifier
        return place

    def _next(self) -> int:
        return max(self._ids, default=-1) + 1


def _function(fragment: Mapping[str, Any]) -> Mapping[str, Any]:
    function = fragment.get("function")
    return function if isinstance(function, dict) else {}


def text_of(value: Any) -> str:
    """A text; "" for anything else."""
    return value if isinstance(value, str) else ""
