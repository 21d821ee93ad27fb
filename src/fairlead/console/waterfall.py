"""Where the time of an answer went: its steps and the calls it made, as bars on one time axis.

Takes recorded inferences and gives rows; ``templates/traces.html`` draws them. The steps of a request follow one
another, so a step starts where the one before ended; calls an answer made start where their own clock says.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from fairlead.records import Inference


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A bar: ``start`` and ``width`` are percent of the whole, ``duration`` microseconds, ``depth`` 0 to 2."""

    name: str
    depth: int
    start: float
    width: float
    duration: int
    first_token: float | None = None
    trace: str = ""
    failed: bool = False


def rows(root: Inference, children: Sequence[Inference] = ()) -> list[Row]:
    """The root, its steps, then each child with its steps, oldest first."""
    begin = min([root.time, *(child.time for child in children)])
    end = max([root.time + root.total_us, *(child.time + child.total_us for child in children), begin + 1])
    length = end - begin
    found = [_whole(root, 0, begin, length), *_steps(root, 1, begin, length)]
    for child in sorted(children, key=lambda each: (each.time, each.id)):
        found += [_whole(child, 1, begin, length), *_steps(child, 2, begin, length)]
    return found


def cost_of(root: Inference, children: Sequence[Inference]) -> int | None:
    """What an answer cost, in nano-dollars: its own price, or that of the calls it made; None if any is unknown."""
    if root.cost is not None or not children:
        return root.cost
    costs = [child.cost for child in children]
    return None if None in costs else sum(cost for cost in costs if cost is not None)


def _whole(inference: Inference, depth: int, begin: int, length: int) -> Row:
    first = inference.first_token_us
    name = f"{inference.operation} {inference.model or inference.variant}".strip()
    offset = inference.time - begin
    return Row(
        name=name,
        depth=depth,
        start=_percent(offset, length),
        width=_percent(inference.total_us, length),
        duration=inference.total_us,
        first_token=None if first is None else _percent(offset + first, length),
        trace=inference.id,
        failed=inference.status >= 400,
    )


def _steps(inference: Inference, depth: int, begin: int, length: int) -> list[Row]:
    offset, found = inference.time - begin, []
    for name, duration in inference.steps.items():
        found.append(
            Row(
                name=name,
                depth=depth,
                start=_percent(offset, length),
                width=_percent(duration, length),
                duration=duration,
            )
        )
        offset += duration
    return found


def _percent(part: int, whole: int) -> float:
    return round(min(100.0, max(0.0, 100 * part / whole)), 3)
