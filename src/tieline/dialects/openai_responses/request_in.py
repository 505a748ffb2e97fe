"""A caller's Responses request, read."""

from __future__ import annotations

from typing import Any

from msgspec import Raw
from msgspec.structs import replace

from tieline.dialects.base import Peek
from tieline.dialects.fields import (
    Json,
    array,
    flag,
    integer,
    mapping,
    needed_string,
    number,
    objects,
    path,
    plain_text,
    request_body,
    string,
    strings,
    to_text,
    value_of,
    wrong,
)
from tieline.dialects.reading import top_level
from tieline.dialects.routing_fields import take_routing
from tieline.dialects.signatures import OF_CALL, REDACTED, unseal
from tieline.types.call import Call
from tieline.types.errors import InvalidRequest
from tieline.types.request import (
    NAMESPACE_MARK,
    Audio,
    Document,
    Image,
    Message,
    Opaque,
    Part,
    Reasoning,
    Refusal,
    Request,
    ResponseFormat,
    Role,
    ServerTool,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)

NAME = "openai_responses"

_STATEFUL = {
    "previous_response_id": "Send the whole conversation in `input`.",
    "conversation": "Send the whole conversation in `input`.",
    "background": "Leave it out, and stream instead.",
    "store": "Leave it out, or send false.",
}
_MEANT = frozenset(
    [
        "model",
        "input",
        "instructions",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "reasoning",
        "text",
        "max_output_tokens",
        "truncation",
        "include",
        "metadata",
        "service_tier",
        "user",
        "safety_identifier",
        "temperature",
        "top_p",
        "top_logprobs",
        "stream",
        "store",
        "background",
        "previous_response_id",
        "conversation",
    ]
)
_HINTS = frozenset(("prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "stream_options"))
"""About the vendor's caches and padding: without effect on the answer, so they are not asked of another vendor."""
_OTHER_TOOLS = (
    ("function", "Chat Completions", "/v1/chat/completions"),
    ("input_schema", "Anthropic's Messages API", "/v1/messages"),
)
_MEDIA = (b"input_image", b"input_file", b"input_audio")
MAX_CALLS = 10_000
"""Beyond it a limit is none."""
MEDIA_CHARS = 6000
"""A picture or page counts as about 1,500 tokens before sending (vendors say 85 to 3,000)."""
_CALLERS = ("function", "custom")
"""Kinds of tools that the caller runs."""
_FREEFORM = {
    "type": "object",
    "properties": {"input": {"type": "string"}},
    "required": ["input"],
    "additionalProperties": False,
}
_NOT_TEXT = frozenset(("image_url", "file_data", "data", "encrypted_content", "file_url"))


def peek(call: Call) -> Peek:
    fields = top_level(call.body)
    small: Json = {
        name: value_of(fields[name], name)
        for name in ("model", "stream", "max_output_tokens", "user", *_STATEFUL)
        if name in fields
    }
    _refuse_state(small)
    model = needed_string(small, "model")
    _need_input(fields)
    _refuse_chat_format(fields)
    features, chars = _features(fields)
    seen = Peek(
        model=model,
        stream=bool(flag(small, "stream")),
        include_usage=True,
        max_output_tokens=integer(small, "max_output_tokens"),
        user=string(small, "user"),
        features=features,
        input_chars=chars,
        fields=fields,
    )
    if "max_tool_calls" in fields and "server_tools" in features:
        seen.extras = _calls(fields)
    take_routing(fields, seen)
    return seen


def _calls(fields: dict[str, Raw]) -> dict[str, int] | None:
    """How often each tool with a fee may be called: the limit holds for all that the vendor runs, together."""
    limit, tools = value_of(fields["max_tool_calls"], "max_tool_calls"), value_of(fields["tools"], "tools")
    if type(limit) is not int or not 0 < limit <= MAX_CALLS:
        return None
    kinds = {str(tool.get("type")) for tool in tools if isinstance(tool, dict)}
    return {
        name: limit for name in ("web_search", "file_search") if any(kind.startswith(name) for kind in kinds)
    } or None


def _refuse_state(body: Json) -> None:
    """Every answer stands alone here: what needs a stored one is refused by name."""
    for name, hint in _STATEFUL.items():
        if body.get(name):
            raise InvalidRequest(f"{name} is not supported: responses are not stored.", param=name, hint=hint)


def _need_input(fields: dict[str, Raw]) -> None:
    raw = bytes(fields.get("input", b""))
    if raw in (b"", b"null", b'""', b"[]"):
        if "prompt" in fields or "instructions" in fields:
            return
        hint = None
        if "messages" in fields:
            hint = (
                "`messages` belongs to another API: send this body to /v1/chat/completions or /v1/messages."
            )
        elif "contents" in fields:
            hint = "`contents` belongs to the Gemini API: send this body to /v1beta/models/{model}:generateContent."
        raise InvalidRequest("input is required and must not be empty.", param="input", hint=hint)
    if raw[:1] not in (b'"', b"["):
        raise wrong("input", "a string or an array of items")


def _refuse_chat_format(fields: dict[str, Raw]) -> None:
    if bytes(fields.get("response_format", b"null")) != b"null":
        raise InvalidRequest(
            "`response_format` belongs to Chat Completions.",
            param="response_format",
            hint="Say it in `text.format`, or send this body to /v1/chat/completions.",
        )


def _refuse_other_tool(tool: Any, at: int) -> None:
    """A definition in the shape of another API."""
    if not isinstance(tool, dict) or tool.get("type") not in (None, "function"):
        return
    for name, whose, where in _OTHER_TOOLS:
        if isinstance(tool.get(name), dict):
            raise InvalidRequest(
                f"`{name}` in `tools[{at}]` belongs to {whose}.",
                param=f"tools[{at}].{name}",
                hint=f"Give type, name, description and parameters beside one another, or send this body to {where}.",
            )


def _features(fields: dict[str, Raw]) -> tuple[frozenset[str], int]:
    found: set[str] = set()
    chars = 0
    for name in ("instructions", "tools"):
        if name in fields:
            chars += len(bytes(fields[name]))
    items = bytes(fields.get("input", b""))
    if any(word in items for word in _MEDIA):
        decoded = value_of(fields["input"], "input")
        chars += _text_size(decoded) + MEDIA_CHARS * _media_features(decoded, found)
    else:
        chars += len(items)
    _option_features(fields, found)
    return frozenset(found), chars


def _text_size(value: Any) -> int:
    """Characters that become text tokens: media and sealed data do not count."""
    total = 0
    waiting = [value]
    while waiting:
        here = waiting.pop()
        if isinstance(here, str):
            total += len(here)
        elif isinstance(here, list):
            waiting.extend(here)
        elif isinstance(here, dict):
            waiting.extend(inner for name, inner in here.items() if name not in _NOT_TEXT)
    return total


def _media_features(items: Any, found: set[str]) -> int:
    """Adds what is found; how many."""
    count = 0
    for item in items if isinstance(items, list) else []:
        if not isinstance(item, dict):
            continue
        parts = item.get("content") or item.get("output")
        for part in parts if isinstance(parts, list) else []:
            kind = part.get("type") if isinstance(part, dict) else None
            count += kind in ("input_image", "input_file", "input_audio")
            if kind == "input_image":
                found.add("images")
            elif kind == "input_file":
                found.add("pdf")
            elif kind == "input_audio":
                found.add("audio")
    return count


def _option_features(fields: dict[str, Raw], found: set[str]) -> None:
    tools = value_of(fields["tools"], "tools") if "tools" in fields else None
    for at, tool in enumerate(tools if isinstance(tools, list) else []):
        _refuse_other_tool(tool, at)
        found.add("tools" if _is_ours(tool) else "server_tools")
    if (
        tools
        and "tool_choice" in fields
        and bytes(fields["tool_choice"]) not in (b'"auto"', b'"none"', b"null")
    ):
        found.add("forced_tool")
    text = bytes(fields.get("text", b""))
    if b"json_schema" in text:
        found.add("json_schema")
    elif b"json_object" in text:
        found.add("json_object")
    asked = value_of(fields["reasoning"], "reasoning") if "reasoning" in fields else None
    if asked:
        # Codex CLI asks for summaries of whatever thinking there is, also where there is none.
        demanded = not isinstance(asked, dict) or asked.get("effort") is not None
        found.add("reasoning" if demanded else "may_reason")
    if b"logprobs" in bytes(fields.get("include", b"")) or bytes(fields.get("top_logprobs", b"0")) not in (
        b"0",
        b"null",
    ):
        found.add("logprobs")


def _is_ours(tool: Any) -> bool:
    """Run by the caller, so that any vendor can be given it."""
    if not isinstance(tool, dict):
        return False
    inner = tool.get("tools")
    if tool.get("type") == "namespace" and isinstance(inner, list):
        return all(isinstance(one, dict) and one.get("type") in _CALLERS for one in inner)
    return tool.get("type") in _CALLERS


def decode_request(call: Call, peek: Peek) -> Request:
    body = {name: value for name, value in request_body(call.body).items() if name in peek.fields}
    tools, choice = _tools_and_choice(body)
    include = strings(body, "include")
    text = mapping(body, "text") or {}
    top_logprobs = integer(body, "top_logprobs")
    return Request(
        model=peek.model,
        messages=_messages(body),
        tools=tools,
        tool_choice=choice,
        response_format=_response_format(text),
        reasoning=_reasoning(body),
        max_output_tokens=integer(body, "max_output_tokens"),
        temperature=number(body, "temperature"),
        top_p=number(body, "top_p"),
        logprobs="message.output_text.logprobs" in include or bool(top_logprobs),
        top_logprobs=top_logprobs or None,
        user=string(body, "user") or string(body, "safety_identifier"),
        metadata=_metadata(body),
        service_tier=string(body, "service_tier"),
        stream=peek.stream,
        include_usage=True,
        origin=NAME,
        unmapped=_unmapped(body, text, include),
    )


def _unmapped(body: Json, text: Json, include: list[str]) -> Json:
    unmapped = {
        name: value
        for name, value in body.items()
        if name not in _MEANT and name not in _HINTS and value is not None
    }
    left = [
        name
        for name in include
        if name not in ("reasoning.encrypted_content", "message.output_text.logprobs")
    ]
    if left:
        unmapped["include"] = left
    if string(body, "truncation") not in (None, "disabled"):
        unmapped["truncation"] = body["truncation"]
    if string(text, "verbosity", "text") not in (None, "medium"):
        unmapped["text.verbosity"] = text["verbosity"]
    for name, value in (mapping(body, "reasoning") or {}).items():
        if name not in ("effort", "summary", "generate_summary") and value is not None:
            unmapped[f"reasoning.{name}"] = value
    if isinstance(body.get("tool_choice"), dict) and "tool_choice" not in unmapped:
        kind = body["tool_choice"].get("type")
        if kind not in (*_CALLERS, "allowed_tools"):
            unmapped["tool_choice"] = body["tool_choice"]
    return unmapped


def _metadata(body: Json) -> dict[str, str] | None:
    metadata = mapping(body, "metadata")
    if metadata is None:
        return None
    if all(isinstance(value, str) for value in metadata.values()):
        return metadata
    raise wrong("metadata", "an object of strings")


def _reasoning(body: Json) -> Reasoning | None:
    given = mapping(body, "reasoning")
    if not given:
        return None
    effort = string(given, "effort", "reasoning")
    summary = string(given, "summary", "reasoning") or string(given, "generate_summary", "reasoning")
    return Reasoning(enabled=effort != "none", effort=effort, summary=summary or "omitted")


def _response_format(text: Json) -> ResponseFormat | None:
    given = mapping(text, "format", "text")
    if given is None:
        return None
    kind = needed_string(given, "type", "text.format")
    if kind == "json_schema":
        schema = mapping(given, "schema", "text.format")
        if schema is None:
            raise InvalidRequest("text.format.schema is required.", param="text.format.schema")
        return ResponseFormat(
            kind="json_schema",
            name=string(given, "name", "text.format") or "response",
            schema=schema,
            strict=flag(given, "strict", "text.format"),
            description=string(given, "description", "text.format"),
        )
    if kind == "json_object":
        return ResponseFormat(kind="json_object")
    if kind == "text":
        return None
    raise wrong("text.format.type", "text, json_object or json_schema")


def _tools_and_choice(body: Json) -> tuple[list[Tool | ServerTool], ToolChoice | None]:
    tools = [
        one for index, tool in enumerate(objects(body, "tools")) for one in _tools(tool, f"tools[{index}]")
    ]
    parallel = flag(body, "parallel_tool_calls")
    # True is the vendors' default: as a wish it asks for nothing.
    parallel = False if parallel is False else None
    given = body.get("tool_choice")
    if given is None:
        return tools, ToolChoice(parallel=parallel) if parallel is not None else None
    if given in ("auto", "required", "none"):
        return tools, ToolChoice(mode=given, parallel=parallel)
    if not isinstance(given, dict):
        raise wrong("tool_choice", "auto, required, none or an object")
    kind = needed_string(given, "type", "tool_choice")
    if kind in _CALLERS:
        return tools, ToolChoice("tool", needed_string(given, "name", "tool_choice"), parallel)
    if kind == "allowed_tools":
        return _allowed(tools, given), ToolChoice(_allowed_mode(given), None, parallel)
    return tools, ToolChoice(parallel=parallel)


def _allowed_mode(given: Json) -> Any:
    mode = string(given, "mode", "tool_choice") or "auto"
    if mode not in ("auto", "required"):
        raise wrong("tool_choice.mode", "auto or required")
    return mode


def _allowed(tools: list[Tool | ServerTool], given: Json) -> list[Tool | ServerTool]:
    """Offering only the allowed tools means the same where the vendor has no such choice."""
    wanted = objects(given, "tools", "tool_choice")
    names = {tool.get("name") for tool in wanted if tool.get("type") in _CALLERS}
    kinds = {tool.get("type") for tool in wanted}
    return [
        tool
        for tool in tools
        if (tool.name in names if isinstance(tool, Tool) else tool.value.get("type") in kinds)
    ]


def _tools(tool: Json, at: str) -> list[Tool | ServerTool]:
    """A namespace's functions one by one, under names that no two namespaces share."""
    if tool.get("type") != "namespace":
        return [_tool(tool, at)]
    space = needed_string(tool, "name", at)
    inner = [_tool(one, f"{at}.tools[{index}]") for index, one in enumerate(objects(tool, "tools", at))]
    if not all(isinstance(one, Tool) for one in inner):
        return [ServerTool(NAME, tool)]
    return [_in_namespace(one, space) for one in inner if isinstance(one, Tool)]


def _in_namespace(tool: Tool, space: str) -> Tool:
    return replace(tool, name=f"{space}{NAMESPACE_MARK}{tool.name}", namespace=space)


def _tool(tool: Json, at: str) -> Tool | ServerTool:
    kind = needed_string(tool, "type", at)
    if kind == "custom" and not any(tool.get(name) for name in ("defer_loading", "allowed_callers")):
        return _freeform(tool, at)
    if kind != "function":
        return ServerTool(NAME, tool)
    if "function" in tool and "name" not in tool:
        raise InvalidRequest(
            f"{at}.name is required: this looks like Chat Completions; here a function's fields stand in the tool itself.",
            param=f"{at}.name",
        )
    return Tool(
        name=needed_string(tool, "name", at),
        parameters=mapping(tool, "parameters", at) or {"type": "object", "properties": {}},
        description=string(tool, "description", at),
        strict=flag(tool, "strict", at),
    )


def _freeform(tool: Json, at: str) -> Tool:
    """A tool that takes plain text (Codex's ``apply_patch``): to other vendors, a function of one text."""
    described = [string(tool, "description", at) or "", "`input` is plain text."]
    form = mapping(tool, "format", at) or {}
    if form.get("type") == "grammar":
        described[1] = (
            f"`input` is plain text of this {form.get('syntax')} grammar:\n{form.get('definition')}"
        )
    return Tool(
        name=needed_string(tool, "name", at),
        parameters=_FREEFORM,
        description="\n\n".join(filter(None, described)),
        freeform=tool,
    )


# messages -------------------------------------------------------------------------------------------------------------


def _messages(body: Json) -> list[Message]:
    messages: list[Message] = []
    instructions = body.get("instructions")
    if isinstance(instructions, str):
        if instructions:
            messages.append(Message("system", [Text(instructions)]))
    elif instructions is not None:
        for index, item in enumerate(array(body, "instructions")):
            _add_item(messages, item, f"instructions[{index}]")
    given = body.get("input")
    if isinstance(given, str):
        messages.append(Message("user", [Text(given)]))
        return messages
    for index, item in enumerate(array(body, "input")):
        _add_item(messages, item, f"input[{index}]")
    return messages


def _add_item(messages: list[Message], item: Any, at: str) -> None:
    if not isinstance(item, dict):
        raise wrong(at, "an object")
    kind = string(item, "type", at) or ("message" if "role" in item else None)
    if kind == "message":
        role = _role(item, at)
        _add(messages, role, _content(item, at))
    elif kind == "custom_tool_call":
        said = to_text({"input": needed_string(item, "input", at)})
        _add(messages, "assistant", [_call({**item, "arguments": said}, _carried_signature(messages), at)])
    elif kind == "custom_tool_call_output":
        _add(messages, "user", [_result(item, at)])
    elif kind == "function_call":
        _add(messages, "assistant", [_call(item, _carried_signature(messages), at)])
    elif kind == "function_call_output":
        _add(
            messages,
            "user",
            [_result(item, at)] if "call_id" in item or "name" not in item else _told(item, at),
        )
    elif kind == "reasoning":
        _add(messages, "assistant", [_thinking(item, at)])
    elif kind == "item_reference":
        raise InvalidRequest(
            f"{at} refers to a stored item: responses are not stored.",
            param=at,
            hint="Send the item itself; SDKs do with `store: false`.",
        )
    elif kind is None:
        raise InvalidRequest(f"{at}.type is required.", param=f"{at}.type")
    else:
        _add(messages, _opaque_role(kind), [Opaque(NAME, item)])


def _opaque_role(kind: str) -> Role:
    return "user" if kind.endswith(("_output", "_response")) else "assistant"


def _role(item: Json, at: str) -> Role:
    role = needed_string(item, "role", at)
    if role in ("user", "assistant", "system"):
        return role  # type: ignore[return-value]
    if role == "developer":
        return "system"
    raise wrong(f"{at}.role", "user, assistant, system or developer")


def _add(messages: list[Message], role: Role, parts: list[Part]) -> None:
    """Items of one turn become one message: a turn of the user holds tool results and text (WIRE_FACTS 13)."""
    last = messages[-1] if messages else None
    if last is None or last.role != role or role == "system" or not _joins(last):
        messages.append(Message(role, parts))
    else:
        last.parts.extend(parts)


def _joins(last: Message) -> bool:
    """Two user messages stay two; a result joins results, text joins the results before it."""
    if last.role == "assistant":
        return True
    return isinstance(last.parts[-1], ToolResult) if last.parts else True


def _content(item: Json, at: str) -> list[Part]:
    content = item.get("content")
    if isinstance(content, str):
        return [Text(content)]
    parts: list[Part] = []
    for index, part in enumerate(array(item, "content", at)):
        where = f"{at}.content[{index}]"
        if isinstance(part, str):
            parts.append(Text(part))
        elif isinstance(part, dict):
            parts.append(_part(part, where))
        else:
            raise wrong(where, "an object")
    return parts


def _part(part: Json, at: str) -> Part:
    kind = needed_string(part, "type", at)
    if kind in ("input_text", "output_text", "text", "summary_text"):
        citations = array(part, "annotations", at) or None
        return Text(needed_string(part, "text", at), None, citations, NAME if citations else None)
    if kind == "refusal":
        return Refusal(needed_string(part, "refusal", at))
    if kind == "input_image":
        return _image(part, at)
    if kind == "input_file":
        return _file(part, at)
    if kind == "input_audio":
        audio = mapping(part, "input_audio", at) or {}
        where = path(at, "input_audio")
        return Audio(needed_string(audio, "format", where), needed_string(audio, "data", where))
    return Opaque(NAME, part)


def _image(part: Json, at: str) -> Image:
    detail = string(part, "detail", at)
    file_id = string(part, "file_id", at)
    if file_id is not None:
        return Image(file_id=file_id, detail=detail)
    url = needed_string(part, "image_url", at)
    media_type, data = data_uri(url)
    if data is not None:
        return Image(media_type=media_type or "image/png", data=data, detail=detail)
    return Image(url=url, detail=detail)


def _file(part: Json, at: str) -> Document:
    name = string(part, "filename", at)
    file_id, url = string(part, "file_id", at), string(part, "file_url", at)
    if file_id is not None:
        return Document(file_id=file_id, name=name)
    if url is not None:
        return Document(url=url, name=name)
    given = needed_string(part, "file_data", at)
    media_type, data = data_uri(given)
    if data is None:
        return Document(data=given, name=name)
    media_type = media_type or "application/pdf"
    return Document(media_type, plain_text(data, at) if media_type == "text/plain" else data, name=name)


def data_uri(url: str) -> tuple[str | None, str | None]:
    """Media type and base64 of a data URI; (None, None) for any other."""
    if not url.startswith("data:"):
        return None, None
    head, comma, data = url[5:].partition(",")
    if not comma:
        return None, None
    return head.partition(";")[0] or None, data


def _carried_signature(messages: list[Message]) -> Thinking | None:
    """The reasoning item in which a call's own signature travelled, taken out again."""
    if not messages or messages[-1].role != "assistant" or not messages[-1].parts:
        return None
    last = messages[-1].parts[-1]
    if isinstance(last, Thinking) and last.origin and last.origin.endswith(OF_CALL):
        messages[-1].parts.pop()
        return last
    return None


def _call(item: Json, carried: Thinking | None, at: str) -> ToolCall:
    space = string(item, "namespace", at)
    name = needed_string(item, "name", at)
    return ToolCall(
        id=needed_string(item, "call_id", at),
        name=f"{space}{NAMESPACE_MARK}{name}" if space else name,
        arguments=string(item, "arguments", at) or "{}",
        signature=carried.signature if carried else None,
        origin=carried.origin.removesuffix(OF_CALL) if carried and carried.origin else None,
    )


def _told(item: Json, at: str) -> list[Part]:
    """A result that answers no call but says what it is: Codex CLI 0.169 tells its goal so. To other vendors the user says it."""
    title = ".".join(filter(None, (string(item, "namespace", at), string(item, "name", at))))
    return [Text(f"{title}:"), *_output(item, at)]


def _result(item: Json, at: str) -> ToolResult:
    return ToolResult(needed_string(item, "call_id", at), _output(item, at))


def _output(item: Json, at: str) -> list[Text | Image | Document]:
    output = item.get("output")
    if isinstance(output, str):
        return [Text(output)]
    content: list[Text | Image | Document] = []
    for index, part in enumerate(objects(item, "output", at)):
        decoded = _part(part, f"{at}.output[{index}]")
        if not isinstance(decoded, Text | Image | Document):
            raise wrong(f"{at}.output[{index}].type", "input_text, input_image or input_file")
        content.append(decoded)
    return content


def _thinking(item: Json, at: str) -> Thinking:
    texts = [string(part, "text", at) or "" for part in objects(item, "summary", at)]
    texts = texts or [string(part, "text", at) or "" for part in objects(item, "content", at)]
    sealed = string(item, "encrypted_content", at)
    signature, origin = unseal(sealed, NAME) if sealed else (None, NAME)
    text, item_id = "\n\n".join(texts), string(item, "id", at)
    if origin.endswith(REDACTED):
        return Thinking(text, None, signature, item_id, origin.removesuffix(REDACTED))
    return Thinking(text, signature, None, item_id, origin)
