"""The soak: the accounts of both sides agree and nothing is left over. Three minutes in CI, seconds at a desk."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from tieline.drills import soak as module
from tieline.drills.soak import soak

MINUTES = 3.0 if os.environ.get("CI") else 6 / 60


@pytest.mark.timeout(MINUTES * 60 + 120)
def test_a_soak(tmp_path: Path) -> None:
    report = asyncio.run(soak(MINUTES, 30.0, 1, tmp_path))
    assert report.problems == []
    assert report.requests >= MINUTES * 60 * 30 * 0.8
    assert report.compared_attempts > report.requests / 2
    assert report.most_held > 0, "budgets held what requests might cost"
    assert report.refused["stranger"]
    assert set(report.charged_usd) == {"steady", "tight", "soft"}


def test_a_soak_that_finds_something_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A check that cannot fail proves nothing: money that was never charged, and a hold that is never given back."""
    whole = module._Soak._compare

    def and_more(soaking: module._Soak) -> None:
        whole(soaking)
        soaking.purses[0].charged += 1
        next(iter(soaking.stage.gateway.admission.meters())).held += 5

    monkeypatch.setattr(module._Soak, "_compare", and_more)
    report = asyncio.run(soak(2 / 60, 20.0, 1, tmp_path))
    said = " ".join(report.problems)
    assert "pico-dollars are still held" in said
    assert "steady has spent" in said
    assert "steady was charged" in said
