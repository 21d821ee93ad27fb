"""An Upstream that answers from a script: for tests and demonstrations without any model.

Deterministic in text, tool calls and vectors; can be slow, refuse, or break off in the middle, on request. It counts
words as tokens. Knows no HTTP.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

import msgspec
import orjson

from fairlead.errors import UpstreamBroken, UpstreamTimeout
from fairlead.providers import sse
from fairlead.providers.base import Call, Reply

DIMENSIONS = 8


class Script(msgspec.Struct, frozen=True, kw_only=True):
    """One answer.

    ``text`` empty repeats the last user message. ``tool_calls`` are (name, JSON arguments). ``delay_s`` passes before
    the first byte, ``pace_s`` between two chunks. A ``status`` other than 200 refuses with ``message``.
    ``break_after`` chunks the stream breaks off. ``usage`` False withholds the token counts.
    """

    text: str = ""
    tool_calls: tuple[tuple[str, str], ...] = ()
    delay_s: float = 0.0
    pace_s: float = 0.0
    status: int = 200
    message: str = "scripted refusal"
    retry_after: str = ""
    break_after: int | None = None
    finish: str = "stop"
    usage: bool = True


class Scripted:
    """Answers every call with ``script``, or with what ``script(call)`` returns.

    ``calls`` are those received so far, ``cancelled`` how many were left before their end.
    """

    def __init__(self, name: str = "scripted", script: Script | Callable[[Call], Script] | None = None) -> None:
        self.name = name
        self.script = script or Script()
        self.calls: list[Call] = []
        self.cancelled = 0

    async def open(self, call: Call) -> Reply:
        """Answer ``call``; see Upstream.open."""
        self.calls.append(call)
        script = self.script if isinstance(self.script, Script) else self.script(call)
        await self._pause(script.delay_s, call)
        if script.status != 200:
            headers = {"retry-after": script.retry_after} if script.retry_after else {}
            error = {"message": script.message, "type": "scripted", "param": None, "code": None}
            return Reply(script.status, body=orjson.dumps({"error": error}), headers=headers)
        if call.operation == "embedding":
            return Reply(200, body=orjson.dumps(_embeddings(call.body)))
        if call.stream:
            return Reply(200, chunks=self._stream(call, script))
        return Reply(200, body=orjson.dumps(_answer(call, script)))

    async def _stream(self, call: Call, script: Script) -> AsyncGenerator[bytes, None]:
        finished = False
        try:
            for number, chunk in enumerate(_chunks(call, script)):
                if script.break_after is not None and number >= script.break_after:
                    raise UpstreamBroken(name=self.name, detail="the script says so")
                if number:
                    await self._pause(script.pace_s, call)
                yield sse.encode(chunk)
            yield sse.DONE
            finished = True
        finally:
            self.cancelled += not finished

    async def _pause(self, seconds: float, call: Call) -> None:
        if not seconds:
            return
        try:
            async with asyncio.timeout_at(call.deadline):
                await asyncio.sleep(seconds)
        except TimeoutError as error:
            raise UpstreamTimeout(name=self.name, seconds=seconds) from error
        except asyncio.CancelledError:
            self.cancelled += not call.stream
            raise

    async def aclose(self) -> None:
        """Nothing to close."""


def _pieces(call: Call, script: Script) -> list[str]:
    text = script.text
    if not text and call.operation == "chat":
        spoken = [m.get("content") for m in call.body.get("messages", ()) if m.get("role") == "user"]
        text = spoken[-1] if spoken and isinstance(spoken[-1], str) else "Nothing was said."
    elif not text:
        text = call.body["prompt"] if isinstance(call.body.get("prompt"), str) else "Nothing was said."
    words = text.split(" ")
    return [word if not place else " " + word for place, word in enumerate(words)]


def _usage(call: Call, pieces: list[str]) -> dict[str, int]:
    asked = len(orjson.dumps(call.body.get("messages", call.body.get("prompt", ""))).split())
    return {"prompt_tokens": asked, "completion_tokens": len(pieces), "total_tokens": asked + len(pieces)}


def _tool_calls(script: Script) -> list[dict[str, Any]]:
    return [
        {"index": place, "id": f"call_{place}", "type": "function", "function": {"name": name, "arguments": arguments}}
        for place, (name, arguments) in enumerate(script.tool_calls)
    ]


def _head(call: Call, kind: str) -> dict[str, Any]:
    return {
        "id": f"scripted-{call.context.request}",
        "object": kind,
        "created": 1_700_000_000,
        "model": call.body.get("model", "scripted"),
    }


def _logprobs(pieces: list[str]) -> dict[str, Any]:
    return {"content": [{"token": p, "logprob": 0.0, "bytes": list(p.encode()), "top_logprobs": []} for p in pieces]}


def _answer(call: Call, script: Script) -> dict[str, Any]:
    pieces = _pieces(call, script)
    choices: list[dict[str, Any]] = []
    for index in range(call.body.get("n") or 1):
        choice: dict[str, Any] = {"index": index, "finish_reason": script.finish, "logprobs": None}
        if call.operation == "completion":
            choice["text"] = "".join(pieces)
        elif script.tool_calls:
            calls = [{k: v for k, v in made.items() if k != "index"} for made in _tool_calls(script)]
            choice["message"] = {"role": "assistant", "content": None, "tool_calls": calls}
            choice["finish_reason"] = "tool_calls"
        else:
            choice["message"] = {"role": "assistant", "content": "".join(pieces)}
            if call.body.get("logprobs"):
                choice["logprobs"] = _logprobs(pieces)
        choices.append(choice)
    answer = _head(call, "chat.completion" if call.operation == "chat" else "text_completion")
    answer["choices"] = choices
    if script.usage:
        answer["usage"] = _usage(call, pieces)
    return answer


def _chunks(call: Call, script: Script) -> Iterator[dict[str, Any]]:
    pieces = _pieces(call, script)
    head = _head(call, "chat.completion.chunk" if call.operation == "chat" else "text_completion")
    choices = range(call.body.get("n") or 1)

    def chunk(index: int, finish: str | None, **part: Any) -> dict[str, Any]:
        return {**head, "choices": [{"index": index, "finish_reason": finish, "logprobs": None, **part}]}

    if call.operation == "completion":
        for index in choices:
            for piece in pieces:
                yield chunk(index, None, text=piece)
            yield chunk(index, script.finish, text="")
    else:
        for index in choices:
            yield chunk(index, None, delta={"role": "assistant", "content": ""})
            for made in _tool_calls(script):
                yield chunk(index, None, delta={"tool_calls": [made]})
            for piece in () if script.tool_calls else pieces:
                yield chunk(index, None, delta={"content": piece})
            yield chunk(index, "tool_calls" if script.tool_calls else script.finish, delta={})
    if script.usage and (call.body.get("stream_options") or {}).get("include_usage"):
        yield {**head, "choices": [], "usage": _usage(call, pieces)}


def _embeddings(body: dict[str, Any]) -> dict[str, Any]:
    given = body.get("input", "")
    inputs = given if isinstance(given, list) and given and not isinstance(given[0], int) else [given]
    data = []
    for index, item in enumerate(inputs):
        digest = hashlib.sha256(orjson.dumps(item)).digest()
        vector = [(byte - 127.5) / 128 for byte in digest[:DIMENSIONS]]
        data.append({"object": "embedding", "index": index, "embedding": vector})
    tokens = len(orjson.dumps(given).split())
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": body.get("model", "scripted"), "usage": usage}
