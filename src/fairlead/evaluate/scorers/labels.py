"""Scorers of classification, and what follows from all labels together: accuracy, macro-F1, out-of-scope recall."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from fairlead.evaluate import bootstrap, intervals
from fairlead.evaluate.intervals import Interval
from fairlead.evaluate.numbers import Codes, Numbers
from fairlead.evaluate.scorers import Answer
from fairlead.evaluate.scorers.texts import plain
from fairlead.records import Sample


class Classification(msgspec.Struct, frozen=True, kw_only=True):
    """What labels come to. ``out_of_scope`` is None where no sample is out of scope or no label stands for it."""

    accuracy: Interval
    macro_f1: Interval
    out_of_scope: Interval | None


def label(sample: Sample, answer: Answer) -> str:
    """The label that was answered, in lower case with single spaces."""
    return plain(answer.text)


def right_label(sample: Sample, answer: Answer) -> bool | None:
    """Whether it is exactly the reference."""
    return None if not isinstance(sample.reference, str) else plain(answer.text) == plain(sample.reference)


def classify(
    truths: Sequence[str],
    labels: Sequence[str],
    confidence: float,
    *,
    out_of_scope: str = "",
    clusters: Codes | None = None,
) -> Classification:
    """Accuracy, macro-F1 and the share of ``out_of_scope`` samples that were labelled so, with intervals.

    Macro-F1 is the mean of F1 over the labels that occur among the truths, as in M. Sokolova and G. Lapalme (2009); a
    label that is only answered lowers the precision of none. ``truths`` is not empty.
    """
    known = {name: code for code, name in enumerate(dict.fromkeys([*truths, *labels]))}
    true = np.array([known[each] for each in truths])
    given = np.array([known[each] for each in labels])
    right = (true == given).astype(np.float64)
    f1 = bootstrap.bootstrap(
        lambda rows: macro_f1(true[rows], given[rows], len(known)), len(true), confidence, clusters=clusters
    )
    outside = true == known.get(out_of_scope, -1)
    return Classification(
        accuracy=_share(right, clusters, confidence),
        macro_f1=msgspec.structs.replace(f1, low=max(0.0, f1.low), high=min(1.0, f1.high)),
        out_of_scope=_share(right[outside], _chosen(clusters, outside), confidence) if outside.any() else None,
    )


def macro_f1(true: Codes, given: Codes, count: int) -> float:
    """The mean of F1 over the labels among ``true``; both are codes below ``count``."""
    hits = np.bincount(true[true == given], minlength=count)
    actual, answered = np.bincount(true, minlength=count), np.bincount(given, minlength=count)
    occurring = actual > 0
    return float((2 * hits[occurring] / (actual + answered)[occurring]).mean())


def _share(hits: Numbers, clusters: Codes | None, confidence: float) -> Interval:
    if clusters is None:
        return intervals.share(int(hits.sum()), len(hits), confidence)
    return intervals.clustered_share(hits, clusters, confidence)


def _chosen(clusters: Codes | None, rows: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> Codes | None:
    if clusters is None:
        return None
    return np.unique(clusters[rows], return_inverse=True)[1].astype(np.int64)
