"""Which event of a stream is the first that says something: what *first token* means in every figure."""

from __future__ import annotations

from typing import Any

import msgspec


class FirstContent:
    """Fed with a stream's pieces until one completes an event with text in it. A role, a message's start, a comment or
    an empty delta is none. Holds back no more than one unfinished event."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = b""

    def found_in(self, piece: bytes) -> bool:
        *events, self._held = (self._held + piece).replace(b"\r\n", b"\n").split(b"\n\n")
        return any(map(has_content, events))


def has_content(event: bytes) -> bool:
    """Whether an event is a Chat Completions chunk, or a Messages delta, with text."""
    data = b"\n".join(line[5:].strip() for line in event.split(b"\n") if line.startswith(b"data:"))
    try:
        decoded = msgspec.json.decode(data)
    except msgspec.DecodeError:
        return False
    return isinstance(decoded, dict) and bool(_text(decoded))


def _text(chunk: dict[str, Any]) -> object:
    if chunk.get("type") == "content_block_delta":
        return chunk["delta"].get("text")
    choices = chunk.get("choices")
    return choices[0].get("delta", {}).get("content") if choices else None
