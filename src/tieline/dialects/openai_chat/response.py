"""Whole Chat Completions answers and errors, read from hosts and written to callers."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from tieline.dialects.base import Garbled, Glance, StreamFault
from tieline.dialects.error_bodies import info_of_value, status_of
from tieline.dialects.fields import BROKEN_JSON, loosely, object_of
from tieline.dialects.openai_chat.decode import thinking_of_detail
from tieline.dialects.openai_chat.encode import reasoning_detail
from tieline.dialects.openai_chat.partial import READ_PLAIN_ANSWER
from tieline.dialects.openai_chat.reading import (
    arguments_of,
    chunk_usage,
    created_of,
    finish_of,
    read_chunk,
    text_of,
    thinking_of,
    thought_signature,
    wire_usage,
)
from tieline.dialects.openai_chat.wire import BROKEN_REASONS, NAME, Chunk, WireChoice, WireMessage
from tieline.dialects.structured_tool import NAME as STRUCTURED
from tieline.dialects.turns import made_id
from tieline.types.errors import ErrorInfo, Fault
from tieline.types.request import Opaque, Refusal, Request, Text, Thinking, ToolCall
from tieline.types.response import Choice, OutputPart, Response
from tieline.types.usage import Usage

_TYPE_OF_STATUS = {
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
}


# upstream -------------------------------------------------------------------------------------------------------


def fault_in(chunk: Chunk, data: bytes) -> StreamFault | None:
    """An error that came with status 200 (WIRE_FACTS 9): `{"error":…}`, vLLM's `{"object":"error"}`, bare messages."""
    bare = not chunk.choices and (chunk.message or chunk.detail) and chunk.usage is None
    if not chunk.error and chunk.object != "error" and not bare:
        return None
    info = info_of_value(loosely(data))
    return StreamFault(info, status_of(info))


def broken(native: str) -> StreamFault:
    """A finish reason that says the host gave up: the answer is cut, whatever the status said."""
    status = 503 if native == "insufficient_system_resource" else 502
    return StreamFault(ErrorInfo(message=f"The upstream ended with `{native}`.", code=native), status)


def decode_response(body: bytes) -> Response:
    chunk = _read_whole(body)
    return Response(
        id=str(chunk.id or ""),
        model=chunk.model or "",
        created=created_of(chunk.created),
        choices=[_choice(choice, chunk) for choice in chunk.choices or ()],
        usage=chunk_usage(chunk),
        service_tier=chunk.service_tier,
        system_fingerprint=chunk.system_fingerprint,
    )


_read_plain: Final = READ_PLAIN_ANSWER.decode


def glance(body: bytes) -> Glance:
    """Nearly every answer is plain; the others are read with everything that hosts are known to do differently."""
    try:
        plain = _read_plain(body)
    except BROKEN_JSON:
        return _glance_closely(body)
    choices, counts = plain.choices, plain.usage
    prompt, completion = counts.prompt_tokens, counts.completion_tokens
    if not choices or counts.total_tokens != prompt + completion:
        return _glance_closely(body)
    usage = Usage(input_tokens=prompt, output_tokens=completion)
    into, out = counts.prompt_tokens_details, counts.completion_tokens_details
    if into is not None:
        usage.cache_read_tokens, usage.input_audio_tokens = into.cached_tokens, into.audio_tokens
    if out is not None:
        usage.reasoning_tokens, usage.output_audio_tokens = out.reasoning_tokens, out.audio_tokens
    return Glance(
        id=plain.id, model=plain.model, finish_reason=choices[0].finish_reason, usage=usage, usual_tier=True
    )


def _glance_closely(body: bytes) -> Glance:
    chunk = _read_whole(body)
    seen = Glance(id=str(chunk.id) if chunk.id else None, model=chunk.model, usage=chunk_usage(chunk))
    reasons = [choice.finish_reason for choice in chunk.choices or ()]
    seen.finish_reason = reasons[0] if reasons and all(reasons) else None
    seen.output_chars = sum(_chars(choice.message) for choice in chunk.choices or () if choice.message)
    return seen


def _read_whole(body: bytes) -> Chunk:
    chunk = read_chunk(body)
    fault = fault_in(chunk, body)
    if fault:
        raise fault
    if not chunk.choices:
        raise Garbled("the answer has no choices")
    for choice in chunk.choices:
        if choice.finish_reason in BROKEN_REASONS:
            raise broken(choice.finish_reason)
    return chunk


def _chars(message: WireMessage) -> int:
    called = sum(len(arguments_of(c.function.arguments)) for c in message.tool_calls or () if c.function)
    thought = message.reasoning_content or (message.reasoning if isinstance(message.reasoning, str) else "")
    return len(text_of(message.content)) + called + len(thought) + len(message.refusal or "")


def _choice(choice: WireChoice, chunk: Chunk) -> Choice:
    message = choice.message
    if message is None or choice.finish_reason is None:
        raise Garbled("a choice has no message or no finish reason")
    parts: list[OutputPart] = list(_thoughts(message))
    structured = ""
    if text := text_of(message.content):
        parts.append(Text(text))
    if message.refusal:
        parts.append(Refusal(message.refusal))
    calls = _calls(message, chunk)
    for call in calls:
        if call.name == STRUCTURED:
            structured = call.arguments
        else:
            parts.append(call)
    if structured:
        parts = [part for part in parts if not isinstance(part, Text)] + [Text(structured)]
    called = any(isinstance(part, ToolCall) for part in parts)
    reason = finish_of(choice.finish_reason, called)
    if structured and not called and reason == "tool_calls":
        reason = "stop"
    return Choice(parts, reason, choice.finish_reason, logprobs=choice.logprobs)


def _thoughts(message: WireMessage) -> list[Thinking]:
    found = [thinking_of_detail(each) for each in message.reasoning_details or () if isinstance(each, dict)]
    if kept := [each for each in found if each is not None]:
        return kept
    plain = message.reasoning_content or (message.reasoning if isinstance(message.reasoning, str) else "")
    plain = plain or thinking_of(message.content)
    return [Thinking(plain, origin=NAME)] if plain else []


def _calls(message: WireMessage, chunk: Chunk) -> list[ToolCall]:
    done: list[ToolCall] = []
    for place, call in enumerate(message.tool_calls or ()):
        if call.function is None or not call.function.name:
            continue
        signature = thought_signature(call.extra_content)
        done.append(
            ToolCall(
                call.id or made_id("call_", chunk.id, place),
                call.function.name,
                arguments_of(call.function.arguments) or "{}",
                signature=signature,
                origin="gemini" if signature else None,
            )
        )
    old = message.function_call
    if old is not None and old.name and not done:
        done.append(ToolCall(made_id("call_", chunk.id, 0), old.name, arguments_of(old.arguments) or "{}"))
    return done


# downstream -----------------------------------------------------------------------------------------------------


def encode_response(response: Response, request: Request) -> bytes:
    body: dict[str, Any] = {
        "id": response.id,
        "object": "chat.completion",
        "created": response.created,
        "model": response.model,
        "choices": [_wire_choice(each, place, request) for place, each in enumerate(response.choices)],
    }
    if response.usage is not None:
        body["usage"] = wire_usage(response.usage)
    if response.service_tier is not None:
        body["service_tier"] = response.service_tier
    if response.system_fingerprint is not None:
        body["system_fingerprint"] = response.system_fingerprint
    return msgspec.json.encode(body)


def _wire_choice(choice: Choice, index: int, request: Request) -> dict[str, Any]:
    message = _wire_message(choice.parts, legacy=request.legacy_functions)
    reason: str = choice.finish_reason
    if "function_call" in message and reason == "tool_calls":
        reason = "function_call"
    return {"index": index, "message": message, "logprobs": choice.logprobs, "finish_reason": reason}


def _wire_message(parts: list[OutputPart], *, legacy: bool) -> dict[str, Any]:
    texts = [part for part in parts if isinstance(part, Text)]
    refusals = [part.text for part in parts if isinstance(part, Refusal)]
    calls = [part for part in parts if isinstance(part, ToolCall)]
    message: dict[str, Any] = {
        "role": "assistant",
        "content": "".join(part.text for part in texts) if texts or not (calls or refusals) else None,
        "refusal": "".join(refusals) or None,
    }
    if calls and legacy:
        message["function_call"] = {"name": calls[0].name, "arguments": calls[0].arguments}
    elif calls:
        message["tool_calls"] = [wire_call(call) for call in calls]
    if annotations := _annotations(texts):
        message["annotations"] = annotations
    if images := [image for part in parts if isinstance(part, Opaque) for image in images_of(part.value)]:
        message["images"] = images
    thoughts = [part for part in parts if isinstance(part, Thinking)]
    if thought := "".join(part.text for part in thoughts):
        message["reasoning_content"] = thought
    if any(part.signature or part.redacted for part in thoughts):
        message["reasoning_details"] = [reasoning_detail(part, place) for place, part in enumerate(thoughts)]
    return message


def images_of(value: Any) -> list[dict[str, Any]]:
    """A picture that Gemini made, as OpenRouter gives it to Chat callers (openrouter.ai/docs, "Image generation"). The drafts
    that Gemini 3 makes while it thinks are not the answer."""
    part = object_of(value)
    blob = object_of(part.get("inlineData"))
    kind = blob.get("mimeType")
    if part.get("thought") or not isinstance(kind, str) or not kind.startswith("image/"):
        return []
    return [{"type": "image_url", "image_url": {"url": f"data:{kind};base64,{blob.get('data')}"}}]


def wire_call(call: ToolCall) -> dict[str, Any]:
    wire: dict[str, Any] = {
        "id": call.id,
        "type": "function",
        "function": {"name": call.name, "arguments": call.arguments},
    }
    if call.signature:
        wire["extra_content"] = {"google": {"thought_signature": call.signature}}
    return wire


def _annotations(texts: list[Text]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    start = 0
    for part in texts:
        end = start + len(part.text)
        found += [annotation(each, start, end) for each in part.citations or () if is_web(each)]
        start = end
    return found


def is_web(citation: Any) -> bool:
    return isinstance(citation, dict) and isinstance(citation.get("url"), str)


def annotation(citation: dict[str, Any], start: int, end: int) -> dict[str, Any]:
    """A web citation of another vendor as this API's `url_citation` on the text it belongs to."""
    place = {
        "url": citation["url"],
        "title": str(citation.get("title") or ""),
        "start_index": start,
        "end_index": end,
    }
    return {"type": "url_citation", "url_citation": place}


def error_object(fault: Fault, request_id: str) -> dict[str, Any]:
    if fault.status >= 500:
        kind = "server_error"
    else:
        kind = _TYPE_OF_STATUS.get(fault.status, "invalid_request_error")
    error: dict[str, Any] = {
        "message": fault.message,
        "type": kind,
        "param": fault.param,
        "code": fault.code,
        "request_id": request_id,
    }
    if fault.details:
        error["details"] = fault.details
    return error


def encode_error(fault: Fault, request_id: str) -> bytes:
    return msgspec.json.encode({"error": error_object(fault, request_id)})
