"""Azure OpenAI: OpenAI's APIs under deployment URLs or ``/openai/v1``, with Azure's keys, tokens, filters and errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from tieline.simulator.answer import Answer, Ask, Refusal, Usage
from tieline.simulator.exchange import Exchange, Headers, Piece, Reply, bearer, encode, sse
from tieline.simulator.openai_base import OpenAIBase
from tieline.simulator.openai_chat import OpenAIChat
from tieline.simulator.openai_responses import OpenAIResponses
from tieline.simulator.openai_small import OpenAISmall

_DENIED = (
    "Access denied due to invalid subscription key or wrong API endpoint. Make sure to provide a valid key for an active "
    "subscription and use a correct regional API endpoint for your resource."
)
_UNAUTHORIZED = (
    "Unauthorized. Access token is missing, invalid, audience is incorrect (https://cognitiveservices.azure.com), or have "
    "expired."
)
_KINDS: dict[str, tuple[int, str, str]] = {
    "missing_key": (401, "401", _DENIED),
    "auth": (401, "401", _DENIED),
    "expired": (401, "Unauthorized", _UNAUTHORIZED),
    "forbidden": (403, "PermissionDenied", "The principal lacks the required data action on this resource."),
    "model_not_found": (
        404,
        "DeploymentNotFound",
        (
            "The API deployment for this resource does not exist. If you created the deployment within the last 5 minutes, please "
            "wait a moment and try again."
        ),
    ),
    "not_found": (404, "404", "Resource not found"),
    "api_version": (400, "BadRequest", "API version not supported"),
    "rate_limit": (
        429,
        "429",
        (
            "Requests to the ChatCompletions_Create Operation under Azure OpenAI API have exceeded token rate limit of your current "
            "pricing tier. Please retry after 2 seconds."
        ),
    ),
}
_FILTERED = (
    "The response was filtered due to the prompt triggering Azure OpenAI's content management policy. Please modify your prompt "
    "and retry."
)
_SAFE = {
    name: {"filtered": False, "severity": "safe"} for name in ("hate", "self_harm", "sexual", "violence")
}
_PROMPT_RESULTS = [{"prompt_index": 0, "content_filter_results": _SAFE}]


class _Azure(OpenAIBase):
    """What both APIs have of Azure: who may call, which deployment, how it says no."""

    def credential(self, exchange: Exchange) -> str | None:
        key, token = exchange.headers.get("api-key"), bearer(exchange)
        classic = "/openai/deployments/" in exchange.path
        if token is not None and (classic or token.startswith("eyJ")):
            try:
                exchange.clouds.check_token("azure", token)
            except Refusal:
                raise Refusal("expired") from None  # Azure has one message for every bad token
        if key or token:
            _check_version(exchange, classic)
            if classic:
                exchange.model = _model_of(exchange, exchange.model)
        return key or token

    def model(self, exchange: Exchange) -> str:
        return _model_of(exchange, super().model(exchange))

    def headers(self, exchange: Exchange) -> Headers:
        return [
            ("apim-request-id", exchange.id("", 32).lower()),
            ("x-ms-region", "Sweden Central"),
            ("x-ratelimit-remaining-requests", "999"),
            ("x-ratelimit-remaining-tokens", "99000"),
        ]

    def refuse(self, exchange: Exchange, refusal: Refusal) -> Reply:
        if refusal.kind == "filter":
            return _filtered()
        if refusal.kind not in _KINDS:
            return super().refuse(exchange, refusal)
        status, code, message = _KINDS[refusal.kind]
        body = encode({"error": {"code": code, "message": refusal.message or message}})
        headers = [
            ("content-type", "application/json"),
            ("apim-request-id", exchange.id("", 32).lower()),
        ]
        if refusal.kind == "rate_limit":
            headers.append(("retry-after", exchange.behaviour.word("retry_after") or "2"))
        return Reply(status, body, headers)


class AzureChat(_Azure, OpenAIChat):
    def whole(self, exchange: Exchange, ask: Ask, answers: list[Answer], usage: Usage) -> bytes:
        body: Any = msgspec.json.decode(super().whole(exchange, ask, answers, usage))
        for choice in body["choices"]:
            choice["content_filter_results"] = _SAFE
        return encode(body | {"prompt_filter_results": _PROMPT_RESULTS})

    def stream(self, exchange: Exchange, ask: Ask, answers: list[Answer], usage: Usage) -> Iterator[Piece]:
        """The first chunk is about the prompt and has no choices (WIRE_FACTS 4)."""
        head = {"id": "", "object": "", "created": 0, "model": "", "choices": []}
        yield Piece(sse(head | {"prompt_filter_results": _PROMPT_RESULTS}), "start")
        yield from super().stream(exchange, ask, answers, usage)


class AzureResponses(_Azure, OpenAIResponses):
    pass


class AzureEmbeddings(_Azure, OpenAISmall):
    pass


def _check_version(exchange: Exchange, classic: bool) -> None:
    version = exchange.query.get("api-version")
    if not classic:
        if version not in (None, "preview", "latest", "v1"):
            raise Refusal("api_version")
        return
    if version is None:
        raise Refusal("not_found")
    if version not in exchange.clouds.azure_versions:
        raise Refusal("api_version")


def _model_of(exchange: Exchange, deployment: str) -> str:
    known = exchange.clouds.azure_deployments
    if known is None:
        return deployment
    if deployment not in known:
        raise Refusal("model_not_found")
    return known[deployment]


def _filtered() -> Reply:
    hit = _SAFE | {"violence": {"filtered": True, "severity": "high"}}
    error = {
        "message": _FILTERED,
        "type": None,
        "param": "prompt",
        "code": "content_filter",
        "status": 400,
        "innererror": {"code": "ResponsibleAIPolicyViolation", "content_filter_result": hit},
    }
    return Reply(400, encode({"error": error}), [("content-type", "application/json")])
