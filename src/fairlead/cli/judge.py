"""``fairlead judge``: how well the models that judge answers agree with people, and what they may decide."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fairlead import app
from fairlead.app import rulers
from fairlead.cli.output import JsonFlag, err, out, print_json, print_table, with_settings
from fairlead.cli.times import moment
from fairlead.errors import UsageError
from fairlead.evaluate.judges import Labelled, Standing, calibrate, read_labels, standing_of
from fairlead.evaluate.judges.calibration import CONFIDENCE, REPEATED, Findings, findings_of, record_of, shown
from fairlead.evaluate.reading import read
from fairlead.records import JudgeCalibration
from fairlead.select.duel import Duel, duel
from fairlead.select.stored import compare, samples_of, side_of
from fairlead.settings import Settings
from fairlead.spec import UseCase, load
from fairlead.store import Store

Name = Annotated[str, typer.Argument(help="A judge of `judges:` in fairlead.yaml.")]
NOT_YET = 3
"""Exit status of a calibration that does not let the judge decide."""


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(no_args_is_help=True, help="Models that judge answers: list, show, calibrate, compare.")
    group.command("list")(list_judges)
    group.command("show")(show)
    group.command("calibrate")(calibrate_judge)
    group.command("compare")(compare_candidates)
    app.add_typer(group, name="judge")


@with_settings("project", "data_dir")
def list_judges(*, settings: Settings, as_json: JsonFlag = False) -> None:
    """List the judges and what each may decide."""
    usecase = load(settings.spec_path)
    with Store.open(settings.data_path) as store:
        standings = rulers.judge_standings(usecase, store)
    if as_json:
        print_json([_summary(usecase, each) for each in standings])
    elif not standings:
        out.print("No judge is declared: see `judges:` in docs/judges.md.", markup=False)
    else:
        rows = []
        for each in standings:
            judge = usecase.judge(each.judge)
            rows.append([judge.id, judge.kind, judge.variant, each.badge])
        print_table(["judge", "kind", "variant", "standing"], rows)


@with_settings("project", "data_dir")
def show(*, settings: Settings, name: Name, as_json: JsonFlag = False) -> None:
    """Show a judge: its rubric, what it must hold, and every calibration of it."""
    usecase = load(settings.spec_path)
    judge = usecase.judge(name)
    with Store.open(settings.data_path) as store:
        records = store.calibrations.list(judge=name)
    standing = standing_of(name, rulers.judge_definition(usecase, name).hash, judge.needs, records)
    if as_json:
        print_json({**_summary(usecase, standing), "calibrations": [_plain(each) for each in records]})
        return
    out.print(f"{judge.id}: {judge.kind}, judged by {judge.variant}; {standing.badge}", markup=False)
    out.print(f"  {judge.rubric}", markup=False)
    _tell_reasons(standing)
    if standing.record is not None:
        _tell(findings_of(standing.record))
    if len(records) > (standing.record is not None):
        rows = [[moment(e.time)[:16], e.labels, e.n, e.hash[:12], shown(findings_of(e).kappa)] for e in records]
        print_table(["since UTC", "labels", "n", "judge", "kappa"], rows, right=["n"])


@with_settings("project", "data_dir", "engine_threads")
def calibrate_judge(
    *,
    settings: Settings,
    name: Name,
    labels: Annotated[Path, typer.Option(help="File with questions, answers and what people said of them.")],
    mapping: Annotated[
        list[str], typer.Option("--map", help="PART=COLUMN where columns have other names. Repeat for several.")
    ] = [],  # noqa: B006  typer reads the default; nobody changes it
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many rows, chosen by chance.")] = None,
    repeat: Annotated[int, typer.Option(min=0, help="Cases that are asked about a second time.")] = REPEATED,
    concurrency: Annotated[int, typer.Option(min=1, max=256, help="Cases looked at at once.")] = 4,
    budget: Annotated[
        float | None, typer.Option(min=0, help="Most USD to spend; budget.evaluation_usd if left out.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read the labels, ask nothing, keep nothing.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Measure how well a judge agrees with people, and keep the record.

    Every look is kept: broken off, it goes on where it was. Exits 0 when the judge may decide, 3 when not.
    """
    usecase = load(settings.spec_path)
    judge = usecase.judge(name)
    pairs = dict(_pair(each) for each in mapping)
    labelled = read_labels(read(labels).rows, judge.kind, str(labels), pairs)
    chosen = _chosen(labelled, limit)
    nanos = _budget(usecase, judge.variant, budget)
    if dry_run:
        looks = len(chosen) * (2 if judge.kind == "pairwise" else 1) + min(repeat, len(chosen))
        found = {"judge": name, "cases": len(chosen), "looks": looks, "variant": judge.variant}
        print_json(found) if as_json else out.print(
            f"{len(chosen)} labelled cases; {name} would ask {judge.variant} {looks} times", markup=False
        )
        return
    record, standing = asyncio.run(_calibrate(settings, name, chosen, labels.name, repeat, concurrency, nanos))
    if as_json:
        print_json({**_summary(usecase, standing), "calibration": _plain(record)})
    else:
        _tell(findings_of(record))
        out.print(f"{name}: {standing.badge}", markup=False)
        _tell_reasons(standing)
    if standing.state != "calibrated":
        raise typer.Exit(NOT_YET)


@with_settings("project", "data_dir", "engine_threads")
def compare_candidates(
    *,
    settings: Settings,
    name: Name,
    before: Annotated[str, typer.Argument(help="RUN or RUN:CANDIDATE; without a candidate the chosen one.")],
    after: Annotated[str, typer.Argument(help="What to compare with, written the same way.")],
    budget: Annotated[
        float | None, typer.Option(min=0, help="USD this may cost; budget.evaluation_usd if left out.")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, max=64, help="Calls at once.")] = 4,
    as_json: JsonFlag = False,
) -> None:
    """Have a pairwise judge say which of two candidates answered each sample better, in both orders.

    Of runs of fairlead select. Every look is kept: broken off, it goes on where it was.
    """
    usecase = load(settings.spec_path)
    nanos = _budget(usecase, usecase.judge(name).variant, budget)
    found, standing = asyncio.run(_compare(settings, name, before, after, concurrency, nanos))
    if as_json:
        print_json({"judge": name, "badge": standing.badge, "before": before, "after": after,
                    **msgspec.to_builtins(found)})  # fmt: skip
        return
    print_table(
        ["of", "pairs"],
        [["after is better", found.better], ["before is better", found.worse],
         [f"they tie ({found.flips} by the order alone)", found.ties], ["no verdict", found.invalid]],
        right=["pairs"],
    )  # fmt: skip
    if found.preferred is not None:
        chance = f"sign test, p = {found.p_value:.2g}"
        out.print(f"after is preferred in {shown(found.preferred)} of those decided ({chance})", markup=False)
    cost = "unknown" if found.cost_nanos is None else f"{found.cost_nanos / 1e9:.4f} USD"
    out.print(f"{found.calls} calls, {found.known} looks known from before, cost {cost}", markup=False)
    out.print(f"{name}: {standing.badge}", markup=False)
    _tell_reasons(standing)
    if found.stopped:
        err.print(f"Stopped early: {found.stopped}. The same command goes on.", markup=False)


async def _compare(
    settings: Settings, name: str, before: str, after: str, concurrency: int, budget_nanos: int | None
) -> tuple[Duel, Standing]:
    fairlead = app.build(settings, observed=False)
    try:
        judge, store = fairlead.usecase.judge(name), fairlead.store
        comparison = compare(side_of(store, before), side_of(store, after))
        await fairlead.start_variant(judge.variant)
        found = await duel(
            rulers.judge_of(fairlead, name), comparison, samples_of(store, comparison.before.run),
            confidence=fairlead.usecase.confidence, budget_nanos=budget_nanos, kept=store.derived,
            concurrency=concurrency,
        )  # fmt: skip
        standings = {each.judge: each for each in rulers.judge_standings(fairlead.usecase, store)}
        return found, standings[name]
    finally:
        await fairlead.stop()


async def _calibrate(
    settings: Settings, name: str, labelled: list[Labelled], labels: str, repeat: int, concurrency: int,
    budget_nanos: int | None,
) -> tuple[JudgeCalibration, Standing]:  # fmt: skip
    progress = Progress(
        TextColumn("judging"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=err, transient=True
    )
    fairlead = app.build(settings)
    try:
        judge = fairlead.usecase.judge(name)
        await fairlead.start_variant(judge.variant)
        instrument = rulers.judge_of(fairlead, name)
        with progress:
            task = progress.add_task("judging", total=None)
            found = await calibrate(
                instrument, labelled, repeats=repeat, concurrency=concurrency, budget_nanos=budget_nanos,
                kept=fairlead.store.derived,
                progress=lambda done, total: progress.update(task, completed=done, total=total),
            )  # fmt: skip
        record = record_of(instrument, found, labelled, labels, fairlead.usecase)
        fairlead.store.calibrations.add(record)
        records = fairlead.store.calibrations.list(judge=name)
        return record, standing_of(name, instrument.definition.hash, judge.needs, records)
    finally:
        await fairlead.stop()


def _chosen(labelled: list[Labelled], limit: int | None) -> list[Labelled]:
    """Some of the cases, by chance and always the same: files are often sorted."""
    if limit is None or limit >= len(labelled):
        return labelled
    return random.Random(0).sample(labelled, limit)


def _budget(usecase: UseCase, variant: str, given: float | None) -> int | None:
    """The budget in nano-dollars; None where there is none or the model is free. Raises UsageError for no price."""
    usd = usecase.budget.evaluation_usd if given is None else given
    price = app.price_of(usecase, usecase.variant(variant))
    if usd is None or (price is not None and not any(price)):
        return None
    if price is None:
        detail = f"a budget of {usd:g} USD cannot be kept: the variant {variant} has no `price:`. Add it"
        raise UsageError(detail=detail)
    return round(usd * 1e9)


def _tell(found: Findings) -> None:
    rows: list[list[str]] = [
        ["agreement with people", shown(found.accuracy), str(found.accuracy.n)],
        ["Cohen's kappa", shown(found.kappa), str(found.n)],
    ]
    if found.ceiling is not None:
        rows.append(["  people with each other", f"{found.ceiling:.2f}", ""])
    rows += [[f"  without a model: {peer}", shown(each), str(each.n)] for peer, each in found.peers.items()]
    optional = {
        "as given, one order": found.one_order,
        "the order decided": found.flips,
        "chose what was shown first": found.prefers_first,
        "chose the longer answer": found.longer,
        "  people did": found.longer_people,
        "same verdict again": found.repeats,
        "no verdict": found.invalid,
    }
    rows += [[name, shown(each), str(each.n)] for name, each in optional.items() if each is not None]
    print_table([f"{CONFIDENCE:.0%} intervals", "value", "n"], rows, right=["n"])
    cost = "unknown" if found.cost_nanos is None else f"{found.cost_nanos / 1e9:.4f} USD"
    out.print(f"{found.calls} calls, {found.kept} looks known from before, cost {cost}", markup=False)
    for count, what in ((found.undecided, "have no label that most people gave"), (found.failed, "got no answer")):
        if count:
            err.print(f"{count} cases {what} and do not count", markup=False)
    if found.stopped:
        err.print(f"Stopped early: {found.stopped}. The same command goes on.", markup=False)


def _tell_reasons(standing: Standing) -> None:
    for reason in standing.reasons:
        out.print(f"  it decides nothing: {reason}", markup=False)


def _summary(usecase: UseCase, standing: Standing) -> dict[str, Any]:
    judge = usecase.judge(standing.judge)
    return {
        "judge": judge.id, "kind": judge.kind, "variant": judge.variant, "rubric": judge.rubric,
        "needs": judge.needs.model_dump(mode="json"), "hash": standing.hash, "state": standing.state,
        "badge": standing.badge, "reasons": list(standing.reasons),
    }  # fmt: skip


def _pair(text: str) -> tuple[str, str]:
    name, sign, value = text.partition("=")
    if not (name and sign and value):
        raise UsageError(detail=f"--map {text!r} is no PART=COLUMN.")
    return name, value


def _plain(value: Any) -> dict[str, Any]:
    plain: dict[str, Any] = msgspec.to_builtins(value)
    return plain
