"""Cascade: a careful model decides what is said, a fluent one may say it better where it has proved that it can.

Both are Upstreams; so is the cascade. The careful model (``extractive``) always answers first, whole. If what it did is
a skill the fluent model holds (measured, see its card), the fluent model is given nothing but what was chosen, the
quoted text or the tool's result, and asked to put it into words. Its text replaces the draft only if it says the same:
every figure, name and number word of the draft, none besides, no other negation, no other state of things (`keeps`),
and no word it was unsure of. So the cascade never claims more than its careful half, and a failure of the fluent half
is never an error. Knows no particular model.
"""

from __future__ import annotations

import asyncio
import logging
import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import orjson

from fairlead.errors import ServiceError
from fairlead.guard import Claim, grounded
from fairlead.providers.base import Call, Reply, Upstream
from fairlead.providers.replay import events_of

log = logging.getLogger(__name__)

ANSWER = "Answer from the sources only."
"""Instruction of the fluent model for an answer; its only source is the text that the careful model quoted."""
REPORT = "Tell the customer what the sources say."
"""Instruction of the fluent model for the results of tools, which are its only sources."""
LONGEST = 900
"""Characters of the sources up to which the fluent model is asked: `mini` was trained on short prompts."""
MOST_TOKENS = 96
"""Tokens after which a wording is given up: one that fails may go on for ever."""
SURE = 0.3
"""Probability below which a single token of a wording makes it unusable."""

SKILLS: Mapping[tuple[str, bool], str] = {
    ("tool", True): "tool_result",
    ("ask", False): "ask_missing",
}
"""What the careful model did, and whether it had just received a tool's result, to the name of the skill (those that
``training/`` measures). An answer from documents is ``grounded_one`` or ``grounded_few``, by how many it quotes.

Small talk, saying "I don't know" and handing over to a person stay fixed sentences, whatever a model holds: there is
nothing to word better and nothing to check a wording against, and an embedded model that held handing over on generated
messages (149 of 150) garbled a real complaint.
"""


class Cascade:
    """Two upstreams as one. ``skills`` are those the fluent model holds; with none, the careful model answers alone."""

    def __init__(self, name: str, careful: Upstream, fluent: Upstream, skills: Iterable[str]) -> None:
        self.name = name
        self.skills = frozenset(skills)
        self._careful = careful
        self._fluent = fluent

    async def open(self, call: Call) -> Reply:
        """Answer a call; errors are those of the careful model."""
        body = {name: value for name, value in call.body.items() if name != "stream_options"} | {"stream": False}
        whole = msgspec.structs.replace(call, stream=False, body=body)
        draft = await self._careful.open(whole)
        if draft.status != 200 or draft.body is None or call.operation != "chat":
            return draft
        completion: dict[str, Any] = orjson.loads(draft.body)
        skill = skill_of(completion, call.body)
        if len(completion["choices"]) == 1 and skill in self.skills:
            completion = await self._reword(whole, completion, skill) or completion
        if not call.stream:
            return Reply(200, body=orjson.dumps(completion))
        options = call.body.get("stream_options") or {}
        return Reply(200, chunks=events_of(completion, usage=bool(options.get("include_usage"))))

    async def aclose(self) -> None:
        """Close both. Idempotent."""
        await asyncio.gather(self._careful.aclose(), self._fluent.aclose())

    async def _reword(self, call: Call, draft: dict[str, Any], skill: str) -> dict[str, Any] | None:
        """The draft in the fluent model's words; None when it fails, calls a tool, is unsure or says something else."""
        chosen = draft["choices"][0]["message"]["content"]
        asked = question_for(skill, chosen, call.body)
        if asked is None:
            return None
        try:
            reply = await self._fluent.open(msgspec.structs.replace(call, body=asked))
            if reply.status != 200 or reply.body is None:
                return None
            said = orjson.loads(reply.body)
        except (ServiceError, orjson.JSONDecodeError) as error:
            log.warning("cascade %s: the fluent model failed, the careful one answers: %s", self.name, error)
            return None
        choice = said["choices"][0]
        text = (choice["message"].get("content") or "").strip()
        if not text or choice["message"].get("tool_calls") or choice.get("finish_reason") != "stop":
            return None
        sources = [document["text"] for document in asked.get("documents", ())]
        question = text_of(asked["messages"][-1])
        if not sure(choice) or not keeps(chosen, text, sources, skill, question):
            return None
        message = {**draft["choices"][0]["message"], "content": text}
        usage = {
            name: (draft.get("usage") or {}).get(name, 0) + (said.get("usage") or {}).get(name, 0)
            for name in ("prompt_tokens", "completion_tokens", "total_tokens")
        }
        return {**draft, "choices": [{**draft["choices"][0], "message": message}], "usage": usage}


def skill_of(completion: Mapping[str, Any], body: Mapping[str, Any]) -> str:
    """The skill that the careful model's answer shows; empty when it is none that can be passed on, as a tool call."""
    message = completion["choices"][0]["message"]
    if message.get("tool_calls") or not message.get("content"):
        return ""
    last = body["messages"][-1]
    after_tool = isinstance(last, dict) and last.get("role") == "tool"
    said = message.get("fairlead") or {}
    if said.get("act") == "answer" and not after_tool:
        return "grounded_one" if len(said.get("sources", ())) == 1 else "grounded_few"
    if after_tool and (said.get("sources") or said.get("confidence") != 1.0):
        return ""  # a failure, or an answer out of documents beside the result
    return SKILLS.get((said.get("act", ""), after_tool), "")


def question_for(skill: str, draft: str, body: Mapping[str, Any]) -> dict[str, Any] | None:
    """The request to the fluent model: what was chosen and the customer's last message, in the shape it was trained on.

    A question for a missing detail keeps the conversation and the tools. None when there is too much, or when the
    careful model speaks for itself (a doubt, an apology): there the words are the message.
    """
    most = body.get("max_completion_tokens") or body.get("max_tokens") or MOST_TOKENS
    settings = {"temperature": 0, "logprobs": True, "max_tokens": min(most, MOST_TOKENS)}
    if skill == "ask_missing":
        dropped = {"documents", "max_completion_tokens"}
        return {name: value for name, value in body.items() if name not in dropped} | settings
    messages = [message for message in body["messages"] if isinstance(message, dict)]
    asked = next((text_of(m) for m in reversed(messages) if m.get("role") == "user"), "")
    texts = [draft]
    if skill == "tool_result":
        last = max((place for place, m in enumerate(messages) if m.get("role") == "user"), default=-1)
        texts = [text_of(m) for m in messages[last + 1 :] if m.get("role") == "tool"]
    if len(asked) + sum(map(len, texts)) > LONGEST or (skill != "tool_result" and _SPEAKER.search(draft)):
        return None
    kept = {"model", "stop", "user", "stream"}
    return (
        {name: value for name, value in body.items() if name in kept}
        | settings
        | {
            "messages": [
                {"role": "system", "content": REPORT if skill == "tool_result" else ANSWER},
                {"role": "user", "content": asked},
            ],
            "documents": [{"id": str(number), "text": text} for number, text in enumerate(texts, 1)],
        }
    )


def text_of(message: Mapping[str, Any]) -> str:
    """The text of a message, as JSON if it is none."""
    content = message.get("content")
    return content if isinstance(content, str) else orjson.dumps(content).decode()


def sure(choice: Mapping[str, Any]) -> bool:
    """Whether no token of a choice was improbable to its writer. A server that tells nothing is trusted."""
    tokens = (choice.get("logprobs") or {}).get("content") or ()
    return all(token.get("logprob", 0.0) >= math.log(SURE) for token in tokens)


_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")
_NAME = re.compile(r"(?<![.!?:;–\n] )(?<=[ (\"“'/])[A-Z][^\W\d_]+")
_GIVEN = re.compile(r"(?<![.!?\n] )(?<=[ (\"“'/])[A-Z][^\W\d_]+")
"""Names in a draft; one may stand behind a label (`Agent: Edith`). In a wording a capital behind a colon is none."""
_LISTED = re.compile(r"([^\W\d_]+)(?:,| and\b)|(?<=and )([^\W\d_]+)")
"""Words of an enumeration: none of them may be lost."""
_LIMITS = frozenset(
    "if when while with only unless provided except minimum maximum least most either both against".split()
)
"""Words that open a condition or a limit: a rule may not lose one."""
_MOMENTS = frozenset("until on by since from".split())
_AMOUNTS = frozenset("worth cost costs pay is fee price total".split())
_BEFORE: Mapping[str, frozenset[str]] = {
    "price": _MOMENTS - {"from", "by"}, "percent": _MOMENTS, "date": _AMOUNTS - {"is"}, "time": _AMOUNTS - {"is"},
}  # fmt: skip
_NOT = re.compile(
    r"\b(?:not|no|nor|never|none|nothing|cannot|without|unless|except)\b|n['’]t\b|\bun(?:able|available)\b"
)
_REFUSED = frozenset("sorry unfortunately taken expired already sold late".split())
_SPEAKER = re.compile(r"\b(?:I|I['’]m|I['’]ll|I['’]ve|my|My)\b")
_ASKING = frozenset(
    "could can may would you please tell me give your the what which who is are a an of for i have".split()
)
_COUNTS = frozenset(
    "two three four five six seven eight nine ten eleven twelve fifteen twenty thirty fifty hundred half quarter dozen "
    "once twice double daily weekly monthly yearly before after day days week weeks month months year years hour hours "
    "minute minutes working business calendar weekday weekend monday tuesday wednesday thursday friday saturday sunday "
    "free".split()
)
_START = 4  # letters that two forms of a word share
_NEUTRAL = frozenset(
    "a about above address again all allow also amount an and any are arrive arrives as ask at available back be "
    "been begin begins being belongs but by call can can't cannot charge charged charges code come comes contact "
    "cost costs could course date day did do does doesn't don't each expect expected fee find for from "
    "gave get gets give given gives go goes going good got had has have held here hold holds hours i i'm if in "
    "is isn't it it's item items its keep keeps kept know last lasts least leave leaves less let like long look "
    "looks made make makes may me more most my need needs new next no not number of off on one ones open or "
    "order ordered ordering orders our over paid pay pays place please possible price reach ready report right "
    "ring save saves say says see send sending sends sent set sets should so some sorry start starts suits sure "
    "take taken takes tell than thank thanks that the their them then there these they this time to total until "
    "up upwards us use used value wait waiting waits was way we welcome were what when where which who will with "
    "within worth would write yes you you've your".split()
)
_STATES = tuple(
    frozenset(group.split())
    for group in (
        "shipped sent dispatched transit", "delivered arrived", "cancelled canceled", "delayed late", "expired",
        "booked confirmed", "lost", "sold", "returned", "repaired", "ready", "preparation prepared processing progress",
    )
)  # fmt: skip


def keeps(draft: str, text: str, sources: Iterable[str], skill: str, asked: str = "") -> bool:
    """Whether ``text`` says what ``draft`` says: neither figures, names nor number words lost or added, no other
    negation, no state of an order that the sources do not name, and no word with a meaning of its own that stands
    neither there nor in what the customer asked. Knows nothing of how the words are put together.
    """
    evidence = " ".join([draft, *sources])
    if grounded(text, [evidence]) or grounded(draft, [text]):
        return False
    if skill == "ask_missing":
        wanted = frozenset(_WORD.findall(draft.casefold())) - _ASKING
        words = frozenset(_WORD.findall(text.casefold()))
        return "?" in text and wanted <= words and _understood(words, wanted)
    if any(_misplaced(text, claim) for claim in grounded(text, [])):
        return False
    known = frozenset(_WORD.findall(evidence.casefold()))
    words = frozenset(_WORD.findall(text.casefold()))
    needed = {name.casefold() for name in _GIVEN.findall(draft)}
    added = {name.casefold() for name in _NAME.findall(text)} - known
    if added or not needed <= words or not _understood(words, known | frozenset(_WORD.findall(asked.casefold()))):
        return False
    return _same_outcome(text, evidence) if skill == "tool_result" else _same_rule(draft, text)


def _same_outcome(text: str, evidence: str) -> bool:
    """Whether a tool's result told in words is neither a yes told as a no, nor the reverse, nor another state."""
    words, known = (frozenset(_WORD.findall(part.casefold())) for part in (text, evidence))
    denied = bool(_NOT.search(text.casefold())) or not words.isdisjoint(_REFUSED)
    if "false" in known and not denied:
        return False
    if denied and known.isdisjoint({"false", "not", *_REFUSED}) and " 0" not in evidence:
        return False
    return not any(words & group and not known & group for group in _STATES)


def _same_rule(draft: str, text: str) -> bool:
    """Whether an answer has the negation, limits, number words and enumerated words of the quote, and is no excuse."""
    if _SPEAKER.search(text) or bool(_NOT.search(text.casefold())) != bool(_NOT.search(draft.casefold())):
        return False
    words, drafted = (frozenset(_WORD.findall(part.casefold())) for part in (text, draft))
    listed = {name.casefold() for pair in _LISTED.findall(draft) for name in pair if name}
    return listed | (drafted & _LIMITS) <= words and words & _COUNTS == drafted & _COUNTS


def _misplaced(text: str, claim: Claim) -> bool:
    """Whether a price stands where only a date can, or a date where only a price can ("valid until 45 euros")."""
    before = _WORD.findall(text[: claim.start].casefold())
    if text[: claim.start].rstrip(" €$£(")[-1:].isdigit() or not before:
        return False
    return before[-1] in _BEFORE.get(claim.kind, ())


def _understood(words: Iterable[str], known: frozenset[str]) -> bool:
    """Whether each word is neutral or known, in another form perhaps (`delivered`, `delivery`)."""
    starts = {word[:_START] for word in known}
    return all(word in _NEUTRAL or word in known or (len(word) > _START and word[:_START] in starts) for word in words)
