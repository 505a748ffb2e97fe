"""OpenAI's legacy Completions API, downstream and upstream: a prompt goes on as text.

A host that offers `/completions` gets the body as it came. Any other gets the prompt as one user message, and its answer
comes back as text; what only a text completion can do (several prompts, token numbers, `echo`, `suffix`) is refused there.
"""

from __future__ import annotations

from typing import Any, NoReturn

import msgspec
from msgspec import Raw, Struct

from tieline.dialects import error_bodies, sse
from tieline.dialects.base import (
    Frame,
    Garbled,
    Glance,
    Mould,
    Outgoing,
    Peek,
    Splitter,
    StreamDecoder,
    StreamEncoder,
    StreamFault,
    Target,
    Truncated,
)
from tieline.dialects.error_bodies import info_of_value, status_of
from tieline.dialects.fields import value_of
from tieline.dialects.openai_chat.reading import created_of, finish_of, usage_of, wire_usage
from tieline.dialects.openai_chat.response import encode_error, error_object
from tieline.dialects.reading import ANY, BOOL, INT, STR, Fields, given, read, refuse, top_level
from tieline.dialects.routing_fields import ROUTING, take_routing
from tieline.dialects.unmapped import left_over
from tieline.types.call import Call, Headers
from tieline.types.errors import ErrorInfo, Fault, InvalidRequest, Unsupported
from tieline.types.events import BlockStart, BlockStop, Event, Finish, Start, TextDelta, UsageReport
from tieline.types.request import Message, Request, Text
from tieline.types.response import Choice, Response
from tieline.types.usage import Usage

NAME = "openai_completions"
PATH = "/completions"
DEFAULT_MAX_TOKENS = 16
"""What the API reference says `max_tokens` is when nothing is said (platform.openai.com, Completions)."""
_SENT = ("temperature", "top_p", "frequency_penalty", "presence_penalty", "logit_bias", "seed", "user")


def _prompts(fields: Fields) -> int:
    """How many answers are asked for, so that all of them are held for; a list of numbers is one prompt."""
    raw = bytes(fields["prompt"]).lstrip()
    if not raw.startswith(b"["):
        return 1
    listed = read(fields, "prompt", _LIST)
    return len(listed) if listed and not all(isinstance(one, int) for one in listed) else 1


class _StreamOptions(Struct):
    include_usage: bool | None = None


class _Body(Struct):
    prompt: Any = None
    best_of: int | None = None
    echo: bool | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    max_tokens: int | None = None
    n: int | None = None
    presence_penalty: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    stream: bool | None = None
    stream_options: Any = None
    temperature: float | None = None
    top_p: float | None = None
    user: str | None = None
    model: str | None = None


class _WireChoice(Struct):
    text: str | None = None
    index: int | None = None
    finish_reason: str | None = None


class _Wire(Struct):
    """A chunk of a stream, or a whole answer."""

    id: str | int | None = None
    created: Any = None
    model: str | None = None
    choices: list[_WireChoice] | None = None
    usage: Any = None
    error: Any = None
    object: str | None = None


_BODY = msgspec.json.Decoder(_Body)
_STREAM_OPTIONS = msgspec.json.Decoder(_StreamOptions)
_RAW_OBJECT = msgspec.json.Decoder(dict[str, Raw])
_WIRE = msgspec.json.Decoder(_Wire)
_LIST = msgspec.json.Decoder(list[Any])


class OpenAICompletions:
    """The seam's two sides (``dialects.base.Dialect``)."""

    name = NAME
    media_type = sse.MEDIA_TYPE
    terminator = sse.DONE
    comments = True

    def peek(self, call: Call) -> Peek:
        fields = top_level(call.body)
        _refuse_other_apis(fields)
        model = read(fields, "model", STR)
        if not model:
            raise InvalidRequest("`model` is missing: the name of a model is expected.", param="model")
        limit = read(fields, "max_tokens", INT)
        options = read(fields, "stream_options", _STREAM_OPTIONS)
        seen = Peek(
            model=model,
            stream=read(fields, "stream", BOOL) or False,
            include_usage=bool(options and options.include_usage),
            max_output_tokens=DEFAULT_MAX_TOKENS if limit is None else limit,
            n=max(1, read(fields, "best_of", INT) or read(fields, "n", INT) or 1),
            user=read(fields, "user", STR),
            input_chars=len(bytes(fields["prompt"])),
        )
        if seen.n > 1:
            seen.features = frozenset(("n",))
        seen.n *= _prompts(fields)
        if not ROUTING.isdisjoint(fields):
            take_routing(fields, seen)
        seen.fields = fields
        return seen

    def decode_request(self, call: Call, peek: Peek) -> Request:
        try:
            body = _BODY.decode(msgspec.json.encode(peek.fields))
        except (msgspec.DecodeError, RecursionError) as error:
            refuse(error)
        known = _Body.__struct_fields__
        unmapped = {
            name: value_of(raw, name)
            for name, raw in peek.fields.items()
            if name not in known and given(peek.fields, name)
        }
        request = Request(
            model=peek.model,
            messages=[],
            max_output_tokens=peek.max_output_tokens,
            stop=[body.stop] if isinstance(body.stop, str) else body.stop or [],
            n=body.n or 1,
            stream=peek.stream,
            include_usage=peek.include_usage,
            unmapped=unmapped,
            origin=NAME,
        )
        for name in _SENT:
            setattr(request, name, getattr(body, name))
        if body.echo:
            unmapped["echo"] = True
        if body.best_of is not None and body.best_of != request.n:
            unmapped["best_of"] = body.best_of
        _take_prompt(body.prompt, request)
        return request

    def encode_response(self, response: Response, request: Request) -> bytes:
        body: dict[str, Any] = {
            "id": response.id,
            "object": "text_completion",
            "created": response.created,
            "model": response.model,
            "choices": [_wire_choice(each, place) for place, each in enumerate(response.choices)],
        }
        if response.usage is not None:
            body["usage"] = wire_usage(response.usage)
        return msgspec.json.encode(body)

    def stream_encoder(self, request: Request) -> StreamEncoder:
        return Encoder(request)

    def encode_error(self, fault: Fault, request_id: str) -> bytes:
        return encode_error(fault, request_id)

    def encode_request(self, request: Request, target: Target) -> Outgoing:
        left_over(request, NAME)
        body: dict[str, Any] = {
            "model": target.model,
            "prompt": _prompt_of(request, target),
            "max_tokens": request.max_output_tokens,
            "stop": request.stop or None,
            "n": request.n if request.n > 1 else None,
            "stream": request.stream or None,
            "stream_options": {"include_usage": True}
            if request.stream and target.quirks.stream_usage
            else None,
        }
        body |= {name: getattr(request, name) for name in _SENT}
        kept = {name: value for name, value in body.items() if value is not None}
        return Outgoing(path=PATH, body=msgspec.json.encode(kept))

    def forward(self, call: Call, peek: Peek, target: Target) -> Outgoing:
        """The caller's body with the target's model name and, in streams, usage asked for."""
        fields = dict(peek.fields)
        fields["model"] = Raw(msgspec.json.encode(target.model))
        for name in target.quirks.rejects:
            if given(fields, name):
                raise Unsupported(f"`{name}` is rejected by {target.provider}.", param=name)
        if peek.stream and target.quirks.stream_usage and not peek.include_usage:
            options = read(fields, "stream_options", _RAW_OBJECT) or {}
            options["include_usage"] = Raw(b"true")
            fields["stream_options"] = Raw(msgspec.json.encode(options))
        return Outgoing(path=PATH, body=msgspec.json.encode(fields))

    def splitter(self) -> Splitter:
        return sse.SseSplitter()

    def stream_decoder(self) -> StreamDecoder:
        return Decoder()

    def decode_response(self, body: bytes) -> Response:
        wire = _read_whole(body)
        choices = [_choice(each) for each in sorted(wire.choices or (), key=lambda each: each.index or 0)]
        return Response(
            id=str(wire.id or ""),
            model=wire.model or "",
            created=created_of(wire.created),
            choices=choices,
            usage=usage_of(wire.usage),
        )

    def glance(self, body: bytes) -> Glance:
        wire = _read_whole(body)
        reasons = [choice.finish_reason for choice in wire.choices or ()]
        return Glance(
            id=str(wire.id) if wire.id else None,
            model=wire.model,
            usage=usage_of(wire.usage),
            finish_reason=reasons[0] if reasons and all(reasons) else None,
            output_chars=sum(len(choice.text or "") for choice in wire.choices or ()),
        )

    def decode_error(self, status: int, headers: Headers, body: bytes) -> ErrorInfo:
        return error_bodies.info_of_body(headers, body)

    def mould(self, frame: bytes) -> Mould | None:
        return None

    def hides(self, frame: Frame, peek: Peek) -> bool:
        """WIRE_FACTS 3: usage was asked for by us; callers who did not ask are not shown it."""
        if peek.include_usage or b'"usage"' not in frame.data:
            return False
        try:
            wire = _read(frame.data)
        except Garbled:
            return False
        return not wire.choices and bool(wire.usage) and not wire.error


OPENAI_COMPLETIONS = OpenAICompletions()


# requests -------------------------------------------------------------------------------------------------------------


def _refuse_other_apis(fields: Fields) -> None:
    if given(fields, "prompt"):
        return
    if "messages" in fields:
        raise InvalidRequest(
            "`messages` belongs to Chat Completions; Completions expects `prompt`.",
            param="prompt",
            hint="Send this body to /v1/chat/completions.",
        )
    raise InvalidRequest("`prompt` is missing: a text is expected.", param="prompt")


def _take_prompt(prompt: Any, request: Request) -> None:
    """One text becomes the user's message; what only a host of this API can do stays ``unmapped``, so others refuse it."""
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str):
        prompt = prompt[0]
    if isinstance(prompt, str):
        request.messages = [Message(role="user", parts=[Text(prompt)])]
    elif isinstance(prompt, list) and prompt and all(isinstance(each, str | int | list) for each in prompt):
        request.unmapped["prompt"] = prompt
    else:
        _wrong_prompt()


def _wrong_prompt() -> NoReturn:
    raise InvalidRequest(
        "`prompt` must be a text, an array of texts, or arrays of token numbers.", param="prompt"
    )


def _prompt_of(request: Request, target: Target) -> str:
    """Only a request that is one text can be a prompt: roles, tools and pictures have no place in it."""
    for name in ("tools", "response_format", "reasoning", "top_k", "min_p", "logprobs", "metadata"):
        if getattr(request, name):
            raise Unsupported(
                f"`{name}`: {target.provider} ({target.model}) only completes text.",
                param=name,
                hint="Choose a model that chats.",
            )
    parts = request.messages[0].parts if len(request.messages) == 1 else []
    if request.messages[0].role != "user" or len(parts) != 1 or not isinstance(parts[0], Text):
        raise Unsupported(
            f"`messages`: {target.provider} ({target.model}) only completes one text.",
            param="messages",
            hint="Choose a model that chats.",
        )
    return parts[0].text


# answers --------------------------------------------------------------------------------------------------------------


def _read(data: bytes) -> _Wire:
    try:
        return _WIRE.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        carries = b'"text"' in data or b'"choices"' in data
        raise Garbled(f"not a completion: {error}", carries_content=carries) from None


def _raise_failure(wire: _Wire, data: bytes) -> None:
    if wire.error or wire.object == "error":
        info = info_of_value(ANY.decode(data))
        raise StreamFault(info, status_of(info))


def _read_whole(body: bytes) -> _Wire:
    wire = _read(body)
    _raise_failure(wire, body)
    if not wire.choices:
        raise Garbled("the answer has no choices")
    return wire


def _choice(choice: _WireChoice) -> Choice:
    native = choice.finish_reason or ""
    return Choice([Text(choice.text or "")], finish_of(native, False), native)


def _wire_choice(choice: Choice, index: int) -> dict[str, Any]:
    text = "".join(part.text for part in choice.parts if isinstance(part, Text))
    return {"text": text, "index": index, "logprobs": None, "finish_reason": _reason(choice.finish_reason)}


def _reason(reason: str) -> str:
    return "stop" if reason == "tool_calls" else reason


class Decoder:
    """One text block for each choice."""

    __slots__ = ("_blocks", "_native", "_started", "complete", "ended")

    unsaid = False

    def __init__(self) -> None:
        self.complete = False
        self.ended = False
        self._started = False
        self._blocks: dict[int, int] = {}
        self._native: dict[int, str] = {}

    def decode(self, frame: Frame) -> list[Event]:
        data = frame.data
        if not data:
            return []
        if data[:6] == b"[DONE]":
            if not self.complete:
                raise Truncated("its stream ended without a finish reason")
            self.ended = True
            return self._close()
        wire = _read(data)
        _raise_failure(wire, data)
        events: list[Event] = []
        if not self._started and (wire.choices or wire.usage):
            self._started = True
            events.append(Start(str(wire.id or ""), wire.model or "", created_of(wire.created)))
        for choice in wire.choices or ():
            self._choice(choice, events)
        if wire.choices:
            self.complete = len(self._native) == len(self._blocks)
        usage = usage_of(wire.usage)
        if usage is not None and (usage.input_tokens or usage.output_tokens):
            events.append(UsageReport(usage))
        return events

    def finish(self) -> list[Event]:
        if not self.complete:
            raise Truncated("the stream ended without a finish reason")
        return self._close()

    def _choice(self, choice: _WireChoice, events: list[Event]) -> None:
        number = choice.index or 0
        block = self._blocks.get(number)
        if block is None:
            block = self._blocks[number] = len(self._blocks)
            events.append(BlockStart(block, "text", choice=number))
        if choice.text:
            events.append(TextDelta(block, choice.text))
        if choice.finish_reason:
            self._native[number] = choice.finish_reason

    def _close(self) -> list[Event]:
        events: list[Event] = []
        for number, native in self._native.items():
            events.append(BlockStop(self._blocks[number]))
            events.append(Finish(finish_of(native, False), native, choice=number))
        self._native = {}
        return events


class Encoder:
    """Text only; thinking and calls have no place in this API."""

    __slots__ = ("_blocks", "_head", "_include_usage", "_usage")

    def __init__(self, request: Request) -> None:
        self._include_usage = request.include_usage
        self._head: dict[str, Any] = {}
        self._blocks: dict[int, BlockStart] = {}
        self._usage: Usage | None = None

    def encode(self, event: Event) -> bytes:
        if isinstance(event, TextDelta):
            block = self._blocks[event.index]
            return self._chunk([self._choice(block.choice, event.text, None)])
        if isinstance(event, Start):
            self._head = {
                "id": event.id,
                "object": "text_completion",
                "created": event.created,
                "model": event.model,
            }
        elif isinstance(event, BlockStart):
            self._blocks[event.index] = event
        elif isinstance(event, UsageReport):
            self._usage = event.usage
        elif isinstance(event, Finish):
            return self._chunk([self._choice(event.choice, "", _reason(event.reason))])
        return b""

    def finish(self) -> bytes:
        if not self._include_usage or self._usage is None:
            return sse.DONE
        return self._chunk([], usage=wire_usage(self._usage)) + sse.DONE

    def error(self, fault: Fault, request_id: str) -> bytes:
        return sse.frame(msgspec.json.encode({"error": error_object(fault, request_id)}))

    def ping(self) -> bytes:
        return sse.comment(b"keep-alive")

    def _chunk(self, choices: list[dict[str, Any]], **more: Any) -> bytes:
        return sse.frame(msgspec.json.encode(self._head | {"choices": choices} | more))

    def _choice(self, index: int, text: str, reason: str | None) -> dict[str, Any]:
        return {"text": text, "index": index, "logprobs": None, "finish_reason": reason}
