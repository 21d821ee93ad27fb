"""How a conversation ended: resolution, containment, deflection, recontact, abandonment, rating. Each by rules, apart.

The definitions are those of the built-in metrics (``spec/metrics.py``); this is how they are decided from what is
stored. What cannot be known yet is None and becomes due again. Reads no model's opinion and knows no pages.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import msgspec

from fairlead.assistant.handoff import wants_to_resume
from fairlead.engines.embed.words import words_of
from fairlead.engines.extractive.text import content
from fairlead.errors import StoreError
from fairlead.records import Conversation, ConversationOutcome, Feedback, Handoff, Message, now_us
from fairlead.spec import UseCase
from fairlead.spec.power import wilson
from fairlead.store import Store
from fairlead.store.outcomes import NEVER

HOUR_US: Final = 3_600_000_000
IDLE_US: Final = HOUR_US
"""A conversation in which nobody has spoken for so long has ended; a customer who speaks again has come back."""
ALIKE: Final = 0.5
"""Share of the rarer contact's content words that two contacts about one matter have in common, at least two words."""
GOOD_RATING: Final = 4.0
WATCH_S: Final = 20.0
ANSWERED: Final = frozenset({"answer", "tool", "small_talk", "disclosure", "complaint", "action"})
"""What the assistant does when it answers; not knowing, asking back and asking for a yes leave a question open."""

_NOT_YET: Final = dict.fromkeys(("abandoned", "contained", "deflected", "resolved", "recontacted"))
"""What is known of a conversation only once it has ended."""

_SOLVED = re.compile(
    r"\b(that|this|it)(( ha)?s|'s)? (solve[sd]|fixe[sd]|help(s|ed)|answer(s|ed))\b"
    r"|\b(problem|question|issue|that'?s?|it'?s?)( is| was)? (solved|sorted|answered|all i (needed|wanted))\b"
    r"|\bthat (was|is) (all|what) i (needed|wanted)\b",
    re.IGNORECASE,
)
_NOT = re.compile(r"\b(not|never|no)\b|n't\b|\?", re.IGNORECASE)
_THANKS = re.compile(
    r"^\W*((ok(ay)?|great|perfect|super|cool|all ?right|no|yes)\W+)*"
    r"(many )?(thanks?|thank you|thx|cheers|bye|goodbye)\b[^?]*$",
    re.IGNORECASE,
)
_REFERENCE = re.compile(r"\b(?=[\w-]*\d{4})[A-Za-z]{0,4}-?\d[\d-]{3,}\b")


log = logging.getLogger(__name__)


class Windows(msgspec.Struct, frozen=True, kw_only=True):
    """How long an outcome may still change, in microseconds."""

    resolution: int
    recontact: int
    deflection: int

    @classmethod
    def of(cls, usecase: UseCase) -> Windows:
        """As the use case's metrics say."""
        metrics = usecase.effective_metrics
        return cls(**{name: round((metrics[name].window_hours or 72.0) * HOUR_US) for name in cls.__struct_fields__})


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What is stored of one conversation, and of the others of the same customer (oldest first)."""

    conversation: Conversation
    messages: Sequence[Message]
    feedback: Sequence[Feedback] = ()
    handoffs: Sequence[Handoff] = ()
    others: Sequence[tuple[ConversationOutcome, Sequence[Message]]] = ()


def judge(facts: Facts, before: ConversationOutcome, windows: Windows, *, now: int) -> ConversationOutcome:
    """The outcome as far as it can be known at ``now``."""
    said = [message for message in facts.messages if message.role != "system"]
    asked = [message for message in said if message.role == "user" and "action" not in message.facts]
    last = max((message.time for message in said), default=facts.conversation.time)
    denied, confirmed = _confirmation(facts, asked)
    known = _so_far(facts, said) | {"turns": len(asked), "confirmed": confirmed, "again": came_again(facts, last)}
    state = facts.conversation.state
    if not asked or state not in ("open", "closed"):
        return msgspec.structs.replace(before, **known, **_NOT_YET, due=NEVER, computed=now)
    if state == "open" and now - last < IDLE_US:
        return msgspec.structs.replace(before, **known, **_NOT_YET, due=last + IDLE_US, computed=now)
    again, reached = known["again"], known["reached_person"]
    known |= {"abandoned": _abandoned(said, reached=reached), "contained": not known["handed_over"]}
    failed = known["handed_over"] or reached or known["abandoned"] or denied
    known |= {
        "recontacted": _within(again, last, windows.recontact, now),
        "deflected": _deflected(facts, last, windows.deflection, now, reached=reached),
        "resolved": False if failed else _resolved(confirmed, again, last, windows.resolution, now),
    }
    ends = {"recontacted": windows.recontact, "deflected": windows.deflection, "resolved": windows.resolution}
    due = min((last + window for name, window in ends.items() if known[name] is None), default=NEVER)
    return msgspec.structs.replace(before, **known, due=due, computed=now)


def _so_far(facts: Facts, said: Sequence[Message]) -> dict[str, Any]:
    """What is known whether or not the conversation has ended."""
    taken = any(handoff.taken for handoff in facts.handoffs)
    return {
        "handed_over": any(handoff.outcome != "withdrawn" for handoff in facts.handoffs),
        "reached_person": taken or any(message.role == "operator" for message in said),
        "ending": next((each.outcome for each in reversed(facts.handoffs) if each.outcome), ""),
        "csat": next((entry.value for entry in reversed(facts.feedback) if entry.kind == "csat"), None),
    }


def _resolved(confirmed: str, again: int, last: int, window: int, now: int) -> bool | None:
    """Whether what nothing speaks against is solved: the customer says so, or did not come again in the window."""
    if confirmed == "customer":
        return True
    came = _within(again, last, window, now)
    return None if came is None else not came


def _confirmation(facts: Facts, asked: Sequence[Message]) -> tuple[bool, str]:
    """(the customer says that it is not solved, who says that it is)."""
    solved = next((entry.value for entry in reversed(facts.feedback) if entry.kind == "solved"), None)
    if solved is not None:
        return not solved, "customer" if solved else ""
    if asked and says_solved(asked[-1].text):
        return False, "customer"
    return False, "operator" if any(each.outcome == "resolved" for each in facts.handoffs) else ""


def says_solved(text: str) -> bool:
    """Whether a customer says in words that it is solved; thanks alone say nothing."""
    return bool(_SOLVED.search(text[:500])) and not _NOT.search(text[:500])


def _abandoned(said: Sequence[Message], *, reached: bool) -> bool:
    """Whether the last thing the customer wanted to know stayed without an answer."""
    questions = [
        index for index, message in enumerate(said)
        if message.role == "user" and not (_THANKS.match(message.text) or says_solved(message.text))
        and not wants_to_resume(message.text)
    ]  # fmt: skip
    if not questions:
        return False
    after = said[questions[-1] + 1 :]
    if any(message.role == "operator" or message.facts.get("act") in ANSWERED for message in after):
        return False
    # What a person has closed was in their hands: whether they solved it is their outcome to give.
    return not (reached and not any(message.role == "assistant" for message in after))


def _within(again: int, last: int, window: int, now: int) -> bool | None:
    if again and again - last <= window:
        return True
    return None if now < last + window else False


def _deflected(facts: Facts, last: int, window: int, now: int, *, reached: bool) -> bool | None:
    later = (other for other, _ in facts.others if facts.conversation.time <= other.time <= last + window)
    if reached or any(other.reached_person for other in later):
        return False
    return None if now < last + window else True


def came_again(facts: Facts, last: int) -> int:
    """When the customer made contact again about the same matter; 0 when they did not.

    A contact is what is said until nobody has spoken for IDLE_US, in this conversation or another one of the customer.
    """
    own = contacts(facts.messages)
    if not own:
        return 0
    later = own[1:] + [
        contact for other, messages in facts.others if other.time > facts.conversation.time
        for contact in contacts(messages)[:1]
    ]  # fmt: skip
    found = [contact[0].time for contact in later if contact[0].role == "user" and same_matter(own[0], contact)]
    return min((moment for moment in found if moment >= own[0][-1].time), default=0)


def contacts(messages: Iterable[Message]) -> list[list[Message]]:
    """The messages cut where a customer speaks after a long silence; without greetings before the first question."""
    found: list[list[Message]] = []
    last = 0
    for message in messages:
        if message.role == "user" and (not found or message.time - last >= IDLE_US):
            found.append([message])
        elif found:
            found[-1].append(message)
        last = message.time
    return found


def same_matter(one: Sequence[Message], other: Sequence[Message]) -> bool:
    """Whether two contacts are about the same: a number such as an order's, a quoted passage, or their words."""
    texts = [" ".join(each.text for each in contact if each.role == "user") for contact in (one, other)]
    numbers = [set(_REFERENCE.findall(text.upper())) for text in texts]
    if numbers[0] & numbers[1]:
        return True
    cited = [{source.id for each in contact for source in each.sources} for contact in (one, other)]
    if cited[0] & cited[1] and not (numbers[0] and numbers[1]):
        return True
    words = [set(content(words_of(text))) for text in texts]
    common = words[0] & words[1]
    return len(common) >= 2 and len(common) >= ALIKE * min(len(words[0]), len(words[1]))


class Outcomes:
    """Keeps the outcomes of one use case current. Blocks on the store."""

    def __init__(self, store: Store, usecase: UseCase) -> None:
        self._store = store
        self._windows = Windows.of(usecase)
        self._confidence = usecase.confidence

    def refresh(self, *, budget_s: float = 1.0, now: int | None = None) -> int:
        """Look again at what is due, for about ``budget_s``. Returns how many were."""
        began, done, moment = time.monotonic(), 0, now or now_us()
        while time.monotonic() - began < budget_s:
            due = self._store.outcomes.due(moment, limit=50)
            for before in due:
                self._store.outcomes.put(self._judged(before, moment), seen=before.due)
                done += 1
            if len(due) < 50:
                break
        return done

    async def watch(self) -> None:
        """For as long as the server runs: keep every outcome current."""
        while True:
            try:
                await asyncio.to_thread(self.refresh)
            except StoreError as error:
                log.warning("outcomes could not be looked at: %s", error)
            await asyncio.sleep(WATCH_S)

    def _judged(self, before: ConversationOutcome, now: int) -> ConversationOutcome:
        store = self._store
        conversation = store.conversations.get(before.id)
        if conversation is None:
            return msgspec.structs.replace(before, due=NEVER, computed=now)
        relatives = [
            each for each in store.outcomes.of_visitor(before.visitor, tenant=before.tenant) if each.id != before.id
        ]
        facts = Facts(
            conversation=conversation, messages=store.conversations.messages(before.id),
            feedback=store.feedback.of_conversation(before.id), handoffs=store.handoffs.all_of(before.id),
            others=[(each, store.conversations.messages(each.id)) for each in relatives if each.time > before.time],
        )  # fmt: skip
        return judge(facts, before, self._windows, now=now)

    def between(self, since: int, until: int, *, tenant: str | None = None) -> list[ConversationOutcome]:
        """Outcomes of conversations that began in a range and in which the customer said something."""
        return self._store.outcomes.between(since=since, until=until, tenant=tenant)

    def summary(self, since: int, until: int, *, tenant: str | None = None) -> list[Share]:
        """The range in figures, each with what it counts."""
        return summarise(self.between(since, until, tenant=tenant), self._confidence)


class Share(msgspec.Struct, frozen=True, kw_only=True):
    """``part`` of ``whole``, with its interval (None of nothing); ``open`` cannot be counted yet."""

    name: str
    words: str
    part: int
    whole: int
    open: int = 0
    low: float | None = None
    high: float | None = None

    @property
    def value(self) -> float | None:
        """The share; None of nothing."""
        return self.part / self.whole if self.whole else None


Told = Callable[[ConversationOutcome], bool | None]
EACH: Final[Sequence[tuple[str, str, Told]]] = (
    ("resolution", "resolved by the assistant", lambda each: each.resolved),
    ("containment", "ended with the assistant, given up or not", lambda each: each.contained),
    ("abandonment", "left without an answer to their last question", lambda each: each.abandoned),
    ("handed over", "passed on to a person", lambda each: each.handed_over),
    ("reached a person", "a person took over", lambda each: each.reached_person),
)
"""Shares of conversations: the name, what is counted, and what one conversation says of it."""


def summarise(outcomes: Sequence[ConversationOutcome], confidence: float) -> list[Share]:
    """Every share of some conversations. Sources of the definitions: docs/console.md."""
    people: dict[str, list[ConversationOutcome]] = {}
    for each in outcomes:
        people.setdefault(each.visitor or each.id, []).append(each)
    ended = [each for each in outcomes if each.contained is not None]
    ratings = [each.csat for each in outcomes if each.csat is not None]
    rows: list[tuple[str, str, list[bool | None]]] = [
        *((name, words, [*map(told, outcomes)]) for name, words, told in EACH),
        ("deflection", "customers who reached no person in the window",
         [_of_person([each.deflected for each in own], decides=False) for own in people.values()]),
        ("recontact", "customers who came back about the same matter in the window",
         [_of_person([each.recontacted for each in own], decides=True) for own in people.values()]),
        ("csat", "ratings of 4 or 5 out of 5", [rating >= GOOD_RATING for rating in ratings]),
        ("csat response rate", "ended conversations that were rated", [each.csat is not None for each in ended]),
    ]  # fmt: skip
    return [_share(name, words, values, confidence) for name, words, values in rows]


def _of_person(values: Sequence[bool | None], *, decides: bool) -> bool | None:
    """Of a person's conversations one of the value ``decides`` tells; else all must be known."""
    if decides in values:
        return decides
    return None if None in values else not decides


def _share(name: str, words: str, values: Sequence[bool | None], confidence: float) -> Share:
    known = [value for value in values if value is not None]
    part, whole = sum(known), len(known)
    low, high = wilson(part / whole, whole, confidence) if whole else (None, None)
    return Share(name=name, words=words, part=part, whole=whole, open=len(values) - whole, low=low, high=high)
