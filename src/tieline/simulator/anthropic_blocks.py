"""What Anthropic accepts inside messages: blocks, and the order of tool calls and results."""

from __future__ import annotations

import hmac
import re
from typing import Any

from tieline.simulator.answer import Ask, Refusal, sign, unsealed
from tieline.simulator.exchange import Exchange, words
from tieline.simulator.shapes import Shape, misfit

_TOOL_ID = re.compile(r"[a-zA-Z0-9_-]+")


_IMAGES = ("image/jpeg", "image/png", "image/gif", "image/webp")


_SERVER_BLOCKS = words(
    "server_tool_use web_search_tool_result web_fetch_tool_result code_execution_tool_result mcp_tool_use mcp_tool_result "
    "bash_code_execution_tool_result text_editor_code_execution_tool_result search_result container_upload compaction"
)


_BLOCKS = {
    "text": words("type text cache_control citations"),
    "image": words("type source cache_control"),
    "document": words("type source cache_control citations context title"),
    "thinking": words("type thinking signature"),
    "redacted_thinking": words("type data"),
    "tool_use": words("type id name input cache_control caller"),
    "tool_result": words("type tool_use_id content is_error cache_control"),
}


def invalid(message: str) -> Refusal:
    return Refusal("invalid", message)


_WANTED = {"array": "list", "object": "dictionary"}


def check_types(body: dict[str, Any], shape: Shape) -> None:
    wrong = misfit(body, shape)
    if wrong is not None:
        wanted = wrong.wanted[-1]
        raise invalid(f"{wrong.dotted}: Input should be a valid {_WANTED.get(wanted, wanted)}")


def check_text(ask: Ask, block: dict[str, Any], where: str, owner: str = "messages") -> None:
    text = block.get("text")
    if not isinstance(text, str):
        raise invalid(
            f"{where}.text.text: " + ("Field required" if text is None else "Input should be a valid string")
        )
    if not text:
        raise invalid(f"{owner}: text content blocks must be non-empty")
    if not text.strip():
        raise invalid(f"{owner}: text content blocks must contain non-whitespace text")
    ask.text_chars.append(text)


def check_block(ask: Ask, block: Any, where: str, role: str, exchange: Exchange) -> None:
    if not isinstance(block, dict):
        raise invalid(f"{where}: Input should be a valid dictionary or object to extract fields from")
    kind = block.get("type")
    if kind is None:
        raise invalid(f"{where}.type: Field required")
    if kind in _SERVER_BLOCKS:
        return
    if kind not in _BLOCKS:
        known = ", ".join(f"'{name}'" for name in _BLOCKS)
        raise invalid(
            f"{where}: Input tag '{kind}' found using 'type' does not match any of the expected tags: {known}"
        )
    for name in block:
        if name not in _BLOCKS[kind]:
            raise invalid(f"{where}.{kind}.{name}: Extra inputs are not permitted")
    if kind in ("thinking", "redacted_thinking", "tool_use") and role == "user":
        raise invalid(f"{where}: `{kind}` blocks can only be in `assistant` messages")
    if kind in ("tool_result", "image", "document") and role == "assistant":
        raise invalid(f"{where}: `{kind}` blocks can only be in `user` messages")
    _check_kind(ask, kind, block, where, exchange)


def _check_kind(ask: Ask, kind: str, block: dict[str, Any], where: str, exchange: Exchange) -> None:
    if kind == "text":
        check_text(ask, block, where)
    elif kind in ("image", "document"):
        _media(ask, kind, block, where)
    elif kind == "tool_use":
        _tool_use(ask, block, where)
    elif kind == "tool_result":
        _tool_result(ask, block, where)
    elif kind == "thinking":
        signature = sign(exchange.seed, "anthropic", str(block.get("thinking", "")))
        if "signature" not in block:
            raise invalid(f"{where}.thinking.signature: Field required")
        if not hmac.compare_digest(str(block["signature"]).encode(), signature.encode()):
            raise invalid(f"{where}: Invalid `signature` in `thinking` block")
    elif not unsealed(exchange.seed, "redacted", block.get("data")):
        raise invalid(f"{where}: Invalid `data` in `redacted_thinking` block")


def _media(ask: Ask, kind: str, block: dict[str, Any], where: str) -> None:
    source = block.get("source")
    if not isinstance(source, dict):
        raise invalid(f"{where}.{kind}.source: Field required")
    form = source.get("type")
    if form == "base64":
        allowed = _IMAGES if kind == "image" else ("application/pdf",)
        if source.get("media_type") not in allowed:
            words = " or ".join(f"'{name}'" for name in allowed)
            raise invalid(f"{where}.{kind}.source.base64.media_type: Input should be {words}")
        if not isinstance(source.get("data"), str) or not source["data"]:
            raise invalid(f"{where}.{kind}.source.base64.data: Field required")
    elif form == "url":
        if not str(source.get("url", "")).startswith(("https://", "http://")):
            raise invalid(f"{where}.{kind}.source.url.url: Only HTTPS URLs are supported")
    elif form not in (("file",) if kind == "image" else ("text", "content", "file")):
        raise invalid(
            f"{where}.{kind}.source: Input tag '{form}' found using 'type' does not match any of the expected tags"
        )
    if kind == "image":
        ask.images += 1
    else:
        ask.documents += 1


def _tool_use(ask: Ask, block: dict[str, Any], where: str) -> None:
    for name in ("id", "name", "input"):
        if name not in block:
            raise invalid(f"{where}.tool_use.{name}: Field required")
    if not isinstance(block["id"], str) or not _TOOL_ID.fullmatch(block["id"]):
        raise invalid(f"{where}.tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'")
    if not isinstance(block["input"], dict):
        raise invalid(f"{where}.tool_use.input: Input should be a valid dictionary")
    ask.text_chars.append(str(block["input"]))


def _tool_result(ask: Ask, block: dict[str, Any], where: str) -> None:
    if not isinstance(block.get("tool_use_id"), str):
        raise invalid(f"{where}.tool_result.tool_use_id: Field required")
    content = block.get("content")
    if isinstance(content, str):
        ask.text_chars.append(content)
    elif isinstance(content, list):
        for number, inner in enumerate(content):
            at = f"{where}.tool_result.content.{number}"
            if not isinstance(inner, dict) or inner.get("type") not in (
                "text",
                "image",
                "document",
                "search_result",
            ):
                raise invalid(
                    f"{at}: Input tag does not match any of the expected tags: 'text', 'image', 'search_result', 'document'"
                )
            if inner["type"] == "text":
                check_text(ask, inner, at)
            elif inner["type"] in ("image", "document"):
                _media(ask, inner["type"], inner, at)
    elif content is not None:
        raise invalid(f"{where}.tool_result.content: Input should be a valid list")


def check_tool_order(messages: list[tuple[str, list[dict[str, Any]]]]) -> None:
    seen: set[str] = set()
    calls: list[str] = []
    for index, (_, blocks) in enumerate(messages):
        _results(calls, blocks, index)
        calls = [block["id"] for block in blocks if block["type"] == "tool_use"]
        if len(set(calls)) < len(calls) or seen & set(calls):
            raise invalid("messages: `tool_use` ids must be unique")
        seen |= set(calls)
    if calls:
        _missing(calls, len(messages) - 1)


def _results(calls: list[str], blocks: list[dict[str, Any]], index: int) -> None:
    """Checks that ``blocks`` begin with one result for each of ``calls``, and hold no other."""
    answered: list[str] = []
    for number, block in enumerate(blocks):
        if block["type"] != "tool_result":
            continue
        identity = block["tool_use_id"]
        at = f"messages.{index}.content.{number}"
        if identity not in calls:
            raise invalid(
                f"{at}: unexpected `tool_use_id` found in `tool_result` blocks: {identity}. Each `tool_result` block must have a "
                "corresponding `tool_use` block in the previous message."
            )
        if identity in answered:
            raise invalid(
                f"{at}: each tool_use must have a single result. Found multiple `tool_result` blocks with id: {identity}"
            )
        if number and blocks[number - 1]["type"] != "tool_result":
            _missing([identity], index - 1)
        answered.append(identity)
    left = [identity for identity in calls if identity not in answered]
    if left:
        _missing(left, index - 1)


def _missing(identities: list[str], index: int) -> None:
    raise invalid(
        f"messages.{index}: `tool_use` ids were found without `tool_result` blocks immediately after: {', '.join(identities)}. "
        "Each `tool_use` block must have a corresponding `tool_result` block in the next message."
    )
