"""pydantic-ai: a provider with `base_url`, for OpenAI's APIs, Anthropic's and Gemini's."""

import asyncio

from anthropic import AsyncAnthropic
from asked import HARBOUR, KEY, MODELS, PROMPT, URL, WEATHER, Harbour, errors, get_weather, tell
from openai import AsyncOpenAI
from pydantic_ai import Agent
from pydantic_ai.models.anthropic import AnthropicModel
from pydantic_ai.models.google import GoogleModel
from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
from pydantic_ai.providers.anthropic import AnthropicProvider
from pydantic_ai.providers.google import GoogleProvider
from pydantic_ai.providers.openai import OpenAIProvider


def chat(model: str, key: str = KEY) -> OpenAIChatModel:
    return OpenAIChatModel(model, provider=OpenAIProvider(openai_client=gpt(key)))


def responses(model: str, key: str = KEY) -> OpenAIResponsesModel:
    return OpenAIResponsesModel(model, provider=OpenAIProvider(openai_client=gpt(key)))


def claude(model: str, key: str = KEY) -> AnthropicModel:
    client = AsyncAnthropic(base_url=URL, api_key=key, max_retries=0)
    return AnthropicModel(model, provider=AnthropicProvider(anthropic_client=client))


def gemini(model: str, key: str = KEY) -> GoogleModel:
    return GoogleModel(model, provider=GoogleProvider(api_key=key, base_url=URL))


def gpt(key: str) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=f"{URL}/v1", api_key=key, max_retries=0)


KINDS = {"chat": chat, "responses": responses, "anthropic": claude, "gemini": gemini}


async def streamed(model) -> str:
    async with Agent(model, retries=0).run_stream(PROMPT) as run:
        return "".join([piece async for piece in run.stream_text(delta=True)])


async def streamed_harbour(model) -> dict:
    async with Agent(model, output_type=Harbour, retries=0).run_stream(HARBOUR) as run:
        return (await run.get_output()).model_dump()


async def ask(model) -> dict:
    answer = await Agent(model, retries=0).run(PROMPT)
    looped = await Agent(model, tools=[get_weather], retries=0).run(WEATHER)
    parts = [part for message in looped.all_messages() for part in message.parts]
    structured = await Agent(model, output_type=Harbour, retries=0).run(HARBOUR)
    return {
        "text": answer.output,
        "stream": await streamed(model),
        "tool": [part.tool_name for part in parts if part.part_kind == "tool-call"],
        "loop": looped.output,
        "structured": structured.output.model_dump(),
        "streamed_structured": await streamed_harbour(model),
        "usage": answer.usage().output_tokens if callable(answer.usage) else answer.usage.output_tokens,
    }


async def main() -> dict:
    return {model: {kind: await ask(made(model)) for kind, made in KINDS.items()} for model in MODELS}


async def run(made, model: str, key: str) -> None:
    await Agent(made(model, key), retries=0).run(PROMPT)


async def run_stream(made, model: str, key: str) -> None:
    await streamed(made(model, key))


failed = {
    kind: errors(lambda *one, made=made: run(made, *one), lambda *one, made=made: run_stream(made, *one))
    for kind, made in KINDS.items()
}
tell({**asyncio.run(main()), "errors": failed})
