"""Cascade: a careful model decides what to do, a fluent one may word it where it has proved that it can.

Both are Upstreams; so is the cascade. The careful model (``extractive``) always answers first, whole. If what it does
is a skill the fluent model holds (measured, see its card), the fluent model is asked too, and its text replaces the
draft only if every number, date, price and code in it stands in the evidence. So the cascade never claims more than
its careful half, and a failure of the fluent half is never an error. Knows no particular model.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

import msgspec
import orjson

from fairlead.errors import ServiceError
from fairlead.guard import grounded
from fairlead.providers import sse
from fairlead.providers.base import Call, Reply, Upstream

log = logging.getLogger(__name__)

SKILLS: Mapping[tuple[str, bool], str] = {
    ("answer", True): "tool_result",
    ("ask", False): "ask_missing",
    ("small_talk", False): "small_talk",
}
"""What the careful model did, and whether it had just received a tool's result, to the name of the skill (those that
``training/`` measures). An answer from documents is ``grounded_one`` or ``grounded_few``, by how many it quotes.

Saying "I don't know" and handing over to a person stay fixed sentences, whatever a model holds: there is nothing to
word better, and an embedded model that held the skill on generated messages (149 of 150) garbled a real complaint.
"""


class Cascade:
    """Two upstreams as one. ``skills`` are those the fluent model holds; with none, the careful model answers alone."""

    def __init__(self, name: str, careful: Upstream, fluent: Upstream, skills: Iterable[str]) -> None:
        self.name = name
        self.skills = frozenset(skills)
        self._careful = careful
        self._fluent = fluent

    async def open(self, call: Call) -> Reply:
        """Answer a call; errors are those of the careful model."""
        body = {name: value for name, value in call.body.items() if name != "stream_options"} | {"stream": False}
        whole = msgspec.structs.replace(call, stream=False, body=body)
        draft = await self._careful.open(whole)
        if draft.status != 200 or draft.body is None or call.operation != "chat":
            return draft
        completion: dict[str, Any] = orjson.loads(draft.body)
        if len(completion["choices"]) == 1 and skill_of(completion, call.body) in self.skills:
            completion = await self._reword(whole, completion) or completion
        if not call.stream:
            return Reply(200, body=orjson.dumps(completion))
        options = call.body.get("stream_options") or {}
        return Reply(200, chunks=_events(completion, usage=bool(options.get("include_usage"))))

    async def aclose(self) -> None:
        """Close both. Idempotent."""
        await asyncio.gather(self._careful.aclose(), self._fluent.aclose())

    async def _reword(self, call: Call, draft: dict[str, Any]) -> dict[str, Any] | None:
        """The draft in the fluent model's words; None when it fails, calls a tool, or says what no evidence says."""
        used = set(draft["choices"][0]["message"].get("fairlead", {}).get("sources", ()))
        documents = [document for document in call.body.get("documents") or [] if document.get("id") in used]
        try:
            reply = await self._fluent.open(
                msgspec.structs.replace(call, body={**call.body, "documents": documents, "temperature": 0})
            )
            if reply.status != 200 or reply.body is None:
                return None
            said = orjson.loads(reply.body)
        except (ServiceError, orjson.JSONDecodeError) as error:
            log.warning("cascade %s: the fluent model failed, the careful one answers: %s", self.name, error)
            return None
        choice = said["choices"][0]
        text = (choice["message"].get("content") or "").strip()
        if not text or choice["message"].get("tool_calls") or choice.get("finish_reason") != "stop":
            return None
        if grounded(text, list(evidence(call.body))):
            return None
        message = {**draft["choices"][0]["message"], "content": text}
        usage = {
            name: (draft.get("usage") or {}).get(name, 0) + (said.get("usage") or {}).get(name, 0)
            for name in ("prompt_tokens", "completion_tokens", "total_tokens")
        }
        return {**draft, "choices": [{**draft["choices"][0], "message": message}], "usage": usage}


def skill_of(completion: Mapping[str, Any], body: Mapping[str, Any]) -> str:
    """The skill that the careful model's answer shows; empty when it is none that can be passed on, as a tool call."""
    message = completion["choices"][0]["message"]
    if message.get("tool_calls"):
        return ""
    last = body["messages"][-1]
    after_tool = isinstance(last, dict) and last.get("role") == "tool"
    said = message.get("fairlead") or {}
    if said.get("act") == "answer" and not after_tool:
        return "grounded_one" if len(said.get("sources", ())) == 1 else "grounded_few"
    return SKILLS.get((said.get("act", ""), after_tool), "")


def evidence(body: Mapping[str, Any]) -> list[str]:
    """Every text of a request that an answer may rest on: documents, tool results, and what the user said."""
    texts = [str(document.get("text", "")) for document in body.get("documents") or [] if isinstance(document, dict)]
    for message in body["messages"]:
        if isinstance(message, dict) and message.get("role") in ("tool", "user", "system"):
            content = message.get("content")
            texts.append(content if isinstance(content, str) else orjson.dumps(content).decode())
    return texts


async def _events(completion: dict[str, Any], *, usage: bool) -> AsyncIterator[bytes]:
    """A whole completion as the events of a stream: it was checked as a whole, so it leaves as a whole."""
    head: dict[str, Any] = {key: completion[key] for key in ("id", "created", "model") if key in completion}
    head["object"] = "chat.completion.chunk"
    for choice in completion["choices"]:
        message = dict(choice["message"])
        if calls := message.get("tool_calls"):
            message["tool_calls"] = [{"index": index, **call} for index, call in enumerate(calls)]
        yield sse.encode({**head, "choices": [{"index": choice["index"], "delta": message, "finish_reason": None}]})
        end = {"index": choice["index"], "delta": {}, "finish_reason": choice["finish_reason"]}
        yield sse.encode({**head, "choices": [end]})
    if usage:
        yield sse.encode({**head, "choices": [], "usage": completion.get("usage")})
    yield b"data: [DONE]\n\n"
