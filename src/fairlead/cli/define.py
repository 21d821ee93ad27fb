"""``fairlead init``, ``check`` and ``schema``: step 1, say what good means."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fairlead import spec
from fairlead.cli.output import JsonFlag, out, print_json, print_table


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command("init")(init)
    app.command("check")(check)
    app.command("schema")(schema)


def init(
    template: Annotated[str, typer.Argument(help="What to start from; `fairlead init --list` shows all.")] = "shop-support",
    folder: Annotated[Path, typer.Argument(help="Where to put it; made if it does not exist.")] = Path(),
    *,
    list_templates: Annotated[bool, typer.Option("--list", help="List the templates and stop.")] = False,
    force: Annotated[bool, typer.Option(help="Overwrite files that exist.")] = False,
    dry_run: Annotated[bool, typer.Option(help="Only say which files would be written.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Write a working project: fairlead.yaml with objectives, knowledge, questions to measure with."""
