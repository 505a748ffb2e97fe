"""Credentials at rest: sealed, bound to their place, rotated all or none."""

from __future__ import annotations

import base64
import sqlite3
from pathlib import Path

import pytest

from tieline.store import audit
from tieline.store.database import Database
from tieline.store.sealed import Keyring, Vault, keyring, new_key
from tieline.types.errors import ConfigError, InvalidRequest

OLD, NEW = "an old passphrase of letters", base64.b64encode(bytes(range(32))).decode()


@pytest.fixture
def database(tmp_path: Path) -> Database:
    made = Database(f"sqlite:///{tmp_path / 'tieline.db'}")
    made.open()
    return made


def test_what_is_put_comes_back(database: Database, tmp_path: Path) -> None:
    vault = Vault(database, Keyring([OLD]))
    vault.put("openai", "main", "sk-one")
    vault.put("openai", "second", "sk-two")
    vault.put("openai", "main", "sk-three")
    assert vault.reveal() == (
        {"openai": [("second", "sk-two"), ("main", "sk-three")]},
        [],
    ) or vault.reveal() == (
        {"openai": [("main", "sk-three"), ("second", "sk-two")]},
        [],
    )
    database.close()
    assert b"sk-" not in (tmp_path / "tieline.db").read_bytes()


def test_rotation(database: Database) -> None:
    Vault(database, Keyring([OLD])).put("openai", "main", "sk-one")
    both = Vault(database, Keyring([NEW, OLD]))
    assert both.rotate() == 1
    assert both.rotate() == 0
    assert Vault(database, Keyring([NEW])).reveal()[0] == {"openai": [("main", "sk-one")]}
    found, [problem] = Vault(database, Keyring([OLD])).reveal()
    assert found == {}
    assert "TIELINE_SECRET_KEY" in str(problem)
    with pytest.raises(ConfigError):
        Vault(database, Keyring([OLD])).rotate()
    assert Vault(database, Keyring([NEW])).reveal()[0] == {"openai": [("main", "sk-one")]}


def test_a_row_that_was_moved_does_not_open(database: Database, tmp_path: Path) -> None:
    vault = Vault(database, Keyring([NEW]))
    vault.put("openai", "main", "sk-one")
    with sqlite3.connect(tmp_path / "tieline.db") as other:
        other.execute("UPDATE credentials SET provider = 'groq'")
    found, [problem] = vault.reveal()
    assert found == {}
    assert "was changed" in str(problem)


@pytest.mark.parametrize("text", ["short", "file:/nowhere/at/all"])
def test_bad_keys_are_named_and_not_shown(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        keyring({"TIELINE_SECRET_KEY": text})
    assert "TIELINE_SECRET_KEY" in str(caught.value)
    assert "short" not in str(caught.value).replace("too short", "")


def test_keys_from_files_and_of_every_form(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(f"{new_key()}\n{'ab' * 32}\n")
    ring = keyring({"TIELINE_SECRET_KEY": f"file:{path}"})
    assert repr(ring) == "<Keyring of 2>"
    assert not keyring({})
    with pytest.raises(ConfigError):
        _ = keyring({}).first


def test_bad_input_names_the_field(database: Database) -> None:
    vault = Vault(database, Keyring([NEW]))
    for label, secret, param in (("", "x", "label"), ("a/b", "x", "label"), ("main", " ", "secret")):
        with pytest.raises(InvalidRequest) as caught:
            vault.put("openai", label, secret)
        assert caught.value.param == param
    assert vault.all() == []


@pytest.mark.parametrize(
    "edit",
    [
        "UPDATE audit SET actor = 'nobody' WHERE seq = 2",
        "DELETE FROM audit WHERE seq = 2",
        "DELETE FROM audit WHERE seq = 3",
        "UPDATE audit SET detail = '{}' WHERE seq = 1",
    ],
)
def test_edits_of_the_audit_log_show(database: Database, tmp_path: Path, edit: str) -> None:
    for number in range(3):
        with database.write() as connection:
            audit.note(connection, "test", "key.create", f"key_{number}", {"number": number})
    assert audit.verify(database) == (3, [])
    with sqlite3.connect(tmp_path / "tieline.db") as other:
        other.execute(edit)
    assert audit.verify(database)[1]
