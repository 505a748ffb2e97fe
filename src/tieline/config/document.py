"""A YAML file as a tree that remembers lines."""

from __future__ import annotations

import os
from pathlib import Path

import yaml

from tieline.types.errors import ConfigError

MAX_BYTES = 1024 * 1024
MAX_DEPTH = 32
"""The deepest setting is 5 levels down; free-form values get the rest."""
MAX_NODES = 100_000
"""Counted with aliases expanded, so that a small file cannot become a large one."""

Node = yaml.Node
Signature = tuple[int, int, int] | None


class Syntax(ConfigError):
    """The file is no YAML, so nothing more can be said about it."""


def read(path: Path) -> str:
    """The file's text. Raises Syntax."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise Syntax(f"cannot be read: {error.strerror}", place=str(path)) from error
    if len(data) > MAX_BYTES:
        raise Syntax("is larger than 1 MB", place=str(path))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise Syntax("is not UTF-8 text", place=f"{path.name}:{line}") from error


def signature(path: Path) -> Signature:
    """Changes whenever the file does; None while it is not there."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def compose(text: str, name: str) -> yaml.Node | None:
    """The tree of the first and only document; None when it is empty. Raises Syntax."""
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        raise _syntax(error, name) from error
    except yaml.YAMLError as error:
        raise Syntax(f"not YAML: {str(error).splitlines()[0]}", place=name) from error
    except RecursionError:
        raise Syntax(f"the file is deeper than {MAX_DEPTH} levels.", place=name) from None
    if root is not None:
        _measure(root, name)
    return root


def _syntax(error: yaml.MarkedYAMLError, name: str) -> Syntax:
    mark = error.problem_mark or error.context_mark
    place = f"{name}:{mark.line + 1}" if mark else name
    problem = error.problem or "cannot be read"
    hint = "Indent with spaces." if "\\t" in problem else None
    return Syntax(f"not YAML: {problem}.", place=place, hint=hint)


def _measure(root: yaml.Node, name: str) -> None:
    count = 0
    stack = [(root, 1)]
    while stack:
        node, depth = stack.pop()
        count += 1
        if depth > MAX_DEPTH or count > MAX_NODES:
            what = f"deeper than {MAX_DEPTH} levels" if depth > MAX_DEPTH else f"more than {MAX_NODES} values"
            raise Syntax(f"the file is {what}.", place=f"{name}:{line_of(node)}")
        stack.extend((child, depth + 1) for child in _children(node))


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [part for pair in node.value for part in pair]
    return list(node.value) if isinstance(node, yaml.SequenceNode) else []


def line_of(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1 if node.start_mark else 1


def is_null(node: yaml.Node) -> bool:
    return node.tag == "tag:yaml.org,2002:null"


def kind_of(node: yaml.Node) -> str:
    """What a person would call it."""
    if isinstance(node, yaml.MappingNode):
        return "a mapping"
    if isinstance(node, yaml.SequenceNode):
        return "a list"
    names = {"str": "text", "int": "a number", "float": "a number", "bool": "true/false", "null": "nothing"}
    return names.get(node.tag.rpartition(":")[2], "text")
