"""``fairlead doctor``: find what is missing and say the command that mends it."""

from __future__ import annotations

import importlib
import platform
import shlex
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import typer

from fairlead import settings as settings_module
from fairlead import spec
from fairlead.app import credential, doubts, faults, packaged_weights
from fairlead.cli.output import JsonFlag, advise, err, out, print_json, print_table, same, with_settings
from fairlead.cli.serve import listen
from fairlead.engines.gguf import read_header
from fairlead.errors import CredentialMissing, FairleadError, PortTaken, UsageError, install_extra
from fairlead.secret import hide
from fairlead.settings import Settings
from fairlead.store import Store

State = Literal["ok", "warning", "missing"]
MARKS: dict[State, str] = {"ok": "●", "warning": "◌", "missing": "▲"}

EXTRAS = {"tune": ("torch", "tokenizers", "gguf", "safetensors")}
ENGINES = {"openvino": "openvino-genai", "litellm": "litellm"}
"""Kinds of models that need an extra of their name, and the package it brings."""


class Finding(NamedTuple):
    """One thing looked at: what, how it is, and the command or line that mends it (empty when nothing is wrong)."""

    what: str
    state: State
    detail: str
    mend: str = ""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("doctor")(doctor)


@with_settings("project", "data_dir", "host", "port", "vllm_command", "vllm_arguments", collect=True)
def doctor(
    *,
    settings: Settings,
    faults: Sequence[UsageError],
    show_settings: Annotated[
        bool, typer.Option("--settings", help="List every setting, its value and default.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Find what is missing, and what mends it.

    Looks at the machine, the project, the store and the models; exits 1 if something needed is missing.
    """
    if show_settings:
        _show_settings(settings, as_json=as_json)
        for fault in faults:
            err.print(f"fairlead: {fault}", style="red", markup=False)
        if faults:
            raise typer.Exit(2)
        return
    findings = [*(Finding("settings", "missing", str(fault)) for fault in faults), *examine(settings)]
    if as_json:
        print_json([finding._asdict() for finding in findings])
    else:
        for finding in findings:
            style = {"ok": "green", "warning": "yellow", "missing": "red"}[finding.state]
            out.print(f"[{style}]{MARKS[finding.state]} {finding.state:8}[/{style}] ", end="")
            advise(f"{finding.what}: {finding.detail}")
            if finding.mend:
                advise(f"             mend: {finding.mend}")
    if any(finding.state == "missing" for finding in findings):
        raise typer.Exit(1)


def examine(settings: Settings) -> Iterator[Finding]:
    """Every check, in the order in which one would mend them."""
    checks: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
        _python, _packages, _disk, _use_case, _store, _weights, _port, _browser,
    )  # fmt: skip
    for check in checks:
        try:
            yield from check(settings)
        except FairleadError as error:
            yield Finding(check.__name__.strip("_").replace("_", " "), "missing", str(error))


def _python(_: Settings) -> Iterator[Finding]:
    found = (
        f"{platform.python_implementation()} {platform.python_version()} on {platform.system()} {platform.machine()}"
    )
    good = sys.version_info >= (3, 11)
    yield Finding("Python", "ok" if good else "missing", found, "" if good else "install Python 3.11 or newer")


def _packages(_: Settings) -> Iterator[Finding]:
    yield Finding("Fairlead", "ok", version("fairlead"))
    try:
        importlib.import_module("xllamacpp")
        yield Finding("embedded engine", "ok", f"xllamacpp {version('xllamacpp')}")
    except (ImportError, OSError) as error:
        yield Finding("embedded engine", "missing", f"xllamacpp does not load: {error}", "pip install xllamacpp")
    for extra, packages in EXTRAS.items():
        missing = [package for package in packages if not _installed(package)]
        detail = f"not installed: {', '.join(missing)}" if missing else "installed"
        mend = f"{install_extra(extra)}; only for training" if missing else ""
        yield Finding(f"extra {extra}", "warning" if missing else "ok", detail, mend)


def _installed(package: str) -> bool:
    try:
        version(package)
    except PackageNotFoundError:
        return False
    return True


def _disk(settings: Settings) -> Iterator[Finding]:
    folder = settings.data_path
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    enough = free > 1 << 30
    mend = "" if enough else "free some space, or move the data with --data-dir"
    yield Finding("disk", "ok" if enough else "warning", f"{free / (1 << 30):.1f} GiB free at {folder}", mend)


def _use_case(settings: Settings) -> Iterator[Finding]:
    if not settings.spec_path.exists():
        yield Finding("use case", "missing", f"no {settings.spec_path}", f"fairlead init shop-support{_into(settings)}")
        return
    usecase = spec.load(settings.spec_path)
    yield Finding("use case", "ok", f"{usecase.name}, spec {usecase.spec_hash[:16]}, live variant {usecase.live.id}")
    broken = faults(usecase)
    for sentence in broken:
        yield Finding("project", "missing", sentence)
    for sentence in () if broken else doubts(usecase):
        yield Finding("project", "warning", sentence)
    if any(variant.target.kind == "vllm" for variant in usecase.variants):
        yield from _vllm(usecase, settings)
    for variant in usecase.variants:
        yield from _variant(usecase, variant)


def _vllm(usecase: spec.UseCase, settings: Settings) -> Iterator[Finding]:
    """The program that runs models named by ``vllm-serve:``, and what it is told. It is not started."""
    found = shutil.which(settings.vllm_command)
    if found is None:
        mend = "install it, or name its executable: --vllm-command PATH, or the variable FAIRLEAD_VLLM_COMMAND"
        yield Finding("vLLM", "missing", f"there is no program {settings.vllm_command!r}", mend)
    else:
        yield Finding("vLLM", "ok", found)
    if usecase.tools and "--tool-call-parser" not in settings.vllm_arguments:
        mend = '--vllm-arguments "--enable-auto-tool-choice --tool-call-parser hermes", or the parser of your model'
        yield Finding("tools with vLLM", "warning", "it refuses requests with tools without a parser for calls", mend)


def _into(settings: Settings) -> str:
    return "" if settings.project.resolve() == Path.cwd() else f" {shlex.quote(str(settings.project))}"


def _variant(usecase: spec.UseCase, variant: spec.Variant) -> Iterator[Finding]:
    package = ENGINES.get(variant.target.kind)
    if package is not None and not _installed(package):
        mend = install_extra(variant.target.kind)
        yield Finding(f"engine of {variant.id}", "missing", f"{variant.model} needs {package}, not installed", mend)
    for reference in variant.references:
        try:
            ready = credential(variant, usecase, reference) is not None
        except CredentialMissing as error:
            yield Finding(f"key of {variant.id}", "missing", str(error))
            continue
        mend = "" if ready else f"set {reference} before this variant is used"
        yield Finding(f"key of {variant.id}", "ok" if ready else "warning", reference, mend)


def _store(settings: Settings) -> Iterator[Finding]:
    if not settings.data_path.exists():
        yield Finding("store", "ok", f"{settings.data_path} will be made on first use")
        return
    with Store.open(settings.data_path) as store:
        for problem in store.check():
            yield Finding("store", "missing", problem, f"{sys.executable} -m fairlead.store mend {settings.data_path}")
        status = store.traces.status()
        yield Finding("store", "ok", f"{settings.data_path}: {status['rows']} traces in {status['segments']} segments")
        for sentence in store.recovered:
            yield Finding("store", "warning", f"repaired: {sentence}")
        if not store.keys.active():
            mend = f"fairlead keys create me --scope inference --scope admin{same(settings)}"
            yield Finding("keys", "warning", "none is active", mend)


def _weights(_: Settings) -> Iterator[Finding]:
    path = packaged_weights("mini")
    read_header(path)
    yield Finding("mini", "ok", f"{path.stat().st_size / 1e6:.1f} MB at {path}")


def _port(settings: Settings) -> Iterator[Finding]:
    where = f"{settings.host}:{settings.port}"
    try:
        listen(settings.host, settings.port).close()
    except PortTaken:
        yield Finding(
            "port", "warning", f"{where} is in use, perhaps by `fairlead serve`", "choose another with --port"
        )
        return
    yield Finding("port", "ok", f"{where} is free")


def _browser(_: Settings) -> Iterator[Finding]:
    if not _installed("playwright"):
        return
    path = next(
        (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
    )
    mend = "" if path else "apt-get install chromium  (only for the browser tests)"
    yield Finding("browser", "ok" if path else "warning", path or "no Chromium", mend)


def _shown(value: object) -> object:
    """A value without a password in it, as a proxy's address may hold one."""
    return hide(value) if isinstance(value, str) else value


def _show_settings(settings: Settings, *, as_json: bool) -> None:
    rows = [
        {"name": name, "value": _shown(getattr(settings, name)), "default": default, "type": kind, "help": text}
        for name, kind, default, text in settings_module.table()
    ]
    if as_json:
        print_json(rows)
    else:
        print_table(
            ["setting", "value", "default", "what it is"],
            [[r["name"], r["value"], r["default"], r["help"]] for r in rows],
        )
