"""What Anthropic accepts as a Messages request; everything else is refused in its words."""

from __future__ import annotations

import re
from typing import Any

from tieline.simulator.answer import Ask, Tool
from tieline.simulator.anthropic_blocks import check_block, check_text, check_tool_order, check_types, invalid
from tieline.simulator.exchange import Exchange, words
from tieline.simulator.shapes import SCHEMA

_FIELDS = words(
    "model messages max_tokens system metadata stop_sequences stream temperature top_k top_p tools tool_choice thinking "
    "service_tier container mcp_servers context_management output_config output_format inference_geo cache_control speed "
    "diagnostics"
)
_COUNT_FIELDS = _FIELDS - {
    "max_tokens",
    "stream",
    "metadata",
    "stop_sequences",
    "temperature",
    "top_k",
    "top_p",
    "service_tier",
}
_TOOL_FIELDS = words(
    "name description input_schema type cache_control strict defer_loading allowed_callers input_examples "
    "eager_input_streaming"
)
_BLOCK = {"type": str, "content": (str, [{"type": str, "text": str}])}
_FORMAT = {"type": str, "schema": SCHEMA}
_TYPES = {
    "max_tokens": int,
    "messages": [{"role": str, "content": (str, [_BLOCK])}],
    "stream": bool,
    "tools": [{"type": str, "name": str, "input_schema": SCHEMA}],
    "tool_choice": {"type": str, "name": str, "disable_parallel_tool_use": bool},
    "thinking": {"type": str, "budget_tokens": int},
    "output_config": {"format": _FORMAT},
    "output_format": _FORMAT,
}
_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_EMAIL = re.compile(r"[^@\s]@[^@\s]+\.[a-z]{2,}")
_NO_PREFILL = re.compile(r"claude-[a-z]+-(\d+)-(\d{1,2})(?!\d)")
_MIN_BUDGET = 1024
_UNCOMPILED = words(
    "minimum maximum exclusiveMinimum exclusiveMaximum multipleOf minLength maxLength maxItems uniqueItems contains "
    "minProperties maxProperties patternProperties propertyNames prefixItems oneOf not if then else"
)
_FORMATS = words("date-time time date duration email hostname uri ipv4 ipv6 uuid")


def read_messages(exchange: Exchange, counting: bool = False) -> Ask:
    body = exchange.body
    if "anthropic-version" not in exchange.headers:
        raise invalid("anthropic-version: header is required")
    for name in body:
        if name not in (_COUNT_FIELDS if counting else _FIELDS):
            raise invalid(f"{name}: Extra inputs are not permitted")
    check_types(body, _TYPES)
    ask = Ask(model=exchange.model, stream=body.get("stream") is True)
    _limits(ask, body, counting)
    _user(body)
    _system(ask, body.get("system"))
    _tools(ask, body)
    _thinking(ask, body)
    messages = _messages(ask, body, exchange)
    check_tool_order(messages)
    _prefill(ask, messages, exchange.model)
    _conversation(ask, messages)
    _output_format(ask, body)
    return ask


def _limits(ask: Ask, body: dict[str, Any], counting: bool) -> None:
    limit = body.get("max_tokens")
    if not counting and "max_tokens" not in body:
        raise invalid("max_tokens: Field required")
    if not counting and (isinstance(limit, bool) or not isinstance(limit, int)):
        raise invalid("max_tokens: Input should be a valid integer")
    if limit is not None and limit < 1:
        raise invalid("max_tokens: Input should be greater than or equal to 1")
    ask.max_tokens = limit
    _ranged(body, "temperature", 1)
    _ranged(body, "top_p", 1)
    stops = body.get("stop_sequences") or []
    if not isinstance(stops, list) or any(not isinstance(stop, str) for stop in stops):
        raise invalid("stop_sequences: Input should be a valid list")
    if any(not stop.strip() for stop in stops):
        raise invalid("stop_sequences: each stop sequence must contain non-whitespace")
    ask.stop = stops


def _user(body: dict[str, Any]) -> None:
    metadata = body.get("metadata")
    if isinstance(metadata, dict) and _EMAIL.search(str(metadata.get("user_id"))):
        raise invalid(
            "metadata.user_id: user_id appears to contain an email address. Please send a uuid or hash value instead."
        )


def _ranged(body: dict[str, Any], name: str, high: float) -> None:
    value = body.get(name)
    if name not in body:
        return
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise invalid(f"{name}: Input should be a valid number")
    if not 0 <= value <= high:
        raise invalid(f"{name}: range: 0..{high}")


def _system(ask: Ask, system: Any) -> None:
    if system is None:
        return
    if isinstance(system, str):
        ask.text_chars.append(system)
        return
    if not isinstance(system, list):
        raise invalid("system: Input should be a valid list")
    for index, block in enumerate(system):
        if not isinstance(block, dict) or block.get("type") != "text":
            raise invalid(f"system.{index}.type: Input should be 'text'")
        check_text(ask, block, f"system.{index}", "system")


def _messages(ask: Ask, body: dict[str, Any], exchange: Exchange) -> list[tuple[str, list[dict[str, Any]]]]:
    messages = body.get("messages")
    if messages is None:
        raise invalid("messages: Field required")
    if not isinstance(messages, list):
        raise invalid("messages: Input should be a valid list")
    if not messages:
        raise invalid("messages: at least one message is required")
    found = []
    for index, message in enumerate(messages):
        found.append(_message(ask, message, index, exchange, last=index == len(messages) - 1))
    if found[0][0] != "user":
        raise invalid('messages: first message must use the "user" role')
    return found


def _message(
    ask: Ask, message: Any, index: int, exchange: Exchange, last: bool
) -> tuple[str, list[dict[str, Any]]]:
    where = f"messages.{index}"
    if not isinstance(message, dict):
        raise invalid(f"{where}: Input should be a valid dictionary or object to extract fields from")
    for name in message:
        if name not in ("role", "content"):
            raise invalid(f"{where}.{name}: Extra inputs are not permitted")
    role = message.get("role")
    if role == "system":
        raise invalid(
            'messages: Unexpected role "system". The Messages API accepts a top-level `system` parameter, not "system" as an '
            "input message role."
        )
    if role not in ("user", "assistant"):
        raise invalid(f"{where}.role: Input should be 'user' or 'assistant'")
    if "content" not in message:
        raise invalid(f"{where}.content: Field required")
    content = message["content"]
    if isinstance(content, str):
        if not content and not (last and role == "assistant"):
            raise invalid(f"{where}: {role} messages must have non-empty content")
        if content and not content.strip():
            raise invalid("messages: text content blocks must contain non-whitespace text")
        ask.text_chars.append(content)
        return role, [{"type": "text", "text": content}]
    if not isinstance(content, list):
        raise invalid(f"{where}.content: Input should be a valid list")
    if not content and not (last and role == "assistant"):
        raise invalid(f"{where}: {role} messages must have non-empty content")
    for number, block in enumerate(content):
        check_block(ask, block, f"{where}.content.{number}", role, exchange)
    return role, content


def refuses_prefill(model: str) -> bool:
    """Claude 4.6 and later (WIRE_FACTS 20), and whatever says so."""
    match = _NO_PREFILL.search(model)
    return "no-prefill" in model or (match is not None and (int(match[1]), int(match[2])) >= (4, 6))


def _prefill(ask: Ask, messages: list[tuple[str, list[dict[str, Any]]]], model: str) -> None:
    role, blocks = messages[-1]
    if role != "assistant":
        return
    if refuses_prefill(model):
        raise invalid(
            "This model does not support assistant message prefill. The conversation must end with a user message."
        )
    if blocks and blocks[-1]["type"] == "text" and blocks[-1]["text"] != blocks[-1]["text"].rstrip():
        raise invalid("messages: final assistant content cannot end with trailing whitespace")
    if ask.thinking:
        raise invalid("messages: prefilling assistant messages is not supported when thinking is enabled")
    ask.prefill = _joined(blocks)


def _joined(blocks: list[dict[str, Any]]) -> str:
    return "\n".join(block["text"] for block in blocks if block["type"] == "text")


def _conversation(ask: Ask, messages: list[tuple[str, list[dict[str, Any]]]]) -> None:
    users = [_joined(blocks) for role, blocks in messages if role == "user"]
    users = [text for text in users if text] or [""]
    ask.first_user, ask.last_user = users[0], users[-1]
    role, blocks = messages[-1]
    if role == "user" and len(messages) > 1 and messages[-2][0] == "assistant":
        ask.partial = _joined(messages[-2][1])
    for block in blocks:
        if block["type"] == "tool_result":
            content = block.get("content") or ""
            ask.tool_results.append(content if isinstance(content, str) else _joined(content))


def _tools(ask: Ask, body: dict[str, Any]) -> None:
    tools, choice = body.get("tools") or [], body.get("tool_choice")
    for index, tool in enumerate(tools):
        _tool(ask, tool, f"tools.{index}")
    if len({tool["name"] for tool in tools}) < len(tools):
        raise invalid("tools: Tool names must be unique.")
    ask.text_chars += [str(tool) for tool in tools]
    if choice is None:
        return
    if not isinstance(choice, dict) or choice.get("type") not in ("auto", "any", "tool", "none"):
        raise invalid(
            "tool_choice: Input tag does not match any of the expected tags: 'auto', 'any', 'tool', 'none'"
        )
    if not tools:
        raise invalid("tool_choice: tool_choice may only be specified while providing tools")
    for name in choice:
        if name not in ("type", "name", "disable_parallel_tool_use"):
            raise invalid(f"tool_choice.{choice['type']}.{name}: Extra inputs are not permitted")
    ask.tool_choice = {"auto": "auto", "any": "required", "none": "none"}.get(
        choice["type"], str(choice.get("name"))
    )
    if choice["type"] == "tool" and not any(tool["name"] == choice.get("name") for tool in tools):
        raise invalid(f"Tool '{choice.get('name')}' not found in provided tools")
    ask.parallel = not choice.get("disable_parallel_tool_use")


def _tool(ask: Ask, tool: Any, where: str) -> None:
    if not isinstance(tool, dict):
        raise invalid(f"{where}: Input should be a valid dictionary or object to extract fields from")
    if tool.get("type") not in (None, "custom"):
        return
    for name in tool:
        if name not in _TOOL_FIELDS:
            raise invalid(f"{where}.custom.{name}: Extra inputs are not permitted")
    if not isinstance(tool.get("name"), str) or not _TOOL_NAME.fullmatch(tool["name"]):
        raise invalid(f"{where}.custom.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'")
    schema = tool.get("input_schema")
    if not isinstance(schema, dict):
        raise invalid(f"{where}.custom.input_schema: Field required")
    if "type" not in schema:
        raise invalid(f"{where}.custom.input_schema.type: Field required")
    if schema["type"] != "object":
        raise invalid(f"{where}.custom.input_schema.type: Input should be 'object'")
    if tool.get("strict"):
        check_closed(schema, f"{where}.custom")
    ask.tools.append(Tool(tool["name"], schema))


def _thinking(ask: Ask, body: dict[str, Any]) -> None:
    thinking = body.get("thinking")
    if thinking is None:
        return
    kind = thinking.get("type") if isinstance(thinking, dict) else None
    if kind not in ("enabled", "disabled", "adaptive"):
        raise invalid(
            "thinking: Input tag does not match any of the expected tags: 'adaptive', 'disabled', 'enabled'"
        )
    if kind == "disabled":
        return
    ask.thinking = True
    if kind == "enabled":
        _budget(ask, thinking)
    if body.get("temperature", 1) != 1:
        raise invalid("`temperature` may only be set to 1 when thinking is enabled.")
    if ask.tool_choice not in ("auto", "none"):
        raise invalid("Thinking may not be enabled when tool_choice forces tool use.")


def _budget(ask: Ask, thinking: dict[str, Any]) -> None:
    budget = thinking.get("budget_tokens")
    if not isinstance(budget, int):
        raise invalid("thinking.enabled.budget_tokens: Field required")
    if budget < _MIN_BUDGET:
        raise invalid("thinking.enabled.budget_tokens: Input should be greater than or equal to 1024")
    if ask.max_tokens is not None and ask.max_tokens <= budget:
        raise invalid("`max_tokens` must be greater than `thinking.budget_tokens`.")


def _output_format(ask: Ask, body: dict[str, Any]) -> None:
    config = body.get("output_config") or {}
    wanted = body.get("output_format") or (config.get("format") if isinstance(config, dict) else None)
    if wanted is None:
        return
    if wanted.get("type") != "json_schema" or not isinstance(wanted.get("schema"), dict):
        raise invalid(
            "output_config.format: Input tag does not match any of the expected tags: 'json_schema'"
        )
    check_closed(wanted["schema"], "output_config.format.schema")
    ask.json_schema = wanted["schema"]


def check_closed(schema: Any, where: str) -> None:
    """Constrained output: every object closed, and none of the keywords that the vendor does not compile."""
    if not isinstance(schema, dict):
        raise invalid(f"{where}: Input should be a valid dictionary or object to extract fields from")
    kinds = schema.get("type")
    kinds = kinds if isinstance(kinds, list) else [kinds]
    if not schema.keys() & {"type", "anyOf", "allOf", "$ref", "enum", "const"}:
        raise invalid(f"{where}: Schema must have a 'type', 'anyOf', 'allOf', '$ref', 'enum' or 'const'")
    if "object" in kinds and schema.get("additionalProperties") is not False:
        raise invalid(f"{where}: For 'object' type, 'additionalProperties' must be explicitly set to false")
    kind = next((str(kind) for kind in kinds if kind), "any")
    refused = sorted(_UNCOMPILED & schema.keys())
    if refused:
        raise invalid(f"{where}: For '{kind}' type, properties {', '.join(refused)} are not supported")
    if schema.get("minItems") not in (None, 0, 1):
        raise invalid(f"{where}: For 'array' type, 'minItems' values other than 0 or 1 are not supported")
    if "format" in schema and schema["format"] not in _FORMATS:
        raise invalid(f"{where}: For 'string' type, 'format' {schema['format']!r} is not supported")
    inner = [schema["items"]] if "items" in schema else []
    for name in ("properties", "$defs", "definitions"):
        held = schema.get(name) or {}
        if not isinstance(held, dict):
            raise invalid(f"{where}: '{name}' should be a valid dictionary")
        inner += held.values()
    for name in ("anyOf", "allOf"):
        several = schema.get(name) or []
        if not isinstance(several, list):
            raise invalid(f"{where}: '{name}' should be a valid list")
        inner += several
    for each in inner:
        check_closed(each, where)
