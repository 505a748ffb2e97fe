"""Where records go. Sinks are called from the recorder's thread, in batches."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from tieline.record.queued import Item
from tieline.types.record import as_dict


class Away(Exception):
    """The sink cannot take records now; the same batch may be given again."""


class Sink(Protocol):
    def write(self, batch: Sequence[Item], *, replay: bool) -> list[Item]:
        """Keeps the batch, and returns those that can never be kept.

        ``replay``: some may have been kept before; no record is kept twice. Raises Away.
        """

    def close(self) -> None: ...


class JsonLines:
    """One JSON object a line, appended to a file. Money is whole pico-dollars, as in the record."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab")
        self._encoder = msgspec.json.Encoder()

    def write(self, batch: Sequence[Item], *, replay: bool) -> list[Item]:
        try:
            self._file.write(self._encoder.encode_lines([as_dict(item.record) for item in batch]))
            self._file.flush()
        except OSError as error:
            raise Away(str(error)) from error
        return []

    def close(self) -> None:
        self._file.close()
