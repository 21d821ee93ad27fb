"""``fairlead cache``: what answering from memory saves, why a request would be answered so or not, and forgetting."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from fairlead.cli.output import JsonFlag, advise, out, print_json, print_table, with_settings
from fairlead.cli.times import moment, money, span
from fairlead.errors import UsageError
from fairlead.providers.base import Operation
from fairlead.settings import Settings
from fairlead.store import Store

Tenant = Annotated[str | None, typer.Option(help="Only this tenant's.")]
HITS: Mapping[str, str] = {"exact": "exact", "coalesced": "at once", "semantic": "alike"}
"""Ways an answer is given again, as the store and as the table names them."""
OPERATIONS: Mapping[str, Operation] = {"chat": "chat", "completion": "completion", "embedding": "embedding"}


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(no_args_is_help=True, help="Answers that are kept: what they save, why, and forgetting them.")
    group.command("stats")(stats)
    group.command("explain")(explain)
    group.command("purge")(purge)
    app.add_typer(group, name="cache")


@with_settings("project", "data_dir")
def stats(*, settings: Settings, tenant: Tenant = None, as_json: JsonFlag = False) -> None:
    """Show what is kept and what it saved, in money and time, by tenant and model."""
    from fairlead.app.rulers import learnt_of

    with Store.open(settings.data_path) as store:
        found = store.answers.stats()
    bands = learnt_of(settings, found.pop("bands"))
    if tenant is not None:
        found = {name: [row for row in rows if row["tenant"] == tenant] for name, rows in found.items()}
        bands = [band for band in bands if band["tenant"] == tenant]
    if as_json:
        print_json({**found, "paraphrases": bands})
        return
    if not found["kept"] and not found["counted"]:
        out.print("Nothing was kept yet. Ask the API the same twice, with temperature 0.")
        return
    columns = ["tenant", "model", "kept", "size", "asked", *HITS.values(), "answered", "saved", "time", "not kept"]
    print_table(columns, _savings(found["kept"], found["counted"]), right=columns[2:])
    if bands:
        out.print()
        print_table(
            ["tenant", "model", "alike from", "state", "checked", "wrong", "at most", "allowed", "answered"],
            [
                [
                    band["tenant"], band["route"], band["from"], "open" if band["open"] else "learning",
                    band["checked"], band["wrong"], f"{band['at_most']:.2%}", f"{band['allowed']:.2%}", band["served"],
                ]
                for band in bands
            ],
        )  # fmt: skip


def _savings(kept: Sequence[dict[str, Any]], counted: Sequence[dict[str, Any]]) -> list[list[Any]]:
    """A row for each tenant and model: what is kept, what was asked and answered, what that saved."""
    held = {(row["tenant"], row["route"]): row for row in kept}
    counts: dict[tuple[str, str], dict[str, Any]] = {}
    for row in counted:
        counts.setdefault((row["tenant"], row["route"]), {})[row["outcome"]] = row
    rows = []
    for place in sorted({*held, *counts}):
        by = counts.get(place, {})
        hits = [by[name] for name in HITS if name in by]
        asked = sum(line["requests"] for name, line in by.items() if name != "bypassed")
        answered = sum(line["requests"] for line in hits)
        here = held.get(place, {"answers": 0, "bytes": 0})
        rows.append(
            [
                *place, here["answers"], f"{here['bytes'] / 1024:.0f} KiB", asked,
                *(by.get(name, {}).get("requests", 0) for name in HITS),
                f"{answered / asked:.0%}" if asked else "–", money(sum(line["nanos"] for line in hits)),
                span(sum(line["saved_us"] for line in hits)), by.get("bypassed", {}).get("requests", 0),
            ]
        )  # fmt: skip
    return rows


@with_settings("project", "data_dir")
def explain(
    *,
    settings: Settings,
    file: Annotated[Path, typer.Argument(help="The request body as JSON; - reads standard input.")],
    operation: Annotated[str, typer.Option(help="chat, completion or embedding.")] = "chat",
    tenant: Annotated[str, typer.Option(help="Whose traffic it is.")] = "default",
    scope: Annotated[list[str], typer.Option(help="Scopes of the key that asks. Repeat for several.")] = ["inference"],  # noqa: B006
    as_json: JsonFlag = False,
) -> None:
    """Say whether a request would be answered from disk, and if not, which part of it differs."""
    from fairlead.app import build, explain_kept

    if operation not in OPERATIONS:
        raise UsageError(detail=f"There is no operation {operation!r}. Expected one of: {', '.join(OPERATIONS)}.")
    try:
        raw = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        body = orjson.loads(raw)
    except (OSError, orjson.JSONDecodeError) as error:
        raise UsageError(detail=f"{file} cannot be read as JSON: {error}") from error
    if not isinstance(body, dict):
        raise UsageError(detail=f"{file} holds no JSON object. Expected the body of a request.")
    fairlead = build(settings)
    try:
        found = explain_kept(fairlead, body, operation=OPERATIONS[operation], tenant=tenant, scopes=frozenset(scope))
    finally:
        fairlead.store.close()
    answer = found.kept
    if as_json:
        shown: dict[str, Any] = {"outcome": found.outcome, "why": found.why, "differs": found.differs}
        shown["parts"] = found.parts
        if answer is not None:
            shown["kept"] = {
                "tenant": answer.tenant, "route": answer.route, "release": answer.release, "writer": answer.writer,
                "created": _iso(answer.created), "expires": _iso(answer.expires), "saves_nanos": max(0, answer.nanos),
            }  # fmt: skip
        print_json(shown)
        return
    out.print(f"{found.outcome}: {found.why}.", markup=False)
    for name, digest in found.parts.items():
        differs = answer is not None and found.outcome != "hit" and name in found.differs
        out.print(f"  {name:<11} {digest[:12]}{'  differs' if differs else ''}", markup=False)
    if "scope" in found.differs:
        advise(
            "Say the scopes of the key that asks, as `fairlead keys list` shows them: --scope inference --scope admin"
        )
    if answer is not None:
        advise(
            f"Kept {moment(answer.created)} until {moment(answer.expires)}, made by inference {answer.writer} "
            f"(fairlead traces show {answer.writer})."
        )


@with_settings("project", "data_dir")
def purge(
    *,
    settings: Settings,
    tenant: Tenant = None,
    model: Annotated[str | None, typer.Option(help="Only this model's, by the name it is served under.")] = None,
    release: Annotated[str | None, typer.Option(help="Only this release's.")] = None,
    subject: Annotated[str | None, typer.Option(help="Only this user's, by the pseudonym traces show.")] = None,
    learnt: Annotated[bool, typer.Option("--learnt", help="Forget what was learnt of paraphrases, too.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how many would go.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Forget kept answers, on disk at once and in every running server within a second."""
    limits = {"tenant": tenant, "route": model, "release": release, "subject": subject}
    with Store.open(settings.data_path) as store:
        count = store.answers.count(**limits) if dry_run else store.answers.purge(**limits, learnt=learnt)
    if as_json:
        print_json({"answers": count, "dry_run": dry_run})
    else:
        verb = "would be" if dry_run else "was" if count == 1 else "were"
        out.print(f"{count} kept answer{'' if count == 1 else 's'} {verb} forgotten.")


def _iso(time: int) -> str:
    return datetime.datetime.fromtimestamp(time / 1e6, datetime.UTC).isoformat()
