"""OpenAI's Responses API, stateless: nothing is stored, every request carries its whole conversation."""

from __future__ import annotations

from typing import Any

from msgspec import Raw

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
from tieline.dialects.openai_responses import answer_in, request_in, request_out, response_out
from tieline.dialects.signatures import MARK
from tieline.dialects.sse import MEDIA_TYPE, SseSplitter
from tieline.types.call import Call
from tieline.types.request import Request

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
    peek = staticmethod(request_in.peek)
    decode_request = staticmethod(request_in.decode_request)
    encode_response = staticmethod(response_out.encode_response)
    encode_error = staticmethod(response_out.encode_error)
    encode_request = staticmethod(request_out.encode_request)
    decode_response = staticmethod(answer_in.decode_response)
    glance = staticmethod(answer_in.glance)
    decode_error = staticmethod(answer_in.decode_error)

    def stream_encoder(self, request: Request) -> StreamEncoder:
        return response_out.ResponsesStream(request)

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

    def mould(self, frame: bytes) -> Mould | None:
        return None

    def hides(self, frame: Frame, peek: Peek) -> bool:
        """Usage is part of the last event, for every caller."""
        return False


OPENAI_RESPONSES = OpenAIResponses()
