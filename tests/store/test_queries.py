"""What `tieline logs`, `spend` and `show` read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa

from tests.record.samples import attempt, record
from tieline.record.recorder import Recorder
from tieline.store.database import Database
from tieline.store.queries import By, Filters, Spend, _by_request, logs, show, spend
from tieline.types.record import Record

DAY = 86_400_000
HUGE = 8 * 10**18 + 3

MADE = [
    record(at_ms=DAY, key_id="a", tags={"team": "x"}, wasted=10, charged=20),
    record(at_ms=DAY + 1, key_id="a", cost=HUGE, attempts=[attempt(cost=HUGE)]),
    record(at_ms=2 * DAY - 1, key_id="b", cost=HUGE, attempts=[attempt(cost=HUGE)]),
    record(
        at_ms=2 * DAY,
        key_id=None,
        cost=None,
        model="opus",
        provider="anthropic",
        tags={"team": "y", "env": "prod"},
        attempts=[
            attempt(1, outcome="stall", cost=None),
            attempt(2, provider="anthropic", model="opus", cost=5),
        ],
    ),
    record(at_ms=3 * DAY, status=429, outcome="refused", attempts=[], usage=None, cost=0, provider=None),
]


@pytest.fixture(params=["sqlite", "postgresql"], scope="module")
def database(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    url = f"sqlite:///{tmp_path_factory.mktemp('db') / 'tieline.db'}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres").new_database()
    opened = Database(url)
    opened.open()
    recorder = Recorder(opened)
    recorder.start()
    for one in MADE:
        recorder.put(one)
    assert recorder.close()
    yield opened
    opened.close()


def test_logs_are_whole_and_newest_first(database: Database) -> None:
    assert logs(database) == MADE[::-1]
    assert logs(database, limit=2) == MADE[:2:-1]


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (Filters(key_id="a"), [1, 0]),
        (Filters(since_ms=DAY + 1, until_ms=2 * DAY), [2, 1]),
        (Filters(model="opus"), [3]),
        (Filters(model="gpt-5", provider="anthropic"), [3]),
        (Filters(outcome="failed"), [4]),
        (Filters(status=429), [4]),
        (Filters(tag=("team", "x")), [0]),
        (Filters(before_id=MADE[2].id), [1, 0]),
        (Filters(key_id="nobody"), []),
    ],
)
def test_filters(database: Database, filters: Filters, expected: list[int]) -> None:
    assert logs(database, filters) == [MADE[index] for index in expected]


def test_show(database: Database) -> None:
    assert show(database, MADE[1].id) == MADE[1]
    assert show(database, MADE[1].id[:-1]) in (MADE[1], None)
    assert show(database, "req_%%%%%%%%") is None
    assert show(database, "nothing") is None
    assert show(database, "req_\0nothing") is None


def by(lines: list[Spend]) -> dict[str | None, Spend]:
    return {line.group: line for line in lines}


def test_spend_is_exact_beyond_64_bits(database: Database) -> None:
    [total] = spend(database, by="total")
    assert total.cost == 2 * HUGE + 1_234_567 + 5
    assert (total.requests, total.attempts, total.unknown) == (5, 5, 1)
    assert total.charged == 20 + 4 * 1_234_567
    assert total.wasted == 10


def test_spend_by_provider_counts_attempts(database: Database) -> None:
    lines = by(spend(database, by="provider"))
    assert lines["openai"].cost == 2 * HUGE + 1_234_567
    assert (lines["openai"].attempts, lines["openai"].unknown) == (4, 1)
    assert (lines["anthropic"].cost, lines["anthropic"].unknown) == (5, 0)
    assert list(by(spend(database, by="model"))) == ["gpt-5", "opus"]


def test_spend_by_key_day_and_tag(database: Database) -> None:
    keys = by(spend(database, by="key"))
    assert keys["b"].cost == HUGE
    assert keys["a"].requests == 2
    assert (keys[None].cost, keys[None].unknown) == (5, 1)
    days = spend(database, by="day")
    assert [(line.group, line.requests) for line in days] == [
        ("1970-01-02", 3),
        ("1970-01-03", 1),
        ("1970-01-04", 1),
    ]
    tags = by(spend(database, by="tag", tag="team"))
    assert {group: line.requests for group, line in tags.items()} == {"x": 1, "y": 1, None: 3}
    with pytest.raises(ValueError, match="tag"):
        spend(database, by="tag")


@pytest.mark.parametrize("grouping", ["key", "project", "day", "outcome", "run", "total"])
def test_spend_has_what_is_known_however_it_is_grouped(database: Database, grouping: By) -> None:
    attempts, requests = spend(database, by="deployment"), spend(database, by=grouping)
    assert sum(line.cost for line in requests) == sum(line.cost for line in attempts)
    assert sum(line.unknown for line in requests) == 1


def test_known_costs_are_looked_up_by_their_request(database: Database) -> None:
    plan = []

    def explain(connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if statement.startswith("SELECT"):
            plan.extend(connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters).all())

    if not database.is_sqlite:
        pytest.skip("PostgreSQL reads so few rows without an index")
    with database.read() as connection:
        sa.event.listen(connection, "before_cursor_execute", explain)
        _by_request(connection, "total", Filters(), None)
    assert "SEARCH entries USING INDEX" in str(plan)
    assert "SCAN entries" not in str(plan)


def test_spend_of_nothing(database: Database) -> None:
    assert spend(database, by="total", filters=Filters(key_id="nobody")) == []
    assert spend(database, by="model", filters=Filters(key_id="nobody")) == []


def test_records_are_whole(database: Database) -> None:
    assert all(isinstance(found, Record) for found in logs(database))
