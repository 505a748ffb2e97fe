"""What a key or a project may do: as kept in the database, given to the CLI and the admin API."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from msgspec import Struct, field

from tieline.config.schema import PolicyRules
from tieline.types.errors import InvalidRequest
from tieline.types.money import Pico, parse_usd

Period = Literal["day", "month", "lifetime"]
MAX_BUDGETS = 50
"""For one key or project: each is looked at for every request."""
MAX_TAGS = 50
MAX_NAMES = 500
"""Models or profiles in one list: each is looked at for every request."""
MAX_NAME_CHARS = 256
MAX_LIMIT = 10**9


MAX_ASKS = 16
"""Requests that lack a share of one allowance and are told the others at once."""


class Starved(Exception):
    """Mixed into a refusal that another share of a shared allowance may cure: ask for one and try again."""


class Limits(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True, omit_defaults=True):
    """None: no limit."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrency: int | None = None


class BudgetRule(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True, omit_defaults=True):
    amount_usd: str
    period: Period = "month"
    hard: bool = True
    """A soft budget lets the request through and says so."""
    timezone: str = "UTC"
    """IANA name; where a day or month begins."""
    model: str | None = None
    """Only what is spent on this model, as asked for."""
    tag: str | None = None
    """Only what carries this tag, ``name=value``. For projects."""

    @property
    def amount(self) -> Pico:
        return parse_usd(self.amount_usd)


class Rules(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True, omit_defaults=True):
    models: list[str] | None = None
    """Public names that may be asked for; ``*`` at the end matches any rest. None: all."""
    profiles: list[str] | None = None
    limits: Limits = field(default_factory=Limits)
    budgets: list[BudgetRule] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    """Put on every request; the caller's own cannot replace them."""
    policy: PolicyRules = field(default_factory=PolicyRules)


CLOSED = Rules(models=[], profiles=[])
"""Of a key or project whose own cannot be read: nothing may be asked for."""


def check_rules(rules: Rules, *, of_project: bool) -> None:
    """Raises InvalidRequest that names the field."""
    _check_values(rules, of_project)
    try:
        decode_rules(encode_rules(rules))
    except (msgspec.ValidationError, UnicodeError) as error:
        # Nobody who reads the database could use them.
        raise _refused(error) from None


def read_rules(text: str, *, of_project: bool) -> Rules:
    """As kept. Raises InvalidRequest for what ``check_rules`` would not have let in: another version's, or by hand."""
    try:
        rules = decode_rules(text)
    except (msgspec.MsgspecError, UnicodeError, TypeError) as error:
        raise _refused(error) from None
    _check_values(rules, of_project)
    return rules


def _refused(error: Exception) -> InvalidRequest:
    message, _, place = str(error).partition(" - at `$.")
    return InvalidRequest(message[:MAX_NAME_CHARS], param=place.rstrip("`") or None)


def _check_values(rules: Rules, of_project: bool) -> None:
    for name in Limits.__struct_fields__:
        value = getattr(rules.limits, name)
        if value is not None and not 1 <= value <= MAX_LIMIT:
            raise InvalidRequest(f"must be between 1 and {MAX_LIMIT}, is {value}", param=f"limits.{name}")
    if len(rules.budgets) > MAX_BUDGETS:
        raise InvalidRequest(f"at most {MAX_BUDGETS} budgets", param="budgets")
    if len(rules.tags) > MAX_TAGS:
        raise InvalidRequest(f"at most {MAX_TAGS} tags", param="tags")
    for name, value in rules.tags.items():
        if not name or not _is_label(f"{name}={value}"):
            raise InvalidRequest(
                f"a tag is name=value of {MAX_NAME_CHARS} printable characters at most", param="tags"
            )
    _check_names(rules.models, "models")
    _check_names(rules.profiles, "profiles")
    for index, budget in enumerate(rules.budgets):
        _check_budget(budget, f"budgets[{index}]", of_project)
    seen = {(rule.period, rule.timezone, rule.model, rule.tag, rule.hard) for rule in rules.budgets}
    if len(seen) < len(rules.budgets):
        raise InvalidRequest(
            "two budgets for the same period, model and tag", param="budgets", hint="Keep the smaller one."
        )


def _check_budget(budget: BudgetRule, place: str, of_project: bool) -> None:
    try:
        amount = budget.amount
    except ValueError as error:
        raise InvalidRequest(str(error), param=f"{place}.amount_usd") from error
    if not 0 <= amount < 2**63:
        raise InvalidRequest("must be between 0 and 9,000,000 USD", param=f"{place}.amount_usd")
    try:
        zone(budget.timezone)
    except ValueError as error:
        raise InvalidRequest(str(error), param=f"{place}.timezone") from error
    if budget.model is not None and budget.tag is not None:
        raise InvalidRequest("a budget is for a model or for a tag, not both", param=place)
    if budget.tag is not None and not of_project:
        raise InvalidRequest("budgets by tag belong to a project", param=f"{place}.tag")
    if budget.model is not None and not (budget.model and _is_label(budget.model)):
        raise InvalidRequest("name the model as callers write it", param=f"{place}.model")
    if budget.tag is not None and not (budget.tag.find("=") > 0 and _is_label(budget.tag)):
        raise InvalidRequest("write the tag as name=value", param=f"{place}.tag")


def _check_names(names: list[str] | None, param: str) -> None:
    if names is None:
        return
    if len(names) > MAX_NAMES:
        raise InvalidRequest(f"at most {MAX_NAMES} names", param=param, hint="`*` at the end matches many.")
    for index, name in enumerate(names):
        if not name or not _is_label(name):
            raise InvalidRequest(
                f"a name has 1 to {MAX_NAME_CHARS} printable characters", param=f"{param}[{index}]"
            )


def _is_label(text: str) -> bool:
    return len(text) <= MAX_NAME_CHARS and text.isprintable()


@lru_cache(maxsize=64)
def zone(name: str) -> ZoneInfo:
    """Raises ValueError for an unknown name."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"unknown time zone: {name!r}; use an IANA name such as Europe/Berlin") from error


def matches(patterns: Sequence[str] | None, name: str) -> bool:
    """Whether a name is allowed; None allows all."""
    if patterns is None:
        return True
    return any(
        name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern for pattern in patterns
    )


def selector(patterns: Sequence[str]) -> Callable[[str], bool]:
    """``matches`` for many names: 500 patterns against some thousand names are read once."""
    exact = frozenset(patterns)
    starts = tuple(pattern[:-1] for pattern in patterns if pattern.endswith("*"))

    return lambda name: name in exact or name.startswith(starts)


encode_rules = msgspec.json.Encoder().encode
decode_rules = msgspec.json.Decoder(Rules).decode
