"""``tieline keys``: virtual keys in the database of the configuration. A running gateway sees changes within 2 s."""

from __future__ import annotations

import time
from typing import Annotated, Any

import msgspec
import typer

from tieline.admit.accounts import NOTHING, Accounts, Spent
from tieline.admit.rules import Rules
from tieline.admit.snapshot import Key
from tieline.cli import rules as options
from tieline.cli.rules import RuleOptions, takes_rules
from tieline.cli.terminal import console, escape, table, write_json
from tieline.cli.types import ConfigOption, JsonOption
from tieline.types.money import Pico, format_usd

app = typer.Typer(no_args_is_help=True, help="Virtual keys: create, list, show, edit, rotate, revoke.")

KeyArgument = Annotated[str, typer.Argument(help="Name or id.")]
ExpiresOption = Annotated[str | None, typer.Option("--expires", help="12h, 30d, 2030-01-31 or never.")]


@app.command()
@takes_rules
def create(
    name: Annotated[str, typer.Argument(help="For people; need not be unique.")],
    given: RuleOptions,
    project: Annotated[str, typer.Option(help="Name or id; `default` is made when missing.")] = "default",
    expires: ExpiresOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a key. Its secret is shown now and never again."""
    until = options.expiry_ms(expires)
    warnings = options.check_names(given, config)
    key, secret = options.accounts(config, create=True).create_key(
        project, name, given.over(Rules()), expires_ms=until if isinstance(until, int) else None
    )
    _reveal(key, secret, as_json)
    options.warn(warnings)


@app.command("list")
def list_keys(
    project: Annotated[str | None, typer.Option(help="Only its keys.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Revoked and expired ones too.")] = False,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """All keys, without their secrets."""
    accounts = options.accounts(config)
    found = [key for key in accounts.keys(project) if every or state_of(key) in ("active", "unreadable")]
    projects = {one.id: one.name for one in accounts.projects()}
    spent = accounts.spent()
    if as_json:
        write_json([plain(key, accounts, spent) for key in found])
        return
    rows = table(
        "key",
        "id",
        "project",
        "secret",
        "limits",
        "budgets",
        "spent $",
        "state",
        right=("spent $",),
        wide={"key": 16, "project": 10, "limits": 12, "budgets": 14},
    )
    for key in found:
        rows.add_row(
            escape(key.name),
            key.id,
            escape(projects[key.project_id]),
            " ".join(f"…{hint}" for hint in key.hints),
            options.limits_text(key.rules.limits),
            escape(options.budgets_text(key.rules)),
            format_usd(_spent(spent, key)),
            _state_style(state_of(key)),
        )
    console.print(rows if found else "No keys yet. `tieline keys create NAME` makes one.")


@app.command()
def show(key: KeyArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """One key with all its rules."""
    accounts = options.accounts(config)
    found = accounts.key(key)
    if as_json:
        write_json(plain(found, accounts, accounts.spent()))
        return
    before = [
        ("project", accounts.project(found.project_id).name),
        ("secrets", " ".join(f"…{hint}" for hint in found.hints) or "none valid"),
        ("created", options.day(found.created_ms)),
    ]
    if found.expires_ms is not None:
        before.append(("expires", options.day(found.expires_ms)))
    if found.revoked_ms is not None:
        before.append(("revoked", options.day(found.revoked_ms)))
    after = [("spent", f"${format_usd(_spent(accounts.spent(), found))} in all")]
    options.card(found, f"{found.id}  {_state_style(state_of(found))}", before, after)


@app.command()
@takes_rules
def edit(
    key: KeyArgument,
    given: RuleOptions,
    name: Annotated[str | None, typer.Option(help="A new name.")] = None,
    expires: ExpiresOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Change what is given; the rest stays. Lists are replaced whole."""
    accounts = options.accounts(config)
    found = accounts.key(key)
    warnings = options.check_names(given, config)
    changed = accounts.edit_key(found.id, name=name, rules=given.over, expires_ms=options.expiry_ms(expires))
    show(changed.id, config, as_json)
    options.warn(warnings)


@app.command()
def rotate(
    key: KeyArgument,
    overlap: Annotated[
        str, typer.Option(help="How long the earlier secret stays valid: 0h, 24h, 7d.")
    ] = "24h",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a new secret; the earlier one stays valid for the overlap."""
    overlap_s = options.duration_s(overlap, "--overlap")
    found, secret = options.accounts(config).rotate_key(key, overlap_s=overlap_s)
    _reveal(found, secret, as_json)


@app.command()
def revoke(key: KeyArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """End a key for good: every gateway refuses it within 2 s."""
    found = options.accounts(config).revoke_key(key)
    if as_json:
        write_json({"id": found.id, "state": state_of(found)})
    else:
        console.print(f"{escape(found.name)} ({found.id}) is revoked: gateways refuse it within 2 s.")


def _reveal(key: Key, secret: str, as_json: bool) -> None:
    if as_json:
        write_json({"id": key.id, "name": key.name, "project_id": key.project_id, "secret": secret})
        return
    console.print(f"[bold]{escape(key.name)}[/]  {key.id}")
    console.print(f"\n  [bold green]{secret}[/]\n", soft_wrap=True)
    console.print("[dim]Shown once: only its hash is kept.[/]")


def state_of(key: Key) -> str:
    if key.revoked_ms is not None:
        return "revoked"
    expired = key.expires_ms is not None and key.expires_ms <= time.time() * 1_000
    if expired:
        return "expired"
    return "active" if key.unreadable is None else "unreadable"


def _state_style(state: str) -> str:
    return f"[green]{state}[/]" if state == "active" else f"[red]{state}[/]"


def _spent(spent: dict[str, Spent], key: Key) -> Pico:
    return spent.get(f"key:{key.id}", NOTHING).total


def plain(key: Key, accounts: Accounts, spent: dict[str, Spent]) -> dict[str, Any]:
    """For JSON."""
    return {
        **msgspec.to_builtins(key),
        "project": accounts.project(key.project_id).name,
        "state": state_of(key),
        "spent_usd": format_usd(_spent(spent, key)),
    }
