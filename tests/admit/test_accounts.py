"""Projects and keys under several hands: nothing is undone, nothing is made twice, nothing is half-written."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tests.admit.samples import facts
from tests.services import Postgres
from tieline.admit.accounts import Accounts
from tieline.admit.admission import Admission
from tieline.admit.rules import BudgetRule, Limits, Rules, check_rules, encode_rules, read_rules
from tieline.cli.rules import RuleOptions
from tieline.config.schema import PolicyRules
from tieline.store.database import Database
from tieline.store.tables import keys, projects
from tieline.types.errors import Forbidden, InvalidRequest, Unauthenticated

HANDS = 8


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


def test_editors_at_the_same_time_undo_nothing_of_each_other(database: Database) -> None:
    accounts = Accounts(database)
    key, _ = accounts.create_key("default", "ci")

    def add_tag(number: int) -> None:
        accounts.edit_key(
            key.id, rules=lambda rules: replace(rules, tags={**rules.tags, f"n{number}": str(number)})
        )

    with ThreadPoolExecutor(HANDS) as pool:
        list(pool.map(add_tag, range(HANDS)))
    assert accounts.key(key.id).rules.tags == {f"n{number}": str(number) for number in range(HANDS)}


def test_one_of_several_gets_the_name(database: Database) -> None:
    accounts = Accounts(database)

    def create(_: int) -> str:
        try:
            return accounts.create_project("web").id
        except InvalidRequest as error:
            assert error.param == "name"
            return ""

    with ThreadPoolExecutor(HANDS) as pool:
        made = [one for one in pool.map(create, range(HANDS)) if one]
    assert [project.id for project in accounts.projects()] == made
    accounts.create_project("other")
    with pytest.raises(InvalidRequest, match="'web' exists"):
        accounts.edit_project("other", name=" web ")
    assert accounts.edit_project("other", name="other").name == "other"


def test_the_first_keys_at_the_same_time_share_one_default_project(database: Database) -> None:
    accounts = Accounts(database)
    with ThreadPoolExecutor(HANDS) as pool:
        made = list(pool.map(lambda number: accounts.create_key("default", f"k{number}"), range(HANDS)))
    assert len({key.project_id for key, _ in made}) == len(accounts.projects()) == 1


def test_a_reader_sees_no_key_without_its_project(database: Database) -> None:
    """All of a snapshot is of one moment, whoever writes between its queries."""
    accounts = Accounts(database)
    accounts.create_project("first")
    with database.read() as connection:
        before = {row.id for row in connection.execute(projects.select())}
        accounts.create_key(accounts.create_project("second").id, "ci")
        assert {row.project_id for row in connection.execute(keys.select())} <= before
    assert accounts.key("ci").project_id in accounts.snapshot().projects


def test_an_archived_project_gets_no_keys(database: Database) -> None:
    accounts = Accounts(database)
    accounts.create_key("default", "old")
    accounts.archive_project("default")
    for attempt in (lambda: accounts.create_key("default", "new"), lambda: accounts.rotate_key("old")):
        with pytest.raises(InvalidRequest, match="archived") as caught:
            attempt()
        assert caught.value.param == "project"
    assert [key.name for key in accounts.keys("default")] == ["old"]


def test_an_id_is_found_before_a_name_like_it(database: Database) -> None:
    accounts = Accounts(database)
    mine = accounts.create_project("mine")
    accounts.create_project(mine.id)
    assert accounts.project(mine.id).name == "mine"


@pytest.mark.parametrize(
    ("rules", "param"),
    [
        (Rules(models=["gpt-5", ""]), "models[1]"),
        (Rules(profiles=["a\x1b[31m"]), "profiles[0]"),
        (Rules(models=["m"] * 501), "models"),
        (Rules(tags={"": "x"}), "tags"),
        (Rules(tags={"a": "x" * 300}), "tags"),
        (Rules(tags={"a": "x\ny"}), "tags"),
        (Rules(budgets=[BudgetRule(amount_usd="1", model="")]), "budgets[0].model"),
        (Rules(budgets=[BudgetRule(amount_usd="1", tag="=x")]), "budgets[0].tag"),
        (Rules(budgets=[BudgetRule(amount_usd="1_0")]), "budgets[0].amount_usd"),
        (Rules(budgets=[BudgetRule(amount_usd="٣")]), "budgets[0].amount_usd"),
        (Rules(budgets=[BudgetRule(amount_usd="1." + "0" * 30 + "1")]), "budgets[0].amount_usd"),
        (Rules(limits=Limits(requests_per_minute=-1)), "limits.requests_per_minute"),
        (Rules(policy=PolicyRules(jurisdictions=["US", "eu"])), "policy.jurisdictions[1]"),
        (Rules(policy=PolicyRules(no_training=None)), "policy.no_training"),  # type: ignore[arg-type]
        (Rules(policy=PolicyRules(deny_providers=["a\udcff"])), None),
    ],
)
def test_what_no_rule_may_hold(database: Database, rules: Rules, param: str | None) -> None:
    accounts = Accounts(database)
    accounts.create_project("web")
    before = accounts.snapshot()
    for attempt in (
        lambda: accounts.create_project("new", rules),
        lambda: accounts.edit_project("web", name="renamed", rules=lambda _: rules),
    ):
        with pytest.raises(InvalidRequest) as caught:
            attempt()
        assert caught.value.param == param
    assert accounts.snapshot() == before


WORDS = st.lists(
    st.sampled_from(
        ["", "eu", "EU", "local", "Local", "EU,US", "Mars", "ß", "a\udcff", "\0", "*", "gpt-*", "a=b"]
    )
    | st.text(max_size=5),
    max_size=3,
)
BUDGETS = st.builds(
    "{}/{}{}".format,
    st.sampled_from(["1", "0", "-1", "1e3", "NaN", "0.0000000000001", "9" * 20, " 5"]),
    st.sampled_from(["day", "month", "lifetime", "week"]),
    st.sampled_from(
        ["", ",soft", ",tz=Europe/Berlin", ",tz=../x", ",tz=a\udcff", ",model=m", ",tag=a=\udcff"]
    ),
)
NUMBERS = st.none() | st.integers()


@given(
    options=st.builds(
        RuleOptions,
        models=WORDS,
        profiles=WORDS,
        rpm=NUMBERS,
        tpm=NUMBERS,
        concurrency=NUMBERS,
        budgets=st.lists(BUDGETS, max_size=2),
        tags=WORDS,
        allow=WORDS,
        deny=WORDS,
        places=WORDS,
        no_training=st.none() | st.booleans(),
        zero_retention=st.none() | st.booleans(),
    )
)
def test_what_is_taken_can_be_read(options: RuleOptions) -> None:
    try:
        rules = options.over(Rules()) or Rules()
        check_rules(rules, of_project=True)
    except InvalidRequest:
        return
    assert read_rules(encode_rules(rules).decode(), of_project=True) == rules


@pytest.mark.parametrize(
    "kept",
    [
        '{"policy": {"jurisdictions": ["eu"]}}',
        '{"of_a_later_version": 1}',
        '{"budgets": [{"amount_usd": "ten"}]}',
        '{"budgets": [{"amount_usd": "1", "timezone": "Mars/Olympus"}]}',
        '{"limits": {"requests_per_minute": 0}}',
        "not JSON",
    ],
)
def test_one_that_cannot_be_read_is_closed_and_takes_no_other_with_it(database: Database, kept: str) -> None:
    accounts = Accounts(database)
    made = {name: accounts.create_key("default", name) for name in ("fine", "odd")}
    inside, secret = accounts.create_key(accounts.create_project("strange").id, "inside")
    for table, name in ((keys, "odd"), (projects, "strange")):
        with database.write() as connection:
            connection.execute(table.update().where(table.c.name == name).values(rules=kept))
    assert accounts.key("fine").unreadable is None
    assert accounts.key("odd").unreadable
    assert accounts.project("strange").unreadable
    admission = Admission()
    admission.refresh(accounts.snapshot())
    admission.admit(made["fine"][1], facts()).release()
    for one in (made["odd"][1], secret):
        with pytest.raises(Forbidden, match="cannot be read"):
            admission.admit(one, facts())
        with pytest.raises(Forbidden, match="cannot be read"):
            admission.allowed(one)
    with pytest.raises(InvalidRequest, match="cannot be read"):
        accounts.edit_key("odd", rules=lambda rules: replace(rules, tags={"a": "b"}))
    assert accounts.edit_key("odd", name="stranger").unreadable
    assert [one.name for one in accounts.snapshot().unreadable()] == ["strange", "stranger"]
    accounts.revoke_key("stranger")
    accounts.archive_project("strange")
    assert accounts.snapshot().unreadable() == []
    admission.refresh(accounts.snapshot())
    with pytest.raises(Unauthenticated, match="revoked"):
        admission.admit(made["odd"][1], facts())
    accounts.restore_project("strange")
    accounts.edit_project("strange", rules=Rules())
    admission.refresh(accounts.snapshot())
    assert admission.identify(secret) == inside.id
