"""How often the extractive engine is right: quotes, refusals, tools, arguments, and what an answer costs.

    make bench NAME=answers

Two sets, never mixed: invented shops with wordings held out of all training and calibration (training/embed_data.py,
Split.TEST), and questions in natural English written by hand on two shops that nothing was tuned on
(benchmarks/data/answers_natural.json). Passages come from the assistant's own retrieval. The peer answers with the
sentence nearest by TF-IDF, at the threshold with as many refusals of answerable questions as the engine has.
"""

from __future__ import annotations

import json
import math
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.calibrate_answers import PASSAGES, Asked, from_shops, holds
from benchmarks.report import Report
from fairlead.assistant.retrieve import Index
from fairlead.engines.embed.embedder import shared
from fairlead.engines.embed.words import words_of
from fairlead.engines.extractive import phrases, protocol
from fairlead.engines.extractive.reply import Answer, respond
from fairlead.engines.extractive.tools import noun_of, read_tools
from fairlead.engines.extractive.units import cut
from training.embed_data import Split

SHOPS = 60
NATURAL = Path(__file__).parent / "data" / "answers_natural.json"
_NUMBER = re.compile(r"\d+")


@dataclass
class Tally:
    """Counts of one set of questions."""

    answerable: int = 0
    right: int = 0
    refused: int = 0
    unanswerable: int = 0
    recognised: int = 0
    strange_numbers: int = 0
    retrieved: int = 0
    wrong: list[str] = field(default_factory=list)


def wilson(hits: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927), as percentages."""
    if n == 0:
        return 0.0, 100.0
    share = hits / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return 100 * (centre - half), 100 * (centre + half)


def ask(messages: list[dict[str, str]], documents: Sequence[dict[str, str]], tools: list[dict[str, Any]]) -> Answer:
    """The engine's answer to a request, through the same reading of the body that HTTP takes."""
    request, _ = protocol.read({"messages": messages, "documents": list(documents), "tools": tools})
    return respond(request, shared())


def conversation(asked: Asked) -> list[dict[str, str]]:
    """The messages: earlier questions (answered with a plain word), then the question."""
    messages = []
    for text in asked.earlier:
        messages += [{"role": "user", "content": text}, {"role": "assistant", "content": "Let me see."}]
    return [*messages, {"role": "user", "content": asked.text}]


def judge(questions: Iterable[Asked]) -> Tally:
    """Answer every question and count."""
    tally = Tally()
    for asked in questions:
        found = ask(conversation(asked), asked.documents, [])
        said = found.act in ("answer", "complaint") and bool(found.sources)
        known = " ".join([asked.text, *asked.earlier, *(d["title"] + d["text"] for d in asked.documents)])
        tally.strange_numbers += bool(set(_NUMBER.findall(found.text)) - set(_NUMBER.findall(known)))
        if asked.right:
            tally.answerable += 1
            tally.right += said and holds(found.text, asked.right)
            tally.refused += not said
            tally.retrieved += any(holds(u.text, asked.right) for p in cut(asked.documents, shared()) for u in p.units)
            if not (said and holds(found.text, asked.right)):
                tally.wrong.append(f"{found.confidence:.2f} {asked.text} -> {found.text[:140]}")
        else:
            tally.unanswerable += 1
            tally.recognised += not said
            if said:
                tally.wrong.append(f"{found.confidence:.2f} ({asked.text}) -> {found.text[:140]}")
    return tally


def from_natural(data: dict[str, Any]) -> Iterable[Asked]:
    """The hand-written questions with the passages retrieval gives."""
    for shop in data["shops"]:
        documents = [{**d, "location": ""} for d in shop["documents"]]
        index = Index([(d["title"], d["text"]) for d in documents])
        for row in shop["questions"]:
            earlier = tuple(row.get("earlier", ()))
            order = index.rank(row["q"], previous=earlier[-1] if earlier else "")[:PASSAGES]
            yield Asked("natural", row["q"], earlier, [documents[i] for i in order], tuple(row["right"]))


# ---------------------------------------------------------------- the peer
def nearest(asked: Asked) -> tuple[str, float]:
    """The unit nearest by TF-IDF and its cosine: the plain way to quote."""
    units = [u.text for p in cut(asked.documents, shared()) for u in p.units]
    bags = [Counter(words_of(text)) for text in units]
    spread = Counter(word for bag in bags for word in bag)
    query = Counter(words_of(" ".join([*asked.earlier, asked.text])))

    def weigh(bag: Counter[str]) -> dict[str, float]:
        return {w: (1 + math.log(n)) * math.log((1 + len(bags)) / (1 + spread[w])) for w, n in bag.items()}

    wanted = weigh(query)
    norm = math.sqrt(sum(v * v for v in wanted.values())) or 1.0
    best = ("", 0.0)
    for text, bag in zip(units, bags, strict=True):
        weights = weigh(bag)
        length = math.sqrt(sum(v * v for v in weights.values())) or 1.0
        score = sum(v * weights.get(w, 0.0) for w, v in wanted.items()) / norm / length
        if score > best[1]:
            best = (text, score)
    return best


def judge_peer(questions: Sequence[Asked], refusals: float) -> tuple[float, float]:
    """(share right of the answerable, share recognised of the others) in percent, at a given share of refusals."""
    found = [(one, *nearest(one)) for one in questions]
    scores = sorted(score for one, _, score in found if one.right)
    threshold = scores[min(len(scores) - 1, int(refusals * len(scores)))] if scores else 0.0
    right = sum(score >= threshold and score > 0 and holds(text, one.right) for one, text, score in found if one.right)
    recognised = sum(score < threshold or score == 0 for one, _, score in found if not one.right)
    return 100 * right / len(scores), 100 * recognised / max(1, len(found) - len(scores))


# ---------------------------------------------------------------- tools
def judge_requests(data: dict[str, Any]) -> tuple[int, int, int, int, list[str]]:
    """(right tool or none, of, arguments or question exact, of, what went wrong) for the hand-written requests."""
    tools = data["tools"]
    parameters = {(t.name, p.name): p for t in read_tools(tools) for p in t.parameters}
    chosen = exact = calls = 0
    wrong: list[str] = []
    for row in data["requests"]:
        turns = [
            phrases.ASK.format(what=noun_of(parameters[row["tool"], t[1:]])) if t.startswith("@") else t
            for t in row["turns"]
        ]
        messages = [{"role": "assistant" if i % 2 else "user", "content": t} for i, t in enumerate(turns)]
        found = ask(messages, [], tools)
        called = found.calls[0].name if found.calls else ""
        asked_for = [
            k
            for k, p in parameters.items()
            if found.act == "ask" and found.text.endswith(phrases.ASK.format(what=noun_of(p)))
        ]
        right = (
            row["tool"] == called
            or (not called and any(row["tool"] == tool for tool, _ in asked_for))
            or (not row["tool"] and not called and not asked_for)
        )
        chosen += right
        if row["tool"]:
            calls += 1
            good = right and (
                (row["tool"], row.get("asks")) in asked_for
                if "asks" in row
                else bool(found.calls) and found.calls[0].arguments == row["arguments"]
            )
            exact += good
            right = right and good
        if not right:
            wrong.append(f"{row['turns']} -> {found.act} {found.text} {[(c.name, c.arguments) for c in found.calls]}")
    return chosen, len(data["requests"]), exact, calls, wrong


def cost(questions: Sequence[Asked]) -> tuple[float, float]:
    """CPU microseconds of a whole answer, reading the body and writing the JSON included: (new passages, seen ones)."""
    spent = []
    for mark in ("{} {}", "{}"):  # a title of its own keeps a passage out of the cache
        bodies = [
            {
                "messages": conversation(one),
                "documents": [{**d, "title": mark.format(d["title"], i)} for d in one.documents],
            }
            for i, one in enumerate(questions)
        ]
        for body in bodies if mark == "{}" else ():
            _whole(body)
        start = time.process_time_ns()
        for body in bodies:
            _whole(body)
        spent.append((time.process_time_ns() - start) / 1000 / len(bodies))
    return spent[0], spent[1]


def _whole(body: dict[str, Any]) -> bytes:
    request, options = protocol.read(body)
    return protocol.completion(protocol.shape(respond(request, shared()), body, options, "fp"), options)


def add_share(report: Report, name: str, hits: int, n: int, *, target: str = "", peer: float | None = None) -> None:
    """A share in percent with its interval."""
    low, high = wilson(hits, n)
    label = "" if peer is None else "TF-IDF sentence"
    report.add(name, 100 * hits / max(1, n), "%", n=n, low=low, high=high, peer=label, peer_value=peer, target=target)


def add_set(report: Report, name: str, tally: Tally, questions: Sequence[Asked]) -> None:
    """The figures of one set beside the peer's."""
    peer_right, peer_recognised = judge_peer(questions, tally.refused / max(1, tally.answerable))
    add_share(report, f"{name}: right answer quoted", tally.right, tally.answerable, peer=peer_right)
    add_share(report, f"{name}: refused though answerable", tally.refused, tally.answerable)
    add_share(
        report,
        f"{name}: unanswerable recognised",
        tally.recognised,
        tally.unanswerable,
        peer=peer_recognised,
    )
    add_share(report, f"{name}: answer among the retrieved passages", tally.retrieved, tally.answerable)
    total = tally.answerable + tally.unanswerable
    report.add(f"{name}: answers with a number from nowhere", tally.strange_numbers, "answers", n=total, target="<= 0")


def main() -> int:
    """Run both sets and the tools."""
    data = json.loads(NATURAL.read_text(encoding="utf-8"))
    note = "CPU time. Invented shops: wordings in no training or calibration. Natural: hand-written, two shops."
    report = Report("answers", note=note)
    shops = list(from_shops(Split.TEST, SHOPS, shared()))
    cold, warm = cost(shops[:400])
    add_set(report, "invented shops", tally := judge(shops), shops)
    natural = list(from_natural(data)) if "--no-natural" not in sys.argv else []
    wrong = tally.wrong
    if natural:
        add_set(report, "natural questions", tally := judge(natural), natural)
        wrong = tally.wrong
        chosen, n, exact, calls, mistaken = judge_requests(data)
        add_share(report, "natural requests: right tool, or rightly none", chosen, n)
        add_share(report, "natural requests: arguments exact, or the right question", exact, calls)
        wrong += mistaken
    report.add("CPU of an answer, passages not seen before", cold, "µs", n=400, target="<= 20000")
    report.add("CPU of an answer, passages in the cache", warm, "µs", n=400, target="<= 5000")
    if "--wrong" in sys.argv:
        print("\n".join(wrong))
    return report.finish()


if __name__ == "__main__":
    raise SystemExit(main())
