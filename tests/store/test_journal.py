"""The journal's lines: whatever was written whole is found again, whatever was done to the file."""

from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fairlead.records import new_id
from fairlead.store.traces.journal import Journal, frame, is_journal, read, scan

_NUMBERS = st.integers(-(1 << 62), 1 << 62)
_BODIES = st.dictionaries(st.text(max_size=20), st.text(max_size=100) | _NUMBERS, min_size=1, max_size=4).map(
    msgspec.json.encode
)


def _texts(data: bytes) -> list[bytes]:
    found = scan(data, final=True)
    return [b"{" + data[begin + 24 : end] for begin, end in found.lines]


@settings(deadline=None, max_examples=60)
@given(st.lists(_BODIES, max_size=8))
def test_what_is_written_is_read(bodies: list[bytes]) -> None:
    data = b"".join(map(frame, bodies))
    found = scan(data)
    assert _texts(data) == bodies
    assert (found.damage, found.rest) == ([], len(data))
    for line, body in zip(data.splitlines(), bodies, strict=True):
        plain = json.loads(line)
        assert len(plain.pop("_", "")) == 16 or "_" in json.loads(body)


def test_a_huge_line_is_read_across_pieces(tmp_path: Path) -> None:
    bodies = [msgspec.json.encode({"text": "é" * size}) for size in (1, 5_000_000, 10, 9_000_000, 3)]
    path = tmp_path / "j"
    path.write_bytes(b"".join(map(frame, bodies)) + frame(bodies[1])[:6_000_000])
    handle = os.open(path, os.O_RDONLY)
    try:
        lengths = [end - begin for _, _, found in read(handle, 0) for begin, end in found.lines]
    finally:
        os.close(handle)
    assert lengths == [len(body) + 23 for body in bodies]


def test_a_cut_at_every_byte_keeps_every_whole_line(tmp_path: Path) -> None:
    bodies = [msgspec.json.encode({"n": number, "text": "ü\n\0\\" * number}) for number in range(4)]
    data = b"".join(map(frame, bodies))
    ends = [sum(len(frame(body)) for body in bodies[: count + 1]) - 1 for count in range(len(bodies))]
    path = tmp_path / f"{new_id()}.jsonl"
    for cut in range(len(data) + 1):
        path.write_bytes(data[:cut])
        whole = sum(end <= cut for end in ends)
        assert _texts(data[:cut]) == bodies[:whole], cut
        journal = Journal.take(path)
        assert journal is not None
        sentence = journal.mend()
        assert journal.size == path.stat().st_size
        journal.write(memoryview(frame(b'{"after":1}')))
        journal.close()
        assert _texts(path.read_bytes()) == [*bodies[:whole], b'{"after":1}'], cut
        aside = list(tmp_path.glob("*.torn"))
        clean = cut == 0 or cut - 1 in ends
        assert (sentence == "") == clean, cut
        begin = ends[whole - 1] + 1 if whole else 0
        torn = data[begin:cut]
        assert [one.read_bytes() for one in aside] == ([torn] if torn else []), cut
        for one in aside:
            one.unlink()


@settings(deadline=None, max_examples=120)
@given(st.lists(_BODIES, min_size=1, max_size=8), st.data())
def test_damage_costs_no_line_it_did_not_touch(bodies: list[bytes], data: st.DataObject) -> None:
    lines = [frame(body) for body in bodies]
    whole = b"".join(lines)
    start = data.draw(st.integers(0, len(whole) - 1))
    length = data.draw(st.integers(1, min(40, len(whole) - start)))
    changed = bytearray(whole)
    changed[start : start + length] = data.draw(st.binary(min_size=length, max_size=length))
    position, untouched, before = 0, [], []
    for body, line in zip(bodies, lines, strict=True):
        end = position + len(line)
        if changed[position : end - 1] == line[:-1]:
            untouched.append(body)
            if end - 1 <= start:
                before.append(body)
        position = end
    found = _texts(bytes(changed))
    assert found[: len(before)] == before, "what lies before the damage"
    missing = Counter(untouched) - Counter(found)
    # A line whose predecessor lost its line end may hide in the damage; it is reported, never silent.
    assert not missing or scan(bytes(changed), final=True).damage
    assert missing.total() <= 1
    assert all(body in bodies for body in found), "nothing is made up"


@settings(deadline=None, max_examples=150)
@given(st.binary(max_size=400))
@example(b'{"_":"' + b"0" * 16)
@example(b'{"_":"-1+2 0x1ffffffff",')
@example(b'{"_":"000000000000000_",\n')
@example(b"\n\n\n")
def test_any_bytes_can_be_scanned(data: bytes) -> None:
    for final in (False, True):
        found = scan(data, final=final)
        assert found.lines == []
        assert 0 <= found.rest <= len(data)
    assert sum(end - begin for begin, end in found.damage) == len(data)


@settings(deadline=None, max_examples=100)
@given(st.lists(_BODIES, min_size=1, max_size=6), st.lists(st.integers(1, 60), max_size=30))
def test_reading_while_it_is_written_finds_each_line_once(bodies: list[bytes], pieces: list[int]) -> None:
    whole = b"".join(map(frame, bodies))
    seen: list[bytes] = []
    written = start = 0
    for piece in [*pieces, len(whole)]:
        written = min(written + piece, len(whole))
        data = whole[start:written]
        found = scan(data)
        assert found.damage == []
        seen += [b"{" + data[begin + 24 : end] for begin, end in found.lines]
        start += found.rest
    assert seen == bodies


def test_a_journal_belongs_to_one(tmp_path: Path) -> None:
    journal = Journal.create(tmp_path)
    assert Journal.take(journal.path) is None
    assert [path.name for path in tmp_path.iterdir()] == [journal.path.name]
    journal.close()
    again = Journal.take(journal.path)
    assert again is not None
    again.remove()
    assert Journal.take(journal.path) is None


SOME_ID = "01a2060c-61d2-7667-b3bd-c2265375c072"


@pytest.mark.parametrize("name", ["x.jsonl", f".{SOME_ID}.jsonl", f"{SOME_ID}.torn", f"{SOME_ID}'.jsonl", "a\n.jsonl"])
def test_other_files_are_no_journals(name: str) -> None:
    assert not is_journal(name)
    assert is_journal(f"{new_id()}.jsonl")
