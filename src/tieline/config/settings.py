"""The settings as a list, for documentation and for counting them: one entry for each that a user can write."""

from __future__ import annotations

import ast
import inspect as pyinspect
from functools import cache
from typing import Any

import msgspec
from msgspec import Struct, inspect

from tieline.config import schema


class Setting(Struct, frozen=True):
    path: str
    """``providers.NAME.base_url``"""
    kind: str
    default: str
    about: str


def settings() -> list[Setting]:
    """In the order of the schema."""
    return list(_walk(schema.Config, ""))


def _walk(cls: type, prefix: str) -> list[Setting]:
    found: list[Setting] = []
    kind = inspect.type_info(cls)
    assert isinstance(kind, inspect.StructType)
    for item in kind.fields:
        path = prefix + item.encode_name
        below = _struct_in(item.type)
        if below is not None:
            found += _walk(below, path + (".NAME." if _is_dict(item.type) else "."))
        else:
            about = documentation(cls).get(item.name, "")
            found.append(Setting(path, describe(item.type), _default(item), about))
    return found


def _is_dict(kind: inspect.Type) -> bool:
    return isinstance(kind, inspect.DictType)


def _struct_in(kind: inspect.Type) -> type | None:
    if isinstance(kind, inspect.DictType):
        kind = kind.value_type
    return kind.cls if isinstance(kind, inspect.StructType) else None


def _default(item: inspect.Field) -> str:
    value: Any = item.default
    if value is msgspec.NODEFAULT:
        value = item.default_factory() if item.default_factory is not msgspec.NODEFAULT else None
    if value is None or value in ({}, []):
        return ""
    return msgspec.json.encode(value).decode().strip('"')


def describe(kind: inspect.Type) -> str:
    """What may be written, in words."""
    if isinstance(kind, inspect.Metadata):
        return str((kind.extra_json_schema or {}).get("description") or describe(kind.type))
    if isinstance(kind, inspect.UnionType):
        parts = [describe(part) for part in kind.types if not isinstance(part, inspect.NoneType)]
        return " or ".join(dict.fromkeys(parts))
    if isinstance(kind, inspect.LiteralType):
        return ", ".join(f"`{value}`" for value in kind.values)
    if isinstance(kind, inspect.ListType):
        return f"list of {describe(kind.item_type)}"
    if isinstance(kind, inspect.DictType):
        return f"mapping to {describe(kind.value_type)}"
    return _NAMES.get(type(kind), "anything")


_NAMES: dict[type, str] = {
    inspect.StrType: "text",
    inspect.IntType: "whole number",
    inspect.FloatType: "number",
    inspect.BoolType: "true or false",
}


@cache
def documentation(cls: type) -> dict[str, str]:
    """Field -> the docstring below it in the schema's source."""
    tree = ast.parse(pyinspect.getsource(cls)).body[0]
    assert isinstance(tree, ast.ClassDef)
    found: dict[str, str] = {}
    for field, after in zip(tree.body, tree.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
        ):
            found[field.target.id] = str(after.value.value).replace("``", "`")
    return found
