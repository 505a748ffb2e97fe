"""Chat Completions requests as hosts want them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from tieline.dialects.base import Outgoing, Quirks, Target
from tieline.dialects.cache_marks import wire_mark
from tieline.dialects.effort import effort_of
from tieline.dialects.openai_chat.wire import FORMATS, NAME, path_of
from tieline.dialects.params import (
    THE_WORD,
    end_user,
    left_to_the_model,
    needs_the_word,
    without_idle_thought,
)
from tieline.dialects.rooted import rooted
from tieline.dialects.schemas import parameters_of, strict_of, stripped
from tieline.dialects.structured_tool import as_tool, choice
from tieline.dialects.tool_names import OPENAI as OPENAI_NAME
from tieline.dialects.tool_names import fitting_names
from tieline.dialects.turns import fitting_id
from tieline.dialects.unmapped import left_over, unsupported
from tieline.types.errors import InvalidRequest, Unsupported
from tieline.types.request import (
    Audio,
    Document,
    Image,
    Message,
    Opaque,
    Part,
    Refusal,
    Request,
    ResponseFormat,
    ServerTool,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)

_SAME = {"text.verbosity": "verbosity"}
"""Names of the Responses API that mean the same here."""
MAX_USER = 64
"""Characters of `user`; OpenAI refuses more (`string_above_max_length`)."""


def encode_request(request: Request, target: Target) -> Outgoing:
    request = rooted(fitting_names(without_idle_thought(request, target), OPENAI_NAME))
    quirks = target.quirks
    body: dict[str, Any] = {"model": target.model}
    body["messages"] = _Writer(request, target).messages()
    if request.stream:
        body["stream"] = True
        if quirks.stream_usage:
            body["stream_options"] = {"include_usage": True}
    if request.max_output_tokens is not None:
        # A limit above what the model can give at all says the same as the model's own.
        body[quirks.max_tokens_field] = min(
            request.max_output_tokens, target.max_output_tokens or request.max_output_tokens
        )
    _add_sampling(body, request, quirks)
    _add_tools(body, request, target)
    _add_format(body, request, target)
    _add_reasoning(body, request, target)
    user = end_user(request, MAX_USER)
    if user is not None and "user" not in quirks.rejects:
        body["user"] = user
    if request.metadata and request.origin == NAME:
        body["metadata"] = request.metadata
    if request.service_tier is not None:
        body["service_tier"] = {"standard_only": "default", "standard": "default"}.get(
            request.service_tier, request.service_tier
        )
    body.update({_SAME.get(name, name): value for name, value in left_over(request, NAME, _SAME).items()})
    for name in quirks.rejects:
        if name in body:
            raise Unsupported(f"`{name}` is rejected by {target.provider}.", param=name)
    return Outgoing(path=path_of(target), body=msgspec.json.encode(body))


def _add_sampling(body: dict[str, Any], request: Request, quirks: Quirks) -> None:
    for name in ("temperature", "top_p", "top_k", "min_p", "frequency_penalty", "presence_penalty"):
        value = getattr(request, name)
        if value is not None:
            body[name] = value
    if request.stop:
        if len(request.stop) > quirks.max_stop:
            raise unsupported(request, "stop", f"at most {quirks.max_stop} are taken here.")
        body["stop"] = request.stop
    if request.seed is not None:
        body[quirks.seed_field] = request.seed
    if request.logit_bias:
        body["logit_bias"] = request.logit_bias
    if request.logprobs:
        body["logprobs"] = True
    if request.top_logprobs is not None:
        body["top_logprobs"] = request.top_logprobs
    if request.n > 1:
        body["n"] = request.n


def _add_tools(body: dict[str, Any], request: Request, target: Target) -> None:
    quirks = target.quirks
    tools = [_wire_tool(tool, request, quirks) for tool in request.tools]
    if not tools:
        return
    if not quirks.tools or target.tools is False:
        raise Unsupported(f"`tools`: {target.model} at {target.provider} takes none.", param="tools")
    body["tools"] = tools
    if request.tool_choice is not None:
        _add_choice(body, request.tool_choice, request, quirks)


def _add_choice(body: dict[str, Any], wanted: ToolChoice, request: Request, quirks: Quirks) -> None:
    if wanted.mode == "tool":
        body["tool_choice"] = {"type": "function", "function": {"name": wanted.name}}
    elif wanted.mode == "required":
        body["tool_choice"] = quirks.required_word
    elif wanted.mode == "none" or request.tool_choice is wanted:
        body["tool_choice"] = wanted.mode
    if wanted.mode in ("tool", "required") and not quirks.tool_choice_required:
        raise unsupported(request, "tool_choice", "this host cannot be made to call a tool.")
    if wanted.parallel is not None and quirks.parallel_tool_calls:
        body["parallel_tool_calls"] = wanted.parallel


def _wire_tool(tool: Tool | ServerTool, request: Request, quirks: Quirks) -> Any:
    if isinstance(tool, ServerTool):
        if tool.origin != NAME:
            raise Unsupported(f"`tools`: `{tool.title}` is known to another vendor only.", param="tools")
        return tool.value
    function: dict[str, Any] = {"name": tool.name}
    if tool.description:
        function["description"] = tool.description
    function["parameters"] = parameters_of(stripped(tool.parameters, quirks.schema_strips))
    if strict_of(tool.strict, tool.parameters, request) is not None:
        function["strict"] = tool.strict
    wire: dict[str, Any] = {"type": "function", "function": function}
    if tool.cache and quirks.cache_marks:
        wire["cache_control"] = wire_mark(tool.cache)
    return wire


def _add_format(body: dict[str, Any], request: Request, target: Target) -> None:
    wanted, quirks = request.response_format, target.quirks
    if wanted is None or wanted.kind == "text":
        return
    native = quirks.json_schema if wanted.kind == "json_schema" else quirks.json_object
    if native and target.structured_output is not False:
        body["response_format"] = _wire_format(wanted, request, quirks)
        if needs_the_word(request):
            role = "developer" if quirks.developer_role else "system"
            body["messages"].insert(0, {"role": role, "content": THE_WORD})
        return
    if not (quirks.tools and quirks.tool_choice_required) or target.tools is False or request.stop:
        raise unsupported(request, "response_format", f"{target.model} at {target.provider} cannot.")
    if request.tool_choice is not None and request.tool_choice.mode == "tool":
        return
    body["tools"] = [*body.get("tools", ()), _wire_tool(as_tool(wanted), request, quirks)]
    for name in ("tool_choice", "parallel_tool_calls"):
        body.pop(name, None)
    forced = choice(request)
    if not quirks.parallel_tool_calls:
        forced.parallel = None
    _add_choice(body, forced, request, quirks)


def _wire_format(wanted: ResponseFormat, request: Request, quirks: Quirks) -> dict[str, Any]:
    if wanted.kind == "json_object":
        return {"type": "json_object"}
    schema: dict[str, Any] = {"name": wanted.name, "schema": stripped(wanted.schema, quirks.schema_strips)}
    if strict_of(wanted.strict, wanted.schema, request) is not None:
        schema["strict"] = wanted.strict
    if wanted.description:
        schema["description"] = wanted.description
    return {"type": "json_schema", "json_schema": schema}


def _add_reasoning(body: dict[str, Any], request: Request, target: Target) -> None:
    wanted = request.reasoning
    if wanted is None:
        return
    if not wanted.enabled:
        if target.reasoning is not False and target.quirks.reasoning_effort:
            body["reasoning_effort"] = "none"
        return
    if target.reasoning is False:
        raise unsupported(request, "reasoning", f"{target.model} does not reason.")
    effort = wanted.effort
    if effort is None and wanted.budget_tokens is not None:
        effort = effort_of(wanted.budget_tokens)
    if effort is None:
        return
    if not target.quirks.reasoning_effort:
        if left_to_the_model(request):
            return
        raise unsupported(request, "reasoning", f"{target.provider} has no such setting.")
    body["reasoning_effort"] = effort


class _Writer:
    """Turns in this API's shape. One use per request."""

    def __init__(self, request: Request, target: Target) -> None:
        self.request = request
        self.target = target
        self.quirks = target.quirks

    def messages(self) -> list[dict[str, Any]]:
        messages = self.request.messages
        if messages and messages[-1].role == "assistant" and self.target.prefill is False:
            raise unsupported(
                self.request, "messages", f"{self.target.model} cannot continue an assistant turn."
            )
        return [wire for message in messages for wire in self._message(message)]

    def _message(self, message: Message) -> list[dict[str, Any]]:
        if message.role == "assistant":
            return [self._named(self._assistant(message), message)]
        if message.role == "system":
            role = "developer" if self.quirks.developer_role else "system"
            return [self._named({"role": role, "content": self._content(message.parts, "\n\n")}, message)]
        return self._user(message)

    def _named(self, wire: dict[str, Any], message: Message) -> dict[str, Any]:
        if message.name:
            wire["name"] = message.name
        return wire

    def _user(self, message: Message) -> list[dict[str, Any]]:
        done: list[dict[str, Any]] = []
        shown: list[Part] = []
        rest: list[Part] = []
        for part in message.parts:
            if not isinstance(part, ToolResult):
                rest.append(part)
                continue
            media: list[Part] = [each for each in part.content if not isinstance(each, Text)]
            if media:
                # A tool message holds text only; what the tool showed follows as the user's, still in order.
                shown += [Text(f"Shown by the tool call {self._id(part.id)}:"), *media]
            done.append({"role": "tool", "tool_call_id": self._id(part.id), "content": _result_text(part)})
        if shown or rest or not done:
            user = {"role": "user", "content": self._content(shown + rest, "\n")}
            done.append(self._named(user, message))
        return done

    def _assistant(self, message: Message) -> dict[str, Any]:
        calls: list[dict[str, Any]] = []
        content: list[Part] = []
        thoughts: list[Thinking] = []
        wire: dict[str, Any] = {"role": "assistant"}
        for part in message.parts:
            if isinstance(part, ToolCall):
                calls.append(self._call(part))
            elif isinstance(part, Thinking):
                thoughts.append(part)
            elif isinstance(part, Opaque) and self._own(part).get("type") == "custom":
                calls.append(part.value)
            elif isinstance(part, Opaque) and part.value.get("type") == "audio":
                wire["audio"] = part.value["audio"]
            else:
                content.append(part)
        refusals = [part.text for part in content if isinstance(part, Refusal)]
        texts = [part for part in content if not isinstance(part, Refusal)]
        wire["content"] = self._content(texts, "") if texts or not calls else None
        if refusals:
            wire["refusal"] = "".join(refusals)
        if calls:
            wire["tool_calls"] = calls
        self._add_thoughts(wire, thoughts)
        return wire

    def _add_thoughts(self, wire: dict[str, Any], thoughts: list[Thinking]) -> None:
        if not self.quirks.replay_reasoning or not thoughts:
            return
        field = self.quirks.reasoning_field
        if field == "reasoning":
            wire["reasoning_details"] = [reasoning_detail(part, index) for index, part in enumerate(thoughts)]
            return
        own = [part.text for part in thoughts if part.origin in (None, NAME) and part.text]
        if own:
            wire[field] = "".join(own)

    def _call(self, part: ToolCall) -> dict[str, Any]:
        return {
            "id": self._id(part.id),
            "type": "function",
            "function": {"name": part.name, "arguments": part.arguments or "{}"},
        }

    def _id(self, tool_id: str) -> str:
        return fitting_id(tool_id, self.quirks.tool_id_pattern)

    def _content(self, parts: Sequence[Part], joint: str) -> str | list[dict[str, Any]]:
        marked = self.quirks.cache_marks and any(isinstance(part, Text) and part.cache for part in parts)
        if not marked and all(isinstance(part, Text) for part in parts):
            # Several hosts take nothing but a string here (DeepSeek, older vLLM templates).
            return joint.join(part.text for part in parts if isinstance(part, Text))
        return [self._part(part) for part in parts]

    def _part(self, part: Part) -> dict[str, Any]:
        if isinstance(part, Text):
            return self._marked({"type": "text", "text": part.text}, part)
        if isinstance(part, Image):
            return self._marked(self._image(part), part)
        if isinstance(part, Document):
            return self._marked(self._document(part), part)
        if isinstance(part, Audio):
            if self.target.audio is False:
                raise unsupported(self.request, "messages", f"{self.target.model} does not take audio.")
            return {"type": "input_audio", "input_audio": {"data": part.data, "format": part.format}}
        if isinstance(part, Opaque):
            return self._own(part)
        raise InvalidRequest(f"A {type(part).__name__} cannot stand in this turn.", param="messages")

    def _own(self, part: Opaque) -> dict[str, Any]:
        if part.origin != NAME or not isinstance(part.value, dict):
            kind = part.value.get("type") if isinstance(part.value, dict) else type(part.value).__name__
            raise unsupported(
                self.request, "messages", f"a `{kind}` block means nothing to {self.target.provider}."
            )
        return part.value

    def _marked(self, wire: dict[str, Any], part: Text | Image | Document) -> dict[str, Any]:
        if part.cache and self.quirks.cache_marks:
            wire["cache_control"] = wire_mark(part.cache)
        return wire

    def _image(self, part: Image) -> dict[str, Any]:
        if self.target.vision is False:
            raise unsupported(self.request, "messages", f"{self.target.model} does not take images.")
        if part.url is None and part.data is None:
            raise unsupported(self.request, "messages", "images by file id are bound to their vendor.")
        url = part.url or f"data:{part.media_type or 'image/png'};base64,{part.data}"
        image = {"url": url}
        if part.detail:
            image["detail"] = part.detail
        return {"type": "image_url", "image_url": image}

    def _document(self, part: Document) -> dict[str, Any]:
        if part.media_type == "text/plain" and part.data is not None:
            title = f"{part.name}:\n" if part.name else ""
            return {"type": "text", "text": title + part.data}
        if self.target.pdf is False:
            raise unsupported(self.request, "messages", f"{self.target.model} does not take files.")
        if part.data is not None:
            name = part.name or "document.pdf"
            data = f"data:{part.media_type};base64,{part.data}"
            return {"type": "file", "file": {"filename": name, "file_data": data}}
        if part.file_id is not None and self.request.origin in ("", NAME, "openai_responses"):
            return {"type": "file", "file": {"file_id": part.file_id}}
        raise unsupported(
            self.request, "messages", "this API takes files as data, not by URL or another's id."
        )


def _result_text(result: ToolResult) -> str:
    text = "\n".join(part.text for part in result.content if isinstance(part, Text))
    # This API has no flag for a failed tool; the model must still see it.
    if result.is_error and not text.lower().startswith("error"):
        return f"Error: {text}"
    return text


def reasoning_detail(part: Thinking, index: int) -> dict[str, Any]:
    """A thinking part as OpenRouter shapes it, so that a caller who replays messages keeps the signature."""
    shared = {"format": FORMATS.get(part.origin or NAME, "unknown"), "index": index}
    if part.id:
        shared["id"] = part.id
    if part.redacted is not None:
        return {"type": "reasoning.encrypted", "data": part.redacted, **shared}
    return {"type": "reasoning.text", "text": part.text, "signature": part.signature, **shared}
