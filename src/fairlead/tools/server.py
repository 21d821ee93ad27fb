"""A file of tools as an MCP server on standard input and output: ``python -m fairlead.tools tools.py``.

Speaks the part of the protocol that concerns tools (initialize, ping, tools/list, tools/call), a JSON message a line.
Who the customer is and the key of an action come in ``_meta`` of a call, never in its arguments. Written here because
the official SDK takes 0.9 s of CPU and 64 MB before it serves its first tool; tests talk to it with the SDK's client.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from fairlead import __version__
from fairlead.errors import ToolsInvalid
from fairlead.tools import Context, Customer
from fairlead.tools.arguments import ArgumentsWrong
from fairlead.tools.functions import FunctionTool, MissingCustomer, load_functions

PROTOCOLS: Final = ("2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05")
"""Versions of the protocol that are understood, the newest first."""
META: Final = "fairlead/"
"""Prefix of the keys in ``_meta`` that are Fairlead's."""
WORKERS: Final = 8
LONGEST_LINE: Final = 1_000_000
INVALID, MISSING, UNKNOWN_METHOD, CRASHED = -32602, -32001, -32601, -32000


class Server:
    """Answers messages; ``write`` takes one line of bytes and may be called from any thread."""

    def __init__(self, tools: Sequence[FunctionTool], *, name: str, write: Any) -> None:
        self._tools = {tool.name: tool for tool in tools}
        self._name = name
        self._write = write
        self._free = threading.Semaphore(WORKERS)

    def take(self, line: bytes) -> None:
        """Answer one message, calls of tools in a thread of their own."""
        try:
            message = msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.DecodeError:
            self._send({"id": None, "error": {"code": -32700, "message": "not a JSON object"}})
            return
        number, method = message.get("id"), message.get("method")
        if number is None or not isinstance(method, str):  # a notification, or an answer to nothing
            return
        params = message.get("params") if isinstance(message.get("params"), dict) else {}
        if method == "tools/call":
            threading.Thread(target=self._call, args=(number, params), name="tool", daemon=True).start()
            return
        result = self._result(method, params or {})
        if result is None:
            self._fail(number, UNKNOWN_METHOD, f"there is no {method[:60]}")
        else:
            self._send({"id": number, "result": result})

    def _result(self, method: str, params: dict[str, Any]) -> dict[str, Any] | None:
        if method == "initialize":
            wanted = params.get("protocolVersion")
            return {
                "protocolVersion": wanted if wanted in PROTOCOLS else PROTOCOLS[0],
                "capabilities": {"tools": {}},
                "serverInfo": {"name": self._name, "version": __version__},
            }
        if method == "tools/list":
            return {"tools": [describe(tool) for tool in self._tools.values()]}
        return {} if method == "ping" else None

    def _call(self, number: Any, params: dict[str, Any]) -> None:
        with self._free:
            tool = self._tools.get(str(params.get("name")))
            if tool is None:
                self._fail(number, INVALID, f"there is no tool {str(params.get('name'))[:60]!r}")
                return
            try:
                arguments = tool.read(params.get("arguments") or {})
                found = tool.run(arguments, context_of(params.get("_meta")))
                text = msgspec.json.encode(found).decode()
            except ArgumentsWrong as error:
                self._fail(number, INVALID, error.detail[:500])
            except MissingCustomer as error:
                self._fail(number, MISSING, str(error))
            except (Exception, SystemExit) as error:  # noqa: BLE001  (a project's own code; the caller is told)
                traceback.print_exc()
                self._fail(number, CRASHED, f"{type(error).__name__} in {tool.name}")
            else:
                answer: dict[str, Any] = {"content": [{"type": "text", "text": text}], "isError": False}
                if isinstance(found, dict):
                    answer["structuredContent"] = msgspec.Raw(text.encode())
                self._send({"id": number, "result": answer})

    def _fail(self, number: Any, code: int, message: str) -> None:
        self._send({"id": number, "error": {"code": code, "message": message}})

    def _send(self, message: dict[str, Any]) -> None:
        self._write(msgspec.json.encode({"jsonrpc": "2.0", **message}) + b"\n")


def describe(tool: FunctionTool) -> dict[str, Any]:
    """The tool as ``tools/list`` shows it: hints for everybody, the whole rule for Fairlead."""
    rule = tool.rule
    read_only = rule.effect == "reads"
    return {
        "name": tool.name,
        "title": tool.title,
        "description": tool.description,
        "inputSchema": tool.parameters,
        "annotations": {"readOnlyHint": read_only, "destructiveHint": not read_only, "idempotentHint": True},
        "_meta": {f"{META}rule": msgspec.to_builtins(rule)},
    }


def context_of(meta: Any) -> Context:
    """What ``_meta`` of a call says besides its arguments; nothing when it says nothing that can be read."""
    meta = meta if isinstance(meta, dict) else {}
    try:
        customer = msgspec.convert(meta.get(f"{META}customer"), Customer | None)
    except msgspec.ValidationError:
        customer = None
    return Context(
        key=str(meta.get(f"{META}key") or "")[:64],
        customer=customer,
        conversation=str(meta.get(f"{META}conversation") or "")[:64],
    )


def serve(path: Path) -> int:
    """Serve the tools of a file until standard input ends. Returns the exit status."""
    lock = threading.Lock()
    # What tools print goes to standard error: standard output is the protocol's alone.
    out = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)
    try:
        tools = load_functions(path)
    except ToolsInvalid as error:
        sys.stderr.write(f"{error}\n")
        return 2

    def write(line: bytes) -> None:
        with lock, contextlib.suppress(BrokenPipeError):
            out.write(line)

    server = Server(tools, name=path.stem, write=write)
    while line := sys.stdin.buffer.readline(LONGEST_LINE):
        server.take(line)
    # Tools may still hang in their threads; nobody is there any more to hear of them.
    sys.stderr.flush()
    os._exit(0)
