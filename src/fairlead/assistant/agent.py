"""The agent: retrieve, call the model, run the tools it asks for, check what it says, pass it on.

Every model call goes through the gateway, so that it is limited, masked and recorded like any other. What a model, a
page or a tool says is data here: it chooses words and tools, it never grants anything. Knows no conversations and
stores nothing; one turn in, events and an Outcome out.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from typing import Any, Final, cast

import msgspec

from fairlead.assistant.draft import Draft
from fairlead.assistant.events import Act, Delta, Facts
from fairlead.assistant.gate import FEW_WORDS, Gate
from fairlead.assistant.knowledge import Knowledge, Passage
from fairlead.assistant.prompt import (
    asks_for_person,
    asks_if_human,
    defuse,
    drop_human_question,
    last_question,
    render_prompt,
    text_of,
    trim_history,
)
from fairlead.assistant.support import pick_sources, says_unknown
from fairlead.assistant.tools import Tools
from fairlead.engines.embed.words import words_of
from fairlead.engines.extractive.text import content
from fairlead.errors import ServiceError
from fairlead.gateway import Gateway, Principal
from fairlead.providers.base import CallContext
from fairlead.records import Source
from fairlead.spec import UseCase, Variant

MAX_ROUNDS: Final = 3
"""How often a turn may go back to the model with tool results."""
MAX_CALLS: Final = 4
"""Tool calls of one round that are run; a model that asks for more gets an error for the rest."""
MAX_MISSES: Final = 5
"""Lookups without a result after which a conversation gets no more: nobody may try out numbers and addresses."""

I_AM_AN_AI: Final = "I am an AI assistant, not a person. You can ask for a person from our team whenever you like."
PASSING_ON: Final = "Of course. I am passing you on to a person from our team."
NO_PERSON: Final = "I am sorry, no person can be reached through this chat."
REST_UNSURE: Final = "I am not sure about the rest; a person from our team can tell you."
CANNOT_ANSWER: Final = "I do not know that. Shall I pass you on to a person?"
TOO_MANY_MISSES: Final = "I have looked several times without finding it; please let a person of our team do it."

log = logging.getLogger(__name__)


class Misses:
    """How many lookups of a conversation found nothing."""

    def __init__(self) -> None:
        self.count = 0


class Turn(msgspec.Struct, frozen=True, kw_only=True):
    """One question with what came before. ``messages`` are OpenAI-shaped, the last one is the user's."""

    messages: tuple[dict[str, Any], ...]
    variant: Variant
    principal: Principal
    context: CallContext
    misses: Misses


class Outcome(msgspec.Struct, kw_only=True):
    """How a turn ended. ``steps`` are microseconds by the name of the step; ``tags`` go into the trace."""

    text: str = ""
    act: Act = "answer"
    confidence: float | None = None
    sources: tuple[Source, ...] = ()
    facts: list[Facts] = []
    variant: str = ""
    first_text_us: int | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    steps: dict[str, int] = {}
    tags: dict[str, str] = {}


class _Work:
    """What accumulates during a turn."""

    def __init__(self, turn: Turn) -> None:
        self.turn = turn
        self.variant = turn.variant
        self.began = time.perf_counter_ns()
        self.passages: list[Passage] = []
        self.exchange: list[dict[str, Any]] = []  # tool calls and their results
        self.evidence: list[str] = []
        self.outcome = Outcome(facts=[], steps={}, tags={})
        self.opening = ""
        self.settled = False

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

    def __init__(self, *, gateway: Gateway, usecase: UseCase, knowledge: Knowledge, tools: Tools) -> None:
        self._gateway = gateway
        self._usecase = usecase
        self._knowledge = knowledge
        self._tools = tools
        self._prompts = {variant.id: variant.prompt_text() for variant in usecase.variants}
        self._safe = next((each for each in usecase.variants if each.target.kind == "extractive"), None)

    async def answer(self, turn: Turn) -> AsyncGenerator[Delta | Facts | Outcome, None]:
        """Deltas and cards as they come, and the Outcome at the end. Raises ServiceError when no model can answer."""
        work = _Work(turn)
        for fixed in self._fixed(work):
            yield fixed
        if not work.settled:
            await self._retrieve(work)
            for _ in range(MAX_ROUNDS):
                draft = Draft()
                async with aclosing(self._speak(work, draft)) as pieces:
                    async for piece in pieces:
                        yield work.say(piece)
                if not draft.calls:
                    break
                for card in await self._run_tools(work, draft):
                    yield card
            if not work.begun:
                yield work.say(CANNOT_ANSWER)
                work.outcome.act = "unknown"
        work.outcome.variant = work.variant.id
        yield work.outcome

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

    async def _retrieve(self, work: _Work) -> None:
        began = time.perf_counter_ns()
        if not self._knowledge.ready:
            await asyncio.to_thread(lambda: self._knowledge.index)
        question, previous = last_question(work.turn.messages)
        work.passages = self._knowledge.search(question, work.variant.retrieval.passages, previous=previous)
        work.evidence = [f"{passage.title}. {passage.text}" for passage in work.passages]
        work.spend("retrieve", began)

    async def _speak(self, work: _Work, draft: Draft) -> AsyncGenerator[str, None]:
        """The text of one model call; falls back to quoting when the model fails or says what stands nowhere."""
        try:
            async with aclosing(self._call(work, draft)) as pieces:
                async for piece in pieces:
                    yield piece
        except ServiceError as error:
            if work.begun or not self._can_fall_back(work):
                raise
            log.warning("variant %s failed (%s); quoting instead", work.variant.id, error.code)
            draft.rejected = error.code
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

    def _can_fall_back(self, work: _Work) -> bool:
        return self._safe is not None and not work.variant.target.quotes

    async def _call(self, work: _Work, draft: Draft) -> AsyncGenerator[str, None]:
        began = time.perf_counter_ns()
        quoting = work.variant.target.quotes
        said = [text_of(message) for message in work.turn.messages if message.get("role") == "user"]
        gate = None if quoting else Gate(work.evidence, said, self._prompts[work.variant.id])
        body = self._body(work, quoting)
        chunks = self._gateway.stream(body, principal=work.turn.principal, context=work.turn.context)
        async with aclosing(cast("AsyncGenerator[dict[str, Any], None]", chunks)):
            async for chunk in chunks:
                piece = draft.feed(chunk)
                for ready in [piece] if gate is None else gate.pass_on(piece):
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
        self._conclude(work, draft, quoting)

    def _body(self, work: _Work, quoting: bool) -> dict[str, Any]:
        history = trim_history(work.turn.messages)
        body: dict[str, Any] = {"model": work.variant.id, "stream_options": {"include_usage": True}}
        if quoting:
            body["messages"] = [*history, *work.exchange]
            body["documents"] = [passage.document() for passage in work.passages]
        else:
            system = render_prompt(self._prompts[work.variant.id], work.passages)
            said = [{**message, "content": defuse(message["content"])} for message in history]
            body["messages"] = [{"role": "system", "content": system}, *said, *work.exchange]
        if self._tools.schemas:
            body["tools"] = self._tools.schemas
        return body

    def _conclude(self, work: _Work, draft: Draft, quoting: bool) -> None:
        """What the answer so far is, and what it rests on."""
        outcome = work.outcome
        if quoting:
            extras = draft.extras
            cited = extras.get("sources") or []
            outcome.sources = tuple(passage.source() for passage in work.passages if passage.id in cited)
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
            data, card = await self._run_tool(work, call.name, call.arguments, number)
            work.exchange.append({"role": "tool", "tool_call_id": call.id, "name": call.name, "content": defuse(data)})
            work.evidence.append(data)
            if card is not None:
                cards.append(card)
                work.outcome.facts.append(card)
        names = ",".join(call.name for call in calls)
        work.outcome.tags["tools"] = f"{work.outcome.tags['tools']},{names}" if "tools" in work.outcome.tags else names
        work.spend("tools", began)
        return cards

    async def _run_tool(self, work: _Work, name: str, arguments: str, number: int) -> tuple[str, Facts | None]:
        misses = work.turn.misses
        if misses.count >= MAX_MISSES:
            return msgspec.json.encode({"found": False, "summary": TOO_MANY_MISSES}).decode(), None
        if number >= MAX_CALLS:
            return '{"error": "Too many calls at once."}', None
        result = await self._tools.call(name, arguments)
        misses.count += not result.ok
        return result.text(), result.card
