"""How conversations ended: one row for each, made with it, and looked at again when it is due. Judges nothing."""

from __future__ import annotations

import msgspec
from sqlalchemy import ColumnElement, select, update

from fairlead.records import ConversationOutcome, now_us
from fairlead.store import schema
from fairlead.store.database import Database
from fairlead.store.rows import clean, record_of, row_of

_TABLE = schema.outcomes
NEVER = 1 << 62
"""``due`` of an outcome that nothing can change any more, short of the customer's return."""
_KEPT = {"id", "time", "tenant", "visitor", "prompted"}


class Outcomes:
    """Rows by conversation."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, conversation: str) -> ConversationOutcome | None:
        """The outcome of a conversation, as it was last computed."""
        return next(iter(self._found(_TABLE.c.id == clean(conversation), limit=1)), None)

    def of(self, conversations: list[str]) -> dict[str, ConversationOutcome]:
        """The outcomes of some conversations, by id."""
        found = self._found(_TABLE.c.id.in_([clean(each) for each in conversations]), limit=len(conversations))
        return {each.id: each for each in found}

    def between(
        self, *, since: int, until: int, tenant: str | None = None, limit: int = 100_000
    ) -> list[ConversationOutcome]:
        """Outcomes of conversations opened at ``since <= time < until`` with a customer's message in them."""
        conditions = [_TABLE.c.time >= since, _TABLE.c.time < until, _TABLE.c.turns > 0]
        if tenant is not None:
            conditions.append(_TABLE.c.tenant == clean(tenant))
        return self._found(*conditions, limit=limit)

    def due(self, now: int, limit: int = 200) -> list[ConversationOutcome]:
        """Those to look at again, the longest due first."""
        return self._found(_TABLE.c.due <= now, limit=limit, order=_TABLE.c.due)

    def of_visitor(self, visitor: str, *, tenant: str) -> list[ConversationOutcome]:
        """Every conversation of one browser, oldest first."""
        if not visitor:
            return []
        return self._found(_TABLE.c.visitor == clean(visitor), _TABLE.c.tenant == clean(tenant), limit=1_000)

    def put(self, outcome: ConversationOutcome, *, seen: int) -> None:
        """Keep an outcome. ``seen`` is the ``due`` it was computed from: one made due meanwhile stays due."""
        values = {name: value for name, value in row_of(outcome).items() if name not in _KEPT}
        with self._database.write() as connection:
            connection.execute(update(_TABLE).where(_TABLE.c.id == outcome.id, _TABLE.c.due == seen).values(values))

    def touch(self, conversation: str) -> None:
        """Have it computed again."""
        with self._database.write() as connection:
            connection.execute(update(_TABLE).where(_TABLE.c.id == clean(conversation)).values(due=-now_us()))

    def prompt(self, conversation: str, now: int) -> bool:
        """Note that the customer is asked for a rating. True for the first one only, so that it is asked once."""
        with self._database.write() as connection:
            changed = connection.execute(
                update(_TABLE).where(_TABLE.c.id == clean(conversation), _TABLE.c.prompted == 0).values(prompted=now)
            ).rowcount
        return bool(changed)

    def _found(
        self, *conditions: ColumnElement[bool], limit: int, order: ColumnElement[int] = _TABLE.c.time
    ) -> list[ConversationOutcome]:
        query = select(_TABLE).where(*conditions).order_by(order, _TABLE.c.id).limit(limit)
        with self._database.read() as connection:
            return [record_of(ConversationOutcome, row) for row in connection.execute(query)]


def fresh(identifier: str, time: int, tenant: str, visitor: str) -> dict[str, object]:
    """The row of a conversation that has just begun."""
    return msgspec.to_builtins(ConversationOutcome(id=identifier, time=time, tenant=tenant, visitor=visitor))  # type: ignore[no-any-return]
