"""OpenAI's small endpoints: legacy completions, embeddings, models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from tieline.simulator.answer import Answer, Ask, Refusal, Usage
from tieline.simulator.exchange import Exchange, Piece, Reply, sse, words
from tieline.simulator.openai_base import OpenAIBase, plain
from tieline.simulator.openai_checks import MAX_CHOICES, check_fields, ranged, read_stop
from tieline.simulator.openai_tools import check_types, invalid
from tieline.simulator.text import count_tokens, pieces
from tieline.simulator.vectors import DEFAULT_DIMENSIONS, MAX_DIMENSIONS, as_base64, embed

_COMPLETION_FIELDS = words(
    "model prompt best_of echo frequency_penalty logit_bias logprobs max_tokens n presence_penalty seed stop stream "
    "stream_options suffix temperature top_p user"
)
_COMPLETION_TYPES = {"stream": bool, "stream_options": {"include_usage": bool}}
_EMBED_FIELDS = words("input model dimensions encoding_format user")
_EMBED_TYPES = {"input": (str, [(str, int, [int])]), "encoding_format": str}
_MAX_INPUTS = 2048
MODELS = ("sim-echo", "sim-tools", "sim-json", "sim-think", "sim-long", "sim-slow", "sim-cache")
_DEFAULT_MAX_TOKENS = 16
_FINISH = {"stop_sequence": "stop", "tool_calls": "stop"}


class OpenAICompletions(OpenAIBase):
    """Legacy text completions."""

    name = "openai_completions"

    def read(self, exchange: Exchange) -> Ask:
        body = exchange.body
        check_fields(body, _COMPLETION_FIELDS)
        check_types(body, _COMPLETION_TYPES)
        prompt = body.get("prompt")
        several: list[str] = []
        if isinstance(prompt, list) and prompt and all(isinstance(item, str) for item in prompt):
            prompt, several = prompt[0], prompt[:] if len(prompt) > 1 else []
        if not isinstance(prompt, str):
            raise invalid("Missing required parameter: 'prompt'.", "prompt", "missing_required_parameter")
        ranged(body, "max_tokens", 0, 10_000_000, int)
        ranged(body, "n", 1, MAX_CHOICES, int)
        ask = Ask(model=exchange.model, stream=bool(body.get("stream")), first_user=prompt, last_user=prompt)
        ask.prompts = several
        ask.text_chars += several or [prompt]
        ask.max_tokens = _DEFAULT_MAX_TOKENS if body.get("max_tokens") is None else body["max_tokens"]
        ask.n, ask.stop = body.get("n") or 1, read_stop(body.get("stop"))
        ask.include_usage = bool((body.get("stream_options") or {}).get("include_usage"))
        return ask

    def whole(self, exchange: Exchange, ask: Ask, answers: list[Answer], usage: Usage) -> bytes:
        choices = [_text(index, answer.text, answer) for index, answer in enumerate(answers)]
        return msgspec.json.encode(_envelope(exchange, ask) | {"choices": choices, "usage": _usage(usage)})

    def stream(self, exchange: Exchange, ask: Ask, answers: list[Answer], usage: Usage) -> Iterator[Piece]:
        head = _envelope(exchange, ask)
        for index, answer in enumerate(answers):
            for token in pieces(answer.text):
                yield Piece(sse(head | {"choices": [_text(index, token, None)]}), tokens=1)
            yield Piece(sse(head | {"choices": [_text(index, "", answer)]}), "finish")
        if ask.include_usage:
            yield Piece(sse(head | {"choices": [], "usage": _usage(usage)}), "usage")
        yield Piece(b"data: [DONE]\n\n", "done")


class OpenAISmall(OpenAIBase):
    """Embeddings and the list of models."""

    name = "openai_embeddings"

    def other(self, exchange: Exchange) -> Reply:
        if exchange.operation == "embed":
            return _embeddings(exchange)
        wanted = exchange.path.rpartition("/models")[2].strip("/")
        if wanted:
            return plain(200, _model(wanted, exchange))
        return plain(200, {"object": "list", "data": [_model(name, exchange) for name in MODELS]})


def _model(name: str, exchange: Exchange) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 1767225600, "owned_by": exchange.provider}


def _embeddings(exchange: Exchange) -> Reply:
    body = exchange.body
    check_fields(body, _EMBED_FIELDS)
    check_types(body, _EMBED_TYPES)
    texts = _inputs(body.get("input"))
    ranged(body, "dimensions", 1, MAX_DIMENSIONS, int)
    form = body.get("encoding_format") or "float"
    if form not in ("float", "base64"):
        raise invalid(
            f"Invalid value: '{form}'. Supported values are: 'float' and 'base64'.",
            "encoding_format",
            "invalid_value",
        )
    data = []
    for index, text in enumerate(texts):
        vector = embed(text, body.get("dimensions") or DEFAULT_DIMENSIONS)
        data.append(
            {
                "object": "embedding",
                "index": index,
                "embedding": as_base64(vector) if form == "base64" else vector,
            }
        )
    tokens = sum(count_tokens(text) for text in texts)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return plain(200, {"object": "list", "data": data, "model": exchange.model, "usage": usage}, tokens)


def _inputs(given: Any) -> list[str]:
    if isinstance(given, str):
        given = [given]
    if isinstance(given, list) and given and all(isinstance(item, int) for item in given):
        given = [given]
    if not isinstance(given, list) or not given or any(isinstance(item, int) for item in given):
        raise invalid(
            "'$.input' is invalid. Please check the API reference: https://platform.openai.com/docs/api-reference."
        )
    if len(given) > _MAX_INPUTS:
        raise invalid(
            f"Invalid 'input': array too long. Expected an array with maximum length {_MAX_INPUTS}.", "input"
        )
    if any(item in ("", []) for item in given):
        raise Refusal("invalid", "Invalid 'input': input cannot be an empty string.", param="input")
    return [item if isinstance(item, str) else " ".join(map(str, item)) for item in given]


def _envelope(exchange: Exchange, ask: Ask) -> dict[str, Any]:
    return {
        "id": exchange.id("cmpl-"),
        "object": "text_completion",
        "created": exchange.created,
        "model": ask.model,
    }


def _text(index: int, text: str, finished: Answer | None) -> dict[str, Any]:
    finish = _FINISH.get(finished.finish, finished.finish) if finished else None
    return {"text": text, "index": index, "logprobs": None, "finish_reason": finish}


def _usage(usage: Usage) -> dict[str, int]:
    return {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.input + usage.output,
    }
