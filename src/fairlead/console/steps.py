"""The steps but Choose, which has pages of its own: what each holds today, and the command that goes on from there.

A step whose machinery is not built yet says so in words; nothing here pretends.
"""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fairlead.admission import LimitRules, standings
from fairlead.console import ranges
from fairlead.console.desk import Desk
from fairlead.console.figures import Operation
from fairlead.console.overview import bucket_words, conversation_of, unready
from fairlead.console.sessions import Session
from fairlead.records import now_us

MOST_AUDIT = 50
MOST_FEEDBACK = 100


class Steps:
    """One page each."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._fairlead = desk.fairlead
        self._store = desk.fairlead.store

    def routes(self) -> list[Route]:
        """Their paths."""
        pages = {
            "/define": self.define,
            "/deploy": self.deploy,
            "/tune": self.tune,
            "/improve": self.improve,
            "/govern": self.govern,
            "/scale": self.scale,
        }
        return [self._desk.route(path, page) for path, page in pages.items()]

    def define(self, request: Request, session: Session) -> Response:
        """What good means: the use case as it was read."""
        return self._desk.render(request, session, "define.html", page="define", title="Define")

    def deploy(self, request: Request, session: Session) -> Response:
        """What runs: engines, routes, keys, the store."""
        keys = [key for key in self._store.keys.active() if key.tenant == session.tenant]
        return self._desk.render(
            request,
            session,
            "deploy.html",
            page="deploy",
            title="Deploy",
            engines=[(engine.name, engine.health()) for engine in self._fairlead.engines.values()],
            failures=self._fairlead.failures,
            unready=unready(self._fairlead),
            routes=list(self._fairlead.gateway.routes.values()),
            keys=keys,
            budgets=standings(
                LimitRules(self._fairlead.usecase), self._store.ledger, keys, now_us(), tenant=session.tenant
            ),
            lanes=self._fairlead.lanes,
            kept=self._kept(session.tenant),
            store_status=self._store.traces.status(),
            recovered=self._store.recovered,
            started=self._fairlead.started_at,
            settings=self._fairlead.settings,
        )

    def _kept(self, tenant: str) -> list[dict[str, Any]]:
        """What answering from memory did for each model of a tenant."""
        stats = self._store.answers.stats()
        rows: dict[str, dict[str, Any]] = {}
        for line in stats["counted"]:
            if line["tenant"] == tenant and line["outcome"] != "bypassed":
                row = rows.setdefault(line["route"], {"asked": 0, "hits": 0, "nanos": 0, "saved_us": 0, "answers": 0})
                row["asked"] += line["requests"]
                row["hits"] += line["requests"] if line["outcome"] != "miss" else 0
                row["nanos"] += line["nanos"]
                row["saved_us"] += line["saved_us"]
        for line in stats["kept"]:
            if line["tenant"] == tenant and line["route"] in rows:
                rows[line["route"]]["answers"] = line["answers"]
        return [{"route": name, **row} for name, row in sorted(rows.items())]

    def tune(self, request: Request, session: Session) -> Response:
        """Better answers: not yet by machine."""
        return self._desk.render(request, session, "tune.html", page="tune", title="Tune")

    def improve(self, request: Request, session: Session) -> Response:
        """What customers said about the answers."""
        period = ranges.parse(request.query_params, now_us())
        entries = self._store.feedback.list(period.since, period.until, MOST_FEEDBACK, tenant=session.tenant)
        return self._desk.render(
            request,
            session,
            "improve.html",
            page="improve",
            title="Improve",
            span=period,
            entries=[(entry, conversation_of(self._fairlead, entry)) for entry in entries],
            thumbs_up=sum(entry.kind == "thumb" and entry.value == 1 for entry in entries),
            thumbs_down=sum(entry.kind == "thumb" and entry.value == 0 for entry in entries),
            comments=sum(entry.kind == "comment" for entry in entries),
            full=len(entries) == MOST_FEEDBACK,
        )

    def govern(self, request: Request, session: Session) -> Response:
        """The policy that holds, and the audit log."""
        return self._desk.render(
            request,
            session,
            "govern.html",
            page="govern",
            title="Govern",
            entries=self._store.audit.list(since=0, until=now_us() + 1, tenant=session.tenant, limit=MOST_AUDIT),
            whole=self._store.audit.verify(),
        )

    def scale(self, request: Request, session: Session) -> Response:
        """How much there is to serve, and what serves it."""
        period = ranges.parse(request.query_params, now_us())
        # One answer is up to three records (the request, the answer, the model's call): each is counted as what it is.
        kinds: tuple[tuple[Operation, str], ...] = (("assistant", "answers"), ("chat", "model calls"))
        loads = []
        for operation, noun in kinds:
            total = self._desk.summaries.total(period, session.tenant, operation=operation)
            if total is not None:
                buckets = self._desk.summaries.buckets(period, session.tenant, operation=operation)
                loads.append((noun, total, max(buckets, key=lambda bucket: int(bucket["count"]), default=None)))
        return self._desk.render(
            request,
            session,
            "scale.html",
            page="scale",
            title="Scale",
            span=period,
            loads=loads,
            bucket_words=bucket_words,
            store_status=self._store.traces.status(),
            settings=self._fairlead.settings,
        )
