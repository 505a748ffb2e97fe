"""Which provider, dialect and operation a path means."""

from __future__ import annotations

import re

from msgspec import Struct

from tieline.simulator.anthropic import Anthropic
from tieline.simulator.exchange import Dialect
from tieline.simulator.openai_chat import OpenAIChat


class Route(Struct, frozen=True):
    provider: str
    dialect: Dialect
    operation: str
    model: str = ""
    stream: bool = False


_CHAT = OpenAIChat()
_ANTHROPIC = Anthropic()
_TABLE: tuple[tuple[re.Pattern[str], Dialect, str], ...] = tuple(
    (re.compile(pattern), dialect, operation)
    for pattern, dialect, operation in (
        (r".*/chat/completions", _CHAT, "chat"),
        (r".*/v1/messages", _ANTHROPIC, "chat"),
        (r".*/v1/messages/count_tokens", _ANTHROPIC, "count"),
    )
)


def find(path: str) -> Route:
    """The first segment names the provider; what the path ends with names the endpoint."""
    provider, _, rest = path.lstrip("/").partition("/")
    for pattern, dialect, operation in _TABLE:
        match = pattern.fullmatch("/" + rest)
        if match:
            groups = match.groupdict()
            streams = groups.get("stream") is not None
            return Route(provider, dialect, operation, groups.get("model") or "", streams)
    return Route(provider, _CHAT, "unknown")
