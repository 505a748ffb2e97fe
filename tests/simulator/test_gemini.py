from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest
from google.genai import errors, types
from google.genai.client import AsyncClient

from tieline.simulator import SimulatorServer, expected_text

from .conftest import SEED

PROMPT = "Tell me about harbours"
TEXT = expected_text(PROMPT, 48, SEED)
WEATHER = {
    "name": "get_weather",
    "parameters": {"type": "OBJECT", "properties": {"city": {"type": "STRING"}}, "required": ["city"]},
}


async def test_answers_whole_and_streamed(gemini: AsyncClient) -> None:
    answer = await gemini.models.generate_content(model="gemini-2.5-flash", contents=PROMPT)
    assert answer.text == TEXT
    assert answer.usage_metadata is not None
    assert answer.usage_metadata.candidates_token_count == 48
    stream = await gemini.models.generate_content_stream(model="sim-think:chunk=3", contents=PROMPT)
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.text or "" for chunk in chunks) == TEXT
    last = chunks[-1]
    assert last.candidates is not None
    assert last.candidates[0].finish_reason == types.FinishReason.STOP
    assert last.usage_metadata is not None
    assert last.usage_metadata.thoughts_token_count == 24


async def test_the_form_of_a_json_array(simulator: SimulatorServer) -> None:
    async with httpx2.AsyncClient() as client:
        answer = await client.post(
            f"{simulator.url}/google/v1beta/models/m:streamGenerateContent?key=k",
            json={"contents": [{"parts": [{"text": PROMPT}]}]},
        )
    parts = [chunk["candidates"][0]["content"]["parts"][0]["text"] for chunk in answer.json()]
    assert "".join(parts) == TEXT


async def test_tools_and_thought_signatures(gemini: AsyncClient) -> None:
    config: Any = {"tools": [{"function_declarations": [WEATHER, WEATHER | {"name": "other"}]}]}
    asked = types.Content(role="user", parts=[types.Part(text="The weather in Porto?")])
    first = await gemini.models.generate_content(
        model="sim-think:base=tools", contents=[asked], config=config
    )
    assert first.candidates is not None
    content = first.candidates[0].content
    assert content is not None
    assert first.function_calls is not None
    assert [call.name for call in first.function_calls] == ["get_weather"]
    results = types.Content(
        role="user",
        parts=[types.Part.from_function_response(name="get_weather", response={"result": "sunny"})],
    )
    final = await gemini.models.generate_content(
        model="sim-think:base=tools", contents=[asked, content, results], config=config
    )
    assert "sunny" in (final.text or "")
    for part in content.parts or []:
        part.thought_signature = None
    with pytest.raises(errors.ClientError, match="missing a thought_signature"):
        await gemini.models.generate_content(
            model="sim-think:base=tools", contents=[asked, content, results], config=config
        )


async def test_json_counting_and_embeddings(gemini: AsyncClient) -> None:
    config: Any = {"response_mime_type": "application/json", "response_schema": WEATHER["parameters"]}
    answer = await gemini.models.generate_content(model="m", contents=PROMPT, config=config)
    assert set(json.loads(answer.text or "")) == {"city"}
    assert (await gemini.models.count_tokens(model="m", contents=PROMPT)).total_tokens
    vectors = await gemini.models.embed_content(model="m", contents=["a", "b"])
    assert len(vectors.embeddings or []) == 2


@pytest.mark.parametrize(
    ("behaviour", "kind", "status", "words"),
    [
        ("fail-429:retry_after=7", errors.ClientError, 429, "RESOURCE_EXHAUSTED"),
        ("fail-quota", errors.ClientError, 429, "credits are depleted"),
        ("fail-500", errors.ServerError, 500, "INTERNAL"),
        ("fail-503", errors.ServerError, 503, "overloaded"),
        ("fail-401", errors.ClientError, 400, "API_KEY_INVALID"),
        ("fail-404", errors.ClientError, 404, "is not found for API version"),
        ("fail-geo", errors.ClientError, 400, "FAILED_PRECONDITION"),
        ("fail-context", errors.ClientError, 400, "exceeds the maximum number of tokens"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_refusals(
    gemini: AsyncClient, behaviour: str, kind: type[errors.APIError], status: int, words: str, stream: bool
) -> None:
    with pytest.raises(kind) as caught:
        if stream:
            async for _ in await gemini.models.generate_content_stream(
                model=f"sim-{behaviour}", contents="x"
            ):
                pass
        else:
            await gemini.models.generate_content(model=f"sim-{behaviour}", contents="x")
    assert caught.value.code == status
    assert words in str(caught.value.details)


async def test_a_blocked_prompt_is_a_200_without_candidates(gemini: AsyncClient) -> None:
    answer = await gemini.models.generate_content(model="sim-fail-filter", contents="x")
    assert answer.candidates is None
    assert answer.prompt_feedback is not None


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"tieline": 1}, 'Unknown name \\"tieline\\": Cannot find field.'),
        ({"contents": []}, "contents is not specified"),
        ({"contents": [{"role": "assistant", "parts": [{"text": "x"}]}]}, "Please use a valid role"),
        ({"contents": [{"parts": [{}]}]}, "required oneof field 'data'"),
        (
            {"contents": [{"parts": [{"functionResponse": {"name": "f", "response": {}}}]}]},
            "immediately after a function call",
        ),
        (
            {
                "tools": [
                    {
                        "functionDeclarations": [
                            {"name": "f", "parameters": {"type": "OBJECT", "$schema": "x"}}
                        ]
                    }
                ]
            },
            "$schema",
        ),
        (
            {
                "tools": [
                    {"functionDeclarations": [{"name": "f", "parameters": {"type": ["string", "null"]}}]}
                ]
            },
            "not repeating",
        ),
        ({"generationConfig": {"max_tokens": 1}}, "at 'generation_config': Cannot find field."),
        (
            {"generationConfig": {"responseSchema": {"type": "STRING"}}},
            "only allowed with response_mime_type",
        ),
    ],
)
async def test_what_gemini_rejects_is_rejected(simulator: SimulatorServer, body: Any, words: str) -> None:
    async with httpx2.AsyncClient() as client:
        answer = await client.post(
            f"{simulator.url}/google/v1beta/models/m:generateContent",
            headers={"x-goog-api-key": "k"},
            json={"contents": [{"parts": [{"text": "x"}]}]} | body,
        )
    assert answer.status_code == 400
    assert answer.json()["error"]["status"] == "INVALID_ARGUMENT"
    assert words in answer.text
