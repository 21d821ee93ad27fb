"""What a child process writes, kept on disk within a fixed size, with the last lines at hand for an error message.

Knows nothing of processes. A full disk never stops an engine: the text is counted as lost and said so.
"""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path
from typing import Final

TAIL_BYTES: Final = 8192


class RotatingLog:
    """Append-only file that is renamed to ``.1``, ``.2`` ... when it reaches ``file_bytes``.

    On disk there are never more than ``file_bytes * (backups + 1)`` bytes. Readable by its owner only, since native
    code may write whatever it likes.
    """

    def __init__(self, path: Path, *, file_bytes: int = 1_000_000, backups: int = 2) -> None:
        self.path = path
        self.lost_bytes = 0
        self._file_bytes = file_bytes
        self._backups = backups
        self._tail: deque[bytes] = deque()
        self._tail_size = 0
        self._file: int | None = None
        self._written = 0

    def write(self, data: bytes) -> None:
        """Append ``data``; on an I/O error count it in ``lost_bytes`` and try again with the next."""
        self._remember(data)
        rest = memoryview(data)
        try:
            while rest:
                file = self._file if self._file is not None else self._open()
                if self._written >= self._file_bytes:
                    file = self._rotate()
                done = os.write(file, rest[: self._file_bytes - self._written])
                self._written += done
                rest = rest[done:]
        except OSError:
            self.lost_bytes += len(rest)
            self.close()

    def tail(self, lines: int = 8) -> str:
        """The last ``lines`` lines written, from memory."""
        text = b"".join(self._tail).decode("utf-8", "replace")
        return "\n".join([line.rstrip() for line in text.splitlines() if line.strip()][-lines:])

    def close(self) -> None:
        """Idempotent; a later write opens the file again."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _open(self) -> int:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._written = os.fstat(self._file).st_size
        return self._file

    def _rotate(self) -> int:
        self.close()
        for number in range(self._backups, 0, -1):
            older = self.path.with_name(f"{self.path.name}.{number}")
            newer = self.path.with_name(f"{self.path.name}.{number - 1}") if number > 1 else self.path
            if newer.exists():
                newer.replace(older)
        if not self._backups:
            self.path.unlink()
        return self._open()

    def _remember(self, data: bytes) -> None:
        data = data[-TAIL_BYTES:]
        self._tail.append(data)
        self._tail_size += len(data)
        while self._tail_size - len(self._tail[0]) >= TAIL_BYTES:
            self._tail_size -= len(self._tail.popleft())
