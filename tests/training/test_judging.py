"""The judge of answers, and the interval that decides whether a skill holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.spec.power import share_interval
from training.judging import AT_LEAST, Count, invents_number, is_right
from training.prompt import Turn, call_text

GROUNDED = Turn(
    "assistant", "It costs €3.50.", "grounded_one", ("€3.50",), source="Sending it back costs €3.50 within 14 days."
)


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("It costs €3.50.", True),
        ("Sending it back costs €3.50 within 14 days.", True),
        ("it costs  €3.50", True),
        ("It costs €3.", False),
        ("It costs €3.50 or €4.", False),
        ("It costs money.", False),
        ("I don't know, but €3.50.", False),
        ("", False),
        (call_text("price", {"of": "€3.50"}), False),
    ],
)
def test_a_grounded_answer_needs_its_facts_and_no_other_number(answer: str, right: bool) -> None:
    assert is_right(GROUNDED, answer) is right


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        (call_text("track", {"id": "A1"}), True),
        ('<tool_call>\n{"arguments": {"id": "A1"}, "name": "track"}\n</tool_call>', True),
        (call_text("track", {"id": "A2"}), False),
        (call_text("find", {"id": "A1"}), False),
        (call_text("track", {"id": "A1", "x": 1}), False),
        ("Which order?", False),
    ],
)
def test_a_tool_call_is_compared_as_data(answer: str, right: bool) -> None:
    assert is_right(Turn("assistant", call_text("track", {"id": "A1"}), "tool_call"), answer) is right


@pytest.mark.parametrize(
    ("turn", "answer", "right"),
    [
        (Turn("assistant", "", "ask_missing", accept="order number"), "What is your order number?", True),
        (Turn("assistant", "", "ask_missing", accept="order number"), "Give me the order number.", False),
        (Turn("assistant", "", "ask_missing", accept="order number"), "Is your order number 17?", False),
        (Turn("assistant", "", "hand_off", accept="person"), "Shall I pass you to a person?", True),
        (Turn("assistant", "", "hand_off", accept="person"), "I don't know that. A person?", False),
        (Turn("assistant", "", "small_talk", accept="welcome"), "You're welcome!", True),
        (Turn("assistant", "", "refuse", accept="don't know"), "I'm sorry, I don't know that.", True),
        (Turn("assistant", "", "refuse", accept="don't know"), "It is 14 days.", False),
        (Turn("assistant", "", "refuse", accept="don't know"), "I don't know, 14 days maybe.", False),
        (Turn("assistant", "", "tool_result", ("5 May",), source='{"on": "5 May", "n": 2}'), "On 5 May, 2 left.", True),
        (Turn("assistant", "", "tool_result", ("5 May",), source='{"on": "5 May"}'), "On 5 May, 2 left.", False),
    ],
)
def test_the_other_skills(turn: Turn, answer: str, right: bool) -> None:
    assert is_right(turn, answer) is right


def test_invented_numbers_are_numbers_of_no_source() -> None:
    assert not invents_number("It is 14 days for €3.50.", "days: 14, fee: €3.50")
    assert invents_number("It is 15 days.", "days: 14")
    assert invents_number("It is 4 days.", "days: 14")


def test_wilson_agrees_with_published_values() -> None:
    # Newcombe 1998, Statistics in Medicine 17:857, table I, method 3 (score without continuity correction).
    assert share_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert share_interval(15, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert share_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert share_interval(1, 29) == pytest.approx((0.0061, 0.1718), abs=5e-5)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_interval_holds_the_share(counts: tuple[int, int]) -> None:
    right, n = counts
    low, high = share_interval(right, n)
    assert 0 <= low <= right / n <= high <= 1


def test_verdicts_come_from_the_bound_never_from_the_share() -> None:
    assert share_interval(0, 0) == (0.0, 1.0)
    assert Count("x", 20, 20).verdict == "not enough data"
    assert Count("x", 300, 285).verdict == "pass"
    assert Count("x", 300, 275).interval[0] < AT_LEAST < 275 / 300
    assert Count("x", 300, 275).verdict == "not enough data"
    assert Count("x", 300, 200).verdict == "fail"
