"""``fairlead runs``: what was measured: list, show, diff, delete."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from fairlead.cli.output import (
    JsonFlag,
    advise,
    check_writable,
    out,
    print_json,
    print_table,
    with_settings,
    write_report,
)
from fairlead.cli.times import moment, money, parse_moment
from fairlead.errors import UsageError
from fairlead.records import Run, now_us
from fairlead.select import page
from fairlead.select.report import Report
from fairlead.select.stored import came_to, compare, side_of, state_of, text_of
from fairlead.select.words import score
from fairlead.settings import Settings
from fairlead.store import Store
from fairlead.store.runs import Measured

WIDTH = 70

RunId = Annotated[str, typer.Argument(help="Id of the run, or its end.")]


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(no_args_is_help=True, help="What was measured: list, show, diff, delete.")
    group.command("list")(list_runs)
    group.command("show")(show)
    group.command("diff")(diff)
    group.command("delete")(delete)
    app.add_typer(group, name="runs")


@with_settings("project", "data_dir")
def list_runs(
    *,
    settings: Settings,
    since: Annotated[str, typer.Option(help="From when: a duration before now or a time.")] = "30d",
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most this many, newest first.")] = 20,
    as_json: JsonFlag = False,
) -> None:
    """List runs, newest first."""
    with Store.open(settings.data_path) as store:
        runs = store.runs.list(since=parse_moment(since), until=now_us() + 1, limit=limit)
        counts = {run.id: sum(store.runs.count(run.id).values()) for run in runs}
    if as_json:
        print_json([{**_brief(run), "results": counts[run.id]} for run in runs])
    elif not runs:
        advise("Nothing was measured yet: fairlead select")
    else:
        rows = [
            [
                run.id[-8:],
                moment(run.time)[:16],
                run.step,
                run.dataset,
                state_of(run),
                counts[run.id],
                money(run.cost),
                came_to(run),
            ]
            for run in runs
        ]
        print_table(
            ["run", "since UTC", "step", "data", "state", "answers", "cost", "came to"],
            rows,
            right=["answers", "cost"],
        )


@with_settings("project", "data_dir")
def show(
    *,
    settings: Settings,
    run: RunId,
    variant: Annotated[str | None, typer.Option(help="Show this candidate's answers instead of the report.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most this many answers.")] = 20,
    html: Annotated[Path | None, typer.Option(help="Write the report here, one file that needs no other.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Write the report here as Markdown.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show a run's report, or the answers of one candidate."""
    check_writable(html, markdown)
    with Store.open(settings.data_path) as store:
        found = store.runs.get(run)
        answers = list(store.runs.results(found.id, variant=variant))[:limit] if variant else []
    if variant:
        _show_answers(answers, as_json=as_json)
        return
    report = msgspec.convert(found.report, Report) if found.report else None
    for path, text in ((html, page.html), (markdown, page.markdown)):
        if path is not None:
            if report is None:
                raise UsageError(detail=f"run {found.id} has no report: it is {state_of(found)}")
            write_report(path, text(report))
    if as_json:
        print_json({**_brief(found), "plan": found.plan, "report": found.report})
    elif report is None:
        out.print(f"{found.id} of {found.dataset} is {state_of(found)} and has no report.", markup=False)
    else:
        from fairlead.cli.select import show as show_report

        show_report(report)


@with_settings("project", "data_dir")
def diff(
    *,
    settings: Settings,
    before: Annotated[str, typer.Argument(help="RUN or RUN:CANDIDATE; without a candidate the chosen one.")],
    after: Annotated[str, typer.Argument(help="What to compare with, written the same way.")],
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most this many samples.")] = 20,
    as_json: JsonFlag = False,
) -> None:
    """Compare two candidates sample by sample, of one run or of two: where one is right and the other is not."""
    with Store.open(settings.data_path) as store:
        found = compare(side_of(store, before), side_of(store, after))
    one, other, scorer = found.before.candidate, found.after.candidate, found.before.scorer
    rows: list[dict[str, Any]] = [
        {"sample": each.sample, "epoch": each.epoch, "values": each.values, "answers": each.answers}
        for each in found.changes
        if each.values[0] != each.values[1]
    ]
    both, better, worse = len(found.changes), found.count("better"), found.count("worse")
    if as_json:
        print_json({
            "before": one, "after": other, "scorer": scorer, "common": both, "better": better, "worse": worse,
            "samples": rows[:limit],
        })  # fmt: skip
        return
    out.print(
        f"{one} to {other} on {both} samples by {scorer}: {better} better, {worse} worse, {both - len(rows)} the same",
        markup=False,
    )
    print_table(
        ["sample", one, "", other, ""],
        [
            [
                row["sample"],
                _short(row["answers"][0]),
                _shown(row["values"][0]),
                _short(row["answers"][1]),
                _shown(row["values"][1]),
            ]
            for row in rows[:limit]
        ],
    )


@with_settings("project", "data_dir")
def delete(
    *,
    settings: Settings,
    run: RunId,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would go, delete nothing.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Delete a run with its results; the answers that were paid for stay, as other runs rest on them."""
    with Store.open(settings.data_path) as store:
        found = store.runs.get(run)
        count = sum(store.runs.count(found.id).values())
        if not dry_run:
            store.runs.delete(found.id)
    if as_json:
        print_json({"deleted": not dry_run, "run": found.id, "results": count})
    else:
        out.print(f"{'would delete' if dry_run else 'deleted'} {found.id} and {count} results", markup=False)


def _shown(value: Any) -> str:
    if value is None:
        return "–"
    return ("right" if value else "wrong") if isinstance(value, bool) else f"{value:.3g}"


def _show_answers(answers: list[Measured], *, as_json: bool) -> None:
    if as_json:
        print_json([_plain(each) for each in answers])
        return
    rows = [[each.result.sample, _short(text_of(each)), _scores(each)] for each in answers]
    print_table(["sample", "answer", "scores"], rows)


def _plain(measured: Measured) -> dict[str, Any]:
    return {
        "sample": measured.result.sample,
        "epoch": measured.result.epoch,
        "answer": measured.answered.answer,
        "error": measured.answered.error,
        "scores": {name: found.get("value") for name, found in measured.result.scores.items()},
    }


def _scores(measured: Measured) -> str:
    shown = {name: found.get("value") for name, found in measured.result.scores.items()}
    return ", ".join(f"{name} {score(name, value)}" for name, value in shown.items() if value is not None)


def _brief(run: Run) -> dict[str, Any]:
    names = ("id", "time", "step", "dataset", "content", "ended", "cost", "spec_hash")
    return {**{name: getattr(run, name) for name in names}, "state": state_of(run), "came_to": came_to(run)}


def _short(text: object) -> str:
    line = " ".join(str(text).split())
    return line if len(line) <= WIDTH else line[: WIDTH - 1] + "…"
