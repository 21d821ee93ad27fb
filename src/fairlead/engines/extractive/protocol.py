"""The OpenAI chat protocol, both ways: a body becomes a Request or a clear refusal, an Answer becomes JSON or events.

Knows nothing of how an answer is found. What this engine cannot do (JSON on demand, log-probabilities, images, audio)
is refused with a 400 that says so; `temperature`, `top_p`, `seed` and the like are accepted and change nothing, for the
answer is a pure function of the messages, documents and tools.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from fairlead.engines.extractive.reply import Answer, Request
from fairlead.engines.extractive.tools import read_tools
from fairlead.errors import RequestRefused
from fairlead.records import new_id

MOST_CHOICES = 16
MOST_DOCUMENTS, MOST_MESSAGES = 64, 2000
HEAD, TAIL = 1000, 3000  # characters of a long turn that are read
LONGEST_TITLE = 300
_TOKEN = re.compile(r"[A-Za-z]{1,6}|\d{1,3}|[^\sA-Za-z\d]")
_GAP = re.compile(r"\s{2,}")
_CHUNK = re.compile(r"\s*\S+|\s+")
_ROLES = ("system", "developer", "user", "assistant", "tool", "function")
_NOT_OFFERED = {
    "logprobs": "log-probabilities",
    "top_logprobs": "log-probabilities",
    "audio": "audio",
    "grammar": "grammars",
    "prediction": "predicted outputs",
    "functions": "the old `functions` field; send `tools` instead",
    "function_call": "the old `function_call` field; send `tool_choice` instead",
    "web_search_options": "web search",
}


class Options(NamedTuple):
    """How the answer is to be given."""

    model: str
    choices: int
    stop: tuple[str, ...]
    most_tokens: int | None
    usage_chunk: bool


def count_tokens(text: str) -> int:
    """Tokens as this engine bills them: pieces of six letters or three digits, and every other mark."""
    return sum(1 for _ in _TOKEN.finditer(text))


def read(body: Mapping[str, Any]) -> tuple[Request, Options]:
    """Check a chat body. Raises RequestRefused with the parameter at fault."""
    for name, what in _NOT_OFFERED.items():
        if body.get(name) not in (None, False, [], {}, 0):
            raise RequestRefused(param=name, detail=f"The extractive engine does not offer {what}.")
    _refuse_formats(body.get("response_format"))
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise RequestRefused(param="messages", detail="`messages` must be a list with at least one message.")
    if len(messages) > MOST_MESSAGES:
        raise RequestRefused(param="messages", detail=f"At most {MOST_MESSAGES} messages, found {len(messages)}.")
    turns, results = _turns(messages)
    tools = _tools(body.get("tools"))
    forced = _forced(body.get("tool_choice"), [tool["function"]["name"] for tool in tools])
    usable = tools if body.get("tool_choice") != "none" else []
    request = Request(turns, results, _documents(body.get("documents")), tuple(read_tools(usable)), forced)
    return request, _options(body)


def _refuse_formats(wanted: Any) -> None:
    if wanted is None:
        return
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if kind != "text":
        detail = f"The extractive engine quotes text; it cannot answer in the format {kind!r}. A generating model can."
        raise RequestRefused(param="response_format", detail=detail)


def _turns(messages: list[Any]) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    turns: list[tuple[str, str]] = []
    results: list[str] = []
    for i, message in enumerate(messages):
        if not isinstance(message, dict):
            raise RequestRefused(param=f"messages[{i}]", detail=f"Message {i} must be an object.")
        role = message.get("role")
        if role not in _ROLES:
            raise RequestRefused(
                param=f"messages[{i}].role",
                detail=f"Message {i} has the role {role!r}; expected one of {', '.join(_ROLES)}.",
            )
        text = _text(message.get("content"), i)
        if role in ("user", "assistant"):
            if role == "user" or text:
                results = []
                turns.append((role, _shortened(text)))
        elif role in ("tool", "function"):
            results.append(text)
    return tuple(turns), tuple(results)


def _shortened(text: str) -> str:
    """What is read of a turn: runs of white space joined, of a long one its beginning and more of its end."""
    read = text if len(text) <= HEAD + TAIL else f"{text[:HEAD]} {text[-TAIL:]}"
    return _GAP.sub(lambda gap: "\n" if "\n" in gap[0] else " ", read)


def _text(content: Any, i: int) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        parts = []
        for part in content:
            if (
                not isinstance(part, dict)
                or part.get("type") not in ("text", "refusal")
                or not isinstance(part.get("text", part.get("refusal")), str)
            ):
                found = part.get("type") if isinstance(part, dict) else type(part).__name__
                raise RequestRefused(
                    param=f"messages[{i}].content",
                    detail=f"The extractive engine reads text only; message {i} holds a part of type {found!r}.",
                )
            parts.append(str(part.get("text", part.get("refusal"))))
        return "\n".join(parts)
    raise RequestRefused(
        param=f"messages[{i}].content", detail=f"The content of message {i} must be a text or a list of text parts."
    )


def _documents(raw: Any) -> tuple[dict[str, str], ...]:
    if raw is None:
        return ()
    if not isinstance(raw, list) or not all(isinstance(d, dict) for d in raw):
        raise RequestRefused(
            param="documents", detail="`documents` must be a list of objects with `id`, `title` and `text`."
        )
    if len(raw) > MOST_DOCUMENTS:
        raise RequestRefused(param="documents", detail=f"At most {MOST_DOCUMENTS} documents, found {len(raw)}.")
    documents = []
    for i, document in enumerate(raw):
        text = document.get("text", document.get("content", ""))
        if not isinstance(text, str):
            raise RequestRefused(param=f"documents[{i}].text", detail=f"The text of document {i} must be a text.")
        known = {k: document[k] if isinstance(document.get(k), str) else "" for k in ("id", "title", "location")}
        known["title"] = known["title"][:LONGEST_TITLE]
        documents.append({**known, "id": known["id"] or f"document-{i}", "text": text})
    return tuple(documents)


def _tools(raw: Any) -> list[dict[str, Any]]:
    if raw is None:
        return []
    if not isinstance(raw, list):
        raise RequestRefused(param="tools", detail="`tools` must be a list of function tools.")
    for i, tool in enumerate(raw):
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str) or not function["name"]:
            raise RequestRefused(param=f"tools[{i}]", detail=f"Tool {i} must be of type function, with a name.")
        if not isinstance(function.get("parameters") or {}, dict):
            raise RequestRefused(
                param=f"tools[{i}].function.parameters",
                detail=f"The parameters of tool {i} must be a JSON Schema object.",
            )
    return raw


def _forced(choice: Any, names: list[str]) -> tuple[str, ...]:
    if choice in (None, "auto", "none"):
        return ()
    if choice == "required" and names:
        return tuple(names)
    if (
        isinstance(choice, dict)
        and isinstance(choice.get("function"), dict)
        and choice["function"].get("name") in names
    ):
        return (choice["function"]["name"],)
    raise RequestRefused(
        param="tool_choice", detail="`tool_choice` must be none, auto, required or one of the tools sent."
    )


def _options(body: Mapping[str, Any]) -> Options:
    stop = body.get("stop")
    stops = [stop] if isinstance(stop, str) else stop if isinstance(stop, list) else []
    if (
        (stop is not None and not isinstance(stop, str | list))
        or not all(isinstance(s, str) for s in stops)
        or len(stops) > 16
    ):
        raise RequestRefused(param="stop", detail="`stop` must be a text or a list of at most 16 texts.")
    most = body.get("max_completion_tokens")
    most = body.get("max_tokens") if most is None else most
    if most is not None and (not isinstance(most, int) or isinstance(most, bool) or most < 1):
        raise RequestRefused(param="max_tokens", detail=f"`max_tokens` must be a whole number from 1, found {most!r}.")
    count = body.get("n")
    count = 1 if count is None else count
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= MOST_CHOICES:
        raise RequestRefused(param="n", detail=f"`n` must be a whole number from 1 to {MOST_CHOICES}, found {count!r}.")
    options = body.get("stream_options")
    if options is not None and not isinstance(options, dict):
        raise RequestRefused(param="stream_options", detail="`stream_options` must be an object.")
    model = body.get("model")
    usage = bool(options and options.get("include_usage"))
    return Options(model if isinstance(model, str) else "extractive", count, tuple(s for s in stops if s), most, usage)


class Shaped(NamedTuple):
    """An answer cut to the options, ready to be written once or word by word."""

    id: str
    created: int
    text: str
    finish: str
    calls: list[dict[str, Any]]
    extra: dict[str, Any]
    usage: dict[str, Any]
    fingerprint: str


def shape(answer: Answer, body: Mapping[str, Any], options: Options, fingerprint: str) -> Shaped:
    """Apply `stop` and `max_tokens`, count the usage."""
    text, finish = _cut(answer.text, options)
    calls: list[dict[str, Any]] = [
        {
            "id": use.id,
            "type": "function",
            "function": {"name": use.name, "arguments": json.dumps(use.arguments, ensure_ascii=False)},
        }
        for use in answer.calls
    ]
    finish = "tool_calls" if calls else finish
    extra: dict[str, Any] = {
        "sources": list(answer.sources),
        "confidence": round(answer.confidence, 4),
        "act": answer.act,
    }
    if answer.asks is not None:
        asked = {"name": answer.asks.name, "arguments": answer.asks.arguments}
        extra["asks"] = {**asked, "lacks": answer.lacks, "again": answer.again}
    prompt = sum(_size(body.get(name)) for name in ("messages", "documents", "tools"))
    written = count_tokens(text) + sum(count_tokens(c["function"]["name"] + c["function"]["arguments"]) for c in calls)
    completion = written * options.choices
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return Shaped(f"chatcmpl-{new_id()}", int(time.time()), text, finish, calls, extra, usage, fingerprint)


def _cut(text: str, options: Options) -> tuple[str, str]:
    ends = [at for s in options.stop if (at := text.find(s)) >= 0]
    if ends:
        text = text[: min(ends)]
    if options.most_tokens is not None:
        for count, token in enumerate(_TOKEN.finditer(text)):
            if count == options.most_tokens:
                return text[: token.start()].rstrip(), "length"
    return text, "stop"


def _size(value: Any) -> int:
    """Tokens of every text inside a JSON value."""
    total, left = 0, [value]
    while left:
        part = left.pop()
        if isinstance(part, str):
            total += count_tokens(part)
        elif isinstance(part, dict):
            left += part.values()
        elif isinstance(part, list):
            left += part
    return total


def completion(shaped: Shaped, options: Options) -> bytes:
    """The chat.completion object as JSON."""
    message: dict[str, Any] = {"role": "assistant", "content": shaped.text if shaped.text or not shaped.calls else None}
    message["refusal"] = None
    if shaped.calls:
        message["tool_calls"] = shaped.calls
    message["fairlead"] = shaped.extra
    choices = [
        {"index": i, "message": message, "logprobs": None, "finish_reason": shaped.finish}
        for i in range(options.choices)
    ]
    return _json({**_head(shaped, options, "chat.completion"), "choices": choices, "usage": shaped.usage})


def events(shaped: Shaped, options: Options) -> Iterator[bytes]:
    """The answer as server-sent events: a role, the words, the tool calls, why it stops, the usage if asked for."""
    head = _head(shaped, options, "chat.completion.chunk")
    usage: dict[str, Any] = {"usage": None} if options.usage_chunk else {}

    def event(index: int, delta: dict[str, Any], finish: str | None = None) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
        return b"data: " + _json({**head, "choices": [choice], **usage}) + b"\n\n"

    for index in range(options.choices):
        yield event(index, {"role": "assistant", "content": "" if shaped.text else None})
        for word in _CHUNK.findall(shaped.text):
            yield event(index, {"content": word})
        for i, call in enumerate(shaped.calls):
            yield event(index, {"tool_calls": [{"index": i, **call}]})
        yield event(index, {"fairlead": shaped.extra}, shaped.finish)
    if options.usage_chunk:
        yield b"data: " + _json({**head, "choices": [], "usage": shaped.usage}) + b"\n\n"
    yield b"data: [DONE]\n\n"


def _head(shaped: Shaped, options: Options, kind: str) -> dict[str, Any]:
    return {
        "id": shaped.id,
        "object": kind,
        "created": shaped.created,
        "model": options.model,
        "system_fingerprint": shaped.fingerprint,
    }


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")


def refusal(error: RequestRefused) -> bytes:
    """The OpenAI-shaped error."""
    return _json(
        {"error": {"message": str(error), "type": error.kind, "param": error.details.get("param"), "code": error.code}}
    )
