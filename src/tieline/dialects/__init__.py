"""Wire APIs as pure translation, no I/O. ``base`` is the seam; ``get`` finds one by name."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tieline.dialects.base import Dialect, UpstreamDialect

_TABLE = {
    "openai_chat": "tieline.dialects.openai_chat:OPENAI_CHAT",
    "openai_completions": "tieline.dialects.openai_completions:OPENAI_COMPLETIONS",
    "openai_responses": "tieline.dialects.openai_responses:OPENAI_RESPONSES",
    "anthropic_messages": "tieline.dialects.anthropic_messages:ANTHROPIC_MESSAGES",
    "gemini": "tieline.dialects.gemini:GEMINI",
    "gemini_array": "tieline.dialects.gemini:GEMINI_ARRAY",
}
_UPSTREAM_ONLY = {
    "bedrock_converse": "tieline.dialects.bedrock_converse:BEDROCK_CONVERSE",
    "cohere": "tieline.dialects.cohere:COHERE",
}
DIALECT_NAMES = (*_TABLE, *_UPSTREAM_ONLY)


class _Loaded(dict[str, Any]):
    """Dialects by name, imported on first use. A name without a place raises KeyError."""

    def __init__(self, places: dict[str, str]) -> None:
        self._places = places

    def __missing__(self, name: str) -> Any:
        module, _, attribute = self._places[name].partition(":")
        found = self[name] = getattr(import_module(module), attribute)
        return found


get: Callable[[str], Dialect] = _Loaded(_TABLE).__getitem__
"""The dialect that callers speak. Raises KeyError for any other name."""
get_upstream: Callable[[str], UpstreamDialect] = _Loaded(_TABLE | _UPSTREAM_ONLY).__getitem__
"""The dialect that a provider speaks. Raises KeyError for a name that is not in DIALECT_NAMES."""
