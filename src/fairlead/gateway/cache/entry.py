"""An answer that is kept, in the form it came in and, once somebody asked for it, in the other one. Pure.

A stream answers a call that does not stream, and the other way round: the words, the reason it ended and the usage are
the same, only the envelope differs. Answers with tool calls are never kept, so no call is ever turned.
"""

from __future__ import annotations

from typing import Any

import orjson

from fairlead.gateway.fold import fold
from fairlead.providers import sse
from fairlead.records import KeptAnswer

OVERHEAD = 1_500
"""Bytes an entry takes besides its data, roughly; a test weighs it."""
_WHOLE = {"chat": "chat.completion", "completion": "text_completion"}
_CHUNK = {"chat": "chat.completion.chunk", "completion": "text_completion"}


class Entry:
    """A kept answer and what was worked out from it. ``shown`` is its output as the records show it, masked."""

    __slots__ = ("_body", "_pieces", "answer", "shown", "size")

    def __init__(self, answer: KeptAnswer) -> None:
        self.answer = answer
        self.shown: str | None = None
        self._body: bytes | None = None if answer.stream else answer.data
        self._pieces: list[bytes] | None = None
        # Twice the data: the other form, and the shown output, come later and are not weighed again.
        self.size = OVERHEAD + 2 * len(answer.data) + len(answer.text) * 2

    def body(self) -> bytes:
        """The answer as one JSON body."""
        if self._body is None:
            self._body = whole_of(self.answer.data, self.answer.operation)
        return self._body

    def pieces(self) -> list[bytes]:
        """The answer as a stream: everything before the usage, the usage, the end; each whole events."""
        if self._pieces is None:
            events = self.answer.data if self.answer.stream else events_of(self.answer.data, self.answer.operation)
            self._pieces = _cut(events)
        return self._pieces


def _cut(events: bytes) -> list[bytes]:
    """Pieces such that only a small one holds the usage: the relay looks into a piece that may."""
    pieces: list[bytes] = []
    plain: list[bytes] = []
    for event in sse.split(events):
        if b'_tokens"' in event:
            pieces += [b"".join(plain), event] if plain else [event]
            plain = []
        else:
            plain.append(event)
    return [*pieces, b"".join(plain)] if plain else pieces


def whole_of(events: bytes, operation: str) -> bytes:
    """The body a call without streaming would have got. ``events`` are those of a finished stream."""
    folded = fold(events)
    head: dict[str, Any] = {}
    for event in sse.split(events):
        try:
            chunk = orjson.loads(sse.payload(event))
        except orjson.JSONDecodeError:
            continue
        if isinstance(chunk, dict):
            head = {name: chunk[name] for name in chunk if name not in ("choices", "usage", "object")}
            break
    whole = {**head, "object": _WHOLE.get(operation, "chat.completion"), "choices": folded.choices}
    if folded.usage is not None:
        whole["usage"] = folded.usage
    return orjson.dumps(whole)


def events_of(body: bytes, operation: str) -> bytes:
    """The events of a stream that says what ``body`` says, the usage among them where it is known."""
    whole = orjson.loads(body)
    head = {name: whole[name] for name in whole if name not in ("choices", "usage", "object")}
    head["object"] = _CHUNK.get(operation, "chat.completion.chunk")
    events = []
    for choice in whole.get("choices") or ():
        index, finish = choice.get("index", 0), choice.get("finish_reason")
        said: dict[str, Any] = {
            name: value for name, value in choice.items() if name not in ("index", "finish_reason", "message")
        }
        end: dict[str, Any] = {"text": ""}
        if "message" in choice:
            said["delta"] = {name: value for name, value in choice["message"].items() if value is not None}
            end = {"delta": {}}
        events.append(sse.encode({**head, "choices": [{"index": index, **said, "finish_reason": None}]}))
        events.append(sse.encode({**head, "choices": [{"index": index, **end, "finish_reason": finish}]}))
    if isinstance(usage := whole.get("usage"), dict):
        events.append(sse.encode({**head, "choices": [], "usage": usage}))
    return b"".join([*events, sse.DONE])


def finish_of(choices: Any) -> str:
    """``stop`` where every choice came to its own end in words; else the reason why it may not be kept."""
    if not isinstance(choices, list) or not choices:
        return "no choices"
    for choice in choices:
        if not isinstance(choice, dict):
            return "no choices"
        message = choice.get("message")
        if isinstance(message, dict) and (message.get("tool_calls") or message.get("function_call")):
            return "tool calls"
        if isinstance(message, dict) and message.get("refusal"):
            return "refusal"
        if choice.get("finish_reason") != "stop":
            return str(choice.get("finish_reason") or "no finish")
    return "stop"
