"""Two scorers beside the engine on the same questions, as `calibrate_answers --each-left-out --keep FILE` kept them.

    python -m benchmarks.compare_scorers OLD.npz NEW.npz

Differences new less old, with 95 % intervals from 2,000 draws of the questions with replacement (bootstrap).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

DRAWS, SEED = 2_000, 7
RECOGNISED = 0.75  # share of unanswerable questions at which figures are compared
NAMES = ("area", "right at 75 % recognised", "refused at 75 % recognised", "right if always answered")
Doubles = npt.NDArray[np.float64]


class Kept(NamedTuple):
    """Of every question: the confidence without its shop, whether the quote is right, whether there is an answer."""

    odds: Doubles
    right: npt.NDArray[np.bool_]
    answerable: npt.NDArray[np.bool_]

    @classmethod
    def read(cls, path: Path) -> Kept:
        """Raises ValueError where the arrays are not of one length."""
        with np.load(path, allow_pickle=False) as arrays:
            kept = cls(arrays["odds"].astype(np.float64), arrays["right"] > 0, arrays["answerable"] > 0)
        if len({len(part) for part in kept}) != 1:
            raise ValueError(f"{path}: its arrays differ in length")
        return kept

    def taken(self, rows: npt.NDArray[np.int64]) -> Kept:
        """The questions at some places."""
        return Kept(self.odds[rows], self.right[rows], self.answerable[rows])

    def figures(self) -> Doubles:
        """The figures of NAMES, shares from 0 to 1."""
        there, absent = self.answerable, np.sort(self.odds[~self.answerable])
        good = self.odds[there & self.right]
        below, upto = np.searchsorted(absent, good, "left"), np.searchsorted(absent, good, "right")
        said = self.odds[there] >= np.quantile(absent, RECOGNISED)
        right = self.right[there]
        return np.array([(below + upto).mean() / 2 / len(absent), (right & said).mean(), 1 - said.mean(), right.mean()])


def differences(old: Kept, new: Kept) -> list[tuple[str, float, float, float]]:
    """(name, new less old, low, high) of each figure. Raises ValueError where the questions are not the same."""
    if not np.array_equal(old.answerable, new.answerable):
        raise ValueError("the two were not asked the same questions")
    dice = np.random.default_rng(SEED)
    draws = [dice.integers(0, len(old.odds), len(old.odds)) for _ in range(DRAWS)]
    spread = np.array([new.taken(rows).figures() - old.taken(rows).figures() for rows in draws])
    low, high = np.quantile(spread, (0.025, 0.975), axis=0)
    change = new.figures() - old.figures()
    return [(name, float(d), float(a), float(b)) for name, d, a, b in zip(NAMES, change, low, high, strict=True)]


def main() -> None:
    """Print the differences."""
    old, new = (Kept.read(Path(path)) for path in sys.argv[1:3])
    for name, change, low, high in differences(old, new):
        print(f"{name}: {change:+.3f} ({low:+.3f} to {high:+.3f}, n {len(old.odds)})")


if __name__ == "__main__":
    main()
