"""Conversations: the list with its filters and exports, and one conversation with what happened inside."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from fairlead.assistant.handoff import ENDINGS
from fairlead.console import export, ranges, waterfall
from fairlead.console.desk import Desk
from fairlead.console.sessions import Session
from fairlead.console.view import STATES, machine_time
from fairlead.records import Conversation, Inference, now_us

PAGE = 50
COLUMNS = ["id", "time", "updated", "title", "channel", "language", "state", "turns", "subject", "release", "spec_hash"]
MOST_TRACES = 500
DAY_US = 86_400 * ranges.SECOND


class Conversations:
    """``/console/conversations`` and ``/console/conversations/{id}``."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._store = desk.fairlead.store

    def routes(self) -> list[Route]:
        """Both paths."""
        return [
            self._desk.route("/conversations", self.listing, people=True),
            self._desk.route("/conversations/{conversation}", self.one, people=True),
        ]

    def listing(self, request: Request, session: Session) -> Response:
        """The newest conversations of a range; ``q``, ``state``, ``before`` narrow it, ``format`` exports it."""
        query = request.query_params
        period = ranges.parse(query, now_us())
        state = query.get("state") if query.get("state") in STATES else None
        search = query.get("q", "").strip()[:200]
        wanted: dict[str, Any] = {
            "since": period.since,
            "until": period.until,
            "tenant": session.tenant,
            "state": state,
            "search": search or None,
        }
        if query.get("format") in ("csv", "json") and session.admin:
            return export.respond(query["format"], "conversations", COLUMNS, self._all(wanted))
        found = self._store.conversations.list(**wanted, limit=PAGE + 1, before=query.get("before") or None)
        shown, more = found[:PAGE], len(found) > PAGE
        whole = not more and not query.get("before")  # then counting again would search everything twice
        total = len(shown) if whole else self._store.conversations.count(**wanted)
        params = {**period.params, "q": search, "state": state or ""}
        return self._desk.render(
            request,
            session,
            "conversations.html",
            page="conversations",
            title="Conversations",
            span=period,
            conversations=shown,
            count_all=total,
            states=STATES,
            state=state or "",
            search=search,
            first=not query.get("before"),
            newest=ranges.link(request.url.path, params),
            older=ranges.link(request.url.path, {**params, "before": shown[-1].id}) if more else "",
            exports={kind: ranges.link(request.url.path, {**params, "format": kind}) for kind in ("csv", "json")},
        )

    def _all(self, wanted: dict[str, Any]) -> Iterator[dict[str, Any]]:
        before: str | None = None
        while found := self._store.conversations.list(**wanted, limit=500, before=before):
            for conversation in found:
                yield row_of(conversation)
            before = found[-1].id

    def one(self, request: Request, session: Session) -> Response:
        """Transcript, feedback and, for each answer, where its time went."""
        identifier = request.path_params["conversation"]
        conversation = self._store.conversations.get(identifier)
        if conversation is None or conversation.tenant != session.tenant:
            return self._desk.missing(
                request,
                session,
                f"There is no conversation {identifier[:40]!r}. It may have reached the end of its retention.",
            )
        messages = self._store.conversations.messages(identifier)
        feedback = defaultdict(list)
        for entry in self._store.feedback.of_conversation(identifier):
            feedback[entry.target].append(entry)
        traces = self._store.traces.query(
            since=conversation.time - DAY_US,
            until=max(conversation.updated, conversation.time, *(message.time for message in messages)) + DAY_US
            if messages
            else conversation.time + DAY_US,
            tenant=session.tenant,
            conversation=identifier,
            limit=MOST_TRACES,
            order="asc",
        )
        if not session.admin:
            traces = []  # operators see what was said, not how it was made
        roots, children = families(traces)
        self._desk.fairlead.assistant.outcomes.refresh(budget_s=0.1)
        answers = {message.inference for message in messages if message.inference}
        return self._desk.render(
            request,
            session,
            "conversation.html",
            page="conversations",
            title="Conversation",
            conversation=conversation,
            messages=messages,
            feedback=feedback,
            handoff=self._store.handoffs.of(identifier),
            outcome=self._store.outcomes.get(identifier),
            endings=ENDINGS,
            states=STATES,
            traces={root.id: root for root in roots},
            costs={root.id: waterfall.cost_of(root, children[root.id]) for root in roots},
            waterfalls={root.id: waterfall.rows(root, children[root.id]) for root in roots},
            others=[root for root in roots if root.id not in answers],
        )


def row_of(conversation: Conversation) -> dict[str, Any]:
    """A conversation as a row of an export, times in RFC 3339."""
    row = {column: getattr(conversation, column) for column in COLUMNS}
    row["time"], row["updated"] = machine_time(conversation.time), machine_time(conversation.updated)
    return row


def families(traces: list[Inference]) -> tuple[list[Inference], dict[str, list[Inference]]]:
    """Answers, and the calls each of them made. A call whose answer is not here stands on its own."""
    known = {trace.id for trace in traces}
    children: dict[str, list[Inference]] = defaultdict(list)
    roots = []
    for trace in traces:
        if trace.parent and trace.parent in known:
            children[trace.parent].append(trace)
        else:
            roots.append(trace)
    return roots, children
