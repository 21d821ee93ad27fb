"""One request to one answer: the order in which the parts of this engine are asked.

Knows no protocol: it takes a checked Request and gives an Answer.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from typing import NamedTuple

from fairlead.engines.embed.words import words_of
from fairlead.engines.extractive import acts, answer, phrases, question, results, tools
from fairlead.engines.extractive.acts import Act
from fairlead.engines.extractive.answer import Quote
from fairlead.engines.extractive.arguments import Value
from fairlead.engines.extractive.evidence import Readers
from fairlead.engines.extractive.toolmatch import Tool, rank
from fairlead.engines.extractive.tools import Plan
from fairlead.engines.extractive.units import Passage, cut

TOOL_LEAD = 0.08  # how much surer of a document than of a tool we must be to quote instead of calling
IDENTIFIED_LEAD = 0.35  # the same when the message names the very order, ticket or account it is about


class Request(NamedTuple):
    """What a chat request says, checked. ``turns`` are (role, text) of customer and assistant, oldest first.

    ``results`` are the contents of tool messages after the last turn; ``forced`` names the tools one of which must be
    used, empty when free.
    """

    turns: tuple[tuple[str, str], ...]
    results: tuple[str, ...]
    documents: tuple[dict[str, str], ...]
    tools: tuple[Tool, ...]
    forced: tuple[str, ...]


class ToolUse(NamedTuple):
    """A call the caller should make."""

    id: str
    name: str
    arguments: dict[str, Value]


class Answer(NamedTuple):
    """What to say and why. A question for a detail says for which call it ``asks``, which argument that
    ``lacks``, and whether it was asked for before (``again``).
    """

    text: str
    act: Act
    confidence: float
    sources: tuple[str, ...] = ()
    calls: tuple[ToolUse, ...] = ()
    asks: ToolUse | None = None
    lacks: str = ""
    again: bool = False


def respond(request: Request, readers: Readers) -> Answer:
    """The answer to the last message of a conversation."""
    said = [text for role, text in request.turns if role == "user"]
    message = said[-1] if said else ""
    passages = cut(list(request.documents), readers.embedder)
    if request.results:
        return _after_tools(request, message, said, passages, readers)
    if request.forced:
        return _forced(request, said, readers)
    last_answer = request.turns[-2][1] if len(request.turns) > 1 and request.turns[-2][0] == "assistant" else ""
    plan = tools.plan(request.tools, request.turns, readers)
    if plan is None or plan.score < 1.0 or acts.wishes_person(message):
        reaction = acts.react(message, last_answer)
        if reaction:
            return Answer(reaction.text, reaction.act, 1.0)
        if acts.instructs(message) and not question.asks(acts.without_orders(message)):
            return Answer(phrases.ASSISTANT_ONLY, "small_talk", 1.0)
    quotes = _quotes(message, said, passages, readers)
    best = max((quote.confidence for _, quote in quotes if quote.known), default=0.0)
    unsure = (
        plan is not None and plan.identified and not any(quote.known and quote.tone == "sure" for _, quote in quotes)
    )
    if plan and (unsure or plan.score + (IDENTIFIED_LEAD if plan.identified else TOOL_LEAD) >= best):
        return _use(plan, request, message)
    return _say(message, quotes)


def _quotes(
    message: str, said: Sequence[str], passages: Sequence[Passage], readers: Readers
) -> list[tuple[str, Quote]]:
    """A quote for each question of the message; the later ones may lean on the earlier ones."""
    parts = question.split(acts.strip_greeting(acts.without_orders(message)))
    earlier = list(said[:-1])
    quotes = []
    for number, part in enumerate(parts):
        ways = [question.standalone(part, earlier)] if number else question.readings(part, earlier)
        quotes.append((part, answer.find_best(ways, passages, readers)))
        earlier.append(part)
    return quotes


def _say(message: str, quotes: list[tuple[str, Quote]]) -> Answer:
    known = [quote for _, quote in quotes if quote.known]
    angry = acts.complains(message)
    foreign = acts.foreign(words_of(message))
    if foreign and all(quote.tone == "doubtful" for quote in known):
        known = []
    opening = f"{phrases.RUDE if acts.rude(message) else phrases.SORRY} " if angry else ""
    if not known:
        doubt = 1.0 - max((quote.confidence for _, quote in quotes), default=0.0)
        if angry:
            return Answer(opening + phrases.OFFER, "complaint", doubt)
        unknown = phrases.NOT_ENGLISH if foreign else phrases.UNKNOWN
        return Answer(unknown, "unknown", doubt)
    told: list[str] = []
    missed = [part.strip()[:200] for part, quote in quotes if not quote.known]
    for _, quote in quotes:
        if quote.known and not any(set(words_of(quote.text)) <= set(words_of(before)) for before in told):
            told += _toned(quote)
    if missed:
        told.append(phrases.UNKNOWN_PART.format(questions=" and ".join(f"“{part}”" for part in missed)))
    elif any(quote.tone == "doubtful" for quote in known):
        told.append(phrases.DOUBTFUL_TAIL)
    sources = tuple(dict.fromkeys(source for quote in known for source in quote.sources))
    surest = min(quote.confidence for quote in known)
    return Answer(opening + "\n\n".join(told), "complaint" if angry else "answer", surest, sources)


def _toned(quote: Quote) -> list[str]:
    """The paragraphs of a quote: with the reservation that its odds ask for, and with what else may be meant."""
    match quote.tone:
        case "sure":
            return [quote.said]
        case "likely" if quote.listed:
            return [f"{phrases.LIKELY_ON}{quote.text[0].lower()}{quote.text[1:]}"]
        case "likely":
            return [f"{phrases.LIKELY}{quote.text}"]
    return (
        [phrases.EITHER, f"• {quote.text}", f"• {quote.other}"] if quote.other else [f"{phrases.DOUBTFUL}{quote.text}"]
    )


def _use(plan: Plan, request: Request, message: str) -> Answer:
    if plan.missing is None:
        return Answer("", "tool", plan.score, calls=_calls(plan, len(request.turns), message))
    what = tools.noun_of(plan.missing)
    texts = (plan.question, phrases.ASK_AGAIN.format(what=what), phrases.ASK_LAST.format(what=what))
    times = tools.times_asked(request.turns, plan)
    text = texts[times]
    opening = f"{phrases.SORRY} " if acts.complains(message) else ""
    text = opening + tools.say_misshapen(plan) + text
    return Answer(
        text, "ask", plan.score, asks=_call(plan, len(request.turns)), lacks=plan.missing.name, again=times > 0
    )


def _calls(plan: Plan, turn: int, message: str) -> tuple[ToolUse, ...]:
    """The call of a plan; one for each of several orders or the like that the message names."""
    name, numbers = tools.several(plan.tool, message)
    every = [{**plan.arguments, name: number} for number in numbers] or [plan.arguments]
    return tuple(_call(plan._replace(arguments=arguments), turn) for arguments in every)


def _call(plan: Plan, turn: int) -> ToolUse:
    mark = zlib.crc32(
        f"{turn}:{plan.tool.name}:{json.dumps(plan.arguments, sort_keys=True)}".encode("utf-8", "surrogatepass")
    )
    return ToolUse(f"call_{mark:08x}", plan.tool.name, plan.arguments)


def _forced(request: Request, said: list[str], readers: Readers) -> Answer:
    """`tool_choice` demands a tool: the best of the allowed ones, or the question for what it lacks."""
    allowed = [tool for tool in request.tools if tool.name in request.forced]
    going = tools.plan(allowed, request.turns, readers)
    if going is None:
        message = said[-1] if said else ""
        ranked = rank(allowed, message, readers)
        tool, score = ranked[0] if ranked else (allowed[0], 0.0)
        going = tools.fill(tool, score, said or [""], asked=None)
    return _use(going, request, said[-1] if said else "")


def _after_tools(
    request: Request, message: str, said: list[str], passages: Sequence[Passage], readers: Readers
) -> Answer:
    """The tools have spoken: their results in words, then what else the message asked and the documents answer."""
    text, fine = results.word_results(list(request.results), message)
    parts = question.split(acts.strip_greeting(message))
    extra: list[Quote] = []
    if len(parts) > 1:
        for part, quote in _quotes(message, said, passages, readers):
            ranked = rank(request.tools, part, readers)
            if quote.known and quote.tone == "sure" and (not ranked or ranked[0][1] < tools.CHOOSE_FROM):
                extra.append(quote)
    lines = [text, *(quote.said for quote in extra)]
    sources = tuple(dict.fromkeys(source for quote in extra for source in quote.sources))
    opening = f"{phrases.SORRY} " if acts.complains(message) and fine else ""
    return Answer(opening + "\n\n".join(lines), "tool", 1.0 if fine else 0.5, sources)
