"""What OpenAI accepts as tools, calls and their answers, and its words for the commonest mistakes."""

from __future__ import annotations

import re
from typing import Any

from tieline.simulator.answer import Ask, Refusal, Tool
from tieline.simulator.shapes import Misfit, Shape, misfit

_TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")


MAX_TOOL_ID_CHARS = 40
MAX_USER_CHARS = 64


def invalid(message: str, param: str | None = None, code: str | None = None) -> Refusal:
    return Refusal("invalid", message, param=param, code=code)


def wrong_type(param: str, wanted: str, value: Any) -> Refusal:
    return invalid(
        f"Invalid type for '{param}': expected {wanted}, but got {type_name(value)} instead.",
        param,
        "invalid_type",
    )


def check_types(body: dict[str, Any], shape: Shape) -> None:
    wrong = misfit(body, shape)
    if wrong is not None:
        raise wrong_type(wrong.indexed, _wanted(wrong), wrong.value)


def _wanted(wrong: Misfit) -> str:
    named = [f"{'an' if word[0] in 'aeio' else 'a'} {word}" for word in wrong.wanted]
    return named[0] if len(named) == 1 else "one of " + " or ".join(named)


def type_name(value: Any) -> str:
    if value is None:
        return "null"
    names = {
        bool: "a boolean",
        int: "an integer",
        float: "a decimal",
        str: "a string",
        list: "an array",
        dict: "an object",
    }
    return names.get(type(value), "a value")


def check_calls(ask: Ask, message: dict[str, Any], where: str) -> None:
    calls = message.get("tool_calls")
    if calls is None:
        return
    if calls == []:
        raise invalid(
            f"Invalid '{where}.tool_calls': empty array. Expected an array with minimum length 1, but got an empty array instead.",
            f"{where}.tool_calls",
            "empty_array",
        )
    for index, call in enumerate(calls):
        _call(ask, call, f"{where}.tool_calls[{index}]")


def _call(ask: Ask, call: Any, at: str) -> None:
    if not isinstance(call, dict) or call.get("type") not in ("function", "custom"):
        raise invalid(f"Missing required parameter: '{at}.type'.", f"{at}.type", "missing_required_parameter")
    identity = call.get("id")
    if not isinstance(identity, str) or not identity:
        raise invalid(f"Missing required parameter: '{at}.id'.", f"{at}.id", "missing_required_parameter")
    if len(identity) > MAX_TOOL_ID_CHARS:
        raise invalid(
            f"Invalid '{at}.id': string too long. Expected a string with maximum length {MAX_TOOL_ID_CHARS}, but got a string "
            f"with length {len(identity)} instead.",
            f"{at}.id",
            "string_above_max_length",
        )
    function = call.get(call["type"])
    key = "arguments" if call["type"] == "function" else "input"
    if not isinstance(function, dict) or not isinstance(function.get(key), str):
        raise wrong_type(
            f"{at}.function.{key}",
            "a string",
            (function or {}).get(key) if isinstance(function, dict) else None,
        )
    if not isinstance(function.get("name"), str) or not _TOOL_NAME.fullmatch(function["name"]):
        raise invalid(
            f"Invalid '{at}.function.name': string does not match pattern. Expected a string that matches the pattern "
            "'^[a-zA-Z0-9_-]+$'.",
            f"{at}.function.name",
            "invalid_value",
        )
    ask.text_chars.append(function[key])


def check_tool_order(messages: list[Any]) -> None:
    """Every call is answered right after it, and nothing answers a call that was not made."""
    open_ids: list[str] = []
    after_call = False
    for index, message in enumerate(messages):
        if message["role"] == "tool":
            identity = message.get("tool_call_id")
            if not isinstance(identity, str):
                raise invalid(
                    f"Missing required parameter: 'messages[{index}].tool_call_id'.",
                    f"messages[{index}].tool_call_id",
                )
            if not after_call or identity not in open_ids:
                raise invalid(
                    "Invalid parameter: messages with role 'tool' must be a response to a preceeding message with 'tool_calls'.",
                    f"messages.[{index}].role",
                )
            open_ids.remove(identity)
            continue
        _all_answered(open_ids, index)
        open_ids = [call["id"] for call in message.get("tool_calls") or []]
        after_call = bool(open_ids)
    _all_answered(open_ids, len(messages))


def _all_answered(open_ids: list[str], index: int) -> None:
    if open_ids:
        raise invalid(
            "An assistant message with 'tool_calls' must be followed by tool messages responding to each 'tool_call_id'. The "
            f"following tool_call_ids did not have response messages: {', '.join(open_ids)}",
            f"messages.[{index}].role",
        )


def read_tools(ask: Ask, body: dict[str, Any]) -> None:
    tools, choice = body.get("tools"), body.get("tool_choice")
    if tools == []:
        raise invalid(
            "Invalid 'tools': empty array. Expected an array with minimum length 1, but got an empty array instead.",
            "tools",
            "empty_array",
        )
    for index, tool in enumerate(tools or []):
        ask.tools.append(_tool(tool, f"tools[{index}]"))
    ask.text_chars += [str(tool) for tool in tools or []]
    if not tools:
        if choice is not None and choice != "none":
            raise invalid(
                "Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' are specified.",
                "tool_choice",
            )
        if body.get("parallel_tool_calls") is not None:
            raise invalid(
                "Invalid value for 'parallel_tool_calls': 'parallel_tool_calls' is only allowed when 'tools' are specified.",
                "parallel_tool_calls",
            )
    ask.parallel = body.get("parallel_tool_calls") is not False
    ask.tool_choice = _choice(ask, choice)


def _tool(tool: Any, where: str) -> Tool:
    if not isinstance(tool, dict):
        raise wrong_type(where, "an object", tool)
    kind = tool.get("type")
    if kind not in ("function", "custom"):
        raise invalid(
            f"Invalid value: '{kind}'. Supported values are: 'function' and 'custom'.",
            f"{where}.type",
            "invalid_value",
        )
    for name in tool:
        if name not in ("type", kind):
            raise invalid(f"Unknown parameter: '{where}.{name}'.", f"{where}.{name}", "unknown_parameter")
    function = tool.get(kind)
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise invalid(
            f"Missing required parameter: '{where}.{kind}.name'.",
            f"{where}.{kind}.name",
            "missing_required_parameter",
        )
    if not _TOOL_NAME.fullmatch(function["name"]):
        raise invalid(
            f"Invalid '{where}.{kind}.name': string does not match pattern. Expected a string that matches the pattern "
            "'^[a-zA-Z0-9_-]+$'.",
            f"{where}.{kind}.name",
            "invalid_value",
        )
    schema = function.get("parameters")
    if schema is not None and (not isinstance(schema, dict) or schema.get("type", "object") != "object"):
        raise invalid(
            f"Invalid schema for function '{function['name']}': schema must be a JSON Schema of 'type: \"object\"', got 'type: "
            f'"{schema.get("type") if isinstance(schema, dict) else "None"}"\'.',
            f"{where}.function.parameters",
            "invalid_function_parameters",
        )
    check_parameters(schema, function["name"], f"{where}.function.parameters")
    return Tool(function["name"], schema, kind)


def check_parameters(schema: Any, name: str, param: str) -> None:
    """An object says its properties, an array what of."""
    if not isinstance(schema, dict) or not schema:
        return
    if "$ref" not in schema and "properties" not in schema:
        raise invalid(
            f"Invalid schema for function '{name}': In context=(), object schema missing properties.",
            param,
            "invalid_function_parameters",
        )
    place = _bare_array(schema, ())
    if place is not None:
        raise invalid(
            f"Invalid schema for function '{name}': In context={place}, array schema missing items.",
            param,
            "invalid_function_parameters",
        )


def _bare_array(schema: Any, at: tuple[str, ...]) -> tuple[str, ...] | None:
    """Where an array is that does not say what of."""
    if not isinstance(schema, dict):
        return None
    if schema.get("type") == "array" and "items" not in schema:
        return at
    inner: list[tuple[tuple[str, ...], Any]] = [(("items",), schema.get("items"))]
    inner += [(("properties", name), one) for name, one in (schema.get("properties") or {}).items()]
    inner += [(("anyOf", str(index)), one) for index, one in enumerate(schema.get("anyOf") or ())]
    found = (_bare_array(one, (*at, *step)) for step, one in inner)
    return next((place for place in found if place is not None), None)


def check_user(body: dict[str, Any]) -> None:
    user = body.get("user")
    if isinstance(user, str) and len(user) > MAX_USER_CHARS:
        raise invalid(
            f"Invalid 'user': string too long. Expected a string with maximum length {MAX_USER_CHARS}, but got a string with "
            f"length {len(user)} instead.",
            "user",
            "string_above_max_length",
        )


def _choice(ask: Ask, choice: Any) -> str:
    if choice is None or choice in ("auto", "none", "required"):
        return choice or "auto"
    if isinstance(choice, dict) and choice.get("type") in ("function", "custom"):
        name = (choice.get(choice["type"]) or {}).get("name")
        if any(tool.name == name for tool in ask.tools):
            return str(name)
        raise invalid(f"Tool choice '{name}' not found in 'tools' parameter.", "tool_choice")
    if isinstance(choice, dict) and choice.get("type") == "allowed_tools":
        return "required" if choice.get("allowed_tools", {}).get("mode") == "required" else "auto"
    raise invalid(
        f"Invalid value: '{choice}'. Supported values are: 'none', 'auto', and 'required'.",
        "tool_choice",
        "invalid_value",
    )
