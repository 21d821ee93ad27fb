"""Kept answers on disk: over a restart, between processes, within their bound, and after the file broke."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from fairlead.errors import StoreError
from fairlead.gateway.cache.tally import Tallied
from fairlead.records import KeptAnswer, now_us
from fairlead.store.answers import Answers

HOUR = 3_600_000_000


def kept(name: str, **changes: object) -> KeptAnswer:
    values: dict[str, object] = {
        "key": name.encode(), "tenant": "t", "subject": "", "route": "support", "release": "r1", "operation": "chat",
        "writer": "w", "created": now_us(), "expires": now_us() + HOUR, "stream": False,
        "data": b"said " + name.encode(),
        "finish": "stop", "nanos": 7, "took_us": 9, "parts": {"messages": b"m"},
    }  # fmt: skip
    return KeptAnswer(**{**values, **changes})  # type: ignore[arg-type]


def write(answers: Answers, *lines: KeptAnswer, after: int = 0, generation: int = 1) -> int:
    return answers.exchange(list(lines), [], b"", after=after, generation=generation).last


def everything(answers: Answers) -> list[bytes]:
    return [answer.data for answer in answers.exchange([], [], b"", after=-1, generation=-1).answers]


def test_answers_counts_and_what_was_learnt_outlive_the_process(tmp_path: Path) -> None:
    first = Answers(tmp_path / "answers.db")
    line = Tallied(tenant="t", route="support", outcome="exact", requests=2, nanos=14, saved_us=5)
    first.exchange([kept("a")], [line], b"learnt", after=-1, generation=1)
    first.exchange([kept("b")], [line], b"learnt more", after=0, generation=1)
    first.close()
    again = Answers(tmp_path / "answers.db")
    told = again.exchange([], [], b"", after=-1, generation=-1)
    assert [answer.data for answer in told.answers] == [b"said a", b"said b"]
    assert (told.answers[0], told.bands) == (kept_like(told.answers[0]), b"learnt more")
    counted = again.stats()["counted"][0]
    assert (counted["requests"], counted["nanos"], counted["saved_us"]) == (4, 28, 10)
    again.close()


def kept_like(answer: KeptAnswer) -> KeptAnswer:
    return kept("a", created=answer.created, expires=answer.expires)


def test_each_reads_what_the_other_wrote_and_nothing_twice(tmp_path: Path) -> None:
    one, other = Answers(tmp_path / "answers.db"), Answers(tmp_path / "answers.db")
    seen = other.exchange([], [], b"", after=-1, generation=-1)
    write(one, kept("a"), kept("b"))
    told = other.exchange([], [], b"", after=seen.last, generation=seen.generation)
    assert [answer.data for answer in told.answers] == [b"said a", b"said b"]
    assert not other.exchange([], [], b"", after=told.last, generation=told.generation).answers
    for each in (one, other):
        each.close()


def test_of_answers_to_one_question_the_latest_counts_once(tmp_path: Path) -> None:
    one, other = Answers(tmp_path / "answers.db"), Answers(tmp_path / "answers.db")
    last = write(one, kept("a", data=b"first"), kept("b"))
    write(one, kept("a", data=b"second"), after=last)
    assert everything(other) == [b"said b", b"second"]
    assert [(row["answers"], one.count(tenant="t")) for row in one.stats()["kept"]] == [(2, 2)]
    assert one.purge() == 2
    assert everything(other) == []
    for each in (one, other):
        each.close()


def test_an_answer_written_by_another_process_is_read(tmp_path: Path) -> None:
    path = tmp_path / "answers.db"
    code = (
        "import sys; from pathlib import Path; from tests.store.test_answers import kept, write;"
        "from fairlead.store.answers import Answers; a = Answers(Path(sys.argv[1])); write(a, kept('there')); a.close()"
    )
    mine = Answers(path)
    seen = mine.exchange([], [], b"", after=-1, generation=-1)
    subprocess.run([sys.executable, "-c", code, str(path)], check=True, cwd=Path(__file__).parents[2])
    told = mine.exchange([], [], b"", after=seen.last, generation=seen.generation)
    assert [answer.data for answer in told.answers] == [b"said there"]
    mine.close()


def test_a_purge_reaches_who_has_it_open_and_leaves_no_bytes(tmp_path: Path) -> None:
    path = tmp_path / "answers.db"
    server, command = Answers(path), Answers(path)
    write(server, kept("secret-words"), kept("other", tenant="u", subject="user:1"))
    assert command.count(tenant="t") == 1
    assert command.purge(tenant="t") == 1
    # What it still holds, and what it had not yet written, was asked before the purge: neither comes back.
    told = server.exchange([kept("late secret-words")], [], b"", after=2, generation=1)
    assert (told.generation, [answer.data for answer in told.answers]) == (2, [b"said other"])
    assert command.purge(subject="user:1", learnt=True) == 1
    for each in (server, command):
        each.close()
    for file in tmp_path.iterdir():
        assert b"secret-words" not in file.read_bytes()


def test_old_answers_and_those_beyond_the_bound_go(tmp_path: Path) -> None:
    answers = Answers(tmp_path / "answers.db", limit=20_000)
    write(answers, kept("old", expires=now_us() - 1))
    for number in range(100):
        write(answers, kept(f"{number}", data=bytes([number]) * 500))
    left = everything(answers)
    assert 10 <= len(left) <= 20
    assert left[-1] == bytes([99]) * 500
    assert sum(row["bytes"] for row in answers.stats()["kept"]) <= 20_000
    answers.close()


@pytest.mark.parametrize("damage", [b"this is no database at all, not even a broken one", b""])
def test_a_broken_file_is_dropped_with_a_word(tmp_path: Path, damage: bytes) -> None:
    path = tmp_path / "answers.db"
    answers = Answers(path)
    write(answers, kept("a"))
    answers.close()
    path.write_bytes(damage * 100)
    again = Answers(path)
    assert everything(again) == []
    write(again, kept("b"))
    assert everything(again) == [b"said b"]
    assert len(again.words) == bool(damage)
    again.close()


def test_a_file_that_breaks_while_it_is_open_is_dropped_and_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "answers.db"
    answers = Answers(path)
    for number in range(200):
        write(answers, kept(str(number), data=b"x" * 4_000))
    answers.purge(tenant="nobody")
    answers.close()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 40_000)
    with pytest.raises(StoreError, match="were dropped"):
        everything(answers)
    write(answers, kept("c"))
    assert everything(answers) == [b"said c"]
    answers.close()


def test_a_file_of_another_version_is_dropped_with_a_word(tmp_path: Path) -> None:
    path = tmp_path / "answers.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    answers = Answers(path)
    assert everything(answers) == []
    assert "version 99" in answers.words[0]
    answers.close()
