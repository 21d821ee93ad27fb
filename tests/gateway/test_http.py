"""The HTTP surface over a real server: what it answers, and what it says to those who send nonsense."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from fairlead.engines.embed.engine import Embed
from fairlead.errors import ModelUnknown, PathUnknown
from fairlead.gateway.http import Receive, Scope, Send, respond
from fairlead.gateway.route import find_route
from fairlead.providers.scripted import Script
from tests.gateway.gateway_harness import CHAT, House, build, post, raw, route, serving, whole

UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


@pytest.fixture(scope="module")
def house() -> House:
    return build(Script(text="It is on its way."), max_body_bytes=200_000)


@pytest.fixture(scope="module")
def url(house: House) -> Iterator[str]:
    with serving(house.gateway) as base:
        yield base


@pytest.fixture
def client(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url) as client:
        yield client


def error_of(answer: httpx.Response) -> dict[str, Any]:
    assert answer.headers["content-type"] == "application/json"
    error: dict[str, Any] = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code", "request_id"}
    assert error["request_id"] == answer.headers["x-request-id"]
    assert "Traceback" not in answer.text
    assert "/src/" not in answer.text
    return error


def status_of(received: bytes) -> int:
    assert received.startswith(b"HTTP/1.1 "), received[:100]
    return int(received[9:12])


def test_an_answer(client: httpx.Client) -> None:
    answer = client.post("/v1/chat/completions", json=CHAT)
    assert answer.status_code == 200
    assert answer.json()["choices"][0]["message"]["content"] == "It is on its way."
    assert UUID7.fullmatch(answer.headers["x-request-id"])
    assert UUID7.fullmatch(answer.headers["x-inference-id"])


def test_a_stream(client: httpx.Client) -> None:
    answer = client.post("/v1/chat/completions", json={**CHAT, "stream": True})
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = answer.text.split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    chunks = [json.loads(event.removeprefix("data: ")) for event in events[:-2]]
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks) == "It is on its way."
    assert not any(chunk.get("usage") for chunk in chunks), "usage reached a client that did not ask"


def test_usage_in_a_stream_for_who_asks(client: httpx.Client) -> None:
    body = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
    events = client.post("/v1/chat/completions", json=body).text.split("\n\n")
    last = json.loads(events[-3].removeprefix("data: "))
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == 5


def test_completions_and_embeddings(client: httpx.Client) -> None:
    answer = client.post("/v1/completions", json={"model": "support", "prompt": "Well,"})
    assert answer.json()["choices"][0]["text"] == "It is on its way."
    answer = client.post("/v1/embeddings", json={"model": "support", "input": ["a", "b"]})
    vectors = [item["embedding"] for item in answer.json()["data"]]
    assert len(vectors) == 2
    assert all(isinstance(value, float) for value in vectors[0])
    coded = client.post("/v1/embeddings", json={"model": "support", "input": "a", "encoding_format": "base64"})
    assert isinstance(coded.json()["data"][0]["embedding"], str)


def test_models_health_readiness(client: httpx.Client) -> None:
    models = client.get("/v1/models").json()
    assert [model["id"] for model in models["data"]] == ["support"]
    assert client.get("/v1/models/support").json() == models["data"][0]
    assert error_of(client.get("/v1/models/supprt"))["code"] == "model_not_found"
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ready"}


def test_not_ready_says_what_is_missing() -> None:
    waiting = ["mini: starting"]
    with serving(build(ready=lambda: waiting).gateway) as url:
        answer = httpx.get(f"{url}/readyz")
        assert answer.status_code == 503
        assert answer.json() == {"status": "not ready", "waiting_for": ["mini: starting"]}
        waiting.clear()
        assert httpx.get(f"{url}/readyz").status_code == 200


@pytest.mark.parametrize(
    "path", ["/healthz", "/readyz", "/v1/models", "/v1/models/support", "/openapi.json", "/metrics"]
)
def test_head_is_get_without_the_body(client: httpx.Client, path: str) -> None:
    answer = client.head(path)
    assert answer.status_code == 200
    assert answer.content == b""
    assert int(answer.headers["content-length"]) > 0
    assert client.get("/healthz").status_code == 200, "the connection is unusable after HEAD"


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/v1/chat/completions", "POST"),
        ("HEAD", "/v1/embeddings", "POST"),
        ("DELETE", "/v1/completions", "POST"),
        ("POST", "/v1/models", "GET, HEAD"),
        ("PATCH", "/healthz", "GET, HEAD"),
        ("OPTIONS", "/metrics", "GET, HEAD"),
    ],
)
def test_a_wrong_method_is_told_the_right_ones(client: httpx.Client, method: str, path: str, allowed: str) -> None:
    answer = client.request(method, path)
    assert answer.status_code == 405
    assert answer.headers["allow"] == allowed


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v1/", "/v1/chat", "/v1/models/", "/v2/chat/completions", "/%00", "/v1/ü"]
)
def test_an_unknown_path(client: httpx.Client, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 404
    assert error_of(answer)["code"] == "unknown_url"


def test_the_use_cases_own_name_is_always_offered() -> None:
    upstream = build().upstream
    routes = {name: route(upstream, name) for name in ("extractive", "mini", "embed", "cascade")}
    routes["shop-support"] = route(upstream, "shop-support", recorded_as="assistant")
    with pytest.raises(ModelUnknown, match="Nearest: shop-support, extractive, mini"):
        find_route(routes, "gpt-9", "chat")
    with pytest.raises(ModelUnknown, match="Nearest: mini, shop-support"):
        find_route(routes, "mimi", "chat")


def test_an_unknown_model_is_told_the_nearest_and_where_to_look(client: httpx.Client) -> None:
    answer = client.post("/v1/chat/completions", json={**CHAT, "model": "suport"})
    error = error_of(answer)
    assert answer.status_code == 404
    assert error["param"] == "model"
    assert "Nearest: support" in error["message"]
    assert "fairlead check" in error["message"]


def test_an_empty_text_to_embed_is_told_in_the_engines_words() -> None:
    embed = route(Embed().upstream(), "embed", operations=frozenset({"embedding"}))
    with serving(build(routes={"embed": embed}).gateway) as url:
        answer = httpx.post(f"{url}/v1/embeddings", json={"model": "embed", "input": ""})
        assert answer.status_code == 400
        assert error_of(answer)["message"] == "An entry of `input` is empty. Leave empty texts out."


def test_a_model_that_does_not_do_it() -> None:
    house = build()
    talker = route(house.upstream, "talker", operations=frozenset({"chat"}))
    with serving(build(routes={"talker": talker}).gateway) as url:
        answer = httpx.post(f"{url}/v1/embeddings", json={"model": "talker", "input": "a"})
        assert answer.status_code == 400
        assert "does not do embeddings" in error_of(answer)["message"]


@pytest.mark.parametrize("given", ["abc-123", "a" * 128, "trace:1.2_3"])
def test_a_sane_request_id_is_kept(client: httpx.Client, given: str) -> None:
    answer = client.post("/v1/chat/completions", json=CHAT, headers={"x-request-id": given})
    assert answer.headers["x-request-id"] == given


@pytest.mark.parametrize("given", ["", "a" * 129, "with space", "<script>", "{message}", "ü"])
def test_a_strange_request_id_is_replaced(client: httpx.Client, given: str) -> None:
    answer = client.get("/nowhere", headers=[(b"x-request-id", given.encode())])
    assert UUID7.fullmatch(error_of(answer)["request_id"])


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "invalid_json"),
        (b"{" * 100, "invalid_json"),
        (b"[" * 100_000, "body_too_deep"),
        (b'{"a":' * 500 + b"1" + b"}" * 500, "body_too_deep"),
        (b"\xff\xfe", "invalid_json"),
        (b"\x00", "invalid_json"),
        (b'{"model": "support", "messages": [{"role": "user", "content": "\\ud83d"}]}', "invalid_json"),
        (b'{"model": "support"}', "invalid_value"),
    ],
)
def test_a_body_that_cannot_be_used(client: httpx.Client, body: bytes, code: str) -> None:
    answer = client.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 400
    assert error_of(answer)["code"] == code


def test_a_body_of_another_kind(client: httpx.Client) -> None:
    answer = client.post("/v1/chat/completions", content=b"model=support", headers={"content-type": "text/plain"})
    assert answer.status_code == 415
    assert "-H 'content-type: application/json'" in error_of(answer)["message"]


def test_a_body_that_is_too_large_by_declaration(url: str) -> None:
    received = raw(url, post("/v1/chat/completions", b"{", length=10**9))
    assert status_of(received) == 413
    assert b"200000 bytes" in received
    assert b"connection: close" in received.lower()


def test_a_body_that_is_too_large_by_count(url: str) -> None:
    def chunks() -> Iterator[bytes]:
        for _ in range(40):
            yield b" " * 10_000

    with httpx.Client(base_url=url) as client:
        answer = client.post("/v1/chat/completions", content=chunks(), headers={"content-type": "application/json"})
    assert answer.status_code == 413


def test_a_chunked_body_is_put_together(url: str) -> None:
    body = json.dumps(CHAT).encode()

    def chunks() -> Iterator[bytes]:
        for place in range(len(body)):
            yield body[place : place + 1]

    answer = httpx.post(f"{url}/v1/chat/completions", content=chunks(), headers={"content-type": "application/json"})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /healthz HTTP/9.9\r\nhost: x\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: minus\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: -5\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n{}",
        b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n",
        b"GET /healthz HTTP/1.1\r\nhost: x\r\nbroken header line\r\n\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\nhost: x\r\n\r\n",
    ],
)
def test_what_is_no_http_harms_nobody(url: str, sent: bytes) -> None:
    received = raw(url, sent)
    assert not received or status_of(received) in (400, 404, 413, 414, 431)
    assert b"Traceback" not in received
    assert httpx.get(f"{url}/healthz").status_code == 200


def test_headers_with_strange_bytes_are_survived(url: str) -> None:
    sent = post(
        "/v1/chat/completions", json.dumps(CHAT).encode(), "x-request-timeout: nan", "x-conversation-id: \xff\xfe"
    )
    assert status_of(raw(url, sent)) == 200


def test_a_client_that_hangs_up_in_the_middle_of_its_body(url: str, house: House) -> None:
    before = len(house.records)
    assert raw(url, post("/v1/chat/completions", b'{"mod', length=500), timeout_s=0.3) == b""
    gone = house.written(before + 1)[-1]
    assert (gone.status, gone.error) == (499, "client_disconnected")


def test_a_body_that_never_ends_is_given_up(url: str) -> None:
    received = raw(url, post("/v1/chat/completions", b'{"mod', "x-request-timeout: 0.2", length=500))
    assert status_of(received) == 408
    assert b"did not arrive" in received


def test_pipelined_requests_are_all_answered(url: str) -> None:
    request = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
    last = b"GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
    assert whole(url, request * 2 + last).count(b"HTTP/1.1 200 OK") == 3


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("/chat/completions", "/v1/chat/completions"),
        ("/v1/v1/chat/completions", "/v1/chat/completions"),
        ("/v1/chat/completions/", "/v1/chat/completions"),
        ("/v1/v1/messages", "/v1/messages"),
        ("/responses", "/v1/responses"),
        ("/models", "/v1/models"),
        ("/embeddings/", "/v1/embeddings"),
    ],
)
def test_a_wrong_base_url_is_told_with_the_path_that_was_meant(path: str, meant: str) -> None:
    async def fallback(scope: Scope, receive: Receive, send: Send) -> None:
        raise AssertionError(scope["path"])

    with serving(build(fallback=fallback).gateway) as url:
        answer = httpx.post(f"{url}{path}", json=CHAT)
    assert answer.status_code == 404
    assert error_of(answer)["code"] == "unknown_url"
    assert f"Nearest: {meant}." in error_of(answer)["message"]


def test_other_paths_go_to_the_fallback() -> None:
    async def fallback(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": f"page {scope['path']}".encode()})

    with serving(build(fallback=fallback).gateway) as url:
        assert httpx.get(f"{url}/console/x").text == "page /console/x"
        assert httpx.post(f"{url}/chat").text == "page /chat"
        assert httpx.get(f"{url}/v1/nothing").status_code == 404
        assert httpx.get(f"{url}/healthz").json() == {"status": "ok"}


def test_metrics_speak_of_what_happened(client: httpx.Client) -> None:
    house = build(Script(text="a b c"))
    with serving(house.gateway) as url:
        httpx.post(f"{url}/v1/chat/completions", json={**CHAT, "stream": True})
        httpx.post(f"{url}/v1/chat/completions", json={**CHAT, "model": "nothing"})
        house.written(2)
        lines = httpx.get(f"{url}/metrics").text.splitlines()
    labels = 'gen_ai_operation_name="chat",gen_ai_provider_name="scripted",gen_ai_request_model="support"'
    assert f'gen_ai_server_request_duration_seconds_count{{error_type="",{labels}}} 1.0' in lines
    assert f'gen_ai_server_time_to_first_token_seconds_count{{error_type="",{labels}}} 1.0' in lines
    assert f'gen_ai_client_token_usage_sum{{{labels},gen_ai_token_type="output"}} 3.0' in lines
    assert any('error_type="model_not_found"' in line for line in lines)
    assert "fairlead_requests_in_flight 0.0" in lines
    assert "fairlead_records_dropped_total 0.0" in lines
    assert not any("nothing" in line for line in lines if "model_not_found" in line), "an unbounded label"


def test_a_fault_of_ours_shows_no_trace_and_no_secret(caplog: pytest.LogCaptureFixture) -> None:
    def explode(call: object) -> Script:
        raise RuntimeError("sk-secret-0123456789 in " + __file__)

    from fairlead.providers.scripted import Scripted

    house = build(Scripted(script=explode))
    with serving(house.gateway) as url:
        answer = httpx.post(f"{url}/v1/chat/completions", json=CHAT, headers={"x-request-id": "find-me"})
    assert answer.status_code == 500
    assert error_of(answer)["code"] == "internal_error"
    assert "secret" not in answer.text
    assert "find-me" in answer.text
    assert any("find-me" in record.getMessage() for record in caplog.records)
    assert house.written()[0].error == "internal_error"


def test_a_surface_answers_its_path_and_all_below_it_and_refuses_in_the_gateways_words() -> None:
    house = build()

    async def files(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/v1/files/none":
            raise PathUnknown(method=scope["method"], path=scope["path"])
        await respond(send, 200, scope["path"].encode(), "r-1", kind=b"text/plain")

    house.gateway.surfaces["/v1/files"] = files
    with serving(house.gateway) as url, httpx.Client(base_url=url) as client:
        assert client.get("/v1/files").text == "/v1/files"
        assert client.post("/v1/files/a/content").text == "/v1/files/a/content"
        assert error_of(client.get("/v1/files/none"))["code"] == "unknown_url"
        assert client.get("/v1/filesystem").status_code == 404
