"""What we know of a host: a row, no code."""

from __future__ import annotations

from typing import Any, Literal

from msgspec import Struct, field

from tieline.dialects.base import Quirks

Auth = Literal["bearer", "x-api-key", "x-goog-api-key", "api-key", "none", "sigv4", "google_oauth", "entra"]


class DataPolicy(Struct, frozen=True, kw_only=True):
    """Where prompts go and what becomes of them. None is *unknown*, which counts as not allowed under a rule."""

    jurisdictions: tuple[str, ...] | None = None
    """ISO country codes or ``EU`` where the prompts are processed; ``local`` for the user's own machine."""
    retention_days: int | None = None
    """0: not kept."""
    trains: bool | None = None
    source: str | None = None
    """URL of the vendor's statement."""
    date: str | None = None
    """When it was read, ISO."""


class Provider(Struct, frozen=True, kw_only=True):
    name: str
    title: str
    endpoints: dict[str, str]
    """Dialect -> base URL, preferred first. `{region}`, `{resource}`, `{account}` are filled from ``params``."""
    env: tuple[str, ...] = ()
    """Environment names of the credential. NAME_2, NAME_3, … are further credentials that rotate."""
    auth: Auth = "bearer"
    base_url_env: str | None = None
    """Environment name that overrides the base URL (OLLAMA_HOST); for local hosts also what switches them on."""
    params_env: dict[str, str] = field(default_factory=dict)
    """Parameter of the base URL -> environment name."""
    headers: dict[str, str] = field(default_factory=dict)
    quirks: Quirks = field(default_factory=Quirks)
    edge: str | None = None
    """What it shares with other hosts: `cloudflare`, `aws:us-east-1`, `gcp`, `azure`; they may fail together."""
    policy: DataPolicy = field(default_factory=DataPolicy)
    catalog: str | None = None
    """Its id in models.dev, where it differs from ``name``."""
    docs: str | None = None


class Credential(Struct, frozen=True, eq=False):
    """One key of a provider. Its ``repr`` never shows the secret."""

    label: str
    """The environment name or configuration path it came from."""
    secret: Any

    def __repr__(self) -> str:
        return f"Credential({self.label!r})"
