"""Which JSON types a vendor takes where: asked once for a whole body, so that what reads it need not ask at each step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec import Struct

Shape = Any
"""``str``, ``bool``, ``float`` (any number), ``int``, ``list``, ``dict``; a range (of integers); ``[shape]``: a list of it; a dict:
an object, of whose fields those that it names have these shapes, and with ``*`` every other; a tuple: any one of these."""
_KINDS = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array", dict: "object"}


class Misfit(Struct, frozen=True):
    path: tuple[str | int, ...]
    wanted: tuple[str, ...]
    """string, boolean, integer, number, array, object; or "integer from 1 to 8"."""
    value: Any

    @property
    def dotted(self) -> str:
        """``messages.0.content``, as Anthropic and Amazon write it."""
        return ".".join(map(str, self.path))

    @property
    def indexed(self) -> str:
        """``messages[0].content``, as the others do."""
        return "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in self.path).lstrip(".")

    @property
    def found(self) -> str:
        return "null" if self.value is None else _KINDS[type(self.value)]


def misfit(value: Any, shape: Shape) -> Misfit | None:
    """The first place in ``value`` that does not fit. A field that is null is as good as none."""
    return next(_misfits(value, shape, ()), None)


def _misfits(value: Any, shape: Shape, path: tuple[str | int, ...]) -> Iterator[Misfit]:
    options = shape if isinstance(shape, tuple) else (shape,)
    fitting = next((option for option in options if _is(value, option)), None)
    if fitting is None:
        yield Misfit(path, tuple(map(_word, options)), value)
    elif isinstance(fitting, list):
        for index, inner in enumerate(value):
            yield from _misfits(inner, fitting[0], (*path, index))
    elif isinstance(fitting, dict):
        other = fitting.get("*")
        for name, inner in value.items():
            wanted = fitting.get(name, other)
            if wanted is not None and inner is not None:
                yield from _misfits(inner, wanted, (*path, name))


def _is(value: Any, option: Shape) -> bool:
    if isinstance(option, range):
        return type(value) is int and value in option
    if option is float:
        return type(value) in (int, float)
    return type(value) is (option if isinstance(option, type) else type(option))


def _word(option: Shape) -> str:
    if isinstance(option, range):
        return f"integer from {option[0]} to {option[-1]}"
    return _KINDS[option if isinstance(option, type) else type(option)]


SCHEMA: dict[str, Shape] = {
    "type": (str, [str]),
    "format": str,
    "enum": list,
    "required": [str],
    "minItems": range(10_001),
    "maxItems": int,
    "minLength": range(10_001),
    "maxLength": int,
    "minimum": float,
    "maximum": float,
    "exclusiveMinimum": float,
    "exclusiveMaximum": float,
    "multipleOf": float,
}
"""JSON Schema, as far as samples are made of it."""
_INNER = (SCHEMA, bool)
SCHEMA |= {"items": _INNER, "properties": {"*": _INNER}, "$defs": {"*": _INNER}}
SCHEMA |= {name: [_INNER] for name in ("anyOf", "oneOf", "allOf")}
