"""What came of a selection, as data: stored with the run, printed, and shown on the page. Decides nothing.

Numbers that nobody knows are None, never 0. Money is in USD, time in seconds, memory in bytes.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec

from fairlead.evaluate.intervals import Interval

CHOSEN, NONE_PASSES, NOT_ENOUGH = 0, 1, 3
"""Exit statuses: a candidate holds every objective; none does; the data cannot tell yet. 2 is a mistake in the call."""


class Stat(msgspec.Struct, frozen=True, kw_only=True):
    """A value with its bounds; a bound is None where the data says nothing in that direction."""

    value: float | None
    low: float | None = None
    high: float | None = None


class Ruled(msgspec.Struct, frozen=True, kw_only=True):
    """One objective's verdict on one candidate."""

    objective: str
    kind: str
    bound: str
    outcome: str
    value: float | None
    low: float | None
    high: float | None
    n: int
    needed: int | None = None
    excluded: int = 0
    note: str = ""
    unit: str = ""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """One candidate. ``n`` samples have a quality; ``left`` says why it was asked no further, empty at the end.

    ``frontier`` is the share of resamples in which nothing was both better and cheaper (or quicker). ``macro_f1`` is
    there where labels are compared; its interval holds for one look only, so a race gives none.
    """

    id: str
    model: str
    release: str
    baseline: bool
    live: bool
    note: str
    n: int
    answered: int
    cached: int
    failed: int
    unasked: int
    retries: int
    quality: Stat
    first_p50: float | None
    first_p95: float | None
    total_p50: float | None
    total_p95: float | None
    cost_per_1000: Stat
    cost_per_resolution: float | None
    memory: int | None
    left: str
    outcome: str
    verdicts: tuple[Ruled, ...]
    frontier: float = 0.0
    error: str = ""
    macro_f1: Stat | None = None


class Against(msgspec.Struct, frozen=True, kw_only=True):
    """The chosen one minus another, on the samples both answered. ``p_value`` is McNemar's, for rights and wrongs."""

    other: str
    n: int
    difference: Stat
    only_chosen: int
    only_other: int
    p_value: float | None


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """One value of one tag: quality by candidate, and of how many samples (``counts``); ``n`` is the chosen one's.

    ``worse_than`` is better there, ``p_value`` by Benjamini-Hochberg.
    """

    tag: str
    value: str
    n: int
    quality: dict[str, float]
    counts: dict[str, int] = {}
    worse_than: str = ""
    p_value: float | None = None


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """A sample the chosen one got wrong, with what the others said: candidate to (answer, quality)."""

    sample: str
    input: str
    reference: Any
    answers: dict[str, tuple[str, float | None]]


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """What to do. ``status`` is the exit status, ``changes`` says what would lead to another choice."""

    status: int
    candidate: str
    headline: str
    reasons: tuple[str, ...]
    changes: tuple[str, ...]


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """One judge of the run: what it may decide (``state``, ``badge``, ``reasons`` why not) and what it did.

    ``looks`` were paid for now, ``known`` judgements came from earlier runs, ``invalid`` gave no verdict, ``unpaid``
    answers were not judged because the budget did not suffice.
    """

    judge: str
    state: str
    badge: str
    reasons: tuple[str, ...] = ()
    looks: int = 0
    known: int = 0
    invalid: int = 0
    unpaid: int = 0
    cost_usd: float | None = None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """A selection. ``calls`` were made or taken from earlier runs; to ask everyone everything takes ``all_calls``.

    ``spent_usd`` counts ``judges`` and played users (``users_usd``) too. ``left_out`` samples were not asked, as they
    belong with what the baselines learn from: ``learnt_from``.
    """

    run: str
    usecase: str
    spec_hash: str
    dataset: str
    content: str
    time: int
    samples: int
    epochs: int
    quality: str
    confidence: float
    tolerance: float
    raced: bool
    calls: int
    paid_calls: int
    all_calls: int
    spent_usd: float | None
    budget_usd: float | None
    unmeasured: tuple[str, ...]
    detectable: float | None
    standings: tuple[Standing, ...]
    against: tuple[Against, ...]
    slices: tuple[Slice, ...]
    cases: tuple[Case, ...]
    choice: Choice
    made_with: dict[str, str]
    learnt_from: str = ""
    left_out: int = 0
    judges: tuple[Judged, ...] = ()
    users_usd: float | None = 0.0

    def standing(self, identifier: str) -> Standing | None:
        """The candidate of that name."""
        return next((each for each in self.standings if each.id == identifier), None)


def stat_of(found: Interval) -> Stat:
    """An interval as it is stored: what is not finite becomes None."""
    return Stat(value=_finite(found.value), low=_finite(found.low), high=_finite(found.high))


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
