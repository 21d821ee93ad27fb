"""Translate: between the OpenAI protocol our clients speak and Anthropic's Messages API. Knows no HTTP.

Source: the public reference of the Messages API, version 2023-06-01. What has no counterpart there is refused by name
where it would change the answer (``n``, ``logprobs``, audio), and left out where it only tunes it (``seed``,
penalties; for newer models also ``temperature`` and ``top_p``, which they refuse).
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import orjson

from fairlead.providers.base import Call
from fairlead.providers.dialect import Untranslatable, with_documents

TAKES_SAMPLING = re.compile(r"claude-(3|(opus|sonnet)-4(-[0-6])?(-\d{8})?$|haiku-4(-[0-5])?(-\d{8})?$)")
"""Models that take ``temperature`` and ``top_p``. Later ones answer 400 when asked so, and those not yet known will."""
DEFAULT_MAX_TOKENS, THINKING_MAX_TOKENS = 4096, 16384
"""The Messages API wants a limit; the OpenAI protocol does not. Newer models think first, within the same limit."""
FINISH: Mapping[str, str] = MappingProxyType(
    {
        "end_turn": "stop",
        "stop_sequence": "stop",
        "pause_turn": "stop",
        "max_tokens": "length",
        "model_context_window_exceeded": "length",
        "tool_use": "tool_calls",
        "refusal": "content_filter",
    }
)
_CHOICES: Mapping[str, str] = MappingProxyType({"auto": "auto", "required": "any", "none": "none"})
_PASSED = ("thinking", "service_tier")
"""Fields of the Messages API that a client may send as they are."""


def request_body(model: str, call: Call) -> bytes:
    """The Messages API's body for a chat call, as JSON bytes. Raises Untranslatable; leaves the call as it was."""
    asked = call.body
    if asked.get("n") not in (None, 1):
        raise Untranslatable("n", "This model gives one answer a request; send n: 1 or leave it out.")
    if asked.get("logprobs"):
        raise Untranslatable("logprobs", "This model gives no log probabilities; leave logprobs out.")
    if asked.get("grammar"):
        raise Untranslatable("grammar", "This model takes no grammar; ask for JSON by response_format.")
    messages = asked.get("messages") or []
    if documents := asked.get("documents"):
        messages = with_documents(messages, documents)
    system, turns = _conversation(messages)
    samples = TAKES_SAMPLING.match(model) is not None
    limit = asked.get("max_completion_tokens") or asked.get("max_tokens")
    limit = limit or (DEFAULT_MAX_TOKENS if samples else THINKING_MAX_TOKENS)
    body: dict[str, Any] = {"model": model, "max_tokens": limit, "messages": turns}
    if system:
        body["system"] = system
    body |= _sampling(asked, samples) | _tools(asked) | _format(asked)
    body |= {name: asked[name] for name in _PASSED if name in asked}
    if isinstance(asked.get("user"), str):
        body["metadata"] = {"user_id": asked["user"]}
    if call.stream:
        body["stream"] = True
    return orjson.dumps(body)


def _sampling(asked: Mapping[str, Any], samples: bool) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if samples and asked.get("temperature") is not None:
        found["temperature"] = min(1.0, asked["temperature"])  # the OpenAI protocol allows up to 2
    elif samples and asked.get("top_p") is not None:  # some refuse the two together
        found["top_p"] = asked["top_p"]
    if samples and asked.get("top_k") is not None:
        found["top_k"] = asked["top_k"]
    stop = asked.get("stop")
    if stop:
        # Stop sequences of white space alone are refused there.
        found["stop_sequences"] = [text for text in ([stop] if isinstance(stop, str) else stop) if text.strip()]
    return found


def _tools(asked: Mapping[str, Any]) -> dict[str, Any]:
    offered = [each["function"] for each in asked.get("tools") or () if each.get("type") == "function"]
    if not offered:
        return {}
    tools: list[dict[str, Any]] = [
        {
            "name": function["name"],
            "description": function.get("description") or "",
            "input_schema": function.get("parameters") or {"type": "object", "properties": {}},
        }
        for function in offered
    ]
    # Tools come first in the provider's prefix cache and are the same for every conversation.
    tools[-1]["cache_control"] = {"type": "ephemeral"}
    choice = asked.get("tool_choice", "auto")
    if isinstance(choice, Mapping):
        chosen: dict[str, Any] = {"type": "tool", "name": choice["function"]["name"]}
    else:
        chosen = {"type": _CHOICES.get(choice, "auto")}
    if asked.get("parallel_tool_calls") is False and chosen["type"] != "none":
        chosen["disable_parallel_tool_use"] = True
    return {"tools": tools, "tool_choice": chosen}


def _format(asked: Mapping[str, Any]) -> dict[str, Any]:
    wanted = asked.get("response_format") or {}
    kind = wanted.get("type", "text")
    effort = {"effort": asked["reasoning_effort"]} if asked.get("reasoning_effort") else {}
    if kind == "text":
        return {"output_config": effort} if effort else {}
    schema = (wanted.get("json_schema") or {}).get("schema")
    if kind != "json_schema" or not isinstance(schema, Mapping):
        raise Untranslatable("response_format", "This model takes a response_format of type json_schema with a schema.")
    return {"output_config": {**effort, "format": {"type": "json_schema", "schema": schema}}}


def _conversation(messages: Iterable[Mapping[str, Any]]) -> tuple[str | list[dict[str, Any]], list[dict[str, Any]]]:
    """(system text, turns). Results of tools become a user's turn; neighbours of one role are one turn.

    The system text is a list of blocks when its sender marked where the provider's cache shall end.
    """
    system: list[dict[str, Any]] = []
    turns: list[dict[str, Any]] = []
    for message in messages:
        role = message.get("role")
        if role in ("system", "developer"):
            system += _system(message.get("content"))
            continue
        blocks = _tool_result(message) if role == "tool" else _blocks(message)
        role = "assistant" if role == "assistant" else "user"
        if not blocks:
            continue
        if not turns and role == "assistant":  # a conversation there begins with the user
            opened = f"You opened the conversation with: {_plain(message.get('content'))}"
            system.append({"type": "text", "text": opened})
        elif turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        else:
            turns.append({"role": role, "content": blocks})
    if any("cache_control" in block for block in system):
        return system, turns
    return "\n\n".join(block["text"] for block in system), turns


def _system(content: object) -> list[dict[str, Any]]:
    if isinstance(content, list) and any(isinstance(part, Mapping) and part.get("cache_control") for part in content):
        return [block for part in content if (block := _part(part)) is not None]
    text = _plain(content)
    return [{"type": "text", "text": text}] if text else []


def _tool_result(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {
            "type": "tool_result",
            "tool_use_id": message.get("tool_call_id") or "",
            "content": _plain(message.get("content")),
        }
    ]


def _blocks(message: Mapping[str, Any]) -> list[dict[str, Any]]:
    blocks = list(message.get("thinking_blocks") or ())  # the model wants its own back, signed, before its tool calls
    content = message.get("content")
    parts = [{"type": "text", "text": content}] if isinstance(content, str) else content or []
    blocks += [block for part in parts if (block := _part(part)) is not None]
    for made in message.get("tool_calls") or ():
        function = made.get("function") or {}
        blocks.append(
            {
                "type": "tool_use",
                "id": made.get("id") or "",
                "name": function.get("name") or "",
                "input": _arguments(function.get("arguments")),
            }
        )
    return blocks


def _arguments(text: object) -> dict[str, Any]:
    """A tool call's arguments as an object. What a model wrote wrong is passed on for it to see, under its own name."""
    try:
        found = orjson.loads(text) if isinstance(text, str) and text else {}
    except orjson.JSONDecodeError:
        found = None
    return found if isinstance(found, dict) else {"unreadable": text}


def _part(part: Mapping[str, Any]) -> dict[str, Any] | None:
    kind = part.get("type")
    if kind == "text":
        if not part.get("text"):
            return None  # empty text is refused there
        return {name: part[name] for name in ("type", "text", "cache_control") if name in part}
    if kind == "refusal":
        return {"type": "text", "text": part.get("refusal") or "-"}
    if kind == "image_url":
        url = part["image_url"]["url"]
        if not url.startswith("data:"):
            return {"type": "image", "source": {"type": "url", "url": url}}
        return {"type": "image", "source": _base64(url)}
    if kind == "file" and str(part["file"].get("file_data")).startswith("data:"):
        title = part["file"].get("filename") or "document"
        return {"type": "document", "title": title, "source": _base64(part["file"]["file_data"])}
    raise Untranslatable("messages", f"This model does not take content of type {str(kind)[:40]!r}.")


def _base64(url: str) -> dict[str, str]:
    head, _, data = url.partition(",")
    return {"type": "base64", "media_type": head.removeprefix("data:").partition(";")[0], "data": data}


def _plain(content: object) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "\n".join(part["text"] for part in parts if isinstance(part, Mapping) and isinstance(part.get("text"), str))


def answer_body(answer: Mapping[str, Any]) -> bytes:
    """A whole Messages API answer as an OpenAI chat completion, as JSON bytes."""
    text: list[str] = []
    calls: list[dict[str, Any]] = []
    thoughts: list[Mapping[str, Any]] = []
    for block in answer.get("content") or ():
        kind = block.get("type")
        if kind == "text":
            text.append(block.get("text") or "")
        elif kind == "tool_use":
            function = {"name": block.get("name"), "arguments": orjson.dumps(block.get("input") or {}).decode()}
            calls.append({"id": block.get("id"), "type": "function", "function": function})
        elif kind in ("thinking", "redacted_thinking"):
            thoughts.append(block)
    message: dict[str, Any] = {"role": "assistant", "content": "".join(text) if text or not calls else None}
    if calls:
        message["tool_calls"] = calls
    if thoughts:
        message["thinking_blocks"] = thoughts
        message["reasoning_content"] = "".join(thought.get("thinking") or "" for thought in thoughts)
    finish = FINISH.get(answer.get("stop_reason") or "", "stop")
    return orjson.dumps(
        {
            "id": answer.get("id"),
            "object": "chat.completion",
            "created": int(time.time()),
            "model": answer.get("model"),
            "choices": [{"index": 0, "message": message, "finish_reason": finish, "logprobs": None}],
            "usage": usage_of(answer.get("usage") or {}),
        }
    )


def usage_of(usage: Mapping[str, Any]) -> dict[str, Any]:
    """Token counts in the OpenAI protocol's words: there, the input includes what came from the cache."""
    cached = usage.get("cache_read_input_tokens") or 0
    written = usage.get("cache_creation_input_tokens") or 0
    asked, told = (usage.get("input_tokens") or 0) + cached + written, usage.get("output_tokens") or 0
    return {
        "prompt_tokens": asked,
        "completion_tokens": told,
        "total_tokens": asked + told,
        "prompt_tokens_details": {"cached_tokens": cached, "cache_write_tokens": written},
    }


class StreamFailed(ValueError):
    """The stream holds an ``error`` event, or something that is no event of the Messages API."""


class Stream:
    """One streamed answer: events of the Messages API in, OpenAI chunks out. ``done`` when the answer is whole."""

    def __init__(self, wants_usage: bool) -> None:
        self.done = False
        self._wants_usage = wants_usage
        self._head: dict[str, Any] = {"object": "chat.completion.chunk", "created": int(time.time())}
        self._usage: dict[str, Any] = {}
        self._finish = "stop"
        self._tools: dict[int, int] = {}  # index of a block to place among the tool calls
        self._thoughts: dict[int, dict[str, Any]] = {}

    def feed(self, payload: bytes) -> Iterator[dict[str, Any]]:
        """The chunks for one event's data. Raises StreamFailed."""
        try:
            event = orjson.loads(payload)
            kind = event["type"]
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise StreamFailed(f"an event that cannot be read: {payload[:80]!r}") from error
        if kind == "error":
            said = event.get("error") or {}
            raise StreamFailed(str(said.get("message") or said.get("type") or "an error without a reason")[:500])
        handle = getattr(self, f"_{kind}", None) if kind in _EVENTS else None
        if handle is not None:
            yield from handle(event)

    def _chunk(self, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        return {**self._head, "choices": [choice]}

    def _message_start(self, event: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        message = event.get("message") or {}
        self._head |= {"id": message.get("id"), "model": message.get("model")}
        self._usage |= message.get("usage") or {}
        yield self._chunk({"role": "assistant", "content": ""})

    def _content_block_start(self, event: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        block, index = event.get("content_block") or {}, event.get("index", 0)
        kind = block.get("type")
        if kind == "tool_use":
            place = self._tools[index] = len(self._tools)
            function = {"name": block.get("name"), "arguments": ""}
            made = {"index": place, "id": block.get("id"), "type": "function", "function": function}
            yield self._chunk({"tool_calls": [made]})
        elif kind in ("thinking", "redacted_thinking"):
            self._thoughts[index] = dict(block)
        elif kind == "text" and block.get("text"):
            yield self._chunk({"content": block["text"]})

    def _content_block_delta(self, event: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        delta, index = event.get("delta") or {}, event.get("index", 0)
        kind = delta.get("type")
        if kind == "text_delta":
            yield self._chunk({"content": delta.get("text") or ""})
        elif kind == "input_json_delta" and index in self._tools:
            function = {"arguments": delta.get("partial_json") or ""}
            yield self._chunk({"tool_calls": [{"index": self._tools[index], "function": function}]})
        elif kind == "thinking_delta" and index in self._thoughts:
            text = delta.get("thinking") or ""
            thought = self._thoughts[index]
            thought["thinking"] = thought.get("thinking", "") + text
            yield self._chunk({"reasoning_content": text})
        elif kind == "signature_delta" and index in self._thoughts:
            self._thoughts[index]["signature"] = delta.get("signature")

    def _content_block_stop(self, event: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        thought = self._thoughts.pop(event.get("index", 0), None)
        if thought is not None:
            yield self._chunk({"thinking_blocks": [thought]})

    def _message_delta(self, event: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        self._finish = FINISH.get((event.get("delta") or {}).get("stop_reason") or "", "stop")
        self._usage |= event.get("usage") or {}  # counts are totals, not steps
        yield from ()

    def _message_stop(self, _: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
        self.done = True
        yield self._chunk({}, self._finish)
        if self._wants_usage:
            yield {**self._head, "choices": [], "usage": usage_of(self._usage)}


_EVENTS = frozenset(
    {
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    }
)
"""Events that mean something here; ``ping`` and what is added later are passed over, as the reference asks."""
