"""MCP servers as seen by the assistant: their tools, each with the rule that holds for it, and calls of them.

What a server says about its tools is believed where the use-case file calls it trusted; of any other server a hint
that a tool only reads counts for nothing. Knows no conversations.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol

import msgspec

from fairlead import __version__
from fairlead.tools import Context, Rule
from fairlead.tools.arguments import ArgumentsWrong, check, decode
from fairlead.tools.faults import NotRun, Unsure
from fairlead.tools.process import Greet
from fairlead.tools.server import CRASHED, META, PROTOCOLS

MAX_TOOLS: Final = 128
MAX_PAGES: Final = 20
MAX_DESCRIPTION: Final = 2_000
LIST_S: Final = 10.0

log = logging.getLogger(__name__)


class Transport(Protocol):
    """Carries messages to one server."""

    name: str
    greet: Greet | None

    async def request(self, method: str, params: dict[str, Any], *, timeout_s: float) -> dict[str, Any]:
        """The whole answer message. Raises NotRun, Unsure."""
        ...

    async def aclose(self) -> None:
        """Let go of the server. Idempotent."""
        ...


class Server:
    """One MCP server, connected when first needed."""

    def __init__(
        self, transport: Transport, *, trusted: bool = False, rules: Mapping[str, Mapping[str, Any]] | None = None
    ) -> None:
        self.name = transport.name
        self.trusted = trusted
        self._transport = transport
        self._rules = dict(rules or {})
        transport.greet = self._greet

    async def _greet(
        self,
        ask: Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]],
        tell: Callable[[dict[str, Any]], None],
    ) -> None:
        hello = {
            "protocolVersion": PROTOCOLS[1],
            "capabilities": {},
            "clientInfo": {"name": "fairlead", "version": __version__},
        }
        answer = _result(await ask("initialize", hello), self.name)
        version = answer.get("protocolVersion")
        if version not in PROTOCOLS:
            raise NotRun(f"{self.name} speaks version {str(version)[:40]!r} of the protocol, which is not understood")
        if hasattr(self._transport, "version"):
            self._transport.version = version
        tell({"method": "notifications/initialized"})

    async def tools(self) -> list[ServerTool]:
        """The tools it offers, at most 128. Raises NotRun, Unsure."""
        found: list[ServerTool] = []
        params: dict[str, Any] = {}
        for _ in range(MAX_PAGES):
            answer = _result(await self._transport.request("tools/list", params, timeout_s=LIST_S), self.name)
            listed = answer.get("tools")
            for entry in listed if isinstance(listed, list) else ():
                if isinstance(entry, dict) and isinstance(entry.get("name"), str) and len(found) < MAX_TOOLS:
                    found.append(ServerTool(self, entry, self._rule(entry)))
            cursor = answer.get("nextCursor")
            if not isinstance(cursor, str):
                break
            params = {"cursor": cursor}
        return found

    def _rule(self, entry: dict[str, Any]) -> Rule:
        declared = self._declared(entry) if self.trusted else Rule()
        return merge(declared, self._rules.get(entry["name"], {}))

    def _declared(self, entry: dict[str, Any]) -> Rule:
        meta, hints = entry.get("_meta"), entry.get("annotations")
        try:
            if isinstance(meta, dict) and f"{META}rule" in meta:
                return msgspec.convert(meta[f"{META}rule"], Rule)
        except msgspec.ValidationError as error:
            log.warning("%s: the rule of %s cannot be read (%s)", self.name, entry["name"][:60], error)
            return Rule()
        read_only = isinstance(hints, dict) and hints.get("readOnlyHint") is True
        return Rule(effect="reads" if read_only else "writes")

    async def call(self, name: str, arguments: dict[str, Any], context: Context, *, timeout_s: float) -> Any:
        """What a tool returns, as data. Raises ArgumentsWrong, NotRun, Unsure."""
        params: dict[str, Any] = {"name": name, "arguments": arguments}
        meta: dict[str, Any] = {f"{META}key": context.key} if context.key else {}
        if self.trusted:  # nobody else is told who the customer is
            if context.customer is not None:
                meta[f"{META}customer"] = dataclasses.asdict(context.customer)
            if context.conversation:
                meta[f"{META}conversation"] = context.conversation
        if meta:
            params["_meta"] = meta
        answer = await self._transport.request("tools/call", params, timeout_s=timeout_s)
        return _content(_result(answer, self.name))

    async def aclose(self) -> None:
        """Let go of the server. Idempotent."""
        await self._transport.aclose()


class ServerTool:
    """A tool of a server. ``read`` checks what its schema says of the top level; the server checks the rest."""

    def __init__(self, server: Server, entry: dict[str, Any], rule: Rule) -> None:
        self.name: str = entry["name"][:64]
        self.title = str(entry.get("title") or self.name.replace("_", " ").capitalize())[:80]
        self.description = " ".join(str(entry.get("description") or self.title).split())[:MAX_DESCRIPTION]
        schema = entry.get("inputSchema")
        self.parameters: dict[str, Any] = schema if isinstance(schema, dict) else {"type": "object", "properties": {}}
        self.rule = rule
        self._server = server

    def read(self, arguments: str | dict[str, Any]) -> dict[str, Any]:
        """Checked arguments. Raises ArgumentsWrong."""
        return check(decode(arguments), self.parameters)

    async def call(self, arguments: dict[str, Any], context: Context, *, timeout_s: float) -> Any:
        """Run it. Raises ArgumentsWrong, NotRun, Unsure."""
        return await self._server.call(self.name, arguments, context, timeout_s=timeout_s)


def merge(declared: Rule, given: Mapping[str, Any]) -> Rule:
    """The rule as the use-case file has it: what it says goes before what a tool declares of itself."""
    whole = {**dataclasses.asdict(declared), **given}
    whole["bind"] = tuple(dict(whole["bind"]).items())
    return msgspec.convert(whole, Rule)


def _result(answer: dict[str, Any], name: str) -> dict[str, Any]:
    error = answer.get("error")
    if isinstance(error, dict):
        code, message = error.get("code"), str(error.get("message"))[:500]
        if code == CRASHED or code == -32603:
            raise Unsure(f"{name}: {message}")
        if code == -32602:
            raise ArgumentsWrong("Please check what you have given.", message)
        raise NotRun(f"{name}: {message} ({code})")
    result = answer.get("result")
    if not isinstance(result, dict):
        raise Unsure(f"{name} answered without a result")
    return result


def _content(result: dict[str, Any]) -> Any:
    """The data of a call's result: its structured content, else its texts, read as JSON where they are."""
    content = result.get("content")
    texts = [
        part["text"] for part in (content if isinstance(content, list) else ())
        if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str)
    ]  # fmt: skip
    text = "\n".join(texts)
    if result.get("isError"):
        return {"error": text[:300] or "It did not work."}
    if isinstance(result.get("structuredContent"), dict):
        return result["structuredContent"]
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text
