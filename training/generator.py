"""Invented shops and their conversations: what `mini` learns its skills from and is measured on.

Every document is a pure function of a random source, a split and the corpus texts handed in, so a block of training
data is reproduced from its number alone. Knows nothing of tokens or torch.
"""

from __future__ import annotations

import json
import random
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from training.lexicon import Split, draw_shop, fill_slot, pick_wording, split_wordings
from training.natural_shops import Shop
from training.prompt import Argument, Document, Tool, Turn, call_text

WORDINGS = Path(__file__).with_name("wordings")
_SLOT = re.compile(r"\{(\w+)\}")
_CONTEXT = 0.2  # how often a sentence without a question stands before one, in training
_SHARED_ITEM = 0.4  # how often the sentences of one passage speak of the same product


@dataclass(frozen=True)
class Extra:
    """Texts of the public corpora, already chosen and cleaned by `corpus.py`; empty without FAIRLEAD_DATA."""

    messages: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Customer messages by purpose: a kind of tool, `hand_off` or `complaint`."""
    questions: Sequence[Sequence[tuple[str, str]]] = ()
    """Groups of (question, answer) about one place: real frequently asked questions."""
    small_talk: Sequence[tuple[str, str]] = ()
    dialogues: Sequence[Sequence[tuple[str, str]]] = ()
    """Whole conversations as (role, text)."""
    sentences: Sequence[str] = ()
    """Prose sentences for copying practice."""
    shops: Sequence[Shop] = ()
    """Hand-written shops that may train weights; they lie in the repository, not in FAIRLEAD_DATA."""


@dataclass(frozen=True)
class _Fact:
    """A topic with its values: one sentence of a passage and what may be asked about it."""

    topic: Mapping[str, Any]
    sentence: str
    values: dict[str, str]


def _lines(block: str) -> list[str]:
    return [line.strip() for line in block.strip().splitlines() if line.strip()]


@cache
def load_wordings(name: str) -> dict[str, Any]:
    """A file of wordings with its blocks split into lines."""

    def split_blocks(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: split_blocks(value) for key, value in node.items()}
        if isinstance(node, list):
            return [split_blocks(value) for value in node]
        return _lines(node) if isinstance(node, str) and "\n" in node else node

    with (WORDINGS / f"{name}.toml").open("rb") as file:
        return {key: split_blocks(value) for key, value in tomllib.load(file).items()}


@cache
def wordings_for(name: str, split: Split) -> dict[str, Any]:
    """The wordings a split draws from: evaluation those of the file `name` alone, training also those added later.

    Added wordings are never held out and never evaluated, so that figures before and after them stay comparable.
    """
    base = load_wordings(name)
    if split != "train":
        return base
    more = load_wordings("more_tools" if name == "tools" else "more")
    if name == "policies":
        known = {topic["name"]: topic for topic in more["topic"]}
        joined = [_widen(topic, known.get(topic["name"], {})) for topic in base["topic"]]
        names = {topic["name"] for topic in base["topic"]}
        return base | {"topic": joined + [_fresh(topic) for topic in more["topic"] if topic["name"] not in names]}
    if name == "tools":
        kinds = [_widen(kind, more["requests"].get(kind["kind"], {})) for kind in base["tool"]]
        asks = {
            slot: ask | {"questions": [*ask["questions"], *more["asks"][slot]]} for slot, ask in base["asks"].items()
        }
        given = {slot: Wide(split_wordings(lines)[0] + more["given"][slot]) for slot, lines in base["given"].items()}
        return base | {
            "tool": kinds,
            "asks": asks,
            "given": given,
            "results": more["result"],
            "messages": more["ask_call"],
            "fields": more["fields"],
        }
    instructions = Wide(split_wordings(base["instructions"])[0] + more["talk"]["instructions"])
    fillers = base["fillers"] + more["talk"]["fillers"]
    return base | {"instructions": instructions, "fillers": fillers, "contexts": more["talk"]["contexts"]}


class Wide(list[str]):
    """Wordings all of which may be trained on: those held out are already gone."""


def _fresh(topic: Mapping[str, Any]) -> dict[str, Any]:
    return {key: Wide(value) if isinstance(value, list) else value for key, value in topic.items()}


def _widen(entry: Mapping[str, Any], more: Mapping[str, Any]) -> dict[str, Any]:
    """`entry` without its held-out wordings and with those of `more`; answers and results are never held out."""
    widened = dict(entry)
    for part, lines in more.items():
        if part == "answers":
            widened[part] = [*entry[part], *lines]
        elif isinstance(lines, list):
            widened[part] = Wide(split_wordings(entry[part])[0] + lines)
    return widened


def choose(rng: random.Random, wordings: Sequence[str], split: Split) -> str:
    """One of the wordings that `split` may see."""
    return rng.choice(wordings) if isinstance(wordings, Wide) else pick_wording(rng, wordings, split)


def fill(rng: random.Random, template: str, values: dict[str, str], split: Split) -> str:
    """`template` with its slots filled; new values are added to `values`, so that the same slot repeats."""

    def value(match: re.Match[str]) -> str:
        slot = match.group(1)
        if slot not in values:
            values[slot] = fill_slot(rng, slot, split)
        return values[slot]

    return _SLOT.sub(value, template)


def roughen(rng: random.Random, template: str) -> str:
    """A customer's way of typing: lower case, lost punctuation, slips. Slots stay whole, so apply it before `fill`."""
    openers = load_wordings("talk")["openers"]
    if rng.random() < 0.12:
        template = f"{rng.choice(openers['before'])} {template[0].lower()}{template[1:]}"
    if rng.random() < 0.3:
        template = template.rstrip("?.!,")
    if rng.random() < 0.1:
        template = f"{template}{' ' if template[-1] in '?.!}' else ', '}{rng.choice(openers['after'])}"
    if rng.random() < 0.3:
        template = template.lower()
    if rng.random() < 0.05:
        template = re.sub(r"\byou\b", "u", template)
    if rng.random() < 0.12:
        words = template.split(" ")
        places = [i for i, word in enumerate(words) if len(word) > 3 and word.isalpha()]
        if places:
            place = rng.choice(places)
            words[place] = _slip(rng, words[place])
            template = " ".join(words)
    return template


def _slip(rng: random.Random, word: str) -> str:
    at = rng.randrange(1, len(word) - 1)
    kind = rng.randrange(3)
    if kind == 0:
        return word[:at] + word[at + 1 :]
    if kind == 1:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return word[:at] + word[at] + word[at:]


def _instruction(rng: random.Random, shop: str, split: Split) -> str:
    return choose(rng, wordings_for("talk", split)["instructions"], split).replace("{shop}", shop)


def refuse_turn(rng: random.Random) -> Turn:
    refusal = rng.choice(load_wordings("talk")["refusals"])
    return Turn("assistant", refusal, "refuse", accept="don't know|no information|do not say")


# --- grounded answers -------------------------------------------------------------------------------------------------


def _draw_fact(rng: random.Random, topic: Mapping[str, Any], split: Split, shared: dict[str, str]) -> _Fact:
    values = dict(shared)
    sentence = fill(rng, choose(rng, topic["passages"], split), values, split)
    return _Fact(topic, sentence, values)


def _passage(rng: random.Random, facts: Sequence[_Fact], split: Split) -> str:
    sentences = [fact.sentence for fact in facts]
    if rng.random() < 0.3:
        sentences.insert(rng.randint(0, len(sentences)), rng.choice(wordings_for("talk", split)["fillers"]))
    text = " ".join(sentences)
    if rng.random() < 0.2:
        text = f"{rng.choice(facts).topic['name'].capitalize()}: {text}"
    return text


def shared_slots(templates: Sequence[str]) -> set[str]:
    """Slots that every one of the templates uses."""
    return set.intersection(*(set(_SLOT.findall(template)) for template in templates))


def _answer(rng: random.Random, fact: _Fact, split: Split, skill: str) -> Turn:
    """Mostly the sentence of the source itself, otherwise a short wording of it."""
    answers = fact.topic["answers"]
    facts = tuple(fact.values[slot] for slot in sorted(shared_slots(answers)) if slot in fact.values)
    text = fact.sentence if rng.random() < 0.6 else fill(rng, rng.choice(answers), dict(fact.values), split)
    return Turn("assistant", text, skill, facts, source=fact.sentence)


def ask_about(rng: random.Random, topic: Mapping[str, Any], values: Mapping[str, str], split: Split) -> str:
    """A customer's question about a topic; in training now and then with a sentence before it that asks nothing."""
    contexts = wordings_for("talk", split).get("contexts", ())
    question = roughen(rng, choose(rng, topic["questions"], split))
    if contexts and rng.random() < _CONTEXT:
        question = f"{roughen(rng, rng.choice(contexts))} {question}"
    return fill(rng, question, dict(values), split)


def grounded_document(rng: random.Random, split: Split, passages: int = 1) -> Document:
    """Questions about the facts of `passages` passages, now and then one that they do not answer."""
    shop = draw_shop(rng, split)
    topics = wordings_for("policies", split)["topic"]
    count = rng.choice((1, 1, 2, 2, 3, 4)) if passages == 1 else passages + rng.randint(0, 2)
    chosen = rng.sample(topics, count + 1)
    shared: dict[str, str] = {}
    if rng.random() < _SHARED_ITEM:
        shared["item"] = fill_slot(rng, "item", split)
    facts = [_draw_fact(rng, topic, split, shared) for topic in chosen[:count]]
    texts = [_passage(rng, facts[place::passages], split) for place in range(passages)]
    skill = "grounded_one" if passages == 1 else "grounded_few"
    turns: list[Turn] = []
    for fact in rng.sample(facts, len(facts)):
        question = ask_about(rng, fact.topic, fact.values, split)
        turns += [Turn("user", question), _answer(rng, fact, split, skill)]
    if rng.random() < 0.3:
        question = ask_about(rng, chosen[-1], shared, split)
        place = 2 * rng.randint(0, len(turns) // 2)
        turns[place:place] = [Turn("user", question), refuse_turn(rng)]
    turns = _with_small_talk(rng, turns, shop, split)
    tools: tuple[Tool, ...] = ()
    if rng.random() < 0.12:
        tools = (_build_tool(rng, rng.choice(wordings_for("tools", split)["tool"]), split)[0],)
    return Document(_instruction(rng, shop, split), tuple(texts), tools, tuple(turns))


def question_document(rng: random.Random, split: Split, extra: Extra) -> Document:
    """Real questions and answers: the answers of one place are the passages, the right one is the reply."""
    group = rng.choice(extra.questions)
    chosen = rng.sample(list(group), min(len(group), rng.randint(2, 4)))
    answers = [answer for _, answer in chosen]
    texts = (" ".join(answers),) if rng.random() < 0.5 else tuple(answers)
    turns: list[Turn] = []
    for question, answer in rng.sample(chosen, min(2, len(chosen))):
        turns += [Turn("user", roughen(rng, question)), Turn("assistant", answer)]
    return Document(_instruction(rng, draw_shop(rng, split), split), texts, (), tuple(turns))


def copy_document(rng: random.Random, split: Split, extra: Extra) -> Document:
    """Practice in finding and copying: a few words of a sentence are the question, the sentence is the answer."""
    sentences = rng.sample(list(extra.sentences), rng.randint(2, 4))
    turns: list[Turn] = []
    for sentence in rng.sample(sentences, rng.randint(1, 2)):
        words = sentence.split()
        start = rng.randrange(max(1, len(words) - 4))
        turns += [Turn("user", " ".join(words[start : start + rng.randint(3, 4)])), Turn("assistant", sentence)]
    return Document("Answer with the sentence of the source that fits.", (" ".join(sentences),), (), tuple(turns))


# --- small talk and hand-off ------------------------------------------------------------------------------------------


def _small_talk(rng: random.Random, shop: str, split: Split, kinds: Sequence[str] = ()) -> list[Turn]:
    kind = rng.choice([talk for talk in load_wordings("talk")["talk"] if not kinds or talk["name"] in kinds])
    message = roughen(rng, pick_wording(rng, kind["messages"], split)).replace("{shop}", shop)
    reply = rng.choice(kind["replies"]).replace("{shop}", shop)
    return [Turn("user", message), Turn("assistant", reply, "small_talk", accept=kind["accept"])]


def _hand_off(rng: random.Random, shop: str, split: Split, extra: Extra) -> list[Turn]:
    words = load_wordings("talk")["handoff"]
    kind, replies = rng.choice((("requests", "request_replies"), ("complaints", "complaint_replies")))
    real = extra.messages.get("hand_off" if kind == "requests" else "complaint", ())
    if real and rng.random() < 0.5:
        message = pick_wording(rng, real, split)
    else:
        message = fill(rng, roughen(rng, pick_wording(rng, words[kind], split)), {"shop": shop}, split)
    return [
        Turn("user", message),
        Turn("assistant", rng.choice(words[replies]), "hand_off", accept=words["accept"]),
    ]


def _with_small_talk(rng: random.Random, turns: list[Turn], shop: str, split: Split) -> list[Turn]:
    if rng.random() < 0.12:
        turns = _small_talk(rng, shop, split, ("greeting", "identity", "ability", "feeling")) + turns
    if rng.random() < 0.12:
        turns = turns + _small_talk(rng, shop, split, ("thanks", "goodbye", "praise"))
    return turns


def talk_document(rng: random.Random, split: Split, extra: Extra, passages: Sequence[str] = ()) -> Document:
    """Small talk and complaints, with or without sources at hand."""
    shop = draw_shop(rng, split)
    turns = _small_talk(rng, shop, split)
    for _ in range(rng.randint(0, 2)):
        turns += _small_talk(rng, shop, split) if rng.random() < 0.4 else _hand_off(rng, shop, split, extra)
    return Document(_instruction(rng, shop, split), tuple(passages), (), tuple(turns))


def chat_document(rng: random.Random, split: Split, extra: Extra) -> Document:
    """A piece of a real conversation, for the language alone."""
    instruction = "You talk with people in a friendly way."
    if extra.small_talk and rng.random() < 0.4:
        message, reply = rng.choice(extra.small_talk)
        return Document(instruction, turns=(Turn("user", message), Turn("assistant", reply)))
    dialogue = rng.choice(extra.dialogues)
    start = 2 * rng.randrange(max(1, len(dialogue) // 2 - 2))
    turns = (Turn("user" if role == "user" else "assistant", text) for role, text in dialogue[start : start + 6])
    return Document(instruction, turns=tuple(turns))


# --- tools ------------------------------------------------------------------------------------------------------------


def _build_tool(rng: random.Random, kind: Mapping[str, Any], split: Split) -> tuple[Tool, dict[str, str]]:
    """A tool of this kind with names of its own, and the argument name for each slot."""
    names = kind["names"].split()
    trained, held_out = split_wordings(names)
    name = rng.choice(held_out if split != "train" else trained)
    arguments = {slot: rng.choice(words.split()) for slot, words in kind["arguments"].items()}
    description = pick_wording(rng, kind["descriptions"], split)
    return Tool(name, description, tuple(Argument(argument) for argument in arguments.values())), arguments


def _tool_call(tool: Tool, arguments: Mapping[str, str], values: Mapping[str, str]) -> Turn:
    text = call_text(tool.name, {argument: values[slot] for slot, argument in arguments.items()})
    return Turn("assistant", text, "tool_call")


def _tool_result(rng: random.Random, kind: Mapping[str, Any], split: Split) -> list[Turn]:
    if rng.random() < 0.12:
        failure = load_wordings("tools")["failure"]
        reply = Turn("assistant", rng.choice(failure["words"]), "tool_result", accept=failure["accept"])
        return [Turn("tool", rng.choice(failure["results"])), reply]
    more = wordings_for("tools", split).get("results", ())
    own = [result for result in more if result["kind"] == kind["kind"]]
    text, reply = draw_result(rng, rng.choice([*kind["results"], *own]), split)
    return [Turn("tool", text), reply]


_KEYS = re.compile(r'"(\w+(?:\|\w+)+)":')


def draw_result(
    rng: random.Random, result: Mapping[str, Any], split: Split, given: Mapping[str, str] | None = None
) -> tuple[str, Turn]:
    """The JSON of a tool's result and its wording; `given` are values it must use. A key `a|b` takes either name."""
    template = _KEYS.sub(lambda match: f'"{rng.choice(match.group(1).split("|"))}":', result["json"])
    values: dict[str, str] = dict(given or {})
    text = json.dumps(json.loads(fill(rng, template, values, split)), ensure_ascii=False)
    facts = tuple(values[slot] for slot in sorted(shared_slots(result["words"])))
    words = fill(rng, rng.choice(result["words"]), values, split)
    return text, Turn("assistant", words, "tool_result", facts, source=text)


def tool_document(rng: random.Random, split: Split, extra: Extra) -> Document:
    """A request for one of the listed tools: complete, with an argument missing, or one that no tool serves."""
    shop = draw_shop(rng, split)
    tools = wordings_for("tools", split)
    kinds = rng.sample(tools["tool"], rng.choice((1, 1, 1, 2, 2, 3)))
    built = [_build_tool(rng, kind, split) for kind in kinds]
    kind, (tool, arguments) = kinds[0], built[0]
    listed = [one for one, _ in built]
    rng.shuffle(listed)
    values: dict[str, str] = {}
    draw = rng.random()
    if draw < 0.1:
        others = [other for other in tools["tool"] if other not in kinds]
        message = fill(rng, roughen(rng, choose(rng, rng.choice(others)["complete"], split)), values, split)
        turns = [Turn("user", message), refuse_turn(rng)]
    elif draw < 0.5:
        real = extra.messages.get(f"{kind['kind']} complete", ())
        real = real if rng.random() < 0.3 else ()
        template = pick_wording(rng, real, split) if real else roughen(rng, choose(rng, kind["complete"], split))
        turns = [Turn("user", fill(rng, template, values, split)), _tool_call(tool, arguments, values)]
        turns += _tool_result(rng, kind, split)
    else:
        turns = _missing_argument(rng, kind, values, split, extra)
        turns.append(_tool_call(tool, arguments, values))
        turns += _tool_result(rng, kind, split)
    passages = grounded_document(rng, split).passages if rng.random() < 0.15 else ()
    turns = _with_small_talk(rng, turns, shop, split)
    return Document(_instruction(rng, shop, split), passages, tuple(listed), tuple(turns))


def _missing_argument(
    rng: random.Random, kind: Mapping[str, Any], values: dict[str, str], split: Split, extra: Extra
) -> list[Turn]:
    """A request that lacks one argument, the question for it, and the customer's answer."""
    tools = wordings_for("tools", split)
    real = extra.messages.get(kind["kind"], ())
    slots = list(kind["arguments"])
    if real and len(slots) == 1 and rng.random() < 0.4:
        message = pick_wording(rng, real, split)
    else:
        message = fill(rng, roughen(rng, choose(rng, kind["missing"], split)), values, split)
    slot = next(name for name in slots if name in tools["asks"] and name not in values)
    ask = tools["asks"][slot]
    given = fill(rng, roughen(rng, choose(rng, tools["given"][slot], split)), values, split)
    return [
        Turn("user", message),
        Turn("assistant", rng.choice(ask["questions"]), "ask_missing", accept=ask["words"]),
        Turn("user", given),
    ]


# --- evaluation ------------------------------------------------------------------------------------------------------


def unseen_result_document(rng: random.Random) -> Document:
    """The result of a kind of tool that training never sees, right after the customer's message and the call."""
    result = rng.choice(load_wordings("results_held_out")["result"])
    values: dict[str, str] = {}
    text = fill(rng, result["json"], values, "wordings")
    call = Turn("assistant", call_text("look_up", {"question": result["message"]}))
    reply = Turn("assistant", text, "tool_result", tuple(values.values()), source=text)
    tool = Tool("look_up", "Look something up", (Argument("question"),))
    turns = (Turn("user", result["message"]), call, Turn("tool", text), reply)
    return Document(_instruction(rng, draw_shop(rng, "wordings"), "wordings"), (), (tool,), turns)


def draw_cases(skill: str, count: int, split: Split, seed: int, extra: Extra) -> list[tuple[Document, int]]:
    """`count` documents with the place of one assistant turn that shows `skill`."""
    rng = random.Random(f"{skill} {split} {seed}")
    makers = {
        "grounded_one": lambda: grounded_document(rng, split),
        "grounded_few": lambda: grounded_document(rng, split, rng.choice((2, 2, 3))),
        "refuse": lambda: grounded_document(rng, split),
        "ask_missing": lambda: tool_document(rng, split, extra),
        "tool_call": lambda: tool_document(rng, split, extra),
        "tool_result": lambda: tool_document(rng, split, extra),
        "small_talk": lambda: talk_document(rng, split, extra),
        "hand_off": lambda: talk_document(rng, split, extra),
    }
    cases: list[tuple[Document, int]] = []
    while len(cases) < count:
        document = makers[skill]()
        places = [place for place, turn in enumerate(document.turns) if turn.skill == skill]
        if places:
            cases.append((document, rng.choice(places)))
    return cases


SKILLS = ("grounded_one", "grounded_few", "refuse", "ask_missing", "tool_call", "tool_result", "small_talk", "hand_off")
