"""The comparison of two scorers gives what can be counted by hand, and refuses other questions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.compare_scorers import NAMES, Kept, differences

ANSWERABLE = np.array([True] * 40 + [False] * 20)
RIGHT = np.array([True] * 30 + [False] * 30)


def kept(better: float) -> Kept:
    odds = np.concatenate([np.linspace(0.4, 0.8, 40) + better, np.linspace(0.3, 0.7, 20)])
    return Kept(odds, RIGHT, ANSWERABLE)


def test_figures_are_those_counted_by_hand() -> None:
    one = kept(0.0)
    area, right, refused, always = one.figures()
    wins = [(a > b) + (a == b) / 2 for a in one.odds[:30] for b in one.odds[40:]]
    assert area == pytest.approx(sum(wins) / len(wins))
    threshold = np.quantile(one.odds[40:], 0.75)
    assert right == pytest.approx(sum(one.odds[:30] >= threshold) / 40)
    assert refused == pytest.approx(sum(one.odds[:40] < threshold) / 40)
    assert always == 0.75


def test_a_better_scorer_is_told_from_the_same_one() -> None:
    same = {name: row for name, *row in differences(kept(0.0), kept(0.0))}
    assert list(same) == list(NAMES)
    assert all(row == [0.0, 0.0, 0.0] for row in same.values())
    better = {name: row for name, *row in differences(kept(0.0), kept(0.2))}
    assert 0 < better["area"][1] <= better["area"][0] <= better["area"][2]
    assert better["refused at 75 % recognised"][2] < 0


def test_other_questions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="same questions"):
        differences(kept(0.0), kept(0.0)._replace(answerable=~ANSWERABLE))
    np.savez(tmp_path / "a.npz", odds=np.zeros(3), right=np.zeros(2), answerable=np.zeros(3))
    with pytest.raises(ValueError, match=r"a\.npz: its arrays differ"):
        Kept.read(tmp_path / "a.npz")
