"""JSON that satisfies a JSON Schema, made from a seeded generator."""

from __future__ import annotations

from random import Random
from typing import Any

_MAX_DEPTH = 12
_FORMATS = {
    "date": "2026-05-04",
    "date-time": "2026-05-04T10:20:30Z",
    "time": "10:20:30Z",
    "email": "sam@example.com",
    "uri": "https://example.com/page",
    "url": "https://example.com/page",
    "uuid": "0d9f5c2a-6f0e-4c9b-9a3f-2f4b8f4c1d77",
    "ipv4": "192.0.2.7",
}
_WORDS = ("harbour", "relay", "signal", "ledger", "station", "bridge", "river", "window")


def sample(schema: Any, random: Random, hints: list[str] | None = None) -> Any:
    """A value valid for ``schema``: types, enums, required and optional properties, bounds, refs, the first alternative."""
    return _value(schema, schema, random, hints or [], 0)


def _value(schema: Any, root: Any, random: Random, hints: list[str], depth: int) -> Any:
    schema = _resolved(schema, root)
    if depth > 4 * _MAX_DEPTH:  # alternatives that lead to themselves
        return None
    if not isinstance(schema, dict):
        return random.choice(_WORDS)
    schema = {name: inner for name, inner in schema.items() if inner is not None}
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return random.choice(schema["enum"])
    for key in ("anyOf", "oneOf"):
        options = [o for o in schema.get(key) or [] if _type(_resolved(o, root)) != "null"]
        if options:
            return _value(options[0], root, random, hints, depth + 1)
    if schema.get("allOf"):
        return _value(_merged(schema, root), root, random, hints, depth + 1)
    return _of_type(_type(schema), schema, root, random, hints, depth)


def _of_type(
    kind: str, schema: dict[str, Any], root: Any, random: Random, hints: list[str], depth: int
) -> Any:
    if kind == "object":
        required = schema.get("required") or []
        properties = schema.get("properties") or {}
        wanted = required if depth > 3 else [*properties, *(r for r in required if r not in properties)]
        if depth > _MAX_DEPTH:
            wanted = []
        return {name: _value(properties.get(name, {}), root, random, hints, depth + 1) for name in wanted}
    if kind == "array":
        least = int(schema.get("minItems") or 0)
        count = max(least, 0 if depth > _MAX_DEPTH else min(2, int(schema.get("maxItems") or 2)))
        return [_value(schema.get("items") or {}, root, random, hints, depth + 1) for _ in range(count)]
    if kind == "integer":
        return int(_number(schema, random))
    if kind == "number":
        return round(_number(schema, random) + 0.5, 2) if "maximum" not in schema else _number(schema, random)
    if kind == "boolean":
        return random.random() < 0.5
    return None if kind == "null" else _string(schema, random, hints)


def _string(schema: dict[str, Any], random: Random, hints: list[str]) -> str:
    if schema.get("format") in _FORMATS:
        return _FORMATS[schema["format"]]
    text = random.choice(hints) if hints else random.choice(_WORDS)
    text = text.ljust(int(schema.get("minLength") or 0), "x")
    return text[: int(schema["maxLength"])] if "maxLength" in schema else text


def _number(schema: dict[str, Any], random: Random) -> float:
    low = schema.get("minimum", schema.get("exclusiveMinimum", -1) + 1)
    high = schema.get("maximum", schema.get("exclusiveMaximum", max(low, 0) + 101) - 1)
    value = random.randint(int(low), max(int(low), int(high)))
    step = schema.get("multipleOf")
    return value - value % step if step and value - value % step >= low else value


def _type(schema: Any) -> str:
    if not isinstance(schema, dict):
        return "string"
    kind = schema.get("type")
    if isinstance(kind, list):
        kind = next((k for k in kind if k != "null"), "null")
    if kind is None:
        kind = "object" if "properties" in schema else "array" if "items" in schema else "string"
    return str(kind).lower()


def _resolved(schema: Any, root: Any) -> Any:
    for _ in range(_MAX_DEPTH):
        reference = schema.get("$ref") if isinstance(schema, dict) else None
        if not isinstance(reference, str) or not reference.startswith("#"):
            return schema
        schema = root
        for step in reference.lstrip("#/").split("/"):
            schema = schema.get(step, {}) if step and isinstance(schema, dict) else schema
    return {}


def _merged(schema: dict[str, Any], root: Any) -> dict[str, Any]:
    merged = {key: value for key, value in schema.items() if key != "allOf"}
    merged["properties"] = dict(merged.get("properties") or {})
    merged["required"] = list(merged.get("required") or [])
    for part in schema["allOf"]:
        part = _resolved(part, root)
        merged["properties"] |= part.get("properties") or {}
        merged["required"] += part.get("required") or []
        merged |= {key: value for key, value in part.items() if key not in ("properties", "required")}
    if not merged["properties"]:
        del merged["properties"]
    return merged
