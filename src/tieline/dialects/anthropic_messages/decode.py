"""Messages requests as callers send them."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from tieline.dialects.anthropic_messages.wire import NAME, unsealed
from tieline.dialects.base import Peek
from tieline.dialects.cache_marks import cache_mark
from tieline.dialects.fields import value_of
from tieline.dialects.reading import refuse
from tieline.dialects.signatures import OF_CALL
from tieline.dialects.turns import paired
from tieline.types.call import Call
from tieline.types.errors import InvalidRequest
from tieline.types.request import (
    CacheMark,
    Document,
    Image,
    Message,
    Opaque,
    Part,
    Reasoning,
    Request,
    ResponseFormat,
    ServerTool,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)


class _Message(Struct):
    role: str
    content: str | list[Any]


class _Thinking(Struct):
    type: str
    budget_tokens: int | None = None
    display: str | None = None


class _Format(Struct):
    type: str
    schema: dict[str, Any]
    name: str | None = None


class _OutputConfig(Struct):
    effort: str | None = None
    format: _Format | None = None


class _ToolChoice(Struct):
    type: str
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class _Tool(Struct):
    name: str
    input_schema: dict[str, Any]
    description: str | None = None
    strict: bool | None = None
    cache_control: Any = None


class _Metadata(Struct):
    user_id: str | None = None


class _Body(Struct):
    model: str
    messages: list[_Message]
    max_tokens: int | None = None
    system: str | list[Any] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: _ToolChoice | None = None
    thinking: _Thinking | None = None
    output_config: _OutputConfig | None = None
    output_format: _Format | None = None
    stop_sequences: list[str] | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    metadata: _Metadata | None = None
    service_tier: str | None = None
    stream: bool | None = None


_BODY = msgspec.json.Decoder(_Body)
_KNOWN = frozenset(_Body.__struct_fields__)
_MODES = {"auto": "auto", "any": "required", "tool": "tool", "none": "none"}
_PLAIN_TOOL = {
    "type",
    "name",
    "input_schema",
    "description",
    "strict",
    "cache_control",
    "eager_input_streaming",
}
"""``eager_input_streaming`` (@ai-sdk/anthropic sets it on every streamed request) is a wish for speed."""


def decode_request(call: Call, peek: Peek) -> Request:
    try:
        body = _BODY.decode(msgspec.json.encode(peek.fields))
    except (msgspec.DecodeError, RecursionError) as error:
        refuse(error)
    system = [Message("system", _parts(body.system, "system"))] if body.system else []
    turns = [
        Message(message.role, _parts(message.content, f"messages[{place}].content"))  # type: ignore[arg-type]
        for place, message in enumerate(body.messages)
    ]
    config = body.output_config
    return Request(
        model=peek.model,
        messages=paired(system + turns),
        tools=[_tool(tool, place) for place, tool in enumerate(body.tools or ())],
        tool_choice=_choice(body.tool_choice),
        response_format=_format((config.format if config else None) or body.output_format),
        reasoning=_reasoning(body),
        max_output_tokens=peek.max_output_tokens,
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=body.top_k,
        stop=body.stop_sequences or [],
        user=body.metadata.user_id if body.metadata else None,
        service_tier=body.service_tier,
        stream=peek.stream,
        include_usage=True,
        unmapped=_unmapped(call, peek),
        origin=NAME,
    )


def _unmapped(call: Call, peek: Peek) -> dict[str, Any]:
    found = {}
    for name, raw in peek.fields.items():
        if name not in _KNOWN:
            value = value_of(raw, name)
            if value is not None:
                found[name] = value
    betas = [value.decode("latin-1") for name, value in call.headers if name == b"anthropic-beta"]
    if betas:
        found["anthropic-beta"] = betas
    return found


def _tool(value: dict[str, Any], place: int) -> Tool | ServerTool:
    if value.get("type") not in (None, "custom"):
        return ServerTool(NAME, value)
    try:
        tool = msgspec.convert(value, _Tool)
    except msgspec.ValidationError as error:
        refuse(error, f"tools[{place}]")
    if any(value[name] not in (None, False, []) for name in value.keys() - _PLAIN_TOOL):
        # allowed_callers, defer_loading, input_examples: they change what the model sees or may do.
        return ServerTool(NAME, value)
    return Tool(tool.name, tool.input_schema, tool.description, tool.strict, cache_mark(tool.cache_control))


def _choice(wanted: _ToolChoice | None) -> ToolChoice | None:
    """WIRE_FACTS 14."""
    if wanted is None:
        return None
    mode = _MODES.get(wanted.type)
    if mode is None or (mode == "tool" and not wanted.name):
        raise InvalidRequest(
            "`tool_choice.type` must be auto, any, none, or tool with a `name`.", param="tool_choice"
        )
    off = wanted.disable_parallel_tool_use
    return ToolChoice(mode, wanted.name, None if off is None else not off)  # type: ignore[arg-type]


def _format(wanted: _Format | None) -> ResponseFormat | None:
    if wanted is None:
        return None
    return ResponseFormat("json_schema", wanted.name or "response", wanted.schema, strict=True)


def _reasoning(body: _Body) -> Reasoning | None:
    effort = body.output_config.effort if body.output_config else None
    wanted = body.thinking
    if wanted is None:
        return Reasoning(effort=effort) if effort else None
    if wanted.type == "enabled" and wanted.budget_tokens is None:
        raise InvalidRequest("`thinking.budget_tokens` is missing.", param="thinking.budget_tokens")
    return Reasoning(
        enabled=wanted.type != "disabled",
        effort=effort,
        budget_tokens=wanted.budget_tokens,
        adaptive=wanted.type in ("adaptive", "between_tools"),
        summary={"summarized": "auto", "omitted": "omitted"}.get(wanted.display or ""),
    )


def _parts(content: str | list[Any], where: str) -> list[Part]:
    if isinstance(content, str):
        return [Text(content)] if content else []
    found: list[Part] = []
    carried: Thinking | None = None
    for place, block in enumerate(content):
        part = _part(block, f"{where}[{place}]")
        if isinstance(part, Thinking) and part.origin and part.origin.endswith(OF_CALL):
            # The signature of the call that follows (`carrier_of`).
            carried = part
        elif part is not None:
            if carried and isinstance(part, ToolCall):
                part.signature, part.origin = carried.signature, str(carried.origin).removesuffix(OF_CALL)
            carried = None
            found.append(part)
    return found


def _part(block: Any, where: str) -> Part | None:
    if isinstance(block, str):
        # A bare string inside a content list (WIRE_FACTS 18).
        return Text(block) if block else None
    if not isinstance(block, dict) or not isinstance(block.get("type"), str):
        raise InvalidRequest(f"`{where}` must be an object with a `type`.", param=where)
    kind = block["type"]
    mark = cache_mark(block.get("cache_control"))
    if kind == "text":
        text = _string(block, "text", where)
        citations = block.get("citations") or None
        return Text(text, mark, citations, NAME if citations else None) if text else None
    if kind == "image":
        return _image(block, where, mark)
    if kind == "document":
        return _document(block, where, mark)
    if kind in ("thinking", "redacted_thinking"):
        return _thinking(block, where)
    if kind == "tool_use":
        return _tool_use(block, where, mark)
    if kind == "tool_result":
        return _tool_result(block, where, mark)
    return Opaque(NAME, block)


def _string(value: dict[str, Any], name: str, where: str) -> str:
    found = value.get(name)
    if not isinstance(found, str):
        raise InvalidRequest(f"`{where}.{name}` must be a string.", param=f"{where}.{name}")
    return found


def _source(block: dict[str, Any], where: str) -> dict[str, Any]:
    source = block.get("source")
    if not isinstance(source, dict) or not isinstance(source.get("type"), str):
        raise InvalidRequest(f"`{where}.source` must be an object with a `type`.", param=f"{where}.source")
    return source


def _image(block: dict[str, Any], where: str, mark: CacheMark | None) -> Image | Opaque:
    source = _source(block, where)
    place = f"{where}.source"
    if block.get("transformations"):
        return Opaque(NAME, block)
    if source["type"] == "base64":
        return Image(_string(source, "media_type", place), _string(source, "data", place), cache=mark)
    if source["type"] == "url":
        return Image(url=_string(source, "url", place), cache=mark)
    if source["type"] == "file":
        return Image(file_id=_string(source, "file_id", place), cache=mark)
    raise InvalidRequest(f"`{place}.type` must be base64, url or file.", param=f"{place}.type")


def _document(block: dict[str, Any], where: str, mark: CacheMark | None) -> Document | Opaque:
    source = _source(block, where)
    citing = block.get("citations")
    if (
        block.get("context")
        or (isinstance(citing, dict) and citing.get("enabled"))
        or source["type"] == "content"
    ):
        # Citations and context exist only here: verbatim for Anthropic, unsupported elsewhere.
        return Opaque(NAME, block)
    title = block.get("title")
    document = Document(name=title if isinstance(title, str) else None, cache=mark)
    place = f"{where}.source"
    if source["type"] in ("base64", "text"):
        document.media_type = _string(source, "media_type", place)
        document.data = _string(source, "data", place)
    elif source["type"] == "url":
        document.url = _string(source, "url", place)
    elif source["type"] == "file":
        document.file_id = _string(source, "file_id", place)
    else:
        raise InvalidRequest(
            f"`{place}.type` must be base64, text, url, file or content.", param=f"{place}.type"
        )
    return document


def _thinking(block: dict[str, Any], where: str) -> Thinking | None:
    if block["type"] == "redacted_thinking":
        data, origin, item_id = unsealed(_string(block, "data", where))
        return Thinking("", redacted=data, id=item_id, origin=origin)
    text = _string(block, "thinking", where)
    signature = block.get("signature")
    if not isinstance(signature, str) or not signature:
        return Thinking(text) if text else None
    value, origin, item_id = unsealed(signature)
    return Thinking(text, signature=value, id=item_id, origin=origin)


def _tool_use(block: dict[str, Any], where: str, mark: CacheMark | None) -> ToolCall:
    given = block.get("input", {})
    if not isinstance(given, dict):
        raise InvalidRequest(f"`{where}.input` must be an object.", param=f"{where}.input")
    arguments = msgspec.json.encode(given).decode()
    return ToolCall(_string(block, "id", where), _string(block, "name", where), arguments, cache=mark)


def _tool_result(block: dict[str, Any], where: str, mark: CacheMark | None) -> ToolResult:
    content = block.get("content") or []
    if not isinstance(content, str | list):
        raise InvalidRequest(f"`{where}.content` must be a string or a list.", param=f"{where}.content")
    parts: list[Text | Image | Document] = []
    for part in _parts(content, f"{where}.content"):
        if isinstance(part, Opaque) and part.value.get("type") == "search_result":
            parts.append(_search_result(part.value))
        elif isinstance(part, Text | Image | Document):
            parts.append(part)
        else:
            raise InvalidRequest(
                f"`{where}.content`: only text, images, documents and search results can be translated.",
                param=f"{where}.content",
            )
    return ToolResult(
        _string(block, "tool_use_id", where), parts, is_error=block.get("is_error") is True, cache=mark
    )


def _search_result(block: dict[str, Any]) -> Text:
    texts = [each.get("text", "") for each in block.get("content") or () if isinstance(each, dict)]
    return Text("\n".join([f"{block.get('title', '')} ({block.get('source', '')})", *map(str, texts)]))
