"""JSON Schemas cut to what a host accepts (WIRE_FACTS 16)."""

from __future__ import annotations

from typing import Any


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
