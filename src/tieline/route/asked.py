"""Which field of the caller's body asks for a feature, so that a refusal can name it."""

from __future__ import annotations

_OPENAI_CHAT = {
    "tools": "tools",
    "forced_tool": "tool_choice",
    "reasoning": "reasoning_effort",
    "json_schema": "response_format",
    "json_object": "response_format",
    "server_tools": "web_search_options",
}
_FIELDS = {
    "openai_responses": {
        "forced_tool": "tool_choice",
        "reasoning": "reasoning",
        "json_schema": "text.format",
        "json_object": "text.format",
        "images": "input",
        "pdf": "input",
        "audio": "input",
        "prefill": "input",
    },
    "anthropic_messages": {
        "forced_tool": "tool_choice",
        "reasoning": "thinking",
        "json_schema": "output_config.format",
    },
    "gemini": {
        "forced_tool": "toolConfig",
        "reasoning": "generationConfig.thinkingConfig",
        "json_schema": "generationConfig.responseSchema",
        "json_object": "generationConfig.responseMimeType",
        "images": "contents",
        "pdf": "contents",
        "audio": "contents",
        "prefill": "contents",
    },
}


def field_of(feature: str, dialect: str) -> str:
    """The caller's name for it; what stands in the conversation is in `messages` where nothing else is said."""
    fields = _FIELDS.get(dialect, _OPENAI_CHAT)
    return fields.get(feature, "tools" if feature in ("tools", "server_tools") else "messages")
