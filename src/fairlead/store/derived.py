"""Derived: what was worked out from something else and can be worked out again. Losing it costs time, never data."""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

_KEY = re.compile(r"[0-9a-f]{64}")
MAX_BYTES = 512 * 1024 * 1024
"""From here on the entries that were not used for longest are dropped."""


class Derived:
    """A directory of results under the SHA-256 of all they depend on. Any number of processes may use it at once."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def get(self, key: str) -> bytes | None:
        """What was put under ``key`` (64 hex digits); None when there is nothing or it cannot be read."""
        path = self._path(key)
        try:
            data = path.read_bytes()
            os.utime(path)
        except OSError:
            return None
        return data

    def put(self, key: str, data: bytes) -> None:
        """Keep ``data``. A full or read-only disk is not an error here: it is worked out again next time."""
        path = self._path(key)
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle, name = tempfile.mkstemp(dir=self._directory, prefix=".put-")
            try:
                with os.fdopen(handle, "wb") as target:
                    target.write(data)
                Path(name).replace(path)
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise
        except OSError:
            return
        self._prune()

    def _prune(self) -> None:
        try:
            entries = [(entry.stat().st_mtime, entry.stat().st_size, entry) for entry in self._directory.iterdir()]
        except OSError:
            return
        left = sum(size for _, size, _ in entries)
        for _, size, entry in sorted(entries, key=lambda each: each[0]):
            if left <= MAX_BYTES:
                return
            entry.unlink(missing_ok=True)
            left -= size

    def _path(self, key: str) -> Path:
        if not _KEY.fullmatch(key):
            raise ValueError(f"a key has 64 hex digits, found {key[:80]!r}")
        return self._directory / key
