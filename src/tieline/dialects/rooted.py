"""Answers whose schema is no object (Gemini's own example asks for a list): other vendors take objects only, so it becomes the
one field of an object, and the answer is taken out of it again.

The field's name is reserved, so that an answer that was never put into one passes as it is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from tieline.types.events import BlockStart, BlockStop, Event, TextDelta
from tieline.types.request import Request, Text
from tieline.types.response import Choice, Response

FIELD = "tieline_answer"
_SHARED = ("$defs", "definitions")
_MOVED = f"#/$defs/{FIELD}"
"""Where a schema that contains itself stands in the object's."""
_BEGIN = re.compile(r'\s*\{\s*"' + FIELD + r'"\s*:\s*(?=\S)')
_MAY_BEGIN = len(FIELD) + 40
"""Characters within which the beginning has been seen, white space included."""
_END = " \t\r\n}"
"""Of what may stand where the object ends."""


def is_rootless(request: Request) -> bool:
    wanted = request.response_format
    if wanted is None or wanted.kind != "json_schema" or not isinstance(wanted.schema, dict):
        return False
    kind = wanted.schema.get("type")
    if kind is None:
        return (
            bool(wanted.schema.keys() & {"anyOf", "oneOf", "enum", "items"})
            and "properties" not in wanted.schema
        )
    return bool(kind != "object")


def rooted(request: Request) -> Request:
    """The request with an object's schema."""
    wanted = request.response_format
    if wanted is None or wanted.schema is None or not is_rootless(request):
        return request
    try:
        whole = _moved(wanted.schema)
    except RecursionError:  # hundreds within each other
        return request
    inner = {name: value for name, value in whole.items() if name not in (*_SHARED, "$schema")}
    shared = {name: whole[name] for name in _SHARED if name in whole}
    if whole != wanted.schema:
        shared["$defs"] = {**(shared.get("$defs") or {}), FIELD: inner}
        inner = {"$ref": _MOVED}
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {FIELD: inner},
        "required": [FIELD],
        "additionalProperties": False,
        **shared,
    }
    return replace(request, response_format=replace(wanted, schema=schema))


def _moved(schema: Any) -> Any:
    """With references to the root, of which the new one would be another, to where it stands now."""
    if isinstance(schema, list):
        return [_moved(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    out = {name: _moved(value) for name, value in schema.items()}
    at = out.get("$ref")
    if isinstance(at, str) and (at == "#" or (at.startswith("#/") and at.split("/")[1] not in _SHARED)):
        out["$ref"] = _MOVED + at[1:]
    return out


class _Inside:
    """Text as it comes, without the object around it."""

    __slots__ = ("_begun", "_held", "_within")

    def __init__(self) -> None:
        self._begun = False
        self._within = False
        self._held = ""

    def add(self, text: str) -> str:
        text = self._held + text
        if not self._begun:
            found = _BEGIN.match(text)
            if found is None and len(text) < _MAY_BEGIN and text.lstrip()[:1] in ("", "{"):
                self._held = text
                return ""
            self._begun, self._within = True, found is not None
            text = text[found.end() :] if found else text
        if not self._within:
            self._held = ""
            return text
        at = len(text.rstrip(_END))
        self._held = text[at:]
        return text[:at]

    def rest(self) -> str:
        """What was held: white space and braces, of which the last closes the object."""
        held, self._held = self._held, ""
        return "".join(held.rstrip().rsplit("}", 1)).rstrip() if self._within else held


class Unrooted:
    """The answer is taken out of the object (an ``AnswerFilter``)."""

    __slots__ = ("_texts",)

    def __init__(self) -> None:
        self._texts: dict[int, _Inside] = {}

    def whole(self, response: Response) -> Response:
        return replace(response, choices=[_unrooted(choice) for choice in response.choices])

    def streamed(self, event: Event) -> Sequence[Event]:
        if isinstance(event, BlockStart) and event.kind == "text":
            self._texts[event.index] = _Inside()
        elif isinstance(event, TextDelta) and event.index in self._texts:
            text = self._texts[event.index].add(event.text)
            return (TextDelta(event.index, text, event.logprobs),) if text else ()
        elif isinstance(event, BlockStop) and event.index in self._texts:
            rest = self._texts.pop(event.index).rest()
            return (TextDelta(event.index, rest), event) if rest else (event,)
        return (event,)


def _unrooted(choice: Choice) -> Choice:
    def out(part: Any) -> Any:
        if not isinstance(part, Text):
            return part
        inside = _Inside()
        return replace(part, text=inside.add(part.text) + inside.rest())

    return replace(choice, parts=[out(part) for part in choice.parts])
