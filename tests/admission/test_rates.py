"""Rates: the meter against a bucket of exact fractions, and what no window may exceed."""

from __future__ import annotations

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from fairlead.admission.headers import duration
from fairlead.admission.rates import MINUTE_NS, Meter

STEPS = st.lists(st.tuples(st.integers(0, 3 * MINUTE_NS), st.integers(1, 12), st.integers(-3, 3)), max_size=60)


class Bucket:
    """The same as a meter, slow and plain: tokens that drip in, never more than a minute's worth."""

    def __init__(self, per_minute: int) -> None:
        self.per_minute = per_minute
        self.level = Fraction(per_minute)
        self.seen = 0

    def drip(self, now: int) -> None:
        self.level = min(
            Fraction(self.per_minute), self.level + Fraction(now - self.seen) * self.per_minute / MINUTE_NS
        )
        self.seen = now

    def wait(self, units: int) -> int:
        if units > self.per_minute:
            return -1
        missing = units - self.level
        nanoseconds = missing * MINUTE_NS / self.per_minute
        return 0 if missing <= 0 else -(-nanoseconds.numerator // nanoseconds.denominator)


@given(st.integers(1, 10), st.integers(0, 10**15), STEPS)
def test_a_meter_is_a_bucket(per_minute: int, start: int, steps: list[tuple[int, int, int]]) -> None:
    meter, bucket, now = Meter(per_minute), Bucket(per_minute), start
    bucket.drip(now)
    for pause, units, correction in steps:
        now += pause
        bucket.drip(now)
        wait = meter.wait_ns(units, now)
        assert wait == bucket.wait(units)
        assert meter.left(now) == max(0, bucket.level // 1)
        taken = meter.take(units, now)
        assert (taken >= 0) == (wait == 0)
        if wait == 0:
            bucket.level -= units
            assert taken == bucket.level // 1
            # What a request used turns out later, more or less than was taken for it.
            used = max(0, units + correction)
            meter.correct(used - units)
            bucket.level = min(Fraction(per_minute), bucket.level - (used - units))
        full = (per_minute - bucket.level) * MINUTE_NS / per_minute
        assert meter.standing(now) == (meter.left(now), meter.full_ns(now))
        assert meter.full_ns(now) == -(-full.numerator // full.denominator)


@given(st.integers(1, 8), STEPS)
def test_no_window_holds_more_than_a_minutes_worth_and_what_it_brings(
    per_minute: int, steps: list[tuple[int, int, int]]
) -> None:
    meter, now, taken = Meter(per_minute), 0, []
    for pause, units, _ in steps:
        now += pause // 20
        if meter.take(units, now) >= 0:
            taken.append((now, units))
    for first, (began, _) in enumerate(taken):
        total = 0
        for ended, units in taken[first:]:
            total += units
            assert total <= per_minute + Fraction(ended - began) * per_minute / MINUTE_NS


@given(st.integers(1, 20), st.integers(1, 20), st.integers(0, MINUTE_NS))
def test_who_waits_as_long_as_told_is_let_in(per_minute: int, units: int, pause: int) -> None:
    meter = Meter(per_minute)
    meter.take(per_minute, 0)
    wait = meter.wait_ns(units, pause)
    if wait > 0:
        assert meter.wait_ns(units, pause + wait) == 0
        assert meter.wait_ns(units, pause + wait - 1) > 0


def test_durations_read_as_clients_know_them() -> None:
    said = [duration(ns) for ns in (0, 1, 250_000_000, 1_500_000_000, 2_000_000_000, 360_000_000_000, 61_001_000_000)]
    assert said == [b"0ms", b"1ms", b"250ms", b"1.5s", b"2s", b"6m0s", b"1m1.001s"]
