"""``tieline explain``: why a request would go where it goes; no provider is called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tieline.cli.terminal import console, escape, table, write_json
from tieline.types.errors import NotFound
from tieline.types.record import replayed, shown

_NAMED = 12
"""Of those that are out, as many stand on the terminal for each reason."""


def explain(
    model: str, path: Path | None, tokens: int, max_tokens: int, intent: str | None, needs: str, as_json: bool
) -> None:
    if model.startswith("req_"):
        _past(model, path, as_json)
        return
    from tieline.gateway import Gateway

    gateway = Gateway(path, dry=True)
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
    candidates = found.get("candidates", [])
    rows = table(
        "#",
        "deployment",
        "kind",
        "quality",
        "price $",
        "latency",
        "health",
        right=("#", "quality", "price $", "latency"),
        wide={"deployment": 48},
    )
    excluded: dict[str, list[str]] = {}
    for line in candidates:
        why = line.get("excluded")
        if why is None:
            rows.add_row(*map(_cell, _ordered(line)))
        else:
            excluded.setdefault(str(why), []).append(_briefly(line))
    console.print(rows)
    for why, names in excluded.items():
        if len(names) > 1:
            console.print(f"\n[dim]not, because[/] {escape(why)} [dim]({len(names)})[/]")
            console.print(f"  {escape(', '.join(names[:_NAMED]))}{_more(names)}")
    alone = [f"{names[0]}: {why}" for why, names in excluded.items() if len(names) == 1]
    if alone:
        console.print("\n[dim]not[/]")
        for line in alone[:_NAMED]:
            console.print(f"  {escape(line)}")
        if len(alone) > _NAMED:
            console.print(f" {_more(alone)}")


def _more(names: list[str]) -> str:
    return f" [dim]and {len(names) - _NAMED} more: --json[/]" if len(names) > _NAMED else ""


def _ordered(line: dict[str, Any]) -> tuple[object, ...]:
    named = ("order", "deployment", "kind", "quality", "price_usd", "latency_s")
    return (*(line.get(name) for name in named), _health(line))


def _cell(value: object) -> str:
    return "–" if value is None else escape(str(value))


def _health(line: dict[str, Any]) -> str:
    """The breaker's state, and how many succeed where not all do."""
    rate = line.get("success_rate")
    state = str(line.get("state", ""))
    return state if rate is None or rate >= 1 else f"{state}, {rate:.0%}"


def _briefly(line: dict[str, Any]) -> str:
    """With what it would cost and how good it is, where that is known."""
    price, quality = line.get("price_usd"), line.get("quality")
    more = [f"{price} $" if price is not None else "", f"quality {quality}" if quality is not None else ""]
    said = ", ".join(one for one in more if one)
    return f"{line['deployment']} ({said})" if said else str(line["deployment"])
