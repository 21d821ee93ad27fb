"""Charts as geometry: where each bar, line and label stands; ``templates/charts.html`` draws them as SVG.

Horizontal positions are percent of the width (so that text keeps its size at any width), vertical ones pixels from the
top. Bars start at zero; a stretch without data is a gap, not a zero. Knows nothing of where the numbers come from.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Sequence

import msgspec

HEIGHT = 128
TOP = 18
TICKS_S = (10, 60, 300, 600, 900, 1_800, 3_600, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800, 1_209_600, 5_184_000)
MOST_TICKS = 6
CLOSE = 12.0
"""Percent of the width below which two labels would lie on each other."""


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """One bucket: ``value`` and ``part`` of it (drawn within), or a band from ``value`` to ``high``; None is a gap."""

    time: int
    value: float | None
    part: float = 0.0
    high: float | None = None
    href: str = ""
    label: str = ""


class Bar(msgspec.Struct, frozen=True, kw_only=True):
    """A bar: percent from the left and wide; pixels from the top and high; ``part`` pixels of it from the bottom."""

    x: float
    width: float
    y: float
    height: float
    part: float
    href: str
    label: str


class Mark(msgspec.Struct, frozen=True, kw_only=True):
    """A label at a place: a grid line (y), a time (x), the release that began (x) or a line's name (y)."""

    at: float
    label: str
    anchor: str = "start"


class Chart(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the template needs. ``lines`` and ``band`` are SVG path data in a box 1000 wide and HEIGHT high."""

    title: str
    summary: str
    height: int
    grid: list[Mark]
    times: list[Mark]
    releases: list[Mark]
    bars: list[Bar] = []
    band: str = ""
    lines: list[str] = []
    names: list[Mark] = []
    target: Mark | None = None
    dots: list[tuple[float, float]] = []


def bar_chart(
    title: str,
    summary: str,
    points: Sequence[Point],
    *,
    since: int,
    until: int,
    bucket: int,
    show: Callable[[float], str],
    releases: Sequence[tuple[int, str]] = (),
) -> Chart:
    """Counts over time, zero-based."""
    top = ceiling(max((point.value or 0.0 for point in points), default=0.0))
    bars = []
    for point in points:
        if not point.value:
            continue
        left, right = max(point.time, since), min(point.time + bucket, until)
        y = _y(point.value, top)
        bars.append(
            Bar(
                x=round(_x(left, since, until) + 0.1, 3),
                width=round(max(0.2, _x(right, since, until) - _x(left, since, until) - 0.2), 3),
                y=round(y, 2),
                height=round(HEIGHT - y, 2),
                part=round(HEIGHT - _y(min(point.part, point.value), top), 2),
                href=point.href,
                label=point.label,
            )
        )
    return Chart(
        title=title,
        summary=summary,
        height=HEIGHT,
        grid=_grid(top, show),
        times=time_marks(since, until),
        releases=_release_marks(releases, since, until),
        bars=bars,
    )


def band_chart(
    title: str,
    summary: str,
    points: Sequence[Point],
    *,
    since: int,
    until: int,
    bucket: int,
    show: Callable[[float], str],
    names: tuple[str, str],
    target: tuple[float, str] | None = None,
    releases: Sequence[tuple[int, str]] = (),
) -> Chart:
    """A line (``value``) with a band up to ``high``, both named at their right end."""
    highest = max((point.high or point.value or 0.0 for point in points), default=0.0)
    top = ceiling(max(highest, (target or (0.0,))[0] if highest else 0.0))
    drawn = _stretches(points, top, since=since, until=until, bucket=bucket)
    long = [run for run in drawn if len(run) > 1]
    lows = [[(x, low) for x, low, _ in run] for run in long]
    highs = [[(x, high) for x, _, high in run] for run in long]
    return Chart(
        title=title,
        summary=summary,
        height=HEIGHT,
        grid=_grid(top, show),
        times=time_marks(since, until),
        releases=_release_marks(releases, since, until),
        band=" ".join(_path([*high, *reversed(low)]) + "Z" for low, high in zip(lows, highs, strict=True)),
        lines=[_path(line) for line in (*lows, *highs)],
        names=_names(drawn, names),
        target=Mark(at=round(_y(target[0], top), 2), label=target[1]) if target and highest else None,
        dots=[(round(x, 3), round(y, 2)) for run in drawn if len(run) == 1 for x, *ys in run for y in ys],
    )


def _stretches(
    points: Sequence[Point], top: float, *, since: int, until: int, bucket: int
) -> list[list[tuple[float, float, float]]]:
    """Where points follow each other without a gap: (x, y of the line, y of the band's end) of each."""
    runs: list[list[tuple[float, float, float]]] = [[]]
    for point in points:
        if point.value is None:
            runs.append([])
            continue
        high = point.value if point.high is None else point.high
        middle = min(max(point.time + bucket / 2, since), until)
        runs[-1].append((_x(middle, since, until), _y(point.value, top), _y(high, top)))
    return [run for run in runs if run]


TINY = 1e-12
"""Below it there is nothing to draw, and powers of ten soon run out of digits."""


def ceiling(value: float) -> float:
    """The next round number (1, 2 or 5 times a power of ten) that is not below; 1 for nothing."""
    if value < TINY:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 5, 10) if step * power >= value * (1 - 1e-9))


def time_marks(since: int, until: int) -> list[Mark]:
    """Three to seven round moments along the axis, in UTC; dates where the range is longer than two days."""
    length = (until - since) / 1e6
    width = next((step for step in TICKS_S if length / step <= MOST_TICKS), TICKS_S[-1])
    form = "%H:%M" if length <= 2 * 86_400 else "%d %b"
    marks = []
    for moment in range(-(-since // (width * 1_000_000)) * width, int(until / 1e6) + 1, width):
        at = _x(moment * 1e6, since, until)
        if 2 <= at <= 98:
            label = datetime.datetime.fromtimestamp(moment, datetime.UTC).strftime(form)
            marks.append(
                Mark(at=round(at, 3), label=label, anchor="start" if at < 6 else "end" if at > 94 else "middle")
            )
    return marks


def _grid(top: float, show: Callable[[float], str]) -> list[Mark]:
    return [
        Mark(at=round(_y(top * step / 2, top), 2), label=show(top * step / 2) if step else "") for step in (0, 1, 2)
    ]


def _release_marks(releases: Sequence[tuple[int, str]], since: int, until: int) -> list[Mark]:
    marks: list[Mark] = []
    for time, label in sorted(releases):
        at = round(_x(time, since, until), 3)
        if not 0 <= at < 100:
            continue
        if marks and at - marks[-1].at < CLOSE:
            marks.pop()  # two changes this close: the later one is what answered
        marks.append(Mark(at=at, label=label, anchor="end" if at > 80 else "start"))
    return marks


def _names(runs: Sequence[Sequence[tuple[float, float, float]]], names: tuple[str, str]) -> list[Mark]:
    if not runs:
        return []
    _, low, high = runs[-1][-1]
    low, high = max(TOP, low - 5), max(TOP - 6, high - 5)
    if low - high < 13:
        low = min(HEIGHT - 3.0, low + 16)
    return [Mark(at=round(low, 2), label=names[0]), Mark(at=round(high, 2), label=names[1])]


def _x(time: float, since: int, until: int) -> float:
    return 100 * (time - since) / max(1, until - since)


def _y(value: float, top: float) -> float:
    return TOP + (HEIGHT - TOP) * (1 - value / top)


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x * 10:.1f} {y:.1f}" for x, y in points)
