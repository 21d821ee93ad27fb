"""``fairlead batch``: many requests answered together when there is room, from the terminal.

Works on the store, so that a server need not run to submit or look; one that runs, or ``fairlead batch work``, answers.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from fairlead.app import build, operations_of, price_of
from fairlead.batch import Batches, Limits
from fairlead.batch.lines import ENDPOINTS, Input, Inspected, Inspector
from fairlead.batch.runner import ENDED, estimate
from fairlead.batch.shapes import show_batch
from fairlead.cli.logs import start_logging
from fairlead.cli.output import JsonFlag, advise, err, out, print_json, print_table, with_settings
from fairlead.cli.serve import stop_asked
from fairlead.cli.times import moment
from fairlead.errors import BatchUnknown, ModelUnknown, OperationUnsupported, ServiceError, TargetInUse, UsageError
from fairlead.gateway import INFERENCE, Identity, Principal
from fairlead.records import Batch
from fairlead.settings import Settings
from fairlead.spec import UseCase, load
from fairlead.store import Store

LOOK_S = 0.5
Tenant = Annotated[str, typer.Option(help="Whose batches; those of a key belong to the key's tenant.")]
Identifier = Annotated[str, typer.Argument(metavar="ID", help="The batch, as `fairlead batch list` shows it.")]


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(no_args_is_help=True, help="Submit files of requests, follow them, fetch their answers.")
    group.command("submit")(submit)
    group.command("list")(list_batches)
    group.command("show")(show)
    group.command("cancel")(cancel)
    group.command("resume")(resume)
    group.command("download")(download)
    group.command("work")(work)
    app.add_typer(group, name="batch")


@with_settings("project", "data_dir", "max_body_bytes", "max_depth", "files_mb")
def submit(
    *,
    settings: Settings,
    file: Annotated[Path, typer.Argument(help="JSONL: one request a line, as OpenAI's batches have them.")],
    tenant: Tenant = "default",
    note: Annotated[list[str], typer.Option("--metadata", help="name=value, kept with the batch. Repeat it.")] = [],  # noqa: B006
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Check and estimate only; keep nothing.")] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Show progress until it ends. Ctrl-C leaves it running.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Check a file of requests, tell what it will cost, and queue it."""
    usecase = load(settings.spec_path)
    metadata = dict(_pair(text) for text in note)
    endpoint, found = _inspect(file, usecase, settings)
    if found.errors:
        _tell_errors(file, found, as_json=as_json)
        raise typer.Exit(2)
    told = _estimate(usecase, found)
    if dry_run:
        shown = {"file": str(file), "endpoint": endpoint, "model": found.model, "requests": found.total, **told}
        print_json(shown) if as_json else _tell_estimate(found, told, "Nothing was queued.")
        return
    with Store.open(settings.data_path) as store:
        batches = _batches(store, usecase, settings)
        with _explained(), store.files.writing() as (target, path):
            with file.open("rb") as source:
                shutil.copyfileobj(source, target, 1 << 20)
            target.flush()
            kept = batches.keep_file(_operator(tenant), path, file.name)
        with _explained():
            batch = batches.create(
                _operator(tenant), input_file_id=kept.id, endpoint=endpoint, completion_window="24h", metadata=metadata
            )
        if not as_json:
            _tell_estimate(found, told, f"Queued as {batch.id}. Follow it: fairlead batch show {batch.id} --watch")
        if wait:
            batch = _follow(store, batch.id, quiet=as_json)
        if as_json:
            print_json(show_batch(batch))
        elif wait:
            _tell(batch)


@with_settings("project", "data_dir")
def list_batches(
    *,
    settings: Settings,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="At most this many, newest first.")] = 20,
    as_json: JsonFlag = False,
) -> None:
    """List batches, newest first."""
    with Store.open(settings.data_path) as store:
        found = store.batches.page(tenant, limit=limit)
    if as_json:
        print_json([show_batch(batch) for batch in found])
        return
    if not found:
        advise("No batch yet. Submit one: fairlead batch submit requests.jsonl")
        return
    print_table(
        ["batch", "created UTC", "model", "status", "done", "of", "failed", "cost"],
        [
            [b.id, moment(b.time), b.model, b.status, b.completed + b.failed, b.total, b.failed, _money(b.cost)]
            for b in found
        ],
        right=["done", "of", "failed", "cost"],
    )


@with_settings("project", "data_dir")
def show(
    *,
    settings: Settings,
    batch: Identifier,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show progress until it ends. Ctrl-C leaves it running.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show one batch: how far it is, what it costs, what is wrong with its input."""
    with Store.open(settings.data_path) as store:
        found = _follow(store, batch, quiet=as_json) if watch else _get(store, batch)
    print_json(show_batch(found)) if as_json else _tell(found)


@with_settings("project", "data_dir", "files_mb")
def cancel(*, settings: Settings, batch: Identifier, as_json: JsonFlag = False) -> None:
    """End a batch. What is answered stays; `fairlead batch resume` goes on with the rest."""
    with Store.open(settings.data_path) as store, _explained():
        found = _get(store, batch)
        ended = _batches(store, load(settings.spec_path), settings).cancel(_operator(found.tenant), found.id)
    print_json(show_batch(ended)) if as_json else out.print(f"{ended.id} is {ended.status}.", markup=False)


@with_settings("project", "data_dir", "files_mb")
def resume(*, settings: Settings, batch: Identifier, as_json: JsonFlag = False) -> None:
    """Queue what an ended batch has no good answer for as a new batch; nothing answered is paid again."""
    with Store.open(settings.data_path) as store, _explained():
        found = _get(store, batch)
        batches = _batches(store, load(settings.spec_path), settings)
        fresh, count = batches.resume(_operator(found.tenant), found.id)
    if as_json:
        print_json(show_batch(fresh))
    else:
        out.print(f"{count} requests of {found.id} go on as {fresh.id}.", markup=False)


@with_settings("project", "data_dir")
def download(
    *,
    settings: Settings,
    batch: Identifier,
    to: Annotated[Path, typer.Option("--to", help="Folder for the files.")] = Path(),
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that are there.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Write the answers of an ended batch, and the requests that failed, to a folder."""
    with Store.open(settings.data_path) as store, _explained():
        found = _get(store, batch)
        if found.status not in ENDED:
            raise UsageError(detail=f"{found.id} is {found.status}. Follow it: fairlead batch show {found.id} --watch")
        files = [store.files.get(name, found.tenant) for name in (found.output_file, found.error_file) if name]
        kept = [file for file in files if file is not None]
        if len(kept) < len(files):
            raise UsageError(detail=f"Files of {found.id} have expired or were deleted.")
        try:
            taken = [str(to / file.name) for file in kept if (to / file.name).exists()]
            if taken and not force:
                raise TargetInUse(path=to, count=len(taken), files=", ".join(taken))
            to.mkdir(parents=True, exist_ok=True)
            for file in kept:
                shutil.copyfile(store.files.path(file), to / file.name)
        except OSError as error:
            detail = f"The folder {to} cannot be written: {error.strerror}. Name another with --to."
            raise UsageError(detail=detail) from error
    written = [str(to / file.name) for file in kept]
    if as_json:
        print_json({"batch": found.id, "files": written})
        return
    for name in written:
        out.print(name, markup=False)
    if not written:
        out.print(f"{found.id} ended {found.status} without any answer.", markup=False)


@with_settings()
def work(*, settings: Settings) -> None:
    """Do queued work until stopped, without serving. Several may run beside each other and beside a server."""
    start_logging(settings.log_level)
    asyncio.run(_work(settings))


async def _work(settings: Settings) -> None:
    fairlead = await asyncio.to_thread(build, settings)
    stopped = stop_asked()
    await fairlead.start()
    working = asyncio.create_task(fairlead.work()) if not settings.work_jobs else None
    err.print(
        f"{fairlead.usecase.name} works on what is queued in {settings.data_path}. Stop it with Ctrl-C.", markup=False
    )
    try:
        await stopped.wait()
    finally:
        if working is not None:
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
        await fairlead.stop()


# --- what they share ----------------------------------------------------------------------------------------------


def _batches(store: Store, usecase: UseCase, settings: Settings) -> Batches:
    identity = Identity(usecase=usecase.name, spec_hash=usecase.spec_hash)
    return Batches(store, identity, most_held_bytes=settings.files_mb * 1_000_000)


def _operator(tenant: str) -> Principal:
    return Principal(tenant=tenant, subject="operator", scopes=frozenset({INFERENCE}))


def _get(store: Store, identifier: str) -> Batch:
    found = store.batches.get(identifier)
    if found is None:
        raise UsageError(detail=str(BatchUnknown(id=identifier)))
    return found


def _inspect(file: Path, usecase: UseCase, settings: Settings) -> tuple[str, Inspected]:
    """The endpoint the first line names, and what the whole file is."""
    if not file.is_file():
        raise UsageError(detail=f"There is no file {file}.")
    limits = Limits(line_bytes=settings.max_body_bytes, depth=settings.max_depth)
    if file.stat().st_size > limits.bytes:
        raise UsageError(detail=f"{file} has more than {limits.bytes} bytes. Split it.")
    served = {variant.id: operations_of(variant) for variant in usecase.variants if usecase.allows(variant)}
    served = {"embed": frozenset({"embedding"}), usecase.name: frozenset({"chat"}), **served}
    requests = Input(file, limits)
    try:
        lines = requests.scan()
        first = next(lines, (1, b""))
        endpoint = _endpoint(first[1])

        def refuse(model: str) -> None:
            if model not in served:
                raise ModelUnknown(model=repr(model[:80]), nearest=", ".join(sorted(served)), param="model")
            if ENDPOINTS[endpoint] not in served[model]:
                able = [name for name, able in served.items() if ENDPOINTS[endpoint] in able]
                raise OperationUnsupported(
                    model=model, operation=endpoint, able=", ".join(able) or "none", param="model"
                )

        inspector = Inspector(endpoint, limits, refuse)
        if first[1]:
            inspector.take(*first)
        for number, raw in lines:
            inspector.take(number, raw)
    finally:
        requests.close()
    return endpoint, inspector.end()


def _endpoint(raw: bytes) -> str:
    try:
        url = json.loads(raw)["url"]
    except (ValueError, KeyError, TypeError):
        return next(iter(ENDPOINTS))  # the line is wrong in itself, and is told so
    return url if isinstance(url, str) and url in ENDPOINTS else next(iter(ENDPOINTS))


def _estimate(usecase: UseCase, found: Inspected) -> dict[str, Any]:
    """Tokens and cost as told before the start, by who will answer."""
    variant = next((each for each in usecase.variants if each.id == found.model), None)
    price, backend = (price_of(usecase, variant), variant.batch) if variant else ((0.0, 0.0), "gateway")
    share = 0.5 if backend == "provider" else 1.0
    return {"backend": backend, **estimate(found, price, share)}


def _tell_estimate(found: Inspected, told: dict[str, Any], then: str) -> None:
    cost = "unknown, for the variant has no price" if told["cost"] is None else f"about {_money(told['cost'])}"
    advise(
        f"{found.total} requests to {found.model} ({told['backend']}): about {told['input_tokens']} tokens in, at most "
        f"about {told['output_tokens']} out; cost {cost}.\n{then}"
    )


def _tell_errors(file: Path, found: Inspected, *, as_json: bool) -> None:
    if as_json:
        print_json({"file": str(file), "errors": found.errors})
        return
    for error in found.errors:
        place = f"{file}:{error['line']}" if error["line"] else str(file)
        err.print(f"{place}: {error['message']}", style="red", markup=False)
    err.print(f"Nothing was queued. {len(found.errors)} to mend.", markup=False)


def _tell(batch: Batch) -> None:
    told = batch.estimate.get("cost")
    rows = [
        ("status", batch.status),
        ("model", batch.model),
        ("answered by", batch.backend),
        ("requests", f"{batch.completed} answered, {batch.failed} failed, of {batch.total}"),
        ("tokens", f"{batch.input_tokens} in, {batch.output_tokens} out"),
        ("cost", f"{_money(batch.cost)}, estimated {_money(told)} before" if batch.estimate else ""),
        ("created", moment(batch.time)),
        ("window ends", moment(batch.expires)),
        ("output", batch.output_file),
        ("errors", batch.error_file),
        ("note", batch.note),
    ]
    for name, value in rows:
        if value:
            out.print(f"{name:<12} {value}", markup=False)
    for error in batch.errors:
        place = f"line {error['line']}: " if error["line"] else ""
        out.print(f"  {place}{error['message']}", style="red", markup=False)


def _follow(store: Store, identifier: str, *, quiet: bool) -> Batch:
    """Show progress until the batch ends; Ctrl-C leaves it running."""
    batch = _get(store, identifier)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err, disable=quiet or not sys.stderr.isatty()) as bar:
        task = bar.add_task(batch.status, total=batch.total or None)
        while batch.status not in ENDED:
            time.sleep(LOOK_S)
            batch = _get(store, identifier)
            bar.update(
                task, description=batch.status, total=batch.total or None, completed=batch.completed + batch.failed
            )
    return batch


class _explained:  # noqa: N801  reads as a statement
    """Errors of the service as a command's."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ServiceError):
            raise UsageError(detail=str(error)) from error


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UsageError(detail=f"--metadata {text!r} is not name=value.")
    return name, value


def _money(nanos: int | None) -> str:
    return "unknown" if nanos is None else f"${nanos / 1e9:.6f}".rstrip("0").rstrip(".")
