"""One request on its way through the simulator, and what a dialect has to be able to do with it."""

from __future__ import annotations

import string
import time
from collections.abc import Iterator
from random import Random
from typing import TYPE_CHECKING, Any, Literal, Protocol

import msgspec
from msgspec import Struct, field

from tieline.simulator.answer import Answer, Ask, Refusal, Usage
from tieline.simulator.behaviour import WELL_BEHAVED, Behaviour

if TYPE_CHECKING:
    from tieline.simulator.clouds import Clouds

Headers = list[tuple[str, str]]
_ALPHABET = string.ascii_letters + string.digits


class Exchange(Struct, kw_only=True):
    """What a dialect may know of the request and of the simulator."""

    provider: str
    dialect: str
    operation: str
    """chat, embed, models, count: what the path asks for."""
    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    """Names in lower case."""
    raw: bytes
    target: str
    """Path and query as they stood on the wire."""
    clouds: Clouds
    body: Any = None
    model: str = ""
    behaviour: Behaviour = WELL_BEHAVED
    seed: int = 0
    random: Random
    number: int = 0
    stream: bool = False
    memory: dict[str, Any] = field(default_factory=dict)
    """Kept between requests by the server: OpenAI's stored responses."""
    created: int = field(default_factory=lambda: int(time.time()))

    def id(self, prefix: str, length: int = 24) -> str:
        return prefix + "".join(self.random.choices(_ALPHABET, k=length))

    def flag(self, name: str) -> bool:
        """Whether the shape of the answer shall deviate in the way called ``name``."""
        return self.behaviour.name == name


class Piece(Struct):
    """What one write of a stream carries. ``tokens`` counts content; a fault strikes between pieces."""

    data: bytes
    kind: Literal["start", "content", "finish", "usage", "done", "extra"] = "content"
    tokens: int = 0


class Reply(Struct):
    """A whole answer that needs no playing out (errors, lists of models, embeddings)."""

    status: int
    body: bytes
    headers: Headers = field(default_factory=list)
    input_tokens: int = 0


class Dialect(Protocol):
    """A vendor's wire. Raises Refusal wherever the vendor would say no."""

    name: str
    comment: bytes
    """A keep-alive of its streams."""

    def media_type(self, exchange: Exchange) -> str:
        """Of its streams."""

    def credential(self, exchange: Exchange) -> str | None: ...

    def model(self, exchange: Exchange) -> str: ...

    def read(self, exchange: Exchange) -> Ask:
        """Checks the body as strictly as the vendor does."""

    def whole(self, exchange: Exchange, ask: Ask, answers: list[Answer], usage: Usage) -> bytes: ...

    def stream(
        self, exchange: Exchange, ask: Ask, answers: list[Answer], usage: Usage
    ) -> Iterator[Piece]: ...

    def other(self, exchange: Exchange) -> Reply:
        """Operations without an answer to play: embeddings, models, counting."""

    def headers(self, exchange: Exchange) -> Headers: ...

    def refuse(self, exchange: Exchange, refusal: Refusal) -> Reply: ...

    def stream_error(self, exchange: Exchange, kind: str) -> bytes: ...

    def malformed(self, content: bool) -> bytes: ...


encode = msgspec.json.encode


def words(text: str) -> frozenset[str]:
    """The names in ``text``."""
    return frozenset(text.split())


def sse(data: Any, event: str | None = None) -> bytes:
    """One server-sent event."""
    head = f"event: {event}\n".encode() if event else b""
    return head + b"data: " + (data if isinstance(data, bytes) else encode(data)) + b"\n\n"


def bearer(exchange: Exchange) -> str | None:
    scheme, _, key = exchange.headers.get("authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" and key.strip() else None


def retry_headers(behaviour: Behaviour) -> Headers:
    """``Retry-After`` (seconds, or a date as given) and ``retry-after-ms``, as the behaviour's parameters say."""
    found: Headers = []
    if behaviour.word("retry_after"):
        found.append(("retry-after", behaviour.word("retry_after")))
    if behaviour.word("retry_after_ms"):
        found.append(("retry-after-ms", str(behaviour.count("retry_after_ms"))))
    return found


HTML_502 = b"""<!DOCTYPE html>
<html lang="en-US"><head><title>api.example.com | 502: Bad gateway</title></head>
<body><div id="cf-wrapper"><div id="cf-error-details"><h1>Bad gateway <span>Error code 502</span></h1>
<p>Visit <a href="https://www.cloudflare.com/5xx-error-landing">cloudflare.com</a> for more information.</p>
<ul><li>Cloudflare Ray ID: <strong>8f2c1d3e4a5b6c7d</strong></li></ul></div></div></body></html>
"""


def cdn_page(kind: str) -> Reply | None:
    """The answer of a content delivery network in front of the provider, for the kinds that are its own."""
    status = {"bad_gateway": 502, "gateway_timeout": 504, "origin_down": 530}.get(kind)
    if status is None:
        return None
    headers = [
        ("content-type", "text/html; charset=UTF-8"),
        ("server", "cloudflare"),
        ("cf-ray", "8f2c1d3e4a5b6c7d-FRA"),
    ]
    return Reply(status, HTML_502.replace(b"502", str(status).encode()), headers)
