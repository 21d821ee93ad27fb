"""The journal: where a trace is first written. One JSON object a line, each with its own length and checksum.

A line is ``{"_":"<crc32><length>",`` followed by the record's members: ``crc32`` (8 hex digits) is of the record's
JSON, ``length`` (8 hex digits) its size in bytes. So every line is plain JSON for other tools, and a line that was
written in part, or changed since, is known as such. A journal belongs to the process that holds its ``flock``; one that
nobody holds was left behind. This module knows no record types and no database.
"""

from __future__ import annotations

import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

import msgspec

from fairlead.records import new_id, now_us, time_of

SUFFIX = ".jsonl"
TORN = ".torn"
_NAME = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\.jsonl")
_MAGIC = b'{"_":"'
_PREFIX = 24
_BRACE = crc32(b"{")
_NEWLINE = 0x0A
_CHUNK = 1 << 22
_TAIL = 1 << 16

MOST_BYTES = 64 << 20
"""A journal is finished at this size at the latest; sorting it, when it becomes a segment, takes 1.6 times that."""


def is_journal(name: str) -> bool:
    """Whether a file of the journal directory is a journal; whatever else lies there is left alone."""
    return _NAME.fullmatch(name) is not None


def journals_in(directory: Path) -> list[Path]:
    """The journals in a directory, oldest first."""
    return sorted(directory / name for name in os.listdir(directory) if is_journal(name))


def frame(body: bytes) -> bytes:
    """The journal line, with its newline, of a non-empty JSON object."""
    return b'{"_":"%08x%08x",%b\n' % (crc32(body), len(body), body[1:])


class Scan(msgspec.Struct):
    """What lies in a piece of journal: whole lines and damage, as offset pairs, and where the rest begins.

    ``rest`` is the offset of bytes that may be the beginning of a line still being written.
    """

    lines: list[tuple[int, int]]
    damage: list[tuple[int, int]]
    rest: int


def scan(data: bytes, *, final: bool = False) -> Scan:
    """Find the whole lines. Never raises. With ``final`` nothing more will come, so the rest is judged as well."""
    found = Scan(lines=[], damage=[], rest=0)
    view = memoryview(data)
    position, size = 0, len(data)
    while position < size:
        end = _whole(data, view, position)
        if 0 < end < size or (end == size and final):
            found.lines.append((position, end))
            if end < size and data[end] != _NEWLINE:
                found.damage.append((end, end + 1))
            position = end + 1
            continue
        newline = data.find(b"\n", position)
        if newline < 0 and not final:
            break
        stop = size if newline < 0 else newline + 1
        if found.damage and found.damage[-1][1] == position:
            found.damage[-1] = (found.damage[-1][0], stop)
        else:
            found.damage.append((position, stop))
        position = stop
    found.rest = min(position, size)
    return found


def _whole(data: bytes, view: memoryview, position: int) -> int:
    """The end (without newline) of the whole line that begins here, or 0."""
    if data[position : position + 6] != _MAGIC:
        return 0
    try:
        numbers = int(data[position + 6 : position + 22], 16)
    except ValueError:
        return 0
    declared = numbers & 0xFFFFFFFF
    end = position + _PREFIX + declared - 1
    if declared < 2 or end > len(data) or crc32(view[position + _PREFIX : end], _BRACE) != numbers >> 32:
        return 0
    return end


def read(handle: int, start: int, *, final: bool = False) -> Iterator[tuple[int, bytes, Scan]]:
    """Scan a file from an offset on, a few megabytes at a time: (offset, bytes, what lies in them)."""
    carry = b""
    while True:
        piece = os.pread(handle, max(_CHUNK, len(carry)), start + len(carry))
        data = carry + piece
        found = scan(data, final=final and not piece)
        if found.lines or found.damage:
            yield start, data, found
        if not piece:
            return
        start, carry = start + found.rest, data[found.rest :]


class Journal:
    """A journal this process holds. Written by one thread."""

    def __init__(self, path: Path, handle: int) -> None:
        self.path = path
        self.id = path.name.removesuffix(SUFFIX)
        self.handle = handle
        self.size = os.fstat(handle).st_size
        self.rows = 0

    @classmethod
    def create(cls, directory: Path) -> Journal:
        """A new one. It gets its name only once it is locked, so that nobody takes it for a left-behind one."""
        identifier = new_id()
        path, hidden = directory / (identifier + SUFFIX), directory / f".{identifier}"
        handle = os.open(hidden, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_APPEND, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            hidden.rename(path)
        except OSError:
            os.close(handle)
            raise
        return cls(path, handle)

    @classmethod
    def take(cls, path: Path) -> Journal | None:
        """The journal at a path if nobody holds it, else None."""
        try:
            handle = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_APPEND)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(handle).st_nlink:
                return cls(path, handle)
        except BlockingIOError:
            pass
        os.close(handle)
        return None

    def age_us(self) -> int:
        """Microseconds since it was created."""
        return now_us() - time_of(self.id)

    def write(self, data: memoryview) -> int:
        """Append as much as the disk takes, and return how many bytes. Raises OSError when it takes none."""
        written = os.write(self.handle, data)
        self.size += written
        return written

    def is_clean(self) -> bool:
        """Whether the file ends with a whole line; looks only at the end unless a line is very long."""
        if not self.size:
            return True
        length = min(self.size, _TAIL)
        tail = os.pread(self.handle, length, self.size - length)
        if tail[-1] != _NEWLINE:
            return False
        start = tail.rfind(b"\n", 0, -1) + 1
        if not start and length < self.size:
            return self.size == sum(len(data[: found.rest]) for _, data, found in read(self.handle, 0))
        return bool(scan(tail[start:]).lines)

    def mend(self) -> str:
        """Cut off an end that is no whole line, keeping its bytes in ``*.torn``. Returns a sentence, or ``""``.

        Raises OSError when the bytes cannot be kept; the journal is then as it was.
        """
        if self.is_clean():
            return ""
        lines = end = 0
        ends_whole = False
        for start, _, found in read(self.handle, 0, final=True):
            lines += len(found.lines)
            if found.lines:
                end = start + found.lines[-1][1]
                ends_whole = end == self.size
                end = min(end + 1, self.size)
        if ends_whole:
            os.write(self.handle, b"\n")
            self.size += 1
            return (
                f"Journal {self.path.name}: its last line lacked only the line end; nothing was lost ({lines} records)."
            )
        line_end = bool(end) and os.pread(self.handle, 1, end - 1) != b"\n"  # damaged, too
        end -= line_end
        tail = os.pread(self.handle, self.size - end, end)
        aside = keep_aside(self.path, tail, end)
        os.ftruncate(self.handle, end)
        if line_end:
            os.write(self.handle, b"\n")
        self.size = end + line_end
        what = "its end was damaged" if line_end or b"\n" in tail else "its last record was written only in part"
        return (
            f"Journal {self.path.name}: {what}; {len(tail)} bytes were set aside in "
            f"{aside.name}, the {lines} whole records before are kept."
        )

    def close(self) -> None:
        """Let go of it."""
        if self.handle >= 0:
            os.close(self.handle)
            self.handle = -1

    def remove(self) -> None:
        """Delete the file, then let go of it."""
        self.path.unlink(missing_ok=True)
        self.close()


def keep_aside(path: Path, data: bytes, offset: int) -> Path:
    """Write bytes that cannot be read beside the journal they come from."""
    aside = path.with_name(f"{path.name.removesuffix(SUFFIX)}-{offset}{TORN}")
    with aside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return aside
