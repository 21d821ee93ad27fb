"""What is accepted as a request body, and what is refused with which words."""

from __future__ import annotations

from typing import Any, get_args

import jsonschema_rs
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.errors import BodyInvalid, BodyTooDeep, ContentTypeWrong, RequestInvalid
from fairlead.gateway.body import check, check_content_type, decode, is_deeper
from fairlead.gateway.fields import BODIES
from fairlead.providers.base import Operation

HELLO = [{"role": "user", "content": "Hello"}]


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"", "it is empty"),
        (b"  \n", "it is empty"),
        (b"{", "unexpected end"),
        (b'{"model": "m",}', "at character"),
        (b'{"a": NaN}', "unexpected character"),
        (b'{"a": Infinity}', "unexpected character"),
        (b'{"a": 1e999}', "infinity"),
        (b'{"a": "\xff"}', "UTF-8"),
        (b'{"a": "\xed\xa0\x80"}', "UTF-8"),
        (b'{"a": "\\ud800"}', "surrogate"),
        (b'{"a": "\x00"}', "control character"),
        (b'\x00{"a": 1}', "at character 1"),
        (b'\xef\xbb\xbf{"a": 1}', "byte order mark"),
        (b'{"a": 1} trailing', "unexpected content"),
        (b"[]", "it is an empty list"),
        (b'["a"]', "it is a list"),
        (b'"text"', "it is 'text'"),
        (b"null", "it is null"),
        (b"true", "it is true"),
        (b"17", "it is 17"),
    ],
)
def test_what_is_no_json_object_is_refused_with_the_reason(raw: bytes, words: str) -> None:
    with pytest.raises(BodyInvalid) as caught:
        decode(raw, max_depth=64)
    assert words in str(caught.value)
    assert "one JSON object in UTF-8" in str(caught.value)


def nested(levels: int) -> bytes:
    return b'{"a":' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"


@pytest.mark.parametrize("levels", [65, 66, 500, 1023, 1024, 1025, 100_000])
def test_deep_nesting_is_refused_however_deep(levels: int) -> None:
    with pytest.raises(BodyTooDeep):
        decode(nested(levels), max_depth=64)


def test_the_deepest_body_allowed_passes() -> None:
    assert decode(nested(64), max_depth=64)
    assert decode(b'{"a":[' + b"{}," * 5000 + b"{}]}", max_depth=8)


@given(st.integers(2, 30), st.integers(1, 30))
def test_depth_is_counted_exactly(levels: int, limit: int) -> None:
    assert is_deeper(orjson.loads(nested(levels)), limit) is (levels > limit)


def test_the_last_of_two_equal_keys_counts_and_an_escaped_nul_is_text() -> None:
    assert decode(b'{"model":"a","model":"b\\u0000"}', max_depth=64) == {"model": "b\0"}


CASES: list[tuple[Operation, dict[str, Any], str]] = [
    ("chat", {"messages": HELLO}, "model"),
    ("chat", {"model": None, "messages": HELLO}, "model"),
    ("chat", {"model": 3, "messages": HELLO}, "model"),
    ("chat", {"model": "", "messages": HELLO}, "model"),
    ("chat", {"model": "x" * 300, "messages": HELLO}, "model"),
    ("chat", {"model": "m"}, "messages"),
    ("chat", {"model": "m", "messages": []}, "messages"),
    ("chat", {"model": "m", "messages": "Hello"}, "messages"),
    ("chat", {"model": "m", "messages": ["Hello"]}, "messages[0]"),
    ("chat", {"model": "m", "messages": [{"content": "Hello"}]}, "messages[0].role"),
    ("chat", {"model": "m", "messages": [{"role": "king", "content": "Hello"}]}, "messages[0].role"),
    ("chat", {"model": "m", "messages": [*HELLO, {"role": "user"}]}, "messages[1].content"),
    ("chat", {"model": "m", "messages": [{"role": "user", "content": None}]}, "messages[0].content"),
    ("chat", {"model": "m", "messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
    ("chat", {"model": "m", "messages": [{"role": "user", "content": []}]}, "messages[0].content"),
    ("chat", {"model": "m", "messages": [{"role": "user", "content": [{"text": "a"}]}]}, "messages[0].content[0].type"),
    ("chat", {"model": "m", "messages": HELLO, "stream": "yes"}, "stream"),
    ("chat", {"model": "m", "messages": HELLO, "stream": 1}, "stream"),
    ("chat", {"model": "m", "messages": HELLO, "n": 0}, "n"),
    ("chat", {"model": "m", "messages": HELLO, "n": 17}, "n"),
    ("chat", {"model": "m", "messages": HELLO, "n": True}, "n"),
    ("chat", {"model": "m", "messages": HELLO, "n": 1.5}, "n"),
    ("chat", {"model": "m", "messages": HELLO, "max_tokens": -1}, "max_tokens"),
    ("chat", {"model": "m", "messages": HELLO, "max_tokens": 10**30}, "max_tokens"),
    ("chat", {"model": "m", "messages": HELLO, "temperature": 2.1}, "temperature"),
    ("chat", {"model": "m", "messages": HELLO, "temperature": "hot"}, "temperature"),
    ("chat", {"model": "m", "messages": HELLO, "top_p": -0.1}, "top_p"),
    ("chat", {"model": "m", "messages": HELLO, "seed": 0.5}, "seed"),
    ("chat", {"model": "m", "messages": HELLO, "stop": [1]}, "stop[0]"),
    ("chat", {"model": "m", "messages": HELLO, "stop": {}}, "stop"),
    ("chat", {"model": "m", "messages": HELLO, "stop": ["a", ""]}, "stop[1]"),
    ("chat", {"model": "m", "messages": HELLO, "tools": {}}, "tools"),
    ("chat", {"model": "m", "messages": HELLO, "tools": [{}]}, "tools[0].type"),
    (
        "chat",
        {"model": "m", "messages": HELLO, "tools": [{"type": "function", "function": {}}]},
        "tools[0].function.name",
    ),
    ("chat", {"model": "m", "messages": HELLO, "tool_choice": 1}, "tool_choice"),
    ("chat", {"model": "m", "messages": HELLO, "tool_choice": "required"}, "tool_choice"),
    ("chat", {"model": "m", "messages": HELLO, "response_format": "json"}, "response_format"),
    ("chat", {"model": "m", "messages": HELLO, "response_format": {}}, "response_format.type"),
    ("chat", {"model": "m", "messages": HELLO, "stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
    ("chat", {"model": "m", "messages": HELLO, "top_logprobs": 21}, "top_logprobs"),
    ("chat", {"model": "m", "messages": HELLO, "user": {}}, "user"),
    ("completion", {"model": "m"}, "prompt"),
    ("completion", {"model": "m", "prompt": {}}, "prompt"),
    ("completion", {"model": "m", "prompt": ["a", None]}, "prompt[1]"),
    ("completion", {"model": "m", "prompt": [[1, "a"]]}, "prompt[0][1]"),
    ("completion", {"model": "m", "prompt": "a", "logprobs": True}, "logprobs"),
    ("embedding", {"model": "m"}, "input"),
    ("embedding", {"model": "m", "input": []}, "input"),
    ("embedding", {"model": "m", "input": "a", "encoding_format": "hex"}, "encoding_format"),
    ("embedding", {"model": "m", "input": "a", "dimensions": 0}, "dimensions"),
]


@pytest.mark.parametrize(("operation", "body", "where"), CASES, ids=[f"{c[0]}-{c[2]}-{n}" for n, c in enumerate(CASES)])
def test_a_wrong_field_is_named_with_what_was_found_and_expected(
    operation: Operation, body: dict[str, Any], where: str
) -> None:
    with pytest.raises(RequestInvalid) as caught:
        check(body, operation)
    assert caught.value.details["param"] == where
    assert str(caught.value).startswith(where)
    assert len(str(caught.value)) < 300


def test_what_we_do_not_know_passes_and_null_means_absent() -> None:
    check({"model": "m", "messages": HELLO, "grammar": [{"deep": 1}], "temperature": None, "stop": None}, "chat")
    check({"model": "m", "messages": [*HELLO, {"role": "assistant", "content": None, "refusal": None}]}, "chat")
    check({"model": "m", "input": [1, 2, 3]}, "embedding")
    check({"model": "m", "prompt": [[1, 2], [3]]}, "completion")


OPERATIONS: tuple[Operation, ...] = get_args(Operation)
SCHEMAS = {operation: jsonschema_rs.validator_for(BODIES[operation].schema) for operation in OPERATIONS}


def fits(body: dict[str, Any], operation: Operation) -> bool:
    try:
        check(body, operation)
    except RequestInvalid:
        return False
    return True


PLAIN = [None, True, False, 0, 1, -1, 2, 16, 17, 0.5, 2.5, 10**16, "", "a", "x" * 257, "float", "user", "required"]
LISTS: list[Any] = [[], ["a"], [1], [[1, 2]], [[]], [None], ["a"] * 17, [{}], [{"type": "text"}], HELLO]
OBJECTS: list[Any] = [{}, {"type": "json_object"}, {"include_usage": True}, {"type": 1}]
SAID: list[Any] = [
    [{"role": "user"}],
    [{"role": "assistant"}],
    [{"role": "assistant", "tool_calls": [{"function": {}}]}],
    [{"role": "tool", "content": "ok", "tool_call_id": 5}],
    [{"role": "user", "content": [{"type": "text"}]}],
    [{"type": "function", "function": {}}],
    [{"type": "function", "function": {"name": "f"}}],
]
VALUES = st.sampled_from([*PLAIN, *LISTS, *OBJECTS, *SAID])
BODY = st.sampled_from(OPERATIONS).flatmap(
    lambda operation: st.tuples(
        st.just(operation),
        st.fixed_dictionaries(
            {"model": st.sampled_from(["m", "m", "m", None, 1])},
            optional={name: VALUES for name in (*BODIES[operation].fields, "unknown") if name != "model"},
        ),
    )
)


@given(BODY)
def test_the_checks_and_the_published_schema_agree(drawn: tuple[Operation, dict[str, Any]]) -> None:
    operation, body = drawn
    if body.get("tool_choice") == "required":
        return  # depends on another field; the schema does not say it
    assert fits(body, operation) is SCHEMAS[operation].is_valid(body)


@given(BODY)
def test_the_checks_and_the_published_schema_agree_on_nearly_valid_bodies(
    drawn: tuple[Operation, dict[str, Any]],
) -> None:
    operation, drawn_body = drawn
    needed: dict[Operation, dict[str, Any]] = {
        "chat": {"messages": HELLO},
        "completion": {"prompt": "a"},
        "embedding": {"input": "a"},
    }
    kept = dict(list(drawn_body.items())[:2])
    body = {**needed[operation], **kept, "model": "m"}
    if body.get("tool_choice") != "required":
        assert fits(body, operation) is SCHEMAS[operation].is_valid(body)


@pytest.mark.parametrize(("operation", "body", "where"), CASES, ids=[f"{c[0]}-{c[2]}-{n}" for n, c in enumerate(CASES)])
def test_the_published_schema_refuses_what_the_checks_refuse(
    operation: Operation, body: dict[str, Any], where: str
) -> None:
    assert body.get("tool_choice") == "required" or not SCHEMAS[operation].is_valid(body), where


@pytest.mark.parametrize(
    "declared", [b"", b"application/json", b"Application/JSON; charset=utf-8", b"application/json;"]
)
def test_declared_as_json(declared: bytes) -> None:
    check_content_type(declared, b"")
    check_content_type(declared, b"identity")


@pytest.mark.parametrize(
    ("declared", "encoding"),
    [
        (b"text/plain", b""),
        (b"application/x-www-form-urlencoded", b""),
        (b"a" * 5000, b""),
        (b"application/json", b"gzip"),
    ],
)
def test_declared_as_something_else(declared: bytes, encoding: bytes) -> None:
    with pytest.raises(ContentTypeWrong) as caught:
        check_content_type(declared, encoding)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("seed", [1e300, 2**53 + 1, -(2**53) - 1])
def test_a_seed_out_of_range_is_told_both_limits(seed: float) -> None:
    with pytest.raises(RequestInvalid, match=f"from {-(2**53)} to {2**53}"):
        check({"model": "m", "messages": HELLO, "seed": seed}, "chat")
