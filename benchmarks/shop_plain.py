"""Plain questions on the example shop, its tools on offer: what is right, refused, recognised, and where it is lost.

    python -m benchmarks.shop_plain              # the development set data/shop_plain.json, its misses listed
    python -m benchmarks.shop_plain --natural    # the same of the natural shops of the calibration

Every question goes the way it goes in the engine. What is not right is lost in one place: among the passages that
retrieval gave, among the units that the scorer reads, in the choice of the quote, at the threshold, or to a tool.
Development data, which is read: no figure here says how well an unknown shop is served (that is `benchmarks/shop.py`).
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from benchmarks.answers import add_share, conversation
from benchmarks.calibrate_answers import NATURAL_SHOPS, Asked, from_blocks, from_folder, from_pages, holds, which_right
from benchmarks.report import Report
from benchmarks.shop_questions import SHOP
from benchmarks.tool_requests import ask
from fairlead.assistant import Tools
from fairlead.engines.extractive.acts import strip_greeting
from fairlead.engines.extractive.evidence import MOST_READ, match, shared
from fairlead.engines.extractive.question import readings
from fairlead.engines.extractive.reply import Answer
from fairlead.engines.extractive.tools import plan, read_tools
from fairlead.engines.extractive.units import cut

PLAIN = Path(__file__).parent / "data" / "shop_plain.json"
Served = tuple[Asked, tuple[str, ...]]
Where = Literal["right", "passages", "reading", "choice", "threshold", "tool", "small talk"]


@dataclass(frozen=True)
class Outcome:
    """A question, what was said to it, and where the right answer was lost. ``where`` is "right" where it was not."""

    asked: Asked
    said: Answer
    where: Where


def read_plain() -> tuple[list[Served], list[Served]]:
    """The questions, each with the tools that serve as well as its page, and the requests with those they want."""
    data = json.loads(PLAIN.read_text(encoding="utf-8"))
    tools = tuple(Tools.load([SHOP / "tools.py"]).schemas)

    def served(rows: list[dict[str, Any]], key: str) -> list[Served]:
        asked = from_pages("plain", [{"right": [], **row} for row in rows], SHOP / "knowledge")
        return [
            (replace(one, tools=tools), tuple(row.get(key, "").split("|")))
            for one, row in zip(asked, rows, strict=True)
        ]

    return served(data["questions"], "or"), served(data["requests"], "tool")


def tool_of(one: Asked, said: Answer) -> str:
    """The tool that an answer calls or asks a detail for, empty when it does neither."""
    if said.calls:
        return said.calls[0].name
    turns = [(message["role"], message["content"]) for message in conversation(one)]
    going = plan(read_tools(one.tools), turns, shared()) if said.act == "ask" else None
    return going.tool.name if going else ""


def follow(asked: Asked, serves: Sequence[str] = ()) -> Outcome:
    """Answer a question and say where the right answer was lost."""
    said = ask(conversation(asked), asked.documents, asked.tools)
    return Outcome(asked, said, _where(asked, said, serves))


def _where(asked: Asked, said: Answer, serves: Sequence[str]) -> Where:
    answered = said.act in ("answer", "complaint") and bool(said.sources)
    used = said.act in ("ask", "tool")
    if not asked.right:
        return "right" if not answered and not used else "tool" if used else "threshold"
    if used:
        return "right" if tool_of(asked, said) in serves else "tool"
    if answered and holds(said.text, asked.right):
        return "right"
    if said.act not in ("answer", "complaint", "unknown"):
        return "small talk"
    passages = cut(asked.documents, shared().embedder)
    units = [unit for passage in passages for unit in passage.units]
    if not which_right(units, asked.right).any():
        return "passages"
    ranked = [match(way, passages, shared()) for way in readings(strip_greeting(asked.text), asked.earlier)]
    read = [m.unit for some in ranked for m in some[:MOST_READ]]
    if not which_right(read, asked.right).any():
        return "reading"
    return "choice" if answered else "threshold"


def main() -> int:
    """Print the figures, then what is not right."""
    if "--natural" in sys.argv:
        outcomes = [follow(one) for one in (*from_folder(NATURAL_SHOPS, "calibration"), *from_blocks())]
        report = Report("shop_natural", note="Natural shops of the calibration: fitted on, so they flatter.")
        add_outcomes(report, outcomes)
        return report.finish()
    report = Report("shop_plain", note="A development set on the example shop, read while mending, not held out.")
    questions, requests = read_plain()
    outcomes = [follow(one, serves) for one, serves in questions]
    add_outcomes(report, outcomes)
    for one in outcomes:
        if one.where != "right":
            print(f"{one.where}: {_told(one.asked, one.said)}")
    right = 0
    for asked, wanted in requests:
        said = follow(asked).said
        good = tool_of(asked, said) in wanted
        right += good
        if not good:
            print(f"wants {'|'.join(wanted)}: {_told(asked, said)}")
    add_share(report, "right tool", right, len(requests))
    return report.finish()


def _told(asked: Asked, said: Answer) -> str:
    name = " / ".join([*asked.earlier, asked.text])
    return f"{name} {list(asked.right)} -> {said.confidence:.2f} {said.act} {tool_of(asked, said)} {said.text[:240]!r}"


def add_outcomes(report: Report, outcomes: Sequence[Outcome]) -> None:
    """The shares, and of the questions that a page answers where they were lost."""
    there = [one for one in outcomes if one.asked.right]
    absent = [one for one in outcomes if not one.asked.right]
    add_share(report, "right answer", sum(one.where == "right" for one in there), len(there))
    add_share(report, "refused though answerable", sum(one.said.act == "unknown" for one in there), len(there))
    add_share(report, "unanswerable recognised", sum(one.where == "right" for one in absent), len(absent))
    for where, count in sorted(Counter(one.where for one in there if one.where != "right").items()):
        add_share(report, f"lost: {where}", count, len(there))
    add_share(report, "unanswerable given to a tool", sum(one.where == "tool" for one in absent), len(absent))


if __name__ == "__main__":
    raise SystemExit(main())
