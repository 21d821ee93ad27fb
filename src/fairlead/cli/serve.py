"""``fairlead serve``: run the gateway, the chat and the console in one process."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator
from typing import Any

import typer
import uvicorn
import uvloop

from fairlead.app import Fairlead, build
from fairlead.cli.output import err, with_settings
from fairlead.console import create_app
from fairlead.errors import PortTaken, UsageError
from fairlead.gateway import IDLE_S, fronting, settle
from fairlead.settings import Settings


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("serve")(serve)


@with_settings()
def serve(*, settings: Settings) -> None:
    """Serve the API, the chat and the console.

    The API speaks the OpenAI protocol; the use case's name is the model that answers from its knowledge.
    """
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    uvloop.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    async with running(settings) as (fairlead, url):
        stopped = stop_asked()
        err.print(f"{fairlead.usecase.name} is served at {url}", style="bold", markup=False)
        err.print(f"  chat     {url}/chat\n  console  {url}/console\n  API      {url}/v1   (base_url)", markup=False)
        if settings.require_key and not fairlead.store.keys.active():
            err.print("  There is no key yet. Create one: fairlead keys create me --scope inference --scope admin")
        await stopped.wait()
        err.print("Finishing open requests ...")


def stop_asked() -> asyncio.Event:
    """An event that Ctrl-C or SIGTERM sets, from now on."""
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    return stopped


class _Server(uvicorn.Server):
    """Uvicorn without its own signal handling: the commands decide when to stop."""

    @contextlib.contextmanager
    def capture_signals(self) -> Any:
        yield


@contextlib.asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[tuple[Fairlead, str]]:
    """Fairlead listening on the configured address, and its URL. Leaving the context drains and stops it."""
    sock = listen(settings.host, settings.port)
    try:
        fairlead = await asyncio.to_thread(build, settings)
    except BaseException:
        sock.close()
        raise
    fairlead.pages = create_app(fairlead)
    await fairlead.start()
    settle()
    config = uvicorn.Config(
        fairlead.gateway,
        http=fronting(fairlead.gateway),
        timeout_keep_alive=round(IDLE_S),
        loop="none",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=True,
        timeout_graceful_shutdown=max(1, round(settings.shutdown_grace_s)),
    )
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[sock]))
    try:
        while not server.started and not serving.done():  # noqa: ASYNC110
            await asyncio.sleep(0.005)  # uvicorn says so by a flag only
        host, port = sock.getsockname()[:2]
        shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104  only compared
        yield fairlead, f"http://{f'[{shown}]' if ':' in shown else shown}:{port}"
    finally:
        server.should_exit = True
        await serving
        await fairlead.stop()


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises PortTaken, or UsageError for an address this machine does not have."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise UsageError(detail=f"Cannot listen on {host!r}: {error.strerror}. Set another with --host.") from error
    sock = socket.socket(family, kind, protocol)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind(address)
        sock.listen(2048)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(host=host, port=port) from error
        raise UsageError(detail=f"Cannot listen on {host}:{port}: {os.strerror(error.errno or 0)}.") from error
    sock.setblocking(False)
    return sock
