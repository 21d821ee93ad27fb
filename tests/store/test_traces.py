"""Traces: what is appended is found, in the journal, in segments and while one becomes the other."""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fairlead.errors import RangeReversed
from fairlead.records import Inference, new_id, now_us
from fairlead.store import Store
from tests.store.store_helpers import COLUMNS, DAY, FOREVER, HOUR, SECOND, make_inference, make_traffic

START = 1_790_000_000 * SECOND


@pytest.fixture(scope="module")
def traffic() -> list[Inference]:
    """Five days; what the module's store holds."""
    return make_traffic(1500, since=START, span=5 * DAY)


@pytest.fixture(scope="module")
def full(traffic: list[Inference], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """The traffic: most of it in segments of several rolls, the rest in journals, one of them left behind."""
    directory = tmp_path_factory.mktemp("full")
    parts = [traffic[0:500:2], traffic[1:500:2], traffic[500:900], traffic[900:1200]]
    with Store.open(directory) as first:
        for part in parts:
            for record in part:
                assert first.traces.append(record)
            first.traces.roll()
        for record in traffic[1200:1300]:
            first.traces.append(record)
    with Store.open(directory) as second, Store.open(directory) as third:
        for record in traffic[1300:1400]:
            second.traces.append(record)
        second.traces.flush()
        for record in traffic[1400:]:
            third.traces.append(record)
        yield third


def _expected(
    records: list[Inference], *, since: int, until: int, order: str = "desc", **equal: Any
) -> list[Inference]:
    chosen = [
        one
        for one in records
        if since <= one.time < until
        and all(value is None or getattr(one, name) == value for name, value in equal.items())
    ]
    return sorted(chosen, key=lambda one: (one.time, one.id), reverse=order == "desc")


def test_everything_is_there_once(full: Store, traffic: list[Inference]) -> None:
    assert full.traces.query(since=0, until=FOREVER, limit=5000, order="asc") == traffic
    status = full.traces.status()
    assert status["rows"] == len(traffic)
    assert status["segments"] >= 5
    assert status["journals"] >= 2
    assert (status["oldest"], status["newest"]) == (traffic[0].time, traffic[-1].time)
    assert (status["dropped"], status["error"], status["quarantined"]) == (0, "", [])


@settings(max_examples=25, deadline=None)
@given(
    since=st.integers(-1, 5 * 24),
    hours=st.integers(0, 130),
    tenant=st.none() | st.sampled_from(["default", "other", "none"]),
    variant=st.none() | st.sampled_from(["mini", "hosted", "' OR 1=1 --"]),
    status=st.none() | st.sampled_from([200, 500]),
    operation=st.none() | st.just("assistant"),
    conversation=st.none() | st.sampled_from(["c10", "c450", "\0"]),
    limit=st.integers(1, 60),
    order=st.sampled_from(["asc", "desc"]),
)
def test_a_query_finds_what_a_list_would(
    full: Store, traffic: list[Inference], since: int, hours: int, limit: int, order: Any, **equal: Any
) -> None:
    begin, end = START + since * HOUR, START + (since + hours) * HOUR
    expected = _expected(traffic, since=begin, until=end, order=order, **equal)
    found = full.traces.query(since=begin, until=end, limit=limit, order=order, **equal)
    assert found == expected[:limit]
    if found:
        rest = full.traces.query(since=begin, until=end, limit=limit, order=order, before=found[-1].id, **equal)
        assert rest == expected[limit : 2 * limit]


def test_pages_meet_without_gap_where_times_are_equal(store: Store) -> None:
    records = [make_inference(time=START + number // 7) for number in range(60)]
    for number, record in enumerate(records):
        store.traces.append(record)
        if number in (20, 40):
            store.traces.roll()
    for order in ("asc", "desc"):
        seen: list[Inference] = []
        while page := store.traces.query(
            since=0,
            until=FOREVER,
            limit=5,
            order=order,
            before=seen[-1].id if seen else None,
        ):
            seen += page
        assert seen == _expected(records, since=0, until=FOREVER, order=order)


def test_a_record_is_found_by_its_id_wherever_it_lies(full: Store, traffic: list[Inference]) -> None:
    for record in traffic[::97]:
        assert full.traces.get(record.id) == record
    assert full.traces.get(new_id()) is None
    assert full.traces.get("") is None
    assert full.traces.get("'; DROP TABLE x; --\0é") is None


@pytest.mark.parametrize("tenant", [None, "default", "nobody"])
def test_a_summary_is_what_the_rows_say(full: Store, traffic: list[Inference], tenant: str | None) -> None:
    since, until, bucket = START + 7 * HOUR, START + 4 * DAY + 11 * HOUR, 6 * HOUR
    found = full.traces.summary(since=since, until=until, bucket_us=bucket, tenant=tenant)
    rows = _expected(traffic, since=since, until=until, order="asc", tenant=tenant)
    assert [one["time"] for one in found] == sorted({one.time // bucket * bucket for one in rows})
    for line in found:
        mine = [one for one in rows if one.time // bucket * bucket == line["time"]]
        first = [one.first_token_us for one in mine if one.first_token_us is not None]
        costs = [one.cost for one in mine if one.cost is not None]
        assert line["count"] == len(mine)
        assert line["errors"] == sum(one.status >= 400 for one in mine)
        assert line["p50_total_us"] == pytest.approx(statistics.median(one.total_us for one in mine))
        assert line["p50_first_token_us"] == pytest.approx(statistics.median(first))
        assert line["input_tokens"] == sum(one.input_tokens for one in mine)
        assert line["output_tokens"] == sum(one.output_tokens for one in mine)
        assert line["cost"] == sum(costs)
        assert line["without_cost"] == len(mine) - len(costs)
        assert line["p95_total_us"] >= line["p50_total_us"]


def test_an_unknown_cost_is_not_free(store: Store) -> None:
    store.traces.append(make_inference(time=START, cost=None, first_token_us=None))
    for _ in range(2):
        (line,) = store.traces.summary(since=0, until=FOREVER, bucket_us=HOUR)
        assert (line["cost"], line["without_cost"], line["p95_first_token_us"]) == (None, 1, None)
        store.traces.roll()


_TEXT = st.text(st.characters(codec="utf-8"), max_size=60)
_COUNT = st.integers(0, (1 << 63) - 1)
_RECORDS = st.builds(
    Inference,
    id=st.uuids(version=4).map(str) | _TEXT.filter(bool),
    time=st.integers(-(1 << 61), (1 << 62) - 1),
    **dict.fromkeys((*COLUMNS, "conversation", "parent", "request", "key", "variant", "error", "finish"), _TEXT),
    operation=st.sampled_from(["chat", "completion", "embedding", "assistant"]),
    stream=st.booleans(),
    status=st.integers(0, 999),
    input_tokens=_COUNT,
    cost=st.none() | st.integers(-(1 << 61), 1 << 61),
    first_token_us=st.none() | _COUNT,
    total_us=_COUNT,
    steps=st.dictionaries(_TEXT, _COUNT, max_size=3),
    input=_TEXT | st.integers(1, 5).map(lambda size: '\0é"\\\n' * 1000 * size),
    output=_TEXT,
    tags=st.dictionaries(_TEXT, _TEXT, max_size=3),
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(_RECORDS, min_size=1, max_size=6, unique_by=lambda one: one.id))
def test_any_record_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, records: list[Inference]) -> None:
    with Store.open(tmp_path_factory.mktemp("any")) as store:
        for record in records:
            assert store.traces.append(record)
        expected = _expected(records, since=-(1 << 62), until=FOREVER)
        for _ in range(2):
            assert store.traces.query(since=-(1 << 62), until=FOREVER) == expected
            assert store.traces.get(records[0].id) == records[0]
            store.traces.roll()
        assert store.recovered == []


def test_a_record_of_many_megabytes(store: Store) -> None:
    huge = make_inference(input="ä" * 12_000_000, output="\0" * 3_000_000)
    small = make_inference()
    for record in (huge, small):
        store.traces.append(record)
    assert store.traces.get(huge.id) == huge
    assert store.traces.roll() == 2
    assert store.traces.get(huge.id) == huge
    assert store.traces.query(since=0, until=FOREVER) == [small, huge]


def test_text_no_file_can_hold_is_written_without_it(store: Store) -> None:
    broken = make_inference(input="half \ud83d pair", tags={"\udfff": "x"})
    store.traces.append(broken)
    kept = store.traces.get(broken.id)
    assert kept is not None
    assert (kept.input, kept.tags) == ("half ? pair", {"?": "x"})


def test_a_record_that_is_none_hurts_nobody(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    odd = make_inference(steps={"call": object()})
    wrong = make_inference(status="five hundred", input_tokens=1 << 70)
    good = make_inference()
    for record in (odd, wrong, good):
        assert store.traces.append(record)
    assert store.traces.query(since=0, until=FOREVER) == [good]
    assert store.traces.dropped >= 1
    assert "dropped" in caplog.text
    store.traces.roll()
    assert store.traces.query(since=0, until=FOREVER) == [good]
    store.close()


def test_a_number_too_big_for_a_column_is_cut(store: Store) -> None:
    big = make_inference(input_tokens=(1 << 64) - 1, total_us=7)
    store.traces.append(big)
    assert store.traces.roll() == 1
    kept = store.traces.get(big.id)
    assert kept == msgspec.structs.replace(big, input_tokens=(1 << 63) - 1)


def test_a_full_queue_counts_what_it_drops(tmp_path: Path) -> None:
    with Store.open(tmp_path, queue=50, flush_ms=5000) as store:
        taken = sum(store.traces.append(make_inference()) for _ in range(5000))
        assert taken + store.traces.dropped == 5000
        store.traces.flush()
        assert store.traces.status()["rows"] == taken


def test_a_range_that_ends_before_it_begins_is_refused(store: Store) -> None:
    since, until = 1_800_000_000 * SECOND, 1_700_000_000 * SECOND
    with pytest.raises(RangeReversed, match="2027-01-15 08:00:00 UTC until 2023-11-14 22:13:20 UTC"):
        store.traces.query(since=since, until=until)
    with pytest.raises(RangeReversed):
        store.traces.summary(since=since, until=until, bucket_us=SECOND)
    assert store.traces.query(since=since, until=since) == []


def test_records_reach_the_disk_by_themselves(store: Store, tmp_path: Path) -> None:
    record = make_inference()
    store.traces.append(record)
    deadline = time.monotonic() + 60
    while not any(record.id.encode() in path.read_bytes() for path in tmp_path.glob("data/traces/journal/*.jsonl")):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_journal_becomes_a_segment_by_size_and_by_age(tmp_path: Path) -> None:
    for rows, age in ((40, 600.0), (100_000, 0.3)):
        with Store.open(tmp_path / str(rows), flush_ms=10, segment_rows=rows, segment_s=age) as store:
            records = [make_inference() for _ in range(100)]
            for record in records:
                store.traces.append(record)
            deadline = time.monotonic() + 60
            while store.traces.status()["segments"] == 0:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            assert store.traces.query(since=0, until=FOREVER, limit=200, order="asc") == records


def test_the_journal_of_an_idle_server_becomes_a_segment_by_age(tmp_path: Path) -> None:
    with Store.open(tmp_path, flush_ms=10, segment_s=0.3) as store:
        records = [make_inference() for _ in range(3)]
        for record in records:
            store.traces.append(record)
        deadline = time.monotonic() + 60
        while not any(tmp_path.glob("traces/day=*/*.parquet")):  # nobody asks the store anything meanwhile
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert store.traces.query(since=0, until=FOREVER, order="asc") == records


def test_threads_append_and_read_while_it_rolls(tmp_path: Path) -> None:
    with Store.open(tmp_path, flush_ms=5, segment_rows=150, segment_s=600) as store:
        appended: list[Inference] = []
        problems: list[str] = []
        done = threading.Event()

        def append() -> None:
            for _ in range(400):
                record = make_inference()
                assert store.traces.append(record)
                appended.append(record)
                time.sleep(0.001)

        def read() -> None:
            while not done.is_set():
                certain = len(appended)
                found = store.traces.query(since=0, until=FOREVER, limit=5000)
                if len(found) < certain or len({one.id for one in found}) != len(found):
                    problems.append(f"{len(found)} found, {certain} appended before")

        writers = [threading.Thread(target=append) for _ in range(2)]
        reader = threading.Thread(target=read)
        for thread in (*writers, reader):
            thread.start()
        for thread in writers:
            thread.join()
        done.set()
        reader.join()
        assert problems == []
        store.traces.roll()
        found = store.traces.query(since=0, until=FOREVER, limit=5000)
        assert {one.id for one in found} == {one.id for one in appended}
        assert len(found) == 800


def test_every_step_of_a_roll_shows_each_record_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    records = make_traffic(90, since=START, span=2 * DAY)
    for record in records:
        store.traces.append(record)
    store.traces.flush()
    seen: list[str] = []

    def look(step: str) -> None:
        seen.append(step)
        assert store.traces.query(since=0, until=FOREVER, order="asc") == records
        assert store.traces.status()["rows"] == len(records)

    monkeypatch.setattr("fairlead.store.traces.roll.step", look)
    store.traces.roll()
    assert set(seen) == {"verified", "written", "renamed", "recorded", "removed"}


def test_short_processes_leave_one_journal(tmp_path: Path) -> None:
    records = []
    for _ in range(5):
        with Store.open(tmp_path) as store:
            records.append(make_inference())
            store.traces.append(records[-1])
    with Store.open(tmp_path) as store:
        assert store.traces.status()["journals"] == 1
        assert store.traces.query(since=0, until=FOREVER, order="asc") == records


def test_small_segments_of_past_days_are_merged(tmp_path: Path) -> None:
    with Store.open(tmp_path) as store:
        records = []
        for _ in range(6):
            part = make_traffic(30, since=START, span=2 * DAY)
            records += part
            for record in part:
                store.traces.append(record)
            store.traces.roll()
        store.traces.roll()
        assert store.traces.status()["segments"] == 2 * 3, "per day: one merged of five, one newer"
        assert len(list(tmp_path.glob("traces/day=*/*.parquet"))) == 2 * 3
        assert store.traces.query(since=0, until=FOREVER, limit=500) == _expected(records, since=0, until=FOREVER)


def test_expired_traces_leave_no_bytes(tmp_path: Path) -> None:
    now = now_us()
    old, new = "GEHEIM" + new_id(), "BLEIBT" + new_id()
    with Store.open(tmp_path) as store:
        for number in range(300):
            time_, mark = (now - 40 * DAY - number, old) if number % 2 else (now - 3 * HOUR - number, new)
            store.traces.append(make_inference(time=time_, subject=mark, input=mark, tags={"x": mark}))
            if number in (100, 200):
                store.traces.roll()
        mixed = [make_inference(time=now - 31 * DAY + number * 3 * HOUR, subject=f"s{number}") for number in range(16)]
        for record in mixed:
            store.traces.append(record)
        limit = now - 30 * DAY
        assert store.traces.expire(limit) == 150 + sum(one.time < limit for one in mixed)
        left = store.traces.query(since=0, until=FOREVER, limit=1000)
        assert {one.input for one in left} == {new, ""}
        assert [one for one in left if not one.input] == [one for one in mixed[::-1] if one.time >= limit]
        assert store.traces.expire(limit) == 0
    assert all(old.encode() not in path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())


def test_older_segments_without_a_column_are_still_read(store: Store, tmp_path: Path) -> None:
    import duckdb

    record = make_inference(tags={"a": "b"}, finish="stop")
    store.traces.append(record)
    store.traces.roll()
    (path,) = (tmp_path / "data" / "traces").glob("day=*/*.parquet")
    changed = path.with_suffix(".new")
    with duckdb.connect() as duck:
        duck.execute(
            "COPY (SELECT * EXCLUDE (tags, finish) FROM read_parquet($1)) TO $2 (FORMAT parquet)",
            [str(path), str(changed)],
        )
    changed.replace(path)
    with store._database.write() as connection:
        connection.exec_driver_sql("UPDATE segments SET format = 0")
    new = make_inference(tags={"c": "d"})
    store.traces.append(new)
    store.traces.roll()
    expected = msgspec.structs.replace(record, tags={}, finish="")
    assert store.traces.query(since=0, until=FOREVER) == [new, expected]
    assert store.traces.get(record.id) == expected
