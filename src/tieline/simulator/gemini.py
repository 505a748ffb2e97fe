"""Gemini's generateContent family, as generativelanguage.googleapis.com speaks it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import msgspec

from tieline.simulator.answer import Answer, Ask, Refusal, Usage, input_tokens, sealed
from tieline.simulator.exchange import (
    Exchange,
    Headers,
    Piece,
    Reply,
    cdn_page,
    encode,
    retry_headers,
    sse,
    words,
)
from tieline.simulator.gemini_checks import invalid, known, read_generate
from tieline.simulator.text import count_tokens, pieces
from tieline.simulator.vectors import DEFAULT_DIMENSIONS, embed

_TYPES = "type.googleapis.com/google.rpc."
_FINISH = {
    "stop": "STOP",
    "length": "MAX_TOKENS",
    "tool_calls": "STOP",
    "content_filter": "SAFETY",
    "stop_sequence": "STOP",
}
_KINDS: dict[str, tuple[int, str, str]] = {
    "invalid": (400, "INVALID_ARGUMENT", "Request contains an invalid argument."),
    "rate_limit": (
        429,
        "RESOURCE_EXHAUSTED",
        (
            "You exceeded your current quota, please check your plan and billing details. For more information on this error, head "
            "to: https://ai.google.dev/gemini-api/docs/rate-limits.\n* Quota exceeded for metric: "
            "generativelanguage.googleapis.com/generate_content_requests, limit: 403\nPlease retry in {delay}."
        ),
    ),
    "quota": (
        429,
        "RESOURCE_EXHAUSTED",
        (
            "Your prepayment credits are depleted. Please go to AI Studio at https://ai.studio/projects to manage your project and "
            "billing."
        ),
    ),
    "server_error": (
        500,
        "INTERNAL",
        (
            "An internal error has occurred. Please retry or report in "
            "https://developers.generativeai.google/guide/troubleshooting"
        ),
    ),
    "unavailable": (503, "UNAVAILABLE", "The model is overloaded. Please try again later."),
    "overloaded": (529, "UNAVAILABLE", "The model is overloaded. Please try again later."),
    "auth": (400, "INVALID_ARGUMENT", "API key not valid. Please pass a valid API key."),
    "expired": (400, "INVALID_ARGUMENT", "API key expired. Please renew the API key."),
    "missing_key": (
        403,
        "PERMISSION_DENIED",
        (
            "Method doesn't allow unregistered callers (callers without established identity). Please use API Key or other form of "
            "API consumer identity to call this API."
        ),
    ),
    "forbidden": (403, "PERMISSION_DENIED", "The caller does not have permission"),
    "geo": (400, "FAILED_PRECONDITION", "User location is not supported for the API use."),
    "model_not_found": (
        404,
        "NOT_FOUND",
        (
            "models/{model} is not found for API version v1beta, or is not supported for generateContent. Call ListModels to see the "
            "list of available models and their supported methods."
        ),
    ),
    "not_found": (404, "NOT_FOUND", "Requested entity was not found."),
    "gone": (
        410,
        "NOT_FOUND",
        "This model models/{model} is no longer available. Please update your code to use a newer model.",
    ),
    "context": (
        400,
        "INVALID_ARGUMENT",
        "The input token count (1250000) exceeds the maximum number of tokens allowed (1048576).",
    ),
    "unsupported": (400, "INVALID_ARGUMENT", "Penalty is not enabled for models/{model}"),
    "payment": (402, "FAILED_PRECONDITION", "Payment is required."),
    "request_timeout": (408, "DEADLINE_EXCEEDED", "The request timed out."),
    "vague": (400, "INVALID_ARGUMENT", "Request contains an invalid argument."),
    "too_large": (413, "INVALID_ARGUMENT", "Request payload size exceeds the limit: 20971520 bytes."),
    "unprocessable": (422, "INVALID_ARGUMENT", "The request could not be processed."),
}
_STREAM_KINDS = {
    "overloaded_error": "unavailable",
    "rate_limit_error": "rate_limit",
    "api_error": "server_error",
}
_DELAY_S = 2


class Gemini:
    """The Dialect protocol for the Gemini API."""

    name = "gemini"
    comment = b""

    def media_type(self, exchange: Exchange) -> str:
        return "text/event-stream" if _is_sse(exchange) else "application/json; charset=UTF-8"

    def credential(self, exchange: Exchange) -> str | None:
        return exchange.headers.get("x-goog-api-key") or exchange.query.get("key")

    def model(self, exchange: Exchange) -> str:
        raise Refusal("not_found")

    def read(self, exchange: Exchange) -> Ask:
        return read_generate(exchange)

    def whole(self, exchange: Exchange, ask: Ask, answers: list[Answer], usage: Usage) -> bytes:
        body = _envelope(exchange)
        body["candidates"] = [
            _candidate(index, list(_parts(exchange, answer)), _FINISH[answer.finish])
            for index, answer in enumerate(answers)
        ]
        if not exchange.flag("usage-missing"):
            body["usageMetadata"] = _usage(usage)
        return msgspec.json.encode(body)

    def stream(self, exchange: Exchange, ask: Ask, answers: list[Answer], usage: Usage) -> Iterator[Piece]:
        writer = _Writer(exchange, usage)
        for index, answer in enumerate(answers):
            yield from writer.choice(index, answer)
        if not _is_sse(exchange):
            yield Piece(b"\n]", "done")

    def other(self, exchange: Exchange) -> Reply:
        if exchange.operation == "count":
            return _count(exchange)
        if exchange.operation == "models":
            model = {
                "name": "models/sim-echo",
                "displayName": "Simulated",
                "inputTokenLimit": 1048576,
                "outputTokenLimit": 65536,
            }
            return _json(
                200, {"models": [model | {"supportedGenerationMethods": ["generateContent", "countTokens"]}]}
            )
        return _embed(exchange)

    def headers(self, exchange: Exchange) -> Headers:
        return [
            ("server-timing", "gfet4t7; dur=412"),
            ("vary", "Origin, X-Origin, Referer"),
            ("x-frame-options", "SAMEORIGIN"),
        ]

    def refuse(self, exchange: Exchange, refusal: Refusal) -> Reply:
        page = cdn_page(refusal.kind)
        if page is not None:
            return page
        if refusal.kind == "filter":
            return _blocked(exchange)
        status, error = _error(exchange, refusal)
        body: Any = {"error": error}
        if exchange.stream and not _is_sse(exchange):
            body = [body]
        headers = [("content-type", "application/json; charset=UTF-8"), *retry_headers(exchange.behaviour)]
        return Reply(status, json.dumps(body, indent=2).encode(), headers)

    def stream_error(self, exchange: Exchange, kind: str) -> bytes:
        _, error = _error(exchange, Refusal(_STREAM_KINDS.get(kind, "server_error")))
        if _is_sse(exchange):
            return sse({"error": error})
        return b",\r\n" + encode({"error": error}) + b"\n]"

    def malformed(self, content: bool) -> bytes:
        if content:
            return b'data: {"candidates": [{"content": {"parts": [{"text": "lost wo\n\n'
        return b'data: {"usageMetadata": {"promptTok\n\n'


class _Writer:
    """Makes the chunks of one stream, as server-sent events or as the elements of a JSON array."""

    def __init__(self, exchange: Exchange, usage: Usage) -> None:
        self._exchange = exchange
        self._usage = usage
        self._envelope = _envelope(exchange)
        self._produced = self._thought = 0
        self._started = False

    def choice(self, index: int, answer: Answer) -> Iterator[Piece]:
        parts = [self._split(part) for part in _parts(self._exchange, answer)]
        flat = [piece for group in parts for piece in group]
        late = flat.pop() if len(flat) > 1 and self._exchange.flag("finish-with-content") else None
        for part in flat:
            yield self._piece(index, part)
        final = late or ({"text": ""} if not answer.calls else None)
        finished = _candidate(index, [final] if final else [], _FINISH[answer.finish])
        self._produced = self._usage.output - self._usage.reasoning
        self._thought = self._usage.reasoning
        yield Piece(self._chunk(finished), "finish", 1 if late else 0)

    def _split(self, part: dict[str, Any]) -> list[dict[str, Any]]:
        if "text" not in part:
            return [part]
        return [part | {"text": token} for token in pieces(part["text"])]

    def _piece(self, index: int, part: dict[str, Any]) -> Piece:
        tokens = 1 if "text" in part else count_tokens(str(part.get("functionCall", "")))
        if part.get("thought"):
            self._thought += tokens
        else:
            self._produced += tokens
        return Piece(self._chunk(_candidate(index, [part], None)), tokens=tokens)

    def _chunk(self, candidate: dict[str, Any]) -> bytes:
        if self._exchange.flag("dup-ids"):
            self._envelope["responseId"] = self._exchange.id("")
        body = {"candidates": [candidate]} | self._envelope
        if not self._exchange.flag("usage-missing"):
            body["usageMetadata"] = _figures(self._usage, self._produced, self._thought)
        if _is_sse(self._exchange):
            return sse(body).replace(b"\n\n", b"\r\n\r\n")
        first, self._started = not self._started, True
        return (b"[" if first else b",\r\n") + encode(body)


def _is_sse(exchange: Exchange) -> bool:
    return exchange.query.get("alt") == "sse"


def _envelope(exchange: Exchange) -> dict[str, Any]:
    return {"modelVersion": exchange.model, "responseId": exchange.id("", 22)}


def _parts(exchange: Exchange, answer: Answer) -> Iterator[dict[str, Any]]:
    signature = base64.b64encode(sealed(exchange.seed, "gemini", answer.thinking[:30]).encode()).decode()
    if answer.thinking:
        yield {"text": answer.thinking, "thought": True}
    if answer.text:
        yield {"text": answer.text}
    for number, call in enumerate(answer.calls):
        part: dict[str, Any] = {"functionCall": {"name": call.name, "args": json.loads(call.arguments)}}
        if number == 0 and (answer.thinking or exchange.model.startswith("gemini-3")):
            part["thoughtSignature"] = signature
        yield part


def _candidate(index: int, parts: list[dict[str, Any]], finish: str | None) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": index}
    if not parts:
        candidate["content"] = {"role": "model"}
    if finish is not None:
        candidate["finishReason"] = finish
    return candidate


def _usage(usage: Usage) -> dict[str, Any]:
    return _figures(usage, usage.output - usage.reasoning, usage.reasoning)


def _figures(usage: Usage, produced: int, thought: int) -> dict[str, Any]:
    """``candidatesTokenCount`` leaves out the thoughts (WIRE_FACTS 30); zeros are left out, as protobuf does."""
    figures = {
        "promptTokenCount": usage.input,
        "candidatesTokenCount": produced,
        "totalTokenCount": usage.input + produced + thought,
        "cachedContentTokenCount": usage.cached,
        "thoughtsTokenCount": thought,
    }
    shown: dict[str, Any] = {name: value for name, value in figures.items() if value}
    return shown | {"promptTokensDetails": [{"modality": "TEXT", "tokenCount": usage.input}]}


def _error(exchange: Exchange, refusal: Refusal) -> tuple[int, dict[str, Any]]:
    kind = "invalid" if refusal.kind == "filter" else refusal.kind
    status, name, message = _KINDS[kind]
    delay = exchange.behaviour.word("retry_after", str(_DELAY_S)) + "s"
    text = refusal.message or message.format(model=exchange.model, delay=delay)
    error: dict[str, Any] = {"code": status, "message": text, "status": name}
    details = _details(kind, text, delay)
    return status, error | ({"details": details} if details else {})


def _details(kind: str, message: str, delay: str) -> list[dict[str, Any]]:
    if kind in ("auth", "expired"):
        return [{"@type": _TYPES + "ErrorInfo", "reason": "API_KEY_INVALID", "domain": "googleapis.com"}]
    if kind == "rate_limit":
        violation = {
            "quotaMetric": "generativelanguage.googleapis.com/generate_content_requests",
            "quotaId": "GenerateRequestsPerMinutePerProjectPerModel",
            "quotaValue": "403",
        }
        return [
            {"@type": _TYPES + "QuotaFailure", "violations": [violation]},
            {"@type": _TYPES + "RetryInfo", "retryDelay": delay},
        ]
    if kind == "invalid" and "Unknown name" in message:
        return [{"@type": _TYPES + "BadRequest", "fieldViolations": [{"description": message}]}]
    return []


def _blocked(exchange: Exchange) -> Reply:
    """Gemini answers 200 to a prompt that it blocks, without candidates."""
    body = _envelope(exchange) | {
        "promptFeedback": {"blockReason": "PROHIBITED_CONTENT"},
        "usageMetadata": {"promptTokenCount": 7, "totalTokenCount": 7},
    }
    if exchange.stream:
        data = sse(body) if _is_sse(exchange) else encode([body])
        kind = "text/event-stream" if _is_sse(exchange) else "application/json; charset=UTF-8"
        return Reply(200, data, [("content-type", kind)])
    return _json(200, body)


def _count(exchange: Exchange) -> Reply:
    body = exchange.body
    inner = body.get("generateContentRequest") or body.get("generate_content_request") or body
    tokens = input_tokens(read_generate(exchange, inner))
    details = [{"modality": "TEXT", "tokenCount": tokens}]
    return _json(200, {"totalTokens": tokens, "promptTokensDetails": details})


def _embed(exchange: Exchange) -> Reply:
    single = exchange.path.endswith(":embedContent")
    requests = [exchange.body] if single else exchange.body.get("requests")
    if not isinstance(requests, list) or not requests:
        raise invalid("* BatchEmbedContentsRequest.requests: at least one request must be specified\n")
    vectors, tokens = [], 0
    for index, request in enumerate(requests):
        text, dimensions = _embed_request(request, "" if single else f"requests[{index}]")
        tokens += count_tokens(text)
        vectors.append({"values": embed(text, dimensions)})
    answer: dict[str, Any] = {"embedding": vectors[0]} if single else {"embeddings": vectors}
    reply = _json(200, answer | {"usageMetadata": {"promptTokenCount": tokens}})
    reply.input_tokens = tokens
    return reply


_EMBED_FIELDS = words("model content taskType title outputDimensionality embedContentConfig")
_EMBED_CONFIG = words("taskType title outputDimensionality autoTruncate documentOcr audioTrackExtraction")


def _embed_request(given: Any, at: str) -> tuple[str, int]:
    request = known(given, _EMBED_FIELDS, at)
    parts = known(request.get("content") or {}, words("role parts"), f"{at}.content".lstrip(".")).get("parts")
    if not isinstance(parts, list) or not all(isinstance(part, dict) for part in parts):
        raise invalid("* EmbedContentRequest.content: content is empty\n")
    text = "\n".join(str(part.get("text", "")) for part in parts)
    if not text:
        raise invalid("* EmbedContentRequest.content: content is empty\n")
    config = known(request.get("embedContentConfig") or {}, _EMBED_CONFIG, "embed_content_config")
    wanted = request.get("outputDimensionality") or config.get("outputDimensionality")
    return text, wanted or DEFAULT_DIMENSIONS


def _json(status: int, body: Any) -> Reply:
    return Reply(status, encode(body), [("content-type", "application/json; charset=UTF-8")])
