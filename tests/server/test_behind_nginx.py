"""nginx in front as it comes: nothing but ``proxy_pass``."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.served import Raw, chat, get, post, serving
from tests.services import free_port, missing

CONFIGURATION = """
{user} daemon off; pid {folder}/pid; error_log {folder}/errors; worker_processes 1;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {folder}/1; proxy_temp_path {folder}/2; fastcgi_temp_path {folder}/3;
  uwsgi_temp_path {folder}/4; scgi_temp_path {folder}/5;
  server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:{behind}; }} }}
}}
"""


@asynccontextmanager
async def nginx(folder: Path, behind: int) -> AsyncIterator[Raw]:
    """A connection through it."""
    program = shutil.which("nginx", path="/usr/sbin:/usr/bin:/sbin:/bin")
    if program is None:
        missing("nginx")
    folder.mkdir()
    user = "user root;" if os.geteuid() == 0 else ""  # else its worker may not look into our folder
    port = free_port()
    path = folder / "nginx.conf"
    path.write_text(CONFIGURATION.format(user=user, folder=folder, port=port, behind=behind))
    process = await asyncio.create_subprocess_exec(
        program, "-c", path, "-e", folder / "start", stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with asyncio.timeout(10):
            while True:
                try:
                    reader, writer = await asyncio.open_connection("127.0.0.1", port)
                    break
                except ConnectionRefusedError:
                    await asyncio.sleep(0.02)
        async with Raw(reader, writer) as raw:
            yield raw
            raw.abort()
    finally:
        process.terminate()
        await process.wait()


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
async def test_a_stream_is_not_kept_back(tmp_path: Path, path: str) -> None:
    """It collects 4 KiB unless it is told not to: of Claude's short events the whole answer."""
    async with serving(tmp_path) as served, nginx(tmp_path / "nginx", served.port) as raw:
        raw.send(post(path, chat("sim-openai/sim-echo:tps=40,tokens=40", stream=True, max_tokens=40)))
        heard = await raw.hear()
        assert heard.status == 200
        assert len(heard.chunks) > 10


async def test_the_admin_api_is_not_open_to_everybody_behind_it(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, nginx(tmp_path / "nginx", served.port) as raw:
        raw.send(get("/admin/api/health"))
        assert (await raw.hear()).status == 401
