"""What an engine is: something started and stopped by us whose model is reached through an Upstream."""

from __future__ import annotations

from typing import Literal, Protocol

import msgspec

from fairlead.providers.base import Upstream

State = Literal["stopped", "starting", "ready", "restarting", "failed", "asleep"]
"""``asleep`` is unloaded and answers all the same: the next call loads it."""


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine says it has to do: requests it works on, requests it lets wait, and the share (0 to 1) of its
    memory for contexts (the KV cache) that is in use.
    """

    running: int = 0
    waiting: int = 0
    cache: float = 0.0


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """How an engine is. ``detail`` is a sentence for people; ``pid`` is None for an in-process engine, ``load`` for one
    that does not say.
    """

    state: State
    detail: str = ""
    pid: int | None = None
    restarts: int = 0
    load: Load | None = None


class Engine(Protocol):
    """A model we run."""

    name: str

    async def start(self) -> None:
        """Start and return once it can answer. Raises WeightsMissing, WeightsDamaged or EngineFailed."""
        ...

    async def stop(self) -> None:
        """Finish what runs (bounded), then stop. Idempotent; leaves no process behind."""
        ...

    def health(self) -> Health:
        """The state right now; never blocks."""
        ...

    def upstream(self) -> Upstream:
        """Where to send calls."""
        ...
