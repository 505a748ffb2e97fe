"""At most one tool call a turn, kept by us where the upstream has no such switch (Gemini, Converse, Cohere).

Frameworks ask for it by default (LlamaIndex, instructor), and a caller that does must not get two. The calls after the
first are left out: the model makes them in the next turn, as it would have had to.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from tieline.types.events import ArgumentsDelta, BlockStart, BlockStop, Event
from tieline.types.request import Request, ToolCall
from tieline.types.response import Choice, Response


def asks_for_one(request: Request) -> bool:
    return request.tool_choice is not None and request.tool_choice.parallel is False


class OneCall:
    """Further calls of a choice are left out (an ``AnswerFilter``)."""

    __slots__ = ("_called", "_dropped")

    def __init__(self) -> None:
        self._called: set[int] = set()
        self._dropped: set[int] = set()

    def whole(self, response: Response) -> Response:
        return replace(response, choices=[_first(choice) for choice in response.choices])

    def streamed(self, event: Event) -> Sequence[Event]:
        if isinstance(event, BlockStart) and event.kind == "tool_call":
            if event.choice in self._called:
                self._dropped.add(event.index)
            self._called.add(event.choice)
        if isinstance(event, BlockStart | ArgumentsDelta | BlockStop) and event.index in self._dropped:
            return ()
        return (event,)


def _first(choice: Choice) -> Choice:
    first = next((part for part in choice.parts if isinstance(part, ToolCall)), None)
    kept = [part for part in choice.parts if not isinstance(part, ToolCall) or part is first]
    return replace(choice, parts=kept)
