"""Asking a target for what it cannot do: refused under the name that the field has for the caller."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

from msgspec.structs import replace

from tieline.dialects import effort
from tieline.dialects.base import Target
from tieline.dialects.unmapped import caller_field
from tieline.types.errors import Unsupported
from tieline.types.request import Audio, Document, Image, Part, Reasoning, Request, Text, ToolResult

THE_WORD = "Answer with one JSON object."
_PERSONAL = re.compile(r"[^@\s]@[^@\s]|^\+?[\d\s().-]{7,}$")


def unsupported(request: Request, field: str, target: Target, why: str = "does not take it") -> Unsupported:
    """``field`` is a field of Request (``parallel``: of its tool choice), or the caller's own name of one."""
    name = caller_field(request, field)
    return Unsupported(
        f"`{name}`: {target.provider} ({target.model}) {why}.",
        param=name,
        hint="Leave the field out, or choose a model that takes it.",
    )


def check_capabilities(request: Request, target: Target) -> None:
    """Raises Unsupported where the catalog or the host's quirks say no."""
    if request.tools and (target.tools is False or not target.quirks.tools):
        raise unsupported(request, "tools", target, "does not take tools")
    wanted = request.response_format
    if wanted is not None and wanted.kind == "json_schema" and target.structured_output is False:
        raise unsupported(request, "response_format", target, "has no structured output")
    reasoning = request.reasoning
    if reasoning is not None and asks_for_thought(request) and target.reasoning is False:
        raise unsupported(request, "reasoning", target, "does not reason")


def refuse_unset(request: Request, target: Target, *fields: str) -> None:
    """Raises Unsupported for the first of ``fields`` that the caller set."""
    for name in fields:
        if getattr(request, name) not in (None, False, [], {}):
            raise unsupported(request, name, target)


def without_idle_thought(request: Request, target: Target) -> Request:
    """Without thinking that was left to the model or switched off, where the model has none: Claude Code and Codex ask
    whatever the model, and such models refuse to be told."""
    if target.reasoning is not False or request.reasoning is None:
        return request
    if asks_for_thought(request) and not left_to_the_model(request):
        return request
    return replace(request, reasoning=None)


def left_to_the_model(request: Request) -> bool:
    """Anthropic's ``adaptive``, or no more than how to show it."""
    asked = request.reasoning
    if asked is None or not asked.enabled:
        return False
    return asked.adaptive or (asked.effort is None and asked.budget_tokens is None)


def asks_for_thought(request: Request) -> bool:
    reasoning = request.reasoning
    return reasoning is not None and reasoning.enabled and reasoning.effort != "none"


def check_media(request: Request, target: Target) -> None:
    """Raises Unsupported for an image, document or sound that the model is known not to take (WIRE_FACTS 19)."""
    if target.vision is not False and target.pdf is not False and target.audio is not False:
        return
    for part in parts_of(request):
        if isinstance(part, Image) and target.vision is False:
            raise unsupported(request, "messages", target, "does not take images")
        if isinstance(part, Document) and part.media_type == "application/pdf" and target.pdf is False:
            raise unsupported(request, "messages", target, "does not take PDFs")
        if isinstance(part, Audio) and target.audio is False:
            raise unsupported(request, "messages", target, "does not take audio")


def parts_of(request: Request) -> Iterator[Part]:
    """Every part, those inside tool results too."""
    for message in request.messages:
        for part in message.parts:
            yield part
            if isinstance(part, ToolResult):
                yield from part.content


def refuse_prefill(request: Request, target: Target, *, unknown_is_able: bool) -> None:
    """Raises Unsupported for a last message of the assistant (WIRE_FACTS 20)."""
    if not request.messages or request.messages[-1].role != "assistant":
        return
    if target.prefill is False or (target.prefill is None and not unknown_is_able):
        raise unsupported(request, "messages", target, "does not continue a prefilled answer")


def effort_of(reasoning: Reasoning) -> str | None:
    """The caller's effort, or what its budget amounts to; None leaves it to the model (WIRE_FACTS 22)."""
    if reasoning.effort is not None or reasoning.budget_tokens is None:
        return reasoning.effort
    return effort.effort_of(reasoning.budget_tokens)


def budget_of(reasoning: Reasoning) -> int | None:
    """The caller's budget, or what its effort amounts to; None leaves it to the model."""
    if reasoning.budget_tokens is not None or reasoning.effort is None:
        return reasoning.budget_tokens
    return effort.budget_of(reasoning.effort)


def needs_the_word(request: Request) -> bool:
    """OpenAI's JSON mode, and those who imitate it, answer 400 where no message says "json"; Gemini's asks for no such word."""
    wanted = request.response_format
    if wanted is None or wanted.kind != "json_object":
        return False
    return not any(isinstance(part, Text) and "json" in part.text.lower() for part in parts_of(request))


def end_user(request: Request, most: int, *, anonymous: bool = False) -> str | None:
    """Who the end user is, in at most ``most`` characters, ``anonymous``: as no address and no telephone number.

    What a vendor would refuse becomes its digest: always the same, and an id is all that it is for. Claude Code's has 130
    characters and more, OpenAI takes 64, Zhipu and OpenRouter 128; Anthropic answers 400 to an email address.
    """
    user = request.user
    if user is None or (len(user) <= most and not (anonymous and _PERSONAL.search(user))):
        return user
    return hashlib.sha256(user.encode("utf-8", "replace")).hexdigest()


def output_limit(request: Request, target: Target) -> int | None:
    """A limit above what the model can give says the same as the model's own."""
    asked, most = request.max_output_tokens, target.max_output_tokens
    return asked if asked is None or most is None else min(asked, most)
