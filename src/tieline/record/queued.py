"""Records on their way from the recorder to the sinks."""

from __future__ import annotations

from tieline.record.journal import Segment
from tieline.record.rows import ID, PlainRow
from tieline.store.body import decode
from tieline.types.record import Record


class Item:
    """A record in its encoded form, its row if it is a plain one, and the record itself when somebody asks."""

    __slots__ = ("_record", "body", "row")

    def __init__(self, body: bytes, record: Record | None = None, row: PlainRow | None = None) -> None:
        self.body = body
        self.row = row
        self._record = record

    @property
    def id(self) -> str:
        return self.row[ID] if self.row is not None else self.record.id

    @property
    def record(self) -> Record:
        """Raises msgspec.MsgspecError when the body is none."""
        record = self._record
        if record is None:
            record = self._record = decode(self.body)
        return record


class Queued(Item):
    """And where the journal has it, and had noted its beginning."""

    __slots__ = ("begun", "segment")

    def __init__(
        self,
        body: bytes,
        record: Record | None,
        row: PlainRow | None,
        segment: Segment | None,
        begun: Segment | None,
    ) -> None:
        super().__init__(body, record, row)
        self.segment = segment
        self.begun = begun
