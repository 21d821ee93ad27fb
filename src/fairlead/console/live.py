"""A conversation as its customer's windows follow it: each message once and in order, and how it stands.

Who may follow, and how many windows, is the chat's business; who says what, the assistant's.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.concurrency import run_in_threadpool

from fairlead.console.http import frame
from fairlead.console.pulse import Pulse, woken
from fairlead.errors import ActionUnknown
from fairlead.records import Conversation, Message

if TYPE_CHECKING:
    from fairlead.app import Fairlead

BEAT_S = 15.0
"""Longest silence of a stream of news, in seconds; the place in line is looked at as often."""
SPEAKERS = ("user", "assistant", "operator", "system")
"""Whose messages a customer sees."""


class Live:
    """Streams of news for windows."""

    def __init__(self, fairlead: Fairlead, pulse: Pulse) -> None:
        self._fairlead = fairlead
        self._pulse = pulse

    async def now(self) -> int:
        """The cursor of what has not happened yet. Read it before a client hears that it is watching."""
        return await run_in_threadpool(self._fairlead.store.news.last)

    async def watch(self, identifier: str, cursor: int) -> AsyncIterator[bytes]:
        """Server-sent events of a conversation from ``cursor`` on; ends when it is closed."""
        store = self._fairlead.store
        if 0 < cursor < await run_in_threadpool(store.news.first) - 1:
            # Older than what is kept: the window has to load the whole conversation again.
            yield frame(b'{"type": "reload"}')
        told: dict[str, Any] = {}
        async with self._pulse.listen(identifier) as event:
            while True:
                conversation = await run_in_threadpool(store.conversations.get, identifier)
                if conversation is None:
                    return
                for line in await run_in_threadpool(store.news.after, cursor, conversation=identifier):
                    cursor = line.sequence
                    message = await self._message(line.ref) if line.kind == "message" else None
                    if message is not None:
                        yield frame(_encoded(type="message", message=message), identifier=cursor)
                state = await self.standing(conversation)
                if state != told:
                    told = state
                    yield frame(_encoded(type="state", **state), identifier=cursor)
                if conversation.state == "closed":
                    return
                while not await woken(event, BEAT_S):
                    yield b": still here\n\n"
                    if conversation.state == "waiting":
                        break

    async def _message(self, identifier: str) -> dict[str, Any] | None:
        message = await run_in_threadpool(self._fairlead.store.conversations.message, identifier)
        return shown(message, {}) if message is not None and message.role in SPEAKERS else None

    async def standing(self, conversation: Conversation) -> dict[str, Any]:
        """How it stands with the conversation: state, place in line, and what waits for the customer's yes."""
        state: dict[str, Any] = {"state": conversation.state, "handoff": None, "confirm": None}
        if conversation.state in ("waiting", "with_person"):
            handoff = msgspec.to_builtins(
                await run_in_threadpool(self._fairlead.assistant.place_in_line, conversation.id)
            )
            state["handoff"] = {**handoff, "notice": handoff_sentence(handoff)}
            state["state"] = handoff["state"] if handoff["state"] != "unavailable" else conversation.state
        with contextlib.suppress(ActionUnknown):  # sealed by another store's secret: it will expire, and is not shown
            question = await run_in_threadpool(self._fairlead.assistant.open_confirm, conversation.id)
            state["confirm"] = None if question is None else msgspec.to_builtins(question)
        return state


def author(role: str, facts: dict[str, Any]) -> str:
    """Who speaks, as a customer reads it; a person by name and as a person, never as the assistant."""
    if role == "operator":
        return f"{facts.get('operator') or 'A person'}, a person of our team"
    return {"user": "You", "assistant": "AI assistant"}.get(role, "")


def handoff_sentence(state: dict[str, Any]) -> str:
    """What the customer is told about the person who will come: the place in line and the hours."""
    if state.get("state") == "with_person":
        return f"You are talking with {state.get('operator') or 'someone'}, a person of our team."
    if state.get("state") == "open":
        return "You are back with the assistant."
    parts = [str(state.get("message") or "A colleague from our team will answer here.")]
    if state.get("position"):
        parts.append(f"You are number {state['position']} in line.")
    if state.get("hours"):
        parts.append(f"Hours: {state['hours']}.")
    if state.get("contact"):
        parts.append("We have your e-mail address and answer there, too.")
    return " ".join(parts)


def shown(message: Message, thumbs: dict[str, float]) -> dict[str, Any]:
    """A message as the chat's API gives it."""
    return {
        "id": message.id,
        "role": message.role,
        "text": message.text,
        "time": message.time,
        "act": str(message.facts.get("act", "")),
        "operator": str(message.facts.get("operator", "")),
        "client_id": str(message.facts.get("client_id", "")),
        "cards": message.facts.get("cards", []),
        "sources": [{"title": source.title, "text": source.text} for source in message.sources],
        "thumb": thumbs.get(message.id),
    }


def _encoded(**event: Any) -> bytes:
    return msgspec.json.encode(event)
