"""Old records go, new ones stay, and what is left verifies."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from tests.record.samples import record
from tieline.record.chain import verify
from tieline.record.recorder import Recorder
from tieline.record.retention import Retention
from tieline.store import queries
from tieline.store.database import Database


async def test_old_records_go(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'tieline.db'}")
    database.open()
    recorder = Recorder(database, spool=tmp_path / "spool")
    recorder.start()
    now = int(time.time() * 1_000)
    for age_days in (40, 31, 29, 0):
        recorder.put(record(at_ms=now - age_days * 86_400_000))
    assert await asyncio.to_thread(recorder.close)
    retention = Retention(database, lambda: 30)
    assert await retention.sweep() == 2
    assert await retention.sweep() == 0
    assert len(queries.logs(database)) == 2
    assert verify(database).ok
    retention.start()
    await retention.stop()
    database.close()
