"""The order of turns, and tool calls paired with their results (WIRE_FACTS 13, 15)."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

from msgspec.structs import replace

from tieline.types.errors import InvalidRequest
from tieline.types.request import Message, Part, Text, ToolCall, ToolResult

_LENGTHS = (9, 24, 40)


def made_id(prefix: str, *of: object) -> str:
    """A stable id for a call that the vendor gave none."""
    digest = hashlib.blake2s("\0".join(map(str, of)).encode("utf-8", "replace"), digest_size=12).hexdigest()
    return prefix + digest


def fitting_id(tool_id: str, pattern: str) -> str:
    """The id itself if the host takes it, else one made from it, always the same."""
    if not pattern or re.fullmatch(pattern, tool_id):
        return tool_id
    digest = hashlib.sha256(tool_id.encode("utf-8", "replace")).hexdigest()
    for length in _LENGTHS:
        for prefix in ("", "call_", "toolu_"):
            made = prefix + digest[:length]
            if re.fullmatch(pattern, made):
                return made
    raise InvalidRequest(f"No tool call id fits what the host asks for ({pattern}).", param="messages")


def names_said(messages: list[Message]) -> list[Message]:
    """For an API without names of participants: in front of what they say, where that tells several of one role apart."""
    named: dict[str, set[str]] = {}
    for message in messages:
        if message.name:
            named.setdefault(message.role, set()).add(message.name)
    if not any(len(names) > 1 for names in named.values()):
        return messages
    last = messages[-1]
    return [
        _with_name_said(message, message.name)
        if message.name
        and len(named[message.role]) > 1
        and not (message is last and message.role == "assistant")
        else message
        for message in messages
    ]


def _with_name_said(message: Message, name: str) -> Message:
    parts = list(message.parts)
    for place, part in enumerate(parts):
        if isinstance(part, Text):
            parts[place] = replace(part, text=f"{name}: {part.text}")
            return Message(message.role, parts, name)
    return Message(message.role, [Text(f"{name}:"), *parts], name) if parts else message


def paired(messages: list[Message]) -> list[Message]:
    """Every result directly behind its call, ids unique. Raises InvalidRequest for orphans, gaps and doubles."""
    if not any(isinstance(part, ToolCall | ToolResult) for message in messages for part in message.parts):
        return messages
    taken: set[str] = set()
    done: list[Message] = []
    pending: dict[str, ToolCall] = {}
    names: dict[str, str] = {}
    for is_assistant, run in _runs(messages):
        if is_assistant:
            pending = {}
            names = {}
            done += [_with_unique_calls(message, taken, pending, names) for message in run]
        else:
            done.extend(_results_first(run, pending, names))
            pending = {}
    return done


def _runs(messages: list[Message]) -> Iterator[tuple[bool, list[Message]]]:
    """Neighbours of one side; system messages go with the user's side."""
    run: list[Message] = []
    for message in messages:
        if run and (run[0].role == "assistant") != (message.role == "assistant"):
            yield run[0].role == "assistant", run
            run = []
        run.append(message)
    if run:
        yield run[0].role == "assistant", run


def _with_unique_calls(
    message: Message, taken: set[str], pending: dict[str, ToolCall], names: dict[str, str]
) -> Message:
    parts: list[Part] = []
    for part in message.parts:
        if not isinstance(part, ToolCall):
            parts.append(part)
            continue
        if part.id in pending:
            raise InvalidRequest(f"Two tool calls of one turn have the id `{part.id}`.", param="messages")
        # Some vendors count ids anew in every turn (call_0, …): the pair is renamed together, which is harmless.
        unique, count = part.id, 1
        while unique in taken:
            count += 1
            unique = f"{part.id}_{count}"
        taken.add(unique)
        call = part
        if unique != part.id:
            call = ToolCall(unique, part.name, part.arguments, part.signature, part.origin, part.cache)
        pending[part.id] = call
        names[part.id] = part.name
        parts.append(call)
    return Message(message.role, parts, message.name)


def _results_first(
    run: list[Message], pending: dict[str, ToolCall], names: dict[str, str]
) -> Iterator[Message]:
    order = {tool_id: place for place, tool_id in enumerate(pending)}
    found: dict[str, ToolResult] = {}
    rest: list[Message] = []
    for message in run:
        others: list[Part] = []
        for part in message.parts:
            if not isinstance(part, ToolResult):
                others.append(part)
            elif part.id in found:
                raise InvalidRequest(f"The tool call `{part.id}` has two results.", param="messages")
            elif part.id not in pending:
                raise InvalidRequest(
                    f"The tool result for `{part.id}` follows no assistant turn with that tool call.",
                    param="messages",
                    hint="Send the assistant message with the call directly before its results.",
                )
            else:
                found[part.id] = part
        if others or not message.parts:
            rest.append(Message(message.role, others, message.name))
    for tool_id, call in pending.items():
        if tool_id not in found:
            raise InvalidRequest(
                f"The tool call `{tool_id}` ({call.name}) has no result.",
                param="messages",
                hint="Answer every tool call of the assistant's turn before going on.",
            )
    results: list[Part] = [
        ToolResult(pending[r.id].id, r.content, r.is_error, r.name or names[r.id], r.cache)
        for r in sorted(found.values(), key=lambda result: order[result.id])
    ]
    if results:
        yield Message("user", results)
    yield from rest
