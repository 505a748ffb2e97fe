"""``tieline projects``: what keys belong to, with rules and credits of their own."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
import typer

from tieline.admit.accounts import NOTHING, Accounts
from tieline.admit.rules import Rules
from tieline.admit.snapshot import Project
from tieline.cli import rules as options
from tieline.cli.rules import RuleOptions, takes_rules
from tieline.cli.terminal import console, escape, table, write_json
from tieline.cli.types import ConfigOption, JsonOption
from tieline.types.errors import InvalidRequest
from tieline.types.money import format_usd, parse_usd

app = typer.Typer(no_args_is_help=True, help="Projects: create, list, show, edit, archive, restore, credit.")

ProjectArgument = Annotated[str, typer.Argument(help="Name or id.")]


@app.command()
@takes_rules
def create(
    name: Annotated[str, typer.Argument(help="Unique.")],
    given: RuleOptions,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a project; its rules hold for all its keys together."""
    warnings = options.check_names(given, config)
    made = options.accounts(config, create=True).create_project(name, given.over(Rules()))
    if as_json:
        write_json(msgspec.to_builtins(made))
    else:
        console.print(f"[bold]{escape(made.name)}[/]  {made.id}")
    options.warn(warnings)


@app.command("list")
def list_projects(
    every: Annotated[bool, typer.Option("--all", help="Archived ones too.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """All projects."""
    accounts = options.accounts(config)
    found = [one for one in accounts.projects() if every or one.archived_ms is None]
    if as_json:
        write_json([plain(one, accounts) for one in found])
        return
    figures = [(one, plain(one, accounts)) for one in found]
    rows = table(
        "project",
        "id",
        "keys",
        "limits",
        "budgets",
        "spent $",
        "credit left $",
        "",
        right=("keys", "spent $"),
        wide={"project": 16, "limits": 14, "budgets": 18},
    )
    for one, shown in figures:
        rows.add_row(
            escape(one.name),
            one.id,
            str(shown["keys"]),
            options.limits_text(one.rules.limits),
            escape(options.budgets_text(one.rules)),
            shown["spent_usd"],
            shown["credit_left_usd"] or "–",
            _state(one),
        )
    console.print(rows if found else "No projects yet. `tieline projects create NAME` makes one.")


@app.command()
def show(project: ProjectArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """One project with all its rules."""
    accounts = options.accounts(config)
    found = accounts.project(project)
    shown = plain(found, accounts)
    if as_json:
        write_json(shown)
        return
    before = [("created", options.day(found.created_ms))]
    if found.archived_ms is not None:
        before.append(("archived", options.day(found.archived_ms)))
    before.append(("keys", str(shown["keys"])))
    after = [("spent", f"${shown['spent_usd']} in all")]
    if shown["credit_usd"] is not None:
        after.append(("credit", f"${shown['credit_usd']} paid in, ${shown['credit_left_usd']} left"))
    options.card(found, found.id, before, after)


@app.command()
@takes_rules
def edit(
    project: ProjectArgument,
    given: RuleOptions,
    name: Annotated[str | None, typer.Option(help="A new name.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change what is given; the rest stays. Lists are replaced whole."""
    accounts = options.accounts(config)
    found = accounts.project(project)
    warnings = options.check_names(given, config)
    changed = accounts.edit_project(found.id, name=name, rules=given.over)
    show(changed.id, config, as_json)
    options.warn(warnings)


@app.command()
def archive(project: ProjectArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """End a project: its keys stop working, its records stay."""
    found = options.accounts(config).archive_project(project)
    if as_json:
        write_json(msgspec.to_builtins(found))
    else:
        console.print(f"{escape(found.name)} is archived: gateways refuse its keys within 2 s.")


@app.command()
def restore(project: ProjectArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Take an archived project back: its keys work again."""
    found = options.accounts(config).restore_project(project)
    if as_json:
        write_json(msgspec.to_builtins(found))
    else:
        console.print(f"{escape(found.name)} is restored: gateways serve its keys within 2 s.")


@app.command(context_settings={"ignore_unknown_options": True})
def credit(
    project: ProjectArgument,
    amount: Annotated[str, typer.Argument(help="USD; with a minus it is taken back.")],
    note: Annotated[str, typer.Option(help="For the books.")] = "",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Pay in: from the first credit on a project can spend no more than was ever paid in."""
    accounts = options.accounts(config)
    try:
        pico = parse_usd(amount)
    except ValueError as error:
        raise InvalidRequest(f"{error}.", param="amount") from None
    accounts.add_credit(project, pico, note)
    shown = plain(accounts.project(project), accounts)
    if as_json:
        write_json(shown)
    else:
        console.print(
            f"{escape(shown['name'])}: ${shown['credit_usd']} paid in, ${shown['credit_left_usd']} left"
        )


def _state(project: Project) -> str:
    if project.archived_ms is not None:
        return "[red]archived[/]"
    return "[red]unreadable[/]" if project.unreadable is not None else ""


def plain(project: Project, accounts: Accounts) -> dict[str, Any]:
    """For JSON."""
    spent = accounts.spent().get(f"project:{project.id}", NOTHING).total
    paid = accounts.credits().get(project.id)
    return {
        **msgspec.to_builtins(project),
        "keys": len(accounts.keys(project.id)),
        "spent_usd": format_usd(spent),
        "credit_usd": None if paid is None else format_usd(paid),
        "credit_left_usd": None if paid is None else format_usd(paid - spent),
    }
