"""Assistant: conversations with customers, grounded in the use case's pages and tools, kept and handed over.

Two faces: ``reply`` answers within a stored conversation and streams events; ``answer``, ``ask`` and ``stream`` are
stateless, for the API and the command line. ``open_conversation``, ``feedback``, ``handoff``, ``resume`` and
``transcript`` block on the store: call them in a thread from asynchronous code.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final

import msgspec

from fairlead.assistant import conversation as talk
from fairlead.assistant.actions import Acting
from fairlead.assistant.agent import Agent, Outcome, Turn
from fairlead.assistant.conversation import MAX_CLIENT_ID, Thread, Threads
from fairlead.assistant.decisions import Decisions
from fairlead.assistant.events import (
    Answer,
    Confirm,
    Delta,
    Done,
    Event,
    Facts,
    Failed,
    HandedOff,
    Sources,
    Started,
)
from fairlead.assistant.handoff import Desk, open_question, summarise, wants_to_resume
from fairlead.assistant.identity import Session
from fairlead.assistant.intents import Router
from fairlead.assistant.knowledge import Knowledge
from fairlead.assistant.masking import PublicMask
from fairlead.assistant.outcomes import Outcomes
from fairlead.assistant.prompt import clean, drop_citations, last_question
from fairlead.assistant.recording import Recording, Trace
from fairlead.assistant.tools import Tools
from fairlead.engines.extractive.phrases import RESERVED
from fairlead.errors import (
    ConversationClosed,
    ConversationUnknown,
    FeedbackInvalid,
    MessageEmpty,
    MessageTooLong,
    ServiceError,
)
from fairlead.gateway import Gateway, Principal
from fairlead.gateway.route import Split
from fairlead.providers.base import CallContext
from fairlead.records import Conversation, Feedback, FeedbackKind, Handoff, Inference, Message, new_id, now_us
from fairlead.spec import UseCase, Variant
from fairlead.store import Store

MAX_MESSAGE_CHARS: Final = 4_000
MAX_FEEDBACK_CHARS: Final = 2_000
RANGES: Final[Mapping[str, tuple[float, float]]] = {"thumb": (0, 1), "solved": (0, 1), "csat": (1, 5)}

WAITING: Final = "Your message is with our team; a colleague will answer here."
RESUMED: Final = "All right, I go on helping you. What would you like to know?"
APOLOGY: Final = "I am sorry, I cannot answer at the moment. Please try again in a minute, or ask for a person."

log = logging.getLogger(__name__)


class Assistant(Decisions):
    """The assistant of one use case. ``releases`` are release hashes by variant, which may change
    while it runs, ``mask`` masks what is stored, ``record`` takes traces.
    """

    def __init__(
        self,
        *,
        gateway: Gateway,
        usecase: UseCase,
        store: Store,
        knowledge: Knowledge,
        tools: Tools,
        router: Router | None = None,
        splits: Mapping[str, Split] | None = None,
        mask: Callable[[str], str],
        record: Callable[[Inference], bool] | None = None,
        releases: Mapping[str, str] | None = None,
        max_message_chars: int = MAX_MESSAGE_CHARS,
    ) -> None:
        self.usecase = usecase
        self.knowledge = knowledge
        self.tools = tools
        self._store = store
        self._max_chars = max_message_chars
        self._mask = PublicMask(mask, (passage.text for passage in knowledge.passages))
        self._recording = Recording(
            usecase, releases if releases is not None else {}, self._mask, record or store.traces.append
        )
        self._acting = Acting(store=store, tools=tools, mask=self._mask, columns=self._recording.columns)
        self._agent = Agent(
            gateway=gateway, usecase=usecase, knowledge=knowledge, tools=tools, acting=self._acting, router=router,
            splits=splits,
        )  # fmt: skip
        self._adviser = Agent(gateway=gateway, usecase=usecase, knowledge=knowledge, tools=Tools(), splits=splits)
        self.desk = Desk(store, usecase.policy.handoff, self._mask)
        self.outcomes = Outcomes(store, usecase)
        self._threads = Threads()

    @property
    def greeting(self) -> str:
        """What is shown before the first answer: that an AI answers."""
        return self.usecase.policy.disclosure.greeting

    # --- conversations ----------------------------------------------------------------------------------------------

    def open_conversation(
        self, channel: str = "chat", tenant: str = "default", language: str = "", visitor: str = ""
    ) -> tuple[Conversation, str]:
        """Begin a conversation with the greeting. Returns it and the secret that proves the client later. Blocks.

        ``visitor`` is a random text that the conversations of one browser share; only its hash is kept.
        """
        secret, secret_hash = talk.new_secret()
        identifier, now = new_id(), now_us()
        conversation = Conversation(
            **self._recording.columns(identifier, now, tenant, f"conversation:{identifier}"),
            channel=channel, language=language, updated=now, secret_hash=secret_hash,
        )  # fmt: skip
        self._store.conversations.create(conversation, visitor=talk.hash_secret(visitor)[:32] if visitor else "")
        self._add(conversation, new_id(), "assistant", self.greeting, facts={"act": "disclosure"})
        return conversation, secret

    def authorise(self, conversation_id: str, secret: str) -> Conversation:
        """The conversation, if the secret opens it. Raises ConversationUnknown otherwise. Blocks."""
        return talk.authorise(self._store, conversation_id, secret)

    async def reply(
        self, conversation_id: str, text: str, *, variant: str | None = None, client_id: str = ""
    ) -> AsyncGenerator[Event, None]:
        """Answer a message; two messages of one conversation wait for each other.

        A message repeated with the same ``client_id`` gets the same answer again and is asked only once. Raises
        MessageEmpty, MessageTooLong, ConversationUnknown, ConversationClosed before the first event. What goes wrong
        later is the last event, Failed.
        """
        text = self._checked(text)
        client_id = client_id[:MAX_CLIENT_ID]
        chosen = self._variant(variant)
        thread = self._threads.get(conversation_id)
        thread.users += 1
        try:
            async with thread.lock:
                conversation = await self._enter(thread, conversation_id)
                events = thread.replay(client_id)
                if events is not None:
                    for event in events:
                        yield event
                    return
                events = []
                async with aclosing(self._turn(thread, conversation, text, chosen, client_id)) as turn:
                    async for event in turn:
                        events.append(event)
                        yield event
                if isinstance(events[-1], Done):
                    thread.keep(client_id, events)
        finally:
            thread.users -= 1

    async def _enter(self, thread: Thread, conversation_id: str) -> Conversation:
        conversation = await asyncio.to_thread(self._store.conversations.get, conversation_id)
        if conversation is None:
            self._threads.forget(conversation_id)
            raise ConversationUnknown
        if conversation.state == "closed":
            raise ConversationClosed
        handoff = await asyncio.to_thread(self._store.handoffs.of, conversation_id)
        # Another process answered, or a person did: then what is remembered here is not all that was said.
        spoken = f"{handoff.id} {handoff.state}" if handoff is not None and handoff.taken else ""
        version = (conversation.turns, spoken)
        if thread.version != version:
            thread.load(await asyncio.to_thread(self._store.conversations.messages, conversation_id))
            thread.version = version
        return conversation

    async def _turn(
        self, thread: Thread, conversation: Conversation, text: str, variant: Variant, client_id: str
    ) -> AsyncGenerator[Event, None]:
        message_id = new_id()
        await self._hear(thread, conversation, text, client_id)
        yield Started(message_id=message_id)
        if conversation.state in {"waiting", "with_person"}:
            async for event in self._wait(thread, conversation, text, message_id):
                yield event
            return
        outcome: Outcome | None = None
        said = ""
        inference = Trace(
            self._recording, conversation.tenant, conversation.subject, conversation.id, conversation.channel
        )
        try:
            async with aclosing(self._agent.answer(self._ask(thread, inference, variant, conversation))) as parts:
                async for part in parts:
                    if isinstance(part, Outcome):
                        outcome = part
                        break
                    said += part.text if isinstance(part, Delta) else ""
                    yield part
        except ServiceError as error:
            log.warning("conversation %s: no answer (%s): %s", conversation.id, error.code, error)
            await self._keep_answer(thread, conversation, message_id, said or APOLOGY, inference, variant, None)
            inference.fail(error, variant, text, said)
            yield Failed(code=error.code, message=APOLOGY, retry_after=_retry_after(error))
            return
        finally:
            if outcome is None and said and inference.open:
                # The client went away in the middle: what it has seen belongs into the transcript all the same.
                inference.cancel(variant, text, said)
                await asyncio.shield(
                    self._keep_answer(thread, conversation, message_id, said, inference, variant, None)
                )
        if outcome is None:
            return
        inference.finish(outcome, text)
        if outcome.sources:
            yield Sources(sources=outcome.sources)
        await asyncio.shield(
            self._keep_answer(thread, conversation, message_id, outcome.text, inference, variant, outcome)
        )
        if outcome.act == "handoff":
            yield await asyncio.to_thread(self.handoff, conversation.id, outcome.reason or "the customer asked")
        yield Done(message_id=message_id, inference_id=inference.id, act=outcome.act, total_us=inference.total_us)

    async def _hear(self, thread: Thread, conversation: Conversation, text: str, client_id: str) -> None:
        """Keep what the customer says, unless it is said again because its answer was lost."""
        if client_id and client_id == thread.last_client_id:
            return
        facts = {"client_id": client_id} if client_id else {}
        await asyncio.to_thread(self._add, conversation, new_id(), "user", text, facts=facts)
        thread.remember("user", text)
        thread.last_client_id = client_id

    def _ask(self, thread: Thread, inference: Trace, variant: Variant, conversation: Conversation) -> Turn:
        return Turn(
            messages=tuple(thread.said),
            variant=variant,
            principal=Principal(tenant=inference.tenant, subject=inference.subject),
            context=inference.context(),
            session=thread.session,
            conversation=conversation,
        )

    async def _wait(
        self, thread: Thread, conversation: Conversation, text: str, message_id: str
    ) -> AsyncGenerator[Event, None]:
        """The turn of someone who waits for a person or talks with one."""
        if conversation.state == "waiting" and wants_to_resume(text):
            state = await asyncio.to_thread(self.desk.withdraw, conversation)
            said = RESUMED
        else:
            state = await asyncio.to_thread(self.desk.place, conversation)
            said = WAITING if state.state == "waiting" else ""
        if said:
            yield Delta(text=said)
            thread.remember("assistant", said)
            await asyncio.to_thread(self._add, conversation, message_id, "assistant", said, facts={"act": "waiting"})
        await self._touch(thread, conversation, text)
        yield state
        yield Done(message_id=message_id, act="waiting")

    async def _keep_answer(
        self,
        thread: Thread,
        conversation: Conversation,
        message_id: str,
        said: str,
        inference: Trace,
        variant: Variant,
        outcome: Outcome | None,
    ) -> None:
        thread.remember("assistant", said)
        facts: dict[str, Any] = {"act": outcome.act} if outcome is not None else {"act": "unknown"}
        if outcome is not None and outcome.action:
            facts["action"] = outcome.action
        if outcome is not None and outcome.facts:
            facts["cards"] = self._recording.masked(
                [{"title": card.title, "rows": card.rows} for card in outcome.facts]
            )
        await asyncio.to_thread(
            self._add, conversation, message_id, "assistant", said,
            facts=facts, sources=outcome.sources if outcome is not None else (),
            inference=inference.id, variant=outcome.variant if outcome is not None else variant.id,
        )  # fmt: skip
        await self._touch(thread, conversation, str(thread.said[-2]["content"]) if len(thread.said) > 1 else "")

    def transcript(self, conversation_id: str) -> list[Message]:
        """What was said, masked, in order. Blocks."""
        return self._store.conversations.messages(conversation_id)

    def feedback(
        self, conversation_id: str, message_id: str, kind: FeedbackKind, value: float | None = None, text: str = ""
    ) -> Feedback:
        """Keep what a customer says about an answer, or (empty ``message_id``) about the conversation. Blocks.

        A thumb is 0 or 1, csat 1 to 5. Raises ConversationUnknown, FeedbackInvalid.
        """
        conversation = self._store.conversations.get(conversation_id)
        if conversation is None:
            raise ConversationUnknown
        if kind not in {*RANGES, "comment"}:
            raise FeedbackInvalid(detail=f"there is no kind {str(kind)[:40]!r}; use thumb, solved, csat or comment")
        if kind in RANGES:
            low, high = RANGES[kind]
            if value is None or not low <= value <= high or value != int(value):
                raise FeedbackInvalid(detail=f"a {kind} is a whole number from {low:g} to {high:g}, found {value}")
        elif not text.strip():
            raise FeedbackInvalid(detail=f"a {kind} needs a text")
        if len(text) > MAX_FEEDBACK_CHARS:
            raise FeedbackInvalid(detail=f"the text has {len(text)} characters; {MAX_FEEDBACK_CHARS} are possible")
        target = self._store.conversations.message(message_id) if message_id else None
        if message_id and (target is None or target.conversation != conversation.id or target.role == "user"):
            raise FeedbackInvalid(detail="this conversation has no such answer")
        said = self._store.feedback.add(
            Feedback(
                id=new_id(), time=now_us(), tenant=conversation.tenant, subject=conversation.subject,
                usecase=self.usecase.name, spec_hash=self.usecase.spec_hash,
                release=target.release if target is not None else conversation.release,
                target_kind="message" if message_id else "conversation", target=message_id or conversation.id,
                kind=kind, value=value, text=self._mask(text.strip()), author=conversation.subject,
            )
        )  # fmt: skip
        self._store.outcomes.touch(conversation.id)
        return said

    async def suggest(self, handoff: Handoff) -> dict[str, Any]:
        """A reply for whoever answers the open question: ``question`` (its message's id), ``text``, ``sources``.

        From the live variant without its tools, so that proposing changes nothing; ``text`` is empty when the pages do
        not tell. Kept with the hand-off until the question is another one.
        """
        messages = await asyncio.to_thread(self._store.conversations.messages, handoff.conversation)
        question = open_question(messages)
        if question is None or handoff.suggestion.get("question") == question.id:
            return handoff.suggestion
        earlier = [message for message in messages[: messages.index(question)] if message.role in talk.SPEAKERS]
        history = [{"role": talk.SPEAKERS[each.role], "content": each.text} for each in [*earlier, question]]
        turn = Turn(
            messages=tuple(history), variant=self.usecase.live, session=Session(),
            principal=Principal(tenant=handoff.tenant, subject=handoff.subject),
            context=CallContext(
                tenant=handoff.tenant, subject=handoff.subject, conversation=handoff.conversation, channel="desk"
            ),
        )  # fmt: skip
        found: dict[str, Any] = {"question": question.id, "text": "", "sources": []}
        try:
            async with aclosing(self._adviser.answer(turn)) as parts:
                async for part in parts:
                    if not isinstance(part, Outcome) or part.act != "answer" or not part.sources:
                        continue
                    if not part.text.startswith(RESERVED):  # what the assistant doubts is no advice to a colleague
                        found["text"] = drop_citations(part.text)
                        found["sources"] = [msgspec.to_builtins(source) for source in part.sources]
        except ServiceError as error:
            log.warning("no reply to suggest for %s (%s): %s", handoff.conversation, error.code, error)
        await asyncio.to_thread(self._store.handoffs.suggest, handoff.id, found)
        return found

    def handoff(self, conversation_id: str, reason: str = "") -> HandedOff:
        """Ask for a person. Asking twice changes nothing. Raises ConversationUnknown. Blocks."""
        conversation = self._known(conversation_id)
        summary = summarise(self._store.conversations.messages(conversation_id))
        return self.desk.request(conversation, self._mask(reason) or "asked for a person", summary)

    def place_in_line(self, conversation_id: str) -> HandedOff:
        """Where the request for a person stands. Raises ConversationUnknown. Blocks."""
        return self.desk.place(self._known(conversation_id))

    def resume(self, conversation_id: str) -> HandedOff:
        """Take a waiting conversation back from the queue. Raises ConversationUnknown. Blocks."""
        return self.desk.withdraw(self._known(conversation_id))

    def _known(self, conversation_id: str) -> Conversation:
        conversation = self._store.conversations.get(conversation_id)
        if conversation is None:
            raise ConversationUnknown
        return conversation

    # --- without a conversation ------------------------------------------------------------------------------------

    async def stream(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        variant: str | None = None,
        principal: Principal | None = None,
        context: CallContext | None = None,
    ) -> AsyncGenerator[Delta | Facts | Answer, None]:
        """Answer the last user message of an OpenAI-shaped history; the whole Answer comes last.

        Nothing is remembered but the trace, and the same messages give the same answer. Messages of the roles system
        and tool are not used: instructions and tools are the project's. Raises ServiceError.
        """
        history = [dict(message) for message in messages if message.get("role") in {"user", "assistant"}]
        if not history or history[-1]["role"] != "user":
            raise MessageEmpty
        text = self._checked(last_question(history)[0])
        chosen = self._variant(variant)
        context = context or CallContext(channel="internal")
        tenant = principal.tenant if principal is not None else context.tenant
        subject = principal.subject if principal is not None else context.subject
        trace = Trace(self._recording, tenant, subject, context.conversation, context.channel, context)
        turn = Turn(
            messages=tuple(history),
            variant=chosen,
            principal=principal or Principal(tenant=tenant, subject=subject),
            context=trace.context(),
            session=Session(),
        )
        said = ""
        try:
            async with aclosing(self._agent.answer(turn)) as parts:
                async for part in parts:
                    if isinstance(part, Outcome):
                        trace.finish(part, text)
                        yield self._whole(part, trace)
                        return
                    said += part.text if isinstance(part, Delta) else ""
                    if not isinstance(part, Confirm):  # nobody can be asked here, so nothing is proposed
                        yield part
        except ServiceError as error:
            trace.fail(error, chosen, text, said)
            raise
        finally:
            if trace.open:
                trace.cancel(chosen, text, said)

    async def answer(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        variant: str | None = None,
        principal: Principal | None = None,
        context: CallContext | None = None,
    ) -> Answer:
        """As ``stream``, whole."""
        async with aclosing(self.stream(messages, variant=variant, principal=principal, context=context)) as parts:
            async for part in parts:
                if isinstance(part, Answer):
                    return part
        raise MessageEmpty

    async def ask(self, text: str, *, variant: str | None = None, channel: str = "cli") -> Answer:
        """Answer one question."""
        return await self.answer(
            [{"role": "user", "content": text}], variant=variant, context=CallContext(channel=channel, subject=channel)
        )

    def _whole(self, outcome: Outcome, trace: Trace) -> Answer:
        return Answer(
            text=outcome.text,
            act=outcome.act,
            confidence=outcome.confidence,
            sources=outcome.sources,
            facts=tuple(outcome.facts),
            variant=outcome.variant,
            release=self._recording.release_of(outcome.variant),
            answered=outcome.answered,
            inference=trace.id,
            input_tokens=outcome.input_tokens,
            output_tokens=outcome.output_tokens,
            total_us=trace.total_us,
        )

    # --- what both have in common ----------------------------------------------------------------------------------

    def _variant(self, identifier: str | None) -> Variant:
        return self.usecase.variant(identifier) if identifier else self.usecase.live

    def _checked(self, text: str) -> str:
        text = clean(text).strip()
        if not text:
            raise MessageEmpty
        if len(text) > self._max_chars:
            raise MessageTooLong(found=len(text), limit=self._max_chars)
        return text

    def _add(
        self, conversation: Conversation, identifier: str, role: Any, text: str, *, variant: str = "", **more: Any
    ) -> None:
        """Store a message, masked."""
        self._store.conversations.add(
            Message(
                **self._recording.columns(identifier, now_us(), conversation.tenant, conversation.subject, variant),
                conversation=conversation.id,
                role=role,
                text=self._recording.text(text),
                **more,
            )
        )

    async def _touch(self, thread: Thread, conversation: Conversation, asked: str) -> None:
        """Count the turn, and give the conversation its first question as a title."""
        title = None if conversation.title else self._recording.text(" ".join(asked.split()))[:80]
        turns = conversation.turns + 1
        await asyncio.to_thread(
            self._store.conversations.update, conversation.id, turns=turns, updated=now_us(), title=title or None
        )
        thread.version = (turns, thread.version[1] if thread.version else "")


def _retry_after(error: ServiceError) -> float | None:
    found = error.details.get("retry_after")
    try:
        return float(found) if found is not None else None
    except (TypeError, ValueError):
        return None
