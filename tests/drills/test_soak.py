"""A few seconds of the soak: the accounts of both sides agree and nothing is left over."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tieline.drills.soak import soak


def test_a_short_soak(tmp_path: Path) -> None:
    report = asyncio.run(soak(4 / 60, 30.0, 1, tmp_path))
    assert report.problems == []
    assert report.requests >= 100
    assert report.compared_attempts > 50
