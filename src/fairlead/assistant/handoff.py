"""Passing a conversation on to a person: the queue, the place in line, and what the customer is told about hours.

Times are local to the time zone of the policy, so that an office in Berlin opens at nine in summer and in winter.
Calls block on the store.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

from fairlead.assistant.events import HandedOff
from fairlead.records import Conversation, Handoff, new_id, now_us
from fairlead.spec.model import Handoff as HandoffPolicy
from fairlead.store import Store

_RESUME = re.compile(
    r"^\W*(never ?mind|cancel( that| it| the hand-?off)?|forget (it|that|the person)|no longer needed|stop waiting"
    r"|(i (will |'ll |would )?(not|n't|don't|no longer) (want to )?wait).*"
    r"|(back|return|continue|go on|carry on) (to|with) (the )?(bot|assistant|ai|chat ?bot))\W*$",
    re.IGNORECASE,
)


class Desk:
    """The people behind the assistant, as far as it knows them: their hours and their queue."""

    def __init__(self, store: Store, policy: HandoffPolicy) -> None:
        self._store = store
        self._policy = policy

    @property
    def enabled(self) -> bool:
        """Whether a person can be reached at all."""
        return self._policy.enabled

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
                id=new_id(), time=now_us(), tenant=conversation.tenant, subject=conversation.subject,
                usecase=conversation.usecase, spec_hash=conversation.spec_hash, release=conversation.release,
                conversation=conversation.id, reason=reason[:500], summary=summary[:1000],
            )
        )  # fmt: skip
        return self.place(conversation)

    def place(self, conversation: Conversation, *, now: datetime | None = None) -> HandedOff:
        """Where the conversation stands."""
        line = [each.conversation for each in self._store.handoffs.waiting(tenant=conversation.tenant)]
        if conversation.id not in line:
            person = conversation.state == "with_person"
            return HandedOff(state="with_person" if person else "open", hours=self.hours)
        return HandedOff(
            state="waiting", position=line.index(conversation.id) + 1, hours=self.hours, message=self.notice(now)
        )

    def withdraw(self, conversation: Conversation) -> HandedOff:
        """Take the conversation out of the queue again; the assistant goes on answering."""
        waiting = self._waiting(conversation)
        if waiting is not None:
            self._store.handoffs.withdraw(waiting.id)
        return HandedOff(state="open", hours=self.hours)

    def _waiting(self, conversation: Conversation) -> Handoff | None:
        newest = self._store.handoffs.of(conversation.id)
        return newest if newest is not None and newest.state == "waiting" else None

    @property
    def hours(self) -> str:
        """The office hours in words: ``Mon-Fri 09:00-17:00 (Europe/Berlin)``."""
        text = str(self._policy.opening)
        return text if text == "24/7" else f"{text} ({self._policy.timezone})"

    def notice(self, now: datetime | None = None) -> str:
        """What the customer is told: the policy's message, and outside the hours when someone is back."""
        now = now or datetime.now(UTC)
        if self._policy.opening.is_open(now, self._policy.timezone):
            return self._policy.message
        back = self._policy.opening.next_opening(now, self._policy.timezone)
        return f"{self._policy.message} Our team is back on {back:%A}, {back.day} {back:%B}, at {back:%H:%M}."


def wants_to_resume(text: str) -> bool:
    """Whether a waiting customer says that no person is needed any more."""
    return bool(_RESUME.match(text[:200]))
