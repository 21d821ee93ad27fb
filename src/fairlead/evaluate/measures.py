"""From objectives to scorers, and from scores back to evidence: what a run on samples can measure, and what it cannot.

A metric's ``source`` names the scorer (``code:right_label``), or its name does. Outcomes and ratings need real users
and stay unmeasured. ``quality`` is the one number candidates are ranked by where no objective says better.
"""

from __future__ import annotations

import statistics
from collections.abc import Container, Mapping, Sequence

import msgspec
import numpy as np

from fairlead.errors import ScorerInvalid, SelectionImpossible
from fairlead.evaluate.evidence import Evidence, gather
from fairlead.evaluate.runner import Item
from fairlead.evaluate.samples import fits
from fairlead.evaluate.scorers import SCORERS, Scorer, make_scorer
from fairlead.evaluate.scorers.texts import texts_of
from fairlead.records import Sample
from fairlead.spec import Objective, UseCase
from fairlead.spec.metrics import BUILT_IN
from fairlead.spec.plan import is_measured_offline

BY_METRIC: Mapping[str, str] = {
    "groundedness": "grounded",
    "out_of_scope_recall": "declined",
    "intent_accuracy": "right_label",
    "correct_escalation": "handed_over",
    "first_token_latency": "first_token",
    "total_latency": "latency",
    "cost_per_request": "cost",
}
"""Built-in metric to the scorer that gives its values."""
TAKEN = ("first_token", "latency", "input_tokens", "output_tokens", "cost")
"""What every run measures besides."""
LABEL_CHARS, LABEL_SHARE = 60, 0.5
"""References are labels where they are short texts and at most half as many different ones as samples."""
LONG_CHARS = 200
"""References longer than this (the median) are whole answers: no other answer holds them word by word."""

Key = tuple[str, int]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What a run measures. ``of`` is objective id to the name of its scorer; ``unmeasured`` objectives have none."""

    scorers: dict[str, Scorer]
    quality: str
    limits: tuple[float, float]
    of: dict[str, str]
    unmeasured: tuple[str, ...]


def plan(
    usecase: UseCase,
    samples: Sequence[Sample],
    quality: str = "",
    given: Sequence[Scorer] = (),
    calibrated: Container[str] = (),
) -> Plan:
    """What can be measured of the use case's objectives on these samples.

    ``quality`` names the scorer to rank by; ``given`` are scorers made elsewhere, such as judges, that go by their
    names. ``calibrated`` are the hashes of judges that may decide: by no other judge is anybody ranked. Raises
    SelectionImpossible for no samples or a quality that applies to none, ChoiceUnknown, ScorerInvalid.
    """
    if not samples:
        raise SelectionImpossible(detail="the data set holds no sample")
    known = {each.name: each for each in given}
    of: dict[str, str] = {}
    for objective in usecase.objectives:
        name = scorer_name(usecase, objective, known)
        if name:
            of[objective.id] = name
    undecided = {each.name for each in given if each.judge and each.judge not in calibrated}
    if quality in undecided:
        mend = f"fairlead judge calibrate {quality.removeprefix('judge:')} --labels FILE"
        raise ScorerInvalid(name=quality, detail=f"it is not calibrated, so nobody is ranked by it: {mend}")
    deciding = {identifier: name for identifier, name in of.items() if name not in undecided}
    chosen = quality or _goal(usecase, deciding) or guess_quality(samples)
    names = dict.fromkeys([chosen, *of.values(), *TAKEN])
    scorers = {name: known.get(name) or make_scorer(name) for name in names}
    if scorers[chosen].kind == "label":
        raise ScorerInvalid(name=chosen, detail="it labels; candidates are ranked by a bool or a number")
    return Plan(
        scorers=scorers,
        quality=chosen,
        limits=(-1.0, 1.0) if chosen == "similarity" else (0.0, 1.0),
        of=of,
        unmeasured=tuple(each.id for each in usecase.objectives if each.id not in of),
    )


def scorer_name(usecase: UseCase, objective: Objective, known: Mapping[str, Scorer] = {}) -> str:
    """The scorer that gives the values of an objective's metric; empty where only real users do."""
    name = objective.of if objective.aggregation == "gap" else objective.metric
    metric = usecase.effective_metrics[name]
    if metric.source in known:
        return metric.source
    if not is_measured_offline(metric) or objective.aggregation == "ratio":
        return ""
    if name in BY_METRIC and metric.source == BUILT_IN[name].source:
        return BY_METRIC[name]
    kind, _, detail = metric.source.partition(":")
    return detail if kind == "code" and detail in SCORERS.names() else ""


def _goal(usecase: UseCase, of: Mapping[str, str]) -> str:
    """The scorer of the weightiest goal that is a share and more of which is better."""
    shares = [
        each
        for each in usecase.objectives
        if each.id in of and each.kind == "goal" and not each.slice and each.aggregation == "mean"
        if usecase.effective_metrics[each.metric].is_share and each.bound.op == ">="
    ]
    return of[max(shares, key=lambda each: each.weight).id] if shares else ""


def guess_quality(samples: Sequence[Sample]) -> str:
    """The scorer that fits the references: labels must be equal, facts must be told, whole answers be alike."""
    if are_labels(samples):
        return "right_label"
    texts = ["".join(texts_of(each.reference)) for each in samples if each.reference is not None]
    if texts and statistics.median(map(len, texts)) > LONG_CHARS:
        return "similarity"
    return "right"


def are_labels(samples: Sequence[Sample]) -> bool:
    """Whether the references are labels: one short text each, of which there are few."""
    references = [each.reference for each in samples if each.reference is not None]
    texts = [each for each in references if isinstance(each, str) and len(each) <= LABEL_CHARS]
    return bool(texts) and len(texts) == len(references) and 1 < len(set(texts)) <= LABEL_SHARE * len(texts)


def evidence_for(
    usecase: UseCase,
    planned: Plan,
    items: Mapping[Key, Item],
    samples: Sequence[Sample],
    keys: Sequence[Key] | None = None,
) -> dict[str, Evidence]:
    """Objective id to what was measured of one candidate, in the order of ``samples``.

    With ``keys`` only of those: to compare two candidates, give the ones both answered. A sample's epochs belong
    together, as the samples of a conversation do.
    """
    order = {sample.id: sample for sample in samples}
    chosen = [key for key in (keys or list(items)) if key in items and key[0] in order]
    place = {sample.id: number for number, sample in enumerate(samples)}
    chosen.sort(key=lambda key: (key[1], place[key[0]]))
    found = {}
    for objective in usecase.objectives:
        if objective.id in planned.of:
            metric = usecase.effective_metrics[objective.of if objective.aggregation == "gap" else objective.metric]
            wanted = {**metric.rows, **objective.slice}
            rows = [(order[key[0]], items[key]) for key in chosen if fits(order[key[0]], wanted)]
            found[objective.id] = _evidence(rows, planned.of[objective.id], objective)
    return found


def _evidence(rows: Sequence[tuple[Sample, Item]], scorer: str, objective: Objective) -> Evidence:
    values: list[float] = []
    clusters: list[str] = []
    groups: list[str] = []
    excluded, judge = 0, ""
    for sample, item in rows:
        score = item.scores[scorer]
        excluded += score.excluded
        judge = score.judge or judge  # also where it gave no verdict at all
        if score.value is not None and not isinstance(score.value, str):
            group = _group(sample, objective.by) if objective.aggregation == "gap" else ""
            if objective.aggregation == "gap" and not group:
                continue
            values.append(float(score.value))
            clusters.append(sample.conversation or sample.id)
            groups.append(group)
    return gather(
        values, clusters=clusters, groups=groups if objective.aggregation == "gap" else None, excluded=excluded,
        judge=judge,
    )  # fmt: skip


def _group(sample: Sample, tag: str) -> str:
    return str({**sample.fields, **sample.tags}.get(tag, ""))


def quality_of(planned: Plan, items: Mapping[Key, Item]) -> dict[str, float]:
    """Sample id to the mean quality of its answers; samples without a value are left out."""
    values: dict[str, list[float]] = {}
    for (sample, _), item in items.items():
        value = item.scores[planned.quality].value
        if value is not None and not isinstance(value, str):
            values.setdefault(sample, []).append(float(value))
    return {sample: float(np.mean(each)) for sample, each in values.items()}


def number_of(items: Mapping[Key, Item], scorer: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """All values of a scorer that gives numbers."""
    values = [item.scores[scorer].value for item in items.values()]
    return np.array([value for value in values if isinstance(value, int | float)], np.float64)
