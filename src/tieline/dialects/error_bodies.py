"""What vendors put into error bodies, whatever the shape: nothing here raises."""

from __future__ import annotations

from typing import Any

import msgspec

from tieline.types.call import Headers
from tieline.types.errors import ErrorInfo

MAX_MESSAGE = 1000
_ANY = msgspec.json.Decoder()

STATUS_OF_TYPE = {
    "invalid_request_error": 400,
    "bad_request": 400,
    "context_length_exceeded": 400,
    "content_filter": 400,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "model_not_found": 404,
    "timeout_error": 504,
    "gateway_timeout_error": 504,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "too_many_requests": 429,
    "api_error": 500,
    "server_error": 500,
    "internal_server_error": 500,
    "internal_error": 500,
    "service_unavailable": 503,
    "service_unavailable_error": 503,
    "overloaded_error": 529,
}
"""The status that an in-band error would have had before the stream (WIRE_FACTS 9)."""


def info_of_body(headers: Headers, body: bytes) -> ErrorInfo:
    """The vendor's own words; HTML, empty and unknown shapes give what can be had (WIRE_FACTS 35)."""
    if _is_html(headers, body):
        return ErrorInfo(message=_title(body), html=True)
    try:
        value = _ANY.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ErrorInfo(message=body.decode("utf-8", "replace").strip()[:MAX_MESSAGE])
    return info_of_value(value)


def info_of_value(value: Any) -> ErrorInfo:
    """Of a decoded body, or of what stands under its ``error``."""
    if isinstance(value, list) and value:
        value = value[0]
    if not isinstance(value, dict):
        return ErrorInfo(message=_words(value))
    inner = value.get("error") or value.get("errors")
    if isinstance(inner, list) and inner:
        inner = inner[0]
    if isinstance(inner, dict):
        return _info_of_object(inner)
    if inner:
        return ErrorInfo(message=_words(inner), code=_word(value.get("code")), type=_word(value.get("type")))
    return _info_of_object(value)


def status_of(info: ErrorInfo) -> int | None:
    """The HTTP status that an error inside a 200 stands for, where its code or type tells."""
    for word in (info.code, info.type):
        if word is None:
            continue
        if word.isascii() and word.isdigit() and 400 <= int(word) <= 599:
            return int(word)
        known = STATUS_OF_TYPE.get(word.lower())
        if known:
            return known
    return None


def _info_of_object(error: dict[str, Any]) -> ErrorInfo:
    message = next(
        (error[key] for key in ("message", "detail", "msg", "error_message") if error.get(key)), ""
    )
    code = error.get("code")
    status = error.get("status")
    return ErrorInfo(
        message=_words(message) + _raw_reason(error),
        code=_word(code if code is not None else error.get("status_code")),
        type=_word(error.get("type") or (status if isinstance(status, str) else None)),
        param=_word(error.get("param")),
    )


def _raw_reason(error: dict[str, Any]) -> str:
    # OpenRouter wraps what the provider behind it said (openrouter.ai/docs, "Errors").
    metadata = error.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    return f": {_words(raw)}"[:MAX_MESSAGE] if raw else ""


def _word(value: Any) -> str | None:
    return None if value is None or value == "" else str(value)[:200]


def _words(value: Any) -> str:
    if isinstance(value, str):
        return value[:MAX_MESSAGE]
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "; ".join(_words(each.get("msg") or each) for each in value[:5] if isinstance(each, dict))
    if value in (None, {}, []):
        return ""
    try:
        return msgspec.json.encode(value).decode()[:MAX_MESSAGE]
    except (TypeError, UnicodeEncodeError):
        return ""


def _is_html(headers: Headers, body: bytes) -> bool:
    if body.lstrip()[:1] == b"<":
        return True
    return any(name == b"content-type" and b"text/html" in value for name, value in headers)


def _title(body: bytes) -> str:
    start, end = body.find(b"<title>"), body.find(b"</title>")
    if 0 <= start < end:
        return body[start + 7 : end].decode("utf-8", "replace").strip()[:200]
    return "an HTML page instead of an answer"
