"""``tieline keys``, ``projects``, ``credentials``, ``admin`` and ``audit`` as processes."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.processes import cli, environment, write_config
from tests.services import running_postgres
from tieline.cli.ledger import since_ms
from tieline.cli.rules import parse_budget
from tieline.cli.terminal import escape
from tieline.store.database import Database
from tieline.types.errors import InvalidRequest


@pytest.fixture
def config(tmp_path: Path) -> Path:
    store = {"database": f"sqlite:///{tmp_path / 'tieline.db'}", "spool": tmp_path / "spool"}
    return write_config(tmp_path, "http://127.0.0.1:9", **store)


def run(config: Path, *arguments: str, stdin: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tieline", *arguments, "--config", str(config)],
        cwd=config.parent,
        env=environment(**env),
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )


def test_keys_and_projects(config: Path) -> None:
    cli(config, "projects", "create", "web", "--budget", "100/month,tz=Europe/Berlin", "--tag", "team=a")
    made = cli(config, "keys", "create", "ci", "--project", "web", "--rpm", "60", "--expires", "30d")
    assert made["secret"].startswith("tl-")
    [listed] = cli(config, "keys", "list")
    assert made["secret"] not in str(listed)
    assert listed["hints"] == [made["secret"][-4:]]
    assert listed["rules"]["limits"] == {"requests_per_minute": 60}
    shown = cli(config, "keys", "edit", "ci", "--rpm", "0", "--budget", "1/day", "--model", "gpt-*")
    assert shown["rules"]["limits"] == {}
    assert shown["rules"]["models"] == ["gpt-*"]
    rotated = cli(config, "keys", "rotate", "ci", "--overlap", "1h")
    assert rotated["secret"] != made["secret"]
    assert len(cli(config, "keys", "show", "ci")["hints"]) == 2
    assert cli(config, "projects", "credit", "web", "12.5")["credit_left_usd"] == "12.5"
    cli(config, "keys", "revoke", "ci")
    assert cli(config, "keys", "list") == []
    assert cli(config, "projects", "archive", "web")["archived_ms"]
    verdict = cli(config, "audit", "verify")
    assert verdict == {"ok": True, "records": 0, "writers": 0, "changes": 7, "problems": [], "unknown": []}
    assert cli(config, "audit", "log")[0]["action"] == "project.archive"
    assert cli(config, "projects", "restore", "web")["archived_ms"] is None
    assert cli(config, "audit", "log")[0]["action"] == "project.restore"
    cli(config, "keys", "create", "again", "--project", "web")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("keys", "create", "x", "--budget", "-3/day"), "budgets[0].amount_usd"),
        (("keys", "create", "x", "--budget", "3/week"), "AMOUNT/month"),
        (("keys", "create", "x", "--project", "none"), "project"),
        (("keys", "create", "x", "--expires", "soon"), "--expires"),
        (("keys", "show", "none"), "tieline keys list"),
        (
            ("keys", "create", "x", "--deny-provider", "opnai"),
            "policy.deny_providers[0]: there is no provider",
        ),
        (("projects", "create", "x", "--allow-provider", "sim-openia"), "Did you mean sim-openai?"),
        (("keys", "create", "x", "--jurisdiction", "EU,US"), "--jurisdiction EU,US: not a place."),
        (("projects", "create", "x", "--jurisdiction", "Germany"), "--jurisdiction Germany: not a place."),
        (("projects", "credit", "default", "0"), "amount_usd"),
        (("credentials", "add", "openay"), "openai"),
        (("keys", "rotate", "x", "--overlap", "never"), "--overlap never: not a duration."),
        (("keys", "create", "x", "--expires", "99999y"), "year 9999"),
        (("keys", "show", "[/x] \x1b[31m"), "no key '[/x] \\x1b[31m'. `tieline keys list`"),
        (("logs", "--limit", "-5"), "--limit"),
    ],
)
def test_bad_input(config: Path, arguments: tuple[str, ...], words: str) -> None:
    Database(f"sqlite:///{config.parent / 'tieline.db'}").open()
    done = run(config, *arguments, stdin="sk-1", TIELINE_SECRET_KEY="a passphrase of enough letters")
    assert done.returncode == 2
    assert words in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr


def test_names_that_nothing_has(config: Path) -> None:
    """They may be ahead of the configuration: the key is made, and it is said what they do until then."""
    fine = (
        "demo",
        "gpt-5",
        "gpt-*",
        "*",
        "sim-openai/any",
        "openai/gpt-9",
        "z-ai/glm-4.6",
        "openr*",
        "groq/*",
    )
    models = [word for name in fine for word in ("--model", name)]
    done = run(config, "keys", "create", "fine", *models, "--budget", "1/day,model=demo", "--profile", "any")
    assert (done.returncode, done.stderr) == (0, "")
    done = run(
        config, "keys", "create", "odd", "--model", "dmeo", "--model", "gtp*", "--budget", "1/day,model=g*"
    )
    assert done.returncode == 0
    assert done.stderr.splitlines()[0] == (
        "! models[0]: no model is called 'dmeo' here, so it allows nothing. Did you mean demo?"
    )
    assert "models[1]: no model is called 'gtp*'" in done.stderr
    assert "budgets[0].model: no model is called 'g*' here, so it counts nothing." in done.stderr
    assert cli(config, "keys", "show", "odd")["rules"]["models"] == ["dmeo", "gtp*"]
    done = run(config, "keys", "edit", "odd", "--model", "opnai/gpt-5", "--model", "gpt-*-mini")
    assert "Did you mean openai/gpt-5?" in done.stderr
    assert "'gpt-*-mini' here, so it allows nothing. `*` stands for the rest of a name" in done.stderr
    before = cli(config, "keys", "show", "odd")
    assert run(config, "keys", "edit", "odd", "--rpm", "5", "--deny-provider", "grok").returncode == 2
    assert cli(config, "keys", "show", "odd") == before
    assert run(config, "projects", "edit", "default", "--model", "slwo").stderr.endswith("mean slow?\n")
    done = run(
        config,
        "projects",
        "create",
        "web",
        "--deny-provider",
        "bedrock@eu-west-1",
        "--deny-provider",
        "openai",
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_places_in_lower_case(config: Path) -> None:
    cli(config, "keys", "create", "x", "--jurisdiction", "eu", "--jurisdiction", "LOCAL")
    assert cli(config, "keys", "show", "x")["rules"]["policy"]["jurisdictions"] == ["EU", "local"]


def test_what_cannot_be_read_is_shown_and_can_be_ended(config: Path) -> None:
    """Written by a later version, or by hand."""
    cli(config, "keys", "create", "odd")
    cli(config, "projects", "create", "strange")
    with sqlite3.connect(config.parent / "tieline.db") as database:
        for table, name in (("keys", "odd"), ("projects", "strange")):
            database.execute(f"UPDATE {table} SET rules = ? WHERE name = ?", ('{"later": 1}', name))
    database.close()
    assert "unreadable" in run(config, "keys", "list").stdout
    assert "unreadable" in run(config, "projects", "list", COLUMNS="100").stdout
    for kind, name in (("keys", "odd"), ("projects", "strange")):
        shown = run(config, kind, "show", name).stdout
        assert "unreadable: Object contains unknown field `later`" in shown
        assert "limits" not in shown
        assert cli(config, kind, "show", name)["unreadable"]
    done = run(config, "keys", "edit", "odd", "--rpm", "5")
    assert (done.returncode, "or revoke it" in done.stderr) == (2, True)
    cli(config, "keys", "revoke", "odd")
    cli(config, "projects", "archive", "strange")
    assert cli(config, "keys", "list") == []


def test_a_time_no_calendar_has() -> None:
    with pytest.raises(InvalidRequest, match="not a time"):
        since_ms("99999999999999d")


def test_a_credit_is_taken_back_as_it_is_written(config: Path) -> None:
    cli(config, "projects", "create", "web")
    cli(config, "projects", "credit", "web", "5")
    assert cli(config, "projects", "credit", "web", "-3.5")["credit_usd"] == "1.5"


def test_a_list_in_a_narrow_terminal_keeps_the_ids(config: Path) -> None:
    made = cli(
        config, "keys", "create", "a name that is far too long for it", "--budget", "200/month,tz=Asia/Tokyo"
    )
    listed = run(config, "keys", "list", COLUMNS="80").stdout
    assert made["id"] in listed
    assert "active" in listed
    assert max(map(len, listed.splitlines())) <= 80
    noted = run(config, "audit", "log", COLUMNS="80").stdout
    assert re.search(rf"^\d{{4}}-\d\d-\d\d \d\d:\d\d +cli:\S+ +key\.create +{made['id']} ", noted, re.M)


def test_a_terminal_obeys_nothing_that_others_wrote() -> None:
    assert escape("a\x1b]0;owned\x07[bold]\u202eb") == "a\ufffd]0;owned\ufffd\\[bold]\ufffdb"
    assert escape("one\ntwo", lines=True) == "one\ntwo"


def test_credentials(config: Path) -> None:
    key = {"TIELINE_SECRET_KEY": "a passphrase of enough letters"}
    assert run(config, "credentials", "add", "openai", "team", stdin="sk-canary-1", **key).returncode == 0
    listed: Any = run(config, "credentials", "list", "--json", **key)
    assert "team" in listed.stdout
    assert "sk-canary" not in listed.stdout
    assert (
        run(config, "credentials", "rotate", TIELINE_SECRET_KEY="another passphrase, longer").returncode == 2
    )
    both = {"TIELINE_SECRET_KEY": "another passphrase of letters,a passphrase of enough letters"}
    assert run(config, "credentials", "rotate", **both).returncode == 0
    assert "disabled" in run(config, "credentials", "disable", "openai/team", **both).stdout
    removed = run(config, "credentials", "remove", "openai/team", **both).stdout
    assert "removed" in removed
    assert "in use" not in removed
    assert run(config, "credentials", "list", **both).stdout.startswith("None stored")
    missing = run(config, "credentials", "add", "openai", stdin="sk-2")
    assert missing.returncode == 2
    assert "TIELINE_SECRET_KEY" in missing.stderr


def test_workers_that_cannot_share_do_not_start(config: Path) -> None:
    cli(config, "keys", "create", "ci", "--budget", "1/day")
    done = run(config, "serve", "--workers", "2", "--port", "0")
    assert done.returncode == 2
    assert "store.redis" in done.stderr


def test_budgets_as_text() -> None:
    rule = parse_budget("10.5/day,soft,tz=Europe/Berlin,model=gpt-5")
    assert (rule.amount_usd, rule.period, rule.hard, rule.model) == ("10.5", "day", False, "gpt-5")
    assert parse_budget("1/month,tag=team=a").tag == "team=a"
    with pytest.raises(InvalidRequest):
        parse_budget("1/month,colour=red")


def failing_in_the_middle(config: Path, url: str, fail: Callable[[], object]) -> str:
    """What ``credentials add`` says whose database was opened and fails while the key is waited for."""
    with subprocess.Popen(
        [sys.executable, "-m", "tieline", "credentials", "add", "openai", "--config", str(config)],
        cwd=config.parent,
        env=environment(TIELINE_SECRET_KEY="a passphrase of enough letters"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        until = time.monotonic() + 30
        database = sa.create_engine(url)
        while not sa.inspect(database).has_table("credentials"):
            assert time.monotonic() < until
            assert process.poll() is None
            time.sleep(0.05)
        database.dispose()
        fail()
        out, said = process.communicate("sk-0123456789abcdefghij", timeout=60)
    assert (process.returncode, out) == (2, "")
    [line] = said.splitlines()
    assert line.startswith("error: store.database: failed in the middle of the command: ")
    return line


def test_a_file_that_is_locked_in_the_middle_is_one_line(config: Path) -> None:
    path = config.parent / "tieline.db"
    sqlite3.connect(path).close()
    holder = sqlite3.connect(path, isolation_level=None)
    said = failing_in_the_middle(config, f"sqlite:///{path}", lambda: holder.execute("BEGIN EXCLUSIVE"))
    assert "database is locked" in said
    holder.close()


@pytest.mark.services
def test_a_server_that_goes_in_the_middle_is_one_line(tmp_path: Path) -> None:
    with running_postgres() as server:
        url = server.new_database()
        config = write_config(tmp_path, "http://127.0.0.1:9", database=url, spool=tmp_path / "spool")
        driver = url.replace("postgresql:", "postgresql+psycopg:")
        assert "connection" in failing_in_the_middle(config, driver, server.stop)


def test_a_name_that_several_keys_have_is_ambiguous(config: Path) -> None:
    ids = sorted(cli(config, "keys", "create", "ci")["id"] for _ in range(2))
    for command in (
        ("keys", "show", "ci"),
        ("keys", "edit", "ci", "--rpm", "1"),
        ("keys", "rotate", "ci"),
        ("keys", "revoke", "ci"),
        ("logs", "--key", "ci"),
        ("spend", "--key", "ci"),
    ):
        done = run(config, *command)
        assert done.returncode == 2, command
        [line] = done.stderr.splitlines()
        assert "several keys are named 'ci'" in line
        assert all(one in line for one in ids)
    cli(config, "keys", "revoke", ids[0])
    assert [one["id"] for one in cli(config, "keys", "list")] == ids[1:]
