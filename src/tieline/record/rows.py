"""A record as rows: one of ``records``; of ``entries`` one for each attempt, unless the record says it all; its tags, and
what its charge adds up to.

The values come in the order of the columns in ``store.tables``; a test holds that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from tieline.types.record import SUCCESS, Record
from tieline.types.usage import Usage

SLOT_S = 900
"""Spend is added up by quarter hours: the days of every time zone begin at one."""
MAX_SCOPE_CHARS = 500
_MICRO = 10**6


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


def is_plain(record: Record) -> bool:
    return (
        record.status == 200
        and record.outcome == SUCCESS
        and record.wasted == 0
        and record.session is None
        and record.run is None
        and _is_alone(record)
    )


def plain_row(record: Record, writer: str, seq: int, value: bytes, body: bytes) -> tuple[Any, ...]:
    """``record_row`` of a plain record without the columns in PLAIN."""
    usage = record.usage
    asked, model, deployment = record.model_asked, record.model, record.deployment
    if "\0" in f"{asked}{model}{deployment}":
        asked, model, deployment = _clean(asked), _text(model), _text(deployment)
    return (
        record.id,
        record.at_ms,
        writer,
        seq,
        value,
        record.key_id,
        record.project,
        asked,
        record.provider,
        model,
        deployment,
        usage.input_tokens if usage is not None else None,
        usage.output_tokens if usage is not None else None,
        record.cost,
        record.charged,
        body,
    )


def record_row(record: Record, writer: str, seq: int, value: bytes, body: bytes) -> tuple[Any, ...]:
    return (
        *plain_row(record, writer, seq, value, body)[:-1],
        record.wasted,
        record.status,
        record.outcome,
        len(record.attempts),
        int(_is_alone(record)),
        _text(record.session),
        _text(record.run),
        body,
    )


def _is_alone(record: Record) -> bool:
    """Whether the record says all that its attempt would add to a sum."""
    if len(record.attempts) != 1:
        return False
    attempt = record.attempts[0]
    usage, other = record.usage, attempt.usage
    return (
        attempt.deployment == record.deployment
        and attempt.provider == record.provider
        and attempt.model == record.model
        and attempt.cost == record.cost
        and (usage is other or _tokens(usage) == _tokens(other))
    )


def entry_rows(record: Record) -> list[tuple[Any, ...]]:
    if _is_alone(record):
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
    return [(record.id, _text(name), _text(value)) for name, value in record.tags.items()]


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


def scopes_of(record: Record) -> Iterator[str]:
    """What a record's charge counts against."""
    if record.key_id:
        yield f"key:{record.key_id}"
        yield f"key:{record.key_id}/model:{record.model_asked}"
    if record.project:
        yield f"project:{record.project}"
        yield f"project:{record.project}/model:{record.model_asked}"
        for name, value in record.tags.items():
            yield f"project:{record.project}/tag:{name}={value}"
    if record.run:
        yield run_scope(record.project, record.run)


def run_scope(project: str | None, run: str) -> str:
    """Runs are named by callers, so they are kept apart by project."""
    return f"run:{project or ''}:{run}"


def spend_rows(records: Iterable[Record]) -> list[tuple[str, int, int, int, int, int]]:
    """(scope, slot, micros, rest, requests, unknown) to be added to the table ``spend``.

    Requests that were charged nothing add nothing: a caller who makes up model names fills no table.
    """
    sums: dict[tuple[str, int], list[int]] = {}
    for record in records:
        charged = record.charged
        if charged == 0:
            continue
        slot = record.at_ms // 1_000 // SLOT_S
        for scope in scopes_of(record):
            total = sums.setdefault((stored_scope(scope), slot), [0, 0, 0])
            total[0] += charged or 0
            total[1] += 1
            total[2] += charged is None
    return [
        (scope, slot, charged // _MICRO, charged % _MICRO, requests, unknown)
        for (scope, slot), (charged, requests, unknown) in sorted(sums.items())
    ]


def stored_scope(scope: str) -> str:
    """A scope as the table ``spend`` has it."""
    return _clean(scope[:MAX_SCOPE_CHARS])
