"""Turns of a conversation that was in part held elsewhere, before they pass to Gemini as the caller sent them."""

from __future__ import annotations

from typing import Any

from tieline.dialects.fields import Json
from tieline.dialects.gemini.request_in import NAME
from tieline.dialects.gemini.request_out import BUDGETED, UNSIGNED
from tieline.dialects.signatures import MARK_BASE64, unseal_base64

_CALLS = (b'"functionCall"', b'"function_call"')
_MARK = f'"{MARK_BASE64}'.encode()


def may_be_foreign(contents: bytes, model: str) -> bool:
    """Whether a look at the parts is worth it: most bodies have neither mark nor call."""
    if _MARK in contents:
        return True
    return any(call in contents for call in _CALLS) and not BUDGETED.search(model)


def own_only(contents: Any, model: str) -> Any:
    """Without what other vendors signed; their calls say that nobody signed them (WIRE_FACTS 21)."""
    if not isinstance(contents, list):
        return contents
    turns = [_turn(turn, model) for turn in contents]
    return [turn for turn in turns if turn is not None]


def _turn(turn: Any, model: str) -> Any:
    parts = turn.get("parts") if isinstance(turn, dict) else None
    if not isinstance(parts, list) or turn.get("role") != "model":
        return turn
    kept: list[Any] = []
    first = True
    for part in parts:
        made = _part(part, model, first=first) if isinstance(part, dict) else part
        first = first and not (isinstance(part, dict) and _is_call(part))
        if made is not None:
            kept.append(made)
    return {**turn, "parts": kept} if kept or not parts else None


def _is_call(part: Json) -> bool:
    return "functionCall" in part or "function_call" in part


def _part(part: Json, model: str, *, first: bool) -> Json | None:
    signature = part.get("thoughtSignature") or part.get("thought_signature")
    foreign = isinstance(signature, str) and unseal_base64(signature, NAME)[1] != NAME
    if signature and not foreign:
        return part
    bare = {
        name: value for name, value in part.items() if name not in ("thoughtSignature", "thought_signature")
    }
    if _is_call(part):
        return {**bare, "thoughtSignature": UNSIGNED} if first and not BUDGETED.search(model) else bare
    if foreign and (part.get("thought") or not part.get("text", "x")):
        return None
    return bare
