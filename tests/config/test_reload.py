from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tieline.config.load import ConfigErrors, Loaded, load, parse
from tieline.config.reload import Watcher


class Seen:
    def __init__(self, path: Path) -> None:
        self.changes: asyncio.Queue[Loaded] = asyncio.Queue()
        self.errors: asyncio.Queue[ConfigErrors] = asyncio.Queue()
        self.watcher = Watcher(
            load(path, {}), {}, self.changes.put_nowait, self.errors.put_nowait, poll_s=0.01
        )


@asynccontextmanager
async def watching(path: Path) -> AsyncIterator[Seen]:
    seen = Seen(path)
    task = asyncio.create_task(seen.watcher.run())
    try:
        yield seen
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "tieline.yaml"
    file.write_text("server: {port: 1}")
    return file


async def test_an_edit_is_taken_over(path: Path) -> None:
    async with watching(path) as seen:
        path.write_text("server: {port: 22}")
        loaded = await asyncio.wait_for(seen.changes.get(), 5)
        assert loaded.config.server.port == 22
        assert seen.watcher.loaded is loaded


async def test_an_edit_between_reading_and_watching_is_seen(path: Path) -> None:
    """A start waits for its database in between."""
    loaded = load(path, {})
    path.write_text("server: {port: 22}")
    changes: asyncio.Queue[Loaded] = asyncio.Queue()
    watcher = Watcher(loaded, {}, changes.put_nowait, pytest.fail, poll_s=0.01)
    task = asyncio.create_task(watcher.run())
    try:
        assert (await asyncio.wait_for(changes.get(), 5)).config.server.port == 22
    finally:
        task.cancel()


async def test_a_faulty_edit_is_reported_once_and_the_old_stays(path: Path) -> None:
    async with watching(path) as seen:
        path.write_text("servr: {port: 22}")
        errors = await asyncio.wait_for(seen.errors.get(), 5)
        assert "did you mean `server`?" in str(errors)
        await asyncio.sleep(0.05)
        assert seen.errors.empty()
        assert seen.watcher.loaded.config.server.port == 1
        path.write_text("server: {port: 333}")
        assert (await asyncio.wait_for(seen.changes.get(), 5)).config.server.port == 333


async def test_replacing_and_removing_the_file(path: Path) -> None:
    async with watching(path) as seen:
        path.unlink()
        await asyncio.sleep(0.05)
        assert seen.errors.empty()
        new = path.with_suffix(".new")
        new.write_text("server: {port: 2}")
        new.rename(path)
        assert (await asyncio.wait_for(seen.changes.get(), 5)).config.server.port == 2


async def test_a_comment_changes_nothing(path: Path) -> None:
    async with watching(path) as seen:
        path.write_text("server: {port: 1} # as before")
        await asyncio.sleep(0.1)
        assert seen.changes.empty()


@pytest.mark.parametrize("provider", ["api_key: 'file:{}'", "headers: {{x-tenant: 'file:{}'}}"])
async def test_a_key_that_is_renewed_in_its_file_is_taken_over(tmp_path: Path, provider: str) -> None:
    """As Kubernetes does with a Secret that is mounted: a link is turned to another folder."""
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "key").write_text(f"secret-{name}")
    (tmp_path / "data").symlink_to("one")
    path = tmp_path / "tieline.yaml"
    said = provider.format(tmp_path / "data" / "key")
    path.write_text(f"providers: {{acme: {{base_url: 'http://127.0.0.1:9/v1', {said}}}}}")
    async with watching(path) as seen:
        await asyncio.sleep(0.05)
        assert seen.changes.empty()
        (tmp_path / "beside").symlink_to("two")
        (tmp_path / "beside").rename(tmp_path / "data")
        await asyncio.wait_for(seen.changes.get(), 5)
        await asyncio.sleep(0.05)
        assert seen.changes.empty()
        # While it is away what is in force stays, and nobody is told.
        (tmp_path / "two" / "key").unlink()
        await asyncio.sleep(0.05)
        assert seen.errors.empty()
        (tmp_path / "two" / "key").write_text("")
        assert "empty" in str(await asyncio.wait_for(seen.errors.get(), 5))
        (tmp_path / "two" / "key").write_text("secret-three")
        await asyncio.wait_for(seen.changes.get(), 5)


async def test_sighup_reads_again_although_nothing_changed(path: Path) -> None:
    async with watching(path) as seen:
        seen.watcher.listen()
        os.kill(os.getpid(), signal.SIGHUP)
        assert (await asyncio.wait_for(seen.changes.get(), 5)).config.server.port == 1
        asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)


async def test_no_file_no_watcher() -> None:
    with pytest.raises(ValueError, match="nothing to watch"):
        Watcher(parse("", {}), {}, lambda loaded: None, lambda errors: None)
