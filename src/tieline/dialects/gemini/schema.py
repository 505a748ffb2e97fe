"""JSON Schema and Gemini's own Schema, each as the other (WIRE_FACTS 16)."""

from __future__ import annotations

from typing import Any

from tieline.dialects.fields import Json

_MAX_DEPTH = 64
"""Of references followed into one another; OpenAI allows 10 levels of nesting, Gemini about as many."""
_SCHEMAS = frozenset(
    ("items", "additionalProperties", "not", "contains", "propertyNames", "if", "then", "else")
)
_SCHEMA_LISTS = frozenset(("anyOf", "oneOf", "allOf", "prefixItems"))
_SCHEMA_MAPS = frozenset(("properties", "$defs", "definitions", "patternProperties", "dependentSchemas"))


def _inside(name: str, value: Any, change: Any) -> Any:
    """``value`` of keyword ``name`` with the schemas in it changed."""
    if name in _SCHEMAS and isinstance(value, dict):
        return change(value)
    if name in _SCHEMA_LISTS and isinstance(value, list):
        return [change(item) if isinstance(item, dict) else item for item in value]
    if name in _SCHEMA_MAPS and isinstance(value, dict):
        return {key: change(item) if isinstance(item, dict) else item for key, item in value.items()}
    return value


def inlined(schema: Json) -> Json:
    """References replaced by what they refer to. A schema that contains itself ends in an open object there."""
    return _Inliner(schema).resolve(schema, ())


class _Inliner:
    def __init__(self, root: Json) -> None:
        self._root = root

    def resolve(self, schema: Json, inside: tuple[str, ...]) -> Json:
        reference = schema.get("$ref")
        rest = {name: value for name, value in schema.items() if name not in ("$ref", "$defs", "definitions")}
        if isinstance(reference, str):
            found = self._find(reference)
            if found is None or reference in inside or len(inside) >= _MAX_DEPTH:
                return {"type": "object", **rest}
            return {**self.resolve(found, (*inside, reference)), **rest}
        return {
            name: _inside(name, value, lambda inner: self.resolve(inner, inside))
            for name, value in rest.items()
        }

    def _find(self, reference: str) -> Json | None:
        if not reference.startswith("#"):
            return None
        here: Any = self._root
        for step in reference[1:].split("/")[1:]:
            name = step.replace("~1", "/").replace("~0", "~")
            here = here.get(name) if isinstance(here, dict) else None
        return here if isinstance(here, dict) else None


# Gemini's own Schema type ---------------------------------------------------------------------------------------------

_GEMINI_KEEPS = frozenset(
    [
        "description",
        "title",
        "nullable",
        "format",
        "items",
        "properties",
        "required",
        "minimum",
        "maximum",
        "minItems",
        "maxItems",
        "minLength",
        "maxLength",
        "minProperties",
        "maxProperties",
        "pattern",
        "default",
        "example",
        "propertyOrdering",
    ]
)
"""Of `Schema` in the Gemini API; it answers any other keyword with a 400 (checked against google-genai 3.4)."""
_STRING_FORMATS = frozenset(("enum", "date-time"))


def to_gemini(schema: Json) -> Json:
    """JSON Schema as Gemini's OpenAPI subset: references inlined, one type each, null as ``nullable``."""
    return _gemini(inlined(schema))


def _gemini(schema: Json) -> Json:
    out: Json = {name: value for name, value in schema.items() if name in _GEMINI_KEEPS}
    if "exclusiveMinimum" in schema and "minimum" not in out:
        out["minimum"] = schema["exclusiveMinimum"]
    if "exclusiveMaximum" in schema and "maximum" not in out:
        out["maximum"] = schema["exclusiveMaximum"]
    for name in ("properties", "items"):
        if name in out:
            out[name] = _inside(name, out[name], _gemini)
    _gemini_enum(schema, out)
    _gemini_type(schema, out)
    _gemini_any_of(schema, out)
    if out.get("type") == "STRING" and out.get("format") not in _STRING_FORMATS:
        out.pop("format", None)
    if out.get("type") == "OBJECT" and not out.get("properties"):
        out.pop("properties", None)
    return out


def _gemini_enum(schema: Json, out: Json) -> None:
    """Enums are lists of strings there, and an empty one is refused; other values constrain by type alone."""
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if not isinstance(values, list):
        return
    if None in values:
        out["nullable"] = True
    texts = [value for value in values if isinstance(value, str) and value]
    if texts:
        out["enum"] = texts
        out.setdefault("type", "STRING")
    elif values and isinstance(values[0], int | float):
        described = out.get("description")
        allowed = "One of: " + ", ".join(str(value) for value in values)
        out["description"] = f"{described} {allowed}" if described else allowed


def _gemini_type(schema: Json, out: Json) -> None:
    given = schema.get("type")
    if isinstance(given, str):
        if given.lower() == "null":
            out["nullable"] = True
        else:
            out["type"] = given.upper()
        return
    if not isinstance(given, list):
        if "properties" in out:
            out.setdefault("type", "OBJECT")
        return
    types = [name for name in given if isinstance(name, str) and name != "null"]
    if len(types) != len(given):
        out["nullable"] = True
    if len(types) == 1:
        out["type"] = types[0].upper()
    elif types:
        out["anyOf"] = [_gemini({**_of_type(schema, name), "type": name}) for name in types]


def _of_type(schema: Json, name: str) -> Json:
    if name == "array":
        return {key: schema[key] for key in ("items", "minItems", "maxItems") if key in schema}
    if name == "object":
        return {key: schema[key] for key in ("properties", "required") if key in schema}
    return {}


def _gemini_any_of(schema: Json, out: Json) -> None:
    branches = schema.get("anyOf") or schema.get("oneOf")
    if isinstance(branches, list):
        shapes = [branch for branch in branches if isinstance(branch, dict) and branch.get("type") != "null"]
        if len(shapes) != len(branches):
            out["nullable"] = True
        if len(shapes) == 1:
            outer: Json = {name: out[name] for name in ("description", "nullable") if name in out}
            out.update(_gemini(shapes[0]))
            out.update(outer)
        elif shapes:
            out["anyOf"] = [_gemini(shape) for shape in shapes]
    merged = schema.get("allOf")
    for shape in merged if isinstance(merged, list) else []:
        if isinstance(shape, dict):
            _merge(out, _gemini(shape))


def _merge(out: Json, more: Json) -> None:
    for name, value in more.items():
        mine = out.get(name)
        if name == "properties" and isinstance(mine, dict) and isinstance(value, dict):
            out[name] = {**mine, **value}
        elif name == "required" and isinstance(mine, list) and isinstance(value, list):
            out[name] = [*mine, *(one for one in value if one not in mine)]
        else:
            out.setdefault(name, value)


def from_gemini(schema: Any) -> Json:
    """Gemini's Schema (either spelling of its keywords) as JSON Schema."""
    if not isinstance(schema, dict):
        return {}
    out: Json = {}
    name: str
    for name, value in schema.items():
        keyword = _KEYWORDS.get(name, name)
        if keyword == "type" and isinstance(value, str):
            if value != "TYPE_UNSPECIFIED":
                out["type"] = value.lower()
        elif keyword in ("nullable", "propertyOrdering"):
            continue
        elif keyword == "example":
            out["examples"] = [value]
        else:
            out[keyword] = _inside(keyword, value, from_gemini)
    for name in ("minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"):
        if isinstance(out.get(name), str) and out[name].isdigit():
            out[name] = int(out[name])  # protobuf's JSON writes 64-bit integers as strings
    return _nullable(out) if schema.get("nullable") is True else out


_KEYWORDS: dict[str, str] = {
    "any_of": "anyOf",
    "additional_properties": "additionalProperties",
    "property_ordering": "propertyOrdering",
    "prefix_items": "prefixItems",
    "min_items": "minItems",
    "max_items": "maxItems",
    "min_length": "minLength",
    "max_length": "maxLength",
    "min_properties": "minProperties",
    "max_properties": "maxProperties",
    "defs": "$defs",
    "ref": "$ref",
}


def _nullable(schema: Json) -> Json:
    if isinstance(schema.get("type"), str):
        schema["type"] = [schema["type"], "null"]
        if isinstance(schema.get("enum"), list):
            schema["enum"] = [*schema["enum"], None]
        return schema
    if isinstance(schema.get("anyOf"), list):
        schema["anyOf"] = [*schema["anyOf"], {"type": "null"}]
    return schema
