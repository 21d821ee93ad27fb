"""What a model is asked, and the few answers that are never left to a model. Pure functions on text.

The shape of the system text is the one the embedded model `mini` is trained on (``training/prompt.py``); larger models
take it as well.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from fairlead.assistant.knowledge import Passage
from fairlead.engines.extractive.text import split_sentences

MAX_HISTORY = 8
"""Messages of a conversation that go with a question, the newest ones."""

_MARKER = re.compile(r"<\|[^|<>]{1,40}\|>|</?tool_call>|</?tool_response>|\[/?INST\]|<</?SYS>>")
_CITATION = re.compile(r"\s*\[\d{1,2}\](?=[\s.,;:!?\[]|$)")
_ROW = re.compile(r"^[^.;:]{1,60}: [^;]+;")
_BEING = (
    r"(human( being)?|person|robot|bot|chat ?bot|machine|computer|ai|a\.i\.|man|woman|program|artificial intelligence"
    r"|automated)\b(?! (who|that|which|wash\w*|learning|readable|generated))"
)
_SORT = (
    r"((really|actually|even|just|truly|honestly|maybe|only|not|some|kind of|sort of|an?|real|actual|living|live"
    r"|genuine) )*"
)
_WITH = rf"(to|with) {_SORT}({_BEING}|agent\b)"
_IS_HUMAN = re.compile(
    rf"\b((are|r) ?(you|u|yu)|(you|u) (are|r)|you[’']?re) {_SORT}{_BEING}"
    rf"|^\W*u an? {_SORT}{_BEING}"
    rf"|\b(am i|is this|is it|i'm|do i|are we) (\w+ ){{0,3}}?(talk|speak|chatt|writ)ing {_WITH}"
    rf"|^\W*do i (talk|speak|chat|write) {_WITH}"
    rf"|\bis (this|that|it) {_SORT}an? {_SORT}(\w+ )?{_BEING}"
    r"|^(\w+[, ]+){0,3}are you ((really|actually|even) )*(real|alive)\W*$|^\W*(what|who) are you\W*$"
    r"|\b(say|tell me|repeat|admit)\b.{0,20}\b(you are|you[’']?re|i am|i[’']?m) (a )?(real )?(human|person)\W*$"
    # German, French, Spanish, Italian
    r"|\b(bist du|sind sie|seid ihr|(spreche|rede|schreibe) ich (hier )?mit)( ein\w*| echte\w*| wirklich)*"
    r" (mensch\w*|roboter|bot|maschine|ki)\b"
    r"|\b([êe]tes[- ]vous|es[- ]tu|tu es|vous [êe]tes)( une?| vraiment| vraie?)*"
    r" (humaine?|personne|robot|machine|ia)\b"
    r"|\b(eres|es usted|sei|lei è)( una?| realmente| davvero)*"
    r" (human[oa]|persona|robot|uman[oa]|macchina|máquina|bot)\b",
    re.IGNORECASE,
)
_WANTS_PERSON = re.compile(
    r"\b(talk|speak|chat|connect|transfer|pass|put|hand|forward|escalate|get|give|want|need|like|let)\b.{0,40}?"
    r"\b(human( being)?|(real|actual|live) (person|human|agent)|(a|some|any|your) person|representative|operator"
    r"|human agent|live agent|customer service agent|someone (real|human|from your team)|member of staff|manager"
    r"|supervisor)\b"
    r"|^\W*(human|agent|operator|representative|real person|(a )?person)( please| pls)?\W*$",
    re.IGNORECASE | re.DOTALL,
)
_BEING_NAMED = re.compile(rf"\b({_BEING}|real|alive|mensch\w*|humain\w*|human[oa])\b", re.IGNORECASE)
_PLAIN_YES = re.compile(
    r"^\W*(yes|yeah|yep|sure|of course|certainly|absolutely|definitely|indeed|correct|right|i am|i do|i promise|ja|oui"
    r"|s[ií])\b"
    r"([\s,.!]+(i am|i'm|it is|i do|i promise|of course|indeed|absolutely|that's right|sir|madam))*\W*$",
    re.IGNORECASE,
)
_CLAIMS_HUMAN = re.compile(
    r"\b(i am|i'm|we are)( indeed| really| actually| in fact| of course| just| also| very much| here)*"
    r"( an?)?( real| actual| living| genuine)* (human( being)?|person)\b"
    r"|\byou(?:’re|'re| are) (now |indeed |really )*(talking|speaking|chatting|writing) (to|with) an? "
    r"(real |actual |living |live )*(human|person)\b"
    r"|\b(i am|i'm) (really |actually |certainly |definitely )*(not an?|no) "
    r"(ai|a\.i\.|bot|robot|machine|computer|program|chat ?bot)\b",
    re.IGNORECASE,
)


def render_prompt(instruction: str, passages: Sequence[Passage]) -> str:
    """The system text of a generative model: the project's instruction, then the passages as numbered sources.

    A table row is preceded by its heading, without which it would say little.
    """
    if not passages:
        return instruction.strip()
    lines = (f"[{number}] {_shown(passage)}" for number, passage in enumerate(passages, 1))
    return f"{instruction.strip()}\n\nSources:\n" + "\n".join(lines)


def _shown(passage: Passage) -> str:
    text = defuse(passage.text)
    return f"{defuse(passage.title.rsplit(' › ', 1)[-1])}: {text}" if _ROW.match(text) else text


def defuse(text: str) -> str:
    """``text`` without the markers models use for turns and tool calls, so that nobody outside can open one.

    Repeats until nothing is left: removing a marker may join its neighbours into a new one.
    """
    while _MARKER.search(text):
        text = _MARKER.sub("", text)
    return text


def trim_history(messages: Sequence[dict[str, Any]], most: int = MAX_HISTORY) -> list[dict[str, Any]]:
    """The newest turns of users and assistant, as plain texts; everything else in a history is left out."""
    said = [
        {"role": message["role"], "content": text}
        for message in messages
        if message.get("role") in {"user", "assistant"} and (text := text_of(message))
    ]
    return said[-most:]


def with_facts(history: list[dict[str, Any]], facts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """``history`` with the calls and results of the turn before put where they happened: before the last answer."""
    if not facts or len(history) < 3 or history[-2]["role"] != "assistant" or history[-3]["role"] != "user":
        return history
    return [*history[:-2], *facts, *history[-2:]]


def text_of(message: dict[str, Any]) -> str:
    """The text of an OpenAI message; parts that are not text are left out."""
    content = message.get("content")
    if isinstance(content, str):
        return clean(content)
    if isinstance(content, list):
        parts = [part.get("text") for part in content if isinstance(part, dict) and part.get("type") == "text"]
        return clean("\n".join(part for part in parts if isinstance(part, str)))
    return ""


def clean(text: str) -> str:
    """``text`` without what no store and no JSON takes: NUL, and halves of surrogate pairs (as a question mark)."""
    return text.replace("\x00", "").encode("utf-8", "replace").decode("utf-8")


def last_question(messages: Sequence[dict[str, Any]]) -> tuple[str, str]:
    """(the newest user message, the user message before it or "")."""
    asked = [text_of(message) for message in messages if message.get("role") == "user"]
    return (asked[-1] if asked else "", asked[-2] if len(asked) > 1 else "")


def drop_citations(text: str) -> str:
    """``text`` without ``[1]``: sources are shown apart."""
    return _CITATION.sub("", text)


def asks_if_human(text: str) -> bool:
    """Whether someone wants to know if a person or a machine answers."""
    return bool(_IS_HUMAN.search(text[:500]))


def drop_human_question(text: str) -> str:
    """``text`` without the sentences that ask whether a person answers."""
    return " ".join(sentence for sentence in split_sentences(text) if not asks_if_human(sentence))


def asks_for_person(text: str) -> bool:
    """Whether someone clearly asks to be passed on to a person."""
    return bool(_WANTS_PERSON.search(text[:500]))


def claims_to_be_human(text: str, question: str = "") -> bool:
    """Whether an answer says that a person gives it; "I am not a human" does not.

    A bare yes does where ``question`` speaks of people or bots.
    """
    if _CLAIMS_HUMAN.search(text):
        return True
    return bool(_PLAIN_YES.match(text.replace("’", "'")) and _BEING_NAMED.search(question[:500]))
