"""Ids sort by time, ascend within a process, and differ between processes."""

from __future__ import annotations

import os
import re
import time

import pytest

from tieline.record import ids
from tieline.record.ids import new_id


def test_form_and_order() -> None:
    made = [new_id() for _ in range(20_000)]
    assert made == sorted(made)
    assert len(set(made)) == len(made)
    assert all(re.fullmatch(r"req_[0-9A-HJKMNP-TV-Z]{26}", one) for one in made)


def test_order_is_time_across_processes() -> None:
    mine, theirs = ids._Ids(), ids._Ids()
    first = mine.new()
    time.sleep(0.003)
    second = theirs.new()
    time.sleep(0.003)
    assert first < second < mine.new()


def test_a_clock_that_steps_back_keeps_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    source = ids._Ids()
    now = time.time_ns()
    first = source.new()
    monkeypatch.setattr(time, "time_ns", lambda: now - 3_600 * 10**9)
    assert source.new() > first


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_has_ids_of_its_own() -> None:
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, new_id().encode())
        os._exit(0)
    theirs = os.read(read, 100).decode()
    os.waitpid(child, 0)
    os.close(read)
    os.close(write)
    assert theirs[14:22] != new_id()[14:22]
