"""What the offline answerer must reach in a shop it has never seen: answers, refusals, tools, arguments, cost.

    make bench NAME=shop        # exits 1 while a target is missed

Two tests, reported apart. Invented shops: generated from a seed with wordings held out of all training and calibration
(`training/embed_data.py`, Split.TEST; requests: `training/lexicon.py`, "wordings"). Natural English: hand-written
questions and requests over three shops (`benchmarks/data/answers_test`) that nobody who works on the engine reads.
Only totals are printed, with 95 % intervals after Wilson; the targets are those of the mission.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from benchmarks.answers import add_set, add_share, cost
from benchmarks.calibrate_answers import from_folder, from_shops
from benchmarks.report import Report
from benchmarks.tool_requests import Requested, from_file, from_generator, judge_requests
from fairlead.engines.extractive.evidence import shared
from training.embed_data import Split

SHOPS, CONVERSATIONS = 60, 800
NATURAL = Path(__file__).parent / "data" / "answers_test"


def add_requests(report: Report, name: str, requests: Iterable[Requested]) -> None:
    """How often the right tool, or rightly none, was meant, and its arguments or the question for one exact."""
    tally = judge_requests(requests)
    add_share(report, f"{name}: right tool, or rightly none", tally.right, tally.n, target=">= 97")
    add_share(report, f"{name}: arguments exact, or the right question", tally.exact, tally.calls, target=">= 95")


def main() -> int:
    """Run everything, print totals, and return 1 when a target is missed."""
    note = "CPU time. Invented: wordings in no training or calibration. Natural: hand-written over three unseen shops."
    report = Report("shop", note=note)
    invented = list(from_shops(Split.TEST, SHOPS, shared().embedder))
    cold, warm = cost(invented[:400])
    add_set(report, "invented shops", invented, targets=True)
    add_requests(report, "invented shops", from_generator("wordings", CONVERSATIONS))
    report.add("CPU of an answer, passages not seen before", cold, "ms", n=400, target="<= 20")
    report.add("CPU of an answer, passages in the cache", warm, "ms", n=400, target="<= 20")
    natural = list(from_folder(NATURAL))
    add_set(report, "natural questions", natural, targets=True)
    files = sorted(NATURAL.glob("*.tools.json"))
    add_requests(report, "natural requests", (one for path in files for one in from_file(path)))
    return report.finish()


if __name__ == "__main__":
    raise SystemExit(main())
