"""At most one tool call a turn, kept by us where the upstream has no such switch (Gemini, Converse, Cohere).

Frameworks ask for it by default (LlamaIndex, instructor), and a caller that does must not get two. The calls after the
first are left out: the model makes them in the next turn, as it would have had to.
"""

from __future__ import annotations

import msgspec

from tieline.dialects.base import StreamEncoder
from tieline.types.errors import Fault
from tieline.types.events import ArgumentsDelta, BlockStart, BlockStop, Event
from tieline.types.request import Request, ToolCall
from tieline.types.response import Choice, Response


def asks_for_one(request: Request) -> bool:
    return request.tool_choice is not None and request.tool_choice.parallel is False


def first_calls(response: Response) -> Response:
    """The answer with each choice's first call only."""
    return msgspec.structs.replace(response, choices=[_first(choice) for choice in response.choices])


def _first(choice: Choice) -> Choice:
    first = next((part for part in choice.parts if isinstance(part, ToolCall)), None)
    kept = [part for part in choice.parts if not isinstance(part, ToolCall) or part is first]
    return msgspec.structs.replace(choice, parts=kept)


class OneCall:
    """A StreamEncoder that is not told of further calls."""

    __slots__ = ("_called", "_dropped", "_encoder")

    def __init__(self, encoder: StreamEncoder) -> None:
        self._encoder = encoder
        self._called: set[int] = set()
        self._dropped: set[int] = set()

    def encode(self, event: Event) -> bytes:
        if isinstance(event, BlockStart) and event.kind == "tool_call":
            if event.choice in self._called:
                self._dropped.add(event.index)
            self._called.add(event.choice)
        if isinstance(event, BlockStart | ArgumentsDelta | BlockStop) and event.index in self._dropped:
            return b""
        return self._encoder.encode(event)

    def finish(self) -> bytes:
        return self._encoder.finish()

    def error(self, fault: Fault, request_id: str) -> bytes:
        return self._encoder.error(fault, request_id)

    def ping(self) -> bytes:
        return self._encoder.ping()
