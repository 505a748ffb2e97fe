"""LiteLLM's SDK: `api_base`, with the provider prefix that chooses the API."""

import json
import os

import litellm

URL, MODELS = os.environ["TIELINE_URL"], os.environ["TIELINE_MODELS"].split()
PROMPT = [{"role": "user", "content": "Why do ships carry bells?"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def ask(model: str, base: str) -> dict:
    common = {"model": model, "api_base": base, "api_key": "caller", "max_retries": 0}
    asked = [{"role": "user", "content": "Use get_weather for Lisbon."}]
    called = litellm.completion(messages=asked, tools=[TOOL], **common).choices[0].message
    results = [
        {"role": "tool", "tool_call_id": call.id, "content": "sun in Lisbon"} for call in called.tool_calls
    ]
    looped = litellm.completion(messages=[*asked, called.model_dump(), *results], tools=[TOOL], **common)
    pieces = litellm.completion(messages=PROMPT, stream=True, **common)
    return {
        "text": litellm.completion(messages=PROMPT, **common).choices[0].message.content,
        "stream": "".join(chunk.choices[0].delta.content or "" for chunk in pieces),
        "tool": [call.function.name for call in called.tool_calls],
        "loop": looped.choices[0].message.content,
    }


vectors = litellm.embedding(
    model="openai/chat/sim-echo",
    input=["a bell"],
    api_base=f"{URL}/v1",
    api_key="caller",
    encoding_format="float",
)
found = {"embedding": len(vectors.data[0]["embedding"])}
for model in MODELS:
    found[model] = {
        "openai": ask(f"openai/{model}", f"{URL}/v1"),
        "anthropic": ask(f"anthropic/{model}", URL),
    }
print(json.dumps(found))
