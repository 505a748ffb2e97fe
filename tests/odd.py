"""Bodies that are right in every part that matters, and what becomes of them when one part has a wrong type."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

GONE: Any = object()
"""As junk: the place is left out."""
JUNK: tuple[Any, ...] = (
    None,
    True,
    -1,
    10**18,
    10**400,
    1.5,
    1e300,
    "",
    "x",
    [],
    [None],
    [[7]],
    {},
    {"type": 7},
    GONE,
)
RAW = ('"\\ud800"', '"\\ud800x"', '"\\udc00\\ud800"', "NaN", "1e999")
"""JSON texts that Python's own encoder does not make."""

Path = tuple[str | int, ...]


def places(value: Any, path: Path = ()) -> Iterator[Path]:
    """Every place in ``value`` but the whole."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, one in inner:
        yield (*path, name)
        yield from places(one, (*path, name))


def spoiled(body: Any, path: Path, junk: Any) -> Any:
    """A copy of ``body`` with ``junk`` at ``path``."""
    made = copy.deepcopy(body)
    at = made
    for step in path[:-1]:
        at = at[step]
    if junk is GONE:
        del at[path[-1]]
    else:
        at[path[-1]] = junk
    return made


def every(body: Any) -> Iterator[tuple[str, bytes]]:
    """What was done, and the body as it goes over the wire."""
    for path in places(body):
        name = ".".join(map(str, path))
        for junk in JUNK:
            yield (
                f"{name}={'gone' if junk is GONE else repr(junk)[:20]}",
                json.dumps(spoiled(body, path, junk)).encode(),
            )
        for text in RAW:
            yield f"{name}={text}", json.dumps(spoiled(body, path, "@")).replace('"@"', text, 1).encode()


STREAM = {"stream": True, "stream_options": {"include_usage": True}}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
PDF = "JVBERi0xLjQKJSVFT0Y="
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "description": "where", "enum": ["Rome", "Oslo"]},
        "days": {"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 9}, "minItems": 1},
        "note": {"type": "string", "maxLength": 4},
    },
    "required": ["city", "days", "note"],
}
STRICT = SCHEMA | {"additionalProperties": False}
CLOSED: dict[str, Any] = STRICT | {
    "properties": {
        "city": SCHEMA["properties"]["city"],
        "days": {"type": "array", "items": {"type": "integer"}, "minItems": 1},
        "note": {"type": "string"},
    }
}
"""As Claude's constrained output takes it."""

CHAT: dict[str, Any] = {
    "model": "sim-echo",
    "messages": [
        {"role": "system", "content": "Be brief, in json.", "name": "s"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Look"},
                {
                    "type": "image_url",
                    "image_url": {"url": f"data:image/png;base64,{PIXEL}", "detail": "low"},
                },
                {
                    "type": "file",
                    "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PDF}"},
                },
            ],
        },
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": "get_weather", "arguments": '{"city": "Rome"}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "sun"}]},
        {"role": "assistant", "content": "It is sunny.", "refusal": None},
        {"role": "user", "content": "And get weather in Oslo?"},
    ],
    "tools": [
        {
            "type": "function",
            "function": {
                "name": "get_weather",
                "description": "tells it",
                "parameters": STRICT,
                "strict": True,
            },
        }
    ],
    "tool_choice": {"type": "function", "function": {"name": "get_weather"}},
    "parallel_tool_calls": False,
    "max_completion_tokens": 50,
    "temperature": 0.5,
    "top_p": 0.9,
    "stop": ["END"],
    "n": 1,
    "user": "u1",
    "metadata": {"a": "b"},
}
CHAT_FORMAT: dict[str, Any] = {
    "model": "sim-echo",
    "messages": [{"role": "user", "content": "In JSON"}],
    "response_format": {
        "type": "json_schema",
        "json_schema": {"name": "w", "schema": STRICT, "strict": True},
    },
    "logprobs": True,
    "top_logprobs": 2,
    "seed": 7,
    "reasoning_effort": "low",
    "frequency_penalty": 0.1,
    "presence_penalty": 0.2,
    "logit_bias": {"50256": -100},
    "service_tier": "auto",
    "verbosity": "low",
}
RESPONSES: dict[str, Any] = {
    "model": "sim-echo",
    "instructions": "Be brief.",
    "store": False,
    "input": [
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "Look"},
                {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}", "detail": "low"},
                {
                    "type": "input_file",
                    "filename": "a.pdf",
                    "file_data": f"data:application/pdf;base64,{PDF}",
                },
            ],
        },
        {
            "type": "function_call",
            "id": "fc_1",
            "call_id": "call_1",
            "name": "get_weather",
            "arguments": '{"city": "Rome"}',
        },
        {
            "type": "function_call_output",
            "call_id": "call_1",
            "output": [{"type": "input_text", "text": "sun"}],
        },
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "Sunny.", "annotations": []}],
        },
        {"role": "user", "content": "And get weather in Oslo?"},
    ],
    "tools": [
        {
            "type": "function",
            "name": "get_weather",
            "description": "x",
            "parameters": STRICT,
            "strict": True,
        }
    ],
    "tool_choice": {"type": "function", "name": "get_weather"},
    "parallel_tool_calls": False,
    "max_output_tokens": 50,
    "temperature": 0.5,
    "top_p": 0.9,
    "reasoning": {"effort": "low", "summary": "auto"},
    "include": ["reasoning.encrypted_content"],
    "text": {"format": {"type": "json_schema", "name": "w", "schema": STRICT, "strict": True}},
    "metadata": {"a": "b"},
    "truncation": "disabled",
}
COMPLETIONS: dict[str, Any] = {
    "model": "sim-echo",
    "prompt": ["Once", "upon"],
    "max_tokens": 9,
    "n": 1,
    "temperature": 0.5,
    "stop": ["END"],
    "seed": 1,
    "user": "u",
}
EMBEDDINGS: dict[str, Any] = {
    "model": "sim-echo",
    "input": ["one", "two"],
    "dimensions": 8,
    "encoding_format": "float",
    "user": "u",
}
MESSAGES: dict[str, Any] = {
    "model": "sim-echo",
    "max_tokens": 3000,
    "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral", "ttl": "5m"}}],
    "messages": [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Look"},
                {
                    "type": "image",
                    "source": {"type": "base64", "media_type": "image/png", "data": PIXEL},
                },
                {
                    "type": "document",
                    "source": {"type": "base64", "media_type": "application/pdf", "data": PDF},
                    "title": "a",
                },
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "I will look."},
                {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Rome"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "type": "tool_result",
                    "tool_use_id": "toolu_1",
                    "content": [{"type": "text", "text": "sun"}],
                    "is_error": False,
                },
                {"type": "text", "text": "And get weather in Oslo?"},
            ],
        },
    ],
    "tools": [{"name": "get_weather", "description": "tells it", "input_schema": SCHEMA}],
    "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
    "thinking": {"type": "enabled", "budget_tokens": 2048},
    "stop_sequences": ["END"],
    "temperature": 1.0,
    "metadata": {"user_id": "u1"},
}
MESSAGES_FORMAT: dict[str, Any] = {
    "model": "sim-echo",
    "max_tokens": 300,
    "messages": [{"role": "user", "content": "In JSON"}],
    "output_config": {"format": {"type": "json_schema", "schema": CLOSED}, "effort": "low"},
    "top_p": 0.5,
    "top_k": 5,
    "service_tier": "auto",
}
_DECLARED = {"name": "get_weather", "description": "tells it", "parameters": SCHEMA}
CONTENTS: dict[str, Any] = {
    "systemInstruction": {"parts": [{"text": "Be brief."}]},
    "contents": [
        {
            "role": "user",
            "parts": [
                {"text": "Look"},
                {"inlineData": {"mimeType": "image/png", "data": PIXEL}},
                {"fileData": {"mimeType": "application/pdf", "fileUri": "https://example.com/a.pdf"}},
            ],
        },
        {
            "role": "model",
            "parts": [{"functionCall": {"id": "c1", "name": "get_weather", "args": {"city": "Rome"}}}],
        },
        {
            "role": "user",
            "parts": [
                {"functionResponse": {"id": "c1", "name": "get_weather", "response": {"result": "sun"}}}
            ],
        },
        {"role": "model", "parts": [{"text": "Sunny."}]},
        {"role": "user", "parts": [{"text": "And get weather in Oslo?"}]},
    ],
    "tools": [{"functionDeclarations": [_DECLARED]}],
    "toolConfig": {"functionCallingConfig": {"mode": "ANY", "allowedFunctionNames": ["get_weather"]}},
    "generationConfig": {
        "temperature": 0.5,
        "topP": 0.9,
        "topK": 40,
        "maxOutputTokens": 50,
        "stopSequences": ["END"],
        "candidateCount": 1,
        "seed": 1,
        "thinkingConfig": {"includeThoughts": True, "thinkingBudget": 1024},
    },
    "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
    "labels": {"a": "b"},
}
CONTENTS_FORMAT: dict[str, Any] = {
    "contents": [{"role": "user", "parts": [{"text": "In JSON"}]}],
    "generationConfig": {
        "responseMimeType": "application/json",
        "responseSchema": SCHEMA,
        "responseLogprobs": True,
        "logprobs": 2,
        "presencePenalty": 0.1,
        "frequencyPenalty": 0.1,
        "responseModalities": ["TEXT"],
    },
}
COUNT_GEMINI: dict[str, Any] = {
    "generateContentRequest": {
        "model": "models/sim-echo",
        "contents": [{"role": "user", "parts": [{"text": "hi"}]}],
    }
}
EMBED_GEMINI: dict[str, Any] = {
    "content": {"parts": [{"text": "hi"}]},
    "taskType": "RETRIEVAL_QUERY",
    "title": "t",
    "outputDimensionality": 8,
}
BATCH_GEMINI: dict[str, Any] = {"requests": [{"model": "models/sim-echo", **EMBED_GEMINI}]}
EMBED_VERTEX: dict[str, Any] = {
    "content": {"parts": [{"text": "hi"}]},
    "embedContentConfig": {"taskType": "RETRIEVAL_QUERY", "outputDimensionality": 8},
}
PREDICT: dict[str, Any] = {
    "instances": [{"content": "hi", "task_type": "RETRIEVAL_QUERY"}],
    "parameters": {"outputDimensionality": 8},
}
CONVERSE: dict[str, Any] = {
    "system": [{"text": "Be brief."}, {"cachePoint": {"type": "default"}}],
    "messages": [
        {
            "role": "user",
            "content": [
                {"text": "Look"},
                {"image": {"format": "png", "source": {"bytes": PIXEL}}},
                {"document": {"format": "pdf", "name": "a", "source": {"bytes": PDF}}},
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"text": "I look."},
                {"toolUse": {"toolUseId": "t1", "name": "get_weather", "input": {"city": "Rome"}}},
            ],
        },
        {
            "role": "user",
            "content": [
                {
                    "toolResult": {
                        "toolUseId": "t1",
                        "content": [{"json": {"a": 1}}, {"text": "sun"}],
                        "status": "success",
                    }
                }
            ],
        },
    ],
    "inferenceConfig": {"maxTokens": 50, "temperature": 0.5, "topP": 0.9, "stopSequences": ["END"]},
    "toolConfig": {
        "tools": [
            {
                "toolSpec": {
                    "name": "get_weather",
                    "description": "tells it",
                    "inputSchema": {"json": SCHEMA},
                }
            }
        ],
        "toolChoice": {"tool": {"name": "get_weather"}},
    },
    "additionalModelRequestFields": {"thinking": {"type": "enabled", "budget_tokens": 1024}},
    "outputConfig": {
        "textFormat": {
            "type": "json_schema",
            "structure": {"jsonSchema": {"schema": json.dumps(SCHEMA), "name": "w"}},
        }
    },
}
TITAN: dict[str, Any] = {"inputText": "hi", "dimensions": 8}
COHERE_ON_BEDROCK: dict[str, Any] = {
    "texts": ["hi"],
    "input_type": "search_query",
    "embedding_types": ["float"],
    "output_dimension": 8,
}
COHERE: dict[str, Any] = {
    "model": "sim-echo",
    "messages": [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Look"},
                {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
            ],
        },
        {
            "role": "assistant",
            "tool_calls": [
                {
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "get_weather", "arguments": '{"city": "Rome"}'},
                }
            ],
        },
        {
            "role": "tool",
            "tool_call_id": "c1",
            "content": [{"type": "document", "document": {"data": "sun"}}],
        },
    ],
    "tools": [
        {
            "type": "function",
            "function": {"name": "get_weather", "description": "x", "parameters": SCHEMA},
        }
    ],
    "max_tokens": 50,
    "temperature": 0.5,
    "stop_sequences": ["END"],
    "thinking": {"type": "enabled", "token_budget": 100},
    "response_format": {"type": "json_object", "json_schema": SCHEMA},
    "documents": [{"id": "1", "data": {"text": "sea"}}],
}
EMBED_COHERE: dict[str, Any] = {
    "model": "sim-echo",
    "texts": ["hi"],
    "input_type": "search_query",
    "embedding_types": ["float"],
    "output_dimension": 8,
}
