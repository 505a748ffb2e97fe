"""Amazon Bedrock's Converse API: JSON answers, and streams as binary event-stream frames with their checksums."""

from __future__ import annotations

import json
import re
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import msgspec

from tieline.simulator.answer import Answer, Ask, Refusal, Usage, sign
from tieline.simulator.bedrock_checks import check_types, read_converse
from tieline.simulator.exchange import (
    Exchange,
    Headers,
    Piece,
    Reply,
    bearer,
    cdn_page,
    encode,
    retry_headers,
)
from tieline.simulator.sigv4 import verify
from tieline.simulator.text import count_tokens, pieces
from tieline.simulator.vectors import MAX_DIMENSIONS, embed

_FINISH = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "content_filtered",
    "stop_sequence": "stop_sequence",
}
_ARGUMENT_PIECE = 12
_DIMENSIONS = range(1, MAX_DIMENSIONS + 1)
_EMBED_TYPES = {
    "inputText": str,
    "dimensions": _DIMENSIONS,
    "texts": [str],
    "output_dimension": _DIMENSIONS,
    "embedding_types": [str],
}
_STRING = 7
"""The event stream's header type of a string."""
_KINDS: dict[str, tuple[int, str, str]] = {
    "invalid": (400, "ValidationException", "The provided request is not valid"),
    "rate_limit": (429, "ThrottlingException", "Too many requests, please wait before trying again."),
    "quota": (
        400,
        "ServiceQuotaExceededException",
        "Your request exceeds the service quota for your account.",
    ),
    "server_error": (
        500,
        "InternalServerException",
        "The system encountered an unexpected error during processing.",
    ),
    "unavailable": (503, "ServiceUnavailableException", "Bedrock is unable to process your request."),
    "overloaded": (529, "ModelNotReadyException", "The model is not ready for inference."),
    "auth": (403, "UnrecognizedClientException", "The security token included in the request is invalid."),
    "missing_key": (403, "MissingAuthenticationTokenException", "Missing Authentication Token"),
    "signature": (
        403,
        "InvalidSignatureException",
        (
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and "
            "signing method. Consult the service documentation for details."
        ),
    ),
    "incomplete_signature": (
        403,
        "IncompleteSignatureException",
        "Authorization header requires 'Credential', 'SignedHeaders' and 'Signature' parameters, and an 'X-Amz-Date' header.",
    ),
    "on_demand": (
        400,
        "ValidationException",
        (
            "Invocation of model ID {model} with on-demand throughput isn\u2019t supported. Retry your request with the ID or ARN of "
            "an inference profile that contains this model."
        ),
    ),
    "wrong_profile": (400, "ValidationException", "The provided model identifier is invalid."),
    "expired": (403, "ExpiredTokenException", "The security token included in the request is expired"),
    "forbidden": (
        403,
        "AccessDeniedException",
        "You don't have access to the model with the specified model ID.",
    ),
    "geo": (400, "ValidationException", "Access to this model is not available from your country or region."),
    "model_not_found": (
        404,
        "ResourceNotFoundException",
        "Could not resolve the foundation model from the identifier: {model}",
    ),
    "not_found": (
        404,
        "UnknownOperationException",
        "The requested operation is not recognized by the service.",
    ),
    "gone": (410, "ResourceNotFoundException", "This model version has reached the end of its life."),
    "context": (400, "ValidationException", "Input is too long for requested model."),
    "filter": (400, "ValidationException", "Output blocked by content filtering policy"),
    "unsupported": (
        400,
        "ValidationException",
        "This model doesn't support the temperature field. Remove it and try again.",
    ),
    "payment": (402, "PaymentRequiredException", "Payment is required."),
    "request_timeout": (408, "ModelTimeoutException", "The model did not answer in time."),
    "vague": (400, "ValidationException", "The request is not valid. Try again."),
    "too_large": (413, "RequestEntityTooLargeException", "Request size exceeds the limit"),
    "unprocessable": (
        424,
        "ModelErrorException",
        "The model returned an error while processing the request.",
    ),
}
_STREAM_KINDS = {
    "overloaded_error": "unavailable",
    "rate_limit_error": "rate_limit",
    "model": "unprocessable",
}
_STREAM_NAMES = {
    "unprocessable": "modelStreamErrorException",
    "unavailable": "serviceUnavailableException",
    "rate_limit": "throttlingException",
    "server_error": "internalServerException",
}


def frame(headers: dict[str, str], payload: bytes) -> bytes:
    """One message of ``application/vnd.amazon.eventstream``: prelude, its CRC, headers, payload, CRC of it all."""
    packed = b"".join(
        struct.pack(">B", len(name))
        + name.encode()
        + struct.pack(">BH", _STRING, len(value))
        + value.encode()
        for name, value in headers.items()
    )
    prelude = struct.pack(">II", 16 + len(packed) + len(payload), len(packed))
    head = prelude + struct.pack(">I", zlib.crc32(prelude)) + packed + payload
    return head + struct.pack(">I", zlib.crc32(head))


def event(kind: str, body: Any) -> bytes:
    headers = {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}
    return frame(headers, encode(body))


class Bedrock:
    """The Dialect protocol for bedrock-runtime: a bearer key, or SigV4 checked to the last byte.

    The provider's name may carry the region, ``bedrock@eu-west-1``; then signatures and inference profiles must be of it.
    """

    name = "bedrock_converse"
    comment = b""

    def media_type(self, exchange: Exchange) -> str:
        return "application/vnd.amazon.eventstream"

    def credential(self, exchange: Exchange) -> str | None:
        given = exchange.headers.get("authorization", "")
        if given.startswith("AWS4-HMAC-SHA256"):
            return verify(exchange, exchange.clouds, _region(exchange))
        return bearer(exchange)

    def model(self, exchange: Exchange) -> str:
        return exchange.model

    def read(self, exchange: Exchange) -> Ask:
        _check_profile(exchange.model, _region(exchange))
        return read_converse(exchange)

    def whole(self, exchange: Exchange, ask: Ask, answers: list[Answer], usage: Usage) -> bytes:
        answer = answers[0]
        body = {
            "output": {"message": {"role": "assistant", "content": list(_blocks(exchange, answer))}},
            "stopReason": _FINISH[answer.finish],
            "usage": _usage(usage),
            "metrics": {"latencyMs": 412},
        }
        if exchange.flag("usage-missing"):
            del body["usage"]
        return msgspec.json.encode(body)

    def stream(self, exchange: Exchange, ask: Ask, answers: list[Answer], usage: Usage) -> Iterator[Piece]:
        answer = answers[0]
        yield Piece(event("messageStart", {"role": "assistant"}), "start")
        shift = 1 if exchange.flag("wrong-index") else 0
        for index, block in enumerate(_blocks(exchange, answer), shift):
            yield from _block(index, block)
        yield Piece(event("messageStop", {"stopReason": _FINISH[answer.finish]}), "finish")
        if not exchange.flag("usage-missing"):
            yield Piece(event("metadata", {"usage": _usage(usage), "metrics": {"latencyMs": 412}}), "usage")

    def other(self, exchange: Exchange) -> Reply:
        """``invoke`` of the embedding models: Titan's and Cohere's shapes."""
        body = exchange.body
        check_types(body, _EMBED_TYPES)
        if "inputText" in body:
            text = str(body["inputText"])
            tokens = count_tokens(text)
            vector = embed(text, int(body.get("dimensions") or 64))
            return _json(200, {"embedding": vector, "inputTextTokenCount": tokens}, tokens)
        texts = body.get("texts")
        if not isinstance(texts, list) or not texts:
            raise Refusal("invalid", "Malformed input request: #: required key [inputText] not found")
        tokens = sum(count_tokens(str(text)) for text in texts)
        vectors = [embed(str(text), int(body.get("output_dimension") or 64)) for text in texts]
        by_type = "embedding_types" in body
        answer = {
            "id": exchange.id(""),
            "response_type": "embeddings_by_type" if by_type else "embeddings_floats",
            "embeddings": {"float": vectors} if by_type else vectors,
            "texts": texts,
        }
        reply = _json(200, answer, tokens)
        reply.headers.append(("x-amzn-bedrock-input-token-count", str(tokens)))
        return reply

    def headers(self, exchange: Exchange) -> Headers:
        return [("x-amzn-requestid", exchange.id("", 32).lower())]

    def refuse(self, exchange: Exchange, refusal: Refusal) -> Reply:
        page = cdn_page(refusal.kind)
        if page is not None:
            return page
        status, name, message = _KINDS[refusal.kind]
        body = json.dumps({"message": refusal.message or message.format(model=exchange.model)}).encode()
        headers = [
            ("content-type", "application/json"),
            ("x-amzn-requestid", exchange.id("", 32).lower()),
            ("x-amzn-errortype", f"{name}:http://internal.amazon.com/coral/com.amazon.bedrock/"),
        ]
        return Reply(status, body, headers + retry_headers(exchange.behaviour))

    def stream_error(self, exchange: Exchange, kind: str) -> bytes:
        known = _STREAM_KINDS.get(kind, "server_error")
        headers = {
            ":exception-type": _STREAM_NAMES[known],
            ":content-type": "application/json",
            ":message-type": "exception",
        }
        return frame(headers, encode({"message": _KINDS[known][2]}))

    def malformed(self, content: bool) -> bytes:
        headers = {":event-type": "contentBlockDelta" if content else "ping", ":message-type": "event"}
        return frame(headers | {":content-type": "application/json"}, b'{"contentBlockIndex":0,"delta":{"te')


_PROFILE = re.compile(r"(us-gov|us|eu|apac|jp|au|global)\.(?=[a-z0-9]+\.)")
_PROFILE_ONLY = re.compile(r"anthropic\.claude-[a-z]+-(?:[4-9]|\d\d)")
"""Claude 4 and later have no on-demand throughput of their own (docs.aws.amazon.com, "Inference profiles", 2026)."""
_AREAS = {
    "us": ("us",),
    "ca": ("us",),
    "eu": ("eu",),
    "ap": ("apac", "jp", "au"),
}


def _region(exchange: Exchange) -> str | None:
    return exchange.provider.partition("@")[2] or None


def _check_profile(model: str, region: str | None) -> None:
    """Raises Refusal for an inference profile that the region cannot call, and for a model that has none but those."""
    if region is None:
        return
    match = _PROFILE.match(model)
    if match is None and _PROFILE_ONLY.match(model):
        raise Refusal("on_demand")
    if match is not None and match[1] not in ("global", *_AREAS.get(region[:2], ())):
        raise Refusal("wrong_profile")


def _blocks(exchange: Exchange, answer: Answer) -> Iterator[dict[str, Any]]:
    if answer.thinking:
        text = {"text": answer.thinking, "signature": sign(exchange.seed, "anthropic", answer.thinking)}
        yield {"reasoningContent": {"reasoningText": text}}
    if answer.text:
        yield {"text": answer.text}
    for call in answer.calls:
        yield {
            "toolUse": {
                "toolUseId": exchange.id("tooluse_", 22),
                "name": call.name,
                "input": json.loads(call.arguments),
            }
        }


def _block(index: int, block: dict[str, Any]) -> Iterator[Piece]:
    """Text and reasoning blocks have no start event; tool blocks have."""

    def delta(body: dict[str, Any], tokens: int = 1) -> Piece:
        return Piece(event("contentBlockDelta", {"contentBlockIndex": index, "delta": body}), tokens=tokens)

    if "text" in block:
        for token in pieces(block["text"]):
            yield delta({"text": token})
    elif "reasoningContent" in block:
        text = block["reasoningContent"]["reasoningText"]
        for token in pieces(text["text"]):
            yield delta({"reasoningContent": {"text": token}})
        yield delta({"reasoningContent": {"signature": text["signature"]}}, 0)
    else:
        use = block["toolUse"]
        start = {"toolUse": {"toolUseId": use["toolUseId"], "name": use["name"]}}
        yield Piece(event("contentBlockStart", {"contentBlockIndex": index, "start": start}), "extra")
        arguments = encode(use["input"]).decode()
        for at in range(0, len(arguments), _ARGUMENT_PIECE):
            yield delta({"toolUse": {"input": arguments[at : at + _ARGUMENT_PIECE]}})
    yield Piece(event("contentBlockStop", {"contentBlockIndex": index}), "extra")


def _usage(usage: Usage) -> dict[str, int]:
    """Like Anthropic's, the input figure leaves out what the cache read and wrote."""
    figures = {
        "inputTokens": usage.input - usage.cached - usage.written,
        "outputTokens": usage.output,
        "totalTokens": usage.input + usage.output,
    }
    if usage.cached or usage.written:
        figures |= {"cacheReadInputTokens": usage.cached, "cacheWriteInputTokens": usage.written}
    return figures


def _json(status: int, body: Any, tokens: int) -> Reply:
    return Reply(status, encode(body), [("content-type", "application/json")], tokens)
