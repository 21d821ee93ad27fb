"""Anthropic's Messages API as clients speak it, to a chat request and back. Pure; knows no HTTP.

Source: the public reference of the Messages API, version 2023-06-01. What the chat protocol has no words for passes
under its own name where a provider may know it (``thinking``, ``top_k``, cache marks, signed thoughts) and is refused
by name where it would change the answer (server tools, containers).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, ClassVar

import orjson

from fairlead.errors import RequestInvalid
from fairlead.gateway import fields
from fairlead.gateway.surfaces.asgi import Event
from fairlead.gateway.surfaces.parts import Part, Parts, Step, parts_of

STOPS: Mapping[str, str] = MappingProxyType(
    {"length": "max_tokens", "tool_calls": "tool_use", "function_call": "tool_use", "content_filter": "refusal"}
)
"""Finish reason to stop reason; every other is ``end_turn``."""
KINDS: Mapping[int, str] = MappingProxyType(
    {
        400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
        405: "invalid_request_error", 408: "invalid_request_error", 409: "invalid_request_error",
        413: "request_too_large", 415: "invalid_request_error", 429: "rate_limit_error", 503: "overloaded_error",
        504: "timeout_error",
    }
)  # fmt: skip
_CHOICES: Mapping[str, Any] = MappingProxyType({"auto": "auto", "any": "required", "none": "none"})
_REFUSED = ("container", "mcp_servers", "prefill")
_DROPPED = ("inference_geo", "speed", "diagnostics", "user_profile_id", "workspace_id", "context_management", "betas")
_TRANSLATED = frozenset(
    ("system", "messages", "stop_sequences", "tools", "tool_choice", "metadata", "output_config", "stream",
     "cache_control", *_REFUSED, *_DROPPED)
)  # fmt: skip
_BLOCKS = fields.Either(
    "text or a list of content blocks",
    (str, fields.text()),
    (list, fields.ListOf(fields.PART, 0, 10_000, "content blocks")),
)


class Messages:
    """One request; see Dialect."""

    path: ClassVar[str] = "/v1/messages"
    elsewhere: ClassVar[str] = "of the Messages API Fairlead serves POST /v1/messages alone."
    body: ClassVar[fields.Record] = fields.Record(
        {
            "model": fields.COMMON["model"],
            "max_tokens": fields.whole(1),
            "messages": fields.ListOf(
                fields.Record(
                    {"role": fields.choice("user", "assistant", "system"), "content": _BLOCKS},
                    required=["role", "content"],
                    expected="a message, an object with role and content",
                ),
                1,
                100_000,
                "a list of at least one message",
            ),
            "system": _BLOCKS,
            "stream": fields.FLAG,
            "temperature": fields.number(0, 1),
            "top_p": fields.number(0, 1),
            "top_k": fields.whole(0),
            "stop_sequences": fields.ListOf(
                fields.text(1, expected="text that is not empty"), 0, 8192, "a list of texts"
            ),
            "tools": fields.ListOf(
                fields.Record(
                    {"type": fields.text(1), "name": fields.text(1, 128), "description": fields.text(),
                     "input_schema": fields.OBJECT},
                    required=["name"],
                    expected="a tool",
                ),
                0, 1024, "a list of tools",
            ),
            "tool_choice": fields.Record(
                {"type": fields.choice("auto", "any", "tool", "none"), "name": fields.text(1),
                 "disable_parallel_tool_use": fields.FLAG},
                required=["type"],
            ),
            "metadata": fields.Record({"user_id": fields.text()}),
            "output_config": fields.Record(
                {"format": fields.Record({"type": fields.choice("json_schema"), "schema": fields.OBJECT},
                                         required=["type", "schema"]),
                 "effort": fields.text(1)}
            ),
            "thinking": fields.Record({"type": fields.text(1)}),
        },
        required=["model", "max_tokens", "messages"],
    )  # fmt: skip

    def __init__(self) -> None:
        self._parts = Parts()

    def request(self, body: dict[str, Any]) -> dict[str, Any]:
        """The chat request for ``body``. Raises RequestInvalid for what it cannot say."""
        for name in _REFUSED:
            if body.get(name):
                raise RequestInvalid(problem=f"{name} is not offered; leave it out.", param=name)
        asked = {name: value for name, value in body.items() if name not in _TRANSLATED and value is not None}
        asked["messages"] = [*_system(body.get("system")), *_conversation(body["messages"])]
        if body.get("stop_sequences"):
            asked["stop"] = body["stop_sequences"]
        asked |= _tools(body.get("tools") or (), body.get("tool_choice") or {})
        if user := (body.get("metadata") or {}).get("user_id"):
            asked["user"] = user
        config = body.get("output_config") or {}
        if wanted := config.get("format"):
            schema = {"name": "answer", "schema": wanted["schema"], "strict": True}
            asked["response_format"] = {"type": "json_schema", "json_schema": schema}
        if config.get("effort"):
            asked["reasoning_effort"] = config["effort"]
        if body.get("stream"):
            asked |= {"stream": True, "stream_options": {"include_usage": True}}
        return asked

    def answer(self, completion: Mapping[str, Any]) -> dict[str, Any]:
        """The message for a whole chat completion."""
        parts = parts_of(completion)
        message = _message(parts)
        message["content"] = [_block(part) for part in parts.parts]
        message |= _stop(parts)
        message["usage"] = _usage(parts.usage)
        if parts.extras:
            message["fairlead"] = parts.extras
        return message

    def feed(self, chunk: Mapping[str, Any]) -> Iterator[Event]:
        """The events for one chunk."""
        first = not self._parts.head
        steps = list(self._parts.feed(chunk))
        if first:
            yield _event("message_start", message=_message(self._parts) | {"usage": _usage({})})
        for step in steps:
            yield from _events(step)

    def end(self) -> Iterator[Event]:
        """The events that end the message."""
        for step in self._parts.end():
            yield from _events(step)
        extras = {"fairlead": self._parts.extras} if self._parts.extras else {}
        yield _event("message_delta", delta=_stop(self._parts), usage=_usage(self._parts.usage), **extras)
        yield _event("message_stop")

    def fail(self, error: Mapping[str, Any]) -> Iterator[Event]:
        """The error event."""
        kind = "overloaded_error" if error.get("code") == "shutting_down" else "api_error"
        yield _event("error", error={"type": kind, "message": error.get("message") or ""},
                     request_id=error.get("request_id"))  # fmt: skip

    def error(self, status: int, error: Mapping[str, Any]) -> dict[str, Any]:
        """The body of an error answer."""
        said = {"type": KINDS.get(status, "api_error"), "message": error.get("message") or ""}
        return {"type": "error", "error": said, "request_id": error.get("request_id")}

    def headers(self, request: str) -> tuple[tuple[bytes, bytes], ...]:
        """Where Anthropic's clients look for the request's id."""
        return ((b"request-id", request.encode("ascii")),)


# --- asked -----------------------------------------------------------------------------------------------------------


def _system(system: str | list[dict[str, Any]] | None) -> list[dict[str, Any]]:
    if not system:
        return []
    content: Any = system
    if isinstance(system, list):
        for place, block in enumerate(system):
            if block["type"] != "text":
                raise _unknown(f"system[{place}]", block)
        content = _content([_text(block) for block in system])
    return [{"role": "system", "content": content}]


def _conversation(messages: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for place, message in enumerate(messages):
        content, where = message["content"], f"messages[{place}].content"
        if isinstance(content, str):
            yield {"role": message["role"], "content": content}
        elif message["role"] == "assistant":
            yield _assistant(content, where)
        else:
            yield from _user(content, where, message["role"])


def _user(blocks: list[dict[str, Any]], where: str, role: str) -> Iterator[dict[str, Any]]:
    """Results of tools first, each a message, then what the user says; a picture in a result follows with the user."""
    said: list[dict[str, Any]] = []
    for place, block in enumerate(blocks):
        if block["type"] != "tool_result":
            said.append(_said(block, f"{where}[{place}]"))
            continue
        if not isinstance(block.get("tool_use_id"), str):
            raise fields.refuse(f"{where}[{place}].tool_use_id", block.get("tool_use_id"), "the id of a tool_use")
        content = block.get("content") or ""
        inner = [{"type": "text", "text": content}] if isinstance(content, str) else content
        if not isinstance(inner, list) or not all(isinstance(each, dict) for each in inner):
            raise fields.refuse(f"{where}[{place}].content", content, "text or a list of content blocks")
        found = [_said(each, f"{where}[{place}].content[{index}]") for index, each in enumerate(inner)]
        text = "\n".join(part["text"] for part in found if part["type"] == "text")
        if block.get("is_error"):
            text = f"Error: {text}"  # the chat protocol has no other way to say so
        yield {"role": "tool", "tool_call_id": block["tool_use_id"], "content": text}
        said += [part for part in found if part["type"] != "text"]
    if said:
        yield {"role": role, "content": _content(said)}


def _assistant(blocks: list[dict[str, Any]], where: str) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": None}
    said, calls, thoughts = [], [], []
    for place, block in enumerate(blocks):
        kind = block["type"]
        if kind == "tool_use":
            if not isinstance(block.get("name"), str) or not isinstance(block.get("id"), str):
                raise fields.refuse(f"{where}[{place}]", block, "a tool_use with id, name and input")
            function = {"name": block["name"], "arguments": orjson.dumps(block.get("input") or {}).decode()}
            extra = block.get("extra_content")
            kept = {"extra_content": extra} if isinstance(extra, dict) else {}
            calls.append({"id": block["id"], "type": "function", "function": function, **kept})
        elif kind in ("thinking", "redacted_thinking"):
            if block.get("signature") or kind == "redacted_thinking":  # ours of other models have none
                thoughts.append(block)
        elif kind == "text":
            said.append(_text(block))
        else:
            raise _unknown(f"{where}[{place}]", block)
    if said:
        message["content"] = _content(said)
    elif not calls:
        message["content"] = ""
    return message | ({"tool_calls": calls} if calls else {}) | ({"thinking_blocks": thoughts} if thoughts else {})


def _content(parts: list[dict[str, Any]]) -> str | list[dict[str, Any]]:
    """Text alone as text, which every server takes; else the parts."""
    if all(part["type"] == "text" and "cache_control" not in part for part in parts):
        return "\n\n".join(part["text"] for part in parts)
    return parts


def _text(block: dict[str, Any]) -> dict[str, Any]:
    text = block.get("text")
    marks = {"cache_control": block["cache_control"]} if block.get("cache_control") else {}
    return {"type": "text", "text": text if isinstance(text, str) else "", **marks}


def _said(block: dict[str, Any], where: str) -> dict[str, Any]:
    kind = block.get("type")
    source = block.get("source") or {}
    if kind == "text":
        return _text(block)
    if kind == "image" and isinstance(source, dict):
        if source.get("type") == "url" and isinstance(source.get("url"), str):
            return {"type": "image_url", "image_url": {"url": source["url"]}}
        if source.get("type") == "base64":
            return {"type": "image_url", "image_url": {"url": _data_url(source)}}
    if kind == "document" and isinstance(source, dict):
        title = block.get("title") or "document"
        if source.get("type") == "text" and isinstance(source.get("data"), str):
            return {"type": "text", "text": f"{title}\n\n{source['data']}" if block.get("title") else source["data"]}
        if source.get("type") == "base64":
            return {"type": "file", "file": {"filename": title, "file_data": _data_url(source)}}
    raise _unknown(where, block)


def _data_url(source: Mapping[str, Any]) -> str:
    return f"data:{source.get('media_type')};base64,{source.get('data')}"


def _unknown(where: str, block: Mapping[str, Any]) -> RequestInvalid:
    kind, source = block.get("type"), block.get("source")
    inner = f" with a source of type {str(source.get('type'))[:40]!r}" if isinstance(source, dict) else ""
    return RequestInvalid(problem=f"{where} is of type {str(kind)[:40]!r}{inner}, which is not offered.", param=where)


def _tools(tools: Any, choice: Mapping[str, Any]) -> dict[str, Any]:
    offered = []
    for place, tool in enumerate(tools):
        if tool.get("type") not in (None, "custom"):
            problem = (
                f"tools[{place}] is the server tool {str(tool['type'])[:40]!r}; Fairlead passes on tools of your own, "
                "with an input_schema."
            )
            raise RequestInvalid(problem=problem, param=f"tools[{place}].type")
        function = {"name": tool["name"], "parameters": tool.get("input_schema") or {"type": "object"}}
        if tool.get("description"):
            function["description"] = tool["description"]
        if tool.get("strict") is not None:
            function["strict"] = tool["strict"]
        offered.append({"type": "function", "function": function})
    if not offered:
        return {}
    found: dict[str, Any] = {"tools": offered}
    if choice.get("type") == "tool":
        if not choice.get("name"):
            raise fields.refuse("tool_choice.name", None, "the name of a tool")
        found["tool_choice"] = {"type": "function", "function": {"name": choice["name"]}}
    elif choice:
        found["tool_choice"] = _CHOICES[choice["type"]]
    if choice.get("disable_parallel_tool_use"):
        found["parallel_tool_calls"] = False
    return found


# --- answered --------------------------------------------------------------------------------------------------------


def _message(parts: Parts) -> dict[str, Any]:
    identifier = parts.head.get("id")
    identifier = identifier if isinstance(identifier, str) else ""
    return {
        "id": identifier if identifier.startswith("msg_") else f"msg_{identifier.removeprefix('chatcmpl-')}",
        "type": "message",
        "role": "assistant",
        "model": parts.head.get("model") or "",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }


def _stop(parts: Parts) -> dict[str, Any]:
    if parts.stopped_by is not None and parts.finish == "stop":
        return {"stop_reason": "stop_sequence", "stop_sequence": parts.stopped_by}
    return {"stop_reason": STOPS.get(parts.finish, "end_turn"), "stop_sequence": None}


def _usage(usage: Mapping[str, Any]) -> dict[str, Any]:
    """Token counts in this protocol's words: here the input is what came from no cache."""
    details = usage.get("prompt_tokens_details") or {}
    read, written = details.get("cached_tokens") or 0, details.get("cache_write_tokens") or 0
    return {
        "input_tokens": max(0, (usage.get("prompt_tokens") or 0) - read - written),
        "cache_read_input_tokens": read,
        "cache_creation_input_tokens": written,
        "output_tokens": usage.get("completion_tokens") or 0,
    }


def _block(part: Part) -> dict[str, Any]:
    if part.kind == "thought":
        return part.sealed or {"type": "thinking", "thinking": part.text, "signature": ""}
    if part.kind == "tool":
        return {"type": "tool_use", "id": part.id, "name": part.name, "input": _input(part.text), **_extra(part)}
    return {"type": "text", "text": part.text}


def _extra(part: Part) -> dict[str, Any]:
    """What the provider wants back with the call; clients send a block back as they got it."""
    return {"extra_content": part.extra} if part.extra else {}


def _input(arguments: str) -> dict[str, Any]:
    """What a model wrote wrong is passed on for the client to see, under its own name."""
    try:
        found = orjson.loads(arguments) if arguments else {}
    except orjson.JSONDecodeError:
        found = None
    return found if isinstance(found, dict) else {"unreadable": arguments}


def _events(step: Step) -> Iterator[Event]:
    part, index = step.part, step.part.index
    if step.what == "begin":
        yield _event("content_block_start", index=index, content_block=_begun(part))
    elif step.what == "delta":
        yield _event("content_block_delta", index=index, delta=_delta(part, step.delta))
    else:
        signature = (part.sealed or {}).get("signature")
        if part.kind == "thought" and signature:
            yield _event("content_block_delta", index=index, delta={"type": "signature_delta", "signature": signature})
        yield _event("content_block_stop", index=index)


def _begun(part: Part) -> dict[str, Any]:
    if part.kind == "tool":
        return {"type": "tool_use", "id": part.id, "name": part.name, "input": {}, **_extra(part)}
    if part.kind == "thought":
        redacted = part.sealed is not None and part.sealed.get("type") == "redacted_thinking"
        return part.sealed if part.sealed and redacted else {"type": "thinking", "thinking": "", "signature": ""}
    return {"type": "text", "text": ""}


def _delta(part: Part, text: str) -> dict[str, Any]:
    if part.kind == "tool":
        return {"type": "input_json_delta", "partial_json": text}
    if part.kind == "thought":
        return {"type": "thinking_delta", "thinking": text}
    return {"type": "text_delta", "text": text}


def _event(name: str, /, **data: Any) -> Event:
    return name, {"type": name, **data}
