"""What happens to a caller's field that has no common meaning when the target speaks another dialect.

It may be left out only if that can neither change the answer nor weaken privacy; everything else makes the target
ineligible, by name.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any

from tieline.types.errors import Unsupported
from tieline.types.request import Request


def _always(_: Any) -> bool:
    return True


def _is(*harmless: Any) -> Callable[[Any], bool]:
    return lambda value: value in harmless


def _only_clears(value: Any) -> bool:
    """Anthropic's clearing of old thinking and tool results saves room; compaction answers with a block of its own."""
    edits = value.get("edits", []) if isinstance(value, dict) else None
    return isinstance(edits, list) and all(
        isinstance(edit, dict) and str(edit.get("type")).startswith(("clear_thinking_", "clear_tool_uses_"))
        for edit in edits
    )


def _only_opens(value: Any) -> bool:
    """Gemini's filters, switched off: another vendor has none of them."""
    return isinstance(value, list) and all(
        isinstance(one, dict) and one.get("threshold") in ("OFF", "BLOCK_NONE") for one in value
    )


_HARMLESS: dict[str, Callable[[Any], bool]] = {
    # Cache hints change the price, not the answer.
    "prompt_cache_key": _always,
    "prompt_cache_options": _always,
    "prompt_cache_retention": _always,
    "cache_control": _always,
    # Switches of the vendor's own features, which come as fields or blocks that are judged by themselves.
    "anthropic-beta": _always,
    "anthropic_beta": _always,
    "anthropic_version": _always,
    # Who the end user is: not telling another vendor is the more private choice.
    "safety_identifier": _always,
    # Claude Code sends it with every request; without it nothing is cleared.
    "context_management": _only_clears,
    # Codex CLI tells OpenAI about itself: not telling another vendor is the more private choice.
    "client_metadata": _always,
    "safetySettings": _only_opens,
    # A guess of the answer that only speeds it up.
    "prediction": _always,
    # Asks the vendor not to keep it; a vendor of another dialect has no such store. True asks for the store: refused.
    "store": _is(False),
    # The defaults, spelled out.
    "verbosity": _is("medium"),
    "truncation": _is("disabled"),
    "modalities": _is(["text"]),
    "transforms": _is([]),
    "speed": _is("standard"),
    # Diagnostics and accounting beside the answer.
    "usage": _always,
    "diagnostics": _always,
}

_NAMES = {
    "anthropic_messages": {
        "reasoning": "thinking",
        "stop": "stop_sequences",
        "max_output_tokens": "max_tokens",
        "response_format": "output_config.format",
        "user": "metadata.user_id",
        "parallel": "tool_choice",
    },
    "gemini": {
        "reasoning": "generationConfig.thinkingConfig",
        "stop": "generationConfig.stopSequences",
        "max_output_tokens": "generationConfig.maxOutputTokens",
        "response_format": "generationConfig.responseSchema",
        "messages": "contents",
        "tool_choice": "toolConfig",
        "parallel": "toolConfig",
        "n": "generationConfig.candidateCount",
        "temperature": "generationConfig.temperature",
        "top_p": "generationConfig.topP",
        "top_k": "generationConfig.topK",
        "seed": "generationConfig.seed",
        "frequency_penalty": "generationConfig.frequencyPenalty",
        "presence_penalty": "generationConfig.presencePenalty",
        "logprobs": "generationConfig.responseLogprobs",
        "top_logprobs": "generationConfig.logprobs",
        "service_tier": "serviceTier",
    },
    "openai_completions": {"messages": "prompt", "max_output_tokens": "max_tokens"},
    "openai_responses": {
        "messages": "input",
        "response_format": "text.format",
        "parallel": "parallel_tool_calls",
        "logprobs": "include",
    },
}
_OPENAI_CHAT = {
    "reasoning": "reasoning_effort",
    "max_output_tokens": "max_tokens",
    "parallel": "parallel_tool_calls",
}


def caller_field(request: Request, name: str) -> str:
    """What the caller's dialect calls a field of ours."""
    return _NAMES.get(request.origin, _OPENAI_CHAT).get(name, name)


def unsupported(request: Request, name: str, why: str) -> Unsupported:
    """The refusal of a field of ours, under the caller's name for it."""
    field = caller_field(request, name)
    return Unsupported(f"`{field}`: {why}", param=field)


def left_over(request: Request, dialect: str, understood: Container[str] = ()) -> dict[str, Any]:
    """The unmapped fields to send as they are. Raises Unsupported for one that another dialect cannot express.

    ``understood`` are foreign names that the dialect has a place for.
    """
    if request.origin == dialect:
        return request.unmapped
    kept = {name: value for name, value in request.unmapped.items() if name in understood}
    for name, value in request.unmapped.items():
        if name in kept:
            continue
        harmless = _HARMLESS.get(name)
        if value is not None and not (harmless and harmless(value)):
            raise Unsupported(f"`{name}` has no equivalent in the {dialect} API.", param=name)
    return kept
