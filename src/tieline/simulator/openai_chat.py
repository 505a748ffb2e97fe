"""OpenAI Chat Completions, as api.openai.com and its many imitators speak it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from tieline.simulator.answer import Answer, Ask, Usage
from tieline.simulator.exchange import Exchange, Piece, sse
from tieline.simulator.openai_base import OpenAIBase
from tieline.simulator.openai_checks import read_chat
from tieline.simulator.text import pieces

_FINISH = {"stop_sequence": "stop"}
_ARGUMENT_PIECE = 12


class OpenAIChat(OpenAIBase):
    name = "openai_chat"

    def read(self, exchange: Exchange) -> Ask:
        return read_chat(exchange)

    def whole(self, exchange: Exchange, ask: Ask, answers: list[Answer], usage: Usage) -> bytes:
        body = _envelope(exchange, ask, "chat.completion")
        body["choices"] = [_choice(exchange, ask, index, answer) for index, answer in enumerate(answers)]
        if not exchange.flag("usage-missing"):
            body["usage"] = _usage(usage, exchange)
        return msgspec.json.encode(body)

    def stream(self, exchange: Exchange, ask: Ask, answers: list[Answer], usage: Usage) -> Iterator[Piece]:
        writer = _Writer(exchange, ask)
        yield from writer.open(len(answers))
        for index, answer in enumerate(answers):
            yield from writer.choice(index, answer)
        if ask.include_usage and not exchange.flag("usage-missing"):
            yield Piece(writer.chunk(None, usage=_usage(usage, exchange)), "usage")
        yield Piece(b"data: [DONE]\n\n", "done")

    def malformed(self, content: bool) -> bytes:
        if content:
            return b'data: {"id":"chatcmpl-x","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"lost wo\n\n'
        return b'data: {"id":"chatcmpl-x","object":"chat.comp\n\n'


class _Writer:
    """Makes the chunks of one stream."""

    def __init__(self, exchange: Exchange, ask: Ask) -> None:
        self._exchange = exchange
        self._head = _envelope(exchange, ask, "chat.completion.chunk")
        self._usage_field = ask.include_usage
        self._logprobs = ask.logprobs

    def chunk(self, choice: dict[str, Any] | None, **extra: Any) -> bytes:
        if self._exchange.flag("dup-ids"):
            self._head["id"] = self._exchange.id("chatcmpl-")
        body = self._head | {"choices": [choice] if choice else []}
        if self._usage_field and "usage" not in extra:
            body["usage"] = None
        return sse(body | extra)

    def delta(
        self, index: int, delta: dict[str, Any], finish: str | None = None, logprobs: Any = None
    ) -> bytes:
        return self.chunk({"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish})

    def open(self, count: int) -> Iterator[Piece]:
        if self._exchange.flag("empty-choices-first"):
            filtered = {"hate": {"filtered": False, "severity": "safe"}}
            results = [{"prompt_index": 0, "content_filter_results": filtered}]
            yield Piece(self.chunk(None, prompt_filter_results=results, model="", created=0), "start")
        for index in range(count):
            yield Piece(self.delta(index, {"role": "assistant", "content": "", "refusal": None}), "start")

    def choice(self, index: int, answer: Answer) -> Iterator[Piece]:
        for token in pieces(answer.thinking):
            yield Piece(self.delta(index, {"reasoning_content": token, "content": None}), tokens=1)
        tokens = pieces(answer.text)
        late = tokens.pop() if tokens and self._exchange.flag("finish-with-content") else None
        after = tokens.pop() if tokens and self._exchange.flag("content-after-finish") else None
        for token in tokens:
            logprobs = _logprobs([token], self._logprobs) if self._logprobs is not None else None
            yield Piece(self.delta(index, {"content": token}, logprobs=logprobs), tokens=1)
        yield from self._calls(index, answer)
        finish = _FINISH.get(answer.finish, answer.finish)
        yield Piece(self.delta(index, {"content": late} if late else {}, finish), "finish", 1 if late else 0)
        if after:
            yield Piece(self.delta(index, {"content": after}), tokens=1)

    def _calls(self, choice: int, answer: Answer) -> Iterator[Piece]:
        """The calls' arguments interleave, as some hosts' do (WIRE_FACTS 1)."""
        waiting: list[tuple[int, list[str]]] = []
        for number, call in enumerate(answer.calls):
            index = number + (1 if self._exchange.flag("wrong-index") else 0)
            for delta in self._call_opening(index, call.name, call.kind):
                yield Piece(self.delta(choice, {"tool_calls": [delta]}), tokens=1)
            cut = [
                call.arguments[i : i + _ARGUMENT_PIECE]
                for i in range(0, len(call.arguments), _ARGUMENT_PIECE)
            ]
            waiting.append((index, cut))
        while any(cut for _, cut in waiting):
            for (index, cut), call in zip(waiting, answer.calls, strict=True):
                if cut:
                    key = "input" if call.kind == "custom" else "arguments"
                    delta = {"index": index, call.kind: {key: cut.pop(0)}}
                    yield Piece(self.delta(choice, {"tool_calls": [delta]}), tokens=1)

    def _call_opening(self, index: int, name: str, kind: str) -> list[dict[str, Any]]:
        call: dict[str, Any] = {"index": index, "id": self._exchange.id("call_"), "type": kind}
        key = "input" if kind == "custom" else "arguments"
        if self._exchange.flag("split-names") and len(name) > 1:
            half = len(name) // 2
            first = call | {kind: {"name": name[:half], key: ""}}
            return [first, {"index": index, kind: {"name": name[half:]}}]
        return [call | {kind: {"name": name, key: ""}}]


def _envelope(exchange: Exchange, ask: Ask, kind: str) -> dict[str, Any]:
    body: dict[str, Any] = {
        "id": exchange.id("chatcmpl-"),
        "object": kind,
        "created": exchange.created,
        "model": ask.model,
        "service_tier": "default",
        "system_fingerprint": f"fp_{ask.extra.get('seed', 'simulator')}",
    }
    return body


def _choice(exchange: Exchange, ask: Ask, index: int, answer: Answer) -> dict[str, Any]:
    message: dict[str, Any] = {
        "role": "assistant",
        "content": answer.text or None,
        "refusal": None,
        "annotations": [],
    }
    if answer.thinking:
        message["reasoning_content"] = answer.thinking
    if answer.calls:
        message["tool_calls"] = [
            _call(exchange, call.name, call.arguments, call.kind) for call in answer.calls
        ]
    elif answer.text == "":
        message["content"] = ""
    logprobs = _logprobs(pieces(answer.text), ask.logprobs) if ask.logprobs is not None else None
    finish = _FINISH.get(answer.finish, answer.finish)
    return {"index": index, "message": message, "logprobs": logprobs, "finish_reason": finish}


def _call(exchange: Exchange, name: str, arguments: str, kind: str) -> dict[str, Any]:
    key = "input" if kind == "custom" else "arguments"
    return {"id": exchange.id("call_"), "type": kind, kind: {"name": name, key: arguments}}


def _logprobs(tokens: list[str], top: int) -> dict[str, Any]:
    def entry(token: str, value: float) -> dict[str, Any]:
        return {"token": token, "logprob": value, "bytes": list(token.encode())}

    content = [
        entry(token, -0.1)
        | {"top_logprobs": [entry(token if i == 0 else f"{token}{i}", -0.1 - i) for i in range(top)]}
        for token in tokens
    ]
    return {"content": content, "refusal": None}


def _usage(usage: Usage, exchange: Exchange) -> dict[str, Any]:
    if exchange.flag("null-usage"):
        details = {"prompt_tokens_details": None, "completion_tokens_details": None}
        return {
            "prompt_tokens": usage.input,
            "completion_tokens": usage.output,
            "total_tokens": None,
        } | details
    return {
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.input + usage.output,
        "prompt_tokens_details": {
            "cached_tokens": usage.cached,
            "cache_write_tokens": usage.written,
            "audio_tokens": 0,
        },
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }
