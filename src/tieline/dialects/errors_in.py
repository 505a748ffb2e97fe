"""Error bodies that several vendors share, and pages that no vendor wrote."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from tieline.dialects.fields import BROKEN_JSON, object_of, optional_text, text_of
from tieline.types.errors import ErrorInfo

MAX_MESSAGE = 1000
_TITLE = re.compile(rb"<title[^>]{0,200}>([^<]{1,300})", re.IGNORECASE)


def json_or_info(body: bytes) -> Any:
    """The decoded body, or an ErrorInfo where it is not JSON (WIRE_FACTS 35). Never raises."""
    try:
        return msgspec.json.decode(body)
    except BROKEN_JSON:
        return not_json(body)


def not_json(body: bytes) -> ErrorInfo:
    start = body[:2000].lstrip()
    if start[:1] == b"<":
        title = _TITLE.search(start)
        text = title.group(1).decode("utf-8", "replace").strip() if title else "an HTML page"
        return ErrorInfo(message=text, html=True)
    return ErrorInfo(message=start.decode("utf-8", "replace")[:MAX_MESSAGE].strip())


def openai_error(body: bytes) -> ErrorInfo:
    """`{"error": {message, type, param, code}}` and its relatives. Never raises."""
    decoded = json_or_info(body)
    if isinstance(decoded, ErrorInfo):
        return decoded
    if isinstance(decoded, list) and decoded:
        decoded = decoded[0]
    outer = object_of(decoded)
    error = outer.get("error", outer)
    if isinstance(error, str):
        return ErrorInfo(message=error[:MAX_MESSAGE], code=optional_text(outer.get("code")))
    error = object_of(error)
    message = text_of(error.get("message")) or text_of(error.get("detail")) or text_of(outer.get("message"))
    code = error.get("code")
    return ErrorInfo(
        message=message[:MAX_MESSAGE],
        code=str(code) if isinstance(code, str | int) and not isinstance(code, bool) else None,
        type=optional_text(error.get("type")),
        param=optional_text(error.get("param")),
    )
