"""The control plane's routes."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

import msgspec
from litestar import Litestar, MediaType, Request, Response, get, post
from litestar.openapi import OpenAPIConfig
from msgspec import Struct, field

import tieline
from tieline.dialects import DIALECT_NAMES, paths
from tieline.server.control import admin
from tieline.server.control.landing import landing_page
from tieline.server.control.reference import Reference
from tieline.types.call import secret_of
from tieline.types.errors import Fault, InvalidRequest, NotFound, TielineError, fault_of

if TYPE_CHECKING:
    from tieline.gateway import Gateway

_PAST = "req_"
"""How the id of a request begins."""
_NOT_OURS = (b"content-type", b"content-length")


class Hypothesis(Struct, forbid_unknown_fields=True, kw_only=True):
    """A request that is not sent: what ``POST /v1/tieline/explain`` takes; or, as ``model``, the id of a past one."""

    model: str
    input_tokens: int = 1000
    max_output_tokens: int = 500
    intent: str | None = None
    features: list[str] = field(default_factory=list)
    """tools, images, json_schema, …"""
    dialect: str = "openai_chat"


def build(gateway: Gateway) -> Litestar:
    @get("/", media_type=MediaType.HTML, include_in_schema=False)
    async def landing() -> str:
        return landing_page(gateway.readiness())

    @get("/metrics", include_in_schema=False, media_type=MediaType.TEXT)
    async def metrics() -> Response[bytes]:
        body, media_type = gateway.exposition()
        # As a header: to a media type that is text the framework adds a charset, and this one has its own.
        return Response(body, headers={"content-type": media_type})

    @get(["/v1/models", "/v1beta/models"])
    async def models(request: Request[Any, Any, Any]) -> Any:
        """Every name that the caller's key may use, in the shape of the caller's SDK."""
        return gateway.models_listing(_dialect_of(request, request.url.path), _secret(request))

    @get(["/v1/models/{model_id:path}", "/v1beta/models/{model_id:path}"])
    async def model(request: Request[Any, Any, Any]) -> Any:
        name = str(request.path_params["model_id"]).lstrip("/")
        return gateway.model_entry(name, _dialect_of(request, request.url.path), _secret(request))

    @get("/v1/requests/{request_id:str}")
    async def request_record(request: Request[Any, Any, Any]) -> Response[bytes]:
        """What is recorded of one request; a stream's final figures."""
        record = await gateway.request_record(str(request.path_params["request_id"]), _secret(request))
        return Response(msgspec.json.encode(record), media_type=MediaType.JSON)

    @post("/v1/tieline/explain", status_code=200)
    async def explain(request: Request[Any, Any, Any]) -> Response[bytes]:
        """Every candidate for a request like this with the caller's key, and why the others are not. Nothing is sent.

        With a request id as ``model``: the decision that was taken for it, replayed from its record.
        """
        secret = _secret(request)
        gateway.authenticate(secret)
        asked = _decoded(await request.body())
        if asked.model.startswith(_PAST):
            told = await gateway.explain_past(asked.model, secret)
            return Response(msgspec.json.encode(told, enc_hook=str), media_type=MediaType.JSON)
        found = gateway.explain(
            asked.model,
            input_tokens=asked.input_tokens,
            max_output_tokens=asked.max_output_tokens,
            intent=asked.intent,
            features=frozenset(asked.features),
            dialect=asked.dialect,
            secret=secret,
        )
        return Response(msgspec.json.encode(found, enc_hook=str), media_type=MediaType.JSON)

    @get(f"{admin.PATH}/openapi.json", include_in_schema=False)
    async def description(request: Request[Any, Any, Any]) -> Response[bytes]:
        schema = request.app.openapi_schema.to_schema()
        return Response(msgspec.json.encode(schema), media_type=MediaType.JSON)

    handlers = [landing, metrics, models, model, request_record, explain, description]
    admin_router = admin.router(gateway)
    served = sorted(
        {
            "/health/live",
            "/health/ready",
            *paths.EXACT,
            *(path for handler in handlers for path in handler.paths),
            *(route.path for route in admin_router.routes),
        }
    )
    return Litestar(
        [*handlers, admin_router],
        exception_handlers={Exception: _failed(gateway, served)},
        openapi_config=OpenAPIConfig(
            title="Tieline",
            version=tieline.__version__,
            path=f"{admin.PATH}/docs",
            render_plugins=[Reference(path="/")],
            components=admin.components(),
        ),
        debug=False,
        logging_config=None,
    )


def _decoded(body: bytes) -> Hypothesis:
    try:
        asked = msgspec.json.decode(body, type=Hypothesis)
    except msgspec.ValidationError as error:
        raise InvalidRequest(
            f"{error}.", hint=f"It takes {', '.join(Hypothesis.__struct_fields__)}."
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"The body is not JSON: {error}.") from None
    if asked.dialect not in DIALECT_NAMES:
        raise InvalidRequest(
            f"dialect: {asked.dialect!r} is none.", hint=f"One of {', '.join(DIALECT_NAMES)}."
        )
    return asked


def _secret(request: Request[Any, Any, Any]) -> str | None:
    return secret_of(request.scope["headers"])


def _failed(gateway: Gateway, served: list[str]) -> Any:
    def handle(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
        path = request.url.path
        near = get_close_matches(path, served, n=1, cutoff=0.7)
        dialect = _dialect_of(request, near[0] if near else path)
        body, headers = gateway.error_answer(dialect, _fault(request.method, path, near, error))
        sent = {name.decode(): value.decode() for name, value in headers if name not in _NOT_OURS}
        sent |= {
            name: value
            for name, value in (getattr(error, "headers", None) or {}).items()
            if name.lower() == "allow"
        }
        fault_status = getattr(error, "status_code", None)
        status = fault_of(error).status if isinstance(error, TielineError) else fault_status or 500
        return Response(body, status_code=status, media_type="application/json", headers=sent)

    return handle


def _dialect_of(request: Request[Any, Any, Any], path: str) -> str:
    """Whose SDK is asking: its headers say it even where the path does not."""
    if "anthropic-version" in request.headers:
        return "anthropic_messages"
    if "x-goog-api-key" in request.headers:
        return "gemini"
    return paths.dialect_of_path(path)


def _fault(method: str, path: str, near: list[str], error: Exception) -> Fault:
    status = getattr(error, "status_code", 500)
    if isinstance(error, TielineError):
        return fault_of(error)
    if status == 404:
        hint = f"Did you mean {near[0]}?" if near else "See / for what is served."
        return fault_of(NotFound(f"There is no {path} here.", hint=hint))
    if status == 405:
        return Fault(status=405, code="method_not_allowed", message=f"{method} is not served at {path}.")
    if status < 500:
        return Fault(status=status, code="bad_request", message=str(getattr(error, "detail", error)))
    return fault_of(error)
