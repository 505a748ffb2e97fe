"""What a dialect saw in bytes: of a request, of a whole answer, of a stream's next event; and what it would send.

Plain classes, since modules that are compiled read them for every request.
"""

from __future__ import annotations

from typing import Any

from msgspec import Raw

from tieline.types.call import Headers
from tieline.types.usage import Usage


class Outgoing:
    """A request for an upstream."""

    __slots__ = ("body", "headers", "path")

    def __init__(self, *, path: str, body: bytes, headers: Headers | None = None) -> None:
        self.path = path
        """Appended to the endpoint's base URL, with query."""
        self.body = body
        self.headers: Headers = [] if headers is None else headers
        """Of the dialect (anthropic-version, …); credentials and content-type are added later."""


class Peek:
    """What the pipeline needs to know of a request before deciding anything; the rest stays bytes."""

    __slots__ = (
        "extras",
        "fallbacks",
        "features",
        "fields",
        "include_usage",
        "input_chars",
        "max_output_tokens",
        "model",
        "n",
        "options",
        "plain",
        "provider_preferences",
        "stream",
        "user",
    )

    def __init__(
        self,
        *,
        model: str,
        stream: bool = False,
        include_usage: bool = False,
        max_output_tokens: int | None = None,
        fallbacks: tuple[str, ...] = (),
        n: int = 1,
        user: str | None = None,
        features: frozenset[str] = frozenset(),
        input_chars: int = 0,
        fields: dict[str, Raw] | None = None,
        plain: Plain | None = None,
    ) -> None:
        self.model = model
        self.stream = stream
        self.include_usage = include_usage
        self.max_output_tokens = max_output_tokens
        self.fallbacks = fallbacks
        """`models`: OpenRouter's list of alternatives."""
        self.provider_preferences: dict[str, Any] | None = None
        """`provider`: OpenRouter's object, when it is one."""
        self.options: dict[str, Any] = {}
        """`tieline`: ours."""
        self.n = n
        self.user = user
        self.features = features
        """Of: tools, forced_tool, images, pdf, audio, json_object, json_schema, reasoning, logprobs, n, prefill, server_tools.
        A sound over-approximation is allowed for same-dialect targets (they are told the truth by the upstream)."""
        self.extras: dict[str, int] | None = None
        """What may be billed beside tokens at their usual price, and how often at most (``types.usage.EXTRAS``); a call without
        a limit is left out."""
        self.input_chars = input_chars
        """Size of the text, for estimating tokens before sending."""
        self.fields: dict[str, Raw] = {} if fields is None else fields
        """The body's top level, undecoded, without `tieline` and OpenRouter's routing fields. Of a ``plain`` body empty until
        the dialect needs it."""
        self.plain = plain
        """Where the dialect found nothing in the body that needs a closer look: it is forwarded with one piece exchanged."""


class Plain:
    """A body that is forwarded as it is but for the model: ``body[start:end]`` is the field that names it."""

    __slots__ = ("body", "developer", "end", "limit", "start")

    def __init__(self, body: bytes, start: int, end: int, developer: bool, limit: str = "") -> None:
        self.body = body
        self.start = start
        self.end = end
        self.developer = developer
        """Whether a turn has that role."""
        self.limit = limit
        """The field that limits the output, if any does."""


class Glance:
    """What the ledger needs from a whole answer that passes through."""

    __slots__ = ("finish_reason", "id", "model", "output_chars", "usage", "usual_tier")

    def __init__(
        self,
        *,
        id: str | None = None,
        model: str | None = None,
        usage: Usage | None = None,
        finish_reason: str | None = None,
        output_chars: int = 0,
        usual_tier: bool = False,
    ) -> None:
        self.id = id
        self.model = model
        self.usage = usage
        self.finish_reason = finish_reason
        """None: the answer carries none, so it is not complete."""
        self.output_chars = output_chars
        self.usual_tier = usual_tier
        """It is certain that no special service tier served it; False: nobody looked."""


class Frame:
    """One event of a stream as it was on the wire."""

    __slots__ = ("data", "event", "raw")

    def __init__(self, raw: bytes, data: bytes, event: str | None = None) -> None:
        self.raw = raw
        self.data = data
        self.event = event

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Frame):
            return NotImplemented
        return (self.raw, self.data, self.event) == (other.raw, other.data, other.event)
