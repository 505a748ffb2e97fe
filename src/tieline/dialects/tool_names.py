"""Names of tools, of which one vendor takes longer ones or other letters than the next: exchanged on the way there and back.

Claude Code's `mcp__server__tool` may have 128 characters, Gemini's dots and colons; OpenAI and Converse take 64 of letters,
digits, `_` and `-`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from msgspec.structs import replace

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


class GivenNames:
    """The caller's names are given back (an ``AnswerFilter``)."""

    __slots__ = ("_names",)

    def __init__(self, names: dict[str, str]) -> None:
        self._names = names

    def whole(self, response: Response) -> Response:
        return replace(response, choices=[self._named(choice) for choice in response.choices])

    def _named(self, choice: Choice) -> Choice:
        def named(part: OutputPart) -> OutputPart:
            if isinstance(part, ToolCall) and part.name in self._names:
                return replace(part, name=self._names[part.name])
            return part

        return replace(choice, parts=[named(part) for part in choice.parts])

    def streamed(self, event: Event) -> Sequence[Event]:
        if isinstance(event, BlockStart) and event.kind == "tool_call" and event.name in self._names:
            event = replace(event, name=self._names[event.name])
        return (event,)
