"""The same question asked many times at once: one call, and nobody who depends on who came first."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.errors import UpstreamBroken
from fairlead.gateway.cache import Cache, Rules
from fairlead.gateway.cache.flight import Flight, Listener, Tap
from fairlead.gateway.fold import fold
from fairlead.providers.base import Call
from fairlead.providers.openai_compatible import OpenAICompatible
from fairlead.providers.scripted import Script, Scripted
from tests.gateway.gateway_harness import CHAT, Held, House, build, route, serving, until

ASKED: dict[str, Any] = {**CHAT, "temperature": 0}
STREAM: dict[str, Any] = {**ASKED, "stream": True}
WORDS = "one two three four five six seven eight nine ten"
URL = "/v1/chat/completions"


def cached(script: Any) -> House:
    return build(script, cache=Cache(Rules(), secret=b"k" * 32))


@contextlib.contextmanager
def distant(script: Script | Scripted) -> Iterator[tuple[House, Scripted]]:
    """A gateway whose model answers over HTTP, so that its streams are handed on without waking a task."""
    inner = build(script)
    with serving(inner.gateway) as url:
        yield cached(OpenAICompatible("far", f"{url}/v1", "support")), inner.upstream


@contextlib.contextmanager
def near(script: Script | Scripted) -> Iterator[tuple[House, Scripted]]:
    house = cached(script)
    yield house, house.upstream


WHERE = pytest.mark.parametrize("where", [near, distant])


async def whole(client: httpx.AsyncClient, body: dict[str, Any] = ASKED) -> tuple[int, str]:
    answer = await client.post(URL, json=body)
    if answer.status_code != 200:
        return answer.status_code, answer.text
    if body.get("stream"):
        if b'data: {"error"' in answer.content:
            return 0, answer.text
        return 200, fold(answer.content).choices[0]["message"]["content"]
    return 200, answer.json()["choices"][0]["message"]["content"]


async def spread(house: House, client: httpx.AsyncClient, count: int, body: dict[str, Any]) -> list[Any]:
    """Tasks that ask the same, one after the other; the model is held until the last has come."""
    tasks = []
    for _ in range(count):
        tasks.append(asyncio.create_task(whole(client, body)))
        await until(lambda: house.gateway.in_flight == len(tasks), "the next one asks")
    return tasks


@pytest.mark.parametrize("body", [ASKED, STREAM])
async def test_ten_at_once_are_one_call(body: dict[str, Any]) -> None:
    model = Held(Script(text=WORDS, delay_s=1))
    house = cached(model)
    with serving(house.gateway) as url:
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            tasks = await spread(house, client, 10, body)
            model.go.set()
            answers = await asyncio.gather(*tasks)
    assert answers == [(200, WORDS)] * 10
    assert len(house.upstream.calls) == 1
    records = house.written(10)
    assert sorted(record.tags.get("cache", "") for record in records) == ["", *["coalesced"] * 9]
    assert sum(record.cost or 0 for record in records) == max(record.cost or 0 for record in records)


async def test_other_questions_do_not_wait() -> None:
    house = cached(Scripted(script=lambda call: Script(delay_s=0.2)))
    with serving(house.gateway) as url:
        async with httpx.AsyncClient(base_url=url) as client:
            bodies = [{**ASKED, "messages": [{"role": "user", "content": f"question {i}"}]} for i in range(6)]
            assert [text for _, text in await asyncio.gather(*(whole(client, body) for body in bodies))] == [
                f"question {i}" for i in range(6)
            ]
    assert len(house.upstream.calls) == 6


async def test_when_the_first_hangs_up_the_next_one_asks() -> None:
    model = Held(Script(text=WORDS, delay_s=1))
    house = cached(model)
    with serving(house.gateway) as url:
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            first, *others = await spread(house, client, 5, ASKED)
            first.cancel()
            await until(lambda: model.cancelled, "the call of who left is ended")
            model.go.set()
            assert await asyncio.gather(*others) == [(200, WORDS)] * 4
    assert len(house.upstream.calls) == 2
    assert house.upstream.cancelled == 1


async def test_when_the_call_fails_everyone_goes_on_alone() -> None:
    calls = iter(range(100))
    model = Held(lambda call: Script(status=500 if next(calls) == 0 else 200, text="ok", delay_s=1))
    house = cached(model)
    with serving(house.gateway) as url:
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            tasks = await spread(house, client, 4, ASKED)
            model.go.set()
            first, *others = await asyncio.gather(*tasks)
    assert first[0] == 502
    assert others == [(200, "ok")] * 3
    assert len(house.upstream.calls) == 4


async def test_an_answer_that_may_not_be_kept_is_nobody_elses() -> None:
    model = Held(Script(tool_calls=(("cancel_order", "{}"),), delay_s=1))
    house = cached(model)
    with serving(house.gateway) as url:
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            tasks = [asyncio.create_task(client.post(URL, json=ASKED)) for _ in range(3)]
            await until(lambda: house.gateway.in_flight == 3, "all have asked")
            model.go.set()
            answers = await asyncio.gather(*tasks)
    assert {answer.status_code for answer in answers} == {200}
    assert len(house.upstream.calls) == 3


async def pieces_of(client: httpx.AsyncClient, seen: list[bytes]) -> None:
    async with client.stream("POST", URL, json=STREAM) as answer:
        async for piece in answer.aiter_raw():
            seen.append(piece)


class Hasty(Held):
    """Takes its time until ``go`` is set, and none from then on."""

    async def _pause(self, seconds: float, call: Call) -> None:
        await Scripted._pause(self, 0 if self.go.is_set() else seconds, call)


@WHERE
async def test_a_stream_is_shared_while_it_runs_and_outlives_its_first_listener(where: Any) -> None:
    long = " ".join([WORDS] * 30)
    hasty = Hasty(Script(text=long, pace_s=0.1))
    with where(hasty) as (house, model), serving(house.gateway) as url:
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            first: list[bytes] = []
            second: list[bytes] = []
            leaving = asyncio.create_task(pieces_of(client, first))
            await until(lambda: first, "the first hears")
            staying = asyncio.create_task(pieces_of(client, second))
            await until(lambda: second, "the second hears while the stream runs")
            leaving.cancel()
            await until(lambda: house.gateway.in_flight == 1, "the first has left")
            hasty.go.set()
            await staying
            assert fold(b"".join(second)).choices[0]["message"]["content"] == long
            assert await whole(client, ASKED) == (200, long)  # kept, though who asked first had gone
        assert len(model.calls) == 1
        assert model.cancelled == 0


@WHERE
async def test_when_all_listeners_have_gone_the_model_stops(where: Any) -> None:
    with where(Script(text=f"{WORDS} " * 40, pace_s=0.1)) as (house, model), serving(house.gateway) as url:
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            heard: list[list[bytes]] = [[], [], []]
            listening = [asyncio.create_task(pieces_of(client, each)) for each in heard]
            await until(lambda: all(heard), "all of them hear")
            for each in listening:
                each.cancel()
            await until(lambda: model.cancelled, "the model stops")
            await asyncio.gather(*listening, return_exceptions=True)
        assert model.cancelled == 1
        assert len(model.calls) == 1


@WHERE
async def test_a_listener_that_does_not_read_holds_nobody_up(where: Any) -> None:
    model = Held(lambda _: Script(text="word " * 60_000, pace_s=0 if model.go.is_set() else 1))
    with where(model) as (house, _), serving(house.gateway) as url:
        async with httpx.AsyncClient(base_url=url, timeout=60) as client, client.stream("POST", URL, json=STREAM):
            second = asyncio.create_task(whole(client, STREAM))
            await until(lambda: house.gateway.in_flight == 2, "the second asks")
            model.go.set()  # the first has read nothing yet, and more is to come than lies in sockets on the way
            status, text = await second
        assert (status, len(text)) == (200, 300_000)
        assert len(model.calls) == 1


@WHERE
async def test_one_alone_hears_a_stream_that_is_too_long_to_be_kept(where: Any) -> None:
    with where(Script(text=("w" * 400_000 + " ") * 12)) as (house, model), serving(house.gateway) as url:
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            for _ in range(2):
                status, text = await whole(client, STREAM)
                assert (status, len(text)) == (200, 12 * 400_001)
        assert len(model.calls) == 2


async def test_who_would_wait_longer_does_not_join_a_call_that_is_given_up_soon() -> None:
    model = Held(Script(text=WORDS, pace_s=1))
    house = cached(model)
    with serving(house.gateway) as url:
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            headers = {"x-request-timeout": "5"}
            first = asyncio.create_task(client.post(URL, json=STREAM, headers=headers))
            await until(lambda: model.calls, "the first asks")
            second = asyncio.create_task(whole(client, STREAM))
            assert b"error" in (await first).content
            model.go.set()
            assert await second == (200, WORDS)
    assert len(house.upstream.calls) == 2


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25, deadline=None)
def test_whoever_leaves_and_whenever_those_who_stay_hear_everything(seed: int) -> None:
    asyncio.run(asyncio.wait_for(_trial(random.Random(seed)), 60))


async def _listen(listener: Listener, patience: int, draw: random.Random) -> bytes | None:
    heard = b""
    try:
        async for piece in listener:
            heard += piece
            patience -= 1
            if patience <= 0:
                return None
            if draw.random() < 0.3:
                await asyncio.sleep(0)
    finally:
        await listener.aclose()
    return heard


async def _trial(draw: random.Random) -> None:
    said = [bytes([65 + place]) * draw.randint(1, 5) for place in range(draw.randint(1, 12))]
    ended: list[Tap] = []
    closed: list[bool] = []

    async def model() -> AsyncIterator[bytes]:
        try:
            for piece in said:
                if draw.random() < 0.6:
                    await asyncio.sleep(0)
                yield piece
        finally:
            closed.append(True)

    flight = Flight(route(Scripted()))
    tap = Tap(model(), ended.append)
    flight.begun(tap)

    async def join(patience: int) -> bytes | None:
        outcome = await flight.outcome()
        if not isinstance(outcome, Listener):
            return None  # goes on alone
        return await _listen(outcome, patience, draw)

    tasks = [asyncio.create_task(_listen(tap.listen(), draw.choice([1, 3, 10_000]), draw))]
    for _ in range(draw.randint(0, 6)):
        if draw.random() < 0.6:
            await asyncio.sleep(0)
        tasks.append(asyncio.create_task(join(draw.choice([2, 10_000]))))
    for task in tasks:
        if draw.random() < 0.2:
            await asyncio.sleep(0)
            task.cancel()
    heard = await asyncio.gather(*tasks, return_exceptions=True)
    await until(lambda: ended, "the stream is over")
    for each in heard:
        assert each is None or isinstance(each, asyncio.CancelledError) or each == b"".join(said), each
    assert len(ended) == 1
    if tap.whole:
        assert b"".join(tap.pieces) == b"".join(said)
    assert closed in ([True], [])  # a model that nobody began to read has nothing to close


async def test_a_broken_stream_is_broken_for_all_its_listeners() -> None:
    joined = asyncio.Event()

    async def model() -> AsyncIterator[bytes]:
        yield b"a"
        await joined.wait()
        raise UpstreamBroken(name="m", detail="gone")

    tap = Tap(model(), lambda tap: None)
    first = tap.listen()
    assert await anext(first) == b"a"
    second = await tap.join()
    assert second is not None
    joined.set()
    for listener in (first, second):
        with pytest.raises(UpstreamBroken):
            async for _ in listener:
                pass
        await listener.aclose()
    assert await tap.join() is None


async def test_waiting_ends_with_the_deadline_of_who_waits() -> None:
    model = Held(Script(text=WORDS, delay_s=1))
    house = cached(model)
    with serving(house.gateway) as url:
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            first = asyncio.create_task(whole(client))
            await until(lambda: model.calls, "the first asks")
            late = await client.post(URL, json=ASKED, headers={"x-request-timeout": "0.3"})
            assert late.status_code == 504
            assert json.loads(late.text)["error"]["code"] == "upstream_timeout"
            model.go.set()
            assert await first == (200, WORDS)


async def test_a_short_deadline_of_the_first_is_its_own() -> None:
    model = Held(Script(text=WORDS, delay_s=1))
    house = cached(model)
    with serving(house.gateway) as url:
        async with httpx.AsyncClient(base_url=url, timeout=60) as client:
            first = asyncio.create_task(client.post(URL, json=ASKED, headers={"x-request-timeout": "3"}))
            await until(lambda: model.calls, "the first asks")
            others = [asyncio.create_task(whole(client)) for _ in range(2)]
            assert (await first).status_code == 504
            model.go.set()
            assert await asyncio.gather(*others) == [(200, WORDS)] * 2
