"""``tieline explain``: why a request would go where it goes; no provider is called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tieline.cli.terminal import console, escape, table, write_json
from tieline.types.errors import NotFound


def explain(
    model: str, path: Path | None, tokens: int, max_tokens: int, intent: str | None, needs: str, as_json: bool
) -> None:
    if model.startswith("req_"):
        _past(model, path, as_json)
        return
    from tieline.gateway import Gateway

    gateway = Gateway(path)
    features = frozenset(word.strip() for word in needs.split(",") if word.strip())
    found = gateway.explain(
        model, input_tokens=tokens, max_output_tokens=max_tokens, intent=intent, features=features
    )
    if as_json:
        write_json(found)
    else:
        _print(found)


def _past(request_id: str, path: Path | None, as_json: bool) -> None:
    from tieline.cli.ledger import opened, print_record
    from tieline.store import queries

    database = opened(path)
    record = queries.show(database, request_id)
    database.close()
    if record is None:
        raise NotFound(f"There is no request {request_id!r}.", hint="`tieline logs` lists them.")
    if as_json:
        from tieline.gateway import replayed, shown

        write_json(replayed(shown(record)))
        return
    print_record(record)
    console.print()
    for name, reason in record.decision.get("excluded", {}).items():
        console.print(f"  [dim]not[/] {escape(name)}: {escape(str(reason))}")


def _print(found: dict[str, Any]) -> None:
    console.print(
        f"[bold]{escape(found['model'])}[/]  [dim]{found['input_tokens']} tokens in, fallback {found['fallback']}[/]"
    )
    rows = table(
        "order",
        "deployment",
        "kind",
        "quality",
        "price $",
        "latency",
        "health",
        "why not",
        right=("order", "quality", "price $", "latency"),
    )
    for line in found.get("candidates", []):
        rows.add_row(
            *(
                escape(str(line.get(key) if line.get(key) is not None else ""))
                for key in (
                    "order",
                    "deployment",
                    "kind",
                    "quality",
                    "price_usd",
                    "latency_s",
                    "health",
                    "excluded",
                )
            )
        )
    console.print(rows)
