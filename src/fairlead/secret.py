"""Secrets by reference: where one is (the environment, a file, the system's keyring), and how it stays out of logs.

A secret stands in no configuration. What has been read is remembered only to be taken out of whatever is written.
"""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path
from typing import Final

from fairlead.errors import SecretUnreadable, install_extra
from fairlead.readable import readable

REFERENCE: Final = r"^(env:[A-Za-z_][A-Za-z0-9_]*|file:\S.*|keyring:[^/\s]+/\S+)$"
"""What a reference looks like."""
SHORTEST: Final = 6
"""Shorter values are too likely to be a part of ordinary words to be taken out of them."""
_LOOKS_LIKE_ONE = re.compile(r"\b(?:(?:sk|fl|key|pk|xoxb)[-_]|Bearer +)[A-Za-z0-9_\-.]{8,}")
_IN_ADDRESS = re.compile(r"(://[^/\s:@]*:)[^/\s@]+@")


_known: set[str] = set()
"""Of the whole process, because what one part has read another may log."""


def read(reference: str, base: Path) -> str:
    """The secret behind ``reference``, without white space around it; empty when it is not set. Paths are below
    ``base``. Raises SecretUnreadable.
    """
    kind, _, where = reference.partition(":")
    try:
        if kind == "env":
            found = os.environ.get(where, "")
        elif kind == "file":
            found = (base / where).read_text(encoding="utf-8")
        else:
            found = _from_keyring(reference, where)
    except OSError as error:
        raise SecretUnreadable(reference=reference, detail=error.strerror or str(error)) from error
    except ValueError as error:  # no UTF-8, or a path that can be none
        raise SecretUnreadable(reference=reference, detail="it holds no text") from error
    found = found.strip()
    remember(found)
    return found


def remember(value: str) -> None:
    """Take ``value`` out of whatever is written from now on."""
    if len(value) >= SHORTEST:
        _known.add(value)


def hide(text: str) -> str:
    """``text`` without any secret that has been read, what looks like a key, and passwords in addresses."""
    for value in _known:
        text = text.replace(value, "[secret]")
    if "@" in text:
        text = _IN_ADDRESS.sub(r"\1[secret]@", text)
    return _LOOKS_LIKE_ONE.sub("[key]", text)


def _from_keyring(reference: str, where: str) -> str:
    try:
        import keyring  # a library of its own for desktops and few servers
        from keyring.errors import KeyringError
    except ImportError as error:
        detail = f"the keyring needs a library; run: {install_extra('keyring')}"
        raise SecretUnreadable(reference=reference, detail=detail) from error
    service, _, name = where.partition("/")
    try:
        return keyring.get_password(service, name) or ""
    except KeyringError as error:
        raise SecretUnreadable(reference=reference, detail=str(error) or type(error).__name__) from error


class HidingFormatter(logging.Formatter):
    """Writes log lines, tracebacks included, through ``hide``, and none that does something to the terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """The line to write."""
        return readable(hide(super().format(record)))
