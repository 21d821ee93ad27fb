"""What every command shares: printing for people or as JSON, errors in one place, settings as flags."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import inspect
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fairlead import settings as settings_module
from fairlead.errors import FairleadError, MachineError, UsageError
from fairlead.readable import escaped, readable


class Terminal(Console):
    """Shows text of others without what would move its cursor, turn its lines around or hide, wherever it stands."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Every text that is printed comes through here, a table's cells too."""
        return super().render_str(readable(text), **options)


out = Terminal(highlight=False, soft_wrap=True, emoji=False)  # `:100:` in a text is a line, no picture
err = Terminal(stderr=True, highlight=False, soft_wrap=True, emoji=False)

GIVEN = frozenset({"settings", "faults"})
"""Parameters of a command that are handed to it and are no options."""
NARROW = 12
"""Characters below which no column is squeezed, and above which text is folded when a terminal is too narrow."""

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


_COMMAND = re.compile(r"(?<![\w./-])fairlead (?=[a-z])")


def program(*, elsewhere: bool = False) -> str:
    """What to type for ``fairlead``: after `make demo` there is none on the PATH, so it is the path it was called by.

    Absolute, where it is to be typed ``elsewhere``.
    """
    called = Path(sys.argv[0])
    if called.name == "__main__.py" and called.parent.name == "fairlead":
        return shlex.join([sys.executable, "-m", "fairlead"])
    found = shutil.which("fairlead")
    if called.name != "fairlead" or not called.exists() or (found and called.resolve() == Path(found).resolve()):
        return "fairlead"
    return shlex.quote(str(called.absolute() if elsewhere else called))


def runnable(text: str) -> str:
    """``text`` of ours with each ``fairlead ...`` in it as it can be typed here."""
    how = program(elsewhere="cd " in text)
    return _COMMAND.sub(lambda _: f"{how} ", text)


def same(settings: settings_module.Settings) -> str:
    """The flags with which a command that is told finds the same project and data; empty where it would anyway."""
    project = ["--project", str(settings.project)] if settings.project.resolve() != Path.cwd() else []
    kept = settings.data_dir == settings_module.Settings.data_dir
    flags = [*project, *([] if kept else ["--data-dir", str(settings.data_dir)])]
    return f" {shlex.join(flags)}" if flags else ""


def advise(text: str, *, to: Console = out) -> None:
    """Print a text of ours that names commands, so that they work where its reader stands."""
    to.print(runnable(text), markup=False)


@contextlib.contextmanager
def explain_errors() -> Iterator[None]:
    """Turn errors meant for people into one message on standard error and an exit status: 2 usage, 1 the rest."""
    try:
        yield
    except FairleadError as error:
        err.print(runnable(f"fairlead: {error}"), style="red", markup=False)
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


def write_report(path: Path, text: str) -> None:
    """Write a run's report for people and say so. Raises MachineError."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        detail = f"The report cannot be written to {path} ({error.strerror}); `fairlead runs show` writes it again."
        raise MachineError(detail=detail) from error
    err.print(f"Wrote {path}", markup=False)


def print_json(value: Any) -> None:
    """One JSON document on standard output, two spaces deep; what would disturb a terminal stands in it as escapes."""
    encoded = msgspec.json.format(msgspec.json.encode(value, enc_hook=_encode), indent=2)
    sys.stdout.write(escaped(encoded.decode()) + "\n")


def _encode(value: Any) -> Any:
    for method in ("model_dump", "_asdict"):
        if hasattr(value, method):
            return getattr(value, method)(**({"mode": "json"} if method == "model_dump" else {}))
    return str(value)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], *, right: Sequence[str] = ()) -> None:
    """A plain table; columns named in ``right`` are right-aligned.

    These and the first, which names the row, are never broken over lines: a number or an id must be read and copied
    whole. Others fold where a terminal is narrow; a pipe or file gets every row on one line.
    """
    cells = [["" if cell is None else readable(str(cell)) for cell in row] for row in rows]
    whole = [n == 0 or name in right for n, name in enumerate(columns)]
    width, fixed = _fit(columns, cells, whole)
    table = Table(box=None, pad_edge=False, header_style="bold", width=width)
    for name, size in zip(columns, fixed, strict=True):
        table.add_column(name, justify="right" if name in right else "left", overflow="fold", width=size)
    for row in cells:
        table.add_row(*row)
    out.print(table, markup=False)


def fits(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> bool:
    """Whether a table needs no folding where it is shown."""
    widths = [_widest([name, *cells]) for name, *cells in zip(columns, *rows, strict=True)]
    return sum(widths) + 2 * (len(columns) - 1) <= out.width or not _bounded()


def _bounded() -> bool:
    """Whether lines may be only as long as the terminal is wide; a pipe or file takes any."""
    return out.is_terminal or "COLUMNS" in os.environ


def _fit(columns: Sequence[str], cells: Sequence[Sequence[str]], whole: Sequence[bool]) -> tuple[int, list[int | None]]:
    """The width of a table and of those columns that must not be squeezed; None for the others, and where all fits."""
    texts = [[row[n] for row in cells] for n in range(len(columns))]
    widths = [_widest([name, *column]) for name, column in zip(columns, texts, strict=True)]
    gaps = 2 * (len(columns) - 1)
    width = sum(widths) + gaps
    if width <= out.width or not _bounded():
        return width, [None] * len(columns)
    # The head of a column may still be broken between its words.
    heads = [max(_widest(column), _widest(name.split())) for name, column in zip(columns, texts, strict=True)]
    widths = [head if kept else size for head, size, kept in zip(heads, widths, whole, strict=True)]
    least = sum(size if kept else min(size, NARROW) for size, kept in zip(widths, whole, strict=True))
    width = min(sum(widths), max(out.width - gaps, least)) + gaps
    return width, [size if kept else None for size, kept in zip(widths, whole, strict=True)]


def _widest(texts: Iterable[str]) -> int:
    return max((cell_len(line) for text in texts for line in text.splitlines()), default=0)


def with_settings(
    *names: str, collect: bool = False, folder: Callable[[Path | None], Path] | None = None
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Give a command one flag for each named setting; it receives ``settings``, merged with environment and file.

    With no names, every setting becomes a flag. With ``collect`` settings that cannot be used do not end the command;
    it receives them as ``faults``. ``folder`` chooses the project by the command's own ``project`` option.
    """
    fields = {field.name: field for field in dataclasses.fields(settings_module.Settings)}
    chosen = names or tuple(fields)

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(command)
        def run(**arguments: Any) -> Any:
            flags = {name: arguments.pop(name) for name in chosen}
            if folder is not None:
                flags["project"] = folder(arguments["project"])
            if not collect:
                return command(**arguments, settings=settings_module.load(flags))
            faults = list[UsageError]()
            return command(**arguments, settings=settings_module.load(flags, faults=faults), faults=faults)

        signature = inspect.signature(command, eval_str=True)
        own = [parameter for name, parameter in signature.parameters.items() if name not in GIVEN]
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
