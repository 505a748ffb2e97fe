"""What a provider that speaks Responses sends: whole answers, streams, errors."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from tieline.dialects.base import Frame, Garbled, Glance, StreamFault, Truncated
from tieline.dialects.error_bodies import info_of_body, info_of_value, status_of
from tieline.dialects.fields import (
    BROKEN_JSON,
    Json,
    answer_body,
    count_of,
    list_of,
    logprobs_of,
    object_of,
    optional_text,
    text_of,
)
from tieline.dialects.openai_responses.request_in import NAME
from tieline.types.call import Headers
from tieline.types.errors import ErrorInfo
from tieline.types.events import (
    ArgumentsDelta,
    BlockKind,
    BlockStart,
    BlockStop,
    CitationDelta,
    Event,
    Finish,
    SignatureDelta,
    Start,
    TextDelta,
    ThinkingDelta,
    UsageReport,
)
from tieline.types.request import Opaque, Refusal, Text, Thinking, ToolCall
from tieline.types.response import Choice, FinishReason, OutputPart, Response
from tieline.types.usage import Usage

_STATUS_OF_CODE = {
    "server_is_overloaded": 503,
    "slow_down": 503,
    "invalid_prompt": 400,
    "content_policy_violation": 400,
    "vector_store_timeout": 504,
}
"""Beyond what vendors share."""
_UNPRICED = ("code_interpreter_call", "image_generation_call")
"""Billed by the minute of a container, which the answer does not tell, and by the tokens of a model that it does not name."""
_FREE_ACTIONS = ("open_page", "find_in_page")
"""Only searches are billed (developers.openai.com/api/docs/guides/tools-web-search, read 2026-11-23). Newer answers tell how many were,
in `tool_usage` (openai SDK 3.54)."""


def decode_error(status: int, headers: Headers, body: bytes) -> ErrorInfo:
    return info_of_body(headers, body)


def decode_response(body: bytes) -> Response:
    answer = answer_body(body)
    raise_failure(answer)
    if answer.get("status") not in (None, "completed", "incomplete"):
        raise Garbled(f"the answer's status is {answer.get('status')!r}")
    parts, logprobs = _parts(list_of(answer.get("output")))
    called = any(isinstance(part, ToolCall) for part in parts)
    reason, native = _reason(answer, called)
    return Response(
        id=text_of(answer.get("id")),
        model=text_of(answer.get("model")),
        created=count_of(answer.get("created_at")),
        choices=[Choice(parts, reason, native, None, {"content": logprobs} if logprobs else None)],
        usage=_whole_usage(answer),
        service_tier=optional_text(answer.get("service_tier")),
    )


def glance(body: bytes) -> Glance:
    answer = answer_body(body)
    raise_failure(answer)
    output = list_of(answer.get("output"))
    status = answer.get("status")
    chars = sum(
        len(text_of(object_of(part).get("text")))
        for item in output
        for part in list_of(object_of(item).get("content"))
    )
    called = any(object_of(item).get("type") == "function_call" for item in output)
    return Glance(
        id=optional_text(answer.get("id")),
        model=optional_text(answer.get("model")),
        usage=_whole_usage(answer),
        finish_reason=_reason(answer, called)[0] if status in ("completed", "incomplete") else None,
        output_chars=chars + sum(len(text_of(object_of(item).get("arguments"))) for item in output),
    )


def raise_failure(answer: Json) -> None:
    """Raises StreamFault for an error inside a 200."""
    error = answer.get("error")
    if error or answer.get("status") == "failed" or answer.get("object") == "error":
        raise _fault(error if isinstance(error, dict) else answer)


def _fault(error: Json) -> StreamFault:
    named = {name: value for name, value in error.items() if name != "type" or value != "error"}
    info = info_of_value(named)
    if not info.message:
        info = msgspec.structs.replace(info, message="the provider reported a failure without saying which")
    return StreamFault(info, _STATUS_OF_CODE.get(info.code or "") or status_of(info) or 500)


def usage_of(given: Any) -> Usage | None:
    """``input_tokens`` includes what was cached (WIRE_FACTS 29)."""
    if not isinstance(given, dict):
        return None
    read = object_of(given.get("input_tokens_details"))
    written = object_of(given.get("output_tokens_details"))
    return Usage(
        input_tokens=count_of(given.get("input_tokens")),
        cache_read_tokens=count_of(read.get("cached_tokens")),
        cache_write_5m_tokens=count_of(read.get("cache_write_tokens")),
        output_tokens=count_of(given.get("output_tokens")),
        reasoning_tokens=count_of(written.get("reasoning_tokens")),
        unpriced=_is_unpriced(given, read),
    )


def _is_unpriced(given: Json, read: Json) -> bool:
    """What was written to be kept for twelve hours costs more than the price for thirty minutes that is known; what xAI's own
    tools did is billed by the call."""
    written = read.get("cache_write_tokens_details")
    if written is not None and count_of(object_of(written).get("ttl_12h_tokens")):
        return True
    return "num_server_side_tools_used" in given and count_of(given["num_server_side_tools_used"]) > 0


def _whole_usage(answer: Json) -> Usage | None:
    usage = usage_of(answer.get("usage"))
    if usage is None:
        return None
    searches: list[Json] = []
    files = 0
    for given in list_of(answer.get("output")):
        item = object_of(given)
        kind = item.get("type")
        if kind == "web_search_call":
            searches.append(item)
        elif kind == "file_search_call":
            files += 1
            # Whether one that failed is billed is not said.
            usage.unpriced = usage.unpriced or item.get("status") != "completed"
        elif kind in _UNPRICED or (kind == "shell_call" and _in_container(item)):
            usage.unpriced = True
    if searches:
        _count_searches(answer, searches, usage)
    if files:
        usage.extras = {**(usage.extras or {}), "file_search": files}
    return usage


def _count_searches(answer: Json, calls: list[Json], usage: Usage) -> None:
    """The fee for a search is fixed, but not that of `web_search_preview`, which is another with models that do not reason
    (developers.openai.com/api/docs/pricing, read 2026-11-23)."""
    kinds = {text_of(object_of(tool).get("type")) for tool in list_of(answer.get("tools"))}
    if any("preview" in kind for kind in kinds) or not any(kind.startswith("web_search") for kind in kinds):
        usage.unpriced = True
    told = object_of(object_of(answer.get("tool_usage")).get("web_search")).get("num_requests")
    if told is None:
        billed = [call for call in calls if object_of(call.get("action")).get("type") not in _FREE_ACTIONS]
        for call in billed:
            if object_of(call.get("action")).get("type") != "search" or call.get("status") != "completed":
                usage.unpriced = True
        told = len(billed)
    usage.extras = {"web_search": count_of(told)}


def _in_container(item: Json) -> bool:
    return object_of(item.get("environment")).get("type") not in (None, "local")


def _reason(answer: Json, called: bool) -> tuple[FinishReason, str]:
    status = text_of(answer.get("status")) or "completed"
    if status != "incomplete":
        return ("tool_calls" if called else "stop"), status
    native = text_of(object_of(answer.get("incomplete_details")).get("reason")) or status
    if native == "content_filter":
        return "content_filter", native
    return ("length" if native in ("max_output_tokens", "incomplete", "max_messages") else "stop"), native


def _parts(output: list[Any]) -> tuple[list[OutputPart], list[Any]]:
    parts: list[OutputPart] = []
    logprobs: list[Any] = []
    for given in output:
        item = object_of(given)
        kind = item.get("type")
        if kind == "message":
            for content in list_of(item.get("content")):
                _message_part(parts, logprobs, object_of(content))
        elif kind == "function_call":
            parts.append(_call(item))
        elif kind == "reasoning":
            sealed = optional_text(item.get("encrypted_content"))
            parts.append(Thinking(_summary(item), sealed, None, optional_text(item.get("id")), NAME))
        elif item:
            parts.append(Opaque(NAME, item))
    return parts, logprobs


def _message_part(parts: list[OutputPart], logprobs: list[Any], content: Json) -> None:
    if content.get("type") == "refusal":
        parts.append(Refusal(text_of(content.get("refusal"))))
        return
    citations = list_of(content.get("annotations")) or None
    parts.append(Text(text_of(content.get("text")), None, citations, NAME if citations else None))
    logprobs.extend(logprobs_of(content.get("logprobs")))


def _call(item: Json) -> ToolCall:
    name = text_of(item.get("name"))
    if not name:
        raise Garbled("a function call without a name")
    call_id = text_of(item.get("call_id")) or text_of(item.get("id"))
    return ToolCall(call_id, name, text_of(item.get("arguments")) or "{}")


def _summary(item: Json) -> str:
    parts = list_of(item.get("summary")) or list_of(item.get("content"))
    return "\n\n".join(text_of(object_of(part).get("text")) for part in parts)


class _Block(Struct):
    index: int
    kind: BlockKind
    got: bool = False
    part: int = -1
    """Of a summary: the piece that came last."""
    sealed: bool = False


class _Delta(Struct):
    """The event that nearly all events are."""

    delta: str
    output_index: int = 0
    content_index: int = 0
    logprobs: list[Any] | None = None


_DELTA = msgspec.json.Decoder(_Delta)
_CONTENT_MARKS = (b"delta", b"done", b"output_item", b"completed", b"incomplete", b"failed")
"""What an event that cannot be read may not be skipped with; `response.created` and `in_progress` carry nothing."""


class ResponsesDecoder:
    """Typed events back to ours. ``response.completed`` (or ``incomplete``) ends the stream."""

    __slots__ = ("_blocks", "_called", "_next", "_others", "_started", "complete", "ended")

    def __init__(self) -> None:
        self.complete = False
        self.ended = False
        self._blocks: dict[tuple[int, int], _Block] = {}
        self._next = 0
        self._called = False
        self._started = False
        self._others: set[int] = set()
        """Places of open items that are announced when they are done: searches, images."""

    @property
    def unsaid(self) -> bool:
        return bool(self._others)

    def decode(self, frame: Frame) -> list[Event]:
        if frame.event == "response.output_text.delta":
            quick = self._quick(frame)
            if quick is not None:
                return [quick]
        if frame.data == b"[DONE]":
            self.ended = self.complete
            return []
        content = any(mark in frame.data for mark in _CONTENT_MARKS)
        event = answer_body(frame.data, carries_content=content)
        kind = text_of(event.get("type")) or frame.event or ""
        if kind == "error" or (event.get("error")) or event.get("object") == "error":
            nested = event.get("error")
            raise _fault(nested if isinstance(nested, dict) else event)
        handler = _HANDLERS.get(kind)
        if handler is None:
            return []
        try:
            out: list[Event] = []
            handler(self, event, out)
            return out
        except (TypeError, KeyError, AttributeError, *BROKEN_JSON) as error:
            raise Garbled(f"{kind}: {error}") from None

    def _quick(self, frame: Frame) -> TextDelta | None:
        """A text delta of an open block; None leaves it to the long way."""
        try:
            event = _DELTA.decode(frame.data)
        except BROKEN_JSON:
            return None
        block = self._blocks.get((event.output_index, event.content_index))
        if block is None or block.kind != "text":
            return None
        block.got = True
        logprobs = logprobs_of(event.logprobs) if event.logprobs else None
        return TextDelta(block.index, event.delta, {"content": logprobs} if logprobs else None)

    def finish(self) -> list[Event]:
        if not self.complete:
            raise Truncated("the stream ended before response.completed")
        self.ended = True
        return []

    # one method for each event ----------------------------------------------------------------------------------------

    def _created(self, event: Json, out: list[Event]) -> None:
        if self._started:
            return
        answer = object_of(event.get("response"))
        self._started = True
        tier = optional_text(answer.get("service_tier"))
        identity = (
            text_of(answer.get("id")),
            text_of(answer.get("model")),
            count_of(answer.get("created_at")),
        )
        out.append(Start(*identity, tier))

    def _open(self, key: tuple[int, int], kind: BlockKind, out: list[Event], **named: str | None) -> _Block:
        block = self._blocks[key] = _Block(self._next, kind)
        self._next += 1
        self._called = self._called or kind == "tool_call"
        origin = NAME if kind == "thinking" else None
        out.append(BlockStart(block.index, kind, named.get("id"), named.get("name"), origin=origin))
        return block

    def _close(self, key: tuple[int, int], out: list[Event]) -> None:
        block = self._blocks.pop(key, None)
        if block is not None:
            out.append(BlockStop(block.index))

    def _item_added(self, event: Json, out: list[Event]) -> None:
        item = object_of(event.get("item"))
        key = (count_of(event.get("output_index")), 0)
        self._close(key, out)
        if item.get("type") == "function_call":
            call = _call(item)
            self._open(key, "tool_call", out, id=call.id, name=call.name)
        elif item.get("type") == "reasoning":
            self._open(key, "thinking", out, id=optional_text(item.get("id")))
        elif item.get("type") != "message":
            self._others.add(key[0])

    def _part_added(self, event: Json, out: list[Event]) -> None:
        kind = object_of(event.get("part")).get("type")
        if kind in ("output_text", "refusal"):
            self._block(event, "text" if kind == "output_text" else "refusal", out)

    def _block(self, event: Json, kind: BlockKind, out: list[Event]) -> _Block:
        """The open block an event speaks of, opened if the provider forgot to."""
        content = count_of(event.get("content_index")) if kind in ("text", "refusal") else 0
        key = (count_of(event.get("output_index")), content)
        block = self._blocks.get(key) or self._open(key, kind, out)
        if block.kind != kind:
            raise Garbled(f"a {kind} event inside a block of kind {block.kind}")
        return block

    def _text_delta(self, event: Json, out: list[Event]) -> None:
        block = self._block(event, "text", out)
        block.got = True
        logprobs = logprobs_of(event.get("logprobs"))
        out.append(
            TextDelta(block.index, text_of(event.get("delta")), {"content": logprobs} if logprobs else None)
        )

    def _text_done(self, event: Json, out: list[Event]) -> None:
        block = self._block(event, "text", out)
        if not block.got and text_of(event.get("text")):
            block.got = True
            out.append(TextDelta(block.index, text_of(event.get("text"))))

    def _refusal_delta(self, event: Json, out: list[Event]) -> None:
        block = self._block(event, "refusal", out)
        block.got = True
        out.append(TextDelta(block.index, text_of(event.get("delta"))))

    def _part_done(self, event: Json, out: list[Event]) -> None:
        if object_of(event.get("part")).get("type") in ("output_text", "refusal"):
            self._close((count_of(event.get("output_index")), count_of(event.get("content_index"))), out)

    def _annotation(self, event: Json, out: list[Event]) -> None:
        block = self._block(event, "text", out)
        out.append(CitationDelta(block.index, event.get("annotation"), NAME))

    def _arguments_delta(self, event: Json, out: list[Event]) -> None:
        block = self._blocks.get((count_of(event.get("output_index")), 0))
        if block is None or block.kind != "tool_call":
            raise Garbled("arguments of a function call that was not announced")
        block.got = True
        out.append(ArgumentsDelta(block.index, text_of(event.get("delta"))))

    def _thought_delta(self, event: Json, out: list[Event]) -> None:
        block = self._block(event, "thinking", out)
        part = count_of(event.get("summary_index", event.get("content_index")))
        if block.got and part != block.part:
            out.append(ThinkingDelta(block.index, "\n\n"))
        block.got, block.part = True, part
        out.append(ThinkingDelta(block.index, text_of(event.get("delta"))))

    def _item_done(self, event: Json, out: list[Event]) -> None:
        item = object_of(event.get("item"))
        at = count_of(event.get("output_index"))
        kind = item.get("type")
        self._others.discard(at)
        if kind == "function_call":
            self._call_done(item, (at, 0), out)
        elif kind == "reasoning":
            self._thought_done(item, (at, 0), out)
        elif kind == "message":
            for key in [key for key in self._blocks if key[0] == at]:
                self._close(key, out)
        elif item:
            out.append(BlockStart(self._next, "opaque", value=item, origin=NAME))
            out.append(BlockStop(self._next))
            self._next += 1

    def _call_done(self, item: Json, key: tuple[int, int], out: list[Event]) -> None:
        call = _call(item)
        block = self._blocks.get(key) or self._open(key, "tool_call", out, id=call.id, name=call.name)
        if not block.got:
            out.append(ArgumentsDelta(block.index, call.arguments))
        self._close(key, out)

    def _thought_done(self, item: Json, key: tuple[int, int], out: list[Event]) -> None:
        block = self._blocks.get(key) or self._open(key, "thinking", out, id=optional_text(item.get("id")))
        summary = _summary(item)
        if not block.got and summary:
            out.append(ThinkingDelta(block.index, summary))
        if sealed := text_of(item.get("encrypted_content")):
            out.append(SignatureDelta(block.index, sealed))
        self._close(key, out)

    def _completed(self, event: Json, out: list[Event]) -> None:
        answer = object_of(event.get("response"))
        self._created(event, out)
        for key in list(self._blocks):
            self._close(key, out)
        if not self._next:
            self._replay(list_of(answer.get("output")), out)
        usage = _whole_usage(answer)
        if usage is not None:
            out.append(UsageReport(usage))
        reason, native = _reason(answer, self._called)
        if event.get("type") == "response.incomplete" and answer.get("status") is None:
            reason, native = "length", "incomplete"
        out.append(Finish(reason, native))
        self.complete = self.ended = True

    def _replay(self, output: list[Any], out: list[Event]) -> None:
        """A provider that streams states only: the answer is in the last one."""
        for at, item in enumerate(output):
            if object_of(item).get("type") != "message":
                self._item_done({"item": item, "output_index": at}, out)
                continue
            for content in list_of(object_of(item).get("content")):
                refused = object_of(content).get("type") == "refusal"
                text = text_of(object_of(content).get("refusal" if refused else "text"))
                block = self._open((at, self._next), "refusal" if refused else "text", out)
                out.append(TextDelta(block.index, text))
                self._close((at, block.index), out)

    def _failed(self, event: Json, out: list[Event]) -> None:
        answer = object_of(event.get("response"))
        raise _fault(object_of(answer.get("error")) or {"message": "response.failed"})


_HANDLERS: dict[str, Any] = {
    "response.created": ResponsesDecoder._created,
    "response.in_progress": ResponsesDecoder._created,
    "response.output_item.added": ResponsesDecoder._item_added,
    "response.output_item.done": ResponsesDecoder._item_done,
    "response.content_part.added": ResponsesDecoder._part_added,
    "response.content_part.done": ResponsesDecoder._part_done,
    "response.output_text.delta": ResponsesDecoder._text_delta,
    "response.output_text.done": ResponsesDecoder._text_done,
    "response.output_text.annotation.added": ResponsesDecoder._annotation,
    "response.refusal.delta": ResponsesDecoder._refusal_delta,
    "response.function_call_arguments.delta": ResponsesDecoder._arguments_delta,
    "response.reasoning_summary_text.delta": ResponsesDecoder._thought_delta,
    "response.reasoning_text.delta": ResponsesDecoder._thought_delta,
    "response.completed": ResponsesDecoder._completed,
    "response.incomplete": ResponsesDecoder._completed,
    "response.failed": ResponsesDecoder._failed,
}
