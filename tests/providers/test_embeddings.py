"""Embeddings of several callers in one request: each gets what it would have got alone, whatever the server says."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.errors import UpstreamTimeout, UpstreamUnreachable
from fairlead.providers.base import Call, CallContext, Reply
from fairlead.providers.embeddings import LONGEST_BYTES, BatchedEmbeddings
from fairlead.providers.facts import FACTS
from fairlead.providers.scripted import Script, Scripted
from fairlead.spec.target import HOSTED, WITHOUT_EMBEDDINGS

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
INPUTS = TEXTS | st.lists(TEXTS, min_size=1, max_size=6) | st.lists(st.integers(0, 9), min_size=1, max_size=3)
BODIES = st.fixed_dictionaries({"input": INPUTS}, optional={"encoding_format": st.just("float"), "user": TEXTS})


def call(given: Any, deadline: float = math.inf, **more: Any) -> Call:
    body = {"model": "m", "input": given, **more}
    return Call(operation="embedding", body=body, stream=False, deadline=deadline, context=CallContext())


async def told(upstream: Scripted | BatchedEmbeddings, asked: Call) -> dict[str, Any]:
    reply = await upstream.open(asked)
    answer: dict[str, Any] = orjson.loads(reply.body or b"")
    return {"status": reply.status, **answer}


class Lying(Scripted):
    """A server whose answer to a request of several texts is what ``lie`` makes of it."""

    def __init__(self, lie: Callable[[dict[str, Any]], Any]) -> None:
        super().__init__()
        self.lie = lie

    async def open(self, call: Call) -> Reply:
        reply = await super().open(call)
        if not isinstance(call.body["input"], list) or len(call.body["input"]) == 1:
            return reply
        made = self.lie(orjson.loads(reply.body or b""))
        return Reply(200, body=made if isinstance(made, bytes) else orjson.dumps(made))


@settings(deadline=None)
@given(st.lists(BODIES, min_size=1, max_size=12), st.integers(1, 8))
async def test_each_gets_what_it_would_have_got_alone(bodies: list[dict[str, Any]], most: int) -> None:
    calls = [Call(operation="embedding", body={"model": "m", **body}, stream=False, deadline=math.inf,
                  context=CallContext()) for body in bodies]  # fmt: skip
    wanted = [await told(Scripted(), each) for each in calls]
    server = Scripted()
    batched = BatchedEmbeddings(server, max_batch_size=most)
    got = await asyncio.gather(*(told(batched, each) for each in calls))
    assert [{**each, "usage": None} for each in got] == [{**each, "usage": None} for each in wanted]
    assert len(server.calls) <= len(bodies)


async def test_several_go_as_one_and_its_tokens_are_shared_out() -> None:
    server = Scripted()
    batched = BatchedEmbeddings(server, max_batch_size=8)
    given = ["one two", ["three", "four five six"], "seven"]
    got = await asyncio.gather(*(told(batched, call(each)) for each in given))
    assert [each.body["input"] for each in server.calls] == [["one two", "three", "four five six", "seven"]]
    said = (await told(Scripted(), server.calls[0]))["usage"]["prompt_tokens"]
    shares = [each["usage"]["prompt_tokens"] for each in got]
    assert sum(shares) == said == 4  # as it counts here: pieces between spaces, of the JSON
    assert [len(each["data"]) for each in got] == [1, 2, 1]


async def test_who_asks_for_other_things_goes_apart() -> None:
    server = Scripted()
    batched = BatchedEmbeddings(server, max_batch_size=8)
    others: list[dict[str, Any]] = [{}, {"dimensions": 8}, {"user": "ada"}, {"encoding_format": "base64"}]
    await asyncio.gather(*(batched.open(call("text", **more)) for more in others))
    assert [each.body["input"] for each in server.calls] == ["text"] * 4


async def test_long_texts_tokens_and_chats_pass_as_they_are() -> None:
    server = Scripted()
    batched = BatchedEmbeddings(server, max_batch_size=8)
    chat = Call(operation="chat", body={"messages": []}, stream=False, deadline=math.inf, context=CallContext())
    asked = [call("é" * (LONGEST_BYTES // 2 + 1)), call([1, 2]), call([[1], [2]]), call(""), chat, call("a"), call("b")]
    await asyncio.gather(*map(batched.open, asked))
    assert server.calls[:5] == asked[:5]
    assert [each.body["input"] for each in server.calls[5:]] == [["a", "b"]]


def _bad(asked: Call) -> Script:
    given = asked.body["input"]
    bad = "bad" in (given if isinstance(given, list) else [given])
    return Script(status=422, message="bad") if bad else Script()


async def test_one_bad_text_is_refused_to_its_sender_alone() -> None:
    batched = BatchedEmbeddings(Scripted(script=_bad), max_batch_size=8)
    got = await asyncio.gather(*(told(batched, call(each)) for each in ("good", "bad", ["fine", "too"])))
    assert [each["status"] for each in got] == [200, 422, 200]
    assert got[1]["error"]["message"] == "bad"
    assert got[2]["data"] == (await told(Scripted(), call(["fine", "too"])))["data"]


async def test_a_server_that_is_busy_is_asked_once_and_all_are_told() -> None:
    server = Scripted(script=Script(status=429, retry_after="7"))
    batched = BatchedEmbeddings(server, max_batch_size=8)
    replies = await asyncio.gather(*(batched.open(call(each)) for each in "abc"))
    assert [(each.status, each.headers["retry-after"]) for each in replies] == [(429, "7")] * 3
    assert len(server.calls) == 1


LIES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "one too few": lambda answer: {**answer, "data": answer["data"][1:]},
    "one too many": lambda answer: {**answer, "data": [*answer["data"], answer["data"][0]]},
    "one twice": lambda answer: {**answer, "data": [answer["data"][0], *answer["data"][:-1]]},
    "numbers from one": lambda answer: {**answer, "data": [{**d, "index": d["index"] + 1} for d in answer["data"]]},
    "numbers that are none": lambda answer: {
        **answer,
        "data": [{**d, "index": str(d["index"])} for d in answer["data"]],
    },
    "no data": lambda answer: {"object": "list"},
    "data of another kind": lambda answer: {**answer, "data": {"0": 1}},
    "no object": lambda answer: [answer],
    "an error": lambda answer: {"error": {"message": "no"}},
    "half": lambda answer: orjson.dumps(answer)[:-9],
    "nothing": lambda answer: b"",
}


@pytest.mark.parametrize("lie", LIES.values(), ids=list(LIES))
async def test_an_answer_that_does_not_say_whose_is_whose_is_thrown_away(lie: Callable[[dict[str, Any]], Any]) -> None:
    server = Lying(lie)
    batched = BatchedEmbeddings(server, max_batch_size=8)
    got = await asyncio.gather(*(told(batched, call(each)) for each in "abc"))
    assert got == [await told(Scripted(), call(each)) for each in "abc"]
    assert len(server.calls) == 4


@pytest.mark.parametrize("usage", [None, {}, {"prompt_tokens": 2}, {"prompt_tokens": "9"}, {"prompt_tokens": -9}, 9])
async def test_tokens_that_cannot_be_are_left_out_and_the_vectors_are_given(usage: Any) -> None:
    batched = BatchedEmbeddings(Lying(lambda answer: {**answer, "usage": usage}), max_batch_size=8)
    got = await asyncio.gather(*(told(batched, call(each)) for each in "abc"))
    for each, text in zip(got, "abc", strict=True):
        alone = await told(Scripted(), call(text))
        assert "usage" not in each
        assert each == {name: value for name, value in alone.items() if name != "usage"}


async def test_vectors_in_another_order_find_their_callers() -> None:
    batched = BatchedEmbeddings(Lying(lambda answer: {**answer, "data": answer["data"][::-1]}), max_batch_size=8)
    got = await asyncio.gather(*(told(batched, call(each)) for each in "abc"))
    assert [each["data"] for each in got] == [(await told(Scripted(), call(each)))["data"] for each in "abc"]


async def test_who_is_late_is_told_so_and_the_others_get_their_answer() -> None:
    now = asyncio.get_running_loop().time()
    go = asyncio.Event()

    class Waiting(Scripted):
        async def open(self, call: Call) -> Reply:
            await go.wait()
            return await super().open(call)

    server = Waiting()
    batched = BatchedEmbeddings(server, max_batch_size=8)
    patient = asyncio.create_task(told(batched, call("patient", now + 3600)))
    with pytest.raises(UpstreamTimeout):
        await batched.open(call("hasty", now))
    go.set()
    assert (await patient)["data"] == (await told(Scripted(), call("patient")))["data"]
    assert [each.deadline for each in server.calls] == [now + 3600]


async def test_a_server_that_cannot_be_reached_is_an_error_for_all() -> None:
    class Gone(Scripted):
        async def open(self, call: Call) -> Reply:
            raise UpstreamUnreachable(name="gone", detail="it has gone")

    batched = BatchedEmbeddings(Gone(), max_batch_size=8)
    outcomes = await asyncio.gather(*(batched.open(call(each)) for each in "abc"), return_exceptions=True)
    assert [type(each) for each in outcomes] == [UpstreamUnreachable] * 3


def test_who_makes_no_embeddings_is_known_alike_where_it_is_declared_and_where_it_is_called() -> None:
    assert {name for name in HOSTED if "embedding" not in FACTS[name].operations} == WITHOUT_EMBEDDINGS
