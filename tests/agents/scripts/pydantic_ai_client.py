"""pydantic-ai: a provider with `base_url`, for OpenAI's APIs and Anthropic's."""

import asyncio
import json
import os

from anthropic import AsyncAnthropic
from pydantic import BaseModel
from pydantic_ai import Agent
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.openai import OpenAIProvider

URL, MODELS = os.environ["TIELINE_URL"], os.environ["TIELINE_MODELS"].split()
PROMPT = "Why do ships carry bells?"


class Harbour(BaseModel):
    name: str
    depth_m: int


def get_weather(city: str) -> str:
    """Weather of a city."""
    return f"sun in {city}"


async def ask(model) -> dict:
    agent = Agent(model, retries=0)
    async with agent.run_stream(PROMPT) as streamed:
        pieces = [piece async for piece in streamed.stream_text(delta=True)]
    looped = await Agent(model, tools=[get_weather], retries=0).run("Use get_weather for Lisbon.")
    calls = [
        part.tool_name
        for message in looped.all_messages()
        for part in message.parts
        if part.part_kind == "tool-call"
    ]
    structured = await Agent(model, output_type=Harbour, retries=0).run("Describe the harbour.")
    return {
        "text": (await agent.run(PROMPT)).output,
        "stream": "".join(pieces),
        "tool": calls,
        "loop": looped.output,
        "structured": structured.output.model_dump(),
    }


async def main() -> None:
    openai = OpenAIProvider(base_url=f"{URL}/v1", api_key="caller")
    anthropic = AnthropicProvider(anthropic_client=AsyncAnthropic(base_url=URL, api_key="caller"))
    found = {}
    for model in MODELS:
        found[model] = {
            "chat": await ask(OpenAIChatModel(model, provider=openai)),
            "responses": await ask(OpenAIResponsesModel(model, provider=openai)),
            "anthropic": await ask(AnthropicModel(model, provider=anthropic)),
        }
    print(json.dumps(found))


asyncio.run(main())
