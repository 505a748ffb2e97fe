"""Every setting there is. The names, defaults and docstrings here are the documentation (docs/configuration.md).

Unknown keys are errors. Durations end in ``_s``, money in ``_usd`` (decimal strings or numbers, kept exact).
"""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct, field

OnBrokenStream = Literal["resume", "error", "hold"]


class Timeouts(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """How long to wait. None: adaptive, as docs/routing.md says."""

    connect_s: float = 3.0
    first_token_s: float | None = None
    stall_s: float | None = None
    total_s: float = 600.0


class Routing(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """How alternatives are found and tried. Set here for all; a model, profile or request may override each."""

    fallback: Literal["equivalent", "lesser", "listed", "none"] = "equivalent"
    """``equivalent``: the same model elsewhere, then one at least as good. ``listed``: only what ``fallbacks`` names."""
    lesser_band: float = 5.0
    """With ``fallback: lesser``: how many quality points below are allowed."""
    max_price_ratio: float = 1.25
    """An alternative may cost at most this times the first choice, for this request's tokens."""
    max_cost_usd: str | None = None
    """The most one request may cost; deployments without a known price are refused under it."""
    max_attempts: int = 6
    patience_s: float = 3.0
    """How long a rate limit of the only eligible model is waited out."""
    on_broken_stream: OnBrokenStream = "resume"
    hold_tokens: int = 40
    hedge: bool = False
    explore: float = 0.02
    """Share of requests that measure a deployment other than the best."""
    timeouts: Timeouts = field(default_factory=Timeouts)


class PolicyRules(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """Where prompts may go. Rules of gateway, project, key and request only tighten."""

    allow_providers: list[str] | None = None
    deny_providers: list[str] = field(default_factory=list)
    jurisdictions: list[str] | None = None
    no_training: bool = False
    zero_retention: bool = False
    pii: Literal["allow", "flag", "redact", "block"] = "allow"


class ProviderConfig(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """Changes a known provider, or adds one: then ``base_url`` is needed and the rest has defaults."""

    base_url: str | None = None
    dialect: str | None = None
    """openai_chat (default of a new provider), openai_responses, anthropic_messages, gemini, …"""
    api_key: str | list[str] | None = None
    """``${NAME}`` reads the environment, ``file:/path`` a file. A list rotates."""
    auth: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    models: list[str] | None = None
    """Upstream model ids this provider serves; None: what the catalog knows, and any name asked as provider/model."""
    prices: dict[str, dict[str, str]] = field(default_factory=dict)
    """Model id -> {input, output, cache_read, cache_write} in USD per million tokens."""
    quirks: dict[str, Any] = field(default_factory=dict)
    jurisdictions: list[str] | None = None
    no_training: bool | None = None
    zero_retention: bool | None = None
    edge: str | None = None
    ca_file: str | None = None
    http2: bool = False
    enabled: bool = True


class ModelConfig(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """A public name. Shorthand: a string is one deployment, a list several."""

    deployments: list[str] = field(default_factory=list)
    """``provider/model``; equal in order, balanced by health and latency."""
    fallbacks: list[str] = field(default_factory=list)
    """Public names or ``provider/model``, tried in this order after the deployments."""
    routing: dict[str, Any] = field(default_factory=dict)
    """Overrides of ``routing``."""
    params: dict[str, Any] = field(default_factory=dict)
    """Defaults of request parameters, used when the caller gave none."""


class ServerConfig(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    host: str = "127.0.0.1"
    port: int = 8787
    max_body_mb: int = 20
    max_header_kb: int = 64
    receive_timeout_s: float = 30.0
    """Until a request's last byte is in: slow-loris."""
    keepalive_s: float = 15.0
    """A comment goes to a waiting stream this often."""
    max_concurrency: int = 2000
    """Requests in flight in one process; beyond it 503 with Retry-After."""
    drain_s: float = 30.0
    workers: int = 1
    open: bool = False
    """Serve without virtual keys although bound to a public address."""


class StoreConfig(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    database: str = "sqlite:///tieline.db"
    """SQLAlchemy URL: ``sqlite:///path`` or ``postgresql://…``; ``none`` keeps nothing."""
    redis: str | None = None
    spool: str = "tieline-spool"
    """Folder for records that could not be written yet."""
    retention_days: int = 90


class LedgerConfig(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    markup_percent: str = "0"
    markup_usd: str = "0"
    """Added to each request."""
    charge_failed: Literal["nothing", "cost"] = "nothing"


class Config(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    server: ServerConfig = field(default_factory=ServerConfig)
    providers: dict[str, ProviderConfig] = field(default_factory=dict)
    models: dict[str, ModelConfig] = field(default_factory=dict)
    routing: Routing = field(default_factory=Routing)
    policy: PolicyRules = field(default_factory=PolicyRules)
    store: StoreConfig = field(default_factory=StoreConfig)
    ledger: LedgerConfig = field(default_factory=LedgerConfig)
    discover: bool = True
    """Use provider keys found in the environment by their conventional names."""
