"""What the command line and the admin API ask of the records. Money is exact integers; unknown is counted, not guessed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from msgspec import Struct
from msgspec.structs import replace

from tieline.store.body import decode
from tieline.types.money import Pico
from tieline.types.record import Record

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Connection, Row, Select, Table

    from tieline.store.database import Database

MAX_ROWS = 10_000
_MICRO = 10**6
_DAY_MS = 86_400_000


class Filters(Struct, frozen=True, kw_only=True):
    """All that are given must hold. Times are Unix milliseconds, ``until_ms`` is exclusive."""

    since_ms: int | None = None
    until_ms: int | None = None
    key_id: str | None = None
    project: str | None = None
    provider: str | None = None
    model: str | None = None
    """As asked or as served."""
    deployment: str | None = None
    outcome: str | None = None
    """``failed`` is anything but success."""
    status: int | None = None
    session: str | None = None
    run: str | None = None
    tag: tuple[str, str] | None = None
    before_id: str | None = None
    """For the next page: records older than this one."""


class Spend(Struct, frozen=True, kw_only=True):
    """One line of ``tieline spend``. ``cost`` is the sum of what is known; ``unknown`` counts what is not in it."""

    group: str | None
    name: str | None = None
    """Of the key or project whose id ``group`` is."""
    requests: int
    attempts: int
    input_tokens: int
    output_tokens: int
    cost: Pico
    unknown: int
    wasted: Pico | None = None
    """None where the grouping is by attempt."""
    charged: Pico | None = None


By = Literal["model", "provider", "deployment", "key", "project", "day", "tag", "outcome", "run", "total"]


def logs(database: Database, filters: Filters | None = None, *, limit: int = 50) -> list[Record]:
    """The newest first, whole."""
    import sqlalchemy as sa

    from tieline.store.tables import records

    query = sa.select(records.c.body).order_by(records.c.at_ms.desc(), records.c.id.desc())
    query = _filtered(query, filters or Filters()).limit(min(limit, MAX_ROWS))
    with database.read() as connection:
        return [decode(bytes(body)) for body in connection.execute(query).scalars()]


def show(database: Database, request_id: str) -> Record | None:
    """One record by its id, or by the only id that begins so."""
    import sqlalchemy as sa

    from tieline.store.tables import records

    if "\0" in request_id:  # which PostgreSQL takes in no text
        return None
    with database.read() as connection:
        query = sa.select(records.c.body)
        body = connection.execute(query.where(records.c.id == request_id)).scalar()
        if body is None and len(request_id) >= 8:
            found = connection.execute(
                query.where(records.c.id.startswith(request_id, autoescape=True)).limit(2)
            )
            bodies = found.scalars().all()
            body = bodies[0] if len(bodies) == 1 else None
    return None if body is None else decode(bytes(body))


def spend(
    database: Database, *, by: By = "model", filters: Filters | None = None, tag: str | None = None
) -> list[Spend]:
    """Sums, dearest first (``day``: oldest first).

    ``model``, ``provider`` and ``deployment`` add up attempts, so that a failed one counts where it failed; the others
    add up requests. ``by="tag"`` needs the tag's name.
    """
    filters = filters or Filters()
    with database.read() as connection:
        if by in ("model", "provider", "deployment"):
            found = _by_attempt(connection, by, filters)
        else:
            found = _by_request(connection, by, filters, tag)
        if by in ("key", "project"):
            found = _named(connection, by, found)
    if by == "day":
        return sorted(found, key=lambda line: line.group or "")
    return sorted(found, key=lambda line: (-line.cost, line.group or ""))


def _by_attempt(connection: Connection, by: str, filters: Filters) -> list[Spend]:
    """An attempt is a row of ``entries``, or the record itself where it is the only one and the record says it all."""
    from tieline.store.tables import entries, records

    split = _attempts(entries, by).join(records, records.c.id == entries.c.record_id)
    found: dict[str, Spend] = {}
    for query in (split, _attempts(records, by).where(records.c.alone == 1)):
        for row in connection.execute(_filtered(query, filters)):
            line = Spend(
                group=row[0],
                requests=row[1],
                attempts=row[2],
                input_tokens=int(row[3]),
                output_tokens=int(row[4]),
                cost=_pico(row, 5),
                unknown=row[7],
            )
            found[row[0]] = _added(line, found[row[0]]) if row[0] in found else line
    return list(found.values())


def _attempts(table: Table, by: str) -> Select[Any]:
    import sqlalchemy as sa

    whole = table.c.record_id.distinct() if "record_id" in table.c else table.c.id
    return sa.select(
        table.c[by],
        sa.func.count(whole),
        sa.func.count(),
        *_sums(table.c.input_tokens, table.c.output_tokens),
        *_money(table.c.cost),
        sa.func.count() - sa.func.count(table.c.cost),
    ).group_by(table.c[by])


def _added(one: Spend, other: Spend) -> Spend:
    """Of the same group, and of different requests."""
    return Spend(
        group=one.group,
        requests=one.requests + other.requests,
        attempts=one.attempts + other.attempts,
        input_tokens=one.input_tokens + other.input_tokens,
        output_tokens=one.output_tokens + other.output_tokens,
        cost=one.cost + other.cost,
        unknown=one.unknown + other.unknown,
    )


def _by_request(connection: Connection, by: str, filters: Filters, tag: str | None) -> list[Spend]:
    import sqlalchemy as sa

    from tieline.store.tables import entries, record_tags, records

    group = _request_group(by)
    known = map(_known, _parts(records.c.cost), _parts(entries.c.cost))
    query = sa.select(
        group,
        sa.func.count(),
        *_sums(records.c.attempts, records.c.input_tokens, records.c.output_tokens),
        *_sums(*known),
        sa.func.count() - sa.func.count(records.c.cost),
        *_money(records.c.wasted),
        *_money(records.c.charged),
    )
    if by != "total":
        query = query.group_by(group)
    if by == "tag":
        if not tag:
            raise ValueError("by tag needs the tag's name")
        named = sa.and_(record_tags.c.record_id == records.c.id, record_tags.c.name == tag)
        query = query.select_from(records).outerjoin(record_tags, named)
    return [
        Spend(
            group=_group_name(by, row[0]),
            requests=row[1],
            attempts=int(row[2]),
            input_tokens=int(row[3]),
            output_tokens=int(row[4]),
            cost=_pico(row, 5),
            unknown=row[7],
            wasted=_pico(row, 8),
            charged=_pico(row, 10),
        )
        for row in connection.execute(_filtered(query, filters))
        if row[1]
    ]


def _known(whole: ColumnElement[Any], of_attempt: ColumnElement[Any]) -> ColumnElement[Any]:
    """Of a request whose cost is unknown as a whole, what is known of its attempts."""
    import sqlalchemy as sa

    from tieline.store.tables import entries, records

    attempts = sa.select(sa.func.sum(of_attempt)).where(entries.c.record_id == records.c.id)
    # Only those with entries are looked up: where models have no price, every row's cost is unknown.
    return sa.case(
        (records.c.cost.is_not(None), whole),
        (records.c.alone == 0, attempts.correlate(records).scalar_subquery()),
    )


def _named(connection: Connection, by: str, found: list[Spend]) -> list[Spend]:
    import sqlalchemy as sa

    from tieline.store.tables import keys, projects

    table = keys if by == "key" else projects
    rows = connection.execute(sa.select(table.c.id, table.c.name))
    names: dict[str | None, str] = {row[0]: row[1] for row in rows}
    return [replace(line, name=names.get(line.group)) for line in found]


def _request_group(by: str) -> ColumnElement[Any]:
    import sqlalchemy as sa

    from tieline.store.tables import record_tags, records

    columns: dict[str, ColumnElement[Any]] = {
        "key": records.c.key_id,
        "project": records.c.project,
        "outcome": records.c.outcome,
        "run": records.c.run,
        "tag": record_tags.c.value,
        "day": sa.type_coerce(records.c.at_ms.op("/")(sa.literal_column(str(_DAY_MS))), sa.BigInteger),
        "total": sa.null(),
    }
    return columns[by]


def _group_name(by: str, value: Any) -> str | None:
    if by != "day":
        return None if value is None else str(value)
    from datetime import UTC, datetime

    return datetime.fromtimestamp(int(value) * _DAY_MS / 1_000, UTC).date().isoformat()


def _sums(*columns: ColumnElement[Any]) -> list[ColumnElement[Any]]:
    import sqlalchemy as sa

    return [sa.func.coalesce(sa.func.sum(column), 0) for column in columns]


def _money(column: ColumnElement[Any]) -> list[ColumnElement[Any]]:
    """Two sums that cannot overflow where the one would (``tables``)."""
    return _sums(*_parts(column))


def _parts(column: ColumnElement[Any]) -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    """Whole micro-dollars and what is left; literals make both databases divide integers."""
    import sqlalchemy as sa

    micro: ColumnElement[int] = sa.literal_column(str(_MICRO))
    return column.op("/")(micro), column.op("%")(micro)


def _pico(row: Row[Any] | Sequence[Any], at: int) -> Pico:
    return int(row[at]) * _MICRO + int(row[at + 1])


def _filtered(query: Select[Any], filters: Filters) -> Select[Any]:
    import sqlalchemy as sa

    from tieline.store.tables import record_tags, records

    for name in ("key_id", "project", "provider", "deployment", "status", "session", "run"):
        value = getattr(filters, name)
        if value is not None:
            query = query.where(records.c[name] == value)
    if filters.since_ms is not None:
        query = query.where(records.c.at_ms >= filters.since_ms)
    if filters.until_ms is not None:
        query = query.where(records.c.at_ms < filters.until_ms)
    if filters.model is not None:
        query = query.where(sa.or_(records.c.model == filters.model, records.c.model_asked == filters.model))
    if filters.outcome == "failed":
        query = query.where(records.c.outcome != "success")
    elif filters.outcome is not None:
        query = query.where(records.c.outcome == filters.outcome)
    if filters.tag is not None:
        name, value = filters.tag
        tagged = sa.select(record_tags.c.record_id).where(
            record_tags.c.name == name, record_tags.c.value == value
        )
        query = query.where(records.c.id.in_(tagged))
    if filters.before_id is not None:
        query = query.where(records.c.id < filters.before_id)
    return query
