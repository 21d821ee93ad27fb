"""How well a judge agrees with people, and with itself: shares and Cohen's kappa with intervals. Pure.

Kappa is agreement beyond what two judges who only know how often each verdict is given would reach (J. Cohen,
Educational and Psychological Measurement 20 (1960), 37-46). Where people gave one verdict only, there is nothing beyond
chance to agree on: kappa is undefined and said to be.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from fairlead.evaluate import bootstrap, intervals
from fairlead.evaluate.intervals import Interval
from fairlead.evaluate.numbers import Codes, Numbers


def kappa(ours: Codes, theirs: Codes, count: int) -> float:
    """Cohen's kappa of two codings below ``count``; NaN where chance alone agrees always."""
    if not len(ours):
        return math.nan
    table = np.bincount(ours * count + theirs, minlength=count * count).astype(np.float64)
    return float(_kappas(table[None, :])[0])


def _kappas(tables: Numbers) -> Numbers:
    """Kappa of each flattened square table of counts. Shape (draws, count x count) to (draws,)."""
    count = math.isqrt(tables.shape[1])
    shares = tables.reshape(-1, count, count) / tables.sum(axis=1)[:, None, None]
    chance = (shares.sum(axis=2) * shares.sum(axis=1)).sum(axis=1)
    beyond = np.where(1 - chance < 1e-12, np.nan, 1 - chance)
    return np.asarray((np.trace(shares, axis1=1, axis2=2) - chance) / beyond, np.float64)


def agreement(
    ours: Sequence[str], theirs: Sequence[str], confidence: float, clusters: Codes | None = None
) -> tuple[Interval, Interval]:
    """(accuracy, kappa) of verdicts against labels, each with its interval. ``clusters``: cases of one question.

    Kappa's interval is a BCa bootstrap; unknown where kappa is undefined.
    """
    known = {name: code for code, name in enumerate(dict.fromkeys([*theirs, *ours]))}
    one, other = (np.array([known[each] for each in part], np.int64) for part in (ours, theirs))
    hits = (one == other).astype(np.float64)
    if not len(hits):
        return intervals.unknown(0, "wilson"), intervals.unknown(0, "kappa")
    grouped = clusters is not None and int(clusters.max()) + 1 < len(hits)
    accuracy = (
        intervals.clustered_share(hits, clusters, confidence)
        if grouped and clusters is not None
        else intervals.share(int(hits.sum()), len(hits), confidence)
    )
    if len(set(theirs)) < 2:
        return accuracy, intervals.unknown(len(hits), "kappa")
    if hits.all():
        # Every resample agrees wholly too. What is left of doubt is the accuracy's, turned into kappa's units.
        return accuracy, Interval(value=1.0, low=_from_accuracy(accuracy.low, other), high=1.0, n=len(hits),
                                  method="kappa by wilson")  # fmt: skip
    parts = np.zeros((len(hits), len(known) ** 2))
    parts[np.arange(len(hits)), one * len(known) + other] = 1.0
    found = bootstrap.bootstrap_totals(_kappas, parts, confidence, clusters=clusters if grouped else None)
    return accuracy, found


def _from_accuracy(share: float, theirs: Codes) -> float:
    chance = float(((np.bincount(theirs) / len(theirs)) ** 2).sum())
    return (share - chance) / (1 - chance)


def ceiling(people: Sequence[Sequence[str]]) -> float | None:
    """How well two people agree, as the mean kappa over pairs of raters; None where nobody looked twice."""
    most = max(map(len, people), default=0)
    values = []
    for one, other in itertools.combinations(range(most), 2):
        both = [(each[one], each[other]) for each in people if len(each) > other]
        names = {name: code for code, name in enumerate(dict.fromkeys(itertools.chain(*both)))}
        codes = [np.array([names[pair[place]] for pair in both], np.int64) for place in (0, 1)]
        values.append(kappa(codes[0], codes[1], max(1, len(names))))
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else None


def share(hits: int, n: int, confidence: float) -> Interval:
    """A share with Wilson's interval; unknown where there is nothing to count."""
    return intervals.share(hits, n, confidence) if n else intervals.unknown(0, "wilson")
