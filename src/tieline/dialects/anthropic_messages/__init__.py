"""Anthropic's Messages API, downstream and upstream (platform.claude.com/docs/en/api/messages, November 2026)."""

from __future__ import annotations

from tieline.dialects import error_bodies, sse
from tieline.dialects.anthropic_messages import decode as _decode
from tieline.dialects.anthropic_messages import encode as _encode
from tieline.dialects.anthropic_messages import peek as _peek
from tieline.dialects.anthropic_messages import response as _response
from tieline.dialects.anthropic_messages import stream as _stream
from tieline.dialects.anthropic_messages.peek import estimate_tokens
from tieline.dialects.anthropic_messages.response import decode_count, encode_count
from tieline.dialects.anthropic_messages.wire import NAME
from tieline.dialects.base import (
    Frame,
    Peek,
    Splitter,
    StreamDecoder,
    StreamEncoder,
)
from tieline.types.call import Headers
from tieline.types.errors import ErrorInfo
from tieline.types.request import Request
from tieline.types.response import Response

__all__ = ["ANTHROPIC_MESSAGES", "AnthropicMessages", "decode_count", "encode_count", "estimate_tokens"]


class AnthropicMessages:
    """The seam's two sides (``dialects.base.Dialect``)."""

    name = NAME
    media_type = sse.MEDIA_TYPE
    terminator = _stream.MESSAGE_STOP
    comments = True
    peek = staticmethod(_peek.peek)
    decode_request = staticmethod(_decode.decode_request)
    encode_error = staticmethod(_response.encode_error)
    encode_request = staticmethod(_encode.encode_request)
    forward = staticmethod(_peek.forward)
    decode_response = staticmethod(_response.decode_response)
    glance = staticmethod(_response.glance)
    mould = staticmethod(_stream.mould)

    def encode_response(self, response: Response, request: Request) -> bytes:
        return _response.encode_response(response)

    def stream_encoder(self, request: Request) -> StreamEncoder:
        return _stream.Encoder()

    def splitter(self) -> Splitter:
        return sse.SseSplitter()

    def stream_decoder(self) -> StreamDecoder:
        return _stream.Decoder()

    def decode_error(self, status: int, headers: Headers, body: bytes) -> ErrorInfo:
        return error_bodies.info_of_body(headers, body)

    def hides(self, frame: Frame, peek: Peek) -> bool:
        """Usage is part of this API's streams: nothing was sent only because we asked."""
        return False


ANTHROPIC_MESSAGES = AnthropicMessages()
