"""A gateway with its admin API on a real socket, and a client for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.processes import write_config
from tests.served import Heard, Raw
from tieline.gateway import Gateway
from tieline.server.serve import Service, bind
from tieline.simulator import SimulatorServer

TOKEN = "test-admin-token-of-32-characters"


class Admin:
    """What a user of the admin API does; ``ask`` answers with status and JSON."""

    def __init__(self, gateway: Gateway, url: str, simulator: SimulatorServer) -> None:
        self.gateway = gateway
        self.url = url
        self.simulator = simulator
        self.port = int(url.rpartition(":")[2])
        self.token: str | None = TOKEN

    async def ask(
        self, method: str, path: str, body: Any = None, *headers: str, token: str | None = ""
    ) -> tuple[int, Any]:
        heard = await self.raw(method, f"/admin/api{path}", body, *headers, token=token)
        return heard.status, json.loads(heard.body) if heard.body else None

    async def raw(
        self, method: str, path: str, body: Any = None, *headers: str, token: str | None = ""
    ) -> Heard:
        encoded = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        given = self.token if token == "" else token
        lines = [f"{method} {path} HTTP/1.1", f"Content-Length: {len(encoded)}", "Connection: close"]
        if not any(line.lower().startswith("host:") for line in headers):
            lines.append(f"Host: 127.0.0.1:{self.port}")
        if given:
            lines.append(f"Authorization: Bearer {given}")
        if encoded:
            lines.append("Content-Type: application/json")
        data = "\r\n".join([*lines, *headers]).encode() + b"\r\n\r\n" + encoded
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=2**26)
        async with Raw(reader, writer) as raw:
            raw.send(data)
            return await raw.hear(timeout=30)

    async def chat(self, secret: str | None, model: str = "demo", **extra: Any) -> Heard:
        body = {"model": model, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 20, **extra}
        return await self.raw("POST", "/v1/chat/completions", body, token=secret)


@asynccontextmanager
async def administered(
    folder: Path, environ: dict[str, str] | None = None, **store: Any
) -> AsyncIterator[Admin]:
    """Runs from a tieline.yaml in ``folder``, as ``tieline serve`` does."""
    kept = {"database": f"sqlite:///{folder / 'tieline.db'}", "spool": folder / "spool", **store}
    async with SimulatorServer() as simulator:
        config = write_config(folder, simulator.url, **kept)
        found = {"TIELINE_ADMIN_TOKEN": TOKEN, "TIELINE_SECRET_KEY": "a passphrase of enough letters"}
        gateway = Gateway(config, environ=found if environ is None else environ)
        sock = bind("127.0.0.1", 0)
        ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        service = Service(gateway, sock, ready.set_result)
        task = asyncio.create_task(service.serve())
        await asyncio.wait({ready, task}, return_when=asyncio.FIRST_COMPLETED, timeout=20)
        if task.done():
            await task
        try:
            yield Admin(gateway, ready.result(), simulator)
        finally:
            service.stop()
            async with asyncio.timeout(30):
                await task
            sock.close()
