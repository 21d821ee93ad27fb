"""Several keys of one provider, through the real gateway to a server that judges each key."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from fairlead.gateway.keypool import KeyPool
from fairlead.gateway.reliable import FAILURES
from fairlead.providers.base import Call, CallContext, Reply
from fairlead.providers.openai_compatible import OpenAICompatible
from fairlead.providers.scripted import Script, Scripted
from tests.gateway.gateway_harness import CHAT, House, build, route, serving
from tests.gateway.hostile import END, Part, chunked, hostile, whole

KEYS = ("planted-key-one", "planted-key-two", "planted-key-three")
USAGE = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
FINE = json.dumps(
    {"id": "c", "model": "support-model", "usage": USAGE,
     "choices": [{"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}]}
).encode()  # fmt: skip


class Provider:
    """A provider that knows what each key is worth: nothing said is 200."""

    def __init__(self) -> None:
        self.worth: dict[str, tuple[int, str]] = {}
        self.asked: list[str] = []
        self.now = 0.0
        self.requests: Callable[[], list[bytes]] = list

    def answer(self, _: int) -> list[Part]:
        head = self.requests()[-1].partition(b"\r\n\r\n")[0].decode().lower()
        key = head.split("authorization: bearer ")[1].split("\r\n")[0]
        self.asked.append(key)
        status, retry = self.worth.get(key, (200, ""))
        if status == 200:
            if b'"stream":true' in self.requests()[-1]:
                event = b'data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":"stop"}]}\n\n'
                return [*chunked(event, b"data: [DONE]\n\n"), END]
            return whole(FINE)
        body = json.dumps({"error": {"message": f"the key {key} is not wanted"}}).encode()
        lines = f"retry-after: {retry}\r\n" if retry else ""
        return [f"HTTP/1.1 {status} No\r\n{lines}content-length: {len(body)}\r\n\r\n".encode() + body]


class Case:
    def __init__(self, provider: Provider, house: House, client: httpx.Client, pool: KeyPool) -> None:
        self.provider = provider
        self.house = house
        self.client = client
        self.pool = pool

    def ask(self, **more: Any) -> httpx.Response:
        return self.client.post("/v1/chat/completions", json={**CHAT, **more})


@pytest.fixture(name="case")
def case_fixture() -> Iterator[Case]:
    provider = Provider()
    with hostile(provider.answer) as server:
        provider.requests = lambda: server.requests
        members = [OpenAICompatible("pool", server.url, "support-model", key) for key in KEYS]
        pool = KeyPool("pool", members, clock=lambda: provider.now)
        house = build(routes={"support": route(pool, retries=0, rests=False)})
        with serving(house.gateway) as url, httpx.Client(base_url=url, timeout=60) as client:
            yield Case(provider, house, client, pool)


def test_keys_take_turns(case: Case) -> None:
    for stream in (False, True):
        for _ in range(3):
            assert case.ask(stream=stream).status_code == 200
    assert case.provider.asked == [*KEYS, *KEYS]


@pytest.mark.parametrize("status", [401, 402, 429])
@pytest.mark.parametrize("stream", [False, True])
def test_a_key_that_is_refused_is_set_aside_and_nobody_notices(
    case: Case, status: int, stream: bool, caplog: pytest.LogCaptureFixture
) -> None:
    case.provider.worth[KEYS[0]] = (status, "5")
    caplog.set_level(logging.INFO)
    for _ in range(4):
        answer = case.ask(stream=stream)
        assert answer.status_code == 200
        assert "planted-key" not in answer.text
    assert case.provider.asked.count(KEYS[0]) == 1
    assert len(case.provider.asked) == 5
    assert case.pool.able() == 2
    assert "key 1 of 3" in caplog.text
    assert "planted-key" not in caplog.text


def test_a_key_comes_back_when_its_time_is_over_and_stays_away_longer_when_refused_again(case: Case) -> None:
    case.provider.worth[KEYS[0]] = (429, "5")
    case.ask()
    for seconds, able in ((4.9, 2), (5.1, 3)):
        case.provider.now = seconds
        assert case.pool.able() == able
    case.provider.worth[KEYS[0]] = (429, "")
    for _ in range(3):
        assert case.ask().status_code == 200
    assert case.provider.asked.count(KEYS[0]) == 2
    case.provider.now += 1.5
    assert case.pool.able() == 2, "twice in a row takes twice as long"
    case.provider.now += 1.0
    del case.provider.worth[KEYS[0]]
    for _ in range(3):
        assert case.ask().status_code == 200
    assert case.provider.asked.count(KEYS[0]) == 3
    assert case.pool.able() == 3


def test_when_every_key_is_refused_the_caller_is_told_when_to_come_again(case: Case) -> None:
    for key, seconds in zip(KEYS, ("30", "9", "60"), strict=True):
        case.provider.worth[key] = (429, seconds)
    assert case.ask().status_code == 429
    assert sorted(case.provider.asked) == sorted(KEYS), "each was asked once"
    again = case.ask()
    assert (again.status_code, again.headers["retry-after"]) == (429, "9")
    assert len(case.provider.asked) == 3, "nobody is asked while all are set aside"
    case.provider.now = 10.0
    case.provider.worth.clear()
    assert case.ask().status_code == 200


def test_when_no_key_is_accepted_it_is_not_the_callers_mistake(case: Case) -> None:
    for key in KEYS:
        case.provider.worth[key] = (401, "")
    for _ in range(2):
        answer = case.ask()
        assert answer.status_code == 502
        assert "`api_keys:`" in answer.json()["error"]["message"]
        assert answer.headers["retry-after"] == "60"
        assert "planted-key" not in answer.text
    assert len(case.provider.asked) == 3


def test_while_every_key_is_aside_nobody_waits_and_who_stands_in_answers() -> None:
    provider = Provider()
    for key, worth in zip(KEYS, ((401, ""), (429, "3000"), (402, "")), strict=True):
        provider.worth[key] = worth
    with hostile(provider.answer) as server:
        provider.requests = lambda: server.requests

        def pool() -> KeyPool:
            members = [OpenAICompatible("pool", server.url, "support-model", key) for key in KEYS]
            return KeyPool("pool", members, clock=lambda: provider.now)

        other = Scripted(script=Script(text="instead"))
        routes = {
            "alone": route(pool(), "alone", retries=2),
            "helped": route(pool(), "helped", retries=2, fallback=("other",)),
            "other": route(other, "other"),
        }
        house = build(routes=routes)
        with serving(house.gateway) as url, httpx.Client(base_url=url, timeout=60) as client:
            for _ in range(2):
                answer = client.post("/v1/chat/completions", json={**CHAT, "model": "alone"})
                assert (answer.status_code, answer.headers["retry-after"]) == (429, "60"), "the first to come back"
                assert "`api_keys:`" in answer.json()["error"]["message"]
            answer = client.post("/v1/chat/completions", json={**CHAT, "model": "helped"})
            assert answer.json()["choices"][0]["message"]["content"] == "instead"
        assert all("attempts" not in record.tags for record in house.written(3)), "nobody was kept waiting"


class Judge:
    """A model that answers each call when it is told to."""

    name = "judge"

    def __init__(self) -> None:
        self.waiting: asyncio.Queue[asyncio.Future[Reply]] = asyncio.Queue()

    async def open(self, call: Call) -> Reply:
        told: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self.waiting.put_nowait(told)
        return await told

    async def aclose(self) -> None:
        pass


async def test_refusals_of_calls_that_were_under_way_count_as_one() -> None:
    now, judge = 0.0, Judge()
    pool = KeyPool("pool", [judge], clock=lambda: now)
    call = Call(operation="chat", body=dict(CHAT), stream=False, deadline=1e9, context=CallContext(request="r"))

    async def burst(*replies: Reply) -> list[Any]:
        asked = [asyncio.create_task(pool.open(call)) for _ in replies]
        under_way = [await judge.waiting.get() for _ in replies]
        for told, reply in zip(under_way, replies, strict=True):
            told.set_result(reply)
        return await asyncio.gather(*asked, return_exceptions=True)

    def waits(found: list[Any]) -> list[Any]:
        return [error.details["retry_after"] for error in found]

    assert set(waits(await burst(*[Reply(401, body=b"")] * 12))) == {60}
    now = 60.0
    assert waits(await burst(Reply(401, body=b""))) == [120], "a later one is the second in a row"
    now = 180.0
    late = Reply(429, body=b"", headers={"retry-after": "300"})
    assert waits(await burst(Reply(429, body=b""), late, Reply(429, body=b"")))[-1] == 300, "the longest that is asked"
    fine = Reply(200, body=b"{}")
    now = 480.0
    assert (await burst(Reply(429, body=b""), fine))[1] is fine
    assert pool.able() == 0, "a call that began before says nothing of the key now"


@pytest.mark.parametrize(
    ("said", "told"),
    [("nan", "1"), ("inf", "86400"), ("-5", "1"), ("7.2", "8"), ("1e300", "86400"), ("rubbish", "1"), ("12", "12")],
)
def test_what_a_provider_says_of_the_time_is_passed_on_as_whole_seconds(said: str, told: str) -> None:
    upstream = Scripted(script=Script(status=429, retry_after=said))
    with serving(build(routes={"support": route(upstream, retries=0)}).gateway) as url:
        answer = httpx.post(f"{url}/v1/chat/completions", json=CHAT, timeout=60)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, told)


def test_a_key_whose_calls_fail_rests_alone(case: Case) -> None:
    case.provider.worth[KEYS[1]] = (500, "")
    seen = [case.ask().status_code for _ in range(3 * FAILURES)]
    assert seen.count(502) == FAILURES
    del case.provider.asked[:]
    assert [case.ask().status_code for _ in range(6)] == [200] * 6
    assert KEYS[1] not in case.provider.asked
    case.provider.now = 3.0  # the rest is over
    del case.provider.worth[KEYS[1]]
    assert [case.ask().status_code for _ in range(3)] == [200] * 3
    assert KEYS[1] in case.provider.asked


@pytest.mark.parametrize("stream", [False, True])
def test_when_the_calls_of_every_key_fail_all_rest_and_callers_are_told_when_to_come_again(
    case: Case, stream: bool
) -> None:
    for key in KEYS:
        case.provider.worth[key] = (500, "")
    assert {case.ask(stream=stream).status_code for _ in range(FAILURES * len(KEYS))} == {502}
    del case.provider.asked[:]
    for now, retry in ((0.0, "2"), (0.5, "2"), (1.5, "1")):
        case.provider.now = now
        answer = case.ask(stream=stream)
        error = answer.json()["error"]
        assert (answer.status_code, answer.headers["retry-after"]) == (503, retry)
        assert (error["code"], error["type"]) == ("upstream_refused", "server_error")
        assert "Each of the 3 keys in `api_keys:` of pool rests after calls that failed" in error["message"]
    assert case.provider.asked == [], "nobody is asked while all rest"
    case.provider.now = 2.0
    case.provider.worth.clear()
    assert case.ask(stream=stream).status_code == 200


@pytest.mark.parametrize(
    ("first", "status", "code", "retry", "said"),
    [
        ((401, ""), 503, "upstream_refused", "2", "was refused or rests after calls that failed"),
        ((429, "30"), 429, "rate_limit_exceeded", "2", "is set aside for now"),
    ],
)
def test_some_refused_and_the_others_at_rest(
    case: Case, first: tuple[int, str], status: int, code: str, retry: str, said: str
) -> None:
    case.provider.worth = dict.fromkeys(KEYS, (500, "")) | {KEYS[0]: first}
    while len(case.provider.asked) < 1 + 2 * FAILURES:
        assert case.ask().status_code == 502
    answer = case.ask()
    assert (answer.status_code, answer.headers["retry-after"]) == (status, retry)
    assert answer.json()["error"]["code"] == code
    assert said in answer.json()["error"]["message"]
    assert len(case.provider.asked) == 1 + 2 * FAILURES


def test_a_model_all_of_whose_keys_fail_rests_as_a_whole_before_each_of_them_does() -> None:
    provider = Provider()
    provider.worth = dict.fromkeys(KEYS, (500, ""))
    with hostile(provider.answer) as server:
        provider.requests = lambda: server.requests
        pool = KeyPool("pool", [OpenAICompatible("pool", server.url, "support-model", key) for key in KEYS])
        house = build(routes={"support": route(pool, retries=0)})
        with serving(house.gateway) as url, httpx.Client(base_url=url, timeout=60) as client:
            answers = [client.post("/v1/chat/completions", json=CHAT) for _ in range(FAILURES + 1)]
    assert [each.status_code for each in answers] == [502] * FAILURES + [503]
    assert answers[-1].json()["error"]["code"] == "model_resting"
    assert int(answers[-1].headers["retry-after"]) in (1, 2)
    assert len(provider.asked) == FAILURES


@pytest.mark.parametrize("status", [400, 403, 404, 422])
def test_a_request_at_fault_takes_no_key_out(case: Case, status: int) -> None:
    for key in KEYS:
        case.provider.worth[key] = (status, "")
    case.ask()
    assert len(case.provider.asked) == 1
    assert case.pool.able() == 3
