"""In which tone the extractive engine answers, and how often an answer of each tone is right.

    FAIRLEAD_DATA=... python -m benchmarks.tones

Three tones (`answer.Tone`): sure, without a reservation; likely, with a light one; a guess, said to be one, beside what
else may be meant. First of all hand-written questions of the calibration, each shop's by a confidence that was fitted
without it, as an unseen shop would be answered; then of the plain questions on the example shop, as they are answered
there. An answer to a question that the pages do not answer is a wrong one. Several minutes.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import get_args

from benchmarks.answers import add_share
from benchmarks.calibrate_answers import (
    NATURAL_SHOPS,
    Remembering,
    chances,
    each_left_out,
    fit_odds,
    from_blocks,
    from_folder,
    holds,
    is_by_hand,
    observe,
    prepare,
    questions,
    see,
)
from benchmarks.report import Report
from benchmarks.shop_plain import follow, read_plain
from fairlead.engines.extractive import answer, phrases
from fairlead.engines.extractive.answer import Tone
from fairlead.engines.extractive.evidence import Readers, shared

Judged = tuple[Tone, bool, bool]
"""The tone of an answer, whether what it says first is right, and whether all it says is."""


def left_out(data: Path) -> list[tuple[str, Judged]]:
    """(shop, what became of it) of every hand-written question that is answered."""
    readers = Readers(shared().embedder, Remembering(shared().scorer))
    seen = [one for one in see(prepare(questions(data, readers.embedder), readers.embedder), readers) if one.matches]
    told = observe(seen, readers)
    odds = each_left_out(told, chances(fit_odds(told.rows, told.either, told.weights), told.rows))
    judged = []
    for one, sure in zip(seen, odds.tolist(), strict=True):
        said = answer.quote(one.query, one.matches, sure)
        if said.known and is_by_hand(one.asked.source):
            right = one.asked.right
            first = bool(right) and holds(said.text, right)
            both = bool(right) and holds(f"{said.text} {said.other}", right)
            judged.append((one.asked.source, (said.tone, first, both)))
    return judged


def on_the_example() -> list[Judged]:
    """The plain questions on the example shop that are answered from its pages."""
    judged: list[Judged] = []
    for one, serves in read_plain()[0]:
        said = follow(one, serves).said
        if said.act in ("answer", "complaint") and said.sources:
            tone: Tone = "sure"
            if phrases.DOUBTFUL in said.text or phrases.EITHER in said.text:
                tone = "doubtful"
            elif phrases.LIKELY in said.text or phrases.LIKELY_ON in said.text:
                tone = "likely"
            first = "\n\n•".join(said.text.split("\n\n•")[:2])
            right = [bool(one.right) and holds(text, one.right) for text in (first, said.text)]
            judged.append((tone, right[0], right[1]))
    return judged


def add_tones(report: Report, name: str, judged: Iterable[Judged]) -> None:
    """For each tone the share of answers that have it and the share of these that is right."""
    some = list(judged)
    for tone in get_args(Tone):
        here = [one for one in some if one[0] == tone]
        add_share(report, f"{name}: answers that are {tone}", len(here), len(some))
        add_share(report, f"{name}: {tone} and right", sum(first for _, first, _ in here), len(here))
    shown = [both for tone, _, both in some if tone == "doubtful"]
    add_share(report, f"{name}: doubtful, right with what else may be meant", sum(shown), len(shown))
    right = [tone for tone, first, _ in some if first]
    add_share(report, f"{name}: right answers said without a doubt", sum(t != "doubtful" for t in right), len(right))


def main() -> int:
    """Print the figures."""
    note = "Confidence fitted without the shop in question, but for the example shop: development questions, read."
    report = Report("tones", note=note)
    judged = left_out(Path(os.environ.get("FAIRLEAD_DATA", "data")))
    apart = {one.source for one in (*from_folder(NATURAL_SHOPS, "calibration"), *from_blocks())}
    add_tones(report, "all shops by hand", (one for _, one in judged))
    add_tones(report, "the twelve natural ones", (one for source, one in judged if source in apart))
    add_tones(report, "example shop, plain questions", on_the_example())
    return report.finish()


if __name__ == "__main__":
    raise SystemExit(main())
