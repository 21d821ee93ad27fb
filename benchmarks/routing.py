"""Routing on public results a question: how many calls of the strong model a router learnt here needs.

    FAIRLEAD_DATA=... make bench NAME=routing      # about six minutes

GPT-4 and Mixtral-8x7B on MMLU (14,042 questions) and GSM8K (1,319), as RouteLLM publishes them. Five times every fifth
of the questions is set aside; of the rest three quarters teach and one quarter sets the threshold, by a bound or at the
value itself. So no figure here saw the answers it is measured on. The weak model costs 1 % of the strong one.
"""

from __future__ import annotations

import csv
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.report import Report
from fairlead.evaluate.numbers import Codes, Numbers
from fairlead.select.gains import features, learn_gains
from fairlead.select.routing import Routed, judge, threshold_for

WEAK, STRONG = "mistralai/Mixtral-8x7B-Instruct-v0.1", "gpt-4-1106-preview"
FOLDS = 5
KEEPS = (0.95, 0.99)
# Share of strong calls for 95 % of the strong model's quality by words (TF-IDF) with the cut-off picked on the very
# answers it was judged by.
OPTIMISTIC = {"MMLU": 43.9, "GSM8K": 71.0}


def load(folder: Path) -> dict[str, tuple[list[str], Numbers]]:
    """Questions and scores (weak, strong) of each set."""
    files = {
        "MMLU": sorted(folder.glob("responses__mmlu_*.csv")),
        "GSM8K": [folder / "gsm8k__gsm8k_responses.csv"],
    }
    sets = {}
    for name, paths in files.items():
        texts, scores = [], []
        for path in paths:
            with path.open(encoding="utf-8", newline="") as file:
                for row in csv.DictReader(file):
                    texts.append(row["prompt"])
                    scores.append((row[WEAK] == "True", row[STRONG] == "True"))
        sets[name] = texts, np.array(scores, np.float64)
    return sets


class Part(NamedTuple):
    """A fifth of the questions: their places, what is expected to be gained there, and where thresholds are set."""

    testing: Codes
    tested: Numbers
    setting: Codes
    set_: Numbers


def expected(texts: Sequence[str], table: Numbers, scores: Numbers) -> list[Part]:
    """What is expected of every question by who never saw it. What is chosen is chosen among what is learnt from."""
    chance = np.random.default_rng(0)
    fold = chance.permutation(len(scores)) % FOLDS
    parts = []
    for number in range(FOLDS):
        rest = np.flatnonzero(fold != number)
        chance.shuffle(rest)
        cut = 3 * len(rest) // 4
        learning, setting, testing = rest[:cut], rest[cut:], np.flatnonzero(fold == number)
        gain = scores[learning, 1] - scores[learning, 0]
        gains = learn_gains([texts[each] for each in learning], gain, table[learning]).gains(texts, table)
        parts.append(Part(testing, gains[testing], setting, gains[setting]))
    return parts


def held_out(parts: Sequence[Part], scores: Numbers, keep: float, *, confidence: float) -> Routed:
    """Every question routed by a router that never saw it, with a threshold set on yet others."""
    to_big = np.zeros(len(scores), bool)
    for part in parts:
        to_big[part.testing] = part.tested > threshold_for(part.set_, scores[part.setting], keep, confidence)
    return judge(to_big, scores, keep, 0.01, 1.0)


def add(report: Report, name: str, found: Routed, peer: str = "", peer_value: float | None = None) -> None:
    """The table of one set at one quality."""
    calls, kept, saving, over = found.calls, found.kept, found.saving, found.over_coin
    report.add(f"{name}: strong calls", 100 * calls.value, "%", n=found.n, low=100 * calls.low, high=100 * calls.high,
               peer=peer, peer_value=peer_value)  # fmt: skip
    report.add(f"{name}: quality kept", 100 * kept.value, "%", n=found.n, low=100 * kept.low, high=100 * kept.high)
    report.add(f"{name}: a coin of the same quality", 100 * found.coin, "%", n=found.n)
    report.add(f"{name}: an oracle for the quality asked for", 100 * found.oracle, "%", n=found.n)
    report.add(f"{name}: saving of the best single model's cost", 100 * saving.value, "%", n=found.n,
               low=100 * saving.low, high=100 * saving.high)  # fmt: skip
    report.add(f"{name}: points of strong calls saved beyond the coin", 100 * over.value, "", n=found.n,
               low=100 * over.low, high=100 * over.high)  # fmt: skip
    report.add(f"{name}: may be enabled", float(not found.reasons), "", n=found.n)


def main() -> int:
    """Measure, print, and write the figures."""
    given = os.environ.get("FAIRLEAD_DATA", "")
    folder = Path(given) / "routellm"
    report = Report("routing", note="thresholds held out; the weak model costs 1 % of the strong one")
    if not given or not folder.is_dir():
        print("FAIRLEAD_DATA has no routellm: nothing can be measured")
        return 0
    for name, (texts, scores) in load(folder).items():
        begun = time.process_time()
        table = features(texts)
        report.add(f"{name}: features of a question", 1e6 * (time.process_time() - begun) / len(texts), "µs CPU",
                   n=len(texts), target="<= 1000")  # fmt: skip
        report.add(f"{name}: weak alone", 100 * scores[:, 0].mean(), "%", n=len(texts))
        report.add(f"{name}: strong alone", 100 * scores[:, 1].mean(), "%", n=len(texts))
        report.add(f"{name}: oracle of the two", 100 * scores.max(axis=1).mean(), "%", n=len(texts))
        begun = time.process_time()
        parts = expected(texts, table, scores)
        report.add(f"{name}: learning, a fifth set aside", (time.process_time() - begun) / FOLDS, "s CPU", n=len(texts))
        for keep in KEEPS:
            point = held_out(parts, scores, keep, confidence=0.0)
            peer = "cut-off picked on the test" if keep == KEEPS[0] else ""
            add(report, f"{name}, {keep:.0%} at the value", point, peer, OPTIMISTIC[name] if peer else None)
            found = held_out(parts, scores, keep, confidence=0.95)
            add(report, f"{name}, {keep:.0%} by a bound", found)
    over = {each.figure: each for each in report.figures}
    beyond = over["MMLU, 95% at the value: points of strong calls saved beyond the coin"]
    report.add("MMLU, 95%: points saved beyond the coin, against the aim", beyond.value, "", n=beyond.n, low=beyond.low,
               high=beyond.high, target=">= 20")  # fmt: skip
    return report.finish()


if __name__ == "__main__":
    sys.exit(main())
