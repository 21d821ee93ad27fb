"""A real Fairlead on a copy of the reference shop, listening on a free port, with a model that can be scripted."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import json
import re
import shutil
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import yaml

from fairlead.app import Fairlead
from fairlead.cli.serve import running
from fairlead.errors import UpstreamBroken, UpstreamUnreachable
from fairlead.providers.base import Call, Reply
from fairlead.records import new_id, now_us
from fairlead.settings import load

SHOP = Path(__file__).parents[2] / "examples" / "shop"
HOSTILE = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'


class Scripted:
    """An upstream that says what a test wants: pieces of text, pauses (seconds), or a failure."""

    name = "scripted"

    def __init__(self) -> None:
        self.script: list[str | float | Exception] = ["Yes."]
        self.calls: list[Call] = []
        self.gate = threading.Event()
        self.gate.set()

    async def open(self, call: Call) -> Reply:
        """Play the script as a stream, or as one body."""
        self.calls.append(call)
        if self.script and isinstance(self.script[0], UpstreamUnreachable):
            raise self.script[0]
        if call.stream:
            return Reply(200, chunks=self._chunks(list(self.script)))
        text = "".join(part for part in self.script if isinstance(part, str))
        message = {"role": "assistant", "content": text}
        body = {"id": "x", "object": "chat.completion", "created": 1, "model": "scripted"}
        body["choices"] = [{"index": 0, "message": message, "finish_reason": "stop"}]
        return Reply(200, body=json.dumps(body).encode())

    async def _chunks(self, script: list[str | float | Exception]) -> AsyncIterator[bytes]:
        for part in script:
            if isinstance(part, Exception):
                raise part
            if isinstance(part, float):
                await asyncio.sleep(part)
                continue
            await asyncio.to_thread(self.gate.wait, 30)
            yield _chunk({"index": 0, "delta": {"content": part}, "finish_reason": None})
        yield _chunk({"index": 0, "delta": {}, "finish_reason": "stop"})
        yield b"data: [DONE]\n\n"

    async def aclose(self) -> None:
        """Nothing to close."""


def _chunk(choice: dict[str, Any]) -> bytes:
    body = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "scripted", "choices": [choice]}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def copy_shop(folder: Path, judges: list[dict[str, Any]] | None = None, **policy: Any) -> Path:
    """The shop with the variants these tests need and one hostile page in its knowledge."""
    project = folder / "shop"
    shutil.copytree(SHOP, project, ignore=shutil.ignore_patterns(".fairlead", "__pycache__"))
    path = project / "fairlead.yaml"
    spec = yaml.safe_load(path.read_text(encoding="utf-8"))
    spec["variants"] = [variant for variant in spec["variants"] if variant["id"] == "extractive"]
    if judges:
        spec["judges"] = judges
        spec["variants"].append({"id": "judge", "model": "http://127.0.0.1:9/v1#judge"})
    for name, value in policy.items():
        spec["policy"][name] = {**spec["policy"].get(name, {}), **value}
    path.write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")
    page = f"# Zeppelin rides {HOSTILE}\n\nA zeppelin ride takes exactly forty minutes {HOSTILE} above the lake.\n"
    (project / "knowledge" / "zeppelin.md").write_text(page, encoding="utf-8")
    return project


class Scene:
    """The running server: its address, its parts, keys, and a way to script the model."""

    def __init__(self, fairlead: Fairlead, url: str) -> None:
        self.fairlead = fairlead
        self.url = url
        self.store = fairlead.store
        self.key = self.store.keys.create("Ada", ("admin", "inference"))[1]
        self.plain_key = self.store.keys.create("client", ("inference",))[1]

    @contextlib.contextmanager
    def scripted(self, *script: str | float | Exception) -> Iterator[Scripted]:
        """Let a script answer instead of the live variant."""
        live = self.fairlead.usecase.live.id
        routes: Any = self.fairlead.gateway.routes
        before, model = routes[live], Scripted()
        model.script = list(script)
        routes[live] = msgspec.structs.replace(before, upstream=model)
        try:
            yield model
        finally:
            model.gate.set()
            routes[live] = before

    def say_as_person(self, conversation: str, text: str) -> None:
        """What someone of the team would write into a conversation."""
        template = self.store.conversations.messages(conversation)[0]
        self.store.conversations.add(
            msgspec.structs.replace(template, id=new_id(), time=now_us(), role="operator", text=text, facts={})
        )

    def recorded(self, conversation: str, least: int) -> None:
        """Return once ``least`` traces of a conversation can be read (recording is off the path)."""
        deadline = time.monotonic() + 60
        while True:
            self.store.traces.flush()
            now = now_us()
            traces = self.store.traces.query(since=now - 3_600_000_000, until=now, conversation=conversation)
            if len(traces) >= least:
                return
            assert time.monotonic() < deadline, f"{len(traces)} of {least} traces were recorded"
            time.sleep(0.02)


@contextlib.contextmanager
def serve(
    folder: Path, *, policy: dict[str, Any] | None = None, judges: list[dict[str, Any]] | None = None, **flags: Any
) -> Iterator[Scene]:
    """A scene on a thread of its own; leaving stops the server and closes the store."""
    project = copy_shop(folder, judges, **(policy or {}))
    settings = load({"project": project, "port": 0, "shutdown_grace_s": 1.0, "journal_flush_ms": 20, **flags}, {})
    started: concurrent.futures.Future[Scene] = concurrent.futures.Future()
    down = threading.Event()

    async def main() -> None:
        async with running(settings) as (fairlead, url):
            started.set_result(Scene(fairlead, url))
            await asyncio.to_thread(down.wait)

    def run() -> None:
        try:
            asyncio.run(main())
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    thread = threading.Thread(target=run, name="scene")
    thread.start()
    try:
        yield started.result(120)
    finally:
        down.set()
        thread.join(60)


def events_of(body: str) -> list[dict[str, Any]]:
    """The JSON objects of a finished event stream."""
    return [json.loads(data) for data in re.findall(r"^data: (.*)$", body, re.MULTILINE)]


UNREACHABLE = UpstreamUnreachable(name="scripted", detail="10.0.0.7 refused the connection")
BROKEN = UpstreamBroken(name="scripted", detail="the stream ended")
