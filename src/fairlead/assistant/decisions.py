"""What is decided about actions and identity from outside a turn: buttons in the chat, people at the desk, the site.

The part of the Assistant that the pages call for it. Raises before anything is changed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Final

from fairlead import secret
from fairlead.assistant.actions import Acting, Appraisal, Ended
from fairlead.assistant.conversation import Thread, Threads
from fairlead.assistant.events import Confirm, Delta, Done, Event, Facts, Started
from fairlead.assistant.handoff import Desk
from fairlead.assistant.identity import read_token
from fairlead.assistant.recording import Recording
from fairlead.errors import ActionUnknown, FairleadError, IdentityRefused, SecretUnreadable
from fairlead.records import Action, Conversation, new_id
from fairlead.spec import UseCase
from fairlead.store import Store
from fairlead.tools import Customer

SWEEP_S: Final = 15.0

log = logging.getLogger(__name__)


class Decisions:
    """Mixed into the Assistant, which provides what is declared here."""

    usecase: UseCase
    _store: Store
    _acting: Acting
    _threads: Threads
    desk: Desk
    _add: Callable[..., None]
    _touch: Callable[..., Awaitable[None]]
    _mask: Callable[[str], str]
    _recording: Recording
    _enter: Callable[..., Any]

    async def confirm_action(self, conversation_id: str, action_id: str, yes: bool) -> tuple[Event, ...]:
        """The customer's answer by a button to the question of a ``confirm`` event: the events of the answer.

        Answering twice, or too late, changes nothing and says so. Raises ConversationUnknown, ConversationClosed,
        ActionUnknown for an action of another conversation.
        """
        thread = self._threads.get(conversation_id)
        thread.users += 1
        try:
            async with thread.lock:
                conversation: Conversation = await self._enter(thread, conversation_id)
                action = await asyncio.to_thread(self._store.actions.get, action_id)
                if action is None or action.conversation != conversation.id:
                    raise ActionUnknown
                said = "Yes" if yes else "No"
                await asyncio.to_thread(
                    self._add, conversation, new_id(), "user", said, facts={"action": action_id}
                )  # fmt: skip
                thread.remember("user", said)
                ended = await self._acting.answer(action, yes=yes)
                return await self._tell(thread, conversation, action_id, ended)
        finally:
            thread.users -= 1

    def open_confirm(self, conversation_id: str) -> Confirm | None:
        """The question of a conversation that waits for a yes, as it was put; None when there is none. Blocks."""
        action = self._acting.pending(conversation_id)
        return self._acting.ask_again(action) if action is not None else None

    async def decide_action(self, action_id: str, approve: bool, *, operator: str, note: str = "") -> Action:
        """A person's decision on an action over its cap; approved, it is run, and the customer told in the chat.

        Raises ActionUnknown, and ActionSettled when it does not wait for approval any more.
        """
        ended = await self._acting.decide(action_id, approve=approve, operator=operator, note=note)
        assert ended.action is not None
        conversation = await asyncio.to_thread(self._store.conversations.get, ended.action.conversation)
        if conversation is not None:
            thread = self._threads.get(conversation.id)
            async with thread.lock:
                await self._tell(thread, conversation, action_id, ended)
        return ended.action

    async def settle_action(self, action_id: str, done: bool, *, operator: str, note: str = "") -> Action:
        """A person has found out whether an action of the state unknown was done. Nothing is run.

        Raises ActionUnknown, ActionSettled.
        """
        return await self._acting.settle(action_id, done=done, operator=operator, note=note)

    def appraise_action(self, action: Action) -> Appraisal:
        """What a person should see before deciding about an action. Blocks."""
        return self._acting.appraise(action)

    async def identify(self, conversation_id: str, token: str) -> Customer:
        """Take over from the embedding site who is signed in; see ``policy.identity``.

        Raises IdentityRefused, ConversationUnknown, ConversationClosed.
        """
        policy = self.usecase.policy.identity
        if policy is None:
            raise IdentityRefused(detail="this use case takes over no identities (policy.identity)")
        try:
            shared = secret.read(policy.secret, self.usecase.base)
        except SecretUnreadable as error:
            raise IdentityRefused(detail=f"the secret {policy.secret} cannot be read") from error
        customer = read_token(token, shared.encode(), audience=self.usecase.name)
        thread = self._threads.get(conversation_id)
        async with thread.lock:
            await self._enter(thread, conversation_id)
            thread.session.sign_in(customer)
        return customer

    async def finish_actions(self) -> None:
        """Let actions that are being run come to their end before the process does, for a few seconds."""
        await self._acting.aclose()

    async def watch_actions(self) -> None:
        """For as long as the server runs: end what nobody will end, and show people what became unknown."""
        while True:
            try:
                for action in await asyncio.to_thread(self._acting.sweep):
                    conversation = await asyncio.to_thread(self._store.conversations.get, action.conversation)
                    if conversation is not None:
                        reason = f"nobody knows whether this was done: {action.title}"
                        await asyncio.to_thread(self.desk.request, conversation, reason, "")
            except FairleadError as error:
                log.warning("actions could not be looked through: %s", error)
            await asyncio.sleep(SWEEP_S)

    async def _tell(
        self, thread: Thread, conversation: Conversation, action_id: str, ended: Ended
    ) -> tuple[Event, ...]:
        """Keep and give the answer in which an action ended."""
        message_id = new_id()
        facts: dict[str, Any] = {"act": "action", "action": action_id}
        events: list[Event] = [Started(message_id=message_id), Delta(text=ended.text)]
        if ended.card is not None:
            events.append(Facts(title=ended.card.title, rows=ended.card.rows))
            facts["cards"] = self._recording.masked([{"title": ended.card.title, "rows": ended.card.rows}])
        thread.remember("assistant", ended.text)
        await asyncio.to_thread(self._add, conversation, message_id, "assistant", ended.text, facts=facts)
        await self._touch(thread, conversation, "")
        if ended.reason:
            with contextlib.suppress(FairleadError):
                events.append(
                    await asyncio.to_thread(self.desk.request, conversation, self._mask(ended.reason), "")
                )  # fmt: skip
        return (*events, Done(message_id=message_id, act="action"))
