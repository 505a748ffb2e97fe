"""Prompt-cache marks: Anthropic's `cache_control`, which OpenRouter puts on OpenAI's content parts too."""

from __future__ import annotations

from typing import Any

from tieline.types.request import CacheMark


def cache_mark(value: Any) -> CacheMark | None:
    if not isinstance(value, dict):
        return None
    return CacheMark("1h") if value.get("ttl") == "1h" else CacheMark()


def wire_mark(mark: CacheMark) -> dict[str, str]:
    return {"type": "ephemeral"} if mark.ttl == "5m" else {"type": "ephemeral", "ttl": mark.ttl}
