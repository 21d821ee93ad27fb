"""Taking over by people, outcomes of conversations, and what happened in them for those who listen."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def _record(*columns: sa.Column[object]) -> list[sa.Column[object]]:
    return [
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("usecase", sa.Text(), nullable=False),
        sa.Column("spec_hash", sa.String(length=64), nullable=False),
        sa.Column("release", sa.String(length=64), nullable=False),
        *columns,
    ]


def _remake(name: str, columns: list[sa.Column[object]], added: dict[str, str], indexes: dict[str, list[str]]) -> None:
    """Make a table anew with further columns, filled with constants: SQLite adds columns after the constraints only."""
    for index in indexes:
        op.drop_index(op.f(index), table_name=name)
    op.rename_table(name, f"{name}_before")
    op.create_table(name, *columns, sa.PrimaryKeyConstraint("id", name=op.f(f"pk_{name}")))
    kept = ", ".join(f'"{column.name}"' for column in columns if column.name not in added)
    new, values = ", ".join(f'"{column}"' for column in added), ", ".join(added.values())
    op.execute(f"INSERT INTO {name} ({kept}, {new}) SELECT {kept}, {values} FROM {name}_before")  # noqa: S608
    op.drop_table(f"{name}_before")
    for index, over in indexes.items():
        op.create_index(op.f(index), name, over, unique=False)


def upgrade() -> None:
    """Widen hand-offs and feedback; add outcomes (of conversations that are there already, too) and news."""
    _remake(
        "feedback",
        _record(
            sa.Column("target_kind", sa.Text(), nullable=False),
            sa.Column("target", sa.String(length=64), nullable=False),
            sa.Column("kind", sa.Text(), nullable=False),
            sa.Column("value", sa.Float(), nullable=True),
            sa.Column("text", sa.Text(), nullable=False),
            sa.Column("author", sa.Text(), nullable=False),
            sa.Column("question", sa.Text(), nullable=False),
        ),
        {"question": "''"},
        {"ix_feedback_target": ["target"], "ix_feedback_time": ["time"], "ix_feedback_subject": ["subject"]},
    )
    _remake(
        "handoffs",
        _record(
            sa.Column("conversation", sa.String(length=64), nullable=False),
            sa.Column("reason", sa.Text(), nullable=False),
            sa.Column("summary", sa.Text(), nullable=False),
            sa.Column("state", sa.Text(), nullable=False),
            sa.Column("operator", sa.Text(), nullable=False),
            sa.Column("operator_key", sa.String(length=64), nullable=False),
            sa.Column("taken", sa.BigInteger(), nullable=False),
            sa.Column("lease", sa.BigInteger(), nullable=False),
            sa.Column("closed", sa.BigInteger(), nullable=False),
            sa.Column("outcome", sa.Text(), nullable=False),
            sa.Column("note", sa.Text(), nullable=False),
            sa.Column("draft", sa.Text(), nullable=False),
            sa.Column("contact", sa.Text(), nullable=False),
            sa.Column("suggestion", sa.Text(), nullable=False),
        ),
        {
            "operator_key": "''", "taken": "0", "lease": "0", "closed": "0", "outcome": "''", "note": "''",
            "draft": "''", "contact": "''", "suggestion": "'{}'",
        },
        {
            "ix_handoffs_conversation": ["conversation"],
            "ix_handoffs_state_time": ["state", "time"],
            "ix_handoffs_subject": ["subject"],
        },
    )  # fmt: skip
    op.create_table(
        "outcomes",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("visitor", sa.String(length=64), nullable=False),
        sa.Column("prompted", sa.BigInteger(), nullable=False),
        sa.Column("due", sa.BigInteger(), nullable=False),
        sa.Column("computed", sa.BigInteger(), nullable=False),
        sa.Column("turns", sa.BigInteger(), nullable=False),
        sa.Column("handed_over", sa.Boolean(), nullable=False),
        sa.Column("reached_person", sa.Boolean(), nullable=False),
        sa.Column("abandoned", sa.Boolean(), nullable=True),
        sa.Column("contained", sa.Boolean(), nullable=True),
        sa.Column("deflected", sa.Boolean(), nullable=True),
        sa.Column("resolved", sa.Boolean(), nullable=True),
        sa.Column("recontacted", sa.Boolean(), nullable=True),
        sa.Column("again", sa.BigInteger(), nullable=False),
        sa.Column("confirmed", sa.Text(), nullable=False),
        sa.Column("ending", sa.Text(), nullable=False),
        sa.Column("csat", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outcomes")),
    )
    op.create_index(op.f("ix_outcomes_due"), "outcomes", ["due"], unique=False)
    op.create_index(op.f("ix_outcomes_tenant_time"), "outcomes", ["tenant", "time"], unique=False)
    op.create_index(op.f("ix_outcomes_visitor"), "outcomes", ["visitor"], unique=False)
    op.execute(
        "INSERT INTO outcomes (id, time, tenant, visitor, prompted, due, computed, turns, handed_over, reached_person,"
        " again, confirmed, ending) SELECT id, time, tenant, '', 0, 0, 0, 0, 0, 0, 0, '', '' FROM conversations"
    )
    op.create_table(
        "news",
        sa.Column("sequence", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("conversation", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("ref", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_news")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_news_conversation_sequence"), "news", ["conversation", "sequence"], unique=False)
