"""Structured: answers and tool calls that fit their schemas, from a model whose server does not see to that.

Stands around an Upstream. A request without a schema passes untouched, and so does one whose schema the server itself
enforces. Otherwise the answer is taken whole, checked, and if need be asked for once more with what was wrong; then it
fits or is refused. A stream of such a request begins when its answer has been checked. Knows no gateway.

A schema counts when its sender does not say ``strict: false``; parameters of a tool when they say ``strict: true``,
since checking them means to hold back a stream that may hold no call at all.
"""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from typing import Any

import msgspec
import orjson

from fairlead.errors import AnswerUnfit, UpstreamBroken
from fairlead.providers.base import Call, Reply, Upstream
from fairlead.providers.facts import Facts
from fairlead.providers.replay import events_of
from fairlead.providers.schemas import Schema, Unfit, schema_of

_AGAIN = "That does not fit what was asked for: {problem}. Give the whole answer again, as JSON alone that fits."
_AGAIN_TOOL = "This call was not made, since its arguments do not fit the tool: {problem}. Call it again."
_TOLD = "Answer with JSON alone that fits this JSON Schema:\n{schema}"


class Wanted(msgspec.Struct, frozen=True):
    """What an answer must fit: ``answer`` its text, ``tools`` the arguments of calls by the tool's name."""

    answer: Schema | None
    tools: Mapping[str, Schema]


class Structured:
    """``upstream`` with answers that fit; ``facts`` say what its server enforces by itself."""

    def __init__(self, upstream: Upstream, facts: Facts) -> None:
        self.name = upstream.name
        self._upstream = upstream
        self._facts = facts

    def open(self, call: Call) -> Coroutine[Any, Any, Reply]:
        """See Upstream.open. Raises AnswerUnfit when the second answer does not fit either, RequestInvalid."""
        if call.operation != "chat" or not ("response_format" in call.body or "tools" in call.body):
            return self._upstream.open(call)
        return self._open_structured(call)

    async def _open_structured(self, call: Call) -> Reply:
        wanted = self._wanted(call.body)
        if self._facts.json_schema is False and (call.body.get("response_format") or {}).get("type") == "json_schema":
            call = msgspec.structs.replace(call, body=_with_schema_told(call.body))
        if wanted.answer is None and not wanted.tools:
            return await self._upstream.open(call)
        body = {name: value for name, value in call.body.items() if name != "stream_options"} | {"stream": False}
        whole = msgspec.structs.replace(call, stream=False, body=body)
        reply, completion, unfit = await self._ask(whole, wanted)
        if unfit is not None and completion is not None:
            await reply.aclose()
            first = completion
            whole = msgspec.structs.replace(whole, body=_asked_again(body, first, unfit))
            reply, completion, unfit = await self._ask(whole, wanted)
            if completion is not None:
                completion["usage"] = _sum(first.get("usage"), completion.get("usage"))
        if unfit is not None:
            await reply.aclose()
            raise AnswerUnfit(name=self.name, detail="; ".join(unfit.values()), usage=(completion or {}).get("usage"))
        if completion is None:
            return reply
        await reply.aclose()
        if not call.stream:
            return Reply(200, body=orjson.dumps(completion))
        options = call.body.get("stream_options") or {}
        return Reply(200, chunks=events_of(completion, usage=bool(options.get("include_usage"))))

    async def aclose(self) -> None:
        """Close what stands behind. Idempotent."""
        await self._upstream.aclose()

    def _wanted(self, body: Mapping[str, Any]) -> Wanted:
        answer, tools = None, {}
        wanted = body.get("response_format") or {}
        if wanted.get("type") == "json_schema" and self._facts.json_schema is not True:
            described = wanted.get("json_schema") or {}
            if described.get("strict") is not False:
                answer = schema_of(described.get("schema"), "response_format.json_schema.schema")
        for place, tool in enumerate(() if self._facts.strict_tools else body.get("tools") or ()):
            function = tool.get("function") or {}
            if function.get("strict") is True and isinstance(function.get("parameters"), dict):
                tools[function["name"]] = schema_of(function["parameters"], f"tools[{place}].function.parameters")
        return Wanted(answer, tools)

    async def _ask(self, call: Call, wanted: Wanted) -> tuple[Reply, dict[str, Any] | None, dict[str, str] | None]:
        """The reply, its completion (None for an error) and, unless it fits, what is wrong by id of a tool call."""
        reply = await self._upstream.open(call)
        if reply.status != 200 or reply.body is None:
            return reply, None, None
        try:
            completion: dict[str, Any] = orjson.loads(reply.body)
            unfit = check(completion, wanted)
        except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError) as error:
            raise UpstreamBroken(name=self.name, detail="its answer is no chat completion") from error
        return reply, completion, unfit


def check(completion: dict[str, Any], wanted: Wanted) -> dict[str, str] | None:
    """What does not fit, by the id of the tool call (empty for the text); None when all does.

    A fence around the JSON of an answer is taken away. A refusal, and an answer cut by a filter, are left as they are.
    """
    unfit: dict[str, str] = {}
    for choice in completion["choices"]:
        message, finish = choice["message"], choice.get("finish_reason")
        calls = message.get("tool_calls") or []
        cut = " (it was cut off at the limit of tokens)" if finish == "length" else ""
        for made in calls:
            schema = wanted.tools.get(made["function"]["name"])
            if schema is not None:
                try:
                    schema.fit(made["function"].get("arguments") or "{}")
                except Unfit as error:
                    unfit[made.get("id") or ""] = f"{error}{cut}"
        if wanted.answer is not None and not calls and not message.get("refusal") and finish != "content_filter":
            try:
                message["content"] = wanted.answer.fit(message.get("content") or "")
            except Unfit as error:
                unfit[""] = f"{error}{cut}"
    return unfit or None


def _asked_again(body: Mapping[str, Any], first: Mapping[str, Any], unfit: Mapping[str, str]) -> dict[str, Any]:
    """The request once more, with the answer that did not fit and what was wrong with it."""
    said = next(
        (choice["message"] for choice in first["choices"] if _is_at_fault(choice["message"], unfit)),
        first["choices"][0]["message"],
    )
    calls = said.get("tool_calls") or []
    messages = [*body["messages"], {name: value for name, value in said.items() if name in _SENT_BACK}]
    if calls:
        for made in calls:
            problem = unfit.get(made.get("id") or "")
            content = _AGAIN_TOOL.format(problem=problem) if problem else "This call was not made. Make it again."
            messages.append({"role": "tool", "tool_call_id": made.get("id") or "", "content": content})
    else:
        messages.append({"role": "user", "content": _AGAIN.format(problem=unfit.get("") or "")})
    return {**body, "messages": messages}


_SENT_BACK = frozenset(("role", "content", "tool_calls", "thinking_blocks", "reasoning_content"))


def _is_at_fault(message: Mapping[str, Any], unfit: Mapping[str, str]) -> bool:
    calls = message.get("tool_calls") or []
    return any((made.get("id") or "") in unfit for made in calls) if calls else "" in unfit


def _with_schema_told(body: dict[str, Any]) -> dict[str, Any]:
    """``body`` for a server that knows JSON but no schema: it is told in the system text."""
    schema = orjson.dumps((body["response_format"].get("json_schema") or {}).get("schema")).decode()
    told = {"role": "system", "content": _TOLD.format(schema=schema)}
    messages = list(body["messages"])
    place = 1 if messages and messages[0].get("role") in ("system", "developer") else 0
    messages.insert(place, told)
    return {**body, "messages": messages, "response_format": {"type": "json_object"}}


def _sum(first: Any, second: Any) -> dict[str, Any]:
    """The tokens of both questions: both were paid for."""
    counts = [usage if isinstance(usage, dict) else {} for usage in (first, second)]
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    if not all(type(count.get(name)) is int and count[name] >= 0 for count in counts for name in names[:2]):
        return {}  # no count of one makes none of both
    total = {name: sum(_whole(count.get(name)) for count in counts) for name in names}
    details = [each if isinstance(each := count.get("prompt_tokens_details"), dict) else {} for count in counts]
    return {
        **total,
        "prompt_tokens_details": {"cached_tokens": sum(_whole(each.get("cached_tokens")) for each in details)},
    }


def _whole(value: Any) -> int:
    return value if type(value) is int and value >= 0 else 0
