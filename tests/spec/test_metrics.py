"""The metric registry."""

from __future__ import annotations

import pytest

from fairlead.spec.metrics import BUILT_IN, PERCENTILES, MetricEntry, effective

REQUIRED = {
    "resolution", "containment", "deflection", "escalation", "recontact", "csat", "csat_response_rate", "groundedness",
    "intent_accuracy", "out_of_scope_recall", "first_token_latency", "total_latency", "cost_per_request",
    "cost_per_resolution", "fairness_gap",
}  # fmt: skip


def test_has_the_metrics_of_support() -> None:
    assert set(BUILT_IN) >= REQUIRED


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_is_fully_defined(name: str) -> None:
    metric = BUILT_IN[name]
    assert metric.definition.endswith(".")
    assert metric.definition[0].isupper()
    low, high = metric.range
    assert low == 0
    assert high == (1 if metric.unit == "" else None)
    assert set(metric.reported_with) <= set(BUILT_IN)
    if metric.type == "ratio":
        assert metric.numerator
        assert metric.denominator
        assert metric.allowed == ("ratio",)
    if metric.unit == "s":
        assert set(PERCENTILES) <= set(metric.allowed)
        assert metric.direction == "min"


def test_automation_rates_are_distinct() -> None:
    texts = {BUILT_IN[name].definition for name in ("resolution", "containment", "deflection", "escalation")}
    assert len(texts) == 4


def test_csat_is_read_with_its_response_rate() -> None:
    assert BUILT_IN["csat"].reported_with == ("csat_response_rate",)


def test_overrides_change_only_what_they_say() -> None:
    metrics = effective({"recontact": MetricEntry(window_hours=24)})
    assert metrics["recontact"].window_hours == 24
    assert metrics["recontact"].definition == BUILT_IN["recontact"].definition
    assert BUILT_IN["recontact"].window_hours == 48
    assert set(metrics) == set(BUILT_IN)


def test_an_incomplete_metric_is_not_there() -> None:
    assert "mine" not in effective({"mine": MetricEntry(definition="Half of a metric.")})
