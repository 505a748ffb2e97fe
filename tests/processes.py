"""Gateways as processes of their own, as a user starts them, and callers on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import yaml

from tests.programs import CALM
from tieline.config.schema import Config, StoreConfig
from tieline.simulator.twins import simulated

ROOT = Path(__file__).parent.parent
START_S = 90.0


def environment(**more: str) -> dict[str, str]:
    """Without anything of this machine's that Tieline would take for settings or keys."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return {
        **kept,
        "PYTHONPATH": str(ROOT / "src"),
        "PYTHONUNBUFFERED": "1",
        "PYTHONFAULTHANDLER": "1",
        **CALM,
        **more,
    }


def write_config(folder: Path, simulator: str, **store: Any) -> Path:
    """A tieline.yaml with simulated providers; ``demo`` is served by them."""
    config = simulated(simulator, Config(discover=False, store=StoreConfig(**store)))
    provider = config.providers["sim-openai"]
    price = {"input": "0.15", "output": "0.60"}
    models = ["gpt-sim", "sim-long", "sim-slow:tps=20,ttft_ms=100", "sim-fail-500", "sim-usage-missing"]
    tree: dict[str, Any] = {
        "discover": False,
        "server": {"port": 0, "drain_s": 5},
        "store": {name: str(value) for name, value in store.items()},
        "providers": {
            name: {
                "base_url": one.base_url,
                "dialect": one.dialect,
                "auth": one.auth,
                "api_key": "simulated",
                "prices": dict.fromkeys(models, price) if one is provider else one.prices,
            }
            for name, one in config.providers.items()
        },
        "models": {
            "demo": {"deployments": ["sim-openai/gpt-sim"], "fallbacks": ["sim-backup/gpt-sim"]},
            "long": {"deployments": ["sim-openai/sim-long"], "routing": {"fallback": "none"}},
            "slow": {
                "deployments": ["sim-openai/sim-slow:tps=20,ttft_ms=100"],
                "routing": {"fallback": "none"},
            },
            "silent-usage": {"deployments": ["sim-openai/sim-usage-missing"]},
            "failing": {"deployments": ["sim-openai/sim-fail-500"], "fallbacks": ["sim-backup/gpt-sim"]},
        },
    }
    path = folder / "tieline.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


class Process:
    """``tieline serve``; ``url`` once it listens."""

    def __init__(self, folder: Path, config: Path, *arguments: str, **env: str) -> None:
        self.folder = folder
        self.log = folder / f"log-{time.monotonic_ns()}"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tieline", "serve", "--config", str(config), *arguments],
                cwd=folder,
                env=environment(**env),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.url = self._listening()
        self.port = int(self.url.rpartition(":")[2])

    def _listening(self) -> str:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            if found := re.search(r"listens on (http://\S+)", self.output):
                return found[1]
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise AssertionError(f"tieline serve did not come up:\n{self.output}")

    @property
    def output(self) -> str:
        return self.log.read_text()

    def stop(self) -> int:
        """SIGTERM: drains; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def kill(self) -> None:
        """SIGKILL, to it and to its workers."""
        for pid in [*children(self.process.pid), self.process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(10)


def children(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(one) for one in path.read_text().split()] if path.exists() else []


@contextlib.contextmanager
def serving(folder: Path, config: Path, *arguments: str, **env: str) -> Iterator[Process]:
    process = Process(folder, config, *arguments, **env)
    try:
        yield process
    finally:
        if process.process.poll() is None:
            process.kill()


def cli(config: Path, *arguments: str, **env: str) -> Any:
    """What a command answers with ``--json``."""
    done = subprocess.run(
        [sys.executable, "-m", "tieline", *arguments, "--config", str(config), "--json"],
        cwd=config.parent,
        env=environment(**env),
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr).decode()
    return json.loads(done.stdout)


class Callers:
    """Many at once with one key, who ask, stream, hang up in the middle and meet failing providers."""

    def __init__(self, ports: list[int], secret: str, *, models: tuple[str, ...] = ("demo",)) -> None:
        self.ports = ports
        self.secret = secret
        self.models = models
        self.figures: Counter[str] = Counter()
        self.statuses: Counter[int] = Counter()
        self.begun: set[str] = set()
        """Request ids of which a head was read with status 200."""
        self._rng = Random(7)

    async def run(self, count: int, seconds: float) -> None:
        until = time.monotonic() + seconds
        await asyncio.gather(*(self._caller(until, number) for number in range(count)))

    async def _caller(self, until: float, number: int) -> None:
        while time.monotonic() < until:
            try:
                await self._one(self.ports[number % len(self.ports)])
            except (OSError, asyncio.IncompleteReadError, ValueError):
                self.figures["broken"] += 1
                await asyncio.sleep(0.05)

    async def _one(self, port: int) -> None:
        draw = self._rng.random()
        stream, hang_up = draw < 0.6, draw < 0.3
        self.figures["attempted"] += 1
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(self._request(stream))
            status, request_id = await self._head(reader)
            self.statuses[status] += 1
            if status != 200:
                await asyncio.sleep(0.1)
                return
            self.figures["admitted"] += 1
            self.begun.add(request_id)
            if hang_up:
                self.figures["aborted"] += 1
                await reader.read(200)
                writer.transport.abort()
            else:
                await reader.read()
        finally:
            writer.close()

    def _request(self, stream: bool) -> bytes:
        body = {
            "model": self._rng.choice(self.models),
            "messages": [{"role": "user", "content": "Tell me of ships." + "x" * self._rng.randrange(80)}],
            "max_tokens": self._rng.randrange(5, 90),
            "stream": stream,
        }
        encoded = json.dumps(body).encode()
        return (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self.secret}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(encoded)}\r\nConnection: close\r\n\r\n"
        ).encode() + encoded

    async def _head(self, reader: asyncio.StreamReader) -> tuple[int, str]:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        found = re.search(r"tieline-request-id: (\S+)", head)
        return int(head.split()[1]), found[1] if found else ""
