"""The planner: what it promises is what simulated comparisons show, and both ways of asking it agree."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.cli import main
from fairlead.errors import UsageError
from fairlead.evaluate import intervals, planning, sequences
from fairlead.evaluate.planning import Case

SHARES = st.floats(0.05, 0.95)


def test_planned_comparisons_show_in_four_of_five_cases() -> None:
    chance = np.random.default_rng(4)
    case = Case()
    paired, looking, apart, bound = (each.needed or 0 for each in planning.plan(case, difference=0.05))
    only_one, only_other = (case.discordance + 0.05) / 2, (case.discordance - 0.05) / 2
    shown = {"paired": 0, "looking": 0, "apart": 0, "bound": 0}
    for _ in range(600):
        counts = chance.multinomial(paired, [only_one, only_other, 1 - case.discordance])
        shown["paired"] += (counts[0] - counts[1]) / math.sqrt(max(1, counts[0] + counts[1])) > 1.96
        values = chance.choice([1.0, -1.0, 0.0], size=looking, p=[only_one, only_other, 1 - case.discordance])
        shown["looking"] += sequences.asymptotic(values, case.confidence).low > 0
        one, other = chance.binomial(apart, 0.25), chance.binomial(apart, 0.20)
        pooled = (one + other) / (2 * apart)
        shown["apart"] += (one - other) / apart > 1.96 * math.sqrt(2 * pooled * (1 - pooled) / apart)
        shown["bound"] += intervals.share(int(chance.binomial(bound, 0.85)), bound, case.confidence).low > 0.80
    for way, count in shown.items():
        assert 0.74 <= count / 600 <= 0.86, way


def test_clusters_need_as_many_more_as_they_are_alike() -> None:
    alone = planning.plan(Case(), difference=0.05, samples=1_200)
    together = planning.plan(Case(cluster=4, alike=1 / 3), difference=0.05, samples=2_400)
    for one, other in zip(alone, together, strict=True):
        assert other.needed == pytest.approx(2 * (one.needed or 0), abs=2)
        assert other.detectable == pytest.approx(one.detectable)


@given(SHARES, st.floats(0.02, 1), st.floats(0.01, 0.5), st.none() | st.floats(0.1, 10))
def test_needed_and_detectable_are_each_others_inverse(
    share: float, discordance: float, difference: float, deviation: float | None
) -> None:
    case = Case(share=share, discordance=discordance, deviation=deviation)
    for each in planning.plan(case, difference=difference):
        if each.needed is None or each.needed > 10**7:
            continue
        way = next(w for w in planning.plan(case, samples=each.needed) if w.way == each.way)
        assert way.detectable is not None, each.way
        assert way.detectable <= difference * 1.001, each.way
        if each.needed > sequences.FEWEST + 1:
            fewer = next(w for w in planning.plan(case, samples=each.needed - 1) if w.way == each.way)
            assert fewer.detectable is None or fewer.detectable >= difference * 0.99, each.way


@pytest.mark.parametrize(
    ("case", "difference", "samples"),
    [
        (Case(), 0.0, None), (Case(), 1.0, None), (Case(), math.nan, None), (Case(), None, 0), (Case(), None, 10**10),
        (Case(share=0.0), 0.1, None), (Case(share=math.nan), 0.1, None), (Case(discordance=0), 0.1, None),
        (Case(confidence=1.0), 0.1, None), (Case(cluster=0.5), 0.1, None), (Case(alike=2), 0.1, None),
        (Case(deviation=0), 0.1, None), (Case(deviation=math.inf), 0.1, None),
    ],
)  # fmt: skip
def test_what_cannot_be_planned_is_said(case: Case, difference: float | None, samples: int | None) -> None:
    with pytest.raises(UsageError, match="A plan needs"):
        planning.plan(case, difference=difference, samples=samples)


def _run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    capsys.readouterr()
    with pytest.raises(SystemExit) as left:
        main(["plan", *words])
    shown = capsys.readouterr()
    return int(left.value.code or 0), shown.out or shown.err


def test_the_command_in_words_and_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, said = _run(capsys, "--difference", "0.03", "--samples", "400")
    assert code == 0
    assert "To show a difference of 3 points (two variants, the same samples) take 1,306 samples." in said
    assert "A difference below 5.41 points will probably not show with 400 samples." in said
    found = json.loads(_run(capsys, "--difference", "0.03", "--samples", "400", "--json")[1])
    assert (found["ways"][0]["needed"], found["assumed"]["power"]) == (1306, 0.8)
    assert found["ways"][0]["detectable"] == pytest.approx(0.0541, abs=1e-4)
    code, said = _run(capsys)
    assert (code, said.count("points") > 25, "10,000" in said) == (0, True, True)
    assert json.loads(_run(capsys, "--json")[1])["sizes"][0]["samples"] == 50
    assert "there cannot be such a difference" in _run(capsys, "--difference", "0.2")[1]
    assert "more than 1,000,000,000 samples" in _run(capsys, "--difference", "1e-9")[1].replace("\n", " ")
    assert "1 sample is too few" in _run(capsys, "--samples", "1")[1]
    assert "on 10 % of the samples" in _run(capsys, "--share", "0.95")[1].replace("\n", " ")
    for words, told in (
        (("--difference", "0.5"), "above 100 %"),
        (("--share", "0.95", "--discordance", "0.5"), "--discordance 0.1 or less"),
        (("--difference", "1e-300"), "at least 1e-09"),
        (("--deviation", "1e300"), "below 1e+12"),
    ):
        code, said = _run(capsys, *words)
        assert (code, told in " ".join(said.split())) == (2, True), said
    assert "too few to show any difference" in _run(capsys, "--samples", "20")[1]
    assert "take 349 samples" in _run(capsys, "--deviation", "2", "--difference", "0.3")[1]
    code, said = _run(capsys, "--difference", "3")
    assert (code, "as 0.03 for three points" in said) == (2, True)
