"""Whether judges are measured as what they are, and how good judging without a model is.

    FAIRLEAD_DATA=... make bench NAME=judges       # about three minutes

Simulated judges of known accuracy and position bias say whether the intervals hold. On PandaLM (999 pairs, three people
each) and LLMBar (100 pairs): judges without a model, two real models whose verdicts PandaLM publishes, and `mini`,
which cannot judge and must be told so. The judge's calibration is that of `fairlead judge calibrate`.
"""

from __future__ import annotations

import asyncio
import csv
import json
import os
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.report import Report
from fairlead.app import build
from fairlead.app.rulers import judge_of
from fairlead.evaluate.intervals import Interval
from fairlead.evaluate.judges import Case, Definition, Instrument, Judgement, Labelled, calibrate, read_labels
from fairlead.evaluate.judges.agreement import agreement
from fairlead.evaluate.judges.calibration import Findings, shortcomings
from fairlead.evaluate.judges.peers import PEERS
from fairlead.evaluate.reading import read
from fairlead.evaluate.scorers import Answer
from fairlead.evaluate.scorers.safety import refused
from fairlead.evaluate.scorers.sources import LEAST, support
from fairlead.records import Sample
from fairlead.settings import Settings
from fairlead.spec.model import JudgeBar
from fairlead.spec.power import wilson

RUNS = 400
PAIRS = 150
RIGHT, FIRST = 0.85, 0.2
MINI_CASES = 25
SPEC = """\
fairlead: 1
name: judging
purpose: See whether the embedded model can judge.
users: {who: nobody}
risk: minimal
judges:
  - {id: better, kind: pairwise, variant: mini, rubric: Which answer follows the instruction better}
variants:
  - {id: mini, model: mini, sampling: {temperature: 0, max_tokens: 60}}
live: mini
"""


def simulated(seed: int) -> tuple[list[Labelled], Instrument]:
    """Pairs without ties, and a judge that looks at the order alone in 20 % of them and else is right in 85 %."""
    chance = random.Random(seed)
    cases, says = [], {}
    for place in range(PAIRS):
        truth = chance.choice(["first", "second"])
        question = f"question {place}"
        cases.append(Labelled(case=Case(question=question, answers=("a", "b")), people=(truth,)))
        biased, right = chance.random() < FIRST, chance.random() < RIGHT
        says[question] = "" if biased else truth if right else {"first": "second", "second": "first"}[truth]

    async def look(case: Case, repetition: int) -> Judgement:
        said = says[case.question] or "first"
        if says[case.question] and case.answers[0] == "b":
            said = {"first": "second", "second": "first"}[said]
        return Judgement(verdict=said, cost_nanos=0)

    return cases, Instrument(definition=Definition(id="s", kind="pairwise", rubric="", model="s"), look=look)


async def simulations(report: Report) -> None:
    """How often the interval holds the truth that was put in."""
    accuracy = (1 - FIRST) * RIGHT
    # People say first or second evenly; the judge ties in FIRST of the pairs and is even in the others.
    kappa = (accuracy - (1 - FIRST) / 2) / (1 - (1 - FIRST) / 2)
    truths = {"flips": FIRST, "accuracy": accuracy, "kappa": kappa, "one_order": accuracy + FIRST / 2}
    held = dict.fromkeys(truths, 0)
    for seed in range(RUNS):
        cases, judge = simulated(seed)
        found = await calibrate(judge, cases, repeats=0)
        for name, truth in truths.items():
            interval: Interval = getattr(found, name)
            held[name] += interval.low <= truth <= interval.high
    for name, count in held.items():
        low, high = (100 * bound for bound in wilson(count / RUNS, RUNS, 0.95))
        report.add(
            f"simulated judge, coverage of {name}", 100 * count / RUNS, "%", n=RUNS, low=low, high=high, target=">= 91"
        )


def add(report: Report, name: str, found: Findings) -> None:
    """Accuracy, kappa, flips and whether it may decide."""
    for what, interval in (("accuracy", found.accuracy), ("kappa", found.kappa), ("order decides", found.flips)):
        if interval is not None:
            report.add(f"{name}: {what}", interval.value, "", n=interval.n, low=interval.low, high=interval.high)
    reasons = shortcomings(found, JudgeBar())
    report.add(f"{name}: may decide", float(not reasons), "", n=found.n, target="== 0")


def labels_of(folder: Path) -> dict[str, list[Labelled]]:
    """The two public sets, as `--labels` reads them."""
    files = {
        "PandaLM": folder / "pandalm" / "testset-v1.json",
        "LLMBar natural": folder / "llmbar" / "Dataset" / "LLMBar" / "Natural" / "dataset.json",
    }
    return {name: read_labels(read(path).rows, "pairwise", str(path)) for name, path in files.items()}


async def peers(report: Report, sets: dict[str, list[Labelled]]) -> None:
    """Judges that cost nothing: what any other has to beat."""
    for name, labelled in sets.items():
        people = None
        for make in PEERS:
            judge = make()
            found = await calibrate(judge, labelled)
            people = found.ceiling
            add(report, f"{name}, {judge.definition.id}", found)
        if people is not None:
            report.add(f"{name}: kappa of people with each other", people, "", n=len(labelled))


def published(report: Report, folder: Path, labelled: list[Labelled]) -> None:
    """Models whose verdicts PandaLM publishes, one order only: the scale on which the figures above stand."""
    words = {"0": "tie", "Tie": "tie", "1": "first", "2": "second"}
    truths = {str(row.values["idx"]): each.truth for row, each in zip(
        read(folder / "pandalm" / "testset-v1.json").rows, labelled, strict=True)}  # fmt: skip
    for name, file, key in (
        ("GPT-3.5 as published", "gpt-3.5-turbo-testset-v1.json", "gpt_result"),
        ("PandaLM-7B as published", "pandalm-7b-testset-v1.json", "pandalm_result"),
    ):
        rows: list[dict[str, Any]] = json.loads((folder / "pandalm" / file).read_text(encoding="utf-8"))
        said = [(words.get(str(row.get(key)).strip(), ""), truths[str(row["idx"])]) for row in rows]
        known = [(ours, theirs) for ours, theirs in said if ours and theirs]
        accuracy, kappa = agreement([a for a, _ in known], [b for _, b in known], 0.95)
        for what, interval in (("accuracy", accuracy), ("kappa", kappa)):
            report.add(
                f"PandaLM, {name}: {what}", interval.value, "", n=interval.n, low=interval.low, high=interval.high
            )


async def embedded(report: Report, labelled: list[Labelled]) -> None:
    """`mini` asked as any judge is: through the gateway, read strictly."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "fairlead.yaml").write_text(SPEC, encoding="utf-8")
        fairlead = build(Settings(project=Path(folder)))
        try:
            await fairlead.start_variant("mini")
            found = await calibrate(judge_of(fairlead, "better"), labelled[:MINI_CASES], repeats=5, concurrency=2)
        finally:
            await fairlead.stop()
    invalid = found.invalid
    report.add("LLMBar natural, mini: cases without a verdict", invalid.value, "", n=invalid.n, low=invalid.low,
               high=invalid.high)  # fmt: skip
    report.add("LLMBar natural, mini: may decide", float(not shortcomings(found, JudgeBar())), "", n=found.n,
               target="== 0")  # fmt: skip


def claims(report: Report, folder: Path) -> None:
    """Claims by code on RefChecker: people say of each whether the text supports it.

    Their texts are not part of the set, so the sources are what people found supported in the *other* models' answers
    to the same question: a claim that only one model made has no source, which is hard on the scorer.
    """
    by_question: dict[str, list[tuple[str, str, str]]] = {}
    for path in sorted(folder.rglob("*_answers.json")):
        for row in json.loads(path.read_text(encoding="utf-8")):
            for claim in row.get("claude2_response_kg") or ():
                text = " ".join(map(str, claim["triplet"]))
                by_question.setdefault(str(row["id"]), []).append((path.stem, text, claim["human_label"]))
    values, truths = [], []
    for found in by_question.values():
        for model, text, label in found:
            sources = [other for name, other, said in found if name != model and said == "Entailment"]
            if sources:
                values.append(support(text, sources))
                truths.append(label == "Entailment")
    value, true = np.array(values), np.array(truths)
    order = np.argsort(np.argsort(value, kind="stable")) + 1.0
    ranks = {each: order[value == each].mean() for each in np.unique(value)}
    above = sum(ranks[each] for each in value[true]) - true.sum() * (true.sum() + 1) / 2
    report.add("RefChecker, claims by code: area under the curve", above / true.sum() / (~true).sum(), "", n=len(true))
    for name, hits in (
        ("supported, found so", value[true] >= LEAST),
        ("not supported, let pass", value[~true] >= LEAST),
    ):
        low, high = wilson(float(hits.mean()), len(hits), 0.95)
        report.add(f"RefChecker, claims by code: {name}", float(hits.mean()), "", n=len(hits), low=low, high=high)


def refusals(report: Report, folder: Path) -> None:
    """Refusals by wording on XSTest: two people labelled five models' answers. Written by looking at the first two.

    The answers are those of the set's repository (model_completions/), put beside its prompts.
    """
    for model in ("gpt4", "llama2orig", "llama2new", "mistralguard", "mistralinstruct"):
        path = folder / f"xstest_v2_completions_{model}.csv"
        if not path.is_file():
            continue
        with path.open(encoding="utf-8", newline="") as file:
            rows = [(row["completion"], row["final_label"][:1]) for row in csv.DictReader(file)]
        for name, kind in (("full refusals found", "2"), ("compliance taken for a refusal", "1")):
            hits = [refused(Sample(id="x", input="?"), Answer(text=text)) for text, label in rows if label == kind]
            low, high = wilson(sum(hits) / len(hits), len(hits), 0.95)
            seen = "seen" if model in {"gpt4", "llama2orig"} else "held out"
            report.add(f"XSTest, {model} ({seen}): {name}", sum(hits) / len(hits), "", n=len(hits), low=low, high=high)


async def measure(report: Report) -> None:
    """Everything that can be measured with the data there is."""
    await simulations(report)
    given = os.environ.get("FAIRLEAD_DATA", "")
    folder = Path(given)
    if not given or not (folder / "pandalm").is_dir():
        report.note += "; without FAIRLEAD_DATA: simulations only"
        return
    sets = labels_of(folder)
    await peers(report, sets)
    published(report, folder, sets["PandaLM"])
    claims(report, folder / "refchecker")
    refusals(report, folder / "xstest")
    await embedded(report, sets["LLMBar natural"])


def main() -> int:
    """Measure, print, and write the figures."""
    report = Report("judges", note=f"{RUNS} simulated judges of {PAIRS} pairs; a judge may decide with the default bar")
    asyncio.run(measure(report))
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
