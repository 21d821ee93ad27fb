"""Coarse deadlines: they hold, they are cancelled, and they are not mistaken for another's cancellation."""

from __future__ import annotations

import asyncio
import gc
import time

import pytest

from fairlead.providers.deadline import TICK_S, Until, wheel


def soon(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


async def test_what_takes_too_long_is_ended_within_a_tick_or_two() -> None:
    began = time.monotonic()
    with pytest.raises(TimeoutError), Until(soon(0.1)):
        await asyncio.sleep(30)
    assert 0.09 < time.monotonic() - began < 20
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_deadline_that_has_passed_still_ends_it() -> None:
    with pytest.raises(TimeoutError), Until(soon(-1)):
        await asyncio.sleep(30)


async def test_what_is_in_time_is_left_alone() -> None:
    with Until(soon(1)):
        await asyncio.sleep(0)
    await asyncio.sleep(1 + 3 * TICK_S)


async def test_its_own_errors_pass() -> None:
    with pytest.raises(KeyError), Until(soon(10)):
        raise KeyError("own")


async def test_the_cancellation_of_another_stays_one() -> None:
    async def work() -> None:
        with Until(soon(10)):
            await asyncio.sleep(30)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_the_inner_of_two_ends_first() -> None:
    with Until(soon(29)):
        with pytest.raises(TimeoutError), Until(soon(0.05)):
            await asyncio.sleep(30)
        await asyncio.sleep(0)


async def test_a_handle_runs_once_or_not_at_all() -> None:
    ran: list[str] = []
    wheel().call_at(soon(0.01), lambda: ran.append("due"))
    stopped = wheel().call_at(soon(0.01), lambda: ran.append("stopped"))
    stopped.cancel()
    stopped.cancel()
    wheel().call_at(soon(60), lambda: ran.append("later")).cancel()
    gone = asyncio.Event()
    wheel().call_at(soon(0.05), gone.set)
    await asyncio.wait_for(gone.wait(), 20)
    assert ran == ["due"]


def test_every_loop_has_its_own_wheel_and_none_keeps_its_loop() -> None:
    async def use() -> int:
        with Until(soon(5)):
            await asyncio.sleep(0)
        return id(wheel())

    assert asyncio.run(use()) != 0
    gc.collect()
    assert asyncio.run(use()) != 0
