"""Whatever happens to the process, the disk or a file: nothing confirmed is lost, nothing is there twice."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fairlead.records import Inference, new_id, now_us
from fairlead.store import Store
from fairlead.store.traces.index import Index
from fairlead.store.traces.journal import Journal, frame
from tests.store.store_helpers import DAY, FOREVER, SECOND, make_inference, make_traffic, run_script

WRITE = """
import os, sys, time
from pathlib import Path
from fairlead.store import Store
from tests.store.store_helpers import make_inference
name, rows, most = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
store = Store.open(Path(sys.argv[1]), flush_ms=5, segment_rows=rows)
number = 0
os.write(1, b"0\\n")
while number < most:
    for _ in range(20):
        store.traces.append(make_inference(id=f"{name}-{number}", input="x" * (number % 700)))
        number += 1
    store.traces.flush()
    time.sleep(0.001)
    os.write(1, b"%d\\n" % number)
time.sleep(60)
"""

ROLL = """
import os, sys
from pathlib import Path
from fairlead.store import Store
from fairlead.store.traces import roll
from tests.store.store_helpers import DAY, make_traffic
point, when, start, rolls = sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
seen = []
def step(name):
    seen.append(name)
    if seen.count(point) == when:
        os._exit(77)
store = Store.open(Path(sys.argv[1]))
for number in range(rolls):
    for record in make_traffic(60, since=start, span=DAY + DAY // 2, seed=7):
        store.traces.append(record)
    store.traces.flush()
    if number == rolls - 1:
        roll.step = step
    store.traces.roll()
"""


def _ids(store: Store) -> list[str]:
    return [record.id for record in store.traces.query(since=0, until=FOREVER, limit=1_000_000)]


def _confirmed(output: str) -> int:
    """The last number a writer printed whole."""
    return int(output[: output.rfind("\n")].rsplit("\n", 1)[-1])


def test_killed_at_any_moment_nothing_confirmed_is_lost(tmp_path: Path) -> None:
    chance = random.Random(5)
    confirmed: dict[str, int] = {}
    for round_ in range(10):
        name = f"r{round_}"
        # The writers start together, so that one often finds what the other left behind, and rolls while it writes.
        processes = {
            f"{name}{which}": run_script(WRITE, tmp_path, f"{name}{which}", chance.choice([50, 300, 100_000]), 4000)
            for which in range(2 if round_ % 3 == 0 else 1)
        }
        for process in processes.values():
            assert process.stdout is not None
            assert process.stdout.readline() == "0\n", process.communicate()
        read: dict[str, str] = {}
        for writer, process in processes.items():
            assert process.stdout is not None
            most = chance.randrange(0, 600, 20)
            read[writer] = "".join(process.stdout.readline() for _ in range(0, most, 20))
        time.sleep(chance.random() * 0.01)  # not always right after a line
        for process in processes.values():
            process.send_signal(signal.SIGKILL)
        for writer, process in processes.items():
            output, problems = process.communicate(timeout=120)
            assert process.returncode == -signal.SIGKILL, problems
            confirmed[writer] = _confirmed("0\n" + read[writer] + output)
        if round_ % 4 == 3:
            _check_confirmed(tmp_path, confirmed)
    _check_confirmed(tmp_path, confirmed)
    with Store.open(tmp_path) as store:
        store.traces.roll()
        assert list(tmp_path.glob("traces/journal/*.jsonl")) == []
    _check_confirmed(tmp_path, confirmed)
    assert sum(confirmed.values()) > 1000, "the rounds must have written something"


def _check_confirmed(directory: Path, confirmed: dict[str, int]) -> None:
    with Store.open(directory) as store:
        ids = _ids(store)
        counted = store.traces.status()["rows"]
    found = set(ids)
    assert len(ids) == len(found) == counted
    for writer, count in confirmed.items():
        missing = [number for number in range(count) if f"{writer}-{number}" not in found]
        assert missing == [], (writer, count)
        numbers = sorted(int(one.split("-")[1]) for one in found if one.startswith(f"{writer}-"))
        assert numbers == list(range(len(numbers))), "no gaps among those that were not confirmed either"


@pytest.mark.parametrize(
    ("point", "when"),
    [("verified", 1), ("written", 1), ("renamed", 1), ("renamed", 2), ("recorded", 1), ("removed", 1)],
)
def test_a_roll_may_end_at_any_step(tmp_path: Path, point: str, when: int) -> None:
    start = now_us() - 10 * DAY
    start -= start % DAY
    with run_script(ROLL, tmp_path, point, when, start, 1) as process:
        assert process.wait(60) == 77, process.communicate()
    _check_rolled(tmp_path, start, rolls=1)


@pytest.mark.parametrize(("point", "when"), [("merged", 1), ("renamed", 3), ("replaced", 1), ("merged", 2)])
def test_a_merge_may_end_at_any_step(tmp_path: Path, point: str, when: int) -> None:
    start = now_us() - 10 * DAY
    start -= start % DAY
    with run_script(ROLL, tmp_path, point, when, start, 5) as process:
        assert process.wait(60) == 77, process.communicate()
    _check_rolled(tmp_path, start, rolls=5)


def _check_rolled(directory: Path, start: int, *, rolls: int) -> None:
    """Every record is there ``rolls`` times (each process wrote the same ones), before and after tidying up."""
    times = sorted([one.time for one in make_traffic(60, since=start, span=DAY + DAY // 2, seed=7)] * rolls)
    with Store.open(directory) as store:
        for _ in range(2):
            found = store.traces.query(since=0, until=FOREVER, limit=10_000, order="asc")
            assert [one.time for one in found] == times
            assert len({one.id for one in found}) == len(times)
            store.traces.roll()
        assert store.traces.status()["journals"] == 0
        known = {segment.path for segment in store.traces._manifest.of_state("live")}
        assert store.traces._manifest.of_state("doomed") == []
    files = {str(path.relative_to(directory / "traces")) for path in directory.glob("traces/**/*.parquet")}
    assert files == known
    assert list(directory.glob("traces/journal/*")) == []
    assert not (directory / "traces" / "tmp").exists()


def test_a_crash_between_roll_and_database_loss(tmp_path: Path) -> None:
    """Two files of the same rows, and no database that says which: one of them is taken in."""
    start = now_us() - 10 * DAY
    start -= start % DAY
    with run_script(ROLL, tmp_path, "renamed", 2, start, 1) as process:
        assert process.wait(60) == 77, process.communicate()
    for path in tmp_path.glob("fairlead.db*"):
        path.unlink()
    _check_rolled(tmp_path, start, rolls=1)
    for path in tmp_path.glob("fairlead.db*"):
        path.unlink()
    _check_rolled(tmp_path, start, rolls=1)


def test_many_processes_write_and_one_reads(tmp_path: Path) -> None:
    names = ("one", "two", "three")
    processes = {name: run_script(WRITE, tmp_path, name, 300, 1000) for name in names}
    for process in processes.values():
        assert process.stdout is not None
        assert process.stdout.readline() == "0\n", process.communicate()
        assert process.stdout.readline() == "20\n", process.communicate()
    counts: list[int] = []
    with Store.open(tmp_path, segment_rows=50) as store:
        mine = [make_inference(id=f"mine-{number}") for number in range(200)]
        for number, record in enumerate(mine):
            store.traces.append(record)
            if number % 10 == 0:
                ids = _ids(store)
                assert len(set(ids)) == len(ids)
                counts.append(len(ids))
        for process in processes.values():
            process.send_signal(signal.SIGTERM)
        confirmed = {
            name: _confirmed("20\n" + process.communicate(timeout=120)[0]) for name, process in processes.items()
        }
    assert counts == sorted(counts), "what was seen once stays"
    _check_confirmed(tmp_path, {**confirmed, "mine": 200})
    assert all(count > 0 for count in confirmed.values())


def test_a_torn_end_is_cut_off_kept_and_reported(tmp_path: Path) -> None:
    records = [make_inference(input=f"n{number}") for number in range(5)]
    with Store.open(tmp_path) as store:
        for record in records:
            store.traces.append(record)
    (path,) = tmp_path.glob("traces/journal/*.jsonl")
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    with Store.open(tmp_path) as store:
        assert len(store.recovered) == 1
        assert "written only in part" in store.recovered[0]
        assert "4 whole records" in store.recovered[0]
        assert store.traces.status()["recovered"] == store.recovered
        new = make_inference()
        store.traces.append(new)
        assert store.traces.query(since=0, until=FOREVER, order="asc") == [*records[:4], new]
    (aside,) = tmp_path.glob("traces/journal/*.torn")
    assert aside.read_bytes() == whole.splitlines(keepends=True)[4][:-40]
    with Store.open(tmp_path) as store:
        assert store.recovered == []


@pytest.mark.parametrize("last", [b"n4", b'"}\n'])
def test_a_damaged_end_is_told_once(tmp_path: Path, last: bytes) -> None:
    records = [make_inference(input=f"n{number}") for number in range(5)]
    with Store.open(tmp_path) as store:
        for record in records:
            store.traces.append(record)
    (path,) = tmp_path.glob("traces/journal/*.jsonl")
    content = bytearray(path.read_bytes())
    content[content.rindex(last) if last == b"n4" else -1] ^= 1
    path.write_bytes(content)
    left = records[:4] if last == b"n4" else records
    with Store.open(tmp_path) as store:
        (told,) = store.recovered
        assert "its end was damaged" in told
        assert f"the {len(left)} whole records" in told
        assert store.traces.query(since=0, until=FOREVER, order="asc") == left
    with Store.open(tmp_path) as store:
        assert store.recovered == []
        new = make_inference()
        store.traces.append(new)
        assert store.traces.query(since=0, until=FOREVER, order="asc") == [*left, new]
        assert store.traces.roll() == len(left) + 1
        assert store.recovered == []
    assert len(list(tmp_path.glob("traces/journal/*.torn"))) == 1


def test_a_reader_sees_what_follows_a_damaged_end(tmp_path: Path) -> None:
    path = tmp_path / f"{new_id()}.jsonl"
    first, lost, second = (frame(msgspec.json.encode(make_inference())) for _ in range(3))
    path.write_bytes(first + lost[:60] + b"?" + lost[61:])
    index = Index(path)
    index.refresh()
    journal = Journal.take(path)
    assert journal is not None
    assert journal.mend()
    journal.write(memoryview(second))
    journal.close()
    index.refresh()
    assert [index.record(row) for row in range(2)] == [
        msgspec.json.decode(one, type=Inference) for one in (first, second)
    ]


def test_a_damaged_middle_is_left_out_kept_and_reported(tmp_path: Path) -> None:
    records = [make_inference(input=f"n{number}") for number in range(5)]
    with Store.open(tmp_path) as store:
        for record in records:
            store.traces.append(record)
    (path,) = tmp_path.glob("traces/journal/*.jsonl")
    content = bytearray(path.read_bytes())
    content[content.index(b"n2")] ^= 1
    path.write_bytes(content)
    left = records[:2] + records[3:]
    with Store.open(tmp_path) as store:
        assert store.traces.query(since=0, until=FOREVER, order="asc") == left
        assert store.traces.roll() == 4
        assert store.traces.query(since=0, until=FOREVER, order="asc") == left
        assert any("1 damaged place (" in sentence for sentence in store.recovered)
    (aside,) = tmp_path.glob("traces/journal/*.torn")
    assert aside.read_bytes() in content


@pytest.mark.parametrize("seed", range(6))
def test_a_damaged_segment_is_moved_aside_and_the_others_answer(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    start = now_us() - 6 * DAY
    with Store.open(tmp_path) as store:
        parts = [make_traffic(300, since=start + number * DAY, span=SECOND, seed=number) for number in range(4)]
        for part in parts:
            for record in part:
                store.traces.append(record)
            store.traces.roll()
        segments = store.traces._manifest.between(0, FOREVER)
        victim = segments[seed % 4]
        path = tmp_path / "traces" / victim.path
        _damage(path, chance, kind=("flip", "cut", "empty", "noise", "gone", "footer")[seed])
    with Store.open(tmp_path) as store:
        assert len(store.traces.verify()) == 1
        expected = [one for part in parts for one in part if not victim.min_time <= one.time <= victim.max_time]
        assert len(expected) == 900
        assert store.traces.query(since=0, until=FOREVER, limit=5000, order="asc") == expected
        assert sum(one["count"] for one in store.traces.summary(since=0, until=FOREVER, bucket_us=DAY)) == 900
        (lost,) = store.traces.status()["quarantined"]
        assert (lost["rows"], lost["since"], lost["until"]) == (300, victim.min_time, victim.max_time)
        assert "300 records" in store.recovered[0]
        assert store.traces.verify() == []
    assert (tmp_path / "traces" / "quarantine" / path.name).exists() == (seed != 4)


@pytest.mark.parametrize("kind", ["cut", "empty", "noise", "gone", "footer", "pages"])
@pytest.mark.parametrize("ask", ["query", "get", "summary"])
def test_a_question_survives_a_damaged_segment(tmp_path: Path, kind: str, ask: str) -> None:
    start = now_us() - 3 * DAY
    with Store.open(tmp_path) as store:
        old, new = (make_traffic(200, since=start + day * DAY, span=SECOND, seed=day) for day in range(2))
        for part in (old, new):
            for record in part:
                store.traces.append(record)
            store.traces.roll()
        segment = store.traces._manifest.between(0, FOREVER)[0]
        _damage(tmp_path / "traces" / segment.path, random.Random(3), kind=kind)
        found: Any = None
        if ask == "query":
            found = store.traces.query(since=0, until=FOREVER, limit=1000, order="asc")
        elif ask == "get":
            found = [store.traces.get(old[7].id), store.traces.get(new[7].id)]
        else:
            found = sum(one["count"] for one in store.traces.summary(since=0, until=FOREVER, bucket_us=DAY))
        assert found == {"query": new, "get": [None, new[7]], "summary": 200}[ask]
        assert len(store.traces.status()["quarantined"]) == 1


def _damage(path: Path, chance: random.Random, *, kind: str) -> None:
    content = bytearray(path.read_bytes())
    if kind == "flip":
        content[chance.randrange(100, len(content) // 2)] ^= 0x55
    elif kind == "cut":
        del content[len(content) // 2 :]
    elif kind == "empty":
        content.clear()
    elif kind == "noise":
        content = bytearray(chance.randbytes(len(content)))
    elif kind == "footer":
        content[-200:-8] = chance.randbytes(192)
    elif kind == "pages":
        content[4 : len(content) // 2] = chance.randbytes(len(content) // 2 - 4)
    path.write_bytes(content)
    if kind == "gone":
        path.unlink()


def test_a_full_disk_keeps_records_waiting_and_loses_none_that_was_taken(tmp_path: Path) -> None:
    script = """
import resource, sys, time
from pathlib import Path
from fairlead.errors import StoreFull
from fairlead.store import Store
from tests.store.store_helpers import FOREVER, make_inference
store = Store.open(Path(sys.argv[1]), flush_ms=5, queue=400)
taken = []
def append(count):
    for _ in range(count):
        record = make_inference(input="x" * 900)
        if store.traces.append(record):
            taken.append(record)
append(100)
store.traces.flush()
limit = resource.getrlimit(resource.RLIMIT_FSIZE)
# In the middle of a line: the rest of it must follow later, at the same place.
resource.setrlimit(resource.RLIMIT_FSIZE, (store.traces.status()["bytes"] + 40_777, limit[1]))
append(300)
while not store.traces.status()["error"]:
    time.sleep(0.01)
try:
    store.traces.flush(1.0)
except StoreFull as error:
    assert "File too large" in str(error), error
else:
    raise SystemExit("the limit did not hold")
status = store.traces.status()
assert "File too large" in status["error"], status
assert status["waiting"] > 0
assert 100 < status["rows"] < 200, status
assert len(store.traces.query(since=0, until=FOREVER, limit=1000)) == status["rows"]
append(1000)
assert store.traces.dropped > 0
assert len(taken) + store.traces.dropped == 1400
if sys.argv[2] == "die":
    print(status["rows"], flush=True)
    import os
    os._exit(77)
resource.setrlimit(resource.RLIMIT_FSIZE, limit)
store.traces.flush(60)
assert store.traces.status()["error"] == ""
assert store.traces.query(since=0, until=FOREVER, limit=2000, order="asc") == taken
append(10)
store.traces.flush()
store.close()
with Store.open(Path(sys.argv[1])) as store:
    assert store.recovered == []
    assert store.traces.query(since=0, until=FOREVER, limit=2000, order="asc") == taken
    store.traces.roll()
    assert store.traces.query(since=0, until=FOREVER, limit=2000, order="asc") == taken
"""
    with run_script(script, tmp_path / "a", "live") as process:
        output = process.communicate(timeout=120)
    assert process.returncode == 0, output
    with run_script(script, tmp_path / "b", "die") as process:
        output = process.communicate(timeout=120)
    assert process.returncode == 77, output
    with Store.open(tmp_path / "b") as store:
        assert len(store.recovered) == 1
        assert len(_ids(store)) == int(output[0])


def test_a_roll_that_finds_the_disk_full_changes_nothing(tmp_path: Path) -> None:
    script = """
import os, resource, sys
from pathlib import Path
from fairlead.errors import StoreError
from fairlead.store import Store
from tests.store.store_helpers import FOREVER, make_inference
store = Store.open(Path(sys.argv[1]))
records = [make_inference(input=os.urandom(2000).hex()) for _ in range(400)]
for record in records:
    store.traces.append(record)
store.traces.flush()
limit = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limit[1]))
try:
    store.traces.roll()
except StoreError as error:
    assert "rolled" in str(error), error
else:
    raise SystemExit("the limit did not hold")
assert store.traces.query(since=0, until=FOREVER, limit=1000, order="asc") == records
resource.setrlimit(resource.RLIMIT_FSIZE, limit)
store.traces.roll()
assert store.traces.status()["journals"] == 0
assert store.traces.query(since=0, until=FOREVER, limit=1000, order="asc") == records
store.close()
"""
    with run_script(script, tmp_path) as process:
        output = process.communicate(timeout=120)
    assert process.returncode == 0, output


def test_a_process_that_forgets_to_close_loses_nothing(tmp_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from fairlead.store import Store
from tests.store.store_helpers import make_inference
store = Store.open(Path(sys.argv[1]), flush_ms=60_000)
for number in range(50):
    store.traces.append(make_inference(id=f"n{number}"))
"""
    with run_script(script, tmp_path) as process:
        output = process.communicate(timeout=120)
    assert process.returncode == 0, output
    with Store.open(tmp_path) as store:
        assert sorted(_ids(store)) == sorted(f"n{number}" for number in range(50))


def test_strange_files_among_the_journals_are_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "traces" / "journal"
    folder.mkdir(parents=True)
    for name in ("x'.jsonl", "notes.txt", ".hidden", "00000000-0000-7000-8000-00000000000g.jsonl"):
        (folder / name).write_bytes(b"\xff\x00 nothing of ours")
    stray = tmp_path / "traces" / "day=2026-01-01" / "stray.parquet"
    stray.parent.mkdir()
    stray.write_bytes(b"no parquet")
    record = make_inference()
    with Store.open(tmp_path) as store:
        store.traces.append(record)
        assert store.traces.roll() == 1
        assert store.traces.query(since=0, until=FOREVER) == [record]
        assert any("stray.parquet" in sentence for sentence in store.recovered)
    assert sorted(os.listdir(folder)) == sorted(
        ["x'.jsonl", "notes.txt", ".hidden", "00000000-0000-7000-8000-00000000000g.jsonl"]
    )
    assert stray.exists()


def test_reading_needs_no_writing(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        record: Inference = make_inference()
        store.traces.append(record)
    before = sorted(tmp_path.glob("traces/**/*"))
    with Store.open(tmp_path) as store:
        assert store.traces.get(record.id) == record
        assert store.traces.query(since=0, until=FOREVER, limit=0) == []
        assert store.traces.query(since=0, until=FOREVER, limit=-1) == []
    assert sorted(tmp_path.glob("traces/**/*")) == before
