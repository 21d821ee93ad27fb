"""A request leaves nothing for the garbage collector, whose pauses (measured: 15 to 240 ms) would delay others."""

from __future__ import annotations

import gc
import json
from collections.abc import MutableMapping
from typing import Any

import pytest

from fairlead.gateway.http import Message
from fairlead.providers.scripted import Script
from tests.gateway.gateway_harness import CHAT, build

REQUESTS = 50


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_request_leaves_no_cycles(stream: bool) -> None:
    house = build(Script(text="It is on its way."))
    body = json.dumps({**CHAT, "stream": stream}).encode()
    scope: MutableMapping[str, Any] = {"type": "http", "path": "/v1/chat/completions", "method": "POST", "headers": []}
    statuses: list[int] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    async def ask(times: int) -> None:
        for _ in range(times):
            await house.gateway(scope, receive, send)
        house.gateway.write_records()
        house.upstream.calls.clear()
        house.records.clear()

    await ask(5)
    gc.collect()
    gc.disable()
    try:
        await ask(REQUESTS)
        left = gc.collect()
    finally:
        gc.enable()
    assert statuses == [200] * (REQUESTS + 5)
    assert left < REQUESTS, f"{left / REQUESTS:g} objects a request are left in reference cycles"
    await house.gateway.aclose()
