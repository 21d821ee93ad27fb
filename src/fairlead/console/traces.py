"""Traces: every inference of a range, and one inference with everything that is known of it."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fairlead.console import export, ranges, waterfall
from fairlead.console.desk import Desk
from fairlead.console.sessions import Session
from fairlead.console.view import machine_time
from fairlead.records import Inference, now_us

PAGE = 50
FAMILY_US = 3_600 * ranges.SECOND
"""How long after an answer began its own calls are looked for, and before a call its answer."""
COLUMNS = [
    "id", "time", "conversation", "parent", "request", "operation", "variant", "provider", "model", "release",
    "spec_hash", "subject", "stream", "status", "error", "finish", "input_tokens", "output_tokens", "cached_tokens",
    "cost_nano_usd", "first_token_us", "total_us",
]  # fmt: skip


class Traces:
    """``/console/traces`` and ``/console/traces/{id}``."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._store = desk.fairlead.store

    def routes(self) -> list[Route]:
        """Both paths."""
        return [self._desk.route("/traces", self.listing), self._desk.route("/traces/{trace}", self.one)]

    def listing(self, request: Request, session: Session) -> Response:
        """The newest inferences of a range; ``variant``, ``status``, ``before`` narrow it, ``format`` exports it."""
        query = request.query_params
        period = ranges.parse(query, now_us())
        variants = [variant.id for variant in self._desk.fairlead.usecase.variants]
        variant, status, odd = _filters(query, variants)
        period = msgspec.structs.replace(period, note=" ".join(filter(None, (period.note, odd))))
        wanted: dict[str, Any] = {
            "since": period.since,
            "until": period.until,
            "tenant": session.tenant,
            "variant": variant,
            "status": status,
        }
        if query.get("format") in ("csv", "json") and not odd:
            return export.respond(query["format"], "traces", COLUMNS, self._all(wanted))
        found = self._store.traces.query(**wanted, limit=PAGE + 1, before=query.get("before") or None)
        shown, more = found[:PAGE], len(found) > PAGE
        params = {**period.params, "variant": variant or "", "status": status or ""}
        return self._desk.render(
            request,
            session,
            "traces.html",
            page="traces",
            title="Traces",
            span=period,
            traces=grouped(shown),
            variants=variants,
            variant=variant or "",
            status_filter=status or "",
            first=not query.get("before"),
            newest=ranges.link(request.url.path, params),
            older=ranges.link(request.url.path, {**params, "before": shown[-1].id}) if more else "",
            exports={kind: ranges.link(request.url.path, {**params, "format": kind}) for kind in ("csv", "json")},
        )

    def _all(self, wanted: dict[str, Any]) -> Iterator[dict[str, Any]]:
        before: str | None = None
        while found := self._store.traces.query(**wanted, limit=1_000, before=before):
            for trace in found:
                yield row_of(trace)
            before = found[-1].id

    def one(self, request: Request, session: Session) -> Response:
        """Figures, timings, and the masked texts."""
        identifier = request.path_params["trace"]
        try:
            trace = self._store.traces.get(identifier)
        except ValueError:
            trace = None
        if trace is None or trace.tenant != session.tenant:
            return self._desk.missing(
                request,
                session,
                f"There is no trace {identifier[:40]!r}. It may have reached the end of its retention.",
            )
        children = self._store.traces.query(
            since=trace.time - FAMILY_US,
            until=trace.time + FAMILY_US,
            tenant=session.tenant,
            parent=trace.id,
            order="asc",
        )
        return self._desk.render(
            request,
            session,
            "trace.html",
            page="traces",
            title="Trace",
            trace=trace,
            cost=waterfall.cost_of(trace, children),
            rows=waterfall.rows(trace, children),
        )


def _filters(query: Mapping[str, str], variants: Sequence[str]) -> tuple[str | None, int | None, str]:
    """The variant and the status that are asked for, and what was wrong with these wishes."""
    variant, status, odd = query.get("variant") or None, query.get("status", "").strip(), []
    if variant is not None and variant not in variants:
        odd.append(f"There is no variant {variant[:40]!r}; showing all.")
        variant = None
    if status and not re.fullmatch("[1-5][0-9][0-9]", status, re.ASCII):
        odd.append(f"{status[:40]!r} is no status (expected 100 to 599, such as 502); showing all.")
        status = ""
    return variant, int(status) if status else None, " ".join(odd)


def grouped(traces: Sequence[Inference]) -> list[tuple[Inference, int]]:
    """Each answer followed by the calls made for it, with how deep a row stands; the order is that of the answers."""
    known = {trace.id for trace in traces}
    children: defaultdict[str, list[Inference]] = defaultdict(list)
    for trace in traces:
        children[trace.parent if trace.parent in known else ""].append(trace)
    found: list[tuple[Inference, int]] = []
    waiting = [(trace, 0) for trace in reversed(children[""])]
    while waiting:
        trace, depth = waiting.pop()
        found.append((trace, depth))
        waiting += [(child, depth + 1) for child in children[trace.id]]  # popped last first: oldest call first
    return found


def row_of(trace: Inference) -> dict[str, Any]:
    """An inference as a row of an export: figures and names, no texts; cost in nano-dollars, empty when unknown."""
    row = {column: getattr(trace, column) for column in COLUMNS if column != "cost_nano_usd"}
    row["time"], row["cost_nano_usd"] = machine_time(trace.time), trace.cost
    return row
