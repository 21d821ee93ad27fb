"""What is in the journals, kept at hand: a few numbers a record, so that pages and sums need not decode texts again.

Bytes are read once; the next look reads only what was appended since. An index never writes, and follows journals of
other processes too, whose last line may still be on its way.
"""

from __future__ import annotations

import heapq
import os
import threading
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from fairlead.records import Inference
from fairlead.store.traces.journal import SUFFIX, is_journal, read

BLOCK = 512
"""Rows whose first and last time are known without looking at each."""

MISSING = -(1 << 62)
"""Stands for None in a column of whole numbers."""

FIGURES = ("time", "status", "total_us", "first_token_us", "input_tokens", "output_tokens", "cost")


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """What a query looks for. ``since <= time < until``; None means any; ``cursor``: go on after this place."""

    since: int
    until: int
    tenant: str | None = None
    conversation: str | None = None
    variant: str | None = None
    status: int | None = None
    parent: str | None = None
    operation: str | None = None
    cursor: tuple[int, str] | None = None
    descending: bool = True

    def equal(self) -> dict[str, Any]:
        """Column to the value it must have."""
        names = ("tenant", "conversation", "variant", "status", "parent", "operation")
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def matches(self, record: Inference) -> bool:
        """Whether a record is one of those looked for."""
        if not self.since <= record.time < self.until:
            return False
        if self.cursor is not None:
            here = (record.time, record.id)
            if not (here < self.cursor if self.descending else here > self.cursor):
                return False
        return all(getattr(record, name) == value for name, value in self.equal().items())


class _Head(msgspec.Struct):
    """The members of a record that an index keeps."""

    id: str
    time: int
    tenant: str = ""
    conversation: str = ""
    parent: str = ""
    operation: str = "chat"
    variant: str = ""
    status: int = 200
    total_us: int = 0
    first_token_us: int | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cost: int | None = None


_head = msgspec.json.Decoder(_Head)
_full = msgspec.json.Decoder(Inference)
_HASHED = ("id", "tenant", "conversation", "parent", "operation", "variant")


class Index:
    """One journal, as far as it has been read. Thread-safe."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.id = path.name.removesuffix(SUFFIX)
        self.damaged = 0
        self._handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._lock = threading.Lock()
        self._read_to = 0
        self._offsets = array("q")
        self._lengths = array("q")
        self._lows = array("q")
        self._highs = array("q")
        self.figures = {name: array("q") for name in FIGURES}
        self._hashes = {name: array("q") for name in _HASHED}

    def __len__(self) -> int:
        return len(self._offsets)

    def refresh(self) -> None:
        """Read what was appended since."""
        with self._lock:
            for start, data, found in read(self._handle, self._read_to):
                for begin, end in found.lines:
                    self._add(start + begin, data[begin:end])
                self.damaged += len(found.damage)
                self._read_to = start + found.rest
                begin, end = found.damage[-1] if found.damage else (0, 0)
                if end == found.rest and end - begin > 1:  # read again: whoever mends the journal may cut this off
                    self.damaged -= 1
                    self._read_to = start + begin

    def _add(self, offset: int, line: bytes) -> None:
        try:
            head = _head.decode(line)
            values = [getattr(head, name) for name in FIGURES]
            cells = [MISSING if value is None else value for value in values]
            for name, cell in zip(FIGURES, cells, strict=True):
                self.figures[name].append(_bounded(cell))
        except msgspec.MsgspecError:
            self.damaged += 1
            return
        for name in _HASHED:
            self._hashes[name].append(hash(getattr(head, name)))
        self._lengths.append(len(line))
        when = self.figures["time"][-1]
        if len(self._offsets) % BLOCK:
            self._lows[-1], self._highs[-1] = min(self._lows[-1], when), max(self._highs[-1], when)
        else:
            self._lows.append(when)
            self._highs.append(when)
        self._offsets.append(offset)

    def record(self, row: int) -> Inference:
        """Decode a record."""
        return _full.decode(os.pread(self._handle, self._lengths[row], self._offsets[row]))

    def find(self, identifier: str) -> Inference | None:
        """The record with an id."""
        wanted, ids, start = hash(identifier), self._hashes["id"], 0
        while True:
            try:
                row = ids.index(wanted, start)
            except ValueError:
                return None
            record = self.record(row)
            if record.id == identifier:
                return record
            start = row + 1

    def best(self, wanted: Filter, limit: int) -> list[Inference]:
        """The first ``limit`` matching records in the order the filter asks for, and those of the last one's time."""
        times = self.figures["time"]
        found: list[Inference] = []
        for row in self._ordered(wanted):
            # Rows of one time are ordered by id, which only the decoded record has: finish the time, then stop.
            if len(found) >= limit and times[row] != found[-1].time:
                break
            record = self.record(row)
            if wanted.matches(record):
                found.append(record)
        return found

    def columns(self, wanted: Filter) -> dict[str, Any]:
        """The figures of the matching rows, as arrays of numpy; empty when there are none."""
        import numpy as np  # 0.15 s: not for a process that only writes

        with self._lock:  # an array cannot grow while numpy looks at it
            size = len(self._offsets)
            figures = {name: np.array(column[:size], dtype=np.int64) for name, column in self.figures.items()}
            chosen = (figures["time"] >= wanted.since) & (figures["time"] < wanted.until)
            for name, value in wanted.equal().items():
                column = figures["status"] if name == "status" else np.array(self._hashes[name][:size], dtype=np.int64)
                chosen &= column == (value if name == "status" else hash(value))
        return {name: column[chosen] for name, column in figures.items()} if chosen.any() else {}

    def _ordered(self, wanted: Filter) -> Iterator[int]:
        """The rows that may match (right in time, and in the rest but for a collision of hashes), by time.

        Goes from block to block: records come nearly in order of time, so a page needs only the first few blocks.
        """
        times, sign = self.figures["time"], -1 if wanted.descending else 1
        since, until = wanted.since, wanted.until
        if wanted.cursor is not None:
            since, until = (since, wanted.cursor[0] + 1) if wanted.descending else (wanted.cursor[0], until)
        equal = [
            (self.figures["status"], value) if name == "status" else (self._hashes[name], hash(value))
            for name, value in wanted.equal().items()
        ]
        size = len(self._offsets)
        edges = self._highs if wanted.descending else self._lows
        blocks = [block for block in range(len(edges)) if self._lows[block] < until and self._highs[block] >= since]
        heap: list[tuple[int, int]] = []
        for block in sorted(blocks, key=lambda block: sign * edges[block]):
            while heap and heap[0][0] < sign * edges[block]:
                yield heapq.heappop(heap)[1]
            for row in range(block * BLOCK, min(size, (block + 1) * BLOCK)):
                if since <= times[row] < until and all(column[row] == value for column, value in equal):
                    heapq.heappush(heap, (sign * times[row], row))
        while heap:
            yield heapq.heappop(heap)[1]

    def close(self) -> None:
        """Let go of the file."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def __del__(self) -> None:
        self.close()


def _bounded(value: int) -> int:
    return max(MISSING, min(value, (1 << 63) - 1))


class Indexes:
    """The indexes of all journals in a directory. Thread-safe."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self._known: dict[str, Index] = {}

    def refresh(self) -> list[Index]:
        """Every journal there is now, read to its end."""
        with self._lock:
            names = {name for name in os.listdir(self._directory) if is_journal(name)}
            for name in self._known.keys() - names:
                del self._known[name]
            for name in names - self._known.keys():
                try:
                    self._known[name] = Index(self._directory / name)
                except FileNotFoundError:
                    continue
            indexes = list(self._known.values())
        for index in indexes:
            index.refresh()
        return indexes
