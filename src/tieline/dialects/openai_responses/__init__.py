"""OpenAI's Responses API, stateless: nothing is stored, every request carries its whole conversation."""

from __future__ import annotations

from typing import Any

from msgspec import Raw

from tieline.dialects.base import (
    Frame,
    Glance,
    Mould,
    Outgoing,
    Peek,
    Splitter,
    StreamDecoder,
    StreamEncoder,
    Target,
)
from tieline.dialects.fields import to_json, value_of
from tieline.dialects.openai_responses import answer_in, request_in, request_out, response_out
from tieline.dialects.signatures import MARK
from tieline.dialects.sse import MEDIA_TYPE, SseSplitter
from tieline.types.call import Call, Headers
from tieline.types.errors import ErrorInfo, Fault
from tieline.types.request import Request
from tieline.types.response import Response

_SEALED = f'"{MARK}'.encode()


def _without_foreign(items: Any) -> Any:
    """Without reasoning of other vendors, which this one can neither read nor verify (WIRE_FACTS 21)."""
    if not isinstance(items, list):
        return items
    return [item for item in items if not _is_foreign(item)]


def _is_foreign(item: Any) -> bool:
    if not isinstance(item, dict) or item.get("type") != "reasoning":
        return False
    return str(item.get("encrypted_content")).startswith(MARK)


class OpenAIResponses:
    name = request_in.NAME
    media_type = MEDIA_TYPE
    terminator = b""
    comments = True

    def peek(self, call: Call) -> Peek:
        return request_in.peek(call)

    def decode_request(self, call: Call, peek: Peek) -> Request:
        return request_in.decode_request(call, peek)

    def encode_response(self, response: Response, request: Request) -> bytes:
        return response_out.encode_response(response, request)

    def stream_encoder(self, request: Request) -> StreamEncoder:
        return response_out.ResponsesStream(request)

    def encode_error(self, fault: Fault, request_id: str) -> bytes:
        return response_out.encode_error(fault, request_id)

    def encode_request(self, request: Request, target: Target) -> Outgoing:
        return request_out.encode_request(request, target)

    def forward(self, call: Call, peek: Peek, target: Target) -> Outgoing:
        fields = dict(peek.fields)
        fields["model"] = Raw(to_json(target.model))
        if _SEALED in bytes(fields.get("input", b"")):
            fields["input"] = Raw(to_json(_without_foreign(value_of(fields["input"], "input"))))
        return Outgoing(path=request_out.path_of(target), body=to_json(fields))

    def splitter(self) -> Splitter:
        return SseSplitter()

    def stream_decoder(self) -> StreamDecoder:
        return answer_in.ResponsesDecoder()

    def decode_response(self, body: bytes) -> Response:
        return answer_in.decode_response(body)

    def glance(self, body: bytes) -> Glance:
        return answer_in.glance(body)

    def decode_error(self, status: int, headers: Headers, body: bytes) -> ErrorInfo:
        return answer_in.decode_error(status, headers, body)

    def mould(self, frame: bytes) -> Mould | None:
        return None

    def hides(self, frame: Frame, peek: Peek) -> bool:
        """Usage is part of the last event, for every caller."""
        return False


OPENAI_RESPONSES = OpenAIResponses()
