"""Requests that do not end well: clients that hang up, models that stall or break, servers that stop."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
import time
from typing import Any

import httpx
import pytest

from fairlead.errors import UpstreamTimeout
from fairlead.gateway import ANONYMOUS
from fairlead.providers.deadline import TICK_S
from fairlead.providers.openai_compatible import OpenAICompatible
from fairlead.providers.scripted import Script, Scripted
from tests.gateway.gateway_harness import (
    CHAT,
    Ageing,
    Held,
    House,
    all_of,
    await_true,
    build,
    pass_time,
    post,
    read_until,
    route,
    serving,
    until,
)

SAID = "one two three four five six seven eight nine ten " * 20
SLOW = Script(text=SAID, pace_s=0.2)  # longer than any machine stalls


def open_stream(url: str, body: dict[str, Any]) -> socket.socket:
    """A client that has received the first bytes of an answer."""
    host, port = url.removeprefix("http://").split(":")
    sock = socket.create_connection((host, int(port)), 30)
    sock.sendall(post("/v1/chat/completions", json.dumps(body).encode()))
    return sock


def await_cancelled(upstream: Scripted) -> None:
    await_true(lambda: upstream.cancelled, "the model stops after its client hung up", 20)


def await_asked(upstream: Scripted) -> None:
    await_true(lambda: upstream.calls, "the model is asked")


def test_hanging_up_in_a_stream_stops_an_in_process_model() -> None:
    house = build(SLOW)
    with serving(house.gateway) as url:
        sock = open_stream(url, {**CHAT, "stream": True})
        assert b"200 OK" in read_until(sock, b'"one"')
        sock.close()
        await_cancelled(house.upstream)
        gone = house.written()[0]
    assert (gone.status, gone.error, gone.finish) == (499, "client_disconnected", "")
    assert gone.tags == {"usage": "estimated"}
    assert 1 <= gone.output_tokens < 200
    assert gone.cost is not None
    assert gone.cost > 0
    said = json.loads(gone.output)["choices"][0]["message"]["content"]
    assert SAID.startswith(said)
    assert said


def test_hanging_up_before_a_whole_answer_stops_the_model() -> None:
    house = build(Script(text="late", delay_s=30))
    with serving(house.gateway) as url:
        sock = open_stream(url, dict(CHAT))
        await_asked(house.upstream)
        sock.close()
        await_cancelled(house.upstream)
        assert house.written()[0].error == "client_disconnected"


def test_hanging_up_travels_through_http_upstreams() -> None:
    inner = build(SLOW)
    with serving(inner.gateway) as inner_url:
        outer = build(OpenAICompatible("inner", f"{inner_url}/v1", "support"))
        with serving(outer.gateway) as url:
            sock = open_stream(url, {**CHAT, "stream": True})
            assert b"200 OK" in sock.recv(4096)
            sock.close()
            await_cancelled(inner.upstream)
            assert outer.written()[0].error == "client_disconnected"
            assert inner.written()[0].error == "client_disconnected"


def test_hanging_up_before_an_http_upstream_answered() -> None:
    inner = build(Script(text="late", delay_s=30))
    with serving(inner.gateway) as inner_url:
        outer = build(OpenAICompatible("inner", f"{inner_url}/v1", "support"))
        with serving(outer.gateway) as url:
            sock = open_stream(url, dict(CHAT))
            await_asked(inner.upstream)
            sock.close()
            await_cancelled(inner.upstream)


def test_a_deadline_before_the_answer() -> None:
    house = build(Script(text="late", delay_s=60), request_timeout_s=0.3)
    with serving(house.gateway) as url:
        answer = httpx.post(f"{url}/v1/chat/completions", json=CHAT, timeout=30)
    assert answer.status_code == 504
    assert answer.json()["error"]["code"] == "upstream_timeout"
    assert house.written()[0].status == 504


@pytest.mark.parametrize(("limit", "asked"), [(90.0, "0.1"), (0.1, "90"), (0.1, "nan"), (0.1, "soon"), (90.0, "-1")])
def test_the_client_may_lower_the_deadline_but_not_raise_it(limit: float, asked: str) -> None:
    house = build(Script(text="late", delay_s=100), request_timeout_s=limit)
    with serving(house.gateway) as url:
        began = time.monotonic()
        answer = httpx.post(f"{url}/v1/chat/completions", json=CHAT, headers={"x-request-timeout": asked}, timeout=80)
    assert answer.status_code in (408, 504)
    assert time.monotonic() - began < 60


def test_a_deadline_in_the_middle_of_a_stream_is_said_and_not_called_done() -> None:
    house = build(Ageing(script=Script(text=SAID, pace_s=20)), request_timeout_s=90)
    with serving(house.gateway, loop="asyncio") as url:
        answer = httpx.post(f"{url}/v1/chat/completions", json={**CHAT, "stream": True}, timeout=30)
    events = [event for event in answer.text.split("\n\n") if event]
    assert "[DONE]" not in answer.text
    assert json.loads(events[-1].removeprefix("data: "))["error"]["code"] == "upstream_timeout"
    late = house.written()[0]
    assert (late.status, late.error) == (504, "upstream_timeout")
    assert late.output_tokens > 0


def test_a_break_in_the_middle_of_a_stream_is_said_and_not_called_done() -> None:
    house = build(Script(text="one two three", break_after=2))
    with serving(house.gateway) as url:
        answer = httpx.post(f"{url}/v1/chat/completions", json={**CHAT, "stream": True})
        assert answer.status_code == 200, "the first bytes had gone out"
        events = [event for event in answer.text.split("\n\n") if event]
        error = json.loads(events[-1].removeprefix("data: "))["error"]
        assert error["code"] == "upstream_broken"
        assert error["request_id"] == answer.headers["x-request-id"]
        assert "[DONE]" not in answer.text
        broken = house.written()[0]
    assert (broken.status, broken.error, broken.finish) == (502, "upstream_broken", "")
    assert json.loads(broken.output)["choices"][0]["message"]["content"] == "one"
    assert json.loads(broken.output)["error"]["code"] == "upstream_broken"


def test_a_break_before_the_first_byte_keeps_its_status() -> None:
    house = build(Script(text="one two three", break_after=0))
    with serving(house.gateway) as url:
        answer = httpx.post(f"{url}/v1/chat/completions", json={**CHAT, "stream": True})
    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "upstream_broken"


@pytest.mark.parametrize("sent", [b"<html>oops</html>", b"[]", b"", b'{"error": {"message": "quota sk-abcdef123456"}}'])
def test_a_success_that_is_none(sent: bytes) -> None:
    with upstream_of(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(sent), sent)) as (url, _):
        house = build(OpenAICompatible("odd", url, "m"))
        with serving(house.gateway) as outer:
            answer = httpx.post(f"{outer}/v1/chat/completions", json=CHAT)
    assert answer.status_code == 502
    assert "sk-abcdef" not in answer.text
    assert house.written()[0].error == "upstream_broken"


class upstream_of:  # noqa: N801  reads as a phrase
    """A server that answers every connection with the same bytes, then closes it; counts connections."""

    def __init__(self, answer: bytes) -> None:
        self.answer = answer
        self.count = [0]
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.thread = threading.Thread(target=self.run, daemon=True)

    def run(self) -> None:
        while True:
            try:
                connection, _ = self.sock.accept()
            except OSError:
                return
            self.count[0] += 1
            with connection:
                connection.recv(65536)
                connection.sendall(self.answer)

    def __enter__(self) -> tuple[str, list[int]]:
        self.thread.start()
        return f"http://127.0.0.1:{self.sock.getsockname()[1]}/v1", self.count

    def __exit__(self, *error: object) -> None:
        self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()
        self.thread.join(30)


def hear(url: str) -> str:
    return httpx.post(f"{url}/v1/chat/completions", json={**CHAT, "stream": True}, timeout=30).text


def test_shutting_down_lets_streams_finish() -> None:
    house = build(Script(text="one two three four five six", pace_s=0.1))
    answers: list[str] = []
    with serving(house.gateway, timeout_graceful_shutdown=30) as url:
        client = threading.Thread(target=lambda: answers.append(hear(url)))
        client.start()
        await_asked(house.upstream)
    client.join(30)
    assert answers[0].endswith("data: [DONE]\n\n")
    assert house.records[0].status == 200, "the record of the last request was not written at shutdown"


def test_what_outlives_the_grace_is_ended_with_a_word() -> None:
    house = build(SLOW)
    with serving(house.gateway, timeout_graceful_shutdown=1) as url:
        sock = open_stream(url, {**CHAT, "stream": True})
        read_until(sock, b'"one"')
    with sock:
        ended = all_of(sock)
    assert b"[DONE]" not in ended
    (told,) = re.findall(rb'^data: (\{"error.*)$', ended, re.MULTILINE)
    assert json.loads(told)["error"]["code"] == "shutting_down"
    assert (house.records[0].status, house.records[0].error) == (503, "shutting_down")


async def test_aclose_cancels_what_outlives_the_grace_and_refuses_what_comes_later() -> None:
    house = build(SLOW, shutdown_grace_s=0.2)
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        if sent:
            await asyncio.sleep(60)
        return {"type": "http.request", "body": json.dumps({**CHAT, "stream": True}).encode()}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "path": "/v1/chat/completions", "method": "POST", "headers": []}
    task = asyncio.create_task(house.gateway(scope, receive, send))
    await until(lambda: sent, "the stream begins")
    began = time.monotonic()
    await house.gateway.aclose()
    assert time.monotonic() - began < 20, "it waited for the model"
    await task
    assert b"shutting_down" in sent[-1]["body"]
    assert house.records[0].error == "shutting_down"
    sent.clear()
    await house.gateway(scope, receive, send)
    assert sent[0]["status"] == 503
    assert dict(sent[0]["headers"])[b"retry-after"]


async def test_in_process_a_caller_that_leaves_cancels_the_model() -> None:
    house = build(SLOW)
    stream = house.gateway.stream(dict(CHAT), principal=ANONYMOUS)
    async for chunk in stream:
        if chunk["choices"][0]["delta"].get("content"):
            break
    await stream.aclose()  # type: ignore[attr-defined]
    assert house.upstream.cancelled == 1
    house.gateway.write_records()
    assert house.records[0].error == "client_disconnected"
    await house.gateway.aclose()


async def test_in_process_a_cancelled_task_is_recorded_and_cancelled() -> None:
    house = build(Script(text="late", delay_s=30))
    task = asyncio.create_task(house.gateway.complete(dict(CHAT), principal=ANONYMOUS))
    await until(lambda: house.upstream.calls, "the model is asked")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert house.upstream.cancelled == 1
    await house.gateway.aclose()
    assert house.records[0].error == "client_disconnected"


async def test_in_process_deadlines_hold_and_do_not_cancel_the_callers_own_work() -> None:
    house = build(Held(Script(text="one two three", pace_s=1)), request_timeout_s=90)
    words = []

    async def read() -> None:
        async for chunk in house.gateway.stream(dict(CHAT), principal=ANONYMOUS):
            words.append(chunk["choices"][0]["delta"].get("content"))
            pass_time(100)  # past the deadline, while the caller works
            await asyncio.sleep(2 * TICK_S)

    with pytest.raises(UpstreamTimeout):
        await read()
    assert words
    await house.gateway.aclose()
    assert house.records[0].error == "upstream_timeout"


def test_many_clients_at_once_are_all_answered_and_recorded() -> None:
    house: House = build(Script(text="a b c d", pace_s=0.005))

    async def ask(client: httpx.AsyncClient, number: int) -> str:
        body = {**CHAT, "stream": number % 2 == 0, "messages": [{"role": "user", "content": f"n{number}"}]}
        return (await client.post("/v1/chat/completions", json=body)).text

    async def run(url: str) -> list[str]:
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            return await asyncio.gather(*(ask(client, number) for number in range(100)))

    with serving(house.gateway) as url:
        answers = asyncio.run(run(url))
    assert len(answers) == 100
    assert all("d" in answer for answer in answers)
    assert {json.loads(record.input)["messages"][0]["content"] for record in house.records} == {
        f"n{number}" for number in range(100)
    }
    assert house.gateway.routes == {"support": route(house.upstream)}
