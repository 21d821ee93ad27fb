"""``fairlead serve``: run the gateway, the chat and the console in one process."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import typer
import uvicorn
import uvloop

from fairlead.app import Fairlead, build
from fairlead.cli.logs import start_logging
from fairlead.cli.output import advise, err, same, with_settings
from fairlead.console import create_app
from fairlead.errors import PortTaken, UsageError
from fairlead.gateway import IDLE_S, Gateway, Shown, fronting, settle
from fairlead.gateway.http import ASGIApp
from fairlead.settings import Settings

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
"""For TLS 1.2, those with forward secrecy that nobody has broken; 1.3 has no others."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("serve")(serve)


@with_settings()
def serve(*, settings: Settings) -> None:
    """Serve the API, the chat and the console.

    The API speaks the OpenAI protocol; the use case's name is the model that answers from its knowledge.
    """
    start_logging(settings.log_level)
    uvloop.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    async with running(settings) as (fairlead, url):
        stopped = stop_asked()
        err.print(f"{fairlead.usecase.name} is served at {url}", style="bold", markup=False)
        inside = f"{_scheme(settings)}://{settings.admin_host}:{settings.admin_port}" if settings.admin_port else url
        err.print(f"  chat     {url}/chat\n  console  {inside}/console\n  API      {url}/v1   (base_url)", markup=False)
        if settings.require_key and not fairlead.store.keys.active():
            make = f"fairlead keys create me --scope inference --scope admin{same(settings)}"
            advise(f"  There is no key yet. Create one: {make}", to=err)
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
    """Fairlead listening on the configured addresses, and its URL. Leaving the context drains and stops it."""
    with contextlib.ExitStack() as opened:
        check_tls(settings)
        socks = [opened.enter_context(listen(settings.host, settings.port))]
        if settings.admin_port:
            socks.append(opened.enter_context(listen(settings.admin_host, settings.admin_port, "--admin-port")))
        fairlead = await asyncio.to_thread(build, settings)
        opened.pop_all()
    fairlead.pages = create_app(fairlead)
    await fairlead.start()
    settle()
    gateway: ASGIApp = fairlead.gateway
    servers = [_server(Shown(gateway, admin=False) if settings.admin_port else gateway, settings, fairlead.gateway)]
    if settings.admin_port:
        servers.append(_server(Shown(gateway, admin=True), settings, None))
    tasks = [asyncio.create_task(one.serve(sockets=[sock])) for one, sock in zip(servers, socks, strict=True)]
    try:
        while not all(one.started for one in servers) and not any(task.done() for task in tasks):  # noqa: ASYNC110
            await asyncio.sleep(0.005)  # uvicorn says so by a flag only
        host, port = socks[0].getsockname()[:2]
        shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104  only compared
        yield fairlead, f"{_scheme(settings)}://{f'[{shown}]' if ':' in shown else shown}:{port}"
    finally:
        for one in servers:
            one.should_exit = True
        await asyncio.gather(*tasks)
        await fairlead.stop()


def _server(app: ASGIApp, settings: Settings, served: Gateway | None) -> _Server:
    """Uvicorn with ``app``; requests for a model go straight to ``served``, where there is one."""
    options: dict[str, Any] = {"http": "httptools" if served is None else fronting(served)}
    if settings.tls_certificate:
        options |= {
            "ssl_certfile": settings.tls_certificate, "ssl_keyfile": settings.tls_key or None, "ssl_ciphers": CIPHERS
        }  # fmt: skip
    config = uvicorn.Config(
        app,
        timeout_keep_alive=round(IDLE_S),
        loop="none",
        ws="none",
        lifespan="off",
        access_log=False,
        log_config=None,
        server_header=False,
        date_header=True,
        timeout_graceful_shutdown=max(1, round(settings.shutdown_grace_s)),
        **options,
    )
    config.load()
    if config.ssl is not None:
        config.ssl.minimum_version = ssl.TLSVersion.TLSv1_2
    return _Server(config)


def check_tls(settings: Settings) -> None:
    """Raise UsageError unless the certificate and its key, where set, can be used together."""
    if not settings.tls_certificate:
        if settings.tls_key:
            raise UsageError(detail="There is a key but no certificate. Set --tls-certificate as well.")
        return
    certificate, key = settings.tls_certificate, settings.tls_key
    mend = "Give PEM files with --tls-certificate and --tls-key."
    for what, path in (("certificate", certificate), ("key", key)):
        try:
            if path:
                Path(path).open("rb").close()
        except OSError as error:
            raise UsageError(detail=f"The {what} {path} cannot be read ({error.strerror}). {mend}") from error
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key or None)
    except ssl.SSLError as error:
        where = f"{certificate} and {key} are" if key else f"{certificate} holds"
        detail = f"https cannot be served: {where} no certificate with the key that belongs to it. {mend}"
        raise UsageError(detail=detail) from error


def _scheme(settings: Settings) -> str:
    return "https" if settings.tls_certificate else "http"


def listen(host: str, port: int, flag: str = "--port") -> socket.socket:
    """A listening socket; ``flag`` says where its port is set. Raises PortTaken, UsageError for no address of ours."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise UsageError(
            detail=f"Cannot listen on {host!r}: {error.strerror}. Set another with {flag.replace('port', 'host')}."
        ) from error
    sock = socket.socket(family, kind, protocol)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind(address)
        sock.listen(2048)
    except OSError as error:
        sock.close()
        if error.errno == errno.EADDRINUSE:
            raise PortTaken(host=host, port=port, flag=flag) from error
        raise UsageError(detail=f"Cannot listen on {host}:{port}: {os.strerror(error.errno or 0)}.") from error
    sock.setblocking(False)
    return sock
