"""A model's answer while it comes in, chunk by chunk: its text, its tool calls, what it says about itself."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from fairlead.gateway.fragments import Fragments, text_of
from fairlead.gateway.usage import tokens_of

MAX_TEXT: Final = 20_000
"""Characters of one answer; a model that writes more is cut off."""
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class ToolCall(msgspec.Struct, kw_only=True):
    """A call as a model wrote it; ``arguments`` is JSON text, unchecked. ``extra`` goes back to it unread."""

    id: str = ""
    name: str = ""
    arguments: str = ""
    extra: dict[str, Any] | None = None

    def message(self) -> dict[str, Any]:
        """The form it has in an assistant message that goes back to a model: a name and arguments every model takes."""
        name = self.name if _NAME.fullmatch(self.name) else "unknown"
        try:
            arguments = self.arguments if len(self.arguments) <= MAX_TEXT else ""
            msgspec.json.decode(arguments, type=dict[str, Any])
        except msgspec.DecodeError:
            arguments = "{}"
        extra = {"extra_content": self.extra} if self.extra else {}
        return {"id": self.id, "type": "function", "function": {"name": name, "arguments": arguments}, **extra}


class Draft:
    """Collects the chunks of one streamed answer."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin again, for another answer to the same question."""
        self.rejected = ""
        self.text = ""
        self.calls: list[ToolCall] = []
        self._fragments = Fragments()
        self._places: dict[int, ToolCall] = {}
        self.extras: dict[str, Any] = {}
        self.input_tokens = 0
        self.output_tokens = 0

    def feed(self, chunk: dict[str, Any]) -> str:
        """Take one chunk in; returns its text."""
        usage = chunk.get("usage")
        if isinstance(usage, dict):
            read, written = tokens_of(usage)
            self.input_tokens, self.output_tokens = read or 0, written or 0
        text = ""
        choices = chunk.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            delta = choice.get("delta") if isinstance(choice, dict) else None
            delta = delta if isinstance(delta, dict) else {}
            text += text_of(delta.get("content"))
            extras = delta.get("fairlead") or (choice.get("fairlead") if isinstance(choice, dict) else None)
            self.extras.update(extras if isinstance(extras, dict) else {})
            calls = delta.get("tool_calls")
            for part in calls if isinstance(calls, list) else ():
                if isinstance(part, dict):
                    self._take_call(part)
        text = text[: max(0, MAX_TEXT - len(self.text))]
        self.text += text
        return text

    def _take_call(self, part: dict[str, Any]) -> None:
        place = self._fragments.place(part)
        if place not in self._places:
            self._places[place] = ToolCall(id=f"call_{len(self.calls)}")
            self.calls.append(self._places[place])
        call, function = self._places[place], part.get("function")
        function = function if isinstance(function, dict) else {}
        call.id = text_of(part.get("id")) or call.id
        call.name = text_of(function.get("name")) or call.name
        call.arguments += text_of(function.get("arguments"))
        extra = part.get("extra_content")
        call.extra = extra if isinstance(extra, dict) else call.extra
