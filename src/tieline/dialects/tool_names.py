"""Names of tools, of which one vendor takes longer ones or other letters than the next: exchanged on the way there and back.

Claude Code's `mcp__server__tool` may have 128 characters, Gemini's dots and colons; OpenAI and Converse take 64 of letters,
digits, `_` and `-`.
"""

from __future__ import annotations

import hashlib
import re

from msgspec.structs import replace

from tieline.dialects.base import StreamEncoder
from tieline.types.errors import Fault
from tieline.types.events import BlockStart, Event
from tieline.types.request import Message, Part, Request, Tool, ToolCall, ToolResult
from tieline.types.response import Choice, OutputPart, Response

OPENAI = re.compile(r"[a-zA-Z0-9_-]{1,64}")
ANTHROPIC = re.compile(r"[a-zA-Z0-9_-]{1,128}")
GEMINI = re.compile(r"[a-zA-Z_][a-zA-Z0-9_.:-]{0,63}")
_EVERYWHERE = re.compile(r"[a-zA-Z_][a-zA-Z0-9_-]{0,63}")
_ELSEWHERE = re.compile(r"[^a-zA-Z0-9_-]")


def made_name(name: str) -> str:
    """One that every vendor takes, always the same for a name and another for another."""
    digest = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()[:8]
    letters = _ELSEWHERE.sub("_", name)[:54]
    return f"{'' if letters[:1].isalpha() else '_'}{letters}_{digest}"


def fitting_names(request: Request, taken: re.Pattern[str]) -> Request:
    """The request with names that fit ``taken``, wherever they stand; itself where all do."""

    def fits(name: str | None) -> bool:
        return not name or taken.fullmatch(name) is not None

    def exchanged(part: Part) -> Part:
        if isinstance(part, ToolCall | ToolResult) and not fits(part.name):
            return replace(part, name=made_name(part.name or ""))
        return part

    names = [tool.name for tool in request.tools if isinstance(tool, Tool)]
    names += [
        part.name or ""
        for message in request.messages
        for part in message.parts
        if isinstance(part, ToolCall | ToolResult)
    ]
    if all(map(fits, names)):
        return request
    choice = request.tool_choice
    if choice is not None and choice.name and not fits(choice.name):
        choice = replace(choice, name=made_name(choice.name))
    return replace(
        request,
        tools=[
            replace(tool, name=made_name(tool.name))
            if isinstance(tool, Tool) and not fits(tool.name)
            else tool
            for tool in request.tools
        ],
        tool_choice=choice,
        messages=[
            Message(message.role, [exchanged(part) for part in message.parts], message.name)
            for message in request.messages
        ],
    )


def given_names(request: Request) -> dict[str, str]:
    """What the caller calls the tools that some vendor knows by another name."""
    names = (tool.name for tool in request.tools if isinstance(tool, Tool))
    return {made_name(name): name for name in names if not _EVERYWHERE.fullmatch(name)}


def with_given_names(response: Response, names: dict[str, str]) -> Response:
    return replace(response, choices=[_with_given_names(choice, names) for choice in response.choices])


def _with_given_names(choice: Choice, names: dict[str, str]) -> Choice:
    def named(part: OutputPart) -> OutputPart:
        if isinstance(part, ToolCall) and part.name in names:
            return replace(part, name=names[part.name])
        return part

    return replace(choice, parts=[named(part) for part in choice.parts])


class GivenNames:
    """A StreamEncoder that is told the caller's names."""

    __slots__ = ("_encoder", "_names")

    def __init__(self, encoder: StreamEncoder, names: dict[str, str]) -> None:
        self._encoder = encoder
        self._names = names

    def encode(self, event: Event) -> bytes:
        if isinstance(event, BlockStart) and event.kind == "tool_call" and event.name in self._names:
            event = replace(event, name=self._names[event.name])
        return self._encoder.encode(event)

    def finish(self) -> bytes:
        return self._encoder.finish()

    def error(self, fault: Fault, request_id: str) -> bytes:
        return self._encoder.error(fault, request_id)

    def ping(self) -> bytes:
        return self._encoder.ping()
