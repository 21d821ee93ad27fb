"""What every benchmark ends with: a table for people and ``results/<name>.json`` for the record.

A figure has a value, its unit, the number of samples behind it and, where known, a spread (``low``, ``high``), what a
peer reaches in the same run, and the target it must hold (a bound such as ``"<= 6"``). The report does not measure.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import operator
import os
import platform
import subprocess
import time
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
_COMPARE = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt, "==": operator.eq}


@dataclasses.dataclass(frozen=True)
class Figure:
    """One line of the report. ``holds`` is None where there is no target."""

    figure: str
    value: float
    unit: str
    n: int
    low: float | None
    high: float | None
    peer: str
    peer_value: float | None
    target: str
    holds: bool | None


class Report:
    """Collects figures. ``note`` says what a reader must know to judge them (data used, load of the machine)."""

    def __init__(self, name: str, *, note: str = "", results: Path = RESULTS) -> None:
        self.name = name
        self.note = note
        self.figures: list[Figure] = []
        self._results = results

    def add(
        self,
        figure: str,
        value: float,
        unit: str,
        *,
        n: int = 1,
        low: float | None = None,
        high: float | None = None,
        peer: str = "",
        peer_value: float | None = None,
        target: str = "",
    ) -> Figure:
        """Record a figure. ``target`` is a bound such as ``"<= 300"``. Raises ValueError for a bound it cannot read."""
        line = Figure(figure, value, unit, n, low, high, peer, peer_value, target, _holds(value, target))
        self.figures.append(line)
        return line

    def finish(self) -> int:
        """Print the table, write the file, and return the exit status: 1 when a target does not hold."""
        print(self._table())
        self._results.mkdir(parents=True, exist_ok=True)
        path = self._results / f"{self.name}.json"
        document = {
            "name": self.name,
            "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "commit": _commit(),
            "machine": _machine(),
            "note": self.note,
            "figures": [dataclasses.asdict(figure) for figure in self.figures],
        }
        path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        missed = [figure.figure for figure in self.figures if figure.holds is False]
        print(f"\n{self.note}\n" if self.note else "", end="")
        print(f"written to {path}" + (f"; missed: {', '.join(missed)}" if missed else ""))
        return 1 if missed else 0

    def _table(self) -> str:
        head = ("figure", "value", "unit", "n", "spread", "peer", "target", "")
        rows = [head, *(_cells(figure) for figure in self.figures)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
        return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)


def _cells(figure: Figure) -> tuple[str, ...]:
    spread = "" if figure.low is None or figure.high is None else f"{figure.low:.4g} to {figure.high:.4g}"
    peer = "" if figure.peer_value is None else f"{figure.peer}: {figure.peer_value:.4g}"
    mark = {True: "holds", False: "MISSED", None: ""}[figure.holds]
    return (figure.figure, f"{figure.value:.4g}", figure.unit, str(figure.n), spread, peer, figure.target, mark)


def _holds(value: float, target: str) -> bool | None:
    if not target:
        return None
    sign, _, bound = target.partition(" ")
    if sign not in _COMPARE:
        raise ValueError(f"target {target!r}; expected one of {', '.join(_COMPARE)}, a space and a number")
    return bool(_COMPARE[sign](value, float(bound)))


def _commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    return answer.stdout.strip() or "unknown"


def _machine() -> dict[str, object]:
    return {
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "python_turn_ns": round(turn_ns(), 1),
        "cores": os.cpu_count(),
        "load": round(os.getloadavg()[0], 1),
    }


def turn_ns(turns: int = 100_000, times: int = 5) -> float:
    """Nanoseconds of CPU that this Python takes for one turn of a small loop of calls, the least of ``times``.

    Two builds of one version of Python can differ by a third in this, and with it everything that is written in Python.
    """
    return min(_turns(turns) for _ in range(times)) / turns


def _turns(turns: int) -> int:
    began = time.process_time_ns()
    total: dict[str, int] = {}
    for turn in range(turns):
        total = {"turn": turn, "sum": _next(total.get("sum", 0))}
    return time.process_time_ns() - began


def _next(value: int) -> int:
    return value + 1
