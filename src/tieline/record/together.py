"""What all workers of one port have counted, for each of them to see: a scrape reaches one of them and asks for all.

Each has two areas in a file that they share and writes them in turn, so that a kill in the middle leaves what stood before. A
worker that takes the place of a dead one goes on from its figures: a counter never goes back.
"""

from __future__ import annotations

import os
import zlib
from struct import Struct as Layout
from typing import Final, Literal

import msgspec
from msgspec import Struct

AREA_BYTES: Final = 8 * 1024 * 1024
"""500 label sets of each metric with long names are 2 MB. Only what is written takes memory."""
_PAGE: Final = 4096
_PLACE_BYTES: Final = _PAGE + 2 * AREA_BYTES
_HEAD: Final = Layout("<IIII")
"""Which area, length, crc32, and whether its worker lives."""
_LIVES_AT: Final = 12
_TRIES: Final = 3


Labels = tuple[str, ...]
Kind = Literal["sum", "max", "min"]


class Figures(Struct, array_like=True):
    """What one worker shows the others."""

    counters: dict[str, list[tuple[Labels, str]]]
    """Values as text: amounts of money may need more than 64 bits."""
    histograms: dict[str, list[tuple[Labels, list[int], float]]]
    gauges: list[tuple[str, str, dict[str, str], float, Kind]]
    """``metrics.Gauge``, which is compiled."""


def bytes_for(count: int) -> int:
    """The size of the file for so many workers. It may be one of holes."""
    return count * _PLACE_BYTES


def left(fd: int, place: int) -> None:
    """Its worker has died: what it counted stays, the state it was in does not."""
    os.pwrite(fd, bytes(4), place * _PLACE_BYTES + _LIVES_AT)


class Together:
    """One worker's view of the file. Not for several threads at once."""

    def __init__(self, fd: int, place: int, count: int) -> None:
        self._fd = fd
        self._place = place
        self._count = count
        self._area = 0
        self._last: dict[int, bytes] = {}

    def publish(self, figures: Figures) -> None:
        """In place of what stood there."""
        body = _encode(figures)
        if len(body) > AREA_BYTES:
            return
        self._area = 1 - self._area
        start = self._place * _PLACE_BYTES
        os.pwrite(self._fd, body, start + _PAGE + self._area * AREA_BYTES)
        os.pwrite(self._fd, _HEAD.pack(self._area, len(body), zlib.crc32(body), 1), start)

    def before(self) -> Figures:
        """What a worker in this place published last."""
        self._area, body, _ = self._read(self._place)
        return _decoded(body)

    def others(self) -> list[tuple[Figures, bool]]:
        """What each other place has published, and whether its worker lives."""
        found = [self._read(place)[1:] for place in range(self._count) if place != self._place]
        return [(_decoded(body), lives) for body, lives in found]

    def _read(self, place: int) -> tuple[int, bytes, bool]:
        start = place * _PLACE_BYTES
        area = lives = 0
        for _ in range(_TRIES):
            area, length, crc, lives = _HEAD.unpack(os.pread(self._fd, _HEAD.size, start))
            body = os.pread(self._fd, length, start + _PAGE + area * AREA_BYTES)
            if zlib.crc32(body) == crc:
                self._last[place] = body
                break
        # Overtaken each time by its writer: what was read before.
        return area, self._last.get(place, b""), bool(lives)


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Figures).decode


def _decoded(body: bytes) -> Figures:
    """Empty where there is nothing yet, or what a worker of another version wrote, which was installed meanwhile."""
    try:
        return _decode(body)
    except msgspec.MsgspecError:
        return Figures({}, {}, [])
