"""The report of a selection as one HTML file that needs nothing else, and as Markdown. Decides nothing.

Answers and samples are untrusted text: everything is escaped, and the page runs no script.
"""

from __future__ import annotations

import datetime
import functools
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import jinja2
import msgspec
from markupsafe import Markup

from fairlead.readable import readable
from fairlead.select.plot import pareto
from fairlead.select.report import Report, Slice, Standing
from fairlead.select.words import bounds, by_cost, of_judge, percent, quality_name

MOST_CELL = 160


def seconds(value: float | None) -> str:
    """A time with three digits; a dash for what is not known."""
    if value is None:
        return "–"
    for factor, unit in ((1.0, "s"), (1e3, "ms"), (1e6, "µs")):
        if value * factor >= 1 or unit == "µs":
            return f"{value * factor:.3g} {unit}"
    return "–"


def dollars(value: float | None) -> str:
    """An amount of USD; ``unknown`` is never 0."""
    return "unknown" if value is None else "0" if value == 0 else f"{value:,.4g}"


def megabytes(value: int | None) -> str:
    """Memory in MB; a dash for what is not known."""
    return "–" if value is None else f"{value / 1e6:,.1f}"


def pair(one: float | None, other: float | None) -> str:
    """Median and 95th percentile."""
    return f"{seconds(one)} / {seconds(other)}"


COLUMNS = (
    "candidate", "quality", "n", "first token p50 / p95", "whole answer p50 / p95", "USD for 1,000",
    "USD a resolution", "memory MB", "objectives", "frontier",
)  # fmt: skip
WORDS = {"pass": "hold", "fail": "missed", "not_enough_data": "open"}


def cells(standing: Standing) -> list[str]:
    """The row of one candidate, under ``COLUMNS``."""
    return [
        standing.id + (" (live)" if standing.live else ""),
        percent(standing.quality.value) + bounds(standing.quality),
        str(standing.n) + (f", {standing.failed} failed" if standing.failed else ""),
        pair(standing.first_p50, standing.first_p95),
        pair(standing.total_p50, standing.total_p95),
        dollars(standing.cost_per_1000.value),
        dollars(standing.cost_per_resolution),
        megabytes(standing.memory),
        WORDS[standing.outcome] if standing.verdicts else "none measured",
        f"{100 * standing.frontier:.0f} %",
    ]


def of_slice(each: Slice, name: str) -> str:
    """A candidate's quality in a slice, and of how many samples: who was let go early was asked fewer."""
    count = each.counts.get(name)
    return percent(each.quality.get(name)) + (f" of {count}" if count is not None else "")


def frontier(report: Report) -> str:
    """What the column of that name says."""
    other = "cheaper" if by_cost(report.standings) else "quicker"
    return f"Frontier: in how many of 400 resamples of the samples no other candidate was both better and {other}."


def described(report: Report) -> list[tuple[str, str]]:
    """What was done, in pairs of what and how much."""
    saved = 1 - report.calls / report.all_calls if report.all_calls else 0.0
    budget = "" if report.budget_usd is None else f" of {report.budget_usd:g} allowed"
    looks = "at any time, as samples were added while looking" if report.raced else "once, at a size fixed beforehand"
    calls = f"{report.calls:,} of {report.all_calls:,} ({saved:.0%} spared), {report.paid_calls:,} made in this run"
    found = [
        ("use case", f"{report.usecase}, definition {report.spec_hash[:12]}"),
        ("data", f"{report.dataset}, content {report.content[:12]}, {report.samples} samples"),
        ("ranked by", quality_name(report.quality)),
        ("calls", calls),
        ("spent", f"{dollars(report.spent_usd)} USD{budget}"),
        ("intervals", f"{report.confidence:.0%}, valid {looks}"),
        ("run", f"{report.run}, {moment(report.time)}"),
        ("made with", ", ".join(f"{name} {value}" for name, value in report.made_with.items())),
    ]
    labelled = [each for each in report.standings if each.macro_f1 is not None]
    if labelled:
        parts = [
            f"{each.id} {percent(each.macro_f1.value)}{bounds(each.macro_f1)}" for each in labelled if each.macro_f1
        ]
        found.append(("macro-F1", ", ".join(parts)))
    found += [(f"judge {each.judge}", of_judge(each)) for each in report.judges]
    if report.users_usd != 0:
        found.append(("played users", f"{dollars(report.users_usd)} USD of what was spent"))
    if report.left_out:
        why = f"{report.left_out} samples, which share text, person or conversation with {report.learnt_from}"
        found.insert(2, ("left out", why))
    if report.detectable is not None:
        found.insert(3, ("smallest difference", f"{100 * report.detectable:.1f} points show in 4 of 5 such data sets"))
    return found


def moment(time: int) -> str:
    """A time in UTC, to the minute."""
    return datetime.datetime.fromtimestamp(time / 1e6, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")


def html(report: Report) -> str:
    """One file: styles inside, no script, nothing fetched."""
    plot = pareto(report.standings, report.choice.candidate)
    return _environment().get_template("report.html").render(
        report=report, columns=COLUMNS, rows=[(each, cells(each)) for each in report.standings],
        plot=Markup(plot),  # noqa: S704  every text in it was escaped by ``pareto``
        described=described(report), percent=percent, of_slice=of_slice, frontier=frontier(report),
        names=[each.id for each in report.standings], of_judge=of_judge,
        reference=lambda value: value if isinstance(value, str) else msgspec.json.encode(value).decode(),
    )  # fmt: skip


@functools.cache
def _environment() -> jinja2.Environment:
    source = (files("fairlead.select") / "report.html").read_text(encoding="utf-8")
    loader = jinja2.DictLoader({"report.html": source})
    return jinja2.Environment(loader=loader, autoescape=True, finalize=_shown, trim_blocks=True, lstrip_blocks=True)


def _shown(value: Any) -> Any:
    return readable(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def markdown(report: Report, *, title: str = "", command: str = "") -> str:
    """The same as Markdown, for a page in a repository or a comment of CI."""
    lines = [f"# {title or f'Selection for {report.usecase}'}", "", f"**{_plain(report.choice.headline)}**", ""]
    lines += [f"- {_plain(each)}" for each in report.choice.reasons]
    if report.choice.changes:
        lines += ["", "What would change it:", "", *(f"- {_plain(each)}" for each in report.choice.changes)]
    if report.judges:
        lines += ["", "Judges:", "", *(f"- {each.judge}: {_plain(of_judge(each))}" for each in report.judges)]
    lines += ["", _table(COLUMNS, [cells(each) for each in report.standings]), "", frontier(report), ""]
    if report.slices:
        names = [each.id for each in report.standings]
        rows = [
            [f"{each.tag} = {each.value}", str(each.n), *(of_slice(each, name) for name in names)]
            for each in report.slices
        ]
        lines += ["## By slice", "", _table(["slice", "n", *names], rows), ""]
    if report.cases:
        lines += ["## Samples it gets wrong", "", _cases(report), ""]
    lines += ["## How it was measured", "", _table(("what", ""), [list(each) for each in described(report)])]
    if command:
        lines += ["", "Made by:", "", "```sh", command, "```"]
    return "\n".join(lines) + "\n"


def _cases(report: Report) -> str:
    names = [each.id for each in report.standings]
    rows = [
        [each.input, each.reference, *(each.answers.get(name, ("–", None))[0] for name in names)]
        for each in report.cases
    ]
    return _table(["sample", "right", *names], rows)


def _table(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    def line(row: Sequence[Any]) -> str:
        return "| " + " | ".join(_plain(_text(cell)) for cell in row) + " |"

    return "\n".join([line(columns), "|" + "---|" * len(columns), *(line(row) for row in rows)])


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else "" if value is None else msgspec.json.encode(value).decode()
    text = " ".join(text.split())
    return text if len(text) <= MOST_CELL else text[: MOST_CELL - 1] + "…"


def _plain(text: str) -> str:
    """Text that Markdown shows as it is: nothing becomes a link, a tag or a column."""
    text = readable(text)
    for mark in ("\\", "`", "*", "_", "[", "]", "<", ">", "|"):
        text = text.replace(mark, f"&#{ord(mark)};" if mark in "<>" else f"\\{mark}")
    return text
