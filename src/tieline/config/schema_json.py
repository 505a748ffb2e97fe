"""The settings as JSON Schema, so that editors complete and check ``tieline.yaml`` while it is written."""

from __future__ import annotations

from typing import Any

import msgspec

from tieline.config import schema
from tieline.config.settings import documentation

ID = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """What the file may hold, shorthands included."""
    made = msgspec.json.schema(schema.Config)
    definitions = made["$defs"]
    definitions["ModelConfig"] = _with_shorthands(definitions["ModelConfig"])
    definitions["ModelOrShorthand"] = {
        "anyOf": [
            {"$ref": "#/$defs/ModelConfig"},
            {"type": "string", "description": "One deployment: provider/model."},
            {"type": "array", "items": {"type": "string"}, "description": "Several deployments."},
        ]
    }
    models = definitions["Config"]["properties"]["models"]
    models["additionalProperties"] = {"$ref": "#/$defs/ModelOrShorthand"}
    _describe(definitions)
    _accept_references(definitions)
    return {"$schema": ID, "title": "tieline.yaml", **made}


def _describe(definitions: dict[str, Any]) -> None:
    for name, definition in definitions.items():
        cls = getattr(schema, name, None)
        about = documentation(cls) if cls is not None else {}
        for setting, value in definition.get("properties", {}).items():
            if setting in about and "$ref" not in value:
                value["description"] = about[setting]


def _with_shorthands(model: dict[str, Any]) -> dict[str, Any]:
    properties = {**model["properties"], "routing": {"$ref": "#/$defs/Routing"}}
    return {**model, "properties": properties}


def _accept_references(node: Any) -> None:
    """Numbers, booleans and patterned text may be written ``${NAME}``; exact amounts may be plain numbers."""
    places: list[tuple[Any, Any]] = list(enumerate(node)) if isinstance(node, list) else []
    places += node.items() if isinstance(node, dict) else []
    for key, value in places:
        if key in ("default", "enum", "required"):
            continue
        if isinstance(value, dict) and _is_scalar(value):
            node[key] = _or_reference(value)
        else:
            _accept_references(value)


def _is_scalar(value: dict[str, Any]) -> bool:
    return value.get("type") in ("number", "integer", "boolean") or "pattern" in value


def _or_reference(value: dict[str, Any]) -> dict[str, Any]:
    about: dict[str, Any] = {key: value[key] for key in ("description", "default") if key in value}
    rest = {key: item for key, item in value.items() if key not in about}
    choices: list[dict[str, Any]] = [rest, {"type": "string", "pattern": r"\$\{[^}]+\}"}]
    if rest.get("pattern", "").startswith(r"^\d"):
        choices.append({"type": "number", "minimum": 0})
    return {**about, "anyOf": choices}
