"""``tieline audit``: who changed what, and whether what is kept is as it was written."""

from __future__ import annotations

from typing import Annotated

import msgspec
import typer

from tieline.cli.ledger import opened
from tieline.cli.rules import day
from tieline.cli.terminal import console, escape, table, write_json
from tieline.cli.types import ConfigOption, JsonOption
from tieline.store import audit

app = typer.Typer(no_args_is_help=True, help="Who changed what, and whether records were tampered with.")


@app.command()
def verify(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Walk the hash chains of records and of changes, and compare keys, projects and spend with what they come to. Exit
    code 1 when anything does not fit."""
    from tieline.admit import audited
    from tieline.record import chain

    database = opened(config)
    verdict = chain.verify(database)
    changes, problems = audit.verify(database)
    differing, silent = audited.verify(database)
    found = [*verdict.problems, *problems, *differing]
    unknown = [*verdict.unknown, *silent]
    if as_json:
        write_json(
            {
                "ok": not found,
                "records": verdict.records,
                "writers": verdict.writers,
                "changes": changes,
                "problems": found,
                "unknown": unknown,
            }
        )
    else:
        console.print(f"{verdict.records} records of {verdict.writers} writers, {changes} changes")
        for problem in found:
            console.print(f"[red]✗[/] {escape(problem)}")
        for one in unknown:
            console.print(f"[yellow]?[/] not known: {escape(one)}")
        console.print("[red]Something was changed.[/]" if found else "[green]Nothing was changed.[/]")
    raise typer.Exit(1 if found else 0)


@app.command()
def log(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1)] = 20,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """The latest changes of keys, projects, credentials and configuration."""
    found = audit.changes(opened(config), limit=limit)
    if as_json:
        write_json(msgspec.to_builtins(found))
        return
    rows = table("when", "who", "what", "of", "detail", wide={"detail": 32})
    for one in found:
        detail = msgspec.json.encode(one.detail).decode()
        rows.add_row(day(one.at_ms), escape(one.actor), one.action, escape(one.subject), escape(detail))
    console.print(rows)
