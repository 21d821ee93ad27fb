"""Hand-written requests for tools keep the level they reached; a request on a rule gets no tool."""

from __future__ import annotations

from benchmarks.tool_requests import DATA, from_file, from_natural, judge_requests


def test_hand_written_requests_keep_their_level() -> None:
    tally = judge_requests([*from_file(DATA / "tools_dev.json"), *from_natural()])
    assert tally.n >= 110
    assert tally.right >= 0.94 * tally.n, "\n".join(tally.wrong)
    assert tally.exact >= 0.94 * tally.calls, "\n".join(tally.wrong)


def test_what_the_rules_say_is_no_request() -> None:
    asked = [one for one in from_file(DATA / "tools_dev.json") if not one.tool]
    tally = judge_requests(asked)
    assert tally.n >= 25
    assert tally.right >= 0.85 * tally.n, "\n".join(tally.wrong)
