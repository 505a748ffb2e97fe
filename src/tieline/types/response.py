"""A whole answer in no vendor's words."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct, field

from tieline.types.request import Opaque, Refusal, Text, Thinking, ToolCall
from tieline.types.usage import Usage

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]
OutputPart = Text | Thinking | ToolCall | Refusal | Opaque


class Choice(Struct):
    parts: list[OutputPart]
    finish_reason: FinishReason
    native_reason: str | None = None
    """The vendor's own word."""
    stop_sequence: str | None = None
    logprobs: Any | None = None
    """OpenAI's logprobs object."""


class Response(Struct, kw_only=True):
    id: str
    model: str
    """What the upstream says served it."""
    created: int
    """Unix seconds."""
    choices: list[Choice] = field(default_factory=list)
    usage: Usage | None = None
    """None: the provider gave none."""
    service_tier: str | None = None
    system_fingerprint: str | None = None

    @property
    def text(self) -> str:
        """The first choice's text, joined."""
        parts = self.choices[0].parts if self.choices else []
        return "".join(part.text for part in parts if isinstance(part, Text))

    @property
    def tool_calls(self) -> list[ToolCall]:
        parts = self.choices[0].parts if self.choices else []
        return [part for part in parts if isinstance(part, ToolCall)]
