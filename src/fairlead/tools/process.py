"""An MCP server in a process of its own, spoken to over its standard input and output.

Started when first needed and again after it died, with a growing pause. A process in which a call hangs is left to
finish the others and then killed; new calls go to a fresh one. What it writes that is no message is ignored.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import logging
import os
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final

import msgspec

from fairlead.tools.faults import NotRun, Unsure

LONGEST_MESSAGE: Final = 1_000_000
"""Bytes of one message; a process that writes more without an end of line is killed."""
FIRST_PAUSE_S: Final = 0.5
LONGEST_PAUSE_S: Final = 30.0
START_S: Final = 15.0
"""Longest time a process may take until it has answered the first message."""
_SAFE: Final = ("PATH", "HOME", "LANG", "LC_ALL", "LC_CTYPE", "TERM", "TZ", "TMPDIR", "USER", "LOGNAME", "SHELL")
"""What a stranger's process sees of the environment; keys of model providers are not among it."""

Greet = Callable[
    [Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]], Callable[[dict[str, Any]], None]], Awaitable[None]
]
"""What is said to a fresh process: given how to ask and how to tell."""

log = logging.getLogger(__name__)
_alive: set[subprocess.Popen[bytes]] = set()
"""Processes not yet waited for: the interpreter warns about one that is forgotten while it runs."""


def environment(extra: Mapping[str, str], *, whole: bool) -> dict[str, str]:
    """The environment of a server: all of ours for the project's own code, else what every program needs."""
    known = dict(os.environ) if whole else {name: os.environ[name] for name in _SAFE if name in os.environ}
    return {**known, **extra}


class _Child:
    """One process. ``ended`` is called once, from a thread, when nothing more will come from it."""

    def __init__(self, command: Sequence[str], cwd: Path, env: Mapping[str, str], name: str) -> None:
        self._numbers = itertools.count(1)
        self._waiting: dict[int, Future[dict[str, Any]]] = {}
        self._lock = threading.Lock()
        self._name = name
        self.dead = False
        self.tired = False
        try:
            # A session of its own: Ctrl-C is for the server, which then ends its processes in order.
            self._process = subprocess.Popen(
                list(command), cwd=cwd, env=dict(env), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, start_new_session=True, bufsize=0,
            )  # fmt: skip
        except OSError as error:
            raise NotRun(f"{command[0]} cannot be started: {error.strerror}") from error
        _alive.add(self._process)
        threading.Thread(target=self._read, name=f"tools {name}", daemon=True).start()
        threading.Thread(target=self._read_errors, name=f"tools {name} log", daemon=True).start()

    def ask(self, method: str, params: dict[str, Any]) -> tuple[int, Future[dict[str, Any]]]:
        """Send a request. Blocks only while the pipe is full. Raises NotRun."""
        number, future = next(self._numbers), Future[dict[str, Any]]()
        with self._lock:
            if self.dead:
                raise NotRun(f"{self._name} has ended")
            self._waiting[number] = future
        self.tell({"id": number, "method": method, "params": params})
        return number, future

    def tell(self, message: dict[str, Any]) -> None:
        """Send a message. Raises NotRun."""
        line = msgspec.json.encode({"jsonrpc": "2.0", **message}) + b"\n"
        try:
            assert self._process.stdin is not None
            view = memoryview(line)
            while view:
                view = view[self._process.stdin.write(view) :]
        except (OSError, ValueError) as error:
            raise NotRun(f"{self._name} does not listen ({error})") from error

    def forget(self, number: int, *, hung: bool) -> None:
        """Wait no longer for an answer. After a call that hung the process gets no new ones, and ends with the last."""
        with self._lock:
            self._waiting.pop(number, None)
            self.tired = self.tired or hung
            idle = self.tired and not self._waiting
        if idle:
            self.kill()

    def kill(self) -> None:
        """End it at once. Idempotent."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._hang_up()

    def close(self, patience_s: float = 1.0) -> None:
        """Let it end by itself, as the protocol says: its input ends. Kill it when it does not."""
        self._hang_up()
        try:
            self._process.wait(patience_s)
        except subprocess.TimeoutExpired:
            self.kill()
            self._process.wait()

    def _hang_up(self) -> None:
        with contextlib.suppress(OSError):
            assert self._process.stdin is not None
            self._process.stdin.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        rest = bytearray()
        why = "it ended"
        with self._process.stdout as out:
            while piece := out.read(65_536):
                rest += piece
                *lines, tail = bytes(rest).split(b"\n") if b"\n" in piece else (bytes(rest),)
                rest = bytearray(tail)
                for line in lines:
                    self._take(line)
                if len(rest) > LONGEST_MESSAGE:
                    why = f"it wrote more than {LONGEST_MESSAGE} bytes"
                    self.kill()
                    break
        self._end(why)

    def _take(self, line: bytes) -> None:
        if not line.strip():
            return
        try:
            message = msgspec.json.decode(line, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeError):
            log.info("%s wrote what is no message: %.200r", self._name, line)
            return
        number = message.get("id")
        if isinstance(message.get("method"), str):
            if number is not None:  # a server may ping; it may ask for nothing else
                answer = {"result": {}} if message["method"] == "ping" else {"error": _NOT_OFFERED}
                with contextlib.suppress(NotRun):
                    self.tell({"id": number, **answer})
            return
        with self._lock:
            future = self._waiting.pop(number, None) if isinstance(number, int) else None
            idle = self.tired and not self._waiting
        if future is not None and not future.done():
            future.set_result(message)
        if idle:
            self.kill()

    def _end(self, why: str) -> None:
        with self._lock:
            self.dead = True
            waiting, self._waiting = self._waiting, {}
        status = self._process.wait()
        self._hang_up()
        _alive.discard(self._process)
        for future in waiting.values():
            if not future.done():
                future.set_exception(Unsure(f"{self._name}: {why} (exit status {status})"))

    def _read_errors(self) -> None:
        assert self._process.stderr is not None
        with self._process.stderr as errors:
            for line in iter(lambda: errors.readline(4_096), b""):
                log.info("%s: %s", self._name, line.decode("utf-8", "replace").rstrip()[:2_000])


_NOT_OFFERED: Final = {"code": -32601, "message": "not offered"}


class ProcessTransport:
    """Requests to a process that is started and restarted as needed. ``greet`` is run on each fresh one."""

    def __init__(self, name: str, command: Sequence[str], cwd: Path, env: Mapping[str, str]) -> None:
        self.name = name
        self._command, self._cwd, self._env = command, cwd, env
        self._child: _Child | None = None
        self._starting: tuple[asyncio.AbstractEventLoop, asyncio.Lock] | None = None
        self._failures = 0
        self._not_before = 0.0
        self.starts = 0
        self.greet: Greet | None = None

    async def request(self, method: str, params: dict[str, Any], *, timeout_s: float) -> dict[str, Any]:
        """The whole answer message. Raises NotRun before anything was sent, Unsure after it."""
        child = await self._ready()
        answer = await self._ask(child, method, params, timeout_s=timeout_s)
        self._failures = 0
        return answer

    async def _ask(self, child: _Child, method: str, params: dict[str, Any], *, timeout_s: float) -> dict[str, Any]:
        number, future = await asyncio.to_thread(child.ask, method, params)
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            child.forget(number, hung=True)
            raise Unsure(f"{self.name}: no answer within {timeout_s:g} s", "That took too long.") from None
        except asyncio.CancelledError:
            child.forget(number, hung=False)
            raise
        except Unsure:
            self._stumble()
            raise

    async def _ready(self) -> _Child:
        if self._child is not None and not self._child.dead and not self._child.tired:
            return self._child
        loop = asyncio.get_running_loop()
        if self._starting is None or self._starting[0] is not loop:
            self._starting = (loop, asyncio.Lock())
        async with self._starting[1]:
            if self._child is None or self._child.dead or self._child.tired:
                self._child = await self._start()
            return self._child

    async def _start(self) -> _Child:
        if time.monotonic() < self._not_before:
            raise NotRun(f"{self.name} ended and is not started again yet")
        self.starts += 1
        try:
            child = await asyncio.to_thread(_Child, self._command, self._cwd, self._env, self.name)
            if self.greet is not None:
                try:
                    await self.greet(functools.partial(self._ask, child, timeout_s=START_S), child.tell)
                except (NotRun, Unsure) as error:
                    child.kill()
                    raise NotRun(str(error)) from error
        except NotRun:
            self._stumble()
            raise
        return child

    def _stumble(self) -> None:
        pause = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(self._failures, 10))
        self._failures += 1
        self._not_before = time.monotonic() + (pause if self._failures > 1 else 0.0)

    async def aclose(self) -> None:
        """End the process. Idempotent."""
        child, self._child = self._child, None
        if child is not None:
            await asyncio.to_thread(child.close)

    def __del__(self) -> None:
        if self._child is not None:
            self._child.kill()
