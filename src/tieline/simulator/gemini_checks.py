"""What the Gemini API accepts; everything else is refused in its words (those of protobuf's JSON parser)."""

from __future__ import annotations

import base64
import re
from typing import Any

from tieline.simulator.answer import Ask, Refusal, Tool, unsealed
from tieline.simulator.exchange import Exchange, words
from tieline.simulator.shapes import SCHEMA, misfit
from tieline.simulator.vectors import MAX_DIMENSIONS

_FIELDS = words(
    "contents tools toolConfig safetySettings systemInstruction generationConfig cachedContent model labels serviceTier store"
)
_CONFIG_FIELDS = words(
    "stopSequences responseMimeType responseSchema responseJsonSchema _responseJsonSchema responseModalities candidateCount "
    "maxOutputTokens temperature topP topK seed presencePenalty frequencyPenalty responseLogprobs logprobs "
    "enableEnhancedCivicAnswers speechConfig thinkingConfig imageConfig mediaResolution audioTimestamp routingConfig "
    "modelSelectionConfig enableAffectiveDialog responseFormat"
)
_PART_DATA = [
    "text",
    "inlineData",
    "functionCall",
    "functionResponse",
    "fileData",
    "executableCode",
    "codeExecutionResult",
    "toolCall",
    "toolResponse",
]
_PART_FIELDS = frozenset(
    [
        *_PART_DATA,
        "thought",
        "thoughtSignature",
        "partMetadata",
        "videoMetadata",
        "mediaResolution",
        "mediaProcessing",
    ]
)
_TOOL_FIELDS = words(
    "functionDeclarations googleSearch googleSearchRetrieval codeExecution urlContext computerUse fileSearch googleMaps "
    "mcpServers"
)
_FUNCTION_FIELDS = words(
    "name description behavior parameters parametersJsonSchema response responseJsonSchema"
)
_SCHEMA_FIELDS = words(
    "type format title description nullable enum items maxItems minItems properties required minProperties maxProperties "
    "minimum maximum minLength maxLength pattern example anyOf propertyOrdering default"
)
_FUNCTION_NAME = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,63}")
_MAX_STOP = 5
_TYPES = {
    name: shape for name, shape in SCHEMA.items() if name not in ("type", "items", "properties", "anyOf")
} | {
    "properties": dict,
    "anyOf": list,
    "mimeType": str,
    "role": str,
    "name": str,
    "args": dict,
    "mode": str,
    "allowedFunctionNames": [str],
    "parametersJsonSchema": SCHEMA,
    "responseJsonSchema": SCHEMA,
    "_responseJsonSchema": SCHEMA,
    "responseMimeType": str,
    "maxOutputTokens": int,
    "temperature": float,
    "stopSequences": [str],
    "candidateCount": range(1, 9),
    "responseLogprobs": bool,
    "logprobs": range(21),
    "includeThoughts": bool,
    "outputDimensionality": range(1, MAX_DIMENSIONS + 1),
}
"""By the field's name, which means the same wherever it stands."""


def invalid(message: str) -> Refusal:
    return Refusal("invalid", message)


def camel(name: str) -> str:
    """Protobuf's JSON accepts ``snake_case`` too."""
    head, *rest = name.split("_") if not name.startswith("_") else [name]
    return head + "".join(word[:1].upper() + word[1:] for word in rest)


def _snake(name: str) -> str:
    return re.sub(r"([A-Z])", lambda match: "_" + match[1].lower(), name)


def known(value: Any, allowed: frozenset[str], at: str) -> dict[str, Any]:
    """``value`` with its names in camelCase; refuses what the message does not have."""
    if not isinstance(value, dict):
        raise invalid(
            f"Invalid value at '{at}' (type.googleapis.com/google.ai.generativelanguage.v1beta), {value!r}"
        )
    found = {}
    for name, inner in value.items():
        if camel(name) not in allowed:
            place = f" at '{at}'" if at else ""
            raise invalid(f'Invalid JSON payload received. Unknown name "{name}"{place}: Cannot find field.')
        _check_type(camel(name), inner, at)
        found[camel(name)] = inner
    return found


def _check_type(name: str, value: Any, at: str) -> None:
    shape = _TYPES.get(name)
    wrong = misfit({name: value}, {name: shape}) if shape is not None else None
    if wrong is not None:
        path = f"{at}.{_snake(wrong.indexed)}".lstrip(".")
        raise invalid(f"Invalid value at '{path}' (TYPE_{wrong.wanted[0].upper()}), {wrong.value!r}")


def _list(value: Any, at: str) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def read_generate(exchange: Exchange, body: dict[str, Any] | None = None) -> Ask:
    body = known(exchange.body if body is None else body, _FIELDS, "")
    ask = Ask(model=exchange.model, stream=exchange.stream)
    contents = body.get("contents")
    if not contents:
        raise invalid("* GenerateContentRequest.contents: contents is not specified\n")
    turns = [
        _content(ask, item, f"contents[{i}]", exchange) for i, item in enumerate(_list(contents, "contents"))
    ]
    _turn_order(turns)
    _conversation(ask, turns)
    if body.get("systemInstruction") is not None:
        instruction = known(body["systemInstruction"], frozenset(("role", "parts")), "system_instruction")
        for index, part in enumerate(_list(instruction.get("parts"), "parts")):
            _part(ask, part, f"system_instruction.parts[{index}]", exchange)
    _tools(ask, body)
    _config(ask, known(body.get("generationConfig") or {}, _CONFIG_FIELDS, "generation_config"))
    if exchange.model.startswith("gemini-3") or exchange.behaviour.content == "think":
        _results_apart(turns)
        _signatures(turns, exchange.seed)
    return ask


def _content(ask: Ask, item: Any, at: str, exchange: Exchange) -> tuple[str, list[dict[str, Any]]]:
    content = known(item, frozenset(("role", "parts")), at)
    role = content.get("role") or "user"
    if role not in ("user", "model", "function"):
        raise invalid("Please use a valid role: user, model.")
    parts = _list(content.get("parts"), at)
    if not parts:
        raise invalid(f"* GenerateContentRequest.{at}.parts: contents.parts must not be empty.\n")
    return role, [_part(ask, part, f"{at}.parts[{index}]", exchange) for index, part in enumerate(parts)]


def _part(ask: Ask, given: Any, at: str, exchange: Exchange) -> dict[str, Any]:
    part = known(given, _PART_FIELDS, at)
    data = [name for name in _PART_DATA if name in part]
    if not data and not part.get("thoughtSignature"):
        raise invalid(
            f"* GenerateContentRequest.{at}.data: required oneof field 'data' must have one initialized field\n"
        )
    if len(data) > 1:
        name = _snake(data[1])
        raise invalid(
            f"Invalid value at '{at}' (oneof), oneof field 'data' is already set. Cannot set '{name}'"
        )
    if "text" in part:
        if not isinstance(part["text"], str):
            raise invalid(f"Invalid value at '{at}.text' (TYPE_STRING), {part['text']!r}")
        ask.text_chars.append(part["text"])
    for name in ("inlineData", "fileData"):
        if name in part:
            _media(ask, name, part[name], f"{at}.{_snake(name)}")
    _function(ask, part, at)
    return part


def _function(ask: Ask, part: dict[str, Any], at: str) -> None:
    if "functionCall" in part:
        call = known(
            part["functionCall"],
            words("id name args partialArgs willContinue"),
            f"{at}.function_call",
        )
        if not isinstance(call.get("args", {}), dict):
            raise invalid(
                f"Invalid value at '{at}.function_call.args' (type.googleapis.com/google.protobuf.Struct)"
            )
        if not call.get("name"):
            raise invalid(f"* GenerateContentRequest.{at}.function_call.name: Name cannot be empty.\n")
        ask.text_chars.append(str(call.get("args")))
    if "functionResponse" in part:
        fields = words("id name response willContinue scheduling parts")
        answer = known(part["functionResponse"], fields, f"{at}.function_response")
        if not answer.get("name"):
            raise invalid(f"* GenerateContentRequest.{at}.function_response.name: Name cannot be empty.\n")
        if not isinstance(answer.get("response"), dict):
            raise invalid(
                f"Invalid value at '{at}.function_response.response' (type.googleapis.com/google.protobuf.Struct), "
                f"{answer.get('response')!r}"
            )
        ask.text_chars.append(str(answer["response"]))


def _media(ask: Ask, name: str, given: Any, at: str) -> None:
    wanted = "data" if name == "inlineData" else "fileUri"
    media = known(given, frozenset(("mimeType", wanted, "displayName")), at)
    kind = media.get("mimeType") or ""
    if name == "inlineData" and not kind:
        raise invalid(f"* GenerateContentRequest.{at}.mime_type: The mime_type parameter is not set.\n")
    if not isinstance(media.get(wanted), str) or not media[wanted]:
        raise invalid(f"* GenerateContentRequest.{at}.{_snake(wanted)}: must not be empty.\n")
    if kind.startswith("image/"):
        ask.images += 1
    elif kind.startswith("audio/"):
        ask.audios += 1
    elif kind in ("application/pdf", "") or kind.startswith(("text/", "video/")):
        ask.documents += 1
    else:
        raise invalid(f"Unsupported MIME type: {kind}")


def _turn_order(turns: list[tuple[str, list[dict[str, Any]]]]) -> None:
    calls = 0
    for index, (role, parts) in enumerate(turns):
        responses = sum("functionResponse" in part for part in parts)
        if responses and not calls:
            raise invalid(
                "Please ensure that function response turn comes immediately after a function call turn."
            )
        if calls and responses != calls:
            raise invalid(
                "Please ensure that the number of function response parts is equal to the number of function call parts of the "
                "function call turn."
            )
        calls = sum("functionCall" in part for part in parts) if role == "model" else 0
        if calls and (index == 0 or turns[index - 1][0] == "model"):
            raise invalid(
                "Please ensure that function call turn comes immediately after a user turn or after a function response turn."
            )
    if calls:
        raise invalid(
            "Please ensure that the number of function response parts is equal to the number of function call parts of the "
            "function call turn."
        )


def _results_apart(turns: list[tuple[str, list[dict[str, Any]]]]) -> None:
    """As Gemini 3.7 answers where something else stands beside the results of tools."""
    for _, parts in turns:
        if 0 < sum("functionResponse" in part for part in parts) < len(parts):
            raise invalid("Requests ending with a model turn are not supported.")


def _signatures(turns: list[tuple[str, list[dict[str, Any]]]], seed: int) -> None:
    """The first call of each step in the current turn carries its thought signature; any that is there must be ours."""
    current = max((i for i, (role, parts) in enumerate(turns) if role == "user" and _text(parts)), default=0)
    for index, (role, parts) in enumerate(turns):
        for part in parts:
            given = part.get("thoughtSignature")
            if given is not None and given != _SKIP and not unsealed(seed, "gemini", _decoded(given)):
                raise invalid("Corrupted thought signature.")
        first = next((part for part in parts if "functionCall" in part), None)
        if role == "model" and index > current and first is not None and "thoughtSignature" not in first:
            raise invalid(
                f"Function call is missing a thought_signature in functionCall parts. This is required for tools to work "
                f"correctly, and missing thought_signature may lead to degraded model performance. Function call "
                f"`default_api:{first['functionCall'].get('name')}` , position {index + 1}."
            )


_SKIP = "skip_thought_signature_validator"
"""Google's documented way to inject calls that no Gemini made."""


def _decoded(value: Any) -> str:
    try:
        return base64.b64decode(str(value) + "=" * (-len(str(value)) % 4), altchars=b"-_").decode("ascii")
    except ValueError:
        return ""


def _text(parts: list[dict[str, Any]]) -> str:
    return "\n".join(part["text"] for part in parts if part.get("text") and not part.get("thought"))


def _conversation(ask: Ask, turns: list[tuple[str, list[dict[str, Any]]]]) -> None:
    users = [text for role, parts in turns if role == "user" and (text := _text(parts))]
    ask.first_user, ask.last_user = (users[0], users[-1]) if users else ("", "")
    role, parts = turns[-1]
    if role == "model":
        ask.prefill = _text(parts)
    elif len(turns) > 1 and turns[-2][0] == "model":
        ask.partial = _text(turns[-2][1])
    for part in parts:
        if "functionResponse" in part:
            response = part["functionResponse"]["response"]
            ask.tool_results.append(str(response.get("result", response.get("output", response))))


def _tools(ask: Ask, body: dict[str, Any]) -> None:
    for index, given in enumerate(_list(body.get("tools"), "tools")):
        tool = known(given, _TOOL_FIELDS, f"tools[{index}]")
        for number, declared in enumerate(_list(tool.get("functionDeclarations"), "tools")):
            ask.tools.append(_declaration(declared, f"tools[{index}].function_declarations[{number}]"))
    ask.text_chars += [tool.name + str(tool.schema) for tool in ask.tools]
    config = known(
        body.get("toolConfig") or {}, frozenset(("functionCallingConfig", "retrievalConfig")), "tool_config"
    )
    calling = known(
        config.get("functionCallingConfig") or {},
        frozenset(("mode", "allowedFunctionNames", "streamFunctionCallArguments")),
        "tool_config.function_calling_config",
    )
    mode, names = calling.get("mode") or "AUTO", calling.get("allowedFunctionNames") or []
    if mode not in ("AUTO", "ANY", "NONE", "VALIDATED", "MODE_UNSPECIFIED"):
        raise invalid(f"Invalid value at 'tool_config.function_calling_config.mode', \"{mode}\"")
    if mode in ("ANY", "VALIDATED") and not ask.tools:
        raise invalid("Function calling config is set without function_declarations.")
    if names and mode not in ("ANY", "VALIDATED"):
        raise invalid(
            "Allowed function names can only be set when function calling mode is ANY or VALIDATED."
        )
    ask.tool_choice = {"ANY": "required", "NONE": "none"}.get(mode, "auto")
    _allow(ask, names)


def _allow(ask: Ask, names: list[str]) -> None:
    known = [tool.name for tool in ask.tools]
    for name in names:
        if name not in known:
            raise invalid(f"Allowed function name '{name}' is not found in function declarations.")
    if names:
        ask.tools = [tool for tool in ask.tools if tool.name in names]
        if len(names) == 1 and ask.tool_choice == "required":
            ask.tool_choice = names[0]


def _declaration(given: Any, at: str) -> Tool:
    declared = known(given, _FUNCTION_FIELDS, at)
    name = declared.get("name")
    if not isinstance(name, str) or not _FUNCTION_NAME.fullmatch(name):
        raise invalid(
            f"* GenerateContentRequest.{at}.name: Invalid function name. Must start with a letter or an underscore. Must be "
            "alphameric (a-z, A-Z, 0-9), underscores (_), dots (.), colons (:) or dashes (-), with a maximum length of 64.\n"
        )
    if "parameters" in declared and "parametersJsonSchema" in declared:
        raise invalid(
            f"* GenerateContentRequest.{at}: only one of parameters and parameters_json_schema may be set.\n"
        )
    if declared.get("parameters") is not None:
        check_schema(declared["parameters"], f"{at}.parameters")
    return Tool(name, declared.get("parameters") or declared.get("parametersJsonSchema"))


def check_schema(given: Any, at: str) -> None:
    """Gemini's Schema is a part of JSON Schema: no ``$schema``, no ``additionalProperties``, no lists of types (WIRE_FACTS 16)."""
    schema = known(given, _SCHEMA_FIELDS, at)
    kind = schema.get("type")
    if isinstance(kind, list):
        raise invalid(
            f"Invalid JSON payload received. Unknown name \"type\" at '{at}': Proto field is not repeating, cannot start list."
        )
    for index, value in enumerate(schema.get("enum") or []):
        if not isinstance(value, str):
            raise invalid(f"Invalid value at '{at}.enum[{index}]' (TYPE_STRING), {value}")
        if not value:
            raise invalid(f"* GenerateContentRequest.{at}.enum[{index}]: cannot be empty\n")
    if str(kind).upper() == "ARRAY" and "items" not in schema:
        raise invalid(f"* GenerateContentRequest.{at}.items: missing field.\n")
    for name, inner in (schema.get("properties") or {}).items():
        check_schema(inner, f"{at}.properties[{name}]")
    for name in schema.get("required") or []:
        if name not in (schema.get("properties") or {}):
            raise invalid(f"* GenerateContentRequest.{at}.required[0]: property is not defined\n")
    if "items" in schema:
        check_schema(schema["items"], f"{at}.items")
    for index, inner in enumerate(schema.get("anyOf") or []):
        check_schema(inner, f"{at}.any_of[{index}]")


def _config(ask: Ask, config: dict[str, Any]) -> None:
    ask.max_tokens = config.get("maxOutputTokens")
    if ask.max_tokens is not None and (not isinstance(ask.max_tokens, int) or ask.max_tokens < 1):
        raise invalid("* GenerateContentRequest.generation_config.max_output_tokens: must be positive.\n")
    temperature = config.get("temperature")
    if temperature is not None and not 0 <= temperature <= 2:
        raise invalid(
            f"* GenerateContentRequest.generation_config.temperature: {temperature} is out of supported range [0.0, 2.0].\n"
        )
    ask.stop = config.get("stopSequences") or []
    if len(ask.stop) > _MAX_STOP:
        raise invalid("* GenerateContentRequest.generation_config.stop_sequences: at most 5 are supported.\n")
    ask.n = config.get("candidateCount") or 1
    ask.logprobs = (config.get("logprobs") or 0) if config.get("responseLogprobs") else None
    thinking = known(
        config.get("thinkingConfig") or {},
        frozenset(("includeThoughts", "thinkingBudget", "thinkingLevel")),
        "generation_config.thinking_config",
    )
    ask.thinking = bool(thinking.get("includeThoughts"))
    _formats(ask, config)


def _formats(ask: Ask, config: dict[str, Any]) -> None:
    mime = config.get("responseMimeType")
    schema = config.get("responseSchema")
    other = config.get("responseJsonSchema") or config.get("_responseJsonSchema")
    if mime not in (None, "", "text/plain", "application/json", "text/x.enum"):
        raise invalid(
            "* GenerateContentRequest.generation_config.response_mime_type: allowed mimetypes are `text/plain`, "
            "`application/json`, `application/xml`, `application/yaml` and `text/x.enum`.\n"
        )
    if (schema is not None or other is not None) and mime not in ("application/json", "text/x.enum"):
        raise invalid(
            "* GenerateContentRequest.generation_config.response_schema: only allowed with response_mime_type application/json.\n"
        )
    if schema is not None:
        check_schema(schema, "generation_config.response_schema")
    ask.json_schema = schema if schema is not None else other
    ask.json_mode = mime == "application/json" and ask.json_schema is None
