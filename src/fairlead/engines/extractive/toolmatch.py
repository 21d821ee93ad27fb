"""A message and the tools on offer as numbers, and how likely the message asks for each tool.

Knows no thresholds but those of calibration.json and decides nothing about who may do what. A tool is what its name,
its descriptions and the types of its arguments say; no list of known tools stands anywhere.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fairlead.engines.embed.embedder import Embedder, Vectors
from fairlead.engines.embed.words import fold, words_of
from fairlead.engines.extractive.arguments import Parameter, extract, kind_of
from fairlead.engines.extractive.question import bare_of
from fairlead.engines.extractive.text import STOP, concepts_of, respell, stem

CALIBRATION = Path(__file__).with_name("calibration.json")
SPACED = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[_\-.:/]+")
TOOL_FEATURES = (
    "cosine", "cosine with name", "lead in cosine", "ideas of name", "ideas", "own idea", "ideas elsewhere",
    "no idea shared", "stems of name", "stems", "coverage", "lead in coverage", "name covered", "arguments given",
    "all arguments given", "any argument given", "number wanted", "nothing wanted", "personal", "request", "policy",
    "general", "personal and number wanted", "policy, nothing given", "vague day", "few words", "asks", "action",
    "same action", "other action", "detail given", "my own", "policy of it", "general of it", "request of it", "own of it",
    "only it", "indefinite", "condition",
)  # fmt: skip
_POLICY = re.compile(
    r"\b(?:how (?:long|much|do i|can i|does|many|soon|fast|often)|what(?:'s| is| are) (?:your|the)|what (?:does|do|would"
    r"|will) (?!my)|do you|is it possible|are (?:there|returns|you)|which|policy|in general|usually"
    r"|can i (?:still )?(?:return|cancel|exchange|pay|get|pick|change)|am i allowed|until when|is there|what happens"
    r"|what if|by when)\b"
)
_PERSONAL = re.compile(
    r"\bmy (?:last |recent |new |latest |current |own |whole )?(?:order|parcel|package|delivery|refund|return"
    r"|purchase|shipment|stuff|subscription|account|address|money|invoice|booking|appointment|item|ticket|points"
    r"|details|email|password|basket|repair|bike|bill|voucher|coupon|code|reservation|bag|bags|box)"
    r"|\b(?:order|parcel|ticket|booking|invoice) (?:number |no |nr |id )?#?\w*\d|\b(?:i|we) (?:ordered|bought"
    r"|placed)\b|#\d|\bmine\b|\b(?:call|ring|phone|tell|send|give|book|sign|take|put|add) me\b"
)
_REQUEST = re.compile(
    r"^(?:(?:please|pls|hi|hello|hey|ok|so|and|then)[ ,!]+)*(?:cancel|change|update|track|check|find|look|return"
    r"|refund|exchange|book|reserve|order|send|show|give|get|start|open|create|add|remove|stop|pause|reset|apply"
    r"|tell me (?:where|the status)|where(?:'s| is| are) my|status|schedule|subscribe|unsubscribe|register|call|ring"
    r"|phone|sign|take|put|move|shift|redirect|resend|mail|don'?t send|bin|scrap|drop|skip|hold|swap)\b"
    r"|\b(?:i|we)(?:'d| would)? (?:want|like|need|have|wish|wanna|rather)(?: you)?(?: to)? (?:to )?(?:cancel|change"
    r"|update|track|check|find|know where|return|send|refund|exchange|book|reserve|start|open|get|make|add|remove"
    r"|pause|reset|see|subscribe|unsubscribe|be called|call|move|stop)\b"
    r"|\b(?:can|could|would|will) (?:you|someone|somebody|anyone) (?:please |kindly |just )?(?:cancel|change|update"
    r"|track|check|find|look|return|refund|exchange|book|reserve|send|show|tell me where|start|open|create|add"
    r"|remove|stop|reset|see|get|call|ring|phone|give me|move|shift|pause|put|take|mail|redirect|resend|scrap)\b"
    r"|\bwhere(?:'s| is| are)? my\b|\bwhen (?:will|is|does) my \w+|\bmy (?:order|parcel|package|delivery) (?:is|was"
    r"|has|did|never|still)\b|\bshould have (?:been here|arrived|come)|(?:\b(?:never|not|havent"
    r"|didnt)|n't) (?:yet )?(?:received?|got|get|arrived?|come|came)\b|\bnothing (?:has )?(?:came|come|arrived)"
    r"|\bhas my\b|\bis my (?:order|parcel|package|refund)\b|\bnot (?:arrived|here yet|come)\b|\bhasn'?t (?:arrived"
    r"|come|shown)|\bplease\b"
)
_GENERAL = re.compile(
    r"^(?:(?:hi|hello|hey|and|but|so|ok|excuse me|please tell me|can you tell me)[ ,!]+)*(?:why|who|do i|will i|would i|am i"
    r"|should i|must i|does|do you|do your|are you|are your|can i|may i|how (?:do|can|long|much|many|often|soon)"
    r"|what (?:if|happens|now|can|do|should)|which|when do|by when|until when)\b"
    r"|\bwhat (?:now|can i do|should i do|happens)\b"
)
# Days that no argument can say: a tool that wants a day would be called for another.
_VAGUE_DAY = re.compile(
    r"\b(?:mon|tues|wednes|thurs|fri|satur|sun)days\b|\bweekends?\b|\bholidays?\b|\bchristmas\b|\beaster\b"
    r"|\bnew year|\bboxing day\b"
)
# What is done with a thing, whatever the thing: a message and a tool that name different deeds do not belong together.
_ACTIONS: dict[str, re.Pattern[str]] = {
    name: re.compile(rf"\b(?:{pattern})\b")
    for name, pattern in {
        "cancel": r"cancel\w*|call(?:ed)? off|stop(?:ped)?|void|withdraw\w*|revoke|abort|undo|scrap|bin|don'?t (?:want|need|send)"
        r"|do not (?:want|need|send)|no longer (?:want|need)|not need|drop",
        "track": r"track\w*|status|where|look ?up|check|find|show\w*|follow|news|arriv\w*|ready|progress|how far|get here"
        r"|look\w* for|state|waiting|not come|no sign|missing|late|overdue|(?:not|never|n't|havent|hasnt|didnt) (?:yet )?(?:received?|got|come|arrived|here|turned up)|sent yet|been sent|left your|happening|got to|on its way",
        "return": r"return\w*|send (?:\w+ ){0,2}back|give (?:\w+ ){0,2}back|take (?:\w+ ){0,2}back|bring (?:\w+ ){0,2}back|sent? back",
        "change": r"chang\w*|updat\w*|mov\w*|redirect\w*|shift\w*|edit|modify|wrong address|new address|another address|different (?:address|date|day)|instead|go to my|to my (?:office|work|neighbour)|resched\w*"
        r"|postpone",
        "book": r"book(?:ed|s)?|book(?:ed)? (?:me )?in|appointment\w*|reserv\w*|slot|schedul\w*|make an?|come by|bring (?:my|it)|visit|put aside|plan",
        "send": r"resend|mail\w*|copy|invoice|bill|receipt",
        "call": r"call\w*|ring\w*|phone\w*|telephone|give me a (?:ring|call)|reach me",
        "pay": r"refund\w*|pay back|pays? money|money back|reimburs\w*|back for",
        "join": r"subscribe\w*|sign(?:ed|s)? (?:me )?up|join|add|mailing list|newsletter|register",
        "leave": r"unsubscribe\w*|opt out|off (?:your|the) (?:mailing list|newsletter|list)|stop sending|takes? \w+ off",
        "pause": r"paus\w*|on hold|suspend|skip|interrupt",
        "report": r"report\w*|broken|damag\w*|smashed|cracked|faulty",
        "stock": r"stock\w*|availab\w*|inventory|in size|in (?:a|my) size|have (?:the|you got|a)|got (?:the|any)|left",
        "price": r"price|cost\w*|quote|postage|how much|fee|calculat\w*",
        "voucher": r"voucher\w*|coupon\w*|code\w*|redeem",
        "hours": r"open\w*|clos\w*|hours",
    }.items()
}


_OWN = re.compile(r"\b(?:my|mine|our|i've|i'm)\b|\b(?:i|we) (?:ordered|bought|lost|moved)\b")
_INDEFINITE = re.compile(
    r"\b(?:something|(?<!received )(?<!got )(?<!ordered )anything|things|an? (?:order|item|return|subscription|booking|voucher|parcel|refund|gift card)"
    r"|orders|items|returns|subscriptions|bookings|vouchers|parcels|repairs|refunds|usually|normally|generally|always)\b"
)
_IF = re.compile(r"\b(?:if|once|after|unless)\b")


class Tool(NamedTuple):
    """A function the request offers."""

    name: str
    description: str
    parameters: tuple[Parameter, ...]

    @property
    def required(self) -> list[Parameter]:
        """Parameters it cannot do without."""
        return [p for p in self.parameters if p.required]


class Meaning(NamedTuple):
    """What a tool's name and descriptions say, prepared once."""

    vector: Vectors
    name_vector: Vectors
    name_stems: frozenset[str]
    stems: frozenset[str]
    concepts: frozenset[str]
    name_concepts: frozenset[str]
    words: Vectors
    name_words: Vectors
    actions: frozenset[str]


@lru_cache(maxsize=512)
def _meaning_of(name: str, description: str, details: str, embedder: Embedder) -> Meaning:
    title = words_of(SPACED.sub(" ", name))
    told = words_of(description)[:60]
    more = words_of(details)[:60]
    vectors = embedder.encode_lists([title + told, title])
    own = [w for w in dict.fromkeys(title) if w not in STOP] or title
    every = [w for w in dict.fromkeys(title + told + more) if w not in STOP]
    return Meaning(
        vectors[0],
        vectors[1],
        frozenset(stem(w) for w in own),
        frozenset(stem(w) for w in every),
        concepts_of(title + told),
        concepts_of(title),
        embedder.encode_words(every),
        embedder.encode_words(own),
        actions_of(" ".join(title)) or actions_of(" ".join(told)),
    )


def actions_of(folded: str) -> frozenset[str]:
    """The deeds a folded text names."""
    return frozenset(name for name, pattern in _ACTIONS.items() if pattern.search(folded))


def meaning_of(tool: Tool, embedder: Embedder) -> Meaning:
    """The meaning of a tool, from a cache."""
    details = " ".join(f"{SPACED.sub(' ', p.name)} {p.description[:200]}" for p in tool.parameters[:20])
    return _meaning_of(tool.name[:100], tool.description[:1000], details, embedder)


def tool_features(tools: Sequence[Tool], message: str, embedder: Embedder) -> Vectors:
    """The features (tools, len(TOOL_FEATURES)) of a message with at least one word."""
    bare = bare_of(message)
    words = [respell(w) for w in words_of(bare)]
    telling = [w for w in dict.fromkeys(words) if w not in STOP]
    weights = np.array([embedder.weight(w) for w in telling], np.float32) + 0.05
    word_vectors = embedder.encode_words(telling)
    vector = embedder.encode_lists([words])[0]
    concepts, stems, folded = concepts_of(words), {stem(w) for w in telling}, fold(" ".join(words))
    told = fold(message)
    meanings = [meaning_of(tool, embedder) for tool in tools]
    spread = Counter(idea for meaning in meanings for idea in meaning.concepts)
    cosines = [float(vector @ m.vector) for m in meanings]
    cover = [_coverage(word_vectors, weights, m.words) for m in meanings]
    deeds = actions_of(folded)
    personal, request = float(bool(_PERSONAL.search(told))), float(bool(_REQUEST.search(told)))
    policy, general = float(bool(_POLICY.search(told))), float(bool(_GENERAL.search(told)))
    indefinite, condition = float(bool(_INDEFINITE.search(told))), float(bool(_IF.search(told)))
    own = float(bool(_OWN.search(told)))
    vague = bool(_VAGUE_DAY.search(told))
    rows = []
    for i, (tool, meaning) in enumerate(zip(tools, meanings, strict=True)):
        shared = concepts & meaning.concepts
        given, wanted = _given(tool, message)
        number = any(kind_of(p) == "id" for p in tool.required) and "id" not in given
        days = [p for p in tool.parameters if kind_of(p) == "date"]
        alike = meaning.actions & deeds
        same = float(bool(alike))
        detail = any(kind_of(p) in ("reason", "product") and extract(p, message, asked=False) for p in tool.required)
        rows.append(
            (
                cosines[i],
                float(vector @ meaning.name_vector),
                cosines[i] - max((c for j, c in enumerate(cosines) if j != i), default=0.3),
                min(2, len(concepts & meaning.name_concepts)) / 2,
                min(2, len(shared)) / 2,
                max((1 / spread[idea] for idea in shared), default=0.0),
                min(2, len(concepts - meaning.concepts)) / 2,
                float(bool(concepts) and not shared),
                min(2, len(stems & meaning.name_stems)) / 2,
                min(3, len(stems & meaning.stems)) / 3,
                cover[i],
                cover[i] - max((c for j, c in enumerate(cover) if j != i), default=0.3),
                _coverage(meaning.name_words, np.ones(len(meaning.name_words), np.float32), word_vectors),
                len(given) / wanted if wanted else 0.0,
                float(wanted > 0 and len(given) == wanted),
                float(bool(given)),
                float(number),
                float(not tool.required),
                personal,
                request,
                policy,
                general,
                personal * number,
                policy * (not given),
                float(vague and bool(days) and "date" not in given),
                float(len(telling) < 3),
                float("?" in message),
                float(bool(deeds)),
                same,
                float(bool(deeds) and bool(meaning.actions) and not alike),
                float(detail),
                own,
                policy * same * (not given) * (not (detail and own)),
                general * same * (not given) * (not (detail and own)),
                request * same,
                own * same,
                float(bool(alike) and not any(alike & other.actions for j, other in enumerate(meanings) if j != i)),
                indefinite,
                condition,
            )
        )
    return np.array(rows, np.float32)


def _coverage(wanted: Vectors, weights: Vectors, words: Vectors) -> float:
    """How much of some words, by weight, has a near one among others."""
    if not len(wanted) or not len(words):
        return 0.0
    best = np.clip((wanted @ words.T).max(axis=1), 0, 1)
    return float(best @ weights) / float(weights.sum())


_TYPED = frozenset(
    ("email", "phone", "date", "time", "id", "code", "address", "postcode", "size", "amount", "weight", "place")
)


def _given(tool: Tool, message: str) -> tuple[list[str], int]:
    """(kinds of the required arguments of a telling type that a message holds, how many such arguments there are)."""
    typed = [p for p in tool.required if kind_of(p) in _TYPED or p.choices]
    return [kind_of(p) for p in typed if extract(p, message, asked=False) is not None], len(typed)


class Weights(NamedTuple):
    """A weight a feature and the bias of the logistic model."""

    weights: Vectors
    bias: float


@cache
def tool_weights() -> Weights:
    """The constants of calibration.json."""
    constants: dict[str, Any] = json.loads(CALIBRATION.read_text(encoding="utf-8"))
    weights = np.array([constants["tool"].get(name, 0.0) for name in TOOL_FEATURES], np.float32)
    return Weights(weights, constants["tool_bias"])


def rank(tools: Sequence[Tool], message: str, embedder: Embedder) -> list[tuple[Tool, float]]:
    """Tools with the chance, 0 to 1, that the message asks for them, best first."""
    if not tools or not words_of(message):
        return []
    constants = tool_weights()
    odds = tool_features(tools, message, embedder) @ constants.weights + constants.bias
    scored = [(tool, 1 / (1 + math.exp(-max(-30.0, min(30.0, float(o)))))) for tool, o in zip(tools, odds, strict=True)]
    scored.sort(key=lambda pair: -pair[1])
    return scored


__all__ = ["TOOL_FEATURES", "Meaning", "Tool", "Weights", "meaning_of", "rank", "tool_features", "tool_weights"]
