"""Wire APIs as pure translation, no I/O. ``base`` is the seam; ``get`` finds one by name."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tieline.dialects.base import Dialect

_TABLE = {
    "openai_chat": "tieline.dialects.openai_chat:OPENAI_CHAT",
    "openai_responses": "tieline.dialects.openai_responses:OPENAI_RESPONSES",
    "anthropic_messages": "tieline.dialects.anthropic_messages:ANTHROPIC_MESSAGES",
    "gemini": "tieline.dialects.gemini:GEMINI",
    "gemini_array": "tieline.dialects.gemini:GEMINI_ARRAY",
    "bedrock_converse": "tieline.dialects.bedrock_converse:BEDROCK_CONVERSE",
    "cohere": "tieline.dialects.cohere:COHERE",
}
DIALECT_NAMES = tuple(_TABLE)

_loaded: dict[str, Dialect] = {}


def get(name: str) -> Dialect:
    """The dialect of that name, imported on first use. Raises KeyError for a name that is not in DIALECT_NAMES."""
    found = _loaded.get(name)
    if found is None:
        module, _, attribute = _TABLE[name].partition(":")
        found = _loaded[name] = getattr(import_module(module), attribute)
    return found
