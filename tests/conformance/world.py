"""A gateway with one simulated host for each upstream dialect behind it, served from a thread."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from msgspec import Struct

from tieline.config.schema import Config, ProviderConfig, Routing, ServerConfig, StoreConfig, Timeouts
from tieline.gateway import Gateway
from tieline.server.serve import Service, bind
from tieline.simulator import SimulatorServer
from tieline.simulator.ledger import Entry

SEED = 0


class Host(Struct, frozen=True):
    """A provider of the simulator, spoken to in one dialect."""

    name: str
    dialect: str
    path: str
    auth: str
    key: str = "simulated-key"


HOSTS = (
    Host("chat", "openai_chat", "/v1", "bearer"),
    Host("responses", "openai_responses", "/v1", "bearer"),
    Host("claude", "anthropic_messages", "", "x-api-key"),
    Host("gemini", "gemini", "", "x-goog-api-key"),
    Host("bedrock", "bedrock_converse", "", "sigv4", "AKIASIMULATED:simulated-secret"),
    Host("cohere", "cohere", "", "bearer"),
)
BY_NAME = {host.name: host for host in HOSTS}
_ROUTING = Routing(fallback="none", timeouts=Timeouts(first_token_s=5, stall_s=5))
_PRICE: dict[Any, str] = {"input": "0.15", "output": "0.60", "cache_read": "0.015"}


def providers(url: str, more: tuple[str, ...] = ()) -> dict[str, ProviderConfig]:
    """Each host, and again for each suffix of ``more``: what fails there is not remembered against the others."""
    return {
        host.name + suffix: ProviderConfig(
            base_url=f"{url}/{host.name}{suffix}{host.path}",
            dialect=host.dialect,  # type: ignore[arg-type]
            auth=host.auth,  # type: ignore[arg-type]
            api_key=host.key,
            prices={"sim-echo": _PRICE},
        )
        for host in HOSTS
        for suffix in ("", *more)
    }


class World:
    """What a cell may use."""

    def __init__(self, url: str, simulator: SimulatorServer, gateway: Gateway) -> None:
        self.url = url
        self.simulator = simulator
        self.gateway = gateway
        self._mark = 0

    def begin(self) -> None:
        """Requests before this are another cell's."""
        self._mark = self.simulator.ledger.opened

    def upstream(self) -> list[Entry]:
        """What has reached the simulator since ``begin``."""
        return [entry for entry in self.simulator.log if entry.id > self._mark]

    def wait_for(self, what: Callable[[], bool], seconds: float = 3.0) -> bool:
        until = time.monotonic() + seconds
        while not what():
            if time.monotonic() > until:
                return False
            time.sleep(0.01)
        return True


@contextmanager
def running(folder: Path, more: tuple[str, ...] = (), **changes: Any) -> Iterator[World]:
    """``changes`` are fields of Config."""
    ready = threading.Event()
    held: dict[str, Any] = {}

    async def serve() -> None:
        async with SimulatorServer(seed=SEED) as simulator:
            config = Config(
                discover=False,
                store=StoreConfig(database=f"sqlite:///{folder}/records.db", spool=str(folder / "spool")),
                **{
                    "server": ServerConfig(port=0, drain_s=0.5, max_lag_ms=0),
                    "routing": _ROUTING,
                    "providers": providers(simulator.url, more),
                    **changes,
                },
            )
            gateway = Gateway(config, environ={})
            sock = bind("127.0.0.1", 0)

            def up(url: str) -> None:
                held.update(world=World(url, simulator, gateway), stop=stop)
                ready.set()

            service = Service(gateway, sock, up)
            stop = asyncio.Event()
            task = asyncio.create_task(service.serve())
            await asyncio.wait({task, asyncio.create_task(stop.wait())}, return_when="FIRST_COMPLETED")
            service.stop()
            await task
            sock.close()

    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), name="world", daemon=True)
    logging.getLogger("tieline").setLevel(logging.CRITICAL)
    thread.start()
    try:
        assert ready.wait(20), "the gateway did not start"
        yield held["world"]
    finally:
        if "stop" in held:
            loop.call_soon_threadsafe(held["stop"].set)
        thread.join(20)
        loop.close()
