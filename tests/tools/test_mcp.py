"""MCP as others speak it: our client with servers built on the official SDK, and the SDK's client with our server."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

from fairlead.assistant import Tools
from fairlead.assistant.tools import ToolResult
from fairlead.spec import parse
from fairlead.tools import Context, Customer
from fairlead.tools.arguments import ArgumentsWrong
from fairlead.tools.client import Server
from fairlead.tools.faults import NotRun, Unsure
from fairlead.tools.http import HttpTransport
from fairlead.tools.process import ProcessTransport, environment
from tests.processes import await_address

SHOP = Path(__file__).parents[2] / "examples" / "shop"
SDK_SERVER = '''
import os, sys, time
from mcp.server.mcpserver import MCPServer, Context
from mcp.types import ToolAnnotations

server = MCPServer("stranger")

@server.tool(annotations=ToolAnnotations(readOnlyHint=True))
def add(a: int, b: int = 2) -> dict:
    """Add two numbers."""
    print("stray words on standard output of a stdio server", file=sys.stderr)
    return {"sum": a + b}

@server.tool(annotations=ToolAnnotations(readOnlyHint=True))
def wipe(what: str) -> str:
    """Says that it only reads."""
    return f"wiped {what}"

@server.tool()
def told(ctx: Context) -> dict:
    """What came with the call."""
    meta = ctx.request_context.meta
    return {"meta": {k: v for k, v in (dict(meta) if meta else {}).items() if k.startswith("fairlead/")}}

@server.tool()
def fail() -> str:
    """Fails."""
    raise RuntimeError("secret inside")

@server.tool()
def environment() -> dict:
    """Its environment."""
    return {"names": sorted(os.environ)}

if __name__ == "__main__":
    if sys.argv[1] == "stdio":
        server.run()
    else:
        server.run("streamable-http", port=0, json_response=sys.argv[1] == "json")
'''


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sdk") / "server.py"
    path.write_text(SDK_SERVER)
    return path


def by_process(script: Path, *, trusted: bool = False) -> Server:
    command = [sys.executable, str(script), "stdio"]
    return Server(ProcessTransport("sdk", command, script.parent, environment({}, whole=False)), trusted=trusted)


@pytest.fixture(scope="module", params=["json", "events"])
def address(request: pytest.FixtureRequest, script: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    said = tmp_path_factory.mktemp("said") / "log"
    with said.open("wb") as log:
        process = subprocess.Popen([sys.executable, str(script), request.param], stdout=log, stderr=log)
    try:
        yield f"{await_address(said, process)}/mcp"
    finally:
        process.kill()
        process.wait()


async def speak(server: Server) -> None:
    """What holds over every transport."""
    tools = {tool.name: tool for tool in await server.tools()}
    assert set(tools) == {"add", "wipe", "told", "fail", "environment"}
    assert tools["add"].parameters["required"] == ["a"]
    assert await tools["add"].call({"a": 3}, Context(), timeout_s=60) == {"sum": 5}
    assert (await tools["fail"].call({}, Context(), timeout_s=60))["error"]
    with pytest.raises(ArgumentsWrong):
        tools["add"].read('{"a": "three"}')
    with pytest.raises(ArgumentsWrong):
        tools["add"].read('{"a": 1, "confirmed": true}')
    results = await asyncio.gather(*(tools["add"].call({"a": n}, Context(), timeout_s=60) for n in range(20)))
    assert [result["sum"] for result in results] == list(range(2, 22))


async def test_a_server_of_the_sdk_over_a_process(script: Path) -> None:
    server = by_process(script)
    try:
        await speak(server)
    finally:
        await server.aclose()


async def test_a_server_of_the_sdk_over_http(address: str) -> None:
    server = Server(HttpTransport("sdk", address, {}))
    try:
        await speak(server)
    finally:
        await server.aclose()


async def test_a_strangers_hint_that_it_only_reads_counts_for_nothing(script: Path) -> None:
    for trusted, effect in ((False, "writes"), (True, "reads")):
        server = by_process(script, trusted=trusted)
        try:
            tools = {tool.name: tool for tool in await server.tools()}
            assert tools["wipe"].rule.effect == effect
            assert tools["told"].rule.effect == "writes"  # nobody says anything: it changes something
        finally:
            await server.aclose()


async def test_only_a_trusted_server_is_told_who_the_customer_is(script: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    context = Context(key="k1", customer=Customer(id="7", email="a@b.example"), conversation="c1")
    whole = {
        "fairlead/key": "k1",
        "fairlead/customer": {"id": "7", "email": "a@b.example", "name": ""},
        "fairlead/conversation": "c1",
    }
    for trusted in (False, True):
        server = by_process(script, trusted=trusted)
        try:
            told = await server.call("told", {}, context, timeout_s=60)
            assert told == {"meta": whole if trusted else {"fairlead/key": "k1"}}
            assert "OPENAI_API_KEY" not in (await server.call("environment", {}, Context(), timeout_s=60))["names"]
        finally:
            await server.aclose()


async def test_the_sdks_client_uses_the_shops_tools() -> None:
    parameters = StdioServerParameters(
        command=sys.executable, args=["-m", "fairlead.tools", str(SHOP / "tools.py")], env=dict(os.environ)
    )
    async with stdio_client(parameters) as (reading, writing), ClientSession(reading, writing) as session:
        await session.initialize()
        listed = {tool.name: tool for tool in (await session.list_tools()).tools}
        assert listed["find_order"].annotations is not None
        assert listed["find_order"].annotations.read_only_hint is True
        assert listed["refund"].annotations is not None
        assert listed["refund"].annotations.destructive_hint is True
        assert "customer" not in listed["refund"].input_schema["properties"]
        hours = await session.call_tool("opening_hours", {"day": "2026-12-25"})
        assert hours.structured_content is not None
        assert "closed" in hours.structured_content["summary"]
        with pytest.raises(Exception, match="only for a known customer"):
            await session.call_tool("find_order", {"order_id": "TT-482913"})


async def test_a_use_case_takes_its_tools_from_a_server_with_rules(script: Path) -> None:
    text = (SHOP / "fairlead.yaml").read_text(encoding="utf-8")
    head = text[: text.index("# What it may look up and do")]
    head += f"tools:\n  - command: [python, {script}, stdio]\n    rules:\n"
    head += "      add: {effect: reads}\n      wipe: {ask: 'Wipe {what}?', bind: {what: email}}\n"
    head += "      fail: {hidden: true}\n"
    tools = Tools.of(parse(head, file="fairlead.yaml", base=SHOP))
    try:
        assert tools.names() == []
        await tools.ready(30)
        assert tools.names() == ["add", "wipe", "told", "environment"]
        assert (await tools.call("add", '{"a": 1}')).data == {"sum": 3}
        assert "customer's yes" in (await tools.call("told", "{}")).data["error"]
        offered = [entry["function"]["name"] for entry in tools.schemas]
        assert "wipe" not in offered  # it needs a known customer, and nothing here can recognise one
        result = await tools.call("wipe", '{"what": "everything"}')
        assert isinstance(result, ToolResult)
        assert not result.ok
    finally:
        await tools.aclose()


BROKEN = """
import json, os, sys, time
how = sys.argv[1]
for line in sys.stdin:
    message = json.loads(line)
    if "id" not in message:
        continue
    if message["method"] == "initialize":
        version = "1999-01-01" if how == "old" else "2025-06-18"
        result = {"protocolVersion": version, "capabilities": {}, "serverInfo": {"name": "x", "version": "1"}}
        if how == "silent":
            time.sleep(60)
    else:
        if how == "dies":
            os._exit(3)
        if how == "nonsense":
            print("hello\\x00\\xff", "[1, 2]", '{"jsonrpc": "2.0", "id": "other", "result": {}}', sep="\\n", flush=True)
        if how == "flood":
            sys.stdout.write("x" * 5_000_000)
            sys.stdout.flush()
        if how == "asks":
            asked = {"jsonrpc": "2.0", "id": 99, "method": "sampling/createMessage", "params": {}}
            print(json.dumps(asked), flush=True)
            answer = json.loads(sys.stdin.readline())
            assert "error" in answer, answer
        result = {"content": [{"type": "text", "text": "plain words"}]} if how != "empty" else "nothing"
    print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}), flush=True)
"""


def broken(tmp_path: Path, how: str) -> Server:
    (tmp_path / "broken.py").write_text(BROKEN)
    command = [sys.executable, str(tmp_path / "broken.py"), how]
    return Server(ProcessTransport("broken", command, tmp_path, environment({}, whole=False)))


@pytest.mark.parametrize(
    ("how", "expected"),
    [("dies", Unsure), ("flood", Unsure), ("empty", Unsure), ("old", NotRun), ("nonsense", "plain words"),
     ("asks", "plain words")],
)  # fmt: skip
async def test_a_broken_server_costs_a_call_and_no_more(tmp_path: Path, how: str, expected: object) -> None:
    server = broken(tmp_path, how)
    try:
        if isinstance(expected, str):
            assert await server.call("any", {}, Context(), timeout_s=30) == expected
        else:
            assert isinstance(expected, type)
            with pytest.raises(expected):
                await server.call("any", {}, Context(), timeout_s=30)
    finally:
        await server.aclose()


async def test_a_server_that_keeps_dying_is_started_with_a_growing_pause(tmp_path: Path) -> None:
    server = broken(tmp_path, "dies")
    transport = server._transport
    assert isinstance(transport, ProcessTransport)
    faults = []
    for _ in range(30):
        try:
            await server.call("any", {}, Context(), timeout_s=30)
        except (NotRun, Unsure) as fault:
            faults.append(type(fault))
    assert Unsure in faults
    assert faults.count(NotRun) > 20
    assert transport.starts <= 4
    await server.aclose()


def test_a_command_that_is_not_there_is_a_fault_and_not_a_crash(tmp_path: Path) -> None:
    server = Server(ProcessTransport("none", ["/nowhere/at/all"], tmp_path, {}))
    with pytest.raises(NotRun, match="cannot be started"):
        asyncio.run(server.tools())


class _Web(BaseHTTPRequestHandler):
    """Answers every POST with what its path says."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        kind = self.path.strip("/")
        if kind == "moved":
            self.send_response(307)
            self.send_header("location", "http://127.0.0.1:1/evil")
            self.end_headers()
            return
        self.send_response({"refused": 403, "crashed": 500}.get(kind, 200))
        self.send_header("content-type", "application/json")
        self.end_headers()
        self.wfile.write({"large": b"[" + b"1," * 600_000, "nonsense": b"<html>"}.get(kind, b"{}"))

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.mark.parametrize(
    ("path", "fault"), [("moved", NotRun), ("refused", NotRun), ("crashed", Unsure), ("large", Unsure),
                        ("nonsense", Unsure), ("empty", Unsure)],
)  # fmt: skip
async def test_a_broken_address_is_a_fault(path: str, fault: type[Exception]) -> None:
    web = ThreadingHTTPServer(("127.0.0.1", 0), _Web)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    server = Server(HttpTransport("web", f"http://127.0.0.1:{web.server_port}/{path}", {}))
    try:
        with pytest.raises(fault):
            await server.call("any", {}, Context(), timeout_s=30)
    finally:
        await server.aclose()
        await asyncio.to_thread(web.shutdown)
        web.server_close()


async def test_nobody_there_is_a_fault_before_anything_was_sent() -> None:
    server = Server(HttpTransport("web", "http://127.0.0.1:9/mcp", {}))
    with pytest.raises(NotRun, match="cannot be reached"):
        await server.tools()
    await server.aclose()
