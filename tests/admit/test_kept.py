"""The keys last known, over a restart without the database."""

from __future__ import annotations

import os
import time as clock
from pathlib import Path

import pytest

from tests.admit.samples import facts
from tieline.admit.accounts import Accounts
from tieline.admit.admission import Admission
from tieline.admit.kept import MAX_AGE_S, NAME, KeptKeys
from tieline.admit.rules import BudgetRule, Rules
from tieline.store.database import Database
from tieline.types.errors import DatabaseAway


@pytest.fixture
def database(tmp_path: Path) -> Database:
    database = Database(f"sqlite:///{tmp_path / 'tieline.db'}")
    database.open()
    return database


def test_what_is_kept_holds_no_secret_and_is_for_its_owner(tmp_path: Path, database: Database) -> None:
    accounts = Accounts(database)
    _, secret = accounts.create_key("default", "ci", Rules(models=["gpt-5"]))
    kept = KeptKeys(tmp_path, database)
    kept.keep(accounts.snapshot(), {"prj": 5})
    file = tmp_path / NAME
    assert file.stat().st_mode & 0o777 == 0o600
    assert secret.encode() not in file.read_bytes()
    found = KeptKeys(tmp_path, database).recall()
    assert found is not None
    assert (found.snapshot, found.credits) == (accounts.snapshot(), {"prj": 5})
    assert [one.name for one in tmp_path.glob(f"{NAME}*")] == [NAME]


def test_what_is_not_used(tmp_path: Path, database: Database) -> None:
    kept = KeptKeys(tmp_path, database)
    assert kept.recall() is None
    kept.keep(Accounts(database).snapshot(), {})
    assert KeptKeys(tmp_path, Database(f"sqlite:///{tmp_path / 'other.db'}")).recall() is None
    old = clock.time() - MAX_AGE_S - 60
    os.utime(tmp_path / NAME, (old, old))
    assert kept.recall() is None
    kept._marked = -1e9
    kept.still(Accounts(database).revision())
    assert kept.recall() is not None
    (tmp_path / NAME).write_bytes(b"\x93damaged")
    assert kept.recall() is None
    KeptKeys(tmp_path / "nowhere", database).keep(Accounts(database).snapshot(), {})


def test_recalled_keys_are_let_in_where_nothing_must_be_counted(database: Database) -> None:
    accounts = Accounts(database)
    _, free = accounts.create_key("default", "free")
    hard = Rules(budgets=[BudgetRule(amount_usd="5")])
    _, counted = accounts.create_key("default", "counted", hard)
    _, gone = accounts.create_key("default", "gone")
    accounts.revoke_key("gone")
    admission = Admission(known=False)
    admission.recall(accounts.snapshot(), {})
    admission.admit(free, facts()).release()
    assert admission.identify(free)
    run = facts(run="r", run_budget=10**12)
    for secret, asked in (
        (counted, facts()),
        (gone, facts()),
        ("tl-new", facts()),
        (None, facts()),
        (free, run),
    ):
        with pytest.raises(DatabaseAway):
            admission.admit(secret, asked)
    admission.remember(accounts.spent())
    admission.refresh(accounts.snapshot())
    admission.counted = True
    admission.admit(counted, facts()).reserve(5 * 10**12)
