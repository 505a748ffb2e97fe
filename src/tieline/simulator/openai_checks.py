"""What OpenAI accepts as a chat request; everything else is refused in its words."""

from __future__ import annotations

from typing import Any

from tieline.simulator.answer import Ask
from tieline.simulator.exchange import Exchange, words
from tieline.simulator.openai_tools import (
    check_calls,
    check_tool_order,
    check_types,
    check_user,
    invalid,
    read_tools,
    wrong_type,
)
from tieline.simulator.shapes import SCHEMA

CHAT_FIELDS = words(
    "messages model audio frequency_penalty function_call functions logit_bias logprobs max_completion_tokens max_tokens "
    "metadata modalities moderation n parallel_tool_calls prediction presence_penalty prompt_cache_key prompt_cache_options "
    "prompt_cache_retention reasoning_effort response_format safety_identifier seed service_tier stop store stream "
    "stream_options temperature tool_choice tools top_logprobs top_p user verbosity web_search_options"
)
_COMPATIBLE_FIELDS = words(
    "thinking reasoning top_k min_p repetition_penalty enable_thinking random_seed safe_prompt"
)
"""Fields of hosts that imitate OpenAI; OpenAI itself (a provider whose name begins with openai or azure) refuses them."""
_MESSAGE_FIELDS = words(
    "role content name tool_calls tool_call_id refusal audio function_call annotations reasoning_content"
)
_ROLES = ("system", "assistant", "user", "function", "tool", "developer")
_PARTS = frozenset(("text", "image_url", "input_audio", "file", "refusal"))
_MAX_STOP = 4
MAX_CHOICES = 128
_NAMED = {"name": str}
FORMAT = {"type": str, "name": str, "schema": SCHEMA, "strict": bool}
_CHAT_TYPES = {
    "messages": [
        {
            "role": str,
            "content": (str, [{"type": str, "text": str}]),
            "tool_calls": [{"type": str, "id": str, "function": _NAMED, "custom": _NAMED}],
        }
    ],
    "tools": [
        {
            "type": str,
            "function": {"name": str, "description": str, "parameters": SCHEMA, "strict": bool},
            "custom": _NAMED,
        }
    ],
    "tool_choice": (str, {"type": str, "function": _NAMED, "custom": _NAMED, "allowed_tools": {"mode": str}}),
    "parallel_tool_calls": bool,
    "stream": bool,
    "stream_options": {"include_usage": bool},
    "logprobs": bool,
    "seed": int,
    "response_format": {"type": str, "json_schema": FORMAT},
}


def is_openai(exchange: Exchange) -> bool:
    return exchange.provider.startswith(("openai", "azure"))


def check_fields(body: dict[str, Any], allowed: frozenset[str]) -> None:
    for name in body:
        if name not in allowed:
            raise invalid(f"Unknown parameter: '{name}'.", name, "unknown_parameter")


def read_chat(exchange: Exchange) -> Ask:
    body = exchange.body
    check_fields(body, CHAT_FIELDS if is_openai(exchange) else CHAT_FIELDS | _COMPATIBLE_FIELDS)
    messages = body.get("messages")
    if messages is None:
        raise invalid("Missing required parameter: 'messages'.", "messages", "missing_required_parameter")
    if not isinstance(messages, list):
        raise wrong_type("messages", "an array of objects", messages)
    if not messages:
        raise invalid(
            "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty array instead.",
            "messages",
            "empty_array",
        )
    check_types(body, _CHAT_TYPES)
    if is_openai(exchange):
        check_user(body)
    ask = Ask(model=exchange.model, stream=bool(body.get("stream")))
    for index, message in enumerate(messages):
        _message(ask, message, f"messages[{index}]")
    check_tool_order(messages)
    _conversation(ask, messages)
    _options(ask, body)
    read_tools(ask, body)
    return ask


def _message(ask: Ask, message: Any, where: str) -> None:
    if not isinstance(message, dict):
        raise wrong_type(where, "an object", message)
    for name in message:
        if name not in _MESSAGE_FIELDS:
            raise invalid(f"Unknown parameter: '{where}.{name}'.", f"{where}.{name}", "unknown_parameter")
    role = message.get("role")
    if role not in _ROLES:
        known = ", ".join(f"'{name}'" for name in _ROLES)
        raise invalid(
            f"Invalid value: '{role}'. Supported values are: {known}.", f"{where}.role", "invalid_value"
        )
    content = message.get("content")
    if content is None and not (
        role == "assistant" and (message.get("tool_calls") or message.get("function_call"))
    ):
        raise invalid(
            f"Invalid value for 'content': expected a string, got null. {where}.content",
            f"{where}.content",
            None,
        )
    if isinstance(content, list):
        if not content:
            raise invalid(f"Invalid '{where}.content': empty array.", f"{where}.content", "empty_array")
        for index, part in enumerate(content):
            _part(ask, part, f"{where}.content[{index}]", role)
    elif content is not None and not isinstance(content, str):
        raise wrong_type(f"{where}.content", "one of a string or array of objects", content)
    ask.text_chars.append(text_of(content))
    check_calls(ask, message, where)


def _part(ask: Ask, part: Any, where: str, role: str) -> None:
    if not isinstance(part, dict):
        raise wrong_type(where, "an object", part)
    kind = part.get("type")
    if kind not in _PARTS:
        known = ", ".join(f"'{name}'" for name in sorted(_PARTS))
        raise invalid(
            f"Invalid value: '{kind}'. Supported values are: {known}.", f"{where}.type", "invalid_value"
        )
    if kind == "text" and not isinstance(part.get("text"), str):
        raise wrong_type(f"{where}.text", "a string", part.get("text"))
    if kind in ("image_url", "input_audio", "file"):
        if role != "user":
            raise invalid(
                f"Invalid {where}: {kind} is only allowed for messages with role 'user', but got '{role}'.",
                where,
            )
        _media(ask, kind, part, where)


def _media(ask: Ask, kind: str, part: dict[str, Any], where: str) -> None:
    inner = part.get(kind)
    if not isinstance(inner, dict):
        raise wrong_type(f"{where}.{kind}", "an object", inner)
    if kind == "image_url":
        url = inner.get("url")
        if not isinstance(url, str) or not url.startswith(("http://", "https://", "data:image/")):
            raise invalid(
                f"Invalid image_url: expected a URL or a base64-encoded data URL. {where}",
                f"{where}.image_url",
                "invalid_image_url",
            )
        ask.images += 1
    elif kind == "file":
        if not isinstance(inner.get("file_data") or inner.get("file_id"), str):
            raise invalid(f"Missing required parameter: '{where}.file.file_id'.", f"{where}.file.file_id")
        ask.documents += 1
    else:
        if inner.get("format") not in ("wav", "mp3") or not isinstance(inner.get("data"), str):
            raise invalid(f"Invalid '{where}.input_audio'.", f"{where}.input_audio")
        ask.audios += 1


def text_of(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "\n".join(
        str(part.get("text") or part.get("refusal") or "")
        for part in parts
        if "text" in part or "refusal" in part
    )


def _conversation(ask: Ask, messages: list[Any]) -> None:
    users = [text_of(message.get("content")) for message in messages if message["role"] == "user"]
    ask.first_user, ask.last_user = (users[0], users[-1]) if users else ("", "")
    last = messages[-1]
    if last["role"] == "assistant":
        ask.prefill = text_of(last.get("content"))
    elif last["role"] == "user" and len(messages) > 1 and messages[-2]["role"] == "assistant":
        ask.partial = text_of(messages[-2].get("content"))
    for message in reversed(messages):
        if message["role"] not in ("tool", "function"):
            break
        ask.tool_results.insert(0, text_of(message.get("content")))


def _options(ask: Ask, body: dict[str, Any]) -> None:
    if body.get("max_tokens") is not None and body.get("max_completion_tokens") is not None:
        raise invalid(
            "Setting 'max_tokens' and 'max_completion_tokens' at the same time is not supported.",
            "max_tokens",
        )
    for name in ("max_tokens", "max_completion_tokens"):
        ranged(body, name, 1, 10_000_000, int)
    ranged(body, "n", 1, MAX_CHOICES, int)
    ranged(body, "temperature", 0, 2, (int, float))
    ranged(body, "top_p", 0, 1, (int, float))
    ranged(body, "top_logprobs", 0, 20, int)
    limit = body.get("max_completion_tokens")
    ask.max_tokens = limit if limit is not None else body.get("max_tokens")
    ask.n = body.get("n") or 1
    ask.stop = read_stop(body.get("stop"))
    ask.thinking = False
    ask.include_usage = _include_usage(body)
    if body.get("top_logprobs") is not None and not body.get("logprobs"):
        raise invalid("The 'logprobs' parameter must be enabled to use 'top_logprobs'.", "top_logprobs")
    ask.logprobs = (body.get("top_logprobs") or 0) if body.get("logprobs") else None
    if body.get("seed") is not None:
        ask.extra["seed"] = body["seed"]
    _format(ask, body.get("response_format"))


def ranged(body: dict[str, Any], name: str, low: float, high: float, kind: Any) -> None:
    value = body.get(name)
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, kind):
        raise wrong_type(name, "an integer" if kind is int else "a decimal", value)
    if value < low:
        word = "integer" if kind is int else "decimal"
        raise invalid(
            f"Invalid '{name}': {word} below minimum value. Expected a value >= {low}, but got {value} instead.",
            name,
            f"{word}_below_min_value",
        )
    if value > high:
        word = "integer" if kind is int else "decimal"
        raise invalid(
            f"Invalid '{name}': {word} above maximum value. Expected a value <= {high}, but got {value} instead.",
            name,
            f"{word}_above_max_value",
        )


def read_stop(stop: Any) -> list[str]:
    stops = [stop] if isinstance(stop, str) else stop or []
    if not isinstance(stops, list) or any(not isinstance(item, str) for item in stops):
        raise wrong_type("stop", "one of a string or array of strings", stop)
    if len(stops) > _MAX_STOP:
        raise invalid(
            f"Invalid 'stop': array too long. Expected an array with maximum length {_MAX_STOP}, but got an array with length "
            f"{len(stops)} instead.",
            "stop",
            "array_above_max_length",
        )
    return stops


def _include_usage(body: dict[str, Any]) -> bool:
    options = body.get("stream_options")
    if options is None:
        return False
    if not body.get("stream"):
        raise invalid(
            "The 'stream_options' parameter is only allowed when 'stream' is enabled.", "stream_options"
        )
    check_fields(options, frozenset(("include_usage", "include_obfuscation")))
    return bool(options.get("include_usage"))


def _format(ask: Ask, wanted: Any) -> None:
    if wanted is None:
        return
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if kind == "json_object":
        if not any("json" in text.lower() for text in ask.text_chars):
            raise invalid(
                "'messages' must contain the word 'json' in some form, to use 'response_format' of type 'json_object'.",
                "messages",
            )
        ask.json_mode = True
    elif kind == "json_schema":
        inner = wanted.get("json_schema")
        if not isinstance(inner, dict) or not isinstance(inner.get("name"), str):
            raise invalid(
                "Missing required parameter: 'response_format.json_schema.name'.",
                "response_format.json_schema.name",
                "missing_required_parameter",
            )
        if inner.get("strict"):
            check_strict(inner.get("schema"), inner["name"])
        ask.json_schema = inner.get("schema") or {}
    elif kind != "text":
        raise invalid(
            f"Invalid value: '{kind}'. Supported values are: 'json_object', 'json_schema', and 'text'.",
            "response_format.type",
            "invalid_value",
        )


def check_strict(schema: Any, name: str, where: str = "()") -> None:
    """Strict mode: every object says ``additionalProperties: false`` and requires all of its properties."""
    if not isinstance(schema, dict):
        return
    if schema.get("type") == "object":
        context = f"Invalid schema for response_format '{name}': In context={where}, "
        if schema.get("additionalProperties") is not False:
            raise invalid(
                context + "'additionalProperties' is required to be supplied and to be false.",
                "response_format",
            )
        missing = [key for key in schema.get("properties") or {} if key not in (schema.get("required") or [])]
        if missing:
            raise invalid(
                context
                + "'required' is required to be supplied and to be an array including every key in properties. "
                f"Missing '{missing[0]}'.",
                "response_format",
            )
    for key, value in (schema.get("properties") or {}).items():
        check_strict(value, name, f"('properties', '{key}')")
    check_strict(schema.get("items"), name, "('items')")
