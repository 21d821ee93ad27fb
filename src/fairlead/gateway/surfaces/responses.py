"""OpenAI's Responses API as clients speak it, to a chat request and back. Pure; knows no HTTP.

Stateless: nothing of a response is kept to be continued, so ``previous_response_id`` and ``conversation`` are refused
with the way round, ``store`` is answered with false, and a client sends earlier items again. What only OpenAI's own
servers can do (their tools, prompts, background work) is refused by name; other fields pass as they are.
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import orjson

from fairlead.errors import RequestInvalid
from fairlead.gateway import fields
from fairlead.gateway.surfaces.asgi import Event
from fairlead.gateway.surfaces.parts import Part, Parts, Step, parts_of
from fairlead.records import new_id

SEAL = "fairlead.1."
"""Begins ``encrypted_content`` that holds thoughts signed by another provider, to be sent back to it."""
_RESEND = "Fairlead keeps no responses; send the items of earlier turns again in `input`."
_REFUSED: Mapping[str, str] = MappingProxyType(
    {
        "previous_response_id": _RESEND,
        "conversation": _RESEND,
        "background": "A response is given while its client waits; leave it out, or use a batch.",
        "prompt": "Prompts stored with a provider are not offered; send `instructions` and `input`.",
    }
)
_DROPPED = ("include", "store", "truncation", "stream_options", "max_tool_calls", "context_management", "metadata")
_TRANSLATED = frozenset(
    ("input", "instructions", "max_output_tokens", "tools", "tool_choice", "text", "reasoning", "stream",
     "top_logprobs", *_REFUSED, *_DROPPED)
)  # fmt: skip
_ITEM = fields.Record({"type": fields.text(1), "role": fields.text(1)}, expected="an item, an object")


class Responses:
    """One request; see Dialect."""

    path: ClassVar[str] = "/v1/responses"
    elsewhere: ClassVar[str] = "Fairlead keeps no responses. POST /v1/responses makes one."
    body: ClassVar[fields.Record] = fields.Record(
        {
            "model": fields.COMMON["model"],
            "input": fields.Either(
                "text or a list of items",
                (str, fields.text()),
                (list, fields.ListOf(_ITEM, 1, 100_000, "a list of at least one item")),
            ),
            "instructions": fields.text(),
            "max_output_tokens": fields.whole(1),
            "stream": fields.FLAG,
            "temperature": fields.number(0, 2),
            "top_p": fields.number(0, 1),
            "top_logprobs": fields.whole(0, 20),
            "tools": fields.ListOf(
                fields.Record(
                    {"type": fields.text(1), "name": fields.text(1, 128), "description": fields.text(),
                     "parameters": fields.OBJECT},
                    required=["type"],
                    expected="a tool",
                ),
                0, 1024, "a list of tools",
            ),
            "tool_choice": fields.Either("text or an object", (str, fields.text()), (dict, fields.OBJECT)),
            "parallel_tool_calls": fields.FLAG,
            "text": fields.Record({"format": fields.Record({"type": fields.text(1)}, required=["type"])}),
            "reasoning": fields.Record({"effort": fields.text(1), "summary": fields.text(1)}),
            "metadata": fields.OBJECT,
            "store": fields.FLAG,
            "user": fields.text(),
            "safety_identifier": fields.text(),
        },
        required=["model", "input"],
    )  # fmt: skip

    def __init__(self) -> None:
        self._parts = Parts()
        self._asked: dict[str, Any] = {}
        self._id = f"resp_{new_id()}"
        self._created = int(time.time())
        self._number = -1

    def request(self, body: dict[str, Any]) -> dict[str, Any]:
        """The chat request for ``body``. Raises RequestInvalid for what it cannot say."""
        for name, instead in _REFUSED.items():
            if body.get(name):
                raise RequestInvalid(problem=f"{name} is not offered. {instead}", param=name)
        self._asked = body
        asked = {name: value for name, value in body.items() if name not in _TRANSLATED and value is not None}
        given = body["input"]
        messages = [{"role": "user", "content": given}] if isinstance(given, str) else _messages(given)
        if body.get("instructions"):
            messages.insert(0, {"role": "system", "content": body["instructions"]})
        asked["messages"] = messages
        if body.get("max_output_tokens"):
            asked["max_tokens"] = body["max_output_tokens"]
        asked |= _tools(body.get("tools") or (), body.get("tool_choice"))
        asked |= _format(body.get("text") or {})
        if effort := (body.get("reasoning") or {}).get("effort"):
            asked["reasoning_effort"] = effort
        if body.get("top_logprobs") is not None or "message.output_text.logprobs" in (body.get("include") or ()):
            asked |= {"logprobs": True, "top_logprobs": body.get("top_logprobs") or 0}
        if body.get("stream"):
            asked |= {"stream": True, "stream_options": {"include_usage": True}}
        return asked

    def answer(self, completion: Mapping[str, Any]) -> dict[str, Any]:
        """The response for a whole chat completion."""
        self._parts = parts_of(completion)
        return self._response(self._outcome())

    def feed(self, chunk: Mapping[str, Any]) -> Iterator[Event]:
        """The events for one chunk."""
        first = not self._parts.head
        steps = list(self._parts.feed(chunk))
        if first:
            for name in ("response.created", "response.in_progress"):
                yield self._event(name, response=self._response("in_progress"))
        for step in steps:
            yield from self._events(step)

    def end(self) -> Iterator[Event]:
        """The events that end the response."""
        for step in self._parts.end():
            yield from self._events(step)
        outcome = self._outcome()
        yield self._event(f"response.{outcome}", response=self._response(outcome))

    def fail(self, error: Mapping[str, Any]) -> Iterator[Event]:
        """An error, and a response that failed."""
        said = {name: error.get(name) for name in ("code", "message", "param")}
        yield self._event("error", **said)
        failed = self._response("failed") | {"error": {"code": "server_error", "message": error.get("message") or ""}}
        yield self._event("response.failed", response=failed)

    def error(self, status: int, error: Mapping[str, Any]) -> dict[str, Any]:
        """The body of an error answer: as in the rest of the OpenAI protocol."""
        return {"error": error}

    def headers(self, request: str) -> tuple[tuple[bytes, bytes], ...]:
        """None of its own."""
        return ()

    def _outcome(self) -> str:
        return "incomplete" if self._parts.finish in ("length", "content_filter") else "completed"

    def _response(self, status: str) -> dict[str, Any]:
        parts, asked = self._parts, self._asked
        begun = status == "in_progress"
        reason = {"length": "max_output_tokens", "content_filter": "content_filter"}.get(parts.finish)
        response = {
            "id": self._id,
            "object": "response",
            "created_at": self._created,
            "status": status,
            "error": None,
            "incomplete_details": {"reason": reason} if status == "incomplete" else None,
            "instructions": asked.get("instructions"),
            "max_output_tokens": asked.get("max_output_tokens"),
            "model": parts.head.get("model") or asked.get("model"),
            "output": [] if begun else [self._item(part, "completed") for part in parts.parts],
            "parallel_tool_calls": asked.get("parallel_tool_calls") is not False,
            "previous_response_id": None,
            "reasoning": asked.get("reasoning") or {"effort": None, "summary": None},
            "store": False,
            "temperature": asked.get("temperature"),
            "text": asked.get("text") or {"format": {"type": "text"}},
            "tool_choice": asked.get("tool_choice") or "auto",
            "tools": asked.get("tools") or [],
            "top_p": asked.get("top_p"),
            "truncation": "disabled",
            "usage": None if begun else _usage(parts.usage),
            "user": asked.get("user"),
            "metadata": asked.get("metadata") or {},
        }
        if parts.extras and not begun:
            response["fairlead"] = parts.extras
        return response

    def _events(self, step: Step) -> Iterator[Event]:
        part, what = step.part, step.what
        item = self._item_id(part)
        where = {"item_id": item, "output_index": part.index}
        inside = where | {"content_index": 0}
        if what == "begin":
            yield self._event(
                "response.output_item.added", output_index=part.index, item=self._item(part, "in_progress", empty=True)
            )
            if part.kind != "tool":
                yield self._event("response.content_part.added", **inside, part=_content(part, empty=True))
            return
        name = _NAMES[part.kind]
        logprobs = (
            {"logprobs": _logprobs(step.logprobs if what == "delta" else part.logprobs)} if part.kind == "text" else {}
        )
        place = where if part.kind == "tool" else inside
        if what == "delta":
            yield self._event(f"{name}.delta", **place, delta=step.delta, **logprobs)
            return
        whole = {"tool": "arguments", "refusal": "refusal"}.get(part.kind, "text")
        called = {"name": part.name} if part.kind == "tool" else {}
        yield self._event(f"{name}.done", **place, **{whole: part.text}, **called, **logprobs)
        if part.kind != "tool":
            yield self._event("response.content_part.done", **inside, part=_content(part))
        yield self._event("response.output_item.done", output_index=part.index, item=self._item(part, "completed"))

    def _item_id(self, part: Part) -> str:
        prefix = {"thought": "rs", "tool": "fc"}.get(part.kind, "msg")
        return f"{prefix}_{self._id.removeprefix('resp_')}_{part.index}"

    def _item(self, part: Part, status: str, *, empty: bool = False) -> dict[str, Any]:
        item: dict[str, Any] = {"id": self._item_id(part), "status": status}
        if part.kind == "tool":
            arguments = "" if empty else part.text
            extra = {"extra_content": part.extra} if part.extra else {}
            called = {"type": "function_call", "call_id": part.id, "name": part.name, "arguments": arguments}
            return item | called | extra
        content = [] if empty else [_content(part)]
        if part.kind == "thought":
            sealed = {"encrypted_content": _seal(part.sealed)} if part.sealed and not empty else {}
            return item | {"type": "reasoning", "summary": [], "content": content, **sealed}
        return item | {"type": "message", "role": "assistant", "content": content}

    def _event(self, kind: str, /, **data: Any) -> Event:
        self._number += 1
        return kind, {"type": kind, "sequence_number": self._number, **data}


_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "text": "response.output_text",
        "refusal": "response.refusal",
        "thought": "response.reasoning_text",
        "tool": "response.function_call_arguments",
    }
)


# --- asked -----------------------------------------------------------------------------------------------------------


def _messages(items: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The items as messages; thoughts, words and calls of one turn of the model become one message."""
    messages: list[dict[str, Any]] = []
    turn: dict[str, Any] | None = None
    for place, item in enumerate(items):
        where = f"input[{place}]"
        kind = item.get("type") or "message"
        made = _model_turn(item, kind, where)
        if made is None:
            turn = None
            messages.append(_other(item, kind, where))
        elif turn is None or (turn["content"] is not None and made["content"] is not None):
            turn = made
            messages.append(made)
        else:
            turn["content"] = made["content"] if turn["content"] is None else turn["content"]
            for name in ("tool_calls", "thinking_blocks"):
                if name in made:
                    turn[name] = [*turn.get(name, ()), *made[name]]
    return [message for message in messages if message["content"] is not None or len(message) > 2]


def _model_turn(item: dict[str, Any], kind: str, where: str) -> dict[str, Any] | None:
    """What the model said, called or thought; None for an item of anyone else."""
    turn: dict[str, Any] = {"role": "assistant", "content": None}
    if kind == "function_call":
        function = {"name": _must(item, "name", where), "arguments": _must(item, "arguments", where)}
        call = {"id": _must(item, "call_id", where), "type": "function", "function": function}
        extra = item.get("extra_content")  # as the provider wants it back
        return turn | {"tool_calls": [call | ({"extra_content": extra} if isinstance(extra, dict) else {})]}
    if kind == "reasoning":
        thought = _unseal(item.get("encrypted_content"))
        return turn | ({"thinking_blocks": [thought]} if thought else {})
    if kind == "message" and item.get("role") == "assistant":
        return turn | {"content": _parts(item.get("content"), where)}
    return None


def _other(item: dict[str, Any], kind: str, where: str) -> dict[str, Any]:
    if kind == "message":
        role = item.get("role")
        if role not in ("user", "system", "developer"):
            raise fields.refuse(f"{where}.role", role, "user, assistant, system or developer")
        return {"role": role, "content": _parts(item.get("content"), where)}
    if kind == "function_call_output":
        content = _parts(item.get("output"), where, name="output")
        if isinstance(content, list):
            raise RequestInvalid(problem=f"{where}.output holds more than text, which is not offered.", param=where)
        return {"role": "tool", "tool_call_id": _must(item, "call_id", where), "content": content}
    if kind == "item_reference":
        raise RequestInvalid(problem=f"{where} refers to an item that was not kept. {_RESEND}", param=where)
    raise RequestInvalid(problem=f"{where} is of type {kind[:40]!r}, which is not offered.", param=where)


def _must(item: Mapping[str, Any], name: str, where: str) -> str:
    value = item.get(name)
    if not isinstance(value, str):
        raise fields.refuse(f"{where}.{name}", value, "text")
    return value


def _parts(content: Any, where: str, name: str = "content") -> str | list[dict[str, Any]]:
    where = f"{where}.{name}"
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise fields.refuse(where, content, "text or a list of content parts")
    parts = [_part(part, f"{where}[{place}]") for place, part in enumerate(content)]
    return "".join(part["text"] for part in parts) if all(part["type"] == "text" for part in parts) else parts


def _part(part: Any, where: str) -> dict[str, Any]:
    kind = part.get("type") if isinstance(part, dict) else None
    if kind in ("input_text", "output_text", "text"):
        return {"type": "text", "text": _must(part, "text", where)}
    if kind == "refusal":
        return {"type": "text", "text": _must(part, "refusal", where)}
    if kind == "input_image" and isinstance(part.get("image_url"), str):
        detail = {"detail": part["detail"]} if part.get("detail") else {}
        return {"type": "image_url", "image_url": {"url": part["image_url"], **detail}}
    if kind == "input_file" and isinstance(part.get("file_data"), str):
        return {"type": "file", "file": {"filename": part.get("filename") or "file", "file_data": part["file_data"]}}
    held = " by reference" if kind in ("input_image", "input_file") else ""
    raise RequestInvalid(problem=f"{where} is of type {str(kind)[:40]!r}{held}, which is not offered.", param=where)


def _tools(tools: Any, choice: Any) -> dict[str, Any]:
    offered = []
    for place, tool in enumerate(tools):
        if tool["type"] != "function":
            problem = (
                f"tools[{place}] is of type {tool['type'][:40]!r}, which runs on OpenAI's servers; Fairlead passes on "
                "tools of type function."
            )
            raise RequestInvalid(problem=problem, param=f"tools[{place}].type")
        _must(tool, "name", f"tools[{place}]")
        function = {name: tool[name] for name in ("name", "description", "parameters", "strict") if tool.get(name)}
        offered.append({"type": "function", "function": function})
    if not offered:
        return {}
    found: dict[str, Any] = {"tools": offered}
    if isinstance(choice, dict):
        if choice.get("type") != "function":
            raise fields.refuse("tool_choice", choice.get("type"), "auto, none, required or one function")
        found["tool_choice"] = {"type": "function", "function": {"name": _must(choice, "name", "tool_choice")}}
    elif choice:
        found["tool_choice"] = choice
    return found


def _format(text: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"verbosity": text["verbosity"]} if text.get("verbosity") else {}
    wanted = text.get("format") or {"type": "text"}
    if wanted["type"] == "json_schema":
        schema = {name: wanted[name] for name in ("name", "description", "schema", "strict") if wanted.get(name)}
        found["response_format"] = {"type": "json_schema", "json_schema": schema}
    elif wanted["type"] != "text":
        found["response_format"] = {"type": wanted["type"]}
    return found


# --- answered --------------------------------------------------------------------------------------------------------


def _content(part: Part, *, empty: bool = False) -> dict[str, Any]:
    text = "" if empty else part.text
    if part.kind == "refusal":
        return {"type": "refusal", "refusal": text}
    if part.kind == "thought":
        return {"type": "reasoning_text", "text": text}
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": _logprobs(part.logprobs)}


def _logprobs(tokens: list[Any]) -> list[Any]:
    return [{"bytes": [], "top_logprobs": [], **token} for token in tokens if isinstance(token, dict)]


def _usage(usage: Mapping[str, Any]) -> dict[str, Any] | None:
    if not usage:
        return None
    asked, told = usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0
    read, thought = usage.get("prompt_tokens_details") or {}, usage.get("completion_tokens_details") or {}
    return {
        "input_tokens": asked,
        "input_tokens_details": {
            "cached_tokens": read.get("cached_tokens") or 0,
            "cache_write_tokens": read.get("cache_write_tokens") or 0,
        },
        "output_tokens": told,
        "output_tokens_details": {"reasoning_tokens": thought.get("reasoning_tokens") or 0},
        "total_tokens": usage.get("total_tokens") or asked + told,
    }


def _seal(thought: Mapping[str, Any] | None) -> str:
    return SEAL + base64.b64encode(orjson.dumps(thought)).decode("ascii")


def _unseal(sealed: Any) -> dict[str, Any] | None:
    """A thought sealed by us; None for one of another server, which the model behind the route could not read."""
    if not isinstance(sealed, str) or not sealed.startswith(SEAL):
        return None
    try:
        found = orjson.loads(base64.b64decode(sealed.removeprefix(SEAL), validate=True))
    except (binascii.Error, orjson.JSONDecodeError):
        return None
    return found if isinstance(found, dict) else None
