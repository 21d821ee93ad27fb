"""Computing together: never more than allowed, nobody's result but one's own, nobody harmed by who leaves or errs."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import weakref
from collections.abc import Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.providers.microbatch import MicroBatcher

HOUR = 3600.0
FALSE = "false"


@dataclass(frozen=True)
class Asked:
    """``turn`` is how many turns of the loop it comes after the start; it leaves ``leaves`` turns later, if at all."""

    item: int
    size: int
    key: str
    turn: int
    leaves: int | None


def slow(item: int) -> int:
    """The obvious way. Raises ValueError for multiples of seven."""
    if item % 7 == 0:
        raise ValueError(item)
    return item * item


async def settle(turns: int = 10) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)


ASKED = st.builds(
    Asked,
    item=st.integers(0, 30),
    size=st.integers(1, 5),
    key=st.sampled_from("ab"),
    turn=st.integers(0, 4),
    leaves=st.none() | st.integers(0, 4),
)


@settings(deadline=None)
@given(st.lists(ASKED, max_size=25), st.integers(1, 4), st.integers(0, 3))
async def test_everybody_gets_what_the_obvious_way_gives(asked: list[Asked], most: int, turns: int) -> None:
    batches: list[list[Asked]] = []

    async def compute(items: list[Asked]) -> Sequence[int | Exception]:
        batches.append(items)
        await settle(turns)
        found: list[int | Exception] = []
        for each in items:
            try:
                found.append(slow(each.item))
            except ValueError as error:
                found.append(error)
        return found

    batcher: MicroBatcher[Asked, int] = MicroBatcher(compute, max_batch_size=most)

    async def ask(each: Asked) -> int | str:
        await settle(each.turn)
        try:
            return await batcher.ask(each, size=each.size, key=each.key)
        except ValueError as error:
            return f"{FALSE} {error}"

    async def leave(each: Asked, task: asyncio.Task[int | str]) -> None:
        if each.leaves is not None:
            await settle(each.turn + each.leaves)
            task.cancel()

    tasks = [asyncio.create_task(ask(each)) for each in asked]
    await asyncio.gather(*(leave(each, task) for each, task in zip(asked, tasks, strict=True)))
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    for each, outcome in zip(asked, outcomes, strict=True):
        if isinstance(outcome, asyncio.CancelledError):
            assert each.leaves is not None
        else:
            assert outcome == (slow(each.item) if each.item % 7 else f"{FALSE} {each.item}")
    for batch in batches:
        assert len({each.key for each in batch}) == 1
        assert len(batch) == 1 or sum(each.size for each in batch) <= most
    assert not batcher._open
    assert all(sum(each is other for batch in batches for other in batch) <= 1 for each in asked)


async def test_without_a_delay_what_comes_in_one_turn_goes_together_and_nothing_waits() -> None:
    batches: list[list[int]] = []

    async def compute(items: list[int]) -> list[int]:
        batches.append(items)
        return items

    batcher: MicroBatcher[int, int] = MicroBatcher(compute, max_batch_size=100)
    assert await asyncio.gather(*map(batcher.ask, range(5))) == [0, 1, 2, 3, 4]
    assert await batcher.ask(5) == 5
    assert batches == [[0, 1, 2, 3, 4], [5]]


async def test_a_full_batch_does_not_wait_for_the_rest_of_its_delay() -> None:
    async def compute(items: list[int]) -> list[int]:
        return [len(items)] * len(items)

    batcher: MicroBatcher[int, int] = MicroBatcher(compute, max_batch_size=3, max_queue_delay_s=HOUR)
    assert await asyncio.gather(*map(batcher.ask, range(6))) == [3] * 6


async def test_one_that_is_not_full_goes_when_its_delay_is_over() -> None:
    async def compute(items: list[int]) -> list[int]:
        return items

    batcher: MicroBatcher[int, int] = MicroBatcher(compute, max_batch_size=3, max_queue_delay_s=0.001)
    assert await batcher.ask(1) == 1


async def test_who_leaves_a_queue_is_not_computed_and_who_stays_is() -> None:
    batches: list[list[int]] = []

    async def compute(items: list[int]) -> list[int]:
        batches.append(items)
        return items

    batcher: MicroBatcher[int, int] = MicroBatcher(compute, max_batch_size=3, max_queue_delay_s=HOUR)
    first, *rest = [asyncio.create_task(batcher.ask(number)) for number in range(2)]
    await settle()
    first.cancel()
    await settle()
    rest.append(asyncio.create_task(batcher.ask(2)))
    assert await asyncio.gather(*rest) == [1, 2]
    assert batches == [[1, 2]]


async def test_a_batch_that_nobody_waits_for_is_given_up() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def compute(items: list[int]) -> list[int]:
        begun.set()
        try:
            await asyncio.sleep(HOUR)
        finally:
            ended.set()
        return items

    batcher: MicroBatcher[int, int] = MicroBatcher(compute, max_batch_size=3)
    tasks = [asyncio.create_task(batcher.ask(number)) for number in range(2)]
    await begun.wait()
    tasks[0].cancel()
    await settle()
    assert not ended.is_set()
    tasks[1].cancel()
    await ended.wait()


async def test_a_queue_that_nobody_waits_in_leaves_nothing() -> None:
    batcher: MicroBatcher[int, int] = MicroBatcher(_never, max_batch_size=3, max_queue_delay_s=HOUR)
    task = asyncio.create_task(batcher.ask(1))
    await settle()
    assert batcher._open
    task.cancel()
    await settle()
    assert not batcher._open


async def test_all_of_a_batch_learn_that_it_failed() -> None:
    async def compute(items: list[int]) -> list[int]:
        raise OSError("the server has gone")

    async def too_few(items: list[int]) -> list[int]:
        return items[1:]

    for wrong, error in ((compute, OSError), (too_few, ValueError)):
        batcher: MicroBatcher[int, int] = MicroBatcher(wrong, max_batch_size=3)
        outcomes = await asyncio.gather(*map(batcher.ask, range(3)), return_exceptions=True)
        assert [type(each) for each in outcomes] == [error] * 3


class Gone(Exception):
    """Notes in ``left`` that it was made, so that no frame of the test has to hold it."""

    def __init__(self, left: list[weakref.ref[Exception]]) -> None:
        super().__init__()
        left.append(weakref.ref(self))


async def test_an_error_that_was_told_is_let_go_of_at_once() -> None:
    left: list[weakref.ref[Exception]] = []

    async def fail(items: list[int]) -> list[int]:
        raise Gone(left)

    async def each_fails(items: list[int]) -> list[int | Exception]:
        return [Gone(left) for _ in items]

    async def ask(batcher: MicroBatcher[int, int]) -> None:
        with contextlib.suppress(Gone):
            await batcher.ask(1)

    was = gc.isenabled()
    gc.disable()
    try:
        for wrong in (fail, each_fails):
            batcher: MicroBatcher[int, int] = MicroBatcher(wrong, max_batch_size=3)
            await asyncio.gather(ask(batcher), ask(batcher))
            await settle()
        assert len(left) == 3
        assert [each() for each in left] == [None] * 3, "waiting for the collector"
    finally:
        if was:
            gc.enable()


async def _never(items: list[int]) -> list[int]:
    pytest.fail(f"{items} were computed")
