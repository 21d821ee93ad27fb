"""Metrics: what Prometheus is told is what happened, under the names the conventions give."""

from __future__ import annotations

from typing import get_args

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from fairlead.records import Inference, Operation
from fairlead.telemetry import ATTRIBUTES, METRICS, OPERATIONS, Telemetry, prometheus_name


def told(telemetry: Telemetry) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(telemetry.expose().decode())
    return {(s.name, tuple(sorted(s.labels.items()))): s.value for family in families for s in family.samples}


@given(st.lists(st.floats(0, 200), min_size=1, max_size=30))
def test_histograms_add_up(values: list[float]) -> None:
    telemetry = Telemetry()
    for value in values:
        telemetry.observe(
            operation="embedding", provider="p", model="m", error="", seconds=value, first_seconds=None,
            input_tokens=3, output_tokens=0,
        )  # fmt: skip
    samples = told(telemetry)
    name = prometheus_name(METRICS["duration"]) + "_seconds"
    buckets = {dict(key[1])["le"]: value for key, value in samples.items() if key[0] == f"{name}_bucket"}
    for bound, count in buckets.items():
        assert count == sum(value <= float(bound) for value in values), bound
    assert buckets["+Inf"] == len(values)
    assert next(value for key, value in samples.items() if key[0] == f"{name}_count") == len(values)
    assert abs(next(value for key, value in samples.items() if key[0] == f"{name}_sum") - sum(values)) < 1e-6
    assert not any(value for key, value in samples.items() if "time_to_first_token" in key[0])


def test_labels_are_escaped_and_named_after_the_conventions() -> None:
    telemetry = Telemetry()
    telemetry.observe(
        operation="chat", provider='p"\n\\', model="m", error="e", seconds=1, first_seconds=0.5, input_tokens=1,
        output_tokens=2,
    )  # fmt: skip
    labels = {name for key in told(telemetry) for name, _ in key[1]}
    assert {prometheus_name(ATTRIBUTES[name]) for name in ("operation", "provider", "model", "error")} <= labels
    assert any(("gen_ai_provider_name", 'p"\n\\') in key[1] for key in told(telemetry))


def test_the_mapping_speaks_of_fields_that_exist() -> None:
    beyond_records = {"answered_by", "token_type"}  # one is the upstream's own field, one only a label
    assert set(ATTRIBUTES) - beyond_records <= set(Inference.__struct_fields__)
    assert len(set(ATTRIBUTES.values())) == len(ATTRIBUTES)
    assert set(OPERATIONS) == set(get_args(Operation))


def test_counters_and_the_gauge() -> None:
    telemetry = Telemetry()
    telemetry.count_refused("invalid_api_key")
    telemetry.count_dropped(2)
    telemetry.watch_in_flight(lambda: 7)
    samples = told(telemetry)
    assert samples["fairlead_requests_refused_total", (("code", "invalid_api_key"),)] == 1
    assert samples["fairlead_records_dropped_total", ()] == 2
    assert samples["fairlead_requests_in_flight", ()] == 7
