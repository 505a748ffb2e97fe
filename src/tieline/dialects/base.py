"""The seam of a wire API. Everything here is pure and synchronous: bytes and typed forms in, bytes and typed forms out.

A dialect is used on two sides. *Downstream* it reads what a caller sent and writes what the caller gets; *upstream* it
writes what a provider gets and reads what the provider sent. When both sides are the same dialect the pipeline calls
``forward`` and relays frames as they are; the decoder then only watches.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol
from urllib.parse import quote

from msgspec import Struct, field

from tieline.dialects.seen import Frame as Frame
from tieline.dialects.seen import Glance as Glance
from tieline.dialects.seen import Outgoing as Outgoing
from tieline.dialects.seen import Peek as Peek
from tieline.types.call import Call, Headers
from tieline.types.errors import ErrorInfo, Fault
from tieline.types.events import Event
from tieline.types.request import Request
from tieline.types.response import Response

MAX_FRAME_BYTES = 4 * 1024 * 1024
"""One stream event; images inside events are the largest seen, about 2 MB of base64."""


class Quirks(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a host deviates from the dialect it speaks. A provider row sets these; dialects obey them while encoding."""

    max_tokens_field: str = "max_tokens"
    """OpenAI Chat: the name of the output limit (`max_completion_tokens` at OpenAI and Azure)."""
    one_limit: bool = False
    """OpenAI Chat: whether the host knows the output limit by that name only; the other is renamed in bodies that pass through too."""
    developer_role: bool = False
    stream_usage: bool = True
    """Whether `stream_options.include_usage` is understood."""
    json_schema: bool = True
    json_object: bool = True
    tools: bool = True
    tool_choice_required: bool = True
    required_word: str = "required"
    """What `tool_choice: required` is called (`any` at Mistral)."""
    parallel_tool_calls: bool = True
    reasoning_effort: bool = True
    reasoning_field: str = "reasoning_content"
    """Where reasoning text is in messages and deltas; decoders accept every known name."""
    replay_reasoning: bool = False
    """Whether earlier reasoning must or may be sent back."""
    cache_marks: bool = False
    """OpenAI Chat: whether `cache_control` on content parts is understood (OpenRouter)."""
    empty_tools: bool = False
    """Whether `tools: []` is accepted."""
    max_stop: int = 4
    seed_field: str = "seed"
    tool_id_pattern: str = ""
    """A regular expression that tool ids must match; others are rewritten stably, or refused where none that can be made
    matches (`tieline check` says so)."""
    schema_strips: tuple[str, ...] = ()
    """JSON Schema keywords this host rejects."""
    rejects: tuple[str, ...] = ()
    """Top-level fields this host answers with an error: asking for one makes it ineligible."""
    betas: tuple[str, ...] | None = None
    """`anthropic-beta` values this host accepts, whole or without their date; None: all."""
    body_version: str = ""
    """Anthropic Messages: `anthropic_version` stands in the body with this value, and the model only in the path (Vertex)."""
    completions: str = ""
    """A regular expression of the model ids that the host serves under OpenAI's legacy `/completions`; empty: none."""
    embed_config: bool = False
    """Gemini: settings of embeddings stand in `embedContentConfig`, and models other than Gemini's are asked with `:predict` (Vertex)."""
    path: str = ""
    """Overrides the dialect's path below the base URL; `{model}` and, where a dialect has several, `{method}` are replaced."""


class Target(Struct, frozen=True, kw_only=True):
    """Where a request goes, as far as its encoding cares."""

    provider: str
    model: str
    """The upstream's model id."""
    dialect: str
    quirks: Quirks = field(default_factory=Quirks)
    vision: bool | None = None
    """Capabilities of the model; None is unknown and counts as able."""
    pdf: bool | None = None
    audio: bool | None = None
    tools: bool | None = None
    structured_output: bool | None = None
    reasoning: bool | None = None
    prefill: bool | None = None
    max_output_tokens: int | None = None
    adaptive_thinking: bool | None = None
    """Claude: the model takes `thinking: adaptive` + effort rather than a budget."""


@lru_cache(maxsize=4096)
def segment(model: str) -> str:
    """A model's id for a path. Callers may name any model at a provider: what they write stays one segment."""
    return quote(model, safe="@:=,")


Mould = tuple[bytes, bytes, bytes]
"""A frame that carries a piece of text, up to the text's opening quote and from its closing one: most of a stream's frames
differ only between them. Where there is padding too, the second part ends where it begins, and the third begins where it ends:
with a quote, so that it is letters and digits, or without, so that it is blanks. Else the third part is empty."""


class Splitter(Protocol):
    """Cuts a byte stream into frames, wherever it was split. Size-capped."""

    def feed(self, data: bytes) -> list[Frame]:
        """Raises Garbled for a frame beyond MAX_FRAME_BYTES or (binary) a wrong checksum."""

    def finish(self) -> list[Frame]:
        """A last frame without its blank line, if any."""

    @property
    def pending(self) -> bool:
        """Whether bytes of an unfinished frame are held."""


class StreamFault(Exception):
    """The stream itself said something went wrong (WIRE_FACTS 9)."""

    def __init__(self, info: ErrorInfo, status: int | None = None) -> None:
        super().__init__(info.message)
        self.info = info
        self.status = status
        """The status it would have had before the stream, where the vendor's type tells."""


class Garbled(Exception):
    """Bytes that are not the dialect. ``carries_content`` False: the frame may be skipped."""

    def __init__(self, message: str, *, carries_content: bool = True) -> None:
        super().__init__(message)
        self.carries_content = carries_content


class Truncated(Exception):
    """The stream ended without a finish reason (WIRE_FACTS 10)."""


class StreamDecoder(Protocol):
    """Reads an upstream's stream. Frames of a stream must be given in order."""

    complete: bool
    """A finish reason was seen (for every choice): EOF is now a good end."""
    ended: bool
    """The terminator was seen (`[DONE]`, `message_stop`): nothing more will come."""

    @property
    def unsaid(self) -> bool:
        """Whether something has begun that no event has told yet: a call without its arguments, a block of no kind of ours."""

    def decode(self, frame: Frame) -> list[Event]:
        """Raises StreamFault or Garbled."""

    def finish(self) -> list[Event]:
        """At EOF. Closes open blocks. Raises Truncated when not ``complete``."""


class StreamEncoder(Protocol):
    """Writes a caller's stream."""

    def encode(self, event: Event) -> bytes:
        """May be empty. Events come in the order that types/events.py states."""

    def finish(self) -> bytes:
        """The terminator, with everything held until then (usage)."""

    def error(self, fault: Fault, request_id: str) -> bytes:
        """A clean end with an error, in-band; never looks like a complete answer."""

    def ping(self) -> bytes:
        """A keep-alive that clients ignore."""


class UpstreamDialect(Protocol):
    """What a provider speaks. Some wire APIs are spoken to providers only (Bedrock Converse, Cohere)."""

    name: str
    """openai_chat, openai_responses, anthropic_messages, gemini, bedrock_converse, cohere"""
    media_type: bytes
    """Of its streams: text/event-stream."""

    def encode_request(self, request: Request, target: Target) -> Outgoing:
        """Raises Unsupported with ``param`` = the caller's field that the target cannot do."""

    def splitter(self) -> Splitter: ...

    def stream_decoder(self) -> StreamDecoder: ...

    def mould(self, frame: bytes) -> Mould | None:
        """Of a frame that is one ``TextDelta``: it without its text. To decode what fits it gives that text and leaves the
        decoder as it was. None is always right, only slower."""

    def decode_response(self, body: bytes) -> Response:
        """Raises StreamFault (an error inside a 200) or Garbled."""

    def decode_error(self, status: int, headers: Headers, body: bytes) -> ErrorInfo:
        """Never raises; HTML, empty and unknown shapes give what can be had."""


class Dialect(UpstreamDialect, Protocol):
    """What callers speak too."""

    comments: bool
    """Whether its clients skip the comments of an event stream, as the standard says."""

    def peek(self, call: Call) -> Peek:
        """Raises InvalidRequest (malformed JSON, wrong types, no messages), naming the field."""

    def decode_request(self, call: Call, peek: Peek) -> Request:
        """Everything. Raises InvalidRequest."""

    def encode_response(self, response: Response, request: Request) -> bytes:
        """``response.model`` and ``response.id`` are what the caller shall see."""

    def stream_encoder(self, request: Request) -> StreamEncoder: ...

    def encode_error(self, fault: Fault, request_id: str) -> bytes:
        """The body that makes the official SDK raise its own class for ``fault.status``."""

    # the same dialect on both sides -----------------------------------------------------------------------------

    def forward(self, call: Call, peek: Peek, target: Target) -> Outgoing:
        """Same dialect on both sides: only what must change is touched (model, usage flag), the rest survives."""

    def glance(self, body: bytes) -> Glance:
        """Raises StreamFault or Garbled."""

    def hides(self, frame: Frame, peek: Peek) -> bool:
        """Pass-through: whether a frame was only sent because we asked (the usage chunk) and the caller did not."""

    terminator: bytes
    """What ends a stream on the wire (`data: [DONE]\\n\\n`), for a complete answer that came without; b"" if nothing does."""
