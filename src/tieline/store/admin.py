"""The admin token: 256 random bits, of which the hash is kept; one at a time."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import TYPE_CHECKING

from tieline.store import audit
from tieline.store.database import noted

if TYPE_CHECKING:
    from tieline.store.database import Database

PREFIX = "tla-"


def make_token(database: Database, actor: str) -> str:
    """A new token to be shown once; the earlier one is not valid any more."""
    import sqlalchemy as sa

    token = PREFIX + secrets.token_urlsafe(32)
    with database.write() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO meta (name, value) VALUES ('admin_token', :value) "
                "ON CONFLICT (name) DO UPDATE SET value = excluded.value"
            ),
            {"value": _digest(token)},
        )
        audit.note(connection, actor, "admin.token", "admin")
    return token


def forget_token(database: Database, actor: str) -> None:
    """Then only ``TIELINE_ADMIN_TOKEN`` opens the admin API."""
    from tieline.store.tables import meta

    with database.write() as connection:
        connection.execute(meta.delete().where(meta.c.name == "admin_token"))
        audit.note(connection, actor, "admin.forget", "admin")


def stored_digest(database: Database) -> str | None:
    with database.read() as connection:
        return noted(connection, "admin_token")


def matches(token: str, digest: str) -> bool:
    return hmac.compare_digest(_digest(token), digest)


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()
