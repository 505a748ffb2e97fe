"""Which version a database has, and how it comes to the present one.

The usual start reads one row and imports no Alembic (which takes 0.2 s). A new database is made directly; a test holds
that to the same schema as the migrations.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from tieline.types.errors import ConfigError

if TYPE_CHECKING:
    from sqlalchemy import Connection

log = logging.getLogger("tieline")

VERSIONS = ("0001", "0002", "0003")
"""Every released schema, oldest first; a test holds it to the scripts in ``migrations/versions``."""
HEAD = VERSIONS[-1]


def prepare(connection: Connection) -> None:
    """Brings the schema to HEAD. Call inside a transaction that excludes other starters. Raises ConfigError."""
    version = version_of(connection)
    if version == HEAD:
        return
    if version is None:
        create(connection)
    elif version in VERSIONS:
        _migrate(connection, version)
    else:
        raise ConfigError(
            f"the database has schema {version}, this Tieline knows up to {HEAD}: a newer Tieline made it.",
            place="store.database",
            hint="Install that version or a later one, or name another database.",
        )


def _migrate(connection: Connection, version: str) -> None:
    import sqlalchemy as sa

    if connection.dialect.name == "postgresql":
        # Of any other use a statement that takes so long is given up.
        connection.execute(sa.text("SET LOCAL statement_timeout = 0"))
    count = connection.execute(sa.text("SELECT count(*) FROM records")).scalar_one()
    log.warning(
        "the database is brought from schema %s to %s, once: for its %d records this takes a while (half a minute for 500,000) "
        "and up to three times its room on the disk",
        version,
        HEAD,
        count,
    )
    upgrade(connection)
    log.warning("the database has schema %s", HEAD)


def version_of(connection: Connection) -> str | None:
    """None for an empty database. Raises ConfigError for one with tables of somebody else under our names."""
    import sqlalchemy as sa

    inspector = sa.inspect(connection)
    if not inspector.has_table("alembic_version"):
        if inspector.has_table("records"):
            raise ConfigError(
                "the database has a table `records` that is not Tieline's.",
                place="store.database",
                hint="Give Tieline a database of its own.",
            )
        return None
    row = connection.execute(sa.text("SELECT version_num FROM alembic_version")).first()
    return row[0] if row else None


def create(connection: Connection) -> None:
    """The whole schema at once, in an empty database."""
    import sqlalchemy as sa

    from tieline.store.tables import metadata

    metadata.create_all(connection, checkfirst=False)
    connection.execute(
        sa.text(
            "CREATE TABLE IF NOT EXISTS alembic_version (version_num VARCHAR(32) NOT NULL, "
            "CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
        )
    )
    connection.execute(sa.text("DELETE FROM alembic_version"))
    connection.execute(sa.text("INSERT INTO alembic_version VALUES (:head)"), {"head": HEAD})


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Runs the migrations in the caller's transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "tieline.store:migrations")
    config.attributes["connection"] = connection
    command.upgrade(config, revision)
