"""Translate: from the OpenAI protocol as our clients speak it to the dialect an OpenAI-compatible server understands.

What differs between servers is data (``Dialect``), never a comparison with a provider's name. Knows no HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

import msgspec
import orjson

from fairlead.providers.base import Call, Operation

PATHS: Mapping[Operation, str] = MappingProxyType(
    {"chat": "/chat/completions", "completion": "/completions", "embedding": "/embeddings"}
)


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """How one family of servers differs from the protocol.

    ``stream_usage``: takes ``stream_options``, with which the gateway asks for usage in every stream. ``documents``:
    takes the passages of a request as they are, or needs them written into the prompt. ``marks``: takes Anthropic's
    cache marks and signed thoughts inside messages. ``drop`` and ``rename`` are request fields.
    """

    stream_usage: bool = True
    documents: Literal["native", "prompt"] = "prompt"
    marks: bool = False
    drop: frozenset[str] = frozenset()
    rename: Mapping[str, str] = MappingProxyType({})


OPENAI = Dialect(drop=frozenset({"thinking"}))
VLLM = Dialect(documents="native", drop=frozenset({"thinking"}))
LLAMA_CPP = Dialect(rename=MappingProxyType({"max_completion_tokens": "max_tokens"}))

DIALECTS: Mapping[str, Dialect] = MappingProxyType({"openai": OPENAI, "vllm": VLLM, "llamacpp": LLAMA_CPP})


def translate(dialect: Dialect, model: str, call: Call) -> bytes:
    """The body to send for ``call``, as JSON bytes. The call's own body stays as it was."""
    body = dict(call.body)
    body["model"] = model
    if not dialect.stream_usage:
        body.pop("stream_options", None)
    if dialect.documents == "prompt" and (documents := body.pop("documents", None)) and "messages" in body:
        body["messages"] = with_documents(body["messages"], documents)
    if not dialect.marks and call.operation == "chat":
        body["messages"] = without_marks(body.get("messages"))
    for name in dialect.drop:
        body.pop(name, None)
    for name, other in dialect.rename.items():
        if name in body:
            body[other] = body.pop(name)
    return orjson.dumps(body)


def without_marks(messages: Any) -> Any:
    """``messages`` without what only Anthropic's models know; the same list when there is nothing of it."""
    if not isinstance(messages, list) or not any(map(_marked, messages)):
        return messages
    return [
        {
            name: [_unmarked(part) for part in value] if name == "content" and isinstance(value, list) else value
            for name, value in message.items()
            if name != "thinking_blocks"
        }
        for message in messages
    ]


def _marked(message: dict[str, Any]) -> bool:
    content = message.get("content")
    return "thinking_blocks" in message or (type(content) is list and any("cache_control" in part for part in content))


def _unmarked(part: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in part.items() if name != "cache_control"}


def with_documents(messages: list[Any], documents: list[Any]) -> list[Any]:
    """``messages`` with the passages as numbered sources at the end of the system text.

    There `mini` was trained to read them, and other models find them as well. Their text is quoted as it is.
    """
    passages = [
        f"[{number}] {document.get('text', '')}"
        for number, document in enumerate(documents, 1)
        if isinstance(document, dict)
    ]
    sources = "Sources:\n" + "\n".join(passages)
    first = messages[0] if messages else {}
    if first.get("role") in ("system", "developer") and isinstance(first.get("content"), str):
        return [{**first, "content": f"{first['content']}\n\n{sources}"}, *messages[1:]]
    return [{"role": "system", "content": f"Answer from the sources only.\n\n{sources}"}, *messages]
