"""Google's Gemini API: generateContent, streamGenerateContent, countTokens. Model and stream come from the path."""

from __future__ import annotations

import msgspec

from tieline.dialects.base import (
    Frame,
    Mould,
    Outgoing,
    Peek,
    Splitter,
    StreamDecoder,
    StreamEncoder,
    Target,
)
from tieline.dialects.fields import to_json, value_of
from tieline.dialects.gemini import answer_in, replayed, request_in, request_out, response_out
from tieline.dialects.gemini.answer_in import decode_count
from tieline.dialects.gemini.response_out import encode_count
from tieline.dialects.routing_fields import ROUTING
from tieline.dialects.sse import MEDIA_TYPE, SseSplitter
from tieline.types.call import Call
from tieline.types.request import Request

__all__ = [
    "GEMINI",
    "GEMINI_ARRAY",
    "Gemini",
    "GeminiArray",
    "decode_count",
    "encode_count",
]

_ROUTING_NAMES = tuple(f'"{name}"'.encode() for name in ROUTING)


class Gemini:
    """With ``alt=sse``, as the official SDK always asks; ``GeminiArray`` is the form without it."""

    name = request_in.NAME
    media_type = MEDIA_TYPE
    terminator = b""
    comments = False
    """google-genai 3.4 takes every line without `data: ` for a piece of an error."""

    peek = staticmethod(request_in.peek)
    decode_request = staticmethod(request_in.decode_request)
    encode_response = staticmethod(response_out.encode_response)
    encode_error = staticmethod(response_out.encode_error)
    encode_request = staticmethod(request_out.encode_request)
    decode_response = staticmethod(answer_in.decode_response)
    glance = staticmethod(answer_in.glance)
    decode_error = staticmethod(answer_in.decode_error)

    def stream_encoder(self, request: Request) -> StreamEncoder:
        return response_out.GeminiStream(request)

    def forward(self, call: Call, peek: Peek, target: Target) -> Outgoing:
        """The model stands in the path, so that the body goes as it came unless it holds options of ours."""
        method = "streamGenerateContent" if call.stream else "generateContent"
        if call.operation == "count_tokens":
            method = "countTokens"
        ours = any(name in call.body for name in _ROUTING_NAMES)
        body = to_json(peek.fields) if ours else call.body
        contents = bytes(peek.fields.get("contents", b""))
        if replayed.may_be_foreign(contents, target.model):
            turns = replayed.own_only(value_of(msgspec.Raw(contents), "contents"), target.model)
            body = to_json({**peek.fields, "contents": turns})
        return Outgoing(path=request_out.path_of(target, method), body=body)

    def splitter(self) -> Splitter:
        return SseSplitter()

    def stream_decoder(self) -> StreamDecoder:
        return answer_in.GeminiDecoder()

    def mould(self, frame: bytes) -> Mould | None:
        return None

    def hides(self, frame: Frame, peek: Peek) -> bool:
        """Usage comes with the chunks, for every caller."""
        return False


class GeminiArray(Gemini):
    """A caller's stream without ``alt=sse``: one JSON array. It has a name of its own because bytes of an upstream,
    which is always asked for events, cannot pass through to it."""

    name = "gemini_array"
    media_type = b"application/json"

    def stream_encoder(self, request: Request) -> StreamEncoder:
        return response_out.GeminiArrayStream(request)


GEMINI = Gemini()
GEMINI_ARRAY = GeminiArray()
