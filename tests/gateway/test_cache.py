"""Answers given again, over real HTTP: what is kept, for whom, in which form, and what never is."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.errors import UpstreamRefused
from fairlead.gateway import Exchange, Principal
from fairlead.gateway.cache import Cache, Rules
from fairlead.gateway.cache.entry import OVERHEAD, Entry, events_of, whole_of
from fairlead.gateway.cache.shelf import Shelf
from fairlead.gateway.fold import fold
from fairlead.providers import sse
from fairlead.providers.base import Call
from fairlead.providers.scripted import Script, Scripted
from fairlead.records import KeptAnswer, Key, now_us
from fairlead.store.keys import digest_of
from tests.gateway.gateway_harness import CHAT, House, Keys, build, route, serving

ASKED: dict[str, Any] = {**CHAT, "temperature": 0}
URL = "/v1/chat/completions"


class Clock:
    """A time that tests set."""

    def __init__(self) -> None:
        self.now = 1_800_000_000_000_000

    def __call__(self) -> int:
        return self.now


def cached(upstream: Any = None, clock: Clock | None = None, rules: Rules | None = None, **more: Any) -> House:
    cache = Cache(rules or Rules(), secret=b"k" * 32, clock=clock or now_us)
    return build(upstream or Script(text="It left on Monday."), cache=cache, **more)


def two_tenants() -> Keys:
    keys = Keys()
    for name, tenant in (("one", "t1"), ("two", "t2"), ("three", "t1")):
        scopes = ("inference", "admin") if name == "three" else ("inference",)
        keys.keys.append(
            Key(id=name, name=name, prefix="fl", digest=digest_of(name), scopes=scopes, tenant=tenant, created=0)
        )
    return keys


@pytest.fixture(scope="module")
def shop() -> Iterator[tuple[House, httpx.Client]]:
    house = cached(keys=two_tenants())
    with serving(house.gateway) as url, httpx.Client(base_url=url, headers={"authorization": "Bearer one"}) as client:
        yield house, client


def ask(client: httpx.Client, body: dict[str, Any], **headers: str) -> tuple[str, bytes]:
    """(what the header says of the cache, the bytes of the answer)."""
    answer = client.post(URL, json=body, headers={name.replace("_", "-"): value for name, value in headers.items()})
    assert answer.status_code == 200, answer.text
    return answer.headers.get("x-fairlead-cache", ""), answer.content


def question(text: str, **more: Any) -> dict[str, Any]:
    return {**ASKED, "messages": [{"role": "user", "content": text}], **more}


def test_the_same_question_is_answered_from_memory_in_the_same_bytes(shop: tuple[House, httpx.Client]) -> None:
    house, client = shop
    before = len(house.upstream.calls)
    told = [ask(client, question("same")) for _ in range(3)]
    assert [how for how, _ in told] == ["miss", "hit", "hit"]
    assert len({answer for _, answer in told}) == 1
    assert len(house.upstream.calls) == before + 1


def test_a_stream_is_replayed_as_it_was(shop: tuple[House, httpx.Client]) -> None:
    house, client = shop
    before = len(house.upstream.calls)
    first, again = (ask(client, question("stream", stream=True)) for _ in range(2))
    assert (first[0], again[0]) == ("miss", "hit")
    assert first[1] == again[1]
    asked = question("stream", stream=True, stream_options={"include_usage": True})
    with_usage = ask(client, asked)
    assert with_usage[0] == "hit"
    assert b'"usage"' not in again[1]
    assert (
        fold(with_usage[1]).usage == {"prompt_tokens": 2, "completion_tokens": 4, "total_tokens": 6}
        or fold(with_usage[1]).usage
    )
    assert ask(client, asked)[1] == with_usage[1]
    assert len(house.upstream.calls) == before + 1


def test_each_form_answers_the_other(shop: tuple[House, httpx.Client]) -> None:
    house, client = shop
    before = len(house.upstream.calls)
    streamed = fold(ask(client, question("form a", stream=True))[1])
    how, body = ask(client, question("form a"))
    whole = json.loads(body)
    assert how == "hit"
    assert whole["object"] == "chat.completion"
    assert whole["choices"][0]["message"]["content"] == streamed.choices[0]["message"]["content"]
    assert whole["usage"]["completion_tokens"] == 4
    first = json.loads(ask(client, question("form b"))[1])
    how, events = ask(client, question("form b", stream=True, stream_options={"include_usage": True}))
    assert how == "hit"
    assert events.endswith(sse.DONE)
    assert fold(events).choices[0]["message"]["content"] == first["choices"][0]["message"]["content"]
    assert fold(events).usage == first["usage"]
    assert len(house.upstream.calls) == before + 2


def test_nothing_crosses_from_one_tenant_scope_or_user_to_another(shop: tuple[House, httpx.Client]) -> None:
    house, client = shop
    before = len(house.upstream.calls)
    assert ask(client, question("mine"))[0] == "miss"
    assert ask(client, question("mine"), authorization="Bearer two")[0] == "miss"  # another tenant
    assert ask(client, question("mine"), authorization="Bearer three")[0] == "miss"  # may do more
    assert ask(client, question("mine", user="anna"))[0] == "miss"  # a named user's are personal
    assert ask(client, question("mine", user="ben"))[0] == "miss"
    assert [ask(client, question("mine", user=name))[0] for name in ("anna", "ben")] == ["hit", "hit"]
    assert len(house.upstream.calls) == before + 5


def test_a_client_has_the_last_word(shop: tuple[House, httpx.Client]) -> None:
    house, client = shop
    before = len(house.upstream.calls)
    assert ask(client, question("word"), cache_control="no-store")[0] == ""
    assert ask(client, question("word"))[0] == "miss"  # nothing was kept
    assert ask(client, question("word"), cache_control="no-cache")[0] == "miss"
    assert ask(client, question("word"))[0] == "hit"
    assert ask(client, question("word"), cache_control="max-age=0")[0] == "miss"
    assert ask(client, question("word"), cache_control="max-age=60")[0] == "hit"
    assert len(house.upstream.calls) == before + 4


def test_a_hit_is_recorded_as_one_and_costs_nothing() -> None:
    house = cached()
    with serving(house.gateway) as url, httpx.Client(base_url=url) as client:
        for _ in range(3):
            assert "x-fairlead-cache" not in client.post(URL, json=ASKED).headers  # nobody proved who asks
        for _ in range(3):
            client.post(URL, json={**ASKED, "stream": True})
        made, *others = house.written(6)
    assert made.cost
    assert "cache" not in made.tags
    for record in others:
        assert record.tags["cache"] == "exact"
        assert (record.cost, record.input_tokens, record.output_tokens, record.release) == (0, 0, 0, "r1")
        assert (record.finish, record.status, record.input) == (
            "stop",
            200,
            others[0].input if not record.stream else record.input,
        )
        assert json.loads(record.output)["choices"][0]["message"]["content"] == "It left on Monday."
    assert json.loads(made.output) == json.loads(others[0].output)
    lines = {line.outcome: line for line in house.gateway.cache.tally} if house.gateway.cache else {}
    assert (lines["exact"].requests, lines["miss"].requests) == (5, 1)
    assert lines["exact"].nanos == 5 * made.cost


@pytest.mark.parametrize(
    ("script", "more"),
    [
        (Script(text="cut", finish="length"), {}),
        (Script(text="no", finish="content_filter"), {}),
        (Script(tool_calls=(("cancel", "{}"),)), {}),
        (Script(text="sampled"), {"temperature": 0.5}),
        (Script(text="default"), {"temperature": None}),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_is_never_kept(script: Script, more: dict[str, Any], stream: bool) -> None:
    house = cached(script)
    with serving(house.gateway) as url, httpx.Client(base_url=url) as client:
        for _ in range(2):
            assert client.post(URL, json={**ASKED, **more, "stream": stream}).status_code == 200
    assert len(house.upstream.calls) == 2


def test_errors_and_broken_streams_are_not_kept() -> None:
    scripts = iter(
        [Script(status=500), Script(text="a b c", break_after=2), Script(text="a b c"), Script(text="never")]
    )
    house = cached(Scripted(script=lambda call: next(scripts)))
    with serving(house.gateway) as url, httpx.Client(base_url=url) as client:
        assert client.post(URL, json=ASKED).status_code == 502
        assert b"error" in client.post(URL, json={**ASKED, "stream": True}).content
        assert "a b c" in client.post(URL, json=ASKED).text
        assert "a b c" in client.post(URL, json=ASKED).text


def test_what_another_check_refuses_is_not_kept() -> None:
    refused = iter([True, False, False])

    async def screen(x: Exchange) -> None:
        if next(refused):
            raise UpstreamRefused(status=502, code="unsafe", kind="server_error", message="unsafe")

    house = cached(steps={"check": (screen,)})
    with serving(house.gateway) as url, httpx.Client(base_url=url) as client:
        assert [client.post(URL, json=ASKED).status_code for _ in range(3)] == [502, 200, 200]
    assert len(house.upstream.calls) == 2


def test_the_answer_of_a_model_that_stood_in_is_not_kept_as_the_other_ones() -> None:
    sick, well = Scripted(script=Script(status=503)), Scripted(script=Script(text="from the other"))
    routes = {"support": route(sick, fallback=("spare",)), "spare": route(well, "spare")}
    house = cached(sick, routes=routes)
    with serving(house.gateway) as url, httpx.Client(base_url=url) as client:
        for _ in range(2):
            assert "from the other" in client.post(URL, json=ASKED).text
    assert len(well.calls) == 2


async def test_calls_from_inside_the_process_take_no_part() -> None:
    house = cached()
    for _ in range(2):
        await house.gateway.complete(dict(ASKED), principal=Principal())
    await house.gateway.aclose()
    assert len(house.upstream.calls) == 2


def test_an_answer_gets_old() -> None:
    clock = Clock()
    house = cached(clock=clock, rules=Rules(ttl_s=60))
    with serving(house.gateway) as url, httpx.Client(base_url=url) as client:
        client.post(URL, json=ASKED)
        clock.now += 59_000_000
        client.post(URL, json=ASKED)
        assert len(house.upstream.calls) == 1
        clock.now += 2_000_000
        client.post(URL, json=ASKED)
        assert len(house.upstream.calls) == 2


def test_embeddings_and_completions_are_kept_too() -> None:
    house = cached()
    with serving(house.gateway) as url, httpx.Client(base_url=url) as client:
        for form in ("float", "base64"):
            body = {"model": "support", "input": ["a", "b"], "encoding_format": form}
            one, other = (client.post("/v1/embeddings", json=body).content for _ in range(2))
            assert one == other
        plain = {"model": "support", "prompt": "Once upon", "temperature": 0}
        one, other = (client.post("/v1/completions", json=plain).content for _ in range(2))
        assert one == other
        events = client.post("/v1/completions", json={**plain, "stream": True}).content
        assert fold(events).choices[0]["text"] == json.loads(one)["choices"][0]["text"]
    assert len(house.upstream.calls) == 3


def test_a_thousand_different_questions_do_not_outgrow_the_memory() -> None:
    house = cached(Scripted(script=lambda call: Script(text="word " * 400)), rules=Rules(bytes_=200_000))
    cache = house.gateway.cache
    assert cache is not None
    with serving(house.gateway) as url, httpx.Client(base_url=url) as client:
        for number in range(150):
            for _ in range(2):
                client.post(URL, json=question(f"question {number} " + "x" * 300))
            assert cache.size <= 200_000
    assert 10 < cache.entries < 100


def kept(key: bytes, data: bytes = b"{}", expires: int = 10) -> KeptAnswer:
    return KeptAnswer(
        key=key, tenant="t", subject="", route="r", release="", operation="chat", writer="", created=0, expires=expires,
        stream=False, data=data, finish="stop", nanos=0, took_us=0, parts={},
    )  # fmt: skip


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 4_000), st.integers(1, 20)), max_size=40))
def test_the_shelf_holds_its_bound_and_the_latest_of_each_key(puts: list[tuple[int, int, int]]) -> None:
    limit = 12_000
    gone: list[Entry] = []
    shelf = Shelf(limit, gone.append)
    latest: dict[int, Entry] = {}
    for number, size, expires in puts:
        entry = latest[number] = Entry(kept(bytes([number]), b"x" * size, expires))
        shelf.put(entry)
        assert shelf.size == sum(each.size for each in shelf) <= limit
        for each, newest in latest.items():
            found = shelf.get(bytes([each]), now=10)
            assert found is None or (found is newest and found.answer.expires > 10)
    assert len(gone) + len(shelf) <= len(puts)
    shelf.clear()
    assert (shelf.size, len(shelf)) == (0, 0)


TEXTS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=30)


@given(st.lists(TEXTS, min_size=1, max_size=3), st.booleans())
@settings(max_examples=60)
def test_turning_an_answer_into_events_and_back_loses_nothing(texts: list[str], chat: bool) -> None:
    operation = "chat" if chat else "completion"
    choices: list[dict[str, Any]] = [
        {"index": i, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        if chat
        else {"index": i, "text": text, "finish_reason": "stop"}
        for i, text in enumerate(texts)
    ]
    usage = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    kind = "chat.completion" if chat else "text_completion"
    whole = {"id": "a", "object": kind, "created": 5, "model": "m", "choices": choices, "usage": usage}
    assert json.loads(whole_of(events_of(json.dumps(whole).encode(), operation), operation)) == whole


def test_an_entry_weighs_about_what_it_takes() -> None:
    import tracemalloc

    data = json.dumps({"choices": [{"message": {"role": "assistant", "content": "x" * 2000}}]}).encode()
    tracemalloc.start()
    entries = [Entry(kept(number.to_bytes(32, "big"), bytes(bytearray(data)))) for number in range(500)]
    for entry in entries:
        entry.pieces()
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    weighed = sum(entry.size for entry in entries)
    assert taken <= weighed <= 3 * taken + OVERHEAD


def test_purging_in_memory_is_complete() -> None:
    house = cached()
    cache = house.gateway.cache
    assert cache is not None
    with serving(house.gateway) as url, httpx.Client(base_url=url) as client:
        for _ in range(2):
            client.post(URL, json=ASKED)
        cache.clear()
        assert (cache.entries, cache.size) == (0, 0)
        client.post(URL, json=ASKED)
    assert len(house.upstream.calls) == 2


def test_a_call_sees_the_secret_of_no_one() -> None:
    seen: list[Call] = []

    def script(call: Call) -> Script:
        seen.append(call)
        return Script(text=time.strftime("%Y"))

    house = cached(Scripted(script=script), keys=two_tenants())
    with serving(house.gateway) as url, httpx.Client(base_url=url) as client:
        ask(client, question("x"), authorization="Bearer one")
    assert "one" not in json.dumps(seen[0].body)


def test_an_engine_keeps_the_prefixes_of_tenants_apart() -> None:
    upstream = Scripted()
    house = cached(upstream, routes={"support": route(upstream, salt="cache_salt")}, keys=two_tenants())
    with serving(house.gateway) as url, httpx.Client(base_url=url) as client:
        for key, more in (("one", {}), ("three", {}), ("two", {}), ("one", {"cache_salt": "t2"})):
            ask(client, {**question("salted"), "temperature": 1, **more}, authorization=f"Bearer {key}")
    mine, same, theirs, wished = (call.body["cache_salt"] for call in upstream.calls)
    assert mine == same
    assert len({mine, theirs, wished, "t2"}) == 4
