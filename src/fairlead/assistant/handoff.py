"""Passing a conversation on to a person and back: the queue, who holds what, and what the customer is told about it.

Times are local to the time zone of the policy, so that an office in Berlin opens at nine in summer and in winter.
An operator holds a conversation for LEASE_S and says again and again that they are there; one whose browser is gone
loses it to the queue, never what they typed. Knows no pages and no models. Calls block on the store.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import msgspec

from fairlead.assistant.events import HandedOff
from fairlead.assistant.prompt import asks_for_person
from fairlead.errors import (
    ContactInvalid,
    HandoffGone,
    HandoffHeld,
    HandoffReturned,
    MessageEmpty,
    MessageTooLong,
)
from fairlead.readable import UNREADABLE, legible, readable
from fairlead.records import AuditEntry, Conversation, Feedback, Handoff, Message, Record, new_id, now_us
from fairlead.spec.policy import Handoff as HandoffPolicy
from fairlead.store import Store

LEASE_S: Final = 45.0
"""How long an operator holds a conversation without a sign of life; their page gives one every third of it."""
GRACE_S: Final = 15.0
"""How long after its page was closed, so that a reload does not give it away."""
PLAIN_S: Final = 900.0
"""How long where the page cannot give signs of life, because it runs no JavaScript."""
MAX_REPLY_CHARS: Final = 8_000
MAX_NOTE_CHARS: Final = 1_000
QUOTED_CHARS: Final = 160
"""Of one text in a summary."""
ENDINGS: Final = {"resolved": "Resolved", "not_resolved": "Not resolved", "no_answer": "No answer came", "spam": "Spam"}
"""How a person can say that a conversation ended."""
ASKED, TEXTS, PARTS = "Asked: ", " / ", " · "
"""In a summary: what stands before the customer's texts, between them, and between them and what else is said."""

_RESUME = re.compile(
    r"^\W*(never ?mind|cancel( that| it| the hand-?off)?|forget (it|that|the person)|no longer needed|stop waiting"
    r"|(i (will |'ll |would )?(not|n't|don't|no longer) (want to )?wait).*"
    r"|(back|return|continue|go on|carry on) (to|with) (the )?(bot|assistant|ai|chat ?bot))\W*$",
    re.IGNORECASE,
)
_EMAIL = re.compile(r"[^@\s<>\"',;:\\()\[\]]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63}){1,8}")
_COLUMNS = ("tenant", "subject", "usecase", "spec_hash", "release")


class Operator(msgspec.Struct, frozen=True, kw_only=True):
    """A person behind the assistant: the id of their key, and the name a customer reads."""

    key: str
    name: str
    tenant: str


class Desk:
    """The people behind the assistant: their hours, their queue, and what they do with it.

    ``mask`` masks what is stored. Where an operator is given, HandoffGone and HandoffHeld are raised.
    """

    def __init__(self, store: Store, policy: HandoffPolicy, mask: Callable[[str], str] = str) -> None:
        self._store = store
        self._policy = policy
        self._mask = mask

    @property
    def enabled(self) -> bool:
        """Whether a person can be reached at all."""
        return self._policy.enabled

    # --- the customer's side --------------------------------------------------------------------------------------

    def request(self, conversation: Conversation, reason: str, summary: str) -> HandedOff:
        """Queue the conversation and say where it stands. Queued once: asking again changes nothing.

        A conversation of the terminal gets the message but no place in line.
        """
        if not self.enabled:
            return HandedOff(state="unavailable", message="No person can be reached through this chat.")
        if conversation.channel == "cli":  # whoever tries the assistant in a terminal is no customer in line
            return HandedOff(state="open", hours=self.hours, message=self.notice())
        self._store.handoffs.open(
            Handoff(
                id=new_id(), time=now_us(), **_columns(conversation), conversation=conversation.id,
                reason=reason[:500], summary=summary[:1000],
            )
        )  # fmt: skip
        return self.place(conversation)

    def place(self, conversation: Conversation, *, now: datetime | None = None) -> HandedOff:
        """Where the conversation stands."""
        self.free()
        newest = self._store.handoffs.of(conversation.id)
        if newest is not None and newest.state == "taken":
            return HandedOff(state="with_person", hours=self.hours, operator=newest.operator)
        line = [each.conversation for each in self._store.handoffs.waiting(tenant=conversation.tenant)]
        if newest is None or conversation.id not in line:
            return HandedOff(state="open", hours=self.hours)
        return HandedOff(
            state="waiting", position=line.index(conversation.id) + 1, hours=self.hours, message=self.notice(now),
            away=not self.is_open(now), contact=bool(newest.contact),
        )  # fmt: skip

    def withdraw(self, conversation: Conversation) -> HandedOff:
        """Take the conversation out of the queue again; the assistant goes on answering."""
        newest = self._store.handoffs.of(conversation.id)
        if newest is not None and newest.state == "waiting":
            self._store.handoffs.withdraw(newest.id)
        return self.place(conversation)

    def leave_contact(self, conversation: Conversation, email: str) -> HandedOff:
        """Where to answer when nobody is there. Raises ContactInvalid; HandoffGone when nobody is waited for."""
        email = email.strip()
        if len(email) > 254 or not _EMAIL.fullmatch(email):
            raise ContactInvalid
        newest = self._store.handoffs.of(conversation.id)
        if newest is None or newest.state == "closed":
            raise HandoffGone
        self._store.handoffs.leave_contact(newest.id, email)
        return self.place(conversation)

    # --- the operator's side ----------------------------------------------------------------------------------------

    def take(self, identifier: str, operator: Operator, *, hold_s: float = PLAIN_S) -> Handoff:
        """Take over, unless a colleague was faster (HandoffHeld says who)."""
        self._of(identifier, operator)
        handoff, mine, since_now = self._store.handoffs.take(
            identifier, operator=operator.name, key=operator.key, lease=_from_now(hold_s)
        )
        if not mine:
            raise _refusal(handoff)
        if since_now:
            self._tell(handoff, f"{operator.name}, a person of our team, is here now.", "joined")
            self._audit(operator, handoff, "handoff.take", waited_s=round((handoff.taken - handoff.time) / 1e6))
        return handoff

    def hold(
        self, identifier: str, operator: Operator, *, draft: str | None = None, hold_s: float = LEASE_S
    ) -> Handoff:
        """Stay there, and keep what was typed so far."""
        self._of(identifier, operator)
        draft = None if draft is None else self._mask(draft[:MAX_REPLY_CHARS])
        handoff, mine = self._store.handoffs.hold(identifier, key=operator.key, lease=_from_now(hold_s), draft=draft)
        if not mine:
            raise _refusal(handoff)
        return handoff

    def reply(self, identifier: str, operator: Operator, text: str, *, message_id: str, suggested: bool) -> Message:
        """Answer the customer, once per ``message_id`` (a UUIDv7 of the page's). Raises MessageEmpty, MessageTooLong.

        What was said becomes a demonstration of how the open question is to be answered.
        """
        handoff, text = self._of(identifier, operator), text.strip()
        if not text:
            raise MessageEmpty
        if len(text) > MAX_REPLY_CHARS:
            raise MessageTooLong(found=len(text), limit=MAX_REPLY_CHARS)
        proposed = str(handoff.suggestion.get("text", "")) if suggested else ""
        facts = {"operator": operator.name}
        if proposed:
            facts["suggested"] = "as it was" if proposed == text else "edited"
        message = Message(
            id=message_id, time=now_us(), **_columns(handoff), conversation=handoff.conversation, role="operator",
            text=self._mask(text), facts=facts,
        )  # fmt: skip
        after, said = self._store.handoffs.reply(identifier, message, key=operator.key, lease=_from_now(LEASE_S))
        if not said:
            raise _refusal(after)
        self._demonstrate(handoff, operator)
        self._audit(operator, handoff, "handoff.reply", message=message.id, suggestion=facts.get("suggested", "none"))
        return message

    def release(self, identifier: str, operator: Operator) -> Handoff:
        """Give it back to the queue, for a colleague."""
        self._of(identifier, operator)
        result = self._store.handoffs.release(identifier, key=operator.key)
        told = f"{operator.name} has passed you on to a colleague. You keep your place in line."
        return self._ended(result, operator, "handoff.release", told)

    def give_back(self, identifier: str, operator: Operator) -> Handoff:
        """Let the assistant answer again."""
        self._of(identifier, operator)
        result = self._store.handoffs.close(identifier, key=operator.key, outcome="returned", conversation="open")
        told = f"{operator.name} has left. The AI assistant answers again; you can ask for a person at any time."
        return self._ended(result, operator, "handoff.return", told)

    def close(self, identifier: str, operator: Operator, outcome: str, note: str = "") -> Handoff:
        """End the conversation with one of ENDINGS."""
        self._of(identifier, operator)
        note = self._mask(note.strip()[:MAX_NOTE_CHARS])
        result = self._store.handoffs.close(identifier, key=operator.key, outcome=outcome, note=note)
        told = f"{operator.name} has closed this conversation."
        return self._ended(result, operator, "handoff.close", told, outcome=outcome)

    def free(self) -> None:
        """Give back what is held by nobody any more."""
        for handoff in self._store.handoffs.free(now_us()):
            self._tell(handoff, f"{handoff.operator} has left. You keep your place in line for a colleague.", "left")
            gone = Operator(key=handoff.operator_key, name=handoff.operator, tenant=handoff.tenant)
            self._audit(gone, handoff, "handoff.lapse")

    def _of(self, identifier: str, operator: Operator) -> Handoff:
        handoff = self._store.handoffs.get(identifier)
        if handoff is None or handoff.tenant != operator.tenant:
            raise HandoffGone
        return handoff

    def _ended(
        self, result: tuple[Handoff, bool], operator: Operator, action: str, told: str, **detail: Any
    ) -> Handoff:
        handoff, done = result
        if not done:
            raise _refusal(handoff)
        self._tell(handoff, told, "left")
        self._audit(operator, handoff, action, **detail)
        return handoff

    def _tell(self, handoff: Handoff, text: str, act: str) -> None:
        """A line between the messages, for the customer and for the transcript."""
        self._store.conversations.add(
            Message(
                id=new_id(), time=now_us(), **_columns(handoff), conversation=handoff.conversation, role="system",
                text=text, facts={"act": act},
            )
        )  # fmt: skip

    def _demonstrate(self, handoff: Handoff, operator: Operator) -> None:
        """Keep question and answer as an example; several replies in a row are one answer."""
        messages = self._store.conversations.messages(handoff.conversation)
        question = open_question(messages)
        if question is None:
            return
        later = messages[messages.index(question) + 1 :]
        answer = "\n".join(message.text for message in later if message.role == "operator")
        inference = next((message.inference for message in later if message.inference), "")
        self._store.feedback.add(
            Feedback(
                id=new_id(), time=now_us(), **_columns(handoff), kind="demonstration", author=operator.key,
                target_kind="inference" if inference else "message", target=inference or question.id,
                question=question.text, text=answer,
            )
        )  # fmt: skip

    def _audit(self, operator: Operator, handoff: Handoff, action: str, **detail: Any) -> None:
        # Names and ids only: what is in this log can never be erased, so nothing a customer wrote goes there.
        self._store.audit.append(
            AuditEntry(
                id=new_id(), time=now_us(), **_columns(handoff) | {"subject": ""}, actor=operator.name, action=action,
                resource=f"handoff:{handoff.id}",
                detail={"key": operator.key, "conversation": handoff.conversation, **detail},
            )
        )  # fmt: skip

    # --- hours ------------------------------------------------------------------------------------------------------

    @property
    def hours(self) -> str:
        """The office hours in words: ``Mon-Fri 09:00-17:00 (Europe/Berlin)``."""
        text = str(self._policy.opening)
        return text if text == "24/7" else f"{text} ({self._policy.timezone})"

    def is_open(self, now: datetime | None = None) -> bool:
        """Whether people are there."""
        return self._policy.opening.is_open(now or datetime.now(UTC), self._policy.timezone)

    def notice(self, now: datetime | None = None) -> str:
        """What the customer is told: the policy's message, and outside the hours when someone is back."""
        now = now or datetime.now(UTC)
        if self._policy.opening.is_open(now, self._policy.timezone):
            return self._policy.message
        back = self._policy.opening.next_opening(now, self._policy.timezone)
        return f"{self._policy.message} Our team is back on {back:%A}, {back.day} {back:%B}, at {back:%H:%M}."

    def due(self, handoff: Handoff) -> int:
        """When a person should have taken over (``policy.handoff.sla``), counted within the hours, in microseconds."""
        moment = datetime.fromtimestamp(handoff.time / 1e6, UTC)
        left = timedelta(seconds=self._policy.sla.value)
        opening, zone, step = self._policy.opening, self._policy.timezone, timedelta(minutes=1)
        if str(opening) == "24/7":
            return int((moment + left).timestamp() * 1e6)
        while left > timedelta():
            moment = opening.next_opening(moment, zone).astimezone(UTC)
            spent = min(step, left)
            moment, left = moment + spent, left - spent
        return int(moment.timestamp() * 1e6)


def wants_to_resume(text: str) -> bool:
    """Whether a waiting customer says that no person is needed any more."""
    return bool(_RESUME.match(text[:200]))


def open_question(messages: Iterable[Message]) -> Message | None:
    """The customer's last message that is more than a call for a person."""
    asked = [message for message in messages if message.role == "user"]
    real = [message for message in asked if not (asks_for_person(message.text) or wants_to_resume(message.text))]
    found = real or asked
    return found[-1] if found else None


def summarise(messages: Iterable[Message]) -> str:
    """What a colleague should know before reading on: what was asked, found, and not answered; from what is stored."""
    messages = list(messages)
    asked = [message.text for message in messages if message.role == "user"]
    cards = [card for message in messages for card in message.facts.get("cards", [])]
    unknown = sum(message.facts.get("act") == "unknown" for message in messages)
    parts = []
    if asked:
        read = [readable(text) for text in asked if legible(text)] or [UNREADABLE]
        shown = read if len(read) <= 3 else [read[0], *read[-2:]]
        parts.append(ASKED + TEXTS.join(map(_in_short, shown)))
    if cards:
        parts.append("Looked up: " + "; ".join(dict.fromkeys(str(card.get("title", "")) for card in cards)))
    if unknown:
        parts.append(f"The assistant did not know {unknown} answer{'s' if unknown != 1 else ''}")
    return PARTS.join(parts)


def _columns(record: Record) -> dict[str, Any]:
    return {name: getattr(record, name) for name in _COLUMNS}


def _from_now(seconds: float) -> int:
    return now_us() + round(seconds * 1e6)


def _refusal(handoff: Handoff) -> HandoffGone | HandoffHeld | HandoffReturned:
    """Why a step is not possible any more."""
    if handoff.state == "taken":
        return HandoffHeld(operator=handoff.operator)
    return HandoffReturned() if handoff.state == "waiting" else HandoffGone()


def _in_short(text: str) -> str:
    line = " ".join(text.split())
    if len(line) > QUOTED_CHARS:
        return line[: QUOTED_CHARS - 1].rstrip() + "…"
    return line.rstrip(".") or line
