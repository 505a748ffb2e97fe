"""What Converse accepts; everything else is refused in its words."""

from __future__ import annotations

import base64
import binascii
import hmac
import json
import re
from typing import Any

from tieline.simulator.answer import Ask, Refusal, Tool, sign
from tieline.simulator.anthropic_checks import refuses_prefill
from tieline.simulator.exchange import Exchange, words
from tieline.simulator.shapes import SCHEMA, Shape, misfit

_FIELDS = words(
    "messages system inferenceConfig toolConfig guardrailConfig additionalModelRequestFields promptVariables "
    "additionalModelResponseFieldPaths requestMetadata performanceConfig serviceTier outputConfig"
)
_BLOCKS = words(
    "text image document video audio toolUse toolResult guardContent cachePoint reasoningContent citationsContent searchResult"
)
_TOOL_ID = re.compile(r"[a-zA-Z0-9_.:-]{1,256}")
_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_CONFIG = words("maxTokens temperature topP stopSequences")
_IMAGES = ("png", "jpeg", "gif", "webp")
_DOCUMENTS = ("pdf", "csv", "doc", "docx", "xls", "xlsx", "html", "txt", "md")


_NAME = {"name": str}
_MEDIA = {"format": str, "name": str, "source": {"bytes": str}}
_BLOCK = {
    "image": _MEDIA,
    "document": _MEDIA,
    "toolUse": {"toolUseId": str, "name": str, "input": dict},
    "toolResult": {"toolUseId": str, "content": [dict]},
    "reasoningContent": {"reasoningText": {"text": str, "signature": str}},
}
_TYPES = {
    "messages": [{"role": str, "content": [_BLOCK]}],
    "system": [dict],
    "inferenceConfig": {"maxTokens": int, "temperature": float, "topP": float, "stopSequences": [str]},
    "toolConfig": {
        "tools": [{"toolSpec": {"name": str, "inputSchema": {"json": SCHEMA}}}],
        "toolChoice": {"auto": dict, "any": dict, "tool": _NAME},
    },
    "additionalModelRequestFields": {"thinking": {"type": str}},
    "outputConfig": {"textFormat": {"structure": {"jsonSchema": {"schema": str}}}},
}


def invalid(message: str) -> Refusal:
    return Refusal("invalid", message)


def check_types(body: dict[str, Any], shape: Shape) -> None:
    wrong = misfit(body, shape)
    if wrong is not None:
        raise invalid(
            f"The value at {wrong.dotted} is of type {wrong.found}, not {' or '.join(wrong.wanted)}."
        )


def read_converse(exchange: Exchange) -> Ask:
    body = exchange.body
    for name in body:
        if name not in _FIELDS:
            raise invalid(f"1 validation error detected: Unexpected field '{name}' in the request")
    check_types(body, _TYPES)
    ask = Ask(model=exchange.model, stream=exchange.stream)
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise invalid("The value at messages is empty. Add a message and try your request again.")
    for index, message in enumerate(messages):
        _message(ask, message, index, exchange.seed)
    _order(messages)
    _conversation(ask, messages, exchange.model)
    for block in body.get("system") or []:
        if not isinstance(block, dict) or not block.keys() <= {"text", "cachePoint", "guardContent"}:
            raise invalid("The system field contains an unsupported block.")
        ask.text_chars.append(str(block.get("text", "")))
    _config(ask, body.get("inferenceConfig") or {})
    _tools(ask, body.get("toolConfig"), messages)
    extra = body.get("additionalModelRequestFields") or {}
    ask.thinking = (extra.get("thinking") or {}).get("type") in ("enabled", "adaptive")
    wanted = ((body.get("outputConfig") or {}).get("textFormat") or {}).get("structure") or {}
    if wanted.get("jsonSchema") is not None:
        ask.json_schema = _schema(wanted["jsonSchema"].get("schema"))
    return ask


def _schema(text: Any) -> Any:
    try:
        schema = json.loads(text)
    except (TypeError, ValueError, RecursionError):
        raise invalid(
            "The schema at outputConfig.textFormat.structure.jsonSchema is not valid JSON."
        ) from None
    check_types({"schema": schema}, {"schema": SCHEMA})
    return schema


def _message(ask: Ask, message: Any, index: int, seed: int) -> None:
    if not isinstance(message, dict) or not message.keys() <= {"role", "content"}:
        raise invalid(f"Unexpected field in messages.{index}")
    if message.get("role") not in ("user", "assistant"):
        raise invalid(
            f"1 validation error detected: Value '{message.get('role')}' at 'messages.{index + 1}.member.role' failed to satisfy "
            "constraint: Member must satisfy enum value set: [user, assistant]"
        )
    content = message.get("content")
    if not isinstance(content, list):
        raise invalid(f"messages.{index}.content: expected a list")
    if not content:
        raise invalid(
            f"The content field in the Message object at messages.{index} is empty. Add a ContentBlock and try again."
        )
    for number, block in enumerate(content):
        _block(ask, block, f"messages.{index}.content.{number}", seed)


def _block(ask: Ask, block: Any, at: str, seed: int) -> None:
    if not isinstance(block, dict) or len(block) != 1 or not block.keys() <= _BLOCKS:
        raise invalid(
            f"The ContentBlock object at {at} must set one of the following keys: {', '.join(sorted(_BLOCKS))}."
        )
    ((kind, value),) = block.items()
    if value is None:
        raise invalid(f"The value at {at}.{kind} is null.")
    if kind == "text":
        if not isinstance(value, str) or not value.strip():
            raise invalid(
                f"The text field in the ContentBlock object at {at} is blank. Add text to the text field, and try again."
            )
        ask.text_chars.append(value)
    elif kind in ("image", "document"):
        _media(ask, kind, value, at)
    elif kind == "toolUse":
        if not _TOOL_ID.fullmatch(value.get("toolUseId") or ""):
            raise invalid(f"Value at '{at}.toolUse.toolUseId' failed to satisfy constraint: [a-zA-Z0-9_.:-]+")
        if not isinstance(value.get("input"), dict):
            raise invalid(
                f"The format of the value at {at}.toolUse.input is invalid. Provide a json object for the field."
            )
    elif kind == "toolResult":
        if not isinstance(value.get("toolUseId"), str):
            raise invalid(f"The toolResult block at {at} has no toolUseId.")
        if not isinstance(value.get("content"), list):
            raise invalid(f"The toolResult block at {at} has no content list.")
        ask.text_chars += [str(inner.get("text", inner.get("json", ""))) for inner in value["content"]]
    elif kind == "reasoningContent" and "reasoningText" in value:
        text = value["reasoningText"]
        wanted = sign(seed, "anthropic", str(text.get("text", "")))
        if not hmac.compare_digest(str(text.get("signature", "")).encode(), wanted.encode()):
            raise invalid(f"{at}: Invalid `signature` in `thinking` block")


def _media(ask: Ask, kind: str, value: dict[str, Any], at: str) -> None:
    if value.get("format") not in (_IMAGES if kind == "image" else _DOCUMENTS):
        raise invalid(f"Value '{value.get('format')}' at '{at}.{kind}.format' is not supported.")
    if kind == "document" and not re.fullmatch(r"[a-zA-Z0-9 ()\[\]-]+", str(value.get("name") or "")):
        raise invalid(
            "The document file name can only contain alphanumeric characters, whitespace characters, hyphens, parentheses, and "
            "square brackets."
        )
    data = (value.get("source") or {}).get("bytes")
    if data is not None:
        try:
            base64.b64decode(data, validate=True)
        except (binascii.Error, TypeError):
            raise invalid(f"The {kind} bytes at {at} are not base64.") from None
    if kind == "image":
        ask.images += 1
    else:
        ask.documents += 1


def _order(messages: list[dict[str, Any]]) -> None:
    if messages[0]["role"] != "user":
        raise invalid(
            "A conversation must start with a user message. Try again with a conversation that starts with a user message."
        )
    calls: set[str] = set()
    for index, message in enumerate(messages):
        results = [block["toolResult"]["toolUseId"] for block in message["content"] if "toolResult" in block]
        if len(results) > len(calls) or set(results) - calls:
            raise invalid(
                f"The number of toolResult blocks at messages.{index}.content exceeds the number of toolUse blocks of previous turn."
            )
        if calls - set(results):
            raise invalid(
                f"Expected toolResult blocks at messages.{index}.content for the following Ids: {', '.join(sorted(calls))}"
            )
        if index and message["role"] == messages[index - 1]["role"]:
            raise invalid(
                f"A conversation must alternate between user and assistant roles. Make sure the conversation alternates. messages.{index}"
            )
        calls = {block["toolUse"]["toolUseId"] for block in message["content"] if "toolUse" in block}
    if calls:
        raise invalid(
            f"Expected toolResult blocks at messages.{len(messages)}.content for the following Ids: {', '.join(sorted(calls))}"
        )


def _text(message: dict[str, Any]) -> str:
    return "\n".join(block["text"] for block in message["content"] if "text" in block)


def _conversation(ask: Ask, messages: list[dict[str, Any]], model: str) -> None:
    users = [text for message in messages if message["role"] == "user" and (text := _text(message))]
    ask.first_user, ask.last_user = (users[0], users[-1]) if users else ("", "")
    last = messages[-1]
    if last["role"] == "assistant":
        if refuses_prefill(model):
            raise invalid(
                "This model does not support assistant message prefill. The conversation must end with a user message."
            )
        ask.prefill = _text(last)
    elif len(messages) > 1:
        ask.partial = _text(messages[-2])
    for block in last["content"]:
        if "toolResult" in block:
            parts = block["toolResult"]["content"]
            ask.tool_results.append("\n".join(str(part.get("text", part.get("json", ""))) for part in parts))


def _config(ask: Ask, config: dict[str, Any]) -> None:
    for name in config:
        if name not in _CONFIG:
            raise invalid(f"Unexpected field '{name}' in inferenceConfig")
    ask.max_tokens = config.get("maxTokens")
    if ask.max_tokens is not None and ask.max_tokens < 1:
        raise invalid(
            "Value at 'inferenceConfig.maxTokens' failed to satisfy constraint: Member must be greater than or equal to 1"
        )
    if not 0 <= (config.get("temperature") or 0) <= 1:
        raise invalid(
            "Value at 'inferenceConfig.temperature' failed to satisfy constraint: Member must be less than or equal to 1"
        )
    ask.stop = config.get("stopSequences") or []


def _tools(ask: Ask, config: Any, messages: list[dict[str, Any]]) -> None:
    used = any(
        "toolUse" in block or "toolResult" in block for message in messages for block in message["content"]
    )
    if config is None:
        if used:
            raise invalid(
                "The toolConfig field must be defined when using toolUse and toolResult content blocks."
            )
        return
    if not config.get("tools"):
        raise invalid(
            "The value at toolConfig.tools is empty. Member must have length greater than or equal to 1"
        )
    for index, tool in enumerate(config["tools"]):
        spec = tool.get("toolSpec")
        if spec is None:
            continue
        if not _TOOL_NAME.fullmatch(spec.get("name") or ""):
            raise invalid(
                f"Value at 'toolConfig.tools.{index}.toolSpec.name' failed to satisfy constraint: [a-zA-Z0-9_-]+"
            )
        schema = (spec.get("inputSchema") or {}).get("json")
        if not isinstance(schema, dict) or schema.get("type") != "object":
            raise invalid(
                f"The value at toolConfig.tools.{index}.toolSpec.inputSchema.json.type must be one of the following: object."
            )
        ask.tools.append(Tool(spec["name"], schema))
        ask.text_chars.append(str(spec))
    choice = config.get("toolChoice") or {"auto": {}}
    ask.tool_choice = "required" if "any" in choice else str((choice.get("tool") or {}).get("name", "auto"))
