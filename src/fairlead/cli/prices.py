"""``fairlead prices``: what hosted models cost: list, show, update."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Annotated

import typer

from fairlead.cli.output import JsonFlag, advise, err, out, print_json, print_table, with_settings
from fairlead.errors import UsageError
from fairlead.settings import Settings
from fairlead.spec import UseCase, Variant, load
from fairlead.spec.prices import FILE_NAME, OLD_DAYS, PriceTable, encode, read_prices, table_for
from fairlead.spec.target import TargetError, read_target

DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would change, keep nothing.")]


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(no_args_is_help=True, help="What hosted models cost: list, show, update.")
    group.command("list")(list_prices)
    group.command("show")(show)
    group.command("update")(update)
    app.add_typer(group, name="prices")


@with_settings("project")
def list_prices(
    *,
    settings: Settings,
    like: Annotated[str, typer.Option(help="Only names that hold this.")] = "",
    as_json: JsonFlag = False,
) -> None:
    """List the prices in force, with their source and date."""
    table = table_for(settings.project)
    rows = {name: pair for name, pair in table.prices.items() if like.lower() in name.lower()}
    if as_json:
        print_json({"source": table.source, "date": table.date, "prices": rows})
        return
    print_table(
        ["model", "USD a million read", "written"], [[name, f"{a:g}", f"{b:g}"] for name, (a, b) in rows.items()],
        right=["USD a million read", "written"],
    )  # fmt: skip
    out.print(f"\nAs of {table.date}: {table.source}", markup=False)
    _warn_of_age(table)


@with_settings("project")
def show(
    *,
    settings: Settings,
    model: Annotated[
        str | None, typer.Argument(help="A `model:` line; all variants of fairlead.yaml if left out.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show what a model costs, or every variant, and who says so."""
    found: dict[str, tuple[float, float] | None] = {}
    said: dict[str, str] = {}
    table = table_for(settings.project)
    if model is not None:
        try:
            target = read_target(model)
        except TargetError as error:
            raise UsageError(detail=f"{model!r} is no model. Expected {error.expected}") from error
        priced = table.find(target)
        found[model] = (priced.input_usd_per_million, priced.output_usd_per_million) if priced else None
        said[model] = f"the row {priced.name} of {table.source}, {table.date}" if priced else "in no table"
    else:
        usecase = load(settings.spec_path)
        for variant in usecase.variants:
            price = usecase.price_of(variant)
            own = _own(usecase, variant)
            found[variant.id] = (
                (price.input_usd_per_million, price.output_usd_per_million) if price else (0, 0) if own else None
            )
            said[variant.id] = _said(usecase, variant)
    if as_json:
        print_json({name: {"usd_per_million": pair, "says": said[name]} for name, pair in found.items()})
        return
    rows = [[n, *(("unknown", "") if p is None else (f"{p[0]:g}", f"{p[1]:g}")), said[n]] for n, p in found.items()]
    print_table(
        ["model", "USD a million read", "written", "who says so"], rows, right=["USD a million read", "written"]
    )


def _own(usecase: UseCase, variant: Variant) -> bool:
    """Whether nobody else's machine answers."""
    return not any(each.target.remote for each in usecase.answering(variant))


def _said(usecase: UseCase, variant: Variant) -> str:
    """Who says what a variant costs."""
    if variant.price:
        return "fairlead.yaml"
    if usecase.price_of(variant) is None:
        missing = " and ".join(usecase.unpriced(variant))
        return "a machine of your own, not counted" if _own(usecase, variant) else f"unknown: add `price:` to {missing}"
    if variant.between:
        return f"the dearer of {variant.between.small} and {variant.between.big}"
    return f"{usecase.price_table.source}, {usecase.price_table.date}"


@with_settings("project")
def update(
    *,
    settings: Settings,
    file: Annotated[Path | None, typer.Argument(help="A price table: JSON of several forms, or CSV.")] = None,
    source: Annotated[str, typer.Option(help="Where it comes from; the file's name if left out.")] = "",
    date: Annotated[str | None, typer.Option(help="The day the prices hold (YYYY-MM-DD); today if left out.")] = None,
    reset: Annotated[bool, typer.Option("--reset", help="Go back to the table that comes with Fairlead.")] = False,
    dry_run: DryRun = False,
    as_json: JsonFlag = False,
) -> None:
    """Take prices from a file into the project's own table, prices.json beside fairlead.yaml.

    The table that was there is kept as prices.json.old.
    """
    if (file is None) == (not reset):
        raise UsageError(detail="Give a file, or --reset. For example: fairlead prices update prices.csv")
    own = settings.project / FILE_NAME
    before = table_for(settings.project)
    after = None if file is None else read_prices(file, source=source, today=_day(date))
    if not dry_run:
        if own.is_file():
            own.replace(own.with_name(FILE_NAME + ".old"))
        if after is not None:
            own.write_bytes(encode(after))
    now = after or (before if dry_run else table_for(settings.project))
    changed = {n: (before.prices.get(n), now.prices.get(n)) for n in sorted(before.prices | now.prices)}
    changed = {name: pair for name, pair in changed.items() if pair[0] != pair[1]}
    if as_json:
        print_json({"kept": not dry_run, "source": now.source, "date": now.date, "changed": changed})
        return
    verb = "would keep" if dry_run else "kept"
    out.print(f"{verb} {len(now.prices)} prices of {now.date} ({now.source}); {len(changed)} differ", markup=False)
    for name, (old, new) in list(changed.items())[:20]:
        out.print(f"  {name}: {_pair(old)} to {_pair(new)}", markup=False)


def _day(text: str | None) -> datetime.date:
    try:
        return datetime.date.fromisoformat(text) if text else datetime.datetime.now(datetime.UTC).date()
    except ValueError:
        raise UsageError(detail=f"--date {text!r} is no day. Expected one like 2026-11-29") from None


def _pair(pair: tuple[float, float] | None) -> str:
    return "unknown" if pair is None else f"{pair[0]:g} / {pair[1]:g}"


def _warn_of_age(table: PriceTable) -> None:
    days = table.age_days(datetime.datetime.now(datetime.UTC).date())
    if days > OLD_DAYS:
        advise(f"These prices are {days} days old. A newer table: fairlead prices update FILE", to=err)
