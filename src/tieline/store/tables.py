"""The schema, once, for SQLite and PostgreSQL.

Money is whole pico-dollars in ``BIGINT``: 9.2 million USD for one request or one amount, far beyond any. Sums can be larger
than that, so a running sum is kept as two columns that only ever grow, ``micros`` (whole micro-dollars) and ``rest``
(pico-dollars below one), and is put together in Python: ``micros * 10**6 + rest``. Queries add up ``value / 10**6`` and
``value % 10**6`` apart for the same reason. NULL is unknown, never 0.
"""

from __future__ import annotations

import sqlalchemy as sa

metadata = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    }
)

Big = sa.BigInteger
Auto = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
"""SQLite numbers rows by itself only in a column declared INTEGER."""


def _tokens() -> list[sa.Column[int]]:
    names = (
        "input_tokens",
        "cache_read_tokens",
        "cache_write_5m_tokens",
        "cache_write_1h_tokens",
        "output_tokens",
        "reasoning_tokens",
    )
    return [sa.Column(name, Big) for name in names]


meta = sa.Table(
    "meta",
    metadata,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)

records = sa.Table(
    "records",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("at_ms", Big, nullable=False),
    sa.Column("writer", sa.Text, nullable=False),
    sa.Column("seq", Big, nullable=False),
    sa.Column("hash", sa.LargeBinary, nullable=False),
    sa.Column("key_id", sa.Text),
    sa.Column("project", sa.Text),
    sa.Column("model_asked", sa.Text, nullable=False),
    sa.Column("provider", sa.Text),
    sa.Column("model", sa.Text),
    sa.Column("deployment", sa.Text),
    sa.Column("input_tokens", Big),
    sa.Column("output_tokens", Big),
    sa.Column("cost", Big),
    sa.Column("charged", Big),
    sa.Column("wasted", Big),
    sa.Column("status", sa.Integer, nullable=False),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column(
        "alone", sa.SmallInteger, nullable=False, comment="1: its only attempt is this row, it has no entries"
    ),
    sa.Column("session", sa.Text),
    sa.Column("run", sa.Text),
    sa.Column(
        "body", sa.LargeBinary, nullable=False, comment="The whole record, MessagePack; what is hashed"
    ),
    sa.Index(None, "at_ms"),
    sa.UniqueConstraint("writer", "seq"),
)
"""What queries filter, group and add up; all else is in the body. Each column costs every request some 0.2 us."""
for _name in ("key_id", "project"):
    _given = records.c[_name].is_not(None)
    sa.Index(None, records.c[_name], records.c.at_ms, sqlite_where=_given, postgresql_where=_given)

entries = sa.Table(
    "entries",
    metadata,
    sa.Column("record_id", sa.Text, primary_key=True),
    sa.Column("number", sa.Integer, primary_key=True),
    sa.Column("at_ms", Big, nullable=False),
    sa.Column("key_id", sa.Text),
    sa.Column("project", sa.Text),
    sa.Column("provider", sa.Text, nullable=False),
    sa.Column("model", sa.Text, nullable=False),
    sa.Column("deployment", sa.Text, nullable=False),
    sa.Column("credential", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("status", sa.Integer),
    sa.Column("started_ms", sa.Double, nullable=False),
    sa.Column("first_token_ms", sa.Double),
    sa.Column("ended_ms", sa.Double, nullable=False),
    *_tokens(),
    sa.Column("estimated", sa.SmallInteger, nullable=False),
    sa.Column("cost", Big),
    sa.Column("upstream_id", sa.Text),
)
"""The attempts of requests whose row does not say it all: several, or one that failed."""

record_tags = sa.Table(
    "record_tags",
    metadata,
    sa.Column("record_id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
    sa.Index(None, "name", "value"),
)

writers = sa.Table(
    "writers",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("seq", Big, nullable=False),
    sa.Column("hash", sa.LargeBinary, nullable=False),
    sa.Column("base_seq", Big, nullable=False, comment="Records up to here have been pruned"),
    sa.Column("base_hash", sa.LargeBinary, nullable=False),
    sa.Column("at_ms", Big, nullable=False),
)

spend = sa.Table(
    "spend",
    metadata,
    sa.Column(
        "scope", sa.Text, primary_key=True, comment="key:ID, project:ID/tag:NAME=VALUE, run:PROJECT:RUN"
    ),
    sa.Column(
        "slot", Big, primary_key=True, comment="Unix time / 900 s: the days of every time zone begin at one"
    ),
    sa.Column(
        "writer", sa.Text, primary_key=True, comment="So that writers never wait for one another's rows"
    ),
    sa.Column("micros", Big, nullable=False),
    sa.Column("rest", Big, nullable=False),
    sa.Column("requests", Big, nullable=False),
    sa.Column("unknown", Big, nullable=False, comment="Requests whose charge is not known"),
)

projects = sa.Table(
    "projects",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False, unique=True),
    sa.Column(
        "rules", sa.Text, nullable=False, comment="JSON: models, profiles, limits, budgets, tags, policy"
    ),
    sa.Column("created_ms", Big, nullable=False),
    sa.Column("archived_ms", Big),
)

keys = sa.Table(
    "keys",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("project_id", sa.Text, sa.ForeignKey("projects.id"), nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("rules", sa.Text, nullable=False),
    sa.Column("created_ms", Big, nullable=False),
    sa.Column("expires_ms", Big),
    sa.Column("revoked_ms", Big),
    sa.Index(None, "project_id"),
)

key_secrets = sa.Table(
    "key_secrets",
    metadata,
    sa.Column("digest", sa.LargeBinary, primary_key=True, comment="SHA-256 of the secret"),
    sa.Column("key_id", sa.Text, sa.ForeignKey("keys.id"), nullable=False),
    sa.Column("hint", sa.Text, nullable=False, comment="The last four characters"),
    sa.Column("created_ms", Big, nullable=False),
    sa.Column("expires_ms", Big, comment="Set when a rotation replaced it"),
    sa.Index(None, "key_id"),
)

credits = sa.Table(
    "credits",
    metadata,
    sa.Column("id", Auto, primary_key=True, autoincrement=True),
    sa.Column("project_id", sa.Text, sa.ForeignKey("projects.id"), nullable=False),
    sa.Column("at_ms", Big, nullable=False),
    sa.Column("amount", Big, nullable=False),
    sa.Column("note", sa.Text, nullable=False),
    sa.Index(None, "project_id"),
)

credentials = sa.Table(
    "credentials",
    metadata,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("provider", sa.Text, nullable=False),
    sa.Column("label", sa.Text, nullable=False),
    sa.Column("cipher_key", sa.Text, nullable=False, comment="Which key of ours encrypted it"),
    sa.Column("nonce", sa.LargeBinary, nullable=False),
    sa.Column("secret", sa.LargeBinary, nullable=False, comment="AES-GCM"),
    sa.Column("created_ms", Big, nullable=False),
    sa.Column("disabled_ms", Big),
    sa.UniqueConstraint("provider", "label"),
)

audit = sa.Table(
    "audit",
    metadata,
    sa.Column("seq", Auto, primary_key=True, autoincrement=True),
    sa.Column("at_ms", Big, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("detail", sa.Text, nullable=False),
    sa.Column("hash", sa.LargeBinary, nullable=False),
)

config_history = sa.Table(
    "config_history",
    metadata,
    sa.Column("id", Auto, primary_key=True, autoincrement=True),
    sa.Column("at_ms", Big, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("digest", sa.Text, nullable=False),
    sa.Column("text", sa.Text, nullable=False),
    sa.Column("common", sa.Text, comment="Digest of what holds on every host: all but server and store"),
    sa.Column("replaced", sa.Text, comment="The same of the text before"),
    sa.Column("origin", sa.Text, comment="Host and path of the file that was replaced"),
)

replicas = sa.Table(
    "replicas",
    metadata,
    sa.Column("writer", sa.Text, primary_key=True, comment="As in writers"),
    sa.Column("host", sa.Text, nullable=False),
    sa.Column("pid", sa.Integer, nullable=False),
    sa.Column("version", sa.Text, nullable=False, comment="Of Tieline"),
    sa.Column("started_ms", Big, nullable=False),
    sa.Column("seen_ms", Big, nullable=False, comment="By the clock of the database"),
    sa.Column("shared", sa.Text, nullable=False, comment="Which Redis shares its allowances; empty: none"),
    sa.Column("config", sa.Text, nullable=False, comment="As config_history.common, of what is in force"),
    sa.Column(
        "trouble", sa.Text, nullable=False, comment="Why the newest configuration is not; empty: it is"
    ),
)
