"""Every setting there is. The names, defaults and docstrings here are the documentation (docs/configuration.md).

Unknown keys are errors. Durations end in ``_s``, money in ``_usd`` (decimal strings or numbers, kept exact).
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

OnBrokenStream = Literal["resume", "error", "hold"]

Seconds = Annotated[float, Meta(gt=0, le=86_400)]
Count = Annotated[int, Meta(ge=1, le=1_000_000)]
Share = Annotated[float, Meta(ge=0, le=1)]
DecimalText = Annotated[
    str, Meta(pattern=r"^\d{1,12}(\.\d{1,12})?$", description="a decimal number such as 0.15")
]
Url = Annotated[str, Meta(pattern=r"^https?://[^\s/?#]+", description="an http:// or https:// URL")]
DeploymentName = Annotated[str, Meta(pattern=r"^[^/\s]+/\S+$", description="provider/model")]
Jurisdiction = Annotated[
    str, Meta(pattern=r"^([A-Z]{2}|local)$", description="an ISO country code, EU or local")
]


class Timeouts(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """How long to wait. Left out: adaptive, as docs/routing.md says."""

    connect_s: Seconds = 3.0
    """Until a connection to the provider stands, TLS included."""
    first_token_s: Seconds | None = None
    """Until the first content; then the next candidate is tried."""
    stall_s: Seconds | None = None
    """Between two pieces of a stream."""
    total_s: Seconds = 600.0
    """For the whole request, every attempt included."""


class Routing(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """How alternatives are found and tried. Set here for all; a model, profile or request may override each."""

    fallback: Literal["equivalent", "lesser", "listed", "none"] = "equivalent"
    """``equivalent``: the same model elsewhere, then one at least as good. ``listed``: only what ``fallbacks`` names."""
    lesser_band: Annotated[float, Meta(ge=0, le=100)] = 5.0
    """With ``fallback: lesser``: how many quality points below are allowed."""
    max_price_ratio: Annotated[float, Meta(ge=0, le=1000)] = 1.25
    """An alternative may cost at most this times the first choice, for this request's tokens."""
    max_cost_usd: DecimalText | None = None
    """The most one request may cost with the longest answer: `max_tokens`, else all that the model can write; deployments without a known price are refused under it."""
    max_attempts: Annotated[int, Meta(ge=1, le=100)] = 6
    """Tries for one request, over all deployments."""
    patience_s: Annotated[float, Meta(ge=0, le=600)] = 3.0
    """How long a rate limit of the only eligible model is waited out."""
    on_broken_stream: OnBrokenStream = "resume"
    """What happens when a stream breaks after content has reached the caller."""
    hold_tokens: Annotated[int, Meta(ge=1, le=100_000)] = 40
    """With ``on_broken_stream: hold``: how many tokens are held back before the first is sent."""
    hold_ms: Annotated[int, Meta(ge=0, le=600_000)] = 2000
    """With ``on_broken_stream: hold``: after this long it is sent, however little it is; 0: only the tokens count."""
    hedge: bool = False
    """Start a second attempt elsewhere when the first token is later than usual."""
    explore: Share = 0.02
    """Share of requests that measure a deployment other than the best."""
    timeouts: Timeouts = field(default_factory=Timeouts)


class PolicyRules(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """Where prompts may go. Rules of gateway, project, key and request only tighten."""

    allow_providers: list[str] | None = None
    """Only these providers."""
    deny_providers: list[str] = field(default_factory=list)
    """Never these providers, nor further regions of one: `bedrock` denies `bedrock@eu-west-1` too."""
    jurisdictions: list[Jurisdiction] | None = None
    """Only providers known to process prompts in these places."""
    no_training: bool = False
    """Only providers known not to train on prompts."""
    zero_retention: bool = False
    """Only providers known to keep nothing."""


PriceName = Literal[
    "input",
    "output",
    "cache_read",
    "cache_read_audio",
    "cache_write",
    "cache_write_1h",
    "input_audio",
    "output_audio",
    "output_image",
    "input_image",
    "per_request",
    "web_search",
    "file_search",
    "batch_percent",
    "priority_percent",
    "flex_percent",
    "fast_percent",
    "us_percent",
]


class ProviderConfig(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """Changes a known provider, or adds one: then ``base_url`` is needed and the rest has defaults."""

    base_url: Url | None = None
    """Where its API is; what the vendor's own SDK calls its base URL."""
    dialect: (
        Literal[
            "openai_chat", "openai_responses", "anthropic_messages", "gemini", "bedrock_converse", "cohere"
        ]
        | None
    ) = None
    """The wire API it speaks; ``openai_chat`` for a new provider."""
    api_key: str | list[str] | None = None
    """``${NAME}`` reads the environment, ``file:/path`` a file. A list rotates."""
    auth: (
        Literal["bearer", "x-api-key", "x-goog-api-key", "api-key", "none", "sigv4", "google_oauth", "entra"]
        | None
    ) = None
    """How the key is sent; ``bearer`` for a new provider with a key."""
    headers: dict[str, str] = field(default_factory=dict)
    """Sent with every request."""
    models: list[str] | dict[str, str] | None = None
    """Upstream model ids this provider serves, or ``id: model`` where its ids say nothing (Azure's deployments). Left out: what the catalog knows, and any name asked as provider/model."""
    prices: dict[str, dict[PriceName, DecimalText]] = field(default_factory=dict)
    """Model id -> {input, output, cache_read, cache_write, …} in USD per million tokens: docs/money.md has all names."""
    quirks: dict[str, Any] = field(default_factory=dict)
    """Deviations from the dialect, as docs/adding-a-provider.md lists them."""
    jurisdictions: list[Jurisdiction] | None = None
    """Where it processes prompts, if you know better than the built-in table."""
    no_training: bool | None = None
    """Whether your contract with it excludes training."""
    zero_retention: bool | None = None
    """Whether your contract with it excludes keeping prompts."""
    edge: str | None = None
    """A name shared by providers that fail together."""
    ca_file: str | None = None
    """A PEM file with the authority of its certificate."""
    http2: bool = False
    """Use HTTP/2 (needs ``tieline[proxy]``)."""
    enabled: bool = True
    """``false`` hides it although its key is in the environment."""

    def __repr__(self) -> str:
        """Without values: a key may stand here as it is."""
        given = [name for name in self.__struct_fields__ if getattr(self, name) not in (None, {}, False)]
        return f"ProviderConfig({', '.join(given)})"


class ModelConfig(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """A public name. Shorthand: a string is one deployment, a list several."""

    deployments: list[DeploymentName] = field(default_factory=list)
    """``provider/model``; equal in order, balanced by health and latency."""
    fallbacks: list[str] = field(default_factory=list)
    """Public names or ``provider/model``, tried in this order after the deployments."""
    routing: dict[str, Any] = field(default_factory=dict)
    """Overrides of ``routing``."""


class ServerConfig(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """The process that serves."""

    host: str = "127.0.0.1"
    """The address to listen on; a public one needs virtual keys."""
    port: Annotated[int, Meta(ge=0, le=65_535)] = 8787
    """0 takes any free port."""
    max_body_mb: Annotated[int, Meta(ge=1, le=1024)] = 20
    """A larger request is answered 413."""
    max_header_kb: Annotated[int, Meta(ge=1, le=1024)] = 64
    """More header is answered 431."""
    receive_timeout_s: Seconds = 30.0
    """Until a request's last byte is in: slow-loris."""
    keepalive_s: Seconds = 15.0
    """A comment goes to a waiting stream this often."""
    max_concurrency: Count = 2000
    """Requests in flight in one process, all of them at one provider if need be; beyond it 503 with Retry-After."""
    max_lag_ms: Annotated[int, Meta(ge=0, le=60_000)] = 50
    """A process whose event loop stays behind by more refuses a share of new requests with 503; 0 never does."""
    drain_s: Annotated[float, Meta(ge=0, le=3600)] = 30.0
    """How long running requests may take to end on shutdown."""
    workers: Annotated[int, Meta(ge=1, le=256)] = 1
    """Processes that serve; more than one needs ``store.redis`` for exact limits."""
    open: bool = False
    """Serve without virtual keys although bound to a public address."""


class StoreConfig(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """Where records, keys and budgets are kept."""

    database: Annotated[
        str,
        Meta(pattern=r"^(none$|sqlite:|postgresql)", description="sqlite:///path, postgresql://… or none"),
    ] = "sqlite:///tieline.db"
    """SQLAlchemy URL: ``sqlite:///path`` or ``postgresql://…``; ``none`` keeps nothing."""
    redis: Annotated[str, Meta(pattern=r"^(rediss?|unix)://", description="redis://host:port/db")] | None = (
        None
    )
    """Shares budgets and limits between processes."""
    spool: str = "tieline-spool"
    """Folder for records that could not be written yet."""
    retention_days: Annotated[int, Meta(ge=1, le=36_500)] = 90
    """Records older than this are deleted."""

    def __repr__(self) -> str:
        """Without URLs: they may hold passwords."""
        return f"StoreConfig(retention_days={self.retention_days})"


class LedgerConfig(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """What callers are charged."""

    markup_percent: DecimalText = "0"
    """Added to the cost of each request."""
    markup_usd: DecimalText = "0"
    """Added to each request, but for token counts, which are free."""
    charge_failed: Literal["nothing", "cost"] = "nothing"
    """What attempts that gave the caller nothing are charged at."""


class Config(Struct, kw_only=True, forbid_unknown_fields=True, frozen=True):
    """tieline.yaml as a whole. Nothing in it is needed."""

    server: ServerConfig = field(default_factory=ServerConfig)
    providers: dict[str, ProviderConfig] = field(default_factory=dict)
    models: dict[str, ModelConfig] = field(default_factory=dict)
    routing: Routing = field(default_factory=Routing)
    policy: PolicyRules = field(default_factory=PolicyRules)
    store: StoreConfig = field(default_factory=StoreConfig)
    ledger: LedgerConfig = field(default_factory=LedgerConfig)
    discover: bool = True
    """Use provider keys found in the environment by their conventional names."""
