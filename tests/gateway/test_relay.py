"""The relay: whatever way a stream is cut, the client gets the same bytes and the recorder the same words."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fairlead.errors import UpstreamBroken
from fairlead.gateway.fold import fold
from fairlead.gateway.relay import CAPTURE_BYTES, Relay
from fairlead.providers import sse

DONE = b"data: [DONE]\n\n"
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def event(payload: dict[str, Any], end: bytes = b"\n\n") -> bytes:
    return b"data: " + json.dumps(payload, ensure_ascii=False).encode() + end


def words(*texts: str, **extra: Any) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = [{"choices": [{"index": 0, "delta": {"content": text}}], **extra} for text in texts]
    return [*made, {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], **extra}]


def cut(stream: bytes, places: list[int]) -> list[bytes]:
    marks = sorted({place % (len(stream) + 1) for place in places} | {0, len(stream)})
    return [stream[start:end] for start, end in itertools.pairwise(marks)]


def relayed(relay: Relay, pieces: list[bytes]) -> bytes:
    return b"".join(relay.feed(piece) for piece in pieces) + relay.end()


TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), min_size=1, max_size=8)
PLACES = st.lists(st.integers(0, 5000), max_size=40)
ENDS = st.sampled_from([b"\n\n", b"\r\n\r\n", b"\n\r\n"])


@given(TEXTS, PLACES, ENDS, st.booleans())
@example(["é😀"], list(range(400)), b"\n\n", True)
@example(["[DONE]", "data: [DONE]", '"usage":{"total_tokens":1}', "\n\n"], [1, 2, 3], b"\r\n\r\n", False)
def test_any_cut_gives_the_client_the_same_bytes_and_the_recorder_the_same_words(
    texts: list[str], places: list[int], end: bytes, wants_usage: bool
) -> None:
    kept = b"".join(event(chunk, end) for chunk in words(*texts))
    usage = event({"choices": [], "usage": USAGE}, end)
    relay = Relay("m", wants_usage=wants_usage)
    received = relayed(relay, cut(b": hello\n\n" + kept + usage + DONE, places))
    assert received == b": hello\n\n" + kept + (usage if wants_usage else b"") + DONE
    assert relay.usage == USAGE
    folded = fold(b"".join(relay.captured))
    assert folded.choices[0]["message"]["content"] == ("".join(texts))
    assert folded.finish == "stop"


@given(TEXTS, PLACES)
def test_usage_beside_words_is_not_withheld(texts: list[str], places: list[int]) -> None:
    stream = b"".join(event(chunk) for chunk in words(*texts, usage=USAGE)) + DONE
    assert relayed(Relay("m", wants_usage=False), cut(stream, places)) == stream


@given(TEXTS, PLACES)
def test_a_null_usage_is_not_withheld(texts: list[str], places: list[int]) -> None:
    stream = b"".join(event(chunk) for chunk in words(*texts, usage=None)) + DONE
    assert relayed(Relay("m", wants_usage=False), cut(stream, places)) == stream


@given(TEXTS, PLACES, st.integers(0, 10_000))
def test_a_stream_cut_short_is_never_a_success(texts: list[str], places: list[int], length: int) -> None:
    stream = b"".join(event(chunk) for chunk in words(*texts)) + DONE
    short = stream[: length % (len(stream) - 3)]
    relay = Relay("m", wants_usage=False)
    received = b"".join(relay.feed(piece) for piece in cut(short, places))
    with pytest.raises(UpstreamBroken):
        relay.end()
    assert stream.startswith(received)
    assert received == b"" or received.endswith(b"\n\n"), "half an event reached the client"


def test_a_missing_last_newline_is_forgiven() -> None:
    stream = event(words("a")[0]) + b"data: [DONE]"
    assert relayed(Relay("m", wants_usage=False), [stream]) == stream


@given(PLACES)
def test_an_error_event_ends_the_stream_with_its_message(places: list[int]) -> None:
    stream = event(words("a")[0]) + event({"error": {"message": "out of memory"}}) + DONE
    relay = Relay("m", wants_usage=False)
    with pytest.raises(UpstreamBroken, match="out of memory"):
        relayed(relay, cut(stream, places))


def test_the_word_error_in_an_answer_is_no_error() -> None:
    stream = event({"choices": [{"index": 0, "delta": {"content": 'say "error"'}}], "error": None}) + DONE
    assert relayed(Relay("m", wants_usage=False), [stream]) == stream


def test_an_event_without_end_is_refused() -> None:
    relay = Relay("m", wants_usage=False)
    with pytest.raises(UpstreamBroken, match="without end"):
        relayed(relay, [b"x" * 65536] * (sse.LARGEST_EVENT // 65536 + 2))


def test_a_very_long_stream_keeps_its_beginning_and_its_end() -> None:
    relay = Relay("m", wants_usage=False)
    piece = event({"choices": [{"index": 0, "delta": {"content": "w" * 1000}}]})
    count = CAPTURE_BYTES // len(piece) + 100
    for _ in range(count):
        relay.feed(piece)
    relay.feed(event({"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}], "usage": USAGE}) + DONE)
    relay.end()
    assert sum(map(len, relay.captured)) <= CAPTURE_BYTES
    assert fold(b"".join(relay.tail())).finish == "length"
    assert relay.usage == USAGE


@given(st.lists(TEXTS, min_size=1, max_size=4), PLACES, ENDS)
def test_nothing_after_the_first_done_passes_however_it_is_cut(
    answers: list[list[str]], places: list[int], end: bytes
) -> None:
    first, *others = (b"".join(event(chunk, end) for chunk in words(*texts)) + DONE for texts in answers)
    relay = Relay("m", wants_usage=True)
    assert relayed(relay, cut(first + b"".join(others) + b"data: {no", places)) == first
    assert relay.is_done()
    assert b"".join(relay.captured) == first


@given(
    st.lists(st.sampled_from([b"data: [DONE]", b"data:[DONE]", b"data: x", b"[DONE]", b"event: [DONE]"]), max_size=8)
)
def test_only_an_event_that_is_nothing_else_is_the_end(lines: list[bytes]) -> None:
    """Two lines of data in one event are one text, which is another."""
    relay = Relay("x", wants_usage=False)
    relay.feed(b"data: first\n\n" + b"\n".join(lines) + b"\n\n")
    data = [line[5:].strip() for line in lines if line.startswith(b"data:")]
    assert relay.is_done() == (data == [b"[DONE]"])


@given(st.binary(max_size=12), PLACES)
def test_bytes_that_are_no_text_never_pass(noise: bytes, places: list[int]) -> None:
    stream = b'data: {"choices":[{"delta":{"content":"' + noise.replace(b"\n", b"") + b'"}}]}\n\n' + DONE
    try:
        stream.decode()
    except UnicodeDecodeError:
        with pytest.raises(UpstreamBroken, match="UTF-8"):
            relayed(Relay("m", wants_usage=False), cut(stream, places))
