"""Messages requests as hosts want them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Raw

from tieline.dialects.anthropic_messages.peek import allowed_betas
from tieline.dialects.anthropic_messages.wire import NAME, VERSION, path_of
from tieline.dialects.base import Outgoing, Target
from tieline.dialects.cache_marks import wire_mark
from tieline.dialects.effort import LEAST_BUDGET, budget_of, effort_of
from tieline.dialects.fields import plain_text
from tieline.dialects.params import end_user, without_idle_thought
from tieline.dialects.pictures import picture_type
from tieline.dialects.rooted import rooted
from tieline.dialects.schemas import closed, stripped
from tieline.dialects.structured_tool import as_tool, choice
from tieline.dialects.tool_names import ANTHROPIC as ANTHROPIC_NAME
from tieline.dialects.tool_names import fitting_names
from tieline.dialects.turns import fitting_id, names_said
from tieline.dialects.unmapped import caller_field, left_over, unsupported
from tieline.types.call import Headers
from tieline.types.errors import InvalidRequest, Unsupported
from tieline.types.request import (
    Document,
    Image,
    Message,
    Opaque,
    Part,
    Refusal,
    Request,
    ServerTool,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)

DEFAULT_MAX_TOKENS = 4096
"""This API wants a limit; it is what every Claude since 3 can give."""
MAX_USER = 256
_ROOM_TO_ANSWER = 4096
_TOOL_ID = r"[a-zA-Z0-9_-]{1,64}"
_TIERS = {"auto": "auto", "default": "standard_only", "standard_only": "standard_only", "priority": "auto"}
_EFFORTS = {"minimal": "low"}
_LOOSE = "it contains itself, or an object of any keys"
_ARGUMENTS = msgspec.json.Decoder(dict[str, Raw])


def encode_request(request: Request, target: Target) -> Outgoing:
    request = rooted(fitting_names(without_idle_thought(request, target), ANTHROPIC_NAME))
    _refuse_unknown(request, target)
    extra = dict(left_over(request, NAME))
    betas = allowed_betas(extra.pop("anthropic-beta", []), target.quirks)
    writer = _Writer(request, target)
    body: dict[str, Any] = {"model": target.model, "max_tokens": _max_tokens(request, target)}
    system, messages = writer.turns()
    if system:
        body["system"] = system
    body["messages"] = messages
    if request.stream:
        body["stream"] = True
    _add_tools(body, request, target)
    _add_thinking(body, request, target, writer)
    _add_format(body, request, target)
    _add_sampling(body, request)
    user = end_user(request, MAX_USER, anonymous=request.origin != NAME)
    if user is not None:
        body["metadata"] = {"user_id": user}
    _add_tier(body, request)
    body.update(extra)
    for name in target.quirks.rejects:
        if name in body:
            raise Unsupported(f"`{name}` is rejected by {target.provider}.", param=name)
    headers: Headers = []
    if target.quirks.body_version:
        del body["model"]
        body["anthropic_version"] = target.quirks.body_version
    else:
        headers.append((b"anthropic-version", VERSION))
    if betas:
        headers.append((b"anthropic-beta", ",".join(betas).encode("latin-1")))
    path = path_of(target, stream=request.stream)
    return Outgoing(path=path, body=msgspec.json.encode(body), headers=headers)


def _refuse_unknown(request: Request, target: Target) -> None:
    asked = {
        "n": request.n > 1,
        "logprobs": request.logprobs,
        "top_logprobs": request.top_logprobs is not None,
        "seed": request.seed is not None,
        "frequency_penalty": bool(request.frequency_penalty),
        "presence_penalty": bool(request.presence_penalty),
        "logit_bias": bool(request.logit_bias),
        "min_p": bool(request.min_p),
    }
    for name, given in asked.items():
        if given:
            raise unsupported(
                request, name, f"Anthropic's API, which {target.provider} ({target.model}) speaks, has none."
            )


def _max_tokens(request: Request, target: Target) -> int:
    wanted = request.max_output_tokens
    if wanted is None:
        wanted = target.max_output_tokens or DEFAULT_MAX_TOKENS
        thinking = request.reasoning
        if thinking and thinking.enabled and thinking.budget_tokens is not None:
            wanted = max(wanted, thinking.budget_tokens + _ROOM_TO_ANSWER)
    return min(wanted, target.max_output_tokens or wanted)


def _add_sampling(body: dict[str, Any], request: Request) -> None:
    thinks = body.get("thinking", {}).get("type") in ("enabled", "adaptive")
    # 1 is the default of both; newer models refuse to be given them at all.
    if request.temperature is not None and request.temperature != 1:
        if request.temperature > 1:
            raise unsupported(request, "temperature", "the Anthropic API takes 0 to 1.")
        if thinks:
            raise unsupported(request, "temperature", "it must be 1 while the model thinks.")
        body["temperature"] = request.temperature
    if request.top_p is not None and request.top_p != 1:
        if thinks and request.top_p < 0.95:
            raise unsupported(request, "top_p", "it must be at least 0.95 while the model thinks.")
        body["top_p"] = request.top_p
    if request.top_k is not None:
        if thinks:
            raise unsupported(request, "top_k", "it cannot be set while the model thinks.")
        body["top_k"] = request.top_k
    if request.stop:
        if any(not stop.strip() for stop in request.stop):
            raise unsupported(request, "stop", "the Anthropic API refuses sequences of white space only.")
        body["stop_sequences"] = request.stop


def _add_tier(body: dict[str, Any], request: Request) -> None:
    if request.service_tier is None:
        return
    tier = _TIERS.get(request.service_tier)
    if tier is None:
        raise unsupported(request, "service_tier", f"`{request.service_tier}` has no equivalent here.")
    body["service_tier"] = tier


def _add_tools(body: dict[str, Any], request: Request, target: Target) -> None:
    if not request.tools:
        return
    if target.tools is False or not target.quirks.tools:
        raise unsupported(request, "tools", f"{target.model} takes none.")
    body["tools"] = [_wire_tool(tool, request, target) for tool in request.tools]
    if request.tool_choice is not None:
        body["tool_choice"] = _wire_choice(request.tool_choice)


def _wire_tool(tool: Tool | ServerTool, request: Request, target: Target) -> Any:
    if isinstance(tool, ServerTool):
        if tool.origin != NAME:
            raise Unsupported(f"`tools`: `{tool.title}` is known to another vendor only.", param="tools")
        return tool.value
    schema = stripped(tool.parameters, target.quirks.schema_strips)
    if schema.get("type") != "object":
        schema = {"type": "object", **{name: value for name, value in schema.items() if name != "type"}}
    if tool.strict:
        schema = _constrained(schema, request)
        if schema is None:
            raise Unsupported(
                f"`tools`: the parameters of `{tool.name}` cannot be strict here: {_LOOSE}.", param="tools"
            )
    wire: dict[str, Any] = {"name": tool.name, "input_schema": schema}
    if tool.description:
        wire["description"] = tool.description
    if tool.strict:
        if target.structured_output is False:
            raise Unsupported(f"`tools`: {target.model} has no strict tools.", param="tools")
        wire["strict"] = True
    if tool.cache:
        wire["cache_control"] = wire_mark(tool.cache)
    return wire


def _wire_choice(wanted: ToolChoice) -> dict[str, Any]:
    """WIRE_FACTS 14."""
    if wanted.mode == "none":
        return {"type": "none"}
    wire: dict[str, Any] = {"type": "any" if wanted.mode == "required" else wanted.mode}
    if wanted.mode == "tool":
        wire["name"] = wanted.name
    if wanted.parallel is not None:
        wire["disable_parallel_tool_use"] = not wanted.parallel
    return wire


def _add_thinking(body: dict[str, Any], request: Request, target: Target, writer: _Writer) -> None:
    wanted = request.reasoning
    if wanted is None:
        return
    if target.reasoning is False:
        if wanted.enabled:
            raise unsupported(request, "reasoning", f"{target.model} does not think.")
        return
    if not wanted.enabled:
        body["thinking"] = {"type": "disabled"}
        return
    adaptive = target.adaptive_thinking or (wanted.adaptive and target.adaptive_thinking is None)
    thinking = _adaptive(body, request) if adaptive else _budgeted(body, request, writer)
    if thinking is None:
        return
    if wanted.summary is not None:
        thinking["display"] = "omitted" if wanted.summary == "omitted" else "summarized"
    if body.get("tool_choice", {}).get("type") in ("any", "tool"):
        raise unsupported(request, "tool_choice", "a tool cannot be forced while the model thinks.")
    body["thinking"] = thinking


def _adaptive(body: dict[str, Any], request: Request) -> dict[str, Any]:
    wanted = request.reasoning
    assert wanted is not None
    effort = wanted.effort
    if effort is None and wanted.budget_tokens is not None:
        effort = effort_of(wanted.budget_tokens)
    if effort is not None:
        body["output_config"] = {"effort": _EFFORTS.get(effort, effort)}
    return {"type": "adaptive"}


def _budgeted(body: dict[str, Any], request: Request, writer: _Writer) -> dict[str, Any] | None:
    wanted = request.reasoning
    assert wanted is not None
    limit = body["max_tokens"]
    if writer.resumes_unsigned_tools:
        # A tool loop begun elsewhere has no thinking signed here to go on from: refused with thinking on.
        return None
    if wanted.budget_tokens is not None:
        if wanted.budget_tokens >= limit:
            raise unsupported(request, "reasoning", f"the budget must be less than max_tokens ({limit}).")
        return {"type": "enabled", "budget_tokens": max(LEAST_BUDGET, wanted.budget_tokens)}
    # An effort asks for no figure: it yields to the limit, and to nothing where no thought fits.
    budget = min(budget_of(wanted.effort), limit - LEAST_BUDGET)
    return {"type": "enabled", "budget_tokens": budget} if budget >= LEAST_BUDGET else None


def _add_format(body: dict[str, Any], request: Request, target: Target) -> None:
    """Native where it exists, else a forced tool (WIRE_FACTS 23); JSON without a schema is always the tool."""
    wanted = request.response_format
    if wanted is None or wanted.kind == "text":
        return
    schema = _constrained(stripped(wanted.schema, target.quirks.schema_strips), request)
    native = target.structured_output is not False and target.quirks.json_schema
    if wanted.kind == "json_schema" and native and schema is not None:
        body.setdefault("output_config", {})["format"] = {"type": "json_schema", "schema": schema}
        return
    if body.get("thinking", {}).get("type") in ("enabled", "adaptive"):
        raise unsupported(request, "response_format", f"{target.model} cannot while it thinks.")
    if target.tools is False or not target.quirks.tools:
        raise unsupported(request, "response_format", f"{target.model} cannot.")
    if request.tool_choice is not None and request.tool_choice.mode == "tool":
        return
    body["tools"] = [*body.get("tools", ()), _wire_tool(as_tool(wanted), request, target)]
    body["tool_choice"] = _wire_choice(choice(request))


def _constrained(schema: Any, request: Request) -> Any:
    """What constrains the output: this API's own callers know its rules. None: it cannot be said here."""
    return schema if request.origin == NAME else closed(schema)


class _Writer:
    """Turns in this API's shape: system hoisted, sides alternating, results first (WIRE_FACTS 13, 17, 18)."""

    def __init__(self, request: Request, target: Target) -> None:
        self.request = request
        self.target = target
        self.tool_id = target.quirks.tool_id_pattern or _TOOL_ID
        self.resumes_unsigned_tools = False

    def turns(self) -> tuple[Any, list[dict[str, Any]]]:
        system: list[dict[str, Any]] = []
        turns: list[dict[str, Any]] = []
        for message in names_said(self.request.messages):
            blocks = self._blocks(message)
            if message.role == "system":
                system += blocks
            elif blocks and turns and turns[-1]["role"] == message.role:
                turns[-1]["content"] += blocks
            elif blocks:
                turns.append({"role": message.role, "content": blocks})
        if not turns and system:
            # Nothing but instructions: this API wants a user's turn.
            turns, system = [{"role": "user", "content": system}], []
        if not turns:
            raise InvalidRequest("`messages` hold no content.", param="messages")
        for turn in turns:
            turn["content"].sort(key=_results_first)
        self._finish(turns)
        return _plain(system), [{**turn, "content": _plain(turn["content"])} for turn in turns]

    def _finish(self, turns: list[dict[str, Any]]) -> None:
        last = turns[-1]
        if last["role"] == "assistant":
            if self.target.prefill is False:
                raise unsupported(
                    self.request, "messages", f"{self.target.model} cannot continue an assistant turn."
                )
            _trim(last["content"])
            if not last["content"]:
                turns.pop()
        elif last["content"][0]["type"] == "tool_result" and len(turns) > 1:
            kinds = {block["type"] for block in turns[-2]["content"]}
            self.resumes_unsigned_tools = not kinds & {"thinking", "redacted_thinking"}

    def _blocks(self, message: Message) -> list[dict[str, Any]]:
        found = (self._block(part) for part in message.parts)
        return [block for block in found if block is not None]

    def _block(self, part: Part) -> dict[str, Any] | None:
        if isinstance(part, Text):
            return self._text(part)
        if isinstance(part, Thinking):
            return _thinking(part)
        if isinstance(part, ToolCall):
            return _marked(
                {
                    "type": "tool_use",
                    "id": fitting_id(part.id, self.tool_id),
                    "name": part.name,
                    "input": _input(part.arguments),
                },
                part,
            )
        if isinstance(part, ToolResult):
            return self._result(part)
        if isinstance(part, Image):
            return self._image(part)
        if isinstance(part, Document):
            return self._document(part)
        if isinstance(part, Refusal):
            return {"type": "text", "text": part.text} if part.text.strip() else None
        if isinstance(part, Opaque):
            return self._own(part)
        raise unsupported(self.request, "messages", "the Anthropic API takes no audio.")

    def _own(self, part: Opaque) -> dict[str, Any]:
        if part.origin != NAME or not isinstance(part.value, dict):
            kind = part.value.get("type") if isinstance(part.value, dict) else type(part.value).__name__
            raise unsupported(self.request, "messages", f"a `{kind}` block means nothing to Anthropic.")
        return part.value

    def _text(self, part: Text) -> dict[str, Any] | None:
        if not part.text.strip():
            return None
        wire: dict[str, Any] = {"type": "text", "text": part.text}
        if part.citations and part.origin == NAME:
            wire["citations"] = part.citations
        return _marked(wire, part)

    def _result(self, part: ToolResult) -> dict[str, Any]:
        wire: dict[str, Any] = {"type": "tool_result", "tool_use_id": fitting_id(part.id, self.tool_id)}
        blocks = [block for block in map(self._block, part.content) if block is not None]
        if blocks:
            wire["content"] = _plain(blocks)
        if part.is_error:
            wire["is_error"] = True
        return _marked(wire, part)

    def _image(self, part: Image) -> dict[str, Any]:
        if self.target.vision is False:
            raise unsupported(self.request, "messages", f"{self.target.model} does not take images.")
        if part.data is not None:
            media_type = picture_type(part.media_type, part.data)
            source = {"type": "base64", "media_type": media_type, "data": part.data}
        elif part.url is not None:
            source = {"type": "url", "url": part.url}
        else:
            source = self._file_source(part.file_id)
        return _marked({"type": "image", "source": source}, part)

    def _document(self, part: Document) -> dict[str, Any]:
        if part.media_type == "text/plain" and part.data is not None:
            source = {"type": "text", "media_type": "text/plain", "data": part.data}
        elif part.media_type.startswith("text/") and part.data is not None:
            text = plain_text(part.data, caller_field(self.request, "messages"))
            source = {"type": "text", "media_type": "text/plain", "data": text}
        elif self.target.pdf is False:
            raise unsupported(self.request, "messages", f"{self.target.model} does not take PDFs.")
        elif part.media_type != "application/pdf":
            raise unsupported(self.request, "messages", f"files of type {part.media_type} are not taken.")
        elif part.data is not None:
            source = {"type": "base64", "media_type": "application/pdf", "data": part.data}
        elif part.url is not None:
            source = {"type": "url", "url": part.url}
        else:
            source = self._file_source(part.file_id)
        wire: dict[str, Any] = {"type": "document", "source": source}
        if part.name:
            wire["title"] = part.name
        return _marked(wire, part)

    def _file_source(self, file_id: str | None) -> dict[str, Any]:
        if file_id is None or self.request.origin not in ("", NAME):
            raise unsupported(self.request, "messages", "files by id are bound to their vendor.")
        return {"type": "file", "file_id": file_id}


def _marked(wire: dict[str, Any], part: Text | Image | Document | ToolCall | ToolResult) -> dict[str, Any]:
    if part.cache:
        wire["cache_control"] = wire_mark(part.cache)
    return wire


def _thinking(part: Thinking) -> dict[str, Any] | None:
    """Signed here: verbatim; anything else would be refused (WIRE_FACTS 21)."""
    if part.origin != NAME:
        return None
    if part.redacted is not None:
        return {"type": "redacted_thinking", "data": part.redacted}
    if not part.signature:
        return None
    return {"type": "thinking", "thinking": part.text, "signature": part.signature}


def _input(arguments: str) -> Any:
    try:
        _ARGUMENTS.decode(arguments or "{}")
    except (msgspec.DecodeError, RecursionError):
        # The model wrote no object; its words are kept where this API wants one.
        return {"invalid_arguments": arguments}
    return Raw((arguments or "{}").encode())


def _results_first(block: dict[str, Any]) -> bool:
    return bool(block["type"] != "tool_result")


def _plain(blocks: Sequence[dict[str, Any]]) -> Any:
    """A single bare text is written as a string, as callers write it."""
    if len(blocks) == 1 and blocks[0].keys() == {"type", "text"}:
        return blocks[0]["text"]
    return blocks


def _trim(blocks: list[dict[str, Any]]) -> None:
    if blocks and blocks[-1]["type"] == "text":
        blocks[-1]["text"] = blocks[-1]["text"].rstrip()
