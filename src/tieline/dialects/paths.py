"""Which path speaks which dialect: the data plane's whole address book."""

from __future__ import annotations

from urllib.parse import unquote

from msgspec import Struct


class Door(Struct, frozen=True):
    dialect: str
    operation: str
    """chat | count_tokens | embeddings | completions"""
    model: str | None = None
    stream: bool | None = None


EXACT = {
    "/v1/chat/completions": Door("openai_chat", "chat"),
    "/chat/completions": Door("openai_chat", "chat"),
    "/v1/completions": Door("openai_completions", "completions"),
    "/completions": Door("openai_completions", "completions"),
    "/v1/embeddings": Door("openai_chat", "embeddings"),
    "/embeddings": Door("openai_chat", "embeddings"),
    "/v1/responses": Door("openai_responses", "chat"),
    "/responses": Door("openai_responses", "chat"),
    "/v1/messages": Door("anthropic_messages", "chat"),
    "/v1/messages/count_tokens": Door("anthropic_messages", "count_tokens"),
}

_GEMINI_VERBS = {
    "generateContent": ("chat", False),
    "streamGenerateContent": ("chat", True),
    "countTokens": ("count_tokens", False),
    "embedContent": ("embeddings", False),
    "batchEmbedContents": ("embeddings", False),
}
_GEMINI_PREFIXES = ("/v1beta/models/", "/v1alpha/models/", "/v1/models/")


def find(path: str, query: str = "") -> Door | None:
    """The door behind a POST path, None when it is not of the data plane."""
    door = EXACT.get(path)
    if door is not None:
        return door
    for prefix in _GEMINI_PREFIXES:
        if path.startswith(prefix):
            model, colon, verb = path[len(prefix) :].rpartition(":")
            if colon and verb in _GEMINI_VERBS:
                operation, stream = _GEMINI_VERBS[verb]
                # Without alt=sse Gemini streams a JSON array (ai.google.dev/api/generate-content, 2026-05).
                dialect = "gemini_array" if stream and "alt=sse" not in query else "gemini"
                return Door(dialect, operation, unquote(model), stream)
    return None


def dialect_of_path(path: str) -> str:
    """Whose error shape an unknown path gets."""
    if path.startswith("/v1/messages"):
        return "anthropic_messages"
    if path.startswith(("/v1beta/", "/v1alpha/")):
        return "gemini"
    return "openai_chat"
