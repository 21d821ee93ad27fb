"""Words for what was found: values with their units, and no praise where a metric only says yes or no."""

from __future__ import annotations

import pytest

from fairlead.select.words import score


@pytest.mark.parametrize(
    ("name", "value", "read"),
    [
        ("declined", False, "no"),
        ("right", True, "yes"),
        ("first_token", 0.000365, "0.365 ms"),
        ("latency", 0.9994, "999 ms"),
        ("latency", 0.9996, "1.00 s"),
        ("latency", 74.1234, "74.12 s"),
        ("cost", 0.0, "0 USD"),
        ("cost", 0.00012345, "0.000123 USD"),
        ("input_tokens", 12345, "12,345"),
        ("similarity", 0.87654, "0.877"),
        ("tone", "curt", "curt"),
        ("grounded", None, "–"),
        ("grounded", float("nan"), "–"),
    ],
)
def test_a_score_is_read_with_its_unit(name: str, value: object, read: str) -> None:
    assert score(name, value) == read
