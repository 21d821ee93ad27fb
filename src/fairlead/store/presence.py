"""Which workers of this machine live: each holds a locked file, and the kernel lets go of it when the process ends.

So a worker that was killed is known to be dead at once, whatever the clock says. Workers of other machines cannot be
judged here.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import socket
from collections.abc import Iterator
from pathlib import Path

_SUFFIX = ".lock"


class Presence:
    """The workers that use one store."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    @contextlib.contextmanager
    def enter(self) -> Iterator[str]:
        """A fresh name under which this process is seen to live while the block lasts."""
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = f"{_machine()}-{os.getpid()}-{secrets.token_hex(4)}"
        path = self._directory / (name + _SUFFIX)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield name
        finally:
            path.unlink(missing_ok=True)
            os.close(handle)

    def is_gone(self, name: str) -> bool:
        """Whether the worker surely lives no more. False for one of another machine, for nobody can tell from here."""
        if name.rsplit("-", 2)[0] != _machine():
            return False
        path = self._directory / (name + _SUFFIX)
        try:
            handle = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return True
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        else:
            path.unlink(missing_ok=True)
            return True
        finally:
            os.close(handle)


def _machine() -> str:
    return "".join(c if c.isalnum() else "_" for c in socket.gethostname()) or "localhost"
