"""A caller's JSON body read piece by piece, so that what is wrong is said by field and by what was expected."""

from __future__ import annotations

import re
from typing import Any, NoReturn, TypeVar

import msgspec
from msgspec import Raw

from tieline.types.errors import InvalidRequest

T = TypeVar("T")
Fields = dict[str, Raw]

MAX_DEPTH_HINT = "Flatten it: nothing that a model reads needs such nesting."
_TOP = msgspec.json.Decoder(Fields)
_NULL = Raw(b"null")
_PLACE = re.compile(r"^(?P<what>.*?)(?: - at `\$(?P<path>.*)`)?$", re.DOTALL)
_HALF_CHARACTER = re.compile(
    rb"\\u[dD](?:[89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD])[c-fC-F])"
)
"""A surrogate without its other one, which msgspec takes for other faults. JavaScript writes it where a text is cut."""

BOOL = msgspec.json.Decoder(bool)
INT = msgspec.json.Decoder(int)
STR = msgspec.json.Decoder(str)
ANY = msgspec.json.Decoder()
OBJECT = msgspec.json.Decoder(dict[str, Any])


def top_level(body: bytes) -> Fields:
    """The body's fields, undecoded. Raises InvalidRequest: not UTF-8, not JSON, not an object, nested too deeply."""
    try:
        str(body, "utf-8")
        fields = _TOP.decode(body)
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"The body is not valid UTF-8 (byte {error.start}).") from None
    except RecursionError:
        raise InvalidRequest("The body is nested too deeply.", hint=MAX_DEPTH_HINT) from None
    except msgspec.ValidationError:
        raise InvalidRequest("The body must be a JSON object.") from None
    except msgspec.DecodeError as error:
        raise InvalidRequest(_malformed(body, str(error))) from None
    for name in fields:
        if len(name) == 5 and name != "model" and name.lower() == "model":
            raise InvalidRequest(
                f"`{name}` is not a field, `model` is.",
                param=name,
                hint="Hosts written in Go read either, and would serve another model than was allowed and priced.",
            )
    return fields


def read(fields: Fields, name: str, decoder: msgspec.json.Decoder[T]) -> T | None:
    """One field decoded; None when it is absent or null. Raises InvalidRequest naming it."""
    raw = fields.get(name)
    if raw is None or raw == _NULL:
        return None
    try:
        return decoder.decode(raw)
    except (msgspec.DecodeError, RecursionError) as error:
        refuse(error, name)


def given(fields: Fields, name: str) -> bool:
    """Whether the field is there and not null."""
    raw = fields.get(name)
    return raw is not None and raw != _NULL


def refuse(error: Exception, root: str = "") -> NoReturn:
    """What msgspec found wrong, as InvalidRequest with the path as ``param``."""
    if isinstance(error, RecursionError):
        raise InvalidRequest(
            f"`{root or 'body'}` is nested too deeply.", param=root or None, hint=MAX_DEPTH_HINT
        ) from None
    found = _PLACE.match(str(error))
    what, path = (found["what"], found["path"] or "") if found else (str(error), "")
    param = (root + path).lstrip(".") or None
    if isinstance(error, msgspec.ValidationError):
        place = f"`{param}`" if param else "The body"
        raise InvalidRequest(f"{place}: {_plain(what)}.", param=param) from None
    raise InvalidRequest(f"`{param}` is not valid JSON: {what}.", param=param) from None


def _plain(what: str) -> str:
    return what[:1].lower() + what[1:]


def _malformed(body: bytes, what: str) -> str:
    if not body.strip():
        return "The body is empty; a JSON object is expected."
    half = _HALF_CHARACTER.search(body)
    if half is not None and ("truncated" in what or "escape" in what or "surrogate" in what):
        return f"The body has half a character (byte {half.start()}): a text was cut inside one, an emoji perhaps."
    if "truncated" in what:
        return f"The body is not valid JSON: it ends early, after byte {len(body)}."
    return f"The body is not valid JSON: {what.removeprefix('JSON is malformed: ')}."
