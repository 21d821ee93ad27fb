"""Connections of ours over real sockets: what is no request, what would be two, and who reads or writes slowly."""

from __future__ import annotations

import asyncio
import gc
import json
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
import uvicorn
import uvicorn.protocols.http.httptools_impl as httptools_impl
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.gateway import front as front_module
from fairlead.gateway.front import HEAD_BYTES, Direct
from fairlead.providers import sse
from fairlead.providers.base import Call, Reply
from fairlead.providers.openai_compatible import OpenAICompatible
from fairlead.providers.scripted import Script
from tests.gateway.gateway_harness import (
    CHAT,
    Held,
    House,
    all_of,
    await_true,
    build,
    post,
    raw,
    read_until,
    serving,
    whole,
)

BODY = json.dumps(CHAT).encode()
ASKED = post("/v1/chat/completions", BODY)
LAST = post("/v1/chat/completions", BODY, "connection: close")
STREAM = json.dumps({**CHAT, "stream": True}).encode()
HIDDEN = b"GET /hidden HTTP/1.1\r\nhost: x\r\n\r\n"


@pytest.fixture(scope="module")
def house() -> House:
    return build(Script(text="It is on its way."), max_body_bytes=200_000)


@pytest.fixture(scope="module")
def url(house: House) -> Iterator[str]:
    with serving(house.gateway) as base:
        yield base


def statuses(received: bytes) -> list[int]:
    return [int(part[:3]) for part in received.split(b"HTTP/1.1 ")[1:]]


def test_requests_one_after_the_other_and_of_both_kinds_keep_their_order(url: str) -> None:
    received = whole(url, ASKED + b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n" + ASKED + LAST)
    assert statuses(received) == [200] * 4
    assert received.index(b'"status":"ok"') < received.rindex(b"It is on its way.")


def test_a_path_with_a_query_is_answered_too(url: str) -> None:
    assert statuses(whole(url, post("/v1/chat/completions?api-version=1", BODY, "connection: close"))) == [200]


def test_who_asks_for_the_end_of_the_connection_gets_it(url: str) -> None:
    received = whole(url, post("/v1/chat/completions", STREAM, "connection: close") + ASKED)
    assert statuses(received) == [200]
    assert b"connection: close" in received
    assert received.endswith(b"data: [DONE]\n\n\r\n0\r\n\r\n")


def test_an_old_client_is_answered_and_the_connection_closed(url: str) -> None:
    received = whole(url, ASKED.replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert statuses(received) == [200]
    assert b"It is on its way." in received


def test_who_waits_for_100_continue_is_told_to(url: str) -> None:
    head, body = LAST.split(b"\r\n\r\n", 1)
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 60) as sock:
        sock.sendall(head + b"\r\nexpect: 100-continue\r\n\r\n")
        assert statuses(read_until(sock, b"\r\n\r\n")) == [100]
        sock.sendall(body)
        assert statuses(all_of(sock)) == [200]


@pytest.mark.parametrize(
    "lines",
    [
        [f"content-length: {len(BODY)}", "transfer-encoding: chunked"],
        [f"content-length: {len(BODY)}", "content-length: 0"],
        [f"content-length: {len(BODY)}, 0"],
        ["transfer-encoding: chunked, identity"],
        ["transfer-encoding: xchunked"],
        ["transfer-encoding: identity, chunked, identity"],
        ["content-length: +5"],
        ["content-length: 0x5"],
        ["transfer-encoding : chunked"],
        [f"content-length: {len(BODY)}", "transfer-encoding:\x0bchunked"],
        ["content-length: 4", "x: y\r z: w"],
        [f"content-length: {len(BODY)}", "transfer-encoding:\r\n chunked"],
        [f"content-length: {len(BODY)}", "x: y\r\n transfer-encoding: chunked", "transfer-encoding: chunked"],
        ["transfer-encoding: chunked\r\n , identity"],
        ["content-length:\r\n 4", f"content-length: {len(BODY)}"],
        [f"content-length: {len(BODY)}", "Transfer-Encoding: CHUNKED"],
        [f"content-length: {len(BODY)}\x00"],
        ["content-length: 4", "transfer-encoding: chunked", "transfer-encoding: identity"],
        ["content-length: 18446744073709551617"],
    ],
)
def test_a_request_that_could_be_read_as_two_is_none(url: str, lines: list[str]) -> None:
    """Request smuggling: where two readers could disagree about the end, nothing after it is ever a request."""
    head = "\r\n".join(["POST /v1/chat/completions HTTP/1.1", "host: x", "content-type: application/json", *lines])
    received = raw(url, head.encode("latin-1") + b"\r\n\r\n" + BODY + HIDDEN)
    assert b"/hidden" not in received
    assert all(status in (400, 408, 413) for status in statuses(received)), received
    assert len(statuses(received)) <= 1


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/healthz"])
@pytest.mark.parametrize("hosts", [[], ["host: x", "host: y"], ["host: x", "Host: x"]])
def test_a_request_for_no_host_or_for_two_is_none(url: str, path: str, hosts: list[str]) -> None:
    head = "\r\n".join([f"POST {path} HTTP/1.1", *hosts, "content-length: 0"])
    assert statuses(whole(url, head.encode() + b"\r\n\r\n")) == [400]


@pytest.mark.parametrize("body", [BODY, STREAM])
@pytest.mark.parametrize("first", [True, False])
def test_what_is_no_request_never_stands_for_the_answer_before_it(body: bytes, first: bool) -> None:
    """Whoever sent the request before it would take that 400 for its answer, or read it within a stream."""
    house = build(Held(Script(text="It is on its way.", pace_s=1, delay_s=1)))
    asked = post("/v1/chat/completions", body)
    with serving(house.gateway) as url:
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), 60) as sock:
            if first:
                sock.sendall(asked + b"no request\r\n\r\n")
            else:
                sock.sendall(asked)
                await_true(lambda: house.upstream.calls, "the model is asked")
                sock.sendall(b"no request\r\n\r\n")
            received = all_of(sock)
        house.upstream.go.set()
    assert b" 400 " not in received
    assert b"[DONE]" not in received


@pytest.mark.parametrize(
    "chunks",
    [
        b"5\nhello\r\n0\r\n\r\n",
        b"-1\r\nh\r\n0\r\n\r\n",
        b"5;\x00\r\nhello\r\n0\r\n\r\n",
        b"fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhelloXX0\r\n\r\n",
        b" 5\r\nhello\r\n0\r\n\r\n",
    ],
)
def test_chunks_that_could_be_read_in_two_ways_are_none(url: str, chunks: bytes) -> None:
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    received = raw(url, head + chunks + HIDDEN)
    assert b"/hidden" not in received
    assert [status for status in statuses(received) if status != 400] == []


def test_a_head_without_end_is_given_up_by_size(url: str) -> None:
    received = raw(url, b"POST /v1/chat/completions HTTP/1.1\r\n" + b"x: yyyyyyyyyyyyyy\r\n" * (HEAD_BYTES // 10))
    assert statuses(received) in ([431], [])  # a reset may overtake the words
    assert statuses(raw(url, ASKED)) == [200]


def test_a_head_that_drips_is_given_up_by_time(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_module, "HEAD_S", 0.3)
    host, port = url.removeprefix("http://").split(":")
    began = time.monotonic()
    with socket.create_connection((host, int(port)), 30) as sock:
        sock.sendall(b"POST /v1/chat/completions HTTP/1.1\r\n")
        for _ in range(8):
            time.sleep(0.1)
            try:
                sock.sendall(b"x: y\r\n")
            except OSError:
                break
        assert statuses(sock.recv(4096)) == [408]
    assert time.monotonic() - began < 20


def test_a_connection_that_only_opens_is_closed() -> None:
    with serving(build().gateway, timeout_keep_alive=0.2) as url:
        assert whole(url, b"") == b""
        assert statuses(whole(url, ASKED)) == [200], "closed after it, though nobody said so"


def test_a_header_of_an_answer_cannot_carry_a_second_one() -> None:
    class Server:
        default_headers = ((b"date", b"today"),)

    class Owner:
        server_state = Server()

    direct = Direct.__new__(Direct)
    direct._front = Owner()  # type: ignore[assignment]
    direct.keep_alive = True
    assert direct._head(200, ((b"a", b"b"),)) == b"HTTP/1.1 200 OK\r\ndate: today\r\na: b\r\n\r\n"
    for name, value in ((b"a", b"b\r\nc: d"), (b"a\r\nb", b"c"), (b"a", b"\n"), (b"a", b"\r"), (b"a", b"\0")):
        with pytest.raises(ValueError, match="line break"):
            direct._head(200, ((name, value),))


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=80), st.integers(0, 200))
def test_whatever_comes_the_next_client_is_answered(url: str, noise: bytes, place: int) -> None:
    """Damage anywhere in a request: an answer, a refusal or a closed connection, and never an answer too many."""
    damaged = ASKED[:place] + noise + ASKED[place:]
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 30) as sock:
        sock.sendall(damaged)
        sock.shutdown(socket.SHUT_WR)
        received = b""
        try:
            while data := sock.recv(65536):
                received += data
        except ConnectionResetError:
            pass
    assert len(statuses(received)) <= max(1, damaged.count(b"HTTP/1.1"))
    assert httpx.get(f"{url}/healthz").status_code == 200


# --- streams from connection to connection ----------------------------------------------------------------------------


class Endless:
    """A model that says as much as one lets it."""

    name = "endless"

    def __init__(self, events: int) -> None:
        self.events = events
        self.sent = 0

    async def open(self, call: Call) -> Reply:
        return Reply(200, chunks=self._events())

    async def _events(self) -> AsyncIterator[bytes]:
        for number in range(self.events):
            delta = {"index": 0, "delta": {"content": f"{number} " + "x" * 4000}, "finish_reason": None}
            yield sse.encode({"id": "c", "object": "chat.completion.chunk", "choices": [delta]})
            self.sent += 1
        yield sse.DONE

    async def aclose(self) -> None:
        pass


def test_a_slow_reader_slows_the_model_down_and_loses_nothing() -> None:
    """Through two gateways: socket, relay, socket, relay, socket. Nothing piles up in either."""
    events = 5_000
    model = Endless(events)
    inner = build(model)
    with serving(inner.gateway) as inner_url:
        outer = build(OpenAICompatible("inner", f"{inner_url}/v1", "support"))
        with serving(outer.gateway) as url:
            host, port = url.removeprefix("http://").split(":")
            with socket.create_connection((host, int(port)), 60) as sock:
                sock.sendall(post("/v1/chat/completions", STREAM, "connection: close"))
                received = sock.recv(1000)
                until = time.monotonic() + 5
                last = -1
                while model.sent != last and time.monotonic() < until:  # until the model stands still
                    last = model.sent
                    time.sleep(0.3)
                assert model.sent < events * 0.9, "the model was let write everything to nobody"
                while data := sock.recv(1 << 20):
                    received += data
        assert received.count(b'xxxxxx"}') == events
        assert b"data: [DONE]" in received


def test_a_stream_that_ends_early_is_an_error_and_not_an_end() -> None:
    inner = build(Script(text="one two three four", break_after=3, pace_s=0.1))
    with serving(inner.gateway) as inner_url:
        outer = build(OpenAICompatible("inner", f"{inner_url}/v1", "support"))
        with serving(outer.gateway) as url:
            answer = httpx.post(
                f"{url}/v1/chat/completions", content=STREAM, headers={"content-type": "application/json"}
            )
            assert answer.status_code == 200
            assert '"error"' in answer.text
            assert "[DONE]" not in answer.text
            record = outer.written()[0]
    assert (record.status, record.error) == (502, "upstream_broken")
    assert record.output_tokens > 0
    assert record.cost is not None
    assert record.cost > 0


def test_many_streams_at_once_come_whole() -> None:
    inner = build(Script(text="one two three four five six", pace_s=0.01))
    with serving(inner.gateway) as inner_url:
        outer = build(OpenAICompatible("inner", f"{inner_url}/v1", "support"))
        with serving(outer.gateway) as url:
            answers: list[str] = []

            def ask() -> None:
                with httpx.Client(timeout=60) as client:
                    for _ in range(5):
                        answer = client.post(
                            f"{url}/v1/chat/completions", content=STREAM, headers={"content-type": "application/json"}
                        )
                        answers.append(answer.text)

            threads = [threading.Thread(target=ask) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    assert len(answers) == 40
    assert all(text.endswith("data: [DONE]\n\n") and text.count('"content"') >= 6 for text in answers)


async def test_a_request_over_a_socket_leaves_no_cycles() -> None:
    inner = build(Script(text="It is on its way."))
    with serving(inner.gateway) as inner_url:
        outer = build(OpenAICompatible("inner", f"{inner_url}/v1", "support"))

        async def ask(body: bytes, times: int, port: int) -> None:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for _ in range(times):
                writer.write(post("/v1/chat/completions", body))
                await reader.readuntil(b"0\r\n\r\n" if body is STREAM else b"}}")
            outer.gateway.write_records()
            outer.records.clear()
            writer.close()

        sock = socket.socket()
        sock.bind(("127.0.0.1", 0))
        config = uvicorn.Config(
            outer.gateway, http=front_module.fronting(outer.gateway), loop="none", log_level="error", lifespan="off"
        )
        server = uvicorn.Server(config)
        serving_task = asyncio.create_task(server._serve([sock]))
        while not server.started:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        for body in (BODY, STREAM):
            await ask(body, 5, sock.getsockname()[1])
            gc.collect()
            gc.disable()
            try:
                await ask(body, 50, sock.getsockname()[1])
                left = gc.collect()
            finally:
                gc.enable()
            assert left < 50, f"{left / 50:g} objects a request are left in reference cycles"
        server.should_exit = True
        await serving_task
        await outer.gateway.aclose()


def test_uvicorn_is_the_one_this_was_written_for() -> None:
    """Front overrides a class of uvicorn's insides; what it uses of them must be there."""
    names = ("_unset_keepalive_if_required", "_start_asgi_task", "on_response_complete", "on_headers_complete")
    assert all(hasattr(httptools_impl.HttpToolsProtocol, name) for name in names)
