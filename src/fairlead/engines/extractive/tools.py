"""Which tool a message calls for, whether everything it needs is there, and the question for what is missing.

A tool is chosen by what its name and descriptions mean, never by a list of known names, and called only when every
required argument was found in the customer's own messages. Authorisation is not decided here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from fairlead.engines.embed.embedder import Embedder, Vectors
from fairlead.engines.embed.words import fold, words_of
from fairlead.engines.extractive import phrases
from fairlead.engines.extractive.arguments import Parameter, Value, extract, kind_of
from fairlead.engines.extractive.text import concepts_of, content, respell, stem

MOST_TOOLS = 128
CHOOSE_FROM = 0.5
_SPACED = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[_\-.:/]+")
_POLICY = re.compile(
    r"\b(?:how (?:long|much|do i|can i|does|many|soon|fast)|what(?:'s| is| are) (?:your|the)|what (?:does|do|would"
    r"|will) (?!my)|do you|is it possible|are (?:there|returns|you)|which|policy|in general|usually"
    r"|can i (?:still )?(?:return|cancel|exchange|pay|get|pick|change)|am i allowed|until when|is there|what happens"
    r"|what if|by when)\b"
)
_PERSONAL = re.compile(
    r"\bmy (?:last |recent |new |latest |current |own |whole )?(?:order|parcel|package|delivery|refund|return"
    r"|purchase|shipment|stuff|subscription|account|address|money|invoice|booking|appointment|item|ticket|points"
    r"|details|email|password|basket)"
    r"|\b(?:order|parcel|ticket|booking|invoice) (?:number |no |nr |id )?#?\w*\d|\b(?:i|we) (?:ordered|bought"
    r"|placed)\b|#\d|\bmine\b"
)
_REQUEST = re.compile(
    r"^(?:(?:please|pls|hi|hello|hey|ok|so|and|then)[ ,!]+)*(?:cancel|change|update|track|check|find|look|return"
    r"|refund|exchange|book|reserve|order|send|show|give|get|start|open|create|add|remove|stop|pause|reset|apply"
    r"|tell me (?:where|the status)|where(?:'s| is| are) my|status|schedule|subscribe|unsubscribe|register)\b"
    r"|\b(?:i|we)(?:'d| would)? (?:want|like|need|have|wish|wanna)(?: you)?(?: to)? (?:to )?(?:cancel|change|update"
    r"|track|check|find|know where|return|send|refund|exchange|book|reserve|start|open|get|make|add|remove|pause"
    r"|reset|see|subscribe|unsubscribe)\b"
    r"|\b(?:can|could|would|will) you (?:please |kindly |just )?(?:cancel|change|update|track|check|find|look|return"
    r"|refund|exchange|book|reserve|send|show|tell me where|start|open|create|add|remove|stop|reset|see|get)\b"
    r"|\bwhere(?:'s| is| are)? my\b|\bwhen (?:will|is|does) my \w+|\bmy (?:order|parcel|package|delivery) (?:is|was"
    r"|has|did|never|still)\b|\bshould have (?:been here|arrived|come)|(?:\b(?:never|not|havent"
    r"|didnt)|n't) (?:yet )?(?:received?|got|get|arrived?|come|came)\b|\bnothing (?:has )?(?:came|come|arrived)"
    r"|\bhas my\b|\bis my (?:order|parcel|package|refund)\b|\bnot (?:arrived|here yet|come)\b|\bhasn'?t (?:arrived"
    r"|come|shown)"
)
_GENERAL = re.compile(
    r"^(?:why|do i|will i|would i|am i|should i|must i|does|do you|are you|can i|may i|how (?:do|can|long|much|many)"
    r"|what (?:if|happens|now|can|do|should)|which)\b|\bwhat (?:now|can i do|should i do|happens)\b"
)
# Days that no argument can say: a tool that wants a day would be called for another.
_VAGUE_DAY = re.compile(
    r"\b(?:mon|tues|wednes|thurs|fri|satur|sun)days\b|\bweekends?\b|\bholidays?\b|\bchristmas\b|\beaster\b"
    r"|\bnew year|\bboxing day\b"
)
_NOT_MEANT = 0.45  # the most a tool scores that the message cannot mean
# Ideas that a message about one's own order may name besides what it wants of it.
_COMMON = frozenset(("delivery", "cost", "free", "contact", "person", "about", "quantity", "time_limit", "weekend"))
_CONTEXT_NAMES = frozenset("customer user client session tenant".split())


class Tool(NamedTuple):
    """A function the request offers."""

    name: str
    description: str
    parameters: tuple[Parameter, ...]

    @property
    def required(self) -> list[Parameter]:
        """Parameters it cannot do without."""
        return [p for p in self.parameters if p.required]


class Plan(NamedTuple):
    """What to do with a tool: call it (``missing`` is None) or ask for a parameter. ``score`` is 0 to 1."""

    tool: Tool
    score: float
    arguments: dict[str, Value]
    missing: Parameter | None

    @property
    def question(self) -> str:
        """The one fixed question for the missing parameter."""
        return phrases.ASK.format(what=noun_of(self.missing)) if self.missing else ""


class _Meaning(NamedTuple):
    vector: Vectors
    name_vector: Vectors
    stems: frozenset[str]
    concepts: frozenset[str]
    name_concepts: frozenset[str]


def read_tools(raw: Sequence[dict[str, Any]]) -> list[Tool]:
    """Tools of a request that was checked: OpenAI function tools."""
    tools = []
    for entry in raw[:MOST_TOOLS]:
        function = entry["function"]
        schema = function.get("parameters") or {}
        properties = schema.get("properties")
        needed = schema.get("required")
        required = set(needed) if isinstance(needed, list) and all(isinstance(n, str) for n in needed) else set()
        parameters = tuple(
            Parameter(name, part if isinstance(part, dict) else {}, name in required)
            for name, part in (properties.items() if isinstance(properties, dict) else ())
        )
        unlisted = tuple(Parameter(n, {}, True) for n in sorted(required - {p.name for p in parameters}))
        description = function.get("description")
        tools.append(Tool(function["name"], description if isinstance(description, str) else "", parameters + unlisted))
    return tools


def noun_of(parameter: Parameter) -> str:
    """What to call a parameter in a question: its description's first words, or its name."""
    text = re.split(
        r"[.,;:(\n]|\be\.g|\bfor example|\bsuch as|\blike\b| - | – ", parameter.description.strip(), maxsplit=1
    )[0].strip()
    words = text.split()
    if (
        not 0 < len(words) <= 9
        or any(c.isdigit() for c in text)
        or words[0].lower() in ("if", "when", "whether", "must", "should", "optional")
    ):
        text = _SPACED.sub(" ", parameter.name).strip().lower() or "the missing detail"
    text = re.sub(r"^(?:the |a |an )?(?:customer|user|client|buyer)(?:'s|s)? ", "your ", text, flags=re.IGNORECASE)
    if words_of(text) and text[:1].isupper() and text[1:2].islower():
        text = text[0].lower() + text[1:]
    text = re.sub(r"\b(?:of|for|from) (?:the )?(?:customer|user|client|buyer)\b", "", text, flags=re.IGNORECASE).strip()
    text = re.sub(r"\bid\b", "number", text) if kind_of(parameter) == "id" and text.endswith("id") else text
    first = text.split()[0].lower()
    if first not in ("the", "your", "a", "an", "what", "which", "why", "how", "where", "when", "who"):
        text = "your " + (text if text[:2].isupper() else text[0].lower() + text[1:])
    return re.sub(r"\d", "", text)


def plan(
    tools: Sequence[Tool], turns: Sequence[tuple[str, str]], embedder: Embedder, *, sticky: bool = True
) -> Plan | None:
    """The tool for the last of ``turns`` ((role, text), oldest first), or None when none fits.

    A turn that answers our question for a missing detail continues the plan it belongs to (``sticky``).
    """
    said = [text for role, text in turns if role == "user"]
    if not tools or not said:
        return None
    if sticky and (going := _continued(tools, turns, embedder)):
        return going
    ranked = rank(tools, said[-1], embedder)
    if not ranked or ranked[0][1] < CHOOSE_FROM:
        return None
    return fill(ranked[0][0], ranked[0][1], said, asked=None)


def fill(tool: Tool, score: float, said: Sequence[str], *, asked: Parameter | None) -> Plan:
    """Arguments from the customer's messages, the newest first; the first required one that is missing."""
    arguments: dict[str, Value] = {}
    missing: Parameter | None = None
    for parameter in tool.parameters:
        value: Value | None = None
        for back, message in enumerate(reversed(said[-12:])):
            is_answer = back == 0 and asked is not None and asked.name == parameter.name
            if (
                back
                and kind_of(parameter) in ("message", "product", "quantity", "number", "amount", "reason")
                and asked is None
            ):
                break
            value = extract(parameter, message, asked=is_answer)
            if value is not None:
                break
        if value is not None and (parameter.required or kind_of(parameter) != "message"):
            arguments[parameter.name] = value
        elif parameter.required and missing is None:
            missing = parameter
    return Plan(tool, score, arguments, missing)


def _continued(tools: Sequence[Tool], turns: Sequence[tuple[str, str]], embedder: Embedder) -> Plan | None:
    """The plan whose question the turn before asked, if the customer's last message answers it."""
    if len(turns) < 2 or turns[-2][0] != "assistant":
        return None
    asked_text = turns[-2][1].strip()
    said = [text for role, text in turns if role == "user"]
    open_plans = [
        (tool, parameter)
        for tool in tools
        for parameter in tool.required
        if asked_text.endswith(
            (phrases.ASK.format(what=noun_of(parameter)), phrases.ASK_AGAIN.format(what=noun_of(parameter)))
        )
    ]
    if not open_plans:
        return None
    earlier = " ".join(said[:-1][-3:])
    scores = {tool.name: score for tool, score in rank(tools, earlier, embedder)}
    tool, parameter = max(open_plans, key=lambda pair: scores.get(pair[0].name, 0.0))
    going = fill(tool, 1.0, said, asked=parameter)
    if parameter.name in going.arguments:
        return going
    answers_nothing = len(words_of(said[-1])) > 4 or said[-1].strip().endswith("?")
    return None if answers_nothing else going


def asked_again(turns: Sequence[tuple[str, str]], going: Plan) -> bool:
    """Whether the same detail was asked for in the turn before."""
    return len(turns) > 1 and going.missing is not None and turns[-2][1].strip().endswith(going.question)


def rank(tools: Sequence[Tool], message: str, embedder: Embedder) -> list[tuple[Tool, float]]:
    """Tools with their score, 0 to 1, best first: above CHOOSE_FROM the message asks for that tool."""
    words = [respell(w) for w in words_of(message)]
    if not words:
        return []
    vector = embedder.encode_lists([words])[0]
    concepts = concepts_of(words)
    stems = set(content(words))
    folded = fold(message)
    wanting = _wanting(folded)
    spread = Counter(idea for tool in tools for idea in _meaning(tool, embedder).concepts)
    wanted = concepts - _COMMON
    scored = []
    for tool in tools:
        meaning = _meaning(tool, embedder)
        shared = concepts & meaning.concepts
        hit = len(concepts & meaning.name_concepts)
        own = max((1 / spread[idea] for idea in shared), default=0.0)
        likeness = (
            0.9 * float(vector @ meaning.vector)
            + 0.9 * float(vector @ meaning.name_vector)
            + 0.35 * min(2, hit)
            + 0.1 * min(2, len(shared))
            + 0.3 * own
            + 0.12 * min(3, len(stems & meaning.stems))
            - 0.25 * bool(concepts and not shared)
            - 0.35 * min(2, len(wanted - meaning.concepts))
        )
        score = 0.55 * likeness + wanting + _given(tool, message)
        scored.append((tool, score if _may_call(tool, meaning, concepts, message, folded) else min(score, _NOT_MEANT)))
    scored.sort(key=lambda pair: -pair[1])
    return [(tool, max(0.0, min(1.0, score))) for tool, score in scored]


def _may_call(tool: Tool, meaning: _Meaning, concepts: frozenset[str], message: str, folded: str) -> bool:
    """Whether a message can mean a tool at all, rather than ask how something is done in general.

    A tool wants an idea of its own in the message; one that can always be called ("opening hours") that of its name.
    One that needs an order or a ticket wants its number, or a request about the customer's own matter.
    """
    if _given(tool, message):
        return True
    days = [p for p in tool.parameters if kind_of(p) == "date"]
    if _VAGUE_DAY.search(folded) and days and all(extract(p, message, asked=False) is None for p in days):
        return False
    about = meaning.concepts if tool.required else meaning.name_concepts
    if about and not concepts & about:
        return False
    if not any(kind_of(p) == "id" for p in tool.required):
        return True
    if _REQUEST.search(folded):
        return not _GENERAL.search(folded)
    return bool(_PERSONAL.search(folded)) and not (_POLICY.search(folded) or _GENERAL.search(folded))


def _wanting(folded: str) -> float:
    """How much a message reads like a request about the customer's own matter rather than a question on policy."""
    wanting = 0.0
    if _PERSONAL.search(folded):
        wanting += 0.12
    if _REQUEST.search(folded):
        wanting += 0.15
    elif _POLICY.search(folded):
        wanting -= 0.22
    return wanting


def identifies(tool: Tool, message: str) -> bool:
    """Whether a message holds the identifier (order number, ticket, ...) that a tool requires."""
    return any(kind_of(p) == "id" and extract(p, message, asked=False) is not None for p in tool.required)


def _given(tool: Tool, message: str) -> float:
    """Credit for identifying arguments that stand in the message."""
    kinds = [kind_of(p) for p in tool.required]
    found = [
        k
        for p, k in zip(tool.required, kinds, strict=True)
        if k in ("id", "email", "date", "code") and extract(p, message, asked=False) is not None
    ]
    return 0.15 if found else 0.0


@lru_cache(maxsize=512)
def _meaning_of(name: str, description: str, details: str, embedder: Embedder) -> _Meaning:
    title = words_of(_SPACED.sub(" ", name))
    told = words_of(description)[:60]
    vectors = embedder.encode_lists([title + told, title])
    return _Meaning(
        vectors[0],
        vectors[1],
        frozenset(stem(w) for w in content(title + told + words_of(details)[:60])),
        concepts_of(title + told),
        concepts_of(title),
    )


def _meaning(tool: Tool, embedder: Embedder) -> _Meaning:
    details = " ".join(f"{_SPACED.sub(' ', p.name)} {p.description[:200]}" for p in tool.parameters[:20])
    return _meaning_of(tool.name[:100], tool.description[:1000], details, embedder)
