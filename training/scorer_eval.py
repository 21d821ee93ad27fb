"""How well units are ordered and unanswerable questions told apart, on hand-written shops a scorer has not seen.

    python -m training.scorer_eval      # the shipped scorer, the embedder's cosine, the engine, and engine with scorer

Right first: the first of the retrieved units answers. AUC: the odds that the best unit of a question with an answer
scores above the best of one without; `natural` takes the questions nobody answers, `taken out` the answerable ones
without the units that answer. A rater is any function from a question and units to scores.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from fairlead.assistant.knowledge import Knowledge
from fairlead.engines.embed.embedder import shared
from fairlead.engines.extractive import answer, evidence
from fairlead.engines.extractive.question import standalone
from fairlead.engines.extractive.units import cut
from fairlead.engines.scorer import Scorer, with_context
from fairlead.engines.scorer.pieces import apart
from training.scorer_data import PASSAGES, Library, from_pages, holds, natural_shops

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
        low, high = wilson(sum(self.first), len(self.first))
        rightly = [score for score, right in zip(self.answered, self.first, strict=True) if right]
        return (
            f"right first {np.mean(self.first):.3f} ({low:.2f}-{high:.2f}, n {len(self.first)}), "
            f"AUC absent {auc(self.answered, self.absent):.3f} (n {len(self.absent)}), "
            f"taken out {auc(self.answered, self.taken_out):.3f}, "
            f"of right first: {auc(rightly, self.absent):.3f} / {auc(rightly, self.taken_out):.3f}"
        )


def outside() -> list[Library]:
    """The four invented shops of the benchmarks, a library each."""
    shops = json.loads((SHOPS / "questions.json").read_text(encoding="utf-8"))["shops"]
    return [from_pages(name, rows, SHOPS / f"{name}.md") for name, rows in shops.items()]


def measure(rate: Rater, library: Library) -> Figures:
    """The figures of a rater over one library, units as retrieval hands them over."""
    figures = Figures()
    for one in library.asked:
        units = library.shelves[one.shelf].units
        near = list(one.near)
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


def wilson(hits: int, total: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927)."""
    if not total:
        return 0.0, 1.0
    share = hits / total
    middle = share + z * z / (2 * total)
    spread = z * float(np.sqrt(share * (1 - share) / total + z * z / (4 * total * total)))
    return (middle - spread) / (1 + z * z / total), (middle + spread) / (1 + z * z / total)


def cosine(question: str, units: Sequence[str]) -> Floats:
    """The cosine of the shipped embedder, heading and text together: the plainest rater."""
    embedder = shared()
    told = embedder.encode([" ".join(apart(unit)) for unit in units])
    found: Floats = told @ embedder.encode([question])[0]
    return found


# ---------------------------------------------------------------- beside the engine
@dataclass
class Compared:
    """A question as the engine sees it: its confidence, its score and the scorer's of each unit, which are right."""

    kind: str
    sure: float
    order: Floats
    scorer: Floats
    right: list[bool]


def compared(rows: list[dict[str, Any]], pages: Path) -> Iterator[Compared]:
    """Every question with the passages retrieval gives, and the answerable ones again without the sections telling."""
    embedder, knowledge, scorer = shared(), Knowledge.load([pages]), Scorer.load()
    for row in rows:
        earlier, right = tuple(row.get("earlier", ())), tuple(row["right"])
        query = standalone(row["q"], earlier)
        found = [knowledge.passages[i] for i in knowledge.index.rank(row["q"], previous=earlier[-1] if earlier else "")]
        telling = {p.location for p in found if any(holds(p.text, (part,)) for part in right)}
        cases = [("answered" if right else "absent", found)]
        if right:
            cases.append(("taken out", [p for p in found if p.location not in telling]))
        for kind, passages in cases:
            matches = evidence.match(query, cut([p.document() for p in passages[:PASSAGES]], embedder), embedder)
            matches = [m for m in matches if not answer.is_lead(m.unit)]
            if matches:
                sure = evidence.confidence(query, matches, embedder)
                yield Compared(
                    kind,
                    math.log((sure + 1e-4) / (1 - sure + 1e-4)),
                    np.array([m.score for m in matches], np.float32),
                    scorer.score(query.text, [with_context(m.unit.context, m.unit.text) for m in matches]),
                    [bool(right) and holds(m.unit.text, right) for m in matches],
                )


def beside(cases: Sequence[Compared], share: float) -> str:
    """Right first and AUCs of the engine with ``share`` of the scorer added; infinity means the scorer alone."""

    def ranked(one: Compared) -> Floats:
        return one.scorer if math.isinf(share) else one.order + share * one.scorer

    def surely(kind: str) -> list[float]:
        return [
            float(c.scorer.max()) if math.isinf(share) else c.sure + share * float(c.scorer.max())
            for c in cases
            if c.kind == kind
        ]

    first = [c.right[int(ranked(c).argmax())] for c in cases if c.kind == "answered"]
    low, high = wilson(sum(first), len(first))
    return (
        f"right first {np.mean(first):.3f} ({low:.2f}-{high:.2f}, n {len(first)}), "
        f"AUC absent {auc(surely('answered'), surely('absent')):.3f} (n {len(surely('absent'))}), "
        f"taken out {auc(surely('answered'), surely('taken out')):.3f} (n {len(surely('taken out'))})"
    )


def main() -> None:
    """Print everything on the shops whose questions trained no weight."""
    shops = json.loads((SHOPS / "questions.json").read_text(encoding="utf-8"))["shops"]
    sets = {
        "answers_shops": [(name, rows, SHOPS / f"{name}.md") for name, rows in shops.items()],
        "natural, calibration": natural_shops("calibration"),
    }
    for label, members in sets.items():
        plain = Figures()
        for name, rows, page in members:
            plain.add(measure(cosine, from_pages(name, rows, page)))
        cases = [case for _, rows, page in members for case in compared(rows, page)]
        print(f"{label}\n  embedder's cosine: {plain.row()}")
        for words, share in (("scorer", math.inf), ("engine", 0.0), ("engine + .4 scorer", 0.4)):
            print(f"  {words}: {beside(cases, share)}")


if __name__ == "__main__":
    main()
