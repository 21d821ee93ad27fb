"""Conversations with their messages, and feedback. Texts arrive here already masked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, delete, func, literal_column, or_, select, update

from fairlead.errors import RecordUnknown
from fairlead.records import Conversation, ConversationState, Feedback, Message, now_us
from fairlead.store import handoffs, outcomes, schema
from fairlead.store.database import Database
from fairlead.store.news import tell
from fairlead.store.rows import clean, like, record_of, row_of


class Conversations:
    """Episodes and what was said in them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, conversation: Conversation, *, visitor: str = "") -> Conversation:
        """Keep a new conversation. ``visitor`` is what conversations of one browser share."""
        row = outcomes.fresh(conversation.id, conversation.time, conversation.tenant, visitor)
        with self._database.write() as connection:
            connection.execute(schema.conversations.insert().values(row_of(conversation)))
            connection.execute(schema.outcomes.insert().values(clean(row)))
        return conversation

    def get(self, identifier: str) -> Conversation | None:
        """The conversation with this id."""
        table = schema.conversations
        with self._database.read() as connection:
            row = connection.execute(select(table).where(table.c.id == clean(identifier))).first()
        return None if row is None else record_of(Conversation, row)

    def add(self, message: Message) -> Message:
        """Append a message."""
        with self._database.write() as connection:
            connection.execute(schema.messages.insert().values(row_of(message)))
            tell(connection, message.conversation, "message", message.id, tenant=message.tenant)
            _look_again(connection, message.conversation)
        return message

    def messages(self, conversation: str) -> list[Message]:
        """Everything said in a conversation, in the order it was stored, which is the order everybody was told."""
        table = schema.messages
        query = select(table).where(table.c.conversation == clean(conversation)).order_by(literal_column("rowid"))
        with self._database.read() as connection:
            return [record_of(Message, row) for row in connection.execute(query)]

    def message(self, identifier: str) -> Message | None:
        """The message with this id."""
        table = schema.messages
        with self._database.read() as connection:
            row = connection.execute(select(table).where(table.c.id == clean(identifier))).first()
        return None if row is None else record_of(Message, row)

    def update(
        self,
        identifier: str,
        *,
        state: ConversationState | None = None,
        title: str | None = None,
        turns: int | None = None,
        updated: int | None = None,
    ) -> Conversation:
        """Change what is given and return the conversation as it is now. Raises RecordUnknown."""
        table = schema.conversations
        given = {"state": state, "title": clean(title), "turns": turns, "updated": updated}
        values = {name: value for name, value in given.items() if value is not None}
        with self._database.write() as connection:
            if values:
                connection.execute(update(table).where(table.c.id == clean(identifier)).values(values))
                _look_again(connection, clean(identifier))
            row = connection.execute(select(table).where(table.c.id == clean(identifier))).first()
            if row is not None and state is not None:
                tell(connection, row.id, "state", tenant=row.tenant)
        if row is None:
            raise RecordUnknown(kind="conversation", id=identifier)
        return record_of(Conversation, row)

    def list(
        self,
        *,
        since: int,
        until: int,
        tenant: str | None = None,
        state: ConversationState | None = None,
        limit: int = 50,
        before: str | None = None,
        search: str | None = None,
    ) -> list[Conversation]:
        """Conversations opened at ``since <= time < until``, newest first.

        ``before`` is the id of the last one already seen; ``search`` finds text in titles and messages, literally.
        """
        table = schema.conversations
        query = _filtered(select(table), since=since, until=until, tenant=tenant, state=state, search=search)
        if before is not None:
            seen = select(table.c.time).where(table.c.id == clean(before)).scalar_subquery()
            query = query.where(or_(table.c.time < seen, (table.c.time == seen) & (table.c.id < clean(before))))
        query = query.order_by(table.c.time.desc(), table.c.id.desc()).limit(limit)
        with self._database.read() as connection:
            return [record_of(Conversation, row) for row in connection.execute(query)]

    def count(
        self,
        *,
        since: int,
        until: int,
        tenant: str | None = None,
        state: ConversationState | None = None,
        search: str | None = None,
    ) -> int:
        """How many conversations ``list`` would find without a limit."""
        query = select(func.count()).select_from(schema.conversations)
        query = _filtered(query, since=since, until=until, tenant=tenant, state=state, search=search)
        with self._database.read() as connection:
            return int(connection.execute(query).scalar_one())

    def expire(self, before: int, *, tenant: str | None = None) -> int:
        """Delete conversations last touched before a time, with all that hangs on them, leaving no byte behind.

        Returns how many went. The file is rewritten when any went, which takes time in proportion to its size.
        """
        table = schema.conversations
        old = select(table.c.id).where(func.max(table.c.updated, table.c.time) < before)
        if tenant is not None:
            old = old.where(table.c.tenant == clean(tenant))
        with self._database.write(durable=True) as connection:
            talk = schema.messages
            said = select(talk.c.id).where(talk.c.conversation.in_(old))
            traced = select(talk.c.inference).where(talk.c.conversation.in_(old), talk.c.inference != "")
            target = schema.feedback.c.target
            connection.execute(
                delete(schema.feedback).where(or_(target.in_(old), target.in_(said), target.in_(traced)))
            )
            handoffs.forget(connection, old)
            connection.execute(delete(schema.outcomes).where(schema.outcomes.c.id.in_(old)))
            connection.execute(delete(schema.news).where(schema.news.c.conversation.in_(old)))
            connection.execute(delete(schema.actions).where(schema.actions.c.conversation.in_(old)))
            connection.execute(delete(talk).where(talk.c.conversation.in_(old)))
            gone = connection.execute(delete(table).where(table.c.id.in_(old))).rowcount
        if gone:
            self._database.vacuum()
            self._database.truncate_log()
        return int(gone)


class FeedbackLog:
    """What people said about answers. Append-only; the newest of an author wins when read about one target."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, feedback: Feedback) -> Feedback:
        """Append."""
        with self._database.write() as connection:
            connection.execute(schema.feedback.insert().values(row_of(feedback)))
        return feedback

    def of(self, target: str) -> list[Feedback]:
        """What holds about a message, inference or conversation, oldest first."""
        return self._newest(schema.feedback.c.target == clean(target))

    def of_conversation(self, conversation: str) -> list[Feedback]:
        """What holds about a conversation, its messages and their inferences, oldest first."""
        talk = schema.messages
        mine = talk.c.conversation == clean(conversation)
        target = schema.feedback.c.target
        return self._newest(
            or_(
                target == clean(conversation),
                target.in_(select(talk.c.id).where(mine)),
                target.in_(select(talk.c.inference).where(mine, talk.c.inference != "")),
            )
        )

    def _newest(self, condition: ColumnElement[bool]) -> list[Feedback]:
        table = schema.feedback
        with self._database.read() as connection:
            rows = connection.execute(select(table).where(condition).order_by(table.c.time, table.c.id)).all()
        found = (record_of(Feedback, row) for row in rows)
        newest = {(item.target, item.kind, item.author or item.subject): item for item in found}
        return sorted(newest.values(), key=lambda item: (item.time, item.id))

    def list(self, since: int, until: int, limit: int = 100, *, tenant: str | None = None) -> list[Feedback]:
        """Everything ever said at ``since <= time < until``, newest first."""
        table = schema.feedback
        query = select(table).where(table.c.time >= since, table.c.time < until)
        if tenant is not None:
            query = query.where(table.c.tenant == clean(tenant))
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(table.c.time.desc(), table.c.id.desc()).limit(limit)).all()
        return [record_of(Feedback, row) for row in rows]


def _look_again(connection: Connection, conversation: str) -> None:
    """What is known of how it ended no longer holds."""
    table = schema.outcomes
    connection.execute(update(table).where(table.c.id == conversation).values(due=-now_us()))


def _filtered(
    query: Select[Any],
    *,
    since: int,
    until: int,
    tenant: str | None,
    state: str | None,
    search: str | None,
) -> Select[Any]:
    table = schema.conversations
    conditions: Iterable[ColumnElement[bool]] = [table.c.time >= since, table.c.time < until]
    query = query.where(*conditions)
    if tenant is not None:
        query = query.where(table.c.tenant == clean(tenant))
    if state is not None:
        query = query.where(table.c.state == state)
    if search:
        pattern = like(clean(search))
        said = select(schema.messages.c.id).where(
            schema.messages.c.conversation == table.c.id, schema.messages.c.text.like(pattern, escape="\\")
        )
        query = query.where(or_(table.c.title.like(pattern, escape="\\"), said.exists()))
    return query
