"""AWS's binary event stream, `application/vnd.amazon.eventstream`: frames cut, checked and written.

A message is a prelude (total length, headers length, CRC-32 of both), headers, payload, and the CRC-32 of all before it;
integers are big-endian (AWS SDKs guide "Amazon event stream specification").
"""

from __future__ import annotations

import struct
from zlib import crc32

import msgspec

from tieline.dialects.base import MAX_FRAME_BYTES, Frame, Garbled

MEDIA_TYPE = b"application/vnd.amazon.eventstream"
EXCEPTION = "exception:"
"""Prefix of ``Frame.event`` for messages that are not events but errors."""

_PRELUDE = struct.Struct(">III")
_CRC = struct.Struct(">I")
_OVERHEAD = _PRELUDE.size + _CRC.size
_STRING = 7
_FIXED = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""Sizes of header values by type: true, false, byte, short, int, long, timestamp, uuid."""
_SIZED = frozenset((6, 7))
"""Bytes and strings: a 16-bit length first."""


class EventStreamSplitter:
    """Cuts bytes into frames: ``data`` is the payload, ``event`` the `:event-type`, or ``exception:`` and its type."""

    __slots__ = ("_held",)

    def __init__(self) -> None:
        self._held = bytearray()

    @property
    def pending(self) -> bool:
        return bool(self._held)

    def feed(self, data: bytes) -> list[Frame]:
        """Raises Garbled for a wrong checksum or a message beyond MAX_FRAME_BYTES: nothing after it can be found."""
        self._held += data
        held = self._held
        frames: list[Frame] = []
        start = 0
        try:
            while len(held) - start >= _PRELUDE.size:
                total, headers = _prelude(held, start)
                if len(held) - start < total:
                    break
                frames.append(_frame(bytes(held[start : start + total]), headers))
                start += total
        except Garbled:
            self._held = bytearray()
            raise
        del held[:start]
        return frames

    def finish(self) -> list[Frame]:
        """A message cut short is none."""
        self._held.clear()
        return []


def _prelude(held: bytearray, start: int) -> tuple[int, int]:
    total, headers, crc = _PRELUDE.unpack_from(held, start)
    if crc32(held[start : start + 8]) != crc:
        raise Garbled("the prelude of an event stream message fails its checksum")
    if total > MAX_FRAME_BYTES:
        raise Garbled(f"an event stream message is larger than {MAX_FRAME_BYTES} bytes")
    if total < _OVERHEAD + headers:
        raise Garbled("an event stream message is shorter than its headers")
    return total, headers


def _frame(raw: bytes, headers_size: int) -> Frame:
    if crc32(raw[: -_CRC.size]) != _CRC.unpack_from(raw, len(raw) - _CRC.size)[0]:
        raise Garbled("an event stream message fails its checksum")
    end = _PRELUDE.size + headers_size
    headers = _headers(raw[_PRELUDE.size : end])
    payload = raw[end : -_CRC.size]
    kind = headers.get(":message-type", "event")
    if kind == "exception":
        return Frame(raw, payload, EXCEPTION + headers.get(":exception-type", "unknown"))
    if kind == "error":
        said = {"message": headers.get(":error-message", "")}
        return Frame(
            raw, payload or msgspec.json.encode(said), EXCEPTION + headers.get(":error-code", "unknown")
        )
    return Frame(raw, payload, headers.get(":event-type"))


def _headers(raw: bytes) -> dict[str, str]:
    """Those that are strings; the rest is walked over."""
    headers: dict[str, str] = {}
    at = 0
    try:
        while at < len(raw):
            name_end = at + 1 + raw[at]
            name = raw[at + 1 : name_end].decode()
            kind = raw[name_end]
            at = name_end + 1
            size = _FIXED.get(kind)
            if size is None:
                if kind not in _SIZED:
                    raise Garbled(f"an event stream header of the unknown type {kind}")
                size = int.from_bytes(raw[at : at + 2], "big")
                at += 2
            if kind == _STRING:
                headers[name] = raw[at : at + size].decode()
            at += size
    except (IndexError, UnicodeDecodeError):
        raise Garbled("the headers of an event stream message are broken") from None
    if at != len(raw):
        raise Garbled("the headers of an event stream message are broken")
    return headers


def event(kind: str, payload: bytes) -> bytes:
    """One event on the wire."""
    return message(
        {":message-type": "event", ":event-type": kind, ":content-type": "application/json"}, payload
    )


def exception(kind: str, payload: bytes) -> bytes:
    """One modelled error on the wire: `throttlingException`, …"""
    return message(
        {":message-type": "exception", ":exception-type": kind, ":content-type": "application/json"}, payload
    )


def message(headers: dict[str, str], payload: bytes) -> bytes:
    packed = b"".join([_header(name, value) for name, value in headers.items()])
    lengths = struct.pack(">II", _OVERHEAD + len(packed) + len(payload), len(packed))
    body = lengths + _CRC.pack(crc32(lengths)) + packed + payload
    return body + _CRC.pack(crc32(body))


def _header(name: str, value: str) -> bytes:
    raw = value.encode()
    return bytes((len(name),)) + name.encode() + bytes((_STRING,)) + len(raw).to_bytes(2, "big") + raw
