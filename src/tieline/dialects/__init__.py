"""Wire APIs as pure translation, no I/O. ``base`` is the seam; ``get`` finds one by name."""

from __future__ import annotations

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

_loaded: dict[str, Any] = {}


def get(name: str) -> Dialect:
    """The dialect that callers speak, imported on first use. Raises KeyError for any other name."""
    dialect: Dialect = _find(name, _TABLE)
    return dialect


def get_upstream(name: str) -> UpstreamDialect:
    """The dialect that a provider speaks. Raises KeyError for a name that is not in DIALECT_NAMES."""
    dialect: UpstreamDialect = _find(name, _UPSTREAM_ONLY if name in _UPSTREAM_ONLY else _TABLE)
    return dialect


def _find(name: str, table: dict[str, str]) -> Any:
    found = _loaded.get(name) if name in table else None
    if found is None:
        module, _, attribute = table[name].partition(":")
        found = _loaded[name] = getattr(import_module(module), attribute)
    return found
