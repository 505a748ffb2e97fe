"""``tieline init`` and ``check``."""

from __future__ import annotations

import os
from pathlib import Path

from tieline.cli.terminal import console, errors, escape, table, write_json
from tieline.config.load import find, load
from tieline.config.schema import Config
from tieline.providers import build, catalog
from tieline.types.errors import ConfigError, TielineError


def init(path: Path, force: bool) -> None:
    if path.exists() and not force:
        raise ConfigError(f"{path} exists.", hint="Use --force to replace it, or name another file.")
    fleet = build.build(Config(), os.environ, catalog.packaged())
    found = sorted(fleet.hosts)
    try:
        path.write_text(_template(found))
    except OSError as error:
        raise ConfigError(f"Cannot write {path}: {error.strerror}.") from None
    console.print(f"Wrote [bold]{path}[/]. Providers found in the environment: {', '.join(found) or 'none'}.")
    console.print("[dim]tieline check validates it; tieline serve uses it.[/]")


def _template(found: list[str]) -> str:
    providers = "".join(
        f"#   {name}: {{}}                  # its key was found in the environment\n" for name in found
    )
    return f"""# Tieline's configuration. Nothing here is needed: provider keys in the environment are enough.
# `tieline check` validates it; edits take effect without a restart. docs/configuration.md lists every setting.

server:
  host: 127.0.0.1
  port: 8787

providers:
{providers}#   my-vllm:                      # a custom provider: anything that speaks OpenAI's API
#     base_url: http://127.0.0.1:8000/v1
#     api_key: ${{MY_VLLM_KEY:-none}}
#     models: [my-model]

models:                             # public names of your own
#   fast: openai/gpt-5-mini         # one deployment
#   smart:
#     deployments: [openai/gpt-5, azure/gpt-5]
#     fallbacks: [anthropic/claude-sonnet-4-5]

routing:
  fallback: equivalent              # the same model elsewhere, then one at least as good
  max_price_ratio: 1.25             # never dearer than this times the first choice

store:
  database: sqlite:///tieline.db
"""


def check(path: Path | None, as_json: bool) -> int:
    """0: fine; 1: it has errors, each with its line and fix."""
    from tieline.config.load import ConfigErrors
    from tieline.gateway import Gateway
    from tieline.route.validate import notes

    where = path or find(os.environ)
    try:
        loaded = load(where, os.environ)
        gateway = Gateway(path, dry=True)
    except ConfigErrors as faults:
        return _report(list(faults.errors), as_json)
    except TielineError as error:
        return _report([error], as_json)
    fleet = gateway.fleet
    found = [loaded.located(note) for note in notes(gateway.config, gateway.line.router)]
    warnings = [str(one) for one in (*fleet.problems, *found)]
    if as_json:
        write_json(
            {
                "ok": True,
                "file": str(loaded.path) if loaded.path else None,
                "providers": {
                    name: [one.label for one in host.credentials] for name, host in fleet.hosts.items()
                },
                "models": sorted(loaded.config.models),
                "warnings": warnings,
            }
        )
        return 0
    console.print(f"[green]✓[/] {loaded.path or 'no tieline.yaml: defaults and the environment'}")
    rows = table("provider", "keys", "models", "speaks", right=("models",))
    for name, host in sorted(fleet.hosts.items()):
        rows.add_row(
            name,
            ", ".join(one.label for one in host.credentials),
            str(len(fleet.ids(name))),
            ", ".join(host.provider.endpoints),
        )
    console.print(rows if fleet.hosts else "[yellow]No provider: set a key such as OPENAI_API_KEY.[/]")
    for warning in warnings:
        errors.print(f"[yellow]![/] {escape(warning)}", soft_wrap=True)
    return 0


def _report(found: list[TielineError], as_json: bool) -> int:
    if as_json:
        write_json({"ok": False, "errors": [str(error) for error in found]})
    else:
        for error in found:
            errors.print("[red]✗[/]", escape(str(error), lines=True), soft_wrap=True)
    return 1
