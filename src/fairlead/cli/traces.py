"""``fairlead traces``: look at what happened, from the terminal."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer

from fairlead.cli.output import JsonFlag, advise, out, print_json, print_table, same, with_settings
from fairlead.cli.times import moment, money, parse_duration, parse_moment, span
from fairlead.errors import UsageError
from fairlead.records import Inference, now_us
from fairlead.settings import Settings
from fairlead.store import Store

USUAL, WIDE = 80, 132
"""Columns of a terminal that shows most, and everything, about a trace in one line."""
COLUMNS = {
    "time": "from UTC",
    "count": "calls",
    "errors": "errors",
    "p50_first_token_us": "first",
    "p50_total_us": "p50",
    "p95_total_us": "p95",
    "input_tokens": "in",
    "output_tokens": "out",
    "cost": "cost",
}
"""Columns of the summary, as the store names them and as the terminal shows them."""

Since = Annotated[str, typer.Option(help="From when: a duration before now (24h) or a time (2026-11-22T10:00).")]
Until = Annotated[str | None, typer.Option(help="Until when; now if left out.")]


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(no_args_is_help=True, help="List, show and sum up what was recorded.")
    group.command("list")(list_traces)
    group.command("show")(show)
    group.command("summary")(summary)
    group.command("status")(status)
    app.add_typer(group, name="traces")


@with_settings("project", "data_dir")
def list_traces(
    *,
    settings: Settings,
    since: Since = "24h",
    until: Until = None,
    conversation: Annotated[str | None, typer.Option(help="Only this conversation.")] = None,
    variant: Annotated[str | None, typer.Option(help="Only this variant.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most this many, newest first.")] = 20,
    as_json: JsonFlag = False,
) -> None:
    """List inferences in a time range, newest first."""
    begin, end = _range(since, until)
    with Store.open(settings.data_path) as store:
        rows = store.traces.query(
            since=begin,
            until=end,
            conversation=conversation,
            variant=variant,
            limit=limit,
        )
    if as_json:
        print_json([_plain(row) for row in rows])
        return
    if not rows:
        ask = f'fairlead ask "How long does delivery take?"{same(settings)}'
        advise(f"Nothing recorded since {since}. Ask something: {ask}")
        return
    cells = [
        {
            "time UTC": moment(row.time)[5:],
            "id": row.id,
            "operation": row.operation,
            "variant": row.variant,
            "status": row.error or row.status,
            "in": row.input_tokens,
            "out": row.output_tokens,
            "first": span(row.first_token_us),
            "total": span(row.total_us),
            "cost": money(row.cost),
        }
        for row in rows
    ]
    # An id that wraps cannot be copied, so a narrow terminal gets fewer columns.
    columns = ["time UTC", "id", "operation", "status", "total"]
    if out.width >= WIDE:
        columns = list(cells[0])
    elif out.width < USUAL:
        columns = ["id", "operation", "total"]
    numbers = ["status", "in", "out", "first", "total", "cost"]
    print_table(columns, [[row[column] for column in columns] for row in cells], right=numbers)


@with_settings("project", "data_dir")
def show(
    *,
    settings: Settings,
    trace: Annotated[str, typer.Argument(help="The inference's id.")],
    as_json: JsonFlag = False,
) -> None:
    """Show one inference: figures, timings of every step, (masked) texts."""
    with Store.open(settings.data_path) as store:
        row = store.traces.get(trace)
    if row is None:
        raise UsageError(detail=f"There is no inference {trace!r} here. `fairlead traces list` shows the newest.")
    if as_json:
        print_json(_plain(row))
        return
    skip = {"steps", "input", "output", "tags"}
    for name in row.__struct_fields__:
        value = getattr(row, name)
        if name in skip or (value in ("", None) and name != "cost"):
            continue
        shown = {"time": moment, "cost": money, "total_us": span, "first_token_us": span}.get(name, str)(value)
        out.print(f"{name.removesuffix('_us'):>14}  {shown}", markup=False)
    for step, microseconds in row.steps.items():
        out.print(f"{'step ' + step:>20}  {span(microseconds)}", markup=False)
    for name in ("input", "output"):
        if text := getattr(row, name):
            out.print(f"\n{name}:\n{text}", markup=False)


@with_settings("project", "data_dir")
def summary(
    *,
    settings: Settings,
    since: Since = "24h",
    until: Until = None,
    operation: Annotated[
        str, typer.Option(help="What to sum up: chat, completion or embedding (model calls), assistant (answers).")
    ] = "chat",
    bucket: Annotated[str, typer.Option(help="Width of a row, such as 5m, 1h, 1d.")] = "1h",
    as_json: JsonFlag = False,
) -> None:
    """Sum up calls per stretch of time.

    Calls, errors, median time to the first token, median and p95 time in all, tokens in and out, cost.
    """
    begin, end = _range(since, until)
    with Store.open(settings.data_path) as store:
        rows = store.traces.summary(
            since=begin,
            until=end,
            bucket_us=parse_duration(bucket),
            operation=operation,
        )
    if as_json:
        print_json(rows)
        return
    if not rows:
        out.print(f"Nothing recorded since {since}.")
        return
    print_table(
        list(COLUMNS.values()),
        [[_cell(column, row[column]) for column in COLUMNS] for row in rows],
        right=list(COLUMNS.values())[1:],
    )


@with_settings("project", "data_dir")
def status(*, settings: Settings, as_json: JsonFlag = False) -> None:
    """How much is stored, where, and whether anything was dropped or repaired."""
    with Store.open(settings.data_path) as store:
        report: dict[str, Any] = {"path": str(settings.data_path), **store.traces.status()}
    if as_json:
        print_json(report)
        return
    for name, value in report.items():
        shown = f"{moment(value)} UTC" if name in ("oldest", "newest") and value is not None else value
        if isinstance(value, list):
            shown = "; ".join(map(str, value))
        out.print(f"{name:>12}  {'none' if shown in (None, '') else shown}", markup=False)


def _range(since: str, until: str | None) -> tuple[int, int]:
    begin, end = parse_moment(since), parse_moment(until) if until else now_us()
    if begin >= end:
        raise UsageError(detail=f"--since {since} is not before --until {until or 'now'}: swap them.")
    return begin, end


def _cell(column: str, value: Any) -> str:
    if column == "time":
        return moment(value)[5:16]
    if column == "cost":
        return "unknown" if value is None else f"${value / 1e9:.4f}"
    if column.endswith("_us"):
        return span(None if value is None else int(value))
    return "" if value is None else str(value)


def _plain(row: Inference) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(row)
    return plain
