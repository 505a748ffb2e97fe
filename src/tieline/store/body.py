"""The body of a record: its MessagePack, which the journal holds, the hash chain covers, and queries give back.

Two forms are read: what is written now, an array that begins with 2, and maps with the names of all fields, as Tieline
wrote them at first.

A decision that went as it nearly always goes is one object that many records share, so it is encoded once: deflated, with
a dictionary of what all of them say, as the MessagePack extension 1 under an empty name.
"""

from __future__ import annotations

import zlib
from typing import Any

import msgspec
from msgspec import NODEFAULT, Raw, structs
from msgspec.msgpack import Decoder, Encoder, Ext

from tieline.types.record import Attempt, Record
from tieline.types.usage import Usage

Fields = list[tuple[str, structs.FieldInfo]]

_PACKED = 1
_MAX_KEPT = 1_000
"""Packed decisions that are kept: there is one for each pool and first choice."""
_MAX_SEEN = 64
_MAX_DECISION_BYTES = 1024 * 1024
_WORDS = msgspec.msgpack.encode(
    {
        "model": "gpt-5",
        "reference": "openai/gpt-5",
        "fallback": "equal",
        "intent": None,
        "tried": [{"deployment": "openai/gpt-5", "credential": "OPENAI_API_KEY", "reason": "first"}],
        "candidates": [
            {
                "deployment": "azure/gpt-5",
                "provider": "azure",
                "model": "gpt-5",
                "kind": "asked",
                "quality": None,
                "quality_average": None,
            }
        ],
        "excluded": {},
    }
)
"""The dictionary of extension 1. It is part of what is stored: another one would be extension 2."""


class Bodies:
    """Encodes records, from any thread."""

    def __init__(self) -> None:
        self._encode = Encoder(enc_hook=str).encode
        # The decisions stay referenced, so that no other object gets their ids.
        self._packed: dict[int, tuple[dict[str, Any], Raw]] = {}
        self._seen: dict[int, dict[str, Any]] = {}

    def encode(self, record: Record) -> bytes:
        """Raises what an encoder raises for what cannot be encoded. ``record.decision`` is put back."""
        decision = record.decision
        found = self._packed.get(id(decision))
        packed = found[1] if found is not None else self._notice(decision)
        if packed is None:
            return self._encode(record)
        record.decision = packed  # type: ignore[assignment]  # encoded as it is
        try:
            return self._encode(record)
        finally:
            record.decision = decision

    def _notice(self, decision: dict[str, Any]) -> Raw | None:
        """Packed when it comes for the second time; most that are not shared never do."""
        if not decision:
            return None
        key = id(decision)
        if self._seen.pop(key, None) is None:
            if len(self._seen) >= _MAX_SEEN:
                self._seen.clear()
            self._seen[key] = decision
            return None
        if len(self._packed) >= _MAX_KEPT:
            self._packed.clear()
        raw = Raw(self._encode({"": Ext(_PACKED, _deflate(self._encode(decision)))}))
        self._packed[key] = (decision, raw)
        return raw


def decode(body: bytes) -> Record:
    """Raises msgspec.MsgspecError for what is no record."""
    # A record is an array of more than 15 (0xdc); maps are of before 2026-12.
    if body[:1] != b"\xdc":
        return _of_names(_decode_names(body))
    record = _decode(body)
    if "" in record.decision:
        record.decision = msgspec.convert(record.decision[""], dict[str, Any])
    return record


def _deflate(data: bytes) -> bytes:
    deflater = zlib.compressobj(9, zlib.DEFLATED, -15, zdict=_WORDS)
    return deflater.compress(data) + deflater.flush()


def _inflate(code: int, data: memoryview) -> Any:
    if code != _PACKED:
        raise msgspec.ValidationError(f"unknown extension {code}")
    inflater = zlib.decompressobj(-15, zdict=_WORDS)
    try:
        return _decode_names(inflater.decompress(bytes(data), _MAX_DECISION_BYTES))
    except zlib.error as error:
        raise msgspec.ValidationError("a decision that cannot be read") from error


_decode = Decoder(Record, ext_hook=_inflate).decode
_decode_names = Decoder(dict[str, Any]).decode


def _of_names(named: dict[str, Any]) -> Record:
    attempts = msgspec.convert(named.get("attempts", []), list[dict[str, Any]])
    named["attempts"] = [_values(_ATTEMPT, attempt) for attempt in attempts]
    return msgspec.convert([Record.__struct_config__.tag, *_values(_RECORD, named)], Record)


def _values(fields: Fields, named: dict[str, Any]) -> list[Any]:
    # A usage of nothing but zeros has no names.
    if (usage := named.get("usage")) is not None:
        named["usage"] = _values(_USAGE, msgspec.convert(usage, dict[str, Any]))
    return [named[name] if name in named else _default(field) for name, field in fields]


def _default(field: structs.FieldInfo) -> Any:
    if field.default is not NODEFAULT:
        return field.default
    if field.default_factory is not NODEFAULT:
        return field.default_factory()
    raise msgspec.ValidationError(f"no {field.name}")


_RECORD: Fields = [(field.name, field) for field in structs.fields(Record)]
_ATTEMPT: Fields = [(field.name, field) for field in structs.fields(Attempt)]
_USAGE: Fields = [(field.name, field) for field in structs.fields(Usage)]
