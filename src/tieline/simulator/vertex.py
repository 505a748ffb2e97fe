"""Vertex AI: Gemini and Claude behind Google's own paths, tokens and errors."""

from __future__ import annotations

import re
from typing import Any

from tieline.simulator.answer import Ask, Refusal
from tieline.simulator.anthropic import Anthropic
from tieline.simulator.anthropic_blocks import invalid as claude_invalid
from tieline.simulator.exchange import Exchange, Reply, bearer, encode
from tieline.simulator.gemini import Gemini
from tieline.simulator.gemini_checks import camel, invalid, read_generate
from tieline.simulator.shapes import misfit
from tieline.simulator.text import count_tokens
from tieline.simulator.vectors import DEFAULT_DIMENSIONS, MAX_DIMENSIONS, embed

ANTHROPIC_VERSIONS = ("vertex-2023-10-16", "2026-10-21")
"""The documented one, and what Anthropic's own Vertex client sends since its version 2."""
BETAS = frozenset(
    [
        "computer-use-2025-01-24",
        "computer-use-2025-11-24",
        "context-1m-2025-08-07",
        "interleaved-thinking-2025-05-14",
        "compact-2026-01-12",
        "context-management-2025-06-27",
    ]
)
_PLACE = re.compile(
    r".*/projects/(?P<project>[^/]+)/locations/(?P<location>[^/]+)/publishers/(?P<publisher>[^/]+)/.*"
)
_INFO = "type.googleapis.com/google.rpc.ErrorInfo"
_KINDS: dict[str, tuple[int, str, str]] = {
    "missing_key": (
        401,
        "UNAUTHENTICATED",
        (
            "Request is missing required authentication credential. Expected OAuth 2 access token, login cookie or other valid "
            "authentication credential."
        ),
    ),
    "auth": (
        401,
        "UNAUTHENTICATED",
        (
            "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid "
            "authentication credential."
        ),
    ),
    "expired": (
        401,
        "UNAUTHENTICATED",
        (
            "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or other valid "
            "authentication credential."
        ),
    ),
    "forbidden": (
        403,
        "PERMISSION_DENIED",
        (
            "Permission 'aiplatform.endpoints.predict' denied on resource "
            "'//aiplatform.googleapis.com/projects/{project}/locations/{location}/publishers/{publisher}/models/{model}' "
            "(or it may not exist)."
        ),
    ),
    "model_not_found": (
        404,
        "NOT_FOUND",
        (
            "Publisher Model `projects/{project}/locations/{location}/publishers/{publisher}/models/{model}` was not found or "
            "your project does not have access to it. Please ensure you are using a valid model version."
        ),
    ),
}
_REASONS = {
    "auth": "ACCESS_TOKEN_TYPE_UNSUPPORTED",
    "expired": "ACCESS_TOKEN_EXPIRED",
    "missing_key": "CREDENTIALS_MISSING",
}


def _place(exchange: Exchange) -> dict[str, str]:
    match = _PLACE.match(exchange.path)
    return match.groupdict() if match else {"project": "", "location": "", "publisher": ""}


def _admit(exchange: Exchange) -> str | None:
    """The token, once it is known to be good, for a project and a place that exist."""
    token = bearer(exchange)
    if token is None:
        return None
    exchange.clouds.check_token("google", token)
    place = _place(exchange)
    if place["project"] != exchange.clouds.project:
        raise Refusal("forbidden")
    if place["location"] not in exchange.clouds.locations:
        raise Refusal("model_not_found")
    return token


def _refused(exchange: Exchange, refusal: Refusal) -> Reply | None:
    """Google's own front answers these, whoever's model it is."""
    if refusal.kind not in _KINDS:
        return None
    status, name, message = _KINDS[refusal.kind]
    text = message.format(model=exchange.model, **_place(exchange))
    error: dict[str, Any] = {"code": status, "message": refusal.message or text, "status": name}
    reason = _REASONS.get(refusal.kind)
    if reason:
        error["details"] = [{"@type": _INFO, "reason": reason, "domain": "googleapis.com"}]
    return Reply(status, encode({"error": error}), [("content-type", "application/json; charset=UTF-8")])


class VertexGemini(Gemini):
    def credential(self, exchange: Exchange) -> str | None:
        return _admit(exchange)

    def read(self, exchange: Exchange) -> Ask:
        contents = exchange.body.get("contents")
        for content in contents if isinstance(contents, list) else []:
            # Unlike the Gemini API, which takes a missing role for the user's.
            if isinstance(content, dict) and content.get("role") not in ("user", "model"):
                raise invalid("Please use a valid role: user, model.")
        return super().read(exchange)

    def other(self, exchange: Exchange) -> Reply:
        """Vertex counts the bare fields; the Gemini API's ``generateContentRequest`` is unknown here."""
        if any(camel(name) == "generateContentRequest" for name in exchange.body):
            raise invalid(
                'Invalid JSON payload received. Unknown name "generateContentRequest": Cannot find field.'
            )
        if exchange.path.endswith(":predict"):
            return _predict(exchange)
        if exchange.operation == "embed":
            _check_embed(exchange)
        if exchange.operation == "count":
            read_generate(exchange)
        return super().other(exchange)

    def refuse(self, exchange: Exchange, refusal: Refusal) -> Reply:
        return _refused(exchange, refusal) or super().refuse(exchange, refusal)


def _check_embed(exchange: Exchange) -> None:
    """Gemini's embedding models only; which model it is stands in the path."""
    if "gemini" not in exchange.model:
        raise Refusal("model_not_found")
    asked = exchange.body.get("requests") or [exchange.body]
    if not isinstance(asked, list):
        raise invalid("Invalid value at 'requests'.")
    for one in asked:
        for name in one if isinstance(one, dict) else ():
            if camel(name) in ("taskType", "outputDimensionality", "title"):
                raise invalid(f"`{name}` belongs into embedContentConfig.")


_PREDICT_TYPES = {
    "instances": [{"content": str}],
    "parameters": {"outputDimensionality": range(1, MAX_DIMENSIONS + 1)},
}


def _predict(exchange: Exchange) -> Reply:
    """Embedding models that are not Gemini's."""
    instances = exchange.body.get("instances")
    if "gemini" in exchange.model or not isinstance(instances, list) or not instances:
        raise invalid("Invalid instances.")
    wrong = misfit(exchange.body, _PREDICT_TYPES)
    if wrong is not None:
        raise invalid(f"Invalid value at '{wrong.indexed}', {wrong.value!r}")
    dimensions = (exchange.body.get("parameters") or {}).get("outputDimensionality") or DEFAULT_DIMENSIONS
    made, tokens = [], 0
    for instance in instances:
        count = count_tokens(str(instance.get("content", "")))
        tokens += count
        statistics = {"truncated": False, "token_count": count}
        values = embed(str(instance.get("content", "")), dimensions)
        made.append({"embeddings": {"values": values, "statistics": statistics}})
    reply = Reply(200, encode({"predictions": made}), [("content-type", "application/json; charset=UTF-8")])
    reply.input_tokens = tokens
    return reply


class VertexAnthropic(Anthropic):
    """``rawPredict`` and ``streamRawPredict``: the model is in the path, the version in the body."""

    def credential(self, exchange: Exchange) -> str | None:
        return _admit(exchange)

    def read(self, exchange: Exchange) -> Ask:
        _to_messages(exchange)
        return super().read(exchange)

    def other(self, exchange: Exchange) -> Reply:
        _to_messages(exchange, model_in_body=True)
        return super().other(exchange)

    def refuse(self, exchange: Exchange, refusal: Refusal) -> Reply:
        return _refused(exchange, refusal) or super().refuse(exchange, refusal)


def _to_messages(exchange: Exchange, *, model_in_body: bool = False) -> None:
    """Checks what differs and leaves a plain Messages request."""
    body = dict(exchange.body)
    if "anthropic_version" not in body:
        raise claude_invalid("anthropic_version: Field required")
    if body.pop("anthropic_version") not in ANTHROPIC_VERSIONS:
        raise claude_invalid(f'anthropic_version: Input should be "{ANTHROPIC_VERSIONS[0]}"')
    if "model" in body and not model_in_body:
        raise claude_invalid("model: Extra inputs are not permitted")
    given = [beta.strip() for beta in exchange.headers.get("anthropic-beta", "").split(",") if beta.strip()]
    wrong = [f"`{beta}`" for beta in given if beta not in BETAS]
    if wrong:
        raise claude_invalid(
            f"Unexpected value(s) {', '.join(wrong)} for the `anthropic-beta` header. Please consult our documentation at "
            "docs.anthropic.com or try again without the header."
        )
    exchange.body = body | {"model": exchange.model}
    exchange.headers = exchange.headers | {"anthropic-version": "2023-06-01"}
