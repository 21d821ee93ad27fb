"""``fairlead init``, ``check`` and ``schema``: step 1, say what good means."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from fairlead import spec
from fairlead.app import doubts, faults
from fairlead.cli.output import JsonFlag, advise, err, fits, out, print_json, print_table
from fairlead.errors import UsageError
from fairlead.spec import CheckReport
from fairlead.spec.plan import CostPlan, Measure, ObjectivePlan, Sight


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("init")(init)
    app.command("check")(check)
    app.command("schema")(schema)


def init(
    template: Annotated[
        str | None, typer.Argument(help="What to start from; without it the templates are listed.")
    ] = None,
    folder: Annotated[Path, typer.Argument(help="Where to put it; made if it does not exist.")] = Path(),
    *,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that exist.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which files would be written.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Write a working project from a template.

    It holds fairlead.yaml, knowledge to answer from, and questions to measure with.
    """
    if template is None:
        templates = spec.templates()
        if as_json:
            print_json(templates)
            return
        print_table(["template", "what it is"], list(templates.items()))
        advise("\nFor example: fairlead init shop-support my-shop")
        return
    files = [str(path) for path in spec.init(template, folder, force=force, dry_run=dry_run)]
    if as_json:
        print_json({"written": not dry_run, "files": files})
        return
    for file in files:
        out.print(f"{'would write' if dry_run else 'wrote'} {file}", markup=False)
    if not dry_run:
        enter = "" if folder == Path() else f"cd {shlex.quote(str(folder))} && "
        advise(f'\nNext: {enter}fairlead check && fairlead ask "{spec.first_question(template)}"')


def check(
    project: Annotated[Path, typer.Argument(help="The project's folder, or its fairlead.yaml.")] = Path(),
    *,
    as_json: JsonFlag = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit 1 on warnings too.")] = False,
) -> None:
    """Check the definition before money is spent.

    Says what is wrong and where, what the data at hand can show, and what the declared traffic will cost.
    """
    report = spec.check(project)
    usecase = spec.load(project) if report.ok else None
    broken = faults(usecase) if usecase is not None else []
    if usecase is not None and not broken:
        report = msgspec.structs.replace(report, warnings=(*report.warnings, *doubts(usecase)))
    if as_json:
        print_json({**msgspec.to_builtins(report), "ok": report.ok and not broken, "faults": broken})
    elif broken:
        err.print(f"{report.file}: the definition is sound, what it names is not:", style="red", markup=False)
        for sentence in broken:
            advise(f"  {sentence}", to=err)
    else:
        describe(report)
    if not report.ok or broken:
        raise typer.Exit(2)
    if strict and report.warnings:
        raise typer.Exit(1)


def schema(
    output: Annotated[Path | None, typer.Option(help="Write it to this file instead of standard output.")] = None,
) -> None:
    """Print the JSON Schema of fairlead.yaml.

    Editors use it for completion and checks.
    """
    if output is None:
        print_json(spec.json_schema())
        return
    try:
        output.write_bytes(msgspec.json.format(msgspec.json.encode(spec.json_schema()), indent=2) + b"\n")
    except OSError as error:
        raise UsageError(detail=f"{output} cannot be written ({error.strerror}). Choose another file.") from error
    err.print(f"Wrote {output}. First line for fairlead.yaml: # yaml-language-server: $schema={output}", markup=False)


def describe(report: CheckReport, *, brief: bool = False) -> None:
    """Print a check report for people: problems to standard error, else what was found."""
    if report.problems:
        things = "1 thing" if len(report.problems) == 1 else f"{len(report.problems)} things"
        err.print(f"{report.file}: {things} to mend", style="red", markup=False)
        for problem in report.problems:
            advise(f"  {problem}", to=err)
        return
    data = ", ".join(f"{each.id} ({each.rows} rows, {each.purpose})" for each in report.datasets) or "none"
    out.print(
        f"{report.name}: sound. Spec {report.spec_hash[:16]}, live variant {report.live}, data: {data}", markup=False
    )
    out.print(
        f"\nWhat can be shown at {report.confidence:.0%} confidence: ± half the interval at the bound, Δ the smallest "
        "difference between two variants that shows in 4 of 5 cases (% are points).",
        markup=False,
        soft_wrap=False,
    )
    _print_objectives(report.objectives)
    out.print("\nWhat the declared traffic costs in model fees:", markup=False)
    print_table(
        ["variant", "model", "a day", "a month", "an evaluation", "budget"],
        [_cost(cost) for cost in report.costs],
        right=["a day", "a month", "an evaluation"],
    )
    for warning in () if brief else report.warnings:
        out.print("[yellow]◌[/yellow] ", end="")
        advise(warning)


def _print_objectives(plans: Sequence[ObjectivePlan]) -> None:
    """One table; where that would fold, one of what must hold and one of what can be shown."""
    columns = ["objective", "kind", "must hold", "data at hand", "a week of traffic", "to confirm"]
    rows = [_objective(plan) for plan in plans]
    halves = [(0, 1, 2, 3, 4, 5)] if fits(columns, rows) else [(0, 1, 2, 5), (0, 3, 4)]
    for number, half in enumerate(halves):
        if number:
            out.print()
        print_table([columns[n] for n in half], [[row[n] for n in half] for row in rows], right=["to confirm"])


def _objective(plan: ObjectivePlan) -> list[str]:
    needed = "unknown" if plan.needed is None else f"n={plan.needed:,}"
    sights = [_sight(sight, plan.measure) for sight in (plan.evaluation, plan.week)]
    return [plan.objective, plan.kind, f"{plan.aggregation} {plan.bound}", *sights, needed]


def _sight(sight: Sight | None, measure: Measure) -> str:
    if sight is None:
        return "nothing"
    width = "too little" if sight.half_width is None else f"±{_amount(sight.half_width, measure)}"
    compare = "" if sight.comparison is None else f" Δ{_amount(sight.comparison, measure)}"
    return f"{width}{compare} n={sight.n:,}"


def _amount(value: float, measure: Measure) -> str:
    if measure == "share":
        return f"{value * 100:.2g}%"
    return f"{value:.3g} sd" if measure == "standard deviations" else f"{value:.3g}"


def _cost(cost: CostPlan) -> list[str]:
    def usd(value: float | None) -> str:
        return "unknown" if value is None else f"${value:,.2f}"

    does = "may break" if cost.at_most else "breaks"
    broken = f"{does} {', '.join(cost.breaks)}" if cost.breaks else "unknown" if cost.per_day_usd is None else "holds"
    return [cost.variant, cost.model, usd(cost.per_day_usd), usd(cost.per_month_usd), usd(cost.evaluation_usd), broken]
