"""The journal of answers: whatever is killed, and wherever, every request has exactly one line at the end."""

from __future__ import annotations

import contextlib
import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.batch.results import Answer, Results, failure, success
from fairlead.errors import StoreFull

TOTAL = 6


def answer(number: int, attempt: int, *, ok: bool) -> Answer:
    status = 200 if ok else 400
    line = success(f"r{number}", status, f"attempt {attempt}", {"said": "a\nb"})
    return Answer(number=number, ok=ok, line=line, input_tokens=1, output_tokens=2, cost=10)


def finished(folder: Path, results: Results) -> tuple[list[int], dict[int, str], int | None]:
    """The numbers in both files in order, which attempt answered each (those nobody did: ""), and the cost."""
    output, errors = folder / "output.jsonl", folder / "errors.jsonl"
    tally, good, bad = results.write(output, errors, lambda number: failure(f"r{number}", "not_executed", "Nobody."))
    numbers: list[int] = []
    whose: dict[int, str] = {}
    for path, count in ((output, good), (errors, bad)):
        lines = [json.loads(line) for line in path.read_bytes().splitlines()]
        assert len(lines) == count
        found = [int(line["custom_id"][1:]) for line in lines]
        assert found == sorted(found), "in the order of the input"
        numbers += found
        whose |= {int(line["custom_id"][1:]): (line["response"] or {}).get("request_id", "") for line in lines}
    return numbers, whose, tally.cost


EVENTS = st.one_of(
    st.tuples(st.just("add"), st.integers(0, TOTAL - 1), st.booleans()),
    st.tuples(st.just("crash"), st.integers(0, 200), st.booleans()),  # so much of the next line reached the disk
    st.tuples(st.just("end"), st.just(0), st.booleans()),  # the files are made, and it is killed before that counts
    st.tuples(st.just("lost"), st.just(0), st.booleans()),  # given up although it lives: it may still write
    st.tuples(st.just("late"), st.integers(0, TOTAL - 1), st.booleans()),  # one of those does
)


class Told:
    """Attempts at one batch as events tell them, and which of them kept a line for which request."""

    def __init__(self, folder: Path, stack: contextlib.ExitStack) -> None:
        self.folder = folder
        self.kept: dict[int, set[str]] = {}
        self._stack = stack
        self._attempt = 0
        self._undead: list[tuple[int, Results]] = []
        self.results = self.begin()

    def begin(self) -> Results:
        self._attempt += 1
        self.results = self._stack.enter_context(contextlib.closing(Results(self.folder, self._attempt, TOTAL)))
        return self.results

    def happen(self, kind: str, value: int, *, flag: bool) -> None:
        if kind == "add":
            self._add(self._attempt, self.results, value, ok=flag)
        elif kind == "late":
            for attempt, results in self._undead[-1:]:
                self._add(attempt, results, value, ok=flag)
        else:
            if kind == "crash":
                line = b"[%d,true,1,2,10,%b" % (value % TOTAL, answer(value % TOTAL, self._attempt, ok=flag).line)
                with (self.folder / f"{self._attempt:08d}.answers").open("ab") as journal:
                    journal.write(line[:value])
            elif kind == "end":
                finished(self.folder, self.results)
            else:
                self._undead.append((self._attempt, self.results))
            self.begin()

    def _add(self, attempt: int, results: Results, number: int, *, ok: bool) -> None:
        if not results.answered[number]:
            results.add(answer(number, attempt, ok=ok))
            self.kept.setdefault(number, set()).add(f"attempt {attempt}")


@settings(max_examples=300, deadline=None)
@given(st.lists(EVENTS, max_size=40))
def test_whatever_crashes_and_resumes_every_request_has_one_line(events: list[tuple[str, int, bool]]) -> None:
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        told = Told(Path(name), stack)
        for kind, value, flag in events:
            told.happen(kind, value, flag=flag)
        last = told.begin()
        assert {number for number in range(TOTAL) if last.answered[number]} == set(told.kept), "asked no more"
        numbers, whose, cost = finished(told.folder, last)
        assert sorted(numbers) == list(range(TOTAL)), "each once"
        assert all(whose[number] in told.kept.get(number, {""}) for number in range(TOTAL))
        assert cost == 10 * len(told.kept), "and is counted once"


def test_a_line_torn_by_a_full_disk_does_not_swallow_the_next(tmp_path: Path) -> None:
    results = Results(tmp_path, 1, TOTAL)
    results.add(answer(0, 1, ok=True))
    file = results._file

    class Full:
        """A disk with room for ten bytes."""

        def write(self, raw: bytes) -> int:
            return file.write(raw[:10])

    results._file = Full()  # type: ignore[assignment]
    with pytest.raises(StoreFull, match="full"):
        results.add(answer(1, 1, ok=True))
    assert not results.answered[1]
    results._file = file
    for number in (1, 2):
        results.add(answer(number, 1, ok=True))
    results.close()
    again = Results(tmp_path, 2, TOTAL)
    assert list(again.answered) == [1, 1, 1, 0, 0, 0]
    assert again.tally.completed == 3
    again.close()


def test_lines_that_no_attempt_of_ours_wrote_are_no_answers(tmp_path: Path) -> None:
    strange = [
        b"",
        b"null",
        b"[]",
        b"[99,true,1,1,1,{}]",
        b"[-1,true,1,1,1,{}]",
        b'["0",true,1,1,1,{}]',
        b"\xff\xfe",
        b"{",
    ]
    (tmp_path / "00000001.answers").write_bytes(b"\n".join(strange) + b"\n[0,true,1,1,1,{}]")
    results = Results(tmp_path, 2, TOTAL)
    assert not any(results.answered)
    numbers, _, cost = finished(tmp_path, results)
    assert (sorted(numbers), cost) == (list(range(TOTAL)), 0)
    results.close()
