"""The official SDKs as callers: each asks in its own dialect and tells what it understood."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import openai
from google import genai
from google.genai import types
from msgspec import Struct, field

PROMPT = "Why do ships carry bells?"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
}
FEATURES = ("text", "stream", "tools", "tools-stream")


class Said(Struct):
    text: str = ""
    calls: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    finish: str = ""
    input_tokens: int = 0
    output_tokens: int = 0


async def ask_chat(url: str, model: str, feature: str) -> Said:
    extra: dict[str, Any] = {}
    if feature.startswith("tools"):
        function = {"name": "get_weather", "description": "Weather of a city", "parameters": SCHEMA}
        extra = {"tools": [{"type": "function", "function": function}], "tool_choice": "required"}
    messages: Any = [{"role": "user", "content": PROMPT}]
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0) as client:
        if not feature.endswith("stream"):
            whole = await client.chat.completions.create(model=model, messages=messages, **extra)
        else:
            async with client.chat.completions.stream(
                model=model, messages=messages, stream_options={"include_usage": True}, **extra
            ) as stream:
                async for _ in stream:
                    pass
                whole = await stream.get_final_completion()  # type: ignore[assignment]
    choice = whole.choices[0]
    calls = [(c.function.name, json.loads(c.function.arguments)) for c in choice.message.tool_calls or []]  # type: ignore[union-attr]
    assert whole.usage is not None
    return Said(
        choice.message.content or "",
        calls,
        choice.finish_reason,
        whole.usage.prompt_tokens,
        whole.usage.completion_tokens,
    )


async def ask_responses(url: str, model: str, feature: str) -> Said:
    extra: dict[str, Any] = {"store": False}
    if feature.startswith("tools"):
        tool = {"type": "function", "name": "get_weather", "parameters": SCHEMA, "strict": False}
        extra |= {"tools": [tool], "tool_choice": "required"}
    async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="k", max_retries=0) as client:
        if not feature.endswith("stream"):
            whole: Any = await client.responses.create(model=model, input=PROMPT, **extra)
        else:
            async with client.responses.stream(model=model, input=PROMPT, **extra) as stream:
                async for _ in stream:
                    pass
                whole = await stream.get_final_response()
    calls = [(item.name, json.loads(item.arguments)) for item in whole.output if item.type == "function_call"]
    assert whole.status == "completed"
    return Said(
        whole.output_text,
        calls,
        "tool_calls" if calls else "stop",
        whole.usage.input_tokens,
        whole.usage.output_tokens,
    )


async def ask_anthropic(url: str, model: str, feature: str) -> Said:
    extra: dict[str, Any] = {}
    if feature.startswith("tools"):
        extra = {
            "tools": [{"name": "get_weather", "input_schema": SCHEMA}],
            "tool_choice": {"type": "any"},
        }
    messages: Any = [{"role": "user", "content": PROMPT}]
    async with anthropic.AsyncAnthropic(base_url=url, api_key="k", max_retries=0) as client:
        if not feature.endswith("stream"):
            whole = await client.messages.create(model=model, messages=messages, max_tokens=400, **extra)
        else:
            async with client.messages.stream(
                model=model, messages=messages, max_tokens=400, **extra
            ) as stream:
                async for _ in stream:
                    pass
                whole = await stream.get_final_message()  # type: ignore[assignment]
    text = "".join(block.text for block in whole.content if block.type == "text")
    calls = [(block.name, dict(block.input)) for block in whole.content if block.type == "tool_use"]
    finish = {"end_turn": "stop", "tool_use": "tool_calls"}[str(whole.stop_reason)]
    return Said(text, calls, finish, whole.usage.input_tokens, whole.usage.output_tokens)


async def ask_gemini(url: str, model: str, feature: str) -> Said:
    config: dict[str, Any] = {}
    if feature.startswith("tools"):
        function = types.FunctionDeclaration(name="get_weather", parameters_json_schema=SCHEMA)
        calling = types.FunctionCallingConfig(mode=types.FunctionCallingConfigMode.ANY)
        config = {
            "tools": [types.Tool(function_declarations=[function])],
            "tool_config": types.ToolConfig(function_calling_config=calling),
            "automatic_function_calling": types.AutomaticFunctionCallingConfig(disable=True),
        }
    client = genai.Client(api_key="k", http_options=types.HttpOptions(base_url=url))
    try:
        settings = types.GenerateContentConfig(**config)
        if not feature.endswith("stream"):
            chunks = [await client.aio.models.generate_content(model=model, contents=PROMPT, config=settings)]
        else:
            stream = await client.aio.models.generate_content_stream(
                model=model, contents=PROMPT, config=settings
            )
            chunks = [chunk async for chunk in stream]
    finally:
        await client.aio.aclose()
        client.close()
    return _of_gemini(chunks)


def _of_gemini(chunks: list[types.GenerateContentResponse]) -> Said:
    said = Said()
    for chunk in chunks:
        for candidate in chunk.candidates or []:
            for part in (candidate.content.parts if candidate.content else None) or []:
                said.text += part.text or ""
                if part.function_call:
                    said.calls.append((part.function_call.name or "", part.function_call.args or {}))
            if candidate.finish_reason:
                said.finish = candidate.finish_reason.value.lower()
        if chunk.usage_metadata:
            said.input_tokens = chunk.usage_metadata.prompt_token_count or 0
            said.output_tokens = chunk.usage_metadata.candidates_token_count or 0
    if said.calls and said.finish == "stop":
        said.finish = "tool_calls"
    return said


CALLERS = {
    "openai_chat": ask_chat,
    "openai_responses": ask_responses,
    "anthropic_messages": ask_anthropic,
    "gemini": ask_gemini,
}
