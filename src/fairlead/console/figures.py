"""A range in numbers, from the traces' summaries; wide ranges are remembered for a moment.

Percentiles do not add up, so the figures of a range are computed over the range, not from its buckets. Over a million
inferences that takes more than half a second; a range of a week or more is therefore computed anew only after KEEP_S.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from fairlead.console import ranges
from fairlead.console.view import count, dollars, share, span

if TYPE_CHECKING:
    from fairlead.store import Store

Operation = Literal["assistant", "request", "chat"]
Rows = list[dict[str, Any]]

WIDE_S = 7 * 86_400
KEEP_S = 30.0
MOST_KEPT = 64


class Summaries:
    """Asks the store for figures. Thread-safe; what is remembered is bounded."""

    def __init__(self, store: Store, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._traces = store.traces
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[Any, ...], tuple[float, Rows]] = OrderedDict()

    def total(
        self, period: ranges.Range, tenant: str, *, variant: str | None = None, operation: Operation | None = None
    ) -> dict[str, Any] | None:
        """The whole range as one bucket, so that its percentiles are true ones; None when nothing happened."""
        rows = self._rows(period, period.until, tenant, variant, operation)
        return rows[0] if rows else None

    def buckets(self, period: ranges.Range, tenant: str, *, operation: Operation | None = None) -> Rows:
        """The range cut into the buckets of its charts."""
        return self._rows(period, period.bucket, tenant, None, operation)

    def _rows(
        self, period: ranges.Range, bucket_us: int, tenant: str, variant: str | None, operation: Operation | None
    ) -> Rows:
        ask: dict[str, Any] = {
            "since": period.since,
            "until": period.until,
            "bucket_us": bucket_us,
            "tenant": tenant,
            "variant": variant,
            "operation": operation,
        }
        if period.until - period.since < WIDE_S * ranges.SECOND:
            return self._traces.summary(**ask)
        moment = (period.name,) if period.name else (period.since, period.until)
        key = (moment, bucket_us == period.until or bucket_us, tenant, variant, operation)
        now = self._clock()
        with self._lock:
            known = self._kept.get(key)
        if known is not None and now - known[0] < KEEP_S:
            return known[1]
        rows = self._traces.summary(**ask)
        with self._lock:
            self._kept[key] = (now, rows)
            self._kept.move_to_end(key)
            while len(self._kept) > MOST_KEPT:
                self._kept.popitem(last=False)
        return rows


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """A range in numbers: the assistant's ``answers``, the API ``requests`` for some of them, and ``everything``
    recorded, the model calls they made included.
    """

    answers: dict[str, Any] | None
    requests: dict[str, Any] | None = None
    everything: dict[str, Any] | None
    dropped: int

    @property
    def noun(self) -> str:
        """What is counted: answers of the assistant, or calls where the API alone is used."""
        return "answers" if self.answers else "calls"

    def headline(self, period: ranges.Range) -> str:
        """What is going on, in one sentence."""
        total = self.answers or self.everything
        if total is None:
            return f"Nothing was asked in {period.words}"
        failed = f"{count(total['errors'])} failed ({share(total['errors'], total['count'])})"
        return f"{count(total['count'])} {self.noun} in {period.words}, {failed if total['errors'] else 'none failed'}"

    def rows(self) -> list[tuple[str, str]]:
        """The range in figures: (what, how much)."""
        total = self.answers or self.everything
        if total is None or self.everything is None:
            return []
        found = [("whole answer, p50 / p95", f"{span(total['p50_total_us'])} / {span(total['p95_total_us'])}")]
        if total["p50_first_token_us"] is not None:
            first = f"{span(total['p50_first_token_us'])} / {span(total['p95_first_token_us'])}"
            found.insert(0, ("first token, p50 / p95", first))
        calls, unknown = self.calls
        known = self.everything["cost"] is not None
        price = f"{dollars(self.everything['cost'])} USD" if known else "unknown"
        if known and unknown:
            price += f", {count(unknown)} calls of unknown price"
        dropped = count(self.dropped) if self.dropped else "none"
        return [*found, ("model calls", count(calls)), ("cost", price), ("records dropped", dropped)]

    @property
    def calls(self) -> tuple[int, int]:
        """(model calls that were answered, those of them whose price is unknown).

        An answer has no price of its own: what it costs are the calls it made. A request that was refused or failed
        called no model to its end and counts for nothing here.
        """
        everything, parents = self.everything or {}, [self.answers or {}, self.requests or {}]
        rest = {
            name: everything.get(name, 0) - sum(part.get(name, 0) for part in parents)
            for name in ("count", "errors", "without_cost")
        }
        calls = max(0, rest["count"] - rest["errors"])
        return calls, min(calls, max(0, rest["without_cost"] - rest["errors"]))
