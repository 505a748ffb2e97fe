"""The first look at a Chat Completions body: a few fields decoded, the rest kept as bytes."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec
from msgspec import Raw

from tieline.dialects.base import Outgoing, Peek, Quirks, Target
from tieline.dialects.openai_chat.partial import (
    READ_FORMAT,
    READ_MESSAGES,
    READ_PLAIN_BODY,
    READ_STREAM_OPTIONS,
    READ_TOOLS,
    READ_TURN_PARTS,
    READ_TURNS,
    Tool,
    Turn,
    Typed,
)
from tieline.dialects.openai_chat.wire import path_of
from tieline.dialects.reading import ANY, BOOL, INT, STR, Fields, given, read, refuse, top_level
from tieline.dialects.routing_fields import ROUTING, take_routing
from tieline.dialects.seen import Plain
from tieline.dialects.turns import fitting_id
from tieline.types.call import Call
from tieline.types.errors import InvalidRequest, Unsupported

_MEDIA_MARKS = (
    b'"image_url"',
    b'"input_audio"',
    b'"file"',
    b'"tool_use"',
    b'"tool_result"',
    b'"input_image"',
    b'"input_text"',
    b'"source"',
)
_BASE64_RUN = re.compile(rb"[A-Za-z0-9+/=]{1024,}")
CHARS_PER_MEDIUM = 6000
"""A picture or page counts as about 1,500 tokens before sending (vendors say 85 to 3,000)."""
_TRUE = Raw(b"true")
_EMPTY_LIST = Raw(b"[]")
_NULL = Raw(b"null")
_REQUIRED = Raw(b'"required"')
_DEVELOPER = Raw(b'"developer"')


_RAW_OBJECT = msgspec.json.Decoder(dict[str, Raw])
_RAW_OBJECTS = msgspec.json.Decoder(list[dict[str, Raw]])
_ASKING = frozenset(
    (
        "tools",
        "functions",
        "response_format",
        "reasoning_effort",
        "reasoning",
        "thinking",
        "logprobs",
        "web_search_options",
    )
)
_OF_PART = {
    "image_url": "images",
    "input_image": "images",
    "file": "pdf",
    "input_audio": "audio",
}


_CALLS = "Send this body to /v1/messages, or use `tool_calls` and messages with role `tool`."
_PICTURE = "Send this body to /v1/messages, or use parts of type `image_url` and `file`."
_OTHER_PARTS = {
    "tool_use": ("Anthropic's Messages API", _CALLS),
    "tool_result": ("Anthropic's Messages API", _CALLS),
    "image": ("Anthropic's Messages API", _PICTURE),
    "document": ("Anthropic's Messages API", _PICTURE),
    "input_text": ("the Responses API", "Send this body to /v1/responses, or use parts of type `text`."),
    "input_image": (
        "the Responses API",
        "Send this body to /v1/responses, or use parts of type `image_url`.",
    ),
}


_MODEL: Final = b'"model"'
_ESCAPED: Final = b"\\u006"
"""How its letters begin where they are escaped: what holds it may have a second ``model`` that is not seen."""
_MESSAGES: Final = b'"messages"'
_QUOTE: Final = 0x22
_COLON: Final = 0x3A
_NOTHING: Final[frozenset[str]] = frozenset()
_NEWER: Final = "max_completion_tokens"
_OLDER: Final = "max_tokens"
_RESULT_ID = re.compile(rb'"tool_call_id"\s*:\s*"((?:[^"\\]|\\.)*)"')
_read_body: Final = READ_PLAIN_BODY.decode
_encode: Final = msgspec.json.Encoder().encode


def peek(call: Call) -> Peek:
    return _plain(call.body) or _look_closely(call)


def _plain(body: bytes) -> Peek | None:
    """None when the body needs a closer look, or is wrong in some way that only that can explain."""
    try:
        plain = _read_body(body)
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError):
        return None
    model, turns = plain.model, plain.messages
    start = body.find(_MODEL)
    if not model or not turns or start < 0 or body.find(_MODEL, start + len(_MODEL)) >= 0:
        return None
    if body.find(_ESCAPED) >= 0:
        return None
    role, developer = "", False
    for turn in turns:
        role = turn.role
        developer = developer or role == "developer"
    newer, older = plain.max_completion_tokens, plain.max_tokens
    if role == "assistant" or (newer is not None and newer < 1) or (older is not None and older < 1):
        return None
    if newer is not None and older is not None:
        return None
    stream, user = plain.stream, plain.user
    options = plain.stream_options if stream else None
    bracketed = user is not None or plain.stop is not None or "]" in model
    return Peek(
        model=model,
        stream=stream,
        include_usage=bool(options is not None and options.include_usage),
        max_output_tokens=older if newer is None else newer,
        user=user,
        features=_NOTHING,
        input_chars=_size_of_messages(body, bracketed),
        plain=Plain(
            body,
            start,
            _end_of_model(body, start, model.encode()),
            developer,
            _NEWER if newer is not None else "" if older is None else _OLDER,
        ),
    )


def _size_of_messages(body: bytes, bracketed: bool) -> int:
    """Of that field as it came. ``bracketed``: another one may hold a bracket; else the last bracket is its end."""
    start = -1 if bracketed else body.find(_MESSAGES)
    at = -1 if start < 0 else _after_blanks(body, start + len(_MESSAGES))
    if at < 0 or body[at] != _COLON:
        return memoryview(READ_MESSAGES.decode(body).messages).nbytes
    return body.rfind(b"]") + 1 - _after_blanks(body, at + 1)


def _end_of_model(body: bytes, start: int, model: bytes) -> int:
    """Where the field ends that begins at ``start``; 0 when it does not say ``model`` in so many letters.

    In a plain body ``"model"`` stands once: within a string its quotes would be escaped, so a colon makes it the field.
    """
    at = _after_blanks(body, start + len(_MODEL))
    if body[at] != _COLON:
        return 0
    at = _after_blanks(body, at + 1) + 1
    end = at + len(model)
    return end + 1 if body[at:end] == model and body[end] == _QUOTE else 0


def _after_blanks(body: bytes, at: int) -> int:
    while True:
        byte = body[at]
        if byte != 0x20 and byte != 0x0A and byte != 0x0D and byte != 0x09:
            return at
        at += 1


def fields_of(peek: Peek) -> Fields:
    if peek.plain is not None and not peek.fields:
        peek.fields = top_level(peek.plain.body)
    return peek.fields


def _look_closely(call: Call) -> Peek:
    fields = top_level(call.body)
    _refuse_other_apis(fields)
    roles = _turns(fields)
    seen = Peek(
        model=_model(fields),
        stream=read(fields, "stream", BOOL) or False,
        max_output_tokens=_limit(fields),
        n=_at_least_one(fields, "n") or 1,
        user=read(fields, "user", STR),
    )
    if seen.stream:
        asked = read(fields, "stream_options", READ_STREAM_OPTIONS)
        seen.include_usage = bool(asked and asked.include_usage)
    seen.features, media = _features(call.body, fields, seen.n, roles[-1].role)
    seen.input_chars = _input_chars(fields, media)
    if not ROUTING.isdisjoint(fields):
        take_routing(fields, seen)
    seen.fields = fields
    return seen


def forward(call: Call, peek: Peek, target: Target) -> Outgoing:
    """The caller's body with the target's model name and, in streams, usage asked for; what the host calls by another name."""
    quirks = target.quirks
    plain = peek.plain
    if plain is not None and plain.end and not quirks.rejects and quirks.seed_field == "seed":
        body = _exchanged(plain, peek, target)
        if body is not None:
            return Outgoing(path=path_of(target), body=body)
    fields = dict(fields_of(peek))
    fields["model"] = Raw(msgspec.json.encode(target.model))
    if "user" in quirks.rejects:
        # Who the end user is changes no answer: not telling is the more private choice.
        fields.pop("user", None)
    for name in quirks.rejects:
        if given(fields, name):
            raise Unsupported(f"`{name}` is rejected by {target.provider}.", param=name)
    _rename(fields, quirks)
    if peek.stream and quirks.stream_usage and not peek.include_usage:
        fields["stream_options"] = _with_usage(fields)
    if fields.get("tools") == _EMPTY_LIST and not quirks.empty_tools:
        del fields["tools"]
        fields.pop("tool_choice", None)
    if not quirks.developer_role and b'"developer"' in bytes(fields["messages"]):
        fields["messages"] = _without_developer(fields["messages"])
    return Outgoing(path=path_of(target), body=msgspec.json.encode(fields))


def _exchanged(plain: Plain, peek: Peek, target: Target) -> bytes | None:
    """A plain body with another model; None where it is not that simple."""
    body, quirks = plain.body, target.quirks
    if plain.developer and not quirks.developer_role:
        return None
    rest = body[plain.end :]
    if peek.stream and not peek.include_usage and quirks.stream_usage:
        if b'"stream_options"' in body:
            return None
        rest = rest.rstrip()[:-1] + b',"stream_options":{"include_usage":true}}'
    made = b'%b"model":%b%b' % (body[: plain.start], _encode(target.model), rest)
    if quirks.one_limit and plain.limit and plain.limit != quirks.max_tokens_field:
        return _limit_renamed(made, plain.limit, quirks.max_tokens_field)
    return made


def _limit_renamed(body: bytes, name: str, other: str) -> bytes | None:
    """None where it cannot be told from a text that says the same, or both are there."""
    said = f'"{name}"'.encode()
    start = body.find(said)
    end = start + len(said)
    if start < 0 or body.find(said, end) >= 0 or body[_after_blanks(body, end)] != _COLON:
        return None
    if f'"{other}"'.encode() in body:
        return None
    return b'%b"%b"%b' % (body[:start], other.encode(), body[end:])


def _rename(fields: Fields, quirks: Quirks) -> None:
    """What this host calls otherwise: it would refuse the request, or answer as if nothing had been asked."""
    limit = quirks.max_tokens_field
    if quirks.one_limit and any(name in fields and name != limit for name in (_NEWER, _OLDER)):
        newer, older = fields.pop(_NEWER, _NULL), fields.pop(_OLDER, _NULL)
        fields[limit] = older if newer == _NULL else newer
    if quirks.seed_field != "seed" and "seed" in fields:
        fields[quirks.seed_field] = fields.pop("seed")
    if quirks.required_word != "required" and fields.get("tool_choice") == _REQUIRED:
        fields["tool_choice"] = Raw(_encode(quirks.required_word))
    if quirks.tool_id_pattern and not _ids_fit(bytes(fields["messages"]), quirks.tool_id_pattern):
        fields["messages"] = _with_fitting_ids(fields["messages"], quirks.tool_id_pattern)


def _ids_fit(messages: bytes, pattern: str) -> bool:
    """Of the results: every call has one."""
    return all(re.fullmatch(pattern, found.decode()) for found in set(_RESULT_ID.findall(messages)))


def _with_fitting_ids(messages: Raw, pattern: str) -> Raw:
    turns = _RAW_OBJECTS.decode(messages)
    for turn in turns:
        answered = read(turn, "tool_call_id", STR)
        if answered is not None:
            turn["tool_call_id"] = Raw(_encode(fitting_id(answered, pattern)))
        calls = read(turn, "tool_calls", _RAW_OBJECTS)
        for call in calls or ():
            made = read(call, "id", STR)
            if made is not None:
                call["id"] = Raw(_encode(fitting_id(made, pattern)))
        if calls is not None:
            turn["tool_calls"] = Raw(_encode(calls))
    return Raw(_encode(turns))


def _with_usage(fields: Fields) -> Raw:
    options = read(fields, "stream_options", _RAW_OBJECT) or {}
    options["include_usage"] = _TRUE
    return Raw(msgspec.json.encode(options))


def _without_developer(messages: Raw) -> Raw:
    turns = _RAW_OBJECTS.decode(messages)
    for turn in turns:
        if turn.get("role") == _DEVELOPER:
            turn["role"] = Raw(b'"system"')
    return Raw(msgspec.json.encode(turns))


def _refuse_other_apis(fields: Fields) -> None:
    if "anthropic_version" in fields or ("system" in fields and "messages" in fields):
        name = "anthropic_version" if "anthropic_version" in fields else "system"
        raise InvalidRequest(
            f"`{name}` belongs to Anthropic's Messages API.",
            param=name,
            hint="Send this body to /v1/messages, or put the instructions into a message with role `system`.",
        )
    if given(fields, "messages"):
        return
    if "contents" in fields:
        raise InvalidRequest(
            "`contents` belongs to the Gemini API; Chat Completions expects `messages`.",
            param="messages",
            hint="Send this body to /v1beta/models/{model}:generateContent.",
        )
    if "input" in fields:
        raise InvalidRequest(
            "`input` belongs to the Responses API; Chat Completions expects `messages`.",
            param="messages",
            hint="Send this body to /v1/responses.",
        )
    raise InvalidRequest(
        "`messages` is missing: a list of at least one message is expected.", param="messages"
    )


def _turns(fields: Fields) -> list[Turn]:
    turns = read(fields, "messages", READ_TURNS)
    if not turns:
        raise InvalidRequest("`messages` is empty: at least one message is expected.", param="messages")
    return turns


def _model(fields: Fields) -> str:
    model = read(fields, "model", STR)
    if not model:
        raise InvalidRequest("`model` is missing: the name of a model is expected.", param="model")
    return model


def _limit(fields: Fields) -> int | None:
    newer = _at_least_one(fields, "max_completion_tokens")
    return newer if newer is not None else _at_least_one(fields, "max_tokens")


def _at_least_one(fields: Fields, name: str) -> int | None:
    value = read(fields, name, INT)
    if value is not None and value < 1:
        raise InvalidRequest(f"`{name}` must be at least 1, not {value}.", param=name)
    return value


def _features(body: bytes, fields: Fields, n: int, last_role: str) -> tuple[frozenset[str], int]:
    found: set[str] = set()
    media = 0
    if b'"type"' in body and any(mark in body for mark in _MEDIA_MARKS):
        kinds = _part_kinds(fields["messages"])
        found.update(_OF_PART[kind] for kind in kinds if kind in _OF_PART)
        media = sum(kind in _OF_PART for kind in kinds)
    if n > 1:
        found.add("n")
    if last_role == "assistant":
        found.add("prefill")
    if not _ASKING.isdisjoint(fields):
        _asked_features(fields, found)
    return frozenset(found), media


def _asked_features(fields: Fields, found: set[str]) -> None:
    if given(fields, "tools") or given(fields, "functions"):
        _tool_features(fields, found)
    if given(fields, "response_format"):
        wanted = read(fields, "response_format", READ_FORMAT)
        if wanted and wanted.type in ("json_object", "json_schema"):
            found.add(wanted.type)
    if _reasons(fields):
        found.add("reasoning")
    if given(fields, "logprobs") and read(fields, "logprobs", BOOL):
        found.add("logprobs")
    if given(fields, "web_search_options"):
        found.add("server_tools")


def _part_kinds(messages: Raw) -> list[str]:
    try:
        turns = READ_TURN_PARTS.decode(messages)
    except (msgspec.DecodeError, RecursionError) as error:
        refuse(error, "messages")
    kinds = [
        part.type
        for turn in turns
        if isinstance(turn.content, list)
        for part in turn.content
        if isinstance(part, Typed) and part.type
    ]
    for kind in kinds:
        if kind in _OTHER_PARTS:
            whose, hint = _OTHER_PARTS[kind]
            raise InvalidRequest(
                f"Content blocks of type `{kind}` belong to {whose}.", param="messages", hint=hint
            )
    return kinds


def _refuse_other_tools(tools: list[Tool] | tuple[()]) -> None:
    """Definitions in the flat shape of another API."""
    for at, tool in enumerate(tools):
        if tool.type not in (None, "function", "custom") or not isinstance(tool.name, str):
            continue
        if tool.function is not None or tool.custom is not None:
            continue
        if tool.input_schema is None:
            whose, path, name = "the Responses API", "/v1/responses", "name"
        else:
            whose, path, name = "Anthropic's Messages API", "/v1/messages", "input_schema"
        raise InvalidRequest(
            f"`{name}` in `tools[{at}]` belongs to {whose}.",
            param=f"tools[{at}].{name}",
            hint=f"Send this body to {path}, or put name, description and parameters into `function`.",
        )


def _tool_features(fields: Fields, found: set[str]) -> None:
    tools = read(fields, "tools", READ_TOOLS) or ()
    _refuse_other_tools(tools)
    if tools or given(fields, "functions"):
        found.add("tools")
    if any(tool.type not in ("function", "custom", None) for tool in tools):
        found.add("server_tools")
    choice: Any = read(fields, "tool_choice", ANY) or read(fields, "function_call", ANY)
    if isinstance(choice, dict) or choice in ("required", "any"):
        found.add("forced_tool")


def _reasons(fields: Fields) -> bool:
    effort = read(fields, "reasoning_effort", STR)
    if effort is not None:
        return effort != "none"
    for name in ("reasoning", "thinking"):
        wanted: Any = read(fields, name, ANY)
        if isinstance(wanted, dict):
            off = wanted.get("enabled") is False or wanted.get("effort") == "none"
            return not off and wanted.get("type") != "disabled"
    return False


def _input_chars(fields: Fields, media: int) -> int:
    size = len(bytes(fields["messages"]))
    if media:
        raw = bytes(fields["messages"])
        encoded = sum(len(run) for run in _BASE64_RUN.findall(raw))
        size += media * CHARS_PER_MEDIUM - encoded
    for name in ("tools", "functions", "response_format"):
        if name in fields:
            size += len(bytes(fields[name]))
    return size
