"""The engine that is a supervised process of ours: key, log, start, drain, stop, and one upstream over all restarts.

A base for engines of which only two things differ here: how the process is started and how it is spoken to. Knows no
program in particular, no use case and no request.
"""

from __future__ import annotations

import abc
import secrets
from pathlib import Path

from fairlead.engines.base import Health
from fairlead.engines.logs import RotatingLog
from fairlead.engines.served import ServedUpstream
from fairlead.engines.supervisor import Launch, Limits, Supervisor
from fairlead.providers.base import Upstream


class ProcessEngine(abc.ABC):
    """``at_once`` calls are in the process at a time; those that run at a stop may take ``drain_s`` seconds more."""

    def __init__(self, name: str, *, log_dir: Path, at_once: int, drain_s: float, limits: Limits | None) -> None:
        self.name = name
        self._drain_s = drain_s
        self._key = ""
        # The name may come from a definition: only its letters, digits and dashes become part of a path.
        stem = "".join(c if c.isalnum() or c in "-_" else "_" for c in name) or "engine"
        self._supervisor = Supervisor(name, self._launch_afresh, RotatingLog(log_dir / f"{stem}.log"), limits)
        self._upstream = ServedUpstream(self._supervisor, self._connect, at_once=at_once)

    async def start(self) -> None:
        """Check what the engine needs, start, and return once the model answers.

        Raises what ``_check`` raises, and EngineFailed; then nothing is left running.
        """
        await self._check()
        await self._supervisor.start()

    async def stop(self) -> None:
        """Let calls that run finish (at most ``drain_s``), then stop the process. Idempotent."""
        if self._supervisor.health().state == "ready":
            await self._upstream.drain(self._drain_s)
        await self._supervisor.stop()
        self._upstream.reopen()
        await self._upstream.aclose()

    def health(self) -> Health:
        """The state right now."""
        return self._supervisor.health()

    def upstream(self) -> Upstream:
        """Where to send calls; stays the same over restarts."""
        return self._upstream

    def _launch_afresh(self) -> Launch:
        self._key = secrets.token_urlsafe(32)
        return self._launch()

    @abc.abstractmethod
    async def _check(self) -> None:
        """Look at what can be known to fail before a process is started for it."""

    @abc.abstractmethod
    def _launch(self) -> Launch:
        """One attempt to start; the process must ask its callers for ``self._key``."""

    @abc.abstractmethod
    def _connect(self, address: str) -> Upstream:
        """How to speak to the process that listens at ``address``."""
