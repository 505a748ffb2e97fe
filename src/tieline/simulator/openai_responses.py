"""OpenAI Responses."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from tieline.simulator.answer import Answer, Ask, ToolCall, Usage, sealed
from tieline.simulator.exchange import Exchange, Piece, sse
from tieline.simulator.openai_base import OpenAIBase
from tieline.simulator.openai_responses_checks import read_responses
from tieline.simulator.text import count_tokens, pieces

_ARGUMENT_PIECE = 12
_MAX_REMEMBERED = 1000
_STREAM_ERRORS = {
    "overloaded_error": (
        "server_is_overloaded",
        "Our servers are currently overloaded. Please try again later.",
    ),
    "rate_limit_error": ("rate_limit_exceeded", "Rate limit reached. Please try again in 1.2s."),
}


class OpenAIResponses(OpenAIBase):
    name = "openai_responses"

    def read(self, exchange: Exchange) -> Ask:
        return read_responses(exchange)

    def whole(self, exchange: Exchange, ask: Ask, answers: list[Answer], usage: Usage) -> bytes:
        envelope = _envelope(exchange, ask)
        items = _items(exchange, ask, answers[0])
        _remember(exchange, ask, envelope["id"], items)
        return msgspec.json.encode(_finished(envelope, answers[0], items, usage, exchange))

    def stream(self, exchange: Exchange, ask: Ask, answers: list[Answer], usage: Usage) -> Iterator[Piece]:
        writer = _Writer()
        envelope = _envelope(exchange, ask)
        items = _items(exchange, ask, answers[0])
        yield Piece(writer.event("response.created", response=envelope), "start")
        yield Piece(writer.event("response.in_progress", response=envelope), "extra")
        for index, item in enumerate(items):
            yield from writer.item(index, item, count_tokens(answers[0].thinking))
        _remember(exchange, ask, envelope["id"], items)
        whole = _finished(envelope, answers[0], items, usage, exchange)
        yield Piece(writer.event(f"response.{whole['status']}", response=whole), "finish")

    def stream_error(self, exchange: Exchange, kind: str) -> bytes:
        code, message = _STREAM_ERRORS.get(
            kind, ("server_error", "The server had an error processing your request.")
        )
        if kind in ("failed", "response.failed"):
            response = _envelope(exchange, Ask(model=exchange.model)) | {
                "status": "failed",
                "error": {"code": code, "message": message},
            }
            return sse(
                {"type": "response.failed", "sequence_number": 99, "response": response}, "response.failed"
            )
        return sse(
            {"type": "error", "code": code, "message": message, "param": None, "sequence_number": 99}, "error"
        )

    def malformed(self, content: bool) -> bytes:
        if content:
            return b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta","delta":"lo\n\n'
        return b'event: response.in_progress\ndata: {"type":"response.in_pro\n\n'


class _Writer:
    """Numbers the events of one stream."""

    def __init__(self) -> None:
        self._sequence = 0

    def event(self, kind: str, **fields: Any) -> bytes:
        data = {"type": kind, "sequence_number": self._sequence} | fields
        self._sequence += 1
        return sse(data, kind)

    def item(self, index: int, item: dict[str, Any], thought: int) -> Iterator[Piece]:
        empty: dict[str, Any] = {
            "message": {"content": []},
            "function_call": {"arguments": ""},
            "custom_tool_call": {"input": ""},
        }
        opening = item | empty.get(item["type"], {"summary": []})
        if item["type"] != "reasoning":
            opening["status"] = "in_progress"
        yield Piece(self.event("response.output_item.added", output_index=index, item=opening), "extra")
        if item["type"] == "message":
            yield from self._text(index, item)
        elif item["type"] == "reasoning":
            yield from self._summary(index, item, thought)
        else:
            yield from self._call(index, item)
        yield Piece(self.event("response.output_item.done", output_index=index, item=item), "extra")

    def _text(self, index: int, item: dict[str, Any]) -> Iterator[Piece]:
        at = {"item_id": item["id"], "output_index": index, "content_index": 0}
        part = item["content"][0]
        kind = "refusal" if part["type"] == "refusal" else "output_text"
        key = "refusal" if kind == "refusal" else "text"
        extra: dict[str, Any] = {"logprobs": []} if kind == "output_text" else {}
        yield Piece(self.event("response.content_part.added", **at, part=part | {key: ""}), "extra")
        for token in pieces(part[key]):
            yield Piece(self.event(f"response.{kind}.delta", **at, delta=token, **extra), tokens=1)
        yield Piece(self.event(f"response.{kind}.done", **at, **{key: part[key]}, **extra), "extra")
        yield Piece(self.event("response.content_part.done", **at, part=part), "extra")

    def _summary(self, index: int, item: dict[str, Any], thought: int) -> Iterator[Piece]:
        if not item["summary"]:
            yield Piece(b": thinking\n\n", tokens=thought)
        for number, part in enumerate(item["summary"]):
            at = {"item_id": item["id"], "output_index": index, "summary_index": number}
            yield Piece(
                self.event("response.reasoning_summary_part.added", **at, part=part | {"text": ""}), "extra"
            )
            for token in pieces(part["text"]):
                yield Piece(self.event("response.reasoning_summary_text.delta", **at, delta=token), tokens=1)
            yield Piece(self.event("response.reasoning_summary_text.done", **at, text=part["text"]), "extra")
            yield Piece(self.event("response.reasoning_summary_part.done", **at, part=part), "extra")

    def _call(self, index: int, item: dict[str, Any]) -> Iterator[Piece]:
        at = {"item_id": item["id"], "output_index": index}
        custom = item["type"] == "custom_tool_call"
        kind = "custom_tool_call_input" if custom else "function_call_arguments"
        key = "input" if custom else "arguments"
        text = item[key]
        for start in range(0, len(text), _ARGUMENT_PIECE):
            delta = text[start : start + _ARGUMENT_PIECE]
            yield Piece(self.event(f"response.{kind}.delta", **at, delta=delta), tokens=1)
        yield Piece(self.event(f"response.{kind}.done", **at, **{key: text}, name=item["name"]), "extra")


def _envelope(exchange: Exchange, ask: Ask) -> dict[str, Any]:
    body = exchange.body
    return {
        "id": exchange.id("resp_", 48).lower(),
        "object": "response",
        "created_at": exchange.created,
        "status": "in_progress",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "model": ask.model,
        "output": [],
        "parallel_tool_calls": body.get("parallel_tool_calls") is not False,
        "previous_response_id": body.get("previous_response_id"),
        "reasoning": body.get("reasoning") or {"effort": None, "summary": None},
        "service_tier": "default",
        "store": body.get("store") is not False,
        "temperature": body.get("temperature", 1.0),
        "text": body.get("text") or {"format": {"type": "text"}},
        "tool_choice": body.get("tool_choice") or "auto",
        "tools": body.get("tools") or [],
        "top_p": body.get("top_p", 1.0),
        "truncation": body.get("truncation") or "disabled",
        "usage": None,
        "user": body.get("user"),
        "metadata": body.get("metadata") or {},
    }


def _items(exchange: Exchange, ask: Ask, answer: Answer) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    if answer.thinking:
        items.append(_reasoning(exchange, ask, answer))
    if answer.text or not answer.calls:
        part: dict[str, Any] = {"type": "output_text", "annotations": [], "logprobs": [], "text": answer.text}
        if answer.finish == "content_filter" and exchange.behaviour.word("kind") == "refusal":
            part = {"type": "refusal", "refusal": answer.text}
        status = "incomplete" if answer.finish in ("length", "content_filter") else "completed"
        message = {
            "id": exchange.id("msg_", 48).lower(),
            "type": "message",
            "status": status,
            "role": "assistant",
        }
        items.append(message | {"content": [part]})
    items += [_call(exchange, call) for call in answer.calls]
    return items


def _reasoning(exchange: Exchange, ask: Ask, answer: Answer) -> dict[str, Any]:
    shown = ask.extra.get("summary") or exchange.behaviour.content == "think"
    summary = [{"type": "summary_text", "text": answer.thinking}] if shown else []
    item: dict[str, Any] = {"id": exchange.id("rs_", 48).lower(), "type": "reasoning", "summary": summary}
    if ask.extra.get("encrypted"):
        item["encrypted_content"] = sealed(exchange.seed, "reasoning", answer.thinking[:40])
    return item


def _call(exchange: Exchange, call: ToolCall) -> dict[str, Any]:
    common = {"status": "completed", "call_id": exchange.id("call_"), "name": call.name}
    if call.kind == "custom":
        return {
            "id": exchange.id("ctc_", 48).lower(),
            "type": "custom_tool_call",
            "input": call.arguments,
        } | common
    return {
        "id": exchange.id("fc_", 48).lower(),
        "type": "function_call",
        "arguments": call.arguments,
    } | common


def _finished(
    envelope: dict[str, Any], answer: Answer, items: list[dict[str, Any]], usage: Usage, exchange: Exchange
) -> dict[str, Any]:
    reason = {"length": "max_output_tokens", "content_filter": "content_filter"}.get(answer.finish)
    return envelope | {
        "status": "incomplete" if reason else "completed",
        "incomplete_details": {"reason": reason} if reason else None,
        "output": items,
        "usage": None if exchange.flag("usage-missing") else _usage(usage),
    }


def _usage(usage: Usage) -> dict[str, Any]:
    return {
        "input_tokens": usage.input,
        "input_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": usage.written},
        "output_tokens": usage.output,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.input + usage.output,
    }


def _remember(exchange: Exchange, ask: Ask, identity: str, items: list[dict[str, Any]]) -> None:
    """Keeps the conversation for ``previous_response_id``; the oldest of 1,000 is forgotten."""
    if exchange.body.get("store") is False:
        return
    exchange.memory[identity] = [*ask.extra["input"], *items]
    while len(exchange.memory) > _MAX_REMEMBERED:
        del exchange.memory[next(iter(exchange.memory))]
