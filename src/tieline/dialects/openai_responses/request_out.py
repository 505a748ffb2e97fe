"""A request for a provider that speaks Responses. Nothing is stored there: ``store`` is false."""

from __future__ import annotations

from typing import Any

from tieline.dialects.base import Outgoing, Target, segment
from tieline.dialects.fields import Json, to_json, without_nulls
from tieline.dialects.openai_responses.request_in import NAME
from tieline.dialects.params import (
    THE_WORD,
    asks_for_thought,
    check_capabilities,
    check_media,
    effort_of,
    end_user,
    needs_the_word,
    output_limit,
    refuse_prefill,
    refuse_unset,
    unsupported,
    without_idle_thought,
)
from tieline.dialects.rooted import rooted
from tieline.dialects.schemas import parameters_of, strict_of, stripped
from tieline.dialects.tool_names import OPENAI as OPENAI_NAME
from tieline.dialects.tool_names import fitting_names
from tieline.dialects.turns import fitting_id, names_said, paired
from tieline.dialects.unmapped import left_over
from tieline.types.request import (
    Audio,
    Document,
    Image,
    Message,
    Part,
    Refusal,
    Request,
    ServerTool,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolResult,
)

PATH = "/responses"
MAX_USER = 64
MAX_CALL_ID = r"(?s).{1,64}"
"""The API refuses longer ones (`string_above_max_length`)."""
MIN_OUTPUT_TOKENS = 16
"""The API refuses less ("Expected a value >= 16", `integer_below_min_value`). Callers of other APIs, which take 1, are
raised to it: coding agents ask for one token to see whether a model answers."""

_FOREIGN = frozenset(("verbosity", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"))
"""Names of Chat Completions that mean the same here."""
_NESTED = {"text.verbosity": ("text", "verbosity"), "verbosity": ("text", "verbosity")}
_TIERS = {"standard": "default", "standard_only": "default"}
_OWN_TIERS = frozenset(("auto", "default", "flex", "scale", "priority"))
_OPENAI = frozenset(("", "openai_chat", NAME))


def encode_request(request: Request, target: Target) -> Outgoing:
    request = rooted(fitting_names(without_idle_thought(request, target), OPENAI_NAME))
    _check(request, target)
    instructions, messages = _instructions(names_said(paired(request.messages)), request)
    body: Json = {
        "model": target.model,
        "input": _items(messages, request, target),
        "instructions": instructions,
        "store": False,
        "stream": request.stream or None,
        "max_output_tokens": _limit(request, target),
        "temperature": request.temperature,
        "top_p": request.top_p,
        "user": end_user(request, MAX_USER) if "user" not in target.quirks.rejects else None,
        "metadata": request.metadata if request.origin in _OPENAI else None,
        "service_tier": _tier(request, target),
        "reasoning": _reasoning(request),
        "text": _text(request, target),
        "include": _include(request, target) or None,
        "top_logprobs": request.top_logprobs,
    }
    _tools(body, request, target)
    _unmapped(body, request)
    return Outgoing(path=path_of(target), body=to_json(without_nulls(body)))


def path_of(target: Target) -> str:
    return target.quirks.path.replace("{model}", segment(target.model)) or PATH


def _check(request: Request, target: Target) -> None:
    check_capabilities(request, target)
    check_media(request, target)
    refuse_prefill(request, target, unknown_is_able=False)
    refuse_unset(
        request,
        target,
        "stop",
        "seed",
        "frequency_penalty",
        "presence_penalty",
        "logit_bias",
        "top_k",
        "min_p",
    )
    if request.n > 1:
        raise unsupported(request, "n", target, "gives one answer")
    for name in target.quirks.rejects:
        if name != "user" and getattr(request, name, None) not in (None, [], False, {}):
            raise unsupported(request, name, target)


def _limit(request: Request, target: Target) -> int | None:
    limit = output_limit(request, target)
    return limit if limit is None or request.origin == NAME else max(limit, MIN_OUTPUT_TOKENS)


def _tier(request: Request, target: Target) -> str | None:
    tier = request.service_tier
    if tier is None:
        return None
    tier = _TIERS.get(tier, tier)
    if tier not in _OWN_TIERS:
        raise unsupported(request, "service_tier", target, f"has no tier {tier!r}")
    return tier


def _reasoning(request: Request) -> Json | None:
    asked = request.reasoning
    if asked is None:
        return None
    if not asked.enabled:
        return {"effort": "none"}
    # A caller that gives a budget speaks a dialect in which thinking is shown unless it says otherwise.
    shown = asked.summary or ("auto" if asked.adaptive or asked.budget_tokens else None)
    summary = None if shown in (None, "omitted") else shown
    return without_nulls({"effort": effort_of(asked), "summary": summary}) or None


def _text(request: Request, target: Target) -> Json | None:
    asked = request.response_format
    if asked is None or asked.kind == "text":
        return None
    if asked.kind == "json_object":
        if not target.quirks.json_object:
            raise unsupported(request, "response_format", target)
        return {"format": {"type": "json_object"}}
    if not target.quirks.json_schema:
        raise unsupported(request, "response_format", target)
    shape = {
        "type": "json_schema",
        "name": asked.name,
        "schema": stripped(asked.schema or {}, target.quirks.schema_strips),
        "strict": strict_of(asked.strict, asked.schema, request),
        "description": asked.description,
    }
    return {"format": without_nulls(shape)}


def _include(request: Request, target: Target) -> list[str]:
    include = list(request.unmapped.get("include", [])) if request.origin == NAME else []
    if request.logprobs:
        include.append("message.output_text.logprobs")
    if target.reasoning or (target.reasoning is None and asks_for_thought(request)):
        # Stateless: what the model thought comes back sealed, and goes with the next turn.
        include.append("reasoning.encrypted_content")
    return include


def _tools(body: Json, request: Request, target: Target) -> None:
    tools = [_tool(tool, request, target) for tool in request.tools]
    if tools or (target.quirks.empty_tools and request.tools):
        body["tools"] = tools
    choice = request.tool_choice
    if choice is None or not tools:
        return
    if choice.parallel is not None and target.quirks.parallel_tool_calls:
        body["parallel_tool_calls"] = choice.parallel
    elif choice.parallel is False:
        raise unsupported(request, "parallel", target)
    if choice.mode == "tool":
        body["tool_choice"] = {"type": "function", "name": choice.name}
    elif choice.mode == "required" and not target.quirks.tool_choice_required:
        raise unsupported(request, "tool_choice", target)
    elif choice.mode != "auto":
        body["tool_choice"] = choice.mode


def _tool(tool: Tool | ServerTool, request: Request, target: Target) -> Any:
    if isinstance(tool, ServerTool):
        if tool.origin == NAME:
            return tool.value
        raise unsupported(request, "tools", target, f"does not run the tool {tool.title}")
    if tool.freeform is not None:
        return tool.freeform
    return without_nulls(
        {
            "type": "function",
            "name": tool.name,
            "description": tool.description,
            "parameters": parameters_of(stripped(tool.parameters, target.quirks.schema_strips)),
        }
    ) | {"strict": bool(strict_of(tool.strict, tool.parameters, request))}


def _unmapped(body: Json, request: Request) -> None:
    for name, value in left_over(request, NAME, _FOREIGN).items():
        if name == "include":
            continue
        outer, inner = _NESTED.get(name) or (name.partition(".")[0], name.partition(".")[2])
        if inner:
            body[outer] = {**(body.get(outer) or {}), inner: value}
        else:
            body[name] = value


# messages -------------------------------------------------------------------------------------------------------------


def _instructions(messages: list[Message], request: Request) -> tuple[str | None, list[Message]]:
    """The system prompt that opens the conversation; later ones stay in their place. One that is all of it stays too, as this
    API wants an input, and that of JSON mode, where the word "json" must stand in the input."""
    wanted = request.response_format
    if wanted is not None and wanted.kind == "json_object":
        return None, [Message("system", [Text(THE_WORD)]), *messages] if needs_the_word(request) else messages
    if len(messages) < 2 or messages[0].role != "system":
        return None, messages
    texts = [part.text for part in messages[0].parts if isinstance(part, Text)]
    return "\n\n".join(texts) or None, messages[1:]


def _items(messages: list[Message], request: Request, target: Target) -> list[Json]:
    items: list[Json] = []
    for message in messages:
        if message.role == "assistant":
            _assistant_items(items, message, request, target)
        else:
            _user_items(items, message, request, target)
    return items


def _user_items(items: list[Json], message: Message, request: Request, target: Target) -> None:
    role = message.role
    if role == "system" and target.quirks.developer_role:
        role = "developer"  # type: ignore[assignment]
    content: list[Json] = []
    for part in message.parts:
        if isinstance(part, ToolResult):
            items.append(_output(part, request, target))
        elif value := _opaque(part):
            items.append(value)
        elif not isinstance(part, Text) or part.text:
            content.append(_content(part, request, target))
    if content:
        items.append({"role": role, "content": content})


def _opaque(part: Part) -> Json | None:
    """A whole item of this dialect's own."""
    value = getattr(part, "value", None)
    if getattr(part, "origin", None) != NAME or not isinstance(value, dict):
        return None
    return value


def _content(part: Part, request: Request, target: Target) -> Json:
    if isinstance(part, Text):
        return {"type": "input_text", "text": part.text}
    if isinstance(part, Refusal):
        return {"type": "input_text", "text": part.text}
    if isinstance(part, Image):
        return {
            "type": "input_image",
            "detail": part.detail or "auto",
            **_image_source(part, request, target),
        }
    if isinstance(part, Document):
        return _document(part, request, target)
    if isinstance(part, Audio):
        raise unsupported(request, "messages", target, "takes no audio through the Responses API")
    raise unsupported(request, "messages", target, "does not know a block of another vendor")


def _image_source(part: Image, request: Request, target: Target) -> Json:
    if part.file_id is not None:
        return {"file_id": _file_id(part.file_id, request, target)}
    if part.data is not None:
        return {"image_url": f"data:{part.media_type or 'image/png'};base64,{part.data}"}
    return {"image_url": part.url or ""}


def _file_id(file_id: str, request: Request, target: Target) -> str:
    if request.origin not in _OPENAI:
        raise unsupported(
            request, "messages", target, f"does not have the file {file_id!r} of another vendor"
        )
    return file_id


def _document(part: Document, request: Request, target: Target) -> Json:
    if part.file_id is not None:
        return {"type": "input_file", "file_id": _file_id(part.file_id, request, target)}
    if part.url is not None:
        return {"type": "input_file", "file_url": part.url}
    if part.media_type == "text/plain":
        return {"type": "input_text", "text": part.data or ""}
    return {
        "type": "input_file",
        "filename": part.name or "document.pdf",
        "file_data": f"data:{part.media_type};base64,{part.data}",
    }


def _output(part: ToolResult, request: Request, target: Target) -> Json:
    texts = [inner.text for inner in part.content if isinstance(inner, Text)]
    output: str | list[Json]
    if len(texts) == len(part.content):
        output = "\n".join(texts)
        if part.is_error and not output.lower().startswith("error"):
            output = f"Error: {output}"  # the item has no field that says so
    else:
        output = [_content(inner, request, target) for inner in part.content]
        if part.is_error:
            output.insert(0, {"type": "input_text", "text": "Error:"})
    return {"type": "function_call_output", "call_id": _call_id(part.id, target), "output": output}


def _assistant_items(items: list[Json], message: Message, request: Request, target: Target) -> None:
    for part in message.parts:
        if isinstance(part, Text):
            if part.text:
                items.append(_said(part, len(items)))
        elif isinstance(part, Refusal):
            items.append({"role": "assistant", "content": part.text})
        elif isinstance(part, ToolCall):
            call = {
                "call_id": _call_id(part.id, target),
                "name": part.name,
                "arguments": part.arguments or "{}",
            }
            items.append({"type": "function_call", **call})
        elif isinstance(part, Thinking):
            items.extend(_thought(part))
        elif value := _opaque(part):
            items.append(value)
        else:
            what = type(part).__name__.lower()
            raise unsupported(request, "messages", target, f"takes no {what} of the assistant")


def _call_id(given: str, target: Target) -> str:
    return fitting_id(given, target.quirks.tool_id_pattern or MAX_CALL_ID)


def _said(part: Text, at: int) -> Json:
    if part.origin != NAME or not part.citations:
        return {"role": "assistant", "content": part.text}
    return {
        "id": f"msg_{at}",
        "type": "message",
        "role": "assistant",
        "status": "completed",
        "content": [{"type": "output_text", "text": part.text, "annotations": part.citations}],
    }


def _thought(part: Thinking) -> list[Json]:
    """Sealed reasoning of this vendor; another's means nothing to it, and an id alone refers to what is not stored."""
    if part.origin != NAME or not part.signature:
        return []
    summary = [{"type": "summary_text", "text": part.text}] if part.text else []
    item_id = part.id or "rs_" + part.signature[:24].encode().hex()
    return [{"type": "reasoning", "id": item_id, "summary": summary, "encrypted_content": part.signature}]
