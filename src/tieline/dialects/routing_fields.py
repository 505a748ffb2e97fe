"""The body's fields that speak to a gateway: ours, and OpenRouter's."""

from __future__ import annotations

import msgspec

from tieline.dialects.base import Peek
from tieline.dialects.reading import OBJECT, Fields, read

ROUTING = frozenset(("tieline", "models", "provider", "route"))
_NAMES = msgspec.json.Decoder(tuple[str, ...])


def take_routing(fields: Fields, seen: Peek) -> None:
    """What is meant for a gateway never reaches a provider (WIRE_FACTS 25)."""
    seen.options = read(fields, "tieline", OBJECT) or {}
    seen.fallbacks = read(fields, "models", _NAMES) or ()
    for name in ("tieline", "models", "route"):
        fields.pop(name, None)
    if bytes(fields.get("provider", b""))[:1] == b"{":
        # Anything but an object is some vendor's own field of that name.
        seen.provider_preferences = read(fields, "provider", OBJECT)
        del fields["provider"]
