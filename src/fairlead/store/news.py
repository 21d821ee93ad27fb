"""What happened, in the order of the commits of all processes, for those who listen to conversations.

Who writes a message or changes a state writes a line of news in the same transaction, so that nothing is told that is
not there and nothing that is there goes untold. Numbers only grow, also over deletions. Knows nothing of listeners.
"""

from __future__ import annotations

from typing import Literal

from sqlalchemy import Connection, delete, func, select

from fairlead.records import News as Line
from fairlead.records import now_us
from fairlead.store import schema
from fairlead.store.database import Database
from fairlead.store.rows import clean, record_of

KEPT_US = 7 * 86_400 * 1_000_000
"""How long news are kept: longer than a browser that lost its connection listens on."""
MOST = 1_000


class News:
    """Reading news. Written by ``tell`` within other transactions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def change(self) -> int:
        """A number that changes when anyone commits anything; a few microseconds."""
        return self._database.change()

    def last(self) -> int:
        """The number of the newest line; 0 when there never was one."""
        with self._database.read() as connection:
            return int(connection.execute(select(func.max(schema.news.c.sequence))).scalar() or 0)

    def first(self) -> int:
        """The number of the oldest line that is kept; 0 when there is none."""
        with self._database.read() as connection:
            return int(connection.execute(select(func.min(schema.news.c.sequence))).scalar() or 0)

    def after(self, sequence: int, *, conversation: str | None = None, limit: int = MOST) -> list[Line]:
        """Lines newer than ``sequence``, oldest first."""
        table = schema.news
        query = select(table).where(table.c.sequence > sequence)
        if conversation is not None:
            query = query.where(table.c.conversation == clean(conversation))
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(table.c.sequence).limit(limit)).all()
        return [record_of(Line, row) for row in rows]


def tell(
    connection: Connection, conversation: str, kind: Literal["message", "state"], ref: str = "", *, tenant: str
) -> None:
    """Add a line within a transaction; lines past their time go."""
    table, now = schema.news, now_us()
    added = connection.execute(
        table.insert().values(time=now, tenant=tenant, conversation=conversation, kind=kind, ref=ref)
    )
    sequence = int(added.inserted_primary_key[0]) if added.inserted_primary_key else 0
    if sequence % 256 == 0:
        connection.execute(delete(table).where(table.c.time < now - KEPT_US))
