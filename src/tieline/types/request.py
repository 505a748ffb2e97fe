"""A request in no vendor's words: what every dialect decodes to and encodes from.

Used only when the caller's dialect differs from the upstream's; otherwise bytes pass through.
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct, field


class CacheMark(Struct, frozen=True):
    """ "Everything up to here may be cached": Anthropic's ``cache_control``."""

    ttl: Literal["5m", "1h"] = "5m"


class Text(Struct, tag="text", tag_field="kind"):
    text: str
    cache: CacheMark | None = None
    citations: list[Any] | None = None
    """Citations of ``origin``'s wire form, kept verbatim for replay to the same dialect."""
    origin: str | None = None


class Image(Struct, tag="image", tag_field="kind"):
    """Exactly one of ``data`` (base64) with ``media_type``, ``url``, ``file_id``."""

    media_type: str | None = None
    data: str | None = None
    url: str | None = None
    file_id: str | None = None
    detail: str | None = None
    cache: CacheMark | None = None


class Document(Struct, tag="document", tag_field="kind"):
    """A PDF or text file. Exactly one of ``data`` (base64; plain for text/plain), ``url``, ``file_id``."""

    media_type: str = "application/pdf"
    data: str | None = None
    url: str | None = None
    file_id: str | None = None
    name: str | None = None
    cache: CacheMark | None = None


class Audio(Struct, tag="audio", tag_field="kind"):
    format: str
    """wav, mp3, …"""
    data: str
    """base64"""


class Thinking(Struct, tag="thinking", tag_field="kind"):
    """Reasoning of an earlier turn. Its ``signature`` (or ``redacted`` data) is bound to ``origin``, the dialect
    that made it (WIRE_FACTS 21): verbatim for the same, dropped for another."""

    text: str
    signature: str | None = None
    redacted: str | None = None
    id: str | None = None
    origin: str | None = None


class ToolCall(Struct, tag="tool_call", tag_field="kind"):
    id: str
    name: str
    arguments: str
    """JSON text of an object, as the model wrote it."""
    signature: str | None = None
    """Gemini's thought signature, bound to ``origin``."""
    origin: str | None = None
    cache: CacheMark | None = None


class ToolResult(Struct, tag="tool_result", tag_field="kind"):
    id: str
    content: list[Text | Image | Document]
    is_error: bool = False
    name: str | None = None
    cache: CacheMark | None = None


class Refusal(Struct, tag="refusal", tag_field="kind"):
    text: str


class Opaque(Struct, tag="opaque", tag_field="kind"):
    """A block only its own vendor understands (server tools, their results): verbatim for ``origin``, else unsupported."""

    origin: str
    value: Any


Part = Text | Image | Document | Audio | Thinking | ToolCall | ToolResult | Refusal | Opaque
Role = Literal["system", "user", "assistant"]


class Message(Struct):
    """One turn. ``system`` covers OpenAI's ``developer``; tool results are parts of a ``user`` turn."""

    role: Role
    parts: list[Part]
    name: str | None = None


NAMESPACE_MARK = "__"


class Tool(Struct):
    name: str
    parameters: dict[str, Any]
    """JSON Schema of the arguments."""
    description: str | None = None
    strict: bool | None = None
    cache: CacheMark | None = None
    namespace: str | None = None
    """OpenAI's: ``name`` then begins with it and ``NAMESPACE_MARK``."""
    freeform: dict[str, Any] | None = None
    """OpenAI's custom tool, as the caller defined it: it is called with plain text, which ``parameters`` have as ``input``."""


class ServerTool(Struct):
    """A tool that the vendor runs (web search, code execution): verbatim for ``origin``, else unsupported."""

    origin: str
    value: Any

    @property
    def title(self) -> str:
        """What a refusal calls it: its type, or its name and the fields that only its vendor knows."""
        value = self.value if isinstance(self.value, dict) else {}
        kind = value.get("type")
        if kind not in (None, "custom", "function"):
            return str(kind)
        own = sorted(
            value.keys() - {"type", "name", "description", "input_schema", "strict", "cache_control"}
        )
        return f"{value.get('name', 'of another vendor')} ({', '.join(own)})" if own else "of another vendor"


class ToolChoice(Struct):
    mode: Literal["auto", "required", "none", "tool"] = "auto"
    name: str | None = None
    parallel: bool | None = None
    """None: the vendor's default. False: at most one call a turn."""


class ResponseFormat(Struct):
    kind: Literal["text", "json_object", "json_schema"]
    name: str = "response"
    schema: dict[str, Any] | None = None
    strict: bool | None = None
    description: str | None = None


class Reasoning(Struct):
    """Effort or budget; whichever the caller gave. ``enabled=False`` switches thinking off explicitly."""

    enabled: bool = True
    effort: str | None = None
    """none | minimal | low | medium | high | xhigh | max"""
    budget_tokens: int | None = None
    adaptive: bool = False
    summary: str | None = None
    """How much of it to show: auto | concise | detailed | omitted"""


class Request(Struct, kw_only=True):
    model: str
    messages: list[Message]
    tools: list[Tool | ServerTool] = field(default_factory=list)
    tool_choice: ToolChoice | None = None
    response_format: ResponseFormat | None = None
    reasoning: Reasoning | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    stop: list[str] = field(default_factory=list)
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    logprobs: bool = False
    top_logprobs: int | None = None
    n: int = 1
    user: str | None = None
    metadata: dict[str, str] | None = None
    service_tier: str | None = None
    stream: bool = False
    include_usage: bool = False
    """The caller asked to see usage inside the stream (OpenAI's stream_options)."""
    unmapped: dict[str, Any] = field(default_factory=dict)
    """Top-level fields of the caller's dialect without a common meaning, by wire name: a target of another dialect
    refuses them by name (``Unsupported``), nothing is dropped silently."""
    origin: str = ""
    """The dialect it was decoded from: what ``unmapped`` means, and what errors call a field."""
    legacy_functions: bool = False
    """OpenAI's deprecated `functions`: the answer must use `function_call` too."""
