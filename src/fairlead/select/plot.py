"""The Pareto plot as SVG: quality upwards, cost (or, where all are free, time) to the right, both with intervals.

Text in, text out: no library, no script, nothing fetched. Knows no run, only standings.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape

from fairlead.select.report import Standing
from fairlead.select.words import by_cost

WIDTH, HEIGHT = 720, 360
LEFT, RIGHT, TOP, BOTTOM = 64, 24, 20, 56
LEAST = 1e-9

Height = Callable[[float], float]
"""From a quality to its place from above."""


def pareto(standings: Sequence[Standing], chosen: str = "") -> str:
    """An ``<svg>`` element; empty text where there is nothing to draw."""
    priced = by_cost(standings)
    shown = [each for each in standings if each.quality.value is not None and _place(each, priced=priced) is not None]
    if not shown:
        return ""
    places = {each.id: float(_place(each, priced=priced) or 0.0) for each in shown}
    axis = _Axis(list(places.values()))
    lows = [each.quality.low if each.quality.low is not None else float(each.quality.value or 0) for each in shown]
    highs = [each.quality.high if each.quality.high is not None else float(each.quality.value or 0) for each in shown]
    bottom, top = max(-1.0, math.floor(min(lows) * 10) / 10), min(1.0, math.ceil(max(highs) * 10) / 10)
    span = (top - bottom) or 1.0

    def y(value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - (value - bottom) / span)

    parts = [_grid(bottom, top, y), axis.marks(priced=priced), _front(shown, places, axis, y)]
    parts += [_point(each, axis.x(places[each.id]), y, number, chosen) for number, each in enumerate(shown, start=1)]
    what = "cost for 1,000" if priced else "time to the end of 95 % of the answers"
    title = f"Quality against {what}: " + ", ".join(each.id for each in shown)
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}" '
        f'xmlns="http://www.w3.org/2000/svg" font-family="sans-serif" font-size="12" fill="currentColor">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )


def _place(standing: Standing, *, priced: bool) -> float | None:
    return standing.cost_per_1000.value if priced else standing.total_p95


class _Axis:
    """The horizontal one: by powers of ten, with a place of its own for 0."""

    def __init__(self, values: Sequence[float]) -> None:
        above = [value for value in values if value > LEAST]
        self.zero = any(value <= LEAST for value in values)
        self.low = math.floor(math.log10(min(above))) if above else 0
        self.high = max(self.low + 1, math.ceil(math.log10(max(above)))) if above else 1
        self.start = LEFT + (70 if self.zero else 10)

    def x(self, value: float) -> float:
        if value <= LEAST:
            return LEFT + 24
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return self.start + share * (WIDTH - RIGHT - 20 - self.start)

    def marks(self, *, priced: bool) -> str:
        """Round numbers below the axis, and what they are."""
        marks = [(self.x(10.0**power), _number(10.0**power)) for power in range(self.low, self.high + 1)]
        if self.zero:
            marks.insert(0, (self.x(0.0), "0"))
        text = "".join(
            f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle" opacity=".75">{label}</text>'
            for x, label in marks
        )
        name = "model fees for 1,000 answers, USD" if priced else "time to the end of 95 % of the answers, seconds"
        middle = (LEFT + WIDTH - RIGHT) / 2
        return text + f'<text x="{middle:.0f}" y="{HEIGHT - 12}" text-anchor="middle">{name}</text>'


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:.6f}".rstrip("0")


def _grid(bottom: float, top: float, y: Height) -> str:
    lines = []
    for step in range(6):
        value = bottom + (top - bottom) * step / 5
        at = y(value)
        lines.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}" stroke="currentColor" opacity=".15"/>'
            f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end" opacity=".75">'
            f"{100 * value:.0f} %</text>"
        )
    return "".join(lines)


def _front(shown: Sequence[Standing], places: dict[str, float], axis: _Axis, y: Height) -> str:
    """A step along those that nothing beats in both."""
    best = -math.inf
    points: list[tuple[float, float]] = []
    for each in sorted(shown, key=lambda each: (places[each.id], -float(each.quality.value or 0))):
        value = float(each.quality.value or 0)
        if value > best:
            if points:
                points.append((axis.x(places[each.id]), y(best)))
            points.append((axis.x(places[each.id]), y(value)))
            best = value
    path = " ".join(f"{x:.1f},{height:.1f}" for x, height in points)
    return f'<polyline points="{path}" fill="none" stroke="currentColor" stroke-dasharray="4 4" opacity=".5"/>'


def _point(standing: Standing, x: float, y: Height, number: int, chosen: str) -> str:
    value = float(standing.quality.value or 0)
    low, high = standing.quality.low, standing.quality.high
    bar = ""
    if low is not None and high is not None:
        bar = (
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y(low):.1f}" y2="{y(high):.1f}" stroke="currentColor" opacity=".5"/>'
        )
    fill = "#0a7d4f" if standing.id == chosen else "#3b6fd4" if standing.baseline else "#b4561b"
    # Labels side by side would cover each other where qualities are close: they go up and down in turn.
    lift = -8 if number % 2 else 16
    anchor, shift = ("end", -8) if x > WIDTH - 160 else ("start", 8)
    label = escape(standing.id)
    return (
        f'{bar}<circle cx="{x:.1f}" cy="{y(value):.1f}" r="{6 if standing.id == chosen else 4.5}" fill="{fill}"/>'
        f'<text x="{x + shift:.1f}" y="{y(value) + lift:.1f}" text-anchor="{anchor}">{label}</text>'
    )
