"""What a batch has been answered so far: a journal for each attempt, and the files made of them at the end.

**A line that is whole in a journal is never asked again, and of two for one request the first counts.** Each attempt
writes a journal of its own, so nobody ever writes into a file that another writes; a line torn by a crash is no line.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import orjson

from fairlead.records import new_id
from fairlead.store.files import explained

_SUFFIX = ".answers"


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """One request's answer: ``line`` as it stands in the output file, or (``ok`` False) in the error file."""

    number: int
    ok: bool
    line: bytes
    input_tokens: int = 0
    output_tokens: int = 0
    cost: int | None = None


class _Entry(msgspec.Struct, frozen=True, array_like=True):
    number: int
    ok: bool
    input_tokens: int
    output_tokens: int
    cost: int | None
    line: msgspec.Raw


class Tally(msgspec.Struct):
    """Sums over the answers. ``cost`` is nano-dollars, None once one is unknown."""

    completed: int = 0
    failed: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: int | None = 0

    def add(self, entry: Answer | _Entry) -> None:
        """Count one more."""
        self.completed += entry.ok
        self.failed += not entry.ok
        self.input_tokens += entry.input_tokens
        self.output_tokens += entry.output_tokens
        self.cost = None if self.cost is None or entry.cost is None else self.cost + entry.cost


_decode = msgspec.json.Decoder(_Entry).decode


class Results:
    """The answers of one batch, written as one attempt. ``answered`` marks the requests that have one."""

    def __init__(self, folder: Path, attempt: int, total: int) -> None:
        self.answered = bytearray(total)
        self.tally = Tally()
        self._folder = folder
        self._torn = False
        for entry in self._entries():
            self.tally.add(entry)
        with explained(folder):
            self._file = (folder / f"{attempt:08d}{_SUFFIX}").open("ab", buffering=0)

    def add(self, answer: Answer) -> None:
        """Keep an answer; a second one for the same request is dropped. One write, so a killed process loses no more
        than the line it was writing. Raises StoreFull.
        """
        if self.answered[answer.number]:
            return
        figures = f"[{answer.number},{'true' if answer.ok else 'false'},{answer.input_tokens},{answer.output_tokens},"
        cost = "null" if answer.cost is None else str(answer.cost)
        gap = b"\n" if self._torn else b""
        raw = b"%b%b%b,%b]\n" % (gap, figures.encode("ascii"), cost.encode("ascii"), answer.line)
        with explained(self._folder):
            if self._file.write(raw) != len(raw):  # the disk is full: the torn line must not swallow the next
                self._torn = True
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._torn = False
        self.answered[answer.number] = 1
        self.tally.add(answer)

    def sync(self) -> None:
        """Have the disk keep what was added, also through a power cut. Raises StoreFull."""
        with explained(self._folder):
            os.fdatasync(self._file.fileno())

    def write(self, output: Path, errors: Path, missing: Callable[[int], bytes]) -> tuple[Tally, int, int]:
        """Make the two files, in the order of the input; returns the sums of what is in them, and each one's lines.

        ``missing`` makes the error line of a request without an answer. Raises StoreFull.
        """
        place = dict(self._places())
        tally, bad = Tally(), 0
        sources: dict[Path, int] = {}
        try:
            with explained(self._folder), output.open("wb") as right, errors.open("wb") as wrong:
                for number in range(len(self.answered)):
                    if number not in place:
                        wrong.write(missing(number) + b"\n")
                        bad += 1
                        continue
                    path, start, length = place[number]
                    if path not in sources:
                        sources[path] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                    entry = _decode(os.pread(sources[path], length, start))
                    (right if entry.ok else wrong).write(bytes(entry.line) + b"\n")
                    tally.add(entry)
        finally:
            for handle in sources.values():
                os.close(handle)
        return tally, tally.completed, tally.failed + bad

    def close(self) -> None:
        """Let go of the journal. Idempotent."""
        self._file.close()

    def _entries(self) -> Iterator[_Entry]:
        """The answer of each request that has one, marking it."""
        for _, _, _, raw in self._lines():
            try:
                entry = _decode(raw)
            except msgspec.DecodeError:
                continue
            if 0 <= entry.number < len(self.answered) and not self.answered[entry.number]:
                self.answered[entry.number] = 1
                yield entry

    def _places(self) -> Iterator[tuple[int, tuple[Path, int, int]]]:
        """Where the answer of each request lies: journal, offset, length."""
        seen = bytearray(len(self.answered))
        for path, start, length, raw in self._lines():
            try:
                number = _decode(raw).number
            except msgspec.DecodeError:
                continue
            if 0 <= number < len(seen) and not seen[number]:
                seen[number] = 1
                yield number, (path, start, length)

    def _lines(self) -> Iterator[tuple[Path, int, int, bytes]]:
        """Every whole line of every journal, in the order of the attempts."""
        for path in sorted(self._folder.glob(f"*{_SUFFIX}")):
            start = 0
            with path.open("rb") as file:
                for raw in file:
                    if raw.endswith(b"\n"):
                        yield path, start, len(raw), raw
                    start += len(raw)


def success(custom_id: str, status: int, request: str, body: object) -> bytes:
    """The line of a request that was answered, with whatever status."""
    response = {"status_code": status, "request_id": request, "body": body}
    return orjson.dumps({"id": _line_id(), "custom_id": custom_id, "response": response, "error": None})


def failure(custom_id: str, code: str, message: str) -> bytes:
    """The line of a request that nobody answered."""
    error = {"code": code, "message": message}
    return orjson.dumps({"id": _line_id(), "custom_id": custom_id, "response": None, "error": error})


def _line_id() -> str:
    return "batch_req_" + new_id().replace("-", "")
