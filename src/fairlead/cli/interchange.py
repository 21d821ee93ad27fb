"""``fairlead interchange``: data sets from and for promptfoo and Inspect, verdicts for CI."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, get_args

import msgspec
import typer

from fairlead.cli.output import JsonFlag, err, out, print_json, with_settings
from fairlead.cli.times import parse_moment
from fairlead.errors import InterchangeInvalid, UsageError
from fairlead.evaluate import datasets
from fairlead.evaluate.datasets import Purpose
from fairlead.evaluate.interchange import Imported
from fairlead.evaluate.interchange.inspect_log import read_log, write_log
from fairlead.evaluate.interchange.junit import write_junit
from fairlead.evaluate.interchange.promptfoo import read_promptfoo, write_promptfoo
from fairlead.evaluate.reading import Faults
from fairlead.evaluate.samples import make_samples
from fairlead.evaluate.scorers import SCORERS
from fairlead.records import now_us
from fairlead.settings import Settings
from fairlead.spec import load
from fairlead.store import Store

PROMPTFOO = (".yaml", ".yml")
INSPECT = ".eval"


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(no_args_is_help=True, help="Other tools' files: import, export, junit.")
    group.command("import")(take_over)
    group.command("export")(export)
    group.command("junit")(junit)
    app.add_typer(group, name="interchange")


@with_settings("project", "data_dir")
def take_over(
    *,
    settings: Settings,
    path: Annotated[Path, typer.Argument(help="A promptfoo file (.yaml) or an Inspect log (.eval).")],
    name: Annotated[str, typer.Argument(help="Name of the data set.")],
    purpose: Annotated[str, typer.Option(help="What it is for: train, eval or calibration.")] = "eval",
    licence: Annotated[str, typer.Option(help="Under which terms it may be used, as an SPDX name.")] = "",
    prompt: Annotated[int, typer.Option(min=1, help="Of a promptfoo file with several prompts, which.")] = 1,
    epoch: Annotated[int, typer.Option(min=1, help="Of an Inspect log with several epochs, which.")] = 1,
    drop: Annotated[bool, typer.Option("--drop", help="Leave out what would be refused: duplicates, leaks.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would happen, keep nothing.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Take tests over as a data set, and name what cannot be said here."""
    imported = _read(path, prompt, epoch)
    chosen: Purpose | None = next((each for each in get_args(Purpose) if each == purpose), None)
    if chosen is None:
        raise UsageError(detail=f"--purpose is {purpose!r}; expected one of {', '.join(get_args(Purpose))}")
    faults = Faults(str(path))
    samples = make_samples(imported.rows, faults)
    faults.raise_any()
    with Store.open(settings.data_path) as store:
        added = datasets.add(
            store, name, samples, purpose=chosen, licence=licence, source=path.name, drop=drop, dry_run=dry_run,
            lineage={"file": path.name, "unmapped": imported.unmapped},
        )  # fmt: skip
    version = added.version
    if as_json:
        print_json({
            "kept": not dry_run, "new": added.new, "dropped": added.dropped, "unmapped": imported.unmapped,
            "version": msgspec.to_builtins(version),
        })  # fmt: skip
        return
    verb = "would keep" if dry_run else "kept" if added.new else "has already"
    out.print(f"{verb} {version.name}@{version.version}: {version.rows} samples for {version.purpose}", markup=False)
    for what, count in imported.unmapped.items():
        err.print(f"  not taken over: {what}, {count} {'time' if count == 1 else 'times'}", markup=False)


@with_settings("project", "data_dir")
def export(
    *,
    settings: Settings,
    dataset: Annotated[str, typer.Argument(help="A data set, with @ and a number for an older version.")],
    path: Annotated[Path, typer.Argument(help="Where to: .yaml for promptfoo, .eval for Inspect.")],
    scorer: Annotated[str, typer.Option(help="What compares answers with the reference, for promptfoo.")] = "contains",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the file if it is there.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Write a data set for another tool."""
    if path.suffix not in (*PROMPTFOO, INSPECT):
        raise UsageError(detail=f"{path} ends in {path.suffix or 'nothing'}; expected .yaml (promptfoo) or .eval")
    if scorer not in SCORERS.names():
        SCORERS.load(scorer)
    if path.exists() and not overwrite:
        raise UsageError(detail=f"{path} is there already. Add --overwrite to replace it")
    name, _, number = dataset.partition("@")
    if number and not number.isdecimal():
        raise UsageError(detail=f"{dataset!r} is no version. Expected a name and a number, as in {name}@2")
    with Store.open(settings.data_path) as store:
        version = store.datasets.get(name, int(number) if number else None)
        samples = store.datasets.samples(version)
    lost: dict[str, int] = {}
    if path.suffix == INSPECT:
        write_log(path, version.name, "none/none", samples)
    else:
        text, lost = write_promptfoo(samples, scorer=scorer)
        _write(path, text)
    if as_json:
        print_json({"file": str(path), "samples": len(samples), "unmapped": lost})
        return
    out.print(f"{path}: {len(samples)} samples of {version.name}@{version.version}", markup=False)
    for what, count in lost.items():
        err.print(f"  cannot be said there: {what}, {count} {'time' if count == 1 else 'times'}", markup=False)


@with_settings("project", "data_dir")
def junit(
    *,
    settings: Settings,
    path: Annotated[Path, typer.Argument(help="The XML file to write; - for standard output.")],
    since: Annotated[str, typer.Option(help="From when: a duration before now or a time.")] = "1d",
    step: Annotated[str | None, typer.Option(help="Only verdicts of this step, such as select.")] = None,
    release: Annotated[str | None, typer.Option(help="Only verdicts on this release.")] = None,
) -> None:
    """Write the newest verdict on each objective as JUnit XML.

    Exits 1 when one fails, 0 otherwise.
    """
    usecase = load(settings.spec_path)
    with Store.open(settings.data_path) as store:
        found = store.verdicts.list(
            since=parse_moment(since), until=now_us() + 1, usecase=usecase.name, step=step, release=release,
            limit=100_000,
        )  # fmt: skip
    newest: dict[Any, Any] = {}
    for each in found:  # newest first
        newest.setdefault((each.objective, each.release, each.step), each)
    verdicts = sorted(newest.values(), key=lambda each: (each.release, each.step, each.kind, each.objective))
    text = write_junit(verdicts, usecase.name)
    if str(path) == "-":
        out.file.write(text)
    else:
        _write(path, text)
        failing = sum(each.outcome == "fail" for each in verdicts)
        out.print(f"{path}: {len(verdicts)} verdicts, {failing} fail", markup=False)
    if any(each.outcome == "fail" for each in verdicts):
        raise typer.Exit(1)


def _read(path: Path, prompt: int, epoch: int) -> Imported:
    if path.suffix in PROMPTFOO:
        return read_promptfoo(path, prompt=prompt)
    if path.suffix == INSPECT:
        return read_log(path, epoch=epoch).imported
    detail = f"it ends in {path.suffix or 'nothing'}; expected a promptfoo file (.yaml) or an Inspect log (.eval)"
    raise InterchangeInvalid(file=path, detail=detail)


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(detail=f"{path} cannot be written: {error.strerror}") from error
