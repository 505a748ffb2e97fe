"""Cohere's v2 chat and embed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from tieline.simulator.answer import Answer, Ask, Refusal, Tool, Usage
from tieline.simulator.exchange import (
    Exchange,
    Headers,
    Piece,
    Reply,
    bearer,
    cdn_page,
    encode,
    retry_headers,
    sse,
    words,
)
from tieline.simulator.shapes import SCHEMA, Shape, misfit
from tieline.simulator.text import count_tokens, pieces
from tieline.simulator.vectors import DEFAULT_DIMENSIONS, MAX_DIMENSIONS, embed

_FIELDS = words(
    "model messages stream tools strict_tools documents citation_options response_format safety_mode max_tokens "
    "stop_sequences temperature seed frequency_penalty presence_penalty k p logprobs tool_choice thinking priority raw_prompting"
)
_MESSAGE_FIELDS = words("role content tool_calls tool_plan citations tool_call_id")
_EMBED_FIELDS = words(
    "model texts images inputs input_type embedding_types truncate max_tokens output_dimension priority"
)
_TYPES = {
    "messages": [
        {
            "role": str,
            "content": (str, [{"type": str, "text": str, "document": {"data": (str, dict)}}]),
            "tool_calls": [{"id": str}],
            "tool_call_id": str,
        }
    ],
    "stream": bool,
    "tools": [{"type": str, "function": {"name": str, "parameters": SCHEMA}}],
    "tool_choice": str,
    "max_tokens": int,
    "stop_sequences": [str],
    "temperature": float,
    "thinking": {"type": str},
    "response_format": {"type": str, "json_schema": SCHEMA, "schema": SCHEMA},
}
_EMBED_TYPES = {"texts": [str], "input_type": str, "output_dimension": range(1, MAX_DIMENSIONS + 1)}
_FINISH = {
    "stop": "COMPLETE",
    "length": "MAX_TOKENS",
    "tool_calls": "TOOL_CALL",
    "content_filter": "ERROR",
    "stop_sequence": "STOP_SEQUENCE",
}
_KINDS: dict[str, tuple[int, str]] = {
    "invalid": (400, "invalid request"),
    "rate_limit": (429, "You are past the per minute request limit, please wait and try again later."),
    "quota": (402, "Please add or update your payment method at https://dashboard.cohere.com/billing"),
    "server_error": (500, "internal server error"),
    "unavailable": (503, "service unavailable"),
    "overloaded": (529, "service overloaded, please try again later"),
    "auth": (401, "invalid api token"),
    "missing_key": (401, "no api key supplied"),
    "expired": (401, "api token expired"),
    "forbidden": (403, "you do not have permission to use this model"),
    "geo": (403, "access from your region is not allowed"),
    "model_not_found": (
        404,
        "model '{model}' not found, make sure the correct model ID was used and that you have access to it.",
    ),
    "not_found": (404, "page not found"),
    "gone": (410, "model '{model}' was removed"),
    "context": (
        400,
        "too many tokens: total number of tokens in the prompt cannot exceed 128000 - received 130000.",
    ),
    "filter": (400, "the request was blocked by our safety system"),
    "unsupported": (400, "invalid request: temperature is not supported by the provided model"),
    "payment": (402, "Please add or update your payment method."),
    "request_timeout": (408, "request timed out"),
    "vague": (400, "invalid request"),
    "too_large": (413, "request body too large"),
    "unprocessable": (422, "unprocessable entity"),
}


def invalid(message: str) -> Refusal:
    return Refusal("invalid", "invalid request: " + message)


def _check_types(body: dict[str, Any], shape: Shape) -> None:
    wrong = misfit(body, shape)
    if wrong is not None:
        wanted = " or ".join(wrong.wanted)
        raise Refusal(
            "invalid",
            f"invalid type: parameter {wrong.indexed} is of type {wrong.found} but should be of type {wanted}.",
        )


class Cohere:
    """The Dialect protocol for api.cohere.com."""

    name = "cohere"
    comment = b""

    def media_type(self, exchange: Exchange) -> str:
        return "text/event-stream"

    def credential(self, exchange: Exchange) -> str | None:
        return bearer(exchange)

    def model(self, exchange: Exchange) -> str:
        if not isinstance(exchange.body.get("model"), str):
            raise invalid("model is required")
        return str(exchange.body["model"])

    def read(self, exchange: Exchange) -> Ask:
        body = exchange.body
        for name in body:
            if name not in _FIELDS:
                raise invalid(f"unknown field: parameter '{name}' is not a valid field")
        _check_types(body, _TYPES)
        ask = Ask(model=exchange.model, stream=bool(body.get("stream")))
        messages = body.get("messages")
        if not isinstance(messages, list) or not messages:
            raise invalid("messages must be a non-empty list")
        for index, message in enumerate(messages):
            _message(ask, message, index)
        _conversation(ask, messages)
        _options(ask, body)
        return ask

    def whole(self, exchange: Exchange, ask: Ask, answers: list[Answer], usage: Usage) -> bytes:
        answer = answers[0]
        message: dict[str, Any] = {"role": "assistant"}
        content = [{"type": "thinking", "thinking": answer.thinking}] if answer.thinking else []
        if answer.text:
            content.append({"type": "text", "text": answer.text})
        if content:
            message["content"] = content
        if answer.calls:
            message["tool_plan"] = "I will use the tools."
            message["tool_calls"] = [_call(exchange, call.name, call.arguments) for call in answer.calls]
        body = {"id": _uuid(exchange), "finish_reason": _FINISH[answer.finish], "message": message}
        return msgspec.json.encode(
            body if exchange.flag("usage-missing") else body | {"usage": _usage(usage)}
        )

    def stream(self, exchange: Exchange, ask: Ask, answers: list[Answer], usage: Usage) -> Iterator[Piece]:
        answer = answers[0]
        opening = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []}
        yield Piece(_event("message-start", id=_uuid(exchange), delta={"message": opening}), "start")
        index = 0
        for kind, text in (("thinking", answer.thinking), ("text", answer.text)):
            if text:
                yield from _content(index, kind, text)
                index += 1
        yield from _calls(exchange, answer)
        delta: dict[str, Any] = {"finish_reason": _FINISH[answer.finish]}
        if not exchange.flag("usage-missing"):
            delta["usage"] = _usage(usage)
        yield Piece(_event("message-end", delta=delta), "finish")
        yield Piece(b"data: [DONE]\n\n", "done")

    def other(self, exchange: Exchange) -> Reply:
        body = exchange.body
        for name in body:
            if name not in _EMBED_FIELDS:
                raise invalid(f"unknown field: parameter '{name}' is not a valid field")
        _check_types(body, _EMBED_TYPES)
        texts = body.get("texts")
        if not isinstance(texts, list) or not texts:
            raise invalid("at least one text is required")
        if body.get("input_type") not in (
            "search_document",
            "search_query",
            "classification",
            "clustering",
            "image",
        ):
            raise invalid("valid input_type must be provided with the provided model")
        tokens = sum(count_tokens(str(text)) for text in texts)
        vectors = [embed(str(text), body.get("output_dimension") or DEFAULT_DIMENSIONS) for text in texts]
        meta = {"api_version": {"version": "2"}, "billed_units": {"input_tokens": tokens}}
        answer = {"id": _uuid(exchange), "embeddings": {"float": vectors}, "texts": texts, "meta": meta}
        return Reply(200, encode(answer), [("content-type", "application/json")], tokens)

    def headers(self, exchange: Exchange) -> Headers:
        return [("x-debug-trace-id", exchange.id("", 32).lower()), ("x-trial-endpoint-call-limit", "20")]

    def refuse(self, exchange: Exchange, refusal: Refusal) -> Reply:
        page = cdn_page(refusal.kind)
        if page is not None:
            return page
        status, message = _KINDS[refusal.kind]
        body = {"id": _uuid(exchange), "message": refusal.message or message.format(model=exchange.model)}
        return Reply(
            status, encode(body), [("content-type", "application/json"), *retry_headers(exchange.behaviour)]
        )

    def stream_error(self, exchange: Exchange, kind: str) -> bytes:
        """Cohere ends a failed stream with a ``message-end`` whose finish reason is ERROR."""
        return _event("message-end", delta={"finish_reason": "ERROR", "error": "internal server error"})

    def malformed(self, content: bool) -> bytes:
        if content:
            return b'event: content-delta\ndata: {"type":"content-delta","index":0,"delta":{"mess\n\n'
        return b'event: debug\ndata: {"type":"deb\n\n'


def _event(kind: str, **fields: Any) -> bytes:
    return sse({"type": kind} | fields, kind)


def _content(index: int, kind: str, text: str) -> Iterator[Piece]:
    start = {"message": {"content": {"type": kind, kind: ""}}}
    yield Piece(_event("content-start", index=index, delta=start), "extra")
    for token in pieces(text):
        delta = {"message": {"content": {kind: token}}}
        yield Piece(_event("content-delta", index=index, delta=delta), tokens=1)
    yield Piece(_event("content-end", index=index), "extra")


def _calls(exchange: Exchange, answer: Answer) -> Iterator[Piece]:
    if answer.calls:
        for token in ("I will use", " the tools."):
            yield Piece(_event("tool-plan-delta", delta={"message": {"tool_plan": token}}), "extra")
    for index, call in enumerate(answer.calls):
        start = {"message": {"tool_calls": _call(exchange, call.name, "")}}
        yield Piece(_event("tool-call-start", index=index, delta=start), "extra")
        for at in range(0, len(call.arguments), 12):
            delta = {"message": {"tool_calls": {"function": {"arguments": call.arguments[at : at + 12]}}}}
            yield Piece(_event("tool-call-delta", index=index, delta=delta), tokens=1)
        yield Piece(_event("tool-call-end", index=index), "extra")


def _call(exchange: Exchange, name: str, arguments: str) -> dict[str, Any]:
    identity = f"{name}_{exchange.id('', 12).lower()}"
    return {"id": identity, "type": "function", "function": {"name": name, "arguments": arguments}}


def _uuid(exchange: Exchange) -> str:
    digits = f"{exchange.random.getrandbits(128):032x}"
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def _usage(usage: Usage) -> dict[str, Any]:
    tokens = {"input_tokens": usage.input, "output_tokens": usage.output}
    return {"billed_units": tokens, "tokens": tokens, "cached_tokens": usage.cached}


def _message(ask: Ask, message: Any, index: int) -> None:
    if not isinstance(message, dict) or message.get("role") not in (
        "system",
        "developer",
        "user",
        "assistant",
        "tool",
    ):
        raise invalid(f"messages[{index}].role must be one of system, user, assistant, tool")
    for name in message:
        if name not in _MESSAGE_FIELDS:
            raise invalid(f"unknown field: parameter 'messages[{index}].{name}' is not a valid field")
    content = message.get("content")
    if content in (None, "", []) and not message.get("tool_calls"):
        raise invalid(f"all messages must have a non-empty content: messages[{index}]")
    if message["role"] == "tool" and not isinstance(message.get("tool_call_id"), str):
        raise invalid(f"messages[{index}].tool_call_id is required")
    ask.text_chars.append(_text(content))
    if isinstance(content, list):
        ask.images += sum(part.get("type") == "image_url" for part in content)


def _text(content: Any) -> str:
    if isinstance(content, list):
        return "\n".join(
            str(part.get("text") or (part.get("document") or {}).get("data") or "") for part in content
        )
    return str(content or "")


def _conversation(ask: Ask, messages: list[dict[str, Any]]) -> None:
    users = [_text(message["content"]) for message in messages if message["role"] == "user"]
    ask.first_user, ask.last_user = (users[0], users[-1]) if users else ("", "")
    made: set[str | None] = set()
    for index, message in enumerate(messages):
        made |= {call.get("id") for call in message.get("tool_calls") or []}
        if message["role"] == "tool" and message["tool_call_id"] not in made:
            raise invalid(f"messages[{index}]: tool call id not found in previous tool calls")
    if messages[-1]["role"] == "assistant":
        raise invalid("the last message must be from a user or a tool")
    if messages[-1]["role"] == "user" and len(messages) > 1 and messages[-2]["role"] == "assistant":
        ask.partial = _text(messages[-2].get("content"))
    for message in reversed(messages):
        if message["role"] != "tool":
            break
        ask.tool_results.insert(0, _text(message.get("content")))


def _options(ask: Ask, body: dict[str, Any]) -> None:
    ask.max_tokens = body.get("max_tokens")
    ask.stop = body.get("stop_sequences") or []
    if len(ask.stop) > 5:
        raise invalid("stop_sequences must have at most 5 entries")
    if not 0 <= (body.get("temperature") or 0) <= 1:
        raise invalid("temperature must be between 0 and 1.0 inclusive.")
    for index, tool in enumerate(body.get("tools") or []):
        function = tool.get("function") or {}
        if tool.get("type") != "function" or not function.get("name"):
            raise invalid(f"tools[{index}].function.name is required")
        ask.tools.append(Tool(function["name"], function.get("parameters")))
        ask.text_chars.append(str(function))
    choice = body.get("tool_choice")
    if choice not in (None, "REQUIRED", "NONE"):
        raise invalid("tool_choice must be one of REQUIRED, NONE")
    ask.tool_choice = str(choice or "AUTO").lower()
    ask.thinking = (body.get("thinking") or {}).get("type") == "enabled"
    wanted = body.get("response_format") or {}
    ask.json_schema = wanted.get("json_schema") or wanted.get("schema")
    ask.json_mode = wanted.get("type") == "json_object" and ask.json_schema is None
