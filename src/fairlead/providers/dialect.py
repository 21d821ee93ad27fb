"""Translate: from the OpenAI protocol as our clients speak it to the dialect an OpenAI-compatible server understands.

What differs between servers is data (``Dialect``), never a comparison with a provider's name. What a server cannot do
and would change the answer is refused by name; what only tunes it is left out. Sources: the servers' public references
as of November 2026. Knows no HTTP; how answers differ is in ``reshape``.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal

import msgspec
import orjson

from fairlead.providers.base import Call, Operation
from fairlead.providers.reshape import Answers

PATHS: Mapping[Operation, str] = MappingProxyType(
    {"chat": "/chat/completions", "completion": "/completions", "embedding": "/embeddings"}
)
_NINE = re.compile(r"[A-Za-z0-9]{9}")
_WORDS = (None, "text", "refusal", "thinking")
"""Parts of a message that every model reads."""
_NOTHING: tuple[Any, ...] = (None, 0, 1, {}, [], "")
"""Values of a refused field that ask for nothing: ``n: 1``, ``logprobs: false``."""


class Untranslatable(ValueError):
    """A request asks for something its server cannot do. ``param`` names it."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(message)
        self.param = param


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """How one family of servers differs from the protocol.

    ``stream_usage``: takes ``stream_options``, with which the gateway asks for usage in every stream. ``marks``: takes
    Anthropic's cache marks inside messages. ``extra``: takes ``extra_content`` in tool calls, where Gemini keeps signed
    thoughts.
    ``fetches``: may fetch pictures from addresses in a request; an engine of one's own would do so from inside, where a
    caller could send it to anything. ``reads``: what a message may hold. ``names``: takes ``name`` in messages.
    ``short_ids``: wants ids of tool calls to be nine letters and digits. ``refuse``, ``drop`` and ``rename`` are
    request fields; a new name with a dot lies in an object. ``values`` are a field's values by other names.
    ``key_header`` carries the key; ``signs``: AWS credentials sign instead of being sent. ``salt`` is the field that
    keeps the prefixes an engine remembers apart, where it knows one: without it a caller can tell by timing what
    another one asked. ``too_long`` is what it says, as a fault of its own (500), of a text longer than it reads.
    ``answers`` is what differs on the way back.
    """

    stream_usage: bool = True
    marks: bool = False
    extra: bool = False
    fetches: bool = True
    reads: Literal["all", "text"] = "all"
    names: bool = True
    short_ids: bool = False
    refuse: frozenset[str] = frozenset()
    drop: frozenset[str] = frozenset({"thinking"})
    rename: Mapping[str, str] = MappingProxyType({})
    values: Mapping[str, Mapping[str, str]] = MappingProxyType({})
    key_header: Literal["authorization", "api-key"] = "authorization"
    signs: bool = False
    salt: str = ""
    too_long: str = ""
    answers: Answers = Answers()


_OLD_LIMIT: Mapping[str, str] = MappingProxyType({"max_completion_tokens": "max_tokens"})
_NEW_LIMIT: Mapping[str, str] = MappingProxyType({"max_tokens": "max_completion_tokens"})
_ENGINE_ONLY = frozenset({"thinking", "top_k", "min_p", "repetition_penalty"})
"""Sampling that servers of open models know and OpenAI's refuse."""

_GRAMMAR = frozenset({"grammar"})
"""Left out, it would give an answer that looks like success and does not fit."""

GENERIC = Dialect(extra=True)
"""A server of which nothing is known: what is asked goes out as it is."""
OPENAI = Dialect(rename=_NEW_LIMIT, refuse=_GRAMMAR, drop=_ENGINE_ONLY)
_TOO_LONG = "is too large to process"
_WHOLE_VECTORS = frozenset({"dimensions"})
"""llama.cpp leaves it out in silence: its vectors have the length the model gives them."""
LLAMA_CPP = Dialect(rename=_OLD_LIMIT, fetches=False, refuse=_WHOLE_VECTORS, too_long=_TOO_LONG)
LLAMA_CPP_OWN = Dialect(rename=_OLD_LIMIT, fetches=False, reads="text", refuse=_WHOLE_VECTORS, too_long=_TOO_LONG)
"""Our own llama.cpp, which is given no projector for pictures or sound."""
LLAMA_CPP_ADAPTED = Dialect(
    rename=_OLD_LIMIT, fetches=False, reads="text", refuse=_WHOLE_VECTORS, drop=frozenset({"thinking", "cache_prompt"})
)
"""With adapters: a prompt remembered under one gives wrong answers under another, whoever asks for it."""
VLLM = Dialect(
    fetches=False,
    salt="cache_salt",
    rename=MappingProxyType({"grammar": "structured_outputs.grammar"}),
    answers=Answers(thoughts="reasoning"),
)
OPENVINO = Dialect(
    rename=_OLD_LIMIT,
    reads="text",
    refuse=_GRAMMAR | {"n", "logprobs", "top_logprobs", "logit_bias", "tools", "echo", "suffix"},
    drop=frozenset({"thinking", "response_format", "tool_choice", "parallel_tool_calls"}),
)
"""Our own server around OpenVINO GenAI."""
DIALECTS: Mapping[str, Dialect] = MappingProxyType(
    {
        "http": GENERIC,
        "openai": OPENAI,
        "azure": Dialect(rename=_NEW_LIMIT, refuse=_GRAMMAR, drop=_ENGINE_ONLY, key_header="api-key"),
        "bedrock": Dialect(rename=_NEW_LIMIT, refuse=_GRAMMAR, drop=_ENGINE_ONLY, signs=True),
        "gemini": Dialect(
            refuse=_GRAMMAR,
            drop=_ENGINE_ONLY | {"user", "safety_identifier", "logit_bias"}, rename=_OLD_LIMIT, names=False,
            extra=True,
        ),
        "mistral": Dialect(
            stream_usage=False,
            short_ids=True,
            names=False,
            refuse=_GRAMMAR | {"logprobs", "top_logprobs"},
            drop=_ENGINE_ONLY | {"user", "safety_identifier", "logit_bias", "service_tier"},
            rename=MappingProxyType({**_OLD_LIMIT, "seed": "random_seed"}),
            values=MappingProxyType({"tool_choice": {"required": "any"}}),
            answers=Answers(content_chunks=True, finish=MappingProxyType({"model_length": "length"})),
        ),
        "groq": Dialect(
            names=False,
            refuse=_GRAMMAR | {"logprobs", "top_logprobs", "logit_bias", "n"},
            drop=_ENGINE_ONLY,
            rename=_NEW_LIMIT,
            answers=Answers(thoughts="reasoning"),
        ),
        "together": Dialect(
            refuse=_GRAMMAR,
            rename=_OLD_LIMIT,
            answers=Answers(thoughts="reasoning", finish=MappingProxyType({"eos": "stop"})),
        ),
        "deepseek": Dialect(
            refuse=_GRAMMAR | {"n"},
            drop=(_ENGINE_ONLY - {"thinking"}) | {"logit_bias", "seed", "user", "safety_identifier"},
            rename=_OLD_LIMIT,
            answers=Answers(cached="prompt_cache_hit_tokens"),
        ),
        "openrouter": Dialect(
            marks=True,
            refuse=_GRAMMAR,
            answers=Answers(thoughts="reasoning", errors_in_choices=True, reasons_elsewhere=True),
        ),
        "vllm": VLLM,
        "sglang": Dialect(fetches=False, rename=MappingProxyType({"grammar": "ebnf"})),
        "ollama": Dialect(
            fetches=False,
            refuse=_GRAMMAR | {"n"}, drop=frozenset({"thinking", "logit_bias"}), rename=_OLD_LIMIT,
            answers=Answers(thoughts="reasoning"),
        ),
        "llamacpp": LLAMA_CPP,
    }
)  # fmt: skip
"""What a target's ``provider`` speaks."""


def translate(dialect: Dialect, model: str, call: Call) -> bytes:
    """The body to send for ``call``, as JSON bytes. The call's own body stays as it was. Raises Untranslatable."""
    body = dict(call.body)
    body["model"] = model
    if not dialect.stream_usage:
        body.pop("stream_options", None)
    # vLLM takes them as they are, but shows them to no model whose chat template does not ask for them: few do.
    if (documents := body.pop("documents", None)) and "messages" in body:
        body["messages"] = with_documents(body["messages"], documents)
    if call.operation == "chat":
        body["messages"] = _fit_messages(dialect, body.get("messages"))
    for name in dialect.refuse:
        value = body.pop(name, None)
        if value is True or value not in _NOTHING:
            raise Untranslatable(name, f"The server of this model does not take {name}; leave it out.")
    for name in dialect.drop:
        body.pop(name, None)
    for name, other in dialect.rename.items():
        if name in body:
            _put(body, other, body.pop(name))
    for name, others in dialect.values.items():
        if isinstance(value := body.get(name), str) and value in others:
            body[name] = others[value]
    return orjson.dumps(body)


def _put(body: dict[str, Any], name: str, value: Any) -> None:
    outer, dot, inner = name.partition(".")
    if dot:
        there = body.get(outer)
        body[outer] = {**(there if isinstance(there, dict) else {}), inner: value}
    else:
        body.setdefault(name, value)


def _fit_messages(dialect: Dialect, messages: Any) -> Any:
    """``messages`` without what the server refuses in them; the same list when there is nothing of it."""
    if not isinstance(messages, list):
        return messages
    if dialect.reads == "text":
        _refuse_media(messages)
    if not dialect.fetches:
        _refuse_addresses(messages)
    if any(map(_marked, messages)):
        messages = [_unmarked(message, keep_cache_marks=dialect.marks) for message in messages]
    if not dialect.names and any("name" in message for message in messages):
        messages = [{name: value for name, value in each.items() if name != "name"} for each in messages]
    if not dialect.extra and any("tool_calls" in each for each in messages):
        messages = [_without_extra(message) for message in messages]
    if dialect.short_ids and any("tool_calls" in each or "tool_call_id" in each for each in messages):
        messages = [_with_short_ids(message) for message in messages]
    return messages


def _refuse_media(messages: list[Any]) -> None:
    """Raise Untranslatable for a picture, sound or file."""
    for message in messages:
        content = message.get("content")
        for part in content if isinstance(content, list) else ():
            kind = part.get("type") if isinstance(part, dict) else None
            if kind not in _WORDS:
                what = "images" if "image" in str(kind) else "sound" if "audio" in str(kind) else "files of this kind"
                raise Untranslatable("messages", f"This model reads text alone, not {what}; leave them out.")


def _refuse_addresses(messages: list[Any]) -> None:
    """Raise Untranslatable for a picture, sound or film that is an address and not the data itself."""
    for message in messages:
        content = message.get("content")
        for part in content if isinstance(content, list) else ():
            kind = part.get("type") if isinstance(part, dict) else None
            if not isinstance(kind, str) or not kind.endswith("_url"):
                continue
            given = part.get(kind)
            address = given.get("url") if isinstance(given, dict) else given
            if not isinstance(address, str) or address[:5].lower() != "data:":
                text = "The server of this model must not fetch addresses from inside its network; send a data: URL."
                raise Untranslatable("messages", text)


def _marked(message: dict[str, Any]) -> bool:
    content = message.get("content")
    return "thinking_blocks" in message or (type(content) is list and any("cache_control" in part for part in content))


def _unmarked(message: dict[str, Any], *, keep_cache_marks: bool) -> dict[str, Any]:
    found = {name: value for name, value in message.items() if name != "thinking_blocks"}
    content = found.get("content")
    if isinstance(content, list) and not keep_cache_marks:
        found["content"] = [
            {name: value for name, value in part.items() if name != "cache_control"} for part in content
        ]
    return found


def _without_extra(message: dict[str, Any]) -> dict[str, Any]:
    calls = message.get("tool_calls")
    if not isinstance(calls, list) or not any("extra_content" in made for made in calls):
        return message
    kept = [{name: value for name, value in made.items() if name != "extra_content"} for made in calls]
    return {**message, "tool_calls": kept}


def _with_short_ids(message: dict[str, Any]) -> dict[str, Any]:
    found = dict(message)
    if isinstance(calls := found.get("tool_calls"), list):
        found["tool_calls"] = [{**made, "id": short_id(made.get("id") or "")} for made in calls]
    if isinstance(identifier := found.get("tool_call_id"), str):
        found["tool_call_id"] = short_id(identifier)
    return found


def short_id(identifier: str) -> str:
    """Nine letters and digits for the id of a tool call: itself if it is so, else always the same for the same id."""
    return identifier if _NINE.fullmatch(identifier) else hashlib.sha256(identifier.encode()).hexdigest()[:9]


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
