"""Keeping one child process alive: start, readiness, health, restart with back-off, stop, no orphan, no zombie.

The child is any program that serves HTTP and follows ``lifeline`` (our own child modules do): it gets its configuration
as one line on standard input and reports the address it listens on there. Knows nothing of models or of the protocol
the child speaks, except that ``GET /health`` answers 200 when it can work.

States: stopped -> starting -> ready -> restarting -> ready | failed; any -> stopped. One task owns the process, so
each transition happens in one place; the process is always gone when that task has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import random
import signal
import socket
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from fairlead.engines.base import Health, State
from fairlead.engines.logs import RotatingLog
from fairlead.errors import EngineFailed

log = logging.getLogger(__name__)

SOON_S: Final = 0.5
"""A restart that begins within this time is worth waiting for."""

PASSED_ON: Final = frozenset({"PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "VIRTUAL_ENV", "LD_LIBRARY_PATH"})
PASSED_ON_PREFIXES: Final = ("PYTHON", "OMP_", "GOMP_", "GGML_", "CUDA_", "NVIDIA_", "ROCR_", "HIP_")
"""Of our environment the child sees only this: API keys of providers are none of its business."""


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt to start: the arguments (no shell), the configuration (a JSON object) and extra environment."""

    argv: tuple[str, ...]
    config: dict[str, Any]
    env: Mapping[str, str] = {}


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Times in seconds. After ``restarts`` failures in a row, none of them ready for ``stable_s``, we give up."""

    start_s: float = 120.0
    grace_s: float = 5.0
    probe_every_s: float = 2.0
    probe_timeout_s: float = 5.0
    hung_s: float = 30.0
    backoff_first_s: float = 0.1
    backoff_max_s: float = 10.0
    restarts: int = 6
    stable_s: float = 60.0


class _ChildFailedError(Exception):
    """The child did not come up, died or hung; the text says which."""


class Supervisor:
    """Runs what ``launch`` returns, asked anew for each attempt, and keeps it running until ``stop``."""

    def __init__(self, name: str, launch: Callable[[], Launch], log: RotatingLog, limits: Limits | None = None) -> None:
        self.name = name
        self.log = log
        self.address = ""
        self.generation = 0
        self._launch = launch
        self._limits = limits or Limits()
        self._state: State = "stopped"
        self._detail = ""
        self._restarts = 0
        self._soon = False
        self._turned = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._lifeline: asyncio.StreamWriter | None = None
        self._reports: asyncio.StreamReader | None = None
        self._pump: asyncio.Task[None] | None = None
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Return once the child is ready. Raises EngineFailed, with what the child last wrote; then nothing is left.

        Starting a started one does nothing; starting a failed one tries afresh.
        """
        if self._task is not None and not self._task.done():
            return
        self._restarts = 0
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._set("starting", f"{self.name} is starting")
        self._task = asyncio.create_task(self._supervise(ready), name=f"supervise {self.name}")
        try:
            await ready
        except asyncio.CancelledError:
            await self.stop()
            raise

    async def stop(self) -> None:
        """Terminate the child, kill it after the grace time, reap it. Idempotent."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        self._set("stopped", f"{self.name} is stopped")
        self.log.close()

    def health(self) -> Health:
        """The state right now."""
        pid = self._process.pid if self._process is not None and self._process.returncode is None else None
        detail = self._detail
        if self.log.lost_bytes:
            detail += f"; {self.log.lost_bytes} bytes of its log could not be written to {self.log.path}"
        return Health(state=self._state, detail=detail, pid=pid, restarts=self._restarts)

    async def back(self, seconds: float) -> None:
        """Wait, at most ``seconds``, for a restart that is under way; return at once when none begins soon."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._state == "restarting" and self._soon:
                    await self._turned.wait()

    async def _supervise(self, ready: asyncio.Future[None]) -> None:
        """Bring up, watch, bring down, wait, again; until cancelled or out of attempts."""
        in_a_row = 0
        try:
            while True:
                began: float | None = None
                try:
                    await self._bring_up()
                    began = time.monotonic()
                    if not ready.done():
                        ready.set_result(None)
                    await self._watch()
                except _ChildFailedError as failure:
                    reason = str(failure)
                    if ready.done():  # said before the rest is cleared away: no call should go there any more
                        self._soon = True
                        self._set("restarting", f"{self.name} {reason}")
                finally:
                    self.address = ""
                    await self._bring_down()
                if not ready.done():
                    self._fail(reason)
                    ready.set_exception(EngineFailed(name=self.name, detail=self._detail, log=self.log.path))
                    return
                in_a_row = (
                    1 if began is not None and time.monotonic() - began >= self._limits.stable_s else in_a_row + 1
                )
                if in_a_row > self._limits.restarts:
                    self._fail(f"{reason}; given up after {self._limits.restarts} restarts")
                    log.error("%s", self._detail)
                    return
                self._restarts += 1
                delay = self._delay(in_a_row)
                self._soon = delay <= SOON_S
                self._set("restarting", f"{self.name} {reason}; restart {self._restarts} follows in {delay:.1f} s")
                log.warning("%s", self._detail)
                await asyncio.sleep(delay)
        except asyncio.CancelledError:
            if not ready.done():
                ready.set_exception(
                    EngineFailed(name=self.name, detail="it was stopped while it was starting", log=self.log.path)
                )
            raise
        except Exception as error:  # a mistake of ours: never leave a starter waiting or a state that looks well
            self._fail(repr(error))
            if not ready.done():
                ready.set_exception(error)
            raise

    def _delay(self, in_a_row: int) -> float:
        """Exponential back-off with jitter, so that several engines do not restart in step."""
        full = min(self._limits.backoff_max_s, self._limits.backoff_first_s * 2.0 ** min(in_a_row - 1, 30))
        return full * random.uniform(0.5, 1.0)

    async def _bring_up(self) -> None:
        began = time.monotonic()
        try:
            async with asyncio.timeout(self._limits.start_s):
                await self._spawn()
                self.address = await self._reported_address()
                while not await self._probe():
                    self._raise_if_dead()
                    await asyncio.sleep(0.05)
        except TimeoutError as error:
            raise _ChildFailedError(f"was not ready within {self._limits.start_s:g} s") from error
        self.generation += 1
        self._set("ready", f"{self.name} was ready after {time.monotonic() - began:.2f} s")
        if self._restarts:  # a warning, so that whoever was told of the end is told of this
            log.warning("%s is ready again after %.2f s", self.name, time.monotonic() - began)

    async def _spawn(self) -> None:
        launch = self._launch()
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = await self._execute(launch, theirs.fileno())
            self._pump = asyncio.create_task(self._pump_output(self._process), name=f"log of {self.name}")
            self._reports, self._lifeline = await asyncio.open_connection(sock=ours)
        except BaseException:
            ours.close()  # cancelled between two steps: a child that was started sees the end and leaves
            raise
        self._lifeline.write(json.dumps({**launch.config, "parent": os.getpid()}).encode() + b"\n")
        with contextlib.suppress(ConnectionError):  # already dead: the report that does not come says so
            await self._lifeline.drain()

    async def _execute(self, launch: Launch, stdin: int) -> asyncio.subprocess.Process:
        try:
            return await asyncio.create_subprocess_exec(
                *launch.argv,
                stdin=stdin,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
                env=_environment(launch.env),
                start_new_session=True,
            )
        except OSError as error:
            raise _ChildFailedError(f"could not be started: {error}") from error

    async def _reported_address(self) -> str:
        assert self._reports is not None
        try:
            line = await self._reports.readline()
            report = json.loads(line) if line.endswith(b"\n") else {}
        except (ConnectionError, ValueError):
            report = {}
        if "listening" in report:
            return str(report["listening"])
        status = await self._exit_status()
        raise _ChildFailedError(f"ended before it was ready ({report.get('error') or status})")

    async def _watch(self) -> None:
        """Until the process ends or has not answered for ``hung_s``. Always raises _ChildFailedError."""
        assert self._process is not None
        exited = asyncio.ensure_future(self._process.wait())
        answered = time.monotonic()
        try:
            while time.monotonic() - answered < self._limits.hung_s:
                done, _ = await asyncio.wait([exited], timeout=self._limits.probe_every_s)
                if done:
                    raise _ChildFailedError(f"ended unasked ({await self._exit_status()})")
                if await self._probe():
                    answered = time.monotonic()
        finally:
            exited.cancel()
            await asyncio.wait([exited])
        raise _ChildFailedError(f"did not answer for {self._limits.hung_s:g} s")

    async def _probe(self) -> bool:
        """Whether GET /health answers 200 in time."""
        return await self.get("/health", most_bytes=0) is not None

    async def get(self, path: str, *, most_bytes: int = 1 << 20) -> bytes | None:
        """What the child answers to a GET of ``path``, at most ``most_bytes`` of head and body; None unless it answers
        200 in time.
        """
        url = urlsplit(self.address)
        try:
            async with asyncio.timeout(self._limits.probe_timeout_s):
                reader, writer = await asyncio.open_connection(url.hostname, url.port)
                try:
                    writer.write(f"GET {path} HTTP/1.1\r\nHost: {url.netloc}\r\nConnection: close\r\n\r\n".encode())
                    status = await reader.readline()
                    answer = b""
                    while len(answer) < most_bytes and (more := await reader.read(65_536)):
                        answer += more
                finally:
                    writer.close()
                    with contextlib.suppress(ConnectionError):
                        await writer.wait_closed()
        except (OSError, TimeoutError, ValueError):
            return None
        return answer[:most_bytes] if status.split(b" ")[1:2] == [b"200"] else None

    def _raise_if_dead(self) -> None:
        if self._process is not None and self._process.returncode is not None:
            raise _ChildFailedError(f"ended before it was ready ({_describe(self._process.returncode)})")

    async def _exit_status(self) -> str:
        """How the process ended; waits for it a moment, since its socket closes slightly earlier."""
        assert self._process is not None
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), 2.0)
        return _describe(self._process.returncode)

    async def _bring_down(self) -> None:
        """Leave nothing: terminate, kill the whole group after the grace time, reap, drain the log."""
        process = self._process
        if process is not None:
            await _finish(self._end(process))
        if self._lifeline is not None:
            self._lifeline.close()
            with contextlib.suppress(ConnectionError):
                await self._lifeline.wait_closed()
        self._lifeline = self._reports = self._process = self._pump = None

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), self._limits.grace_s)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # it leads its own group; reaches what it may have started, too
        await process.wait()
        if self._pump is not None:
            await asyncio.wait([self._pump], timeout=1.0)
            self._pump.cancel()
            await asyncio.wait([self._pump])

    async def _pump_output(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None
        while data := await process.stdout.read(65_536):
            self.log.write(data)

    def _fail(self, reason: str) -> None:
        tail = self.log.tail()
        self._set("failed", f"{self.name} {reason}" + (f". Its last lines: {tail}" if tail else ""))

    def _set(self, state: State, detail: str) -> None:
        self._state = state
        self._detail = detail
        self._turned.set()
        self._turned = asyncio.Event()


async def _finish(work: Any) -> None:
    """Run ``work`` to its end even if we are cancelled meanwhile: a half-stopped process would be an orphan."""
    task = asyncio.ensure_future(work)
    cancelled = False
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            cancelled = True
    task.result()
    if cancelled:
        raise asyncio.CancelledError


def _describe(returncode: int | None) -> str:
    if returncode is None:
        return "it did not exit"
    if returncode < 0:
        return f"killed by {signal.Signals(-returncode).name}"
    return f"exit status {returncode}"


def _environment(extra: Mapping[str, str]) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if k in PASSED_ON or k.startswith(PASSED_ON_PREFIXES)}
    # The child must find the same package wherever we were imported from.
    paths = [str(Path(__file__).resolve().parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**kept, "PYTHONPATH": os.pathsep.join(paths), **extra}


def python_module(module: str) -> tuple[str, ...]:
    """Arguments that run one of our child modules: safe path (not the current folder), traceback on a native crash."""
    return (sys.executable, "-P", "-X", "faulthandler", "-m", module)
