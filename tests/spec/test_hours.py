"""Opening hours, across midnight of the week, daylight saving and zones."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.spec.hours import DAYS, Hours, HoursError

OFFICE = Hours.read("Mon-Fri 09:00-17:00, Sat 10:00-14:00")


@pytest.mark.parametrize(
    ("when", "is_open"),
    [
        ("2026-11-23T08:00:00+00:00", True),  # Monday 09:00 in Berlin
        ("2026-11-23T07:59:59+00:00", False),
        ("2026-11-23T15:59:59+00:00", True),
        ("2026-11-23T16:00:00+00:00", False),
        ("2026-07-20T07:00:00+00:00", True),  # Monday 09:00 in summer time
        ("2026-11-28T12:00:00+00:00", True),  # Saturday 13:00
        ("2026-11-28T13:00:00+00:00", False),
        ("2026-11-29T11:00:00+00:00", False),  # Sunday
    ],
)
def test_is_open(when: str, is_open: bool) -> None:
    assert OFFICE.is_open(datetime.fromisoformat(when), "Europe/Berlin") is is_open


def test_finds_the_next_opening() -> None:
    saturday = datetime(2026, 11, 28, 20, 0, tzinfo=UTC)
    assert OFFICE.next_opening(saturday, "Europe/Berlin").isoformat() == "2026-11-30T09:00:00+01:00"
    monday = datetime(2026, 11, 23, 9, 0, tzinfo=UTC)
    assert OFFICE.next_opening(monday, "Europe/Berlin") == monday
    # On 29 March 2026 there is no 02:30 in Berlin.
    night = Hours.read("Sun 02:30-02:45")
    assert night.next_opening(datetime(2026, 3, 28, 20, 0, tzinfo=UTC), "Europe/Berlin").day == 5
    # The clock goes forward in the night to 29 March 2026: 09:00 is 07:00 UTC then.
    before = datetime(2026, 3, 28, 20, 0, tzinfo=UTC)
    assert OFFICE.next_opening(before, "Europe/Berlin").astimezone(UTC).isoformat() == "2026-03-30T07:00:00+00:00"


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("mon-fri 09:00-17:00", "Mon-Fri 09:00-17:00"),
        ("Mon – Fri 09:00 – 17:00", "Mon-Fri 09:00-17:00"),
        ("Sat 10:00-14:00,Sun 10:00-12:00", "Sat 10:00-14:00, Sun 10:00-12:00"),
        ("Sat-Mon 22:00-24:00", "Sat-Mon 22:00-24:00"),
        ("Mon-Sun 00:00-24:00", "24/7"),
        ("24/7", "24/7"),
    ],
)
def test_writes_one_form(written: str, canonical: str) -> None:
    assert str(Hours.read(written)) == canonical


def test_wraps_around_the_week() -> None:
    weekend = Hours.read("Sat-Mon 10:00-12:00")
    days = [datetime(2026, 11, 23, 11, 0, tzinfo=UTC) + timedelta(days=day) for day in range(7)]
    assert [weekend.is_open(day, "UTC") for day in days] == [True, False, False, False, False, True, True]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "days and times"),
        ("9 to 5", "days and times"),
        ("Mon-Fri", "days and times"),
        ("Mon-Fri 9:00-17:00", "days and times"),
        ("Mon-Fri 09:00-25:00", "00:00 to 24:00"),
        ("Mon-Fri 09:00-24:01", "00:00 to 24:00"),
        ("Mon-Fri 09:60-17:00", "00:00 to 24:00"),
        ("Mon-Fri 17:00-09:00", "past midnight"),
        ("Mon-Fri 09:00-09:00", "past midnight"),
        ("Foo-Fri 09:00-17:00", "Mon, Tue"),
    ],
)
def test_refuses_impossible_hours(text: str, expected: str) -> None:
    with pytest.raises(HoursError, match=expected):
        Hours.read(text)


@given(
    st.sampled_from(DAYS), st.sampled_from(DAYS), st.integers(0, 1439), st.integers(1, 1440),
    st.integers(0, 4_000_000_000), st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kolkata"]),
)  # fmt: skip
def test_is_open_at_the_next_opening(first: str, last: str, opens: int, closes: int, at: int, zone: str) -> None:
    if opens >= closes:
        opens, closes = 0, 1440
    text = f"{first}-{last} {opens // 60:02d}:{opens % 60:02d}-{closes // 60:02d}:{closes % 60:02d}"
    hours = Hours.read(text)
    assert Hours.read(str(hours)) == hours
    when = datetime.fromtimestamp(at, UTC)
    opening = hours.next_opening(when, zone)
    assert hours.is_open(opening, zone)
    assert timedelta(0) <= opening - when <= timedelta(days=15)
