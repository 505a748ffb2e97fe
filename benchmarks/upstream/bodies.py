"""What the benchmark upstreams answer, and what the load generators ask: whole completions of a given size, and streams."""

from __future__ import annotations

import json

_WORDS = [
    "the",
    "relay",
    "is",
    "what",
    "the",
    "product",
    "exists",
    "for",
    "and",
    "every",
    "microsecond",
    "of",
    "it",
    "was",
    "measured",
    "on",
    "the",
    "spot",
]
_ID = "chatcmpl-BenchmarkBenchmark0000"
_CREATED = 1_760_000_000
SSE = bytes
"""One server-sent event, with its blank line."""


def filler(size: int) -> str:
    text = " ".join(_WORDS) + " "
    return (text * (size // len(text) + 1))[:size]


def completion(size: int, model: str = "bench") -> bytes:
    """A whole Chat Completions answer of about ``size`` bytes (never below some 500, the shape's own)."""
    answer = {
        "id": _ID,
        "object": "chat.completion",
        "created": _CREATED,
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "", "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 200,
            "completion_tokens": 100,
            "total_tokens": 300,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
            "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
        },
    }
    answer["choices"][0]["message"]["content"] = filler(max(1, size - len(json.dumps(answer))))  # type: ignore[index]
    return json.dumps(answer).encode()


def chat_request(model: str, size: int, *, stream: bool = False) -> bytes:
    """A Chat Completions request of ``size`` bytes; long ones are conversations of messages of at most 8 KB."""
    request: dict[str, object] = {"model": model, "temperature": 0.2, "max_completion_tokens": 1000}
    if stream:
        request |= {"stream": True, "stream_options": {"include_usage": True}}
    messages = [{"role": "system", "content": "You answer briefly."}]
    request["messages"] = messages
    left = size - len(json.dumps(request)) - 36
    while left > 0 or len(messages) < 2:
        role = "user" if len(messages) % 2 else "assistant"
        messages.append({"role": role, "content": filler(min(max(1, left), 8192))})
        left -= 8192 + 36
    return json.dumps(request).encode()


def anthropic_request(model: str, size: int, *, stream: bool = False) -> bytes:
    """The same conversation as a Messages request."""
    chat = json.loads(chat_request(model, size))
    request = {
        "model": model,
        "max_tokens": 1000,
        "system": "You answer briefly.",
        "messages": chat["messages"][1:],
    }
    return json.dumps(request | ({"stream": True} if stream else {})).encode()


def chat_stream(tokens: int, model: str) -> list[SSE]:
    """Role chunk, ``tokens`` content chunks, finish, usage, ``[DONE]``: shaped and sized like OpenAI's own."""
    head = {"id": _ID, "object": "chat.completion.chunk", "created": _CREATED, "model": model}
    head |= {"service_tier": "default", "system_fingerprint": "fp_0123456789"}

    def chunk(delta: dict[str, str], finish: str | None = None) -> SSE:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return _data(json.dumps(head | {"choices": [choice], "usage": None}, separators=(",", ":")))

    usage = {"prompt_tokens": 200, "completion_tokens": tokens, "total_tokens": 200 + tokens}
    return [
        chunk({"role": "assistant", "content": ""}),
        *(chunk({"content": word}) for word in _tokens(tokens)),
        chunk({}, "stop"),
        _data(json.dumps(head | {"choices": [], "usage": usage}, separators=(",", ":"))),
        _data("[DONE]"),
    ]


def anthropic_stream(tokens: int, model: str) -> list[SSE]:
    """Message start, one text block of ``tokens`` deltas, message delta with usage, message stop."""
    message: dict[str, object] = {
        "id": "msg_bench",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [],
    }
    message |= {
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 200, "output_tokens": 1},
    }
    deltas = [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}}
        for word in _tokens(tokens)
    ]
    end: dict[str, object] = {
        "type": "message_delta",
        "delta": {"stop_reason": "end_turn", "stop_sequence": None},
    }
    events: list[dict[str, object]] = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *deltas,
        {"type": "content_block_stop", "index": 0},
        end | {"usage": {"output_tokens": tokens}},
        {"type": "message_stop"},
    ]
    return [f"event: {e['type']}\n".encode() + _data(json.dumps(e, separators=(",", ":"))) for e in events]


def _tokens(count: int) -> list[str]:
    return [_WORDS[i % len(_WORDS)] + " " for i in range(count)]


def _data(text: str) -> SSE:
    return b"data: " + text.encode() + b"\n\n"
