"""The program with all its commands; each is imported when it runs."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core
import typer.main

from tieline.cli.types import ConfigOption, JsonOption

SinceOption = Annotated[str | None, typer.Option(help="`2h`, `3d`, or a date.")]
OfKeyOption = Annotated[str | None, typer.Option(help="Of this virtual key: its name or id.")]
OfProjectOption = Annotated[str | None, typer.Option(help="Of this project: its name or id.")]
OfProviderOption = Annotated[str | None, typer.Option(help="That this provider was asked for.")]
OfModelOption = Annotated[str | None, typer.Option(help="As asked or as served.")]
OfRunOption = Annotated[str | None, typer.Option(help="Of this run.")]

app = typer.Typer(
    name="tieline",
    help="One line to every model: an AI gateway, self-hosted or in-process.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)


def _version(asked: bool) -> None:
    if asked:
        import tieline

        typer.echo(f"tieline {tieline.__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="And nothing else.")
    ] = False,
) -> None:
    pass


@app.command()
def serve(
    config: ConfigOption = None,
    host: Annotated[str | None, typer.Option(help="Overrides server.host.")] = None,
    port: Annotated[
        int | None, typer.Option(help="Overrides server.port; 0 takes any.", min=0, max=65535)
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes; overrides server.workers.", min=1, max=256)
    ] = None,
    fd: Annotated[int | None, typer.Option(hidden=True)] = None,
    ready_fd: Annotated[int | None, typer.Option(hidden=True)] = None,
    board_fd: Annotated[int | None, typer.Option(hidden=True)] = None,
    metrics_fd: Annotated[int | None, typer.Option(hidden=True)] = None,
    begun_fd: Annotated[int | None, typer.Option(hidden=True)] = None,
    place: Annotated[int, typer.Option(hidden=True)] = 0,
    quiet: Annotated[bool, typer.Option(help="Warnings only.")] = False,
) -> None:
    """Run the gateway."""
    from tieline.cli.serving import serve as run

    raise typer.Exit(
        run(config, host, port, workers, fd, ready_fd, board_fd, metrics_fd, begun_fd, place, quiet)
    )


@app.command()
def up(
    config: ConfigOption = None,
    port: Annotated[
        int | None, typer.Option(help="Overrides server.port; 0 takes any.", min=0, max=65535)
    ] = None,
    once: Annotated[bool, typer.Option(help="Stop after the tour instead of staying up.")] = False,
) -> None:
    """Run the gateway, send one request through it, show how to use it, stay up."""
    from tieline.cli.serving import up as run

    raise typer.Exit(run(config, port, once))


@app.command()
def demo(as_json: JsonOption = False) -> None:
    """A tour on simulated providers: two dialects, a stream, a tool call, a failover, the ledger."""
    from tieline.cli.demo import demo as run

    raise typer.Exit(run(as_json))


@app.command()
def simulate(
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any.")] = 8788,
    seed: Annotated[int, typer.Option(help="Decides every text, id and random choice.")] = 0,
    schedule: Annotated[Path | None, typer.Option(help="YAML or JSON: who misbehaves when.")] = None,
    speed: Annotated[float, typer.Option(help="How much faster the schedule's time runs.")] = 1.0,
) -> None:
    """Serve providers that speak each dialect and misbehave on request."""
    from tieline.cli.serving import simulate as run

    run(port, seed, schedule, speed)


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="Where to write it.")] = Path("tieline.yaml"),
    force: Annotated[bool, typer.Option(help="Replace an existing file.")] = False,
) -> None:
    """Write a commented tieline.yaml with the providers whose keys are in the environment."""
    from tieline.cli.setup import init as run

    run(path, force)


@app.command()
def check(
    config: ConfigOption = None,
    as_json: JsonOption = False,
    schema: Annotated[
        bool, typer.Option("--schema", help="The settings as JSON Schema, for editors.")
    ] = False,
) -> None:
    """Validate the configuration and show what it comes to."""
    if schema:
        from tieline.cli.terminal import write_json
        from tieline.config.schema_json import json_schema

        return write_json(json_schema())
    from tieline.cli.setup import check as run

    raise typer.Exit(run(config, as_json))


@app.command()
def models(
    query: Annotated[list[str] | None, typer.Argument(help="Words to look for, or `show NAME`.")] = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
    configured: Annotated[bool, typer.Option(help="Only what your providers can serve.")] = False,
    limit: Annotated[int, typer.Option(help="Rows; 0 for all.")] = 40,
) -> None:
    """Prices, context, capabilities; `models show NAME` tells everything known."""
    from tieline.cli.catalog import models as run

    run(query or [], config, as_json, configured, limit)


@app.command()
def logs(
    config: ConfigOption = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1)] = 20,
    failed: Annotated[bool, typer.Option(help="Only what did not succeed.")] = False,
    since: SinceOption = None,
    key: OfKeyOption = None,
    project: OfProjectOption = None,
    provider: OfProviderOption = None,
    model: OfModelOption = None,
    run: OfRunOption = None,
    tag: Annotated[str | None, typer.Option(help="`name=value`.")] = None,
    as_json: JsonOption = False,
) -> None:
    """The latest requests, of all or of those that are like what is given."""
    from tieline.cli import ledger

    narrowed = ledger.Narrowed(since, key, project, provider, model, run, tag, failed)
    ledger.logs(config, limit, narrowed, as_json)


@app.command()
def spend(
    config: ConfigOption = None,
    by: Annotated[
        str, typer.Option(help="model, provider, deployment, key, project, day, tag, outcome, run, total.")
    ] = "model",
    since: SinceOption = None,
    key: OfKeyOption = None,
    project: OfProjectOption = None,
    provider: OfProviderOption = None,
    model: OfModelOption = None,
    run: OfRunOption = None,
    tag: Annotated[
        str | None, typer.Option(help="`name`: by its values. `name=value`: only what has it.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """What was spent, exactly."""
    from tieline.cli import ledger

    ledger.spend(config, by, ledger.Narrowed(since, key, project, provider, model, run, tag), as_json)


@app.command()
def show(
    request_id: Annotated[str, typer.Argument(help="Or its beginning, where only one begins so.")],
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """One request: its attempts on a time line, its cost, and why it went where it went."""
    from tieline.cli.ledger import show as run

    run(request_id, config, as_json)


@app.command()
def explain(
    model: Annotated[str, typer.Argument(help="As a caller would name it, or a request id.")],
    config: ConfigOption = None,
    tokens: Annotated[int, typer.Option(help="Input tokens to price for.")] = 1000,
    max_tokens: Annotated[int, typer.Option(help="Output tokens to price for.")] = 500,
    intent: Annotated[str | None, typer.Option(help="Quality category, such as coding.")] = None,
    needs: Annotated[str, typer.Option(help="Comma-separated: tools, images, json_schema, …")] = "",
    as_json: JsonOption = False,
) -> None:
    """Every candidate for a model: order, price, quality, health, and why not. No provider is called."""
    from tieline.cli.explain import explain as run

    run(model, config, tokens, max_tokens, intent, needs, as_json)


class _LazyGroup(typer.core.TyperGroup):
    """A group of commands whose module is imported when one of them is asked for."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._module = _GROUPS[self.name or ""]

    def _load(self) -> Any:
        return typer.main.get_command(importlib.import_module(self._module).app)

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self._load().list_commands(ctx))

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        return self._load().get_command(ctx, cmd_name)


_GROUPS = {
    "drill": "tieline.cli.drill",
    "keys": "tieline.cli.keys",
    "projects": "tieline.cli.projects",
    "credentials": "tieline.cli.credentials",
    "admin": "tieline.cli.admin",
    "audit": "tieline.cli.audit",
    "prices": "tieline.cli.prices",
}
_HELP = {
    "drill": "Rehearse outages against the real server: list, run.",
    "keys": "Virtual keys: create, list, show, edit, rotate, revoke.",
    "projects": "Projects: create, list, show, edit, archive, restore, credit.",
    "credentials": "Keys of providers, kept encrypted in the database.",
    "admin": "The token of the admin API.",
    "audit": "Who changed what, and whether records were tampered with.",
    "prices": "Whether our figures agree with another's.",
}


def _register(name: str) -> None:
    group = typer.Typer(name=name, cls=_LazyGroup, help=_HELP[name], no_args_is_help=True)
    group.callback()(lambda: None)
    app.add_typer(group, name=name)


for _name in _GROUPS:
    _register(_name)
