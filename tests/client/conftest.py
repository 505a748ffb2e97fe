from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.served import behaving, configuration
from tieline import AsyncTieline, Config, Tieline
from tieline.simulator import SimulatorServer

MODELS = {
    "slow": behaving("sim-echo:tokens=400,tps=40"),
    "late": behaving("sim-slow:ttft_ms=5000"),
    "down": behaving("sim-fail-503"),
    "limited": behaving("sim-fail-429:retry_after=30", patience_s=0),
    "long": behaving("sim-echo:tokens=20000"),
    "broken": behaving("sim-cut:after=5", on_broken_stream="error"),
}


@pytest.fixture
def simulator() -> Iterator[SimulatorServer]:
    server = SimulatorServer()
    with server.run_in_thread():
        yield server


@pytest.fixture
def config(simulator: SimulatorServer, tmp_path: Path) -> Config:
    return configuration(simulator.url, tmp_path, MODELS)


@pytest.fixture
def line(config: Config) -> Iterator[Tieline]:
    with Tieline(config, environ={}) as made:
        yield made


@pytest.fixture
async def aline(config: Config) -> AsyncIterator[AsyncTieline]:
    async with AsyncTieline(config, environ={}) as made:
        yield made


async def until(true: object, timeout: float = 5) -> None:
    async with asyncio.timeout(timeout):
        while not true():  # type: ignore[operator]
            await asyncio.sleep(0.02)
