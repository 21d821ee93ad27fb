"""A model's answer while it comes in: its text, its tool calls, and the gate that only lets checked sentences out."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from fairlead.assistant.prompt import claims_to_be_human, drop_citations
from fairlead.guard import grounded

MAX_TEXT: Final = 20_000
"""Characters of one answer; a model that writes more is cut off."""
REPEATABLE: Final = frozenset({"code", "email", "phone"})
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+|\n+")
_MARKER = re.compile(r"<\|[^|<>]{1,40}\|>|</?tool_call>")


class ToolCall(msgspec.Struct, kw_only=True):
    """A call as a model wrote it; ``arguments`` is JSON text, unchecked."""

    id: str = ""
    name: str = ""
    arguments: str = ""

    def message(self) -> dict[str, Any]:
        """The form it has in an assistant message."""
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.arguments}}


class Draft:
    """Collects the chunks of one streamed answer."""

    def __init__(self) -> None:
        self.reset()
        self.rejected = ""

    def reset(self) -> None:
        """Begin again, for another model's answer to the same question."""
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


class Gate:
    """Lets an answer out sentence by sentence, as long as each one stands on the evidence.

    Of what the customer wrote (``said``) only codes, addresses and phone numbers may be repeated: "45 days, right?" is
    no evidence for 45 days. The first sentence that does not stand closes the gate; ``rejected`` then says why:
    ``ungrounded``, ``claims_human`` or ``markers``.
    """

    def __init__(self, evidence: Sequence[str], said: Sequence[str] = ()) -> None:
        self._evidence = evidence
        self._said = said
        self._waiting = ""
        self._begun = False
        self.rejected = ""

    def pass_on(self, piece: str) -> Iterator[str]:
        """Take a piece in; yields the sentences it completes."""
        self._waiting += piece
        while not self.rejected and (match := _SENTENCE_END.search(self._waiting)):
            sentence, self._waiting = self._waiting[: match.end()], self._waiting[match.end() :]
            yield from self._check(sentence)

    def finish(self, *, whole: bool) -> Iterator[str]:
        """The last sentence. ``whole`` is False when the answer goes on with tool calls: then it is dropped."""
        if whole and not self.rejected and self._waiting.strip():
            yield from self._check(self._waiting)
        self._waiting = ""

    def _check(self, sentence: str) -> Iterator[str]:
        shown = drop_citations(sentence)
        if _MARKER.search(sentence):
            self.rejected = "markers"
        elif claims_to_be_human(shown):
            self.rejected = "claims_human"
        elif self._invents(shown):
            self.rejected = "ungrounded"
        elif shown.strip() or self._begun:
            self._begun = True
            yield shown

    def _invents(self, sentence: str) -> bool:
        claims = grounded(sentence, self._evidence)
        return any(claim.kind not in REPEATABLE or grounded(claim.text, self._said) for claim in claims)
