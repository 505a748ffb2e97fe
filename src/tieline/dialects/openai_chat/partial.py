"""Parts of Chat Completions bodies: as much as a look at one has to read, and what reads it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw, Struct

from tieline.types.usage import MAX_TOKENS


class Turn(Struct):
    role: str


class Typed(Struct):
    type: str | None = None


class TurnParts(Struct):
    role: str
    content: str | list[str | Typed | None] | None = None


class StreamOptions(Struct):
    include_usage: bool | None = None


class Format(Struct):
    type: str


READ_TURNS = msgspec.json.Decoder(list[Turn])


READ_TURN_PARTS = msgspec.json.Decoder(list[TurnParts])


class Tool(Struct):
    type: str | None = None
    name: Any = None
    function: Any = None
    custom: Any = None
    input_schema: Any = None


READ_STREAM_OPTIONS = msgspec.json.Decoder(StreamOptions)


READ_FORMAT = msgspec.json.Decoder(Format)


READ_TOOLS = msgspec.json.Decoder(list[Tool])


class PlainStreamOptions(Struct, forbid_unknown_fields=True, gc=False):
    include_usage: bool | None = None


class PlainTurn(Struct, forbid_unknown_fields=True, gc=False):
    role: str
    content: str


class PlainBody(Struct, forbid_unknown_fields=True, gc=False):
    """What most requests consist of; whatever has more, or something else in it, is looked at field by field."""

    model: str
    messages: list[PlainTurn]
    stream: bool = False
    stream_options: PlainStreamOptions | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    user: str | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None


READ_PLAIN_BODY = msgspec.json.Decoder(PlainBody)


class Messages(Struct):
    messages: Raw


READ_MESSAGES = msgspec.json.Decoder(Messages)


Tokens = Annotated[int, Meta(ge=0, lt=MAX_TOKENS)]


class PlainIn(Struct, gc=False):
    cached_tokens: Tokens = 0
    audio_tokens: Tokens = 0
    cache_write_tokens: None = None
    image_tokens: None = None


class PlainOut(Struct, gc=False):
    reasoning_tokens: Tokens = 0
    audio_tokens: Tokens = 0


class PlainUsage(Struct, gc=False):
    """As OpenAI itself counts; a figure that some other vendor adds fails the decoding and takes the long way."""

    prompt_tokens: Tokens
    completion_tokens: Tokens
    total_tokens: Tokens
    prompt_tokens_details: PlainIn | None = None
    completion_tokens_details: PlainOut | None = None
    prompt_cache_hit_tokens: None = None
    cached_tokens: None = None
    cache_read_input_tokens: None = None
    cache_creation_input_tokens: None = None
    reasoning_tokens: None = None


class PlainChoice(Struct, gc=False):
    """Other reasons, those of a host that gave up among them, take the long way."""

    finish_reason: Literal["stop", "length", "tool_calls", "content_filter", "function_call"]


class PlainAnswer(Struct, gc=False):
    id: str
    model: str
    choices: list[PlainChoice]
    usage: PlainUsage
    error: None = None
    x_groq: None = None
    object: Literal["chat.completion"] = "chat.completion"
    service_tier: Literal["default", "standard", "auto"] | None = None


READ_PLAIN_ANSWER = msgspec.json.Decoder(PlainAnswer)
