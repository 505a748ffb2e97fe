"""An answer as a Responses object, and as its stream of typed events."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import Struct, field

from tieline.dialects.fields import BROKEN_JSON, Json, logprobs_of, to_json
from tieline.dialects.openai_responses.request_in import NAME
from tieline.dialects.signatures import OF_CALL, REDACTED, seal
from tieline.dialects.sse import comment, frame
from tieline.types.errors import Fault
from tieline.types.events import (
    ArgumentsDelta,
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
from tieline.types.request import NAMESPACE_MARK, Opaque, Refusal, Request, Text, Thinking, Tool, ToolCall
from tieline.types.response import Choice, OutputPart, Response
from tieline.types.usage import Usage

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
_PREFIX = re.compile(r"^(resp|chatcmpl|msg|req)[_-]")


def encode_response(response: Response, request: Request) -> bytes:
    choice = response.choices[0] if response.choices else Choice([], "stop")
    body = _shell(response.id, response.model, response.created, request)
    body["output"] = _items(choice, _stem(response.id), request)
    _close(body, choice.finish_reason, response.usage)
    if response.service_tier:
        body["service_tier"] = response.service_tier
    return to_json(body)


def _shell(response_id: str, model: str, created: int, request: Request) -> Json:
    """The fields that say again what was asked."""
    choice = request.tool_choice
    return {
        "id": response_id,
        "object": "response",
        "created_at": created,
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": request.max_output_tokens,
        "metadata": request.metadata or {},
        "model": model,
        "output": [],
        "parallel_tool_calls": choice is None or choice.parallel is not False,
        "previous_response_id": None,
        "reasoning": _reasoning(request),
        "service_tier": "default",
        "store": False,
        "temperature": 1.0 if request.temperature is None else request.temperature,
        "text": {"format": _format(request)},
        "tool_choice": _choice(request),
        "tools": [_tool(tool) for tool in request.tools if isinstance(tool, Tool) or tool.origin == NAME],
        "top_logprobs": request.top_logprobs or 0,
        "top_p": 1.0 if request.top_p is None else request.top_p,
        "truncation": request.unmapped.get("truncation", "disabled"),
        "usage": None,
        "user": request.user,
    }


def _reasoning(request: Request) -> Json:
    asked = request.reasoning
    if asked is None:
        return {"effort": None, "summary": None}
    return {"effort": asked.effort, "summary": None if asked.summary == "omitted" else asked.summary}


def _format(request: Request) -> Json:
    asked = request.response_format
    if asked is None or asked.kind != "json_schema":
        return {"type": asked.kind if asked else "text"}
    return {
        "type": "json_schema",
        "name": asked.name,
        "schema": asked.schema or {},
        "strict": asked.strict,
        "description": asked.description,
    }


def _choice(request: Request) -> Any:
    choice = request.tool_choice
    if choice is None:
        return "auto"
    return {"type": "function", "name": choice.name} if choice.mode == "tool" else choice.mode


def _tool(tool: Any) -> Json:
    if not isinstance(tool, Tool):
        value: Json = tool.value
        return value
    if tool.freeform is not None:
        return tool.freeform
    return {
        "type": "function",
        "name": tool.name,
        "description": tool.description,
        "parameters": tool.parameters,
        "strict": tool.strict is not False if tool.strict is not None else False,
    }


def _close(body: Json, reason: str, usage: Usage | None) -> None:
    """Turns a shell into a finished answer."""
    body["usage"] = _usage(usage)
    if reason in _INCOMPLETE:
        body["status"] = "incomplete"
        body["incomplete_details"] = {"reason": _INCOMPLETE[reason]}
    else:
        body["status"] = "completed"
        body["completed_at"] = body["created_at"]


def _usage(usage: Usage | None) -> Json | None:
    if usage is None:
        return None
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {
            "cached_tokens": usage.cache_read_tokens,
            "cache_write_tokens": usage.cache_write_5m_tokens + usage.cache_write_1h_tokens,
        },
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }


def _items(choice: Choice, stem: str, request: Request) -> list[Json]:
    items: list[Json] = []
    status = "incomplete" if choice.finish_reason in _INCOMPLETE else "completed"
    logprobs = logprobs_of(choice.logprobs)
    for part in choice.parts:
        content = _content(part, logprobs)
        if content is not None and items and items[-1].get("type") == "message":
            items[-1]["content"].append(content)
        elif content is not None:
            items.append(_message(f"msg_{stem}_{len(items)}", [content], status))
        else:
            items.extend(_item(part, stem, len(items), request))
        if isinstance(part, Text):
            logprobs = []
    return items


def _content(part: OutputPart, logprobs: list[Any]) -> Json | None:
    if isinstance(part, Text):
        citations = part.citations if part.origin == NAME and part.citations else []
        return _text(part.text, citations, logprobs)
    if isinstance(part, Refusal):
        return {"type": "refusal", "refusal": part.text}
    return None


def _text(text: str, annotations: list[Any], logprobs: list[Any]) -> Json:
    return {"type": "output_text", "text": text, "annotations": annotations, "logprobs": logprobs}


def _message(item_id: str, content: list[Json], status: str) -> Json:
    return {"id": item_id, "type": "message", "status": status, "role": "assistant", "content": content}


def _item(part: OutputPart, stem: str, at: int, request: Request) -> list[Json]:
    if isinstance(part, Thinking):
        if part.redacted is not None:
            sealed = seal(part.redacted, f"{part.origin}{REDACTED}" if part.origin else None, NAME)
        else:
            sealed = seal(part.signature, part.origin, NAME) if part.signature else None
        return [_reasoning_item(_reasoning_id(part.id, stem, at), part.text, sealed)]
    if isinstance(part, ToolCall):
        carrier = _carrier(part.signature, part.origin, stem, at)
        if _is_freeform(part.name, request):
            item_id = f"ctc_{stem}_{at + len(carrier)}"
            said = _freeform_input(part.arguments)
            return [
                *carrier,
                _freeform_item(item_id, part.id, _name(part.name, request), said, "completed"),
            ]
        call = _call_item(
            f"fc_{stem}_{at + len(carrier)}",
            part.id,
            _name(part.name, request),
            part.arguments or "{}",
            "completed",
        )
        return [*carrier, call]
    if isinstance(part, Opaque) and part.origin == NAME:
        return [part.value]
    # Another vendor's own block answers a tool that only a caller of that dialect can have named.
    return []


def _carrier(signature: str | None, origin: str | None, stem: str, at: int) -> list[Json]:
    """A function call has no field for a signature: a reasoning item before it carries it back to us."""
    sealed = seal(signature, f"{origin}{OF_CALL}", NAME) if signature and origin else None
    return [_reasoning_item(f"rs_{stem}_{at}", "", sealed)] if sealed else []


def _reasoning_id(given: str | None, stem: str, at: int) -> str:
    return given if given and given.startswith("rs_") else f"rs_{stem}_{at}"


def _reasoning_item(item_id: str, text: str, sealed: str | None) -> Json:
    summary = [{"type": "summary_text", "text": text}] if text else []
    item: Json = {"id": item_id, "type": "reasoning", "summary": summary}
    if sealed:
        item["encrypted_content"] = sealed
    return item


def _name(name: str, request: Request) -> Json:
    """The namespace again apart from the name, where the caller declared one (Codex CLI groups its tools so)."""
    for tool in request.tools:
        if isinstance(tool, Tool) and tool.namespace and tool.name == name:
            space = tool.namespace
            return {"name": name.removeprefix(space + NAMESPACE_MARK), "namespace": space}
    return {"name": name}


def _call_item(item_id: str, call_id: str, name: Json, arguments: str, status: str) -> Json:
    return {
        "id": item_id,
        "type": "function_call",
        "status": status,
        "call_id": call_id,
        **name,
        "arguments": arguments,
    }


def _is_freeform(name: str, request: Request) -> bool:
    return any(isinstance(tool, Tool) and tool.freeform and tool.name == name for tool in request.tools)


def _freeform_input(arguments: str) -> str:
    """The text that a tool of plain text is called with; what is no such call is given as it is."""
    try:
        said = msgspec.json.decode(arguments or "{}")
    except BROKEN_JSON:
        return arguments
    if not isinstance(said, dict):
        return arguments
    text = said.get("input", next(iter(said.values()), "") if len(said) < 2 else None)
    return text if isinstance(text, str) else arguments


def _freeform_item(item_id: str, call_id: str, name: Json, said: str, status: str) -> Json:
    return {
        "id": item_id,
        "type": "custom_tool_call",
        "status": status,
        "call_id": call_id,
        **name,
        "input": said,
    }


def _stem(response_id: str) -> str:
    return _PREFIX.sub("", response_id)


# errors ---------------------------------------------------------------------------------------------------------------

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
}


def error_object(fault: Fault, request_id: str) -> Json:
    error: Json = {
        "message": fault.message,
        "type": _TYPES.get(fault.status, "server_error"),
        "param": fault.param,
        "code": fault.code,
        "request_id": request_id,
    }
    if fault.details:
        error["details"] = fault.details
    return error


def encode_error(fault: Fault, request_id: str) -> bytes:
    return to_json({"error": error_object(fault, request_id)})


# stream ---------------------------------------------------------------------------------------------------------------


class _Open(Struct):
    """A block on its way out: one output item."""

    kind: str
    at: int
    item_id: str
    origin: str | None = None
    pieces: list[str] = field(default_factory=list)
    name: str = ""
    call_id: str = ""
    annotations: list[Any] = field(default_factory=list)
    logprobs: list[Any] = field(default_factory=list)
    signature: str = ""
    redacted: str | None = None
    summary_open: bool = False
    freeform: bool = False


class ResponsesStream:
    """Events to typed Responses events, numbered; the terminal event comes with ``finish``."""

    __slots__ = ("_blocks", "_done", "_finish", "_number", "_request", "_shell", "_stem", "_usage")

    def __init__(self, request: Request) -> None:
        self._request = request
        self._shell: Json | None = None
        self._stem = ""
        self._number = 0
        self._blocks: dict[int, _Open] = {}
        self._done: dict[int, Json | None] = {}
        self._finish: Finish | None = None
        self._usage: Usage | None = None

    def encode(self, event: Event) -> bytes:
        if isinstance(event, TextDelta):
            return self._text(event)
        if isinstance(event, ArgumentsDelta):
            return self._arguments(event)
        if isinstance(event, ThinkingDelta):
            return self._thinking(event)
        if isinstance(event, BlockStart):
            return self._open(event) if event.choice == 0 else b""
        if isinstance(event, BlockStop):
            return self._stop(event.index)
        if isinstance(event, Start):
            return self._start(event)
        self._note(event)
        return self._cite(event) if isinstance(event, CitationDelta) else b""

    def _note(self, event: Event) -> None:
        if isinstance(event, UsageReport):
            self._usage = event.usage
        elif isinstance(event, Finish):
            if event.choice == 0:
                self._finish = event
        elif isinstance(event, SignatureDelta) and event.index in self._blocks:
            block = self._blocks[event.index]
            block.signature += event.signature
            block.origin = event.origin or block.origin

    def finish(self) -> bytes:
        if self._finish is None:
            fault = Fault(status=502, code="truncated", message="The answer ended before it was complete.")
            return self.error(fault, "")
        out = b"".join([self._stop(index) for index in list(self._blocks)])
        body = dict(self._shell_or_new())
        body["output"] = self._output()
        _close(body, self._finish.reason, self._usage)
        return out + self._emit(f"response.{body['status']}", {"response": body})

    def error(self, fault: Fault, request_id: str) -> bytes:
        """``response.failed`` for clients that read states, then ``error``, on which the official SDK raises."""
        out = b""
        error = error_object(fault, request_id)
        if self._shell is not None:
            body = dict(self._shell)
            body["output"] = self._output()
            body["status"] = "failed"
            code = "rate_limit_exceeded" if fault.status == 429 else "server_error"
            body["error"] = {"code": code, "message": fault.message}
            out = self._emit("response.failed", {"response": body})
        flat = {"code": fault.code, "message": fault.message, "param": fault.param, "error": error}
        return out + self._emit("error", flat)

    def ping(self) -> bytes:
        return comment(b"ping")

    def _emit(self, kind: str, fields: Json) -> bytes:
        body = {"type": kind, "sequence_number": self._number, **fields}
        self._number += 1
        return frame(to_json(body), kind.encode())

    def _shell_or_new(self) -> Json:
        if self._shell is None:
            self._shell = _shell("resp_", self._request.model, 0, self._request)
        return self._shell

    def _output(self) -> list[Json]:
        return [item for _, item in sorted(self._done.items()) if item is not None]

    def _start(self, event: Start) -> bytes:
        self._shell = _shell(event.id, event.model, event.created, self._request)
        if event.service_tier:
            self._shell["service_tier"] = event.service_tier
        self._stem = _stem(event.id)
        created = self._emit("response.created", {"response": self._shell})
        return created + self._emit("response.in_progress", {"response": self._shell})

    def _open(self, event: BlockStart) -> bytes:
        kind = event.kind
        if kind == "opaque":
            return self._opaque(event)
        out = b""
        if kind == "tool_call":
            for item in _carrier(event.signature, event.origin, self._stem, len(self._done)):
                out += self._whole_item(item)
        at = len(self._done)
        self._done[at] = None
        block = _Open(
            kind, at, self._item_id(event, at), event.origin, call_id=event.id or "", name=event.name or ""
        )
        block.freeform = kind == "tool_call" and _is_freeform(block.name, self._request)
        self._blocks[event.index] = block
        if kind == "thinking" and isinstance(event.value, str):
            block.redacted = event.value
        item = self._item(block, "in_progress")
        out += self._emit("response.output_item.added", {"output_index": at, "item": item})
        if kind in ("text", "refusal"):
            part = self._content_part(block)
            out += self._emit(
                "response.content_part.added", {**self._where(block), "content_index": 0, "part": part}
            )
        return out

    def _item_id(self, event: BlockStart, at: int) -> str:
        if event.kind == "tool_call":
            return f"{'ctc' if _is_freeform(event.name or '', self._request) else 'fc'}_{self._stem}_{at}"
        if event.kind == "thinking":
            return _reasoning_id(event.id, self._stem, at)
        return f"msg_{self._stem}_{at}"

    def _opaque(self, event: BlockStart) -> bytes:
        if event.origin not in (None, NAME) or not isinstance(event.value, dict):
            return b""
        return self._whole_item(event.value)

    def _whole_item(self, item: Json) -> bytes:
        at = len(self._done)
        self._done[at] = item
        added = self._emit("response.output_item.added", {"output_index": at, "item": item})
        return added + self._emit("response.output_item.done", {"output_index": at, "item": item})

    def _where(self, block: _Open) -> Json:
        return {"item_id": block.item_id, "output_index": block.at}

    def _text(self, event: TextDelta) -> bytes:
        block = self._blocks.get(event.index)
        if block is None or not event.text:
            return b""
        block.pieces.append(event.text)
        fields = {**self._where(block), "content_index": 0, "delta": event.text}
        if block.kind == "refusal":
            return self._emit("response.refusal.delta", fields)
        logprobs = logprobs_of(event.logprobs) if event.logprobs else []
        block.logprobs.extend(logprobs)
        return self._emit("response.output_text.delta", {**fields, "logprobs": logprobs})

    def _arguments(self, event: ArgumentsDelta) -> bytes:
        block = self._blocks.get(event.index)
        if block is None or not event.json:
            return b""
        block.pieces.append(event.json)
        if block.freeform:
            return b""  # its text is known once its JSON is whole
        return self._emit(
            "response.function_call_arguments.delta", {**self._where(block), "delta": event.json}
        )

    def _thinking(self, event: ThinkingDelta) -> bytes:
        block = self._blocks.get(event.index)
        if block is None or not event.text:
            return b""
        out = b"" if block.summary_open else self._open_summary(block)
        block.pieces.append(event.text)
        fields = {**self._where(block), "summary_index": 0, "delta": event.text}
        return out + self._emit("response.reasoning_summary_text.delta", fields)

    def _open_summary(self, block: _Open) -> bytes:
        block.summary_open = True
        part = {"type": "summary_text", "text": ""}
        fields = {**self._where(block), "summary_index": 0, "part": part}
        return self._emit("response.reasoning_summary_part.added", fields)

    def _cite(self, event: CitationDelta) -> bytes:
        block = self._blocks.get(event.index)
        if block is None or block.kind != "text" or event.origin != NAME:
            return b""
        fields = {
            **self._where(block),
            "content_index": 0,
            "annotation_index": len(block.annotations),
            "annotation": event.value,
        }
        block.annotations.append(event.value)
        return self._emit("response.output_text.annotation.added", fields)

    def _stop(self, index: int) -> bytes:
        block = self._blocks.pop(index, None)
        if block is None:
            return b""
        out = self._stop_content(block)
        item = self._item(block, "completed")
        self._done[block.at] = item
        return out + self._emit("response.output_item.done", {"output_index": block.at, "item": item})

    def _stop_content(self, block: _Open) -> bytes:
        where = self._where(block)
        text = "".join(block.pieces)
        if block.freeform:
            said = _freeform_input(text)
            delta = self._emit("response.custom_tool_call_input.delta", {**where, "delta": said})
            return delta + self._emit("response.custom_tool_call_input.done", {**where, "input": said})
        if block.kind == "tool_call":
            name = _name(block.name, self._request)["name"]
            fields = {**where, "name": name, "arguments": text or "{}"}
            return self._emit("response.function_call_arguments.done", fields)
        if block.kind == "thinking":
            return self._stop_summary(where, text) if block.summary_open else b""
        where["content_index"] = 0
        if block.kind == "refusal":
            out = self._emit("response.refusal.done", {**where, "refusal": text})
        else:
            out = self._emit("response.output_text.done", {**where, "text": text, "logprobs": block.logprobs})
        return out + self._emit("response.content_part.done", {**where, "part": self._content_part(block)})

    def _stop_summary(self, where: Json, text: str) -> bytes:
        where["summary_index"] = 0
        done = self._emit("response.reasoning_summary_text.done", {**where, "text": text})
        part = {"type": "summary_text", "text": text}
        return done + self._emit("response.reasoning_summary_part.done", {**where, "part": part})

    def _content_part(self, block: _Open) -> Json:
        text = "".join(block.pieces)
        if block.kind == "refusal":
            return {"type": "refusal", "refusal": text}
        return _text(text, block.annotations, block.logprobs)

    def _item(self, block: _Open, status: str) -> Json:
        text = "".join(block.pieces)
        if block.freeform:
            said = _freeform_input(text) if status == "completed" else ""
            name = _name(block.name, self._request)
            return _freeform_item(block.item_id, block.call_id, name, said, status)
        if block.kind == "tool_call":
            arguments = text or ("{}" if status == "completed" else "")
            name = _name(block.name, self._request)
            return _call_item(block.item_id, block.call_id, name, arguments, status)
        if block.kind == "thinking":
            return _reasoning_item(block.item_id, text, self._sealed(block))
        content = [] if status == "in_progress" else [self._content_part(block)]
        return _message(block.item_id, content, status)

    def _sealed(self, block: _Open) -> str | None:
        if block.redacted is not None:
            return seal(block.redacted, f"{block.origin}{REDACTED}" if block.origin else None, NAME)
        return seal(block.signature, block.origin, NAME) if block.signature else None
