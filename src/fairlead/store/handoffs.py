"""Who waits for a person, who took over, and how it ended. Texts arrive here already masked.

Every step is one transaction that checks what it changes: of two operators who press at once, one gets it and the
other is given the hand-off as it is. A hand-off is held for a time (``lease``); who holds it says so again and again.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, delete, select, update

from fairlead.errors import RecordUnknown
from fairlead.records import Handoff, Message, now_us
from fairlead.store import schema
from fairlead.store.database import Database
from fairlead.store.news import tell
from fairlead.store.rows import clean, record_of, row_of

_TABLE = schema.handoffs
FREE = {"state": "waiting", "operator": "", "operator_key": "", "lease": 0}


class Handoffs:
    """The queue behind the assistant."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # --- reading ------------------------------------------------------------------------------------------------

    def get(self, identifier: str) -> Handoff | None:
        """The request with this id."""
        return next(iter(self._found(_TABLE.c.id == clean(identifier))), None)

    def of(self, conversation: str) -> Handoff | None:
        """The newest request of a conversation."""
        found = self._found(_TABLE.c.conversation == clean(conversation))
        return found[-1] if found else None

    def all_of(self, conversation: str) -> list[Handoff]:
        """Every request of a conversation, oldest first."""
        return self._found(_TABLE.c.conversation == clean(conversation))

    def waiting(self, *, tenant: str | None = None) -> list[Handoff]:
        """Those nobody has taken yet, oldest first."""
        return self._of_tenant(tenant, _TABLE.c.state == "waiting")

    def open_ones(self, *, tenant: str | None = None) -> list[Handoff]:
        """Those that wait and those somebody has taken, oldest first."""
        return self._of_tenant(tenant, _TABLE.c.state.in_(("waiting", "taken")))

    def closed_since(self, since: int, *, tenant: str | None = None, limit: int = 20) -> list[Handoff]:
        """Those a person closed since a time, newest first."""
        found = self._of_tenant(tenant, _TABLE.c.state == "closed", _TABLE.c.closed >= since, _TABLE.c.taken > 0)
        return sorted(found, key=lambda each: -each.closed)[:limit]

    # --- the customer's side ------------------------------------------------------------------------------------

    def open(self, handoff: Handoff) -> Handoff:
        """Queue a conversation; the request that stands already, when there is one."""
        with self._database.write() as connection:
            rows = connection.execute(
                select(_TABLE).where(
                    _TABLE.c.conversation == clean(handoff.conversation), _TABLE.c.state.in_(("waiting", "taken"))
                )
            ).all()
            if rows:
                return record_of(Handoff, rows[-1])
            connection.execute(_TABLE.insert().values(row_of(handoff)))
            _settle(connection, handoff, "waiting")
        return handoff

    def withdraw(self, identifier: str) -> bool:
        """The customer needs nobody any more. False when a person has taken it by now."""
        values = {"state": "closed", "outcome": "withdrawn", "closed": now_us()}
        return self._change(identifier, _TABLE.c.state == "waiting", values, "open")[1]

    def leave_contact(self, identifier: str, contact: str) -> Handoff:
        """Where to answer when the customer is gone. Raises RecordUnknown."""
        return self._change(identifier, _TABLE.c.state != "closed", {"contact": clean(contact)}, None)[0]

    # --- the operator's side --------------------------------------------------------------------------------------

    def take(self, identifier: str, *, operator: str, key: str, lease: int) -> tuple[Handoff, bool, bool]:
        """Take it, unless someone else was faster. Returns it as it is now, whether it is ``key``'s, and since now.

        Raises RecordUnknown.
        """
        free = (_TABLE.c.state == "waiting") | ((_TABLE.c.state == "taken") & (_TABLE.c.operator_key == clean(key)))
        values = {"state": "taken", "operator": clean(operator), "operator_key": clean(key), "lease": lease}
        with self._database.write() as connection:
            before = _row(connection, identifier)
            mine = before.state == "taken" and before.operator_key == key
            taken = {"taken": before.taken or now_us()}
            changed = connection.execute(
                update(_TABLE).where(_TABLE.c.id == clean(identifier), free).values(values | taken)
            ).rowcount
            after = _row(connection, identifier)
            if changed and not mine:
                _settle(connection, after, "with_person")
        return after, bool(changed), bool(changed) and not mine

    def hold(self, identifier: str, *, key: str, lease: int, draft: str | None = None) -> tuple[Handoff, bool]:
        """Say that its holder is still there, and keep what they typed. Raises RecordUnknown."""
        values: dict[str, Any] = {"lease": lease} | ({} if draft is None else {"draft": clean(draft)})
        return self._change(identifier, _held_by(key), values, None)

    def suggest(self, identifier: str, suggestion: dict[str, Any]) -> None:
        """Keep the reply the assistant proposes."""
        with self._database.write() as connection:
            connection.execute(
                update(_TABLE).where(_TABLE.c.id == clean(identifier)).values(suggestion=clean(suggestion))
            )

    def reply(self, identifier: str, message: Message, *, key: str, lease: int) -> tuple[Handoff, bool]:
        """Add what the holder says to the conversation, once per message id; clears the draft. Raises RecordUnknown.

        False when it is no longer ``key``'s, or the id belongs to something else: then nothing is said.
        """
        talk = schema.messages
        with self._database.write() as connection:
            handoff = _row(connection, identifier)
            if handoff.state != "taken" or handoff.operator_key != key:
                return handoff, False
            known = connection.execute(select(talk).where(talk.c.id == message.id)).first()
            if known is not None:
                return handoff, known.conversation == handoff.conversation and known.role == "operator"
            connection.execute(talk.insert().values(row_of(message)))
            tell(connection, message.conversation, "message", message.id, tenant=message.tenant)
            table = schema.conversations
            connection.execute(update(table).where(table.c.id == message.conversation).values(updated=message.time))
            outcomes = schema.outcomes
            connection.execute(update(outcomes).where(outcomes.c.id == message.conversation).values(due=-now_us()))
            connection.execute(
                update(_TABLE).where(_TABLE.c.id == handoff.id).values(lease=lease, draft="", suggestion={})
            )
            return _row(connection, identifier), True

    def release(self, identifier: str, *, key: str) -> tuple[Handoff, bool]:
        """Give it back to the queue, at its old place. Raises RecordUnknown."""
        return self._change(identifier, _held_by(key), FREE, "waiting")

    def free(self, now: int) -> list[Handoff]:
        """Give back those whose holder has not been heard of in time; what they typed stays. Returns them."""
        late = (_TABLE.c.state == "taken") & (_TABLE.c.lease < now)
        if not self._found(late):
            return []
        with self._database.write() as connection:
            gone = [record_of(Handoff, row) for row in connection.execute(select(_TABLE).where(late))]
            for handoff in gone:
                connection.execute(update(_TABLE).where(_TABLE.c.id == handoff.id).values(FREE))
                _settle(connection, handoff, "waiting")
        return gone

    def close(
        self, identifier: str, *, key: str, outcome: str, note: str = "", conversation: str = "closed"
    ) -> tuple[Handoff, bool]:
        """End it with an outcome; the conversation is closed, or ``open`` again for the assistant."""
        values = {"state": "closed", "outcome": outcome, "note": clean(note), "closed": now_us(), "draft": ""}
        return self._change(identifier, _held_by(key), values, conversation)

    # --- what they share ----------------------------------------------------------------------------------------

    def _change(
        self, identifier: str, allowed: ColumnElement[bool], values: dict[str, Any], conversation: str | None
    ) -> tuple[Handoff, bool]:
        with self._database.write() as connection:
            changed = connection.execute(
                update(_TABLE).where(_TABLE.c.id == clean(identifier), allowed).values(values)
            ).rowcount
            after = _row(connection, identifier)
            if changed and conversation is not None:
                _settle(connection, after, conversation)
        return after, bool(changed)

    def _of_tenant(self, tenant: str | None, *conditions: ColumnElement[bool]) -> list[Handoff]:
        return self._found(*conditions, *([] if tenant is None else [_TABLE.c.tenant == clean(tenant)]))

    def _found(self, *conditions: ColumnElement[bool]) -> list[Handoff]:
        query = select(_TABLE).where(*conditions).order_by(_TABLE.c.time, _TABLE.c.id)
        with self._database.read() as connection:
            return [record_of(Handoff, row) for row in connection.execute(query)]


def _held_by(key: str) -> ColumnElement[bool]:
    return and_(_TABLE.c.state == "taken", _TABLE.c.operator_key == clean(key))


def _row(connection: Connection, identifier: str) -> Handoff:
    row = connection.execute(select(_TABLE).where(_TABLE.c.id == clean(identifier))).first()
    if row is None:
        raise RecordUnknown(kind="hand-off", id=identifier)
    return record_of(Handoff, row)


def _settle(connection: Connection, handoff: Handoff, state: str) -> None:
    """Bring the conversation in line, and tell."""
    table = schema.conversations
    connection.execute(update(table).where(table.c.id == handoff.conversation).values(state=state, updated=now_us()))
    outcomes = schema.outcomes
    connection.execute(update(outcomes).where(outcomes.c.id == handoff.conversation).values(due=-now_us()))
    tell(connection, handoff.conversation, "state", handoff.id, tenant=handoff.tenant)


def forget(connection: Connection, conversations: Any) -> None:
    """Delete the requests of conversations, within a transaction."""
    connection.execute(delete(_TABLE).where(_TABLE.c.conversation.in_(conversations)))
