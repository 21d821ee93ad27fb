"""Lanes: places, turns, and who is told to come back later."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.admission import Lane
from fairlead.errors import ModelBusy
from fairlead.records import Priority

FAR = 1e9


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def lane(places: float, clock: Clock | None = None, **more: object) -> Lane:
    return Lane("m", start=places, clock=clock or Clock(), **{"longest_wait_s": 1e6, **more})  # type: ignore[arg-type]


async def settled() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_priority_goes_first_then_tenants_take_turns() -> None:
    held, order = lane(1), []
    await held.enter("x", "standard", FAR)

    async def one(name: str, tenant: str, priority: Priority) -> None:
        await held.enter(tenant, priority, FAR)
        order.append(name)
        held.leave(1.0)

    wanted: list[tuple[str, str, Priority]] = [
        ("b1", "a", "batch"), ("a1", "a", "standard"), ("a2", "a", "standard"), ("a3", "a", "standard"),
        ("c1", "c", "standard"), ("i1", "c", "interactive"),
    ]  # fmt: skip
    tasks = []
    for each in wanted:
        tasks.append(asyncio.create_task(one(*each)))
        await settled()
    assert held.waiting == 6
    held.leave(1.0)
    await asyncio.gather(*tasks)
    assert order == ["i1", "a1", "c1", "a2", "a3", "b1"]
    assert held.busy == 0


async def test_a_tenant_with_twice_the_weight_has_twice_the_turns() -> None:
    held, order = lane(1, weights={"big": 2.0}), []
    await held.enter("x", "standard", FAR)

    async def one(tenant: str) -> None:
        await held.enter(tenant, "standard", FAR)
        order.append(tenant)
        held.leave(1.0)

    tasks = [asyncio.create_task(one(tenant)) for tenant in ["small"] * 6 + ["big"] * 6]
    await settled()
    held.leave(1.0)
    await asyncio.gather(*tasks)
    assert order[:6].count("big") == 4


async def test_who_would_wait_too_long_is_told_when_to_come_back() -> None:
    held = lane(2, longest_wait_s=2.0)
    held.service_s = 1.5
    for _ in range(2):
        await held.enter("a", "standard", FAR)
    waiting = [asyncio.create_task(held.enter("a", "standard", FAR)) for _ in range(2)]  # 0.75 and 1.5 s
    await settled()
    with pytest.raises(ModelBusy) as refused:  # 2.25 s
        await held.enter("a", "standard", FAR)
    assert refused.value.details["retry_after"] == 1
    late = asyncio.create_task(
        held.enter("a", "batch", 100.0)
    )  # work without haste waits as long as its deadline lets it
    await settled()
    with pytest.raises(ModelBusy):
        await held.enter("a", "batch", 2.0)
    first = asyncio.create_task(held.enter("b", "interactive", FAR))  # goes before all of them
    await settled()
    assert held.waiting == 4
    for _ in range(2):
        held.leave(1.5)
    await asyncio.gather(first, waiting[0])
    for task in (waiting[1], late):
        task.cancel()
    await asyncio.gather(waiting[1], late, return_exceptions=True)
    assert (held.waiting, held.busy) == (0, 2)


async def test_a_deadline_that_is_lost_is_refused_at_once() -> None:
    clock = Clock()
    held = lane(1, clock)
    held.service_s = 10.0
    await held.enter("a", "standard", FAR)
    with pytest.raises(ModelBusy):
        await held.enter("a", "standard", clock.now + 5.0)


async def test_who_gives_up_leaves_no_place_taken() -> None:
    held = lane(1)
    await held.enter("a", "standard", FAR)
    waiting = [asyncio.create_task(held.enter("a", "standard", FAR)) for _ in range(3)]
    await settled()
    waiting[0].cancel()
    await settled()
    held.leave(1.0)  # the place is given to the second, which is cancelled before it runs
    waiting[1].cancel()
    await settled()
    assert waiting[2].done()
    assert waiting[2].exception() is None
    assert (held.busy, held.waiting) == (1, 0)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 3),
    st.lists(st.tuples(st.sampled_from("eelc"), st.integers(0, 9), st.sampled_from("ab")), max_size=40),
)
def test_places_are_never_lost_nor_given_twice(places: int, steps: list[tuple[str, int, str]]) -> None:
    async def run() -> None:
        held = lane(places)
        waiting: list[asyncio.Task[None]] = []
        inside = 0
        for what, which, tenant in steps:
            if what == "e":
                waiting.append(asyncio.create_task(held.enter(tenant, "standard", FAR)))
            elif what == "l" and inside:
                held.limit = places  # adapting is another test's matter
                held.leave(1.0)
                inside -= 1
            elif what == "c" and waiting:
                waiting.pop(which % len(waiting)).cancel()
            await settled()
            inside += sum(task.done() for task in waiting)
            waiting = [task for task in waiting if not task.done()]
            assert held.busy == inside
            assert inside <= int(held.limit)
            assert not waiting or inside == int(held.limit)
            assert held.waiting == len(waiting)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    asyncio.run(run())


async def test_a_model_that_refuses_gets_less_and_more_again_when_it_answers() -> None:
    clock = Clock()
    held = lane(10_000, clock)
    for _ in range(20):
        await held.enter("a", "standard", FAR)
    clock.now = 5.0
    held.leave(0.1, refused=True, answered=False)
    assert held.limit == pytest.approx(14.0)
    held.leave(0.1, refused=True, answered=False)  # of the same moment: cut once
    assert held.limit == pytest.approx(14.0)
    for _ in range(18):
        held.leave(0.1)
    for _ in range(30):
        for _ in range(int(held.limit)):
            await held.enter("a", "standard", FAR)
        for _ in range(held.busy):
            held.leave(0.1)
    assert 16 < held.limit < 60


async def test_a_model_that_begins_late_gets_less() -> None:
    clock = Clock()
    held = lane(32, clock)
    for _ in range(32):
        await held.enter("a", "standard", FAR)
    held.began(0.2)
    held.began(0.9)  # much slower than usual, and quick all the same
    assert held.limit == 32
    clock.now = 9.0
    held.began(1.4)
    assert held.limit == pytest.approx(32 * 0.7)
