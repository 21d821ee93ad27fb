"""What is asked, as a key: it changes with everything that matters and with nothing else."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.gateway.cache.control import read_control
from fairlead.gateway.cache.question import PARTS, Question, question_of, why_not_kept
from fairlead.providers.scripted import Scripted
from tests.gateway.gateway_harness import route

SECRET = b"k" * 32
UPSTREAM = Scripted()
TEXT = st.text(st.characters(codec="utf-8"), max_size=12)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
MESSAGE = st.fixed_dictionaries({"role": st.sampled_from(["system", "user", "assistant"]), "content": TEXT})
BODY = st.fixed_dictionaries(
    {"model": st.just("support"), "messages": st.lists(MESSAGE, min_size=1, max_size=3)},
    optional={
        "temperature": st.sampled_from([0, 0.0, 0.5, 1, 2]),
        "max_tokens": st.integers(1, 9),
        "seed": st.integers(0, 9),
        "stop": TEXT,
        "tools": st.lists(st.fixed_dictionaries({"type": st.just("function"), "function": JSON}), max_size=2),
        "documents": st.lists(st.dictionaries(st.sampled_from(["id", "text"]), TEXT, max_size=2), max_size=2),
        "response_format": JSON,
        "vendor_option": JSON,
    },
)


def asked(body: dict[str, Any], **changes: Any) -> Question:
    values: dict[str, Any] = {
        "operation": "chat", "tenant": "t", "scopes": frozenset({"inference"}), "subject": "", "secret": SECRET,
        "route": route(UPSTREAM),
    }  # fmt: skip
    return question_of(body, **{**values, **changes})


def saying(*texts: str) -> dict[str, Any]:
    return {"model": "support", "messages": [{"role": "user", "content": text} for text in texts]}


def plain(body: dict[str, Any]) -> str:
    """The slow, obvious way to say what is asked."""
    return json.dumps({k: v for k, v in body.items() if v is not None}, sort_keys=True)


def shuffled(value: Any) -> Any:
    """The same JSON with the keys of every object in another order."""
    if isinstance(value, dict):
        return {name: shuffled(value[name]) for name in reversed(value)}
    return [shuffled(part) for part in value] if isinstance(value, list) else value


@given(BODY, BODY)
def test_two_bodies_have_one_key_just_when_they_say_the_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    for body in (one, other):
        if body.get("temperature") == 0:
            body["temperature"] = 0  # 0.0 is 0
        elif body.get("temperature") == 1:
            body["temperature"] = 1
    assert (asked(one).key == asked(other).key) == (plain(one) == plain(other))


@given(BODY)
def test_order_of_keys_form_of_delivery_and_nulls_do_not_matter(body: dict[str, Any]) -> None:
    same = shuffled(copy.deepcopy(body))
    same |= {"stream": True, "stream_options": {"include_usage": True}, "top_p": None, "user": "anna"}
    assert asked(same).key == asked(body).key  # who the user is comes as the subject


@given(BODY, st.sampled_from(["tenant", "subject", "scope", "release", "name", "model", "operation", "secret"]))
def test_who_asks_whom_always_matters(body: dict[str, Any], what: str) -> None:
    changes: dict[str, Any] = {
        "tenant": {"tenant": "u"}, "subject": {"subject": "user:1"}, "operation": {"operation": "completion"},
        "scope": {"scopes": frozenset({"inference", "admin"})}, "secret": {"secret": b"x" * 32},
        "release": {"route": route(UPSTREAM, release="r2")}, "name": {"route": route(UPSTREAM, "other")},
        "model": {"route": route(UPSTREAM, model="another")},
    }  # fmt: skip
    assert asked(body, **changes[what]).key != asked(body).key


@given(st.lists(TEXT, min_size=2, max_size=4), st.integers(0, 20))
def test_no_text_can_move_from_one_part_to_another(texts: list[str], at: int) -> None:
    joined = "".join(texts)
    one, other = joined[:at], joined[at:]
    keys = {
        asked(saying(other), tenant=one, subject="").key,
        asked(saying(other), tenant="", subject=one).key,
        asked(saying(one + other), tenant="").key,
        asked(saying(one, other)).key,
    }
    assert len(keys) == (4 if one else 2)


def test_each_part_has_a_digest_of_its_own() -> None:
    body = {"model": "support", "messages": [{"role": "user", "content": "hello"}], "temperature": 0}
    first, second = asked(body).digests(), asked({**body, "temperature": 1, "documents": []}).digests()
    assert tuple(first) == PARTS
    assert {name for name in PARTS if first[name] != second[name]} == {"parameters", "documents"}
    assert len({*first.values()}) == len(PARTS)


def test_the_frame_is_all_but_the_last_words() -> None:
    def framed(*said: str, **more: Any) -> Question:
        return asked({"messages": [{"role": "user", "content": text} for text in said], **more}, framed=True)

    one, other = framed("a", "where is it"), framed("a", "where is the parcel")
    assert one.frame == other.frame != b""
    assert (one.text, one.key != other.key) == ("where is it", True)
    for changed in (framed("b", "where is it"), framed("a", "where is it", documents=[{"text": "x"}]), framed("a")):
        assert changed.frame != one.frame
    picture = [{"type": "image_url", "image_url": {"url": "https://shop.example/a.png"}}]
    assert asked({"messages": [{"role": "user", "content": picture}]}, framed=True).frame == b""


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"temperature": 0}, ""),
        ({}, "sampled"),
        ({"temperature": 0.7}, "sampled"),
        ({"temperature": 0, "store": True}, "effects"),
        ({"temperature": 0, "web_search_options": {}}, "effects"),
        ({"temperature": 0, "tools": [{"type": "web_search"}]}, "effects"),
        ({"temperature": 0, "tools": [{"type": "function", "function": {"name": "look_up"}}]}, ""),
        ({"temperature": 0, "messages": [{"role": "tool", "content": "14 May", "tool_call_id": "c"}]}, "tool results"),
        ({"temperature": 0, "messages": [{"role": "assistant", "tool_calls": [{}]}]}, "tool results"),
    ],
)
def test_what_may_be_kept(more: dict[str, Any], reason: str) -> None:
    body = {"messages": [{"role": "user", "content": "hello"}], **more}
    assert why_not_kept(body, operation="chat", route=route(UPSTREAM), sampled=False) == reason


def test_what_always_answers_the_same_may_be_kept_at_any_temperature() -> None:
    body: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}]}
    exact, cold = route(UPSTREAM, deterministic=True), route(UPSTREAM, defaults={"temperature": 0})
    assert why_not_kept(body, operation="chat", route=exact, sampled=False) == ""
    assert why_not_kept(body, operation="chat", route=cold, sampled=False) == ""
    assert why_not_kept({**body, "temperature": 1}, operation="chat", route=cold, sampled=False) == "sampled"
    assert why_not_kept(body, operation="chat", route=route(UPSTREAM), sampled=True) == ""
    assert why_not_kept(body, operation="embedding", route=route(UPSTREAM), sampled=False) == ""
    whole = route(UPSTREAM, recorded_as="request", deterministic=True)
    assert why_not_kept(body, operation="chat", route=whole, sampled=True) == "assistant"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (b"", (False, False, None)),
        (b"no-cache", (True, False, None)),
        (b"No-Store", (True, True, None)),
        (b"max-age=60", (False, False, 60.0)),
        (b"max-age=0", (True, False, 0.0)),
        (b'private, max-age="5" , x=1', (False, False, 5.0)),
        (b"max-age=soon, \xff\xfe", (False, False, None)),
    ],
)
def test_what_a_client_says_about_kept_answers(header: bytes, expected: tuple[bool, bool, float | None]) -> None:
    control = read_control(header)
    assert (control.fresh, control.unkept, control.max_age_s) == expected
