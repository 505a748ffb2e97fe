from __future__ import annotations

from collections.abc import AsyncIterator

import anthropic
import openai
import pytest
from google import genai

from tieline.simulator import SimulatorServer

SEED = 7


@pytest.fixture
async def simulator() -> AsyncIterator[SimulatorServer]:
    async with SimulatorServer(seed=SEED) as server:
        yield server


@pytest.fixture
async def chat(simulator: SimulatorServer) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(
        base_url=f"{simulator.url}/openai/v1", api_key="k-1234", max_retries=0
    ) as client:
        yield client


@pytest.fixture
async def claude(simulator: SimulatorServer) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(
        base_url=f"{simulator.url}/anthropic", api_key="k-1234", max_retries=0
    ) as client:
        yield client


@pytest.fixture
async def gemini(simulator: SimulatorServer) -> AsyncIterator[genai.client.AsyncClient]:
    client = genai.Client(api_key="k-1234", http_options={"base_url": f"{simulator.url}/google"})
    yield client.aio
    await client.aio.aclose()
    client.close()
