"""Which tool a message calls for, whether everything it needs is there, and the question for what is missing.

A tool is chosen by what its name and descriptions mean, never by a list of known names, and called only when every
required argument was found in the customer's own messages. Authorisation is not decided here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from fairlead.engines.embed.words import words_of
from fairlead.engines.extractive import phrases
from fairlead.engines.extractive.arguments import Parameter, Value, extract, kind_of, without
from fairlead.engines.extractive.evidence import Readers
from fairlead.engines.extractive.finders import identifier
from fairlead.engines.extractive.manner import deeds_of
from fairlead.engines.extractive.question import bare_of
from fairlead.engines.extractive.text import STOP
from fairlead.engines.extractive.toolmatch import SPACED, Tool, chance_of_kind, rank

MOST_TOOLS = 128
MOST_BESIDE = 12  # words beside a number that was given late
CHOOSE_FROM = 0.3
CHOOSE_IDENTIFIED_FROM = 0.1  # when the message names the very order, ticket or account that the tool wants
_SUREST = 0.99  # of a tool chosen anew; only a plan that goes on is surer
_NUMBER_WORDS = STOP | frozenset(("order", "number", "no", "nr", "id", "ref", "reference", "ticket", "code", "email"))


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


def read_tools(raw: Sequence[dict[str, Any]]) -> list[Tool]:
    """Tools of a request that was checked: OpenAI function tools."""
    tools = []
    for entry in raw[:MOST_TOOLS]:
        function = entry["function"]
        schema = function.get("parameters") or {}
        properties = schema.get("properties")
        needed = schema.get("required")
        required = set(needed) if isinstance(needed, list) and all(isinstance(n, str) for n in needed) else set()
        description = function.get("description")
        description = description if isinstance(description, str) else ""
        about = " ".join(words_of(f"{SPACED.sub(' ', function['name'])} {description[:500]}"))
        parameters = tuple(
            Parameter(name, part if isinstance(part, dict) else {}, name in required, about)
            for name, part in (properties.items() if isinstance(properties, dict) else ())
        )
        unlisted = tuple(Parameter(n, {}, True, about) for n in sorted(required - {p.name for p in parameters}))
        tools.append(Tool(function["name"], description, parameters + unlisted))
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
        text = SPACED.sub(" ", parameter.name).strip().lower() or "the missing detail"
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
    tools: Sequence[Tool], turns: Sequence[tuple[str, str]], readers: Readers, *, sticky: bool = True
) -> Plan | None:
    """The tool for the last of ``turns`` ((role, text), oldest first), or None when none fits.

    A turn that answers our question for a missing detail continues the plan it belongs to (``sticky``).
    """
    said = [text for role, text in turns if role == "user"]
    if not tools or not said:
        return None
    if sticky and (going := _continued(tools, turns, readers)):
        return going
    going_on = len(said) > 1 and _only_names(said[-1])
    ranked = rank(tools, f"{said[-2]} {said[-1]}" if going_on else said[-1], readers)
    least = CHOOSE_IDENTIFIED_FROM if ranked and identifies(ranked[0][0], said[-1]) else CHOOSE_FROM
    wanted = chance_of_kind(ranked, readers.embedder)
    if wanted < least:
        return None
    return fill(ranked[0][0], min(max(wanted, CHOOSE_FROM), _SUREST), said, asked=None, together=2 if going_on else 1)


def _named(message: str) -> frozenset[str]:
    """What a message names that is to be done."""
    return deeds_of(" ".join(words_of(bare_of(message))))


def _only_names(message: str) -> bool:
    """Whether a message gives a number and wants nothing by itself: it belongs to what was asked before."""
    bare = words_of(bare_of(message))
    if all(w in _NUMBER_WORDS for w in bare):
        return True
    return (
        len(bare) <= MOST_BESIDE
        and "?" not in message
        and identifier(message) is not None
        and not deeds_of(" ".join(bare))
    )


def fill(tool: Tool, score: float, said: Sequence[str], *, asked: Parameter | None, together: int = 1) -> Plan:
    """Arguments from the customer's messages, the newest first; the first required one that is missing.

    What is loosely told, such as a product or a reason, is looked for in the last ``together`` messages only.
    """
    found: dict[str, Value] = {}
    whole = list(reversed(said[-12:]))  # the newest first
    left = list(whole)  # what one parameter has taken no other can take
    for parameter in sorted(tool.parameters, key=_claim_of):
        kind = kind_of(parameter)
        loose = asked is None and kind in _LOOSE
        told = list(enumerate((whole if kind in _WORDY else left)[: together if loose else None]))
        if asked is not None and asked.name != parameter.name and kind in _LOOSE:
            told = told[1:] + told[:1]  # the newest answers another question
        for back, message in told:
            is_answer = back == 0 and asked is not None and asked.name == parameter.name
            value = extract(parameter, message, asked=is_answer)
            if value is not None:
                found[parameter.name] = value
                if kind in _CLAIMS:
                    left[back] = without(message, value, kind)
                break
    _strip_colour(tool, found)
    arguments = {
        p.name: found[p.name]
        for p in tool.parameters
        if p.name in found and (p.required or not (kind_of(p) in _WORDY and found[p.name] in whole))
    }
    return Plan(tool, score, arguments, next((p for p in tool.parameters if p.required and p.name not in found), None))


def _strip_colour(tool: Tool, found: dict[str, Value]) -> None:
    """A colour that has a parameter of its own is no part of the product: "white Wren radios"."""
    colours = [str(found[p.name]) for p in tool.parameters if kind_of(p) == "colour" and p.name in found]
    for parameter in tool.parameters:
        value = found.get(parameter.name)
        if kind_of(parameter) == "product" and isinstance(value, str):
            for colour in colours:
                value = value.removeprefix(f"{colour} ")
            found[parameter.name] = value


_LOOSE = frozenset(("message", "product", "quantity", "number", "amount", "reason", "fault", "colour", "text"))
_WORDY = frozenset(("message", "reason", "fault"))
_CLAIMS = ("email", "phone", "date", "time", "postcode", "weight", "id", "code", "amount", "quantity", "number")
"""Kinds of values that belong to one parameter only, in the order in which they take theirs: the most telling first."""


def _claim_of(parameter: Parameter) -> int:
    kind = kind_of(parameter)
    return _CLAIMS.index(kind) if kind in _CLAIMS else len(_CLAIMS)


def _continued(tools: Sequence[Tool], turns: Sequence[tuple[str, str]], readers: Readers) -> Plan | None:
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
    scores = {tool.name: score for tool, score in rank(tools, earlier, readers)}
    tool, parameter = max(open_plans, key=lambda pair: scores.get(pair[0].name, 0.0))
    going = fill(tool, 1.0, said, asked=parameter)
    if parameter.name in going.arguments:
        return going
    answers_nothing = len(words_of(said[-1])) > 4 or said[-1].strip().endswith("?")
    return None if answers_nothing else going


def times_asked(turns: Sequence[tuple[str, str]], going: Plan) -> int:
    """How often the same detail was asked for in the turns before: 0, 1, or 2 where it was asked for once more."""
    if len(turns) < 2 or going.missing is None:
        return 0
    if _named(turns[-1][1]):
        return 0  # something else may be wanted by now
    said = turns[-2][1].strip()
    return 2 if said.endswith(phrases.ASK_AGAIN.format(what=noun_of(going.missing))) else said.endswith(going.question)


def identifies(tool: Tool, message: str) -> bool:
    """Whether a message holds the identifier (order number, ticket, ...) that a tool requires."""
    return any(kind_of(p) == "id" and extract(p, message, asked=False) is not None for p in tool.required)
