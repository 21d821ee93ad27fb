"""Which tool a message calls for, whether everything it needs is there, and the question for what is missing.

A tool is chosen by what its name and descriptions mean, never by a list of known names, and called only when every
required argument was found in the customer's own messages. Authorisation is not decided here.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from fairlead.engines.embed.words import fold, words_of
from fairlead.engines.extractive import acts, phrases
from fairlead.engines.extractive.arguments import (
    Parameter,
    Value,
    every_identifier,
    extract,
    kind_of,
    misshapen,
    without,
)
from fairlead.engines.extractive.evidence import Readers
from fairlead.engines.extractive.finders import ADDRESS, EMAIL, identifier
from fairlead.engines.extractive.manner import deeds_of, manner_of
from fairlead.engines.extractive.question import bare_of
from fairlead.engines.extractive.results import asks_for_rows
from fairlead.engines.extractive.text import STOP, concepts_of
from fairlead.engines.extractive.toolmatch import SPACED, Tool, chance_of_kind, meaning_of, rank

MOST_TOOLS = 128
MOST_CALLS = 4
MOST_TOGETHER = 6  # messages that make up one wish
MOST_LEANING = 12  # words of a message that leans on what was shown
MOST_BESIDE = 12  # words beside a number that was given late
CHOOSE_FROM = 0.3
OTHER_FROM = 0.5  # chance from which an answer to a question of ours is the wish for something else
CHOOSE_IDENTIFIED_FROM = 0.1  # when the message names the very order, ticket or account that the tool wants
_SUREST = 0.99  # of a tool chosen anew; only a plan that goes on is surer
_NUMBER_WORDS = STOP | frozenset(
    words_of(
        "order number no nr id ref reference ticket code email mail e-mail address oops ups sorry meant mean mistake "
        "typo correct correction wrong mistyped actually here's tt wait rather")
)  # fmt: skip
_LEANS = re.compile(
    r"\b(?:it|they|them|that(?! (?:i|we|you|he|she|they|it|is|are|the|has|have|was|were|had|do|does|can)\b)"
    r"|this one|mine|(?:the|my|this) (?:orders?|parcel|package|delivery|shipment|address|payment"
    r"|total|refund|return|items?|tracking number|carrier|driver|money)|(?:did|have|do) (?:i|we) (?:pay|paid|owe"
    r"|order(?:ed)?|buy|bought)|(?:i|we) (?:paid|ordered|bought))\b",
    re.IGNORECASE,
)


class Plan(NamedTuple):
    """What to do with a tool: call it (``missing`` is None) or ask for a parameter. ``score`` is 0 to 1.

    ``identified``: the customer speaks of the very order, ticket or account; ``misshapen``: what was given for the
    missing parameter and cannot be it.
    """

    tool: Tool
    score: float
    arguments: dict[str, Value]
    missing: Parameter | None
    identified: bool = False
    misshapen: str = ""

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
    if not tools or not said or acts.drops(said[-1]):
        return None
    if sticky and (going := _continued(tools, turns, readers)):
        return going
    said[-1] = acts.strip_drop(said[-1])
    together = _wish_of(said)
    wish = " ".join(text for text in said[-together:] if not _HAS_NONE.match(fold(text))) or said[-1]
    topic = _topic_of(tools, turns) if together == 1 else ""
    if topic and asks_for_rows(wish) and (shown := _looked_up(tools, [*said, topic], readers)):
        return shown
    ranked = _fitting(rank(tools, f"{wish} {topic}".strip(), readers), wish, readers)
    if shown := _shown(tools, said, readers):
        return shown
    if topic and ranked and not _shares(ranked[0][0], wish, readers):
        topic, ranked = "", _fitting(rank(tools, wish, readers), wish, readers)
    identified = bool(ranked) and identifies(ranked[0][0], topic or said[-1])
    wanted = chance_of_kind(ranked, readers.embedder)
    if wanted < (CHOOSE_IDENTIFIED_FROM if identified else CHOOSE_FROM):
        shown = _looked_up(tools, said, readers) if identified and not topic else None
        return shown._replace(score=_SUREST if _DONE.search(fold(wish)) else CHOOSE_FROM) if shown else None
    found = fill(ranked[0][0], min(max(wanted, CHOOSE_FROM), _SUREST), said, asked=None, together=together)
    return found._replace(identified=identified)


def _fitting(ranked: list[tuple[Tool, float]], message: str, readers: Readers) -> list[tuple[Tool, float]]:
    """Without the tools that do something, where a message asks how it stands: "where is my refund?" wants none."""
    told = fold(message)
    doing = {"pay"} if _PAID.search(told) else _DOINGS if _DONE.search(told) else set()
    return [(tool, share) for tool, share in ranked if not doing & meaning_of(tool, readers.embedder).deeds]


_PAID = re.compile(
    r"\b(?:where(?:'s| is| are)|when (?:do|does|will|can|is|are|should)|how long|has|have you|did you|any news)\b"
    r"[^.?!]*\b(?:refund|money|payment)"
)
_DONE = re.compile(
    r"^(?:and |so |but )?(?:is|was|are|were|has|have) (?:it|they|that|this|my|the|order|[a-z]{0,4}[ -]?\d)[^.!]*"
    r"\b(?:cancell?ed|returned|refunded|changed)\b[^.!]*\?"
)
_DOINGS = {"cancel", "return", "pay", "change"}


def _shown(tools: Sequence[Tool], said: Sequence[str], readers: Readers) -> Plan | None:
    """The likeliest tool that looks up what is named, for who says nothing but a number or speaks another language."""
    asks = said and _only_numbers(said[-1]) and said[-1].rstrip().endswith("?")  # "and TT-416863?"
    if not said or not (asks or all(map(_only_numbers, said)) or acts.foreign(words_of(said[-1]))):
        return None
    found = _looked_up(tools, said, readers)
    return found or (_misread(tools, said, readers) if _only_numbers(said[-1]) else None)


def _looked_up(tools: Sequence[Tool], said: Sequence[str], readers: Readers) -> Plan | None:
    """The likeliest tool that looks up what was named by its number."""
    for tool, _ in rank(tools, "what is the status of my order?", readers):
        if "track" in meaning_of(tool, readers.embedder).deeds and identifies(tool, " ".join(said)):
            return fill(tool, _SUREST, said, asked=None, together=len(said))._replace(identified=True)
    return None


def _misread(tools: Sequence[Tool], said: Sequence[str], readers: Readers) -> Plan | None:
    """The question for the number of what is to be looked up, where all that was given is one of another form."""
    for tool, _ in rank(tools, "what is the status of my order?", readers):
        number = next((p for p in tool.required if kind_of(p) == "id"), None)
        if number and "track" in meaning_of(tool, readers.embedder).deeds and misshapen(number, said[-1], asked=True):
            return fill(tool, _SUREST, said, asked=number)
    return None


def _wish_of(said: Sequence[str]) -> int:
    """How many of the last messages hold the wish: one, unless the last only give a number or an address for it."""
    if not said or not _only_names(said[-1]):
        return 1
    count = 1
    while count < min(len(said), MOST_TOGETHER) and _wants_nothing(said[-count]):
        count += 1
    return count


def _wants_nothing(message: str) -> bool:
    """Whether a message by itself wants nothing: a number, a yes, "I don't have another one"."""
    return _only_names(message) or acts.agrees(message) or _HAS_NONE.match(fold(message)) is not None


_HAS_NONE = re.compile(
    r"^(?:(?:but|sorry|well|no|oh)[ ,]+)*(?:i|we) (?:do ?n'?t|do not|haven'?t|can'?t|cannot|have no"
    r"|lost|forgot)\b(?: \w+){0,5} (?:number|address|e-?mail|mail|it|one|other|another|confirmation)\b[ .!]*"
    r"(?:anymore|any more|right now|now)?[ .!]*$"
)


def _topic_of(tools: Sequence[Tool], turns: Sequence[tuple[str, str]]) -> str:
    """The number of the order or the like that was just spoken of, where the last message leans on it."""
    message = turns[-1][1]
    leans = len(words_of(message)) <= MOST_LEANING and _LEANS.search(message) and not _RULE.search(fold(message))
    if not leans or manner_of(message).indefinite:
        return ""
    heard = " ".join(text for role, text in turns if role == "user")
    told = " ".join(text for role, text in turns[-4:] if role == "assistant")
    for parameter in (p for tool in tools for p in tool.required if kind_of(p) == "id"):
        known = every_identifier(parameter, heard)
        found = [text for text in every_identifier(parameter, told) if any(_same(text, each) for each in known)]
        if found and not every_identifier(parameter, message):
            return found[-1]
    return ""


# A question on a rule, whatever was spoken of before: "how long does the refund take?".
_RULE = re.compile(
    r"\bhow (?:long|many|often|soon|do|can|does|much (?:is|does|are|would))\b|\bwhat (?:does|do you|happens|if)\b"
    r"|\bwhy\b|\bdo you\b|\bwhich (?!carrier|company|courier)"
    r"|\bwhen (?:do|will|can|should|would) (?:i|we) (?:get|see|have|receive)\b[^?]*\b(?:money|refund|back)\b"
)


def _same(one: str, other: str) -> bool:
    """Whether two identifiers have the same digits."""
    return re.sub(r"\D", "", one) == re.sub(r"\D", "", other)


def _shares(tool: Tool, message: str, readers: Readers) -> bool:
    """Whether a message names a deed of a tool, or an idea it speaks of."""
    meaning = meaning_of(tool, readers.embedder)
    words = words_of(bare_of(message))
    return bool(_named(message) & meaning.deeds or concepts_of(words) & meaning.concepts)


def _named(message: str) -> frozenset[str]:
    """What a message names that is to be done."""
    return deeds_of(" ".join(words_of(bare_of(message))))


def _only_names(message: str) -> bool:
    """Whether a message gives a number and wants nothing by itself: it belongs to what was asked before."""
    bare = words_of(bare_of(message))
    if "?" in message or not _ASKING.isdisjoint(bare):
        return False
    if _only_numbers(ADDRESS.sub(" 00000 ", message)) or _only_figures(bare):
        return True
    return len(bare) <= MOST_BESIDE and identifier(message) is not None and not deeds_of(" ".join(bare))


def _only_numbers(message: str) -> bool:
    """Whether a message is nothing but a number or an e-mail address."""
    if not all(w.isdigit() or (w in _NUMBER_WORDS and w not in _ASKING) for w in words_of(bare_of(message))):
        return False
    return EMAIL.search(message) is not None or identifier(message) is not None


def _only_figures(words: Sequence[str]) -> bool:
    """Whether words are an amount or a count and nothing else: "no, 25 euros"."""
    return any(w.isdigit() for w in words) and all(
        w in _NUMBER_WORDS or w.replace(".", "").replace(",", "").isdigit() or w in _UNITS for w in words
    )


_UNITS = frozenset(("euro", "euros", "eur", "pounds", "dollars"))
_ASKING = frozenset(("what", "which", "who", "whose", "when", "where", "why", "how"))


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
    missing = next((p for p in tool.parameters if p.required and p.name not in found), None)
    given = misshapen(missing, said[-1], asked=asked is not None and asked is missing) if missing and said else ""
    return Plan(tool, score, arguments, missing, misshapen=given)


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
_CLAIMS = ("email", "iban", "phone", "date", "time", "postcode", "weight", "id", "code", "amount", "quantity", "number")
"""Kinds of values that belong to one parameter only, in the order in which they take theirs: the most telling first."""


def _claim_of(parameter: Parameter) -> int:
    kind = kind_of(parameter)
    return _CLAIMS.index(kind) if kind in _CLAIMS else len(_CLAIMS)


def _continued(tools: Sequence[Tool], turns: Sequence[tuple[str, str]], readers: Readers) -> Plan | None:
    """The plan whose question was asked and is answered by the customer's last message."""
    said = [text for role, text in turns if role == "user"]
    message = said[-1]
    open_plans, before = _open_plans(tools, turns)
    if not open_plans or acts.strip_drop(message) != message:
        return None
    ranked = rank(tools, " ".join(before[-_wish_of(before) :]), readers)
    if ranked and ranked[0][1] < OTHER_FROM:
        ranked = rank(tools, " ".join(before[-MOST_TOGETHER:]), readers)
    if (shown := _shown(tools, before, readers)) and any(tool is shown.tool for tool, _ in open_plans):
        ranked = [(shown.tool, 1.0)]
    scores = {tool.name: score for tool, score in ranked}
    tool, parameter = max(open_plans, key=lambda pair: scores.get(pair[0].name, 0.0))
    if kind_of(parameter) not in _LOOSE and _wants_other(tools, tool, message, readers):
        return None
    going = fill(tool, 1.0, said, asked=parameter)
    if parameter.name in going.arguments or going.misshapen:
        return going
    answers_nothing = len(words_of(message)) > 4 or message.strip().endswith("?")
    return None if answers_nothing else going


def _open_plans(
    tools: Sequence[Tool], turns: Sequence[tuple[str, str]]
) -> tuple[list[tuple[Tool, Parameter]], list[str]]:
    """(the tools and parameters that the last question for a detail may have been for, what was said before it).

    That is the last thing said; or, where the customer gives nothing but a detail, an earlier question that nobody has
    answered and nothing has taken back.
    """
    late = _only_names(turns[-1][1])
    since: list[str] = []
    for place in range(len(turns) - 2, max(-1, len(turns) - 2 - 2 * MOST_TOGETHER), -1):
        role, text = turns[place]
        if role == "user":
            if acts.drops(text):
                break
            since.append(text)
            continue
        asked = [(t, p) for t in tools for p in t.required if _asks_for(text, p)]
        if asked and not any(extract(asked[0][1], told, asked=True) is not None for told in since):
            return asked, [told for who, told in turns[:place] if who == "user"]
        if asked or not late:
            break
    return [], []


def _asks_for(text: str, parameter: Parameter) -> bool:
    """Whether an answer of ours ends with the question for a parameter."""
    what = noun_of(parameter)
    return text.strip().endswith((phrases.ASK.format(what=what), phrases.ASK_AGAIN.format(what=what)))


def _wants_other(tools: Sequence[Tool], tool: Tool, message: str, readers: Readers) -> bool:
    """Whether a message is by itself the wish for another tool than the one it could go on with."""
    deeds = _named(message)
    if not deeds or deeds & meaning_of(tool, readers.embedder).deeds:
        return False
    ranked = rank(tools, message, readers)
    return ranked[0][0] is not tool and ranked[0][1] >= OTHER_FROM


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


def several(tool: Tool, message: str) -> tuple[str, list[str]]:
    """(the parameter, its values) where a message names more than one order or the like; else no values."""
    for parameter in tool.required:
        if kind_of(parameter) == "id" and len(found := every_identifier(parameter, message)) > 1:
            return parameter.name, found[:MOST_CALLS]
    return "", []


def say_misshapen(plan: Plan) -> str:
    """The sentence that what was given cannot be the missing detail, and how one looks; empty where nothing was."""
    if not plan.missing or not plan.misshapen:
        return ""
    what = noun_of(plan.missing)
    if kind_of(plan.missing) != "id" or not plan.missing.example:
        return phrases.MISSHAPEN.format(value=plan.misshapen, what=what)
    return phrases.MISSHAPEN_LIKE.format(value=plan.misshapen, what=what, example=plan.missing.example)
