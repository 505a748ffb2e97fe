"""An answer as GenerateContentResponse, whole and in a stream: server-sent events, or one JSON array."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct, field

from tieline.dialects.fields import BROKEN_JSON, Json, logprobs_of, to_json
from tieline.dialects.gemini.request_in import NAME
from tieline.dialects.signatures import REDACTED, seal_base64
from tieline.dialects.sse import frame
from tieline.types.errors import Fault
from tieline.types.events import (
    ArgumentsDelta,
    BlockStart,
    BlockStop,
    Event,
    Finish,
    SignatureDelta,
    Start,
    TextDelta,
    ThinkingDelta,
    UsageReport,
)
from tieline.types.request import Opaque, Refusal, Request, Text, Thinking, ToolCall
from tieline.types.response import Choice, OutputPart, Response
from tieline.types.usage import Usage

_REASONS = {"stop": "STOP", "tool_calls": "STOP", "length": "MAX_TOKENS", "content_filter": "SAFETY"}
_OWN_FILTERS = frozenset(
    (
        "SAFETY",
        "RECITATION",
        "BLOCKLIST",
        "PROHIBITED_CONTENT",
        "SPII",
        "IMAGE_SAFETY",
        "LANGUAGE",
        "MODEL_ARMOR",
    )
)
_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    402: "RESOURCE_EXHAUSTED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    413: "INVALID_ARGUMENT",
    422: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def encode_response(response: Response, request: Request) -> bytes:
    shown = _shows_thoughts(request)
    body: Json = {
        "candidates": [_candidate(choice, index, shown) for index, choice in enumerate(response.choices)],
        "modelVersion": response.model,
        "responseId": response.id,
    }
    if response.usage is not None:
        body["usageMetadata"] = _usage(response.usage)
    return to_json(body)


def _shows_thoughts(request: Request) -> bool:
    return request.reasoning is not None and request.reasoning.summary != "omitted"


def _candidate(choice: Choice, index: int, shown: bool) -> Json:
    parts: list[Json] = []
    for part in choice.parts:
        parts.extend(_parts(part, shown))
    candidate: Json = {
        "content": {"role": "model", "parts": parts},
        "finishReason": _reason(choice.finish_reason, choice.native_reason),
        "index": index,
    }
    if logprobs := _logprobs(choice.logprobs):
        candidate["logprobsResult"] = logprobs
    return candidate


def _reason(reason: str, native: str | None) -> str:
    if reason == "content_filter" and native in _OWN_FILTERS:
        return native
    return _REASONS[reason]


def _parts(part: OutputPart, shown: bool) -> list[Json]:
    if isinstance(part, Text | Refusal):
        return [{"text": part.text}] if part.text else []
    if isinstance(part, Thinking):
        if part.redacted is not None:
            return _redacted(part.redacted, part.origin)
        return _thought(part.text, part.signature, part.origin, shown)
    if isinstance(part, ToolCall):
        return [_call(part.id, part.name, part.arguments, part.signature, part.origin)]
    if isinstance(part, Opaque) and part.origin == NAME:
        return [part.value]
    # Another vendor's own block answers a tool that only a caller of that dialect can have named.
    return []


def _thought(text: str, signature: str | None, origin: str | None, shown: bool) -> list[Json]:
    sealed = seal_base64(signature, origin, NAME) if signature else None
    if text and shown:
        part: Json = {"text": text, "thought": True}
    elif sealed:
        part = {"text": ""} if origin == NAME else {"text": "", "thought": True}
    else:
        return []
    if sealed:
        part["thoughtSignature"] = sealed
    return [part]


def _redacted(data: str, origin: str | None) -> list[Json]:
    """Its vendor wants it back: a thought without text carries it (WIRE_FACTS 21)."""
    return _thought("", data, f"{origin}{REDACTED}" if origin else None, False)


def _call(call_id: str, name: str, arguments: str, signature: str | None, origin: str | None) -> Json:
    part: Json = {"functionCall": {"id": call_id, "name": name, "args": _args(arguments)}}
    sealed = seal_base64(signature, origin, NAME) if signature else None
    if sealed:
        part["thoughtSignature"] = sealed
    return part


def _args(arguments: str) -> Json:
    """Gemini's callers get an object; text that is none (a call cut short) is kept readable under one name."""
    if not arguments.strip():
        return {}
    try:
        decoded = msgspec.json.decode(arguments)
    except BROKEN_JSON:
        decoded = None
    return decoded if isinstance(decoded, dict) else {"_raw": arguments}


def _usage(usage: Usage) -> Json:
    """`candidatesTokenCount` leaves thoughts out, `promptTokenCount` includes what was cached (WIRE_FACTS 29, 30)."""
    out: Json = {
        "promptTokenCount": usage.input_tokens,
        "candidatesTokenCount": max(usage.output_tokens - usage.reasoning_tokens, 0),
        "totalTokenCount": usage.input_tokens + usage.output_tokens,
    }
    if usage.reasoning_tokens:
        out["thoughtsTokenCount"] = usage.reasoning_tokens
    if usage.cache_read_tokens:
        out["cachedContentTokenCount"] = usage.cache_read_tokens
    return out


def _logprobs(given: Any) -> Json | None:
    entries = logprobs_of(given)
    if not entries:
        return None
    return {
        "chosenCandidates": [_logprob(entry) for entry in entries],
        "topCandidates": [
            {"candidates": [_logprob(one) for one in entry["top_logprobs"]]} for entry in entries
        ],
    }


def _logprob(entry: Json) -> Json:
    return {"token": entry["token"], "logProbability": entry["logprob"]}


def encode_count(tokens: int) -> bytes:
    """The answer to countTokens."""
    return to_json({"totalTokens": tokens})


# errors ---------------------------------------------------------------------------------------------------------------


def error_object(fault: Fault, request_id: str) -> Json:
    details: list[Json] = [
        {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": fault.code.upper(),
            "domain": "tieline",
            "metadata": {"request_id": request_id, **({"field": fault.param} if fault.param else {})},
        }
    ]
    if fault.retry_after_s is not None:
        delay = {
            "@type": "type.googleapis.com/google.rpc.RetryInfo",
            "retryDelay": f"{fault.retry_after_s:g}s",
        }
        details.append(delay)
    return {
        "code": fault.status,
        "message": fault.message,
        "status": _STATUSES.get(fault.status, "INTERNAL" if fault.status >= 500 else "FAILED_PRECONDITION"),
        "details": details,
    }


def encode_error(fault: Fault, request_id: str) -> bytes:
    return to_json({"error": error_object(fault, request_id)})


# stream ---------------------------------------------------------------------------------------------------------------


class _Open(Struct):
    kind: str
    choice: int
    name: str = ""
    call_id: str = ""
    pieces: list[str] = field(default_factory=list)
    signature: str = ""
    origin: str | None = None
    redacted: str | None = None


class GeminiStream:
    """Events to chunks. A function call goes out whole; the finish reason and usage come in the last chunk."""

    __slots__ = ("_blocks", "_finish", "_id", "_model", "_shown", "_usage")

    def __init__(self, request: Request) -> None:
        self._blocks: dict[int, _Open] = {}
        self._finish: dict[int, Finish] = {}
        self._id = ""
        self._model = request.model
        self._shown = _shows_thoughts(request)
        self._usage: Usage | None = None

    def encode(self, event: Event) -> bytes:
        if isinstance(event, TextDelta):
            return self._text(event)
        if isinstance(event, ThinkingDelta):
            if not self._shown or not event.text:
                return b""
            return self._part(self._choice(event.index), {"text": event.text, "thought": True})
        if isinstance(event, BlockStart):
            return self._open(event)
        if isinstance(event, BlockStop):
            return self._stop(event.index)
        self._note(event)
        return b""

    def _note(self, event: Event) -> None:
        if isinstance(event, ArgumentsDelta) and event.index in self._blocks:
            self._blocks[event.index].pieces.append(event.json)
        elif isinstance(event, SignatureDelta) and event.index in self._blocks:
            block = self._blocks[event.index]
            block.signature += event.signature
            block.origin = event.origin or block.origin
        elif isinstance(event, UsageReport):
            self._usage = event.usage
        elif isinstance(event, Finish):
            self._finish[event.choice] = event
        elif isinstance(event, Start):
            self._id, self._model = event.id, event.model

    def finish(self) -> bytes:
        if not self._finish:
            fault = Fault(status=502, code="truncated", message="The answer ended before it was complete.")
            return self.error(fault, "")
        out = b"".join([self._stop(index) for index in list(self._blocks)])
        candidates = [
            {
                "content": {"role": "model", "parts": [{"text": ""}]},
                "finishReason": _reason(finish.reason, finish.native_reason),
                "index": choice,
            }
            for choice, finish in sorted(self._finish.items())
        ]
        return out + self._chunk(candidates, last=True)

    def error(self, fault: Fault, request_id: str) -> bytes:
        return self._write({"error": error_object(fault, request_id)})

    def ping(self) -> bytes:
        return b"\n"  # an empty line is the one thing that the official clients skip

    def _write(self, body: Json) -> bytes:
        return frame(to_json(body))

    def _chunk(self, candidates: list[Json], *, last: bool = False) -> bytes:
        body: Json = {"candidates": candidates, "modelVersion": self._model, "responseId": self._id}
        if last and self._usage is not None:
            body["usageMetadata"] = _usage(self._usage)
        return self._write(body)

    def _part(self, choice: int, part: Json, **more: Any) -> bytes:
        return self._chunk([{"content": {"role": "model", "parts": [part]}, "index": choice, **more}])

    def _choice(self, index: int) -> int:
        block = self._blocks.get(index)
        return block.choice if block else 0

    def _text(self, event: TextDelta) -> bytes:
        if not event.text:
            return b""
        logprobs = _logprobs(event.logprobs) if event.logprobs else None
        more = {"logprobsResult": logprobs} if logprobs else {}
        return self._part(self._choice(event.index), {"text": event.text}, **more)

    def _open(self, event: BlockStart) -> bytes:
        if event.kind == "opaque":
            if event.origin in (None, NAME) and isinstance(event.value, dict):
                return self._part(event.choice, event.value)
            return b""
        self._blocks[event.index] = _Open(
            event.kind,
            event.choice,
            event.name or "",
            event.id or "",
            [],
            event.signature or "",
            event.origin,
            event.value if event.kind == "thinking" else None,
        )
        return b""

    def _stop(self, index: int) -> bytes:
        block = self._blocks.pop(index, None)
        if block is None:
            return b""
        if block.kind == "tool_call":
            arguments = "".join(block.pieces)
            return self._part(
                block.choice,
                _call(block.call_id, block.name, arguments, block.signature or None, block.origin),
            )
        if block.kind == "thinking" and (block.signature or block.redacted is not None):
            if block.redacted is not None:
                parts = _redacted(block.redacted, block.origin)
            else:
                parts = _thought("", block.signature, block.origin, self._shown)
            return b"".join([self._part(block.choice, part) for part in parts])
        return b""


class GeminiArrayStream(GeminiStream):
    """Without ``alt=sse`` the stream is one JSON array, written element by element."""

    __slots__ = ("_begun",)

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        self._begun = False

    def _write(self, body: Json) -> bytes:
        lead = b",\r\n" if self._begun else b"["
        self._begun = True
        return lead + to_json(body)

    def finish(self) -> bytes:
        if not self._finish:
            return super().finish()
        return super().finish() + b"]"

    def error(self, fault: Fault, request_id: str) -> bytes:
        return super().error(fault, request_id) + b"]"

    def ping(self) -> bytes:
        return b"\n"  # white space between elements; before the first it precedes the bracket
