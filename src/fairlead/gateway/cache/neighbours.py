"""Kept answers to questions that differ in their last message only, and which of them lies nearest to a new one.

Each frame (all of a question but its last words: tenant, user, release, parameters, documents, earlier messages) is a
table of its own, so nothing that belongs to another is ever compared. Bounded by the shelf: what leaves it leaves here.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

Vector = npt.NDArray[np.float32]


class Judge(Protocol):
    """Says how likely two texts ask the same, or two answers say the same."""

    def prepare(self, text: str) -> Any:
        """What is needed of a text to compare it; has ``vector`` (d,), of length one."""
        ...

    def odds(self, one: Any, other: Any) -> float:
        """From 0 (a number, a name, a "not", the language or the like differs) to 1."""
        ...

    def agree(self, one: str, other: str) -> bool:
        """Whether two answers say the same."""
        ...


class _Frame:
    __slots__ = ("keys", "prepared", "rows", "table")

    def __init__(self, width: int) -> None:
        self.table: Vector = np.zeros((8, width), np.float32)
        self.keys: list[bytes] = []
        self.prepared: list[Any] = []
        self.rows: dict[bytes, int] = {}


class Neighbours:
    """The tables of all frames."""

    def __init__(self) -> None:
        self._frames: dict[bytes, _Frame] = {}

    def __len__(self) -> int:
        return sum(len(frame.keys) for frame in self._frames.values())

    def add(self, frame: bytes, key: bytes, prepared: Any) -> None:
        """Take a kept question in. A key that is there already is replaced."""
        found = self._frames.get(frame)
        if found is None:
            found = self._frames[frame] = _Frame(len(prepared.vector))
        row = found.rows.get(key)
        if row is None:
            row = len(found.keys)
            if row == len(found.table):
                found.table = np.concatenate([found.table, np.zeros_like(found.table)])
            found.keys.append(key)
            found.prepared.append(prepared)
            found.rows[key] = row
        found.table[row] = prepared.vector
        found.prepared[row] = prepared

    def drop(self, frame: bytes, key: bytes) -> None:
        """Forget a question; nothing happens where it is not there."""
        found = self._frames.get(frame)
        row = found.rows.pop(key, None) if found is not None else None
        if found is None or row is None:
            return
        last = len(found.keys) - 1
        if row != last:
            found.keys[row], found.prepared[row] = found.keys[last], found.prepared[last]
            found.table[row] = found.table[last]
            found.rows[found.keys[row]] = row
        found.keys.pop()
        found.prepared.pop()
        if not found.keys:
            del self._frames[frame]

    def nearest(self, frame: bytes, prepared: Any) -> tuple[bytes, Any] | None:
        """(key, prepared) of the kept question nearest to this one; None where the frame has none."""
        found = self._frames.get(frame)
        if found is None:
            return None
        row = int((found.table[: len(found.keys)] @ prepared.vector).argmax())
        return found.keys[row], found.prepared[row]
