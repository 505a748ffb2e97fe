"""Cohere's Chat API v2, upstream only."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from tieline.dialects.base import (
    Frame,
    Garbled,
    Mould,
    Outgoing,
    Splitter,
    StreamDecoder,
    StreamFault,
    Target,
    Truncated,
)
from tieline.dialects.error_bodies import info_of_body
from tieline.dialects.fields import (
    Json,
    answer_body,
    count_of,
    list_of,
    object_of,
    optional_text,
    text_of,
    to_json,
    without_nulls,
)
from tieline.dialects.params import (
    asks_for_thought,
    budget_of,
    check_capabilities,
    check_media,
    output_limit,
    refuse_prefill,
    refuse_unset,
    unsupported,
    without_idle_thought,
)
from tieline.dialects.rooted import rooted
from tieline.dialects.schemas import stripped
from tieline.dialects.sse import MEDIA_TYPE, SseSplitter
from tieline.dialects.turns import names_said, paired
from tieline.dialects.unmapped import left_over
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
    Start,
    TextDelta,
    ThinkingDelta,
    UsageReport,
)
from tieline.types.request import (
    Document,
    Image,
    Message,
    Opaque,
    Part,
    Refusal,
    Request,
    ServerTool,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
)
from tieline.types.response import Choice, FinishReason, OutputPart, Response
from tieline.types.usage import Usage

NAME = "cohere"
PATH = "/v2/chat"
MAX_STOP = 5
"""`stop_sequences`: up to 5 (docs.cohere.com, API reference of v2/chat)."""

_ORDINARY_TIERS = frozenset((None, "auto", "default", "standard", "standard_only"))
_REASONS: dict[str, FinishReason] = {
    "COMPLETE": "stop",
    "STOP_SEQUENCE": "stop",
    "MAX_TOKENS": "length",
    "TOOL_CALL": "tool_calls",
    "ERROR_TOXIC": "content_filter",
}
_FAILED = {"ERROR": 500, "TIMEOUT": 504, "ERROR_LIMIT": 400}


class Cohere:
    name = NAME
    media_type = MEDIA_TYPE

    def encode_request(self, request: Request, target: Target) -> Outgoing:
        path = target.quirks.path.replace("{model}", target.model) or PATH
        return Outgoing(path=path, body=to_json(_body(rooted(without_idle_thought(request, target)), target)))

    def splitter(self) -> Splitter:
        return SseSplitter()

    def stream_decoder(self) -> StreamDecoder:
        return CohereDecoder()

    def mould(self, frame: bytes) -> Mould | None:
        return None

    def decode_response(self, body: bytes) -> Response:
        return _response(answer_body(body))

    def decode_error(self, status: int, headers: Headers, body: bytes) -> ErrorInfo:
        return info_of_body(headers, body)


# request --------------------------------------------------------------------------------------------------------------


def _body(request: Request, target: Target) -> Json:
    _check(request, target)
    body: Json = {
        "model": target.model,
        "messages": _messages(request, target),
        "stream": request.stream,
        "max_tokens": output_limit(request, target),
        "temperature": request.temperature,
        "p": request.top_p,
        "k": request.top_k,
        "stop_sequences": request.stop or None,
        "seed": request.seed,
        "frequency_penalty": request.frequency_penalty,
        "presence_penalty": request.presence_penalty,
        "logprobs": True if request.logprobs else None,
        "response_format": _response_format(request, target),
        "thinking": _thinking(request),
    }
    _tools(body, request, target)
    body.update(left_over(request, NAME))
    for name in target.quirks.rejects:
        if body.get(name) is not None:
            raise unsupported(request, name, target)
    return without_nulls(body)


def _check(request: Request, target: Target) -> None:
    check_capabilities(request, target)
    check_media(request, target)
    refuse_prefill(request, target, unknown_is_able=False)
    refuse_unset(request, target, "min_p", "logit_bias", "top_logprobs")
    if request.n > 1:
        raise unsupported(request, "n", target, "gives one answer")
    if len(request.stop) > MAX_STOP:
        raise unsupported(request, "stop", target, f"takes at most {MAX_STOP}")
    if request.service_tier not in _ORDINARY_TIERS:
        raise unsupported(request, "service_tier", target, f"has no tier {request.service_tier!r}")


def _response_format(request: Request, target: Target) -> Json | None:
    wanted = request.response_format
    if wanted is None or wanted.kind == "text":
        return None
    if request.tools and request.tool_choice is not None and request.tool_choice.mode in ("required", "tool"):
        return None  # no text to format: instructor asks for both in its Responses mode
    if request.tools:
        # docs.cohere.com, "Structured Outputs": not together with tools.
        raise unsupported(request, "response_format", target, "does not take it together with tools")
    if wanted.kind == "json_object":
        return {"type": "json_object"}
    return {"type": "json_object", "json_schema": stripped(wanted.schema or {}, target.quirks.schema_strips)}


def _thinking(request: Request) -> Json | None:
    asked = request.reasoning
    if asked is None:
        return None
    if not asks_for_thought(request):
        return {"type": "disabled"}
    return without_nulls({"type": "enabled", "token_budget": budget_of(asked)})


def _tools(body: Json, request: Request, target: Target) -> None:
    choice = request.tool_choice
    offered = request.tools
    if choice is not None and choice.mode == "tool":
        # There is no choosing of one tool: it is the only one offered, and required.
        offered = [tool for tool in offered if isinstance(tool, Tool) and tool.name == choice.name]
    tools = [_tool(tool, request, target) for tool in offered]
    if not tools:
        return
    body["tools"] = tools
    if all(isinstance(tool, Tool) and tool.strict for tool in offered):
        body["strict_tools"] = True
    if choice is None:
        return
    if choice.mode in ("required", "tool"):
        if not target.quirks.tool_choice_required:
            raise unsupported(request, "tool_choice", target, "cannot be made to call a tool")
        body["tool_choice"] = "REQUIRED"
    elif choice.mode == "none":
        body["tool_choice"] = "NONE"


def _tool(tool: Tool | ServerTool, request: Request, target: Target) -> Json:
    if isinstance(tool, ServerTool):
        raise unsupported(request, "tools", target, f"does not run the tool {tool.title}")
    parameters = stripped(tool.parameters, target.quirks.schema_strips)
    function = {"name": tool.name, "description": tool.description, "parameters": parameters}
    return {"type": "function", "function": without_nulls(function)}


def _messages(request: Request, target: Target) -> list[Json]:
    messages: list[Json] = []
    for message in names_said(paired(request.messages)):
        if message.role == "assistant":
            messages.extend(_assistant(message, request, target))
        else:
            messages.extend(_from_caller(message, request, target))
    return messages


def _from_caller(message: Message, request: Request, target: Target) -> list[Json]:
    out: list[Json] = []
    content: list[Json] = []
    for part in message.parts:
        if isinstance(part, ToolResult):
            out.append(_result(part, request, target))
        elif not isinstance(part, Text) or part.text:
            content.append(_content(part, request, target))
    if content:
        plain = len(content) == 1 and content[0]["type"] == "text"
        out.append({"role": message.role, "content": content[0]["text"] if plain else content})
    return out


def _content(part: Part, request: Request, target: Target) -> Json:
    if isinstance(part, Text | Refusal):
        return {"type": "text", "text": part.text}
    if isinstance(part, Image):
        if part.file_id is not None:
            raise unsupported(
                request, "messages", target, f"does not have the file {part.file_id!r} of another vendor"
            )
        url = part.url if part.data is None else f"data:{part.media_type or 'image/png'};base64,{part.data}"
        image = {"url": url, "detail": part.detail if part.detail in ("auto", "low", "high") else None}
        return {"type": "image_url", "image_url": without_nulls(image)}
    if isinstance(part, Document) and part.media_type == "text/plain" and part.data is not None:
        return {"type": "text", "text": part.data}
    what = part.origin + "'s own block" if isinstance(part, Opaque) else type(part).__name__.lower()
    raise unsupported(request, "messages", target, f"does not take {what} in a message")


def _result(part: ToolResult, request: Request, target: Target) -> Json:
    texts = []
    for inner in part.content:
        if not isinstance(inner, Text):
            raise unsupported(request, "messages", target, "takes only text in a tool's result")
        texts.append(inner.text)
    text = "\n".join(texts)
    if part.is_error and not text.lower().startswith("error"):
        text = f"Error: {text}"  # the message has no field that says so
    return {"role": "tool", "tool_call_id": part.id, "content": text}


def _assistant(message: Message, request: Request, target: Target) -> list[Json]:
    calls: list[Json] = []
    thoughts: list[str] = []
    texts: list[str] = []
    for part in message.parts:
        if isinstance(part, ToolCall):
            function = {"name": part.name, "arguments": part.arguments or "{}"}
            calls.append({"id": part.id, "type": "function", "function": function})
        elif isinstance(part, Thinking):
            if part.origin == NAME and part.text:
                thoughts.append(part.text)
        elif isinstance(part, Text | Refusal):
            texts.append(part.text)
        else:
            texts.append(text_of(_content(part, request, target).get("text")))
    text = "".join(texts)
    if calls:
        plan = "\n".join([*thoughts, text] if text else thoughts)
        return [without_nulls({"role": "assistant", "tool_plan": plan or None, "tool_calls": calls})]
    if not thoughts:
        return [{"role": "assistant", "content": text}] if text else []
    content: list[Json] = [{"type": "thinking", "thinking": thought} for thought in thoughts]
    return [{"role": "assistant", "content": [*content, {"type": "text", "text": text}]}]


# whole answers --------------------------------------------------------------------------------------------------------


def _response(answer: Json) -> Response:
    native = optional_text(answer.get("finish_reason"))
    if native is None:
        raise Garbled("an answer without finish_reason")
    _raise_failed(native, optional_text(answer.get("error")))
    message = object_of(answer.get("message"))
    logprobs = _logprobs(answer.get("logprobs"))
    return Response(
        id=text_of(answer.get("id")),
        model="",
        created=int(time.time()),
        choices=[Choice(_parts(message), _REASONS.get(native, "stop"), native, None, logprobs)],
        usage=usage_of(answer.get("usage")),
    )


def _raise_failed(native: str, said: str | None) -> None:
    """An answer that ended in an error is none, although its status was 200 (WIRE_FACTS 9)."""
    status = _FAILED.get(native)
    if status is not None:
        info = ErrorInfo(message=said or f"the answer ended with {native}", code=native, type=native)
        raise StreamFault(info, status)


def _parts(message: Json) -> list[OutputPart]:
    parts: list[OutputPart] = []
    if plan := text_of(message.get("tool_plan")):
        parts.append(Thinking(plan, None, None, None, NAME))
    citations = list_of(message.get("citations")) or None
    for given in list_of(message.get("content")):
        block = object_of(given)
        if block.get("type") == "thinking":
            parts.append(Thinking(text_of(block.get("thinking")), None, None, None, NAME))
        elif block.get("type") == "text":
            parts.append(Text(text_of(block.get("text")), None, citations, NAME if citations else None))
            citations = None
    for given in list_of(message.get("tool_calls")):
        call_id, name, arguments = _call(object_of(given))
        parts.append(ToolCall(call_id, name, arguments or "{}"))
    return parts


def _call(call: Json) -> tuple[str, str, str]:
    function = object_of(call.get("function"))
    name = text_of(function.get("name"))
    if not name:
        raise Garbled("a tool call without a name")
    return text_of(call.get("id")) or name, name, text_of(function.get("arguments"))


def _logprobs(given: Any) -> Json | None:
    """Cohere's entries span several tokens: one entry each, with their joint probability."""
    content = []
    for one in list_of(given):
        entry = object_of(one)
        token = text_of(entry.get("text"))
        values = [value for value in list_of(entry.get("logprobs")) if isinstance(value, float)]
        raw = list(token.encode("utf-8", "replace"))
        content.append({"token": token, "logprob": sum(values), "bytes": raw, "top_logprobs": []})
    return {"content": content} if content else None


def usage_of(given: Any) -> Usage | None:
    """Billed units where they are given: `tokens` also counts what Cohere's template adds, which is not charged."""
    if not isinstance(given, dict):
        return None
    billed, counted = object_of(given.get("billed_units")), object_of(given.get("tokens"))
    source = billed if billed.get("output_tokens") is not None else counted
    into = count_of(source.get("input_tokens"))
    return Usage(
        input_tokens=into,
        cache_read_tokens=min(count_of(given.get("cached_tokens")), into),
        output_tokens=count_of(source.get("output_tokens")),
    )


# stream ---------------------------------------------------------------------------------------------------------------


class _Block(Struct):
    index: int
    kind: BlockKind


_Key = tuple[str, int]
_PLAN: _Key = ("plan", 0)


class CohereDecoder:
    """Typed events to ours; `message-end` ends the stream."""

    __slots__ = ("_blocks", "_clock", "_next", "_started", "complete", "ended")

    unsaid = False

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self.complete = False
        self.ended = False
        self._blocks: dict[_Key, _Block] = {}
        self._clock = clock
        self._next = 0
        self._started = False

    def decode(self, frame: Frame) -> list[Event]:
        if frame.data == b"[DONE]" or self.ended:
            return []
        event = answer_body(frame.data, carries_content=b"delta" in frame.data)
        kind = text_of(event.get("type")) or frame.event or ""
        if kind == "error" or (not kind and event.get("message")):
            raise StreamFault(info_of_body([], frame.data), 500)
        handler = _HANDLERS.get(kind)
        if handler is None:
            return []
        out: list[Event] = []
        if not self._started:
            self._started = True
            out.append(Start(text_of(event.get("id")), "", int(self._clock())))
        handler(self, event, out)
        return out

    def finish(self) -> list[Event]:
        if not self.complete:
            raise Truncated("the stream ended before message-end")
        self.ended = True
        return []

    def _open(self, key: _Key, kind: BlockKind, out: list[Event], **named: str) -> _Block:
        if key != _PLAN:
            self._close(_PLAN, out)
        self._close(key, out)
        block = self._blocks[key] = _Block(self._next, kind)
        self._next += 1
        origin = NAME if kind == "thinking" else None
        out.append(BlockStart(block.index, kind, named.get("id"), named.get("name"), origin=origin))
        return block

    def _close(self, key: _Key, out: list[Event]) -> None:
        block = self._blocks.pop(key, None)
        if block is not None:
            out.append(BlockStop(block.index))

    def _message_start(self, event: Json, out: list[Event]) -> None:
        """Says the id and the role only."""

    def _plan(self, event: Json, out: list[Event]) -> None:
        block = self._blocks.get(_PLAN) or self._open(_PLAN, "thinking", out)
        out.append(ThinkingDelta(block.index, text_of(_message(event).get("tool_plan"))))

    def _content(self, event: Json, out: list[Event]) -> None:
        """The start may carry text already; a delta may come without its start."""
        content = object_of(_message(event).get("content"))
        thinking = content.get("type") == "thinking" or isinstance(content.get("thinking"), str)
        key = ("content", count_of(event.get("index")))
        kind: BlockKind = "thinking" if thinking else "text"
        block = self._blocks.get(key)
        if block is None or block.kind != kind:
            block = self._open(key, kind, out)
        text = text_of(content.get("thinking" if thinking else "text"))
        if text and thinking:
            out.append(ThinkingDelta(block.index, text))
        elif text:
            logprobs = _logprobs([event["logprobs"]]) if event.get("logprobs") else None
            out.append(TextDelta(block.index, text, logprobs))

    def _content_end(self, event: Json, out: list[Event]) -> None:
        self._close(("content", count_of(event.get("index"))), out)

    def _tool_start(self, event: Json, out: list[Event]) -> None:
        call_id, name, arguments = _call(_tool_call(event))
        block = self._open(("tool", count_of(event.get("index"))), "tool_call", out, id=call_id, name=name)
        if arguments:
            out.append(ArgumentsDelta(block.index, arguments))

    def _tool_delta(self, event: Json, out: list[Event]) -> None:
        block = self._blocks.get(("tool", count_of(event.get("index"))))
        if block is None:
            raise Garbled("arguments of a tool call that was not announced")
        function = object_of(_tool_call(event).get("function"))
        if arguments := text_of(function.get("arguments")):
            out.append(ArgumentsDelta(block.index, arguments))

    def _tool_end(self, event: Json, out: list[Event]) -> None:
        self._close(("tool", count_of(event.get("index"))), out)

    def _citation(self, event: Json, out: list[Event]) -> None:
        citation = object_of(_message(event).get("citations"))
        block = self._blocks.get(("content", count_of(citation.get("content_index"))))
        if block is not None and block.kind == "text":
            out.append(CitationDelta(block.index, citation, NAME))

    def _message_end(self, event: Json, out: list[Event]) -> None:
        delta = object_of(event.get("delta"))
        native = optional_text(delta.get("finish_reason"))
        if native is None:
            raise Garbled("message-end without finish_reason")
        _raise_failed(native, optional_text(delta.get("error")))
        for key in list(self._blocks):
            self._close(key, out)
        usage = usage_of(delta.get("usage"))
        if usage is not None:
            out.append(UsageReport(usage))
        out.append(Finish(_REASONS.get(native, "stop"), native))
        self.complete = self.ended = True


def _message(event: Json) -> Json:
    return object_of(object_of(event.get("delta")).get("message"))


def _tool_call(event: Json) -> Json:
    """An object by the documentation; a list of one has been seen in whole messages."""
    given = _message(event).get("tool_calls")
    return object_of(given[0] if isinstance(given, list) and given else given)


_HANDLERS: dict[str, Any] = {
    "message-start": CohereDecoder._message_start,
    "tool-plan-delta": CohereDecoder._plan,
    "content-start": CohereDecoder._content,
    "content-delta": CohereDecoder._content,
    "content-end": CohereDecoder._content_end,
    "tool-call-start": CohereDecoder._tool_start,
    "tool-call-delta": CohereDecoder._tool_delta,
    "tool-call-end": CohereDecoder._tool_end,
    "citation-start": CohereDecoder._citation,
    "message-end": CohereDecoder._message_end,
}

COHERE = Cohere()
