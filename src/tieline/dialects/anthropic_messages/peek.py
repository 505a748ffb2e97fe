"""The first look at a Messages body: a few fields decoded, the rest kept as bytes."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import Raw, Struct

from tieline.dialects.anthropic_messages.wire import VERSION, WireBlock, is_foreign, path_of, rates_of
from tieline.dialects.base import Outgoing, Peek, Quirks, Target
from tieline.dialects.reading import BOOL, INT, STR, Fields, given, read, refuse, top_level
from tieline.dialects.routing_fields import ROUTING, take_routing
from tieline.types.call import Call, Headers
from tieline.types.errors import InvalidRequest, Unsupported

_MEDIA_MARKS = (b'"image"', b'"document"', b'"search_result"', b'"image_url"')
_FOREIGN_MARKS = (b'"tieline:', b'"signature":""', b'"signature": ""')
_DATE = re.compile(r"-20\d\d-\d\d-\d\d\Z")
_BASE64_RUN = re.compile(rb"[A-Za-z0-9+/=]{1024,}")
CHARS_PER_MEDIUM = 6000
"""A picture or page counts as about 1,500 tokens before sending."""
CHARS_PER_TOKEN = 3.6
MAX_USES = 10_000
"""Beyond it a limit is none."""
_OPENAI_FIELDS = ("response_format", "max_completion_tokens", "stream_options", "functions")


class _Turn(Struct):
    role: str


class _Typed(Struct):
    type: str | None = None
    content: Any = None


class _TurnParts(Struct):
    role: str
    content: str | list[str | _Typed | None] | None = None


class _Replayed(Struct):
    role: str
    content: Raw = Raw(b"null")


class _Choice(Struct):
    type: str | None = None


class _Metadata(Struct):
    user_id: str | None = None


class _OutputConfig(Struct):
    format: Any = None


class _Tool(Struct):
    type: str | None = None
    max_uses: Any = None


_TURNS = msgspec.json.Decoder(list[_Turn])
_TURN_PARTS = msgspec.json.Decoder(list[_TurnParts])
_REPLAYED = msgspec.json.Decoder(list[_Replayed])
_BLOCKS = msgspec.json.Decoder(list[Raw])
_BLOCK = msgspec.json.Decoder(WireBlock)
_CHOICE = msgspec.json.Decoder(_Choice)
_METADATA = msgspec.json.Decoder(_Metadata)
_OUTPUT_CONFIG = msgspec.json.Decoder(_OutputConfig)
_TOOLS = msgspec.json.Decoder(list[_Tool])
_OF_BLOCK = {"image": "images", "document": "pdf"}


def peek(call: Call) -> Peek:
    fields = top_level(call.body)
    _refuse_other_apis(fields)
    turns = _turns(fields)
    metadata = read(fields, "metadata", _METADATA)
    seen = Peek(
        model=_model(fields),
        stream=read(fields, "stream", BOOL) or False,
        include_usage=True,
        max_output_tokens=_limit(fields),
        user=metadata.user_id if metadata else None,
    )
    if "speed" in fields or "inference_geo" in fields:
        seen.extras = rates_of(_word(fields, "speed"), _word(fields, "inference_geo"))
    seen.features, media = _features(call.body, fields, turns[-1].role, seen)
    seen.input_chars = _input_chars(fields, media)
    if not ROUTING.isdisjoint(fields):
        take_routing(fields, seen)
    seen.fields = fields
    return seen


def forward(call: Call, peek: Peek, target: Target) -> Outgoing:
    """The caller's body with the target's model name; version and betas as the caller sent them."""
    fields = dict(peek.fields)
    fields["model"] = Raw(msgspec.json.encode(target.model))
    for name in target.quirks.rejects:
        if given(fields, name):
            raise Unsupported(f"`{name}` is rejected by {target.provider}.", param=name)
    raw = bytes(fields["messages"])
    if any(mark in raw for mark in _FOREIGN_MARKS):
        fields["messages"] = _without_foreign(fields["messages"])
    if target.quirks.body_version:
        _version_into_body(fields, call, target)
    return Outgoing(
        path=path_of(target, stream=peek.stream, operation=call.operation),
        body=msgspec.json.encode(fields),
        headers=headers_of(call, target.quirks),
    )


def _version_into_body(fields: Fields, call: Call, target: Target) -> None:
    """Vertex: counting alone names the model in the body, because its path does not."""
    if call.operation != "count_tokens":
        del fields["model"]
    fields["anthropic_version"] = Raw(msgspec.json.encode(target.quirks.body_version))


def headers_of(call: Call, quirks: Quirks) -> Headers:
    betas = allowed_betas(
        [value.decode("latin-1") for name, value in call.headers if name == b"anthropic-beta"], quirks
    )
    headers: Headers = []
    if not quirks.body_version:
        headers.append((b"anthropic-version", call.header(b"anthropic-version") or VERSION))
    if betas:
        headers.append((b"anthropic-beta", ",".join(betas).encode("latin-1")))
    return headers


def allowed_betas(values: list[str], quirks: Quirks) -> list[str]:
    """The caller's betas that this host accepts (WIRE_FACTS 26)."""
    betas = [beta.strip() for value in values for beta in value.split(",") if beta.strip()]
    if quirks.betas is None:
        return betas
    return [beta for beta in betas if beta in quirks.betas or _DATE.sub("", beta) in quirks.betas]


def estimate_tokens(peek: Peek) -> int:
    """For `count_tokens` where the upstream has none; of the text's size, so 10 to 20 % off."""
    return max(1, round(peek.input_chars / CHARS_PER_TOKEN))


def _without_foreign(messages: Raw) -> Raw:
    # Thinking that came from another vendor through us bears no signature of Anthropic's (WIRE_FACTS 21).
    turns = _REPLAYED.decode(messages)
    kept = []
    for turn in turns:
        content: Any = turn.content
        if bytes(content)[:1] == b"[" and turn.role == "assistant":
            blocks = _BLOCKS.decode(content)
            content = [block for block in blocks if not _foreign(block)]
            if blocks and not content:
                continue
        kept.append({"role": turn.role, "content": content})
    return Raw(msgspec.json.encode(kept))


def _foreign(raw: Raw) -> bool:
    try:
        return is_foreign(_BLOCK.decode(raw))
    except msgspec.DecodeError:
        return False


def _refuse_other_apis(fields: Fields) -> None:
    for name in _OPENAI_FIELDS:
        if given(fields, name):
            raise InvalidRequest(
                f"`{name}` belongs to OpenAI's Chat Completions API.",
                param=name,
                hint="Send this body to /v1/chat/completions.",
            )
    if given(fields, "messages"):
        return
    hint = None
    if "contents" in fields:
        hint = (
            "`contents` belongs to the Gemini API: send this body to /v1beta/models/{model}:generateContent."
        )
    elif "input" in fields:
        hint = "`input` belongs to OpenAI's Responses API: send this body to /v1/responses."
    raise InvalidRequest(
        "`messages` is missing: a list of at least one message is expected.", param="messages", hint=hint
    )


def _turns(fields: Fields) -> list[_Turn]:
    turns = read(fields, "messages", _TURNS)
    if not turns:
        raise InvalidRequest("`messages` is empty: at least one message is expected.", param="messages")
    for place, turn in enumerate(turns):
        if turn.role not in ("user", "assistant", "system"):
            raise InvalidRequest(
                f"`messages[{place}].role` must be user, assistant or system, not `{turn.role}`.",
                param=f"messages[{place}].role",
                hint="Messages with role `tool` or `developer` belong to /v1/chat/completions."
                if turn.role in ("tool", "developer", "function")
                else None,
            )
    return turns


def _model(fields: Fields) -> str:
    model = read(fields, "model", STR)
    if not model:
        raise InvalidRequest("`model` is missing: the name of a model is expected.", param="model")
    return model


def _limit(fields: Fields) -> int | None:
    value = read(fields, "max_tokens", INT)
    if value is not None and value < 0:
        raise InvalidRequest(f"`max_tokens` must not be negative, but is {value}.", param="max_tokens")
    return value


def _word(fields: Fields, name: str) -> str:
    """Of a field that is the upstream's to judge."""
    return bytes(fields.get(name, b"")).strip(b'"').decode("utf-8", "replace")


def _features(body: bytes, fields: Fields, last_role: str, seen: Peek) -> tuple[frozenset[str], int]:
    found: set[str] = set()
    media = 0
    if b'"type"' in body and any(mark in body for mark in _MEDIA_MARKS):
        kinds = _block_kinds(fields["messages"])
        found.update(_OF_BLOCK[kind] for kind in kinds if kind in _OF_BLOCK)
        media = sum(kind in _OF_BLOCK for kind in kinds)
    tools = read(fields, "tools", _TOOLS) or ()
    if tools:
        _tool_features(fields, tools, found, seen)
    config = read(fields, "output_config", _OUTPUT_CONFIG)
    if (config and config.format) or given(fields, "output_format"):
        found.add("json_schema")
    thinking = read(fields, "thinking", _CHOICE)
    if thinking and thinking.type != "disabled":
        found.add("may_reason" if thinking.type == "adaptive" else "reasoning")
    if last_role == "assistant":
        found.add("prefill")
    if given(fields, "mcp_servers") or given(fields, "container"):
        found.add("server_tools")
    return frozenset(found), media


def _tool_features(fields: Fields, tools: list[_Tool], found: set[str], seen: Peek) -> None:
    if any(tool.type == "function" for tool in tools):
        raise InvalidRequest(
            "`tools` of type `function` belong to OpenAI's Chat Completions API.",
            param="tools",
            hint="Send this body to /v1/chat/completions, or give tools as name, description and input_schema.",
        )
    found.add("tools")
    if any(tool.type not in (None, "custom") for tool in tools):
        found.add("server_tools")
        _note_searches(tools, seen)
    choice = read(fields, "tool_choice", _CHOICE)
    if choice and choice.type in ("any", "tool"):
        found.add("forced_tool")


def _note_searches(tools: list[_Tool], seen: Peek) -> None:
    limits = [tool.max_uses for tool in tools if tool.type is not None and tool.type.startswith("web_search")]
    if limits and all(type(limit) is int and 0 < limit <= MAX_USES for limit in limits):
        seen.extras = {**(seen.extras or {}), "web_search": sum(limits)}


def _block_kinds(messages: Raw) -> list[str]:
    try:
        turns = _TURN_PARTS.decode(messages)
    except (msgspec.DecodeError, RecursionError) as error:
        refuse(error, "messages")
    kinds: list[str] = []
    for turn in turns:
        for block in turn.content if isinstance(turn.content, list) else ():
            if isinstance(block, _Typed) and block.type:
                kinds.append(block.type)
                if block.type == "tool_result" and isinstance(block.content, list):
                    kinds += [str(inner.get("type")) for inner in block.content if isinstance(inner, dict)]
    if "image_url" in kinds:
        raise InvalidRequest(
            "Content of type `image_url` belongs to OpenAI's Chat Completions API.",
            param="messages",
            hint="Send this body to /v1/chat/completions, or use blocks of type `image`.",
        )
    return kinds


def _input_chars(fields: Fields, media: int) -> int:
    size = len(bytes(fields["messages"]))
    if media:
        encoded = sum(len(run) for run in _BASE64_RUN.findall(bytes(fields["messages"])))
        size += media * CHARS_PER_MEDIUM - encoded
    for name in ("system", "tools"):
        if name in fields:
            size += len(bytes(fields[name]))
    return size
