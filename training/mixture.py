"""What a run reads: the documents of `generator.py` and those that only training has, in fixed shares.

The latter are the prompts of the cascade (one source, already chosen by the careful model, to be said in words), the
results of tools under many field names, and the pages and questions of hand-written shops.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

from training.generator import (
    Extra,
    ask_about,
    chat_document,
    choose,
    copy_document,
    draw_result,
    fill,
    grounded_document,
    question_document,
    refuse_turn,
    roughen,
    shared_slots,
    talk_document,
    tool_document,
    wordings_for,
)
from training.lexicon import Split, draw_shop
from training.natural_shops import Asked, Shop
from training.prompt import Document, Turn

ANSWER = "Answer from the sources only."
"""Instruction of the cascade for an answer out of documents."""
REPORT = "Tell the customer what the sources say."
"""Instruction of the cascade for the result of a tool."""

MIXTURE: Mapping[str, float] = {
    "quote": 0.22,
    "result": 0.43,
    "ask": 0.23,
    "page": 0.03,
    "talk": 0.03,
    "one": 0.03,
    "tool": 0.02,
    "question": 0.01,
}
"""Shares of the kinds of documents, by count. What lacks its texts falls to `one`. `few` (several passages), `copy`
(sentences of books) and `chat` (real conversations) can be named, too; earlier runs had them.
"""
FIRST = 0.85
"""How often the first of several wordings is what the model writes, in `quote`, `result` and `ask`: a small model that
is shown many ways to say the same is sure of none. What customers write stays as varied as it is."""
_FIELDS = 0.15  # how often a result is made of fields drawn apart


def mostly_first(rng: random.Random, wordings: Sequence[str]) -> str:
    return wordings[0] if rng.random() < FIRST else rng.choice(wordings)


def quote_document(rng: random.Random, split: Split) -> Document:
    """The cascade's prompt for an answer: the source is the sentence that answers, seldom with one or two beside it."""
    topics = wordings_for("policies", split)["topic"]
    turns: list[Turn] = []
    sentences: list[str] = []
    for topic in rng.sample(topics, 2 if rng.random() < 0.12 else 1):
        values: dict[str, str] = {}
        sentence = fill(rng, choose(rng, topic["passages"], split), values, split)
        question = ask_about(rng, topic, values, split)
        text = fill(rng, mostly_first(rng, topic["answers"]), dict(values), split)
        facts = tuple(values[slot] for slot in sorted(shared_slots(topic["answers"])) if slot in values)
        sentences.append(sentence)
        turns.append(Turn("user", question))
        turns.append(Turn("assistant", text, "grounded_one", facts, source=sentence))
    if len(turns) == 4:  # two questions in one message, both answered
        asked, told = turns[0].text + " " + turns[2].text, turns[1].text + " " + turns[3].text
        facts = turns[1].facts + turns[3].facts
        turns = [Turn("user", asked), Turn("assistant", told, "grounded_one", facts, source=" ".join(sentences))]
    elif rng.random() < 0.2:
        sentences.insert(rng.randint(0, 1), rng.choice(wordings_for("talk", split)["fillers"]))
    return Document(ANSWER, (" ".join(sentences),), (), tuple(turns))


def result_document(rng: random.Random) -> Document:
    """The cascade's prompt for a tool's result: the JSON is the source, its fields in any order."""
    tools = wordings_for("tools", "train")["tool"]
    own = [result | {"kind": kind["kind"]} for kind in tools for result in kind["results"]]
    result = rng.choice(own if rng.random() < 0.5 else wordings_for("tools", "train")["results"])
    if rng.random() < FIRST:
        result = result | {"words": result["words"][:1]}
    kinds = {kind["kind"]: kind for kind in wordings_for("tools", "train")["tool"]}
    if result["kind"] in kinds:
        kind = kinds[result["kind"]]
        question = choose(rng, kind["complete"] if rng.random() < 0.7 else kind["missing"], "train")
    else:
        calls = wordings_for("tools", "train")["messages"]
        question = rng.choice([line for one in calls if one["kind"] == result["kind"] for line in one["message"]])
    said: dict[str, str] = {}
    message = fill(rng, roughen(rng, question), said, "train")
    text, reply = draw_result(rng, result, "train", said if rng.random() < 0.6 else {})
    fields = list(json.loads(text).items())
    if rng.random() < 0.5:
        rng.shuffle(fields)
        text = json.dumps(dict(fields), ensure_ascii=False)
    return Document(REPORT, (text,), (), (Turn("user", message), reply))


def fields_document(rng: random.Random) -> Document:
    """The same with a result of fields that are drawn apart: what is learnt is to say any field."""
    fields = wordings_for("tools", "train")["fields"]
    values: dict[str, str] = {}
    found: dict[str, str] = {}
    clauses: list[str] = []
    facts: list[str] = []
    for line in rng.sample(fields["lines"], rng.choice((2, 2, 3, 3, 4))):
        keys, slot, says = line.split(": ", 2)
        if slot in values:
            continue
        values[slot] = fill(rng, slot, {}, "train")
        name = slot.strip("{}")
        found[rng.choice(keys.split("|"))] = values[slot]
        clauses.append(fill(rng, rng.choice(says.split("; ")), {name: values[slot]}, "train"))
        facts.append(values[slot])
    text = json.dumps(found, ensure_ascii=False)
    said = f"{', '.join(clauses[:-1])} and {clauses[-1]}" if len(clauses) > 1 else clauses[0]
    if rng.random() < 0.4:
        said = ". ".join(clause[0].upper() + clause[1:] for clause in clauses)
    said = f"{said[0].upper()}{said[1:]}."
    question = roughen(rng, rng.choice(fields["messages"]))
    reply = Turn("assistant", said, "tool_result", tuple(facts), source=text)
    return Document(REPORT, (text,), (), (Turn("user", question), reply))


def ask_document(rng: random.Random, split: Split, extra: Extra) -> Document:
    """A request that lacks a detail, up to the question for it: the call that follows is left to rules."""
    asks = wordings_for("tools", split)["asks"]
    while True:
        document = tool_document(rng, split, extra)
        place = next((at for at, turn in enumerate(document.turns) if turn.skill == "ask_missing"), -1)
        if place >= 0:
            break
    turns = list(document.turns[: place + 1])
    slot = next(slot for slot, ask in asks.items() if turns[place].text in ask["questions"])
    turns[place] = replace(turns[place], text=mostly_first(rng, asks[slot]["questions"]))
    return replace(document, turns=tuple(turns))


def page_document(rng: random.Random, shops: Sequence[Shop]) -> Document:
    """A question to a hand-written shop: its answer quoted from a section or from the line alone, or "I don't know"."""
    shop = rng.choice(shops)
    draw = rng.random()
    if draw < 0.2:
        return _unanswered(rng, shop)
    asked = rng.choice([one for one in shop.asked if one.unit])
    source = shop.sections[asked.section]
    if draw < 0.6 or len(source) > 900:
        source = asked.unit
    reply = Turn("assistant", asked.unit, "grounded_one", (), source=asked.unit)
    instruction = ANSWER if rng.random() < 0.6 else _instruction(rng)
    return Document(instruction, (source,), (), (Turn("user", _typed(rng, asked)), reply))


def _unanswered(rng: random.Random, shop: Shop) -> Document:
    open_questions = [one for one in shop.asked if not one.unit]
    asked = rng.choice(open_questions if open_questions and rng.random() < 0.6 else shop.asked)
    others = [text for place, text in enumerate(shop.sections) if place != asked.section and 40 < len(text) < 900]
    return Document(_instruction(rng), (rng.choice(others),), (), (Turn("user", _typed(rng, asked)), refuse_turn(rng)))


def _typed(rng: random.Random, asked: Asked) -> str:
    """As it was written by hand, now and then typed worse."""
    return roughen(rng, asked.question) if rng.random() < 0.3 else asked.question


def _instruction(rng: random.Random) -> str:
    line = choose(rng, wordings_for("talk", "train")["instructions"], "train")
    return line.replace("{shop}", draw_shop(rng, "train"))


def draw_document(rng: random.Random, split: Split, extra: Extra, mixture: Mapping[str, float] = MIXTURE) -> Document:
    """A document of a random kind. Splits other than `train` have the kinds of `generator.py` and `quote` only."""
    kind = rng.choices(list(mixture), list(mixture.values()))[0]
    if kind == "few":
        return grounded_document(rng, split, rng.choice((2, 2, 3)))
    if kind == "quote":
        return quote_document(rng, split)
    if kind == "ask":
        return ask_document(rng, split, extra)
    if kind == "tool" or (kind == "result" and split != "train"):
        return tool_document(rng, split, extra)
    if kind == "result":
        return fields_document(rng) if rng.random() < _FIELDS else result_document(rng)
    if kind == "page" and extra.shops and split == "train":
        return page_document(rng, extra.shops)
    if kind == "talk":
        passages = grounded_document(rng, split).passages if rng.random() < 0.5 else ()
        return talk_document(rng, split, extra, passages)
    if kind == "question" and extra.questions:
        return question_document(rng, split, extra)
    if kind == "copy" and extra.sentences:
        return copy_document(rng, split, extra)
    if kind == "chat" and extra.dialogues:
        return chat_document(rng, split, extra)
    return grounded_document(rng, split)
