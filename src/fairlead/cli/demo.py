"""``fairlead demo``: the reference shop, answered offline on this machine, shown in a browser."""

from __future__ import annotations

import asyncio
import dataclasses
import shlex
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import orjson
import typer
import uvloop

import fairlead as package
from fairlead import spec
from fairlead.app import Fairlead
from fairlead.cli.define import describe
from fairlead.cli.output import advise, err, out, with_settings
from fairlead.cli.serve import running, stop_asked
from fairlead.cli.talk import looked_up
from fairlead.cli.times import money, span
from fairlead.errors import FairleadError, PortTaken, UsageError
from fairlead.records import now_us
from fairlead.settings import Settings

MESSAGES = "data/messages.txt"
KEY_NAME = "demo"
KEY_LIFE_US = 24 * 3600 * 1_000_000


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("demo")(demo)


def shop(project: Path | None) -> Path:
    """The folder to show: the one asked for, else the checkout's shop, else a fresh copy of the template.

    Never the folder one happens to stand in: its store is not the demo's to write to, nor its models to ask.
    """
    if project is not None:
        if not (project / "fairlead.yaml").exists():
            make = f"fairlead init shop-support {project}"
            raise UsageError(detail=f"There is no {project / 'fairlead.yaml'}. Make a project there with: {make}")
        return project
    checkout = Path(package.__file__).parents[2] / "examples" / "shop"
    if (checkout / "fairlead.yaml").exists():
        return checkout
    target = Path("fairlead-demo")
    if not (target / "fairlead.yaml").exists():
        spec.init("shop-support", target)
        err.print(f"Made {target}/ from the template shop-support.", markup=False)
    return target


@with_settings("data_dir", "host", folder=shop)
def demo(
    *,
    settings: Settings,
    project: Annotated[
        Path | None,
        typer.Option(help="Show this project instead of the shop: its store gets the traces and a key for a day."),
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port to listen on. [default: 8080, or a free one if that is taken]"),
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="With --project: ask models outside your network, too.")] = False,
    questions: Annotated[int, typer.Option(min=1, help="How many customer messages to answer.")] = 8,
    keep: Annotated[
        bool | None,
        typer.Option("--keep/--exit", help="Keep serving afterwards, or leave. [default: keep in a terminal]"),
    ] = None,
) -> None:
    """See the reference shop answer, offline.

    From its definition to answers you can look at. No key, no network, no GPU. The project you stand in is left alone:
    only --project shows yours.
    """
    stay = sys.stdout.isatty() if keep is None else keep
    if project is not None and not yes:
        _refuse_outside(settings)
    asked = port is not None or settings.port != Settings.port
    if port is not None:
        settings = dataclasses.replace(settings, port=port)
    uvloop.run(_demo(settings, questions, stay=stay, any_port=not asked))


def _refuse_outside(settings: Settings) -> None:
    """Raise UsageError where answering would, or after a failure could, ask somebody who may bill."""
    usecase = spec.load(settings.spec_path)
    served = {usecase.live.id, *usecase.live.fallback}
    outside = [f"{each.id} ({each.model})" for each in usecase.variants if each.id in served and each.target.external]
    if outside:
        detail = f"{settings.project} answers with {', '.join(outside)}, outside your network, which may cost money."
        raise UsageError(detail=f"{detail} Add --yes to ask it, or leave out --project to see the reference shop.")


async def _demo(settings: Settings, questions: int, *, stay: bool, any_port: bool) -> None:
    begun = time.monotonic()
    out.rule("1  Define: what good means", align="left")
    describe(spec.check(settings.spec_path), brief=True)
    out.rule("3  Deploy: a gateway, the embedded model, a chatbot", align="left")
    try:
        await _serve(settings, questions, begun, stay=stay)
    except PortTaken as taken:
        if not any_port:
            raise
        err.print(f"{taken} Taking a free one.", markup=False)
        await _serve(dataclasses.replace(settings, port=0), questions, begun, stay=stay)


async def _serve(settings: Settings, questions: int, begun: float, *, stay: bool) -> None:
    started = now_us()
    async with running(settings) as (fairlead, url):
        out.print(
            f"listening on {url} after {time.monotonic() - begun:.1f} s, live variant {fairlead.usecase.live.id}",
            markup=False,
        )
        key, secret = fairlead.store.keys.create(KEY_NAME, ("inference", "admin"), expires=now_us() + KEY_LIFE_US)
        try:
            await _show(fairlead, url, secret, started, questions, stay=stay)
        finally:
            fairlead.store.keys.revoke(key.id)


async def _show(fairlead: Fairlead, url: str, secret: str, started: int, questions: int, *, stay: bool) -> None:
    """Answer, show what was recorded, say where to look, and stay until Ctrl-C if there is a terminal."""
    await _converse(fairlead.usecase.name, url, secret, _messages(fairlead.settings, questions))
    fairlead.gateway.write_records()
    await asyncio.to_thread(_show_records, fairlead, started)
    out.rule("Look at it", align="left")
    if not stay:
        advise("  This run ends here. Chat and console to look at, until Ctrl-C: fairlead demo --keep")
        return
    out.print(f"  chat     {url}/chat\n  console  {url}/console   key: {secret}", markup=False)
    out.print(f"  API      base_url={url}/v1  api_key={secret}  model={fairlead.usecase.name}", markup=False)
    stopped = stop_asked()
    out.print("\nServing until Ctrl-C.")
    await stopped.wait()
    out.print("The key is revoked.")


def _messages(settings: Settings, count: int) -> list[str]:
    path = settings.project / MESSAGES
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    messages = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    return (messages or ["How long does delivery take?", "Can I send something back?", "Are you a human?"])[:count]


async def _converse(model: str, url: str, secret: str, messages: list[str]) -> None:
    """One conversation over HTTP, as any OpenAI client would hold it, streamed to the terminal."""
    headers = {"authorization": f"Bearer {secret}"}
    async with aiohttp.ClientSession(headers=headers) as client:
        history: list[dict[str, str]] = []
        for text in messages:
            out.print("\n[bold]customer[/bold]  ", end="")
            out.print(text, markup=False)
            out.print("[bold]shop[/bold]      ", end="")
            history.append({"role": "user", "content": text})
            body = {"model": model, "stream": True, "messages": history}
            begun = time.monotonic()
            async with client.post(f"{url}/v1/chat/completions", json=body) as response:
                if response.status != 200:
                    raise FairleadError(detail=f"{response.status}: {(await response.text())[:300]}")
                answer, extra = await _print_stream(response)
            history.append({"role": "assistant", "content": answer})
            taken = span(round((time.monotonic() - begun) * 1e6))
            titles = [source["title"] for source in extra.get("sources", ())]
            shown = [f"from {title}" for title in looked_up(extra.get("act", ""), extra.get("facts", ()))]
            cited = "; ".join(titles or shown) or "no source needed"
            out.print(f"\n          {cited} · {taken}", style="dim", markup=False)


async def _print_stream(response: aiohttp.ClientResponse) -> tuple[str, dict[str, Any]]:
    """Print an answer as it comes; returns its text and what it says of itself."""
    answer, extra = "", dict[str, Any]()
    async for line in response.content:
        if not line.startswith(b"data: {"):
            continue
        event = orjson.loads(line[6:])
        if "error" in event:
            raise FairleadError(detail=event["error"]["message"])
        for choice in event["choices"]:
            piece = choice["delta"].get("content") or ""
            out.print(piece, end="", markup=False)
            answer += piece
            extra |= choice["delta"].get("fairlead") or choice.get("fairlead") or {}
    return answer, extra


def _show_records(fairlead: Fairlead, since: int) -> None:
    out.print()
    out.rule("5  Monitor: every answer is on record", align="left")
    fairlead.store.traces.flush()
    rows = [row for row in fairlead.store.traces.query(since=since, until=now_us() + 1, limit=1000) if row.parent == ""]
    times = sorted(row.total_us for row in rows)
    if not times:
        return
    errors = sum(1 for row in rows if row.error)
    costs = [row.cost for row in rows]
    total = None if None in costs else sum(cost or 0 for cost in costs)
    latency = f"median {span(times[len(times) // 2])}, slowest {span(times[-1])}"
    out.print(f"answers recorded: {len(rows)}; errors: {errors}; {latency}, cost {money(total)}", markup=False)
    out.print(f"spec {rows[0].spec_hash[:16]}, release {rows[0].release[:16]}", markup=False)
    advise(f"More: fairlead traces list --project {shlex.quote(str(fairlead.settings.project))}")
