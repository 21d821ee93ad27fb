"""The parts without HTTP: limits, ranges, charts, exports, turns, waterfalls, words."""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fairlead.console import charts, export, ranges, view, waterfall
from fairlead.console.figures import KEEP_S, Figures, Summaries
from fairlead.console.limits import OpenStreams, TokenBuckets, client_group
from fairlead.console.turns import Turn, Turns
from fairlead.errors import ConversationClosed, TurnRunning, UpstreamUnreachable
from fairlead.readable import UNREADABLE
from fairlead.records import Inference

NOW = 1_795_392_000_000_000


# --- limits -----------------------------------------------------------------------------------------------------


@given(st.lists(st.floats(0, 30), max_size=60), st.integers(1, 120), st.integers(1, 20))
def test_a_bucket_never_gives_more_than_its_burst_and_its_rate(
    pauses: list[float], per_minute: int, burst: int
) -> None:
    now = 0.0
    buckets = TokenBuckets(per_minute=per_minute, burst=burst, clock=lambda: now)
    given_out = 0
    for pause in pauses:
        now += pause
        wait = buckets.take("a")
        given_out += wait == 0
        assert wait <= 60 / per_minute + 1e-9
    assert given_out <= burst + now * per_minute / 60 + 1e-6


def test_a_bucket_gives_again_after_the_wait_it_named_and_forgets_the_oldest_client() -> None:
    now = 100.0
    buckets = TokenBuckets(per_minute=6, burst=1, clock=lambda: now, max_clients=3)
    assert buckets.take("a") == 0
    wait = buckets.take("a")
    assert wait == pytest.approx(10)
    now += wait
    assert buckets.take("a") == 0
    for client in "bcdefg":
        buckets.take(client)
    assert len(buckets) == 3


def test_streams_are_counted_per_client_and_leave_nothing_behind() -> None:
    streams = OpenStreams(most=2)
    assert [streams.enter("a") for _ in range(3)] == [True, True, False]
    assert streams.enter("b")
    for client in ("a", "a", "b"):
        streams.leave(client)
    assert len(streams) == 0
    assert streams.enter("a")


@pytest.mark.parametrize(
    ("address", "group"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("fe80::1%eth0", "fe80::/64"),
        ("testclient", "testclient"),
        ("", ""),
    ],
)
def test_clients_are_grouped_by_who_could_be_behind_them(address: str, group: str) -> None:
    assert client_group(address) == group


# --- ranges -----------------------------------------------------------------------------------------------------


@given(st.dictionaries(st.sampled_from(["range", "since", "until"]), st.text(max_size=30)))
def test_any_query_gives_a_range_that_says_itself_again(query: dict[str, str]) -> None:
    period = ranges.parse(query, NOW)
    assert period.since < period.until
    assert period.until - period.since <= (ranges.LONGEST_S + 1) * ranges.SECOND
    again = ranges.parse(period.params, NOW)
    assert again.note == ""
    assert abs(again.since - period.since) <= ranges.SECOND
    assert (period.until - period.since) / period.bucket <= ranges.MOST_BUCKETS + 1
    assert period.words


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({}, "the last 24 hours"),
        ({"range": "1h"}, "the last hour"),
        ({"range": "90m"}, "the last 90 minutes"),
        ({"since": "2026-11-22T10:00", "until": "2026-11-22T12:00"}, "2026-11-22T10:00 to 2026-11-22T12:00 UTC"),
    ],
)
def test_ranges_in_words(query: dict[str, str], words: str) -> None:
    assert ranges.parse(query, NOW).words == words


@pytest.mark.parametrize("query", [{"range": "5x"}, {"range": "0h"}, {"range": "999999d"}, {"since": "yesterday"}])
def test_a_range_that_cannot_be_read_says_so_and_shows_a_day(query: dict[str, str]) -> None:
    period = ranges.parse(query, NOW)
    assert "showing 24 hours" in period.note
    assert period.name == "24h"


# --- charts -----------------------------------------------------------------------------------------------------

values = st.one_of(st.none(), st.floats(0, 1e9, allow_nan=False))


@given(st.lists(st.tuples(st.integers(0, 100), values, values), max_size=40), st.integers(1, 86_400 * 400))
@example([(1, 5e-324, None)], 60)
def test_charts_stay_inside_their_frame(data: list[tuple[int, float | None, float | None]], seconds: int) -> None:
    since, until = NOW, NOW + seconds * 1_000_000
    bucket = max(1, (until - since) // 50)
    points = [
        charts.Point(
            time=since + at * (until - since) // 101, value=value, high=None if high is None else high + (value or 0)
        )
        for at, value, high in sorted(data, key=lambda row: row[0])
    ]
    drawn = charts.bar_chart("t", "s", points, since=since, until=until, bucket=bucket, show=str)
    for bar in drawn.bars:
        assert 0 <= bar.x <= 100.2
        assert 0 <= bar.y <= charts.HEIGHT
        assert bar.y + bar.height == pytest.approx(charts.HEIGHT, abs=0.05)
    band = charts.band_chart(
        "t", "s", points, since=since, until=until, bucket=bucket, show=str, names=("a", "b"), releases=[(since, "r")]
    )
    assert all(0 <= mark.at <= charts.HEIGHT for mark in band.names + band.grid)
    assert all(0 <= mark.at <= 100 for mark in band.times + band.releases)
    assert len(band.times) <= charts.MOST_TICKS


@given(st.floats(1e-6, 1e15))
def test_the_ceiling_is_round_and_not_far_above(value: float) -> None:
    top = charts.ceiling(value)
    assert value * (1 - 1e-9) <= top <= value * 5 + 1e-9
    assert f"{top:e}"[0] in "125"


def test_bars_are_zero_based_and_a_gap_is_a_gap() -> None:
    points = [
        charts.Point(time=NOW, value=10, part=5, label="a"),
        charts.Point(time=NOW + 1_000_000, value=None),
        charts.Point(time=NOW + 2_000_000, value=5),
    ]
    chart = charts.bar_chart("t", "s", points, since=NOW, until=NOW + 3_000_000, bucket=1_000_000, show=str)
    assert len(chart.bars) == 2
    assert chart.bars[0].height == pytest.approx(2 * chart.bars[1].height)
    assert chart.bars[0].part == pytest.approx(chart.bars[0].height / 2)


# --- exports ----------------------------------------------------------------------------------------------------

cells = st.one_of(
    st.none(), st.integers(), st.text(max_size=20), st.sampled_from(["=1+1", "@x", "+1", "-1", " =x", "\t=x"])
)


async def _body(kind: str, rows: list[dict[str, Any]]) -> str:
    response: Any = export.respond(kind, "x", ["a", "b"], rows)
    return "".join([piece async for piece in response.body_iterator])


@given(st.lists(st.fixed_dictionaries({"a": cells, "b": cells}), max_size=10))
def test_csv_and_json_hold_every_row_and_csv_no_formula(rows: list[dict[str, Any]]) -> None:
    text = asyncio.run(_body("csv", rows))
    read = list(csv.reader(io.StringIO(text, newline="")))
    assert read[0] == ["a", "b"]
    assert len(read) == len(rows) + 1
    for row, original in zip(read[1:], rows, strict=True):
        for found, value in zip(row, (original["a"], original["b"]), strict=True):
            if isinstance(value, str):
                assert not found.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r"))
                assert found in (value, "'" + value)
    assert json.loads(asyncio.run(_body("json", rows))) == rows


# --- words ------------------------------------------------------------------------------------------------------


@given(st.text(), st.integers(0, 12))
def test_an_answer_cut_at_its_citations_is_still_the_answer(text: str, sources: int) -> None:
    pieces = view.parts(text, sources)
    whole = "".join(f"[{piece}]" if kind == "cite" else piece for kind, piece in pieces)
    assert whole == text or not text.isascii()  # \d also matches other scripts' digits, which int() normalises
    assert all(1 <= int(piece) <= sources for kind, piece in pieces if kind == "cite")


def test_numbers_have_units_and_unknown_is_said() -> None:
    assert [view.span(value) for value in (None, 840, 12_345, 1_204_000)] == [
        "unknown",
        "840\u202fµs",
        "12.3\u202fms",
        "1.2\u202fs",
    ]
    assert [view.milliseconds(value) for value in (None, 840, 12_345, 1_204_000)] == ["–", "0.84", "12.3", "1\u202f204"]
    assert [view.dollars(value) for value in (None, 0, 1_234, 2_500_000_000)] == ["unknown", "0.00", "1.23e-06", "2.50"]
    assert view.count(1_234_567) == "1\u202f234\u202f567"
    assert view.share(0, 0) == "–"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\u202e\x00\u200b", UNREADABLE),
        (" \n\u3164\u2800", UNREADABLE),
        ("", "(no message yet)"),
        ("abc \u202eevil\u2066", "<bdi>abc evil</bdi>"),
        ("<b>\n\tتم", "<bdi>&lt;b&gt;\n\tتم</bdi>"),
        ("a\u200d\ud800b", "<bdi>ab</bdi>"),
    ],
    ids=["controls", "blanks", "nothing", "overrides", "markup", "halves"],
)
def test_what_customers_wrote_is_isolated_and_never_an_empty_label(text: str, shown: str) -> None:
    assert view.told(text, "(no message yet)") == shown


@pytest.mark.parametrize(
    ("summary", "shown"),
    [
        ("Asked: \u0623\u064a\u0646 7? / <b> · Looked up: Order",
         "Asked: <bdi>\u0623\u064a\u0646 7?</bdi> / <bdi>&lt;b&gt;</bdi> · <bdi>Looked up: Order</bdi>"),
        ("Looked up: Order · The assistant did not know 1 answer",
         "<bdi>Looked up: Order</bdi> · <bdi>The assistant did not know 1 answer</bdi>"),
        ("", ""),
    ],
    ids=["asked", "not asked", "nothing"],
)  # fmt: skip
def test_texts_of_a_summary_do_not_turn_each_other_around(summary: str, shown: str) -> None:
    assert view.apart(summary) == shown


def test_no_template_lets_characters_through_that_turn_the_page_around() -> None:
    page = view.Pages().text("problem.html", code=400, sentence="x\u202ey\x00z\u2067")
    assert "xyz" in page
    assert not any(each in page for each in "\u202e\x00\u2067")


def test_the_headline_says_what_goes_on_and_never_claims_an_unknown_cost() -> None:
    period = ranges.parse({}, NOW)
    nothing = Figures(answers=None, everything=None, dropped=0)
    assert nothing.headline(period) == "Nothing was asked in the last 24 hours"
    assert nothing.rows() == []
    answers = {"count": 10, "errors": 1, "without_cost": 10}
    answers |= {f"{which}_{what}_us": 1_000 for which in ("p50", "p95") for what in ("first_token", "total")}
    everything = {**answers, "count": 25, "cost": None, "without_cost": 25}
    figures = Figures(answers=answers, everything=everything, dropped=3)
    assert figures.headline(period) == "10 answers in the last 24 hours, 1 failed (10\u202f%)"
    rows = dict(figures.rows())
    assert (rows["model calls"], rows["cost"], rows["records dropped"]) == ("15", "unknown", "3")
    figures = Figures(answers=answers, everything={**everything, "cost": 5, "without_cost": 12}, dropped=0)
    rows = dict(figures.rows())
    assert rows["cost"].endswith("USD, 2 calls of unknown price")
    assert rows["records dropped"] == "none"


def test_requests_that_were_refused_are_no_model_calls() -> None:
    answers = {"count": 10, "errors": 0, "without_cost": 10}
    everything = {"count": 25, "errors": 5, "cost": 0, "without_cost": 15}
    assert Figures(answers=answers, everything=everything, dropped=0).calls == (10, 0)


class Counted:
    """Stands where the store's traces do and counts the questions."""

    def __init__(self) -> None:
        self.traces = self
        self.asked: list[dict[str, Any]] = []

    def summary(self, **question: Any) -> list[dict[str, Any]]:
        self.asked.append(question)
        return [{"count": len(self.asked)}]


def test_wide_ranges_are_remembered_for_a_moment_and_narrow_ones_never() -> None:
    store, now = Counted(), 0.0
    summaries = Summaries(store, clock=lambda: now)  # type: ignore[arg-type]

    def asked(query: dict[str, str], tenant: str = "a") -> int:
        before = len(store.asked)
        summaries.total(ranges.parse(query, NOW + len(store.asked)), tenant)
        summaries.buckets(ranges.parse(query, NOW + len(store.asked)), tenant)
        return len(store.asked) - before

    assert [asked({"range": "24h"}), asked({"range": "24h"})] == [2, 2]
    assert [asked({"range": "30d"}), asked({"range": "30d"}), asked({"range": "30d"}, "b")] == [2, 0, 2]
    wide = {"since": "2026-01-01", "until": "2026-06-01"}
    assert [asked(wide), asked(wide), asked({**wide, "since": "2026-01-02"})] == [2, 0, 2]
    now += KEEP_S
    assert asked({"range": "30d"}) == 2
    for day in range(1, 29):
        asked({"since": f"2026-01-{day:02}", "until": "2026-06-01"}, "c")
        asked({"since": f"2026-01-{day:02}", "until": "2026-06-01"}, "d")
    assert asked({"range": "30d"}) == 2, "the memory is bounded"


# --- waterfall --------------------------------------------------------------------------------------------------

COLUMNS: dict[str, Any] = {"tenant": "t", "subject": "", "usecase": "u", "spec_hash": "s", "release": "r"}


def _inference(identifier: str, time: int, total: int, **more: Any) -> Inference:
    return Inference(id=identifier, time=time, total_us=total, **COLUMNS, **more)


def test_a_waterfall_puts_steps_one_after_another_and_calls_where_they_happened() -> None:
    root = _inference(
        "root", NOW, 1_000, operation="assistant", steps={"retrieve": 200, "call": 800}, first_token_us=500
    )
    child = _inference("child", NOW + 250, 500, model="m", steps={"read": 100, "call": 400}, status=502)
    found = waterfall.rows(root, [child])
    assert [(row.name, row.depth, row.start, row.width) for row in found] == [
        ("assistant", 0, 0, 100),
        ("retrieve", 1, 0, 20),
        ("call", 1, 20, 80),
        ("chat m", 1, 25, 50),
        ("read", 2, 25, 10),
        ("call", 2, 35, 40),
    ]
    assert found[0].first_token == 50
    assert [row.failed for row in found] == [False, False, False, True, False, False]


@pytest.mark.parametrize(
    ("own", "calls", "cost"), [(None, [], None), (7, [], 7), (None, [1, 2], 3), (None, [1, None], None), (None, [0], 0)]
)
def test_an_answer_costs_what_its_calls_cost_and_unknown_stays_unknown(
    own: int | None, calls: list[int | None], cost: int | None
) -> None:
    children = [_inference(str(number), NOW, 1, cost=each) for number, each in enumerate(calls)]
    assert waterfall.cost_of(_inference("root", NOW, 1, cost=own), children) == cost


# --- turns ------------------------------------------------------------------------------------------------------


async def _events(turn: Turn) -> list[dict[str, Any]]:
    return [json.loads(event) async for event in turn.follow() if event is not None]


async def test_a_turn_can_be_followed_from_the_start_by_many_while_it_runs() -> None:
    turns, gate, asked = Turns(deadline_s=60), asyncio.Event(), []

    async def reply() -> AsyncIterator[dict[str, str]]:
        asked.append(1)
        yield {"type": "a"}
        await gate.wait()
        yield {"type": "b"}

    first = turns.start("c", "id-1", reply)
    early = asyncio.create_task(_events(first))
    async with asyncio.timeout(30):
        while not asked:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.005)
    assert turns.start("c", "id-1", reply) is first
    with pytest.raises(TurnRunning):
        turns.start("c", "id-2", reply)
    late = asyncio.create_task(_events(first))
    gate.set()
    assert await early == await late == [{"type": "a"}, {"type": "b"}]
    assert await _events(turns.start("c", "id-1", reply)) == [{"type": "a"}, {"type": "b"}]
    assert asked == [1]
    await turns.aclose()


async def test_silence_is_filled_with_beats() -> None:
    turns, gate = Turns(deadline_s=60), asyncio.Event()

    async def reply() -> AsyncIterator[dict[str, str]]:
        await gate.wait()
        yield {"type": "a"}

    follow = turns.start("c", "id", reply).follow(beat_s=0.01)
    assert await anext(follow) is None
    gate.set()
    assert [event async for event in follow if event is not None] == [b'{"type":"a"}']


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (UpstreamUnreachable(name="gpu-7", detail="10.0.0.7"), "upstream_unreachable", "try again"),
        (ConversationClosed(), "conversation_closed", "closed"),
        (ValueError("secret detail"), "internal_error", "try again"),
    ],
)
async def test_a_failing_turn_ends_with_an_error_in_words(
    error: Exception, code: str, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    turns = Turns(deadline_s=60)

    async def reply() -> AsyncIterator[dict[str, str]]:
        yield {"type": "delta"}
        raise error

    found = await _events(turns.start("c", "id", reply))
    assert found[-1]["type"] == "error"
    assert found[-1]["code"] == code
    assert words in found[-1]["message"]
    assert "10.0.0.7" not in str(found)
    assert "secret detail" not in str(found)
    await asyncio.sleep(0)
    assert "turn" in caplog.text or code == "conversation_closed"


async def test_a_turn_that_takes_too_long_is_ended() -> None:
    turns = Turns(deadline_s=0.02)

    async def reply() -> AsyncIterator[dict[str, str]]:
        await asyncio.sleep(60)
        yield {"type": "never"}

    assert [event["code"] for event in await _events(turns.start("c", "id", reply))] == ["timeout"]


async def test_old_turns_are_forgotten_but_never_running_ones() -> None:
    turns, gate = Turns(deadline_s=60, max_kept=2), asyncio.Event()

    async def running() -> AsyncIterator[dict[str, str]]:
        await gate.wait()
        yield {"type": "a"}

    async def done() -> AsyncIterator[dict[str, str]]:
        yield {"type": "a"}

    turns.start("running", "id", running)
    for number in range(5):
        await _events(turns.start(str(number), "id", done))
    assert turns.known("running", "id") is not None
    assert turns.known("0", "id") is None
    await turns.aclose()
