"""What changed between two configurations, in words, without a secret."""

from __future__ import annotations

from typing import Any

import msgspec

from tieline.config.expand import without_password
from tieline.config.schema import Config

_SECRET = frozenset({"api_key", "headers", "database", "redis"})
"""May hold a password: that it changed is said, not to what."""
_MAX_SHOWN = 80
_FOLLOWED = "store.retention_days:"


def diff(old: Config, new: Config) -> list[str]:
    """One line per setting: ``routing.max_attempts: 6 -> 4``; empty when nothing changed."""
    return _compare(msgspec.to_builtins(old), msgspec.to_builtins(new), ())


def at_start(changes: list[str]) -> list[str]:
    """Those of ``diff`` that take effect at the next start only."""
    return [
        line for line in changes if line.startswith(("server.", "store.")) and not line.startswith(_FOLLOWED)
    ]


def _compare(old: Any, new: Any, path: tuple[str, ...]) -> list[str]:
    if old == new:
        return []
    secret = bool(_SECRET.intersection(path))
    if isinstance(old, dict) and isinstance(new, dict) and not secret:
        return [line for key in _keys(old, new) for line in _item(old, new, key, path)]
    name = ".".join(path)
    return [f"{name}: changed" if secret else f"{name}: {_show(old)} -> {_show(new)}"]


def _keys(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    return [*old, *(key for key in new if key not in old)]


def _item(old: dict[str, Any], new: dict[str, Any], key: str, path: tuple[str, ...]) -> list[str]:
    below = (*path, key)
    if key not in new:
        return [f"{'.'.join(below)}: removed"]
    if key not in old:
        return [f"{'.'.join(below)}: added"]
    return _compare(old[key], new[key], below)


def _show(value: Any) -> str:
    if value is None:
        return "unset"
    text = msgspec.json.encode(without_password(value) if isinstance(value, str) else value).decode()
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 1] + "…"
