"""An engine that is killed while it is asked: what had not begun to be answered is answered all the same."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from pathlib import Path

import aiohttp
import pytest

from fairlead.cli.serve import running
from fairlead.engines import served
from fairlead.settings import load
from tests.assistant.assistant_harness import SHOP

pytestmark = pytest.mark.engine
CLIENTS, KILLS = 6, 3


async def test_nothing_is_lost_before_its_first_byte_when_the_engine_is_killed_under_load(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served, "PATIENCE_S", 60.0)  # a loaded machine takes its time to start a process
    project = tmp_path / "shop"
    shutil.copytree(SHOP, project, ignore=shutil.ignore_patterns(".fairlead", "working-*"))
    settings = load({"project": project, "port": 0, "require_key": False, "shutdown_grace_s": 2.0}, {})
    body = {"model": "mini", "max_tokens": 12, "messages": [{"role": "user", "content": "Hello, who are you?"}]}
    answered: list[int] = []
    streams: list[bool] = []
    over = asyncio.Event()

    async with running(settings) as (fairlead, url), aiohttp.ClientSession() as web:
        engine = fairlead.engines["mini"]
        await until_ready(engine)

        async def ask() -> None:
            while not over.is_set():
                async with web.post(f"{url}/v1/chat/completions", json=body) as reply:
                    answered.append(reply.status)
                    await reply.read()

        async def follow() -> None:
            while not over.is_set():
                async with web.post(f"{url}/v1/chat/completions", json={**body, "stream": True}) as reply:
                    assert reply.status == 200
                    said = await reply.read()
                    streams.append(said.endswith(b"data: [DONE]\n\n") or b'"error"' in said)

        asking = [asyncio.create_task(ask()) for _ in range(CLIENTS)] + [asyncio.create_task(follow())]
        for _ in range(KILLS):
            await asyncio.sleep(0.5)
            before = len(answered)
            pid = await until_ready(engine)
            os.kill(pid, signal.SIGKILL)
            while len(answered) < before + 3 * CLIENTS:  # noqa: ASYNC110  (nobody tells how many there are)
                await asyncio.sleep(0.05)
        over.set()
        await asyncio.gather(*asking)
        await until_ready(engine)
        assert engine.health().restarts >= KILLS
    assert len(answered) >= KILLS * 3 * CLIENTS
    assert set(answered) == {200}
    assert streams
    assert all(streams)  # one that had begun ends as an error that can be read, never as an answer cut short


async def until_ready(engine: object) -> int:
    """The process of an engine that answers."""
    for _ in range(600):
        health = engine.health()  # type: ignore[attr-defined]
        if health.state == "ready" and health.pid:
            return int(health.pid)
        await asyncio.sleep(0.1)
    raise AssertionError(health)
