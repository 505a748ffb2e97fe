"""The admin API under ``/admin/api``; described by ``/admin/api/openapi.json``, read by people at ``/admin/api/docs``."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any

import msgspec
from litestar import Request, Response, Router
from litestar.openapi.datastructures import ResponseSpec
from litestar.openapi.spec import Components, SecurityScheme
from sqlalchemy.exc import DataError, SQLAlchemyError, StatementError

from tieline.server.control import admin_accounts, admin_config, admin_credentials, admin_records
from tieline.server.control.admin_auth import guard_of
from tieline.server.control.admin_shapes import Problem, Trouble
from tieline.types.errors import ConfigError, Fault, TielineError, fault_of

if TYPE_CHECKING:
    from tieline.gateway import Gateway

log = logging.getLogger("tieline")

PATH = "/admin/api"
_SECURITY = "adminToken"
_FIELD = re.compile(r"field `([^`]+)`")
_STATUSES = {
    400: "The request is not as it must be: `param` names the field.",
    401: "No admin token, or a wrong one.",
    403: "A virtual key is no admin token.",
    404: "There is nothing of this name.",
    405: "Not this method.",
    409: "Not as things stand.",
    413: "Too large.",
    503: "The database does not answer; try again.",
}


def router(gateway: Gateway) -> Router:
    handlers = [
        *admin_accounts.routes(gateway),
        *admin_credentials.routes(gateway),
        *admin_records.routes(gateway),
        *admin_config.routes(gateway),
    ]
    for handler in handlers:
        handler.responses = {
            status: ResponseSpec(Problem, description=text, generate_examples=False)
            for status, text in _STATUSES.items()
        }
    return Router(
        path=PATH,
        route_handlers=handlers,
        guards=[guard_of(gateway)],
        exception_handlers={Exception: _failed},
        security=[{_SECURITY: []}],
        tags=["admin"],
        cache_control=None,
        response_headers={"cache-control": "no-store"},
    )


def components() -> Components:
    scheme = SecurityScheme(
        type="http", scheme="bearer", description="TIELINE_ADMIN_TOKEN, or one made by `tieline admin token`."
    )
    return Components(security_schemes={_SECURITY: scheme})


def _failed(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    status, trouble = _trouble(error)
    if status >= 500 and status != 503:
        log.error("the admin API failed at %s", request.url.path, exc_info=error)
    headers = {"cache-control": "no-store"}
    if status == 401:
        headers["www-authenticate"] = "Bearer"
    if allowed := (getattr(error, "headers", None) or {}).get("Allow"):
        headers["allow"] = allowed
    body = msgspec.json.encode(Problem(error=trouble))
    return Response(body, status_code=status, media_type="application/json", headers=headers)


def _trouble(error: Exception) -> tuple[int, Trouble]:
    if isinstance(error, ConfigError):
        where = f"{error.place} " if error.place else ""
        return 409, Trouble(code="not_configured", message=f"{where}{error.message}", hint=error.hint)
    if isinstance(error, TielineError):
        fault = fault_of(error)
        return fault.status, Trouble(
            code=fault.code, message=error.message, param=error.param, hint=error.hint
        )
    if isinstance(error, DataError | UnicodeError) or (
        isinstance(error, StatementError) and isinstance(error.orig, OverflowError | ValueError)
    ):
        return 400, Trouble(
            code="invalid_request", message="The database cannot hold a value that was given."
        )
    if isinstance(error, SQLAlchemyError):
        hint = "Traffic goes on; try again when /health/ready says that the database is back."
        return 503, Trouble(code="database_away", message="The database does not answer.", hint=hint)
    status = getattr(error, "status_code", 500)
    if status >= 500:
        fault: Fault = fault_of(error)  # type: ignore[no-redef]
        return 500, Trouble(code=fault.code, message=fault.message)
    return status, _of_framework(status, error)


def _of_framework(status: int, error: Exception) -> Trouble:
    """Litestar's own: a body or a parameter that does not fit, an unknown path, a wrong method."""
    extra = getattr(error, "extra", None)
    if isinstance(extra, list) and extra and isinstance(extra[0], dict):
        first = extra[0]
        message, field = str(first.get("message", "")), str(first.get("key", ""))
        if field in ("", "data"):
            named = _FIELD.search(message)
            field = named[1] if named else ""
        return Trouble(code="invalid_request", message=message, param=field or None)
    if str(getattr(error, "detail", "")) == "'data'":  # Litestar's word for a body that is not there
        return Trouble(code="invalid_request", message="There is no body.", hint="Send a JSON object.")
    codes = {
        404: "not_found",
        405: "method_not_allowed",
        413: "request_too_large",
        415: "unsupported_media_type",
    }
    return Trouble(code=codes.get(status, "invalid_request"), message=str(getattr(error, "detail", "")))
