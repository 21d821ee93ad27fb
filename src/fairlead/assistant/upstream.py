"""The assistant as an Upstream: an OpenAI chat request in, a grounded OpenAI answer out.

So ``client.chat.completions.create(model="<use case>")`` gives what the chat page gives, with sources and act under
the extra key ``fairlead``. Only the messages of the request count: prompt, pages and tools are the project's.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import msgspec

from fairlead.assistant.assistant import Assistant
from fairlead.assistant.events import Answer, Delta, Facts
from fairlead.errors import AssistantRefuses
from fairlead.gateway import Principal
from fairlead.providers.base import Call, Reply
from fairlead.records import new_id, time_of

_REASONS = {
    "tools": "it calls the tools of the project",
    "functions": "it calls the tools of the project",
    "response_format": "its answers are texts",
    "stop": "an answer with its sources is never cut",
    "logprobs": "its answers are checked texts, not one model's tokens",
}


class AssistantUpstream:
    """Answers operation ``chat`` for the route named after the use case."""

    def __init__(self, assistant: Assistant) -> None:
        self.name = assistant.usecase.name
        self._assistant = assistant

    async def open(self, call: Call) -> Reply:
        """See Upstream. Raises AssistantRefuses for what only a bare model can do, MessageEmpty, MessageTooLong."""
        self._refuse(call.body)
        context = call.context
        principal = Principal(tenant=context.tenant, subject=context.subject)
        if not call.stream:
            answer = await self._assistant.answer(call.body["messages"], principal=principal, context=context)
            return Reply(200, body=msgspec.json.encode(self._body(answer)))
        parts = self._assistant.stream(call.body["messages"], principal=principal, context=context)
        # The first part decides the status: an error before it is an HTTP error, not a broken stream.
        first = await anext(parts)
        return Reply(200, chunks=self._chunks(first, parts))

    def _refuse(self, body: dict[str, Any]) -> None:
        wanted = {name: body.get(name) for name in _REASONS}
        if isinstance(wanted["response_format"], dict) and wanted["response_format"].get("type") == "text":
            wanted["response_format"] = None
        for name, value in wanted.items():
            if value:
                self._raise(name, _REASONS[name])
        if (body.get("n") or 1) > 1:
            self._raise("n", "there is one grounded answer")
        for place, message in enumerate(body["messages"]):
            content = message.get("content")
            for part in content if isinstance(content, list) else ():
                if part["type"] != "text":
                    self._raise(f"a content part of type {part['type'][:40]!r}", "it reads text", f"messages[{place}]")

    def _raise(self, what: str, why: str, param: str = "") -> None:
        variants = ", ".join(variant.id for variant in self._assistant.usecase.variants)
        raise AssistantRefuses(what=what, why=why, variants=variants, param=param or what)

    def _body(self, answer: Answer) -> dict[str, Any]:
        message = {"role": "assistant", "content": answer.text, "fairlead": answer.extras()}
        return {
            "id": f"chatcmpl-{answer.inference}",
            "object": "chat.completion",
            "created": _seconds(answer.inference),
            "model": self.name,
            "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
            "usage": _usage(answer),
        }

    async def _chunks(
        self, first: Delta | Facts | Answer, rest: AsyncGenerator[Delta | Facts | Answer, None]
    ) -> AsyncGenerator[bytes, None]:
        identifier = new_id()
        head = {
            "id": f"chatcmpl-{identifier}",
            "object": "chat.completion.chunk",
            "created": _seconds(identifier),
            "model": self.name,
        }

        def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
            choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
            return b"data: " + msgspec.json.encode({**head, "choices": [choice], **more}) + b"\n\n"

        async with aclosing(rest):
            yield chunk({"role": "assistant", "content": ""})
            part: Delta | Facts | Answer | None = first
            while part is not None:
                if isinstance(part, Delta):
                    yield chunk({"content": part.text})
                elif isinstance(part, Answer):
                    yield chunk({"fairlead": part.extras()}, "stop")
                    yield b"data: " + msgspec.json.encode({**head, "choices": [], "usage": _usage(part)}) + b"\n\n"
                part = await anext(rest, None)
        yield b"data: [DONE]\n\n"

    async def aclose(self) -> None:
        """Nothing to close: the assistant's models belong to the gateway."""


def _usage(answer: Answer) -> dict[str, int]:
    total = answer.input_tokens + answer.output_tokens
    return {"prompt_tokens": answer.input_tokens, "completion_tokens": answer.output_tokens, "total_tokens": total}


def _seconds(identifier: str) -> int:
    return time_of(identifier) // 1_000_000
