"""The shop with a model at an address instead of one of ours: one line of the definition changes, and nothing else."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from fairlead.app import build, packaged_weights
from fairlead.assistant import Confirm, Delta, Event, Facts
from fairlead.records import now_us
from fairlead.settings import Settings
from fairlead.spec import target
from tests.assistant.assistant_harness import SHOP
from tests.providers.messages_server import EVENTS, messages_server

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


def shop_with(folder: Path, model: str, more: str = "") -> Path:
    """The reference shop with another model behind ``mini``, live; nothing else is changed."""
    project = folder / "shop"
    shutil.copytree(SHOP, project, ignore=shutil.ignore_patterns(".fairlead", "working-*"))
    path = project / "fairlead.yaml"
    text = path.read_text(encoding="utf-8").replace("model: mini,", f'model: "{model}", {more}')
    text = text.replace("external_models: false", "external_models: true")
    path.write_text(text.replace("live: extractive", "live: mini"), encoding="utf-8")
    return project


async def test_a_gguf_file_answers_in_the_shop(tmp_path: Path) -> None:
    project = shop_with(tmp_path, "./model.gguf")
    shutil.copyfile(packaged_weights("mini"), project / "model.gguf")
    fairlead = build(Settings(project=project))
    try:
        await fairlead.start_variant("mini")
        answer = await fairlead.assistant.ask("How much is standard delivery to Austria?")
        assert answer.text
        assert "€4" not in answer.text  # whatever it words: nothing from nowhere gets out
        fairlead.gateway.write_records()
        fairlead.store.traces.flush()
        calls = fairlead.store.traces.query(since=0, until=now_us() + 1, operation="chat")
        assert "mini" in {call.variant for call in calls}
    finally:
        await fairlead.stop()


async def test_a_model_behind_the_messages_api_uses_the_shops_tools(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-ant-test")
    called = {"type": "tool_use", "id": "toolu_1", "name": "find_order", "input": {}}
    arguments = {"type": "input_json_delta", "partial_json": json.dumps(THEO)}
    asks = [
        EVENTS[0],
        {"type": "content_block_start", "index": 0, "content_block": called},
        {"type": "content_block_delta", "index": 0, "delta": arguments},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}},
        {"type": "message_stop"},
    ]
    async with messages_server() as (url, talk):
        host = dataclasses.replace(target.HOSTED["anthropic"], base_url=url)
        monkeypatch.setattr(target, "HOSTED", {**target.HOSTED, "anthropic": host})
        fairlead = build(
            Settings(project=shop_with(tmp_path, "anthropic:claude-haiku-5-5", "api_key: env:ANTHROPIC_API_KEY,"))
        )
        try:
            conversation, _ = await asyncio.to_thread(fairlead.assistant.open_conversation)
            talk.events = asks
            events = []
            said = f"Where is {THEO['order_id']}? {THEO['email']}"
            async for event in fairlead.assistant.reply(conversation.id, said):
                events.append(event)
                if isinstance(event, Facts):
                    talk.events = EVENTS
            assert any(isinstance(event, Facts) for event in events)
            assert len(talk.asked) >= 2
            results = [part for message in talk.asked[1][1]["messages"] for part in message["content"]]
            assert any(part["type"] == "tool_result" and "TT-730158" in str(part["content"]) for part in results)
            assert "sk-ant-test" in talk.asked[0][0]
        finally:
            await fairlead.stop()


async def test_a_model_at_an_address_looks_up_and_changes_like_any_other(address: str, tmp_path: Path) -> None:
    fairlead = build(Settings(project=shop_with(tmp_path, address)))
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
