"""What a client's answer says, whatever the SDK calls it; and what a client must be able to do."""

from __future__ import annotations

from typing import Any, Protocol

from msgspec import Struct, field
from pydantic import BaseModel

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PDF = "JVBERi0xLjQKMSAwIG9iajw8L1R5cGUvQ2F0YWxvZz4+ZW5kb2JqCnRyYWlsZXI8PC9Sb290IDEgMCBSPj4KJSVFT0Y="
TOOLS: dict[str, dict[str, Any]] = {
    "get_weather": {
        "type": "object",
        "properties": {"city": {"type": "string"}},
        "required": ["city"],
        "additionalProperties": False,
    },
    "find_train": {
        "type": "object",
        "properties": {"from_city": {"type": "string"}, "hour": {"type": "integer"}},
        "required": ["from_city", "hour"],
        "additionalProperties": False,
    },
}


class Harbour(BaseModel):
    name: str
    depth_m: int
    ships: list[str]


class Call(Struct):
    id: str
    name: str
    arguments: dict[str, Any]


class Seen(Struct, kw_only=True):
    """One answer."""

    text: str
    finish: str | None
    """The SDK's own word."""
    turns: list[Any]
    """What to append to the history, as the SDK gave it."""
    calls: list[Call] = field(default_factory=list)
    thought: str = ""
    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    chunks: int = 0
    """Pieces of text that a stream came in."""


class Ask(Struct, kw_only=True):
    """One request."""

    model: str
    turns: list[Any]
    system: str | None = None
    tools: tuple[str, ...] = ()
    force: str | None = None
    stop: str | None = None
    limit: int | None = None
    think: bool = False


class Failed(Struct):
    """An exception of the SDK."""

    kind: str
    status: int | None
    message: str


class Client(Protocol):
    """An official SDK, used as its documentation says."""

    name: str
    lacks: dict[str, str]
    """Feature -> where it says that this API has no such thing."""
    words: dict[str, tuple[str, ...]]
    """stop, length, tool_calls, filter -> what the SDK calls such an end."""
    kinds: dict[int, str]
    """Status -> exception class; 500 stands for all from there on."""

    def user(self, text: str, *, image: bool = False, pdf: bool = False) -> Any: ...

    def results(self, results: list[tuple[Call, str]]) -> list[Any]: ...

    def ask(self, ask: Ask) -> Seen: ...

    def stream(self, ask: Ask) -> Seen: ...

    def ask_async(self, ask: Ask) -> Seen: ...

    def parse(self, model: str, prompt: str) -> Harbour | None: ...

    def abandon(self, ask: Ask) -> None:
        """Begins a stream, reads a few pieces, and leaves."""

    def failure(self, ask: Ask) -> Failed: ...

    def close(self) -> None: ...
