"""The console's first page: what is going on, in words, then the evidence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fairlead.console import ranges
from fairlead.console.charts import Chart, Point, band_chart, bar_chart
from fairlead.console.desk import Desk
from fairlead.console.figures import Figures
from fairlead.console.sessions import Session
from fairlead.console.view import STATES, brief, clock, count, share, span
from fairlead.records import Feedback, now_us

if TYPE_CHECKING:
    from fairlead.app import Fairlead

LATEST = 8
REFRESH_S = 0.1
"""How long a page may look at outcomes that are due; the server does the rest by itself."""


class Overview:
    """``/console``."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def routes(self) -> list[Route]:
        """Its one path."""
        return [self._desk.route("", self.page)]

    def page(self, request: Request, session: Session) -> Response:
        """``GET /console``."""
        now = now_us()
        period = ranges.parse(request.query_params, now)
        store, tenant = self._desk.fairlead.store, session.tenant
        fairlead = self._desk.fairlead
        summaries = self._desk.summaries
        answers = summaries.total(period, tenant, operation="assistant")
        figures = Figures(
            answers=answers,
            requests=summaries.total(period, tenant, operation="request") if answers else None,
            everything=summaries.total(period, tenant),
            dropped=store.traces.dropped,
        )
        fairlead.assistant.outcomes.refresh(budget_s=REFRESH_S)
        buckets = summaries.buckets(period, tenant, operation="assistant" if figures.answers else None)
        releases = [
            (release.time, f"{brief(release.id)} {release.variant}")
            for release in store.releases.list(fairlead.usecase.name)
            if release.state in ("live", "retired")
        ]
        conversations = store.conversations.list(since=period.since, until=period.until, tenant=tenant, limit=LATEST)
        return self._desk.render(
            request,
            session,
            "overview.html",
            page="overview",
            title="Overview",
            span=period,
            headline=figures.headline(period),
            figures=figures.rows(),
            outcomes=fairlead.assistant.outcomes.summary(period.since, period.until, tenant=tenant),
            percent=f"{fairlead.usecase.confidence * 100:g}",
            noun=figures.noun,
            states=STATES,
            bucket_link=bucket_link,
            buckets=buckets,
            charts=[requests_chart(buckets, period, releases, figures.noun), latency_chart(buckets, period, releases)],
            conversations=conversations,
            conversation_count=store.conversations.count(since=period.since, until=period.until, tenant=tenant),
            handoffs=store.handoffs.waiting(tenant=tenant)[:LATEST],
            feedback=[
                (entry, conversation_of(fairlead, entry))
                for entry in store.feedback.list(period.since, period.until, LATEST, tenant=tenant)
            ],
            problems=unready(fairlead),
        )


def unready(fairlead: Fairlead) -> dict[str, str]:
    """Engines that cannot answer now, name to reason."""
    found = {}
    for engine in fairlead.engines.values():
        health = engine.health()
        if health.state not in ("ready", "asleep"):
            found[engine.name] = fairlead.failures.get(engine.name) or health.detail or health.state
    return found


def conversation_of(fairlead: Fairlead, said: Feedback) -> str:
    """The conversation that something said belongs to; empty when it is gone."""
    store = fairlead.store
    if said.target_kind == "conversation":
        return said.target if store.conversations.get(said.target) is not None else ""
    if said.target_kind == "message":
        message = store.conversations.message(said.target)
        return message.conversation if message is not None else ""
    trace = store.traces.get(said.target)
    return trace.conversation if trace is not None else ""


def requests_chart(
    buckets: Sequence[dict[str, Any]], period: ranges.Range, releases: Sequence[tuple[int, str]], noun: str
) -> Chart:
    """Answers or calls per bucket, with the failed ones within."""
    points = [
        Point(
            time=bucket["time"],
            value=bucket["count"],
            part=bucket["errors"],
            href=bucket_link(bucket["time"], period),
            label=f"{clock(bucket['time'])}: {count(bucket['count'])} {noun}, {count(bucket['errors'])} failed",
        )
        for bucket in buckets
    ]
    whole, failed = sum(bucket["count"] for bucket in buckets), sum(bucket["errors"] for bucket in buckets)
    busiest = max(buckets, key=lambda bucket: bucket["count"], default=None)
    summary = f"{count(whole)} {noun}, {count(failed)} failed ({share(failed, whole)})."
    if busiest is not None:
        summary += (
            f" Busiest: {count(busiest['count'])} in the {bucket_words(period)} from {clock(busiest['time'])} UTC."
        )
    return bar_chart(
        f"{noun.capitalize()} per {bucket_words(period)}",
        summary,
        points,
        since=period.since,
        until=period.until,
        bucket=period.bucket,
        show=lambda value: count(round(value)) if value >= 1 or value == 0 else f"{value:g}",
        releases=releases,
    )


def latency_chart(
    buckets: Sequence[dict[str, Any]], period: ranges.Range, releases: Sequence[tuple[int, str]]
) -> Chart:
    """Total latency, from the median to the 95th percentile."""
    points, last = [], None
    for bucket in buckets:
        if last is not None and bucket["time"] > last + period.bucket:
            points.append(Point(time=last + period.bucket, value=None))
        last = bucket["time"]
        points.append(Point(time=last, value=bucket["p50_total_us"], high=bucket["p95_total_us"]))
    slowest = max(
        (bucket for bucket in buckets if bucket["p95_total_us"] is not None),
        key=lambda bucket: bucket["p95_total_us"],
        default=None,
    )
    summary = "No request was answered in this range."
    if slowest is not None:
        summary = f"Slowest {bucket_words(period)}: p95 {span(slowest['p95_total_us'])}, {clock(slowest['time'])} UTC."
    return band_chart(
        f"Time to the complete answer, per {bucket_words(period)}",
        summary,
        points,
        since=period.since,
        until=period.until,
        bucket=period.bucket,
        show=lambda value: span(value) if value else "0",
        names=("p50", "p95"),
        releases=releases,
    )


def bucket_words(period: ranges.Range) -> str:
    """``30 minutes``, ``hour``, ``day``."""
    seconds = period.bucket // ranges.SECOND
    for unit, size in (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1)):
        if seconds % size == 0:
            return unit if seconds == size else f"{seconds // size} {unit}s"
    raise AssertionError(seconds)


def bucket_link(time: int, period: ranges.Range) -> str:
    """The traces behind one bar."""
    part = ranges.Range(since=time, until=time + period.bucket)
    return ranges.link("/console/traces", part.params)
