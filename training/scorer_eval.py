"""How well units are ordered and unanswerable questions told apart, on hand-written shops a scorer has not seen.

    python -m training.scorer_eval      # the shipped scorer and the embedder's cosine

Right first: the first of the retrieved units answers. AUC: the odds that the best unit of a question with an answer
scores above the best of one without; `natural` takes the questions nobody answers, `taken out` the answerable ones
without the units that answer. A rater is any function from a question and units to scores.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from fairlead.engines.embed.embedder import shared
from fairlead.engines.scorer import Scorer
from fairlead.engines.scorer.pieces import apart
from fairlead.spec.power import share_interval
from training.scorer_data import Library, from_pages, natural_shops

Floats = npt.NDArray[np.float32]
Rater = Callable[[str, Sequence[str]], Floats]
SHOPS = Path(__file__).parent.parent / "benchmarks" / "data" / "answers_shops"


@dataclass
class Figures:
    """Best scores of the questions of some shops, and whether the first unit was right."""

    first: list[bool] = field(default_factory=list)
    answered: list[float] = field(default_factory=list)
    absent: list[float] = field(default_factory=list)
    taken_out: list[float] = field(default_factory=list)

    def add(self, other: Figures) -> None:
        """Append another's questions."""
        self.first += other.first
        self.answered += other.answered
        self.absent += other.absent
        self.taken_out += other.taken_out

    def row(self) -> str:
        """The figures in one line."""
        low, high = share_interval(sum(self.first), len(self.first))
        rightly = [score for score, right in zip(self.answered, self.first, strict=True) if right]
        return (
            f"right first {np.mean(self.first):.3f} ({low:.2f}-{high:.2f}, n {len(self.first)}), "
            f"AUC absent {auc_with_width(self.answered, self.absent)}, "
            f"taken out {auc_with_width(self.answered, self.taken_out)}, "
            f"of right first: {auc(rightly, self.absent):.3f} / {auc(rightly, self.taken_out):.3f}"
        )


def outside() -> list[Library]:
    """The four invented shops of the benchmarks, a library each."""
    shops = json.loads((SHOPS / "questions.json").read_text(encoding="utf-8"))["shops"]
    return [from_pages(name, rows, SHOPS / f"{name}.md") for name, rows in shops.items()]


def held_libraries() -> list[tuple[str, list[Library]]]:
    """The shops whose questions train no weight: those of the benchmarks, and the natural ones of the calibration."""
    natural = [from_pages(name, rows, page) for name, rows, page in natural_shops("calibration")]
    return [("answers_shops", outside()), ("natural, calibration", natural)]


def measure(rate: Rater, library: Library, *, likest: int | None = None, every: int = 1) -> Figures:
    """The figures of a rater over one library, units as retrieval hands them over.

    For a slow rater: only the ``likest`` units by the embedder's cosine, and only every ``every``-th question.
    """
    figures = Figures()
    for one in library.asked[::every]:
        units = library.shelves[one.shelf].units
        near = list(one.near)
        if near and likest is not None:
            alike = cosine(one.text, [units[i] for i in near])
            near = [near[i] for i in np.argsort(-alike, kind="stable")[:likest]]
        if not near:
            continue
        scores = rate(one.text, [units[i] for i in near])
        right = np.array([i in one.right for i in near])
        best = float(scores.max())
        if not one.right:
            figures.absent.append(best)
            continue
        figures.first.append(bool(right[int(scores.argmax())]))
        figures.answered.append(best)
        if not right.all():
            figures.taken_out.append(float(scores[~right].max()))
    return figures


def auc(good: Sequence[float], bad: Sequence[float]) -> float:
    """The odds that a good score is above a bad one, ties half."""
    if not good or not bad:
        return float("nan")
    wins = np.subtract.outer(np.array(good), np.array(bad))
    return float((wins > 0).mean() + (wins == 0).mean() / 2)


def auc_with_width(good: Sequence[float], bad: Sequence[float]) -> str:
    """An AUC with half its 95 % interval (Hanley and McNeil 1982)."""
    a = auc(good, bad)
    above = a / (2 - a) - a * a
    below = 2 * a * a / (1 + a) - a * a
    spread = math.sqrt((a * (1 - a) + (len(good) - 1) * above + (len(bad) - 1) * below) / (len(good) * len(bad)))
    return f"{a:.3f} ± {1.96 * spread:.2f} (n {len(bad)})"


def cosine(question: str, units: Sequence[str]) -> Floats:
    """The cosine of the shipped embedder, heading and text together: the plainest rater."""
    embedder = shared()
    told = embedder.encode([" ".join(apart(unit)) for unit in units])
    found: Floats = told @ embedder.encode([question])[0]
    return found


def cost(rounds: int = 20) -> str:
    """CPU milliseconds of one question over 24 units, read for the first time and read before."""
    units = [unit for shop in outside() for shelf in shop.shelves for unit in shelf.units]
    question = "how much does it cost to send it back if I paid by card?"
    scorer = Scorer.load()
    new: list[float] = []
    again: list[float] = []
    for start in range(0, 24 * min(rounds, len(units) // 24), 24):
        for spent in (new, again):
            began = time.process_time()
            scorer.score(question, units[start : start + 24])
            spent.append(1000 * (time.process_time() - began))
    return (
        f"24 units: {np.median(new):.1f} ms of CPU when new, {np.median(again):.1f} ms when read before (n {len(new)})"
    )


def main() -> None:
    """Print everything on the shops whose questions trained no weight."""
    print(cost())
    raters = {"embedder's cosine": cosine, "scorer": Scorer.load().score}
    for label, libraries in held_libraries():
        for words, rate in raters.items():
            figures = Figures()
            for library in libraries:
                figures.add(measure(rate, library))
            print(f"{label}, {words}: {figures.row()}")


if __name__ == "__main__":
    main()
