"""What OpenAI accepts as a Responses request; everything else is refused in its words."""

from __future__ import annotations

from typing import Any

from tieline.simulator.answer import Ask, Refusal, Tool, unsealed
from tieline.simulator.exchange import Exchange, words
from tieline.simulator.openai_checks import FORMAT, check_fields, check_strict, ranged
from tieline.simulator.openai_tools import check_parameters, check_types, check_user, invalid, wrong_type
from tieline.simulator.shapes import SCHEMA

_FIELDS = words(
    "access_programs background background_options client_metadata context_management conversation image include input instructions "
    "max_output_tokens max_tool_calls metadata model moderation parallel_tool_calls previous_response_id prompt "
    "prompt_cache_key prompt_cache_options prompt_cache_retention reasoning safety_identifier service_tier store stream "
    "stream_options temperature text tool_choice tools top_logprobs top_p truncation user"
)
_ITEM_FIELDS: dict[str, frozenset[str]] = {
    "message": words("type role content id status phase"),
    "function_call": words("type id call_id name arguments status namespace caller"),
    "function_call_output": words("type id call_id output status caller"),
    "custom_tool_call": words("type id call_id name input status namespace caller"),
    "custom_tool_call_output": words("type id call_id output status caller"),
    "reasoning": words("type id summary content encrypted_content status"),
    "item_reference": words("type id"),
}
MAX_CALL_ID_CHARS = 64
_CONTENT = (str, [{"type": str, "text": str}])
_TYPES = {
    "input": (str, [{"type": str, "role": str, "call_id": str, "content": _CONTENT, "output": _CONTENT}]),
    "previous_response_id": str,
    "include": [str],
    "stream": bool,
    "parallel_tool_calls": bool,
    "reasoning": {"effort": str, "summary": str},
    "text": {"format": FORMAT},
    "tools": [{"type": str, "name": str, "parameters": SCHEMA, "strict": bool}],
    "tool_choice": (str, {"type": str, "name": str}),
}
_PARTS = {
    "user": ("input_text", "input_image", "input_file", "input_audio"),
    "system": ("input_text", "input_image", "input_file"),
    "developer": ("input_text", "input_image", "input_file"),
    "assistant": ("output_text", "refusal"),
}


def read_responses(exchange: Exchange) -> Ask:
    body = exchange.body
    check_fields(body, _FIELDS)
    check_types(body, _TYPES)
    check_user(body)
    ask = Ask(model=exchange.model, stream=bool(body.get("stream")))
    items = _before(exchange, body.get("previous_response_id")) + _input(body.get("input"))
    ask.extra["input"] = items
    for index, item in enumerate(items):
        _item(ask, item, f"input[{index}]", exchange.seed)
    _pairs(items)
    _conversation(ask, items)
    if isinstance(body.get("instructions"), str):
        ask.text_chars.append(body["instructions"])
    _options(ask, body)
    _tools(ask, body)
    return ask


def _before(exchange: Exchange, previous: Any) -> list[Any]:
    if previous is None:
        return []
    if previous not in exchange.memory:
        raise invalid(
            f"Previous response with id '{previous}' not found.",
            "previous_response_id",
            "previous_response_not_found",
        )
    found: list[Any] = exchange.memory[previous]
    return found


def _input(given: Any) -> list[Any]:
    if given is None:
        raise invalid("Missing required parameter: 'input'.", "input", "missing_required_parameter")
    if isinstance(given, str):
        return [{"type": "message", "role": "user", "content": given}]
    if not isinstance(given, list):
        raise wrong_type("input", "one of a string or array of input items", given)
    return list(given)


def _item(ask: Ask, item: Any, where: str, seed: int) -> None:
    if not isinstance(item, dict):
        raise wrong_type(where, "an input item", item)
    kind = item.setdefault("type", "message") if "role" in item else item.get("type")
    if kind not in _ITEM_FIELDS:
        if isinstance(kind, str) and kind.endswith(
            ("_call", "_output", "_tools", "_request", "_response", "compaction")
        ):
            return
        raise invalid(f"Invalid value: '{kind}'.", where, "invalid_value")
    for name in item:
        if name not in _ITEM_FIELDS[kind]:
            raise invalid(f"Unknown parameter: '{where}.{name}'.", f"{where}.{name}", "unknown_parameter")
    if kind == "message":
        _message(ask, item, where)
    elif kind in ("function_call", "custom_tool_call"):
        for name in ("call_id", "name", "arguments" if kind == "function_call" else "input"):
            if not isinstance(item.get(name), str) or (
                name != "arguments" and name != "input" and not item[name]
            ):
                raise invalid(
                    f"Missing required parameter: '{where}.{name}'.",
                    f"{where}.{name}",
                    "missing_required_parameter",
                )
        _check_id(item, where, "fc" if kind == "function_call" else "ctc")
        if len(item["call_id"]) > MAX_CALL_ID_CHARS:
            raise invalid(
                f"Invalid '{where}.call_id': string too long. Expected a string with maximum length {MAX_CALL_ID_CHARS}, but "
                f"got a string with length {len(item['call_id'])} instead.",
                f"{where}.call_id",
                "string_above_max_length",
            )
    elif kind == "reasoning":
        _reasoning(item, where, seed)
    elif kind.endswith("_output") and "output" not in item:
        raise invalid(
            f"Missing required parameter: '{where}.output'.", f"{where}.output", "missing_required_parameter"
        )


def _check_id(item: dict[str, Any], where: str, prefix: str) -> None:
    identity = item.get("id")
    if isinstance(identity, str) and not identity.startswith(prefix):
        raise invalid(
            f"Invalid '{where}.id': '{identity}'. Expected an ID that begins with '{prefix}'.",
            f"{where}.id",
            "invalid_value",
        )


def _reasoning(item: dict[str, Any], where: str, seed: int) -> None:
    _check_id(item, where, "rs")
    if not isinstance(item.get("summary"), list):
        raise invalid(
            f"Missing required parameter: '{where}.summary'.",
            f"{where}.summary",
            "missing_required_parameter",
        )
    secret = item.get("encrypted_content")
    if secret is not None and not unsealed(seed, "reasoning", secret):
        raise invalid(
            f"The encrypted content for item {item.get('id')} could not be verified. Reason: Encrypted content could not be "
            "decrypted or parsed.",
            None,
            "invalid_encrypted_content",
        )


def _message(ask: Ask, item: dict[str, Any], where: str) -> None:
    role, content = item.get("role"), item.get("content")
    if role not in _PARTS:
        raise invalid(
            f"Invalid value: '{role}'. Supported values are: 'assistant', 'system', 'developer', and 'user'.",
            f"{where}.role",
            "invalid_value",
        )
    if isinstance(content, str):
        ask.text_chars.append(content)
        return
    if not isinstance(content, list):
        raise wrong_type(f"{where}.content", "one of an array of objects or string", content)
    for index, part in enumerate(content):
        kind = part.get("type") if isinstance(part, dict) else None
        if kind not in _PARTS[role]:
            known = ", ".join(f"'{name}'" for name in _PARTS[role])
            at = f"{where}.content[{index}]"
            raise invalid(f"Invalid value: '{kind}'. Supported values are: {known}.", at, "invalid_value")
        _part(ask, part, f"{where}.content[{index}]")


def _part(ask: Ask, part: dict[str, Any], where: str) -> None:
    kind = part["type"]
    if kind in ("input_text", "output_text"):
        if not isinstance(part.get("text"), str):
            raise invalid(
                f"Missing required parameter: '{where}.text'.", f"{where}.text", "missing_required_parameter"
            )
        ask.text_chars.append(part["text"])
    elif kind == "input_image":
        if not isinstance(part.get("image_url") or part.get("file_id"), str):
            raise invalid(
                f"Invalid type for '{where}.image_url': expected a string.",
                f"{where}.image_url",
                "invalid_type",
            )
        ask.images += 1
    elif kind == "input_file":
        if not any(isinstance(part.get(name), str) for name in ("file_data", "file_id", "file_url")):
            raise invalid(
                f"Missing required parameter: '{where}.file_id'.",
                f"{where}.file_id",
                "missing_required_parameter",
            )
        ask.documents += 1


def _pairs(items: list[Any]) -> None:
    calls = [i["call_id"] for i in items if i["type"] in ("function_call", "custom_tool_call")]
    outputs = [
        i.get("call_id") for i in items if i["type"] in ("function_call_output", "custom_tool_call_output")
    ]
    for identity in outputs:
        if identity not in calls:
            raise invalid(f"No tool call found for function call output with call_id {identity}.", "input")
    for identity in calls:
        if identity not in outputs:
            raise invalid(f"No tool output found for function call {identity}.", "input")
    if items and items[-1]["type"] == "reasoning":
        raise invalid(
            f"Item '{items[-1].get('id')}' of type 'reasoning' was provided without its required following item.",
            "input",
        )


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(part.get("text") or "" for part in content if isinstance(part, dict) and "text" in part)


def _conversation(ask: Ask, items: list[Any]) -> None:
    messages = [item for item in items if item["type"] == "message"]
    users = [_text(item["content"]) for item in messages if item["role"] == "user"]
    ask.first_user, ask.last_user = (users[0], users[-1]) if users else ("", "")
    if not items:
        return
    last = items[-1]
    if last["type"] == "message" and last["role"] == "assistant":
        ask.prefill = _text(last["content"])
    elif last["type"] == "message" and len(messages) > 1 and messages[-2]["role"] == "assistant":
        ask.partial = _text(messages[-2]["content"])
    for item in reversed(items):
        if not item["type"].endswith("_output"):
            break
        ask.tool_results.insert(0, _text(item["output"]))


def _options(ask: Ask, body: dict[str, Any]) -> None:
    ranged(body, "max_output_tokens", 16, 10_000_000, int)
    ranged(body, "temperature", 0, 2, (int, float))
    ranged(body, "top_p", 0, 1, (int, float))
    ask.max_tokens = body.get("max_output_tokens")
    reasoning = body.get("reasoning")
    if isinstance(reasoning, dict):
        check_fields(reasoning, frozenset(("effort", "summary", "generate_summary", "context", "mode")))
        ask.thinking = reasoning.get("effort") not in (None, "none") or bool(reasoning.get("summary"))
        ask.extra["summary"] = bool(reasoning.get("summary"))
    ask.extra["encrypted"] = "reasoning.encrypted_content" in (body.get("include") or [])
    text = body.get("text") or {}
    check_fields(text, frozenset(("format", "verbosity")))
    _format(ask, text.get("format"))


def _format(ask: Ask, wanted: Any) -> None:
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if kind == "json_schema":
        for name in ("name", "schema"):
            if name not in wanted:
                raise invalid(
                    f"Missing required parameter: 'text.format.{name}'.",
                    f"text.format.{name}",
                    "missing_required_parameter",
                )
        if wanted.get("strict"):
            check_strict(wanted["schema"], wanted["name"])
        ask.json_schema = wanted["schema"]
    elif kind == "json_object":
        ask.json_mode = True


def _tools(ask: Ask, body: dict[str, Any]) -> None:
    for index, tool in enumerate(body.get("tools") or []):
        where = f"tools[{index}]"
        kind = tool.get("type") if isinstance(tool, dict) else None
        if kind is None:
            raise invalid(
                f"Missing required parameter: '{where}.type'.", f"{where}.type", "missing_required_parameter"
            )
        if kind not in ("function", "custom"):
            continue
        if not isinstance(tool.get("name"), str) or not tool["name"]:
            raise invalid(
                f"Missing required parameter: '{where}.name'.", f"{where}.name", "missing_required_parameter"
            )
        if kind == "function":
            _function(tool, where)
        ask.tools.append(Tool(tool["name"], tool.get("parameters"), kind))
    ask.text_chars += [str(tool) for tool in body.get("tools") or []]
    ask.parallel = body.get("parallel_tool_calls") is not False
    ask.tool_choice = _choice(ask, body.get("tool_choice"))


def _function(tool: dict[str, Any], where: str) -> None:
    for name in tool:
        if name not in (
            "type",
            "name",
            "description",
            "parameters",
            "strict",
            "defer_loading",
            "allowed_callers",
            "output_schema",
        ):
            raise invalid(f"Unknown parameter: '{where}.{name}'.", f"{where}.{name}", "unknown_parameter")
    check_parameters(tool.get("parameters"), tool["name"], f"{where}.parameters")
    if tool.get("strict") and isinstance(tool.get("parameters"), dict):
        try:
            check_strict(tool["parameters"], tool["name"])
        except Refusal as refusal:
            message = str(refusal.message).replace("response_format", "function")
            raise invalid(message, f"{where}.parameters", "invalid_function_parameters") from None


def _choice(ask: Ask, choice: Any) -> str:
    if choice is None or choice in ("auto", "none", "required"):
        return choice or "auto"
    if isinstance(choice, dict) and choice.get("type") in ("function", "custom"):
        if any(tool.name == choice.get("name") for tool in ask.tools):
            return str(choice["name"])
        raise invalid(f"Tool choice '{choice.get('name')}' not found in 'tools' parameter.", "tool_choice")
    return "auto"
