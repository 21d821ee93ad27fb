"""Draws questions of a library, each with units to tell apart: those that answer, those that nearly do, others.

Hard ones are the likest to the question by the teacher's vectors. Of some questions the units that answer are hidden,
so that none answers though their neighbours stand there. Knows no model.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from fairlead.engines.scorer.pieces import apart
from training.embed_data import slip
from training.scorer_data import Asked, Library
from training.scorer_teacher import encoded_each

Floats = npt.NDArray[np.float32]
TAKEN_OUT = 0.3  # of the questions whose right units are hidden, so that none answers
HARD = 0.6  # share of the candidates that are like the question
SLIPS = 0.15  # of the questions with a slip of the finger
ONE_SHOP = ("natural", "invented", "pairs")  # sources with shelves of many questions


class Drawn(NamedTuple):
    """A question as it is asked, the shelf and units (indices and texts) beside it, and whether each answers."""

    one: Asked
    asked: str
    shelf: int
    places: list[int]
    units: list[str]
    gold: list[float]


def likeness_of(library: Library, work: Path) -> dict[str, Floats]:
    """The teacher's vector of every question and unit."""
    own = list(dict.fromkeys([a.text for a in library.asked] + [u for s in library.shelves for u in s.units]))
    told = encoded_each([". ".join(part for part in apart(text) if part) for text in own], work, "own")
    return dict(zip(own, told, strict=True))


class Drawer:
    """Draws a batch of one source at a time, in the shares given."""

    def __init__(
        self, library: Library, likeness: Mapping[str, Floats], shares: Mapping[str, float], questions: int, units: int
    ) -> None:
        self.library, self.likeness = library, likeness
        self._questions, self._units = questions, units
        by_shelf: dict[str, dict[int, list[Asked]]] = {}
        for one in library.asked:
            by_shelf.setdefault(one.source, {}).setdefault(one.shelf, []).append(one)
        self._groups = {source: list(groups.values()) for source, groups in by_shelf.items()}
        self._shares = {source: share for source, share in shares.items() if source in self._groups}

    def counts(self) -> dict[str, int]:
        """How many questions each source has."""
        return dict(Counter(one.source for one in self.library.asked))

    def draw(self, rng: random.Random) -> list[Drawn]:
        """Some questions of one source; those of a shop have many units in common."""
        source = rng.choices(list(self._shares), list(self._shares.values()))[0]
        groups = self._groups[source]
        weights = [len(group) ** 0.5 for group in groups]
        chosen = rng.choices(groups, weights, k=1 if source in ONE_SHOP else 3)
        asked = [one for group in chosen for one in rng.sample(group, min(len(group), self._questions))]
        return [self.drawn(one, rng) for one in rng.sample(asked, min(len(asked), self._questions))]

    def drawn(self, one: Asked, rng: random.Random) -> Drawn:
        """One question with its units."""
        places = self._candidates(one, rng)
        units = [self.library.shelves[one.shelf].units[i] for i in places]
        asked = slip(rng, one.text) if rng.random() < SLIPS else one.text
        return Drawn(one, asked, one.shelf, places, units, [float(i in one.right) for i in places])

    def likest(self, text: str, shelf: int, most: int) -> list[int]:
        """The units of a shelf that are most like a text, the likest first."""
        vector = self.likeness[text]
        units = self.library.shelves[shelf].units
        scores = np.stack([self.likeness[u] for u in units]) @ vector
        return [int(i) for i in np.argsort(-scores, kind="stable")[:most]]

    def _candidates(self, one: Asked, rng: random.Random) -> list[int]:
        shelf = self.library.shelves[one.shelf]
        hard_count = round(HARD * self._units)
        hard = [i for i in self.likest(one.text, one.shelf, 2 * hard_count + len(one.right)) if i not in one.right]
        hard = hard[: 2 * hard_count]
        chosen = dict.fromkeys(rng.sample(hard, min(len(hard), hard_count)))
        for i in self._beside(one, rng):
            chosen.setdefault(i)
        near = [i for i in one.near if i not in one.right and i not in chosen]
        chosen.update(dict.fromkeys(rng.sample(near, min(len(near), max(0, self._units - len(chosen) - 2)))))
        if one.right and rng.random() >= TAKEN_OUT:
            chosen.update(dict.fromkeys(rng.sample(one.right, min(len(one.right), 3))))
        rest = [i for i in range(len(shelf.units)) if i not in one.right and i not in chosen]
        chosen.update(dict.fromkeys(rng.sample(rest, max(0, min(len(rest), self._units - len(chosen))))))
        return list(chosen) or list(one.right)[:3]

    def _beside(self, one: Asked, rng: random.Random) -> list[int]:
        """A neighbour or two of a unit that answers: same section, same words, another fact."""
        if not one.right:
            return []
        here = rng.choice(one.right)
        last = len(self.library.shelves[one.shelf].units) - 1
        return [i for i in (here - 1, here + 1) if 0 <= i <= last and i not in one.right]
