"""A real server on a loopback port with simulated providers behind it, and raw sockets to talk to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from msgspec import Struct, field
from msgspec.structs import replace

from tieline.config.schema import Config, ModelConfig, ServerConfig, StoreConfig
from tieline.gateway import Gateway
from tieline.server.serve import Service, bind
from tieline.simulator import SimulatorServer
from tieline.simulator.twins import simulated
from tieline.store import queries
from tieline.types.record import Record

HELLO: list[dict[str, Any]] = [{"role": "user", "content": "Hello"}]


_PRICE: Any = {"input": "0.15", "output": "0.60"}


def behaving(name: str, **routing: Any) -> ModelConfig:
    """A public name whose provider behaves as the simulator's model ``name`` says, with nothing to fall back to."""
    return ModelConfig(deployments=[f"sim-openai/{name}"], routing={"fallback": "none", **routing})


def configuration(
    url: str, folder: Path, models: dict[str, ModelConfig] | None = None, **server: Any
) -> Config:
    base = Config(
        discover=False,
        server=ServerConfig(port=0, **server),
        store=StoreConfig(database=f"sqlite:///{folder}/tieline.db", spool=str(folder / "spool")),
        models=models or {},
    )
    config = simulated(url, base)
    named = [name for model in config.models.values() for name in model.deployments]
    host = config.providers["sim-openai"]
    prices = {name.removeprefix("sim-openai/"): _PRICE for name in named if name.startswith("sim-openai/")}
    providers = {**config.providers, "sim-openai": replace(host, prices=prices)}
    return replace(config, providers=providers)


class Served:
    """The parts of a running server."""

    def __init__(self, service: Service, simulator: SimulatorServer) -> None:
        self.service = service
        self.gateway = service.gateway
        self.simulator = simulator
        self.url = service.url
        self.port = int(service.url.rpartition(":")[2])
        self._callers: list[Raw] = []

    async def connect(self) -> Raw:
        raw = Raw(*await asyncio.open_connection("127.0.0.1", self.port, limit=2**26))
        self._callers.append(raw)
        return raw

    def leave(self) -> None:
        """No caller is left, whatever became of the test: another test would be told of one that was never closed."""
        for raw in self._callers:
            raw.abort()

    async def records(self) -> list[Record]:
        """All there are, newest first, once they are written."""
        assert self.gateway.database is not None
        assert await asyncio.to_thread(self.gateway.recorder.flush, 5.0)
        return await asyncio.to_thread(queries.logs, self.gateway.database)

    async def settled(self) -> None:
        """No request under way."""
        async with asyncio.timeout(5):
            while self.gateway.in_flight or self.service.server.server_state.tasks:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def serving(
    folder: Path, models: dict[str, ModelConfig] | None = None, **server: Any
) -> AsyncIterator[Served]:
    async with SimulatorServer() as simulator:
        config = configuration(simulator.url, folder, models, **server)
        gateway = Gateway(config, environ={})
        sock = bind("127.0.0.1", 0)
        ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        service = Service(gateway, sock, ready.set_result)
        task = asyncio.create_task(service.serve())
        await asyncio.wait({ready, task}, return_when=asyncio.FIRST_COMPLETED, timeout=10)
        assert ready.done(), task
        served = Served(service, simulator)
        try:
            yield served
        finally:
            served.leave()
            service.stop()
            async with asyncio.timeout(20):
                await task
            sock.close()


class Heard(Struct):
    status: int
    headers: dict[str, str]
    body: bytes = b""
    chunks: list[bytes] = field(default_factory=list)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Raw:
    """An HTTP client that does only what it is told."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def __aenter__(self) -> Raw:
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def hear(self, *, head: bool = False, timeout: float = 10) -> Heard:
        """One answer, read by its framing; interim ones are skipped."""
        async with asyncio.timeout(timeout):
            status, headers = await self._head()
            while status == 100:
                status, headers = await self._head()
            heard = Heard(status, headers)
            if head or status in (204, 304):
                return heard
            if headers.get("transfer-encoding") == "chunked":
                await self._chunks(heard)
            elif "content-length" in headers:
                heard.body = await self.reader.readexactly(int(headers["content-length"]))
            else:
                heard.body = await self.reader.read()
            return heard

    async def _head(self) -> tuple[int, dict[str, str]]:
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = (line.split(": ", 1) for line in lines[1:-2])
        return int(lines[0].split()[1]), {name.lower(): value for name, value in pairs}

    async def _chunks(self, heard: Heard) -> None:
        while size := int(await self.reader.readline(), 16):
            heard.chunks.append(await self.reader.readexactly(size))
            await self.reader.readexactly(2)
        assert await self.reader.readline() == b"\r\n"
        heard.body = b"".join(heard.chunks)

    async def at_end(self, timeout: float = 5) -> bool:
        """Whether the server closes without saying more."""
        try:
            async with asyncio.timeout(timeout):
                return await self.reader.read(1) == b""
        except ConnectionError:
            return True

    def close(self) -> None:
        self.writer.close()

    def abort(self) -> None:
        self.writer.transport.abort()


def chat(model: str = "demo", **extra: Any) -> bytes:
    return json.dumps({"model": model, "messages": HELLO, **extra}).encode()


def post(path: str, body: bytes, *headers: str, version: str = "1.1", length: int | None = None) -> bytes:
    lines = [
        f"POST {path} HTTP/{version}",
        "Host: x",
        f"Content-Length: {len(body) if length is None else length}",
        *headers,
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def get(path: str, *headers: str, method: str = "GET", version: str = "1.1") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/{version}", "Host: x", *headers]).encode() + b"\r\n\r\n"


def chunked(path: str, body: bytes, size: int, *headers: str) -> bytes:
    pieces = [body[at : at + size] for at in range(0, len(body), size)]
    framed = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    head = "\r\n".join([f"POST {path} HTTP/1.1", "Host: x", "Transfer-Encoding: chunked", *headers])
    return head.encode() + b"\r\n\r\n" + framed
