"""Judges without a model: by length, by likeness, by chance. What a judge that costs money has to beat."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np

from fairlead.engines.embed.embedder import shared
from fairlead.evaluate.judges.looks import Case, Definition, Instrument, Judgement

CLOSE = 0.02
"""Difference of cosines, or share of the length, within which two answers tie."""


def by_code(name: str, decide: Callable[[Case], str], *, rubric: str = "") -> Instrument:
    """A pairwise judge from a function of a case. Costs nothing and says the same every time."""

    async def look(case: Case, repetition: int) -> Judgement:
        return Judgement(verdict=decide(case), calls=0, cost_nanos=0)

    definition = Definition(id=name, kind="pairwise", rubric=rubric or name, model=f"code:{name}")
    return Instrument(definition=definition, look=look)


def longer() -> Instrument:
    """The longer answer is better."""
    return by_code("longer", lambda case: _larger(*(float(len(text)) for text in case.answers), relative=True))


def alike() -> Instrument:
    """The answer whose vector is nearer to the question's is better."""

    def decide(case: Case) -> str:
        question, *answers = np.asarray(shared().encode([case.question, *case.answers]), np.float64)
        return _larger(*(float(answer @ question) for answer in answers))

    return by_code("alike", decide)


def chance() -> Instrument:
    """A coin, thrown once for each pair in each order: agreement that means nothing."""

    def decide(case: Case) -> str:
        text = "\0".join([case.question, *case.answers])
        return ("first", "second")[hashlib.sha256(text.encode("utf-8", "replace")).digest()[0] % 2]

    return by_code("chance", decide)


PEERS: tuple[Callable[[], Instrument], ...] = (longer, alike, chance)


def _larger(first: float, second: float, *, relative: bool = False) -> str:
    close = CLOSE * max(first, second) if relative else CLOSE
    if abs(first - second) <= close:
        return "tie"
    return "first" if first > second else "second"
