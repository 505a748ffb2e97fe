"""``tieline admin``: who may use the admin API."""

from __future__ import annotations

import typer

from tieline.cli.ledger import opened
from tieline.cli.rules import user
from tieline.cli.terminal import console, write_json
from tieline.cli.types import ConfigOption, JsonOption
from tieline.store import admin

app = typer.Typer(no_args_is_help=True, help="The token of the admin API.")


@app.command()
def token(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """Make the token of the admin API, in place of the one before. Shown now and never again."""
    made = admin.make_token(opened(config, create=True), f"cli:{user()}")
    if as_json:
        write_json({"token": made})
        return
    console.print(f"\n  [bold green]{made}[/]\n", soft_wrap=True)
    console.print("[dim]Shown once. Send it as `Authorization: Bearer …` to /admin/api.[/]")


@app.command()
def forget(config: ConfigOption = None, as_json: JsonOption = False) -> None:
    """End the token that was made here; $TIELINE_ADMIN_TOKEN stays valid."""
    admin.forget_token(opened(config), f"cli:{user()}")
    write_json({"token": None}) if as_json else console.print("The token is not valid any more.")
