"""What ``tieline keys`` and ``tieline projects`` share: rules as options, and rules for the eye."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import wraps
from getpass import getuser
from inspect import Parameter, Signature, signature
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import msgspec
import typer
from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from tieline.admit.accounts import Accounts
from tieline.admit.naming import check_providers, strange_names
from tieline.admit.rules import BudgetRule, Limits, Rules, check_rules
from tieline.admit.snapshot import Key, Project
from tieline.cli.ledger import opened
from tieline.cli.terminal import console, errors, escape, table
from tieline.config.load import find, load
from tieline.config.schema import Jurisdiction
from tieline.types.errors import InvalidRequest

Line = tuple[str, str]
_UNITS = {"h": 3_600, "d": 86_400, "w": 604_800, "y": 31_536_000}
_DURATION = re.compile(r"(\d{1,9})([hdwy])", re.ASCII)


class RuleOptions(Struct, kw_only=True):
    """What was given on the command line; None: not given."""

    models: Annotated[
        list[str] | None, typer.Option("--model", help="May be asked for; `*` at the end. '' allows all.")
    ] = None
    profiles: Annotated[list[str] | None, typer.Option("--profile", help="As --model, for profiles.")] = None
    rpm: Annotated[int | None, typer.Option("--rpm", help="Requests per minute; 0: no limit.")] = None
    tpm: Annotated[int | None, typer.Option("--tpm", help="Tokens per minute; 0: no limit.")] = None
    concurrency: Annotated[
        int | None, typer.Option("--concurrency", help="Requests at a time; 0: no limit.")
    ] = None
    budgets: Annotated[
        list[str] | None,
        typer.Option(
            "--budget",
            help="USD: 10/day, 200/month,tz=Europe/Berlin, 50/lifetime,model=NAME, 8/day,soft. '': none.",
        ),
    ] = None
    tags: Annotated[list[str] | None, typer.Option("--tag", help="name=value, put on every request.")] = None
    allow: Annotated[list[str] | None, typer.Option("--allow-provider", help="Only these.")] = None
    deny: Annotated[list[str] | None, typer.Option("--deny-provider", help="Never these.")] = None
    places: Annotated[
        list[str] | None, typer.Option("--jurisdiction", help="Prompts stay in these: US, EU, …")
    ] = None
    no_training: Annotated[
        bool | None,
        typer.Option("--no-training/--training", help="Only providers known not to train on prompts."),
    ] = None
    zero_retention: Annotated[
        bool | None,
        typer.Option("--zero-retention/--retention", help="Only providers known to keep nothing."),
    ] = None

    def over(self, rules: Rules) -> Rules | None:
        """``rules`` with what was given; None when nothing was."""
        changes: dict[str, Any] = {}
        if self.models is not None:
            changes["models"] = _named(self.models) or None
        if self.profiles is not None:
            changes["profiles"] = _named(self.profiles) or None
        if limits := self._limits():
            changes["limits"] = replace(rules.limits, **limits)
        if self.budgets is not None:
            changes["budgets"] = [parse_budget(text) for text in self.budgets if text]
        if self.tags is not None:
            changes["tags"] = dict(_pair(text, "--tag") for text in self.tags if text)
        if policy := self._policy():
            changes["policy"] = replace(rules.policy, **policy)
        return replace(rules, **changes) if changes else None

    def _limits(self) -> dict[str, int | None]:
        asked = {
            "requests_per_minute": self.rpm,
            "tokens_per_minute": self.tpm,
            "concurrency": self.concurrency,
        }
        return {name: value or None for name, value in asked.items() if value is not None}

    def _policy(self) -> dict[str, Any]:
        asked: dict[str, Any] = {"no_training": self.no_training, "zero_retention": self.zero_retention}
        found = {name: value for name, value in asked.items() if value is not None}
        if self.allow is not None:
            found["allow_providers"] = _named(self.allow) or None
        if self.deny is not None:
            found["deny_providers"] = _named(self.deny)
        if self.places is not None:
            found["jurisdictions"] = [_place(text) for text in self.places if text] or None
        return found


def takes_rules(command: Callable[..., None]) -> Callable[..., None]:
    """Gives a command every option of RuleOptions; it receives them as its parameter ``given``."""
    hints = get_type_hints(RuleOptions, include_extras=True)
    options = [
        Parameter(name, Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=hints[name])
        for name in RuleOptions.__struct_fields__
    ]
    own = signature(command, eval_str=True).parameters.values()
    shown = [one for each in own for one in (options if each.name == "given" else [each])]

    @wraps(command)
    def run(**values: Any) -> None:
        given = RuleOptions(**{name: values.pop(name) for name in RuleOptions.__struct_fields__})
        command(given=given, **values)

    run.__signature__ = Signature(shown)  # type: ignore[attr-defined]
    run.__annotations__ = {one.name: one.annotation for one in shown}
    return run


def check_names(given: RuleOptions, config: Path | None) -> list[str]:
    """What to warn of once it is done. Raises InvalidRequest for a provider that does not exist."""
    asked = given.over(Rules())
    if asked is None:
        return []
    check_rules(asked, of_project=True)
    settings = load(config or find(os.environ), os.environ).config
    check_providers(asked.policy, settings)
    return strange_names(asked, settings)


def warn(warnings: Iterable[str]) -> None:
    for warning in warnings:
        errors.print(f"[yellow]![/] {escape(warning)}", soft_wrap=True)


def _named(names: Iterable[str]) -> list[str]:
    return [name for name in names if name]


def parse_budget(text: str) -> BudgetRule:
    """``AMOUNT/PERIOD[,soft][,tz=ZONE][,model=NAME][,tag=NAME=VALUE]``. Raises InvalidRequest."""
    head, *rest = text.split(",")
    amount, slash, period = head.partition("/")
    if not slash or period not in ("day", "month", "lifetime"):
        raise InvalidRequest(
            f"--budget {text}: not a budget.", hint="Write AMOUNT/day, AMOUNT/month or AMOUNT/lifetime."
        )
    asked: dict[str, Any] = {"amount_usd": amount.strip(), "period": period}
    for part in rest:
        name, _, value = part.partition("=")
        if name == "soft" and not value:
            asked["hard"] = False
        elif name in ("tz", "model", "tag") and value:
            asked["timezone" if name == "tz" else name] = value
        else:
            raise InvalidRequest(
                f"--budget {text}: cannot read {part!r}.", hint="Known: soft, tz=…, model=…, tag=name=value."
            )
    return BudgetRule(**asked)


def _pair(text: str, option: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise InvalidRequest(f"{option} {text}: write name=value.")
    return name, value


def _place(text: str) -> str:
    place = "local" if text.lower() == "local" else text.upper()
    try:
        return msgspec.convert(place, Jurisdiction)
    except msgspec.ValidationError:
        raise InvalidRequest(
            f"--jurisdiction {text}: not a place.",
            hint="Write an ISO country code such as US, EU, or local; the option again for each further one.",
        ) from None


def duration_s(text: str, option: str) -> int:
    """``0h``, ``24h``, ``7d``, ``2w``, ``1y``. Raises InvalidRequest."""
    found = _DURATION.fullmatch(text)
    if not found:
        raise InvalidRequest(f"{option} {text}: not a duration.", hint="Use 0h, 24h, 7d or 2w.")
    return int(found[1]) * _UNITS[found[2]]


def expiry_ms(text: str | None) -> int | UnsetType | None:
    """``30d``, ``12h``, a date, or ``never``; UNSET when not given."""
    if text is None:
        return UNSET
    if text == "never":
        return None
    if _DURATION.fullmatch(text):
        return int(time.time() + duration_s(text, "--expires")) * 1_000
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise InvalidRequest(
            f"--expires {text}: not a time.", hint="Use 12h, 30d, 2030-01-31 or never."
        ) from None
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() * 1_000)


def accounts(config: Path | None, *, create: bool = False) -> Accounts:
    """The configured database's; ``create``: made when missing. Changes are noted as this user's."""
    return Accounts(opened(config, create=create), actor=f"cli:{user()}")


def user() -> str:
    try:
        return getuser()
    except (KeyError, OSError):  # a container may run as a number without a name
        return str(os.getuid()) if hasattr(os, "getuid") else "unknown"


def day(ms: int | None) -> str:
    return "" if ms is None else datetime.fromtimestamp(ms / 1_000, UTC).strftime("%Y-%m-%d %H:%M")


def limits_text(limits: Limits) -> str:
    parts = (
        (limits.requests_per_minute, "req/min"),
        (limits.tokens_per_minute, "tok/min"),
        (limits.concurrency, "at a time"),
    )
    return ", ".join(f"{value:,} {unit}" for value, unit in parts if value is not None) or "–"


def budget_text(rule: BudgetRule) -> str:
    parts = [f"${rule.amount_usd}/{rule.period}"]
    parts += [] if rule.hard else ["soft"]
    parts += [part for part in (rule.model, rule.tag) if part]
    parts += [rule.timezone] if rule.timezone != "UTC" else []
    return " ".join(parts)


def budgets_text(rules: Rules) -> str:
    return ", ".join(map(budget_text, rules.budgets)) or "–"


def card(one: Key | Project, subtitle: str, before: Iterable[Line], after: Iterable[Line]) -> None:
    """For the eye: a line for each thing that is set."""
    console.print(f"[bold]{escape(one.name)}[/]  {subtitle}")
    rows = table("", "")
    rows.show_header = False
    if one.unreadable is not None:
        console.print(f"[red]unreadable: {escape(one.unreadable)}[/]", soft_wrap=True)
    rules = _lines_of(one.rules) if one.unreadable is None else []
    for name, value in (*before, *rules, *after):
        rows.add_row(f"[dim]{name}[/]", escape(value))
    console.print(rows)


def _lines_of(rules: Rules) -> list[Line]:
    """All that is set, one row each."""
    lines: list[Line] = []

    def show(name: str, value: str) -> None:
        lines.append((name, value))

    show("models", ", ".join(rules.models) if rules.models is not None else "all")
    if rules.profiles is not None:
        show("profiles", ", ".join(rules.profiles))
    show("limits", limits_text(rules.limits))
    show("budgets", budgets_text(rules))
    if rules.tags:
        show("tags", ", ".join(f"{name}={value}" for name, value in rules.tags.items()))
    policy = rules.policy
    said = [
        *(["no training"] if policy.no_training else []),
        *(["zero retention"] if policy.zero_retention else []),
        *([f"only {', '.join(policy.allow_providers)}"] if policy.allow_providers is not None else []),
        *([f"never {', '.join(policy.deny_providers)}"] if policy.deny_providers else []),
        *([f"in {', '.join(policy.jurisdictions)}"] if policy.jurisdictions is not None else []),
    ]
    if said:
        show("data policy", ", ".join(said))
    return lines
