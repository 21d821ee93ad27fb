"""The commands, in the order one uses them. No logic and no SQL: each command calls a room and prints what it says.

Only the module of the command that was asked for is imported, and none for a help that lists them all, because a
command line that takes a second to say ``--help`` is not used.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Any, Final

import typer
from typer.core import TyperGroup

from fairlead import __version__
from fairlead.cli.output import explain_errors, program

COMPLETING: Final = "_FAIRLEAD_COMPLETE"
"""In the environment when a shell asks how a line goes on: then every command is needed."""
COMMANDS: Final = {
    "init": ("define", "Write a working project from a template."),
    "check": ("define", "Check the definition before money is spent."),
    "schema": ("define", "Print the JSON Schema of fairlead.yaml."),
    "serve": ("serve", "Serve the API, the chat and the console."),
    "ask": ("talk", "Ask one question, or a file of them."),
    "chat": ("talk", "Talk to the assistant in the terminal."),
    "batch": ("batch", "Submit files of requests, follow them, fetch their answers."),
    "keys": ("keys", "Create, list, rotate and revoke API keys."),
    "budget": ("budget", "Show what the budgets have left, and prove it."),
    "knowledge": ("knowledge", "The pages the assistant answers from: add, list, search, check."),
    "data": ("data", "Samples to measure on and learn from: add, list, show, split, diff."),
    "plan": ("plan", "Say how many samples a difference takes, and what a number of samples shows."),
    "judge": ("judge", "Models that judge answers: list, show, calibrate, compare."),
    "select": ("select", "Measure the variants and say which to use."),
    "runs": ("runs", "What was measured: list, show, diff, delete."),
    "prices": ("prices", "What hosted models cost: list, show, update."),
    "cache": ("cache", "Answers that are kept: what they save, why, and forgetting them."),
    "engines": ("engines", "Engines of a running server: how they are, and replacing one."),
    "interchange": ("interchange", "Other tools' files: import, export, junit."),
    "route": ("route", "A small model first, a big one where it is needed: learn, show."),
    "conversations": ("conversations", "List conversations with their outcomes, or sum these up."),
    "traces": ("traces", "List, show and sum up what was recorded."),
    "demo": ("demo", "See the reference shop answer, offline."),
    "doctor": ("doctor", "Find what is missing, and what mends it."),
}
"""Command name to the module of this package that registers it and its line in the help, in the order of the help."""


class _InOrder(TyperGroup):
    """Lists commands in the order of ``COMMANDS``; by itself the library puts groups last."""

    def list_commands(self, ctx: Any) -> list[str]:
        """The names, in order."""
        return [name for name in COMMANDS if name in self.commands]


def application(wanted: str | None = None, *, listed: bool = False) -> typer.Typer:
    """The command line with every command, with only the one ``wanted``, or with all of them only ``listed``."""
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

    if listed:
        for name, (_, summary) in COMMANDS.items():
            app.command(name, help=summary)(_only_listed)
        return app
    modules = [COMMANDS[wanted][0]] if wanted else list(dict.fromkeys(module for module, _ in COMMANDS.values()))
    for module in modules:
        importlib.import_module(f"fairlead.cli.{module}").register(app)
    return app


def _only_listed() -> None:
    """Behind the names of a help: a command that is asked for by its name comes from its own module."""
    raise NotImplementedError


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and leave the process with its exit status."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    first = next((argument for argument in arguments if not argument.startswith("-")), None)
    wanted = first if first in COMMANDS else None
    with explain_errors():
        gc.disable()  # what is imported stays; to look for garbage in it took a tenth of a start
        app = application(wanted, listed=wanted is None and COMPLETING not in os.environ)
        gc.freeze()
        gc.enable()
        shell = COMPLETING in os.environ or {"--install-completion", "--show-completion"}.intersection(arguments)
        app(arguments, prog_name="fairlead" if shell else program())  # a shell knows it by its bare name
