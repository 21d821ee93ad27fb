"""What a key opens, how fast, for how much, and which key it replaces."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_KEPT = "id, name, prefix, digest, scopes, tenant, created, revoked, expires"


def upgrade() -> None:
    """Make the table of keys anew, with the keys there are: SQLite cannot add columns before a constraint."""
    op.drop_index(op.f("ix_keys_digest"), table_name="keys")
    op.drop_index(op.f("ix_keys_prefix"), table_name="keys")
    op.execute("ALTER TABLE keys RENAME TO keys_before")
    op.create_table(
        "keys",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("prefix", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("scopes", sa.Text(), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("created", sa.BigInteger(), nullable=False),
        sa.Column("revoked", sa.BigInteger(), nullable=True),
        sa.Column("expires", sa.BigInteger(), nullable=True),
        sa.Column("origin", sa.String(length=64), nullable=False),
        sa.Column("models", sa.Text(), nullable=False),
        sa.Column("operations", sa.Text(), nullable=False),
        sa.Column("priority", sa.Text(), nullable=False),
        sa.Column("limits", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_keys")),
    )
    op.create_index(op.f("ix_keys_digest"), "keys", ["digest"], unique=True)
    op.create_index(op.f("ix_keys_prefix"), "keys", ["prefix"], unique=False)
    op.execute(
        f"INSERT INTO keys ({_KEPT}, origin, models, operations, priority, limits) "  # noqa: S608  constants only
        f"SELECT {_KEPT}, id, '[]', '[]', 'standard', '{{}}' FROM keys_before"
    )
    op.drop_table("keys_before")
