"""Requests that want a tool, or rightly none: where they come from, and how the engine deals with them.

A request is one or more messages of a customer with the tools on offer. Between the messages the engine itself
speaks, as it would in a shop. Right is: the tool called, or its missing detail asked for, or no tool where none is
meant; exact is: every argument as written (a `#` before an order number does not count), or the question for an
argument that is truly missing. Used by the benchmarks and by the calibration; knows no thresholds.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fairlead.assistant.knowledge import Knowledge
from fairlead.engines.extractive import phrases, protocol
from fairlead.engines.extractive.evidence import shared
from fairlead.engines.extractive.reply import Answer, respond
from fairlead.engines.extractive.tools import noun_of, read_tools
from training.generator import Extra, tool_document
from training.lexicon import Split
from training.prompt import CALL_END, CALL_START, Document

DATA = Path(__file__).parent / "data"
PASSAGES = 16


@dataclass(frozen=True)
class Requested:
    """What a customer wants done. ``tool`` is empty when no tool is meant."""

    source: str
    turns: tuple[str, ...]
    tools: tuple[dict[str, Any], ...]
    tool: str
    arguments: dict[str, Any] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    documents: tuple[dict[str, str], ...] = ()


@dataclass
class ToolTally:
    """Counts of a set of requests; ``wrong`` says what went wrong."""

    n: int = 0
    right: int = 0
    calls: int = 0
    exact: int = 0
    wrong: list[str] = field(default_factory=list)


def from_generator(split: Split, documents: int, seed: int = 1) -> Iterator[Requested]:
    """Requests on invented shops: complete ones, ones that lack an argument and its answer, ones no tool serves."""
    rng = random.Random(f"tools {split} {seed}")
    for _ in range(documents):
        yield from _requests_of(tool_document(rng, split, Extra()))


def _requests_of(document: Document) -> Iterator[Requested]:
    tools = tuple(tool.as_openai() for tool in document.tools)
    passages = [{"id": str(i), "title": "", "text": text, "location": ""} for i, text in enumerate(document.passages)]
    calls = [
        turn.text.removeprefix(CALL_START).removesuffix(CALL_END) for turn in document.turns if "call" in turn.skill
    ]
    call: dict[str, Any] = json.loads(calls[0]) if calls else {"name": "", "arguments": {}}
    said: list[str] = []
    for turn in document.turns:
        if turn.role == "user":
            said.append(turn.text)
        elif turn.skill == "ask_missing":
            missing = tuple(name for name, value in call["arguments"].items() if value not in " ".join(said))
            yield Requested("generated", tuple(said), tools, call["name"], {}, missing, tuple(passages))
        elif turn.skill == "tool_call" or (not calls and turn is document.turns[-1]):
            yield Requested("generated", tuple(said), tools, call["name"], call["arguments"], (), tuple(passages))


def from_file(path: Path) -> Iterator[Requested]:
    """Hand-written requests: `<shop>.tools.json` beside the pages of a shop, or a file of several shops."""
    data = json.loads(path.read_text(encoding="utf-8"))
    pages = path.with_name(path.name.replace(".tools.json", ".md"))
    knowledge = Knowledge.load([pages]) if pages != path and pages.is_file() else None
    for shop in data.get("shops", [data]):
        for row in shop["requests"]:
            earlier = tuple(row.get("earlier", ()))
            previous = earlier[-1] if earlier else ""
            found = knowledge.search(row["q"], PASSAGES, previous=previous) if knowledge else []
            yield Requested(
                path.stem,
                (*earlier, row["q"]),
                tuple(shop["tools"]),
                row["tool"] or "",
                row.get("arguments") or {},
                tuple(row.get("missing") or ()),
                tuple(passage.document() for passage in found),
            )


def from_natural() -> Iterator[Requested]:
    """The requests of `answers_natural.json`; "@name" stands there for the engine's question for an argument."""
    data = json.loads((DATA / "answers_natural.json").read_text(encoding="utf-8"))
    for row in data["requests"]:
        missing = (row["asks"],) if "asks" in row else ()
        turns = tuple(row["turns"][::2])
        yield Requested("natural", turns, tuple(data["tools"]), row["tool"], row.get("arguments", {}), missing)


def ask(messages: Sequence[dict[str, str]], documents: Sequence[dict[str, str]], tools: Sequence[Any]) -> Answer:
    """The engine's answer, through the same reading of the body that HTTP takes."""
    request, _ = protocol.read({"messages": list(messages), "documents": list(documents), "tools": list(tools)})
    return respond(request, shared())


def judge_requests(requests: Iterable[Requested]) -> ToolTally:
    """Deal with every request and count."""
    tally = ToolTally()
    for one in requests:
        messages: list[dict[str, str]] = []
        found: Answer | None = None
        for text in one.turns:
            if found is not None:
                messages.append({"role": "assistant", "content": found.text or "Done."})
            messages.append({"role": "user", "content": text})
            found = ask(messages, one.documents, one.tools)
        assert found is not None
        tally.n += 1
        right, exact = _grade(one, found)
        tally.right += right
        if one.tool:
            tally.calls += 1
            tally.exact += exact
        if not (right and (exact or not one.tool)):
            called = [(call.name, call.arguments) for call in found.calls]
            kind = "tool" if not right else "arguments"
            tally.wrong.append(
                f"{kind}: {[m['content'] for m in messages]} wants {one.tool} {one.arguments or one.missing}"
                f" -> {found.act} {found.text[:90]!r} {called}"
            )
    return tally


def _grade(one: Requested, found: Answer) -> tuple[bool, bool]:
    """(whether the right tool was meant, whether its arguments or the question for one were exact)."""
    asked = [
        (tool.name, parameter.name)
        for tool in read_tools(one.tools)
        for parameter in tool.parameters
        if found.act == "ask" and phrases.ASK.format(what=noun_of(parameter)).casefold() in found.text.casefold()
    ]
    called = found.calls[0] if found.calls else None
    if not one.tool:
        return called is None and found.act != "ask", False
    right = (called is not None and called.name == one.tool) or any(tool == one.tool for tool, _ in asked)
    if one.missing:
        return right, any(tool == one.tool and name in one.missing for tool, name in asked)
    return right, called is not None and called.name == one.tool and _plain(called.arguments) == _plain(one.arguments)


def _plain(arguments: dict[str, Any]) -> dict[str, Any]:
    return {name: value.lstrip("#") if isinstance(value, str) else value for name, value in arguments.items()}
