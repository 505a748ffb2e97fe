"""Replicas tell that they live, and a configuration reaches all of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name, comment in (
        ("common", "Digest of what holds on every host: all but server and store"),
        ("replaced", "The same of the text before"),
        ("origin", "Host and path of the file that was replaced"),
    ):
        op.add_column("config_history", sa.Column(name, sa.Text(), comment=comment))
    op.create_table(
        "replicas",
        sa.Column("writer", sa.Text(), nullable=False, comment="As in writers"),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("version", sa.Text(), nullable=False, comment="Of Tieline"),
        sa.Column("started_ms", sa.BigInteger(), nullable=False),
        sa.Column("seen_ms", sa.BigInteger(), nullable=False, comment="By the clock of the database"),
        sa.Column(
            "shared", sa.Text(), nullable=False, comment="Which Redis shares its allowances; empty: none"
        ),
        sa.Column(
            "config", sa.Text(), nullable=False, comment="As config_history.common, of what is in force"
        ),
        sa.Column(
            "trouble", sa.Text(), nullable=False, comment="Why the newest configuration is not; empty: it is"
        ),
        sa.PrimaryKeyConstraint("writer", name=op.f("pk_replicas")),
    )
