"""Callers of every dialect, and what they hear. Reads answers with its own eyes, not with Tieline's decoders, so that a
fault of theirs cannot hide itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct, field

from tieline.transport.base import TransportError, UpstreamRequest
from tieline.transport.http1 import Http1Transport
from tieline.transport.limits import PoolLimits

DIALECTS = ("openai_chat", "anthropic_messages", "openai_responses", "gemini")
PATIENCE_S = 3600.0
"""Longer than a gateway may be silent."""
MAX_BODY = 64 * 1024 * 1024
PROMPT = "Why do ships carry bells, and who rings them at night?"


class Ask(Struct, kw_only=True):
    """One request as a caller would make it."""

    dialect: str = "openai_chat"
    model: str
    prompt: str = PROMPT
    stream: bool = True
    max_tokens: int | None = 400
    tools: bool = False
    json_mode: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    """Tieline's own: ``tieline: {…}`` in the body."""
    headers: dict[str, str] = field(default_factory=dict)
    leave_after_s: float | None = None
    """The caller hangs up then."""
    extra: dict[str, Any] = field(default_factory=dict)


class Heard(Struct, kw_only=True):
    """What came back. Times are seconds since the request was sent."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    text: str = ""
    arguments: str = ""
    """Of tool calls, joined."""
    thinking: str = ""
    model: str | None = None
    """As the answer itself names it."""
    finish: str | None = None
    complete: bool = False
    """It ended as a complete answer of its dialect ends."""
    error: str | None = None
    """The code of an error, in-band or as a status; ``connection`` when the line broke."""
    error_message: str = ""
    input_tokens: int | None = None
    output_tokens: int | None = None
    comments: list[dict[str, Any]] = field(default_factory=list)
    """Tieline's own, in order."""
    first_s: float | None = None
    total_s: float = 0.0
    asked: Ask | None = None
    sent_at: float = 0.0
    """The loop's time."""

    @property
    def request_id(self) -> str:
        return self.headers.get("tieline-request-id", "")

    @property
    def provider(self) -> str | None:
        return self.headers.get("tieline-provider")

    @property
    def ok(self) -> bool:
        return self.status == 200 and self.complete and self.error is None


def request_of(ask: Ask) -> tuple[str, dict[str, Any], dict[str, str]]:
    """Path, body and headers."""
    path, body, headers = _WRITERS[ask.dialect](ask)
    if ask.options:
        body["tieline"] = ask.options
    return path, body | ask.extra, headers | ask.headers


class Caller:
    """Talks to one gateway over kept connections."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._transport = Http1Transport(limits=PoolLimits(max_connections=5_000, max_waiting=20_000))

    async def aclose(self) -> None:
        await self._transport.aclose()

    async def ask(self, ask: Ask) -> Heard:
        """Never raises for what the gateway does."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        heard = Heard(asked=ask, sent_at=began)
        try:
            async with asyncio.timeout(ask.leave_after_s):
                await self._exchange(ask, heard, lambda: loop.time() - began)
        except TimeoutError:
            heard.error = "left"
        except TransportError as error:
            heard.error, heard.error_message = "connection", error.message
        heard.total_s = loop.time() - began
        return heard

    async def _exchange(self, ask: Ask, heard: Heard, now: Callable[[], float]) -> None:
        path, body, headers = request_of(ask)
        headers = {"content-type": "application/json", "authorization": "Bearer unused"} | headers
        sent = [(name.encode(), value.encode()) for name, value in headers.items()]
        response = await self._transport.send(
            UpstreamRequest(
                url=self.url + path,
                headers=sent,
                body=msgspec.json.encode(body),
                connect_timeout_s=PATIENCE_S,
                response_timeout_s=PATIENCE_S,
            )
        )
        try:
            heard.status = response.status
            heard.headers = {name.decode(): value.decode("latin-1") for name, value in response.headers}
            if heard.status == 200 and ask.stream:
                reader = _Reader(ask.dialect, heard, now)
                await response.pipe(reader.feed)
                reader.end()
            else:
                _read_whole(ask.dialect, heard, await response.read(MAX_BODY), now())
        finally:
            response.close()


# asking ---------------------------------------------------------------------------------------------------------------

_SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def _openai_chat(ask: Ask) -> tuple[str, dict[str, Any], dict[str, str]]:
    body: dict[str, Any] = {"model": ask.model, "messages": [{"role": "user", "content": ask.prompt}]}
    if ask.max_tokens is not None:
        body["max_tokens"] = ask.max_tokens
    if ask.stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    if ask.tools:
        body["tools"] = [{"type": "function", "function": {"name": "get_weather", "parameters": _SCHEMA}}]
        body["tool_choice"] = "required"
    if ask.json_mode:
        body["response_format"] = {"type": "json_object"}
    return "/v1/chat/completions", body, {}


def _anthropic(ask: Ask) -> tuple[str, dict[str, Any], dict[str, str]]:
    body: dict[str, Any] = {
        "model": ask.model,
        "max_tokens": ask.max_tokens or 1024,
        "messages": [{"role": "user", "content": ask.prompt}],
        "stream": ask.stream,
    }
    if ask.tools:
        body["tools"] = [{"name": "get_weather", "input_schema": _SCHEMA}]
        body["tool_choice"] = {"type": "any"}
    return "/v1/messages", body, {"anthropic-version": "2023-06-01"}


def _responses(ask: Ask) -> tuple[str, dict[str, Any], dict[str, str]]:
    body: dict[str, Any] = {"model": ask.model, "input": ask.prompt, "stream": ask.stream, "store": False}
    if ask.max_tokens is not None:
        body["max_output_tokens"] = ask.max_tokens
    if ask.tools:
        body["tools"] = [{"type": "function", "name": "get_weather", "parameters": _SCHEMA}]
        body["tool_choice"] = "required"
    return "/v1/responses", body, {}


def _gemini(ask: Ask) -> tuple[str, dict[str, Any], dict[str, str]]:
    body: dict[str, Any] = {"contents": [{"role": "user", "parts": [{"text": ask.prompt}]}]}
    if ask.max_tokens is not None:
        body["generationConfig"] = {"maxOutputTokens": ask.max_tokens}
    if ask.tools:
        body["tools"] = [{"functionDeclarations": [{"name": "get_weather", "parameters": _SCHEMA}]}]
        body["toolConfig"] = {"functionCallingConfig": {"mode": "ANY"}}
    method = "streamGenerateContent?alt=sse" if ask.stream else "generateContent"
    return f"/v1beta/models/{ask.model}:{method}", body, {}


_WRITERS = {
    "openai_chat": _openai_chat,
    "anthropic_messages": _anthropic,
    "openai_responses": _responses,
    "gemini": _gemini,
}


# hearing --------------------------------------------------------------------------------------------------------------


class _Reader:
    """Server-sent events, cut anywhere."""

    def __init__(self, dialect: str, heard: Heard, now: Callable[[], float]) -> None:
        self._say = _STREAMS[dialect]
        self._heard = heard
        self._now = now
        self._rest = b""

    def feed(self, data: bytes) -> None:
        # Gemini ends its lines with CRLF.
        *frames, self._rest = (self._rest + data).replace(b"\r\n", b"\n").split(b"\n\n")
        for frame in frames:
            self._frame(frame)

    def end(self) -> None:
        if self._rest.strip():
            self._frame(self._rest)

    def _frame(self, frame: bytes) -> None:
        heard = self._heard
        for line in frame.splitlines():
            if line.startswith(b": tieline "):
                heard.comments.append(msgspec.json.decode(line[len(b": tieline ") :]))
            elif line.startswith(b"data:"):
                data = line[5:].strip()
                if data == b"[DONE]":
                    heard.complete = heard.finish is not None and heard.error is None
                else:
                    self._say(msgspec.json.decode(data), heard)
        if heard.first_s is None and (heard.text or heard.arguments or heard.thinking):
            heard.first_s = self._now()


def _fault(heard: Heard, error: Any) -> None:
    error = error if isinstance(error, dict) else {}
    heard.error = str(error.get("code") or error.get("type") or error.get("status") or "error")
    heard.error_message = str(error.get("message", ""))
    heard.complete = False


def _count(heard: Heard, usage: Any, *names: str) -> None:
    """``names`` is what the dialect calls input and output."""
    if isinstance(usage, dict):
        for field_name, name in zip(("input_tokens", "output_tokens"), names, strict=True):
            if usage.get(name) is not None:
                setattr(heard, field_name, usage[name])


def _chat_event(said: Any, heard: Heard) -> None:
    if "error" in said:
        _fault(heard, said["error"])
        return
    heard.model = heard.model or said.get("model")
    for choice in said.get("choices", ()):
        delta = choice.get("delta") or {}
        heard.text += delta.get("content") or ""
        for call in delta.get("tool_calls") or ():
            heard.arguments += call.get("function", {}).get("arguments") or ""
        heard.finish = choice.get("finish_reason") or heard.finish
    _count(heard, said.get("usage"), "prompt_tokens", "completion_tokens")


def _anthropic_event(said: Any, heard: Heard) -> None:
    match said.get("type"):
        case "error":
            _fault(heard, said.get("error"))
        case "message_start":
            heard.model = said["message"].get("model")
            _count(heard, said["message"].get("usage"), "input_tokens", "output_tokens")
        case "content_block_delta":
            delta = said["delta"]
            heard.text += delta.get("text", "")
            heard.thinking += delta.get("thinking", "")
            heard.arguments += delta.get("partial_json", "")
        case "message_delta":
            heard.finish = said["delta"].get("stop_reason") or heard.finish
            _count(heard, said.get("usage"), "input_tokens", "output_tokens")
        case "message_stop":
            heard.complete = heard.finish is not None and heard.error is None


def _responses_event(said: Any, heard: Heard) -> None:
    kind = said.get("type", "")
    if kind == "error":
        _fault(heard, said.get("error") or said)
    elif kind == "response.created":
        heard.model = said["response"].get("model")
    elif kind == "response.output_text.delta":
        heard.text += said["delta"]
    elif kind == "response.function_call_arguments.delta":
        heard.arguments += said["delta"]
    elif kind in ("response.completed", "response.incomplete"):
        heard.finish, heard.complete = said["response"]["status"], heard.error is None
        _count(heard, said["response"].get("usage"), "input_tokens", "output_tokens")
    elif kind == "response.failed":
        _fault(heard, said["response"].get("error"))


def _gemini_event(said: Any, heard: Heard) -> None:
    if "error" in said:
        _fault(heard, said["error"])
        return
    heard.model = heard.model or said.get("modelVersion")
    for candidate in said.get("candidates", ()):
        for part in (candidate.get("content") or {}).get("parts") or ():
            if "functionCall" in part:
                heard.arguments += msgspec.json.encode(part["functionCall"].get("args", {})).decode()
            elif part.get("thought"):
                heard.thinking += part.get("text", "")
            else:
                heard.text += part.get("text", "")
        heard.finish = candidate.get("finishReason") or heard.finish
    heard.complete = heard.finish is not None
    _count(heard, said.get("usageMetadata"), "promptTokenCount", "candidatesTokenCount")


_STREAMS: dict[str, Callable[[Any, Heard], None]] = {
    "openai_chat": _chat_event,
    "anthropic_messages": _anthropic_event,
    "openai_responses": _responses_event,
    "gemini": _gemini_event,
}


def _read_whole(dialect: str, heard: Heard, body: bytes, now: float) -> None:
    try:
        said = msgspec.json.decode(body)
    except msgspec.DecodeError:
        heard.error, heard.error_message = "unreadable", body[:200].decode("utf-8", "replace")
        return
    if heard.status != 200 or not isinstance(said, dict):
        _fault(heard, said.get("error") if isinstance(said, dict) else None)
        return
    heard.model = said.get("model") or said.get("modelVersion")
    _WHOLE[dialect](said, heard)
    heard.complete = heard.finish is not None
    heard.first_s = now


def _chat_whole(said: Any, heard: Heard) -> None:
    choice = said["choices"][0]
    heard.text = choice["message"].get("content") or ""
    for call in choice["message"].get("tool_calls") or ():
        heard.arguments += call["function"]["arguments"]
    heard.finish = choice.get("finish_reason")
    _count(heard, said.get("usage"), "prompt_tokens", "completion_tokens")


def _anthropic_whole(said: Any, heard: Heard) -> None:
    heard.text = "".join(block.get("text", "") for block in said["content"])
    heard.arguments = "".join(
        msgspec.json.encode(block["input"]).decode() for block in said["content"] if "input" in block
    )
    heard.finish = said.get("stop_reason")
    _count(heard, said.get("usage"), "input_tokens", "output_tokens")


def _responses_whole(said: Any, heard: Heard) -> None:
    for item in said.get("output", ()):
        heard.text += "".join(part.get("text", "") for part in item.get("content", ()))
        heard.arguments += item.get("arguments", "")
    heard.finish = said.get("status") if said.get("status") in ("completed", "incomplete") else None
    _count(heard, said.get("usage"), "input_tokens", "output_tokens")


_WHOLE: dict[str, Callable[[Any, Heard], None]] = {
    "openai_chat": _chat_whole,
    "anthropic_messages": _anthropic_whole,
    "openai_responses": _responses_whole,
    "gemini": _gemini_event,
}
