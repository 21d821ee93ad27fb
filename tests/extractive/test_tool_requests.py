"""Hand-written requests for tools keep the level they reached; a request on a rule gets no tool."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.tool_requests import DATA, from_file, from_natural, judge_requests
from fairlead.engines.extractive.tools import fill, read_tools


def test_hand_written_requests_keep_their_level() -> None:
    tally = judge_requests([*from_file(DATA / "tools_dev.json"), *from_natural()])
    assert tally.n >= 220
    assert tally.right >= 0.92 * tally.n, "\n".join(tally.wrong)
    assert tally.exact >= 0.92 * tally.calls, "\n".join(tally.wrong)


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("account 8800417, my reading is 48213", {"account_number": "8800417", "reading": 48213}),
        ("Meter says 10732 today. Account number: 9120044.", {"account_number": "9120044", "reading": 10732}),
        ("I want to give you a reading, account 8800417", {"account_number": "8800417"}),
        ("8800417", {"account_number": "8800417"}),
    ],
)
def test_one_number_serves_one_parameter(message: str, arguments: dict[str, Any]) -> None:
    reading = {"type": "integer", "description": "The reading of the meter"}
    assert filled({"account_number": {"type": "string"}, "reading": reading}, message) == arguments


@pytest.mark.parametrize(
    ("message", "arguments"),
    [
        ("from tom@example.com to lee@example.org please", ("tom@example.com", "lee@example.org")),
        ("tom@example.com is old, use lee@example.org", ("tom@example.com", "lee@example.org")),
        ("it is tom@example.com", ("tom@example.com", None)),
    ],
)
def test_two_parameters_of_a_kind_take_two_values(message: str, arguments: tuple[str, str | None]) -> None:
    found = filled({"old_email": {"type": "string"}, "new_email": {"type": "string"}}, message)
    assert (found.get("old_email"), found.get("new_email")) == arguments


@pytest.mark.parametrize(
    ("name", "message", "value"),
    [
        ("bike", "can I bring my road bike in", "road bike"),
        ("bike", "it is about the bike", None),
        ("colour", "samples in sage green to my house", "sage green"),
        ("colour", "samples please", None),
        ("problem", "it arrived with a cracked shelf", "cracked shelf"),
        ("item", "take the footstool off my order", "footstool"),
        ("item", "leave out the floor lamp pls F8080133", "floor lamp"),
    ],
)
def test_words_of_the_customer_for_what_has_no_type(name: str, message: str, value: str | None) -> None:
    assert filled({name: {"type": "string"}}, message).get(name) == value


def filled(properties: dict[str, Any], message: str) -> dict[str, Any]:
    function = {"name": "do_it", "parameters": {"properties": properties, "required": list(properties)}}
    return fill(read_tools([{"type": "function", "function": function}])[0], 1.0, [message], asked=None).arguments


def test_what_the_rules_say_is_no_request() -> None:
    asked = [one for one in from_file(DATA / "tools_dev.json") if not one.tool]
    tally = judge_requests(asked)
    assert tally.n >= 50
    assert tally.right >= 0.85 * tally.n, "\n".join(tally.wrong)
