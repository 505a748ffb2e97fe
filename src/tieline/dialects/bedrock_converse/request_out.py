"""A request for Bedrock's Converse and ConverseStream. SigV4 is added by the provider's signing."""

from __future__ import annotations

import base64
import re
from urllib.parse import quote

from tieline.dialects import structured_tool
from tieline.dialects.base import Outgoing, Target
from tieline.dialects.fields import Json, arguments_object, to_json, to_text, without_nulls
from tieline.dialects.params import (
    asks_for_thought,
    budget_of,
    check_capabilities,
    check_media,
    effort_of,
    left_to_the_model,
    output_limit,
    refuse_prefill,
    refuse_unset,
    unsupported,
    without_idle_thought,
)
from tieline.dialects.pictures import picture_type
from tieline.dialects.rooted import rooted
from tieline.dialects.schemas import closed, stripped
from tieline.dialects.tool_names import OPENAI as OPENAI_NAME
from tieline.dialects.tool_names import fitting_names
from tieline.dialects.turns import fitting_id, names_said, paired
from tieline.dialects.unmapped import left_over
from tieline.types.request import (
    Audio,
    CacheMark,
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

NAME = "bedrock_converse"
CLAUDE = "anthropic_messages"
"""Claude's signatures are valid on every platform that serves it (platform.claude.com, "Extended thinking")."""
TOOL_ID = r"[a-zA-Z0-9_.:-]{1,64}"
MIN_BUDGET = 1024
"""The least thinking budget that Claude takes."""

_NOT_IN_NAMES = re.compile(r"[^a-zA-Z0-9\s\-()\[\]]+")
_IMAGE_FORMATS = {"image/png": "png", "image/jpeg": "jpeg", "image/gif": "gif", "image/webp": "webp"}
_DOCUMENT_FORMATS = {
    "application/pdf": "pdf",
    "text/csv": "csv",
    "text/html": "html",
    "text/plain": "txt",
    "text/markdown": "md",
    "application/msword": "doc",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.ms-excel": "xls",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
}
_AUDIO_FORMATS = frozenset(("mp3", "opus", "wav", "aac", "flac", "mp4", "ogg", "m4a", "webm", "pcm"))
_TIERS = {
    "auto": None,
    "default": None,
    "standard": None,
    "standard_only": None,
    "flex": "flex",
    "priority": "priority",
}


_BEGINNING = "(The conversation begins.)"


def encode_request(request: Request, target: Target) -> Outgoing:
    request = rooted(fitting_names(without_idle_thought(request, target), OPENAI_NAME))
    _check(request, target)
    tool_config = _tool_config(request, target)
    writer = _Writer(request, target, told=tool_config is None)
    system, messages = writer.conversation()
    body: Json = {
        "messages": messages,
        "system": system or None,
        "inferenceConfig": _inference(request, target) or None,
        "toolConfig": tool_config,
        "additionalModelRequestFields": _additional(request, target) or None,
        "outputConfig": _output_config(request, target) or None,
        "serviceTier": _tier(request, target),
        **left_over(request, NAME),
    }
    return Outgoing(path=path_of(target, request.stream), body=to_json(without_nulls(body)))


def path_of(target: Target, stream: bool) -> str:
    template = target.quirks.path or "/model/{model}/{method}"
    method = "converse-stream" if stream else "converse"
    return template.replace("{model}", quote(target.model, safe="")).replace("{method}", method)


def _is_claude(target: Target) -> bool:
    return "anthropic" in target.model or "claude" in target.model


def _is_nova(target: Target) -> bool:
    return "amazon.nova" in target.model


def _check(request: Request, target: Target) -> None:
    check_capabilities(request, target)
    check_media(request, target)
    refuse_prefill(request, target, unknown_is_able=True)
    refuse_unset(
        request,
        target,
        "seed",
        "frequency_penalty",
        "presence_penalty",
        "logit_bias",
        "logprobs",
        "min_p",
    )
    if request.n > 1:
        raise unsupported(request, "n", target, "gives one answer")
    if not _is_claude(target) or not asks_for_thought(request):
        return
    if request.temperature not in (None, 1):
        raise unsupported(request, "temperature", target, "takes only 1 while it thinks")
    if request.top_k is not None:
        raise unsupported(request, "top_k", target, "does not take it while it thinks")


def _inference(request: Request, target: Target) -> Json:
    temperature, top_p = request.temperature, request.top_p
    if _is_claude(target):
        # 1 is the default of both; newer models take one of the two, or none that is not the default.
        temperature, top_p = None if temperature == 1 else temperature, None if top_p == 1 else top_p
    return without_nulls(
        {
            "maxTokens": output_limit(request, target),
            "temperature": temperature,
            "topP": top_p,
            "stopSequences": request.stop or None,
        }
    )


def _tier(request: Request, target: Target) -> Json | None:
    tier = request.service_tier
    if tier is None:
        return None
    if tier not in _TIERS:
        raise unsupported(request, "service_tier", target, f"has no tier {tier!r}")
    kind = _TIERS[tier]
    return {"type": kind} if kind else None


def _additional(request: Request, target: Target) -> Json:
    """What Converse has no field of its own for, in each family's own words."""
    fields: Json = {}
    if request.top_k is not None:
        if _is_nova(target):
            fields["inferenceConfig"] = {"topK": request.top_k}
        elif _is_claude(target) or "mistral" in target.model:
            fields["top_k"] = request.top_k
        else:
            raise unsupported(request, "top_k", target)
    if request.reasoning is not None:
        _add_thinking(fields, request, target)
    return fields


def _add_thinking(fields: Json, request: Request, target: Target) -> None:
    asked = request.reasoning
    assert asked is not None
    on = asks_for_thought(request)
    effort = effort_of(asked) or "medium"
    if _is_claude(target):
        if on:
            fields["thinking"] = _claude_thinking(request, target)
        elif target.adaptive_thinking:
            fields["thinking"] = {"type": "disabled"}  # some of these think unless told not to
    elif _is_nova(target):
        level = {"minimal": "low", "low": "low", "medium": "medium"}.get(effort, "high")
        kind = {"type": "enabled", "maxReasoningEffort": level} if on else {"type": "disabled"}
        fields["reasoningConfig"] = kind
    elif "openai.gpt-oss" in target.model and on:
        fields["reasoning_effort"] = {"minimal": "low", "low": "low", "medium": "medium"}.get(effort, "high")
    elif on and target.reasoning is not True and not left_to_the_model(request):
        raise unsupported(request, "reasoning", target)


def _claude_thinking(request: Request, target: Target) -> Json:
    asked = request.reasoning
    assert asked is not None
    if target.adaptive_thinking:
        display = {"omitted": "omitted", None: None}.get(asked.summary, "summarized")
        return without_nulls({"type": "adaptive", "display": display})
    budget = max(budget_of(asked) or 8192, MIN_BUDGET)
    limit = output_limit(request, target)
    if limit is not None and budget >= limit:
        budget = limit - 1  # the budget is part of the answer's limit
        if budget < MIN_BUDGET:
            raise unsupported(
                request, "max_output_tokens", target, f"needs more than {MIN_BUDGET} while it thinks"
            )
    return {"type": "enabled", "budget_tokens": budget}


def _output_config(request: Request, target: Target) -> Json:
    config: Json = {}
    asked = request.reasoning
    if asked is not None and asks_for_thought(request) and _is_claude(target) and target.adaptive_thinking:
        effort = effort_of(asked)
        if effort:
            config["effort"] = "low" if effort == "minimal" else effort
    wanted = request.response_format
    if wanted is not None and wanted.kind != "text" and not _needs_tool_for_format(request, target):
        shape = {
            "schema": to_text(closed(stripped(wanted.schema, target.quirks.schema_strips))),
            "name": wanted.name,
            "description": wanted.description,
        }
        config["textFormat"] = {"type": "json_schema", "structure": {"jsonSchema": without_nulls(shape)}}
    return config


def _needs_tool_for_format(request: Request, target: Target) -> bool:
    wanted = request.response_format
    if wanted is None or wanted.kind == "text":
        return False
    return wanted.kind == "json_object" or not target.quirks.json_schema or closed(wanted.schema) is None


# tools ----------------------------------------------------------------------------------------------------------------


def _tool_config(request: Request, target: Target) -> Json | None:
    tools: list[Tool | ServerTool] = list(request.tools)
    choice = request.tool_choice
    if _needs_tool_for_format(request, target):
        if asks_for_thought(request) and _is_claude(target):
            raise unsupported(request, "response_format", target, "cannot be forced while it thinks")
        assert request.response_format is not None
        choice = structured_tool.choice(request)
        tools.append(structured_tool.as_tool(request.response_format))
    if not tools or (choice is not None and choice.mode == "none"):
        return None
    listed: list[Json] = []
    for tool in tools:
        listed.append(_tool(tool, request, target))
        if isinstance(tool, Tool) and tool.cache and _is_claude(target):
            listed.append(_cache_point(tool.cache))
    return without_nulls({"tools": listed, "toolChoice": _choice(choice)})


def _tool(tool: Tool | ServerTool, request: Request, target: Target) -> Json:
    if isinstance(tool, ServerTool):
        if tool.origin == NAME and isinstance(tool.value, dict):
            return tool.value
        raise unsupported(request, "tools", target, f"does not run the tool {tool.title}")
    schema = stripped(tool.parameters, target.quirks.schema_strips)
    if tool.strict:
        schema = closed(schema)
        if schema is None:
            why = (
                f"cannot have {tool.name} strict: its parameters contain themselves, or an object of any keys"
            )
            raise unsupported(request, "tools", target, why)
    spec: Json = {"name": tool.name, "inputSchema": {"json": schema}}
    if tool.description:
        spec["description"] = tool.description
    if tool.strict:
        spec["strict"] = True
    return {"toolSpec": spec}


def _choice(choice: ToolChoice | None) -> Json | None:
    if choice is None or choice.mode == "none":
        return None
    if choice.mode == "tool":
        return {"tool": {"name": choice.name}}
    return {"any": {}} if choice.mode == "required" else {"auto": {}}


def _cache_point(mark: CacheMark) -> Json:
    point = {"type": "default"}
    if mark.ttl == "1h":
        point["ttl"] = "1h"
    return {"cachePoint": point}


# messages -------------------------------------------------------------------------------------------------------------


def _is_blank(part: Part) -> bool:
    return isinstance(part, Text) and not part.text.strip()


class _Writer:
    def __init__(self, request: Request, target: Target, *, told: bool) -> None:
        self._request = request
        self._target = target
        self._told = told
        """Whether calls and results are told in words: Converse takes none without tools that may be called, and summaries of
        a conversation (opencode, Claude Code) are asked for without."""
        self._documents = 0
        self._caches = _is_claude(target) or _is_nova(target)

    def conversation(self) -> tuple[list[Json], list[Json]]:
        """Instructions hoisted (WIRE_FACTS 17); turns of one side joined, since sides must alternate."""
        system: list[Json] = []
        messages: list[Json] = []
        for message in names_said(paired(self._request.messages)):
            if message.role == "system":
                self._system(system, message)
                continue
            content = self._blocks(message)
            if not content:
                continue
            if messages and messages[-1]["role"] == message.role:
                messages[-1]["content"].extend(content)
            else:
                messages.append({"role": message.role, "content": content})
        if not messages and system:
            # Nothing but instructions: this API wants a user's turn.
            return [], [{"role": "user", "content": system}]
        if messages and messages[0]["role"] == "assistant":
            # "A conversation must start with a user message": a greeting is none.
            messages.insert(0, {"role": "user", "content": [{"text": _BEGINNING}]})
        self._trim_prefill(messages)
        return system, messages

    def _system(self, system: list[Json], message: Message) -> None:
        for part in message.parts:
            if isinstance(part, Text) and part.text:
                system.append({"text": part.text})
                self._mark(system, part.cache)

    def _mark(self, blocks: list[Json], cache: CacheMark | None) -> None:
        """A cache mark changes the price, not the answer: left out where the family has none."""
        if cache is not None and self._caches:
            blocks.append(_cache_point(cache))

    def _trim_prefill(self, messages: list[Json]) -> None:
        """Claude refuses a last assistant text that ends in white space (WIRE_FACTS 18)."""
        if messages and messages[-1]["role"] == "assistant" and "text" in messages[-1]["content"][-1]:
            last = messages[-1]["content"][-1]
            last["text"] = last["text"].rstrip()

    def _blocks(self, message: Message) -> list[Json]:
        blocks: list[Json] = []
        for part in message.parts:
            if _is_blank(part):
                continue  # blank text is refused
            if isinstance(part, Thinking):
                blocks.extend(self._thought(part))
            elif self._told and isinstance(part, ToolResult):
                failed = " failed" if part.is_error else ""
                blocks.append({"text": f"[Result of the call of {part.name or 'a tool'}{failed}:]"})
                blocks.extend(self._block(inner) for inner in part.content if not _is_blank(inner))
            else:
                blocks.append(self._block(part))
            self._mark(blocks, getattr(part, "cache", None))
        if any("document" in block for block in blocks) and not any("text" in block for block in blocks):
            # A document needs a text beside it (API reference, DocumentBlock).
            name = next(block["document"]["name"] for block in blocks if "document" in block)
            blocks.append({"text": name})
        return blocks

    def _block(self, part: Part) -> Json:
        if isinstance(part, Text | Refusal):
            return {"text": part.text}
        if isinstance(part, Image):
            return self._image(part)
        if isinstance(part, Document):
            return self._document(part)
        if isinstance(part, Audio):
            return self._audio(part)
        if isinstance(part, ToolCall) and self._told:
            return {"text": f"[Called {part.name} with {part.arguments}]"}
        if isinstance(part, ToolCall):
            return self._call(part)
        if isinstance(part, ToolResult):
            return self._result(part)
        if isinstance(part, Opaque) and part.origin == NAME and isinstance(part.value, dict):
            return part.value
        raise self._no("does not know a block of another vendor")

    def _no(self, why: str) -> Exception:
        return unsupported(self._request, "messages", self._target, why)

    def _id(self, tool_id: str) -> str:
        return fitting_id(tool_id, self._target.quirks.tool_id_pattern or TOOL_ID)

    def _image(self, part: Image) -> Json:
        if part.data is None:
            if part.url and part.url.startswith("s3://"):
                suffix = part.url.rpartition(".")[2].lower().replace("jpg", "jpeg")
                return {"image": {"format": suffix, "source": {"s3Location": {"uri": part.url}}}}
            raise self._no("takes images as data, not by URL or file id")
        kind = _IMAGE_FORMATS.get(picture_type(part.media_type, part.data))
        if kind is None:
            raise self._no(f"does not take {part.media_type}")
        return {"image": {"format": kind, "source": {"bytes": part.data}}}

    def _document(self, part: Document) -> Json:
        if part.data is None:
            raise self._no("takes documents as data, not by URL or file id")
        kind = _DOCUMENT_FORMATS.get(part.media_type)
        if kind is None:
            raise self._no(f"does not take {part.media_type}")
        data = part.data
        if part.media_type == "text/plain":
            data = base64.b64encode(data.encode()).decode()
        self._documents += 1
        # Names may hold few characters and must differ from one another.
        cleaned: str = _NOT_IN_NAMES.sub(
            " ", (part.name or "document").rpartition(".")[0] or part.name or "document"
        )
        name = f"{' '.join(cleaned.split())[:180] or 'document'} {self._documents}"
        return {"document": {"format": kind, "name": name, "source": {"bytes": data}}}

    def _audio(self, part: Audio) -> Json:
        if part.format not in _AUDIO_FORMATS:
            raise self._no(f"does not take audio as {part.format}")
        return {"audio": {"format": part.format, "source": {"bytes": part.data}}}

    def _call(self, part: ToolCall) -> Json:
        arguments = arguments_object(part.arguments)
        return {"toolUse": {"toolUseId": self._id(part.id), "name": part.name, "input": arguments}}

    def _result(self, part: ToolResult) -> Json:
        content = [self._block(inner) for inner in part.content]
        result: Json = {"toolUseId": self._id(part.id), "content": content or [{"text": "(no output)"}]}
        if part.is_error:
            result["status"] = "error"
        return {"toolResult": result}

    def _thought(self, part: Thinking) -> list[Json]:
        """Signed reasoning of the family that made it; another's means nothing to it (WIRE_FACTS 21)."""
        if not _is_claude(self._target):
            return []
        if part.redacted is not None:
            return [{"reasoningContent": {"redactedContent": part.redacted}}] if part.origin == NAME else []
        if part.signature is None or part.origin not in (NAME, CLAUDE):
            return []
        return [{"reasoningContent": {"reasoningText": {"text": part.text, "signature": part.signature}}}]
