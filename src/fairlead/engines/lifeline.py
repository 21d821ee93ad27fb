"""The thread a child process hangs on: a socket on its standard input that ends when its parent does.

The parent writes one line of JSON, the child's configuration (so no secret stands in the process list or in the
environment), and keeps the socket open. The child reports back on it, one JSON object a line. When the parent dies,
however it dies, the kernel closes its end: the child reads end-of-file and leaves. On Linux the kernel also kills the
child at once (``PR_SET_PDEATHSIG``), even if the child is stuck in native code that holds the interpreter.

Runs in the child; knows nothing of what the child serves, and imports little because start-up time is waited for.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import socket
import sys
import threading
from typing import Any, Final

PR_SET_PDEATHSIG: Final = 1
ORPHANED: Final = 75
"""Exit status of a child whose parent went away (EX_TEMPFAIL of sysexits.h)."""
LONGEST_LINE: Final = 1 << 20


class Lifeline:
    """The child's end. Create it first thing in ``main``; exits the process when the parent is already gone."""

    def __init__(self) -> None:
        die_with_parent()
        try:
            self._socket = socket.socket(fileno=os.dup(0))
        except OSError:
            sys.exit("This is a part of Fairlead that `fairlead serve` starts; it does not run by itself.")
        self._lines = self._socket.makefile("rb")

    def receive(self) -> dict[str, Any]:
        """The configuration. Exits with status 75 when the parent left before sending it, or is not our parent."""
        line = self._lines.readline(LONGEST_LINE)
        if not line.endswith(b"\n"):
            os._exit(ORPHANED)
        config: dict[str, Any] = json.loads(line)
        # The parent may have died between fork and prctl: then somebody else adopted us and no signal will come.
        if os.getppid() != config["parent"]:
            os._exit(ORPHANED)
        threading.Thread(target=self._watch, name="lifeline", daemon=True).start()
        return config

    def report(self, **fields: Any) -> None:
        """Tell the parent something; a parent that no longer listens is no error, the watch ends us anyway."""
        try:
            self._socket.sendall(json.dumps(fields).encode() + b"\n")
        except OSError:
            os._exit(ORPHANED)

    def _watch(self) -> None:
        try:
            while self._lines.read(4096):
                pass
        finally:
            os._exit(ORPHANED)


def die_with_parent() -> None:
    if sys.platform != "linux":
        return
    # The signal is sent when the *thread* that started us ends, which for an asyncio parent is the loop's thread.
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
