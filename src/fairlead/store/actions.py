"""Actions: what tools would change, from the question to the customer to its end. Every change is compare-and-set.

Two tabs, two processes or a repeated click may all try to move an action on; one of them does. Arguments arrive here
sealed and texts masked. Knows no tools.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import Connection, func, select, update

from fairlead.errors import ActionMoveInvalid
from fairlead.records import Action, ActionState, now_us
from fairlead.store import schema
from fairlead.store.database import Database
from fairlead.store.rows import clean, record_of, row_of

MOVES: Final[Mapping[ActionState, frozenset[ActionState]]] = {
    "proposed": frozenset({"confirmed", "awaiting_approval", "declined", "expired"}),
    "awaiting_approval": frozenset({"confirmed", "rejected"}),
    "confirmed": frozenset({"running", "failed"}),
    "running": frozenset({"done", "failed", "unknown"}),
    "unknown": frozenset({"done", "failed"}),
}
"""Where an action may go from where it stands. States that are missing are ends."""
_SPENT: Final = ("awaiting_approval", "confirmed", "running", "done", "unknown")
"""States in which an amount counts against the cap of a customer: it has left, or may still leave."""


class Actions:
    """Actions of all conversations."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, action: Action) -> Action:
        """Keep a proposal. One that still waits in the same conversation is declined by it."""
        table = schema.actions
        waiting = (table.c.conversation == clean(action.conversation)) & (table.c.state == "proposed")
        with self._database.write() as connection:
            if action.state == "proposed":
                values = {"state": "declined", "actor": "replaced", "updated": action.time}
                connection.execute(update(table).where(waiting).values(values))
            connection.execute(table.insert().values(row_of(action)))
        return action

    def get(self, identifier: str) -> Action | None:
        """The action with this id."""
        table = schema.actions
        with self._database.read() as connection:
            row = connection.execute(select(table).where(table.c.id == clean(identifier))).first()
        return None if row is None else record_of(Action, row)

    def list(
        self,
        *,
        conversation: str | None = None,
        states: Sequence[ActionState] = (),
        since: int = 0,
        until: int | None = None,
        tenant: str | None = None,
        limit: int = 100,
    ) -> list[Action]:
        """Actions proposed at ``since <= time < until``, newest first; of all states when ``states`` is empty."""
        table = schema.actions
        query = select(table).where(table.c.time >= since)
        if until is not None:
            query = query.where(table.c.time < until)
        if conversation is not None:
            query = query.where(table.c.conversation == clean(conversation))
        if states:
            query = query.where(table.c.state.in_(states))
        if tenant is not None:
            query = query.where(table.c.tenant == clean(tenant))
        query = query.order_by(table.c.time.desc(), table.c.id.desc()).limit(limit)
        with self._database.read() as connection:
            return [record_of(Action, row) for row in connection.execute(query)]

    def move(
        self,
        identifier: str,
        from_state: ActionState,
        to_state: ActionState,
        *,
        actor: str,
        result: str | None = None,
    ) -> bool:
        """Move an action on if it stands at ``from_state``; False when it does not (any more), or is not there.

        ``running`` is on disk before this returns: what is begun after it can be found after a crash. Raises
        ActionMoveInvalid for a way that does not exist.
        """
        if to_state not in MOVES.get(from_state, ()):
            raise ActionMoveInvalid(before=from_state, after=to_state)
        with self._database.write(durable=to_state == "running") as connection:
            return _move(connection, identifier, from_state, to_state, actor, result)

    def confirm(self, identifier: str, *, actor: str, cap: float | None = None, since: int = 0) -> ActionState | None:
        """Take the customer's yes: ``confirmed``, or ``awaiting_approval`` when it would exceed the cap.

        ``cap`` is the most that actions of one tool and customer proposed from ``since`` on may come to together,
        this one included. None when the action does not wait for a yes any more. One transaction, so that two
        confirmations at once cannot both find room under the cap.
        """
        table = schema.actions
        with self._database.write(durable=True) as connection:
            row = connection.execute(select(table).where(table.c.id == clean(identifier))).first()
            if row is None or row.state != "proposed":
                return None
            target: ActionState = "confirmed"
            if cap is not None:
                spent = _spent(connection, row, since)
                if row.amount is None or spent + row.amount > cap:
                    target = "awaiting_approval"
            return target if _move(connection, identifier, "proposed", target, actor, None) else None

    def spent(self, action: Action, since: int) -> float:
        """What other actions of this tool and customer proposed from ``since`` on come to, as a cap counts them."""
        with self._database.read() as connection:
            return _spent(connection, action, since)

    def settle(self, *, proposed_before: int, begun_before: int) -> Sequence[Action]:
        """End what nobody will end: unanswered proposals, and actions whose process is gone. Returns them as they are.

        Proposals last touched before ``proposed_before`` expire. Those confirmed before ``begun_before`` but never
        begun have failed; those begun and not ended since are unknown.
        """
        table = schema.actions
        rules: tuple[tuple[ActionState, ActionState, int], ...] = (
            ("proposed", "expired", proposed_before),
            ("confirmed", "failed", begun_before),
            ("running", "unknown", begun_before),
        )
        ended: list[str] = []
        for before, after, limit in rules:
            stale = select(table.c.id).where(table.c.state == before, table.c.updated < limit)
            with self._database.read() as connection:
                found = connection.execute(stale).scalars().all()
            if found:
                with self._database.write(durable=True) as connection:
                    ended += [each for each in found if _move(connection, each, before, after, "time", None)]
        return [action for each in ended if (action := self.get(each)) is not None]


def _spent(connection: Connection, action: Any, since: int) -> float:
    """Sum of the amounts of the other actions (a record or a row) that share a cap with this one."""
    table = schema.actions
    # Whoever is not known has no allowance to share: then only the conversation is counted.
    whose = table.c.customer == action.customer if action.customer else table.c.conversation == action.conversation
    query = select(func.coalesce(func.sum(table.c.amount), 0.0)).where(
        whose,
        table.c.id != action.id,
        table.c.tenant == action.tenant,
        table.c.tool == action.tool,
        table.c.time >= since,
        table.c.state.in_(_SPENT),
    )
    return float(connection.execute(query).scalar_one())


def _move(
    connection: Connection,
    identifier: str,
    from_state: ActionState,
    to_state: ActionState,
    actor: str,
    result: str | None,
) -> bool:
    table = schema.actions
    values = {"state": to_state, "actor": clean(actor), "updated": now_us()}
    if result is not None:
        values["result"] = clean(result)
    query = update(table).where(table.c.id == clean(identifier), table.c.state == from_state)
    return connection.execute(query.values(values)).rowcount == 1
