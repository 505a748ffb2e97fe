"""What a provider that speaks generateContent sends: whole answers, chunks, errors."""

from __future__ import annotations

import re
import time
from datetime import datetime
from typing import Any

import msgspec
from msgspec import Struct

from tieline.dialects.base import Frame, Garbled, Glance, StreamFault, Truncated
from tieline.dialects.error_bodies import info_of_body, info_of_value
from tieline.dialects.fields import (
    BROKEN_JSON,
    Json,
    answer_body,
    count_of,
    list_of,
    object_of,
    optional_text,
    text_of,
    to_text,
)
from tieline.dialects.gemini.request_in import NAME
from tieline.dialects.turns import made_id
from tieline.types.call import Headers
from tieline.types.errors import ErrorInfo
from tieline.types.events import (
    ArgumentsDelta,
    BlockKind,
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
from tieline.types.request import Opaque, Text, Thinking, ToolCall
from tieline.types.response import Choice, FinishReason, OutputPart, Response
from tieline.types.usage import Usage

_LENGTH = frozenset(("MAX_TOKENS",))
_FILTERED = frozenset(
    (
        "SAFETY",
        "RECITATION",
        "BLOCKLIST",
        "PROHIBITED_CONTENT",
        "SPII",
        "IMAGE_SAFETY",
        "IMAGE_PROHIBITED_CONTENT",
        "IMAGE_RECITATION",
        "LANGUAGE",
        "MODEL_ARMOR",
    )
)
_UNSET = "FINISH_REASON_UNSPECIFIED"
_STATUS_OF_WORD = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    "INTERNAL": 500,
    "UNKNOWN": 500,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
_DELAY = re.compile(r"^(\d{1,6}(?:\.\d{1,9})?)s$")


def decode_error(status: int, headers: Headers, body: bytes) -> ErrorInfo:
    """`status` is the vendor's type; the reason of its ErrorInfo, where there is one, its code."""
    plain = info_of_body(headers, body)
    if plain.html:
        return plain
    try:
        decoded = msgspec.json.decode(body)
    except BROKEN_JSON:
        return plain
    if isinstance(decoded, list) and decoded:
        decoded = decoded[0]  # a stream without alt=sse answers an array
    return _info(object_of(object_of(decoded).get("error")), plain)


def _info(error: Json, plain: ErrorInfo) -> ErrorInfo:
    reason = retry = None
    for detail in list_of(error.get("details")):
        kind = text_of(object_of(detail).get("@type"))
        if kind.endswith("google.rpc.ErrorInfo"):
            reason = optional_text(detail.get("reason")) or reason
        elif kind.endswith("google.rpc.RetryInfo"):
            retry = _seconds(detail.get("retryDelay"))
    word = optional_text(error.get("status")) or plain.type
    return msgspec.structs.replace(plain, type=word, code=reason or word or plain.code, retry_after_s=retry)


def _seconds(delay: Any) -> float | None:
    """protobuf's Duration: `26.5s`."""
    found = _DELAY.match(delay) if isinstance(delay, str) else None
    return float(found[1]) if found else None


def raise_failure(answer: Json) -> None:
    """Raises StreamFault for an error inside a 200 (WIRE_FACTS 9)."""
    if not answer.get("error"):
        return
    error = object_of(answer["error"])
    info = _info(error, info_of_value(answer))
    if not info.message:
        info = msgspec.structs.replace(info, message="the provider reported a failure without saying which")
    code = error.get("code")
    status = (
        code if isinstance(code, int) and 400 <= code <= 599 else _STATUS_OF_WORD.get(info.type or "", 500)
    )
    raise StreamFault(info, status)


def decode_response(body: bytes) -> Response:
    answer = answer_body(body)
    raise_failure(answer)
    choices = [_choice(object_of(given), answer) for given in list_of(answer.get("candidates"))]
    if not choices:
        choices = [_blocked(answer)]
    return Response(
        id=text_of(answer.get("responseId")),
        model=text_of(answer.get("modelVersion")),
        created=created_of(answer),
        choices=choices,
        usage=_whole_usage(answer),
    )


def _blocked(answer: Json) -> Choice:
    """No candidate: the prompt itself was refused, or there is no answer at all."""
    native = optional_text(object_of(answer.get("promptFeedback")).get("blockReason"))
    if native is None:
        raise Garbled("an answer without candidates")
    return Choice([], "content_filter", native)


def _choice(candidate: Json, answer: Json) -> Choice:
    native = optional_text(candidate.get("finishReason"))
    if native in (None, _UNSET):
        raise Garbled("a candidate without a finish reason")
    parts: list[OutputPart] = []
    for place, given in enumerate(list_of(object_of(candidate.get("content")).get("parts"))):
        parts.extend(_parts(object_of(given), text_of(answer.get("responseId")), place))
    called = any(isinstance(part, ToolCall) for part in parts)
    return Choice(joined(parts), reason_of(native or "", called), native, None, logprobs_of(candidate))


def reason_of(native: str, called: bool) -> FinishReason:
    """STOP although a tool was called is tool_calls (WIRE_FACTS 8); unknown words are stop (27)."""
    if native in _LENGTH:
        return "length"
    if native in _FILTERED:
        return "content_filter"
    return "tool_calls" if called and native == "STOP" else "stop"


def _parts(part: Json, response_id: str, place: int) -> list[OutputPart]:
    signature = optional_text(part.get("thoughtSignature"))
    if isinstance(part.get("text"), str):
        text = part["text"]
        if part.get("thought"):
            return [Thinking(text, signature, None, None, NAME)]
        said: list[OutputPart] = [Text(text)] if text else []
        return [*said, Thinking("", signature, None, None, NAME)] if signature else said
    if isinstance(part.get("functionCall"), dict):
        call_id, name, arguments = _call(part["functionCall"], response_id, place)
        return [ToolCall(call_id, name, arguments, signature, NAME if signature else None)]
    return [Opaque(NAME, part)] if part else []


def _call(call: Json, response_id: str, place: int) -> tuple[str, str, str]:
    name = text_of(call.get("name"))
    if not name:
        raise Garbled("a function call without a name")
    call_id = text_of(call.get("id")) or made_id("call_", response_id, place, name)
    return call_id, name, to_text(object_of(call.get("args")))


def joined(parts: list[OutputPart]) -> list[OutputPart]:
    """Neighbouring texts as one, neighbouring thoughts too."""
    out: list[OutputPart] = []
    for part in parts:
        last = out[-1] if out else None
        if isinstance(part, Text) and isinstance(last, Text):
            last.text += part.text
        elif (
            isinstance(part, Thinking) and isinstance(last, Thinking) and last.signature is None and part.text
        ):
            last.text += part.text
            last.signature = part.signature
        else:
            out.append(part)
    return out


def created_of(answer: Json) -> int:
    """`createTime` exists at Vertex only."""
    given = answer.get("createTime")
    if isinstance(given, str):
        try:
            return int(datetime.fromisoformat(given).timestamp())
        except (ValueError, OverflowError):
            pass
    return int(time.time())


def usage_of(given: Any) -> Usage | None:
    """Prompt includes what was cached; thoughts are output, beside the candidates (WIRE_FACTS 30)."""
    if not isinstance(given, dict):
        return None
    thoughts = count_of(given.get("thoughtsTokenCount"))
    return Usage(
        input_tokens=count_of(given.get("promptTokenCount")) + count_of(given.get("toolUsePromptTokenCount")),
        cache_read_tokens=count_of(given.get("cachedContentTokenCount")),
        input_audio_tokens=_modality(given.get("promptTokensDetails"), "AUDIO"),
        input_image_tokens=_modality(given.get("promptTokensDetails"), "IMAGE"),
        output_tokens=count_of(given.get("candidatesTokenCount")) + thoughts,
        reasoning_tokens=thoughts,
        output_audio_tokens=_modality(given.get("candidatesTokensDetails"), "AUDIO"),
        unpriced="candidatesTokensDetails" in given
        and _modality(given["candidatesTokensDetails"], "VIDEO") > 0,
        extras=_extras(given),
    )


def _extras(given: Json) -> dict[str, int] | None:
    """Generated images and cached audio have prices of their own (ai.google.dev/gemini-api/docs/pricing, read 2026-11-23)."""
    found: dict[str, int] = {}
    if "candidatesTokensDetails" in given and (count := _modality(given["candidatesTokensDetails"], "IMAGE")):
        found["output_image"] = count
    if "cacheTokensDetails" in given and (count := _modality(given["cacheTokensDetails"], "AUDIO")):
        found["cache_read_audio"] = count
    return found or None


def _whole_usage(answer: Json) -> Usage | None:
    usage = usage_of(answer.get("usageMetadata"))
    if usage is not None:
        for candidate in list_of(answer.get("candidates")):
            if isinstance(candidate, dict) and "groundingMetadata" in candidate and _searched(candidate):
                usage.unpriced = True
    return usage


def _searched(candidate: Json) -> bool:
    """Grounded in Google's search or maps, which are billed by the query."""
    found = candidate.get("groundingMetadata")
    if not isinstance(found, dict):
        return False
    if found.get("webSearchQueries") or found.get("imageSearchQueries"):
        return True
    return any(
        isinstance(one, dict) and ("web" in one or "maps" in one)
        for one in list_of(found.get("groundingChunks"))
    )


def _modality(details: Any, word: str) -> int:
    return sum(
        count_of(one.get("tokenCount"))
        for one in list_of(details)
        if isinstance(one, dict) and one.get("modality") == word
    )


def logprobs_of(candidate: Json) -> Json | None:
    """As OpenAI's object."""
    result = object_of(candidate.get("logprobsResult"))
    chosen = list_of(result.get("chosenCandidates"))
    if not chosen:
        return None
    tops = list_of(result.get("topCandidates"))
    content = []
    for place, given in enumerate(chosen):
        entry = _logprob(given)
        top = object_of(tops[place]) if place < len(tops) else {}
        entry["top_logprobs"] = [_logprob(one) for one in list_of(top.get("candidates"))]
        content.append(entry)
    return {"content": content}


def _logprob(given: Any) -> Json:
    token = text_of(object_of(given).get("token"))
    value = object_of(given).get("logProbability")
    number = value if isinstance(value, int | float) and not isinstance(value, bool) else 0.0
    return {"token": token, "logprob": number, "bytes": list(token.encode("utf-8", "replace"))}


def glance(body: bytes) -> Glance:
    answer = answer_body(body)
    raise_failure(answer)
    candidates = [object_of(given) for given in list_of(answer.get("candidates"))]
    parts = [
        object_of(part) for one in candidates for part in list_of(object_of(one.get("content")).get("parts"))
    ]
    return Glance(
        id=optional_text(answer.get("responseId")),
        model=optional_text(answer.get("modelVersion")),
        usage=_whole_usage(answer),
        finish_reason=_glanced_reason(answer, candidates, parts),
        output_chars=sum(len(text_of(part.get("text"))) for part in parts),
    )


def _glanced_reason(answer: Json, candidates: list[Json], parts: list[Json]) -> str | None:
    if not candidates:
        return "content_filter" if object_of(answer.get("promptFeedback")).get("blockReason") else None
    native = text_of(candidates[0].get("finishReason"))
    if not native or native == _UNSET:
        return None
    return reason_of(native, any("functionCall" in part for part in parts))


def decode_count(body: bytes) -> int:
    """The answer to countTokens. Raises Garbled."""
    answer = answer_body(body)
    raise_failure(answer)
    if not isinstance(answer.get("totalTokens"), int):
        raise Garbled("an answer without totalTokens")
    return count_of(answer["totalTokens"])


# stream ---------------------------------------------------------------------------------------------------------------


class _Candidate(Struct):
    open_index: int | None = None
    open_kind: str = ""
    called: bool = False
    native: str | None = None


class GeminiDecoder:
    """Chunks to events. There is no terminator, and content may follow a finish reason: ``Finish`` comes at the end."""

    __slots__ = (
        "_candidates",
        "_grounded",
        "_id",
        "_next",
        "_started",
        "_usage",
        "complete",
        "ended",
    )

    unsaid = False

    def __init__(self) -> None:
        self.complete = False
        self.ended = False
        self._candidates: dict[int, _Candidate] = {}
        self._id = ""
        self._next = 0
        self._started = False
        self._usage: Usage | None = None
        self._grounded = False

    def decode(self, frame: Frame) -> list[Event]:
        content = b"candidates" in frame.data
        chunk = answer_body(frame.data, carries_content=content)
        raise_failure(chunk)
        try:
            return self._chunk(chunk)
        except (TypeError, KeyError, AttributeError) as error:
            raise Garbled(f"a chunk of another shape: {error}") from None

    def finish(self) -> list[Event]:
        if not self.complete:
            raise Truncated("the stream ended without a finish reason")
        self.ended = True
        out: list[Event] = []
        for candidate in self._candidates.values():
            self._close(candidate, out)
        if self._usage is not None:
            self._usage.unpriced = self._usage.unpriced or self._grounded
            out.append(UsageReport(self._usage))
        for number, candidate in sorted(self._candidates.items()):
            native = candidate.native or ""
            out.append(Finish(reason_of(native, candidate.called), native, None, number))
        return out

    def _chunk(self, chunk: Json) -> list[Event]:
        out: list[Event] = []
        if not self._started:
            self._start(chunk, out)
        usage = usage_of(chunk.get("usageMetadata"))
        if usage is not None:
            self._usage = usage
        candidates = list_of(chunk.get("candidates"))
        for given in candidates:
            self._candidate(object_of(given), out)
            if isinstance(given, dict) and "groundingMetadata" in given and _searched(given):
                self._grounded = True
        if not candidates:
            self._blocked(chunk)
        states = self._candidates.values()
        self.complete = bool(states) and all(one.native is not None for one in states)
        return out

    def _start(self, chunk: Json, out: list[Event]) -> None:
        self._started = True
        self._id = text_of(chunk.get("responseId"))
        out.append(Start(self._id, text_of(chunk.get("modelVersion")), int(time.time())))

    def _blocked(self, chunk: Json) -> None:
        reason = optional_text(object_of(chunk.get("promptFeedback")).get("blockReason"))
        if reason is not None:
            # Whatever the word, the prompt was refused.
            native = reason if reason in _FILTERED else "PROHIBITED_CONTENT"
            self._candidates.setdefault(0, _Candidate()).native = native

    def _candidate(self, given: Json, out: list[Event]) -> None:
        number = count_of(given.get("index"))
        state = self._candidates.setdefault(number, _Candidate())
        logprobs = logprobs_of(given)
        for part in list_of(object_of(given.get("content")).get("parts")):
            self._part(object_of(part), number, state, logprobs, out)
            logprobs = None
        native = optional_text(given.get("finishReason"))
        if native is not None and native != _UNSET:
            state.native = native

    def _part(self, part: Json, number: int, state: _Candidate, logprobs: Any, out: list[Event]) -> None:
        signature = optional_text(part.get("thoughtSignature"))
        if isinstance(part.get("text"), str):
            self._text(part, number, state, signature, logprobs, out)
        elif isinstance(part.get("functionCall"), dict):
            self._function(part["functionCall"], number, state, signature, out)
        elif part:
            self._close(state, out)
            out.append(BlockStart(self._next, "opaque", choice=number, value=part, origin=NAME))
            out.append(BlockStop(self._next))
            self._next += 1

    def _text(
        self,
        part: Json,
        number: int,
        state: _Candidate,
        signature: str | None,
        logprobs: Any,
        out: list[Event],
    ) -> None:
        text = part["text"]
        thought = bool(part.get("thought"))
        if text:
            index = self._open(state, "thinking" if thought else "text", number, out)
            out.append(ThinkingDelta(index, text) if thought else TextDelta(index, text, logprobs))
        if signature:
            index = self._open(state, "thinking", number, out)
            out.append(SignatureDelta(index, signature))
            self._close(state, out)

    def _function(
        self, call: Json, number: int, state: _Candidate, signature: str | None, out: list[Event]
    ) -> None:
        """Calls come whole, parallel ones in chunks of their own (WIRE_FACTS 8)."""
        call_id, name, arguments = _call(call, self._id, self._next)
        self._close(state, out)
        state.called = True
        origin = NAME if signature else None
        out.append(BlockStart(self._next, "tool_call", call_id, name, number, signature, None, origin))
        out.append(ArgumentsDelta(self._next, arguments))
        out.append(BlockStop(self._next))
        self._next += 1

    def _open(self, state: _Candidate, kind: BlockKind, number: int, out: list[Event]) -> int:
        if state.open_index is not None and state.open_kind == kind:
            return state.open_index
        self._close(state, out)
        state.open_index, state.open_kind = self._next, kind
        self._next += 1
        origin = NAME if kind == "thinking" else None
        out.append(BlockStart(state.open_index, kind, choice=number, origin=origin))
        return state.open_index

    def _close(self, state: _Candidate, out: list[Event]) -> None:
        if state.open_index is not None:
            out.append(BlockStop(state.open_index))
            state.open_index = None
