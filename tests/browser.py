"""A real Chromium, told by its debugging pipe what to run in a page."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest


class Page:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._count = 0
        self._session: str | None = None

    async def open(self, url: str) -> None:
        target = await self._ask("Target.createTarget", url="about:blank")
        attached = await self._ask("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        await self._ask("Page.navigate", url=url)
        await self.run(
            "new Promise(done => document.readyState === 'complete' ? done() : addEventListener('load', done))"
        )

    async def run(self, script: str) -> Any:
        """The value of an expression, awaited if it is a promise."""
        told = await self._ask("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    async def narrow(self, width: int) -> None:
        metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        await self._ask("Emulation.setDeviceMetricsOverride", **metrics)

    async def _ask(self, method: str, **params: Any) -> Any:
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._writer.write(json.dumps(message).encode() + b"\0")
        while True:
            heard = json.loads((await self._reader.readuntil(b"\0"))[:-1])
            if heard.get("id") == self._count:
                assert "error" not in heard, heard
                return heard["result"]


@asynccontextmanager
async def browsing(folder: Path, url: str) -> AsyncIterator[Page]:
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("chromium is not installed: LEFT OUT")
    # It is told by descriptor 3 and tells by 4.
    process = await asyncio.create_subprocess_shell(
        f'exec "{browser}" --headless --no-sandbox --disable-gpu --user-data-dir="{folder}/profile" '
        "--remote-debugging-pipe 3<&0 4>&1 </dev/null >/dev/null",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        limit=16 * 1024 * 1024,
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        page = Page(process.stdout, process.stdin)
        async with asyncio.timeout(60):
            await page.open(url)
            yield page
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
