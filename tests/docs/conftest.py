"""A gateway and a configuration in which every provider that the documentation names is simulated."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tieline.config.load import load
from tieline.gateway import Gateway
from tieline.server.serve import Service, bind
from tieline.simulator import SimulatorServer

CONFIG = """
discover: false
providers:
  openai: {{base_url: "{url}/openai/v1", api_key: any}}
  anthropic: {{base_url: "{url}/anthropic", api_key: any}}
models:
  smart: {{deployments: [anthropic/claude-sonnet-4-6], fallbacks: [openai/gpt-5-mini]}}
store: {{database: "sqlite:///{folder}/docs.db", spool: "{folder}/spool"}}
"""


class Loop:
    """An event loop in a thread, so that examples can block."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def run(self, work: object) -> object:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(30)  # type: ignore[arg-type]

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


@pytest.fixture(scope="module")
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


@pytest.fixture(scope="module")
def config_file(loop: Loop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    simulator = loop.run(SimulatorServer().start())
    assert isinstance(simulator, SimulatorServer)
    folder = tmp_path_factory.mktemp("docs")
    path = folder / "tieline.yaml"
    path.write_text(CONFIG.format(url=simulator.url, folder=folder), "utf-8")
    yield path
    loop.run(simulator.stop())


@pytest.fixture(scope="module")
def gateway_url(loop: Loop, config_file: Path) -> Iterator[str]:
    async def up() -> tuple[Service, asyncio.Task[None], str]:
        ready = asyncio.get_running_loop().create_future()
        gateway = Gateway(load(config_file, {}).config, environ={})  # a file would be watched, with signals
        service = Service(gateway, bind("127.0.0.1", 0), ready=ready.set_result)
        serving = asyncio.get_running_loop().create_task(service.serve())
        return service, serving, await ready

    async def down(service: Service, serving: asyncio.Task[None]) -> None:
        service.stop()
        await serving
        service.sock.close()

    service, serving, url = loop.run(up())  # type: ignore[misc]
    yield url
    loop.run(down(service, serving))
