"""A caller's Gemini request, read. Field names come in camelCase (REST) or snake_case (protobuf's JSON takes both)."""

from __future__ import annotations

import base64
import binascii
import re
from functools import lru_cache
from typing import Any, Literal

from msgspec import Raw

from tieline.dialects import fields as read
from tieline.dialects.base import Peek
from tieline.dialects.fields import Json, path, to_text, wrong
from tieline.dialects.gemini.schema import from_gemini
from tieline.dialects.reading import top_level
from tieline.dialects.routing_fields import take_routing
from tieline.dialects.signatures import REDACTED, unseal_base64
from tieline.dialects.turns import made_id
from tieline.types.call import Call
from tieline.types.errors import InvalidRequest
from tieline.types.request import (
    Audio,
    Document,
    Image,
    Message,
    Opaque,
    Part,
    Reasoning,
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

NAME = "gemini"
MEDIA_CHARS = 6000
"""A picture or page counts as about 1,500 tokens before sending (vendors say 85 to 3,000)."""

_CONFIG_MEANT = frozenset(
    (
        "temperature",
        "topP",
        "topK",
        "candidateCount",
        "maxOutputTokens",
        "stopSequences",
        "seed",
        "presencePenalty",
        "frequencyPenalty",
        "responseMimeType",
        "responseSchema",
        "responseJsonSchema",
        "thinkingConfig",
        "responseLogprobs",
        "logprobs",
    )
)
_TOP_MEANT = frozenset(
    (
        "contents",
        "tools",
        "toolConfig",
        "systemInstruction",
        "generationConfig",
        "model",
        "serviceTier",
        "labels",
    )
)
_MODES: dict[str, Literal["auto", "required", "none"]] = {
    "AUTO": "auto",
    "MODE_UNSPECIFIED": "auto",
    "VALIDATED": "auto",
    "ANY": "required",
    "NONE": "none",
}
_CAPITAL = re.compile(r"(?<!^)([A-Z])")


@lru_cache(maxsize=256)
def snake(name: str) -> str:
    return _CAPITAL.sub(r"_\1", name).lower()


def camel(source: Any, at: str = "") -> Json:
    """An object of the API with its names in camelCase; what stands in them is left alone."""
    if not isinstance(source, dict):
        raise wrong(at or "The body", "an object")
    return {_camel(name): value for name, value in source.items()}


@lru_cache(maxsize=1024)
def _camel(name: str) -> str:
    if "_" not in name:
        return name
    head, *rest = name.split("_")
    return head + "".join(word[:1].upper() + word[1:] for word in rest)


def peek(call: Call) -> Peek:
    fields = top_level(call.body)
    inner = _for_counting(fields) if call.operation == "count_tokens" else fields
    contents = _raw(inner, "contents")
    if contents in (b"", b"null", b"[]", b'""'):
        if "messages" in fields or "input" in fields:
            name = "messages" if "messages" in fields else "input"
            raise InvalidRequest(
                f"contents is required; `{name}` belongs to another API.", param="contents", hint=_OTHER_PATH
            )
        raise InvalidRequest("contents is required and must not be empty.", param="contents")
    if not call.model:
        raise InvalidRequest(
            "The path must name a model: /v1beta/models/{model}:generateContent.", param="model"
        )
    config = camel(_value(inner, "generationConfig") or {}, "generationConfig")
    features, chars = _features(inner, contents, config)
    seen = Peek(
        model=call.model,
        stream=bool(call.stream),
        include_usage=True,
        max_output_tokens=read.integer(config, "maxOutputTokens", "generationConfig"),
        n=read.integer(config, "candidateCount", "generationConfig") or 1,
        features=features,
        input_chars=chars,
        fields=fields,
    )
    take_routing(fields, seen)
    return seen


_OTHER_PATH = "Send OpenAI's bodies to /v1/chat/completions or /v1/responses, Anthropic's to /v1/messages."


def _raw(fields: dict[str, Raw], name: str) -> bytes:
    raw = fields.get(name)
    if raw is None:
        raw = fields.get(snake(name))
    return b"" if raw is None else bytes(raw)


def _value(fields: dict[str, Raw], name: str) -> Any:
    raw = _raw(fields, name)
    return read.value_of(Raw(raw), name) if raw else None


def _for_counting(fields: dict[str, Raw]) -> dict[str, Raw]:
    """countTokens takes contents, or a whole request under one name."""
    whole = _raw(fields, "generateContentRequest")
    return top_level(whole) if whole and whole != b"null" else fields


def _features(fields: dict[str, Raw], contents: bytes, config: Json) -> tuple[frozenset[str], int]:
    found: set[str] = set()
    chars = len(_raw(fields, "systemInstruction")) + len(_raw(fields, "tools"))
    if b"Data" in contents or b"_data" in contents:
        decoded = read.value_of(Raw(contents), "contents")
        chars += _measure(decoded, found)
    else:
        chars += len(contents)
    _tool_features(fields, found)
    if config.get("responseSchema") or config.get("responseJsonSchema"):
        found.add("json_schema")
    elif config.get("responseMimeType") == "application/json":
        found.add("json_object")
    if config.get("thinkingConfig"):
        found.add("reasoning")
    if config.get("responseLogprobs"):
        found.add("logprobs")
    if (config.get("candidateCount") or 1) != 1:
        found.add("n")
    return frozenset(found), chars


def _measure(contents: Any, found: set[str]) -> int:
    """Characters of text; adds the media it meets."""
    chars = 0
    waiting = [contents]
    while waiting:
        here = waiting.pop()
        if isinstance(here, str):
            chars += len(here)
        elif isinstance(here, list):
            waiting.extend(here)
        elif isinstance(here, dict):
            for name, inner in here.items():
                if _camel(name) in ("inlineData", "fileData") and isinstance(inner, dict):
                    found.add(_media_feature(inner))
                    chars += MEDIA_CHARS
                elif _camel(name) != "thoughtSignature":
                    waiting.append(inner)
    return chars


def _media_feature(blob: Json) -> str:
    kind = str(blob.get("mimeType") or blob.get("mime_type") or "")
    if kind.startswith("audio/"):
        return "audio"
    return "images" if kind.startswith("image/") or not kind else "pdf"


def _tool_features(fields: dict[str, Raw], found: set[str]) -> None:
    tools = _value(fields, "tools")
    for tool in tools if isinstance(tools, list) else []:
        if not isinstance(tool, dict):
            continue
        names = {_camel(name) for name, value in tool.items() if value is not None}
        if "functionDeclarations" in names:
            found.add("tools")
        if names - {"functionDeclarations"}:
            found.add("server_tools")
    if b'"ANY"' in _raw(fields, "toolConfig"):
        found.add("forced_tool")


# the whole request ----------------------------------------------------------------------------------------------------


def decode_request(call: Call, peek: Peek) -> Request:
    body = camel({name: value for name, value in read.request_body(call.body).items() if name in peek.fields})
    if call.operation == "count_tokens" and body.get("generateContentRequest"):
        body = camel(body["generateContentRequest"], "generateContentRequest")
    config = camel(body.get("generationConfig") or {}, "generationConfig")
    where = "generationConfig"
    tools, choice = _tools_and_choice(body)
    labels = read.mapping(body, "labels")
    return Request(
        model=peek.model,
        messages=_messages(body),
        tools=tools,
        tool_choice=choice,
        response_format=_response_format(config),
        reasoning=_reasoning(config),
        max_output_tokens=read.integer(config, "maxOutputTokens", where),
        temperature=read.number(config, "temperature", where),
        top_p=read.number(config, "topP", where),
        top_k=read.integer(config, "topK", where),
        stop=read.strings(config, "stopSequences", where),
        seed=read.integer(config, "seed", where),
        frequency_penalty=read.number(config, "frequencyPenalty", where),
        presence_penalty=read.number(config, "presencePenalty", where),
        logprobs=bool(read.flag(config, "responseLogprobs", where)),
        top_logprobs=read.integer(config, "logprobs", where),
        n=read.integer(config, "candidateCount", where) or 1,
        metadata={name: str(value) for name, value in labels.items()} if labels else None,
        service_tier=_tier(body),
        stream=peek.stream,
        include_usage=True,
        origin=NAME,
        unmapped=_unmapped(body, config),
    )


def _tier(body: Json) -> str | None:
    tier = read.string(body, "serviceTier")
    return None if tier in (None, "unspecified") else tier.lower() if tier else None


def _unmapped(body: Json, config: Json) -> Json:
    unmapped = {name: value for name, value in body.items() if name not in _TOP_MEANT and value is not None}
    for name, value in config.items():
        if name in _CONFIG_MEANT or value is None or _is_text_only(name, value):
            continue
        unmapped[f"generationConfig.{name}"] = value
    for name, value in camel(body.get("toolConfig") or {}, "toolConfig").items():
        if name != "functionCallingConfig" and value is not None:
            unmapped[f"toolConfig.{name}"] = value
    if config.get("responseMimeType") not in (None, "text/plain", "application/json"):
        unmapped["generationConfig.responseMimeType"] = config["responseMimeType"]
    return unmapped


def _is_text_only(name: str, value: Any) -> bool:
    return name == "responseModalities" and value in (["TEXT"], ["Text"], ["text"])


def _reasoning(config: Json) -> Reasoning | None:
    given = config.get("thinkingConfig")
    if not given:
        return None
    at = "generationConfig.thinkingConfig"
    given = camel(given, at)
    shown = "auto" if read.flag(given, "includeThoughts", at) else "omitted"
    budget = read.integer(given, "thinkingBudget", at)
    level = read.string(given, "thinkingLevel", at)
    if level is not None and level != "THINKING_LEVEL_UNSPECIFIED":
        return Reasoning(effort=level.lower(), summary=shown)
    if budget is None or budget < 0:
        return Reasoning(adaptive=True, summary=shown)
    return Reasoning(enabled=budget > 0, budget_tokens=budget or None, summary=shown)


def _response_format(config: Json) -> ResponseFormat | None:
    schema = config.get("responseJsonSchema")
    if schema is not None and not isinstance(schema, dict):
        raise wrong("generationConfig.responseJsonSchema", "an object")
    given = read.mapping(config, "responseSchema", "generationConfig")
    if schema is None and given is not None:
        schema = from_gemini(given)
    if schema is not None:
        return ResponseFormat("json_schema", schema=schema)
    mime = read.string(config, "responseMimeType", "generationConfig")
    return ResponseFormat("json_object") if mime == "application/json" else None


def _tools_and_choice(body: Json) -> tuple[list[Tool | ServerTool], ToolChoice | None]:
    tools: list[Tool | ServerTool] = []
    given = body.get("tools")
    listed = given if isinstance(given, list) else [] if given is None else [given]
    for index, tool in enumerate(listed):
        named = camel(tool, f"tools[{index}]")
        for place, function in enumerate(read.array(named, "functionDeclarations", f"tools[{index}]")):
            tools.append(_tool(function, f"tools[{index}].functionDeclarations[{place}]"))
        own = {
            name: value
            for name, value in named.items()
            if name != "functionDeclarations" and value is not None
        }
        if own:
            tools.append(ServerTool(NAME, own))
    config = camel(body.get("toolConfig") or {}, "toolConfig").get("functionCallingConfig")
    if not config:
        return tools, None
    return _chosen(tools, camel(config, "toolConfig.functionCallingConfig"))


def _chosen(tools: list[Tool | ServerTool], config: Json) -> tuple[list[Tool | ServerTool], ToolChoice]:
    at = "toolConfig.functionCallingConfig"
    word = (read.string(config, "mode", at) or "AUTO").upper()
    mode = _MODES.get(word)
    if mode is None:
        raise wrong(f"{at}.mode", "AUTO, ANY, NONE or VALIDATED")
    allowed = read.strings(config, "allowedFunctionNames", at)
    if not allowed or mode == "none":
        return tools, ToolChoice(mode)
    if mode == "required" and len(allowed) == 1:
        return tools, ToolChoice("tool", allowed[0])
    # Offering only the allowed tools means the same where the vendor has no such list.
    return [tool for tool in tools if not isinstance(tool, Tool) or tool.name in allowed], ToolChoice(mode)


def _tool(given: Any, at: str) -> Tool:
    function = camel(given, at)
    schema = function.get("parametersJsonSchema")
    if schema is None:
        schema = from_gemini(function.get("parameters"))
    if not isinstance(schema, dict):
        raise wrong(f"{at}.parametersJsonSchema", "an object")
    return Tool(
        name=read.needed_string(function, "name", at),
        parameters=schema or {"type": "object", "properties": {}},
        description=read.string(function, "description", at),
    )


# messages -------------------------------------------------------------------------------------------------------------


def _messages(body: Json) -> list[Message]:
    messages: list[Message] = []
    system = body.get("systemInstruction")
    if system is not None:
        texts = [Text(text) for text in _system_texts(system)]
        if texts:
            messages.append(Message("system", [*texts]))
    contents = body.get("contents")
    listed = contents if isinstance(contents, list) else [contents]
    reader = _Turns()
    for index, content in enumerate(listed):
        made = reader.message(content, f"contents[{index}]")
        if made.role == "assistant" and messages and messages[-1].role == "assistant":
            messages[-1].parts += made.parts
        else:
            messages.append(made)
    for message in messages:
        if message.role == "assistant":
            message.parts = _whole(message.parts)
    return [message for message in messages if message.parts]


def _whole(parts: list[Part]) -> list[Part]:
    """Callers who streamed send back the pieces they got (google-genai's chats keep every chunk); a signature is for all."""
    whole: list[Part] = []
    for part in parts:
        last = whole[-1] if whole else None
        if isinstance(part, Text) and isinstance(last, Text):
            last.text += part.text
        elif isinstance(part, Thinking) and isinstance(last, Thinking) and _goes_on(last, part):
            last.text += part.text
            last.signature, last.origin = part.signature, part.origin if part.signature else last.origin
        else:
            whole.append(part)
    return whole


def _goes_on(last: Thinking, part: Thinking) -> bool:
    return not last.signature and last.redacted is None and part.redacted is None


def _system_texts(system: Any) -> list[str]:
    if isinstance(system, str):
        return [system]
    given = camel(system, "systemInstruction")
    texts = []
    for index, part in enumerate(_parts_of(given, "systemInstruction")):
        at = f"systemInstruction.parts[{index}]"
        text = read.string(part, "text", at) if isinstance(part, dict) else None
        if text is None:
            raise InvalidRequest(f"{at}.text is required: instructions are text.", param=f"{at}.text")
        texts.append(text)
    return texts


def _parts_of(content: Json, at: str) -> list[Any]:
    parts = content.get("parts")
    return [parts] if isinstance(parts, dict) else read.array(content, "parts", at)


class _Turns:
    """Gives tool calls without an id one, and finds the call that a result without an id answers: same name, in order."""

    def __init__(self) -> None:
        self._open: list[ToolCall] = []
        self._count = 0
        self._calling = False

    def message(self, given: Any, at: str) -> Message:
        content = camel(given, at)
        role = self._role(content, at)
        parts: list[Part] = []
        for index, part in enumerate(_parts_of(content, at)):
            parts.extend(self._part(camel(part, f"{at}.parts[{index}]"), f"{at}.parts[{index}]"))
        return Message(role, parts)

    def _role(self, content: Json, at: str) -> Role:
        role = read.string(content, "role", at) or "user"
        if role in ("user", "function"):
            self._calling = False
            return "user"
        if role == "model":
            if not self._calling:
                self._open = []
            self._calling = True
            return "assistant"
        if role == "system":
            return "system"
        raise wrong(f"{at}.role", "user or model")

    def _part(self, part: Json, at: str) -> list[Part]:
        sealed = read.string(part, "thoughtSignature", at)
        signature, origin = unseal_base64(sealed, NAME) if sealed else (None, NAME)
        if isinstance(part.get("text"), str):
            return _text_parts(part, signature, origin)
        if part.get("functionCall") is not None:
            return [self._call(camel(part["functionCall"], f"{at}.functionCall"), signature, origin, at)]
        if part.get("functionResponse") is not None:
            return [self._result(camel(part["functionResponse"], f"{at}.functionResponse"), at)]
        if part.get("inlineData") is not None:
            return [_media(part, at)]
        if part.get("fileData") is not None:
            return [_file(part, at)]
        return [Opaque(NAME, part)] if part else []

    def _call(self, call: Json, signature: str | None, origin: str, at: str) -> ToolCall:
        where = f"{at}.functionCall"
        name = read.needed_string(call, "name", where)
        self._count += 1
        call_id = read.string(call, "id", where) or made_id("call_", self._count, name)
        arguments = to_text(read.mapping(call, "args", where) or {})
        made = ToolCall(call_id, name, arguments, signature, origin if signature else None)
        self._open.append(made)
        return made

    def _result(self, response: Json, at: str) -> ToolResult:
        where = f"{at}.functionResponse"
        name = read.needed_string(response, "name", where)
        call_id = read.string(response, "id", where)
        answered = next(
            (call for call in self._open if (call.id == call_id if call_id else call.name == name)), None
        )
        if answered is None:
            raise InvalidRequest(
                f"{where}: no open function call {call_id or name!r} precedes it.", param=where
            )
        self._open.remove(answered)
        content, is_error = _result_content(read.mapping(response, "response", where) or {})
        for index, part in enumerate(read.array(response, "parts", where)):
            inside = f"{where}.parts[{index}]"
            media = self._part(camel(part, inside), inside)
            for one in media:
                if not isinstance(one, Image | Document):
                    raise InvalidRequest(
                        f"{inside}: only images and documents can be translated.", param=inside
                    )
                content.append(one)
        return ToolResult(answered.id, content, is_error, name)


def _text_parts(part: Json, signature: str | None, origin: str) -> list[Part]:
    text = part["text"]
    if signature and origin.endswith(REDACTED):
        return [Thinking(text, None, signature, None, origin.removesuffix(REDACTED))]
    if part.get("thought"):
        return [Thinking(text, signature, None, None, origin)]
    parts: list[Part] = [Text(text)] if text else []
    if signature:
        parts.append(Thinking("", signature, None, None, origin))
    return parts


def _result_content(response: Json) -> tuple[list[Text | Image | Document], bool]:
    """`output` and `error` are the names that Google's documentation gives to a result's text."""
    if len(response) == 1:
        ((name, value),) = response.items()
        if name in ("output", "result", "error"):
            return [Text(value if isinstance(value, str) else to_text(value))], name == "error"
    return [Text(to_text(response))], False


def _media(part: Json, at: str) -> Part:
    where = path(at, "inlineData")
    blob = camel(part["inlineData"], where)
    kind = read.needed_string(blob, "mimeType", where)
    data = standard_base64(read.needed_string(blob, "data", where))
    name = read.string(blob, "displayName", where)
    if kind.startswith("image/"):
        return Image(media_type=kind, data=data)
    if kind.startswith("audio/"):
        return Audio(_audio_format(kind), data)
    if kind == "text/plain":
        return Document(media_type=kind, data=_plain(data, where), name=name)
    if kind.startswith(("application/", "text/")):
        return Document(media_type=kind, data=data, name=name)
    return Opaque(NAME, part)


def _audio_format(kind: str) -> str:
    word = kind[6:].partition(";")[0].removeprefix("x-")
    return {"mpeg": "mp3", "wave": "wav"}.get(word, word)


def _plain(data: str, at: str) -> str:
    try:
        return base64.b64decode(data).decode()
    except (binascii.Error, ValueError):
        raise wrong(f"{at}.data", "the base64 of UTF-8 text") from None


def standard_base64(data: str) -> str:
    """The SDK writes the URL-safe alphabet; other vendors want the standard one, padded."""
    data = data.replace("-", "+").replace("_", "/")
    return data + "=" * (-len(data) % 4)


def _file(part: Json, at: str) -> Part:
    where = path(at, "fileData")
    given = camel(part["fileData"], where)
    uri = read.needed_string(given, "fileUri", where)
    kind = read.string(given, "mimeType", where) or ""
    if not uri.startswith(("http://", "https://")) or "generativelanguage.googleapis.com" in uri:
        return Opaque(NAME, part)  # a file in Google's own store
    if kind.startswith("image/"):
        return Image(media_type=kind, url=uri)
    if kind == "application/pdf":
        return Document(media_type=kind, url=uri, name=read.string(given, "displayName", where))
    return Opaque(NAME, part)
