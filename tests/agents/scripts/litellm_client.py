"""LiteLLM's SDK: `api_base`, with the provider prefix that chooses the API."""

import asyncio

import litellm
from asked import HARBOUR, KEY, MODELS, PROMPT, URL, WEATHER, Harbour, errors, tell

TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def asked(text: str) -> list[dict]:
    return [{"role": "user", "content": text}]


async def astreamed(common: dict) -> str:
    pieces = await litellm.acompletion(messages=asked(PROMPT), stream=True, **common)
    return "".join([chunk.choices[0].delta.content or "" async for chunk in pieces])


def loop(called, common: dict) -> str:
    results = [
        {"role": "tool", "tool_call_id": call.id, "content": "sun in Lisbon"} for call in called.tool_calls
    ]
    # As OpenAI documents a turn; LiteLLM's own message object carries fields that OpenAI's API does not know.
    turn = {
        "role": "assistant",
        "content": called.content,
        "tool_calls": [call.model_dump() for call in called.tool_calls],
    }
    answer = litellm.completion(messages=[*asked(WEATHER), turn, *results], tools=[TOOL], **common)
    return answer.choices[0].message.content


def names(message) -> list[str]:
    return [call.function.name for call in message.tool_calls]


def ask(model: str, base: str) -> dict:
    common = {"model": model, "api_base": base, "api_key": KEY, "max_retries": 0}
    called = litellm.completion(messages=asked(WEATHER), tools=[TOOL], **common).choices[0].message
    pieces = litellm.completion(messages=asked(PROMPT), stream=True, **common)
    streamed = litellm.completion(messages=asked(WEATHER), tools=[TOOL], stream=True, **common)
    made = litellm.completion(messages=asked(HARBOUR), response_format=Harbour, **common).choices[0].message
    answer = litellm.completion(messages=asked(PROMPT), **common)
    return {
        "text": answer.choices[0].message.content,
        "usage": answer.usage.completion_tokens,
        "stream": "".join(chunk.choices[0].delta.content or "" for chunk in pieces),
        "async": asyncio.run(astreamed(common)),
        "tool": names(called),
        "streamed_tool": names(litellm.stream_chunk_builder(list(streamed)).choices[0].message),
        "loop": loop(called, common),
        "structured": Harbour.model_validate_json(made.content).model_dump(),
    }


def complete(model: str, key: str, prefix: str, base: str, **more):
    return litellm.completion(
        model=f"{prefix}/{model}", api_base=base, api_key=key, messages=asked(PROMPT), max_retries=0, **more
    )


vectors = litellm.embedding(
    model="openai/chat/sim-echo",
    input=["a bell"],
    api_base=f"{URL}/v1",
    api_key=KEY,
    encoding_format="float",
)
found = {"embedding": len(vectors.data[0]["embedding"])}
for model in MODELS:
    answer = litellm.responses(model=f"openai/{model}", input=PROMPT, api_base=f"{URL}/v1", api_key=KEY)
    found[model] = {
        "openai": ask(f"openai/{model}", f"{URL}/v1"),
        "anthropic": ask(f"anthropic/{model}", URL),
        "responses": {"text": answer.output[-1].content[0].text},
    }
found["errors"] = {
    prefix: errors(
        lambda *one, to=to: complete(*one, *to), lambda *one, to=to: list(complete(*one, *to, stream=True))
    )
    for prefix, *to in (("openai", "openai", f"{URL}/v1"), ("anthropic", "anthropic", URL))
}
tell(found)
