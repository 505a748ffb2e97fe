"""Amazon Bedrock's Converse API, upstream only."""

from __future__ import annotations

from tieline.dialects import eventstream
from tieline.dialects.base import Mould, Outgoing, Splitter, StreamDecoder, Target
from tieline.dialects.bedrock_converse import answer_in, request_out
from tieline.types.call import Headers
from tieline.types.errors import ErrorInfo
from tieline.types.request import Request
from tieline.types.response import Response


class BedrockConverse:
    name = request_out.NAME
    media_type = eventstream.MEDIA_TYPE

    def encode_request(self, request: Request, target: Target) -> Outgoing:
        return request_out.encode_request(request, target)

    def splitter(self) -> Splitter:
        return eventstream.EventStreamSplitter()

    def stream_decoder(self) -> StreamDecoder:
        return answer_in.ConverseDecoder()

    def mould(self, frame: bytes) -> Mould | None:
        return None

    def decode_response(self, body: bytes) -> Response:
        return answer_in.decode_response(body)

    def decode_error(self, status: int, headers: Headers, body: bytes) -> ErrorInfo:
        return answer_in.decode_error(status, headers, body)


BEDROCK_CONVERSE = BedrockConverse()
