"""What a request had to be changed in for a provider is changed back in its answer, whole or streamed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tieline.dialects.base import StreamEncoder
from tieline.dialects.one_call import OneCall, asks_for_one
from tieline.dialects.rooted import Unrooted, is_rootless
from tieline.dialects.tool_names import GivenNames, given_names
from tieline.types.errors import Fault
from tieline.types.events import Event
from tieline.types.request import Request
from tieline.types.response import Response


class AnswerFilter(Protocol):
    """Of one answer."""

    def whole(self, response: Response) -> Response: ...

    def streamed(self, event: Event) -> Sequence[Event]:
        """What stands for ``event`` in the caller's stream."""


def answer_filters(request: Request) -> list[AnswerFilter]:
    filters: list[AnswerFilter] = []
    if asks_for_one(request):
        filters.append(OneCall())
    if is_rootless(request):
        filters.append(Unrooted())
    if request.tools and (names := given_names(request)):
        filters.append(GivenNames(names))
    return filters


class Filtered:
    """A StreamEncoder that is told what the filters let through."""

    __slots__ = ("_encoder", "_filters")

    def __init__(self, encoder: StreamEncoder, filters: Sequence[AnswerFilter]) -> None:
        self._encoder = encoder
        self._filters = filters

    def encode(self, event: Event) -> bytes:
        events: Sequence[Event] = (event,)
        for one in self._filters:
            events = [left for passed in events for left in one.streamed(passed)]
        return b"".join(map(self._encoder.encode, events))

    def finish(self) -> bytes:
        return self._encoder.finish()

    def error(self, fault: Fault, request_id: str) -> bytes:
        return self._encoder.error(fault, request_id)

    def ping(self) -> bytes:
        return self._encoder.ping()
