"""Who may use the admin API: apart from inference keys, which open nothing here.

A token opens it: ``TIELINE_ADMIN_TOKEN`` or one made by ``tieline admin token``. While there is neither, and no virtual key
either, it may be *read* from the machine itself; changing anything always takes a token.
"""

from __future__ import annotations

import asyncio
import hmac
from typing import TYPE_CHECKING, Any

from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler
from litestar.types import Guard

from tieline.admit.pages import is_loopback, names_loopback
from tieline.store import admin
from tieline.types.errors import ConfigError, Forbidden, Unauthenticated

if TYPE_CHECKING:
    from tieline.gateway import Gateway

VARIABLE = "TIELINE_ADMIN_TOKEN"
MIN_CHARS = 20
MAX_CHARS = 512
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_PROXIED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")
_HINT = (
    "Make one with `tieline admin token`, or set TIELINE_ADMIN_TOKEN; send it as `Authorization: Bearer …`."
)


class AdminDoor:
    """Stands before every route under ``/admin/api``."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._token = gateway.environ.get(VARIABLE, "").strip()

    async def check(self, connection: ASGIConnection[Any, Any, Any, Any]) -> None:
        """Notes the actor for the audit log. Raises Unauthenticated or Forbidden."""
        connection.scope["tieline_actor"] = await self._actor(connection)  # type: ignore[typeddict-unknown-key]

    async def _actor(self, connection: ASGIConnection[Any, Any, Any, Any]) -> str:
        database = self._gateway.database
        digest = await asyncio.to_thread(admin.stored_digest, database) if database is not None else None
        given = _bearer(connection.headers.get("authorization"))
        if given is not None:
            return self._known(given, digest)
        if self._token or digest is not None:
            raise Unauthenticated("The admin API needs its token.", hint=_HINT)
        if connection.scope["method"] not in _READING:  # type: ignore[typeddict-item]
            raise Unauthenticated(
                "Changing anything needs an admin token, and there is none yet.", hint=_HINT
            )
        if self._gateway.admission.has_keys or not _is_local(connection):
            raise Unauthenticated("The admin API needs a token, and there is none yet.", hint=_HINT)
        return "admin:local"

    def _known(self, given: str, digest: str | None) -> str:
        if len(given) > MAX_CHARS:
            raise Unauthenticated("This is not the admin token.", hint=_HINT)
        if self._token:
            if len(self._token) < MIN_CHARS:
                raise ConfigError(
                    f"is too short: {MIN_CHARS} characters at least.",
                    place=VARIABLE,
                    hint="`tieline admin token` makes a good one.",
                )
            if hmac.compare_digest(given.encode(), self._token.encode()):
                return "admin"
        if digest is not None and admin.matches(given, digest):
            return "admin"
        if given.startswith("tl-"):
            raise Forbidden("A virtual key does not open the admin API.", hint=_HINT)
        raise Unauthenticated("This is not the admin token.", hint=_HINT)


def guard_of(gateway: Gateway) -> Guard:
    """As Litestar wants it: a function, since it copies what else it is given."""
    door = AdminDoor(gateway)

    async def guard(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        await door.check(connection)

    return guard


def _bearer(header: str | None) -> str | None:
    if not header:
        return None
    return header[7:].strip() if header[:7].lower() == "bearer " else header.strip()


def _is_local(connection: ASGIConnection[Any, Any, Any, Any]) -> bool:
    """From this machine, to this machine by name, and not sent by a page of another site or through a proxy."""
    headers = connection.headers
    # nginx says nothing of itself unless it is told to; before 1.29.7 it speaks HTTP/1.0, as nobody else does any more.
    # A newer one that adds no header cannot be told from a program of this machine.
    if any(name in headers for name in _PROXIED) or connection.scope["http_version"] == "1.0":
        return False
    if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
        return False
    origin = headers.get("origin")
    if origin is not None and not names_loopback(origin.partition("://")[2]):
        return False
    client = connection.client
    return client is not None and is_loopback(client.host) and names_loopback(headers.get("host", ""))
