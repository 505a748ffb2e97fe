"""Anthropic Messages."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from tieline.simulator.answer import Answer, Ask, Refusal, Usage, input_tokens, sealed, sign
from tieline.simulator.anthropic_checks import read_messages
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
from tieline.simulator.text import pieces

_FINISH = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
    "stop_sequence": "stop_sequence",
}
_ARGUMENT_PIECE = 12
_KINDS: dict[str, tuple[int, str, str]] = {
    "invalid": (400, "invalid_request_error", "Invalid request."),
    "rate_limit": (
        429,
        "rate_limit_error",
        (
            "This request would exceed the rate limit for your organization (org-simulator) of 40,000 input tokens per minute. "
            "For details, refer to: https://docs.claude.com/en/api/rate-limits."
        ),
    ),
    "quota": (
        400,
        "invalid_request_error",
        (
            "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to upgrade or purchase "
            "credits."
        ),
    ),
    "server_error": (500, "api_error", "Internal server error"),
    "unavailable": (503, "api_error", "Service temporarily unavailable"),
    "overloaded": (529, "overloaded_error", "Overloaded"),
    "auth": (401, "authentication_error", "invalid x-api-key"),
    "missing_key": (401, "authentication_error", "x-api-key header is required"),
    "expired": (401, "authentication_error", "API key has expired"),
    "forbidden": (
        403,
        "permission_error",
        "Your API key does not have permission to use the specified resource.",
    ),
    "geo": (403, "forbidden", "Request not allowed"),
    "model_not_found": (404, "not_found_error", "model: {model}"),
    "not_found": (404, "not_found_error", "Not found"),
    "gone": (410, "not_found_error", "model: {model} has reached its end of life"),
    "context": (400, "invalid_request_error", "prompt is too long: 209041 tokens > 200000 maximum"),
    "filter": (400, "invalid_request_error", "Output blocked by content filtering policy"),
    "unsupported": (400, "invalid_request_error", "`temperature` is deprecated for this model."),
    "payment": (402, "billing_error", "Your account has no means of payment."),
    "request_timeout": (408, "timeout_error", "Request timed out"),
    "vague": (400, "invalid_request_error", "Error"),
    "too_large": (413, "request_too_large", "Request exceeds the maximum size"),
    "unprocessable": (422, "invalid_request_error", "Unprocessable request"),
}
_STREAM_MESSAGES = {
    "overloaded_error": "Overloaded",
    "rate_limit_error": "This request would exceed your organization's rate limit.",
    "api_error": "Internal server error",
}


class Anthropic:
    """The Dialect protocol for api.anthropic.com."""

    name = "anthropic_messages"
    comment = sse({"type": "ping"}, "ping")

    def media_type(self, exchange: Exchange) -> str:
        return "text/event-stream; charset=utf-8"

    def credential(self, exchange: Exchange) -> str | None:
        return exchange.headers.get("x-api-key") or bearer(exchange)

    def model(self, exchange: Exchange) -> str:
        if "model" not in exchange.body:
            raise Refusal("invalid", "model: Field required")
        if not isinstance(exchange.body["model"], str) or not exchange.body["model"]:
            raise Refusal("invalid", "model: Input should be a valid string")
        return str(exchange.body["model"])

    def read(self, exchange: Exchange) -> Ask:
        return read_messages(exchange)

    def whole(self, exchange: Exchange, ask: Ask, answers: list[Answer], usage: Usage) -> bytes:
        answer = answers[0]
        body = _message(exchange, ask) | {
            "content": [block for block, _ in _blocks(exchange, answer)],
            "stop_reason": _FINISH[answer.finish],
            "stop_sequence": answer.stop_sequence,
            "usage": _usage(usage),
        }
        if exchange.flag("usage-missing"):
            del body["usage"]
        return msgspec.json.encode(body)

    def stream(self, exchange: Exchange, ask: Ask, answers: list[Answer], usage: Usage) -> Iterator[Piece]:
        answer = answers[0]
        opening = _message(exchange, ask) | {"usage": _usage(usage) | {"output_tokens": 1}}
        if exchange.flag("usage-missing"):
            opening["usage"] = {"input_tokens": 0, "output_tokens": 0}
        yield Piece(sse({"type": "message_start", "message": opening}, "message_start"), "start")
        shift = 1 if exchange.flag("wrong-index") else 0
        for index, (block, deltas) in enumerate(_blocks(exchange, answer), shift):
            started = {"type": "content_block_start", "index": index, "content_block": _emptied(block)}
            yield Piece(sse(started, "content_block_start"), "extra")
            if index == shift:
                yield Piece(self.comment, "extra")
            for delta, tokens in deltas:
                event = {"type": "content_block_delta", "index": index, "delta": delta}
                yield Piece(sse(event, "content_block_delta"), tokens=tokens)
            yield Piece(sse({"type": "content_block_stop", "index": index}, "content_block_stop"), "extra")
        yield Piece(sse(_ending(exchange, answer, usage), "message_delta"), "finish")
        yield Piece(sse({"type": "message_stop"}, "message_stop"), "done")

    def other(self, exchange: Exchange) -> Reply:
        if exchange.operation == "models":
            model = {
                "type": "model",
                "id": "claude-simulated",
                "display_name": "Simulated",
                "created_at": "2026-01-01T00:00:00Z",
            }
            body: Any = {"data": [model], "has_more": False, "first_id": model["id"], "last_id": model["id"]}
            return Reply(200, encode(body), [("content-type", "application/json")])
        tokens = input_tokens(read_messages(exchange, counting=True))
        return Reply(200, encode({"input_tokens": tokens}), [("content-type", "application/json")])

    def headers(self, exchange: Exchange) -> Headers:
        return [
            ("request-id", exchange.id("req_011C", 20)),
            ("anthropic-organization-id", "00000000-0000-4000-8000-000000000000"),
            *_limits(exhausted=False),
        ]

    def refuse(self, exchange: Exchange, refusal: Refusal) -> Reply:
        page = cdn_page(refusal.kind)
        if page is not None:
            return page
        status, kind, message = _KINDS[refusal.kind]
        request_id = exchange.id("req_011C", 20)
        error = {"type": kind, "message": refusal.message or message.format(model=exchange.model)}
        headers = [("content-type", "application/json"), ("request-id", request_id)]
        if refusal.kind == "rate_limit" and exchange.behaviour.count("limits", 1):
            headers += _limits(exhausted=not exchange.behaviour.count("false"))
        headers.append(("x-should-retry", "true" if status in (429, 529) or status >= 500 else "false"))
        body = json.dumps({"type": "error", "error": error, "request_id": request_id}, separators=(",", ":"))
        return Reply(status, body.encode(), headers + retry_headers(exchange.behaviour))

    def stream_error(self, exchange: Exchange, kind: str) -> bytes:
        error = {"type": kind, "message": _STREAM_MESSAGES.get(kind, "Internal server error")}
        return sse({"type": "error", "error": error, "request_id": exchange.id("req_011C", 20)}, "error")

    def malformed(self, content: bool) -> bytes:
        if content:
            return b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","te\n\n'
        return b'event: ping\ndata: {"type": "pi\n\n'


def _message(exchange: Exchange, ask: Ask) -> dict[str, Any]:
    return {
        "id": exchange.id("msg_01", 22),
        "type": "message",
        "role": "assistant",
        "model": ask.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }


def _blocks(
    exchange: Exchange, answer: Answer
) -> Iterator[tuple[dict[str, Any], list[tuple[dict[str, Any], int]]]]:
    """Each block whole, and the deltas that say the same."""
    if answer.thinking:
        signature = sign(exchange.seed, "anthropic", answer.thinking)
        deltas = [({"type": "thinking_delta", "thinking": token}, 1) for token in pieces(answer.thinking)]
        deltas.append(({"type": "signature_delta", "signature": signature}, 0))
        yield {"type": "thinking", "thinking": answer.thinking, "signature": signature}, deltas
        if answer.redacted:
            yield (
                {
                    "type": "redacted_thinking",
                    "data": sealed(exchange.seed, "redacted", answer.thinking[:20]),
                },
                [],
            )
    if answer.text:
        yield (
            {"type": "text", "text": answer.text},
            [({"type": "text_delta", "text": t}, 1) for t in pieces(answer.text)],
        )
    for call in answer.calls:
        block = {
            "type": "tool_use",
            "id": exchange.id("toolu_01", 22),
            "name": call.name,
            "input": json.loads(call.arguments),
        }
        cut = [
            call.arguments[i : i + _ARGUMENT_PIECE] for i in range(0, len(call.arguments), _ARGUMENT_PIECE)
        ]
        if call.arguments == "{}":
            cut = []
        yield block, [({"type": "input_json_delta", "partial_json": part}, 1) for part in ["", *cut]]


def _emptied(block: dict[str, Any]) -> dict[str, Any]:
    empty: dict[str, dict[str, Any]] = {
        "text": {"text": ""},
        "thinking": {"thinking": "", "signature": ""},
        "tool_use": {"input": {}},
    }
    return block | empty.get(block["type"], {})


def _ending(exchange: Exchange, answer: Answer, usage: Usage) -> dict[str, Any]:
    delta = {"stop_reason": _FINISH[answer.finish], "stop_sequence": answer.stop_sequence}
    figures = _usage(usage)
    shown = {key: figures[key] for key in figures if key.endswith("_tokens")}
    if exchange.flag("usage-missing"):
        shown = {"output_tokens": 0}
    if exchange.flag("null-usage"):
        shown = {"output_tokens": usage.output, "input_tokens": None, "cache_read_input_tokens": None}
    return {"type": "message_delta", "delta": delta, "usage": shown}


def _usage(usage: Usage) -> dict[str, Any]:
    """Anthropic's input figure leaves out what the cache read and wrote (WIRE_FACTS 29)."""
    return {
        "input_tokens": usage.input - usage.cached - usage.written,
        "cache_creation_input_tokens": usage.written,
        "cache_read_input_tokens": usage.cached,
        "cache_creation": {"ephemeral_5m_input_tokens": usage.written, "ephemeral_1h_input_tokens": 0},
        "output_tokens": usage.output,
        "service_tier": "standard",
    }


def _limits(exhausted: bool) -> Headers:
    """``anthropic-ratelimit-*``; resets are RFC 3339 (WIRE_FACTS 33)."""
    reset = (datetime.now(UTC) + timedelta(seconds=2)).strftime("%Y-%m-%dT%H:%M:%SZ")
    found: Headers = []
    for name, limit, left in (
        ("requests", 4000, 3999),
        ("tokens", 480000, 479000),
        ("input-tokens", 400000, 399000),
        ("output-tokens", 80000, 80000),
    ):
        gone = exhausted and name != "output-tokens" and name != "requests"
        found += [
            (f"anthropic-ratelimit-{name}-limit", str(limit)),
            (f"anthropic-ratelimit-{name}-remaining", "0" if gone else str(left)),
            (f"anthropic-ratelimit-{name}-reset", reset),
        ]
    return found
