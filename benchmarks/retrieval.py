"""How well the right passage is found, and what the quoting variant makes of it: the reference shop's questions.

    python -m benchmarks.retrieval [--wrong]      --wrong lists the questions that are not answered rightly

All on this machine, offline, deterministic but for the times, which are CPU times.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.report import Report
from benchmarks.shop_questions import SHOP, Question, ask, is_right, place_of, read_questions
from fairlead.assistant import Answer, Assistant, Knowledge, Tools
from fairlead.assistant.retrieve import Scores, best_first, expand, terms_of
from fairlead.engines.extractive import Extractive
from fairlead.gateway import Gateway, Identity, Route
from fairlead.guard import Masker
from fairlead.settings import Settings
from fairlead.spec import load
from fairlead.spec.power import share_interval
from fairlead.store import Store

Rank = Callable[[Question], list[int]]


def main() -> int:
    """Measure, print, and return the exit status."""
    questions = read_questions()
    report = Report("retrieval", note=f"{len(questions)} questions of examples/shop; our own, so a test, not a proof.")
    measure_ranking(report, [question for question in questions if question.expect == "answer"])
    wrong = asyncio.run(measure_answers(report, questions))
    if "--wrong" in sys.argv:
        for question, answer in wrong:
            asked = f"{question.id} {question.previous} | {question.question}"
            print(f"{asked} | {question.facts} | {answer.act}: {answer.text}")
    return report.finish()


def measure_ranking(report: Report, questions: list[Question]) -> None:
    """Recall at k and mean reciprocal rank of each ranking, of both together, and with the rule for follow-ups."""
    knowledge = Knowledge.load([SHOP / "knowledge"])
    index = knowledge.index

    def words(question: Question, *, ideas: bool = True) -> Scores:
        terms = terms_of(expand(question.question, question.previous), asked=True)
        return index.word_scores([term for term in terms if ideas or not term.startswith("#")])

    def meaning(question: Question) -> Scores:
        return index.meaning_scores(expand(question.question, question.previous))

    def fused(question: Question) -> list[int]:
        return index.rank(question.question, previous=question.previous)

    rankings: dict[str, Rank] = {
        "BM25 on stems": lambda question: best_first(words(question, ideas=False)),
        "BM25": lambda question: best_first(words(question)),
        "embedding": lambda question: best_first(meaning(question)),
        "fused, constant 60": lambda question: best_first(_fuse([words(question), meaning(question)], 60)),
        "fused, constant 10": lambda question: best_first(_fuse([words(question), meaning(question)], 10)),
        "as used": fused,
    }
    for name, rank in rankings.items():
        _recall(report, name, rank, questions, knowledge)
    began = time.process_time_ns()
    for question in questions:
        fused(question)
    report.add("CPU of one search", (time.process_time_ns() - began) / len(questions) / 1000, "µs", n=len(questions))


def _fuse(rankings: Sequence[Scores], constant: float) -> Scores:
    """Reciprocal rank fusion (Cormack, Clarke and Büttcher, SIGIR 2009), what adding the scores competes with.

    Each ranking gives 1 / (constant + place) to the documents it scores above 0.
    """
    fused = np.zeros_like(rankings[0])
    for scores in rankings:
        order = np.argsort(-scores, kind="stable")
        order = order[scores[order] > 0]
        fused[order] += 1 / (constant + 1 + np.arange(len(order), dtype=np.float32))
    return fused


def _recall(report: Report, name: str, rank: Rank, questions: list[Question], knowledge: Knowledge) -> None:
    places = [place_of(question, rank(question), knowledge) for question in questions]
    for k in (1, 3, 5, 8):
        found = sum(place is not None and place < k for place in places)
        low, high = share_interval(found, len(places))
        target = ">= 0.85" if (name, k) == ("as used", 5) else ""
        report.add(
            f"recall@{k}, {name}", found / len(places), "share", n=len(places), low=low, high=high, target=target
        )
    reciprocal = sum(1 / (place + 1) for place in places if place is not None) / len(places)
    report.add(f"MRR, {name}", reciprocal, "share", n=len(places))


async def measure_answers(report: Report, questions: list[Question]) -> list[tuple[Question, Answer]]:
    """The whole way with the quoting variant. Returns what was not right."""
    with tempfile.TemporaryDirectory() as directory, Store.open(Path(directory)) as store:
        assistant = quoting_assistant(store)
        await assistant.ask("warm up")
        outcomes: dict[str, list[bool]] = defaultdict(list)
        wrong, refused = [], 0
        began = time.process_time_ns()
        for question in questions:
            answer = await ask(assistant, question)
            right = is_right(question, answer)
            outcomes[question.kind].append(right)
            refused += question.expect == "answer" and answer.act == "unknown"
            if not right:
                wrong.append((question, answer))
        spent = (time.process_time_ns() - began) / len(questions) / 1e6
    for kind, results in outcomes.items():
        low, high = share_interval(sum(results), len(results))
        report.add(f"right, {kind}", sum(results) / len(results), "share", n=len(results), low=low, high=high)
    answerable = len(outcomes["answer"]) + len(outcomes["follow-up"])
    low, high = share_interval(refused, answerable)
    report.add("refused although a page answers", refused / answerable, "share", n=answerable, low=low, high=high)
    missed = [question for question, _ in wrong if question.expect == "answer"]
    index = assistant.knowledge.index
    ranked = [index.rank(question.question, previous=question.previous)[:5] for question in missed]
    there = [place_of(q, first, assistant.knowledge) is not None for q, first in zip(missed, ranked, strict=True)]
    report.add("not right, though among the five", sum(there) / max(len(there), 1), "share", n=len(there))
    report.add("CPU of one answer, gateway and traces included", spent, "ms", n=len(questions), target="<= 20")
    return wrong


def quoting_assistant(store: Store) -> Assistant:
    """The shop's assistant with the extractive variant only."""
    usecase = load(SHOP / "fairlead.yaml")
    mask = Masker(frozenset(usecase.policy.privacy.mask))
    upstream = Extractive().upstream()
    route = Route(name="extractive", upstream=upstream, model="extractive", variant="extractive", release="benchmark")
    gateway = Gateway(
        routes={"extractive": route},
        keys=store.keys,
        record=store.traces.append,
        settings=Settings(project=SHOP),
        mask=mask,
        identity=Identity(usecase=usecase.name, spec_hash=usecase.spec_hash),
    )
    return Assistant(
        gateway=gateway,
        usecase=usecase,
        store=store,
        knowledge=Knowledge.load([SHOP / "knowledge"]),
        tools=Tools.load([SHOP / "tools.py"]),
        mask=mask,
    )


if __name__ == "__main__":
    sys.exit(main())
