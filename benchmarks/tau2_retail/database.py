"""The shop's documents in an SQLite file: read, changed in one transaction, compared with another state.

A change with a key is made once, however often it is tried. Each call of a tool leaves a line in ``calls``, the truth
about what was done and refused. Knows no rules.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from benchmarks.tau2_retail.rules import Change, Document, Refused

KINDS: Final = ("orders", "users", "products")
_TABLES: Final = """
CREATE TABLE documents (kind TEXT, id TEXT, body TEXT NOT NULL, PRIMARY KEY (kind, id)) WITHOUT ROWID;
CREATE TABLE done (key TEXT PRIMARY KEY, said TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE helped (conversation TEXT PRIMARY KEY, customer TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE calls (
    number INTEGER PRIMARY KEY, key TEXT, customer TEXT, tool TEXT NOT NULL, arguments TEXT NOT NULL, refused TEXT
);
"""


class Database:
    """One copy of the shop, opened by one thread."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, timeout=10, isolation_level=None)

    @classmethod
    def create(cls, path: Path, content: Mapping[str, Mapping[str, Document]]) -> None:
        """Write ``content`` (documents by kind and id, as in db.json) into a new file."""
        path.unlink(missing_ok=True)
        connection = sqlite3.connect(path, isolation_level=None)
        connection.executescript(f"BEGIN; {_TABLES}")
        rows = [(kind, each, _dump(body)) for kind in KINDS for each, body in content[kind].items()]
        connection.executemany("INSERT INTO documents VALUES (?, ?, ?)", rows)
        connection.execute("COMMIT")
        connection.close()

    @staticmethod
    def restore(path: Path, pristine: Path) -> None:
        """Make ``path`` the state of ``pristine`` again; nobody may have it open."""
        shutil.copyfile(pristine, path)

    def close(self) -> None:
        """Let go of the file."""
        self._connection.close()

    # --- documents --------------------------------------------------------------------------------------------------

    def order(self, order_id: str) -> Document | None:
        """An order."""
        return self._get("orders", order_id)

    def user(self, user_id: str) -> Document | None:
        """A customer's profile."""
        return self._get("users", user_id)

    def product(self, product_id: str) -> Document | None:
        """A type of product with its variants."""
        return self._get("products", product_id)

    def all(self, kind: str) -> Iterator[Document]:
        """All documents of a kind, by id."""
        query = "SELECT body FROM documents WHERE kind = ? ORDER BY id"
        for (body,) in self._connection.execute(query, (kind,)):
            yield json.loads(body)

    def _get(self, kind: str, identifier: str) -> Document | None:
        query = "SELECT body FROM documents WHERE kind = ? AND id = ?"
        row = self._connection.execute(query, (kind, identifier)).fetchone()
        return json.loads(row[0]) if row else None

    # --- changing ---------------------------------------------------------------------------------------------------

    def change(
        self, key: str, plan: Callable[[Database], Change], *, conversation: str = "", customer: str = ""
    ) -> str:
        """Make the change that ``plan`` gives, once for each key; returns the sentence after it. Raises Refused.

        In one conversation only one customer is helped: the first for whom something is changed.
        """
        with self._transaction():
            if conversation:
                query = (
                    "INSERT INTO helped VALUES (?, ?) ON CONFLICT DO UPDATE SET customer = customer RETURNING customer"
                )
                (first,) = self._connection.execute(query, (conversation, customer)).fetchone()
                if first != customer:
                    raise Refused("I can only help one customer in a conversation.")
            row = self._connection.execute("SELECT said FROM done WHERE key = ?", (key,)).fetchone() if key else None
            if row:
                return str(row[0])
            change = plan(self)
            for kind, document, name in (("orders", change.order, "order_id"), ("users", change.user, "user_id")):
                if document is not None:
                    query = "UPDATE documents SET body = ? WHERE kind = ? AND id = ?"
                    self._connection.execute(query, (_dump(document), kind, document[name]))
            if key:
                self._connection.execute("INSERT INTO done VALUES (?, ?)", (key, change.done))
        return change.done

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK")
            raise
        self._connection.execute("COMMIT")

    # --- what happened ----------------------------------------------------------------------------------------------

    def note(self, tool: str, arguments: Any, *, key: str = "", customer: str = "", refused: str | None = None) -> None:
        """Write down that a tool was called, and why it refused if it did."""
        row = (key, customer, tool, _dump(arguments), refused)
        self._connection.execute(
            "INSERT INTO calls (key, customer, tool, arguments, refused) VALUES (?, ?, ?, ?, ?)", row
        )

    def calls(self) -> list[dict[str, Any]]:
        """The calls so far, in order: key, customer, tool, arguments, refused."""
        names = ("key", "customer", "tool", "arguments", "refused")
        rows = self._connection.execute("SELECT key, customer, tool, arguments, refused FROM calls ORDER BY number")
        return [{**dict(zip(names, row, strict=True)), "arguments": json.loads(row[3])} for row in rows]

    def digest(self) -> str:
        """SHA-256 (hex) of all documents, whatever order their keys were written in."""
        found = hashlib.sha256()
        for row in self._connection.execute("SELECT kind, id, body FROM documents ORDER BY kind, id"):
            found.update("\n".join(row).encode())
        return found.hexdigest()

    def differences(self, other: Database) -> list[str]:
        """Where the documents of the two differ: the id, and the first keys whose values do."""
        found = []
        for kind in KINDS:
            for mine, theirs in zip(self.all(kind), other.all(kind), strict=True):
                if mine != theirs:
                    keys = sorted(key for key in mine.keys() | theirs.keys() if mine.get(key) != theirs.get(key))
                    name = mine.get("order_id") or mine.get("user_id") or mine.get("product_id")
                    found.append(f"{name}: {', '.join(keys)}")
        return found


def _dump(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


__all__ = ["Change", "Database", "Refused"]
