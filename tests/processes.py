"""Servers as processes of their own: they say where they listen, so that no port is chosen before it is taken."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path


def await_address(log: Path, process: subprocess.Popen[bytes], within_s: float = 200.0) -> str:
    """Where ``process`` listens, as it has said in ``log``: a URL without a path."""
    until = time.monotonic() + within_s
    said = re.compile(r"(?:served at|running on) (https?://127\.0\.0\.1:\d+)")
    while not (found := said.search(text := log.read_text(errors="replace"))):
        assert process.poll() is None, text
        assert time.monotonic() < until, text
        time.sleep(0.02)
    return found[1]
