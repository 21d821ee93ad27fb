"""The customers' chat: a page that works without JavaScript, the same page as a widget's frame, and its JSON API.

A browser proves that a conversation is its own by the secret it got when it opened it (a header, or a hidden field of
the plain form); there are no cookies, so nothing is sent along by itself and no other site can speak for a customer.
Decides nothing about answers: that is the assistant's.
"""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fairlead.console.http import EventStream, client_address, frame, problem, retry_headers
from fairlead.console.limits import OpenStreams, TokenBuckets, client_group
from fairlead.console.live import SPEAKERS, Live, author, handoff_sentence, shown
from fairlead.console.pulse import Pulse
from fairlead.console.turns import Turn, Turns
from fairlead.console.view import Pages, clock
from fairlead.errors import (
    ConversationClosed,
    ConversationUnknown,
    FeedbackInvalid,
    IdentityRefused,
    ServiceError,
    TurnRunning,
)
from fairlead.records import Conversation, Feedback, FeedbackKind, Message, now_us

if TYPE_CHECKING:
    from fairlead.app import Fairlead

SECRET_HEADER = "x-conversation-secret"  # noqa: S105  (a name, not a secret)
MAX_COMMENT_CHARS = 2_000
RATED = "Thank you. People of our team read this."

_CLIENT_ID = re.compile(r"[A-Za-z0-9-]{8,64}")
WINDOWS = 4
"""Streams of news a client address may have for each answer: every open window follows its conversation."""


class _Ask(msgspec.Struct, forbid_unknown_fields=True):
    id: str
    text: str


class _Judge(msgspec.Struct, forbid_unknown_fields=True):
    message: str
    kind: Literal["thumb", "comment"]
    value: float | None = None
    text: str = ""


class _Person(msgspec.Struct, forbid_unknown_fields=True):
    reason: str = ""


class _Open(msgspec.Struct, forbid_unknown_fields=True):
    language: str = ""
    channel: str = "chat"
    visitor: str = ""


class _Contact(msgspec.Struct, forbid_unknown_fields=True):
    email: str


class _Token(msgspec.Struct, forbid_unknown_fields=True):
    token: str


class _Decide(msgspec.Struct, forbid_unknown_fields=True):
    yes: bool


class _Rate(msgspec.Struct, forbid_unknown_fields=True):
    value: float | None = None
    solved: bool | None = None
    text: str = ""


class RefusalError(Exception):
    """A request that cannot be served; carries what the client is told."""

    def __init__(self, status: int, code: str, message: str, wait_s: float | None = None) -> None:
        self.status, self.code, self.message, self.wait_s = status, code, message, wait_s
        super().__init__(message)

    @classmethod
    def of(cls, error: ServiceError, wait_s: float | None = None) -> RefusalError:
        """What another room refused, in its own words."""
        return cls(error.status, error.code, str(error), wait_s)

    def response(self) -> Response:
        """The JSON form."""
        return problem(self.status, self.code, self.message, wait_s=self.wait_s)


class Chat:
    """The chat's endpoints over one ``Fairlead``."""

    def __init__(self, fairlead: Fairlead, pages: Pages, pulse: Pulse) -> None:
        settings = fairlead.settings
        self._fairlead = fairlead
        self._live = Live(fairlead, pulse)
        self._pages = pages
        self._max_chars = settings.chat_message_chars
        self.turns = Turns(deadline_s=settings.request_timeout_s)
        self._asks = TokenBuckets(per_minute=settings.chat_per_minute, burst=max(5, settings.chat_per_minute // 2))
        self._opens = TokenBuckets(per_minute=max(1.0, settings.chat_per_minute / 2), burst=settings.chat_per_minute)
        self._reads = TokenBuckets(per_minute=settings.chat_per_minute * 10, burst=settings.chat_per_minute * 4)
        self._streams = OpenStreams(most=settings.chat_streams)
        self._windows = OpenStreams(most=settings.chat_streams * WINDOWS)

    def routes(self) -> list[Route]:
        """Every path of the chat."""
        api = "/chat/api/conversations"
        return [
            Route("/chat", self.page, methods=["GET"]),
            Route("/chat", self.post_form, methods=["POST"]),
            Route("/widget", self.page, methods=["GET"]),
            Route("/widget", self.post_form, methods=["POST"]),
            Route("/chat/transcript", self.post_transcript, methods=["POST"]),
            Route(api, self.post_conversation, methods=["POST"]),
            Route(api + "/{conversation}", self.get_conversation, methods=["GET"]),
            Route(api + "/{conversation}/messages", self.post_message, methods=["POST"]),
            Route(api + "/{conversation}/feedback", self.post_feedback, methods=["POST"]),
            Route(api + "/{conversation}/handoff", self.post_handoff, methods=["POST"]),
            Route(api + "/{conversation}/events", self.get_events, methods=["GET"]),
            Route(api + "/{conversation}/identity", self.post_identity, methods=["POST"]),
            Route(api + "/{conversation}/contact", self.post_contact, methods=["POST"]),
            Route(api + "/{conversation}/rating", self.post_rating, methods=["POST"]),
            Route(api + "/{conversation}/rating/prompt", self.post_prompt, methods=["POST"]),
            Route(api + "/{conversation}/actions/{action}", self.post_action, methods=["POST"]),
        ]

    # --- pages -------------------------------------------------------------------------------------------------

    async def page(self, request: Request) -> Response:
        """``GET /chat`` and ``GET /widget``: the greeting and an empty form; JavaScript brings a kept conversation."""
        return await self._render(request, None, "", [])

    async def post_form(self, request: Request) -> Response:
        """The chat without JavaScript: one form, whose button says what is done; answers with the whole page."""
        form = await request.form(max_files=0, max_fields=12)
        fields = {name: value for name, value in form.items() if isinstance(value, str)}
        conversation: Conversation | None = None
        secret, notice, status, headers = fields.get("secret", ""), "", 200, None
        draft = ""
        try:
            if fields.get("conversation"):
                conversation = await self._owned(request, fields["conversation"], secret)
            conversation, secret, notice = await self._act(request, conversation, secret, fields)
        except RefusalError as refusal:
            status, notice, draft = refusal.status, refusal.message, fields.get("text", "")
            headers = retry_headers(refusal.wait_s) if refusal.wait_s is not None else None
        messages = await self._messages(conversation.id) if conversation is not None else []
        if conversation is not None:
            conversation = await run_in_threadpool(self._fairlead.store.conversations.get, conversation.id)
        response = await self._render(
            request, conversation, secret, messages, notice=notice, draft=draft, status=status
        )
        response.headers.update(headers or {})
        return response

    async def _act(
        self, request: Request, conversation: Conversation | None, secret: str, fields: dict[str, str]
    ) -> tuple[Conversation, str, str]:
        """Do what the pressed button says. Returns the conversation, its secret and a notice to show."""
        action = fields.get("action", "send")
        if action == "feedback":
            if conversation is None:
                raise RefusalError(404, "conversation_unknown", "There is no conversation to judge yet.")
            notice = await self._judge(request, conversation, _judgement(fields))
            return conversation, secret, notice
        if action in ("contact", "rating", "confirm"):
            if conversation is None:
                raise RefusalError(404, "conversation_unknown", "There is no conversation yet.")
            return conversation, secret, await self._act_on(request, conversation, action, fields)
        if conversation is None:
            conversation, secret = await self._open(request, _Open(channel=_channel(request)))
        if action == "handoff":
            state = await self._hand_off(request, conversation, fields.get("text", ""))
            return conversation, secret, handoff_sentence(state)
        turn = await self._ask(request, conversation, _Ask(id=fields.get("id", ""), text=fields.get("text", "")))
        await turn.finished()
        last = msgspec.json.decode(turn.events[-1]) if turn.events else {}
        return conversation, secret, str(last.get("message", "")) if last.get("type") == "error" else ""

    async def _act_on(self, request: Request, conversation: Conversation, action: str, fields: dict[str, str]) -> str:
        if action == "contact":
            return handoff_sentence(await self._leave_contact(request, conversation, fields.get("email", "")))
        if action == "rating":
            value, solved = fields.get("value", ""), fields.get("solved", "")
            rate = _Rate(
                value=float(value) if value in "12345" and value else None,
                solved=solved == "1" if solved in ("0", "1") else None, text=fields.get("comment", ""),
            )  # fmt: skip
            await self._rate(request, conversation, rate)
            return RATED
        self._spend(self._asks, request)
        await self._decide(conversation, fields.get("action_id", ""), fields.get("decision") == "yes")
        return ""

    async def post_transcript(self, request: Request) -> Response:
        """``POST /chat/transcript``: the conversation as a text file."""
        form = await request.form(max_files=0, max_fields=4)
        try:
            conversation = await self._owned(request, str(form.get("conversation", "")), str(form.get("secret", "")))
        except RefusalError as refusal:
            return refusal.response()
        lines = [f"{self._fairlead.usecase.name}: conversation {conversation.id}, times in UTC", ""]
        for message in await self._messages(conversation.id):
            lines += [f"[{clock(message.time)}] {author(message.role, message.facts) or 'Note'}:", message.text]
            lines += [f"  source {number}: {source.title}" for number, source in enumerate(message.sources, 1)]
            lines.append("")
        headers = {"content-disposition": f'attachment; filename="conversation-{conversation.id}.txt"'}
        return Response("\n".join(lines), media_type="text/plain; charset=utf-8", headers=headers)

    async def _render(
        self,
        request: Request,
        conversation: Conversation | None,
        secret: str,
        messages: list[Message],
        *,
        notice: str = "",
        draft: str = "",
        status: int = 200,
    ) -> Response:
        widget = request.url.path == "/widget"
        greeting = self._fairlead.assistant.greeting
        standing = await self._live.standing(conversation) if conversation is not None else {}
        if messages and messages[0].role == "assistant" and messages[0].text == greeting:
            messages = messages[1:]  # the page always opens with it
        return self._pages.render(
            request,
            "chat.html",
            status=status,
            widget=widget,
            action="/widget" if widget else "/chat",
            usecase=self._fairlead.usecase,
            greeting=greeting,
            handoff_enabled=self._fairlead.usecase.policy.handoff.enabled,
            conversation=conversation,
            standing=standing,
            author=author,
            secret=secret,
            messages=messages,
            notice=notice,
            draft=draft,
            client_id=str(uuid.uuid4()),
            max_chars=self._max_chars,
            max_comment=MAX_COMMENT_CHARS,
            rating_after_s=self._fairlead.settings.chat_rating_after_s,
            turns=conversation.turns if conversation is not None else 0,
        )

    # --- the JSON API -------------------------------------------------------------------------------------------

    async def post_conversation(self, request: Request) -> Response:
        """``POST /chat/api/conversations``: open one; 201 with its id, its secret and the greeting."""
        try:
            conversation, secret = await self._open(request, await _decoded(request, _Open))
        except RefusalError as refusal:
            return refusal.response()
        body = {"id": conversation.id, "secret": secret, "greeting": self._fairlead.assistant.greeting}
        return JSONResponse(body, status_code=201)

    async def get_conversation(self, request: Request) -> Response:
        """``GET /chat/api/conversations/{id}``: state, place in line while a person is waited for, and transcript."""
        try:
            conversation = await self._owned(request)
        except RefusalError as refusal:
            return refusal.response()
        return JSONResponse(await self._snapshot(conversation))

    async def post_message(self, request: Request) -> Response:
        """``POST …/messages`` with ``{"id", "text"}``: the assistant's events as server-sent events.

        ``id`` is the client's own; repeating it attaches to the same answer, however often and however late.
        """
        try:
            conversation = await self._owned(request)
            ask = await _decoded(request, _Ask)
            if not self._streams.enter(client := client_group(client_address(request))):
                raise RefusalError(429, "too_many_streams", "Too many answers are on their way. Wait for one.", 5.0)
        except RefusalError as refusal:
            return refusal.response()
        try:
            turn = await self._ask(request, conversation, ask)
        except RefusalError as refusal:
            self._streams.leave(client)
            return refusal.response()
        return EventStream(_frames(turn.follow()), lambda: self._streams.leave(client))

    async def post_feedback(self, request: Request) -> Response:
        """``POST …/feedback`` with ``{"message", "kind": "thumb"|"comment", "value", "text"}``."""
        try:
            conversation = await self._owned(request)
            notice = await self._judge(request, conversation, await _decoded(request, _Judge))
        except RefusalError as refusal:
            return refusal.response()
        return JSONResponse({"notice": notice}, status_code=201)

    async def post_handoff(self, request: Request) -> Response:
        """``POST …/handoff``: ask for a person. Answers with the place in line and the office hours."""
        try:
            conversation = await self._owned(request)
            state = await self._hand_off(request, conversation, (await _decoded(request, _Person)).reason)
        except RefusalError as refusal:
            return refusal.response()
        return JSONResponse({**state, "notice": handoff_sentence(state)})

    async def post_identity(self, request: Request) -> Response:
        """``POST …/identity`` with ``{"token"}``: the embedding site says who is signed in (``policy.identity``)."""
        try:
            conversation = await self._owned(request)
            token = (await _decoded(request, _Token)).token
            await self._fairlead.assistant.identify(conversation.id, token)
        except (IdentityRefused, ConversationUnknown, ConversationClosed) as error:
            return RefusalError.of(error).response()
        except RefusalError as refusal:
            return refusal.response()
        return JSONResponse({"signed_in": True})

    async def post_contact(self, request: Request) -> Response:
        """``POST …/contact`` with ``{"email"}``: where to answer when nobody is there."""
        try:
            conversation = await self._owned(request)
            state = await self._leave_contact(request, conversation, (await _decoded(request, _Contact)).email)
        except RefusalError as refusal:
            return refusal.response()
        return JSONResponse({**state, "notice": handoff_sentence(state)})

    async def post_prompt(self, request: Request) -> Response:
        """``POST …/rating/prompt``: may this window ask for a rating? ``{"ask": true}`` once per conversation."""
        try:
            conversation = await self._owned(request)
        except RefusalError as refusal:
            return refusal.response()
        ask = await run_in_threadpool(self._fairlead.store.outcomes.prompt, conversation.id, now_us())
        return JSONResponse({"ask": ask})

    async def post_rating(self, request: Request) -> Response:
        """``POST …/rating`` with ``{"value": 1 to 5, "solved": true or false, "text"}``, each of them optional."""
        try:
            conversation = await self._owned(request)
            await self._rate(request, conversation, await _decoded(request, _Rate))
        except RefusalError as refusal:
            return refusal.response()
        return JSONResponse({"notice": RATED}, status_code=201)

    async def post_action(self, request: Request) -> Response:
        """``POST …/actions/{action}`` with ``{"yes"}``: the answer to a ``confirm`` event, as server-sent events.

        Asked again, by another window or a second click, nothing happens twice and the events say so.
        """
        try:
            conversation = await self._owned(request)
            answer = await _decoded(request, _Decide)
            self._spend(self._asks, request)
            events = await self._decide(conversation, request.path_params["action"], answer.yes)
        except RefusalError as refusal:
            return refusal.response()
        return EventStream(_all(events))

    async def get_events(self, request: Request) -> Response:
        """``GET …/events``: every message and change of state of this conversation, from whichever window or person.

        The id of an event is its number; ``Last-Event-ID``, or ``cursor`` of the transcript, is where to go on.
        """
        try:
            conversation = await self._owned(request)
            if not self._windows.enter(client := client_group(client_address(request))):
                raise RefusalError(429, "too_many_streams", "Too many windows of this chat are open. Close one.", 30.0)
        except RefusalError as refusal:
            return refusal.response()
        seen = request.headers.get("last-event-id", "")
        cursor = int(seen) if seen.isdecimal() and len(seen) < 18 else await self._live.now()
        return EventStream(self._live.watch(conversation.id, cursor), lambda: self._windows.leave(client))

    # --- what both have in common -------------------------------------------------------------------------------

    async def _owned(self, request: Request, identifier: str | None = None, secret: str | None = None) -> Conversation:
        """The conversation, if the secret proves that it is this browser's. One answer for unknown and not yours."""
        self._spend(self._reads, request)
        identifier = request.path_params["conversation"] if identifier is None else identifier
        secret = request.headers.get(SECRET_HEADER, "") if secret is None else secret
        try:
            return await run_in_threadpool(self._fairlead.assistant.authorise, identifier, secret)
        except ConversationUnknown as error:
            raise RefusalError.of(error) from error

    async def _open(self, request: Request, wish: _Open) -> tuple[Conversation, str]:
        self._spend(self._opens, request)
        channel = wish.channel if wish.channel in ("chat", "widget") else "chat"
        language = wish.language if re.fullmatch(r"[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8})*", wish.language) else ""
        visitor = wish.visitor if _CLIENT_ID.fullmatch(wish.visitor) else ""
        return await run_in_threadpool(
            self._fairlead.assistant.open_conversation, channel, language=language[:35], visitor=visitor
        )

    async def _ask(self, request: Request, conversation: Conversation, ask: _Ask) -> Turn:
        text = ask.text.strip()
        if not _CLIENT_ID.fullmatch(ask.id):
            raise RefusalError(400, "id_invalid", "The message needs an id of 8 to 64 letters, digits and dashes.")
        known = self.turns.known(conversation.id, ask.id)
        if known is not None:
            return known
        if not text:
            raise RefusalError(400, "message_empty", "Write a message first.")
        if len(text) > self._max_chars:
            limit = f"The message has {len(text)} characters; {self._max_chars} are possible. Shorten it."
            raise RefusalError(413, "message_too_long", limit)
        if conversation.state == "closed":
            raise RefusalError.of(ConversationClosed())
        self._spend(self._asks, request)
        reply = self._fairlead.assistant.reply
        try:
            return self.turns.start(conversation.id, ask.id, lambda: reply(conversation.id, text, client_id=ask.id))
        except TurnRunning as running:
            raise RefusalError.of(running, 2.0) from running

    async def _judge(self, request: Request, conversation: Conversation, judge: _Judge) -> str:
        self._spend(self._asks, request)
        if not judge.message:
            raise RefusalError(400, "feedback_invalid", "Say which answer it is about.")
        try:
            await run_in_threadpool(
                self._fairlead.assistant.feedback,
                conversation.id,
                judge.message,
                judge.kind,
                judge.value if judge.kind == "thumb" else None,
                judge.text.strip(),
            )
        except FeedbackInvalid as error:
            raise RefusalError.of(error) from error
        return "Thank you, noted." if judge.kind == "thumb" else "Thank you. People of our team read this."

    async def _hand_off(self, request: Request, conversation: Conversation, reason: str) -> dict[str, Any]:
        self._spend(self._asks, request)
        if not self._fairlead.usecase.policy.handoff.enabled:
            raise RefusalError(409, "handoff_unavailable", "No person can be reached through this chat.")
        event = await run_in_threadpool(self._fairlead.assistant.handoff, conversation.id, reason[:MAX_COMMENT_CHARS])
        state: dict[str, Any] = msgspec.to_builtins(event)
        return state

    async def _leave_contact(self, request: Request, conversation: Conversation, email: str) -> dict[str, Any]:
        self._spend(self._asks, request)
        try:
            event = await run_in_threadpool(self._fairlead.assistant.desk.leave_contact, conversation, email)
        except ServiceError as error:
            raise RefusalError.of(error) from error
        state: dict[str, Any] = msgspec.to_builtins(event)
        return state

    async def _rate(self, request: Request, conversation: Conversation, rate: _Rate) -> None:
        self._spend(self._asks, request)
        given: list[tuple[FeedbackKind, float | None, str]] = []
        if rate.value is not None:
            given.append(("csat", rate.value, rate.text.strip()))
        elif rate.text.strip():
            given.append(("comment", None, rate.text.strip()))
        if rate.solved is not None:
            given.append(("solved", float(rate.solved), ""))
        if not given:
            raise RefusalError(400, "feedback_invalid", "Choose a number, or say whether it was solved.")
        try:
            for kind, value, text in given:
                await run_in_threadpool(self._fairlead.assistant.feedback, conversation.id, "", kind, value, text)
        except FeedbackInvalid as error:
            raise RefusalError.of(error) from error

    async def _decide(self, conversation: Conversation, action: str, yes: bool) -> tuple[Any, ...]:
        waiting = (await self._live.standing(conversation))["confirm"]
        if waiting is None or waiting["action_id"] != action:
            return ()  # answered in another window, replaced or too late: what came of it is in the conversation
        try:
            return await self._fairlead.assistant.confirm_action(conversation.id, action, yes)
        except ServiceError as error:
            raise RefusalError.of(error) from error

    async def _messages(self, conversation: str) -> list[Message]:
        messages = await run_in_threadpool(self._fairlead.store.conversations.messages, conversation)
        return [message for message in messages if message.role in SPEAKERS]

    async def _snapshot(self, conversation: Conversation) -> dict[str, Any]:
        store = self._fairlead.store
        cursor = await run_in_threadpool(store.news.last)  # before the messages, so that none can fall in between
        messages = await self._messages(conversation.id)
        feedback = await run_in_threadpool(store.feedback.of_conversation, conversation.id)
        thumbs = newest_thumbs(feedback)
        return {
            "id": conversation.id,
            "turns": conversation.turns,
            "cursor": cursor,
            "rated": any(entry.kind == "csat" for entry in feedback),
            **await self._live.standing(conversation),
            "messages": [shown(message, thumbs) for message in messages],
        }

    def _spend(self, bucket: TokenBuckets, request: Request) -> None:
        wait = bucket.take(client_group(client_address(request)))
        if wait:
            seconds = math.ceil(wait)
            wish = f"Please wait {seconds} second{'s' * (seconds > 1)} and try again."
            slow = f"That was a lot in a short time. {wish}"
            raise RefusalError(429, "too_many_requests", slow, wait)


def newest_thumbs(feedback: list[Feedback]) -> dict[str, float]:
    """Message id to the thumb that counts: the newest."""
    ordered = sorted((entry for entry in feedback if entry.kind == "thumb"), key=lambda entry: entry.time)
    return {entry.target: entry.value for entry in ordered if entry.value is not None}


def _judgement(fields: dict[str, str]) -> _Judge:
    if fields.get("thumb") in ("0", "1"):
        return _Judge(message=fields.get("message", ""), kind="thumb", value=float(fields["thumb"]))
    return _Judge(message=fields.get("message", ""), kind="comment", text=fields.get("comment", ""))


def _channel(request: Request) -> str:
    return "widget" if request.url.path == "/widget" else "chat"


async def _decoded(request: Request, shape: type[Any]) -> Any:
    try:
        body = await request.body()
    except ClientDisconnect as gone:
        raise RefusalError(400, "body_incomplete", "The request broke off.") from gone
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise RefusalError(415, "not_json", "Send JSON, with content-type application/json.")
    try:
        return msgspec.json.decode(body or b"{}", type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RefusalError(400, "json_invalid", f"The request is not what was expected: {error}") from error


async def _frames(events: AsyncIterator[bytes | None]) -> AsyncIterator[bytes]:
    async for event in events:
        yield frame(event) if event is not None else b": still here\n\n"


async def _all(events: tuple[Any, ...]) -> AsyncIterator[bytes]:
    for event in events:
        yield frame(msgspec.json.encode(event))
