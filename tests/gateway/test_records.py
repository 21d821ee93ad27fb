"""What is left of a request: the record, in a real store, masked, with its steps, tokens and cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from fairlead.errors import KeyRefused, ModelUnknown, ServiceError
from fairlead.gateway import ANONYMOUS, Exchange, Principal
from fairlead.gateway.keyring import pseudonym
from fairlead.providers.base import CallContext, Reply
from fairlead.providers.scripted import Script, Scripted
from fairlead.records import Inference
from tests.gateway.gateway_harness import CHAT, build, recent, route, serving, stored

ADA = "Write to ada@example.com or call +49 30 901820, card 4111 1111 1111 1111."
WHO = Principal(tenant="acme", subject="key:1", key_id="1", scopes=frozenset({"inference"}))


def one(records: list[Inference]) -> Inference:
    assert len(records) == 1
    return records[0]


def test_a_whole_answer_over_http(tmp_path: Path) -> None:
    with stored(tmp_path) as store:
        house = build(Script(text="Three words here"), record=store.traces.append)
        with serving(house.gateway) as url:
            answer = httpx.post(
                f"{url}/v1/chat/completions",
                json={**CHAT, "temperature": 0.5},
                headers={"x-request-id": "r-1", "x-conversation-id": "c-1"},
            )
        found = one(recent(store))
        assert store.traces.get(answer.headers["x-inference-id"]) == found
    assert found.id == answer.headers["x-inference-id"]
    assert (found.request, found.conversation, found.parent) == ("r-1", "c-1", "")
    assert (found.tenant, found.subject, found.key) == ("default", "anonymous", "")
    assert (found.usecase, found.spec_hash, found.release) == ("shop-support", "a" * 64, "r1")
    assert (found.operation, found.variant, found.provider, found.model) == (
        "chat",
        "support",
        "scripted",
        "support-model",
    )
    assert (found.status, found.error, found.finish, found.stream) == (200, "", "stop", False)
    usage = answer.json()["usage"]
    assert (found.input_tokens, found.output_tokens) == (usage["prompt_tokens"], 3)
    assert found.cost == usage["prompt_tokens"] * 400 + 3 * 1600
    assert found.first_token_us is None
    assert list(found.steps) == ["authenticate", "read", "choose", "call", "deliver"]
    assert 0 < sum(found.steps.values()) <= found.total_us
    assert json.loads(found.input) == {**CHAT, "temperature": 0.5}
    assert json.loads(found.output) == {"choices": answer.json()["choices"]}
    assert found.tags == {}


def test_a_stream_over_http(tmp_path: Path) -> None:
    with stored(tmp_path) as store:
        house = build(Script(text="Three words here", pace_s=0.05, delay_s=0.1), record=store.traces.append)
        with serving(house.gateway) as url:
            httpx.post(f"{url}/v1/chat/completions", json={**CHAT, "stream": True})
        found = one(recent(store))
    assert found.stream
    assert found.finish == "stop"
    assert found.output_tokens == 3
    assert found.first_token_us is not None
    assert 140_000 < found.first_token_us < found.total_us, "the empty first chunk is not the first token"
    assert json.loads(found.output)["choices"][0]["message"]["content"] == "Three words here"
    assert json.loads(found.input)["messages"] == CHAT["messages"]


def test_personal_data_is_masked_everywhere(tmp_path: Path) -> None:
    body = {
        "model": "support",
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": ADA}]},
            {
                "role": "assistant",
                "tool_calls": [{"function": {"name": "f", "arguments": '{"email":"ada@example.com"}'}}],
            },
            {"role": "tool", "tool_call_id": "1", "content": "ada@example.com"},
        ],
        "metadata": {"card": 4111111111111111, "iban": "DE89 3704 0044 0532 0130 00"},
        "user": "ada@example.com",
    }
    with stored(tmp_path) as store:
        house = build(Script(text="Thanks ada@example.com"), record=store.traces.append)
        with serving(house.gateway) as url:
            for stream in (False, True):
                httpx.post(f"{url}/v1/chat/completions", json={**body, "stream": stream})
        found = recent(store)
    assert len(found) == 2
    for record in found:
        everything = f"{record.input}{record.output}{record.subject}"
        for secret in ("ada@", "901820", "4111", "3704"):
            assert secret not in everything
        assert "[email]" in record.output
        assert record.subject == pseudonym(b"s" * 32, "default", "ada@example.com")
    assert house.upstream.calls[0].body["user"] == found[0].subject, "the model server learns the user's name"
    assert "ada@example.com" in json.dumps(house.upstream.calls[0].body), "what is asked must reach the model"


def test_without_content_only_figures_are_kept(tmp_path: Path) -> None:
    with stored(tmp_path) as store:
        house = build(Script(text="Hello"), record=store.traces.append, store_content=False)
        with serving(house.gateway) as url:
            httpx.post(f"{url}/v1/chat/completions", json=CHAT)
        found = one(recent(store))
    assert (found.input, found.output) == ("", "")
    assert found.output_tokens == 1


async def test_pictures_are_not_stored() -> None:
    house = build()
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 5000}}
    body = {"model": "support", "messages": [{"role": "user", "content": [picture]}]}
    await house.gateway.complete(body, principal=WHO)
    await house.gateway.aclose()
    assert len(house.records[0].input) < 400
    assert "image/png" in house.records[0].input


@pytest.mark.parametrize(
    ("body", "error", "status"),
    [
        ({**CHAT, "model": "none"}, "model_not_found", 404),
        ({**CHAT, "temperature": 5}, "invalid_value", 400),
    ],
)
async def test_what_a_known_caller_was_refused_is_recorded(body: dict[str, Any], error: str, status: int) -> None:
    house = build()
    with pytest.raises(ServiceError):
        await house.gateway.complete({**body, "user": "ada@example.com"}, principal=WHO)
    await house.gateway.aclose()
    refused = one(house.records)
    assert (refused.error, refused.status, refused.tenant) == (error, status, "acme")
    assert (refused.input_tokens, refused.output_tokens, refused.variant) == (0, 0, "")
    assert "ada@" not in refused.input
    assert json.loads(refused.output)["error"]["code"] == error


def test_a_caller_without_a_key_leaves_only_a_count() -> None:
    class Nobody:
        def active(self) -> list[Any]:
            return []

        def version(self) -> int:
            return 1

    house = build(keys=Nobody())
    with serving(house.gateway) as url:
        assert httpx.post(f"{url}/v1/chat/completions", json=CHAT).status_code == 401
        headers = {"authorization": "Bearer fl-wrong"}
        assert httpx.post(f"{url}/v1/chat/completions", json=CHAT, headers=headers).status_code == 401
    assert house.records == []
    exposed = house.gateway.telemetry.expose().decode()
    assert 'fairlead_requests_refused_total{code="missing_api_key"} 1.0' in exposed
    assert f'fairlead_requests_refused_total{{code="{KeyRefused.code}"}} 1.0' in exposed


async def test_usage_the_upstream_withholds_is_estimated_and_said_so() -> None:
    house = build(Script(text="one two three", usage=False))
    await house.gateway.complete(dict(CHAT), principal=WHO)
    async for _ in house.gateway.stream(dict(CHAT), principal=WHO):
        pass
    await house.gateway.aclose()
    for record in house.records:
        assert record.tags == {"usage": "estimated"}
        assert record.input_tokens > 0
        assert record.output_tokens > 0
    assert house.records[1].output_tokens == 3


async def test_a_cost_nobody_knows_is_none_and_never_zero() -> None:
    upstream = Scripted()
    house = build(upstream, routes={"support": route(upstream, price=None)})
    await house.gateway.complete(dict(CHAT), principal=WHO)
    await house.gateway.aclose()
    assert house.records[0].cost is None


async def test_a_request_refused_before_any_model_was_called_costs_nothing() -> None:
    house = build()
    with pytest.raises(ServiceError):
        await house.gateway.complete({**CHAT, "model": "nobody"}, principal=WHO)
    await house.gateway.aclose()
    assert [record.cost for record in house.records] == [0]


async def test_a_full_queue_drops_and_counts_and_never_blocks() -> None:
    house = build(record=lambda inference: False)
    for _ in range(3):
        await house.gateway.complete(dict(CHAT), principal=WHO)
    await house.gateway.aclose()
    assert "fairlead_records_dropped_total 3.0" in house.gateway.telemetry.expose().decode()
    small = build(record_queue=2)
    for _ in range(5):
        await small.gateway.complete(dict(CHAT), principal=WHO)
    await small.gateway.aclose()
    assert len(small.records) == 2
    assert "fairlead_records_dropped_total 3.0" in small.gateway.telemetry.expose().decode()


async def test_a_store_that_fails_costs_records_but_no_answers(caplog: pytest.LogCaptureFixture) -> None:
    def fail(inference: Inference) -> bool:
        raise OSError(28, "No space left on device")

    house = build(record=fail)
    for _ in range(2):
        assert await house.gateway.complete(dict(CHAT), principal=WHO)
    await house.gateway.aclose()
    assert "fairlead_records_dropped_total 2.0" in house.gateway.telemetry.expose().decode()
    assert "could not be recorded" in caplog.text


async def test_in_process_calls_are_records_with_their_parents() -> None:
    class Assistant:
        """Answers by asking the gateway, as the assistant of a use case does."""

        name = "assistant"

        async def open(self, call: Any) -> Reply:
            inner = await house.gateway.complete(
                {"model": "bare", "messages": call.body["messages"]}, principal=WHO, context=call.context
            )
            return Reply(200, body=json.dumps(inner).encode())

        async def aclose(self) -> None:
            pass

    bare = Scripted(script=Script(text="inner"))
    house = build(bare, routes={"support": route(Assistant(), recorded_as="assistant"), "bare": route(bare, "bare")})
    context = CallContext(request="r-9", conversation="c-9", subject="user:x", channel="chat")
    answer = await house.gateway.complete(dict(CHAT), principal=WHO, context=context)
    assert answer["choices"][0]["message"]["content"] == "inner"
    await house.gateway.aclose()
    records = {record.operation: record for record in house.records}
    parent, child = records["assistant"], records["chat"]
    assert child.parent == parent.id
    assert parent.parent == ""
    assert {(record.request, record.conversation, record.subject) for record in house.records} == {
        ("r-9", "c-9", "user:x")
    }


async def test_supplied_steps_run_in_their_place_and_leave_their_time() -> None:
    seen: list[str] = []

    def step(name: str) -> Any:
        async def run(x: Exchange) -> None:
            seen.append(f"{name}:{'reply' if x.reply else 'no reply'}")

        return run

    async def recall(x: Exchange) -> None:
        assert x.route is not None  # the release is part of what is asked for
        seen.append("recall")
        x.afterwards.append(lambda done: seen.append(f"afterwards:{done.recalled}"))
        x.recalled = "exact"
        x.reply = Reply(200, body=b'{"choices":[{"index":0,"message":{"role":"assistant","content":"known"}}]}')

    house = build(steps={"admit": (step("limit"), step("budget")), "recall": (recall,), "check": (step("check"),)})
    answer = await house.gateway.complete(dict(CHAT), principal=WHO)
    assert answer["choices"][0]["message"]["content"] == "known"
    assert seen == ["limit:no reply", "budget:no reply", "recall", "check:reply", "afterwards:exact"]
    assert house.upstream.calls == []
    await house.gateway.aclose()
    record = house.records[0]
    assert list(record.steps) == ["authenticate", "read", "admit", "choose", "recall", "check", "deliver"]
    assert (record.release, record.cost, record.input_tokens, record.output_tokens) == ("r1", 0, 0, 0)


async def test_a_step_that_refuses_stops_the_request() -> None:
    async def refuse(x: Exchange) -> None:
        raise ModelUnknown(model="'x'", nearest="none")

    house = build(steps={"screen": (refuse,)})
    with pytest.raises(ModelUnknown):
        await house.gateway.complete(dict(CHAT), principal=ANONYMOUS)
    assert house.upstream.calls == []
    await house.gateway.aclose()
    assert house.records[0].error == "model_not_found"


async def test_defaults_of_a_route_fill_what_a_request_leaves_out() -> None:
    upstream = Scripted()
    house = build(upstream, routes={"support": route(upstream, defaults={"temperature": 0, "max_tokens": 160})})
    await house.gateway.complete({**CHAT, "temperature": 1, "max_tokens": None}, principal=WHO)
    sent = upstream.calls[0].body
    assert (sent["temperature"], sent["max_tokens"], sent["model"]) == (1, 160, "support-model")
    await house.gateway.aclose()
