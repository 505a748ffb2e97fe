"""Segments are made ahead, used in the order of their numbers, and none stays behind: not after a kill, not on a full disk."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.record.samples import record
from tieline.record.chain import verify
from tieline.record.journal import Journal, Segment, read_segment
from tieline.record.recorder import Recorder
from tieline.store.database import Database
from tieline.store.queries import logs

BYTES = 64 * 1024
HALF = BYTES // 2  # of which a segment holds one


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    opened = Journal(tmp_path / "spool", segment_bytes=BYTES)
    yield opened
    opened.close()


def files(journal: Journal) -> list[str]:
    return [path.name for path in journal.slot.segments()]


def make_spare(journal: Journal) -> Segment:
    return journal.make_spare(journal.wants_spare() or Path())


def test_a_spare_is_the_next_segment(journal: Journal) -> None:
    first, spare = journal.append(bytes(HALF)), make_spare(journal)
    journal.keep_spare(spare)
    assert journal.wants_spare() is None
    assert first.path.stat().st_size == spare.path.stat().st_size == BYTES
    assert journal.append(b"x" * HALF) is spare
    assert (journal.segments, first.closed) == ([first, spare], True)
    assert list(read_segment(spare.path)) == [b"x" * HALF]
    assert journal.wants_spare()


@pytest.mark.parametrize("rotated", [False, True])
def test_a_spare_that_comes_too_late_is_removed(journal: Journal, rotated: bool) -> None:
    journal.append(bytes(HALF))
    spare = make_spare(journal)
    assert journal.append(bytes(HALF)).path > spare.path
    if rotated:
        journal.rotate()
    journal.keep_spare(spare)
    assert not spare.path.exists()
    assert journal.wants_spare()
    journal.append(bytes(HALF))
    assert [segment.path.name for segment in journal.segments] == files(journal), "in their order"


def test_a_payload_larger_than_a_segment_has_its_own_file_and_numbers_ascend(journal: Journal) -> None:
    journal.append(b"before")
    spare = make_spare(journal)
    journal.keep_spare(spare)
    journal.append(b"y" * 3 * BYTES)
    assert not spare.path.exists()
    journal.append(b"after")
    assert [segment.path.name for segment in journal.segments] == files(journal), "in their order"
    read = [body for path in journal.slot.segments() for body in read_segment(path)]
    assert read == [b"before", b"y" * 3 * BYTES, b"after"]


def test_close_leaves_no_file_when_all_is_done_and_never_a_spare(tmp_path: Path) -> None:
    for done in (1, 0):
        journal = Journal(tmp_path / "spool", segment_bytes=BYTES)
        segment = journal.append(b"x")
        journal.keep_spare(make_spare(journal))
        assert len(files(journal)) == 2
        segment.done += done
        journal.close()
        assert files(journal) == ([] if done else [segment.path.name])
    following = Journal(tmp_path / "spool", segment_bytes=BYTES)
    assert following.append(b"y").path > segment.path, "which is older"
    following.close()


CHILD = """
import sys, time
from tests.record.test_journal import Database, Path, Recorder, record
from tieline.record.items import Begun

database, spool = Database(sys.argv[1]), Path(sys.argv[2])
database.open()
recorder = Recorder(database, spool=spool)
recorder.begin(Begun("req_cut", 1, "chat", "openai_chat", "gpt-5", None, None, None, {}, 777))
recorder.start()
recorder.put(record())
while len(list(spool.glob("*/*.seg"))) < 2 or not recorder.flush():
    time.sleep(0.01)
print("a spare", flush=True)
time.sleep(60)
"""


def test_the_next_start_takes_over_from_a_process_that_was_killed_with_a_spare(tmp_path: Path) -> None:
    url, spool = f"sqlite:///{tmp_path / 'tieline.db'}", tmp_path / "spool"
    command = [sys.executable, "-c", CHILD, url, str(spool)]
    environment = {**os.environ, "PYTHONPATH": f"src{os.pathsep}."}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as child:
        assert child.stdout
        assert child.stdout.readline() == b"a spare\n"
        child.send_signal(signal.SIGKILL)
    assert len(list(spool.glob("*/*.seg"))) == 2
    # As a kill leaves them while one is made.
    (spool / "0" / "000000000003.seg").write_bytes(bytes(BYTES))
    (spool / "0" / "000000000004.seg").touch()
    database = Database(url)
    database.open()
    recorder = Recorder(database, spool=spool)
    recorder.put(record())
    recorder.start()
    assert recorder.close(10)
    assert sorted(found.outcome for found in logs(database)) == ["process_died", "success", "success"]
    assert verify(database).ok
    assert list(spool.glob("*/*.seg")) == []
    database.close()


def test_a_spare_that_a_full_disk_has_no_room_for_leaves_no_file(tmp_path: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", f"size={BYTES + HALF}", "tmpfs", str(tmp_path)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here: full disks are LEFT OUT")
    try:
        journal = Journal(tmp_path, segment_bytes=BYTES)
        segment = journal.append(b"x")
        descriptors = len(os.listdir("/proc/self/fd"))
        with pytest.raises(OSError, match="No space"):
            make_spare(journal)
        assert files(journal) == [segment.path.name]
        assert journal.append(b"y") is segment, "the one that there is goes on"
        assert len(os.listdir("/proc/self/fd")) == descriptors
        journal.close()
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)
