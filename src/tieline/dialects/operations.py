"""What callers ask for besides answers of a model: token counts and embeddings. Pure functions behind one protocol.

Such an operation is asked once and answered whole, so it needs none of a dialect's streams. ``operation_of`` finds it;
chat and legacy completions are conversations and have none.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

from tieline.dialects import anthropic_messages, embeddings
from tieline.dialects.anthropic_messages import ANTHROPIC_MESSAGES, estimate_tokens
from tieline.dialects.base import Dialect, Outgoing, Peek, Target
from tieline.dialects.gemini import GEMINI, decode_count, encode_count
from tieline.dialects.gemini import embeddings as gemini_embeddings
from tieline.types.call import Call
from tieline.types.usage import Usage


class Answered(Struct):
    """An answer for the caller."""

    body: bytes
    usage: Usage | None = None
    """None: the provider gave none."""


class Operation(Protocol):
    free: bool
    """No provider bills it: nothing is held, a try costs nothing and says nothing about a deployment's health."""

    def peek(self, call: Call) -> Peek:
        """Raises InvalidRequest, naming the field."""

    def encode(self, call: Call, peek: Peek, target: Target) -> list[Outgoing]:
        """In order; empty when the target has no such operation. Raises Unsupported."""

    def decode(
        self, call: Call, peek: Peek, target: Target, bodies: list[bytes], counted: Usage | None = None
    ) -> Answered:
        """From the upstream's answers, in the order of ``encode``. Raises StreamFault or Garbled.

        ``counted`` is what the answers' headers say, for bodies that say nothing of usage.
        """

    def estimate(self, peek: Peek) -> bytes | None:
        """The answer without any upstream; None when there cannot be one."""


class CountTokens:
    """Asked of hosts that speak the caller's dialect, as only they count as the caller means; estimated elsewhere."""

    free = True

    def __init__(
        self, dialect: Dialect, encode: Callable[[int], bytes], decode: Callable[[bytes], int]
    ) -> None:
        self._dialect = dialect
        self._encode = encode
        self._decode = decode

    def peek(self, call: Call) -> Peek:
        seen = self._dialect.peek(call)
        seen.stream = False  # said of the conversation; a count comes whole
        return seen

    def encode(self, call: Call, peek: Peek, target: Target) -> list[Outgoing]:
        if target.dialect != self._dialect.name:
            return []
        return [self._dialect.forward(call, peek, target)]

    def decode(
        self, call: Call, peek: Peek, target: Target, bodies: list[bytes], counted: Usage | None = None
    ) -> Answered:
        self._decode(bodies[0])
        return Answered(bodies[0])

    def estimate(self, peek: Peek) -> bytes | None:
        return self._encode(estimate_tokens(peek))


class OpenAIEmbeddings:
    """`/v1/embeddings` from any host that has them."""

    free = False

    def peek(self, call: Call) -> Peek:
        return embeddings.peek(call)

    def encode(self, call: Call, peek: Peek, target: Target) -> list[Outgoing]:
        if target.dialect in embeddings.OPENAI_DIALECTS:
            return [embeddings.forward(peek, target)]
        return embeddings.encode_request(embeddings.decode_request(call, peek), target)

    def decode(
        self, call: Call, peek: Peek, target: Target, bodies: list[bytes], counted: Usage | None = None
    ) -> Answered:
        found = embeddings.decode_responses(bodies, target)
        found.usage = found.usage or counted
        if target.dialect in embeddings.OPENAI_DIALECTS:
            return Answered(bodies[0], found.usage)
        request = embeddings.decode_request(call, peek)
        embeddings.check_count(found, len(request.texts or request.tokens))
        return Answered(embeddings.encode_response(found, request, target.model), found.usage)

    def estimate(self, peek: Peek) -> bytes | None:
        return None


class GeminiEmbeddings:
    """`embedContent` and `batchEmbedContents` from any host that has embeddings."""

    free = False

    def peek(self, call: Call) -> Peek:
        return gemini_embeddings.peek(call)

    def encode(self, call: Call, peek: Peek, target: Target) -> list[Outgoing]:
        if gemini_embeddings.is_forwarded(target):
            return [gemini_embeddings.forward(call, peek, target)]
        return embeddings.encode_request(gemini_embeddings.decode_request(call, peek), target)

    def decode(
        self, call: Call, peek: Peek, target: Target, bodies: list[bytes], counted: Usage | None = None
    ) -> Answered:
        found = embeddings.decode_responses(bodies, target)
        found.usage = found.usage or counted
        if gemini_embeddings.is_forwarded(target):
            return Answered(bodies[0], found.usage)
        embeddings.check_count(found, len(gemini_embeddings.decode_request(call, peek).texts))
        return Answered(gemini_embeddings.encode_response(found, call), found.usage)

    def estimate(self, peek: Peek) -> bytes | None:
        return None


_TABLE: dict[tuple[str, str], Operation] = {
    ("count_tokens", "anthropic_messages"): CountTokens(
        ANTHROPIC_MESSAGES, anthropic_messages.encode_count, anthropic_messages.decode_count
    ),
    ("count_tokens", "gemini"): CountTokens(GEMINI, encode_count, decode_count),
    ("embeddings", "openai_chat"): OpenAIEmbeddings(),
    ("embeddings", "gemini"): GeminiEmbeddings(),
}


def operation_of(call: Call) -> Operation | None:
    """None: a conversation."""
    return _TABLE.get((call.operation, call.dialect))
