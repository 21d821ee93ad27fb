"""How often the extractive engine quotes the right answer, refuses, and knows what it does not know.

    make bench NAME=answers                          # the development questions; their misses may be read (--wrong)
    python -m benchmarks.answers FOLDER              # natural shops of a folder: totals only

Passages come from the assistant's own retrieval. The tests, which nobody who works on the engine reads, are run by
`benchmarks/shop.py`; this module holds the judging that both share. The peer answers with the sentence nearest by
TF-IDF, at the threshold with as many refusals of answerable questions as the engine has.
"""

from __future__ import annotations

import math
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.calibrate_answers import Asked, from_folder, from_hand, from_natural, from_shops, holds
from benchmarks.report import Report
from benchmarks.tool_requests import ask
from fairlead.engines.embed.words import words_of
from fairlead.engines.extractive import protocol
from fairlead.engines.extractive.evidence import shared
from fairlead.engines.extractive.reply import respond
from fairlead.engines.extractive.units import cut
from fairlead.spec.power import share_interval
from training.embed_data import Split

_NUMBER = re.compile(r"\d+")
_FIGURE = re.compile(
    r"[€£$]\s?\d[\d.,]*\d|\d[\d.,]*\s?(?:€|£|\$|%)|\d{1,2}[:.]\d{2}"
    r"|\b\d{1,2} (?:January|February|March|April|May|June|July|August|September|October|November|December)\b"
)


@dataclass
class Tally:
    """Counts of one set of questions."""

    answerable: int = 0
    right: int = 0
    refused: int = 0
    unanswerable: int = 0
    recognised: int = 0
    strange: int = 0
    retrieved: int = 0
    characters: int = 0
    answered: int = 0
    wrong: list[str] = field(default_factory=list)


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
        found = ask(conversation(asked), asked.documents, asked.tools)
        said = found.act in ("answer", "complaint") and bool(found.sources)
        tally.strange += states_strange(found.text, asked)
        tally.characters += len(found.text) * said
        tally.answered += said
        if asked.right:
            good = said and holds(found.text, asked.right)
            tally.answerable += 1
            tally.right += good
            tally.refused += not said
            units = [u.text for p in cut(asked.documents, shared().embedder) for u in p.units]
            tally.retrieved += all(any(holds(text, (part,)) for text in units) for part in asked.right)
        else:
            good = not said
            tally.unanswerable += 1
            tally.recognised += good
        if not good:
            name = asked.text if asked.right else f"({asked.text})"
            tally.wrong.append(f"{found.confidence:.2f} {' / '.join(asked.earlier)} {name} -> {found.text[:140]}")
    return tally


def states_strange(text: str, asked: Asked) -> bool:
    """Whether an answer states a number, price, time or date that no document, title or message holds."""
    known = " ".join([asked.text, *asked.earlier, *(f"{d['title']} {d['text']}" for d in asked.documents)])
    plain = re.sub(r"\s", "", known)
    figures = (re.sub(r"\s", "", figure) for figure in _FIGURE.findall(text))
    return bool(set(_NUMBER.findall(text)) - set(_NUMBER.findall(known))) or any(f not in plain for f in figures)


# ---------------------------------------------------------------- the peer
def nearest(asked: Asked) -> tuple[str, float]:
    """The unit nearest by TF-IDF and its cosine: the plain way to quote."""
    units = [u.text for p in cut(asked.documents, shared().embedder) for u in p.units]
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
    return 100 * right / max(1, len(scores)), 100 * recognised / max(1, len(found) - len(scores))


def cost(questions: Sequence[Asked]) -> tuple[float, float]:
    """CPU milliseconds of a whole answer, reading the body and writing the JSON included: (new passages, seen ones)."""
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
        spent.append((time.process_time_ns() - start) / 1e6 / len(bodies))
    return spent[0], spent[1]


def _whole(body: dict[str, Any]) -> bytes:
    request, options = protocol.read(body)
    return protocol.completion(protocol.shape(respond(request, shared()), body, options, "fp"), options)


def add_share(report: Report, name: str, hits: int, n: int, *, target: str = "", peer: float | None = None) -> None:
    """A share in percent with its interval."""
    low, high = (100 * bound for bound in share_interval(hits, n))
    label = "" if peer is None else "TF-IDF sentence"
    report.add(name, 100 * hits / max(1, n), "%", n=n, low=low, high=high, peer=label, peer_value=peer, target=target)


def add_set(report: Report, name: str, questions: Sequence[Asked], *, targets: bool) -> list[str]:
    """Judge a set, add its figures beside the peer's, with the aims as targets or without. Returns what was wrong."""
    tally = judge(questions)
    peer_right, peer_known = judge_peer(questions, tally.refused / max(1, tally.answerable))
    bounds = (">= 90", "<= 6", ">= 85", "<= 0") if targets else ("", "", "", "<= 0")
    n, absent = tally.answerable, tally.unanswerable
    add_share(report, f"{name}: right answer quoted", tally.right, n, target=bounds[0], peer=peer_right)
    add_share(report, f"{name}: refused though answerable", tally.refused, n, target=bounds[1])
    add_share(report, f"{name}: unanswerable recognised", tally.recognised, absent, target=bounds[2], peer=peer_known)
    add_share(report, f"{name}: answer among the retrieved passages", tally.retrieved, n)
    report.add(
        f"{name}: answers with a number, price or date from nowhere",
        tally.strange,
        "answers",
        n=n + absent,
        target=bounds[3],
    )
    length = tally.characters / max(1, tally.answered)
    report.add(f"{name}: length of an answer", length, "characters", n=tally.answered)
    return tally.wrong


def main() -> int:
    """The development sets, or the shops of a folder."""
    folders = [Path(name) for name in sys.argv[1:] if not name.startswith("--")]
    if folders:
        report = Report("answers_folder", note="Totals only; questions of a test are not printed.")
        for folder in folders:
            add_set(report, folder.name, list(from_folder(folder)), targets=False)
        return report.finish()
    note = "CPU time. Development questions: what is fitted on or was read, so they flatter. The test: NAME=shop."
    report = Report("answers", note=note)
    shops = list(from_shops(Split.CALIBRATE, 30, shared().embedder))
    natural = Path(__file__).parents[1] / "training" / "natural"
    sets = {
        "invented shops, calibration wordings": shops,
        "reference shop": [one for one in from_hand() if one.source == "reference"],
        "six older natural shops": [
            *(one for one in from_hand() if one.source != "reference" and "taken out" not in one.source),
            *from_natural(),
        ],
        "natural shops of the calibration": list(from_folder(natural, "calibration")),
    }
    for name, questions in sets.items():
        wrong = add_set(report, name, questions, targets=False)
        if "--wrong" in sys.argv:
            print(f"\n{name}\n" + "\n".join(wrong))
    cold, warm = cost(sets["natural shops of the calibration"][:300])
    report.add("CPU of an answer, passages not seen before", cold, "ms", n=300, target="<= 20")
    report.add("CPU of an answer, passages in the cache", warm, "ms", n=300, target="<= 20")
    return report.finish()


if __name__ == "__main__":
    raise SystemExit(main())
