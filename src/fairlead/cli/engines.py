"""``fairlead engines``: the engines of a running server, and another in the place of one. Asks the server over HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import re
from typing import Annotated, Any
from urllib.parse import quote, urlsplit

import typer

from fairlead.cli.output import JsonFlag, err, out, print_json, print_table
from fairlead.errors import UsageError

SWAP_S = 3600.0
"""A model of many gigabytes is loaded beside the old one first."""
Url = Annotated[str, typer.Option(help="Where the server shows its administration; with --admin-port, there.")]
Key = Annotated[
    str,
    typer.Option(help="Name of the variable that holds a key with the scope admin; never the key.", metavar="VARIABLE"),
]
LOCAL = "http://127.0.0.1:8080"
KEY = "FAIRLEAD_ADMIN_KEY"


def register(app: typer.Typer) -> None:
    """Add the command group."""
    group = typer.Typer(no_args_is_help=True, help="Engines of a running server: how they are, and replacing one.")
    group.command("list")(list_engines)
    group.command("swap")(swap)
    app.add_typer(group, name="engines")


def list_engines(*, url: Url = LOCAL, key: Key = KEY, as_json: JsonFlag = False) -> None:
    """Show every engine: state, process, restarts, and what vLLM says of its load."""
    _show(*_ask("GET", url, "/admin/engines", key), as_json=as_json)


def swap(
    *,
    name: Annotated[str, typer.Argument(help="The engine, as `fairlead engines list` names it.")],
    url: Url = LOCAL,
    key: Key = KEY,
    as_json: JsonFlag = False,
) -> None:
    """Start an engine anew from its files as they are now, give it the calls, let the old one finish, stop it.

    For new weights or a new adapter under the same path: write them beside the old ones, then move them into place.
    If the new one does not start, the old one serves on.
    """
    if "/" in name or name.strip(".") == "":  # neither stays one segment of a path
        raise UsageError(detail=f"There is no engine {name!r}; `fairlead engines list` names them.")
    _show(*_ask("POST", url, f"/admin/engines/{quote(name, safe='')}/swap", key), as_json=as_json)


def _ask(method: str, url: str, path: str, variable: str) -> tuple[list[dict[str, Any]], list[str]]:
    """The engines, and what should not stay as it is."""
    _check_url(url)
    _check_name(variable)
    import aiohttp  # 0.2 s, and only these commands need it

    async def ask() -> tuple[int, str]:
        secret = os.environ.get(variable, "")
        headers = {"authorization": f"Bearer {secret}"} if secret else {}
        timeout = aiohttp.ClientTimeout(total=SWAP_S)
        async with (
            aiohttp.ClientSession(headers=headers, timeout=timeout) as client,
            client.request(
                method, url.rstrip("/") + path, json={} if method == "POST" else None, allow_redirects=False
            ) as response,
        ):
            return response.status, await response.text(errors="replace")

    try:
        status, text = asyncio.run(ask())
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        detail = f"No answer from {url}: {error}. Is `fairlead serve` running there? Name it with --url."
        raise UsageError(detail=detail) from error
    try:
        answer = json.loads(text)
    except ValueError:
        answer = None
    if not isinstance(answer, dict) or (status == 200 and "engines" not in answer):
        detail = f"What answers at {url} is not Fairlead's administration. --url takes its address alone, as {LOCAL}"
        raise UsageError(detail=detail)
    if status == 200:
        return list(answer["engines"]), list(answer.get("doubts", ()))
    told = answer.get("error")
    said = told.get("message") if isinstance(told, dict) else None
    mend = f" Put a key with the scope admin into {variable}." if status in (401, 403) else ""
    raise UsageError(detail=f"{said or f'It refused with status {status}.'}{mend}")


def _check_url(url: str) -> None:
    """Refuse what is no address, without showing it: it may hold a password."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable:
        raise UsageError(detail=f"--url is no address; expected one such as {LOCAL}")
    if "@" in parts.netloc:
        raise UsageError(detail=f"--url holds a user or a password, which nobody here asks for. Write it as {LOCAL}")


def _check_name(variable: str) -> None:
    """Refuse a key in the place of a variable's name, without showing it."""
    if variable not in os.environ and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", variable):
        detail = f"--key takes the NAME of a variable, never the key: export {KEY}=... and leave --key out."
        raise UsageError(detail=detail)


def _show(engines: list[dict[str, Any]], doubts: list[str], *, as_json: bool) -> None:
    for sentence in doubts:
        err.print(f"◌ {sentence}", markup=False)
    if as_json:
        print_json(engines)
        return
    if not engines:
        out.print("No engine runs there: every variant is answered elsewhere.")
        return
    columns = ["engine", "state", "process", "restarts", "working on", "waiting", "cache", "detail"]
    print_table(
        columns,
        [
            [
                each["name"], each["state"], _process(each), each["restarts"],
                *(_load(each["load"])), each["detail"] or "–",
            ]
            for each in engines
        ],
        right=columns[2:7],
    )  # fmt: skip


def _process(engine: dict[str, Any]) -> str:
    """What runs it: an engine without a process of its own that is ready answers in the server's."""
    return str(engine["pid"] or ("in process" if engine["state"] == "ready" else "–"))


def _load(load: dict[str, Any] | None) -> tuple[str, str, str]:
    if load is None:
        return "–", "–", "–"
    return str(load["running"]), str(load["waiting"]), f"{load['cache']:.0%}"
