"""Model servers that lie: whatever they say of tokens, names, calls and ends, nobody is charged or shown nonsense.

Each case goes through the real gateway to a real socket, and through all three protocols a client may speak.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from fairlead.gateway import http as delivery
from fairlead.providers.openai_compatible import OpenAICompatible
from tests.gateway.gateway_harness import CHAT, House, build, route, serving
from tests.gateway.hostile import END, Hostile, Part, chunked, hostile, whole

QUESTION = "Where is my parcel?"
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": dict(CHAT),
    "/v1/responses": {"model": "support", "input": QUESTION},
    "/v1/messages": {"model": "support", "max_tokens": 50, "messages": [{"role": "user", "content": QUESTION}]},
}
SURFACES = ("/v1/responses", "/v1/messages")
DONE = b"data: [DONE]\n\n"
TOLD = {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14}


def event(delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    said = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "support-model", "choices": choices}
    return b"data: " + json.dumps({**said, **more}).encode() + b"\n\n"


def usage(said: Any) -> bytes:
    return event(None, usage=said)


def completion(message: dict[str, Any], **more: Any) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop"}
    said = {"id": "c1", "object": "chat.completion", "created": 1, "model": "support-model", "choices": [choice]}
    return json.dumps({**said, "usage": TOLD, **more}).encode()


class Make:
    """What the server sends; may change between requests."""

    def __init__(self) -> None:
        self.parts: list[Part] = []


class Case:
    """A gateway in front of a hostile server, and a client. ``record`` numbers those of one test from 1."""

    def __init__(self, make: Make, server: Hostile, house: House, client: httpx.Client) -> None:
        self.make = make
        self.server = server
        self.house = house
        self.client = client
        self.asked = self.before = 0

    def ask(self, path: str = "/v1/chat/completions", *, stream: bool = False, **more: Any) -> httpx.Response:
        self.asked += 1
        return self.client.post(path, json={**BODIES[path], "stream": stream, **more})

    def record(self, number: int = 1) -> Any:
        return self.house.written(self.before + number, within_s=60)[self.before + number - 1]


@pytest.fixture(name="shared", scope="module")
def shared_fixture() -> Iterator[Case]:
    make = Make()
    with hostile(lambda _: make.parts) as server:
        liar = route(OpenAICompatible("liar", server.url, "support-model"), rests=False)
        house = build(routes={"support": liar})
        with serving(house.gateway) as url, httpx.Client(base_url=url, timeout=60) as client:
            yield Case(make, server, house, client)


@pytest.fixture(name="case")
def case_fixture(shared: Case) -> Iterator[Case]:
    shared.before = shared.asked
    yield shared
    shared.house.written(shared.asked, within_s=60)


@pytest.fixture(name="make")
def make_fixture(case: Case) -> Make:
    return case.make


# --- token counts -----------------------------------------------------------------------------------------------------

LIES: list[Any] = [
    {"prompt_tokens": -5, "completion_tokens": -900, "total_tokens": -905},
    {"prompt_tokens": 11, "completion_tokens": -1},
    {"prompt_tokens": 10**12, "completion_tokens": 10**15},
    {"prompt_tokens": 10**18, "completion_tokens": 3},
    {"prompt_tokens": "11", "completion_tokens": "3"},
    {"prompt_tokens": 11.5, "completion_tokens": 3.0},
    {"prompt_tokens": True, "completion_tokens": True},
    {"prompt_tokens": None, "completion_tokens": None},
    {"prompt_tokens": [11], "completion_tokens": {"n": 3}},
    {"prompt_tokens": 0, "completion_tokens": 0},
    {"prompt_tokens": 11, "completion_tokens": 0},
    {"total_tokens": 14},
]
NO_COUNTS: list[Any] = [None, [], "none", 7, {}]


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("said", LIES)
def test_a_count_that_cannot_be_is_estimated_and_marked(
    case: Case, make: Make, said: Any, stream: bool, path: str
) -> None:
    make.parts = (
        [*chunked(event({"content": "It is"}), event({"content": " here."}, "stop"), usage(said), DONE), END]
        if stream
        else whole(completion({"content": "It is here."}, usage=said))
    )
    answer = case.ask(path, stream=stream)
    assert answer.status_code == 200
    assert "It is" in answer.text
    assert "error" not in answer.text.replace('"error":null', "")
    record = case.record()
    assert record.status == 200
    assert record.tags["usage"] == "disbelieved"
    assert 0 < record.input_tokens < 1000
    assert 0 < record.output_tokens < 1000
    assert record.cost > 0
    if path in SURFACES:
        assert "-" not in str(_counts(answer, stream))


def _counts(answer: httpx.Response, stream: bool) -> Any:
    if not stream:
        return answer.json()["usage"]
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
    return [each.get("usage") or (each.get("response") or {}).get("usage") for each in events]


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("said", NO_COUNTS)
def test_no_count_is_estimated(case: Case, make: Make, said: Any, stream: bool, path: str) -> None:
    make.parts = (
        [*chunked(event({"content": "It is here."}, "stop"), usage(said), DONE), END]
        if stream
        else whole(completion({"content": "It is here."}, usage=said))
    )
    answer = case.ask(path, stream=stream)
    assert answer.status_code == 200
    record = case.record()
    assert record.tags["usage"] == "estimated"
    assert record.cost > 0


def test_more_cached_than_read_is_no_credit(case: Case, make: Make) -> None:
    said = {**TOLD, "prompt_tokens_details": {"cached_tokens": 10**6}}
    make.parts = whole(completion({"content": "x"}, usage=said))
    for path in SURFACES:
        counts = case.ask(path).json()["usage"]
        assert min(value for value in counts.values() if isinstance(value, int)) >= 0
    case.ask()
    record = case.record(3)
    assert (record.input_tokens, record.cached_tokens) == (11, 11)


@pytest.mark.parametrize("path", BODIES)
def test_counts_that_come_twice_are_not_added(case: Case, make: Make, path: str) -> None:
    first = usage({"prompt_tokens": 11, "completion_tokens": 2, "total_tokens": 13})
    make.parts = [*chunked(event({"content": "x"}, "stop"), first, usage(TOLD), DONE), END]
    answer = case.ask(path, stream=True, **({"stream_options": {"include_usage": True}} if "chat" in path else {}))
    assert answer.status_code == 200
    record = case.record()
    assert (record.input_tokens, record.output_tokens, record.cost) == (11, 3, 11 * 400 + 3 * 1600)
    if path == "/v1/messages":
        assert '"output_tokens":3' in answer.text


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", ["gpt-9\r\nx-evil: 1", "", 7, None, ["a"], "mail me@example.com"])
def test_another_models_name_changes_nothing_but_a_mark(
    case: Case, make: Make, path: str, stream: bool, name: Any
) -> None:
    make.parts = (
        [*chunked(event({"content": "x"}, "stop", model=name), event(None, usage=TOLD, model=name), DONE), END]
        if stream
        else whole(completion({"content": "x"}, model=name))
    )
    answer = case.ask(path, stream=stream)
    assert answer.status_code == 200
    assert "x-evil" not in answer.headers
    record = case.record()
    assert (record.model, record.variant, record.cost) == ("support-model", "support", 11 * 400 + 3 * 1600)
    if isinstance(name, str) and name:
        assert record.tags["answered_as"]
        assert "me@example.com" not in record.tags["answered_as"]
    else:
        assert "answered_as" not in record.tags
    assert "gpt-9" not in case.client.get("/metrics").text


# --- ends -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("tail", [b"", b"data: DONE\n\n", b"data: [DONE", b"event: [DONE]\n\n", b'data: "[DONE]"\n\n'])
def test_no_done_is_no_success(case: Case, make: Make, path: str, tail: bytes) -> None:
    pieces = [event({"content": "x"}, "stop"), usage(TOLD), tail]
    make.parts = [*chunked(*filter(None, pieces)), END]
    answer = case.ask(path, stream=True)
    _failed(path, answer)
    record = case.record()
    assert (record.status, record.error) == (502, "upstream_broken")
    assert record.cost == 11 * 400 + 3 * 1600, "what was generated is paid for"


def _failed(path: str, answer: httpx.Response) -> None:
    ends = {
        "/v1/chat/completions": (b'"code":"upstream_broken"', DONE),
        "/v1/responses": (b"response.failed", b"response.completed"),
        "/v1/messages": (b"event: error", b"message_stop"),
    }
    told, success = ends[path]
    if answer.status_code == 502:  # nothing had been told yet
        assert answer.json()["error"]["message"]
        return
    assert told in answer.content, answer.text
    assert success not in answer.content
    assert b"Traceback" not in answer.content


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize(
    "more",
    [
        DONE,
        event({"content": "EVIL"}) + DONE,
        usage({"prompt_tokens": 10**6, "completion_tokens": 10**6}) + DONE,
        b'data: {"error":{"message":"EVIL"}}\n\n',
        b"EVIL \xff\xfe",
        b": comment\n\n",
    ],
)
@pytest.mark.parametrize("apart", [False, True])
def test_nothing_after_done_counts(case: Case, make: Make, path: str, more: bytes, apart: bool) -> None:
    pieces = [event({"content": "x"}, "stop"), usage(TOLD)]
    pieces += [DONE, more] if apart else [DONE + more]
    make.parts = [*chunked(*pieces), END]
    answer = case.ask(path, stream=True)
    assert answer.status_code == 200
    assert b"EVIL" not in answer.content
    assert answer.content.count(b"[DONE]") == (1 if "chat" in path else 0)
    assert answer.text.count("response.completed") in (0, 2)
    assert answer.text.count("event: message_stop") in (0, 1)
    record = case.record()
    assert (record.status, record.output_tokens, record.finish) == (200, 3, "stop")
    assert "EVIL" not in record.output


@pytest.mark.parametrize("path", BODIES)
def test_a_stream_that_stays_open_after_done_is_over(
    case: Case, make: Make, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "LINGER_S", 0.1)
    never = threading.Event()
    make.parts = [*chunked(event({"content": "x"}, "stop"), usage(TOLD), DONE), never, END]
    try:
        answer = case.ask(path, stream=True)
        assert answer.status_code == 200
        assert b"error" not in answer.content.replace(b'"error":null', b"")
        assert case.record().status == 200
    finally:
        never.set()


def test_a_stream_that_ends_after_done_keeps_its_connection(case: Case, make: Make) -> None:
    make.parts = [*chunked(event({"content": "x"}, "stop"), usage(TOLD), DONE), END]
    case.ask(stream=True)
    case.record()
    before = case.server.connections
    for number in range(2, 5):
        assert case.ask(stream=True).content.endswith(DONE)
        case.record(number)
    assert case.server.connections == before


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("finish", [None, "", 5, ["stop"], {"a": 1}, "because"])
def test_a_finish_reason_that_is_none_harms_nobody(case: Case, make: Make, path: str, finish: Any) -> None:
    make.parts = [*chunked(event({"content": "x"}, finish), usage(TOLD), DONE), END]
    answer = case.ask(path, stream=True)
    assert answer.status_code == 200
    ends = {"/v1/chat/completions": "[DONE]", "/v1/responses": "response.completed", "/v1/messages": "message_stop"}
    assert ends[path] in answer.text
    assert case.record().status == 200


# --- bytes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("step", [1, 2, 3, 5, 64])
def test_characters_cut_across_chunks_come_whole(case: Case, make: Make, path: str, step: int) -> None:
    said = "Grüße, 你好, 🙂👩‍👩‍👧 naïve"
    chunk = {"id": "c", "model": "support-model", "choices": [{"index": 0, "delta": {"content": said}}]}
    raw = b"data: " + json.dumps(chunk, ensure_ascii=False).encode() + b"\n\n" + event({}, "stop") + usage(TOLD) + DONE
    make.parts = [*chunked(*(raw[place : place + step] for place in range(0, len(raw), step))), END]
    answer = case.ask(path, stream=True)
    assert said in answer.text
    assert said in json.loads(case.record().output)["choices"][0]["message"]["content"]


BAD = [b"\xff\xfe", b"\xc3(", b"\xed\xa0\x80", b"\xf0\x9f\x99", b"\xc0\x80", b"\xf5\x80\x80\x80"]


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("step", [1, 1000])
def test_bytes_that_are_no_text_end_the_stream(case: Case, make: Make, path: str, bad: bytes, step: int) -> None:
    begun = event({"content": "before"})
    broken = b'data: {"choices":[{"index":0,"delta":{"content":"' + bad + b'"}}]}\n\n'
    raw = broken + DONE
    pieces = [begun, *(raw[place : place + step] for place in range(0, len(raw), step))]
    make.parts = [*chunked(*pieces), END]
    answer = case.ask(path, stream=True)
    _failed(path, answer)
    answer.content.decode()
    assert case.record().error == "upstream_broken"


@pytest.mark.parametrize("path", BODIES)
def test_a_whole_answer_that_is_no_text_is_none(case: Case, make: Make, path: str) -> None:
    make.parts = whole(completion({"content": "QQ"}).replace(b"QQ", b"\xff\xfe"))
    answer = case.ask(path)
    assert answer.status_code == 502
    assert "not JSON" in answer.text


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("choices", [[], None, "none", 7])
def test_a_whole_answer_without_a_choice_is_none(case: Case, make: Make, path: str, choices: Any) -> None:
    make.parts = whole(completion({"content": "x"}, choices=choices))
    answer = case.ask(path)
    assert answer.status_code == 502
    assert "no choices" in answer.text
    assert case.record().error == "upstream_broken"


@pytest.mark.parametrize("path", BODIES)
def test_a_stream_that_is_done_before_it_began_is_none(case: Case, make: Make, path: str) -> None:
    make.parts = [*chunked(DONE), END]
    answer = case.ask(path, stream=True)
    assert answer.status_code == 502
    assert "holds nothing" in answer.text
    assert case.record().error == "upstream_broken"


@pytest.mark.parametrize(
    ("asked", "made"), [("a", 0), ("a", 2), (["a", "b"], 1), ([5, 6, 7], 3), ([[5, 6], [7]], 1), (["a"], None)]
)
def test_another_number_of_vectors_than_of_texts_is_no_answer(case: Case, make: Make, asked: Any, made: Any) -> None:
    data = made and [{"object": "embedding", "index": place, "embedding": [0.5]} for place in range(made)]
    make.parts = whole(json.dumps({"object": "list", "model": "m", "data": data, "usage": TOLD}).encode())
    case.asked += 1
    answer = case.client.post("/v1/embeddings", json={"model": "support", "input": asked})
    assert answer.status_code == 502
    assert f"it made {made or 0} vectors" in answer.text
    assert case.record().error == "upstream_broken"


@pytest.mark.parametrize(("asked", "made"), [("a", 1), (["a", "b"], 2), ([5, 6, 7], 1), ([[5, 6], [7]], 2)])
def test_a_vector_for_each_text_is_one(case: Case, make: Make, asked: Any, made: int) -> None:
    data = [{"object": "embedding", "index": place, "embedding": [0.5]} for place in range(made)]
    make.parts = whole(json.dumps({"object": "list", "model": "m", "data": data, "usage": TOLD}).encode())
    case.asked += 1
    answer = case.client.post("/v1/embeddings", json={"model": "support", "input": asked})
    assert answer.status_code == 200


def test_no_time_is_told_as_the_time_there_was(case: Case, make: Make) -> None:
    make.parts = whole(completion({"content": "x"}))
    case.asked += 1
    answer = case.client.post("/v1/chat/completions", json=CHAT, headers={"x-request-timeout": "0.0001"})
    assert answer.status_code in (408, 504)
    assert "within 0.001 s" in answer.text


def test_a_redirect_is_not_followed_and_named(case: Case, make: Make) -> None:
    make.parts = [b"HTTP/1.1 302 Found\r\nlocation: http://169.254.169.254/\r\ncontent-length: 0\r\n\r\n"]
    answer = case.ask()
    assert answer.status_code == 502
    assert "points to another address" in answer.json()["error"]["message"]
    assert "169.254" not in answer.text


@pytest.mark.parametrize("path", SURFACES)
@pytest.mark.parametrize(
    "garbage",
    [b"data: {broken\n\n", b"data: [1]\n\n", b"data: 7\n\n", b"data: null\n\n", b'data: "words"\n\n',
     b'data: {"choices":7}\n\n', b'data: {"choices":[7]}\n\n', b'data: {"choices":[{"delta":[]}]}\n\n',
     b'data: {"choices":[{"delta":{"content":7}}]}\n\n', b'data: {"choices":[{"delta":{"content":["a"]}}]}\n\n',
     b'data: {"choices":[{"delta":{"tool_calls":"x"}}]}\n\n', b'data: {"choices":[{"delta":{"tool_calls":[7]}}]}\n\n',
     b'data: {"choices":[{"delta":{"thinking_blocks":[7]}}]}\n\n',
     b'data: {"choices":[{"delta":{"tool_calls":[{"function":{"name":"f","arguments":{"a":1}}}]}}]}\n\n'],
)  # fmt: skip
def test_an_event_that_is_none_ends_a_translated_stream_as_an_error_or_says_nothing(
    case: Case, make: Make, path: str, garbage: bytes
) -> None:
    make.parts = [*chunked(event({"content": "before"}), garbage, event({"content": "after"}, "stop"), DONE), END]
    answer = case.ask(path, stream=True)
    assert "before" in answer.text
    finished = "message_stop" in answer.text or "response.completed" in answer.text
    assert finished == ("after" in answer.text), "half an answer was shown as a whole one"
    if not finished:
        _failed(path, answer)


def test_events_that_cannot_be_read_are_counted(case: Case, make: Make) -> None:
    make.parts = [*chunked(event({"content": "x"}, "stop"), b"data: {broken\n\n", usage(TOLD), DONE), END]
    assert case.ask(stream=True).content.endswith(DONE)
    assert case.record().tags["unreadable_events"] == "1"


# --- tool calls -------------------------------------------------------------------------------------------------------


def call(index: Any = ..., identifier: Any = ..., name: Any = ..., arguments: Any = ..., **more: Any) -> dict[str, Any]:
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not ...}
    made = {key: value for key, value in (("index", index), ("id", identifier)) if value is not ...}
    return {"tool_calls": [{**made, "type": "function", "function": function, **more}]}


TWO = [("f", {"a": 1}), ("g", {"b": 2})]
FRAGMENTS: dict[str, list[dict[str, Any]]] = {
    "interleaved": [
        call(0, "c0", "f", '{"a'), call(1, "c1", "g", '{"b'), call(0, arguments='":1}'), call(1, arguments='":2}'),
    ],
    "numbered from the end": [call(5, "c0", "f", '{"a":1}'), call(3, "c1", "g", '{"b":'), call(3, arguments="2}")],
    "without numbers": [
        call(identifier="c0", name="f", arguments='{"a"'), call(arguments=":1}"),
        call(identifier="c1", name="g", arguments='{"b":2}'),
    ],
    "all with the same number": [call(0, "c0", "f", '{"a":1}'), call(0, "c1", "g", '{"b":2}')],
    "with the id in every piece": [
        call(0, "c0", "f", '{"a"'), call(0, "c0", arguments=":1}"), call(1, "c1", "g", '{"b":2}'),
    ],
    "without ids": [call(0, None, "f", '{"a":1}'), call(1, "", "g", '{"b":2}')],
    "with the name after the arguments": [
        call(0, "c0", arguments='{"a":'), call(0, name="f", arguments="1}"), call(1, "c1", "g", '{"b":2}'),
    ],
    "with numbers that are none": [call("x", "c0", "f", '{"a":1}'), call(None, "c1", "g", '{"b":2}')],
    "with negative numbers": [call(-1, "c0", "f", '{"a":1}'), call(-2, "c1", "g", '{"b":2}')],
}  # fmt: skip


def told_calls(path: str, answer: httpx.Response) -> list[tuple[str, str, Any]]:
    """(id, name, arguments) of the calls a client puts together."""
    events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
    if path == "/v1/responses":
        (response,) = [each["response"] for each in events if each["type"] == "response.completed"]
        items = [item for item in response["output"] if item["type"] == "function_call"]
        return [(item["call_id"], item["name"], json.loads(item["arguments"])) for item in items]
    begun = {
        each["index"]: each["content_block"]
        for each in events
        if each["type"] == "content_block_start" and each["content_block"]["type"] == "tool_use"
    }
    texts = dict.fromkeys(begun, "")
    for each in events:
        if each["type"] == "content_block_delta" and each["delta"]["type"] == "input_json_delta":
            texts[each["index"]] += each["delta"]["partial_json"]
    return [(block["id"], block["name"], json.loads(texts[index])) for index, block in begun.items()]


@pytest.mark.parametrize("path", SURFACES)
@pytest.mark.parametrize("kind", FRAGMENTS)
def test_fragments_of_calls_are_put_together_however_they_come(case: Case, make: Make, path: str, kind: str) -> None:
    pieces = [event(delta) for delta in FRAGMENTS[kind]]
    make.parts = [*chunked(*pieces, event({}, "tool_calls"), usage(TOLD), DONE), END]
    found = told_calls(path, case.ask(path, stream=True))
    assert sorted((name, arguments) for _, name, arguments in found) == sorted(TWO, key=lambda each: each[0])
    assert len({identifier for identifier, *_ in found}) == 2, "a call without an id of its own cannot be answered"
    assert all(identifier for identifier, *_ in found)
    shown = json.loads(case.record().output)["choices"][0]["message"]["tool_calls"]
    recorded = [(each["function"]["name"], json.loads(each["function"]["arguments"])) for each in shown]
    assert sorted(recorded, key=lambda each: each[0]) == TWO


@pytest.mark.parametrize("path", SURFACES)
def test_a_call_that_never_gets_a_name_is_no_success(case: Case, make: Make, path: str) -> None:
    make.parts = [*chunked(event(call(0, "c0", arguments="{}")), event({}, "tool_calls"), usage(TOLD), DONE), END]
    _failed(path, case.ask(path, stream=True))


@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("stream", [False, True])
def test_arguments_that_are_no_json_are_passed_on_as_they_are(case: Case, make: Make, path: str, stream: bool) -> None:
    made = call(0, "c0", "f", "{not json")
    make.parts = (
        [*chunked(event(made), event({}, "tool_calls"), usage(TOLD), DONE), END]
        if stream
        else whole(completion({"content": None, **made}))
    )
    answer = case.ask(path, stream=stream)
    assert answer.status_code == 200
    assert "{not json" in answer.text


# --- what a provider wants back ---------------------------------------------------------------------------------------

SIGNED = {"google": {"thought_signature": "c2lnbmVk"}}


@pytest.mark.parametrize("stream", [False, True])
def test_what_gemini_signs_goes_round_through_the_responses_api(case: Case, make: Make, stream: bool) -> None:
    made = call(0, "c0", "f", "{}", extra_content=SIGNED)
    make.parts = (
        [*chunked(event(made), event({}, "tool_calls"), usage(TOLD), DONE), END]
        if stream
        else whole(completion({"content": None, **made}))
    )
    answer = case.ask("/v1/responses", stream=stream)
    if stream:
        events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
        output = next(each["response"]["output"] for each in events if each["type"] == "response.completed")
    else:
        output = answer.json()["output"]
    back = [{"role": "user", "content": QUESTION}, *output]
    back.append({"type": "function_call_output", "call_id": "c0", "output": "done"})
    case.ask("/v1/responses", input=back)
    _sent_back(case)


@pytest.mark.parametrize("stream", [False, True])
def test_what_gemini_signs_goes_round_through_the_messages_api(case: Case, make: Make, stream: bool) -> None:
    made = call(0, "c0", "f", "{}", extra_content=SIGNED)
    make.parts = (
        [*chunked(event(made), event({}, "tool_calls"), usage(TOLD), DONE), END]
        if stream
        else whole(completion({"content": None, **made}))
    )
    answer = case.ask("/v1/messages", stream=stream)
    if stream:
        events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
        content = [each["content_block"] for each in events if each["type"] == "content_block_start"]
    else:
        content = answer.json()["content"]
    result = {"type": "tool_result", "tool_use_id": "c0", "content": "done"}
    back = [
        {"role": "user", "content": QUESTION}, {"role": "assistant", "content": content},
        {"role": "user", "content": [result]},
    ]  # fmt: skip
    case.ask("/v1/messages", messages=back)
    _sent_back(case)


def _sent_back(case: Case) -> None:
    body = json.loads(case.server.requests[-1].partition(b"\r\n\r\n")[2])
    (said,) = [message for message in body["messages"] if message["role"] == "assistant"]
    assert said["tool_calls"][0]["extra_content"] == SIGNED
