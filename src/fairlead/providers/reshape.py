"""Reshape: answers of OpenAI-compatible servers that use other words, in the words of the protocol.

What differs is data (``Answers``). Most streams differ in nothing and are never looked at; of the others only events
that may hold something foreign are decoded. Knows no HTTP and no provider.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import msgspec
import orjson

from fairlead.errors import UpstreamBroken
from fairlead.providers import sse


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """How a server's answers differ.

    ``thoughts`` is its name for ``reasoning_content``, ``cached`` its usage field for cached input tokens, ``finish``
    its finish reasons by the protocol's. ``content_chunks``: content may be a list that holds thoughts and texts.
    ``errors_in_choices``: an error in a stream comes with a choice that has the finish reason ``error``.
    ``reasons_elsewhere``: thoughts are told twice, and the second time at length.
    """

    thoughts: str = ""
    cached: str = ""
    finish: Mapping[str, str] = MappingProxyType({})
    content_chunks: bool = False
    errors_in_choices: bool = False
    reasons_elsewhere: bool = False

    def markers(self) -> tuple[bytes, ...]:
        """Bytes without which an answer holds nothing foreign."""
        words = [self.thoughts, self.cached, *self.finish]
        if self.errors_in_choices:
            words.append("error")
        found = [f'"{word}"'.encode() for word in words if word]
        return (*found, b'"content":[', b'"content": [') if self.content_chunks else tuple(found)


class Reshaper:
    """Answers of one server. ``needed``: whether anything differs at all."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers
        self._markers = answers.markers()
        self.needed = bool(self._markers)

    def holds(self, raw: bytes) -> bool:
        """Whether ``raw`` may hold something foreign."""
        return any(marker in raw for marker in self._markers)

    def whole(self, raw: bytes) -> bytes:
        """A whole answer. What cannot be read is passed on for whoever reads it next."""
        if not self.holds(raw):
            return raw
        try:
            answer = orjson.loads(raw)
        except orjson.JSONDecodeError:
            return raw
        return orjson.dumps(self._fit(answer)) if isinstance(answer, dict) else raw

    def events(self, raw: bytes) -> bytes:
        """A run of whole events; those without anything foreign stay as they are."""
        if not self.holds(raw):
            return raw
        return b"".join(self._event(event) for event in sse.split(raw))

    def _event(self, event: bytes) -> bytes:
        if not self.holds(event):
            return event
        try:
            chunk = orjson.loads(sse.payload(event))
        except orjson.JSONDecodeError:
            return event
        return sse.encode(self._fit(chunk)) if isinstance(chunk, dict) else event

    def _fit(self, answer: dict[str, Any]) -> dict[str, Any]:
        answers = self._answers
        choices = answer.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            if isinstance(choice, dict):
                self._fit_choice(choice)
        usage = answer.get("usage")
        if answers.cached and isinstance(usage, dict) and isinstance(usage.get(answers.cached), int):
            details = usage.get("prompt_tokens_details")
            cached = {"cached_tokens": usage[answers.cached]}
            usage["prompt_tokens_details"] = cached | (details if isinstance(details, dict) else {})
        if answers.errors_in_choices and answer.get("error"):
            answer["choices"] = []  # an error must not be taken for a piece of an answer
        return answer

    def _fit_choice(self, choice: dict[str, Any]) -> None:
        answers = self._answers
        finish = choice.get("finish_reason")
        if isinstance(finish, str):
            choice["finish_reason"] = answers.finish.get(finish, finish)
        for name in ("message", "delta"):
            said = choice.get(name)
            if not isinstance(said, dict):
                continue
            if answers.thoughts and isinstance(said.get(answers.thoughts), str):
                thought = said.pop(answers.thoughts)
                said.setdefault("reasoning_content", thought)
            if answers.reasons_elsewhere:
                said.pop("reasoning_details", None)
            if answers.content_chunks and isinstance(said.get("content"), list):
                said |= _flat(said["content"])


def _flat(chunks: list[Any]) -> dict[str, str]:
    """Thoughts and texts of a list as two texts."""
    text, thought = [], []
    for chunk in chunks:
        if not isinstance(chunk, dict):
            continue
        if chunk.get("type") == "thinking":
            inner = chunk.get("thinking")
            parts = inner if isinstance(inner, list) else [{"text": inner}]
            thought += [part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str)]
        elif isinstance(chunk.get("text"), str):
            text.append(chunk["text"])
    found = {"content": "".join(text)}
    return found | ({"reasoning_content": "".join(thought)} if thought else {})


class Reshaped:
    """A stream of such a server. Raises UpstreamBroken for an event without end."""

    __slots__ = ("_chunks", "_iterator", "_name", "_reshaper", "_splitter")

    def __init__(self, name: str, chunks: AsyncIterator[bytes], reshaper: Reshaper) -> None:
        self._name = name
        self._chunks = chunks
        self._iterator = aiter(chunks)
        self._reshaper = reshaper
        self._splitter = sse.Splitter()

    def __aiter__(self) -> Reshaped:
        return self

    async def __anext__(self) -> bytes:
        while True:
            try:
                data = await anext(self._iterator)
            except StopAsyncIteration:
                if rest := self._splitter.rest():
                    self._splitter = sse.Splitter()
                    return self._reshaper.events(rest)
                raise
            try:
                whole = self._splitter.feed(data)
            except sse.EventTooLarge as error:
                raise UpstreamBroken(name=self._name, detail="it sent an event without end") from error
            if whole:
                return self._reshaper.events(whole)

    async def arrive(self) -> None:
        """Return when a piece has come, without reading it, as far as the stream behind can tell."""
        arrive = getattr(self._chunks, "arrive", None)
        if arrive is not None:
            await arrive()

    async def aclose(self) -> None:
        """Left early this closes the connection, which tells the server to stop."""
        close = getattr(self._chunks, "aclose", None)
        if close is not None:
            await close()


def reshaped(parts: Iterator[bytes], answers: Answers) -> bytes:
    """A whole stream at once, for tests and records."""
    reshaper = Reshaper(answers)
    splitter = sse.Splitter()
    found = [reshaper.events(splitter.feed(part)) for part in parts]
    return b"".join([*found, reshaper.events(splitter.rest())])
