"""Tools: plain typed Python functions of the project, offered to a model and called with checked arguments.

A function's signature becomes its JSON schema, its docstring the description. What a tool returns is data, never an
instruction, and what it may show is decided inside it: nothing a customer or a model writes is an authorisation. Two
keys of a result have a meaning here: ``summary``, a sentence that may be said as it stands, and ``card`` (``title`` and
``rows`` of label and value), which is shown to the customer.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib.util
import inspect
import logging
import sys
import threading
import time
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pydantic

from fairlead.assistant.events import Facts
from fairlead.errors import ToolsInvalid

TIMEOUT_S = 10.0
MAX_RESULT_BYTES = 16_000
MAX_ARGUMENT_BYTES = 8_000
MAX_ROWS = 40
WORKERS = 8
"""Tools that run at once. One that hangs keeps its place, so their number is bounded."""

LOOKUP_FAILED = "I could not look that up just now."
NOT_UNDERSTOOD = "I did not understand what to look up."

log = logging.getLogger(__name__)


class ToolResult(msgspec.Struct, frozen=True, kw_only=True):
    """What a call gave. ``data`` is what a model reads; ``ok`` is False when the call failed or found nothing."""

    name: str
    data: dict[str, Any]
    ok: bool
    card: Facts | None = None
    total_us: int = 0

    def text(self) -> str:
        """``data`` as JSON, for the model."""
        return msgspec.json.encode(self.data).decode()


class ArgumentsWrong(ValueError):
    """Why a call cannot be made: a sentence for the customer, and a detail by which a model can mend its call."""

    def __init__(self, sentence: str, detail: str) -> None:
        super().__init__(sentence)
        self.sentence, self.detail = sentence, detail


class Tool:
    """One function and the schema of its arguments."""

    def __init__(self, function: Callable[..., Any], path: Path) -> None:
        self.name = function.__name__
        self.description = " ".join((inspect.getdoc(function) or "").split())
        if not self.description:
            raise ToolsInvalid(path=path, detail=f"{self.name} has no docstring; write what it does and when to use it")
        self._function = function
        self._arguments = _argument_model(function, path)
        schema = self._arguments.model_json_schema()
        schema.pop("title", None)
        for part in schema.get("properties", {}).values():
            part.pop("title", None)
        self.schema: dict[str, Any] = {
            "type": "function",
            "function": {"name": self.name, "description": self.description, "parameters": schema},
        }

    def read(self, arguments: str | dict[str, Any]) -> dict[str, Any]:
        """Arguments as the function wants them. Raises ArgumentsWrong."""
        try:
            if isinstance(arguments, str):
                if len(arguments) > MAX_ARGUMENT_BYTES:
                    raise ArgumentsWrong(NOT_UNDERSTOOD, f"longer than {MAX_ARGUMENT_BYTES} characters")
                arguments = msgspec.json.decode(arguments or "{}", type=dict[str, Any])
            checked = self._arguments.model_validate(arguments)
        except (msgspec.DecodeError, UnicodeError) as error:
            raise ArgumentsWrong(NOT_UNDERSTOOD, f"not a JSON object ({error})") from error
        except pydantic.ValidationError as error:
            found = [(".".join(map(str, each["loc"])) or "arguments", each["msg"]) for each in error.errors()]
            known = {name: field.description for name, field in self._arguments.model_fields.items()}
            names = dict.fromkeys(known.get(name) or name for name, _ in found)
            detail = "; ".join(f"{name}: {message}" for name, message in found)
            raise ArgumentsWrong(f"Please check this: {'; '.join(names)}.", detail) from error
        return {name: getattr(checked, name) for name in type(checked).model_fields}

    def run(self, arguments: dict[str, Any]) -> Any:
        """Call the function."""
        return self._function(**arguments)


class Tools:
    """The tools of a use case, by name."""

    def __init__(self, tools: Sequence[Tool] = (), *, timeout_s: float = TIMEOUT_S) -> None:
        self._tools = {tool.name: tool for tool in tools}
        self._timeout_s = timeout_s
        self._free = asyncio.Semaphore(WORKERS)

    @classmethod
    def load(cls, paths: Sequence[Path], *, timeout_s: float = TIMEOUT_S) -> Tools:
        """The public functions of Python files (those in ``__all__`` where there is one). Runs these files.

        Raises ToolsInvalid for a file that is missing or does not run, a function without docstring or type hints,
        and a name that is there twice.
        """
        found: dict[str, Tool] = {}
        for path in paths:
            for function in _functions(_run_file(path)):
                tool = Tool(function, path)
                if tool.name in found:
                    raise ToolsInvalid(path=path, detail=f"{tool.name} is defined in two files; rename one")
                found[tool.name] = tool
        return cls(list(found.values()), timeout_s=timeout_s)

    @property
    def schemas(self) -> list[dict[str, Any]]:
        """The tools as an OpenAI request lists them."""
        return [tool.schema for tool in self._tools.values()]

    def names(self) -> list[str]:
        """The names of the tools."""
        return list(self._tools)

    async def call(self, name: str, arguments: str | dict[str, Any]) -> ToolResult:
        """Check the arguments and run a tool in a thread, for at most ``timeout_s``. A failure is data too."""
        began = time.perf_counter_ns()
        tool = self._tools.get(name)
        if tool is None:
            return _failed(name, f"There is no tool {name[:60]!r}.", began)
        try:
            checked = tool.read(arguments)
        except ArgumentsWrong as error:
            return _failed(name, error.sentence[:300], began, detail=error.detail[:500])
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._free.acquire()
                found = await _in_thread(lambda: tool.run(checked), self._free)
        except TimeoutError:
            log.warning("tool %s gave no answer within %g s", name, self._timeout_s)
            return _failed(name, "The look-up took too long.", began)
        except Exception:  # a project's own code may raise anything; it is logged, and the customer gets an answer
            log.exception("tool %s failed", name)
            return _failed(name, LOOKUP_FAILED, began)
        return _result(name, found, began)


async def _in_thread(work: Callable[[], Any], free: asyncio.Semaphore) -> Any:
    """Run ``work`` in a daemon thread of its own: one that hangs must not keep the process from ending.

    ``free`` gets its place back when the thread ends, not when the caller gives up.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()

    def settle(found: Any, error: Exception | None) -> None:
        free.release()
        if future.done():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(found)

    def run() -> None:
        found: Any = None
        error: Exception | None = None
        try:
            found = work()
        except (Exception, SystemExit) as raised:  # noqa: BLE001  (handed to the caller, who logs it)
            error = RuntimeError(repr(raised)) if isinstance(raised, SystemExit | StopIteration) else raised
        with contextlib.suppress(RuntimeError):  # the loop may be gone by now
            loop.call_soon_threadsafe(settle, found, error)

    threading.Thread(target=run, name="tool", daemon=True).start()
    return await future


def _argument_model(function: Callable[..., Any], path: Path) -> type[pydantic.BaseModel]:
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError) as error:
        raise ToolsInvalid(
            path=path, detail=f"the type hints of {function.__name__} cannot be read ({error})"
        ) from error
    fields: dict[str, Any] = {}
    for parameter in inspect.signature(function).parameters.values():
        where = f"parameter {parameter.name} of {function.__name__}"
        if parameter.kind in {parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY}:
            raise ToolsInvalid(
                path=path, detail=f"{where} must have a name of its own; *args, **kwargs and / are not possible"
            )
        if parameter.name not in hints:
            raise ToolsInvalid(path=path, detail=f"{where} has no type hint; write for example `{parameter.name}: str`")
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[parameter.name] = (hints[parameter.name], default)
    config = pydantic.ConfigDict(extra="forbid", str_max_length=2_000)
    try:
        return pydantic.create_model(function.__name__, __config__=config, **fields)
    except (pydantic.errors.PydanticUserError, TypeError, NameError) as error:
        raise ToolsInvalid(path=path, detail=f"a type of {function.__name__} cannot be described ({error})") from error


def _run_file(path: Path) -> ModuleType:
    name = f"fairlead_project.{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ToolsInvalid(path=path, detail="it is not a Python file; check `tools:` in fairlead.yaml")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise ToolsInvalid(path=path, detail=f"it does not run: {type(error).__name__}: {error}") from error
    return module


def _functions(module: ModuleType) -> list[Callable[..., Any]]:
    listed = getattr(module, "__all__", None)
    names = list(listed) if listed is not None else [name for name in vars(module) if not name.startswith("_")]
    found = [getattr(module, name, None) for name in names]
    return [each for each in found if inspect.isfunction(each) and each.__module__ == module.__name__]


def _result(name: str, found: Any, began: int) -> ToolResult:
    try:
        data = msgspec.json.decode(msgspec.json.encode(found))
    except (TypeError, ValueError, msgspec.MsgspecError):
        log.warning("tool %s returned what is not JSON data (%s)", name, type(found).__name__)
        return _failed(name, LOOKUP_FAILED, began, detail="it returned what is not JSON data")
    if not isinstance(data, dict):
        data = {"result": data}
    if len(msgspec.json.encode(data)) > MAX_RESULT_BYTES:
        log.warning("tool %s returned more than %d bytes", name, MAX_RESULT_BYTES)
        return _failed(name, LOOKUP_FAILED, began, detail=f"it returned more than {MAX_RESULT_BYTES} bytes")
    card = _card(data.get("card"))
    ok = data.get("found") is not False and not data.get("error")
    return ToolResult(name=name, data=data, ok=ok, card=card, total_us=_since(began))


def _card(found: Any) -> Facts | None:
    if not isinstance(found, dict) or not isinstance(found.get("rows"), list):
        return None
    rows = [row for row in found["rows"] if isinstance(row, list) and len(row) == 2]
    texts = tuple((str(label)[:200], str(value)[:500]) for label, value in rows[:MAX_ROWS])
    return Facts(title=str(found.get("title") or "")[:200], rows=texts) if texts else None


def _failed(name: str, sentence: str, began: int, *, detail: str = "") -> ToolResult:
    data = {"error": sentence, "detail": detail} if detail else {"error": sentence}
    return ToolResult(name=name[:60], data=data, ok=False, total_us=_since(began))


def _since(began: int) -> int:
    return (time.perf_counter_ns() - began) // 1000
