"""A whole house for batches: gateway, store, worker and HTTP side on a free port, with models from a script."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from openai import OpenAI
from openai.types import Batch

from fairlead.batch import KIND, Batches, Limits, Live, Runner, Spare, Surface, described
from fairlead.batch.runner import holder_of
from fairlead.batch.work import Backend
from fairlead.gateway import Gateway, Route
from fairlead.gateway.http import Receive, Scope, Send
from fairlead.jobs import Worker
from fairlead.providers.base import Upstream
from fairlead.providers.scripted import Script, Scripted
from fairlead.records import now_us
from fairlead.store import Store
from tests.gateway.gateway_harness import build, route, serving

ENDED = ("failed", "completed", "expired", "cancelled")
Lines = list[dict[str, Any]]


def chat(custom_id: str, said: str = "Hello", **changes: Any) -> dict[str, Any]:
    """One line."""
    body = {"model": "support", "messages": [{"role": "user", "content": said}], "max_tokens": 20}
    return {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": body, **changes}


def jsonl(lines: Lines) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


class Place:
    """Everything of one process, served with the worker in the server's loop."""

    def __init__(
        self,
        store: Store,
        upstream: Upstream | Script | None = None,
        *,
        keys: bool = False,
        places: int = 8,
        limits: Limits | None = None,
        window_s: float = 86_400.0,
        most_held: int = 1 << 30,
        most_file: int = 1 << 20,
        backends: Mapping[str, Backend] | None = None,
        routes: Mapping[str, Route] | None = None,
    ) -> None:
        self.store = store
        self.upstream: Any = Scripted(script=upstream) if upstream is None or isinstance(upstream, Script) else upstream
        house = build(
            routes=dict(routes)
            if routes
            else {"support": route(self.upstream), "other": route(self.upstream, "other")},
            keys=store.keys if keys else None,
        )
        self.gateway: Gateway = house.gateway
        self.records = house.records
        self.spare = Spare(lambda: self.gateway.in_flight)
        live = Live(self.gateway, self.spare, places)
        self.batches = Batches(store, self.gateway.identity, most_held_bytes=most_held, window_s=window_s)
        self.runner = Runner(
            store,
            self.gateway.routes,
            lambda found: (backends or {}).get(found.name, live),
            limits=limits or Limits(),
            holder=lambda key: holder_of(key, store.keys.list(), now_us()),
            look_s=0.05,
        )
        self.worker = Worker(store, {KIND: self.runner}, poll_s=0.05, beat_s=0.05)
        surface = Surface(self.gateway, store, self.batches, wake=self.worker.wake, most_file_bytes=most_file)
        self.gateway.surfaces.update(surface.surfaces)
        self.gateway.description = described(self.gateway.description)
        self.working = True
        self._task: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The app; the worker starts with the server and ends with it."""
        if scope["type"] == "lifespan" and self.working:
            self._task = asyncio.create_task(self.worker.run())
            try:
                await self.gateway(scope, receive, send)
            finally:
                self._task.cancel()
                await asyncio.gather(self._task, return_exceptions=True)
            return
        await self.gateway(scope, receive, send)


@contextlib.contextmanager
def served(place: Place, key: str = "unused") -> Iterator[OpenAI]:
    with serving(place) as url, OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0) as client:
        yield client


def submit(client: OpenAI, lines: Lines | bytes, endpoint: Any = "/v1/chat/completions", **extra: Any) -> Batch:
    raw = lines if isinstance(lines, bytes) else jsonl(lines)
    file = client.files.create(file=("in.jsonl", raw), purpose="batch")
    return client.batches.create(input_file_id=file.id, endpoint=endpoint, completion_window="24h", **extra)


def wait(client: OpenAI, batch: Batch, until: Callable[[Batch], bool] | None = None, within_s: float = 120.0) -> Batch:
    end = time.monotonic() + within_s
    while True:
        found = client.batches.retrieve(batch.id)
        if until(found) if until else found.status in ENDED:
            return found
        assert time.monotonic() < end, found
        time.sleep(0.03)


def content(client: OpenAI, file: str | None) -> Lines:
    return [json.loads(line) for line in client.files.content(file).text.splitlines()] if file else []


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[Store]:
    with Store.open(folder, flush_ms=20) as store:
        yield store


@contextlib.asynccontextmanager
async def working(worker: Worker) -> AsyncIterator[None]:
    task = asyncio.create_task(worker.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
