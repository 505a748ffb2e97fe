"""Chat Completions requests as callers send them."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from tieline.dialects.base import Peek
from tieline.dialects.cache_marks import cache_mark
from tieline.dialects.fields import plain_text, value_of
from tieline.dialects.openai_chat.peek import fields_of
from tieline.dialects.openai_chat.reading import arguments_of, thinking_of, thought_signature
from tieline.dialects.openai_chat.wire import NAME, ORIGINS, WireFunction, WireToolCall
from tieline.dialects.reading import refuse
from tieline.dialects.turns import made_id, paired
from tieline.types.errors import InvalidRequest
from tieline.types.request import (
    Audio,
    CacheMark,
    Document,
    Image,
    Message,
    Opaque,
    Part,
    Reasoning,
    Refusal,
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
    content: Any = None
    name: str | None = None
    tool_calls: list[WireToolCall] | None = None
    tool_call_id: str | None = None
    function_call: WireFunction | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: Any = None
    reasoning_details: list[Any] | None = None
    audio: Any = None


class _Function(Struct):
    name: str
    parameters: dict[str, Any] | None = None
    description: str | None = None
    strict: bool | None = None


class _ToolDefinition(Struct):
    function: _Function
    cache_control: Any = None


class _Schema(Struct):
    name: str = "response"
    schema: dict[str, Any] | None = None
    strict: bool | None = None
    description: str | None = None


class _Format(Struct):
    type: str
    json_schema: _Schema | None = None


class _OpenRouterReasoning(Struct):
    effort: str | None = None
    max_tokens: int | None = None
    enabled: bool | None = None
    exclude: bool | None = None


class _Thinking(Struct):
    type: str
    budget_tokens: int | None = None


class _StreamOptions(Struct):
    include_usage: bool | None = None


class _Body(Struct):
    model: str
    messages: list[_Message]
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    functions: list[_Function] | None = None
    function_call: str | dict[str, Any] | None = None
    response_format: _Format | None = None
    reasoning_effort: str | None = None
    reasoning: _OpenRouterReasoning | None = None
    thinking: _Thinking | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    n: int | None = None
    user: str | None = None
    metadata: dict[str, str] | None = None
    service_tier: str | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None


_BODY = msgspec.json.Decoder(_Body)
_KNOWN = frozenset(_Body.__struct_fields__)


def decode_request(peek: Peek) -> Request:
    try:
        body = _BODY.decode(msgspec.json.encode(fields_of(peek)))
    except (msgspec.DecodeError, RecursionError) as error:
        refuse(error)
    request = Request(
        model=peek.model,
        messages=paired(_messages(body.messages)),
        tools=[_tool(tool, place) for place, tool in enumerate(body.tools or ())],
        response_format=_response_format(body.response_format),
        reasoning=_reasoning(body),
        max_output_tokens=peek.max_output_tokens,
        temperature=body.temperature,
        top_p=body.top_p,
        top_k=body.top_k,
        min_p=body.min_p,
        stop=[body.stop] if isinstance(body.stop, str) else body.stop or [],
        seed=body.seed,
        frequency_penalty=body.frequency_penalty,
        presence_penalty=body.presence_penalty,
        logit_bias=body.logit_bias or None,
        logprobs=body.logprobs or False,
        top_logprobs=body.top_logprobs,
        n=peek.n,
        user=body.user,
        metadata=body.metadata,
        service_tier=body.service_tier,
        stream=peek.stream,
        include_usage=peek.include_usage,
        unmapped=_unmapped(peek),
        origin=NAME,
        legacy_functions=bool(body.functions) and not body.tools,
    )
    if body.functions:
        request.tools += [_function_tool(function) for function in body.functions]
    _set_choice(request, body)
    return request


def _unmapped(peek: Peek) -> dict[str, Any]:
    found = {}
    for name, raw in fields_of(peek).items():
        if name not in _KNOWN:
            value = value_of(raw, name)
            if value is not None:
                found[name] = value
    return found


def _set_choice(request: Request, body: _Body) -> None:
    asked = body.tool_choice if body.tool_choice is not None else body.function_call
    parallel = body.parallel_tool_calls
    if isinstance(asked, str):
        modes = {"auto": "auto", "none": "none", "required": "required", "any": "required"}
        if asked not in modes:
            raise InvalidRequest(
                f"`tool_choice` must be auto, none, required or an object, not `{asked}`.",
                param="tool_choice",
            )
        request.tool_choice = ToolChoice(mode=modes[asked], parallel=parallel)  # type: ignore[arg-type]
    elif asked is not None:
        named = asked.get("function") if "function" in asked else asked
        if isinstance(named, dict) and isinstance(named.get("name"), str) and asked.get("type") != "custom":
            request.tool_choice = ToolChoice(mode="tool", name=named["name"], parallel=parallel)
        else:
            request.unmapped["tool_choice"] = asked
            if parallel is not None:
                request.unmapped["parallel_tool_calls"] = parallel
    elif parallel is not None:
        request.tool_choice = ToolChoice(parallel=parallel)


def _tool(value: dict[str, Any], place: int) -> Tool | ServerTool:
    if value.get("type", "function") != "function":
        return ServerTool(NAME, value)
    try:
        definition = msgspec.convert(value, _ToolDefinition)
    except msgspec.ValidationError as error:
        refuse(error, f"tools[{place}]")
    tool = _function_tool(definition.function)
    tool.cache = cache_mark(definition.cache_control)
    return tool


def _function_tool(function: _Function) -> Tool:
    parameters = function.parameters or {"type": "object", "properties": {}}
    return Tool(function.name, parameters, function.description, function.strict)


def _response_format(wanted: _Format | None) -> ResponseFormat | None:
    if wanted is None:
        return None
    if wanted.type == "json_schema":
        schema = wanted.json_schema
        if schema is None or schema.schema is None:
            raise InvalidRequest(
                "`response_format.json_schema.schema` is missing.", param="response_format.json_schema.schema"
            )
        return ResponseFormat("json_schema", schema.name, schema.schema, schema.strict, schema.description)
    if wanted.type not in ("text", "json_object"):
        raise InvalidRequest(
            f"`response_format.type` must be text, json_object or json_schema, not `{wanted.type}`.",
            param="response_format.type",
        )
    return ResponseFormat(wanted.type)  # type: ignore[arg-type]


def _reasoning(body: _Body) -> Reasoning | None:
    if body.reasoning_effort is not None:
        return Reasoning(enabled=body.reasoning_effort != "none", effort=body.reasoning_effort)
    wanted = body.reasoning
    if wanted is not None:
        enabled = wanted.enabled is not False and wanted.effort != "none"
        summary = "omitted" if wanted.exclude else None
        return Reasoning(
            enabled=enabled, effort=wanted.effort, budget_tokens=wanted.max_tokens, summary=summary
        )
    if body.thinking is not None:
        kind = body.thinking.type
        return Reasoning(
            enabled=kind != "disabled", budget_tokens=body.thinking.budget_tokens, adaptive=kind == "adaptive"
        )
    return None


def _messages(wire: list[_Message]) -> list[Message]:
    done: list[Message] = []
    calls: dict[str, str] = {}
    for place, message in enumerate(wire):
        where = f"messages[{place}]"
        role = message.role
        if role in ("system", "developer"):
            done.append(Message("system", _parts(message.content, where), message.name))
        elif role == "user":
            done.append(Message("user", _parts(message.content, where), message.name))
        elif role == "assistant":
            done.append(Message("assistant", _assistant(message, where, calls), message.name))
        elif role in ("tool", "function"):
            _add_result(done, _tool_result(message, where, calls))
        else:
            raise InvalidRequest(
                f"`{where}.role` must be system, developer, user, assistant or tool, not `{role}`.",
                param=f"{where}.role",
            )
    return done


def _add_result(done: list[Message], result: ToolResult) -> None:
    if done and done[-1].role == "user" and done[-1].parts and isinstance(done[-1].parts[-1], ToolResult):
        done[-1].parts.append(result)
    else:
        done.append(Message("user", [result]))


def _tool_result(message: _Message, where: str, calls: dict[str, str]) -> ToolResult:
    tool_id = message.tool_call_id
    if tool_id is None and message.role == "function":
        tool_id = calls.get(message.name or "")
    if not tool_id:
        raise InvalidRequest(
            f"`{where}.tool_call_id` is missing: the id of the call that this answers is expected.",
            param=f"{where}.tool_call_id",
        )
    parts = _parts(message.content, where)
    content = [part for part in parts if isinstance(part, Text | Image | Document)]
    if len(content) != len(parts):
        raise InvalidRequest(f"`{where}.content`: a tool result holds text, images or files.", param=where)
    return ToolResult(tool_id, content, name=message.name)


def _assistant(message: _Message, where: str, calls: dict[str, str]) -> list[Part]:
    parts: list[Part] = list(_replayed_thinking(message))
    if thought := thinking_of(message.content if isinstance(message.content, list) else None):
        parts.append(Thinking(thought, origin=NAME))
    parts += [part for part in _parts(message.content, where) if not _is_thinking(part)]
    if message.refusal:
        parts.append(Refusal(message.refusal))
    if message.audio is not None:
        parts.append(Opaque(NAME, {"type": "audio", "audio": message.audio}))
    for place, call in enumerate(message.tool_calls or ()):
        parts.append(_tool_call(call, f"{where}.tool_calls[{place}]"))
    if message.function_call is not None and message.function_call.name:
        name = message.function_call.name
        calls[name] = made_id("call_", where, name)
        parts.append(ToolCall(calls[name], name, arguments_of(message.function_call.arguments) or "{}"))
    return parts


def _is_thinking(part: Part) -> bool:
    return isinstance(part, Opaque) and part.value.get("type") == "thinking"


def _replayed_thinking(message: _Message) -> list[Thinking]:
    """`reasoning_details` keep signatures; plain reasoning text has none."""
    found = [thinking_of_detail(each) for each in message.reasoning_details or () if isinstance(each, dict)]
    if found:
        return [each for each in found if each is not None]
    plain = message.reasoning_content or (message.reasoning if isinstance(message.reasoning, str) else None)
    return [Thinking(plain, origin=NAME)] if plain else []


def thinking_of_detail(detail: dict[str, Any]) -> Thinking | None:
    origin = ORIGINS.get(str(detail.get("format")), NAME)
    item = detail.get("id")
    item_id = item if isinstance(item, str) else None
    if isinstance(detail.get("data"), str):
        return Thinking("", redacted=detail["data"], id=item_id, origin=origin)
    text = detail.get("text") or detail.get("summary")
    signature = detail.get("signature")
    if not isinstance(text, str) and not isinstance(signature, str):
        return None
    return Thinking(
        text if isinstance(text, str) else "",
        signature=signature if isinstance(signature, str) else None,
        id=item_id,
        origin=origin,
    )


def _tool_call(call: WireToolCall, where: str) -> ToolCall | Opaque:
    if call.custom is not None:
        return Opaque(NAME, {"type": "custom", "id": call.id, "custom": call.custom})
    if call.function is None or not call.function.name:
        raise InvalidRequest(f"`{where}.function.name` is missing.", param=f"{where}.function.name")
    if not call.id:
        raise InvalidRequest(f"`{where}.id` is missing.", param=f"{where}.id")
    signature = thought_signature(call.extra_content)
    return ToolCall(
        call.id,
        call.function.name,
        arguments_of(call.function.arguments) or "{}",
        signature=signature,
        origin="gemini" if signature else None,
    )


def _parts(content: Any, where: str) -> list[Part]:
    if content is None:
        return []
    if isinstance(content, str):
        return [Text(content)] if content else []
    if not isinstance(content, list):
        raise InvalidRequest(
            f"`{where}.content` must be a string or a list of parts.", param=f"{where}.content"
        )
    found = (_part(part, f"{where}.content[{place}]") for place, part in enumerate(content))
    return [part for part in found if part is not None]


def _part(part: Any, where: str) -> Part | None:
    if isinstance(part, str):
        return Text(part) if part else None
    if not isinstance(part, dict):
        raise InvalidRequest(f"`{where}` must be an object with a `type`.", param=where)
    kind = part.get("type", "text")
    mark = cache_mark(part.get("cache_control") or part.get("prompt_cache_breakpoint"))
    if kind == "text":
        text = _string(part, "text", where)
        return Text(text, mark) if text else None
    if kind == "image_url":
        return _image(part.get("image_url"), f"{where}.image_url", mark)
    if kind == "file":
        return _file(part.get("file"), f"{where}.file", mark)
    if kind == "input_audio":
        audio = part.get("input_audio")
        if not isinstance(audio, dict):
            raise InvalidRequest(f"`{where}.input_audio` must be an object.", param=f"{where}.input_audio")
        place = f"{where}.input_audio"
        return Audio(_string(audio, "format", place), _string(audio, "data", place))
    if kind == "refusal":
        return Refusal(_string(part, "refusal", where))
    return Opaque(NAME, part)


def _string(value: dict[str, Any], name: str, where: str) -> str:
    found = value.get(name)
    if not isinstance(found, str):
        raise InvalidRequest(f"`{where}.{name}` must be a string.", param=f"{where}.{name}")
    return found


def _image(value: Any, where: str, mark: CacheMark | None) -> Image:
    if isinstance(value, str):
        value = {"url": value}
    if not isinstance(value, dict):
        raise InvalidRequest(f"`{where}` must be an object with a `url`.", param=where)
    url = _string(value, "url", where)
    detail = value.get("detail")
    image = Image(detail=detail if isinstance(detail, str) else None, cache=mark)
    if url.startswith("data:"):
        image.media_type, image.data = _data_uri(url, where)
    else:
        image.url = url
    return image


def _file(value: Any, where: str, mark: CacheMark | None) -> Document:
    if not isinstance(value, dict):
        raise InvalidRequest(f"`{where}` must be an object with `file_data` or `file_id`.", param=where)
    name = value.get("filename")
    document = Document(name=name if isinstance(name, str) else None, cache=mark)
    if isinstance(value.get("file_id"), str):
        document.file_id = value["file_id"]
        return document
    data = _string(value, "file_data", where)
    if data.startswith(("https://", "http://")):
        document.url = data
        return document
    if data.startswith("data:"):
        document.media_type, data = _data_uri(data, where)
    document.data = plain_text(data, where) if document.media_type == "text/plain" else data
    return document


def _data_uri(uri: str, where: str) -> tuple[str, str]:
    head, comma, data = uri.partition(",")
    media_type, *parameters = head.removeprefix("data:").split(";")
    if not comma or "base64" not in parameters:
        raise InvalidRequest(f"`{where}` must be a base64 data URI or an https URL.", param=where)
    return media_type or "application/octet-stream", data
