"""The reference shop's questions, and whether a ranking or an answer is right. Used by benchmarks and tests alike."""

from __future__ import annotations

import importlib.util
from datetime import date
from pathlib import Path
from typing import Any

import msgspec

from fairlead.assistant import Answer, Assistant, Knowledge

SHOP = Path(__file__).parents[1] / "examples" / "shop"
DAY = date(2026, 11, 20)
"""The day that the shop is pinned to where answers must repeat (SHOP_TODAY)."""


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """A line of questions.jsonl. ``source`` is the section that answers, ``facts`` must all stand in the answer.

    A fact may be written as ``a|b``: either will do.
    """

    id: str
    question: str
    expect: str
    tags: list[str]
    previous: str = ""
    facts: list[str] = []
    source: str = ""
    tool: str = ""
    arguments: dict[str, Any] = {}

    @property
    def kind(self) -> str:
        """What it tests: answer, follow-up, unanswerable, tool or ask."""
        return "follow-up" if self.previous else self.expect


def read_questions() -> list[Question]:
    """All questions of the shop."""
    lines = (SHOP / "data" / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    return [msgspec.json.decode(line, type=Question) for line in lines]


def make_orders(path: Path, day: date = DAY) -> None:
    """Write the shop's orders as of a day to ``path``."""
    found = importlib.util.spec_from_file_location("make_orders", SHOP / "make_orders.py")
    assert found is not None
    assert found.loader is not None
    maker = importlib.util.module_from_spec(found)
    found.loader.exec_module(maker)
    maker.main(path, day)


def states(text: str, fact: str) -> bool:
    """Whether a text states a fact, in one of its forms, whatever the case of the letters."""
    return any(form.lower() in text.lower() for form in fact.split("|"))


def place_of(question: Question, ranked: list[int], knowledge: Knowledge) -> int | None:
    """The place (from 0) of the first passage of the right section that states one of the facts."""
    for place, number in enumerate(ranked):
        passage = knowledge.passages[number]
        if passage.location == question.source and any(states(passage.text, fact) for fact in question.facts):
            return place
    return None


async def ask(assistant: Assistant, question: Question, variant: str | None = None) -> Answer:
    """The answer to a question, after the question before it where there is one."""
    messages = []
    if question.previous:
        first = await assistant.ask(question.previous, variant=variant)
        messages = [{"role": "user", "content": question.previous}, {"role": "assistant", "content": first.text}]
    return await assistant.answer([*messages, {"role": "user", "content": question.question}], variant=variant)


def is_right(question: Question, answer: Answer) -> bool:
    """Whether an answer is what the question expects: every fact, or an honest "I don't know"."""
    if question.expect == "unanswerable":
        return answer.act in {"unknown", "handoff"} or (not answer.sources and answer.act != "tool")
    stated = all(states(answer.text, fact) for fact in question.facts)
    return stated and (question.expect != "ask" or answer.act == "ask")


__all__ = ["DAY", "SHOP", "Question", "ask", "is_right", "make_orders", "place_of", "read_questions"]
