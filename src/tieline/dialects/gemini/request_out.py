"""A request for a provider that speaks generateContent (Google AI Studio, Vertex AI)."""

from __future__ import annotations

import base64
import mimetypes
import re
from typing import Any

from tieline.dialects.base import Outgoing, Target, segment
from tieline.dialects.fields import Json, arguments_object, to_json, without_nulls
from tieline.dialects.gemini.request_in import NAME
from tieline.dialects.gemini.schema import to_gemini
from tieline.dialects.params import (
    budget_of,
    check_capabilities,
    check_media,
    effort_of,
    output_limit,
    refuse_prefill,
    refuse_unset,
    unsupported,
    without_idle_thought,
)
from tieline.dialects.pictures import picture_type
from tieline.dialects.schemas import stripped
from tieline.dialects.tool_names import GEMINI as GEMINI_NAME
from tieline.dialects.tool_names import fitting_names
from tieline.dialects.turns import names_said, paired
from tieline.dialects.unmapped import left_over
from tieline.types.request import (
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
    ServerTool,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
)

MAX_STOP = 5
"""`stopSequences`: up to 5 (ai.google.dev, API reference of GenerationConfig)."""
MAX_BUDGET = 24576
"""The largest thinking budget that every 2.5 model takes (ai.google.dev, "Gemini thinking")."""
UNSIGNED = "skip_thought_signature_validator"
"""What Google's page "Thought signatures" says to send for a call that another model made; Gemini 3 answers 400 to none."""

BUDGETED = re.compile(r"gemini-(1|2|robotics-er-1)")
"""Models that take a thinking budget; later ones take a level, and want signatures back."""
_ALWAYS_THINKS = re.compile(r"gemini-(2\.5-pro|[3-9][0-9.]*-pro)")
_LEVELS = {"none": "MINIMAL", "minimal": "MINIMAL", "low": "LOW", "medium": "MEDIUM"}
_TIERS = {
    "auto": None,
    "default": None,
    "standard": "standard",
    "standard_only": "standard",
    "flex": "flex",
    "priority": "priority",
}
_IMAGES = frozenset(("image/png", "image/jpeg", "image/webp", "image/heic", "image/heif", "image/gif"))


def encode_request(request: Request, target: Target) -> Outgoing:
    request = fitting_names(without_idle_thought(request, target), GEMINI_NAME)
    body = _body(request, target)
    return Outgoing(
        path=path_of(target, "streamGenerateContent" if request.stream else "generateContent"),
        body=to_json(body),
    )


def path_of(target: Target, method: str) -> str:
    template = target.quirks.path or "/v1beta/models/{model}:{method}"
    model = segment(target.model.removeprefix("models/"))
    made = template.replace("{model}", model).replace("{method}", method)
    return made + ("?alt=sse" if method == "streamGenerateContent" else "")


def _body(request: Request, target: Target) -> Json:
    _check(request, target)
    system, contents = _contents(request, target)
    body: Json = {
        "systemInstruction": system,
        "contents": contents,
        "generationConfig": _config(request, target) or None,
        "serviceTier": _tier(request, target),
    }
    _tools(body, request, target)
    for name, value in left_over(request, NAME, _understood(request)).items():
        if name == "modalities":
            name, value = "generationConfig.responseModalities", [each.upper() for each in value]
        outer, _, inner = name.partition(".")
        if inner:
            body[outer] = {**(body.get(outer) or {}), inner: value}
        else:
            body[name] = value
    if request.origin == NAME and request.metadata:
        body["labels"] = request.metadata
    for name in target.quirks.rejects:
        if body.get(name) is not None or (body.get("generationConfig") or {}).get(name) is not None:
            raise unsupported(request, name, target)
    return without_nulls(body)


def _understood(request: Request) -> tuple[str, ...]:
    """Chat's `modalities`, where it asks for text and pictures: sound has more to say."""
    asked = request.unmapped.get("modalities")
    known = isinstance(asked, list) and all(one in ("text", "image") for one in asked)
    return ("modalities",) if known and request.origin == "openai_chat" else ()


def _check(request: Request, target: Target) -> None:
    check_capabilities(request, target)
    check_media(request, target)
    refuse_prefill(request, target, unknown_is_able=True)
    refuse_unset(request, target, "min_p", "logit_bias")
    if len(request.stop) > MAX_STOP:
        raise unsupported(request, "stop", target, f"takes at most {MAX_STOP}")


def _config(request: Request, target: Target) -> Json:
    config: Json = {
        "temperature": request.temperature,
        "topP": request.top_p,
        "topK": request.top_k,
        "candidateCount": request.n if request.n > 1 else None,
        "maxOutputTokens": output_limit(request, target),
        "stopSequences": request.stop or None,
        "seed": request.seed,
        "presencePenalty": request.presence_penalty,
        "frequencyPenalty": request.frequency_penalty,
        "responseLogprobs": True if request.logprobs else None,
        "logprobs": request.top_logprobs if request.logprobs else None,
        "thinkingConfig": _thinking(request, target),
    }
    wanted = _format(request, target)
    if wanted is not None and wanted.kind != "text":
        config["responseMimeType"] = "application/json"
    if wanted is not None and wanted.kind == "json_schema":
        name = "responseSchema" if "responseJsonSchema" in target.quirks.rejects else "responseJsonSchema"
        config[name] = _schema(wanted.schema or {}, target, openapi=name == "responseSchema")
    return without_nulls(config)


def _format(request: Request, target: Target) -> ResponseFormat | None:
    wanted = request.response_format
    if wanted is None or wanted.kind == "text" or not BUDGETED.search(target.model):
        return wanted
    choice = request.tool_choice
    if not any(isinstance(tool, Tool) for tool in request.tools) or (choice and choice.mode == "none"):
        return wanted
    if choice is not None and choice.mode in ("required", "tool"):
        return None  # no text to format
    # "Function calling with a response mime type: 'application/json' is unsupported" (googleapis/python-genai, issue 867).
    raise unsupported(request, "response_format", target, "does not take it together with tools")


def _schema(schema: Json, target: Target, *, openapi: bool) -> Json:
    """JSON Schema, which newer endpoints take as it is, or the older ones' OpenAPI subset (WIRE_FACTS 16)."""
    if openapi:
        return to_gemini(schema)
    kept: Json = stripped(schema, ("$schema", *target.quirks.schema_strips))
    return kept


def _thinking(request: Request, target: Target) -> Json | None:
    asked = request.reasoning
    if asked is None:
        return None
    if not asked.enabled or asked.effort == "none":
        return _no_thinking(request, target)
    config: Json = {"includeThoughts": asked.summary != "omitted"}
    if BUDGETED.search(target.model):
        budget = budget_of(asked)
        if budget is not None:
            config["thinkingBudget"] = min(budget, MAX_BUDGET)
    else:
        config.update(_level(asked))
    return config


def _level(asked: Reasoning) -> Json:
    effort = effort_of(asked)
    return {} if effort is None else {"thinkingLevel": _LEVELS.get(effort, "HIGH")}


def _no_thinking(request: Request, target: Target) -> Json:
    if _ALWAYS_THINKS.search(target.model):
        raise unsupported(request, "reasoning", target, "cannot be told not to think")
    if BUDGETED.search(target.model):
        return {"thinkingBudget": 0}
    return {"thinkingLevel": "MINIMAL"}


def _tier(request: Request, target: Target) -> str | None:
    tier = request.service_tier
    if tier is None:
        return None
    if tier not in _TIERS:
        raise unsupported(request, "service_tier", target, f"has no tier {tier!r}")
    return _TIERS[tier]


def _tools(body: Json, request: Request, target: Target) -> None:
    functions = [_function(tool, target) for tool in request.tools if isinstance(tool, Tool)]
    tools: list[Any] = [{"functionDeclarations": functions}] if functions else []
    for tool in request.tools:
        if isinstance(tool, ServerTool):
            if tool.origin != NAME:
                raise unsupported(request, "tools", target, f"does not run the tool {tool.title}")
            tools.append(tool.value)
    if tools:
        body["tools"] = tools
    choice = request.tool_choice
    if choice is None or not functions:
        return
    mode = {"auto": "AUTO", "required": "ANY", "none": "NONE", "tool": "ANY"}[choice.mode]
    calling: Json = {"mode": mode}
    if choice.mode == "tool":
        calling["allowedFunctionNames"] = [choice.name]
    body["toolConfig"] = {"functionCallingConfig": calling}


def _function(tool: Tool, target: Target) -> Json:
    function: Json = {"name": tool.name, "description": tool.description}
    if "parametersJsonSchema" in target.quirks.rejects:
        schema = _schema(tool.parameters, target, openapi=True)
        # An object without properties is refused there; no parameters at all says the same.
        function["parameters"] = schema if schema.get("properties") else None
    else:
        function["parametersJsonSchema"] = _schema(tool.parameters, target, openapi=False)
    return without_nulls(function)


# messages -------------------------------------------------------------------------------------------------------------


def _contents(request: Request, target: Target) -> tuple[Json | None, list[Json]]:
    """Instructions are hoisted, wherever they stand (WIRE_FACTS 17); neighbours of one role become one content.

    Results of tools stand apart from what else the user says: Gemini 3.7 answers 400 to both in one content
    (github.com/MoonshotAI/kimi-code/issues/3274).
    """
    system: list[Json] = []
    contents: list[Json] = []
    for message in names_said(paired(request.messages)):
        if message.role == "system":
            system += [{"text": part.text} for part in message.parts if isinstance(part, Text) and part.text]
            continue
        role = "model" if message.role == "assistant" else "user"
        parts = (
            _model_parts(message, request, target)
            if role == "model"
            else _user_parts(message, request, target)
        )
        for part in parts:
            last = contents[-1] if contents else None
            if last and last["role"] == role and _is_result(last["parts"][-1]) == _is_result(part):
                last["parts"].append(part)
            else:
                contents.append({"role": role, "parts": [part]})
    if system and not contents:
        # Nothing but instructions: this API wants a user's turn.
        return None, [{"role": "user", "parts": system}]
    return ({"parts": system} if system else None), contents


def _is_result(part: Json) -> bool:
    return "functionResponse" in part


def _user_parts(message: Message, request: Request, target: Target) -> list[Json]:
    parts: list[Json] = []
    shown: list[Json] = []
    for part in message.parts:
        if isinstance(part, ToolResult):
            media = [
                _content(inner, request, target) for inner in part.content if not isinstance(inner, Text)
            ]
            result = _result(part)
            if media and BUDGETED.search(target.model):
                # Its results hold text only; what the tool showed follows as the user's.
                shown += [{"text": f"Shown by the tool call {part.id}:"}, *media]
            elif media:
                result["functionResponse"]["parts"] = media
            parts.append(result)
        elif not isinstance(part, Text) or part.text:
            shown.append(_content(part, request, target))
    return parts + shown


def _content(part: Part, request: Request, target: Target) -> Json:
    if isinstance(part, Text | Refusal):
        return {"text": part.text}
    if isinstance(part, Image):
        return _image(part, request, target)
    if isinstance(part, Document):
        return _document(part, request, target)
    if isinstance(part, Audio):
        return {"inlineData": {"mimeType": f"audio/{part.format}", "data": part.data}}
    if isinstance(part, Opaque) and part.origin == NAME and isinstance(part.value, dict):
        return part.value
    raise unsupported(request, "messages", target, "does not know a block of another vendor")


def _image(part: Image, request: Request, target: Target) -> Json:
    if part.file_id is not None:
        raise unsupported(
            request, "messages", target, f"does not have the file {part.file_id!r} of another vendor"
        )
    if part.data is not None:
        kind = picture_type(part.media_type, part.data)
        if kind not in _IMAGES:
            raise unsupported(request, "messages", target, f"does not take {kind}")
        return {"inlineData": {"mimeType": kind, "data": part.data}}
    return _by_url(part.url or "", part.media_type, "image/jpeg")


def _by_url(url: str, kind: str | None, otherwise: str) -> Json:
    guessed = kind or mimetypes.guess_type(url.partition("?")[0])[0] or otherwise
    return {"fileData": {"mimeType": guessed, "fileUri": url}}


def _document(part: Document, request: Request, target: Target) -> Json:
    if part.file_id is not None:
        raise unsupported(
            request, "messages", target, f"does not have the file {part.file_id!r} of another vendor"
        )
    if part.url is not None:
        return _by_url(part.url, part.media_type, "application/pdf")
    data = part.data or ""
    if part.media_type == "text/plain":
        data = base64.b64encode(data.encode()).decode()
    return {"inlineData": {"mimeType": part.media_type, "data": data}}


def _result(part: ToolResult) -> Json:
    text = "\n".join(inner.text for inner in part.content if isinstance(inner, Text))
    response: Json = {"error": text} if part.is_error else {"result": text}
    return {"functionResponse": {"id": part.id, "name": part.name or part.id, "response": response}}


def _model_parts(message: Message, request: Request, target: Target) -> list[Json]:
    parts: list[Json] = []
    called = False
    for part in message.parts:
        if isinstance(part, ToolCall):
            parts.append(_call(part, target, first=not called))
            called = True
        elif isinstance(part, Thinking):
            parts.extend(_thought(part))
        elif not isinstance(part, Text) or part.text:
            parts.append(_content(part, request, target))
    return parts


def _call(part: ToolCall, target: Target, *, first: bool) -> Json:
    made: Json = {
        "functionCall": {
            "id": part.id,
            "name": part.name,
            "args": arguments_object(part.arguments),
        }
    }
    if part.signature and part.origin in (NAME, None):
        made["thoughtSignature"] = part.signature
    elif first and not BUDGETED.search(target.model):
        made["thoughtSignature"] = UNSIGNED
    return made


def _thought(part: Thinking) -> list[Json]:
    """This vendor's own thoughts with their signature; another's mean nothing to it (WIRE_FACTS 21)."""
    if part.origin != NAME or not part.signature:
        return []
    if part.text:
        return [{"text": part.text, "thought": True, "thoughtSignature": part.signature}]
    return [{"text": "", "thoughtSignature": part.signature}]
