"""``fairlead budget``: what the budgets have left, and the ledger that proves it."""

from __future__ import annotations

from typing import Annotated

import typer

from fairlead.admission import LimitRules, standings
from fairlead.cli.output import JsonFlag, err, out, print_json, print_table, with_settings
from fairlead.cli.times import moment, money, parse_moment
from fairlead.records import now_us
from fairlead.settings import Settings
from fairlead.spec import load
from fairlead.store import Store


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(no_args_is_help=True, help="Show what the budgets have left, and prove it.")
    group.command("show")(show)
    group.command("ledger")(ledger)
    app.add_typer(group, name="budget")


@with_settings("project", "data_dir")
def show(*, settings: Settings, as_json: JsonFlag = False) -> None:
    """Show what was spent today and this month, what is reserved and left, and whether the ledger adds up.

    Exits with 1 when it does not.
    """
    usecase = load(settings.spec_path)
    with Store.open(settings.data_path) as store:
        store.ledger.recover()
        found = standings(LimitRules(usecase), store.ledger, store.keys.list(), now_us())
        differences = store.ledger.reconcile(usecase.name)
    if as_json:
        print_json({"budgets": found, "reconciles": not differences, "differences": differences})
    elif not found:
        out.print(
            "There is no budget. Set one: `budget: {per_day_usd: 10}` in fairlead.yaml, or a key's --usd-per-day."
        )
    else:
        print_table(
            ["budget of", "name", "period (UTC)", "limit", "spent", "reserved", "left", "at this pace"],
            [
                [
                    each.scope, each.label, each.period, f"${each.limit / 1e9:g}", money(each.paid), money(each.held),
                    money(each.left), "" if each.pace is None else f"${each.pace / 1e9:.2f}",
                ]
                for each in found
            ],
            right=["limit", "spent", "reserved", "left", "at this pace"],
        )  # fmt: skip
    for difference in differences:
        err.print(f"The ledger does not add up: {difference}", style="red", markup=False)
    if differences:
        raise typer.Exit(1)


@with_settings("project", "data_dir")
def ledger(
    *,
    settings: Settings,
    since: Annotated[str, typer.Option(help="From when: a duration before now such as 24h, or a time.")] = "24h",
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="Most lines.")] = 100,
    as_json: JsonFlag = False,
) -> None:
    """List the ledger's lines, newest first: money reserved, settled and released by each process."""
    usecase = load(settings.spec_path)
    with Store.open(settings.data_path) as store:
        entries = store.ledger.entries(usecase.name, since=parse_moment(since), until=now_us() + 1, limit=limit)
        names = {key.origin: key.name for key in store.keys.list()}
    if as_json:
        print_json(entries)
        return
    if not entries:
        out.print("Nothing was reserved or spent in that time.")
        return
    rows = [
        [moment(entry.time), entry.kind, money(entry.amount), entry.requests or "", entry.scope,
         names.get(entry.name, entry.name), entry.period, entry.note]
        for entry in entries
    ]  # fmt: skip
    columns = ["time (UTC)", "kind", "amount", "requests", "budget of", "name", "period", "note"]
    print_table(columns, rows, right=["amount", "requests"])
