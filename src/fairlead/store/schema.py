"""The tables, as SQLAlchemy Core sees them. Migrations lead to exactly this (a test compares the two).

Every row that is produced by a use case or is about a person carries ``tenant``, ``subject``, ``spec_hash`` and
``release``. Times are microseconds since the epoch, UTC; ids are UUIDv7. This module knows no queries.
"""

from __future__ import annotations

from typing import Any

import msgspec
from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, MetaData, String, Table, Text, text
from sqlalchemy.engine import Dialect
from sqlalchemy.types import Float, TypeDecorator

HEAD = "0009"
"""The revision these tables are; a test proves that it is Alembic's head."""

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}


class Json(TypeDecorator[Any]):
    """A value kept as JSON text."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        """Encode."""
        return None if value is None else msgspec.json.encode(value).decode()

    def process_result_value(self, value: Any, dialect: Dialect) -> Any:
        """Decode to builtins."""
        return None if value is None else msgspec.json.decode(value)


metadata = MetaData(naming_convention=NAMING)


def _text(name: str) -> Column[str]:
    return Column(name, Text, nullable=False)


def _id(name: str) -> Column[str]:
    return Column(name, String(64), nullable=False)


def _number(name: str, *, nullable: bool = False) -> Column[int]:
    return Column(name, BigInteger, nullable=nullable)


def _flag(name: str, *, nullable: bool = False) -> Column[bool]:
    return Column(name, Boolean, nullable=nullable)


def _record(name: str, *columns: Any) -> Table:
    """A table for a Record: its seven columns first."""
    return Table(
        name,
        metadata,
        Column("id", String(64), primary_key=True),
        _number("time"),
        _id("tenant"),
        _text("subject"),
        _text("usecase"),
        _id("spec_hash"),
        _id("release"),
        *columns,
    )


conversations = _record(
    "conversations",
    _text("channel"),
    _text("language"),
    _text("state"),
    _number("updated"),
    _number("turns"),
    _text("title"),
    _text("secret_hash"),
    Index(None, "tenant", "time"),
    Index(None, "time"),
    Index(None, "updated"),
    Index(None, "subject"),
)

messages = _record(
    "messages",
    _id("conversation"),
    _text("role"),
    _text("text"),
    Column("sources", Json, nullable=False),
    _id("inference"),
    Column("facts", Json, nullable=False),
    Index(None, "conversation", "time"),
    Index(None, "subject"),
)

feedback = _record(
    "feedback",
    _text("target_kind"),
    _id("target"),
    _text("kind"),
    Column("value", Float, nullable=True),
    _text("text"),
    _text("author"),
    _text("question"),
    Index(None, "target"),
    Index(None, "time"),
    Index(None, "subject"),
)

handoffs = _record(
    "handoffs",
    _id("conversation"),
    _text("reason"),
    _text("summary"),
    _text("state"),
    _text("operator"),
    _id("operator_key"),
    _number("taken"),
    _number("lease"),
    _number("closed"),
    _text("outcome"),
    _text("note"),
    _text("draft"),
    _text("contact"),
    Column("suggestion", Json, nullable=False),
    Index(None, "conversation"),
    Index(None, "state", "time"),
    Index(None, "subject"),
)

outcomes = Table(
    "outcomes",
    metadata,
    Column("id", String(64), primary_key=True),
    _number("time"),
    _id("tenant"),
    _id("visitor"),
    _number("prompted"),
    _number("due"),
    _number("computed"),
    _number("turns"),
    _flag("handed_over"),
    _flag("reached_person"),
    _flag("abandoned", nullable=True),
    _flag("contained", nullable=True),
    _flag("deflected", nullable=True),
    _flag("resolved", nullable=True),
    _flag("recontacted", nullable=True),
    _number("again"),
    _text("confirmed"),
    _text("ending"),
    Column("csat", Float, nullable=True),
    Index(None, "due"),
    Index(None, "tenant", "time"),
    Index(None, "visitor"),
)

news = Table(
    "news",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=True),
    _number("time"),
    _id("tenant"),
    _id("conversation"),
    _text("kind"),
    _id("ref"),
    Index(None, "conversation", "sequence"),
    sqlite_autoincrement=True,
)

actions = _record(
    "actions",
    _id("conversation"),
    _text("tool"),
    _text("title"),
    Column("rows", Json, nullable=False),
    _text("arguments"),
    _text("customer"),
    Column("amount", Float, nullable=True),
    _text("state"),
    _text("actor"),
    _text("result"),
    _number("updated"),
    Index(None, "conversation", "time"),
    Index(None, "state", "updated"),
    Index(None, "customer", "tool", "time"),
    Index(None, "subject"),
)

# One question at a time: a second proposal of a conversation is refused by the database itself.
Index("uq_actions_open", actions.c.conversation, unique=True, sqlite_where=text("state = 'proposed'"))

releases = Table(
    "releases",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("usecase", String(255), primary_key=True),
    _number("time"),
    _id("tenant"),
    _text("subject"),
    _id("spec_hash"),
    _id("release"),
    _text("variant"),
    _text("content"),
    _text("state"),
    Index(None, "usecase", "state"),
)

datasets = _record(
    "datasets",
    _text("name"),
    _number("version"),
    _text("purpose"),
    _id("content"),
    _number("rows"),
    _text("licence"),
    _text("source"),
    _id("parent"),
    Column("lineage", Json, nullable=False),
    Column("tags", Json, nullable=False),
    Index(None, "name", "version", unique=True),
)

verdicts = _record(
    "verdicts",
    _text("objective"),
    _text("step"),
    _text("outcome"),
    Column("value", Float, nullable=True),
    Column("low", Float, nullable=True),
    Column("high", Float, nullable=True),
    _number("n"),
    _number("needed", nullable=True),
    _text("kind"),
    _text("bound"),
    Column("confidence", Float, nullable=False),
    Column("slice", Json, nullable=False),
    _id("dataset"),
    _number("excluded"),
    _text("method"),
    _text("note"),
    Index(None, "usecase", "time"),
    Index(None, "release"),
)

calibrations = _record(
    "calibrations",
    _text("judge"),
    _id("hash"),
    _text("kind"),
    _text("labels"),
    _id("content"),
    _number("n"),
    Column("figures", Json, nullable=False),
    Index(None, "hash", "time"),
    Index(None, "judge", "time"),
)

runs = _record(
    "runs",
    _text("step"),
    _text("dataset"),
    _id("content"),
    _text("state"),
    _number("ended"),
    _number("cost", nullable=True),
    Column("plan", Json, nullable=False),
    Column("report", Json, nullable=False),
    Index(None, "usecase", "time"),
)

answers = _record(
    "answers",
    _id("key"),
    _text("variant"),
    _text("sample"),
    _number("epoch"),
    _text("error"),
    Column("answer", Json, nullable=False),
    Index(None, "key", "time"),
    Index(None, "subject"),
)

results = _record(
    "results",
    _id("run"),
    _text("variant"),
    _text("sample"),
    _id("answered"),
    _number("epoch"),
    _flag("cached"),
    Column("scores", Json, nullable=False),
    Index(None, "run", "sample"),
    Index(None, "answered"),
    Index(None, "subject"),
)

usecases = Table(
    "usecases",
    metadata,
    Column("spec_hash", String(64), primary_key=True),
    Column("name", String(255), nullable=False),
    _number("time"),
    _text("content"),
    Index(None, "name", "time"),
)

audit = Table(
    "audit",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=True),
    _id("id"),
    _number("time"),
    _id("tenant"),
    _text("subject"),
    _text("usecase"),
    _id("spec_hash"),
    _id("release"),
    _text("actor"),
    _text("action"),
    _text("resource"),
    _text("reason"),
    Column("detail", Json, nullable=False),
    _id("previous"),
    _id("hash"),
    Index(None, "time"),
    Index(None, "id", unique=True),
)

keys = Table(
    "keys",
    metadata,
    Column("id", String(64), primary_key=True),
    _text("name"),
    _id("prefix"),
    _id("digest"),
    Column("scopes", Json, nullable=False),
    _id("tenant"),
    _number("created"),
    _number("revoked", nullable=True),
    _number("expires", nullable=True),
    _id("origin"),
    Column("models", Json, nullable=False),
    Column("operations", Json, nullable=False),
    _text("priority"),
    Column("limits", Json, nullable=False),
    Index(None, "digest", unique=True),
    Index(None, "prefix"),
)


def _account() -> list[Column[str]]:
    return [_text("usecase"), _id("tenant"), _text("scope"), _text("name"), _id("period")]


accounts = Table(
    "accounts",
    metadata,
    *_account(),
    _number("paid"),
    _number("held"),
    Index(None, "usecase", "period", "scope", "name", "tenant", unique=True),
)

holdings = Table(
    "holdings",
    metadata,
    _id("holder"),
    *_account(),
    _number("amount"),
    Index(None, "holder", "usecase", "period", "scope", "name", "tenant", unique=True),
)

ledger = Table(
    "ledger",
    metadata,
    Column("sequence", Integer, primary_key=True, autoincrement=True),
    _number("time"),
    _id("holder"),
    *_account(),
    _text("kind"),
    _number("amount"),
    _number("requests"),
    _text("note"),
    Index(None, "usecase", "time"),
    sqlite_autoincrement=True,
)

segments = Table(
    "segments",
    metadata,
    Column("id", String(64), primary_key=True),
    _text("path"),
    _text("state"),
    _text("detail"),
    _number("rows"),
    _number("bytes"),
    _id("digest"),
    _number("min_time"),
    _number("max_time"),
    _text("min_id"),
    _text("max_id"),
    _number("format"),
    _number("created"),
    Index(None, "state", "max_time"),
)

rolled_journals = Table(
    "rolled_journals",
    metadata,
    Column("id", String(64), primary_key=True),
    _number("rolled"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(64), primary_key=True),
    _number("time"),
    _id("tenant"),
    _id("kind"),
    _text("key"),
    Column("payload", Json, nullable=False),
    _text("state"),
    _number("due"),
    _number("every"),
    _number("attempt"),
    _number("beat"),
    _text("worker"),
    _flag("cancelling"),
    _number("failures"),
    _number("most_failures"),
    _number("done"),
    _number("before"),
    _number("total"),
    _text("note"),
    _number("updated"),
    Index(None, "state", "due"),
    Index(None, "time"),
)

Index("uq_jobs_key", jobs.c.kind, jobs.c.key, unique=True, sqlite_where=text("key != ''"))

files = _record(
    "files",
    _text("name"),
    _text("purpose"),
    _number("bytes"),
    _number("expires", nullable=True),
    Index(None, "tenant", "time"),
    Index(None, "expires"),
    Index(None, "subject"),
)

batches = _record(
    "batches",
    _id("key"),
    Column("scopes", Json, nullable=False),
    _text("endpoint"),
    _text("window"),
    _id("input_file"),
    _id("output_file"),
    _id("error_file"),
    _text("status"),
    Column("times", Json, nullable=False),
    _number("expires"),
    _number("keep"),
    _text("model"),
    _text("backend"),
    Column("metadata", Json, nullable=False),
    Column("errors", Json, nullable=False),
    _number("total"),
    _number("completed"),
    _number("failed"),
    _number("input_tokens"),
    _number("output_tokens"),
    _number("cost", nullable=True),
    Column("estimate", Json, nullable=False),
    _number("attempt"),
    Column("upstream", Json, nullable=False),
    _text("note"),
    Index(None, "tenant", "time"),
    Index(None, "status"),
    Index(None, "subject"),
)

meta = Table(
    "meta",
    metadata,
    Column("name", String(64), primary_key=True),
    _text("value"),
)
