"""The tools of a use case: offered to a model with the arguments it may choose, called with those code has checked.

Whose matter it is comes from the session, never from an argument: while nobody is known, a tool that is only for a
known customer asks for the facts by which the shop recognises one, and code checks these first. What a tool returns is
data. Keys with a meaning here: ``summary``, a sentence that may be said as it stands; ``card`` (``title`` and ``rows``
of label and value), shown to the customer; ``found`` and ``error``.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal, Protocol

import msgspec

from fairlead import secret
from fairlead.assistant.events import Facts
from fairlead.assistant.identity import Session
from fairlead.errors import ToolsInvalid
from fairlead.spec import UseCase
from fairlead.tools import Context, Customer, Rule
from fairlead.tools.arguments import ArgumentsWrong, decode
from fairlead.tools.client import Server, merge
from fairlead.tools.faults import NotRun, ToolFault, Unsure
from fairlead.tools.functions import FunctionTool, load_functions
from fairlead.tools.process import ProcessTransport, environment

TIMEOUT_S: Final = 10.0
MAX_RESULT_BYTES: Final = 16_000
MAX_ROWS: Final = 40
AT_ONCE: Final = 8
"""Calls under way at the same time; more wait, within their own time limit."""
FIRST_WAIT_S: Final = 5.0
"""How long the first turn waits for servers that have not told their tools yet."""
AGAIN_S: Final = 30.0
"""Pause before a server that could not be reached is asked for its tools again."""

LOOKUP_FAILED: Final = "I could not look that up just now."
NOT_KNOWN: Final = "I cannot do that without knowing whose order it is. A person from our team can help."

log = logging.getLogger(__name__)

State = Literal["done", "failed", "unknown"]


class Tool(Protocol):
    """Something that can be called."""

    name: str
    title: str
    description: str
    parameters: dict[str, Any]
    rule: Rule

    def read(self, arguments: str | dict[str, Any]) -> dict[str, Any]:
        """Checked arguments. Raises ArgumentsWrong."""
        ...

    async def call(self, arguments: dict[str, Any], context: Context, *, timeout_s: float) -> Any:
        """Run it. Raises ArgumentsWrong, NotRun, Unsure."""
        ...


class ToolResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a call gave. ``data`` is what a model reads; ``ok`` is False when the call failed or found nothing.

    ``state`` is ``unknown`` when the tool was begun and nobody knows how far it came.
    """

    name: str
    data: dict[str, Any]
    ok: bool
    card: Facts | None = None
    state: State = "done"
    total_us: int = 0

    def text(self) -> str:
        """``data`` as JSON, for the model."""
        return msgspec.json.encode(self.data).decode()

    @property
    def sentence(self) -> str:
        """What may be said of it as it stands; empty when it says nothing."""
        for key in ("summary", "error", "message"):
            if isinstance(self.data.get(key), str) and self.data[key].strip():
                return str(self.data[key]).strip()[:1_000]
        return ""


class Prepared(msgspec.Struct, frozen=True, kw_only=True):
    """A call whose arguments are checked and whose customer is known where one is needed."""

    tool: Any
    arguments: dict[str, Any]
    customer: Customer | None


class FileTool(FunctionTool):
    """A function of a file that is served by a process of its own."""

    def __init__(self, function: FunctionTool, server: Server, rule: Rule) -> None:
        self.__dict__.update(function.__dict__)
        self.rule = rule
        self._server = server

    async def call(self, arguments: dict[str, Any], context: Context, *, timeout_s: float) -> Any:
        """Run it there. Raises ArgumentsWrong, NotRun, Unsure."""
        return await self._server.call(self.name, arguments, context, timeout_s=timeout_s)


class Tools:
    """The tools of a use case, by name. ``servers`` tell theirs when they are reached."""

    def __init__(
        self,
        tools: Sequence[Tool] = (),
        *,
        servers: Sequence[Server] = (),
        owned: Sequence[Server] = (),
        timeout_s: float = TIMEOUT_S,
        digest: str = "",
    ) -> None:
        self._tools: dict[str, Tool] = {tool.name: tool for tool in tools}
        self._servers = tuple(servers)
        self._owned = tuple(owned)
        self._told: set[str] = set()
        self._asked: dict[str, float] = {}
        self._timeout_s = timeout_s
        self._free: tuple[asyncio.AbstractEventLoop, asyncio.Semaphore] | None = None
        self._connecting: asyncio.Task[None] | None = None
        self.digest = digest

    @classmethod
    def load(cls, paths: Sequence[Path], *, timeout_s: float = TIMEOUT_S) -> Tools:
        """The public functions of Python files. Runs these files here for their schemas, and apart for the calls.

        Raises ToolsInvalid for a file that is missing or does not run, a function without docstring or type hints,
        and a name that is there twice.
        """
        found: list[Tool] = []
        owned = []
        for path in paths:
            tools, server = _from_file(path, {})
            found += tools
            owned.append(server)
        return cls(_unique(found, paths[-1] if paths else Path()), owned=owned, timeout_s=timeout_s)

    @classmethod
    def of(cls, usecase: UseCase, *, timeout_s: float = TIMEOUT_S) -> Tools:
        """The tools a use-case file names. Raises ToolsInvalid; servers are not spoken to yet."""
        found: list[Tool] = []
        servers, owned = [], []
        digest = hashlib.sha256()
        for number, part in enumerate(usecase.tools):
            rules = {name: entry.model_dump(exclude_defaults=True) for name, entry in part.rules.items()}
            digest.update(part.model_dump_json().encode())
            if part.path is not None:
                path = usecase.path(part.path)
                tools, server = _from_file(path, rules)
                found += tools
                owned.append(server)
                digest.update(path.read_bytes())
                continue
            secrets = {name: secret.read(value, usecase.base) for name, value in part.secrets.items()}
            name = f"tools[{number}]"
            if part.url is not None:
                from fairlead.tools.http import HttpTransport  # aiohttp takes 0.2 s, and few use cases need it

                transport: Any = HttpTransport(name, part.url, secrets)
            else:
                command = [sys.executable if word == "python" else word for word in part.command[:1]]
                command += part.command[1:]
                base = usecase.path(".")
                for word in part.command[1:]:
                    if (base / word).is_file():
                        digest.update((base / word).read_bytes())
                transport = ProcessTransport(name, command, base, environment(secrets, whole=False))
            servers.append(Server(transport, trusted=part.trusted, rules=rules))
        tools_ = _unique(found, usecase.path("fairlead.yaml"))
        return cls(tools_, servers=servers, owned=owned, timeout_s=timeout_s, digest=digest.hexdigest())

    # --- what there is ----------------------------------------------------------------------------------------------

    async def ready(self, wait_s: float = FIRST_WAIT_S) -> None:
        """Ask servers for their tools that have not told them yet; waits at most so long, and fails silently."""
        now = time.monotonic()
        late = [
            server for server in self._servers
            if server.name not in self._told and now - self._asked.get(server.name, -AGAIN_S) >= AGAIN_S
        ]  # fmt: skip
        if late and (self._connecting is None or self._connecting.done()):
            self._asked.update({server.name: now for server in late})
            self._connecting = asyncio.create_task(self._connect(late))
        if self._connecting is not None and not self._connecting.done():
            await asyncio.wait([self._connecting], timeout=wait_s)

    async def _connect(self, servers: Sequence[Server]) -> None:
        await asyncio.gather(*(self._take_up(server) for server in servers))

    async def _take_up(self, server: Server) -> None:
        try:
            listed = await server.tools()
        except (ToolFault, ArgumentsWrong) as error:
            log.warning("%s gives no tools: %s", server.name, error)
            return
        # What a server said of its tools when first asked counts until the next start, whatever it says later.
        self._told.add(server.name)
        for tool in listed:
            if tool.name in self._tools:
                log.warning("%s: the tool %s is there twice; the first one counts", server.name, tool.name)
            else:
                self._tools[tool.name] = tool

    @property
    def identifier(self) -> Tool | None:
        """The tool by whose result a customer is recognised."""
        return next((tool for tool in self._tools.values() if tool.rule.identifies), None)

    def offer(self, session: Session, *, acting: bool = True, named: bool = False) -> list[dict[str, Any]]:
        """The tools as an OpenAI request lists them, for what the session has established.

        Without ``acting`` those that change something are left out. ``named`` is for an engine that chooses a tool by
        what it requires and finds it in all that was said: then the order or the like is always required.
        """
        return [
            {
                "type": "function",
                "function": {
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": self._parameters(tool, session, named=named),
                },
            }
            for tool in self._tools.values()
            if not tool.rule.hidden and (acting or tool.rule.effect == "reads") and self._possible(tool, session)
        ]

    def _possible(self, tool: Tool, session: Session) -> bool:
        return not _personal(tool) or session.customer is not None or self.identifier is not None

    def _parameters(self, tool: Tool, session: Session, *, named: bool) -> dict[str, Any]:
        own = {name: part for name, part in _properties(tool).items() if name not in dict(tool.rule.bind)}
        needed = [name for name in _required(tool) if name in own]
        identifier = self.identifier
        if not _personal(tool) or session.signed or identifier is None:
            shown = own
        elif session.customer is None:
            shown = {**_properties(identifier), **{k: v for k, v in own.items() if k not in _properties(identifier)}}
            needed = list(dict.fromkeys([*_required(identifier), *needed]))
        else:
            shown = {**own, **{k: v for k, v in _properties(identifier).items() if k not in own}}
        if session.customer is not None and named and identifier is not None and _personal(tool):
            needed = list(dict.fromkeys([*(name for name in _required(identifier) if name in own), *needed]))
        elif session.customer is not None:
            needed = [name for name in needed if name not in session.last]
        return {**tool.parameters, "properties": shown, "required": needed}

    @property
    def schemas(self) -> list[dict[str, Any]]:
        """What is offered to a model in a conversation in which nobody is known."""
        return self.offer(Session())

    def names(self) -> list[str]:
        """The names of the tools that are offered to models."""
        return [tool.name for tool in self._tools.values() if not tool.rule.hidden]

    def get(self, name: str) -> Tool | None:
        """The tool with this name, offered to models or not."""
        return self._tools.get(name)

    # --- calling them -----------------------------------------------------------------------------------------------

    async def call(self, name: str, arguments: str | dict[str, Any], session: Session | None = None) -> ToolResult:
        """Check and run a tool that only reads. A failure is data too.

        Without a session the caller vouches for the arguments, as a customer does who has written them.
        """
        if session is None:
            session = Session()
            session.hear([arguments if isinstance(arguments, str) else "\n".join(map(str, arguments.values()))])
        prepared = await self.prepare(name, arguments, session)
        if isinstance(prepared, ToolResult):
            return prepared
        if prepared.tool.rule.effect != "reads":
            return _failed(name, "This changes something and is not done without the customer's yes.")
        return await self.look_up(prepared, session)

    async def prepare(self, name: str, arguments: str | dict[str, Any], session: Session) -> Prepared | ToolResult:
        """Check a model's call and establish whose matter it is; a ToolResult says why it cannot be made."""
        tool = self._tools.get(name)
        if tool is None or tool.rule.hidden:
            return _failed(name, f"There is no tool {name[:60]!r}.")
        try:
            given = decode(arguments)
            if _personal(tool):
                refusal = await self._identify(tool, given, session)
                if refusal is not None:
                    return refusal
                given = self._own_arguments(tool, given, session)
                if identifier := self.identifier:
                    named = _properties(identifier).keys() & _properties(tool).keys()
                    session.last = {**session.last, **{name: given[name] for name in named if name in given}}
            elif tool.rule.identifies and not session.signed and (refusal := _unproved(tool, given, session)):
                return refusal
            return Prepared(tool=tool, arguments=tool.read(given), customer=session.customer)
        except ArgumentsWrong as error:
            return _failed(name, error.sentence[:300], detail=error.detail[:500])

    async def _identify(self, tool: Tool, given: dict[str, Any], session: Session) -> ToolResult | None:
        """Recognise the customer by the facts given, if need be. Returns why that failed, None when it did not."""
        identifier = self.identifier
        if session.signed or identifier is None:
            return None if session.customer is not None else _failed(tool.name, NOT_KNOWN)
        proof = {name: given[name] for name in _properties(identifier) if name in given}
        # Only facts that the tool itself does not ask for are meant as a proof of another identity.
        own = _properties(tool)
        claimed = {name: value for name, value in proof.items() if name not in own}
        if session.customer is not None and (not claimed or _agrees(claimed, session.customer)):
            return None
        if refusal := _unproved(identifier, proof, session):
            return msgspec.structs.replace(refusal, name=tool.name)
        result = await self.look_up(
            Prepared(tool=identifier, arguments=identifier.read(proof), customer=None), session
        )  # fmt: skip
        known = result.ok and session.customer is not None
        return None if known else msgspec.structs.replace(result, name=tool.name, ok=False)

    def _own_arguments(self, tool: Tool, given: dict[str, Any], session: Session) -> dict[str, Any]:
        identifier = self.identifier
        foreign = set(_properties(identifier)) - set(_properties(tool)) if identifier is not None else set()
        bound = dict(tool.rule.bind)
        kept = {name: value for name, value in given.items() if name not in foreign and name not in bound}
        assert session.customer is not None
        # "Cancel it": what a call needs and does not name is what was spoken of last.
        kept |= {name: session.last[name] for name in _required(tool) if name not in kept and name in session.last}
        return {**kept, **{name: getattr(session.customer, which) for name, which in bound.items()}}

    async def look_up(self, prepared: Prepared, session: Session) -> ToolResult:
        """Run a tool that only reads, and take up the customer it recognises."""
        tool = prepared.tool
        result = await self.run(tool.name, prepared.arguments, Context(customer=prepared.customer))
        if not tool.rule.identifies:
            return result
        data = {key: value for key, value in result.data.items() if key != "customer"}
        found = result.data.get("customer")
        if result.ok and isinstance(found, dict):
            try:
                customer = msgspec.convert(found, Customer)
            except msgspec.ValidationError as error:
                log.warning("tool %s named a customer that cannot be read (%s)", tool.name, error)
                return _failed(tool.name, LOOKUP_FAILED)
            if not session.identify(customer):
                return _failed(tool.name, NOT_KNOWN)
        return msgspec.structs.replace(result, data=data)

    async def check(self, prepared: Prepared) -> ToolResult | None:
        """What the tool that is to be asked before a change says of it; None when there is none."""
        before = self._tools.get(prepared.tool.rule.check) if prepared.tool.rule.check else None
        if before is None:
            return None
        if before.rule.effect != "reads":
            return _failed(before.name, LOOKUP_FAILED)
        arguments = {name: value for name, value in prepared.arguments.items() if name in _properties(before)}
        return await self.run(before.name, arguments, Context(customer=prepared.customer))

    async def listed(self, argument: str, customer: Customer) -> ToolResult | None:
        """What a known customer has, from a look-up for which ``argument`` may be left out; None when there is none."""
        for tool in self._tools.values():
            may = tool.rule.effect == "reads" and not tool.rule.hidden and not tool.rule.bind and tool.rule.customer
            if may and argument in _properties(tool) and not _required(tool):
                return await self.run(tool.name, {}, Context(customer=customer))
        return None

    async def foresee(self, name: str, given: dict[str, Any], session: Session) -> ToolResult | None:
        """Whether a change can be made, as far as it can be told before all its arguments are known; None if not."""
        tool = self._tools.get(name)
        before = self._tools.get(tool.rule.check) if tool is not None else None
        if tool is None or before is None or before.rule.effect != "reads":
            return None
        identifier = self.identifier
        if session.customer is None and (identifier is None or not set(_required(identifier)) <= given.keys()):
            return None
        try:
            if refusal := await self._identify(tool, given, session):
                return refusal
            own = {name: value for name, value in given.items() if name in _properties(before)}
            if not set(_required(before)) <= own.keys():
                return None
            return await self.run(before.name, before.read(own), Context(customer=session.customer))
        except ArgumentsWrong:
            return None

    async def run(self, name: str, arguments: dict[str, Any], context: Context) -> ToolResult:
        """Run a tool with checked arguments, for at most ``timeout_s``. A failure is data too."""
        began = time.perf_counter_ns()
        tool = self._tools.get(name)
        if tool is None:
            return _failed(name, f"There is no tool {name[:60]!r}.")
        place = self._place()
        try:
            async with asyncio.timeout(self._timeout_s):
                await place.acquire()
        except TimeoutError:
            log.warning("tool %s found no free place", name)
            return _failed(name, LOOKUP_FAILED)
        try:
            found = await tool.call(arguments, context, timeout_s=self._timeout_s)
        except ArgumentsWrong as error:
            return _failed(name, error.sentence[:300], detail=error.detail[:500])
        except NotRun as error:
            log.warning("tool %s was not run: %s", name, error)
            return _failed(name, error.sentence)
        except Unsure as error:
            log.warning("tool %s: %s", name, error)
            return _failed(name, error.sentence, state="unknown")
        finally:
            place.release()
        return _result(name, found, (time.perf_counter_ns() - began) // 1000)

    def _place(self) -> asyncio.Semaphore:
        loop = asyncio.get_running_loop()
        if self._free is None or self._free[0] is not loop:
            self._free = (loop, asyncio.Semaphore(AT_ONCE))
        return self._free[1]

    async def aclose(self) -> None:
        """End the processes and connections behind the tools. Idempotent."""
        if self._connecting is not None:
            self._connecting.cancel()
            await asyncio.gather(self._connecting, return_exceptions=True)
        await asyncio.gather(*(server.aclose() for server in (*self._servers, *self._owned)))


def _from_file(path: Path, rules: Mapping[str, Mapping[str, Any]]) -> tuple[list[Tool], Server]:
    functions = load_functions(path)
    unknown = sorted(set(rules) - {function.name for function in functions})
    if unknown:
        raise ToolsInvalid(path=path, detail=f"`rules` in fairlead.yaml names {unknown[0]}, which is no tool of it")
    command = [sys.executable, "-P", "-m", "fairlead.tools", str(path.resolve())]
    transport = ProcessTransport(path.name, command, path.resolve().parent, environment({}, whole=True))
    server = Server(transport, trusted=True)
    return [FileTool(each, server, merge(each.rule, rules.get(each.name, {}))) for each in functions], server


def _unique(tools: Sequence[Tool], path: Path) -> list[Tool]:
    seen: set[str] = set()
    for tool in tools:
        if tool.name in seen:
            raise ToolsInvalid(path=path, detail=f"{tool.name} is defined in two files; rename one")
        seen.add(tool.name)
    return list(tools)


def _personal(tool: Tool) -> bool:
    return tool.rule.customer or bool(tool.rule.bind)


def _properties(tool: Tool) -> dict[str, Any]:
    found = tool.parameters.get("properties")
    return found if isinstance(found, dict) else {}


def _required(tool: Tool) -> list[str]:
    found = tool.parameters.get("required")
    return [name for name in found if isinstance(name, str)] if isinstance(found, list) else []


def _unproved(identifier: Tool, proof: dict[str, Any], session: Session) -> ToolResult | None:
    """Why facts are no proof of who the customer is: a model may know, or guess, what only the customer can prove."""
    unsaid = [name for name, value in proof.items() if not session.has_said(value)]
    if not unsaid:
        return None
    told = _properties(identifier)
    names = "; ".join(str(told.get(name, {}).get("description") or name)[:120] for name in unsaid)
    return _failed(identifier.name, f"Please tell me this yourself: {names}.")


def _agrees(claimed: Mapping[str, Any], customer: Customer) -> bool:
    """Whether what is given besides a tool's own arguments is what is known of the customer already."""
    known = {value.casefold() for value in (customer.id, customer.email, customer.name) if value}
    return all(isinstance(value, str) and value.strip().casefold() in known for value in claimed.values())


def _result(name: str, found: Any, total_us: int) -> ToolResult:
    data = found if isinstance(found, dict) else {"result": found}
    if len(msgspec.json.encode(data)) > MAX_RESULT_BYTES:
        log.warning("tool %s returned more than %d bytes", name, MAX_RESULT_BYTES)
        return _failed(name, LOOKUP_FAILED, detail=f"it returned more than {MAX_RESULT_BYTES} bytes", state="unknown")
    ok = data.get("found") is not False and data.get("ok") is not False and not data.get("error")
    state: State = "failed" if data.get("error") or data.get("ok") is False else "done"
    return ToolResult(name=name, data=data, ok=ok, card=_card(data.get("card")), state=state, total_us=total_us)


def _card(found: Any) -> Facts | None:
    if not isinstance(found, dict) or not isinstance(found.get("rows"), list):
        return None
    rows = [row for row in found["rows"] if isinstance(row, list) and len(row) == 2]
    texts = tuple((str(label)[:200], str(value)[:500]) for label, value in rows[:MAX_ROWS])
    return Facts(title=str(found.get("title") or "")[:200], rows=texts) if texts else None


def _failed(name: str, sentence: str, *, detail: str = "", state: State = "failed") -> ToolResult:
    data = {"error": sentence, "detail": detail} if detail else {"error": sentence}
    return ToolResult(name=name[:60], data=data, ok=False, state=state)
