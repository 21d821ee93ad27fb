"""Parts: the chunks of a streamed chat completion as a sequence of parts, each begun, continued and ended in turn.

Other protocols stream an answer part by part, while chat chunks may interleave tool calls and repeat themselves. Here
that is put in order once: one part is open at a time; fragments of another tool call wait until the open one ends.
Knows no protocol but chat.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import msgspec

from fairlead.errors import UpstreamBroken
from fairlead.gateway.fragments import Fragments, text_of
from fairlead.gateway.usage import tokens_of
from fairlead.records import new_id

Kind = Literal["thought", "text", "refusal", "tool"]


class Part(msgspec.Struct):
    """One part of an answer. ``text`` is all of it so far, of a tool call its arguments.

    ``sealed`` holds a thought as its provider signed it, to be sent back unchanged, and ``extra`` what a provider wants
    back with a tool call. ``logprobs`` belong to a text.
    """

    kind: Kind
    index: int
    text: str = ""
    id: str = ""
    name: str = ""
    sealed: dict[str, Any] | None = None
    extra: dict[str, Any] | None = None
    logprobs: list[Any] = msgspec.field(default_factory=list)


class Step(msgspec.Struct):
    """What happened: a part was begun, got ``delta`` (with ``logprobs``), or ended."""

    what: Literal["begin", "delta", "end"]
    part: Part
    delta: str = ""
    logprobs: list[Any] = msgspec.field(default_factory=list)


class Parts:
    """One answer as it comes. ``parts`` are those begun so far, in order."""

    def __init__(self) -> None:
        self.parts: list[Part] = []
        self.head: dict[str, Any] = {}
        self.usage: dict[str, Any] = {}
        self.finish = ""
        self.stopped_by: str | None = None
        self.extras: Any = None
        self._open: Part | None = None
        self._fragments = Fragments()
        self._tools: dict[int, Part] = {}
        self._waiting: dict[int, Part] = {}

    def feed(self, chunk: Mapping[str, Any]) -> Iterator[Step]:
        """The steps of one chunk. Raises UpstreamBroken for what cannot be a part of an answer."""
        try:
            yield from self._feed(chunk)
        except (AttributeError, KeyError, TypeError, IndexError, ValueError) as error:
            raise UpstreamBroken(name=_name(chunk), detail=f"a chunk that cannot be read ({error})") from error

    def _feed(self, chunk: Mapping[str, Any]) -> Iterator[Step]:
        self.head = self.head or {name: text_of(chunk.get(name)) for name in ("id", "model")}
        self.usage = usage_in(chunk.get("usage")) or self.usage
        for choice in chunk.get("choices") or ():
            if choice.get("index"):
                continue  # one answer was asked for
            delta = choice.get("delta") or {}
            logprobs = choice.get("logprobs") or {}
            if thought := text_of(delta.get("reasoning_content")) or text_of(delta.get("reasoning")):
                yield from self._say("thought", thought)
            for sealed in delta.get("thinking_blocks") or ():
                yield from self._seal(sealed)
            if text := delta.get("content"):
                yield from self._say("text", text, list(logprobs.get("content") or ()))
            if refusal := delta.get("refusal"):
                yield from self._say("refusal", refusal)
            for fragment in delta.get("tool_calls") or ():
                yield from self._call(fragment)
            self.extras = delta.get("fairlead") or self.extras
            self.finish = text_of(choice.get("finish_reason")) or self.finish
            if isinstance(choice.get("stop_reason"), str):
                self.stopped_by = choice["stop_reason"]

    def end(self) -> Iterator[Step]:
        """The steps that are left when the stream has ended: the open part, then the tool calls that waited.

        Raises UpstreamBroken for a call that never got a name.
        """
        yield from self._close()
        for index in sorted(self._waiting):
            waited = self._waiting[index]
            if not waited.name:
                raise UpstreamBroken(name=_name(self.head), detail="a tool call without a name")
            yield from self._begin_call(waited)
            yield from self._say("tool", waited.text)
            yield from self._close()
        self._waiting.clear()

    def _begin_call(self, call: Part) -> Iterator[Step]:
        """A call whose server gave it no id gets one: its result could not be told otherwise."""
        yield from self._begin("tool", id=call.id or f"call_{new_id()}", name=call.name, extra=call.extra)

    def _begin(self, kind: Kind, **known: Any) -> Iterator[Step]:
        yield from self._close()
        part = self._open = Part(kind, len(self.parts), **known)
        self.parts.append(part)
        yield Step("begin", part)

    def _close(self) -> Iterator[Step]:
        part, self._open = self._open, None
        if part is not None:
            yield Step("end", part)

    def _say(self, kind: Kind, text: str, logprobs: list[Any] | None = None) -> Iterator[Step]:
        if not isinstance(text, str):
            raise TypeError(f"{kind} that is no text")
        if self._open is None or self._open.kind != kind:
            yield from self._begin(kind)
        part = self._open
        if part is not None and text:
            part.text += text
            part.logprobs += logprobs or []
            yield Step("delta", part, text, logprobs or [])

    def _seal(self, sealed: dict[str, Any]) -> Iterator[Step]:
        """A thought as its provider signed it; its text has been told already, unless it was never told at all."""
        if self._open is not None and self._open.kind == "thought":
            self._open.sealed = sealed
        else:
            yield from self._begin("thought", sealed=sealed)
            yield from self._say("thought", sealed.get("thinking") or "")
        yield from self._close()

    def _call(self, fragment: Mapping[str, Any]) -> Iterator[Step]:
        index = self._fragments.place(fragment)
        function = fragment.get("function") or {}
        arguments = function.get("arguments") or ""
        known = self._tools.get(index)
        if known is not None and index not in self._waiting:
            if known is not self._open:
                raise UpstreamBroken(name=_name(self.head), detail="it went on with a tool call that had ended")
            yield from self._say("tool", arguments)
            return
        waiting = self._waiting.pop(index, None) or Part("tool", 0)
        waiting.id = waiting.id or text_of(fragment.get("id"))
        waiting.name = waiting.name or text_of(function.get("name"))
        waiting.text += arguments
        extra = fragment.get("extra_content")
        waiting.extra = waiting.extra or (extra if isinstance(extra, dict) else None)
        if not waiting.name or (self._open is not None and self._open.kind == "tool"):
            self._waiting[index] = waiting
            return
        yield from self._begin_call(waiting)
        self._tools[index] = self.parts[-1]
        yield from self._say("tool", waiting.text)


def parts_of(completion: Mapping[str, Any]) -> Parts:
    """The parts of a whole chat completion. Raises UpstreamBroken when it is none."""
    found = Parts()
    choices = completion.get("choices")
    if not isinstance(choices, list) or not choices:
        raise UpstreamBroken(name=_name(completion), detail="an answer without choices")
    try:
        choice = choices[0]
        delta = dict(choice["message"])
        calls = delta.get("tool_calls") or []
        delta["tool_calls"] = [{**made, "index": place} for place, made in enumerate(calls)]
        choice = {**choice, "index": 0}
        if delta.get("thinking_blocks"):  # they hold what reasoning_content repeats
            delta.pop("reasoning_content", None)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UpstreamBroken(name=_name(completion), detail=f"an answer that cannot be read ({error})") from error
    for _ in found.feed({**completion, "choices": [{**choice, "delta": delta}]}):
        pass
    for _ in found.end():
        pass
    return found


def usage_in(said: Any) -> dict[str, Any]:
    """Counts that are counts; empty for what is none, so that no client is told nonsense as a fact."""
    read, written = tokens_of(said)
    if read is None or written is None:
        return {}
    found: dict[str, Any] = {}
    for name, most in (("prompt_tokens_details", read), ("completion_tokens_details", written)):
        if isinstance(each := said.get(name), dict):
            found[name] = {key: min(count, most) for key, count in each.items() if type(count) is int and count >= 0}
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written, **found}


def _name(chunk: Mapping[str, Any]) -> str:
    name = chunk.get("model")
    return name if isinstance(name, str) else "the route"
