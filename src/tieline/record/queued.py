"""Records on their way from the recorder to the sinks."""

from __future__ import annotations

from tieline.record.journal import Segment
from tieline.types.record import Record


class Item:
    """A record with its encoded form, so that it is encoded once."""

    __slots__ = ("body", "record")

    def __init__(self, record: Record, body: bytes) -> None:
        self.record = record
        self.body = body


class Queued(Item):
    """And where the journal has it, and had noted its beginning."""

    __slots__ = ("begun", "segment")

    def __init__(self, record: Record, body: bytes, segment: Segment | None, begun: Segment | None) -> None:
        super().__init__(record, body)
        self.segment = segment
        self.begun = begun
