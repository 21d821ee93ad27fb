"""Whole conversations through a real gateway: users from a script and users played by a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.errors import ServiceError
from fairlead.evaluate.dialogue import END, GOAL, MOST_TURNS, THEN, conversing, played, scripted
from fairlead.evaluate.scorers import Answer
from fairlead.providers.base import Call
from fairlead.providers.scripted import Script
from fairlead.records import Sample, Turn
from tests.evaluate.runner_harness import Models

SAMPLE = Sample(id="s", input="Do you ship to Norway?")


def _sample(*, earlier: Sequence[Turn] = (), **fields: Any) -> Sample:
    return Sample(id="s", input="Do you ship to Norway?", earlier=tuple(earlier), fields=fields)


def _said(call: Call) -> list[tuple[str, str]]:
    return [(each["role"], each["content"]) for each in call.body["messages"]]


def _counting(call: Call) -> Script:
    """Says which message of the user it answers."""
    return Script(text=f"answer {sum(each['role'] == 'user' for each in call.body['messages'])}")


async def test_a_scripted_user_says_its_lines_and_all_answers_are_scored_as_one() -> None:
    models = Models(bot=_counting)
    answer = await conversing(models.candidate("bot").ask)(_sample(then=["And to Iceland?", "Thanks"]), 0)
    assert answer.text == "answer 1\n\nanswer 2\n\nanswer 3"
    assert _said(models.upstreams["bot"].calls[-1]) == [
        ("user", "Do you ship to Norway?"), ("assistant", "answer 1"), ("user", "And to Iceland?"),
        ("assistant", "answer 2"), ("user", "Thanks"),
    ]  # fmt: skip
    alone = await models.candidate("bot").ask(SAMPLE, 0)
    assert answer.output_tokens == 3 * (alone.output_tokens or 0)
    assert answer.cost_nanos is not None
    assert alone.cost_nanos is not None
    assert answer.cost_nanos > 3 * alone.cost_nanos  # what was said before is paid for again


async def test_what_was_said_before_the_sample_stays_in_front() -> None:
    models = Models(bot=_counting)
    earlier = [Turn(role="user", text="Hi"), Turn(role="assistant", text="Hello")]
    await conversing(models.candidate("bot").ask)(_sample(earlier=earlier, then=["And to Iceland?"]), 0)
    texts = [text for _, text in _said(models.upstreams["bot"].calls[-1])]
    assert texts == ["Hi", "Hello", "Do you ship to Norway?", "answer 2", "And to Iceland?"]


@pytest.mark.parametrize("fields", [{}, {THEN: []}, {THEN: "no list"}, {THEN: None}, {THEN: [""]}])
async def test_without_a_script_it_is_one_question(fields: dict[str, Any]) -> None:
    models = Models(bot=Script(text="Yes."))
    answer = await conversing(models.candidate("bot").ask)(_sample(**fields), 0)
    assert answer.text == "Yes."
    assert models.calls("bot") == 1


async def test_a_conversation_ends_at_its_bound() -> None:
    models = Models(bot=Script(text="Yes."))
    await conversing(models.candidate("bot").ask)(_sample(then=["more"] * 50), 0)
    assert models.calls("bot") == MOST_TURNS


async def test_a_failure_in_the_middle_is_a_failure_and_no_half_answer() -> None:
    def late(call: Call) -> Script:
        return Script(text="Yes.") if len(call.body["messages"]) == 1 else Script(status=400, message="no")

    models = Models(bot=late)
    with pytest.raises(ServiceError):
        await conversing(models.candidate("bot").ask)(_sample(then=["And to Iceland?"]), 0)


async def test_a_played_user_sees_its_goal_and_the_roles_turned_round() -> None:
    lines = iter(["And to Iceland?", f"Thanks. {END}"])
    models = Models(bot=_counting, user=lambda call: Script(text=next(lines)))
    answer = await conversing(models.candidate("bot").ask, played(models.gateway, "user"))(
        _sample(goal="find out where they ship"), 0
    )
    assert answer.text == "answer 1\n\nanswer 2"  # the goodbye with the end in it is not sent
    first, second = (_said(call) for call in models.upstreams["user"].calls)
    assert first[0][0] == "system"
    assert "find out where they ship" in first[0][1]
    assert first[1:] == [("assistant", "Do you ship to Norway?"), ("user", "answer 1")]
    assert second[1:] == [*first[1:], ("assistant", "And to Iceland?"), ("user", "answer 2")]


@pytest.mark.parametrize("fields", [{}, {GOAL: ""}, {GOAL: 7}])
async def test_without_a_goal_nobody_is_asked_to_play(fields: dict[str, Any]) -> None:
    models = Models(bot=Script(text="Yes."), user=Script(text="never"))
    await conversing(models.candidate("bot").ask, played(models.gateway, "user"))(_sample(**fields), 0)
    assert (models.calls("bot"), models.calls("user")) == (1, 0)


async def test_a_played_user_without_words_is_done_and_one_without_end_is_stopped() -> None:
    for text, calls in ((" \n ", 1), ("And?", MOST_TURNS)):
        models = Models(bot=Script(text="Yes."), user=Script(text=text))
        await conversing(models.candidate("bot").ask, played(models.gateway, "user"))(_sample(goal="know"), 0)
        assert models.calls("bot") == calls


async def test_a_goal_with_braces_is_a_goal() -> None:
    models = Models(bot=Script(text="Yes."), user=Script(text=END))
    goal = "write {goal} and {0} and {"
    await conversing(models.candidate("bot").ask, played(models.gateway, "user"))(_sample(goal=goal), 0)
    assert goal in _said(models.upstreams["user"].calls[0])[0][1]


AMOUNT = st.none() | st.integers(0, 10**9)


@given(st.lists(st.tuples(AMOUNT, AMOUNT, AMOUNT), min_size=1, max_size=MOST_TURNS))
async def test_what_is_unknown_in_one_turn_is_unknown_of_the_whole(turns: list[tuple[Any, Any, Any]]) -> None:
    answers = iter(Answer(text="t", input_tokens=a, output_tokens=b, cost_nanos=c) for a, b, c in turns)

    async def ask(sample: Sample, epoch: int) -> Answer:
        return next(answers)

    whole = await conversing(ask, scripted)(_sample(then=["more"] * (len(turns) - 1)), 0)
    for found, values in zip(
        (whole.input_tokens, whole.output_tokens, whole.cost_nanos), zip(*turns, strict=True), strict=True
    ):
        assert found == (None if None in values else sum(values))
