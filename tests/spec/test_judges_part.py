"""Judges in fairlead.yaml: who may judge, and whose judgement a metric may be."""

from __future__ import annotations

import pytest

from fairlead.errors import ChoiceUnknown
from fairlead.spec import UseCase, parse
from tests.spec.samples import FULL, only_problem


def test_a_judge_is_understood(usecase: UseCase) -> None:
    judge = usecase.judge("polite")
    assert (judge.kind, judge.variant, judge.rubric) == ("rubric", "mini", "Is the answer polite?")
    assert (judge.needs.kappa, judge.needs.labels) == (0.7, 100)
    with pytest.raises(ChoiceUnknown, match="Known: polite"):
        usecase.judge("kind")


@pytest.mark.parametrize(
    ("old", "new", "found", "near"),
    [
        ("variant: mini, rubric", "variant: minni, rubric", "the variant 'minni'", "mini"),
        ('source: "judge:polite"', 'source: "judge:polit"', "the unknown judge 'polit'", "polite"),
        ("variant: mini, rubric", "variant: extractive, rubric", "the variant 'extractive'", ""),
        ("needs: {kappa: 0.7}", "kind: pairwise", "the pairwise judge 'polite'", ""),
        ("needs: {kappa: 0.7}", "needs: {kappa: 1.7}", "1.7", ""),
        ("needs: {kappa: 0.7}", "needs: {labels: 1}", "1", ""),
        ("needs: {kappa: 0.7}", "kind: ranking", "'ranking'", ""),
        ('rubric: "Is the answer polite?"', 'rubric: ""', "", ""),
    ],
)
def test_what_cannot_judge(old: str, new: str, found: str, near: str) -> None:
    problem = only_problem(FULL.replace(old, new))
    assert found in problem.found
    assert near in problem.nearest


def test_an_embedder_cannot_judge() -> None:
    text = FULL.replace("live: extractive", "  - {id: vectors, model: embed}\nlive: extractive")
    assert "'vectors'" in only_problem(text.replace("variant: mini, rubric", "variant: vectors, rubric")).found


def test_a_metric_cannot_be_judged_by_nobody() -> None:
    text = FULL.replace(
        'judges:\n  - {id: polite, variant: mini, rubric: "Is the answer polite?", needs: {kappa: 0.7}}\n', ""
    )
    assert "declared in `judges:`" in only_problem(text).expected
    assert parse(text.replace("judge:polite", "person")).judges == ()
