"""``fairlead traces``: look at what happened, from the terminal."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer

from fairlead.cli.output import JsonFlag, out, print_json, print_table, with_settings
from fairlead.cli.times import moment, money, parse_duration, parse_moment, span
from fairlead.errors import UsageError
from fairlead.records import Inference, now_us
from fairlead.settings import Settings
from fairlead.store import Store

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
    with Store.open(settings.data_path) as store:
        rows = store.traces.query(
            since=parse_moment(since),
            until=parse_moment(until) if until else now_us(),
            conversation=conversation,
            variant=variant,
            limit=limit,
        )
    if as_json:
        print_json([_plain(row) for row in rows])
        return
    if not rows:
        out.print(f'Nothing recorded since {since}. Ask something: fairlead ask "How long does delivery take?"')
        return
    print_table(
        ["time (UTC)", "id", "operation", "variant", "status", "tokens in", "out", "first", "total", "cost"],
        [
            [
                moment(row.time), row.id, row.operation, row.variant, row.error or row.status, row.input_tokens,
                row.output_tokens, span(row.first_token_us), span(row.total_us), money(row.cost),
            ]
            for row in rows
        ],
        right=["tokens in", "out", "first", "total", "cost"],
    )  # fmt: skip


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
    bucket: Annotated[str, typer.Option(help="Width of a row, such as 5m, 1h, 1d.")] = "1h",
    as_json: JsonFlag = False,
) -> None:
    """Requests, errors, latency, tokens and cost per stretch of time."""
    with Store.open(settings.data_path) as store:
        rows = store.traces.summary(
            since=parse_moment(since),
            until=parse_moment(until) if until else now_us(),
            bucket_us=parse_duration(bucket),
        )
    if as_json:
        print_json(rows)
        return
    if not rows:
        out.print(f"Nothing recorded since {since}.")
        return
    columns = list(rows[0])
    print_table(columns, [[_cell(column, row[column]) for column in columns] for row in rows], right=columns[1:])


@with_settings("project", "data_dir")
def status(*, settings: Settings, as_json: JsonFlag = False) -> None:
    """How much is stored, where, and whether anything was dropped or repaired."""
    with Store.open(settings.data_path) as store:
        report: dict[str, Any] = {"path": str(settings.data_path), **store.traces.status()}
    if as_json:
        print_json(report)
        return
    for name, value in report.items():
        shown = moment(value) if name in ("oldest", "newest") and isinstance(value, int) else value
        out.print(f"{name:>12}  {shown}", markup=False)


def _cell(column: str, value: Any) -> str:
    if column in ("time", "start", "bucket"):
        return moment(value)
    if column == "cost":
        return money(value)
    if column.endswith("_us"):
        return span(None if value is None else int(value))
    return "" if value is None else str(value)


def _plain(row: Inference) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(row)
    return plain
