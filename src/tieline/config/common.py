"""The part of a ``tieline.yaml`` that holds on every host, and how a host keeps its own part: ``server`` and ``store``."""

from __future__ import annotations

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import yaml

from tieline.config import document
from tieline.types.errors import ConfigError

_NAME = "tieline.yaml"
OWN = ("server", "store")
"""A host's own: address, spool, database. They take effect at a start only."""


def common_digest(text: str) -> str:
    """The same for two texts whose settings outside of ``OWN`` are the same, comments and layout aside."""
    try:
        root = document.compose(text, "")
    except ConfigError:
        return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
    pairs = root.value if isinstance(root, yaml.MappingNode) else []
    plain = [[key.value, _plain(value)] for key, value in pairs if key.value not in OWN]
    return hashlib.sha256(msgspec.json.encode(plain)).hexdigest()


def on_this_host(text: str, own: str) -> str:
    """``text`` with the sections ``OWN`` of ``own``. Raises ConfigError for a text whose top level is in braces."""
    kept = [part for name, part in _sections(text) if name not in OWN]
    kept += [part for name, part in _sections(own) if name in OWN]
    return "".join(part if part.endswith("\n") else part + "\n" for part in kept)


def write_beside(path: Path, text: str) -> Path:
    """In the same folder, so that it can be put in place at once. Raises OSError."""
    fd, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    beside = Path(name)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(text.encode())
            file.flush()
            os.fsync(file.fileno())
        beside.chmod(path.stat().st_mode & 0o777)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    return beside


def _sections(text: str) -> list[tuple[str, str]]:
    """Top-level settings with their text; what stands before the first has no name."""
    root = document.compose(text, _NAME)
    if root is None:
        return []
    if not isinstance(root, yaml.MappingNode) or root.flow_style:
        raise ConfigError("the top level must be lines of `name:`, not braces.", place=_NAME)
    starts = [key.start_mark.index for key, _ in root.value]
    names = [str(key.value) for key, _ in root.value]
    ends = [*starts[1:], len(text)]
    parts = [(name, text[start:end]) for name, start, end in zip(names, starts, ends, strict=True)]
    return [("", text[: starts[0]]), *parts] if starts and starts[0] else parts


def _plain(node: yaml.Node) -> Any:
    if isinstance(node, yaml.MappingNode):
        return {"map": [[_plain(key), _plain(value)] for key, value in node.value]}
    if isinstance(node, yaml.SequenceNode):
        return [_plain(value) for value in node.value]
    return f"{node.tag} {node.value}"
