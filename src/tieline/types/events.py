"""A streamed answer in no vendor's words.

Order: ``Start``, then blocks, each ``BlockStart`` … deltas … ``BlockStop``, then ``Finish`` and at most one
``UsageReport`` with final totals (before or after ``Finish``; an early partial one may come too: the last wins, they are
never added). Blocks carry an ``index`` that is unique in the stream and grows; several tool blocks may be open at once
and their deltas interleave (WIRE_FACTS 1). With ``n > 1`` each block names its ``choice``.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct

from tieline.types.response import FinishReason
from tieline.types.usage import Usage

BlockKind = Literal["text", "thinking", "tool_call", "refusal", "opaque"]


class Start(Struct):
    id: str
    model: str
    created: int
    service_tier: str | None = None
    system_fingerprint: str | None = None


class BlockStart(Struct):
    index: int
    kind: BlockKind
    id: str | None = None
    """Tool call id, or reasoning item id."""
    name: str | None = None
    """Tool name, whole: a decoder waits until it is."""
    choice: int = 0
    signature: str | None = None
    """Gemini's thought signature of a tool call."""
    value: Any = None
    """The block of an ``opaque`` kind, verbatim, or redacted thinking data (kind ``thinking``, ``value`` a str)."""
    origin: str | None = None
    """The dialect that signatures, redacted data and opaque values are bound to (WIRE_FACTS 21)."""


class TextDelta(Struct, gc=False):
    index: int
    text: str
    logprobs: Any | None = None


class ThinkingDelta(Struct, gc=False):
    index: int
    text: str


class SignatureDelta(Struct):
    """The signature of a thinking block, whole or in pieces to be joined."""

    index: int
    signature: str
    origin: str | None = None
    """Where it is known only now, it replaces the ``BlockStart``'s."""


class ArgumentsDelta(Struct, gc=False):
    index: int
    json: str


class CitationDelta(Struct):
    index: int
    value: Any
    origin: str


class BlockStop(Struct, gc=False):
    index: int


class UsageReport(Struct, gc=False):
    usage: Usage


class Finish(Struct, gc=False):
    reason: FinishReason
    native_reason: str | None = None
    stop_sequence: str | None = None
    choice: int = 0


Event = (
    Start
    | BlockStart
    | TextDelta
    | ThinkingDelta
    | SignatureDelta
    | ArgumentsDelta
    | CitationDelta
    | BlockStop
    | UsageReport
    | Finish
)
