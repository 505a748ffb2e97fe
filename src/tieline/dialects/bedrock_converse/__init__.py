"""Amazon Bedrock's Converse API, upstream only."""

from __future__ import annotations

from tieline.dialects import eventstream
from tieline.dialects.base import Mould, Splitter, StreamDecoder
from tieline.dialects.bedrock_converse import answer_in, request_out


class BedrockConverse:
    name = request_out.NAME
    media_type = eventstream.MEDIA_TYPE
    encode_request = staticmethod(request_out.encode_request)
    decode_response = staticmethod(answer_in.decode_response)
    decode_error = staticmethod(answer_in.decode_error)

    def splitter(self) -> Splitter:
        return eventstream.EventStreamSplitter()

    def stream_decoder(self) -> StreamDecoder:
        return answer_in.ConverseDecoder()

    def mould(self, frame: bytes) -> Mould | None:
        return None


BEDROCK_CONVERSE = BedrockConverse()
