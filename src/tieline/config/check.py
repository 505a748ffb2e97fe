"""A YAML tree against the schema: plain data out, every fault with its line, the nearest name and what was expected."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path as PathOnDisk
from typing import Any

import msgspec
import yaml
from msgspec import Struct, inspect

from tieline.config import document
from tieline.config.expand import ExpansionError, expand, file_named, read_secret, without_password
from tieline.config.schema import ModelConfig, ProviderConfig, Routing, StoreConfig
from tieline.types.errors import ConfigError

Path = tuple[str, ...]

SECRETS: frozenset[tuple[type, str]] = frozenset({(ProviderConfig, "api_key")})
"""Checked but left as written, so that a Config holds ``${NAME}`` and not the key."""
FILES: frozenset[tuple[type, str]] = frozenset(
    {(ProviderConfig, "headers"), (StoreConfig, "database"), (StoreConfig, "redis")}
)
"""May be ``file:/path``, for what else holds a password."""
PARTIAL: dict[tuple[type, str], type[Struct]] = {(ModelConfig, "routing"): Routing}
"""Free-form in the schema, but with the same settings as another struct."""

_MISSING = object()


def nearest(name: str, known: list[str]) -> str | None:
    found = get_close_matches(name.lower(), known, n=1, cutoff=0.6)
    return found[0] if found else None


class Checker:
    """One file's check. ``errors`` and ``lines`` fill up while ``check`` walks."""

    def __init__(self, name: str, environ: Mapping[str, str]) -> None:
        self.errors: list[ConfigError] = []
        self.lines: dict[Path, int] = {}
        self.files: dict[PathOnDisk, document.Signature] = {}
        """What is read besides, each as it was before."""
        self._name = name
        self._environ = environ
        self._expand: Callable[[str, Mapping[str, str]], str] = expand

    def check(self, node: yaml.Node, kind: inspect.Type, path: Path = ()) -> Any:
        """Plain data for ``msgspec.convert``; what is wrong is left out and noted."""
        self.lines.setdefault(path, document.line_of(node))
        expected = ""
        if isinstance(kind, inspect.Metadata):
            expected = str((kind.extra_json_schema or {}).get("description", ""))
            kind = kind.type
        if isinstance(kind, inspect.UnionType):
            return self._union(node, kind, path)
        if isinstance(kind, inspect.StructType):
            return self._struct(node, kind.cls, path)
        if isinstance(kind, inspect.DictType):
            return self._dict(node, kind, path)
        if isinstance(kind, inspect.ListType):
            return self._list(node, kind.item_type, path)
        if isinstance(kind, inspect.AnyType):
            return self._free(node, path)
        return self._scalar(node, kind, path, expected)

    def fault(self, node: yaml.Node, message: str, hint: str | None = None) -> None:
        self.errors.append(ConfigError(message, place=f"{self._name}:{document.line_of(node)}", hint=hint))

    def _mistyped(self, node: yaml.Node, path: Path, expected: str) -> Any:
        self.fault(node, f"`{'.'.join(path)}` must be {expected}, not {document.kind_of(node)}")
        return _MISSING

    # mappings ---------------------------------------------------------------------------------------------------

    def _pairs(self, node: yaml.Node, path: Path) -> list[tuple[str, yaml.Node, yaml.Node]]:
        if document.is_null(node):
            return []
        if not isinstance(node, yaml.MappingNode):
            self._mistyped(node, path or ("the file",), "a mapping of settings")
            return []
        pairs: dict[str, tuple[yaml.Node, yaml.Node]] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.fault(key, f"a key of `{'.'.join(path)}` must be text, not {document.kind_of(key)}")
            elif key.value in pairs:
                first = document.line_of(pairs[key.value][0])
                self.fault(key, f"`{'.'.join((*path, key.value))}` is set twice, first in line {first}")
            else:
                pairs[key.value] = (key, value)
        return [(name, key, value) for name, (key, value) in pairs.items()]

    def _struct(self, node: yaml.Node, cls: type, path: Path) -> Any:
        if cls is ModelConfig and isinstance(node, yaml.ScalarNode | yaml.SequenceNode):
            return self._model_shorthand(node, path)
        fields = {item.encode_name: item for item in inspect.type_info(cls).fields}  # type: ignore[attr-defined]
        known = sorted(fields)
        data = {}
        for name, key, value in self._pairs(node, path):
            self.lines[(*path, name)] = document.line_of(key)
            if name not in fields:
                self._unknown(key, name, known, path)
                continue
            checked = self._field(value, cls, name, fields[name].type, (*path, name))
            if checked is not _MISSING:
                data[name] = checked
        return data

    def _unknown(self, key: yaml.Node, name: str, known: list[str], path: Path) -> None:
        near = nearest(name, known)
        where = f" in `{'.'.join(path)}`" if path else ""
        hint = f"did you mean `{near}`?" if near else f"known are {', '.join(known)}"
        self.fault(key, f"unknown setting `{name}`{where};", hint)

    def _field(self, node: yaml.Node, cls: type, name: str, kind: inspect.Type, path: Path) -> Any:
        if (cls, name) in PARTIAL:
            return self._struct(node, PARTIAL[cls, name], path)
        outer = self._expand
        if (cls, name) in SECRETS:
            self._expand = _checked_secret
        elif (cls, name) in FILES:
            self._expand = _expanded_file
        try:
            return self.check(node, kind, path)
        finally:
            self._expand = outer

    def _model_shorthand(self, node: yaml.Node, path: Path) -> Any:
        if document.is_null(node):
            return {}
        kind = inspect.type_info(ModelConfig).fields[0].type  # type: ignore[attr-defined]
        if isinstance(node, yaml.ScalarNode):
            assert isinstance(kind, inspect.ListType)
            value = self.check(node, kind.item_type, path)
            return _MISSING if value is _MISSING else {"deployments": [value]}
        return {"deployments": self.check(node, kind, path)}

    def _dict(self, node: yaml.Node, kind: inspect.DictType, path: Path) -> Any:
        allowed = kind.key_type.values if isinstance(kind.key_type, inspect.LiteralType) else None
        data = {}
        for name, key, value in self._pairs(node, path):
            self.lines[(*path, name)] = document.line_of(key)
            if allowed is not None and name not in allowed:
                self._unknown(key, name, sorted(map(str, allowed)), path)
                continue
            checked = self.check(value, kind.value_type, (*path, name))
            if checked is not _MISSING:
                data[name] = checked
        return data

    def _list(self, node: yaml.Node, item: inspect.Type, path: Path) -> Any:
        if document.is_null(node):
            return []
        if not isinstance(node, yaml.SequenceNode):
            return self._mistyped(node, path, "a list")
        values = [self.check(value, item, (*path, str(index))) for index, value in enumerate(node.value)]
        return [value for value in values if value is not _MISSING]

    # values -----------------------------------------------------------------------------------------------------

    def _union(self, node: yaml.Node, kind: inspect.UnionType, path: Path) -> Any:
        if document.is_null(node) and any(isinstance(item, inspect.NoneType) for item in kind.types):
            return None
        choices = [item for item in kind.types if not isinstance(item, inspect.NoneType)]
        lists = [item for item in choices if isinstance(item, inspect.ListType)]
        if lists and (isinstance(node, yaml.SequenceNode) or len(choices) == 1):
            return self.check(node, lists[0], path)
        return self.check(node, next(item for item in choices if item not in lists), path)

    def _text(self, node: yaml.ScalarNode, path: Path) -> str | None:
        try:
            if self._expand is not expand and (path_on_disk := file_named(node.value, self._environ)):
                self.files[path_on_disk] = document.signature(path_on_disk)
            return self._expand(node.value, self._environ)
        except ExpansionError as error:
            self.fault(node, f"`{'.'.join(path)}`: {error}")
            return None

    def _scalar(self, node: yaml.Node, kind: inspect.Type, path: Path, expected: str) -> Any:
        wanted = expected or _describe(kind)
        if not isinstance(node, yaml.ScalarNode) or document.is_null(node):
            return self._mistyped(node, path, wanted)
        text = self._text(node, path)
        if text is None:
            return _MISSING
        try:
            return _parse(text, node, kind)
        except (ValueError, msgspec.ValidationError):
            shown = "" if self._expand is _checked_secret else f", not `{without_password(text)[:80]}`"
            near = _near_choice(text, kind)
            self.fault(node, f"`{'.'.join(path)}` must be {wanted}{shown}{';' if near else ''}", near)
            return _MISSING

    def _free(self, node: yaml.Node, path: Path) -> Any:
        if isinstance(node, yaml.MappingNode):
            checked = {name: self._free(value, (*path, name)) for name, _, value in self._pairs(node, path)}
            return {name: value for name, value in checked.items() if value is not _MISSING}
        if isinstance(node, yaml.SequenceNode):
            values = [self._free(value, (*path, str(index))) for index, value in enumerate(node.value)]
            return [value for value in values if value is not _MISSING]
        assert isinstance(node, yaml.ScalarNode)
        text = self._text(node, path)
        if text is None:
            return _MISSING
        quoted = node.style in ("'", '"') and "${" not in node.value
        return text if quoted else _plain(text)


def _checked_secret(text: str, environ: Mapping[str, str]) -> str:
    read_secret(text, environ)
    return text


def _expanded_file(text: str, environ: Mapping[str, str]) -> str:
    value = expand(text, environ)
    return read_secret(value, {}) if value.startswith("file:") else value


def _plain(text: str) -> Any:
    """A scalar as YAML reads it, once references are replaced; dates and the like stay text."""
    if not text or text != text.strip() or len(text) > 64:
        return text
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    return value if value is None or isinstance(value, bool | int | float) else text


def _parse(text: str, node: yaml.ScalarNode, kind: inspect.Type) -> Any:
    """Raises ValueError or ValidationError."""
    if isinstance(kind, inspect.StrType):
        if node.tag.endswith(":bool") and "${" not in node.value:
            raise ValueError(text)
        return _bounded_text(text, kind)
    if isinstance(kind, inspect.LiteralType):
        if text not in kind.values:
            raise ValueError(text)
        return text
    if isinstance(kind, inspect.BoolType):
        return _boolean(text)
    value = int(text.replace("_", "")) if isinstance(kind, inspect.IntType) else float(text)
    return _bounded_number(value, kind)


def _boolean(text: str) -> bool:
    word = text.lower()
    if word not in ("true", "yes", "on", "false", "no", "off"):
        raise ValueError(text)
    return word in ("true", "yes", "on")


def _bounded_text(text: str, kind: inspect.StrType) -> str:
    if kind.pattern is not None and not re.search(kind.pattern, text):
        raise ValueError(text)
    return text


def _bounded_number(value: float, kind: Any) -> float:
    inside = (
        value == value
        and (kind.ge is None or value >= kind.ge)
        and (kind.gt is None or value > kind.gt)
        and (kind.le is None or value <= kind.le)
        and (kind.lt is None or value < kind.lt)
    )
    if not inside:
        raise ValueError(value)
    return value


def _near_choice(text: str, kind: inspect.Type) -> str | None:
    if not isinstance(kind, inspect.LiteralType):
        return None
    near = nearest(text, [str(value) for value in kind.values])
    return f"did you mean `{near}`?" if near else None


def _describe(kind: inspect.Type) -> str:
    if isinstance(kind, inspect.LiteralType):
        return "one of " + ", ".join(map(str, kind.values))
    if isinstance(kind, inspect.BoolType):
        return "true or false"
    if isinstance(kind, inspect.IntType):
        return "a whole number" + _limits(kind)
    if isinstance(kind, inspect.FloatType):
        return "a number" + _limits(kind)
    return "text"


def _limits(kind: inspect.IntType | inspect.FloatType) -> str:
    low = (
        f"more than {kind.gt:g}"
        if kind.gt is not None
        else f"{kind.ge:g} or more"
        if kind.ge is not None
        else ""
    )
    high = f"at most {kind.le:g}" if kind.le is not None else ""
    limits = ", ".join(part for part in (low, high) if part)
    return f" ({limits})" if limits else ""
