"""Reading JSON that somebody else wrote: typed fields out of plain objects, errors that name the field."""

from __future__ import annotations

import base64
import binascii
from typing import Any

import msgspec

from tieline.dialects.base import Garbled
from tieline.types.errors import InvalidRequest
from tieline.types.usage import MAX_TOKENS

Json = dict[str, Any]

_ANY = msgspec.json.Decoder()
_ENCODER = msgspec.json.Encoder()

BROKEN_JSON = (msgspec.MsgspecError, RecursionError, ValueError)
"""What decoding can raise: malformed text, nesting beyond the interpreter's limit, bytes that are not UTF-8."""


def request_body(body: bytes) -> Json:
    """A request, decoded. Raises InvalidRequest."""
    try:
        decoded = _ANY.decode(body)
    except BROKEN_JSON as error:
        raise InvalidRequest(f"The body is not valid JSON: {_brief(error)}.") from None
    if not isinstance(decoded, dict):
        raise InvalidRequest("The body must be a JSON object.")
    return decoded


def value_of(raw: msgspec.Raw, at: str) -> Any:
    """One undecoded field. Raises InvalidRequest."""
    try:
        return _ANY.decode(raw)
    except BROKEN_JSON as error:
        raise InvalidRequest(f"{at} is not valid JSON: {_brief(error)}.", param=at) from None


def answer_body(body: bytes | memoryview, *, carries_content: bool = True) -> Json:
    """What an upstream sent. Raises Garbled."""
    try:
        decoded = _ANY.decode(body)
    except BROKEN_JSON as error:
        raise Garbled(f"not JSON: {_brief(error)}", carries_content=carries_content) from None
    if not isinstance(decoded, dict):
        raise Garbled("not a JSON object", carries_content=carries_content)
    return decoded


def loosely(body: bytes | memoryview) -> Any:
    """What an upstream sent, as far as it can be read; else an empty object."""
    try:
        return _ANY.decode(body)
    except BROKEN_JSON:
        return {}


def to_json(value: Any) -> bytes:
    return _ENCODER.encode(value)


def to_text(value: Any) -> str:
    return _ENCODER.encode(value).decode()


def wrong(at: str, expected: str) -> InvalidRequest:
    return InvalidRequest(f"{at} must be {expected}.", param=at)


def string(source: Json, name: str, at: str = "") -> str | None:
    value = source.get(name)
    if value is None or isinstance(value, str):
        return value
    raise wrong(path(at, name), "a string")


def needed_string(source: Json, name: str, at: str = "") -> str:
    value = string(source, name, at)
    if value is None:
        raise InvalidRequest(f"{path(at, name)} is required.", param=path(at, name))
    return value


def number(source: Json, name: str, at: str = "") -> float | None:
    value = source.get(name)
    if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
        return value
    raise wrong(path(at, name), "a number")


def integer(source: Json, name: str, at: str = "") -> int | None:
    value = source.get(name)
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    raise wrong(path(at, name), "an integer")


def flag(source: Json, name: str, at: str = "") -> bool | None:
    value = source.get(name)
    if value is None or isinstance(value, bool):
        return value
    raise wrong(path(at, name), "true or false")


def mapping(source: Json, name: str, at: str = "") -> Json | None:
    value = source.get(name)
    if value is None or isinstance(value, dict):
        return value
    raise wrong(path(at, name), "an object")


def array(source: Json, name: str, at: str = "") -> list[Any]:
    """Absent and null are empty."""
    value = source.get(name)
    if value is None:
        return []
    if isinstance(value, list):
        return value
    raise wrong(path(at, name), "an array")


def strings(source: Json, name: str, at: str = "") -> list[str]:
    values = array(source, name, at)
    if all(isinstance(value, str) for value in values):
        return values
    raise wrong(path(at, name), "an array of strings")


def objects(source: Json, name: str, at: str = "") -> list[Json]:
    values = array(source, name, at)
    if all(isinstance(value, dict) for value in values):
        return values
    raise wrong(path(at, name), "an array of objects")


def plain_text(data: str, at: str) -> str:
    """The text of a text file, which callers send as base64. Raises InvalidRequest."""
    try:
        return base64.b64decode(data, validate=True).decode()
    except (binascii.Error, ValueError):
        raise InvalidRequest(f"`{at}` is not base64 of UTF-8 text.", param=at) from None


def path(at: str, name: str) -> str:
    return f"{at}.{name}" if at else name


def arguments_object(arguments: str) -> Json:
    """A tool call's arguments as an object; empty text is no arguments. Of a call that the model wrote wrong its words are kept,
    since it is part of the conversation: the tool's answer says what was wrong."""
    if not arguments.strip():
        return {}
    try:
        decoded = _ANY.decode(arguments)
    except BROKEN_JSON:
        decoded = None
    return decoded if isinstance(decoded, dict) else {"invalid_arguments": arguments}


def object_of(value: Any) -> Json:
    """Of an answer: the object, or an empty one for null and anything else."""
    return value if isinstance(value, dict) else {}


def list_of(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def text_of(value: Any) -> str:
    return value if isinstance(value, str) else ""


def optional_text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def count_of(value: Any) -> int:
    """A token count; nulls, negatives and nonsense are 0 (WIRE_FACTS 30)."""
    if type(value) is not int and type(value) is not float:
        return 0
    return int(value) if 0 <= value < MAX_TOKENS else 0


def logprobs_of(given: Any) -> list[Json]:
    """Of an answer: Chat's entries (an object with ``content``, or the list), as far as they are what they should be."""
    content = given.get("content") if isinstance(given, dict) else given
    entries = [entry for entry in list_of(content) if isinstance(entry, dict)]
    return [
        {
            **_logprob(entry),
            "top_logprobs": [_logprob(object_of(one)) for one in list_of(entry.get("top_logprobs"))],
        }
        for entry in entries
    ]


def _logprob(entry: Json) -> Json:
    value = entry.get("logprob")
    known = isinstance(value, int | float) and not isinstance(value, bool)
    return {
        "token": text_of(entry.get("token")),
        "logprob": value if known else 0.0,
        "bytes": [one for one in list_of(entry.get("bytes")) if isinstance(one, int)],
    }


def without_nulls(source: Json) -> Json:
    return {name: value for name, value in source.items() if value is not None}


def _brief(error: BaseException) -> str:
    return str(error)[:200] if not isinstance(error, RecursionError) else "nested too deeply"
