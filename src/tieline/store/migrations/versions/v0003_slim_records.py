"""Fewer columns and indexes for each record, and no entry for an attempt that the record says all about.

Nothing is lost: what was in the columns is in the body.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_KEPT = (
    "id",
    "at_ms",
    "writer",
    "seq",
    "hash",
    "key_id",
    "project",
    "model_asked",
    "provider",
    "model",
    "deployment",
    "input_tokens",
    "output_tokens",
    "cost",
    "charged",
    "wasted",
    "status",
    "outcome",
    "attempts",
    "session",
    "run",
    "body",
)
_SAME = ("deployment", "provider", "model", "cost")
_TOKENS = (
    "input_tokens",
    "cache_read_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "output_tokens",
    "reasoning_tokens",
)


def upgrade() -> None:
    _put_aside()
    _create()
    _copy()
    op.execute("DROP TABLE records_0001")
    op.drop_index("ix_entries_at_ms", "entries")
    op.execute("DELETE FROM entries WHERE record_id IN (SELECT id FROM records WHERE alone = 1)")


def _put_aside() -> None:
    for name in ("at_ms", "key_id_at_ms", "project_at_ms"):
        op.drop_index(f"ix_records_{name}", "records")
    if op.get_bind().dialect.name == "postgresql":
        # There the names of constraints are shared by all tables.
        op.drop_constraint("uq_records_writer_seq", "records")
        op.drop_constraint("pk_records", "records")
        op.create_index("ix_records_0001", "records", ["id"])
    op.rename_table("records", "records_0001")


def _create() -> None:
    op.create_table(
        "records",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("writer", sa.Text(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.Column("hash", sa.LargeBinary(), nullable=False),
        sa.Column("key_id", sa.Text(), nullable=True),
        sa.Column("project", sa.Text(), nullable=True),
        sa.Column("model_asked", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=True),
        sa.Column("model", sa.Text(), nullable=True),
        sa.Column("deployment", sa.Text(), nullable=True),
        sa.Column("input_tokens", sa.BigInteger(), nullable=True),
        sa.Column("output_tokens", sa.BigInteger(), nullable=True),
        sa.Column("cost", sa.BigInteger(), nullable=True),
        sa.Column("charged", sa.BigInteger(), nullable=True),
        sa.Column("wasted", sa.BigInteger(), nullable=True),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column(
            "alone",
            sa.SmallInteger(),
            nullable=False,
            comment="1: its only attempt is this row, it has no entries",
        ),
        sa.Column("session", sa.Text(), nullable=True),
        sa.Column("run", sa.Text(), nullable=True),
        sa.Column(
            "body", sa.LargeBinary(), nullable=False, comment="The whole record, MessagePack; what is hashed"
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_records")),
        sa.UniqueConstraint("writer", "seq", name=op.f("uq_records_writer_seq")),
    )
    op.create_index(op.f("ix_records_at_ms"), "records", ["at_ms"], unique=False)
    for name in ("key_id", "project"):
        given = sa.text(f"{name} IS NOT NULL")
        op.create_index(
            op.f(f"ix_records_{name}_at_ms"),
            "records",
            [name, "at_ms"],
            unique=False,
            sqlite_where=given,
            postgresql_where=given,
        )


def _copy() -> None:
    old = sa.table("records_0001", *map(sa.column, {*_KEPT, *_TOKENS}))
    new = sa.table("records", *map(sa.column, (*_KEPT, "alone")))
    entries = sa.table("entries", *map(sa.column, ("record_id", *_SAME, *_TOKENS)))
    same = [old.c[name].is_not_distinct_from(entries.c[name]) for name in (*_SAME, *_TOKENS)]
    alone = sa.and_(old.c.attempts == 1, sa.exists().where(entries.c.record_id == old.c.id, *same))
    values = [*(old.c[name] for name in _KEPT), sa.case((alone, 1), else_=0)]
    # In the order of the chains, in which verifying and pruning read them.
    rows = sa.select(*values).order_by(old.c.writer, old.c.seq)
    op.execute(new.insert().from_select([*_KEPT, "alone"], rows))
