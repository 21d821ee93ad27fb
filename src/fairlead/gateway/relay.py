"""Relay: what happens to the bytes of a stream between the upstream and the client, and what is kept for the record.

Bytes come cut anywhere and leave as whole events, unchanged, except that the usage chunk is withheld from a client
that did not ask for it. Nothing is parsed that need not be: an event is decoded only if it may hold usage or an error.
Pure: knows no HTTP, no clock, no loop.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import orjson

from fairlead.errors import UpstreamBroken
from fairlead.providers import sse

CAPTURE_BYTES = 4 * 1024 * 1024
"""So much of a stream is kept for the record; of a longer one, this much of its beginning and the last pieces."""
_LAST_PIECES = 16


class Relay:
    """One stream on its way. Feed it what arrives, send what it returns, then ask ``end``."""

    __slots__ = ("_captured_size", "_last", "_over", "_splitter", "_wants_usage", "captured", "upstream", "usage")

    def __init__(self, upstream: str, *, wants_usage: bool) -> None:
        self.upstream = upstream
        self._wants_usage = wants_usage
        self._splitter = sse.Splitter()
        self._over = False
        self._captured_size = 0
        self._last: deque[bytes] = deque(maxlen=_LAST_PIECES)
        self.captured: list[bytes] = []
        self.usage: dict[str, Any] | None = None

    def feed(self, data: bytes) -> bytes:
        """What may be sent now, often all of ``data``; nothing of what comes after [DONE].

        Raises UpstreamBroken when the upstream reports an error, sends what is no text, or is done before it began.
        """
        if self._over:
            return b""
        try:
            whole = self._splitter.feed(data)
        except sse.EventTooLarge as error:
            raise UpstreamBroken(name=self.upstream, detail="it sent an event without end") from error
        if not whole.isascii():
            self._check_text(whole)
        if b"[DONE]" in whole:
            whole = self._until_done(whole)
        if b'_tokens"' in whole or b'"error"' in whole:
            whole = self._inspect(whole)
        if whole:
            self._capture(whole)
        return whole

    def end(self) -> bytes:
        """What is left to send. Raises UpstreamBroken for a stream that stopped without saying it was done."""
        if self._over:
            return b""
        rest = self._splitter.rest()
        if rest.strip():
            self._capture(rest)
        if not _is_done(rest):
            raise UpstreamBroken(name=self.upstream, detail="the stream ended without [DONE]")
        self._over = True
        return rest

    def is_done(self) -> bool:
        """Whether [DONE] has come; what comes after it belongs to no answer."""
        return self._over

    def tail(self) -> list[bytes]:
        """The last pieces of a stream too long to be captured whole; empty for any other."""
        return list(self._last)

    def _check_text(self, whole: bytes) -> None:
        """Events end between characters, so that a character is never cut here, wherever the stream was."""
        try:
            whole.decode()
        except UnicodeDecodeError as error:
            raise UpstreamBroken(name=self.upstream, detail="it sent bytes that are no UTF-8") from error

    def _until_done(self, whole: bytes) -> bytes:
        """``whole`` up to [DONE], where it holds it as an event and not as words."""
        end = 0
        for event in sse.split(whole):
            end += len(event)
            if _is_done(event):
                if not self._captured_size and end == len(event):
                    raise UpstreamBroken(name=self.upstream, detail="its stream holds nothing")
                self._over = True
                return whole[:end]
        return whole

    def _capture(self, piece: bytes) -> None:
        self._captured_size += len(piece)
        if self._captured_size <= CAPTURE_BYTES:
            self.captured.append(piece)
        else:
            self._last.append(piece)

    def _inspect(self, whole: bytes) -> bytes:
        """``whole`` without the usage chunk, unless it was asked for."""
        passed: list[bytes] = []
        for event in sse.split(whole):
            try:
                chunk = orjson.loads(sse.payload(event))
            except orjson.JSONDecodeError:
                chunk = None
            if isinstance(chunk, dict):
                if chunk.get("error") and not chunk.get("choices"):
                    if passed:  # what came before it has been generated, and is paid for
                        self._capture(b"".join(passed))
                    raise UpstreamBroken(name=self.upstream, detail=_message(chunk["error"]))
                if isinstance(chunk.get("usage"), dict):
                    self.usage = chunk["usage"]
                    if chunk.get("choices") == [] and not self._wants_usage:
                        continue
            passed.append(event)
        return b"".join(passed)


def _is_done(event: bytes) -> bool:
    return b"[DONE]" in event and sse.payload(event).strip() == b"[DONE]"


def _message(error: Any) -> str:
    text = error.get("message") if isinstance(error, dict) else error
    return str(text)[:500]
