"""How it ends that nobody closed it: with the interpreter, by garbage collection, in the middle of a stream."""

from __future__ import annotations

import asyncio
import gc
import pickle
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from tests.programs import ROOT, environment
from tieline import AsyncTieline, Config, RequestFailed, Tieline
from tieline.simulator import SimulatorServer
from tieline.store import queries
from tieline.store.database import Database

HELLO = '[{"role": "user", "content": "Hello"}]'
HALF_READ = {
    "sdk": 'stream = iter(line.stream("slow", "Hello"))',
    "openai": f'stream = iter(line.openai().chat.completions.create(model="slow", messages={HELLO}, stream=True))',
    "anthropic": f'stream = iter(line.anthropic().messages.create(model="slow", max_tokens=500, messages={HELLO}, '
    "stream=True))",
}


def run(script: str, simulator: SimulatorServer, folder: Path) -> subprocess.CompletedProcess[str]:
    """In an interpreter of its own, which ends by itself."""
    begin = f"""
        from pathlib import Path
        from tests.client.conftest import MODELS
        from tests.served import configuration
        from tieline import Tieline
        line = Tieline(configuration({simulator.url!r}, Path({str(folder)!r}), MODELS), environ={{}})
    """
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(begin) + textwrap.dedent(script)],
        env=environment(PYTHONPATH=f"{ROOT / 'src'}:{ROOT}"),
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )


@pytest.mark.parametrize("way", HALF_READ)
def test_the_interpreter_ends_with_a_stream_half_read(
    simulator: SimulatorServer, tmp_path: Path, way: str
) -> None:
    done = run(f"{HALF_READ[way]}\nnext(stream)\nprint('over')", simulator, tmp_path)
    assert (done.returncode, done.stdout) == (0, "over\n")
    database = Database(f"sqlite:///{tmp_path}/tieline.db")
    database.open()
    records = queries.logs(database)
    database.close()
    assert [record.outcome for record in records] == ["shut_down"], "settled and written without a close"
    assert records[0].cost


def test_closing_so_late_that_modules_are_taken_down_hangs_nobody(
    simulator: SimulatorServer, tmp_path: Path
) -> None:
    script = """
        import sys
        class Holder:
            def __init__(self, line): self.line = line
            def __del__(self): self.line.close()
        sys.holder = Holder(line)
        print(bool(line.chat("demo", "Hello").text))
    """
    done = run(script, simulator, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


def test_closing_at_the_interpreters_end_is_a_close(simulator: SimulatorServer, tmp_path: Path) -> None:
    script = """
        import atexit
        atexit.register(line.close)
        print(bool(line.chat("demo", "Hello").text))
    """
    done = run(script, simulator, tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


def test_what_is_dropped_ends_by_itself(config: Config, simulator: SimulatorServer) -> None:
    before = set(threading.enumerate())
    line = Tieline(config, environ={})
    assert line.chat("demo", "Hello").text
    del line
    gc.collect()
    deadline = time.monotonic() + 10
    while {one for one in threading.enumerate() if one.name.startswith("tieline")} - before:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    database = Database(config.store.database)
    database.open()
    assert [record.outcome for record in queries.logs(database)] == ["success"]
    database.close()


@pytest.mark.parametrize("dialect", ["sdk", "openai"])
def test_a_stream_left_open_may_be_closed_after_the_end(config: Config, dialect: str) -> None:
    short = replace(config, server=replace(config.server, drain_s=0.1))
    with Tieline(short, environ={}) as line:
        stream: Any = line.stream("slow", "Hello")
        if dialect == "openai":
            messages: Any = [{"role": "user", "content": "Hello"}]
            stream = line.openai().chat.completions.create(model="slow", messages=messages, stream=True)
        pieces = iter(stream)
        next(pieces)
    pieces.close()


def test_callers_that_race_with_the_end_are_told(config: Config) -> None:
    for _ in range(5):
        line = Tieline(config, environ={})

        def work(line: Tieline = line) -> BaseException:
            while True:
                try:
                    line.chat("demo", "Hello")
                except BaseException as error:
                    if "closed" in str(error) or not isinstance(error, RequestFailed):
                        return error

        with ThreadPoolExecutor(6) as threads:
            asked = [threads.submit(work) for _ in range(6)]
            time.sleep(0.1)
            line.close()
            assert {(type(one.result(20)), str(one.result())) for one in asked} == {
                (RuntimeError, "This Tieline is closed; make a new one.")
            }


def test_a_tieline_cannot_be_sent_between_processes(line: Tieline, config: Config) -> None:
    for one in (line, AsyncTieline(config, environ={})):
        with (
            ProcessPoolExecutor(1, get_context("spawn")) as pool,
            pytest.raises(
                TypeError, match=f"{type(one).__name__} cannot be pickled.*make one in each process"
            ),
        ):
            pool.submit(type, one).result(20)


def test_a_failure_can_be_sent_between_processes(line: Tieline) -> None:
    with pytest.raises(RequestFailed) as raised:
        line.chat("down", "Hello")
    sent = pickle.loads(pickle.dumps(raised.value))
    assert isinstance(sent, RequestFailed)
    assert (str(sent), sent.http_status, sent.error_code) == (
        str(raised.value),
        raised.value.http_status,
        raised.value.error_code,
    )
    assert sent.record.id == raised.value.record.id


def test_one_loop_after_another_is_told_apart(config: Config) -> None:
    line = AsyncTieline(config, environ={})

    async def begun() -> None:
        await line.start()

    async def again() -> None:
        with pytest.raises(RuntimeError, match=r"another event loop; make one in each asyncio\.run"):
            await line.chat("demo", "Hello")
        with pytest.raises(RuntimeError, match="another event loop"):
            await line.start()
        with pytest.raises(RuntimeError, match="another event loop"):
            await line.close()

    asyncio.run(begun())
    asyncio.run(again())
    assert line.gateway.recorder.close()
