"""Counters in memory, for limits and budgets of one process. They are gone when it ends, and must be allowed to be."""

from __future__ import annotations

import threading
import time


class Counters:
    """Named numbers that vanish ``ttl`` seconds after they were first added to. Thread-safe."""

    _SWEEP = 4096

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[str, tuple[float, float]] = {}
        self._sweep_at = self._SWEEP

    def add(self, name: str, amount: float = 1, ttl: float = 60.0) -> float:
        """Add and return the new value. The time to live counts from the first addition."""
        now = time.monotonic()
        with self._lock:
            value, ends = self._values.get(name, (0.0, 0.0))
            if ends <= now:
                value, ends = 0.0, now + ttl
            self._values[name] = (value + amount, ends)
            if len(self._values) > self._sweep_at:
                self._values = {key: held for key, held in self._values.items() if held[1] > now}
                self._sweep_at = max(self._SWEEP, 2 * len(self._values))
            return value + amount

    def get(self, name: str) -> float:
        """The value, 0 when there is none."""
        with self._lock:
            value, ends = self._values.get(name, (0.0, 0.0))
        return value if ends > time.monotonic() else 0.0
