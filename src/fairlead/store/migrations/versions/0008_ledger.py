"""What budgets have paid, what processes hold of them, and the ledger of both."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def _account() -> list[sa.Column[str]]:
    return [
        sa.Column("usecase", sa.Text(), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("period", sa.String(length=64), nullable=False),
    ]


def upgrade() -> None:
    """Create the tables of budgets."""
    account = ["usecase", "period", "scope", "name", "tenant"]
    op.create_table(
        "accounts",
        *_account(),
        sa.Column("paid", sa.BigInteger(), nullable=False),
        sa.Column("held", sa.BigInteger(), nullable=False),
    )
    op.create_index(op.f("ix_accounts_usecase_period_scope_name_tenant"), "accounts", account, unique=True)
    op.create_table(
        "holdings",
        sa.Column("holder", sa.String(length=64), nullable=False),
        *_account(),
        sa.Column("amount", sa.BigInteger(), nullable=False),
    )
    op.create_index(
        op.f("ix_holdings_holder_usecase_period_scope_name_tenant"), "holdings", ["holder", *account], unique=True
    )
    op.create_table(
        "ledger",
        sa.Column("sequence", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("time", sa.BigInteger(), nullable=False),
        sa.Column("holder", sa.String(length=64), nullable=False),
        *_account(),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("sequence", name=op.f("pk_ledger")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_ledger_usecase_time"), "ledger", ["usecase", "time"], unique=False)
