"""What providers answer with, every part of it at once: whole answers, and streams as lists of events."""

from __future__ import annotations

import json
from typing import Any

from tieline.simulator.bedrock import frame

_LOGPROBS: dict[str, Any] = {
    "content": [
        {
            "token": "Hi",
            "logprob": -0.1,
            "bytes": [72, 105],
            "top_logprobs": [{"token": "Hi", "logprob": -0.1, "bytes": None}],
        }
    ],
    "refusal": None,
}
_CITED = {
    "type": "url_citation",
    "url_citation": {"url": "https://x.org", "title": "X", "start_index": 0, "end_index": 2},
}
_CHAT_USAGE = {
    "prompt_tokens": 9,
    "completion_tokens": 12,
    "total_tokens": 21,
    "prompt_tokens_details": {"cached_tokens": 3, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 4, "audio_tokens": 0},
}
_CHAT_HEAD = {
    "id": "chatcmpl-1",
    "created": 1,
    "model": "m",
    "service_tier": "default",
    "system_fingerprint": "fp",
}
_CALLED = {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": '{"a": 1}'}}
_CHAT: dict[str, Any] = _CHAT_HEAD | {
    "object": "chat.completion",
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "Hi",
                "refusal": None,
                "reasoning_content": "hm",
                "reasoning_details": [{"type": "reasoning.text", "text": "hm", "signature": "c2ln"}],
                "annotations": [_CITED],
                "tool_calls": [
                    _CALLED,
                    {"id": "c2", "type": "custom", "custom": {"name": "f", "input": "x"}},
                ],
            },
            "logprobs": _LOGPROBS,
            "finish_reason": "tool_calls",
        },
        {
            "index": 1,
            "message": {
                "role": "assistant",
                "content": [{"type": "text", "text": "Ho"}],
                "refusal": "No.",
                "function_call": {"name": "f", "arguments": "{}"},
            },
            "logprobs": None,
            "finish_reason": "stop",
        },
    ],
    "usage": _CHAT_USAGE,
}


def _delta(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish, **more}
    return _CHAT_HEAD | {"object": "chat.completion.chunk", "choices": [choice], "usage": None}


def _part(number: int, **function: Any) -> dict[str, Any]:
    head = {"id": "call_1", "type": "function"} if "name" in function else {}
    return _delta({"tool_calls": [{"index": number, **head, "function": function}]})


_CHAT_STREAM: list[dict[str, Any]] = [
    _CHAT_HEAD | {"object": "x", "choices": [], "prompt_filter_results": [{"prompt_index": 0}]},
    _delta({"role": "assistant", "content": "", "refusal": None}),
    _delta({"reasoning_content": "hm", "content": None}),
    _delta({"reasoning_details": [{"type": "reasoning.text", "text": "hm", "signature": "c2ln"}]}),
    _delta({"content": "Hi"}, logprobs=_LOGPROBS),
    _delta({"content": " you", "annotations": [_CITED]}),
    _part(0, name="get_weather", arguments=""),
    _part(0, arguments='{"a"'),
    _part(1, name="f", arguments='{"b":'),
    _part(0, arguments=": 1}"),
    _part(1, arguments="2}"),
    _delta({}, "tool_calls"),
    _CHAT_HEAD | {"object": "chat.completion.chunk", "choices": [], "usage": _CHAT_USAGE},
]
_RESPONSE_USAGE = {
    "input_tokens": 9,
    "input_tokens_details": {"cached_tokens": 3},
    "output_tokens": 12,
    "output_tokens_details": {"reasoning_tokens": 4},
    "total_tokens": 21,
}
_REASONING = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [{"type": "summary_text", "text": "hm"}],
    "content": [{"type": "reasoning_text", "text": "hm"}],
    "encrypted_content": "c2ln",
    "status": "completed",
}
_OUTPUT_TEXT = {
    "type": "output_text",
    "text": "Hi",
    "annotations": [
        {"type": "url_citation", "url": "https://x.org", "title": "X", "start_index": 0, "end_index": 2}
    ],
    "logprobs": _LOGPROBS["content"],
}
_MESSAGE = {
    "type": "message",
    "id": "msg_1",
    "role": "assistant",
    "status": "completed",
    "content": [_OUTPUT_TEXT, {"type": "refusal", "refusal": "No."}],
}
_CALL_ITEM = {
    "type": "function_call",
    "id": "fc_1",
    "call_id": "call_1",
    "name": "get_weather",
    "arguments": '{"a": 1}',
    "status": "completed",
}
_CUSTOM = {"type": "custom_tool_call", "id": "ctc_1", "call_id": "c2", "name": "f", "input": "x"}
_RESPONSE: dict[str, Any] = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "status": "completed",
    "error": None,
    "incomplete_details": None,
    "model": "m",
    "service_tier": "default",
    "output": [_REASONING, _MESSAGE, _CALL_ITEM, _CUSTOM],
    "usage": _RESPONSE_USAGE,
}
_AT = {"output_index": 1, "item_id": "msg_1", "content_index": 0}
_OPENED = {"status": "in_progress", "output": [], "usage": None}
_RESPONSES_STREAM: list[dict[str, Any]] = [
    {"type": "response.created", "response": _RESPONSE | _OPENED},
    {"type": "response.output_item.added", "output_index": 0, "item": _REASONING | {"summary": []}},
    {"type": "response.reasoning_summary_part.added", "output_index": 0, "item_id": "rs_1", "summary_index": 0, "part": {"type": "summary_text", "text": ""}},
    {"type": "response.reasoning_summary_text.delta", "output_index": 0, "item_id": "rs_1", "summary_index": 0, "delta": "hm"},
    {"type": "response.output_item.done", "output_index": 0, "item": _REASONING},
    {"type": "response.output_item.added", "output_index": 1, "item": _MESSAGE | {"content": []}},
    {"type": "response.content_part.added", **_AT, "part": _OUTPUT_TEXT | {"text": ""}},
    {"type": "response.output_text.delta", **_AT, "delta": "Hi", "logprobs": []},
    {"type": "response.output_text.annotation.added", **_AT, "annotation_index": 0, "annotation": _OUTPUT_TEXT["annotations"][0]},
    {"type": "response.output_text.done", **_AT, "text": "Hi", "logprobs": []},
    {"type": "response.output_item.done", "output_index": 1, "item": _MESSAGE | {"content": [_OUTPUT_TEXT]}},
    {"type": "response.output_item.added", "output_index": 2, "item": _CALL_ITEM | {"arguments": ""}},
    {"type": "response.function_call_arguments.delta", "output_index": 2, "item_id": "fc_1", "delta": '{"a": 1}'},
    {"type": "response.function_call_arguments.done", "output_index": 2, "item_id": "fc_1", "arguments": '{"a": 1}'},
    {"type": "response.output_item.done", "output_index": 2, "item": _CALL_ITEM},
    {"type": "response.output_item.added", "output_index": 3, "item": _CUSTOM | {"input": ""}},
    {"type": "response.custom_tool_call_input.delta", "output_index": 3, "item_id": "ctc_1", "delta": "x"},
    {"type": "response.output_item.done", "output_index": 3, "item": _CUSTOM},
    {"type": "response.completed", "response": _RESPONSE},
]  # fmt: skip
_CLAUDE_USAGE = {
    "input_tokens": 9,
    "cache_creation_input_tokens": 1,
    "cache_read_input_tokens": 2,
    "cache_creation": {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 0},
    "output_tokens": 12,
    "service_tier": "standard",
    "server_tool_use": {"web_search_requests": 1},
}
_QUOTED = {
    "type": "char_location",
    "cited_text": "Hi",
    "document_index": 0,
    "document_title": "t",
    "start_char_index": 0,
    "end_char_index": 2,
}
_CLAUDE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [
        {"type": "thinking", "thinking": "hm", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "ZGF0YQ=="},
        {"type": "text", "text": "Hi", "citations": [_QUOTED]},
        {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"a": 1}},
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "x"}},
    ],
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "usage": _CLAUDE_USAGE,
}


def _block(index: int, block: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    return [
        {"type": "content_block_start", "index": index, "content_block": block},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


_CLAUDE_STREAM: list[dict[str, Any]] = [
    {"type": "message_start", "message": _CLAUDE | {"content": [], "stop_reason": None}},
    *_block(
        0,
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "thinking_delta", "thinking": "hm"},
        {"type": "signature_delta", "signature": "c2ln"},
    ),
    *_block(1, {"type": "redacted_thinking", "data": "ZGF0YQ=="}),
    {"type": "ping"},
    *_block(
        2,
        {"type": "text", "text": ""},
        {"type": "text_delta", "text": "Hi"},
        {"type": "citations_delta", "citation": _QUOTED},
    ),
    *_block(
        3,
        {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {}},
        {"type": "input_json_delta", "partial_json": '{"a": 1}'},
    ),
    {
        "type": "message_delta",
        "delta": {"stop_reason": "tool_use", "stop_sequence": None},
        "usage": _CLAUDE_USAGE,
    },
    {"type": "message_stop"},
]
_GEMINI_USAGE = {
    "promptTokenCount": 9,
    "candidatesTokenCount": 8,
    "thoughtsTokenCount": 4,
    "cachedContentTokenCount": 2,
    "toolUsePromptTokenCount": 1,
    "totalTokenCount": 21,
    "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 9}],
}
_SAFE = [{"category": "HARM_CATEGORY_HARASSMENT", "probability": "NEGLIGIBLE", "blocked": False}]
_GROUNDED = {
    "groundingChunks": [{"web": {"uri": "https://x.org", "title": "X"}}],
    "groundingSupports": [{"segment": {"startIndex": 0, "endIndex": 2}, "groundingChunkIndices": [0]}],
}
_CHOSEN = {"token": "Hi", "tokenId": 7, "logProbability": -0.1}


def _chunk(parts: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    candidate = {"content": {"role": "model", "parts": parts}, "index": 0, **more}
    return {
        "candidates": [candidate],
        "usageMetadata": _GEMINI_USAGE,
        "modelVersion": "m",
        "responseId": "r1",
    }


_GEMINI_CALL = {
    "functionCall": {"id": "c1", "name": "get_weather", "args": {"a": 1}},
    "thoughtSignature": "c2ln",
}
_GEMINI_END: dict[str, Any] = {
    "finishReason": "STOP",
    "safetyRatings": _SAFE,
    "citationMetadata": {"citationSources": [{"startIndex": 0, "endIndex": 2, "uri": "https://x.org"}]},
    "groundingMetadata": _GROUNDED,
    "avgLogprobs": -0.1,
    "logprobsResult": {"chosenCandidates": [_CHOSEN], "topCandidates": [{"candidates": [_CHOSEN]}]},
}
_GEMINI: dict[str, Any] = _chunk(
    [
        {"text": "hm", "thought": True, "thoughtSignature": "c2ln"},
        {"text": "Hi"},
        _GEMINI_CALL,
        {"inlineData": {"mimeType": "image/png", "data": "aGk="}},
        {"executableCode": {"language": "PYTHON", "code": "1"}},
    ],
    **_GEMINI_END,
)
_GEMINI["candidates"].append(
    {"content": {"role": "model", "parts": [{"text": "Ho"}]}, "index": 1, "finishReason": "MAX_TOKENS"}
)
_GEMINI["promptFeedback"] = {"safetyRatings": _SAFE}
_GEMINI_STREAM: list[dict[str, Any]] = [
    _chunk([{"text": "hm", "thought": True}]),
    _chunk([{"text": "Hi"}]),
    _chunk([_GEMINI_CALL]),
    _chunk([{"text": ""}], **_GEMINI_END),
]
_BEDROCK_USAGE = {
    "inputTokens": 9,
    "outputTokens": 12,
    "totalTokens": 21,
    "cacheReadInputTokens": 2,
    "cacheWriteInputTokens": 1,
}
_BEDROCK: dict[str, Any] = {
    "output": {
        "message": {
            "role": "assistant",
            "content": [
                {"reasoningContent": {"reasoningText": {"text": "hm", "signature": "c2ln"}}},
                {"reasoningContent": {"redactedContent": "ZGF0YQ=="}},
                {"text": "Hi"},
                {"toolUse": {"toolUseId": "t1", "name": "get_weather", "input": {"a": 1}}},
            ],
        }
    },
    "stopReason": "tool_use",
    "usage": _BEDROCK_USAGE,
    "metrics": {"latencyMs": 1},
    "trace": {},
}


def _piece(index: int, **delta: Any) -> dict[str, Any]:
    return {"contentBlockDelta": {"contentBlockIndex": index, "delta": delta}}


_BEDROCK_STREAM: list[dict[str, Any]] = [
    {"messageStart": {"role": "assistant"}},
    _piece(0, reasoningContent={"text": "hm"}),
    _piece(0, reasoningContent={"signature": "c2ln"}),
    {"contentBlockStop": {"contentBlockIndex": 0}},
    _piece(1, text="Hi"),
    {"contentBlockStop": {"contentBlockIndex": 1}},
    {
        "contentBlockStart": {
            "contentBlockIndex": 2,
            "start": {"toolUse": {"toolUseId": "t1", "name": "get_weather"}},
        }
    },
    _piece(2, toolUse={"input": '{"a": 1}'}),
    {"contentBlockStop": {"contentBlockIndex": 2}},
    {"messageStop": {"stopReason": "tool_use", "additionalModelResponseFields": {}}},
    {"metadata": {"usage": _BEDROCK_USAGE, "metrics": {"latencyMs": 1}}},
]
_COHERE_USAGE = {
    "billed_units": {"input_tokens": 9, "output_tokens": 12},
    "tokens": {"input_tokens": 9, "output_tokens": 12},
    "cached_tokens": 2,
}
_COHERE_CITED = {
    "start": 0,
    "end": 2,
    "text": "Hi",
    "type": "TEXT_CONTENT",
    "sources": [{"type": "document", "id": "1", "document": {"id": "1", "title": "t"}}],
}
_COHERE: dict[str, Any] = {
    "id": "1",
    "finish_reason": "TOOL_CALL",
    "message": {
        "role": "assistant",
        "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Hi"}],
        "tool_plan": "I will.",
        "tool_calls": [_CALLED],
        "citations": [_COHERE_CITED],
    },
    "usage": _COHERE_USAGE,
    "logprobs": [{"token_ids": [1], "text": "Hi", "logprobs": [-0.1]}],
}


def _said(kind: str, index: int | None = None, **message: Any) -> dict[str, Any]:
    place = {} if index is None else {"index": index}
    return {"type": kind, **place, "delta": {"message": message}}


_COHERE_STREAM: list[dict[str, Any]] = [
    {"type": "message-start", "id": "1", "delta": {"message": {"role": "assistant", "content": []}}},
    _said("content-start", 0, content={"type": "thinking", "thinking": ""}),
    _said("content-delta", 0, content={"thinking": "hm"}),
    {"type": "content-end", "index": 0},
    _said("content-start", 1, content={"type": "text", "text": ""}),
    _said("content-delta", 1, content={"text": "Hi"}),
    _said("citation-start", 0, citations=_COHERE_CITED),
    {"type": "citation-end", "index": 0},
    {"type": "content-end", "index": 1},
    _said("tool-plan-delta", tool_plan="I will."),
    _said(
        "tool-call-start",
        0,
        tool_calls={"id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}},
    ),
    _said("tool-call-delta", 0, tool_calls={"function": {"arguments": '{"a": 1}'}}),
    {"type": "tool-call-end", "index": 0},
    {"type": "message-end", "delta": {"finish_reason": "TOOL_CALL", "usage": _COHERE_USAGE}},
]
_COMPLETION: dict[str, Any] = {
    "id": "cmpl-1",
    "object": "text_completion",
    "created": 1,
    "model": "m",
    "choices": [
        {
            "text": "Hi",
            "index": 0,
            "finish_reason": "stop",
            "logprobs": {
                "tokens": ["Hi"],
                "token_logprobs": [-0.1],
                "top_logprobs": [{"Hi": -0.1}],
                "text_offset": [0],
            },
        }
    ],
    "usage": _CHAT_USAGE,
}
_COMPLETION_STREAM: list[dict[str, Any]] = [
    _COMPLETION | {"choices": [{"text": "Hi", "index": 0, "finish_reason": None, "logprobs": None}], "usage": None},
    _COMPLETION | {"choices": [{"text": "", "index": 0, "finish_reason": "stop", "logprobs": None}], "usage": None},
    _COMPLETION | {"choices": []},
]  # fmt: skip

WHOLE: dict[str, dict[str, Any]] = {
    "openai_chat": _CHAT,
    "openai_completions": _COMPLETION,
    "openai_responses": _RESPONSE,
    "anthropic_messages": _CLAUDE,
    "gemini": _GEMINI,
    "bedrock_converse": _BEDROCK,
    "cohere": _COHERE,
}
STREAMS: dict[str, list[dict[str, Any]]] = {
    "openai_chat": _CHAT_STREAM,
    "openai_completions": _COMPLETION_STREAM,
    "openai_responses": _RESPONSES_STREAM,
    "anthropic_messages": _CLAUDE_STREAM,
    "gemini": _GEMINI_STREAM,
    "bedrock_converse": _BEDROCK_STREAM,
    "cohere": _COHERE_STREAM,
}
EMBEDDED: dict[str, dict[str, Any]] = {
    "openai_chat": {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [0.1, 0.2]},
            {"object": "embedding", "index": 1, "embedding": [0.3, 0.4]},
        ],
        "model": "m",
        "usage": {"prompt_tokens": 3, "total_tokens": 3},
    },
    "gemini": {
        "embeddings": [{"values": [0.1, 0.2]}, {"values": [0.3, 0.4]}],
        "usageMetadata": {"promptTokenCount": 3},
    },
    "cohere": {
        "id": "1",
        "embeddings": {"float": [[0.1, 0.2], [0.3, 0.4]]},
        "texts": ["one", "two"],
        "meta": {"billed_units": {"input_tokens": 3}},
    },
}


def framed(dialect: str, events: list[Any]) -> bytes:
    """The stream on the wire. An event may be JSON already; its name is that of the event that it was made of."""
    return b"".join([_framed(dialect, one) for one in events]) + (
        b"data: [DONE]\n\n" if dialect.startswith(("openai_chat", "openai_comp", "cohere")) else b""
    )


def _framed(dialect: str, one: Any) -> bytes:
    if dialect == "bedrock_converse":
        name, data = next(iter(one.items())) if one else ("messageStop", None)
        headers = {
            ":event-type": name,
            ":content-type": "application/json",
            ":message-type": "event",
        }
        return frame(headers, json.dumps(data).encode())
    kind = one.get("type")
    named = f"event: {kind}\n" if isinstance(kind, str) and dialect != "openai_chat" else ""
    return f"{named}data: {json.dumps(one)}\n\n".encode()
