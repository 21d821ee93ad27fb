"""Asking again, asking another model, leaving one alone: only before an answer begins, and never without measure."""

from __future__ import annotations

import asyncio
import email.utils
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.errors import ModelResting, ServiceError, UpstreamBroken, UpstreamRefused, UpstreamUnreachable
from fairlead.gateway import Principal
from fairlead.gateway.reliable import (
    FAILURES,
    LONGEST_PAUSE_S,
    LONGEST_REST_S,
    REST_S,
    SAVED,
    TIMES,
    Line,
    ordered,
    seconds_of,
)
from fairlead.providers.base import Call, CallContext
from fairlead.providers.scripted import Script, Scripted
from tests.gateway.gateway_harness import CHAT, House, build, route, until

CALLER = Principal(tenant="acme", subject="s", key_id="k", scopes=frozenset({"inference"}))
FINE = Script(text="It is on its way.")
DOWN = Script(status=503, message="overloaded")


def in_turn(*scripts: Script) -> Callable[[Call], Script]:
    left = list(scripts)
    return lambda _: left.pop(0) if len(left) > 1 else left[0]


def house(primary: Scripted, *others: Scripted, retries: int = 2) -> House:
    made = build(FINE)
    names = [f"other{number}" for number, _ in enumerate(others)]
    routes = {"support": route(primary, retries=retries, fallback=tuple(names))}
    routes |= {name: route(other, name) for name, other in zip(names, others, strict=True)}
    made.gateway._path.routes = routes
    return made


async def say(made: House, **body: Any) -> str:
    answer = await made.gateway.complete({**CHAT, **body}, principal=CALLER)
    made.gateway.write_records()
    return str(answer["choices"][0]["message"]["content"])


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fairlead.gateway.reliable.FIRST_PAUSE_S", 0.0)


async def test_a_moment_of_trouble_is_not_seen() -> None:
    primary = Scripted(script=in_turn(DOWN, Script(status=429), FINE))
    made = house(primary)
    assert await say(made) == "It is on its way."
    assert len(primary.calls) == 3
    (record,) = made.records
    assert (record.status, record.variant, record.tags["attempts"]) == (200, "support", "3")


@pytest.mark.parametrize(("status", "tries"), [(400, 1), (401, 1), (404, 1), (422, 1), (500, 3), (503, 3), (529, 3)])
async def test_only_what_may_pass_is_tried_again(status: int, tries: int) -> None:
    primary = Scripted(script=Script(status=status, message="no"))
    with pytest.raises(UpstreamRefused):
        await say(house(primary))
    assert len(primary.calls) == tries


async def test_a_stream_that_has_begun_is_never_asked_again() -> None:
    primary, other = Scripted(script=Script(text="one two three", break_after=2)), Scripted(script=FINE)
    made = house(primary, other)
    said: list[dict[str, Any]] = []

    async def listen() -> None:
        async for chunk in made.gateway.stream({**CHAT}, principal=CALLER):
            said.append(chunk)

    with pytest.raises(UpstreamBroken):
        await listen()
    assert said
    assert (len(primary.calls), len(other.calls)) == (1, 0)


async def test_another_model_stands_in_and_the_record_says_which_and_why() -> None:
    primary, first, second = (Scripted(script=script) for script in (DOWN, DOWN, FINE))
    made = house(primary, first, second)
    assert await say(made, temperature=0.5) == "It is on its way."
    (record,) = made.records
    assert record.variant == "other1"
    assert record.model == "other1-model"
    assert record.tags["fallback"] == "support:upstream_refused,other0:upstream_refused"
    assert second.calls[0].body["model"] == "other1-model"
    assert second.calls[0].body["temperature"] == 0.5


async def test_vectors_come_from_no_other_model_than_the_one_that_is_named() -> None:
    primary, other, same = (Scripted(script=script) for script in (DOWN, FINE, FINE))
    asked = {"model": "support", "input": "my parcel"}
    made = build(primary)
    made.gateway._path.routes = {
        "support": route(primary, fallback=("other", "same"), weights={"other": 1e9, "support": 1.0}, rests=False),
        "other": route(other, "other"),
        "same": route(same, "same", model="support-model"),
    }
    answer = await made.gateway.complete(asked, principal=CALLER, operation="embedding")
    assert answer["data"] == (await build().gateway.complete(asked, principal=CALLER, operation="embedding"))["data"]
    assert (len(primary.calls), len(other.calls), len(same.calls)) == (1, 0, 1)
    primary.script = FINE
    for _ in range(9):
        await made.gateway.complete(asked, principal=CALLER, operation="embedding")
    assert (len(primary.calls), len(other.calls)) == (10, 0), "nor by weight"
    assert await say(made) == "It is on its way."
    assert len(other.calls) == 1, "an answer may come from any"


@pytest.mark.parametrize("status", [400, 413, 422])
async def test_a_request_at_fault_goes_to_no_other_model(status: int) -> None:
    primary, other = Scripted(script=Script(status=status, message="bad")), Scripted(script=FINE)
    with pytest.raises(UpstreamRefused):
        await say(house(primary, other))
    assert other.calls == []


async def test_a_wrong_key_at_one_provider_lets_another_answer() -> None:
    primary, other = Scripted(script=Script(status=401, message="bad key")), Scripted(script=FINE)
    assert await say(house(primary, other)) == "It is on its way."


async def test_a_long_retry_after_is_for_the_model_that_stands_in_or_else_for_the_caller() -> None:
    primary, other = Scripted(script=Script(status=429, retry_after="30")), Scripted(script=FINE)
    began = time.monotonic()
    assert await say(house(primary, other)) == "It is on its way."
    assert time.monotonic() - began < 25
    alone = Scripted(script=Script(status=429, retry_after="1000"))
    with pytest.raises(UpstreamRefused) as caught:  # longer than the deadline: told to the caller at once
        await say(house(alone))
    assert caught.value.details["retry_after"] == 1000
    assert len(alone.calls) == 1


async def test_a_short_retry_after_is_waited_for() -> None:
    primary = Scripted(script=in_turn(Script(status=429, retry_after="0.3"), FINE))
    began = time.monotonic()
    assert await say(house(primary)) == "It is on its way."
    assert time.monotonic() - began >= 0.3


async def test_a_model_that_keeps_failing_is_left_alone_and_then_tried_by_one() -> None:
    primary = Scripted(script=DOWN)
    made = house(primary, retries=0)
    for _ in range(FAILURES):
        with pytest.raises(UpstreamRefused):
            await say(made)
    with pytest.raises(ModelResting) as caught:
        await say(made)
    assert caught.value.details["retry_after"] >= 1
    assert len(primary.calls) == FAILURES
    line = made.gateway._path.lines["support"]
    line._until = time.monotonic() - 0.001
    primary.script = Script(text="back", delay_s=0.1)
    outcomes = await asyncio.gather(*(say(made) for _ in range(5)), return_exceptions=True)
    assert sorted(type(each).__name__ for each in outcomes) == ["ModelResting"] * 4 + ["str"]
    assert await say(made) == "back"


async def test_while_one_rests_the_other_answers_at_once() -> None:
    primary, other = Scripted(script=DOWN), Scripted(script=FINE)
    made = house(primary, other, retries=0)
    for _ in range(FAILURES + 3):
        assert await say(made) == "It is on its way."
    assert len(primary.calls) == FAILURES
    assert made.records[-1].tags["fallback"] == "support:model_resting"


async def test_retries_are_a_share_of_the_traffic() -> None:
    calls = 300
    primary = Scripted(script=Script(status=429))  # busy, not sick: the breaker stays out of it
    made = house(primary)
    for _ in range(calls):
        with pytest.raises(UpstreamRefused):
            await say(made)
    retries = len(primary.calls) - calls
    assert retries <= SAVED + 0.1 * calls + 1
    assert retries >= 0.1 * calls


class Unreachable(Scripted):
    """Nobody listens there."""

    async def open(self, call: Call) -> Any:
        self.calls.append(call)
        raise UpstreamUnreachable(name=self.name, detail="refused")


async def test_nobody_there_is_tried_again_and_then_stood_in_for() -> None:
    primary, other = Unreachable(), Scripted(script=FINE)
    made = house(primary, other)
    assert await say(made) == "It is on its way."
    assert len(primary.calls) == 3


async def test_the_assistant_is_never_asked_twice() -> None:
    primary = Scripted(script=DOWN)
    made = house(primary)
    made.gateway._path.routes = {"support": route(primary, recorded_as="request", rests=False)}
    for _ in range(FAILURES + 2):
        with pytest.raises(ServiceError):
            await say(made)
    assert len(primary.calls) == FAILURES + 2


async def test_no_retry_disturbs_a_rest_and_one_try_ends_it() -> None:
    primary = Scripted(script=DOWN)
    made = house(primary, retries=2)
    now = 0.0
    line = made.gateway._path.lines["support"] = Line(clock=lambda: now)
    for _ in range(2):
        with pytest.raises(UpstreamRefused):
            await say(made)
    assert len(primary.calls) == FAILURES, "the second request was not tried a third time"
    now += REST_S
    with pytest.raises(UpstreamRefused):
        await say(made)
    assert len(primary.calls) == FAILURES + 1
    assert line.rests_for_s() == 2 * REST_S


def test_rests_grow_up_to_a_bound_and_end_with_a_success() -> None:
    now = 0.0
    line = Line(clock=lambda: now)
    for _ in range(FAILURES):
        line.failed()
    rests = []
    for _ in range(8):
        rests.append(line.resting_s())
        now += rests[-1]
        assert line.resting_s() == 0.0
        assert line.resting_s() > 0.0, "two callers may try at once"
        line.failed()
        line.failed()  # a call from before the rest ends now, too
    assert rests[:3] == [REST_S, REST_S * 2, REST_S * 4]
    assert max(rests) == LONGEST_REST_S
    now += line.resting_s()
    assert line.resting_s() == 0.0
    line.left()  # who tried went away: the next one tries
    assert line.resting_s() == 0.0
    line.succeeded()
    assert line.resting_s() == 0.0
    line.failed()
    assert line.resting_s() == 0.0


def test_pauses_are_drawn_within_growing_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fairlead.gateway.reliable.FIRST_PAUSE_S", 0.1)
    line = Line(draw=lambda _, high: high)
    assert [line.pause_s(attempt, "") for attempt in (1, 2, 3)] == [0.2, 0.4, 0.8]
    assert line.pause_s(50, "") == LONGEST_PAUSE_S
    assert line.pause_s(1, "7") == 7.0


@pytest.mark.parametrize(
    ("text", "seconds"), [("", 0.0), ("3", 3.0), ("0.5", 0.5), ("-4", 0.0), ("soon", 0.0), ("nan", 0.0)]
)
def test_retry_after_in_seconds(text: str, seconds: float) -> None:
    assert seconds_of(text) == seconds


def test_retry_after_as_a_date() -> None:
    assert 60 < seconds_of(email.utils.formatdate(time.time() + 100, usegmt=True)) <= 100
    assert seconds_of("Mon, 23 Nov 2020 10:00:00 GMT") == 0.0


# --- weights ----------------------------------------------------------------------------------------------------------


def test_who_is_asked_first_is_drawn_by_weight() -> None:
    firsts = [ordered(["a", "b", "c"], {"a": 8, "b": 2}, str(seed))[0] for seed in range(4_000)]
    assert 0.78 < firsts.count("a") / len(firsts) < 0.82
    assert "c" not in firsts


@given(st.lists(st.sampled_from("abcdef"), unique=True), st.dictionaries(st.sampled_from("abcdef"), st.floats(0.1, 9)),
       st.text())  # fmt: skip
def test_an_order_holds_all_once_and_stays_when_one_leaves(
    names: list[str], weights: dict[str, float], seed: str
) -> None:
    found = ordered(names, weights, seed)
    assert sorted(found) == sorted(names)
    assert [name for name in found if name not in weights] == [name for name in names if name not in weights]
    for gone in names:
        rest = ordered([name for name in names if name != gone], weights, seed)
        assert rest == [name for name in found if name != gone]


async def test_a_conversation_stays_with_who_answered_first() -> None:
    primary, other = Scripted(script=Script(text="a")), Scripted(script=Script(text="b"))
    made = house(primary, other)
    routes = made.gateway._path.routes
    weighted = {"support": 1.0, "other0": 1.0}
    made.gateway._path.routes = {**routes, "support": route(primary, fallback=("other0",), weights=weighted)}
    said = set()
    for number in range(40):
        context = CallContext(request="r", conversation=f"c{number}")
        answers = {
            str((await made.gateway.complete(dict(CHAT), principal=CALLER, context=context))["choices"])
            for _ in range(3)
        }
        assert len(answers) == 1
        said |= answers
    assert len(said) == 2


async def test_who_was_drawn_and_fails_is_stood_in_for() -> None:
    primary, other = Scripted(script=Script(text="a")), Scripted(script=DOWN)
    made = house(primary, other, retries=0)
    weighted = {"support": 1.0, "other0": 1000.0}
    made.gateway._path.routes = {
        **made.gateway._path.routes, "support": route(primary, fallback=("other0",), weights=weighted)
    }  # fmt: skip
    assert await say(made) == "a"
    assert made.records[0].tags["fallback"].startswith("other0:")
    assert made.records[0].variant == "support"


async def test_routes_of_one_provider_model_and_key_rest_together() -> None:
    down, fine = Scripted(script=DOWN), Scripted(script=FINE)
    made = build(FINE)
    made.gateway._path.routes = {
        "support": route(down, line="here m env:A"),
        "same": route(fine, "same", line="here m env:A"),
        "else": route(fine, "else", line="here m env:B"),
    }
    for _ in range(FAILURES):
        with pytest.raises(UpstreamRefused):
            await say(made)
    with pytest.raises(ModelResting):
        await say(made, model="same")
    assert await say(made, model="else") == FINE.text


# --- hedges -----------------------------------------------------------------------------------------------------------


def late_then(*scripts: Script, known: int = 30) -> tuple[House, Scripted]:
    """A model that has answered ``known`` times at once and now does as the scripts say."""
    upstream = Scripted(script=in_turn(*[FINE] * known, *scripts))
    made = build(FINE)
    made.gateway._path.routes = {"support": route(upstream, hedge=True)}
    return made, upstream


async def test_a_late_answer_is_asked_for_once_more_and_the_loser_is_cancelled() -> None:
    made, upstream = late_then(Script(text="slow", delay_s=60), Script(text="quick"))
    for _ in range(30):
        await say(made)
    began = time.monotonic()
    assert await say(made) == "quick"
    assert time.monotonic() - began < 30
    assert (len(upstream.calls), upstream.cancelled) == (32, 1)
    record = made.records[-1]
    assert record.tags["hedge"] == "won"
    assert record.cost == round(2 * record.input_tokens * 400 + record.output_tokens * 1600)


async def test_the_first_may_still_win_and_a_broken_hedge_harms_nobody() -> None:
    for second in (Script(text="slower", delay_s=60), DOWN):
        made, upstream = late_then(Script(text="first", delay_s=1), second)
        for _ in range(30):
            await say(made)
        assert await say(made) == "first"
        assert made.records[-1].tags["hedge"] == "lost"
        assert len(upstream.calls) == 32


async def test_streams_and_models_little_known_are_not_hedged() -> None:
    made, upstream = late_then(Script(text="slow", delay_s=0.2), known=5)
    for _ in range(5):
        await say(made)
    assert await say(made) == "slow"
    assert len(upstream.calls) == 6


async def test_hedges_are_paid_from_the_budget_of_retries() -> None:
    made, upstream = late_then(Script(text="slow", delay_s=0.05))
    for _ in range(30):
        await say(made)
    line = made.gateway._path.lines["support"]
    line._times.extend([0.0] * TIMES)
    before = len(upstream.calls)
    for _ in range(40):
        await say(made)
        line._times.extend([0.0] * TIMES)  # as if it had always been quick
    assert len(upstream.calls) - before <= 40 + SAVED + 40 * 0.1 + 1


async def test_who_leaves_cancels_both() -> None:
    made, upstream = late_then(Script(text="slow", delay_s=30))
    for _ in range(30):
        await say(made)
    task = asyncio.create_task(say(made))
    await until(lambda: len(upstream.calls) == 32, "it is asked once more")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert upstream.cancelled == 2
