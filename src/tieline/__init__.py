"""Tieline: one line to every model.

>>> from tieline import Tieline
>>> with Tieline() as line:                                              # doctest: +SKIP
...     print(line.chat("openai/gpt-5-mini", "Hello").text)
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tieline.client import Answer, AsyncStream, AsyncTieline, RequestFailed, Stream, Tieline
    from tieline.config.schema import Config
    from tieline.gateway import Gateway
    from tieline.types.errors import ConfigError, TielineError

__version__ = "0.1.0"

_WHERE = {
    "Answer": "tieline.client",
    "AsyncStream": "tieline.client",
    "AsyncTieline": "tieline.client",
    "Config": "tieline.config.schema",
    "ConfigError": "tieline.types.errors",
    "Gateway": "tieline.gateway",
    "RequestFailed": "tieline.client",
    "Stream": "tieline.client",
    "Tieline": "tieline.client",
    "TielineError": "tieline.types.errors",
}

__all__ = [
    "Answer",
    "AsyncStream",
    "AsyncTieline",
    "Config",
    "ConfigError",
    "Gateway",
    "RequestFailed",
    "Stream",
    "Tieline",
    "TielineError",
    "__version__",
]


def __getattr__(name: str) -> Any:
    """Imported when first used, so that ``import tieline`` costs nothing."""
    where = _WHERE.get(name)
    if where is None:
        raise AttributeError(f"module 'tieline' has no attribute {name!r}")
    return getattr(import_module(where), name)
