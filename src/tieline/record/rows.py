"""A record as rows: one of ``records``; of ``entries`` one for each attempt, unless the record says it all; its tags, and
what its charge adds up to.

The values come in the order of the columns in ``store.tables``; a test holds that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from msgspec.structs import astuple

from tieline.types.record import SUCCESS, Attempt, Record
from tieline.types.usage import Usage

SLOT_S: Final = 900
"""Spend is added up by quarter hours: the days of every time zone begin at one."""
MAX_SCOPE_CHARS = 500
_MICRO = 10**6

Fields = tuple[Any, ...]
"""``astuple`` of a record: to read them all at once costs as much as four of them by name."""
ID: Final = 0
AT_MS: Final = 1
MODEL_ASKED: Final = 4
KEY_ID: Final = 6
PROJECT: Final = 7
SESSION: Final = 9
RUN: Final = 10
TAGS: Final = 11
PROVIDER: Final = 14
MODEL: Final = 15
DEPLOYMENT: Final = 16
STATUS: Final = 17
OUTCOME: Final = 18
ATTEMPTS: Final = 22
USAGE: Final = 24
COST: Final = 25
WASTED: Final = 26
CHARGED: Final = 27

PLAIN: dict[str, int | str | None] = {
    "wasted": 0,
    "status": 200,
    "outcome": SUCCESS,
    "attempts": 1,
    "alone": 1,
    "session": None,
    "run": None,
}
"""What the row of nearly every request says in these columns, so that it need not be bound for each."""


CHAINED: Final = ("seq", "hash", "body")
"""What is known of a row when it is written."""

PlainRow = tuple[Any, ...]


def plain_row(fields: Fields) -> PlainRow | None:
    """``record_row`` without the writer and the columns in CHAINED and PLAIN; None unless those are all there is to say."""
    if (
        fields[STATUS] != 200
        or fields[OUTCOME] != SUCCESS
        or fields[WASTED] != 0
        or fields[SESSION] is not None
        or fields[RUN] is not None
        or fields[TAGS]
        or not _is_alone(fields)
    ):
        return None
    return _row(fields)


def _row(fields: Fields) -> PlainRow:
    asked: str = fields[MODEL_ASKED]
    usage: Usage | None = fields[USAGE]
    return (
        fields[ID],
        fields[AT_MS],
        fields[KEY_ID],
        fields[PROJECT],
        asked if "\0" not in asked else _clean(asked),
        fields[PROVIDER],
        _text(fields[MODEL]),
        _text(fields[DEPLOYMENT]),
        usage.input_tokens if usage is not None else None,
        usage.output_tokens if usage is not None else None,
        fields[COST],
        fields[CHARGED],
    )


def record_row(fields: Fields, writer: str, seq: int, value: bytes, body: bytes) -> tuple[Any, ...]:
    row = _row(fields)
    return (
        *row[:2],
        writer,
        seq,
        bound(value),
        *row[2:],
        fields[WASTED],
        fields[STATUS],
        fields[OUTCOME],
        len(fields[ATTEMPTS]),
        int(_is_alone(fields)),
        _text(fields[SESSION]),
        _text(fields[RUN]),
        bound(body),
    )


def bound(value: bytes) -> bytearray:
    """SQLite's driver takes it as it is, and asks for each bytes object whether somebody wants it adapted: 0.8 us."""
    return bytearray(value)


def _is_alone(fields: Fields) -> bool:
    """Whether the record says all that its attempt would add to a sum."""
    attempts: list[Attempt] = fields[ATTEMPTS]
    if len(attempts) != 1:
        return False
    attempt = attempts[0]
    usage: Usage | None = fields[USAGE]
    other = attempt.usage
    return (
        attempt.deployment == fields[DEPLOYMENT]
        and attempt.provider == fields[PROVIDER]
        and attempt.model == fields[MODEL]
        and attempt.cost == fields[COST]
        and (usage is other or _tokens(usage) == _tokens(other))
    )


def entry_rows(record: Record) -> list[tuple[Any, ...]]:
    if _is_alone(astuple(record)):
        return []
    return [
        (
            record.id,
            attempt.number,
            record.at_ms,
            record.key_id,
            record.project,
            attempt.provider,
            _text(attempt.model),
            _text(attempt.deployment),
            attempt.credential,
            attempt.reason,
            attempt.outcome,
            attempt.status,
            attempt.started_ms,
            attempt.first_token_ms,
            attempt.ended_ms,
            *_tokens(attempt.usage),
            int(bool(attempt.usage and attempt.usage.estimated)),
            attempt.cost,
            _text(attempt.upstream_id),
        )
        for attempt in record.attempts
    ]


def tag_rows(record: Record) -> list[tuple[str, str | None, str | None]]:
    # Names that are the same without their NUL are one tag: the table has each once.
    tags = {_text(name): _text(value) for name, value in record.tags.items()}
    return [(record.id, name, value) for name, value in tags.items()]


def _tokens(usage: Usage | None) -> tuple[int | None, ...]:
    if usage is None:
        return (None,) * 6
    return (
        usage.input_tokens,
        usage.cache_read_tokens,
        usage.cache_write_5m_tokens,
        usage.cache_write_1h_tokens,
        usage.output_tokens,
        usage.reasoning_tokens,
    )


def _text(value: str | None) -> str | None:
    return _clean(value) if value and "\0" in value else value


def _clean(value: str) -> str:
    """What callers and upstreams may have written: PostgreSQL takes no NUL in text (the body keeps it)."""
    return value.replace("\0", "\ufffd")


def run_scope(project: str | None, run: str) -> str:
    """Runs are named by callers, so they are kept apart by project."""
    return f"run:{project or ''}:{run}"


class _Sum:
    __slots__ = ("charged", "requests", "unknown")

    def __init__(self) -> None:
        self.charged = self.requests = self.unknown = 0


class Charges:
    """What records were charged, to be added to the table ``spend``.

    Requests that were charged nothing add nothing: a caller who makes up model names fills no table.
    """

    def __init__(self) -> None:
        # By all that a record's scopes are made of: nearly all of a batch are alike.
        self._sums: dict[tuple[Any, ...], _Sum] = {}

    def add(self, fields: Fields) -> None:
        tags: dict[str, str] = fields[TAGS]
        self._add(
            fields[CHARGED],
            fields[AT_MS],
            fields[KEY_ID],
            fields[PROJECT],
            fields[MODEL_ASKED],
            fields[RUN],
            tuple(tags.items()) if tags else None,
        )

    def add_plain(self, row: PlainRow) -> None:
        _id, at_ms, key_id, project, model, _provider, _model, _deployment, _in, _out, _cost, charged = row
        self._add(charged, at_ms, key_id, project, model, None, None)

    def _add(
        self,
        charged: int | None,
        at_ms: int,
        key_id: str | None,
        project: str | None,
        model: str,
        run: str | None,
        tags: tuple[tuple[str, str], ...] | None,
    ) -> None:
        if charged == 0:
            return
        alike = (at_ms // (1_000 * SLOT_S), key_id, project, model, run, tags)
        total = self._sums.get(alike)
        if total is None:
            total = self._sums[alike] = _Sum()
        total.requests += 1
        if charged is None:
            total.unknown += 1
        else:
            total.charged += charged

    def values(self) -> list[str | int]:
        """Scope, slot, micros, rest, requests, unknown; of one row after another."""
        sums: dict[tuple[str, int], _Sum] = {}
        for (slot, key_id, project, model, run, labels), added in self._sums.items():
            for scope in _scopes(key_id, project, model, run, labels or ()):
                total = sums.setdefault((stored_scope(scope), slot), _Sum())
                total.charged += added.charged
                total.requests += added.requests
                total.unknown += added.unknown
        values: list[str | int] = []
        for scope, slot in sorted(sums):
            total = sums[scope, slot]
            micros, rest = divmod(total.charged, _MICRO)
            values += (scope, slot, micros, rest, total.requests, total.unknown)
        return values


def _scopes(
    key_id: str | None, project: str | None, model: str, run: str | None, tags: Iterable[tuple[str, str]]
) -> Iterator[str]:
    """What a record's charge counts against."""
    if key_id:
        yield f"key:{key_id}"
        yield f"key:{key_id}/model:{model}"
    if project:
        yield f"project:{project}"
        yield f"project:{project}/model:{model}"
        for name, value in tags:
            yield f"project:{project}/tag:{name}={value}"
    if run:
        yield run_scope(project, run)


def stored_scope(scope: str) -> str:
    """A scope as the table ``spend`` has it."""
    return _clean(scope[:MAX_SCOPE_CHARS])
