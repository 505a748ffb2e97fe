"""The control plane's routes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from litestar import Litestar, MediaType, Request, Response, get
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import SwaggerRenderPlugin

import tieline
from tieline.dialects import paths
from tieline.types.errors import Fault, NotFound, TielineError, fault_of

if TYPE_CHECKING:
    from tieline.gateway import Gateway


def build(gateway: Gateway) -> Litestar:
    @get("/health/live", include_in_schema=False)
    async def live() -> dict[str, str]:
        return {"status": "alive", "version": tieline.__version__}

    @get("/health/ready", include_in_schema=False)
    async def ready() -> Response[dict[str, Any]]:
        state = gateway.readiness()
        return Response(state, status_code=200 if state["ready"] else 503)

    @get("/metrics", include_in_schema=False, media_type=MediaType.TEXT)
    async def metrics() -> Response[bytes]:
        body, media_type = gateway.exposition()
        return Response(body, media_type=media_type)

    @get("/v1/models")
    async def models(request: Request[Any, Any, Any]) -> Any:
        gateway.authenticate(_secret(request))
        return gateway.models_listing(anthropic="anthropic-version" in request.headers)

    @get("/v1/models/{model_id:path}")
    async def model(request: Request[Any, Any, Any], model_id: str) -> Any:
        gateway.authenticate(_secret(request))
        return gateway.model_entry(model_id.lstrip("/"), anthropic="anthropic-version" in request.headers)

    @get("/v1/requests/{request_id:str}")
    async def request_record(request: Request[Any, Any, Any], request_id: str) -> Any:
        return await gateway.request_record(request_id, _secret(request))

    return Litestar(
        [live, ready, metrics, models, model, request_record],
        exception_handlers={Exception: _failed(gateway)},
        openapi_config=OpenAPIConfig(
            title="Tieline", version=tieline.__version__, path="/admin/api/docs", render_plugins=[SwaggerRenderPlugin()]
        ),
        debug=False,
        logging_config=None,
    )


def _secret(request: Request[Any, Any, Any]) -> str | None:
    for name in ("authorization", "x-api-key", "x-goog-api-key", "api-key"):
        value = request.headers.get(name)
        if value:
            return value[7:].strip() if value[:7].lower() == "bearer " else value.strip()
    return None


def _failed(gateway: Gateway) -> Any:
    def handle(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
        status = getattr(error, "status_code", 500)
        path = request.url.path
        if isinstance(error, TielineError):
            fault = fault_of(error)
        elif status == 404:
            fault = fault_of(NotFound(f"There is no {path} here.", hint="docs/wire.md lists what is served."))
        elif status < 500:
            fault = Fault(status=status, code="bad_request", message=str(getattr(error, "detail", error)))
        else:
            fault = fault_of(error)
        body, headers = gateway.error_answer(paths.dialect_of_path(path), fault)
        return Response(
            body,
            status_code=fault.status,
            media_type="application/json",
            headers={name.decode(): value.decode() for name, value in headers if name != b"content-type"},
        )

    return handle
