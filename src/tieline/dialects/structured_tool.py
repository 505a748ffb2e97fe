"""Structured output for hosts without it: a forced tool whose arguments become the content (WIRE_FACTS 23).

The tool's name is reserved, so that a decoder knows it without knowing the request.
"""

from __future__ import annotations

from typing import Any

from tieline.types.request import Request, ResponseFormat, Tool, ToolChoice

NAME = "tieline_structured_output"
_ANY_OBJECT: dict[str, Any] = {"type": "object", "additionalProperties": True}


def as_tool(wanted: ResponseFormat) -> Tool:
    what = (
        wanted.description
        or "The whole answer to the user, as arguments. Call it exactly once, as the last step."
    )
    return Tool(name=NAME, parameters=wanted.schema or _ANY_OBJECT, description=what)


def choice(request: Request) -> ToolChoice:
    """Forces the tool, or any tool where the caller's own may still be called first."""
    asked = request.tool_choice
    if request.tools and (asked is None or asked.mode in ("auto", "required")):
        return ToolChoice(mode="required", parallel=False)
    return ToolChoice(mode="tool", name=NAME, parallel=False)
