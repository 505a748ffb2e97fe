"""What the admin API takes and gives."""

from __future__ import annotations

from typing import Annotated, Any

from msgspec import UNSET, Meta, Struct, UnsetType, field
from msgspec.structs import replace

from tieline.admit.accounts import MAX_MS
from tieline.admit.rules import BudgetRule, Limits, Rules
from tieline.config.schema import PolicyRules
from tieline.types.errors import Refused

Milliseconds = Annotated[int, Meta(ge=0, le=MAX_MS, description="Unix milliseconds")]
Name = Annotated[str, Meta(min_length=1, max_length=200)]
Usd = Annotated[
    str, Meta(max_length=40, description="US dollars as a decimal, such as 12.50", examples=["12.50"])
]


class Conflict(Refused):
    status = 409
    code = "conflict"


class Trouble(Struct, kw_only=True):
    """What went wrong, which field is at fault, and what to do."""

    code: str
    message: str
    param: str | None = None
    hint: str | None = None


class Problem(Struct, kw_only=True):
    """The body of every answer that is not a success."""

    error: Trouble


class RulesPatch(Struct, kw_only=True, forbid_unknown_fields=True):
    """What is left out stays as it is."""

    models: list[str] | UnsetType | None = UNSET
    """Public names that may be asked for, ``*`` at the end; null: all."""
    profiles: list[str] | UnsetType | None = UNSET
    limits: Limits | UnsetType = UNSET
    budgets: list[BudgetRule] | UnsetType = UNSET
    tags: dict[str, str] | UnsetType = UNSET
    policy: PolicyRules | UnsetType = UNSET

    def over(self, rules: Rules) -> Rules:
        given = {name: getattr(self, name) for name in self.__struct_fields__}
        return replace(rules, **{name: value for name, value in given.items() if value is not UNSET})


class NewProject(Struct, kw_only=True, forbid_unknown_fields=True):
    name: Name
    rules: RulesPatch = field(default_factory=RulesPatch)


class ProjectPatch(Struct, kw_only=True, forbid_unknown_fields=True):
    name: Name | UnsetType = UNSET
    rules: RulesPatch | UnsetType = UNSET


class NewCredit(Struct, kw_only=True, forbid_unknown_fields=True):
    amount_usd: Usd
    note: Annotated[str, Meta(max_length=200)] = ""


class ProjectView(Struct, kw_only=True):
    id: str
    name: str
    rules: Rules
    created_ms: int
    archived_ms: int | None
    unreadable: str | None
    """Why its rules cannot be read: its keys are refused, and ``rules`` allow nothing."""
    spent_usd: str
    credit_usd: str | None
    """All that was ever paid in; null: not prepaid."""
    credit_left_usd: str | None
    warnings: list[str] = field(default_factory=list)
    """After a change: names in the rules given that no model has here."""


class NewKey(Struct, kw_only=True, forbid_unknown_fields=True):
    name: Name
    project: Name = "default"
    """Name or id; ``default`` is made when missing."""
    rules: RulesPatch = field(default_factory=RulesPatch)
    expires_ms: Milliseconds | None = None


class KeyPatch(Struct, kw_only=True, forbid_unknown_fields=True):
    name: Name | UnsetType = UNSET
    rules: RulesPatch | UnsetType = UNSET
    expires_ms: Milliseconds | UnsetType | None = UNSET


class Rotation(Struct, kw_only=True, forbid_unknown_fields=True):
    overlap_s: Annotated[float, Meta(ge=0, le=7_776_000)] = 86_400.0
    """How long the earlier secret stays valid."""


class KeyView(Struct, kw_only=True):
    id: str
    name: str
    project_id: str
    rules: Rules
    created_ms: int
    expires_ms: int | None
    revoked_ms: int | None
    unreadable: str | None
    """Why its rules cannot be read: it is refused, and ``rules`` allow nothing."""
    hints: list[str]
    """The last four characters of each secret that is valid."""
    spent_usd: str
    warnings: list[str] = field(default_factory=list)
    """After a change: names in the rules given that no model has here."""


class MadeKey(Struct, kw_only=True):
    key: KeyView
    secret: str
    """Shown here and never again."""


class BudgetView(Struct, kw_only=True):
    scope: str
    period: str
    timezone: str
    hard: bool
    amount_usd: str
    spent_usd: str
    """In the present period, as recorded by all processes."""
    left_usd: str
    ends_ms: int | None
    """When the period ends; null: never."""


class LimitView(Struct, kw_only=True):
    scope: str
    name: str
    unit: str
    limit: int
    used: int
    """By this process, at present."""


class NewCredential(Struct, kw_only=True, forbid_unknown_fields=True):
    provider: Name
    label: Annotated[str, Meta(min_length=1, max_length=100)] = "main"
    """What records call it. A credential with the same label is replaced."""
    secret: Annotated[str, Meta(min_length=1, max_length=20_000)]

    def __repr__(self) -> str:
        return f"NewCredential({self.provider}/{self.label})"


class CredentialPatch(Struct, kw_only=True, forbid_unknown_fields=True):
    enabled: bool


class CredentialView(Struct, kw_only=True):
    id: str
    provider: str
    label: str
    created_ms: int
    disabled_ms: int | None
    sealed_by: str


class Rotated(Struct, kw_only=True):
    rotated: int


class RecordPage(Struct, kw_only=True):
    records: list[dict[str, Any]]
    next: str | None
    """Give it as ``before`` for the next page; null: that was all."""


class SpendLine(Struct, kw_only=True):
    group: str | None
    name: str | None
    """Of the key or project whose id `group` is."""
    requests: int
    attempts: int
    input_tokens: int
    output_tokens: int
    cost_usd: str
    """The sum of what is known."""
    unknown: int
    """How many costs are not in it."""
    wasted_usd: str | None
    charged_usd: str | None


class ConfigText(Struct, kw_only=True, forbid_unknown_fields=True):
    text: Annotated[str, Meta(max_length=1_048_576)]
    """The whole tieline.yaml."""


class NewConfig(ConfigText, kw_only=True, forbid_unknown_fields=True):
    digest: Annotated[str, Meta(max_length=64)] | None = None
    """Of the text that was edited: refused when the file has changed since."""


class ConfigView(Struct, kw_only=True):
    path: str | None
    digest: str
    text: str
    """Keys that stand in it as they are, are masked."""
    effective: dict[str, Any]
    """With defaults and the environment, without secrets."""


class ConfigFault(Struct, kw_only=True):
    message: str
    place: str | None
    hint: str | None


class ConfigVerdict(Struct, kw_only=True):
    ok: bool
    errors: list[ConfigFault]
    changes: list[str]
    restart: list[str]
    """Changes that take effect at the next start only."""


class ConfigVersion(Struct, kw_only=True):
    id: int
    at_ms: int
    actor: str
    digest: str


class ConfigVersionText(ConfigVersion, kw_only=True):
    text: str


class ReplicaView(Struct, kw_only=True):
    """A process that serves from this database."""

    writer: str
    host: str
    pid: int
    version: str
    """Of Tieline."""
    started_ms: int
    seen_ms: int
    redis: str | None
    """Which Redis counts its budgets and limits; null: it counts by itself."""
    config: str
    """Equal for all that have the same configuration in force, ``server`` and ``store`` aside."""
    trouble: str | None
    """Why it does not have the newest configuration."""
    answering: bool
    """This is the process that answers."""


class ChangeView(Struct, kw_only=True):
    seq: int
    at_ms: int
    actor: str
    action: str
    subject: str
    detail: dict[str, Any]


class AuditVerdict(Struct, kw_only=True):
    ok: bool
    records: int
    writers: int
    changes: int
    problems: list[str]
    unknown: list[str]
    """What could not be compared: the log does not say it, or the records are deleted."""
