"""What every command shares: printing for people or as JSON, errors in one place, settings as flags."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from fairlead import settings as settings_module
from fairlead.errors import FairleadError, UsageError

out = Console(highlight=False, soft_wrap=True)
err = Console(stderr=True, highlight=False, soft_wrap=True)

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


@contextlib.contextmanager
def explain_errors() -> Iterator[None]:
    """Turn errors meant for people into one message on standard error and an exit status: 2 usage, 1 the rest."""
    try:
        yield
    except FairleadError as error:
        err.print(f"fairlead: {error}", style="red", markup=False)
        sys.exit(2 if isinstance(error, UsageError) else 1)
    except KeyboardInterrupt:
        err.print("Stopped.")
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output (`| head`) has what it wanted; Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)


def check_writable(*paths: Path | None) -> None:
    """Refuse, before the work begins, files that cannot be written at its end. Raises UsageError; leaves nothing."""
    for path in paths:
        if path is None:
            continue
        try:
            if path.is_dir():
                raise UsageError(detail=f"{path} is a folder; expected the name of a file in it")
            new = not path.exists()
            if new or path.is_file():
                # Permission bits do not tell, least of all root: what can be opened can be written.
                with path.open("ab"):
                    pass
            if new:
                path.resolve().unlink()
        except OSError as error:
            raise UsageError(detail=f"{path} cannot be written ({error.strerror}); choose another file") from error


def print_json(value: Any) -> None:
    """One JSON document on standard output, two spaces deep."""
    encoded = msgspec.json.format(msgspec.json.encode(value, enc_hook=_encode), indent=2)
    sys.stdout.write(encoded.decode() + "\n")


def _encode(value: Any) -> Any:
    for method in ("model_dump", "_asdict"):
        if hasattr(value, method):
            return getattr(value, method)(**({"mode": "json"} if method == "model_dump" else {}))
    return str(value)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, right: Sequence[str] = ()) -> None:
    """A plain table; columns named in ``right`` are right-aligned."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    out.print(table, markup=False) if not rows else out.print(table)


def with_settings(*names: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command one flag for each named setting; it receives ``settings``, merged with environment and file.

    With no names, every setting becomes a flag.
    """
    fields = {field.name: field for field in dataclasses.fields(settings_module.Settings)}
    chosen = names or tuple(fields)

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def run(**arguments: Any) -> Any:
            flags = {name: arguments.pop(name) for name in chosen}
            return command(**arguments, settings=settings_module.load(flags))

        signature = inspect.signature(command, eval_str=True)
        own = [parameter for name, parameter in signature.parameters.items() if name != "settings"]
        added = [_flag(fields[name]) for name in chosen]
        run.__signature__ = signature.replace(parameters=[*own, *added])  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in [*own, *added]} | {"return": None}
        return run

    return decorate


def _flag(field: dataclasses.Field[Any]) -> inspect.Parameter:
    kind = settings_module.kind_of(field.name)
    flag = f"--{field.name.replace('_', '-')}"
    if kind is bool:
        flag = f"{flag}/--no-{field.name.replace('_', '-')}"
    option = typer.Option(flag, help=f"{field.metadata['help']} [default: {field.default}]", show_default=False)
    return inspect.Parameter(
        field.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[kind | None, option]
    )
