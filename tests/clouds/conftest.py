"""A gateway over real sockets whose providers are the simulated clouds, configured as a user would."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tieline.config.load import parse
from tieline.gateway import Gateway
from tieline.server.serve import Service, bind
from tieline.simulator import SimulatorServer

CLOUDS = """
discover: false
server: {port: 0}
store: {database: none}
routing: {fallback: none}
providers:
  vertex: {base_url: "${SIM}/vertex"}
  vertex-anthropic: {base_url: "${SIM}/vertex"}
  azure:
    base_url: ${SIM}/azure/openai/v1
    models: {chat-prod: gpt-4o, sim-fail-filter: gpt-4o, not-there: gpt-4o}
  azure-deployments:
    base_url: ${SIM}/azure/openai
    models: {chat-prod: gpt-4o, sim-fail-filter: gpt-4o, not-there: gpt-4o}
  bedrock@eu-west-1: {base_url: "${SIM}/bedrock@eu-west-1"}
  cohere: {base_url: "${SIM}/cohere"}
"""


class Served:
    """A running gateway and what is behind it."""

    def __init__(self, service: Service, simulator: SimulatorServer, environ: dict[str, str]) -> None:
        self.gateway = service.gateway
        self.url = service.url
        self.simulator = simulator
        self.environ = environ

    @property
    def clouds(self):  # type: ignore[no-untyped-def]
        return self.simulator.clouds


def environment(simulator: SimulatorServer, folder: Path) -> dict[str, str]:
    """What a user of all clouds has set."""
    key = folder / "service-account.json"
    key.write_text(simulator.clouds.service_account(simulator.url))
    return {
        "SIM": simulator.url,
        "GOOGLE_APPLICATION_CREDENTIALS": str(key),
        "AWS_ACCESS_KEY_ID": "AKIASIMULATED",
        "AWS_SECRET_ACCESS_KEY": "simulated-secret",
        "AWS_REGION": "us-east-1",
        "AZURE_OPENAI_API_KEY": "azure-key",
        "COHERE_API_KEY": "cohere-key",
    }


@asynccontextmanager
async def serving(
    simulator: SimulatorServer, environ: dict[str, str], text: str = CLOUDS
) -> AsyncIterator[Served]:
    sock = bind("127.0.0.1", 0)
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    service = Service(Gateway(parse(text, environ).config, environ=environ), sock, ready.set_result)
    task = asyncio.create_task(service.serve())
    await asyncio.wait({ready, task}, return_when=asyncio.FIRST_COMPLETED, timeout=10)
    assert ready.done(), task
    try:
        yield Served(service, simulator, environ)
    finally:
        service.stop()
        async with asyncio.timeout(20):
            await task
        sock.close()


@pytest.fixture
async def simulator() -> AsyncIterator[SimulatorServer]:
    async with SimulatorServer() as server:
        yield server


@pytest.fixture
async def served(simulator: SimulatorServer, tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(simulator, environment(simulator, tmp_path)) as found:
        yield found
