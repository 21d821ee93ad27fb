"""Replay: a whole chat completion as the events of a stream, for whoever had to see it whole before it may leave."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from fairlead.providers import sse


async def events_of(completion: Mapping[str, Any], *, usage: bool) -> AsyncIterator[bytes]:
    """Each choice as one event and its end as another; the token counts when they are wanted; [DONE]."""
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
    yield sse.DONE
