"""``tieline logs``, ``spend`` and ``show``: what the ledger says."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple, get_args

import msgspec

from tieline.admit.accounts import Accounts
from tieline.cli.terminal import console, escape, milliseconds, outcome_style, rounded_usd, table, write_json
from tieline.config.load import find, load
from tieline.store import queries
from tieline.store.database import Database
from tieline.types.errors import ConfigError, InvalidRequest, NotFound
from tieline.types.money import format_usd
from tieline.types.record import Attempt, Record, shown
from tieline.types.usage import Usage

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_BAR = 20
_MONEY = ("cost", "wasted", "charged")
_TIME_CHARS = len("req_") + 10
"""The part of an id that says when: enough to find one, unless two came in the same millisecond."""


def opened(config: Path | None, *, create: bool = False) -> Database:
    import os

    settings = load(config or find(os.environ), os.environ).config.store
    if settings.database == "none":
        raise ConfigError(
            "store.database is `none`: nothing is kept.", hint="Set it to sqlite:///tieline.db."
        )
    database = Database(settings.database)
    if not create and database.path is not None and not database.path.exists():
        raise ConfigError(
            f"There is no {database.path} yet.",
            hint="The first `tieline serve` makes it, or `tieline keys create NAME`.",
        )
    database.open()
    return database


def since_ms(text: str | None) -> int | None:
    """``90m``, ``2h``, ``3d`` ago, or an ISO date or time (UTC when it names no zone)."""
    if text is None:
        return None
    if ago := re.fullmatch(r"(\d{1,9})([smhdw])", text, re.ASCII):
        return int((time.time() - int(ago[1]) * _UNITS[ago[2]]) * 1000)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidRequest(f"--since {text}: not a time.", hint="Use 90m, 2h, 3d or 2026-01-31.") from None
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1000)


class Narrowed(NamedTuple):
    """What the commands are asked to look at; keys and projects by name or id, a tag as ``name=value``."""

    since: str | None = None
    key: str | None = None
    project: str | None = None
    provider: str | None = None
    model: str | None = None
    run: str | None = None
    tag: str | None = None
    failed: bool = False

    def filters(self, database: Database) -> queries.Filters:
        """Raises NotFound for a key or project that never was, InvalidRequest."""
        accounts = Accounts(database)
        name, equals, value = (self.tag or "").partition("=")
        if self.tag is not None and not (name and equals):
            raise InvalidRequest(f"--tag {self.tag}: which value?", hint="Write it as --tag team=web.")
        return queries.Filters(
            since_ms=since_ms(self.since),
            key_id=None if self.key is None else accounts.key(self.key).id,
            project=None if self.project is None else accounts.project(self.project).id,
            provider=self.provider,
            model=self.model,
            run=self.run,
            tag=(name, value) if equals else None,
            outcome="failed" if self.failed else None,
        )


def logs(config: Path | None, limit: int, narrowed: Narrowed, as_json: bool) -> None:
    database = opened(config)
    found = queries.logs(database, narrowed.filters(database), limit=limit)
    database.close()
    if as_json:
        write_json([shown(record) for record in found])
        return
    if not found:
        anything = narrowed == Narrowed()
        console.print(
            "No requests yet. Send one, then look again." if anything else "No request is like that."
        )
        return
    console.print(records_table(found))
    console.print(f"\n[dim]tieline show {found[0].id}[/]")


def records_table(found: list[Record]) -> Any:
    """Fits 100 columns; ids are cut where they stay distinct, as ``show`` takes a beginning."""
    rows = table(
        "request",
        "when",
        "asked",
        "served by",
        "tries",
        "total",
        "cost $",
        "outcome",
        right=("tries", "total", "cost $"),
        wide={"asked": 14, "served by": 24},
    )
    length = _distinct([record.id for record in found])
    for record in found:
        rows.add_row(
            record.id[:length],
            _when(record.at_ms),
            escape(record.model_asked),
            escape(record.deployment or "–"),
            str(len(record.attempts)),
            milliseconds(record.total_ms),
            rounded_usd(record.cost),
            outcome_style(record.outcome),
        )
    return rows


def _distinct(ids: list[str]) -> int:
    """The length at which no two begin alike."""
    length = _TIME_CHARS
    while length < 30 and len({one[:length] for one in ids}) < len(set(ids)):
        length += 1
    return length


def _when(at_ms: int) -> str:
    """The time of day if it was today, else the date with it; local."""
    at, now = datetime.fromtimestamp(at_ms / 1000), datetime.now()
    return at.strftime("%H:%M:%S" if at.date() == now.date() else "%m-%d %H:%M")


def spend(config: Path | None, by: str, narrowed: Narrowed, as_json: bool) -> None:
    tag = None
    if narrowed.tag is not None and "=" not in narrowed.tag:
        by, tag, narrowed = "tag", narrowed.tag, narrowed._replace(tag=None)
    if by not in get_args(queries.By):
        raise InvalidRequest(f"--by {by}: unknown.", hint=f"One of {', '.join(get_args(queries.By))}.")
    if by == "tag" and not tag:
        raise InvalidRequest("--by tag: which?", hint="Name it: --tag team.")
    database = opened(config)
    filters = narrowed.filters(database)
    rows = queries.spend(database, by=by, filters=filters, tag=tag)  # type: ignore[arg-type]  # checked above
    total = queries.spend(database, by="total", filters=filters) if len(rows) > 1 else []
    database.close()
    if as_json:
        write_json([_spend_line(row) for row in rows])
        return
    if not rows:
        anything = narrowed == Narrowed()
        console.print("Nothing was spent yet." if anything else "Nothing that is like that was spent.")
        return
    shown = table(
        by,
        "requests",
        "attempts",
        "input",
        "output",
        "cost $",
        "wasted $",
        "unpriced",
        right=("requests", "attempts", "input", "output", "cost $", "wasted $", "unpriced"),
        wide={by: 38},
    )
    for row in rows:
        shown.add_row(escape(_called(row, rows)), *_figures(row), end_section=row is rows[-1])
    for row in total:
        shown.add_row("total", *_figures(row))
    console.print(shown)


def _figures(row: queries.Spend) -> tuple[str, ...]:
    return (
        str(row.requests),
        str(row.attempts),
        f"{row.input_tokens:,}",
        f"{row.output_tokens:,}",
        "unknown" if row.unknown and not row.cost else format_usd(row.cost),
        "–" if row.wasted is None else format_usd(row.wasted),
        str(row.unknown) if row.unknown else "",
    )


def _called(row: queries.Spend, rows: list[queries.Spend]) -> str:
    """The name of a key or project, with its id where another has that name."""
    if row.name is None:
        return row.group or "–"
    alike = sum(row.name == other.name for other in rows)
    return row.name if alike == 1 else f"{row.name} {row.group}"


def _spend_line(row: queries.Spend) -> dict[str, Any]:
    return {
        **{name: value for name, value in msgspec.to_builtins(row).items() if name not in _MONEY},
        "cost_usd": format_usd(row.cost),
        "wasted_usd": None if row.wasted is None else format_usd(row.wasted),
        "charged_usd": None if row.charged is None else format_usd(row.charged),
    }


def show(request_id: str, config: Path | None, as_json: bool) -> None:
    database = opened(config)
    record = queries.show(database, request_id)
    database.close()
    if record is None:
        raise NotFound(
            f"There is no request {request_id!r}, or several begin so.", hint="`tieline logs` lists them."
        )
    if as_json:
        write_json(shown(record))
    else:
        print_record(record)


def print_record(record: Record) -> None:
    """Who, what it took, and each attempt as a bar on one time line."""
    when = datetime.fromtimestamp(record.at_ms / 1000).strftime("%Y-%m-%d %H:%M:%S")
    console.print(f"[bold]{record.id}[/]  {when}  {outcome_style(record.outcome)}  HTTP {record.status}")
    facts = table("", "")
    facts.show_header = False
    usage = record.usage
    for name, value in (
        (
            "asked",
            f"{escape(record.model_asked)} through {record.dialect}{', streamed' if record.stream else ''}",
        ),
        ("served by", escape(record.deployment or "nobody")),
        ("cost", _cost(record)),
        (
            "tokens",
            f"{usage.input_tokens:,} in, {usage.output_tokens:,} out{' (estimated)' if usage.estimated else ''}"
            if usage
            else "unknown",
        ),
        ("also billed", _extras(usage)),
        (
            "time",
            f"{milliseconds(record.total_ms)}, first token {milliseconds(record.first_token_ms)}, of which Tieline {record.overhead_ms:.2f} ms",
        ),
        ("error", escape(record.error_message) if record.error_message else ""),
    ):
        if value:
            facts.add_row(f"[dim]{name}[/]", value)
    console.print(facts)
    console.print()
    if record.attempts:
        console.print(_timeline(record))


def _cost(record: Record) -> str:
    wasted = "unknown" if record.wasted is None else f"${format_usd(record.wasted)}"
    if record.cost is None:
        return f"unknown, of which wasted {wasted}{' or more' if record.wasted is not None else ''}"
    return f"${format_usd(record.cost)}, of which wasted {wasted}"


def _extras(usage: Usage | None) -> str:
    """What has a price of its own."""
    if usage is None:
        return ""
    parts = [
        _EXTRAS.get(name, f"{name}: {{}}").format(f"{count:,}")
        for name, count in (usage.extras or {}).items()
        if count
    ]
    return ", ".join([*parts, "what has no known price"] if usage.unpriced else parts)


_EXTRAS = {
    "web_search": "web searches: {}",
    "file_search": "file searches: {}",
    "output_image": "tokens of images made: {}",
    "cache_read_audio": "tokens of cached audio: {}",
    "fast": "fast mode",
    "us": "processing in the United States alone",
}


def _timeline(record: Record) -> Any:
    rows = table(
        "#",
        "deployment",
        "key",
        "why",
        "time line",
        "ends",
        "outcome",
        "cost $",
        right=("ends", "cost $"),
        wide={"deployment": 22, "key": 10, "why": 9, "outcome": 15},
    )
    total = max([record.total_ms, *(entry.ended_ms for entry in record.attempts)]) or 1.0
    for entry in record.attempts:
        rows.add_row(
            str(entry.number),
            escape(entry.deployment),
            escape(entry.credential),
            entry.reason,
            _bar(entry, total),
            milliseconds(entry.ended_ms),
            outcome_style(entry.outcome)
            + (f" {entry.status}" if entry.status and entry.status != 200 else ""),
            rounded_usd(entry.cost),
        )
    return rows


def _bar(entry: Attempt, total: float) -> str:
    """Waiting is ``░``, answering ``█``."""
    start = round(entry.started_ms / total * _BAR)
    end = max(start + 1, round(entry.ended_ms / total * _BAR))
    first = (
        entry.first_token_ms
        if entry.first_token_ms is not None
        else (entry.ended_ms if entry.outcome != "success" else entry.started_ms)
    )
    middle = min(end, max(start, round(first / total * _BAR)))
    colour = "green" if entry.outcome == "success" else "red"
    return f"{' ' * start}[{colour}]{'░' * (middle - start)}{'█' * (end - middle)}[/]{' ' * (_BAR - end)}"
