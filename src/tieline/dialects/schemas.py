"""JSON Schemas cut to what a host accepts (WIRE_FACTS 16)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from tieline.types.request import Request

_IDLE = frozenset(("$schema", "$id", "$comment", "discriminator", "propertyOrdering"))
"""Keywords that say nothing of what is valid."""
_NOTES = _IDLE | {"title", "description", "default"}
_CLOSED_KEEPS = frozenset(("title", "description", "const", "default", "required"))
_CLOSED_FORMATS = frozenset(
    ("date-time", "time", "date", "duration", "email", "hostname", "uri", "ipv4", "ipv6", "uuid")
)
_STRICT_KEEPS = _CLOSED_KEEPS - {"default"} | {
    *("$ref", "$defs", "definitions", "type", "properties", "additionalProperties", "items", "anyOf", "enum"),
    *("pattern", "format", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    *("minItems", "maxItems"),
}
_STRICT_FORMATS = _CLOSED_FORMATS - {"uri"}
_NAMED_SCHEMAS = ("properties", "$defs", "definitions")
_LISTED_SCHEMAS = ("anyOf", "oneOf", "allOf", "prefixItems")
_SINGLE_SCHEMAS = ("items", "not", "additionalProperties")


def stripped(schema: Any, keywords: tuple[str, ...]) -> Any:
    """A schema without the keywords that a host rejects; names of properties are not keywords (WIRE_FACTS 16)."""
    if not keywords:
        return schema
    if isinstance(schema, list):
        return [stripped(each, keywords) for each in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {}
    for name, value in schema.items():
        if name in keywords:
            continue
        if name in ("properties", "$defs", "definitions", "patternProperties") and isinstance(value, dict):
            kept[name] = {key: stripped(inner, keywords) for key, inner in value.items()}
        elif name in ("enum", "const", "default", "examples", "required"):
            kept[name] = value
        else:
            kept[name] = stripped(value, keywords)
    return kept


# Claude's constrained output -------------------------------------------------------------------------------------------


class _Inexpressible(Exception):
    pass


def closed(schema: Any) -> dict[str, Any] | None:
    """A schema as Claude's constrained output takes it; None where it cannot be said so.

    Every object is closed. Bounds, patterns and what else is refused there with a 400 move into the description, where the
    model can still follow them. A schema that contains itself, parts of an object in several places and an object of any keys cannot be said.
    Source: platform.claude.com/docs/en/build-with-claude/structured-outputs (JSON Schema limitations).
    """
    if not isinstance(schema, dict):
        return None
    try:
        return None if _contains_itself(schema) else _closed(schema)
    except (_Inexpressible, RecursionError):  # hundreds of objects within each other
        return None


def _closed(schema: Any) -> dict[str, Any]:
    if not isinstance(schema, dict):
        raise _Inexpressible
    rest = {name: value for name, value in schema.items() if name not in _IDLE}
    out: dict[str, Any] = {}
    for name in ("$defs", "definitions"):
        held = rest.pop(name, None)
        if isinstance(held, dict):
            out[name] = {key: _closed(each) for key, each in held.items()}
    if "$ref" in rest:
        if rest.keys() - _NOTES - {"$ref"}:
            raise _Inexpressible  # nothing may stand beside it
        return {**out, "$ref": rest["$ref"]}
    merged = rest.pop("allOf", None)
    if merged is not None:
        if not isinstance(merged, list) or len(merged) != 1 or not isinstance(merged[0], dict):
            raise _Inexpressible
        if ((rest.keys() & merged[0].keys()) - _NOTES) or ("$ref" in merged[0] and rest.keys() - _NOTES):
            raise _Inexpressible  # both hold
        return {**out, **_closed({**rest, **merged[0]})}
    out.update({name: rest.pop(name) for name in list(rest) if name in _CLOSED_KEEPS})
    _close_kinds(rest, out)
    if rest:
        said = f"It must fit {msgspec.json.encode(rest).decode()}"
        described = out.get("description")
        out["description"] = f"{described}\n\n{said}" if described else said
    return out


def _close_kinds(rest: dict[str, Any], out: dict[str, Any]) -> None:
    """Moves what may stay from ``rest`` to ``out``."""
    either = rest.pop("anyOf", None) or rest.pop("oneOf", None)
    if isinstance(either, list):
        out["anyOf"] = [_closed(each) for each in either]
    values = rest.get("enum")
    if isinstance(values, list) and values and not any(isinstance(value, dict | list) for value in values):
        out["enum"] = rest.pop("enum")
    kind = rest.pop("type", "object" if "properties" in rest else None)
    if kind is not None:
        out["type"] = kind
    elif not out.keys() & {"anyOf", "enum", "const"}:
        raise _Inexpressible
    kinds = kind if isinstance(kind, list) else [kind]
    if "object" in kinds:
        if "anyOf" in out:
            raise _Inexpressible  # closed, each of them would refuse what the other asks for
        _close_object(rest, out)
    if "array" in kinds:
        if isinstance(rest.get("items"), dict):
            out["items"] = _closed(rest.pop("items"))
        if rest.get("minItems") in (0, 1):
            out["minItems"] = rest.pop("minItems")
    if "string" in kinds and str(rest.get("format")) in _CLOSED_FORMATS:
        out["format"] = rest.pop("format")


def _close_object(rest: dict[str, Any], out: dict[str, Any]) -> None:
    named, others = rest.pop("properties", None), rest.pop("additionalProperties", None)
    unnamed = not named and others is not False and (others is not None or named is None)
    if unnamed or not isinstance(named, dict | None):
        raise _Inexpressible
    out["properties"] = {key: _closed(each) for key, each in (named or {}).items()}
    out["additionalProperties"] = False


# OpenAI's strict mode ---------------------------------------------------------------------------------------------------


def strict_of(wanted: bool | None, schema: Any, request: Request) -> bool | None:
    """``strict`` for OpenAI. Other vendors' mode of that name takes schemas that OpenAI's refuses: left out for those.

    It takes objects that are closed and require all of their keys, and not every keyword
    (developers.openai.com/api/docs/guides/structured-outputs, supported schemas).
    """
    if not wanted or request.origin.startswith("openai_"):
        return wanted
    try:
        fits = isinstance(schema, dict) and schema.get("type") == "object" and _fits_strict(schema)
    except RecursionError:
        fits = False
    return wanted if fits else None


def parameters_of(schema: dict[str, Any]) -> dict[str, Any]:
    """A tool's parameters for OpenAI: an object that names its properties, with arrays that say of what. It answers 400 to
    others (`invalid_function_parameters`), which Anthropic takes and MCP servers write."""
    try:
        filled = _with_items(schema)
    except RecursionError:
        return schema
    if "$ref" in filled:
        return filled
    if filled.get("type") != "object":
        filled = {"type": "object", **{name: value for name, value in filled.items() if name != "type"}}
    return filled if "properties" in filled else {**filled, "properties": {}}


def _with_items(schema: dict[str, Any]) -> dict[str, Any]:
    out = {name: _inner_with_items(name, value) for name, value in schema.items()}
    kind = schema.get("type")
    if (kind == "array" or (isinstance(kind, list) and "array" in kind)) and "items" not in schema:
        out["items"] = {}
    return out


def _inner_with_items(name: str, value: Any) -> Any:
    if name in _NAMED_SCHEMAS and isinstance(value, dict):
        return {key: _with_items(inner) if isinstance(inner, dict) else inner for key, inner in value.items()}
    if name in _LISTED_SCHEMAS and isinstance(value, list):
        return [_with_items(inner) if isinstance(inner, dict) else inner for inner in value]
    if name in _SINGLE_SCHEMAS and isinstance(value, dict):
        return _with_items(value)
    return value


def _fits_strict(schema: Any) -> bool:
    if not isinstance(schema, dict) or not _STRICT_KEEPS.issuperset(schema):
        return False
    kind, named, required = schema.get("type"), schema.get("properties") or {}, schema.get("required") or []
    if kind == "object" or (isinstance(kind, list) and "object" in kind) or named:
        if not isinstance(named, dict) or not isinstance(required, list):
            return False
        if schema.get("additionalProperties") is not False or any(key not in required for key in named):
            return False
    if "format" in schema and str(schema["format"]) not in _STRICT_FORMATS:
        return False
    if not schema.keys() & {"type", "anyOf", "$ref", "enum", "const"}:
        return False
    return all(map(_fits_strict, _schemas_in(schema)))


def _schemas_in(schema: dict[str, Any]) -> Iterator[Any]:
    for name, value in schema.items():
        if name in _NAMED_SCHEMAS and isinstance(value, dict):
            yield from value.values()
        elif name in _LISTED_SCHEMAS and isinstance(value, list):
            yield from value
        elif name in _SINGLE_SCHEMAS and isinstance(value, dict):
            yield value


def _contains_itself(root: dict[str, Any]) -> bool:
    """Whether a reference leads back to itself, or out of the schema."""
    settled: set[str] = set()

    def loops(schema: Any, inside: tuple[str, ...]) -> bool:
        if not isinstance(schema, dict):
            return False
        reference = schema.get("$ref")
        if isinstance(reference, str) and reference not in settled:
            if reference in inside or (found := _referred(root, reference)) is None:
                return True
            if loops(found, (*inside, reference)):
                return True
            settled.add(reference)
        return any(loops(each, inside) for each in _schemas_in(schema))

    return loops(root, ("#",))


def _referred(root: dict[str, Any], reference: str) -> dict[str, Any] | None:
    here: Any = root
    for step in reference.split("/")[1:]:
        name = step.replace("~1", "/").replace("~0", "~")
        here = here.get(name) if isinstance(here, dict) else None
    return here if reference.startswith("#/") and isinstance(here, dict) else None
