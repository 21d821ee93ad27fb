"""The commands, in the order one uses them. No logic and no SQL: each command calls a room and prints what it says.

Only the module of the command that was asked for is imported, because a command line that takes a second to say
``--help`` is not used.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from fairlead import __version__
from fairlead.cli.output import explain_errors

COMMANDS = {
    "init": "define",
    "check": "define",
    "schema": "define",
    "serve": "serve",
    "ask": "talk",
    "chat": "talk",
    "batch": "batch",
    "keys": "keys",
    "budget": "budget",
    "knowledge": "knowledge",
    "data": "data",
    "judge": "judge",
    "select": "select",
    "runs": "runs",
    "prices": "prices",
    "cache": "cache",
    "interchange": "interchange",
    "route": "route",
    "conversations": "conversations",
    "traces": "traces",
    "demo": "demo",
    "doctor": "doctor",
}
"""Command name to the module of this package that registers it; the order is the order of the help."""


class _InOrder(TyperGroup):
    """Lists commands in the order of ``COMMANDS``; by itself the library puts groups last."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names, in order."""
        return [name for name in COMMANDS if name in self.commands]


def application(wanted: str | None = None) -> typer.Typer:
    """The command line with every command, or with only the one ``wanted``."""
    app = typer.Typer(
        name="fairlead",
        cls=_InOrder,
        help="Take a large language model use case from a one-page definition to production, and keep it there.",
        epilog="Start with: fairlead init shop-support my-shop",
        no_args_is_help=True,
        add_completion=wanted is None,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        context_settings={"help_option_names": ["-h", "--help"]},
    )

    @app.callback(invoke_without_command=True)
    def top(
        *,
        version: bool = typer.Option(False, "--version", help="Print the version and exit.", is_eager=True),
    ) -> None:
        if version:
            typer.echo(f"fairlead {__version__}")
            raise typer.Exit

    modules = [COMMANDS[wanted]] if wanted else list(dict.fromkeys(COMMANDS.values()))
    for module in modules:
        importlib.import_module(f"fairlead.cli.{module}").register(app)
    return app


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave the process with its exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    first = next((argument for argument in arguments if not argument.startswith("-")), None)
    with explain_errors():
        application(first if first in COMMANDS else None)(arguments, prog_name="fairlead")
