"""The inbox: who waits for a person, what a person answers, what needs a colleague's yes. For operators and admins.

Every step works by a plain form; with JavaScript the same steps answer in JSON and the pages follow what others do.
Decides nothing about hand-offs: that is the assistant's desk.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from fairlead.assistant.actions import Appraisal
from fairlead.assistant.handoff import (
    ENDINGS,
    GRACE_S,
    LEASE_S,
    MAX_NOTE_CHARS,
    MAX_REPLY_CHARS,
    Operator,
    open_question,
)
from fairlead.console.desk import INBOX, JSON, Desk
from fairlead.console.http import EventStream, problem
from fairlead.console.pulse import EVERYTHING, Pulse, woken
from fairlead.console.sessions import Session
from fairlead.console.view import STATES
from fairlead.errors import HandoffGone, ServiceError
from fairlead.records import Action, Conversation, Handoff, new_id, now_us

BEAT_S = 15.0
DAY_US = 86_400_000_000
_UUID7 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """A line of the inbox. ``due`` is when it should have been taken; ``asks`` says that the customer spoke last."""

    handoff: Handoff
    conversation: Conversation | None
    due: int
    overdue: bool
    mine: bool
    asks: bool = False


class Inbox:
    """``/console/inbox`` and what is below."""

    def __init__(self, desk: Desk, pulse: Pulse) -> None:
        self._desk = desk
        self._pulse = pulse
        self._store = desk.fairlead.store
        self._people = desk.fairlead.assistant.desk
        self._steps: dict[str, Callable[[str, Operator, dict[str, str]], Any]] = {
            "take": lambda one, who, _: self._people.take(one, who),
            "hold": lambda one, who, fields: self._people.hold(one, who, draft=fields.get("draft"), hold_s=LEASE_S),
            "leave": lambda one, who, fields: self._people.hold(one, who, draft=fields.get("draft"), hold_s=GRACE_S),
            "reply": self._reply,
            "release": lambda one, who, _: self._people.release(one, who),
            "return": lambda one, who, _: self._people.give_back(one, who),
            "close": self._close,
        }

    def routes(self) -> list[Route]:
        """Its paths."""
        desk = self._desk
        return [
            desk.people_route("/inbox", self.listing),
            desk.people_route("/inbox/events", self.events),
            desk.people_route("/inbox/{handoff}", self.one),
            desk.action("/inbox/actions/{action}", self.decide),
            desk.action("/inbox/{handoff}/suggest", self.suggest),
            desk.action("/inbox/{handoff}/{step}", self.step),
            desk.action("/conversations/{conversation}/take", self.take_over),
        ]

    # --- pages ----------------------------------------------------------------------------------------------------

    async def listing(self, request: Request, session: Session) -> Response:
        """Who waits, who is spoken with, what waits for a yes."""
        return await run_in_threadpool(self._list_page, request, session)

    async def one(self, request: Request, session: Session) -> Response:
        """One request: what was said, what to answer, how to end it."""
        return await run_in_threadpool(self._one_page, request, session, request.path_params["handoff"])

    def _list_page(self, request: Request, session: Session, *, notice: str = "", status: int = 200) -> Response:
        self._people.free()
        entries = self._entries(session)
        policy = self._desk.fairlead.usecase.policy.handoff
        return self._desk.render(
            request, session, "inbox.html", page="inbox", title="Inbox", status=status, notice=notice,
            waiting_ones=[entry for entry in entries if entry.handoff.state == "waiting"],
            mine=[entry for entry in entries if entry.mine],
            others=[entry for entry in entries if entry.handoff.state == "taken" and not entry.mine],
            approvals=self._appraised(self._approvals(session)),
            closed=self._store.handoffs.closed_since(now_us() - DAY_US, tenant=session.tenant),
            overdue=sum(entry.overdue for entry in entries),
            endings=ENDINGS, policy=policy, is_open=self._people.is_open(), hours=self._people.hours,
            mark=self._mark(session, ""),
        )  # fmt: skip

    def _one_page(
        self, request: Request, session: Session, identifier: str, *, notice: str = "", status: int = 200,
        draft: str | None = None,
    ) -> Response:  # fmt: skip
        self._people.free()
        handoff = self._store.handoffs.get(identifier)
        conversation = self._store.conversations.get(handoff.conversation) if handoff is not None else None
        if handoff is None or conversation is None or handoff.tenant != session.tenant:
            return self._desk.missing(request, session, "There is no such request for a person, or its time is over.")
        messages = self._store.conversations.messages(handoff.conversation)
        question = open_question(messages)
        mine = handoff.state == "taken" and handoff.operator_key == session.key_id
        suggestion = handoff.suggestion
        fits = question is not None and suggestion.get("question") == question.id
        use = mine and fits and request.query_params.get("use") == "1"
        due = self._people.due(handoff)
        return self._desk.render(
            request, session, "handoff.html", page="inbox", title="Inbox", status=status, notice=notice,
            handoff=handoff, conversation=conversation, messages=messages, mine=mine, states=STATES,
            question=question, suggestion=suggestion if fits else {}, asked=fits, use=use,
            draft=draft if draft is not None else suggestion.get("text", "") if use else handoff.draft,
            endings=ENDINGS, due=due, overdue=handoff.state == "waiting" and due < now_us(),
            approvals=self._appraised(
                [each for each in self._approvals(session) if each.conversation == conversation.id]
            ),
            message_id=new_id(), max_reply=MAX_REPLY_CHARS, max_note=MAX_NOTE_CHARS,
            mark=self._mark(session, handoff.id),
        )  # fmt: skip

    def _entries(self, session: Session) -> list[Entry]:
        now, found = now_us(), []
        for handoff in self._store.handoffs.open_ones(tenant=session.tenant):
            due = self._people.due(handoff)
            waits = handoff.state == "waiting"
            said = [] if waits else self._store.conversations.messages(handoff.conversation)
            spoken = [message.role for message in said if message.role in ("user", "operator")]
            found.append(
                Entry(
                    handoff=handoff, conversation=self._store.conversations.get(handoff.conversation), due=due,
                    overdue=waits and due < now, mine=not waits and handoff.operator_key == session.key_id,
                    asks=spoken[-1:] == ["user"],
                )
            )  # fmt: skip
        return found

    def _approvals(self, session: Session) -> list[Action]:
        return self._store.actions.list(tenant=session.tenant, states=("awaiting_approval", "unknown"))

    def _appraised(self, actions: list[Action]) -> list[Appraisal]:
        return [self._desk.fairlead.assistant.appraise_action(action) for action in actions]

    # --- live -------------------------------------------------------------------------------------------------------

    async def events(self, request: Request, session: Session) -> Response:
        """``changed`` whenever what a page shows is no longer so; ``mark`` and Last-Event-ID say what it shows."""
        query = request.query_params
        seen = request.headers.get("last-event-id") or query.get("mark", "")
        return EventStream(self._changes(session, query.get("handoff", "")[:64], seen[:64]))

    async def _changes(self, session: Session, handoff: str, seen: str) -> AsyncIterator[bytes]:
        yield b"retry: 1000\n\n"
        async with self._pulse.listen(EVERYTHING) as event:
            while True:
                mark = await run_in_threadpool(self._mark, session, handoff)
                if mark != seen:
                    seen = mark
                    yield f"id: {mark}\nevent: changed\ndata: {mark}\n\n".encode()
                if not await woken(event, BEAT_S):
                    yield b": still here\n\n"

    def _mark(self, session: Session, identifier: str) -> str:
        """A short text that differs when the page would."""
        shown: list[Any] = [[each.id, each.updated] for each in self._approvals(session)]
        if identifier:
            handoff = self._store.handoffs.get(identifier)
            if handoff is not None and handoff.tenant == session.tenant:
                said = self._store.conversations.messages(handoff.conversation)
                shown += [handoff.state, handoff.operator, handoff.contact, handoff.suggestion, len(said)]
        else:
            for entry in self._entries(session):
                one, talk = entry.handoff, entry.conversation
                shown += [one.id, one.state, one.operator, one.contact, entry.overdue, entry.asks, talk and talk.title]
        return hashlib.sha256(msgspec.json.encode(shown)).hexdigest()[:16]

    # --- steps ------------------------------------------------------------------------------------------------------

    async def step(self, request: Request, session: Session, fields: dict[str, str]) -> Response:
        """Take, hold, reply, release, return, close."""
        step, identifier = request.path_params["step"], request.path_params["handoff"]
        act = self._steps.get(step)
        if act is None:
            return problem(404, "unknown_step", "There is nothing of this name to do.")
        try:
            await run_in_threadpool(act, identifier, operator_of(session), fields)
        except ServiceError as error:
            return await self._refused(request, session, identifier, error, fields)
        if request.headers.get("accept") == JSON:
            return JSONResponse({"ok": True, "next": new_id()})
        after = f"{INBOX}/{identifier}" if step in ("take", "hold", "reply") else INBOX
        return RedirectResponse(after, status_code=303)

    async def suggest(self, request: Request, session: Session, fields: dict[str, str]) -> Response:
        """Have a reply proposed to the open question."""
        identifier = request.path_params["handoff"]
        handoff = await run_in_threadpool(self._store.handoffs.get, identifier)
        if handoff is None or handoff.tenant != session.tenant:
            return await self._refused(request, session, identifier, HandoffGone(), fields)
        await self._desk.fairlead.assistant.suggest(handoff)
        if request.headers.get("accept") == JSON:
            return JSONResponse({"ok": True})
        return RedirectResponse(f"{INBOX}/{identifier}", status_code=303)

    async def take_over(self, request: Request, session: Session, fields: dict[str, str]) -> Response:
        """Take over a conversation whose customer has not asked for it."""
        identifier = request.path_params["conversation"]
        conversation = await run_in_threadpool(self._store.conversations.get, identifier)
        if conversation is None or conversation.tenant != session.tenant or conversation.state == "closed":
            return problem(404, "conversation_unknown", "There is no such conversation to take over.")
        assistant = self._desk.fairlead.assistant
        await run_in_threadpool(assistant.handoff, identifier, f"taken over by {session.key_name}")
        handoff = await run_in_threadpool(self._store.handoffs.of, identifier)
        if handoff is None or handoff.state == "closed":
            return problem(409, "handoff_unavailable", "This conversation cannot be taken over.")
        try:
            await run_in_threadpool(self._people.take, handoff.id, operator_of(session))
        except ServiceError as error:
            return await self._refused(request, session, handoff.id, error, fields)
        return RedirectResponse(f"{INBOX}/{handoff.id}", status_code=303)

    async def decide(self, request: Request, session: Session, fields: dict[str, str]) -> Response:
        """Say yes or no to an action that waits for a colleague."""
        identifier, approve = request.path_params["action"], fields.get("decision") == "approve"
        action = await run_in_threadpool(self._store.actions.get, identifier)
        notice, status = "", 200
        try:
            if action is None or action.tenant != session.tenant:
                raise HandoffGone
            assistant = self._desk.fairlead.assistant
            # One that may or may not have been done is not run again: a person has looked and says which.
            move = assistant.settle_action if action.state == "unknown" else assistant.decide_action
            await move(identifier, approve, operator=session.key_name, note=fields.get("note", "")[:MAX_NOTE_CHARS])
        except ServiceError as error:
            notice, status = str(error), error.status
        if request.headers.get("accept") == JSON:
            return problem(status, "action_settled", notice) if notice else JSONResponse({"ok": True})
        if notice:
            return await run_in_threadpool(lambda: self._list_page(request, session, notice=notice, status=status))
        return RedirectResponse(_back(fields.get("back", "")), status_code=303)

    def _reply(self, identifier: str, operator: Operator, fields: dict[str, str]) -> Any:
        message_id = fields.get("id", "")
        if not _UUID7.fullmatch(message_id):
            message_id = new_id()
        suggested = fields.get("suggested") == "1"
        return self._people.reply(
            identifier, operator, fields.get("text", ""), message_id=message_id, suggested=suggested
        )

    def _close(self, identifier: str, operator: Operator, fields: dict[str, str]) -> Any:
        outcome = fields.get("outcome", "")
        return self._people.close(
            identifier, operator, outcome if outcome in ENDINGS else "not_resolved", fields.get("note", "")
        )

    async def _refused(
        self, request: Request, session: Session, identifier: str, error: ServiceError, fields: dict[str, str]
    ) -> Response:
        if request.headers.get("accept") == JSON:
            return problem(error.status, error.code, str(error))
        return await run_in_threadpool(
            lambda: self._one_page(
                request, session, identifier, notice=str(error), status=error.status, draft=fields.get("text")
            )
        )


def operator_of(session: Session) -> Operator:
    """The person who is logged in, as the assistant's desk knows them."""
    return Operator(key=session.key_id, name=session.key_name, tenant=session.tenant)


def _back(address: str) -> str:
    return address if re.fullmatch(r"/console/inbox(/[0-9a-f-]{36})?", address) else INBOX
