"""A gateway with a real store behind it, served by a real uvicorn on a free port; and raw sockets to be rude with."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import uvicorn

from fairlead.gateway import Gateway, Identity, Route, Slot, Step, fronting
from fairlead.gateway.cache import Cache
from fairlead.gateway.http import ASGIApp
from fairlead.guard import mask_text
from fairlead.providers.base import Call, Upstream
from fairlead.providers.deadline import TICK_S
from fairlead.providers.scripted import Script, Scripted
from fairlead.records import Inference, Key, now_us
from fairlead.settings import Settings
from fairlead.store import Store

KINDS = frozenset({"email", "phone", "card", "iban"})
CHAT: Mapping[str, Any] = {"model": "support", "messages": [{"role": "user", "content": "Where is my parcel?"}]}


class Keys:
    """Keys in memory, for tests that are not about keys."""

    def __init__(self) -> None:
        self.keys: list[Key] = []

    def active(self) -> list[Key]:
        return self.keys

    def version(self) -> int:
        return len(self.keys)


def route(upstream: Upstream, name: str = "support", **changes: Any) -> Route:
    values: dict[str, Any] = {
        "name": name,
        "upstream": upstream,
        "model": f"{name}-model",
        "variant": name,
        "release": "r1",
        "operations": frozenset({"chat", "completion", "embedding"}),
        "price": (400, 1600),
    }
    return Route(**{**values, **changes})


@dataclasses.dataclass
class House:
    """A gateway, what it recorded, and how to run it."""

    gateway: Gateway
    records: list[Inference]
    upstream: Any

    def written(self, count: int = 1, within_s: float = 60.0) -> list[Inference]:
        """The records once there are ``count`` of them."""
        await_true(lambda: len(self.records) >= count, f"{count} records", within_s)
        return self.records


class Held(Scripted):
    """Wherever its script has it pause, it waits until ``go`` is set instead."""

    def __init__(self, script: Script | Callable[[Call], Script]) -> None:
        super().__init__(script=script)
        self.go = threading.Event()

    async def _pause(self, seconds: float, call: Call) -> None:
        while seconds and not self.go.is_set():
            await super()._pause(0.005, call)


def await_true(true: Callable[[], object], what: str, within_s: float = 30.0) -> None:
    """Wait until ``true()`` is so; what is waited for happens in another thread."""
    until = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < until, f"not within {within_s:g} s: {what}"
        time.sleep(0.005)


async def until(true: Callable[[], object], what: str, within_s: float = 30.0) -> None:
    """The same within a loop that goes on meanwhile."""
    end = time.monotonic() + within_s
    while not true():
        assert time.monotonic() < end, f"not within {within_s:g} s: {what}"
        await asyncio.sleep(0.005)


def build(
    upstream: Upstream | Script | None = None,
    *,
    keys: Any = None,
    routes: Mapping[str, Route] | None = None,
    record: Callable[[Inference], bool] | None = None,
    fallback: ASGIApp | None = None,
    ready: Callable[[], list[str]] = list,
    steps: Mapping[Slot, tuple[Step, ...]] | None = None,
    cache: Cache | None = None,
    **settings: Any,
) -> House:
    """A gateway with one route, ``support``, without required keys unless some are given."""
    if upstream is None or isinstance(upstream, Script):
        upstream = Scripted(script=upstream)
    records: list[Inference] = []

    def keep(inference: Inference) -> bool:
        records.append(inference)
        return True

    gateway = Gateway(
        routes=routes or {"support": route(upstream)},
        keys=keys or Keys(),
        record=record or keep,
        settings=Settings(require_key=keys is not None, **settings),
        mask=lambda text: mask_text(text, KINDS),
        identity=Identity("shop-support", "a" * 64),
        fallback=fallback,
        ready=ready,
        steps=steps,
        pseudonym_secret=b"s" * 32,
        cache=cache,
    )
    return House(gateway, records, upstream)


@contextlib.contextmanager
def serving(app: Any, **config: Any) -> Iterator[str]:
    """``app`` on a free port, in a thread with a loop of its own; the base URL. Stops gracefully."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    sock.bind(("127.0.0.1", 0))
    http = fronting(app) if isinstance(app, Gateway) else "httptools"
    settings = {"log_level": "error", "access_log": False, "loop": "uvloop", "http": http, "lifespan": "on"}
    server = uvicorn.Server(uvicorn.Config(app, **{**settings, "timeout_graceful_shutdown": 5, **config}))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
    thread.start()
    await_true(lambda: server.started or not thread.is_alive(), "the server starts", 60)
    assert server.started, "the server died"
    try:
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive(), "the server did not stop"


def raw(url: str, sent: bytes, *, more: bytes = b"", pause_s: float = 0.0, timeout_s: float = 20.0) -> bytes:
    """Send bytes as they are; whatever comes back until the server closes or falls silent for a second and a half.

    Where several answers must come, or one in pieces, ask for ``whole`` instead.
    """
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout_s) as sock:
        sock.sendall(sent)
        if more:
            time.sleep(pause_s)
            sock.sendall(more)
        received = b""
        with contextlib.suppress(TimeoutError, ConnectionResetError):
            while data := sock.recv(65536):
                received += data
                sock.settimeout(1.5)
        return received


def whole(url: str, sent: bytes) -> bytes:
    """Send bytes as they are; all that comes back until the server closes, which it must."""
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), 60) as sock:
        sock.sendall(sent)
        return all_of(sock)


def all_of(sock: socket.socket) -> bytes:
    """What a connection still brings until the server closes it."""
    received = b""
    while data := sock.recv(65536):
        received += data
    return received


def read_until(sock: socket.socket, wanted: bytes) -> bytes:
    """What a connection brings until ``wanted`` is in it."""
    received = b""
    while wanted not in received:
        part = sock.recv(4096)
        assert part, f"closed before {wanted!r}"
        received += part
    return received


class _Ahead:
    """The clock of a loop, moved."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.now = now
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.now() + self.seconds


def pass_time(seconds: float = 0.0) -> None:
    """Let so many seconds pass at once for the running loop (asyncio's own): what is due by then happens next.

    A deadline that is to pass in the middle of something needs no race against the machine then. Whatever keeps the
    loop's clock must be made after the first call.
    """
    loop = asyncio.get_running_loop()
    clock = loop.time if isinstance(loop.time, _Ahead) else _Ahead(loop.time)
    clock.seconds += seconds
    loop.time = clock  # type: ignore[method-assign]


class Ageing(Scripted):
    """Wherever its script has it pause, so many seconds pass at once. Its loop is asyncio's own."""

    async def _pause(self, seconds: float, call: Call) -> None:
        if seconds:
            pass_time(seconds)
            await super()._pause(2 * TICK_S, call)


def post(path: str, body: bytes, *headers: str, length: int | None = None) -> bytes:
    """The bytes of a POST request."""
    lines = [f"POST {path} HTTP/1.1", "host: test", f"content-length: {len(body) if length is None else length}"]
    if not any(header.lower().startswith("content-type") for header in headers):
        lines.append("content-type: application/json")
    return "\r\n".join([*lines, *headers, "", ""]).encode("latin-1") + body


@contextlib.contextmanager
def stored(directory: Path) -> Iterator[Store]:
    with Store.open(directory, flush_ms=20) as store:
        yield store


def recent(store: Store) -> list[Inference]:
    """What the store has recorded, oldest first."""
    store.traces.flush()
    return list(store.traces.query(since=0, until=now_us() + 1_000_000, order="asc"))
