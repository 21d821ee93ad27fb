"""``fairlead engines``: the engines of a running server, and another in the place of one. Asks the server over HTTP."""

from __future__ import annotations

import asyncio
import os
from typing import Annotated, Any
from urllib.parse import quote

import typer

from fairlead.cli.output import JsonFlag, out, print_json, print_table
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
    _show(_ask("GET", url, "/admin/engines", key), as_json=as_json)


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
    _show(_ask("POST", url, f"/admin/engines/{quote(name, safe='')}/swap", key), as_json=as_json)


def _ask(method: str, url: str, path: str, variable: str) -> list[dict[str, Any]]:
    if not url.startswith(("http://", "https://")):
        raise UsageError(detail=f"--url is {url!r}; expected an address such as {LOCAL}")
    import aiohttp  # 0.2 s, and only these commands need it

    async def ask() -> tuple[int, Any]:
        secret = os.environ.get(variable, "")
        headers = {"authorization": f"Bearer {secret}"} if secret else {}
        timeout = aiohttp.ClientTimeout(total=SWAP_S)
        async with (
            aiohttp.ClientSession(headers=headers, timeout=timeout) as client,
            client.request(
                method, url.rstrip("/") + path, json={} if method == "POST" else None, allow_redirects=False
            ) as response,
        ):
            return response.status, await response.json(content_type=None)

    try:
        status, answer = asyncio.run(ask())
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        detail = f"No answer from {url}: {error}. Is `fairlead serve` running there? Name it with --url."
        raise UsageError(detail=detail) from error
    if status == 200:
        return list(answer["engines"])
    said = answer.get("error", {}).get("message") if isinstance(answer, dict) else None
    mend = f" Put a key with the scope admin into {variable}." if status in (401, 403) else ""
    raise UsageError(detail=f"{said or f'It refused with status {status}.'}{mend}")


def _show(engines: list[dict[str, Any]], *, as_json: bool) -> None:
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
                each["name"], each["state"], each["pid"] or "in process", each["restarts"],
                *(_load(each["load"])), each["detail"] or "–",
            ]
            for each in engines
        ],
        right=columns[2:7],
    )  # fmt: skip


def _load(load: dict[str, Any] | None) -> tuple[str, str, str]:
    if load is None:
        return "–", "–", "–"
    return str(load["running"]), str(load["waiting"]), f"{load['cache']:.0%}"
