"""``tieline credentials``: keys of providers, kept encrypted in the database. A running gateway follows within 2 s."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from tieline.cli.ledger import opened
from tieline.cli.rules import day, user
from tieline.cli.terminal import console, errors, escape, table, write_json
from tieline.cli.types import ConfigOption, JsonOption
from tieline.store.sealed import VARIABLE, Stored, Vault, keyring, new_key

app = typer.Typer(no_args_is_help=True, help="Keys of providers, kept encrypted in the database.")

CredentialArgument = Annotated[str, typer.Argument(help="provider/label or id.")]


def _vault(config: Path | None, *, create: bool = False) -> Vault:
    return Vault(opened(config, create=create), keyring(os.environ), actor=f"cli:{user()}")


@app.command()
def key() -> None:
    """Make a key for TIELINE_SECRET_KEY, and show it."""
    print(new_key())
    errors.print(f"[dim]Set it as {VARIABLE} for every gateway that shares the database, and keep a copy.[/]")


@app.command()
def add(
    provider: Annotated[str, typer.Argument(help="As in `tieline models`: openai, anthropic, …")],
    label: Annotated[str, typer.Argument(help="What records call it.")] = "main",
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add a key, or replace the one with this label. It is read from the terminal or stdin, never from arguments."""
    from tieline.gateway import Gateway

    vault = _vault(config, create=True)
    secret = typer.prompt("Key", hide_input=True) if sys.stdin.isatty() else sys.stdin.read().strip()
    Gateway(config, dry=True).check_credential(provider, secret)
    _show(vault.put(provider, label, secret), as_json)


@app.command("list")
def list_credentials(
    provider: Annotated[str | None, typer.Option(help="Only its credentials.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """All that are stored, without their secrets."""
    found = _vault(config).all(provider)
    if as_json:
        write_json(msgspec.to_builtins(found))
        return
    rows = table("credential", "id", "since", "sealed by", "state")
    for one in found:
        state = "[green]in use[/]" if one.disabled_ms is None else "[red]disabled[/]"
        rows.add_row(escape(f"{one.provider}/{one.label}"), one.id, day(one.created_ms), one.sealed_by, state)
    console.print(rows if found else "None stored. `tieline credentials add PROVIDER` adds one.")


@app.command()
def disable(credential: CredentialArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Take one out of use; gateways follow within 2 s."""
    _show(_vault(config).set_enabled(credential, False), as_json)


@app.command()
def enable(credential: CredentialArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Put one back into use."""
    _show(_vault(config).set_enabled(credential, True), as_json)


@app.command()
def remove(credential: CredentialArgument, config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Delete one."""
    found = _vault(config).remove(credential)
    if as_json:
        write_json(msgspec.to_builtins(found))
    else:
        console.print(f"{_named(found)}  removed: gateways follow within 2 s")


@app.command()
def rotate(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Encrypt all anew with the first key of TIELINE_SECRET_KEY; then the others can be dropped from it."""
    count = _vault(config).rotate()
    if as_json:
        write_json({"rotated": count})
    else:
        console.print(f"{count} credentials are encrypted with the first key now.")


def _show(found: Stored, as_json: bool) -> None:
    if as_json:
        write_json(msgspec.to_builtins(found))
        return
    state = "in use" if found.disabled_ms is None else "disabled"
    console.print(f"{_named(found)}  {state}")


def _named(found: Stored) -> str:
    return f"{escape(found.provider)}/{escape(found.label)}  {found.id}"
