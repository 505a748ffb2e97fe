"""A gateway's door with a clock that tests move."""

from __future__ import annotations

from typing import Any

from tieline.admit.admission import Admission
from tieline.admit.facts import Facts
from tieline.admit.keys import digest_of
from tieline.admit.rules import BudgetRule, Limits, Rules
from tieline.admit.snapshot import Key, Project, Secret, Snapshot

USD = 10**12
SECRET = "tl-" + "s" * 43


class Time:
    """Wall and monotonic seconds; the wall may be set apart."""

    def __init__(self, start: float = 1_800_000_000.0) -> None:
        self.mono, self.now = 1_000.0, start

    def clock(self) -> float:
        return self.mono

    def wall(self) -> float:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.mono += seconds
        self.now += seconds


def snapshot(
    key: Rules | None = None, project: Rules | None = None, *, revision: int = 1, **changes: Any
) -> Snapshot:
    owner = Project(id="prj_1", name="one", rules=project or Rules(), created_ms=0)
    values: dict[str, Any] = {"id": "key_1", "project_id": "prj_1", "name": "mine", "created_ms": 0}
    made = Key(**{**values, "rules": key or Rules(), **changes})
    digest = digest_of(SECRET)
    return Snapshot(revision, {owner.id: owner}, {made.id: made}, {digest: Secret(digest, made.id)})


def door(
    key: Rules | None = None, project: Rules | None = None, *, time: Time | None = None, **changes: Any
) -> Admission:
    time = time or Time()
    admission = Admission(clock=time.clock, wall=time.wall)
    admission.refresh(snapshot(key, project, **changes))
    return admission


def budget(amount: int, **changes: Any) -> Rules:
    """A rule of ``amount`` pico-dollars."""
    return Rules(budgets=[BudgetRule(amount_usd=f"{amount // USD}.{amount % USD:012d}", **changes)])


def limits(**values: int) -> Rules:
    return Rules(limits=Limits(**values))


def facts(model: str = "gpt-5", **changes: Any) -> Facts:
    return Facts(model=model, **changes)
