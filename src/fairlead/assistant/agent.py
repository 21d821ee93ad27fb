"""The agent: retrieve, call the model, run the tools it asks for, check what it says, pass it on.

Every model call goes through the gateway, so that it is limited, masked and recorded like any other. What a model, a
page or a tool says is data here: it chooses words and tools, it never grants anything. A tool that changes something
is not run for a model but becomes a question to the customer, whose yes is read here before any model sees it. One
turn in, events and an Outcome out; transcripts are not known here.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncGenerator, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final, cast

import msgspec
from msgspec import structs

from fairlead.assistant.actions import (
    ANSWER_IT,
    OPEN_STILL,
    TAKE_TIME,
    Acting,
    Ended,
    asks_to_wait,
    means_no,
    means_yes,
    turns_away,
)
from fairlead.assistant.draft import Draft
from fairlead.assistant.events import Act, Confirm, Delta, Facts
from fairlead.assistant.gate import FEW_WORDS, Gate
from fairlead.assistant.identity import Session
from fairlead.assistant.intents import Router
from fairlead.assistant.knowledge import Knowledge, Passage
from fairlead.assistant.prompt import (
    MAX_HISTORY,
    asks_for_person,
    asks_if_human,
    defuse,
    drop_human_question,
    last_question,
    render_prompt,
    text_of,
    trim_history,
    with_facts,
)
from fairlead.assistant.support import pick_sources, says_unknown
from fairlead.assistant.tools import Prepared, ToolResult, Tools
from fairlead.engines.embed.words import words_of
from fairlead.engines.extractive.text import content
from fairlead.errors import ServiceError
from fairlead.gateway import Gateway, Principal
from fairlead.gateway.route import Split
from fairlead.providers.base import CallContext
from fairlead.records import Action, Conversation, Source
from fairlead.spec import UseCase, Variant

MAX_TURNS: Final = 16
"""Messages that go with a question to an engine that quotes: a wish may have been told long before its details."""
MAX_ROUNDS: Final = 8
"""How often a turn may go back to the model with tool results."""
MAX_CALLS: Final = 4
"""Tool calls of one round that are run; a model that asks for more gets an error for the rest."""
MAX_MISSES: Final = 5
"""Lookups without a result after which a conversation gets no more: nobody may try out numbers and addresses."""

I_AM_AN_AI: Final = "I am an AI assistant, not a person. You can ask for a person from our team whenever you like."
PASSING_ON: Final = "Of course. I am passing you on to a person from our team."
FOR_A_PERSON: Final = "This is for a person of our team to look at. I am passing you on."
NO_PERSON: Final = "I am sorry, no person can be reached through this chat."
REPHRASE: Final = {
    "ungrounded": "it has a figure, date, price or address that stands in no source",
    "unsupported": "it says things that no source says",
    "contradicts": "it says the opposite of a source",
    "claims_action": "it says that something was done which no tool has done",
    "claims_human": "it says that you are a person; you are an AI assistant",
}
"""Reasons for which a draft is held back and asked for once more, as the model is told; others are beyond mending."""

REST_UNSURE: Final = "I am not sure about the rest; a person from our team can tell you."
CANNOT_ANSWER: Final = "I do not know that. Shall I pass you on to a person?"
NOT_HERE: Final = "This can only be done in a conversation, where the customer is asked first."
ONE_AT_A_TIME: Final = "One change at a time: the customer is asked about the first one."
TOO_MANY_MISSES: Final = "I have looked several times without finding it; please let a person of our team do it."

_OFFERS: Final = re.compile(r"\bpass you (?:on )?to a (?:person|colleague)\?", re.IGNORECASE)

log = logging.getLogger(__name__)


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One question with what came before. ``messages`` are OpenAI-shaped, the last one is the user's.

    Without a ``conversation`` nobody can be asked for a yes, so nothing can be changed.
    """

    messages: tuple[dict[str, Any], ...]
    variant: Variant
    principal: Principal
    context: CallContext
    session: Session
    conversation: Conversation | None = None


class Outcome(msgspec.Struct, kw_only=True):
    """How a turn ended. ``steps`` are microseconds by the name of the step; ``tags`` go into the trace.

    ``action`` is the id of the action the answer asks about or tells the end of; ``reason`` says why a person has to
    look, when ``act`` is handoff and the customer has not asked for one. ``answered`` is whose model answered.
    """

    text: str = ""
    act: Act = "answer"
    confidence: float | None = None
    sources: tuple[Source, ...] = ()
    facts: list[Facts] = []
    variant: str = ""
    answered: str = ""
    first_text_us: int | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    steps: dict[str, int] = {}
    tags: dict[str, str] = {}
    action: str = ""
    reason: str = ""


class _Work:
    """What accumulates during a turn."""

    def __init__(self, turn: Turn) -> None:
        self.turn = turn
        self.variant = turn.variant
        self.routed = ""
        self.began = time.perf_counter_ns()
        self.passages: list[Passage] = []
        self.exchange: list[dict[str, Any]] = []  # tool calls and their results
        self.evidence: list[str] = []
        self.outcome = Outcome(facts=[], steps={}, tags={})
        self.opening = ""
        self.settled = False
        self.proposal: Confirm | None = None
        self.pending: Action | None = None

    @property
    def begun(self) -> bool:
        """Whether a model's words have gone out."""
        return self.outcome.text != self.opening

    def open_with(self, text: str, rest: str) -> Delta:
        """Say ``text`` first; the turn goes on with the ``rest`` of the question."""
        said = self.say(text)
        self.opening = self.outcome.text
        history = (*self.turn.messages[:-1], {"role": "user", "content": rest})
        self.turn = msgspec.structs.replace(self.turn, messages=history)
        return said

    def spend(self, step: str, since: int) -> None:
        steps = self.outcome.steps
        steps[step] = steps.get(step, 0) + (time.perf_counter_ns() - since) // 1000

    def say(self, text: str) -> Delta:
        if self.outcome.first_text_us is None:
            self.outcome.first_text_us = (time.perf_counter_ns() - self.began) // 1000
        self.outcome.text += text
        return Delta(text=text)


class Agent:
    """Answers turns for one use case."""

    def __init__(
        self,
        *,
        gateway: Gateway,
        usecase: UseCase,
        knowledge: Knowledge,
        tools: Tools,
        acting: Acting | None = None,
        router: Router | None = None,
        splits: Mapping[str, Split] | None = None,
    ) -> None:
        self._gateway = gateway
        self._usecase = usecase
        self._knowledge = knowledge
        self._tools = tools
        self._acting = acting
        self._router = router or Router()
        self._splits = splits or {}
        self._prompts = {variant.id: variant.prompt_text() for variant in usecase.variants}
        self._safe = next((each for each in usecase.variants if each.target.kind == "extractive"), None)

    async def answer(self, turn: Turn) -> AsyncGenerator[Delta | Facts | Confirm | Outcome, None]:
        """Deltas and cards as they come, and the Outcome at the end. Raises ServiceError when no model can answer."""
        work = _Work(turn)
        self._choose(work)
        turn.session.hear(text_of(message) for message in turn.messages if message.get("role") == "user")
        async for settled in self._settle(work):
            yield settled
        if not work.settled:
            for fixed in self._fixed(work):
                yield fixed
        if not work.settled:
            async for routed in self._route(work):
                yield routed
        if not work.settled:
            async with aclosing(self._rounds(work)) as parts:
                async for part in parts:
                    yield part
            for last in await self._close(work):
                yield last
        work.outcome.answered = work.variant.id
        # Where quoting stood in for who was chosen, that is the variant which answered.
        work.outcome.variant = work.turn.variant.id if work.variant.id == work.routed else work.variant.id
        yield work.outcome

    def _choose(self, work: _Work) -> None:
        """Where the turn's variant is a router: who answers, once for the whole turn."""
        split = self._splits.get(work.variant.id)
        if split is None:
            return
        began = time.perf_counter_ns()
        work.routed, why = split.choose({"messages": work.turn.messages})
        work.variant = self._usecase.variant(work.routed)
        work.outcome.tags |= {"routed": work.routed, "routed_why": why}
        work.spend("choose", began)

    async def _rounds(self, work: _Work) -> AsyncGenerator[Delta | Facts, None]:
        await asyncio.gather(self._retrieve(work), self._tools.ready())
        for _ in range(MAX_ROUNDS):
            draft = Draft()
            async with aclosing(self._speak(work, draft)) as pieces:
                async for piece in pieces:
                    yield work.say(piece)
            if not draft.calls:
                break
            for card in await self._run_tools(work, draft):
                yield card
            if work.proposal is not None:
                break

    async def _close(self, work: _Work) -> list[Delta | Confirm]:
        """What stands at the end of an answer: a question before a change, a reminder of an open one, or a sorry."""
        outcome = work.outcome
        work.turn.session.remember(work.exchange)
        if work.proposal is not None:
            outcome.act, outcome.action = "confirm", work.proposal.action_id
            gap = "\n\n" if outcome.text.strip() else ""
            return [work.say(f"{gap}{work.proposal.title} {ANSWER_IT}"), work.proposal]
        said: list[Delta] = []
        if not work.begun:
            said, outcome.act = [work.say(CANNOT_ANSWER)], "unknown"
        if work.pending is None or self._acting is None or outcome.act not in {"answer", "small_talk", "tool"}:
            return [*said]
        if _OFFERS.search(outcome.text):  # one question at a time: a yes to this one must not be a yes to the other
            return [*said, work.say(f"\n\n{OPEN_STILL}")]
        return [*said, *await self._put_again(work, work.pending, "\n\n")]

    async def _put_again(self, work: _Work, action: Action, before: str) -> list[Delta | Confirm]:
        """The question of an action that waits, once more."""
        assert self._acting is not None
        again = await asyncio.to_thread(self._acting.ask_again, action)
        work.outcome.action = again.action_id
        gap = " " if before.strip() else ""
        return [work.say(f"{before}{gap}{OPEN_STILL} {again.title} {ANSWER_IT}"), again]

    async def _settle(self, work: _Work) -> AsyncGenerator[Delta | Facts | Confirm, None]:
        """The customer's yes or no to a question of ours, read by code before any model sees the message."""
        conversation = work.turn.conversation
        if self._acting is None or conversation is None:
            return
        action, asked = await asyncio.to_thread(self._acting.open_question, conversation.id)
        if action is None:
            return
        text, _ = last_question(work.turn.messages)
        yes, no = means_yes(text), means_no(text)
        if not asked or not (yes or no):
            # Whatever else was said is answered; the question is put again only if it was the last thing said.
            if asked and turns_away(text) and action.state == "proposed":
                await self._acting.answer(action, yes=False)
                return
            work.pending = action if asked and action.state == "proposed" else None
            if work.pending is not None and asks_to_wait(text):
                work.settled, work.outcome.act = True, "confirm"
                for again in await self._put_again(work, action, TAKE_TIME):
                    yield again
            return
        work.settled = True
        if action.state == "proposed":
            ended = await self._acting.answer(action, yes=yes)
        else:  # the answer to this very yes or no got lost on its way
            ended = self._acting.recall(action)
        for part in self._tell(work, ended):
            yield part

    def _tell(self, work: _Work, ended: Ended) -> Iterator[Delta | Facts]:
        outcome = work.outcome
        outcome.act = "handoff" if ended.reason else "action"
        outcome.reason = ended.reason
        if ended.action is not None:
            outcome.action = ended.action.id
            outcome.tags["action"] = ended.action.state
        yield work.say(ended.text)
        if ended.card is not None:
            outcome.facts.append(ended.card)
            yield ended.card

    def _fixed(self, work: _Work) -> Iterator[Delta]:
        """What is not left to a model: what answers here, and passing on to a person."""
        question, _ = last_question(work.turn.messages)
        able = self._usecase.policy.handoff.enabled
        if asks_if_human(question):
            work.outcome.act = "disclosure"
            rest = drop_human_question(question)
            work.settled = len(content(words_of(rest))) < FEW_WORDS
            yield work.open_with(I_AM_AN_AI if work.settled else f"{I_AM_AN_AI} ", rest)
        elif asks_for_person(question) and (not able or work.variant.target.kind != "extractive"):
            work.outcome.act = "handoff" if able else "answer"
            work.settled = True
            yield work.say(PASSING_ON if able else NO_PERSON)

    async def _route(self, work: _Work) -> AsyncGenerator[Delta, None]:
        """Note what the message is about; what the project wants a person to take is passed on."""
        began = time.perf_counter_ns()
        question, _ = last_question(work.turn.messages)
        if not self._router.ready:
            await asyncio.to_thread(self._router.guess, question)
        intent, to_person = self._router.guess(question)
        if not intent:
            return
        work.outcome.tags["intent"] = intent
        work.spend("route", began)
        if to_person and self._usecase.policy.handoff.enabled:
            work.outcome.act, work.outcome.reason = "handoff", f"about {intent.replace('_', ' ')}"
            work.settled = True
            yield work.say(FOR_A_PERSON)

    async def _retrieve(self, work: _Work) -> None:
        began = time.perf_counter_ns()
        work.evidence = [str(each["content"]) for each in work.turn.session.facts if each["role"] == "tool"]
        if not self._knowledge.ready:
            await asyncio.to_thread(lambda: self._knowledge.index)
        question, previous = last_question(work.turn.messages)
        work.passages = self._knowledge.search(question, work.variant.retrieval.passages, previous=previous)
        work.evidence += [f"{passage.title}. {passage.text}" for passage in work.passages]
        work.spend("retrieve", began)

    async def _speak(self, work: _Work, draft: Draft) -> AsyncGenerator[str, None]:
        """The text of one model call. A draft that does not stand is asked for once more, then quoted instead."""
        async with aclosing(self._try(work, draft)) as pieces:
            async for piece in pieces:
                yield piece
        if draft.rejected in REPHRASE and not work.begun and "rephrased" not in work.outcome.tags:
            work.outcome.tags["rephrased"] = draft.rejected
            correction = _correction(draft)
            draft.reset()
            async with aclosing(self._try(work, draft, correction)) as pieces:
                async for piece in pieces:
                    yield piece
        if not draft.rejected:
            return
        work.outcome.tags["rejected"] = draft.rejected
        draft.reset()
        if work.begun:
            yield f" {REST_UNSURE}"
        elif self._can_fall_back(work):
            work.variant = self._safe or work.variant
            async with aclosing(self._call(work, draft)) as pieces:
                async for piece in pieces:
                    yield piece

    async def _try(
        self, work: _Work, draft: Draft, correction: Sequence[dict[str, Any]] = ()
    ) -> AsyncGenerator[str, None]:
        """One call whose failure only rejects the draft, where quoting can and may stand in for it."""
        try:
            async with aclosing(self._call(work, draft, correction)) as pieces:
                async for piece in pieces:
                    yield piece
        except ServiceError as error:
            if work.begun or work.turn.context.alone or not self._can_fall_back(work):
                raise
            log.warning("variant %s failed (%s); quoting instead", work.variant.id, error.code)
            draft.rejected = error.code

    def _can_fall_back(self, work: _Work) -> bool:
        return self._safe is not None and not work.variant.target.quotes

    async def _call(
        self, work: _Work, draft: Draft, correction: Sequence[dict[str, Any]] = ()
    ) -> AsyncGenerator[str, None]:
        began = time.perf_counter_ns()
        quoting = work.variant.target.quotes
        said = [text_of(message) for message in work.turn.messages if message.get("role") == "user"]
        gate = None if quoting else Gate(work.evidence, said, self._prompts[work.variant.id])
        body = self._body(work, quoting)
        body["messages"] += correction
        chunks = self._gateway.stream(body, principal=work.turn.principal, context=work.turn.context)
        async with aclosing(cast("AsyncGenerator[dict[str, Any], None]", chunks)):
            async for chunk in chunks:
                piece = draft.feed(chunk)
                for ready in gate.pass_on(piece) if gate is not None else ():
                    if ready:
                        yield ready
                if gate is not None and gate.rejected:
                    break
        work.spend("call", began)
        if gate is not None:
            began = time.perf_counter_ns()
            for ready in gate.finish(whole=not draft.calls):
                yield ready
            draft.rejected = gate.rejected
            work.spend("check", began)
        work.outcome.input_tokens += draft.input_tokens
        work.outcome.output_tokens += draft.output_tokens
        if quoting and draft.extras.get("act") == "ask" and await self._help_out(work, draft):
            async with aclosing(self._call(work, draft)) as pieces:
                async for piece in pieces:
                    yield piece
            return
        self._conclude(work, draft, quoting)
        if gate is None and draft.text:
            yield draft.text

    async def _help_out(self, work: _Work, draft: Draft) -> bool:
        """Spare a known customer a question of a quoting engine: which order may be meant, and whether it is any use.

        Changes the draft, or returns True where it must be asked anew because what was missing is found.
        """
        session, asked = work.turn.session, draft.extras.get("asks")
        if not isinstance(asked, dict) or session.misses >= MAX_MISSES:
            return False
        name, given, lacks = str(asked["name"]), dict(asked["arguments"]), str(asked["lacks"])
        listed = await self._tools.listed(lacks, session.customer) if session.customer is not None else None
        if listed is not None and listed.ok:
            only = listed.data.get(lacks)
            if not isinstance(only, str):
                draft.text = f"{listed.sentence} {draft.text}".strip()
                return False
            checked = await self._tools.foresee(name, {**given, lacks: only}, session)
            if session.last.get(lacks) != only and (checked is None or checked.ok):
                session.last = {**session.last, lacks: only}
                draft.reset()
                return True
            if checked is not None and not checked.ok and not asked["again"]:
                draft.text = f"{checked.sentence} {draft.text}".strip()
            return False
        foreseen = await self._tools.foresee(name, given, session)
        if foreseen is not None and not foreseen.ok and foreseen.sentence:
            session.misses += foreseen.data.get("found") is False
            draft.text, draft.extras["act"] = foreseen.sentence, "tool"
        return False

    def _body(self, work: _Work, quoting: bool) -> dict[str, Any]:
        history = trim_history(work.turn.messages, MAX_TURNS if quoting else MAX_HISTORY)
        body: dict[str, Any] = {"model": work.variant.id, "stream_options": {"include_usage": True}}
        if quoting:
            # The order spoken of may have been named further back than a history reaches.
            named = " ".join(map(str, work.turn.session.last.values()))
            before = [{"role": "user", "content": named}] if named else []
            body["messages"] = [*before, *history, *work.exchange]
            body["documents"] = [each.document() for each in work.passages]
        else:
            system = render_prompt(self._prompts[work.variant.id], work.passages)
            said = [{**message, "content": defuse(message["content"])} for message in history]
            said = with_facts(said, work.turn.session.facts)
            body["messages"] = [{"role": "system", "content": system}, *said, *work.exchange]
        tools = self._tools.offer(work.turn.session, acting=work.turn.conversation is not None, named=quoting)
        if tools:
            body["tools"] = tools
        return body

    def _conclude(self, work: _Work, draft: Draft, quoting: bool) -> None:
        """What the answer so far is, and what it rests on."""
        outcome = work.outcome
        if quoting:
            extras = draft.extras
            cited = extras.get("sources") or []
            found = {passage.id: passage for passage in work.passages}
            outcome.sources = _by_section(found[name] for name in cited if name in found)  # in the quotes' order
            outcome.act = extras.get("act") or ("tool" if work.exchange else "answer")
            outcome.confidence = extras.get("confidence")
        else:
            outcome.sources = tuple(passage.source() for passage in pick_sources(outcome.text, work.passages))
            fallback: Act = "answer" if outcome.sources else "small_talk"
            outcome.act = "tool" if work.exchange else "unknown" if says_unknown(outcome.text) else fallback

    async def _run_tools(self, work: _Work, draft: Draft) -> list[Facts]:
        """Run what the model asked for and put calls and results into the exchange. Returns the cards to show."""
        began = time.perf_counter_ns()
        cards: list[Facts] = []
        calls = draft.calls[: MAX_CALLS * 2]
        work.exchange.append(
            {"role": "assistant", "content": draft.text or None, "tool_calls": [call.message() for call in calls]}
        )
        for number, call in enumerate(calls):
            result = await self._run_tool(work, call.name, call.arguments, number)
            data = result.text()
            name = call.message()["function"]["name"]
            work.exchange.append({"role": "tool", "tool_call_id": call.id, "name": name, "content": defuse(data)})
            work.evidence.append(data)
            if result.card is not None:
                cards.append(result.card)
                work.outcome.facts.append(result.card)
        names = ",".join(call.message()["function"]["name"] for call in calls)
        work.outcome.tags["tools"] = f"{work.outcome.tags['tools']},{names}" if "tools" in work.outcome.tags else names
        work.spend("tools", began)
        return cards

    async def _run_tool(self, work: _Work, name: str, arguments: str, number: int) -> ToolResult:
        session = work.turn.session
        if session.misses >= MAX_MISSES:
            return _said(name, summary=TOO_MANY_MISSES, found=False)
        if number >= MAX_CALLS:
            return _said(name, error="Too many calls at once.")
        prepared = await self._tools.prepare(name, arguments, session)
        if isinstance(prepared, Prepared):
            result = await (self._look_up if prepared.tool.rule.effect == "reads" else self._propose)(work, prepared)
        else:
            result = prepared
        session.misses += not result.ok
        return result

    async def _look_up(self, work: _Work, prepared: Prepared) -> ToolResult:
        return await self._tools.look_up(prepared, work.turn.session)

    async def _propose(self, work: _Work, prepared: Prepared) -> ToolResult:
        """Make a question of a call that would change something. Nothing is run but the tool that says if it can be."""
        name, conversation = prepared.tool.name, work.turn.conversation
        if self._acting is None or conversation is None:
            return _said(name, error=NOT_HERE)
        if work.proposal is not None:
            return _said(name, error=ONE_AT_A_TIME)
        checked = await self._tools.check(prepared)
        if checked is not None and not checked.ok:
            # That it cannot be done is an answer, not a failure; only what was not found is.
            return _said(name, summary=checked.sentence, found=checked.data.get("found") is not False)
        work.proposal = await asyncio.to_thread(self._acting.propose, prepared, conversation, checked)
        return _said(name, summary="The customer is asked first.")


def _by_section(passages: Iterable[Passage]) -> tuple[Source, ...]:
    """What is cited of passages, in order; several of one section (rows of a table) are one source."""
    found: dict[str, Source] = {}
    for passage in passages:
        place = passage.location or passage.id
        before = found.get(place)
        source = passage.source()
        found[place] = structs.replace(before, text=f"{before.text}\n{source.text}") if before else source
    return tuple(found.values())


def _correction(draft: Draft) -> list[dict[str, Any]]:
    """What a model is told of a draft that was held back; its own words, made harmless, and the reason."""
    reason = REPHRASE[draft.rejected]
    asked = f"This was not sent to the customer: {reason}. Answer again, only with what sources and tool results say."
    return [{"role": "assistant", "content": defuse(draft.text) or "..."}, {"role": "user", "content": asked}]


def _said(name: str, **data: Any) -> ToolResult:
    """A result that comes from here instead of from a tool."""
    return ToolResult(name=name[:64], data=data, ok=not data.get("error") and data.get("found") is not False)
