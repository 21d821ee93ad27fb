"""A model's answer while it comes in, chunk by chunk: its text, its tool calls, what it says about itself."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

MAX_TEXT: Final = 20_000
"""Characters of one answer; a model that writes more is cut off."""
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class ToolCall(msgspec.Struct, kw_only=True):
    """A call as a model wrote it; ``arguments`` is JSON text, unchecked."""

    id: str = ""
    name: str = ""
    arguments: str = ""

    def message(self) -> dict[str, Any]:
        """The form it has in an assistant message that goes back to a model: a name and arguments every model takes."""
        name = self.name if _NAME.fullmatch(self.name) else "unknown"
        try:
            arguments = self.arguments if len(self.arguments) <= MAX_TEXT else ""
            msgspec.json.decode(arguments, type=dict[str, Any])
        except msgspec.DecodeError:
            arguments = "{}"
        return {"id": self.id, "type": "function", "function": {"name": name, "arguments": arguments}}


class Draft:
    """Collects the chunks of one streamed answer."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin again, for another answer to the same question."""
        self.rejected = ""
        self.text = ""
        self.calls: list[ToolCall] = []
        self.extras: dict[str, Any] = {}
        self.input_tokens = 0
        self.output_tokens = 0

    def feed(self, chunk: dict[str, Any]) -> str:
        """Take one chunk in; returns its text."""
        usage = chunk.get("usage")
        if isinstance(usage, dict):
            self.input_tokens = int(usage.get("prompt_tokens") or 0)
            self.output_tokens = int(usage.get("completion_tokens") or 0)
        text = ""
        for choice in chunk.get("choices") or []:
            delta = choice.get("delta") or {}
            text += delta.get("content") or ""
            self.extras.update(delta.get("fairlead") or choice.get("fairlead") or {})
            for part in delta.get("tool_calls") or []:
                self._take_call(part)
        text = text[: max(0, MAX_TEXT - len(self.text))]
        self.text += text
        return text

    def _take_call(self, part: dict[str, Any]) -> None:
        index = part.get("index", len(self.calls))
        if not isinstance(index, int) or not 0 <= index <= len(self.calls):
            index = len(self.calls)
        if index == len(self.calls):
            self.calls.append(ToolCall(id=f"call_{index}"))
        call, function = self.calls[index], part.get("function") or {}
        call.id = part.get("id") or call.id
        call.name = function.get("name") or call.name
        call.arguments += function.get("arguments") or ""
