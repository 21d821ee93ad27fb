"""The shop with a model at an address instead of one of ours: one line of the definition changes, and nothing else."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from fairlead.app import build
from fairlead.assistant import Confirm, Delta, Event, Facts
from fairlead.settings import Settings
from tests.assistant.assistant_harness import SHOP

THEO = {"order_id": "TT-730158", "email": "theo.calloway@example.org"}


class _Model(BaseHTTPRequestHandler):
    """An OpenAI-compatible server: cancels when it reads "cancel", looks up an order else, and words a result."""

    seen: ClassVar[list[dict[str, Any]]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.seen.append(body)
        last = body["messages"][-1]
        if last["role"] == "tool":
            deltas: list[dict[str, Any]] = [
                {"content": "We have received your order TT-730158; "},
                {"content": "it should arrive soon."},
            ]
        else:
            name = "cancel_order" if "cancel" in last["content"] else "find_order"
            known = "email" not in next(
                tool["function"]["parameters"]["required"] for tool in body["tools"] if tool["function"]["name"] == name
            )
            arguments = json.dumps({"order_id": THEO["order_id"]} if known else THEO)
            half = len(arguments) // 2
            deltas = [
                {"tool_calls": [{"index": 0, "id": "c1", "function": {"name": name, "arguments": arguments[:half]}}]},
                {"tool_calls": [{"index": 0, "function": {"arguments": arguments[half:]}}]},
            ]
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.end_headers()
        for delta in deltas:
            chunk = {"id": "x", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta}]}
            self.wfile.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
        end = {"id": "x", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        self.wfile.write(b"data: " + json.dumps(end).encode() + b"\n\ndata: [DONE]\n\n")

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Model)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1#any"
    finally:
        server.shutdown()
        server.server_close()


async def test_a_model_at_an_address_looks_up_and_changes_like_any_other(address: str, tmp_path: Path) -> None:
    project = tmp_path / "shop"
    shutil.copytree(SHOP, project, ignore=shutil.ignore_patterns(".fairlead", "working.sqlite"))
    path = project / "fairlead.yaml"
    text = path.read_text(encoding="utf-8").replace("model: mini,", f'model: "{address}",')
    path.write_text(text.replace("live: extractive", "live: mini"), encoding="utf-8")
    fairlead = build(Settings(project=project))
    try:
        await fairlead.start_variant("mini")
        conversation, _ = await asyncio.to_thread(fairlead.assistant.open_conversation)

        async def say(text: str) -> list[Event]:
            return [event async for event in fairlead.assistant.reply(conversation.id, text)]

        def spoken(events: list[Event]) -> str:
            return "".join(event.text for event in events if isinstance(event, Delta))

        found = await say(f"Where is {THEO['order_id']}? {THEO['email']}")
        assert spoken(found) == "We have received your order TT-730158; it should arrive soon."
        assert any(isinstance(event, Facts) for event in found)
        asked = await say("cancel it")
        assert any(isinstance(event, Confirm) for event in asked)
        assert spoken(asked) == "Shall I cancel your order TT-730158 (€266.90)? Please answer yes or no."
        calls = len(_Model.seen)
        assert "is cancelled" in spoken(await say("yes"))
        assert len(_Model.seen) == calls  # no model reads the yes
        roles = [message["role"] for message in _Model.seen[-1]["messages"]]
        assert roles == ["system", "assistant", "user", "assistant", "tool", "assistant", "user"]
    finally:
        await fairlead.stop()
