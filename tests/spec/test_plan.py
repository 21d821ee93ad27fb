"""What samples can show (against published figures and by simulation) and what traffic costs."""

from __future__ import annotations

import math
import random
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.spec import UseCase, parse, power
from fairlead.spec.plan import CostPlan, ObjectivePlan, plan_costs, plan_objectives
from tests.spec.samples import FULL


def plan_of(usecase: UseCase, objective: str, rows: int = 0) -> ObjectivePlan:
    plans = {plan.objective: plan for plan in plan_objectives(usecase, {objective: rows})}
    return plans[objective]


class TestFormulas:
    """Against tables, against each other and against simulated samples."""

    @pytest.mark.parametrize(
        ("difference", "discordance", "n"),
        [
            (0.02, 0.10, 1960),
            (0.03, 0.15, 1306),
            (0.05, 0.15, 469),
            (0.05, 0.20, 626),
            (0.05, 0.30, 940),
            (0.10, 0.30, 234),
        ],
    )
    def test_paired_matches_the_table_of_the_research_note(self, difference: float, discordance: float, n: int) -> None:
        assert power.paired_needed(difference, discordance, 0.95) == pytest.approx(n, abs=2)

    @pytest.mark.parametrize(("difference", "n"), [(0.02, 6036), (0.03, 2626), (0.05, 903), (0.10, 197)])
    def test_unpaired_matches_the_table_of_the_research_note(self, difference: float, n: int) -> None:
        # The table uses Cohen's arcsine approximation, this is the pooled test: within 1.5 %.
        assert power.unpaired_needed(0.8, difference, 0.95) == pytest.approx(n, rel=0.015)

    @pytest.mark.parametrize(
        ("share", "n", "low", "high"),
        # 0/10, 8/10 and 81/263; the last is in Newcombe, Statistics in Medicine 17 (1998), Table I.
        [(0.0, 10, 0.0, 0.2775), (0.8, 10, 0.4902, 0.9433), (81 / 263, 263, 0.2553, 0.3662)],
    )
    def test_wilson_matches_published_intervals(self, share: float, n: int, low: float, high: float) -> None:
        assert power.wilson(share, n, 0.95) == pytest.approx((low, high), abs=1e-4)

    def test_percentile_interval_of_the_median_matches_conover(self) -> None:
        # Sign-test limits of the median at 95 %: n = 10 gives ranks 2 and 9, n = 20 ranks 6 and 15.
        assert power.percentile_ranks(0.5, 10, 0.95) == (2, 9)
        assert power.percentile_ranks(0.5, 20, 0.95) == (6, 15)

    def test_a_percentile_needs_enough_values(self) -> None:
        assert power.percentile_needed(0.95, 0.95) == 72
        assert power.percentile_ranks(0.95, 72, 0.95)[1] == 72
        assert power.percentile_ranks(0.95, 71, 0.95)[1] is None
        assert power.percentile_ranks(0.5, 3, 0.95) == (None, None)

    def test_the_normal_approximation_continues_the_exact_ranks(self) -> None:
        exact = power.percentile_ranks(0.95, 5_000, 0.95)
        beyond = power.percentile_ranks(0.95, 5_001, 0.95)
        assert exact == pytest.approx(beyond, abs=2)

    @pytest.mark.parametrize(("bound", "better"), [(0.6, 0.65), (0.8, 0.9), (0.95, 0.975), (0.97, 0.985)])
    def test_the_samples_needed_give_the_power_promised(self, bound: float, better: float) -> None:
        n = power.share_needed(bound, better, 0.95)
        hits = np.random.default_rng(7).binomial(n, better, size=20_000) / n
        shown = np.mean([power.wilson(float(share), n, 0.95)[0] >= bound for share in np.unique(hits).repeat(1)
                         for _ in range(int((hits == share).sum()))])  # fmt: skip
        assert shown == pytest.approx(power.POWER, abs=0.03)

    def test_the_samples_needed_give_the_power_promised_in_comparisons(self) -> None:
        difference, discordance = 0.05, 0.15
        n = power.paired_needed(difference, discordance, 0.95)
        generator = np.random.default_rng(11)
        better, worse = (discordance + difference) / 2, (discordance - difference) / 2
        counts = generator.multinomial(n, [better, worse, 1 - discordance], size=20_000)
        z = (counts[:, 0] - counts[:, 1]) / np.sqrt(np.maximum(1, counts[:, 0] + counts[:, 1]))
        assert np.mean(z >= 1.959964) == pytest.approx(power.POWER, abs=0.02)

    def test_the_order_statistic_interval_covers(self) -> None:
        n = 200
        low, high = power.percentile_ranks(0.95, n, 0.95)
        assert low is not None
        assert high is not None
        values = np.sort(np.random.default_rng(3).lognormal(size=(20_000, n)), axis=1)
        true = math.exp(1.6448536)
        covered = np.mean((values[:, low - 1] <= true) & (true <= values[:, high - 1]))
        assert covered >= 0.945

    def test_false_alarms_are_as_rare_as_declared(self) -> None:
        n, bound = 500, 0.9
        hits = np.random.default_rng(5).binomial(n, bound, size=20_000)
        shown = np.mean([power.wilson(count / n, n, 0.95)[0] >= bound for count in hits])
        assert shown <= 0.035  # one side of 5 %, with the roughness of whole numbers

    @given(st.integers(10, 100_000), st.floats(0.05, 0.95), st.booleans())
    def test_more_samples_show_smaller_differences(self, n: int, bound: float, upwards: bool) -> None:
        gap = power.share_detectable(bound, n, 0.95, upwards=upwards)
        more = power.share_detectable(bound, 4 * n, 0.95, upwards=upwards)
        if gap is None:
            return
        assert more is not None
        assert more <= gap
        sign = 1 if upwards else -1
        assert power.share_needed(bound, bound + sign * gap, 0.95) <= n

    @given(st.integers(10, 100_000), st.floats(0.02, 0.5))
    def test_paired_is_the_inverse_of_needed(self, n: int, discordance: float) -> None:
        gap = power.paired_detectable(n, discordance, 0.95)
        if gap is not None:
            assert power.paired_needed(gap, discordance, 0.95) <= n
            assert 0 < gap <= discordance


class TestObjectives:
    """Each kind of objective is seen in its own way."""

    def test_a_share_that_only_traffic_shows(self, usecase: UseCase) -> None:
        plan = plan_of(usecase, "resolution", rows=500)
        assert plan.evaluation is None
        assert plan.week is not None
        assert plan.week.n == 400 * 7
        assert plan.week.half_width == pytest.approx(1.96 * math.sqrt(0.6 * 0.4 / 2800), rel=0.01)
        assert plan.needed == power.share_needed(0.6, 0.65, 0.95)
        assert "only live traffic" in plan.note

    def test_a_share_at_hand_with_a_margin(self, usecase: UseCase) -> None:
        plan = plan_of(usecase, "grounded", rows=500)
        assert plan.evaluation is not None
        assert plan.evaluation.n == 500
        assert plan.assumed == pytest.approx(0.01)
        assert plan.needed == power.share_needed(0.97, 0.98, 0.95)
        assert plan.evaluation.comparison == power.paired_detectable(500, 0.15, 0.95)
        assert "intent=refund" in plan.note
        assert plan.week is not None
        assert plan.week.n == 400 * 3 * 7

    def test_more_confidence_costs_more_samples(self) -> None:
        loose = plan_of(parse(FULL.replace("confidence: 0.95", "confidence: 0.8")), "resolution")
        strict = plan_of(parse(FULL.replace("confidence: 0.95", "confidence: 0.99")), "resolution")
        assert loose.needed is not None
        assert strict.needed is not None
        assert loose.needed < strict.needed

    def test_a_percentile_is_seen_as_a_share(self, usecase: UseCase) -> None:
        plan = plan_of(usecase, "first-token", rows=200)
        assert plan.measure == "share"
        assert plan.evaluation is not None
        assert plan.evaluation.detectable == power.share_detectable(0.95, 200, 0.95, upwards=True)
        assert plan.needed == power.share_needed(0.95, 0.975, 0.95)
        assert "72 values" in plan.note
        few = plan_of(usecase, "first-token", rows=50)
        assert few.evaluation is not None
        assert few.evaluation.half_width is None

    def test_an_unknown_spread_is_said_to_be_unknown(self, usecase: UseCase) -> None:
        plan = plan_of(usecase, "cost")
        assert plan.measure == "standard deviations"
        assert plan.needed is None
        assert "spread of the values is unknown" in plan.note
        assert plan.week is not None
        assert plan.week.half_width == pytest.approx(1.96 / math.sqrt(2800), rel=0.001)

    def test_a_gap_compares_every_pair_of_groups(self) -> None:
        two = plan_of(parse(FULL), "fair")
        three = plan_of(parse(FULL.replace("[en, no]", "[en, no, de]")), "fair")
        assert two.week is not None
        assert three.week is not None
        assert two.week.half_width is not None
        assert three.week.half_width is not None
        assert two.week.half_width == pytest.approx(1.96 * math.sqrt(0.5 / 1400), rel=0.001)
        assert three.week.half_width > two.week.half_width * math.sqrt(1.5)
        assert "3 groups" in three.note

    def test_a_gap_found_by_chance_is_as_rare_as_declared(self) -> None:
        """Three equal groups at the worst share: all three intervals of differences cover 0 in 95 of 100 cases."""
        plan = plan_of(parse(FULL.replace("[en, no]", "[en, no, de]")), "fair")
        assert plan.week is not None
        assert plan.week.half_width is not None
        each = plan.week.n // 3
        shares = np.random.default_rng(2).binomial(each, 0.5, size=(20_000, 3)) / each
        gaps = shares.max(axis=1) - shares.min(axis=1)
        assert np.mean(gaps <= plan.week.half_width) >= 0.945

    def test_the_very_end_of_the_range_can_never_be_confirmed(self) -> None:
        plan = plan_of(
            parse(FULL.replace('">= 0.97"', '">= 1.0"').replace("margin: 0.01, ", "")), "grounded", rows=5000
        )
        assert plan.needed is None
        assert plan.evaluation is not None
        assert plan.evaluation.detectable is None
        assert "never be confirmed" in plan.note

    def test_a_bound_near_the_end_assumes_half_of_what_is_left(self) -> None:
        plan = plan_of(parse(FULL.replace("margin: 0.01, ", "")), "grounded")
        assert plan.assumed == pytest.approx(0.015)

    def test_a_score_on_a_scale_is_the_worst_case_of_its_range(self) -> None:
        own = "metrics:\n  tone: {definition: Tone from 1 to 5., level: inference, type: float, direction: max, "
        own += "low: 1, high: 5, source: person}\n"
        text = FULL.replace("metrics:\n", own).replace(
            'metric: politeness, bound: ">= 90 %"', 'metric: tone, bound: ">= 4"'
        )
        plan = plan_of(parse(text), "polite")
        assert plan.measure == "value"
        assert plan.week is not None
        assert plan.week.half_width is not None
        # Values 1 and 5 only, with mean 4: a share of 0.75 stretched by 4.
        assert plan.week.half_width == pytest.approx(4 * power.share_half_width(0.75, plan.week.n, 0.95))
        spread = random.Random(1)
        draws = [spread.choice([2, 3, 4, 5, 5, 5]) for _ in range(plan.week.n)]
        deviation = float(np.std(draws)) / math.sqrt(plan.week.n) * 1.96
        assert deviation <= plan.week.half_width

    def test_ratings_are_fewer_than_conversations(self) -> None:
        plan = plan_of(
            parse(
                FULL.replace('metric: resolution, aggregation: mean, bound: ">= 0.60"', 'metric: csat, bound: ">= 0.8"')
            ),
            "resolution",
        )
        assert plan.week is not None
        assert plan.week.n == 280
        assert "10%" in plan.note

    def test_without_traffic_nothing_is_said_about_a_week(self) -> None:
        text = "\n".join(line for line in FULL.splitlines() if not line.startswith("traffic"))
        assert plan_of(parse(text), "resolution").week is None


class TestCosts:
    """Tokens times price; what is unknown stays unknown."""

    def cost(self, usecase: UseCase, variant: str, rows: int = 0) -> CostPlan:
        return {plan.variant: plan for plan in plan_costs(usecase, rows)}[variant]

    def test_multiplies_tokens_and_price(self, usecase: UseCase) -> None:
        plan = self.cost(usecase, "hosted", rows=1000)
        turn = (900 * 0.4 + 80 * 1.6) / 1e6
        assert plan.per_conversation_usd == pytest.approx(3 * turn)
        assert plan.per_day_usd == pytest.approx(400 * 3 * turn)
        assert plan.per_month_usd == pytest.approx(30 * 400 * 3 * turn)
        assert plan.evaluation_usd == pytest.approx(1000 * turn)
        assert plan.per_resolution_usd == pytest.approx(3 * turn / 0.6)
        assert plan.breaks == ()

    def test_unknown_is_never_free(self) -> None:
        unpriced = FULL.replace("    price: {input_usd_per_million: 0.4, output_usd_per_million: 1.6}\n", "")
        unbudgeted = re.sub(r"per_day_usd: \S+ per_month_usd: [^}]+", "", unpriced)
        usecase = parse(unbudgeted.replace("openai:gpt-4.1-mini", "openai:nobody-knows-this-one"))
        plan = self.cost(usecase, "hosted", rows=1000)
        assert plan.per_day_usd is None
        assert plan.evaluation_usd is None
        assert plan.note.startswith("unknown")

    def test_a_model_of_ones_own_has_no_fees(self, usecase: UseCase) -> None:
        plan = self.cost(usecase, "mini")
        assert plan.per_day_usd == 0.0
        assert "machine is not counted" in plan.note

    def test_names_the_budgets_it_breaks(self) -> None:
        dear = FULL.replace("input_usd_per_million: 0.4", "input_usd_per_million: 15")
        assert self.cost(parse(dear), "hosted", rows=1000).breaks == ("evaluation", "per_day", "per_month")
        assert self.cost(parse(dear), "hosted").breaks == ("per_day", "per_month")

    def test_an_embedder_is_not_a_way_to_answer(self) -> None:
        text = FULL.replace(
            "{id: extractive, model: extractive}", "{id: extractive, model: extractive}\n  - {id: vec, model: embed}"
        )
        assert "vec" not in {plan.variant for plan in plan_costs(parse(text), 0)}
