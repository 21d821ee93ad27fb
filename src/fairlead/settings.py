"""Settings of the process: one frozen table that feeds the code, the flags, the environment, the file and the docs.

What *good* means for a use case is not here but in ``fairlead.yaml`` (see ``fairlead.spec``). A setting is taken from,
first wins: a flag (``--port``), the environment (``FAIRLEAD_PORT``), ``settings.toml`` beside ``fairlead.yaml``, the
default.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import math
import os
import re
import tomllib
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fairlead.errors import SettingInvalid, SettingsUnreadable, SettingUnknown, UsageError

ENV_PREFIX = "FAIRLEAD_"
FILE_NAME = "settings.toml"
OTHER_VARIABLES = frozenset({"FAIRLEAD_ADMIN_KEY", "FAIRLEAD_DATA", "FAIRLEAD_KEY"})
"""FAIRLEAD_ variables that are not settings: the keys client commands present, and public data for benchmarks."""


_HOST = r"(?:[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\])"
_ORIGIN = rf"\s*(?:\*|https?://{_HOST}(?::\d{{1,5}})?/?)\s*"
Form = tuple[str, str]
"""A pattern that a text must match as a whole, and the same in words."""
PROXY: Form = (
    rf"env|none|http://(?:[^\s/@]+@)?{_HOST}(?::\d{{1,5}})?/?|{_HOST}:\d{{1,5}}",
    "http://host:port, none or env (only proxies over HTTP are spoken to)",
)
ORIGINS: Form = (
    rf"\s*|{_ORIGIN}(?:,{_ORIGIN})*",
    "origins such as https://app.example, parted by commas, or *",
)
HOSTS: Form = (rf"\s*|\s*{_HOST}\s*(?:,\s*{_HOST}\s*)*", "names of hosts such as llm.example.com, parted by commas")


def _setting(
    default: Any,
    text: str,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    form: Form | None = None,
) -> Any:
    metadata = {"help": text, "low": low, "high": high, "choices": choices, "form": form}
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Settings:
    """All settings, typed. Paths are resolved against ``project``; times are in the unit the name ends with."""

    project: Path = _setting(Path(), "Folder that holds fairlead.yaml.")
    data_dir: Path = _setting(Path(".fairlead"), "Folder for everything Fairlead stores, relative to the project.")
    host: str = _setting("127.0.0.1", "Address to listen on.")
    port: int = _setting(8080, "Port to listen on; 0 takes a free one.", low=0, high=65535)
    tls_certificate: str = _setting("", "PEM file with the certificate to serve https with; empty: plain http.")
    tls_key: str = _setting("", "PEM file with the certificate's key; empty: it is in the same file.")
    admin_host: str = _setting("127.0.0.1", "Address the console and /metrics listen on when they have their own port.")
    admin_port: int = _setting(
        0, "Port of their own for the console and /metrics; 0: the same as everything else.", low=0, high=65535
    )
    cors_origins: str = _setting(
        "",
        "Web pages that may call /v1 from a browser: https://app.example, several with commas, * for all; empty: none.",
        form=ORIGINS,
    )
    log_level: str = _setting(
        "warning",
        "How much to log: debug, info, warning or error.",
        choices=("debug", "info", "warning", "error"),
    )
    require_key: bool = _setting(True, "Refuse API requests without a valid key.")
    max_body_bytes: int = _setting(4_194_304, "Largest request body, in bytes.", low=1024)
    max_depth: int = _setting(64, "Deepest nesting of a JSON request body.", low=8, high=512)
    request_timeout_s: float = _setting(120.0, "Deadline of one request, in seconds.", low=0.1)
    connect_timeout_s: float = _setting(5.0, "Deadline for reaching an upstream, in seconds.", low=0.1)
    first_byte_timeout_s: float = _setting(
        0.0, "Longest wait for a stream of an upstream to begin, in seconds; 0: the request's own deadline.", low=0
    )
    idle_timeout_s: float = _setting(
        0.0, "Longest silence within an upstream's answer, in seconds; 0: the request's own deadline.", low=0
    )
    proxy: str = _setting(
        "env",
        "Proxy to upstreams: http://host:port, none, or env for HTTP_PROXY, HTTPS_PROXY and NO_PROXY.",
        form=PROXY,
    )
    private_hosts: str = _setting(
        "", "Public-looking hosts of models that may have private addresses, separated by commas.", form=HOSTS
    )
    retries: int = _setting(2, "How often a model over HTTP is asked again before it begins to answer.", low=0, high=10)
    queue_wait_s: float = _setting(
        10.0, "Longest predicted wait for a busy model before a request is refused, in seconds.", low=0
    )
    shutdown_grace_s: float = _setting(10.0, "How long open requests may finish at shutdown, in seconds.", low=0)
    record_queue: int = _setting(
        10_000, "Records waiting to be written; beyond it they are counted and dropped.", low=1
    )
    store_content: bool = _setting(True, "Store (masked) message texts in traces, not only their figures.")
    journal_flush_ms: int = _setting(200, "Longest time a record waits before it is on disk, in milliseconds.", low=1)
    segment_rows: int = _setting(100_000, "Rows in the journal before it is rolled to a Parquet segment.", low=1)
    segment_s: float = _setting(
        600.0, "Age of the journal before it is rolled to a Parquet segment, in seconds.", low=1
    )
    widget_origins: str = _setting("*", "Sites that may embed the chat: * or https://shop.example.")
    chat_message_chars: int = _setting(4_000, "Longest chat message, in characters.", low=1, high=20_000)
    chat_per_minute: int = _setting(30, "Chat messages one client address may send per minute.", low=1)
    chat_streams: int = _setting(8, "Answers one client address may receive at the same time.", low=1)
    chat_rating_after_s: float = _setting(
        180.0, "Seconds without a message after which a customer is asked for a rating, once.", low=0.1
    )
    work_jobs: bool = _setting(
        True, "Do queued work (batches) in the serving process too; `fairlead batch work` does it."
    )
    batch_places: int = _setting(
        8, "Batch requests at once while nobody else asks; each live request in flight takes one away.", low=1, high=256
    )
    files_mb: int = _setting(10_240, "Megabytes the uploaded files of one tenant may take together.", low=1)
    engine_threads: int = _setting(0, "Threads of an embedded engine; 0 means all cores but one.", low=0)
    engine_context: int = _setting(2048, "Tokens of context an embedded engine keeps per slot.", low=64)
    engine_idle_s: float = _setting(
        0.0, "Seconds without a call after which an engine is unloaded; the next call loads it. 0 means never.", low=0
    )
    engine_slots: int = _setting(4, "Requests an embedded engine works on at once.", low=1, high=256)
    vllm_command: str = _setting("vllm", "The executable of vLLM, for models named by vllm-serve:NAME.")
    vllm_arguments: str = _setting("", "More arguments for `vllm serve`, written as in a shell.")

    @property
    def spec_path(self) -> Path:
        """Where fairlead.yaml is expected."""
        return self.project / "fairlead.yaml"

    @property
    def data_path(self) -> Path:
        """``data_dir``, absolute."""
        return (self.project / self.data_dir).resolve()


def table() -> list[tuple[str, str, Any, str]]:
    """Rows of (name, type, default, help), in the order of the class; for flags, docs and ``doctor``."""
    return [(f.name, kind_of(f.name).__name__, f.default, f.metadata["help"]) for f in dataclasses.fields(Settings)]


def load(
    flags: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    *,
    faults: list[UsageError] | None = None,
) -> Settings:
    """Settings from flags (None values are skipped), environment, file and defaults, the first that has a value.

    Raises SettingUnknown for a name nobody reads, SettingInvalid for a value out of type or range and
    SettingsUnreadable for a broken file; with a list of ``faults`` they are added to it and what is wrong is left out.
    """
    environ = os.environ if environ is None else environ
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    from_environment = {
        name.removeprefix(ENV_PREFIX).lower(): value
        for name, value in environ.items()
        if name.startswith(ENV_PREFIX) and name not in OTHER_VARIABLES
    }
    project = Path(given.get("project") or from_environment.get("project") or Settings.project)
    path = project / FILE_NAME
    values: dict[str, Any] = {}
    with _collecting(faults):
        for name, value in _read_file(path).items():
            with _collecting(faults):
                values[name] = _convert(name, value, str(path))
    for name, value in from_environment.items():
        with _collecting(faults):
            values[name] = _convert(name, value, f"the environment: {ENV_PREFIX}{name.upper()}")
    for name, value in given.items():
        with _collecting(faults):
            values[name] = _convert(name, value, "a flag")
    return Settings(**values)


@contextlib.contextmanager
def _collecting(faults: list[UsageError] | None) -> Iterator[None]:
    try:
        yield
    except UsageError as error:
        if faults is None:
            raise
        faults.append(error)


def _read_file(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        raw = path.read_bytes()
    except OSError as error:
        detail = f"cannot be read: {error.strerror}. Make it readable for this user, or remove it"
        raise SettingsUnreadable(path=path, detail=detail) from error
    try:
        return tomllib.loads(raw.decode())
    except UnicodeDecodeError as error:
        line, found = raw.count(b"\n", 0, error.start) + 1, "a byte that is not UTF-8"
    except tomllib.TOMLDecodeError as error:
        place = re.search(r" \(at line (\d+)", str(error))
        line = int(place[1]) if place else max(1, len(raw.splitlines()))
        message = str(error).partition(" (at ")[0]
        found = message[:1].lower() + message[1:]
    detail = f"is not TOML, line {line}: {found}. Write `name = value`, text in quotes, one setting a line"
    raise SettingsUnreadable(path=path, detail=detail)


def kind_of(name: str) -> type:
    """The type of a setting, without None."""
    kind = typing.get_type_hints(Settings)[name]
    found: type = typing.get_args(kind)[0] if isinstance(kind, types.UnionType) else kind
    return found


def _convert(name: str, value: Any, source: str) -> Any:
    fields = {field.name: field for field in dataclasses.fields(Settings)}
    if name not in fields:
        nearest = ", ".join(difflib.get_close_matches(name, fields, n=3, cutoff=0.4)) or "none"
        raise SettingUnknown(name=name, source=source, nearest=nearest)
    kind = kind_of(name)
    try:
        result = _parse(kind, value)
    except (ValueError, TypeError, KeyError) as error:
        raise SettingInvalid(name=name, found=value, source=source, expected=_expected(kind)) from error
    choices = fields[name].metadata["choices"]
    if choices:
        result = result.strip().lower()
        if result not in choices:
            expected = f"{', '.join(choices[:-1])} or {choices[-1]}"
            raise SettingInvalid(name=name, found=value, source=source, expected=expected)
    form = fields[name].metadata["form"]
    if form is not None and not re.fullmatch(form[0], result):
        found = "a text that is not shown, since it may hold a password" if "@" in result else value
        raise SettingInvalid(name=name, found=found, source=source, expected=form[1])
    low, high = fields[name].metadata["low"], fields[name].metadata["high"]
    finite = not isinstance(result, float) or math.isfinite(result)
    if not finite or (low is not None and result < low) or (high is not None and result > high):
        limits = " and ".join(
            part
            for part in (f"at least {low}" if low is not None else "", f"at most {high}" if high is not None else "")
            if part
        )
        expected = f"{_expected(kind)}, {limits}" if limits else _expected(kind)
        raise SettingInvalid(name=name, found=value, source=source, expected=expected)
    return result


def _parse(kind: type, value: Any) -> Any:
    if kind is bool:
        if isinstance(value, bool):
            return value
        return {
            "1": True,
            "true": True,
            "yes": True,
            "on": True,
            "0": False,
            "false": False,
            "no": False,
            "off": False,
        }[str(value).strip().lower()]
    if isinstance(value, bool):
        raise TypeError
    if kind is int and isinstance(value, float):
        raise TypeError
    return kind(value)


def _expected(kind: type) -> str:
    return {bool: "true or false", int: "a whole number", float: "a number", Path: "a path", str: "text"}[kind]
