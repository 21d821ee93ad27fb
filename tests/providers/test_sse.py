"""Server-sent events: cutting and reading them, however they come."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.providers import sse

EVENTS = st.lists(
    st.builds(
        lambda text, end: b"data: " + text.encode().replace(b"\n", b"").replace(b"\r", b"") + end,
        st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
        st.sampled_from([b"\n\n", b"\r\n\r\n", b"\n\r\n"]),
    ),
    max_size=6,
)


@given(EVENTS, st.lists(st.integers(1, 9), min_size=1, max_size=30))
def test_what_is_fed_in_pieces_comes_out_in_whole_events(events: list[bytes], sizes: list[int]) -> None:
    stream, out, splitter, start = b"".join(events), b"", sse.Splitter(), 0
    while start < len(stream):
        size = sizes[start % len(sizes)]
        whole = splitter.feed(stream[start : start + size])
        assert not whole or whole.endswith((b"\n\n", b"\n\r\n"))
        out += whole
        start += size
    assert out + splitter.rest() == stream


@given(EVENTS)
def test_split_gives_every_event_unchanged(events: list[bytes]) -> None:
    assert list(sse.split(b"".join(events))) == events


@pytest.mark.parametrize(
    ("event", "payload"),
    [
        (b'data: {"a":1}\n\n', b'{"a":1}'),
        (b'data:{"a":1}\r\n\r\n', b'{"a":1}'),
        (b"data: two\ndata: lines\n\n", b"two\nlines"),
        (b"event: ping\nid: 3\ndata: x\n\n", b"x"),
        (b": a comment\n\n", b""),
        (b"data\n\n", b""),
        (b"data:  two spaces\n\n", b" two spaces"),
        (b"data: [DONE]", b"[DONE]"),
    ],
)
def test_payload(event: bytes, payload: bytes) -> None:
    assert sse.payload(event) == payload


def test_encode_and_payload_are_inverse() -> None:
    assert sse.payload(sse.encode({"text": "a\nb\r\n\u2028é"})) == '{"text":"a\\nb\\r\\n\u2028é"}'.encode()


def test_an_event_without_end() -> None:
    splitter = sse.Splitter()
    splitter.feed(b"x" * sse.LARGEST_EVENT)
    with pytest.raises(sse.EventTooLarge):
        splitter.feed(b"x")
