"""Bounds and quantities: the same value however it is written, and what is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.spec.bounds import UNITS, Bound, Quantity, QuantityError


@pytest.mark.parametrize(
    ("text", "op", "value", "unit"),
    [
        (">= 0.60", ">=", 0.6, ""),
        (">=60%", ">=", 0.6, ""),
        (">= 60 %", ">=", 0.6, ""),
        ("≥ 0.6", ">=", 0.6, ""),
        ("<= 1.5 s", "<=", 1.5, "s"),
        ("<= 1500 ms", "<=", 1.5, "s"),
        ("<= 300 ms", "<=", 0.3, "s"),
        ("<= 250 us", "<=", 0.00025, "s"),
        ("<= 2 min", "<=", 120.0, "s"),
        ("<= 1 h", "<=", 3600.0, "s"),
        ("<= 0.20 USD", "<=", 0.2, "USD"),
        ("<= 500 tokens", "<=", 500.0, "tokens"),
        ("  <=   2   turns ", "<=", 2.0, "turns"),
        (">= -1", ">=", -1.0, ""),
    ],
)
def test_reads_bounds(text: str, op: str, value: float, unit: str) -> None:
    bound = Bound.read(text)
    assert (bound.op, bound.value, bound.unit) == (op, value, unit)


@pytest.mark.parametrize(
    ("text", "expected", "near"),
    [
        ("0.6", ">= or <=", ">= 0.6"),
        ("> 0.6", ">= or <=", ">="),
        ("=> 0.6", ">= or <=", ">="),
        ("== 0.6", ">= or <=", ">= or <="),
        ("!= 0.6", ">= or <=", ""),
        (">= ", "a number", ""),
        (">= abc", "a number", ""),
        (">= 0,6", "a number", ""),
        (">= .6", "a number", ""),
        (">= 1e3", "a unit", ""),
        (">= nan", "a number", ""),
        (">= inf", "a number", ""),
        (">= 1.5 s and more", "a number", ""),
        ("<= 1.5 sec", "a unit", "s"),
        ("<= 300 msec", "a unit", "ms"),
        ("<= 300 µs", "a unit", "us"),
        ("<= 5 m", "a unit", "min"),
        ("<= 0.2 EUR", "a unit", ""),
        ("<= $0.2", "a number", ""),
        ("<= 5 dollars", "a unit", "USD"),
        (">= 60 percent", "a unit", "%"),
        (">= 1234567890123456789", "a number", ""),
        ("", ">= or <=", ""),
    ],
)
def test_refuses_bounds(text: str, expected: str, near: str) -> None:
    with pytest.raises(QuantityError) as caught:
        Bound.read(text)
    assert expected in caught.value.expected
    assert near in caught.value.near


def test_holds_on_the_good_side_and_at_the_bound() -> None:
    at_most, at_least = Bound.read("<= 1.5 s"), Bound.read(">= 60 %")
    assert [at_most.holds(value) for value in (1.4, 1.5, 1.6)] == [True, True, False]
    assert [at_least.holds(value) for value in (0.59, 0.6, 0.61)] == [False, True, True]


@given(st.decimals(0, 10**9, places=6, allow_nan=False), st.sampled_from(sorted(UNITS)), st.sampled_from([">=", "<="]))
def test_writes_what_reads_back_the_same(number: object, unit: str, op: str) -> None:
    bound = Bound.read(f"{op} {number} {unit}")
    assert Bound.read(str(bound)) == bound


@given(st.text(max_size=30))
def test_reads_anything_or_says_why_not(text: str) -> None:
    try:
        quantity = Quantity.read(text)
    except QuantityError as refused:
        quantity = Quantity.read("1")
        assert refused.expected  # noqa: PT017  (either outcome is right)
    assert Quantity.read(str(quantity)) == quantity
