"""Server-sent events as bytes: writing them, cutting a stream at their ends, reading their payloads.

Follows the "event stream" part of the HTML standard as far as the OpenAI protocol uses it: ``data`` lines, events
ended by an empty line, ``data: [DONE]`` last. Knows nothing of what the payloads mean.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson

DONE = b"data: [DONE]\n\n"
LARGEST_EVENT = 1024 * 1024
_EMPTY_LINE = re.compile(rb"\n\r?\n")


class EventTooLarge(ValueError):
    """A stream went on for LARGEST_EVENT bytes without ending an event."""


def encode(payload: Mapping[str, Any]) -> bytes:
    """One event that carries ``payload`` as JSON."""
    return b"data: " + orjson.dumps(payload) + b"\n\n"


class Splitter:
    """Turns a byte stream cut anywhere (inside an event, inside a character) into runs of whole events."""

    __slots__ = ("_rest",)

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> bytes:
        """The whole events that are complete now, unchanged; b"" when none is. Raises EventTooLarge."""
        if self._rest:
            data = self._rest + data
        if data.endswith(b"\n\n"):  # almost always: upstreams write whole events
            self._rest = b""
            return data
        plain, windows = data.rfind(b"\n\n"), data.rfind(b"\n\r\n")
        end = max(plain + 2 if plain >= 0 else 0, windows + 3 if windows >= 0 else 0)
        self._rest = data[end:]
        if len(self._rest) > LARGEST_EVENT:
            raise EventTooLarge
        return data[:end]

    def rest(self) -> bytes:
        """What came after the last whole event."""
        return self._rest


def split(events: bytes) -> list[bytes]:
    """Every event of a run of whole events, each with the empty line that ends it, unchanged."""
    if b"\r" not in events:
        found = [event + b"\n\n" for event in events.split(b"\n\n")]
        last = found.pop()[:-2]
    else:
        found, start = [], 0
        for end in _EMPTY_LINE.finditer(events):
            found.append(events[start : end.end()])
            start = end.end()
        last = events[start:]
    return [*found, last] if last else found


def payload(event: bytes) -> bytes:
    """The joined ``data`` lines of one event; b"" for a comment or an event without data."""
    lines = []
    for line in event.splitlines():
        if line.startswith(b"data:"):
            value = line[5:]
            lines.append(value[1:] if value.startswith(b" ") else value)
    return b"\n".join(lines)
