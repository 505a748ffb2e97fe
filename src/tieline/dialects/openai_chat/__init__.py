"""OpenAI's Chat Completions API, downstream and upstream (platform.openai.com/docs/api-reference/chat, November 2026)."""

from __future__ import annotations

from tieline.dialects import error_bodies, sse
from tieline.dialects.base import (
    Peek,
    Splitter,
    StreamDecoder,
    StreamEncoder,
)
from tieline.dialects.openai_chat import decode as _decode
from tieline.dialects.openai_chat import encode as _encode
from tieline.dialects.openai_chat import peek as _peek
from tieline.dialects.openai_chat import response as _response
from tieline.dialects.openai_chat import stream as _stream
from tieline.dialects.openai_chat.wire import NAME
from tieline.types.call import Call, Headers
from tieline.types.errors import ErrorInfo
from tieline.types.request import Request


class OpenAIChat:
    """The seam's two sides (``dialects.base.Dialect``)."""

    name = NAME
    media_type = sse.MEDIA_TYPE
    terminator = sse.DONE
    comments = True

    # What is asked of every request, and what needs nothing but its arguments, is the function itself.
    peek = staticmethod(_peek.peek)
    forward = staticmethod(_peek.forward)
    glance = staticmethod(_response.glance)
    encode_response = staticmethod(_response.encode_response)
    decode_response = staticmethod(_response.decode_response)
    encode_error = staticmethod(_response.encode_error)
    encode_request = staticmethod(_encode.encode_request)
    mould = staticmethod(_stream.mould)
    hides = staticmethod(_stream.hides)

    def decode_request(self, call: Call, peek: Peek) -> Request:
        return _decode.decode_request(peek)

    def stream_encoder(self, request: Request) -> StreamEncoder:
        return _stream.Encoder(request)

    def splitter(self) -> Splitter:
        return sse.SseSplitter()

    def stream_decoder(self) -> StreamDecoder:
        return _stream.Decoder()

    def decode_error(self, status: int, headers: Headers, body: bytes) -> ErrorInfo:
        return error_bodies.info_of_body(headers, body)


OPENAI_CHAT = OpenAIChat()
