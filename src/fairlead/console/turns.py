"""One turn of a conversation: the assistant's events, kept so that a client may attach late, again, or never.

A turn runs in its own task. A browser that reloads or loses its connection in the middle repeats its message with the
same client id and gets the same events from the start: nothing is asked twice. Knows nothing of HTTP or of the store.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec

from fairlead.errors import ServiceError, TurnRunning

log = logging.getLogger(__name__)

MAX_KEPT = 2_000
"""Conversations whose newest turn is kept for late attachers (a turn is a few kB)."""

APOLOGY = "I cannot answer at the moment. Please try again, or ask for a person."


class Turn:
    """The events of one answer, as encoded JSON objects, in order."""

    def __init__(self, client_id: str) -> None:
        self.client_id = client_id
        self.events: list[bytes] = []
        self.ended = False
        self._changed = asyncio.Condition()

    async def emit(self, event: bytes) -> None:
        """Append one event and wake those who follow."""
        async with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    async def end(self) -> None:
        """Say that nothing follows."""
        async with self._changed:
            self.ended = True
            self._changed.notify_all()

    async def follow(self, beat_s: float = 15.0) -> AsyncIterator[bytes | None]:
        """Every event from the first on, until the end; None after ``beat_s`` seconds of silence."""
        position = 0
        while True:
            while position < len(self.events):
                yield self.events[position]
                position += 1
            if self.ended:
                return
            try:
                async with asyncio.timeout(beat_s), self._changed:
                    await self._changed.wait_for(lambda seen=position: self.ended or len(self.events) > seen)  # type: ignore[misc]
            except TimeoutError:
                yield None

    async def finished(self) -> None:
        """Return when the turn has ended."""
        async for _ in self.follow():
            pass


class Turns:
    """The newest turn of each conversation, running or done."""

    def __init__(self, *, deadline_s: float, max_kept: int = MAX_KEPT) -> None:
        self._deadline_s = deadline_s
        self._max_kept = max_kept
        self._newest: OrderedDict[str, Turn] = OrderedDict()
        self._tasks: set[asyncio.Task[None]] = set()

    def known(self, conversation: str, client_id: str) -> Turn | None:
        """The turn that this client message already started, if it is the newest of the conversation."""
        turn = self._newest.get(conversation)
        return turn if turn is not None and turn.client_id == client_id else None

    def start(self, conversation: str, client_id: str, reply: Callable[[], AsyncIterator[Any]]) -> Turn:
        """Start answering, or attach to the answer this client message already has.

        Raises TurnRunning while another message of the same conversation is being answered.
        """
        turn = self._newest.get(conversation)
        if turn is not None and turn.client_id == client_id:
            return turn
        if turn is not None and not turn.ended:
            raise TurnRunning
        turn = Turn(client_id)
        self._newest[conversation] = turn
        self._newest.move_to_end(conversation)
        self._forget()
        task = asyncio.create_task(self._run(turn, reply))
        self._tasks.add(task)
        task.add_done_callback(self._settle)
        return turn

    async def _run(self, turn: Turn, reply: Callable[[], AsyncIterator[Any]]) -> None:
        failure: dict[str, Any] | None = _failure("internal_error", APOLOGY)
        try:
            async with asyncio.timeout(self._deadline_s):
                async for event in reply():
                    await turn.emit(msgspec.json.encode(event))
            failure = None
        except TimeoutError:
            failure = _failure("timeout", f"There was no answer within {self._deadline_s:g} s. Please try again.")
        except ServiceError as error:
            # A failure's sentence is for whoever runs the service (it may name hosts and models), not for a customer.
            log.warning("a chat turn ended with %s: %s", error.code, error)
            failure = _failure(error.code, APOLOGY if error.status >= 500 else str(error))
        finally:
            if failure is not None:
                await turn.emit(msgspec.json.encode(failure))
            await turn.end()

    def _settle(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            log.error("a chat turn failed", exc_info=task.exception())

    def _forget(self) -> None:
        for conversation in list(self._newest):
            if len(self._newest) <= self._max_kept:
                return
            if self._newest[conversation].ended:
                del self._newest[conversation]

    async def aclose(self) -> None:
        """Cancel what still runs."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _failure(code: str, message: str, retry_after: float | None = None) -> dict[str, Any]:
    return {"type": "error", "code": code, "message": message, "retry_after": retry_after}
