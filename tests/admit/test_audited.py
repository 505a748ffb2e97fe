"""Edits of keys, projects and credits behind the log's back show; what the log does not say is no fault."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa

from tests.services import Postgres
from tieline.admit.accounts import Accounts
from tieline.admit.audited import verify
from tieline.admit.rules import BudgetRule, Limits, Rules
from tieline.store import audit
from tieline.store.database import Database

RULES = Rules(limits=Limits(requests_per_minute=5), budgets=[BudgetRule(amount_usd="1")])


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.services)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    url = f"sqlite:///{tmp_path / 'tieline.db'}"
    if request.param == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        url = server.new_database()
    database = Database(url)
    database.open()
    yield database
    database.close()


@pytest.fixture
def accounts(database: Database) -> Accounts:
    """All that can be done to keys and projects has been done to some."""
    made = Accounts(database)
    soon = time.time_ns() // 10**6 + 10**6
    for name in ("web", "old", "back"):
        made.create_project(name, RULES)
    made.edit_project("web", name="site", rules=Rules(tags={"team": "blue"}))
    made.archive_project("old")
    made.archive_project("back")
    made.restore_project("back")
    made.add_credit("site", 12 * 10**12 + 1, "paid")
    made.add_credit("site", -(10**12))
    made.create_key("site", "plain")
    made.create_key("site", "ends", RULES, expires_ms=soon)
    made.create_key("site", "edited", RULES)
    made.edit_key("edited", name="changed", rules=Rules(models=["gpt-*"]), expires_ms=soon)
    made.edit_key("changed", expires_ms=None)
    made.rotate_key("changed", overlap_s=0)
    made.create_key("default", "gone", RULES)
    made.revoke_key("gone")
    return made


def change(database: Database, statement: str) -> None:
    with database.write() as connection:
        assert connection.execute(sa.text(statement)).rowcount


def test_what_accounts_did_fits(database: Database, accounts: Accounts) -> None:
    assert verify(database) == ([], [])


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("UPDATE keys SET revoked_ms = NULL WHERE name = 'gone'", "revoked_ms (is null, the log says"),
        ("UPDATE keys SET revoked_ms = 1 WHERE name = 'plain'", "revoked_ms (is 1, the log says null)"),
        ("UPDATE keys SET rules = '{}' WHERE name = 'changed'", "rules (is {}, the log says"),
        ("UPDATE keys SET rules = 'nonsense' WHERE name = 'changed'", "rules (is nonsense, the log says"),
        ("UPDATE keys SET expires_ms = NULL WHERE name = 'ends'", "expires_ms"),
        ("UPDATE keys SET name = 'x' WHERE name = 'changed'", "name (is x, the log says changed)"),
        (
            "UPDATE keys SET project_id = (SELECT id FROM projects WHERE name = 'back') WHERE name = 'plain'",
            "project_id",
        ),
        ("UPDATE projects SET archived_ms = NULL WHERE name = 'old'", "archived_ms (is null, the log says"),
        ("UPDATE projects SET rules = '{}' WHERE name = 'back'", "rules (is {}, the log says"),
        ("UPDATE projects SET name = 'x' WHERE name = 'site'", "name (is x, the log says site)"),
        ("UPDATE credits SET amount = 5 WHERE note = 'paid'", "credits of"),
        ("DELETE FROM credits", "credits of 0 USD, the log says 11.000000000001"),
        ("INSERT INTO projects (id, name, rules, created_ms) VALUES ('p', 'p', '{}', 1)", "was inserted"),
        ("DELETE FROM key_secrets", "has 0 secrets, the log made"),
        (
            "INSERT INTO key_secrets (digest, key_id, hint, created_ms) SELECT hint, key_id, 'x', 1 FROM key_secrets",
            "secrets, the log made",
        ),
    ],
)
def test_edits_show(database: Database, accounts: Accounts, statement: str, words: str) -> None:
    if not database.is_sqlite:
        statement = statement.replace("SELECT hint,", "SELECT convert_to(hint, 'UTF8'),")
    change(database, statement)
    problems, _ = verify(database)
    assert words in "\n".join(problems)


def test_a_deleted_key_shows(database: Database, accounts: Accounts) -> None:
    key = accounts.key("gone").id
    for table, column in (("key_secrets", "key_id"), ("keys", "id")):
        change(database, f"DELETE FROM {table} WHERE {column} = '{key}'")
    problems, _ = verify(database)
    assert problems[0] == f"key {key}: is in the log and not there: it was deleted"


def test_what_the_log_does_not_say_is_not_known(database: Database, accounts: Accounts) -> None:
    """Entries without details, as versions to come or of long ago may have."""
    keys = [accounts.key(name).id for name in ("plain", "changed", "ends")]
    with database.write() as connection:
        audit.note(connection, "cli", "key.edit", keys[0])
        audit.note(connection, "cli", "key.edit", keys[1], {"rules": {"a rule": "of another version"}})
        audit.note(connection, "cli", "key.revoke", keys[2])
        audit.note(connection, "cli", "project.credit", accounts.project("site").id)
    change(database, f"UPDATE keys SET rules = '{{}}', name = 'x' WHERE id = '{keys[0]}'")
    change(database, f"UPDATE keys SET revoked_ms = 1 WHERE id = '{keys[2]}'")
    problems, silent = verify(database)
    assert problems == []
    assert set(silent) == {
        f"key {keys[0]}: name, rules, expires_ms",
        f"key {keys[1]}: rules",
        f"project {accounts.project('site').id}: credits",
    }
    change(database, f"UPDATE keys SET revoked_ms = NULL WHERE id = '{keys[2]}'")
    assert "the log says set" in verify(database)[0][0]


def test_details_of_another_shape_are_not_known(database: Database) -> None:
    with database.write() as connection:
        audit.note(connection, "cli", "project.credit", "prj", {"amount_usd": "much"})
        connection.execute(
            sa.text("UPDATE audit SET detail = :detail"), {"detail": msgspec.json.encode([1]).decode()}
        )
    assert verify(database)[1] == ["audit 1: its detail cannot be read"]
