"""What OpenAI's endpoints share: credentials, headers, and the shapes in which they say no."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tieline.simulator.answer import Answer, Ask, Refusal, Usage
from tieline.simulator.behaviour import Behaviour
from tieline.simulator.exchange import (
    Exchange,
    Headers,
    Piece,
    Reply,
    bearer,
    cdn_page,
    encode,
    retry_headers,
    sse,
)

_KINDS: dict[str, tuple[int, str, str | None, str]] = {
    "invalid": (400, "invalid_request_error", None, "Invalid request."),
    "rate_limit": (
        429,
        "tokens",
        "rate_limit_exceeded",
        (
            "Rate limit reached for {model} in organization org-simulator on tokens per min (TPM): Limit 30000, Used 29403, "
            "Requested 1200. Please try again in 1.206s. Visit https://platform.openai.com/account/rate-limits to learn more."
        ),
    ),
    "quota": (
        429,
        "insufficient_quota",
        "insufficient_quota",
        (
            "You exceeded your current quota, please check your plan and billing details. For more information on this error, "
            "read the docs: https://platform.openai.com/docs/guides/error-codes/api-errors."
        ),
    ),
    "server_error": (
        500,
        "server_error",
        None,
        "The server had an error while processing your request. Sorry about that!",
    ),
    "unavailable": (
        503,
        "service_unavailable_error",
        None,
        "The engine is currently overloaded, please try again later",
    ),
    "overloaded": (
        529,
        "server_error",
        "server_is_overloaded",
        "Our servers are currently overloaded. Please try again later.",
    ),
    "auth": (
        401,
        "invalid_request_error",
        "invalid_api_key",
        "Incorrect API key provided: sk-*****. You can find your API key at https://platform.openai.com/account/api-keys.",
    ),
    "missing_key": (
        401,
        "invalid_request_error",
        None,
        (
            "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer auth "
            "(i.e. Authorization: Bearer YOUR_KEY)."
        ),
    ),
    "expired": (
        401,
        "invalid_request_error",
        "invalid_api_key",
        "Your API key has expired. Please generate a new one.",
    ),
    "forbidden": (
        403,
        "invalid_request_error",
        "model_not_found",
        "Project `proj_simulator` does not have access to model `{model}`",
    ),
    "geo": (
        403,
        "request_forbidden",
        "unsupported_country_region_territory",
        "Country, region, or territory not supported",
    ),
    "model_not_found": (
        404,
        "invalid_request_error",
        "model_not_found",
        "The model `{model}` does not exist or you do not have access to it.",
    ),
    "not_found": (404, "invalid_request_error", None, "Invalid URL ({method} {path})"),
    "gone": (
        410,
        "invalid_request_error",
        "model_deprecated",
        "The model `{model}` has been deprecated, learn more here: https://platform.openai.com/docs/deprecations",
    ),
    "context": (
        400,
        "invalid_request_error",
        "context_length_exceeded",
        (
            "This model's maximum context length is 8192 tokens. However, your messages resulted in 9001 tokens. Please reduce "
            "the length of the messages."
        ),
    ),
    "filter": (
        400,
        "invalid_request_error",
        "content_policy_violation",
        "Your request was rejected as a result of our safety system.",
    ),
    "unsupported": (
        400,
        "invalid_request_error",
        "unsupported_parameter",
        "Unsupported parameter: 'temperature' is not supported with this model.",
    ),
    "payment": (402, "unknown_error", "invalid_request_error", "Insufficient Balance"),
    "request_timeout": (408, "timeout", "request_timeout", "Request timed out."),
    "vague": (400, "invalid_request_error", None, "The request could not be processed."),
    "too_large": (
        413,
        "invalid_request_error",
        None,
        "Maximum content size limit (26214400) exceeded (26214401 bytes read)",
    ),
    "unprocessable": (
        422,
        "invalid_request_error",
        None,
        "Unprocessable entity: the request could not be followed.",
    ),
}
_PARAMS = {"context": "messages", "unsupported": "temperature", "model_not_found": None}
_STREAM_KINDS = {
    "overloaded_error": ("server_error", "server_is_overloaded", "Our servers are currently overloaded."),
    "rate_limit_error": ("tokens", "rate_limit_exceeded", "Rate limit reached. Please try again in 1.2s."),
}


def error_body(exchange: Exchange, refusal: Refusal) -> tuple[int, dict[str, Any]]:
    status, kind, code, message = _KINDS[refusal.kind]
    text = refusal.message or message.format(
        model=exchange.model, method=exchange.method, path=exchange.path.partition("?")[0]
    )
    param = refusal.param or _PARAMS.get(refusal.kind)
    return status, {"message": text, "type": kind, "param": param, "code": refusal.code or code}


def limit_headers(behaviour: Behaviour, exhausted: bool) -> Headers:
    """``x-ratelimit-*``; resets are durations like ``6m0s`` and ``12ms`` (WIRE_FACTS 33)."""
    left = "0" if exhausted else "29800"
    return [
        ("x-ratelimit-limit-requests", "10000"),
        ("x-ratelimit-limit-tokens", "30000"),
        ("x-ratelimit-remaining-requests", "9999"),
        ("x-ratelimit-remaining-tokens", left),
        ("x-ratelimit-reset-requests", "8.64s"),
        ("x-ratelimit-reset-tokens", behaviour.word("reset", "1.206s" if exhausted else "12ms")),
    ]


class OpenAIBase:
    """The parts of the Dialect protocol that Chat, Responses and the small endpoints have in common."""

    name = "openai"
    comment = b": keep-alive\n\n"

    def media_type(self, exchange: Exchange) -> str:
        return "text/event-stream; charset=utf-8"

    def read(self, exchange: Exchange) -> Ask:
        raise Refusal("not_found")

    def whole(self, exchange: Exchange, ask: Ask, answers: list[Answer], usage: Usage) -> bytes:
        raise Refusal("not_found")

    def stream(self, exchange: Exchange, ask: Ask, answers: list[Answer], usage: Usage) -> Iterator[Piece]:
        raise Refusal("not_found")

    def other(self, exchange: Exchange) -> Reply:
        raise Refusal("not_found")

    def malformed(self, content: bool) -> bytes:
        return b'data: {"choices": [{"text": "lo\n\n' if content else b'data: {"id": "cmp\n\n'

    def credential(self, exchange: Exchange) -> str | None:
        return bearer(exchange) or exchange.headers.get("api-key")

    def model(self, exchange: Exchange) -> str:
        model = exchange.body.get("model")
        if not isinstance(model, str) or not model:
            raise Refusal("invalid", "you must provide a model parameter")
        return model

    def headers(self, exchange: Exchange) -> Headers:
        return [
            ("x-request-id", exchange.id("req_", 32).lower()),
            ("openai-organization", "org-simulator"),
            ("openai-processing-ms", "12"),
            ("openai-version", "2020-10-01"),
            *limit_headers(exchange.behaviour, exhausted=False),
        ]

    def refuse(self, exchange: Exchange, refusal: Refusal) -> Reply:
        page = cdn_page(refusal.kind)
        if page is not None:
            return page
        status, body = error_body(exchange, refusal)
        headers = [
            ("content-type", "application/json; charset=utf-8"),
            ("x-request-id", exchange.id("req_", 32).lower()),
        ]
        if refusal.kind == "rate_limit" and exchange.behaviour.count("limits", 1):
            headers += limit_headers(exchange.behaviour, exhausted=not exchange.behaviour.count("false"))
        pretty = json.dumps({"error": body}, indent=4).encode()
        return Reply(status, pretty, headers + retry_headers(exchange.behaviour))

    def stream_error(self, exchange: Exchange, kind: str) -> bytes:
        if kind == "vllm":
            return sse(
                {"object": "error", "message": "EngineCore died", "type": "InternalServerError", "code": 500}
            )
        default = (
            "server_error",
            None,
            "The server had an error while processing your request. Sorry about that!",
        )
        name, code, message = _STREAM_KINDS.get(kind, default)
        return sse({"error": {"message": message, "type": name, "param": None, "code": code}})


def plain(status: int, body: Any, input_tokens: int = 0) -> Reply:
    return Reply(status, encode(body), [("content-type", "application/json")], input_tokens)
