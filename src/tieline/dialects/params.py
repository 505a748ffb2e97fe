"""What a common field is called in each caller's dialect, and refusing one by that name."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from tieline.dialects.base import Target
from tieline.types.errors import InvalidRequest, Unsupported
from tieline.types.request import Audio, Document, Image, Part, Reasoning, Request, ToolCall, ToolResult

_NAMES: dict[str, dict[str, str]] = {
    "openai_chat": {
        "reasoning": "reasoning_effort",
        "parallel": "parallel_tool_calls",
        "max_output_tokens": "max_completion_tokens",
    },
    "openai_responses": {
        "messages": "input",
        "parallel": "parallel_tool_calls",
        "response_format": "text.format",
        "logprobs": "include",
    },
    "anthropic_messages": {
        "reasoning": "thinking",
        "parallel": "tool_choice.disable_parallel_tool_use",
        "max_output_tokens": "max_tokens",
        "response_format": "output_config.format",
        "stop": "stop_sequences",
    },
    "gemini": {
        "messages": "contents",
        "tool_choice": "toolConfig.functionCallingConfig",
        "parallel": "toolConfig",
        "reasoning": "generationConfig.thinkingConfig",
        "max_output_tokens": "generationConfig.maxOutputTokens",
        "response_format": "generationConfig.responseSchema",
        "temperature": "generationConfig.temperature",
        "top_p": "generationConfig.topP",
        "top_k": "generationConfig.topK",
        "stop": "generationConfig.stopSequences",
        "seed": "generationConfig.seed",
        "frequency_penalty": "generationConfig.frequencyPenalty",
        "presence_penalty": "generationConfig.presencePenalty",
        "logprobs": "generationConfig.responseLogprobs",
        "top_logprobs": "generationConfig.logprobs",
        "n": "generationConfig.candidateCount",
        "service_tier": "serviceTier",
    },
}
_DEFAULT = {"parallel": "parallel_tool_calls"}


def param(request: Request, field: str) -> str:
    """The caller's name of a field of ``Request`` (``parallel``: of its tool choice)."""
    names = _NAMES.get(request.dialect, _DEFAULT)
    return names.get(field, field)


def unsupported(request: Request, field: str, target: Target, why: str = "does not take it") -> Unsupported:
    """``field`` is a field of Request, or the caller's own name of one."""
    name = param(request, field)
    return Unsupported(
        f"{name}: {target.provider} ({target.model}) {why}.",
        param=name,
        hint="Leave the field out, or choose a model that takes it.",
    )


def check_capabilities(request: Request, target: Target) -> None:
    """Raises Unsupported where the catalog or the host's quirks say no."""
    if request.tools and (target.tools is False or not target.quirks.tools):
        raise unsupported(request, "tools", target, "does not take tools")
    wanted = request.response_format
    if wanted is not None and wanted.kind == "json_schema" and target.structured_output is False:
        raise unsupported(request, "response_format", target, "has no structured output")
    reasoning = request.reasoning
    if reasoning is not None and asks_for_thought(request) and target.reasoning is False:
        raise unsupported(request, "reasoning", target, "does not reason")


def refuse_unset(request: Request, target: Target, *fields: str) -> None:
    """Raises Unsupported for the first of ``fields`` that the caller set."""
    for name in fields:
        if getattr(request, name) not in (None, False, [], {}):
            raise unsupported(request, name, target)


def refuse_unmapped(request: Request, target: Target, understood: frozenset[str] = frozenset()) -> None:
    for name in request.unmapped:
        if name not in understood:
            raise unsupported(request, name, target, "has no equivalent")


def asks_for_thought(request: Request) -> bool:
    reasoning = request.reasoning
    return reasoning is not None and reasoning.enabled and reasoning.effort != "none"


def check_media(request: Request, target: Target) -> None:
    """Raises Unsupported for an image, document or sound that the model is known not to take (WIRE_FACTS 19)."""
    if target.vision is not False and target.pdf is not False and target.audio is not False:
        return
    for part in parts_of(request):
        if isinstance(part, Image) and target.vision is False:
            raise unsupported(request, "messages", target, "does not take images")
        if isinstance(part, Document) and part.media_type == "application/pdf" and target.pdf is False:
            raise unsupported(request, "messages", target, "does not take PDFs")
        if isinstance(part, Audio) and target.audio is False:
            raise unsupported(request, "messages", target, "does not take audio")


def parts_of(request: Request) -> Iterator[Part]:
    """Every part, those inside tool results too."""
    for message in request.messages:
        for part in message.parts:
            yield part
            if isinstance(part, ToolResult):
                yield from part.content


def refuse_prefill(request: Request, target: Target, *, unknown_is_able: bool) -> None:
    """Raises Unsupported for a last message of the assistant (WIRE_FACTS 20)."""
    if not request.messages or request.messages[-1].role != "assistant":
        return
    if target.prefill is False or (target.prefill is None and not unknown_is_able):
        raise unsupported(request, "messages", target, "does not continue a prefilled answer")


def check_results(request: Request) -> None:
    """Raises InvalidRequest for a tool result without its call and for an id used twice (WIRE_FACTS 15)."""
    open_calls: set[str] = set()
    seen: set[str] = set()
    field = param(request, "messages")
    for message in request.messages:
        for part in message.parts:
            if isinstance(part, ToolCall):
                if part.id in seen:
                    raise InvalidRequest(f"The tool call id {part.id!r} is used twice.", param=field)
                seen.add(part.id)
                open_calls.add(part.id)
            elif isinstance(part, ToolResult):
                if part.id not in open_calls:
                    raise InvalidRequest(
                        f"A tool result answers {part.id!r}, which no open tool call has.", param=field
                    )
                open_calls.discard(part.id)


def check_answered(request: Request) -> None:
    """Raises InvalidRequest for a tool call that the next turn leaves without a result."""
    field = param(request, "messages")
    messages = [message for message in request.messages if message.role != "system"]
    for message, following in pairwise(messages):
        if message.role != "assistant":
            continue
        answered = {part.id for part in following.parts if isinstance(part, ToolResult)}
        for part in message.parts:
            if isinstance(part, ToolCall) and part.id not in answered:
                raise InvalidRequest(
                    f"The tool call {part.id!r} has no result in the turn after it.", param=field
                )


_EFFORT_OF_BUDGET = ((1024, "minimal"), (4096, "low"), (16384, "medium"))


def effort_of(reasoning: Reasoning) -> str | None:
    """The caller's effort, or what its budget amounts to (WIRE_FACTS 22)."""
    if reasoning.effort is not None or reasoning.budget_tokens is None:
        return reasoning.effort
    for limit, effort in _EFFORT_OF_BUDGET:
        if reasoning.budget_tokens < limit:
            return effort
    return "high"


_BUDGET_OF_EFFORT = {
    "minimal": 1024,
    "low": 2048,
    "medium": 8192,
    "high": 24576,
    "xhigh": 32768,
    "max": 65536,
}


def budget_of(reasoning: Reasoning) -> int | None:
    """The caller's budget, or what its effort amounts to; None leaves it to the model."""
    if reasoning.budget_tokens is not None:
        return reasoning.budget_tokens
    return _BUDGET_OF_EFFORT.get(reasoning.effort or "")
