"""Keys are found or refused; what they may do only narrows; changes in the database arrive."""

from __future__ import annotations

import asyncio
import time as clock
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from tests.admit.samples import SECRET, Time, budget, door, facts, snapshot
from tests.record.samples import record
from tieline.admit.accounts import Accounts
from tieline.admit.admission import Admission
from tieline.admit.keys import digest_of, make_secret
from tieline.admit.policy import combine
from tieline.admit.rules import BudgetRule, Limits, Rules, check_rules, matches, selector
from tieline.admit.snapshot import Snapshot
from tieline.admit.watch import Watch
from tieline.config.schema import PolicyRules
from tieline.record.recorder import Recorder
from tieline.store.database import Database
from tieline.types.errors import BudgetExceeded, Forbidden, InvalidRequest, NotFound, Unauthenticated


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    url = f"sqlite:///{tmp_path / 'tieline.db'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres").new_database()
    opened = Database(url)
    opened.open()
    yield opened
    opened.close()


def test_open_on_loopback_until_there_is_a_key() -> None:
    admission = Admission(loopback=True)
    assert admission.admit(None, facts()).key_id is None
    assert admission.admit("sk-whatever-the-sdk-sends", facts()).project is None
    with pytest.raises(Unauthenticated):
        admission.admit("tl-wrong", facts())
    admission.refresh(snapshot())
    with pytest.raises(Unauthenticated, match="No API key"):
        admission.admit(None, facts())
    assert admission.admit(SECRET, facts()).key_id == "key_1"


def test_a_public_address_needs_a_key_unless_open() -> None:
    with pytest.raises(Unauthenticated):
        Admission(loopback=False).admit(None, facts())
    assert Admission(loopback=False, open=True).admit(None, facts()).key_id is None


@pytest.mark.parametrize(
    "secret", ["tl-", "tl-x", "sk-x", "", SECRET + "x", "x" * 1_000_000, "tl-\ud800", "ü"]
)
def test_wrong_keys_are_refused_without_being_shown(secret: str) -> None:
    with pytest.raises(Unauthenticated) as caught:
        door().admit(secret, facts())
    assert len(secret) < 5 or secret not in caught.value.full_message


def test_expired_revoked_archived() -> None:
    time = Time(1_000.0)
    with pytest.raises(Unauthenticated, match="expired"):
        door(time=time, expires_ms=1_000_000).admit(SECRET, facts())
    door(time=time, expires_ms=1_000_001).admit(SECRET, facts())
    with pytest.raises(Unauthenticated, match="revoked"):
        door(revoked_ms=1).admit(SECRET, facts())


def test_a_secret_that_was_good_is_looked_at_again_each_time() -> None:
    time = Time(1_000.0)
    admission = door(time=time, expires_ms=1_001_000)
    for _ in range(3):
        assert admission.admit(SECRET, facts()).key_id == "key_1"
    time.pass_(2)
    with pytest.raises(Unauthenticated, match="expired"):
        admission.admit(SECRET, facts())
    admission.refresh(snapshot(revision=2))
    assert admission.admit(SECRET, facts()).key_id == "key_1"
    admission.refresh(snapshot(revision=3, revoked_ms=1))
    with pytest.raises(Unauthenticated, match="revoked"):
        admission.admit(SECRET, facts())
    admission.refresh(Snapshot(4, {}, {}, {}))
    with pytest.raises(Unauthenticated, match="Incorrect"):
        admission.admit(SECRET, facts())


def test_models_and_profiles_narrow() -> None:
    key, project = Rules(models=["gpt-5", "anthropic/*"]), Rules(models=["anthropic/*"], profiles=["fast"])
    admission = door(key, project)
    admission.admit(SECRET, facts("anthropic/opus", profile="fast"))
    for bad in (facts("gpt-5"), facts("mistral"), facts("anthropic/opus", profile="deep")):
        with pytest.raises(Forbidden) as caught:
            admission.admit(SECRET, bad)
        assert caught.value.param in ("model", "profile")


def test_alternatives_that_the_caller_lists_are_narrowed_too() -> None:
    admission = door(Rules(models=["gpt-5", "small*"]))
    admission.admit(SECRET, facts("gpt-5", alternatives=("small-2",)))
    with pytest.raises(Forbidden, match="'opus'") as caught:
        admission.admit(SECRET, facts("gpt-5", alternatives=("small-2", "opus")))
    assert caught.value.param == "models"
    assert admission.inflight == 1


def test_tags_of_key_and_project_win() -> None:
    admission = door(Rules(tags={"team": "key", "a": "1"}), Rules(tags={"team": "project"}))
    permit = admission.admit(SECRET, facts(tags={"team": "mine", "b": "2"}))
    assert permit.tags == {"team": "project", "a": "1", "b": "2"}


def test_policy_only_tightens() -> None:
    base = PolicyRules(jurisdictions=["EU", "US"], allow_providers=["a", "b"])
    admission = Admission(policy=base)
    admission.refresh(snapshot(Rules(policy=PolicyRules(jurisdictions=["DE", "CN"], deny_providers=["b"]))))
    permit = admission.admit(SECRET, facts(policy=PolicyRules(allow_providers=["b", "c"], no_training=True)))
    assert permit.policy.jurisdictions == ["DE"]
    assert permit.policy.allow_providers == ["b"]
    assert permit.policy.deny_providers == ["b"]
    assert permit.policy.no_training
    assert combine(base, None) is base


@pytest.mark.parametrize(
    ("rules", "param"),
    [
        (Rules(limits=Limits(requests_per_minute=0)), "limits.requests_per_minute"),
        (Rules(limits=Limits(concurrency=-1)), "limits.concurrency"),
        (Rules(budgets=[BudgetRule(amount_usd="-1")]), "budgets[0].amount_usd"),
        (Rules(budgets=[BudgetRule(amount_usd="lots")]), "budgets[0].amount_usd"),
        (Rules(budgets=[BudgetRule(amount_usd="1e30")]), "budgets[0].amount_usd"),
        (Rules(budgets=[BudgetRule(amount_usd="1", timezone="Mars/Base")]), "budgets[0].timezone"),
        (Rules(budgets=[BudgetRule(amount_usd="1", timezone="../etc/passwd")]), "budgets[0].timezone"),
        (Rules(budgets=[BudgetRule(amount_usd="1", model="x", tag="a=b")]), "budgets[0]"),
        (Rules(budgets=[BudgetRule(amount_usd="1", tag="a")]), "budgets[0].tag"),
        (Rules(budgets=[BudgetRule(amount_usd="1")] * 2), "budgets"),
        (Rules(tags={str(n): "" for n in range(51)}), "tags"),
    ],
)
def test_bad_rules_name_the_field(rules: Rules, param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_rules(rules, of_project=True)
    assert caught.value.param == param


def test_secrets_are_long_and_kept_hashed(database: Database) -> None:
    accounts = Accounts(database)
    key, secret = accounts.create_key("default", "ci")
    assert secret.startswith("tl-")
    assert len(secret) == 46
    assert len({make_secret() for _ in range(100)}) == 100
    assert key.hints == (secret[-4:],)
    with database.read() as connection:
        dump = "".join(
            repr(tuple(row))
            for table in sa.inspect(connection).get_table_names()
            for row in connection.execute(sa.text(f"SELECT * FROM {table}"))
        )
    assert secret not in dump
    assert secret[3:-4] not in dump
    assert list(accounts.snapshot().secrets) == [digest_of(secret)]


def test_create_list_edit_revoke(database: Database) -> None:
    accounts = Accounts(database)
    project = accounts.create_project("web", Rules(limits=Limits(concurrency=5)))
    key, _ = accounts.create_key("web", "one", Rules(models=["gpt-5"]))
    accounts.create_key(project.id, "two")
    assert [found.name for found in accounts.keys("web")] == ["one", "two"]
    edited = accounts.edit_key("one", name="uno", rules=Rules(), expires_ms=4 * 10**12)
    assert (edited.id, edited.name, edited.rules, edited.expires_ms) == (key.id, "uno", Rules(), 4 * 10**12)
    assert accounts.edit_key("uno", expires_ms=None).expires_ms is None
    assert accounts.revoke_key("uno").revoked_ms is not None
    assert accounts.edit_project("web", name="site").name == "site"
    assert accounts.archive_project("site").archived_ms is not None
    assert accounts.project("site").rules.limits.concurrency == 5


def test_bad_input_writes_nothing(database: Database) -> None:
    accounts = Accounts(database)
    accounts.create_project("web")
    accounts.create_key("web", "twice")
    accounts.create_key("web", "twice")
    before = accounts.snapshot()
    for attempt in (
        lambda: accounts.create_project("web"),
        lambda: accounts.create_project(" "),
        lambda: accounts.create_project("a\nb"),
        lambda: accounts.create_project("x", Rules(limits=Limits(concurrency=0))),
        lambda: accounts.create_key("web", "x", expires_ms=1),
        lambda: accounts.create_key("web", "x", Rules(budgets=[BudgetRule(amount_usd="-5")])),
        lambda: accounts.revoke_key("twice"),
        lambda: accounts.rotate_key("twice", overlap_s=-1),
        lambda: accounts.add_credit("web", 0),
    ):
        with pytest.raises(InvalidRequest):
            attempt()
    for attempt in (lambda: accounts.create_key("nowhere", "x"), lambda: accounts.revoke_key("nobody")):
        with pytest.raises(NotFound):
            attempt()
    assert accounts.snapshot() == before


def test_rotation_overlaps(database: Database) -> None:
    accounts = Accounts(database)
    key, old = accounts.create_key("default", "ci")
    rotated, new = accounts.rotate_key("ci", overlap_s=60)
    assert rotated.id == key.id
    assert set(rotated.hints) == {old[-4:], new[-4:]}
    time = Time(clock.time())
    admission = Admission(clock=time.clock, wall=time.wall)
    admission.refresh(accounts.snapshot())
    assert admission.admit(old, facts()).key_id == admission.admit(new, facts()).key_id == key.id
    time.pass_(61)
    with pytest.raises(Unauthenticated, match="replaced"):
        admission.admit(old, facts())
    admission.admit(new, facts())


async def test_changes_arrive_within_two_seconds(database: Database) -> None:
    accounts = Accounts(database)
    _, secret = await asyncio.to_thread(accounts.create_key, "default", "ci")
    admission = Admission()
    watch = Watch(admission, accounts)
    await watch.load()
    watch.start()
    admission.admit(secret, facts()).release()
    await asyncio.to_thread(accounts.revoke_key, "ci")
    start = clock.monotonic()
    while clock.monotonic() < start + 2:
        try:
            admission.admit(secret, facts()).release()
        except Unauthenticated:
            break
        await asyncio.sleep(0.05)
    else:
        pytest.fail("a revoked key still works after two seconds")
    await watch.stop()


async def test_keys_stay_in_force_while_the_database_is_away(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'tieline.db'}")
    database.open()
    accounts = Accounts(database)
    _, secret = accounts.create_key("default", "ci")
    admission = Admission()
    watch = Watch(admission, accounts, interval_s=0.02)
    await watch.load()
    with database.write() as connection:
        connection.execute(sa.text("ALTER TABLE meta RENAME TO away"))
    watch.start()
    await asyncio.sleep(0.2)
    assert watch.last_error is not None
    assert watch.stale_s > 0.1
    admission.admit(secret, facts()).release()
    with database.write() as connection:
        connection.execute(sa.text("ALTER TABLE away RENAME TO meta"))
    await asyncio.sleep(0.2)
    assert watch.last_error is None
    await watch.stop()
    database.close()


async def test_spend_is_remembered_over_a_restart(database: Database) -> None:
    accounts = Accounts(database)
    project = accounts.create_project("web", budget(100, period="lifetime"))
    _, secret = accounts.create_key("web", "ci", Rules(budgets=[BudgetRule(amount_usd="1", model="gpt-5")]))

    async def serve() -> tuple[Admission, Recorder]:
        admission, recorder = Admission(), Recorder(database)
        recorder.start()
        await Watch(admission, accounts).load()
        return admission, recorder

    admission, recorder = await serve()
    for amount in (30, 40):
        permit = admission.admit(secret, facts())
        permit.reserve(amount)
        one = record(key_id=permit.key_id, project=permit.project, charged=permit.settle(amount))
        permit.release()
        recorder.put(one)
    assert await asyncio.to_thread(recorder.close)
    admission, recorder = await serve()
    assert admission._meters[f"project:{project.id}"].total == 70
    permit = admission.admit(secret, facts())
    permit.reserve(30)
    assert {meter.total for meter in permit.meters} == {100}
    with pytest.raises(BudgetExceeded):
        permit.reserve(31)
    permit.release()
    accounts.add_credit("web", 80)
    assert accounts.credits() == {project.id: 80}
    await asyncio.to_thread(recorder.close)


def test_the_door_is_quick() -> None:
    admission = door(budget(10**18), Rules(limits=Limits(requests_per_minute=10**8, concurrency=100)))
    count = 3_000
    start = clock.perf_counter()
    for _ in range(count):
        permit = admission.admit(SECRET, facts())
        permit.reserve(1_000)
        permit.settle(500)
        permit.release()
    each = (clock.perf_counter() - start) / count
    print(f"admit, reserve, settle, release: {each * 1e6:.2f} us")
    assert each < 200e-6


@given(st.lists(st.text("ab*", max_size=4), max_size=5), st.text("ab*", max_size=4))
def test_a_list_is_filtered_as_a_request_is(patterns: list[str], name: str) -> None:
    assert selector(patterns)(name) == matches(patterns, name)
