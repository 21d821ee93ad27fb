"""Fold: what a finished stream said, from the bytes that passed. Runs after the last byte, never per chunk.

Tolerant: what does not look like the protocol is left out, nothing raises. Pure.
"""

from __future__ import annotations

from typing import Any

import msgspec
import orjson

from fairlead.gateway.fragments import Fragments
from fairlead.providers import sse


class Folded(msgspec.Struct, kw_only=True):
    """``choices`` as a call without streaming would have returned them; ``first_at`` is the byte offset where the
    first event that carries words or a tool call begins; ``pieces`` counts such events, ``unread`` those that cannot
    be read. ``model`` is the name the server gives itself.
    """

    choices: list[dict[str, Any]]
    finish: str = ""
    first_at: int | None = None
    pieces: int = 0
    unread: int = 0
    usage: dict[str, Any] | None = None
    model: str = ""


def fold(raw: bytes) -> Folded:
    """Put the chunks of ``raw`` (server-sent events) together."""
    found: dict[int, _Choice] = {}
    folded = Folded(choices=[])
    offset = 0
    for event in sse.split(raw):
        chunk = _decode(event)
        carries = False
        if chunk is not None:
            if isinstance(usage := chunk.get("usage"), dict):
                folded.usage = usage
            if not folded.model and isinstance(model := chunk.get("model"), str):
                folded.model = model
            choices = chunk.get("choices")
            for choice in choices if isinstance(choices, list) else ():
                if isinstance(choice, dict):
                    index = choice.get("index")
                    place = index if isinstance(index, int) else 0
                    if place not in found:
                        found[place] = _Choice()
                    carries |= found[place].add(choice)
        elif sse.payload(event).strip() not in (b"", b"[DONE]"):
            folded.unread += 1
        if carries:
            folded.pieces += 1
            if folded.first_at is None:
                folded.first_at = offset
        offset += len(event)
    folded.choices = [choice.whole(index) for index, choice in sorted(found.items())]
    if folded.choices:
        folded.finish = folded.choices[0]["finish_reason"] or ""
    return folded


def _decode(event: bytes) -> dict[str, Any] | None:
    if event.startswith(
        b"data: {"
    ):  # one line of data, as nearly every event is; loads ignores the empty line after it
        try:
            chunk = orjson.loads(event[6:])
        except orjson.JSONDecodeError:
            pass
        else:
            return chunk if isinstance(chunk, dict) else None
    try:
        chunk = orjson.loads(sse.payload(event))
    except orjson.JSONDecodeError:
        return None
    return chunk if isinstance(chunk, dict) else None


class _Choice:
    """One choice in the making."""

    __slots__ = ("calls", "extra", "finish", "fragments", "is_chat", "logprobs", "text")

    def __init__(self) -> None:
        self.text: list[str] = []
        self.calls: dict[int, dict[str, Any]] = {}
        self.fragments = Fragments()
        self.extra: dict[str, Any] = {}
        self.logprobs: list[Any] = []
        self.finish: str | None = None
        self.is_chat = True

    def add(self, choice: dict[str, Any]) -> bool:
        """Take in one chunk; True when it carries words or a tool call."""
        if (finish := choice.get("finish_reason")) is not None and isinstance(finish, str):
            self.finish = finish
        if (logprobs := choice.get("logprobs")) is not None:
            self._add_logprobs(logprobs)
        if "fairlead" in choice:
            self.extra["fairlead"] = choice["fairlead"]
        delta = choice.get("delta")
        if isinstance(delta, dict):
            if len(delta) == 1 and type(content := delta.get("content")) is str:  # nearly every chunk
                self.text.append(content)
                return bool(content)
            return self._add_delta(delta)
        if isinstance(text := choice.get("text"), str):
            self.is_chat = False
            self.text.append(text)
            return bool(text)
        return False

    def _add_logprobs(self, logprobs: Any) -> None:
        if isinstance(logprobs, dict) and isinstance(logprobs.get("content"), list):
            self.logprobs += logprobs["content"]

    def _add_delta(self, delta: dict[str, Any]) -> bool:
        carries = False
        for name, value in delta.items():
            if name == "content":
                if isinstance(value, str) and value:
                    self.text.append(value)
                    carries = True
            elif name == "tool_calls":
                carries |= self._add_calls(value)
            elif isinstance(value, str) and isinstance(self.extra.get(name), str) and name != "role":
                self.extra[name] += value
            elif value is not None:
                self.extra[name] = value
        return carries

    def _add_calls(self, calls: Any) -> bool:
        carries = False
        for made in calls if isinstance(calls, list) else ():
            if not isinstance(made, dict):
                continue
            carries = True
            whole = self.calls.setdefault(self.fragments.place(made), {"function": {}})
            whole.update({name: made[name] for name in ("id", "type", "extra_content") if made.get(name)})
            function = made.get("function")
            for name, value in function.items() if isinstance(function, dict) else ():
                if isinstance(value, str):
                    whole["function"][name] = whole["function"].get(name, "") + value
        return carries

    def whole(self, index: int) -> dict[str, Any]:
        """The choice put together."""
        text = "".join(self.text)
        choice: dict[str, Any] = {"index": index, "finish_reason": self.finish}
        if not self.is_chat:
            return {**choice, "text": text}
        message = {"role": "assistant", "content": text or None, **self.extra}
        if self.calls:
            message["tool_calls"] = [made for _, made in sorted(self.calls.items())]
        elif not text:
            message["content"] = ""
        choice["message"] = message
        if self.logprobs:
            choice["logprobs"] = {"content": self.logprobs}
        return choice
