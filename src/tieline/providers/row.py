"""What we know of a host: a row, no code."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Literal, NoReturn

from msgspec import Struct, field

from tieline.dialects.base import Quirks

Auth = Literal["bearer", "x-api-key", "x-goog-api-key", "api-key", "none", "sigv4", "google_oauth", "entra"]


EU = frozenset(
    "AT BE BG CY CZ DE DK EE ES FI FR GR HR HU IE IT LT LU LV MT NL PL PT RO SE SI SK EU".split()  # noqa: SIM905
)
"""What is inside a rule that allows ``EU``: its members, and the whole."""


def is_inside(place: str, allowed: Collection[str]) -> bool:
    """Whether rules that allow prompts in ``allowed`` allow them in ``place``."""
    return place == "local" or place in allowed or ("EU" in allowed and place in EU)


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
    """When it was read or, where there is no claim, looked for; ISO."""
    page_date: str | None = None
    """The day that the page itself says it is of; ISO."""
    note: str | None = None
    """What the page leaves open or ties to a condition; where nothing is known, what was looked for."""


class Provider(Struct, frozen=True, kw_only=True):
    name: str
    title: str
    endpoints: dict[str, str]
    """Dialect -> base URL, preferred first: what the vendor's own SDK takes as base URL, so `…/v1` for OpenAI's dialects
    and without it for Anthropic's, Gemini's and Cohere's. `{region}`, `{resource}`, … are filled from ``params_env``."""
    env: tuple[str, ...] = ()
    """Environment names of the credential. NAME_2, NAME_3, … are further credentials that rotate."""
    auth: Auth = "bearer"
    base_url_env: str | None = None
    """Environment name that overrides the base URL (OLLAMA_HOST); for local hosts also what switches them on."""
    params_env: dict[str, str] = field(default_factory=dict)
    """Parameter of the base URL -> environment names that may hold it, separated by spaces."""
    params: dict[str, str] = field(default_factory=dict)
    """Defaults of those parameters."""
    headers: dict[str, str] = field(default_factory=dict)
    quirks: Quirks = field(default_factory=Quirks)
    edge: str | None = None
    """What it shares with other hosts: `cloudflare`, `aws:us-east-1`, `gcp`, `azure`; they may fail together."""
    policy: DataPolicy = field(default_factory=DataPolicy)
    account_models: bool = False
    """The account decides which models exist and what they are called (Azure): only configured ones are candidates."""
    catalog: str | None = None
    """Its id in models.dev, where it differs from ``name``."""
    docs: str | None = None

    def __repr__(self) -> str:
        """Without headers, which may prove who we are."""
        return f"Provider({self.name!r})"


class Credential:
    """One key of a provider. Cannot be shown, pickled, copied or encoded, so its secret ends up nowhere by accident."""

    __slots__ = ("headers", "label", "secret")

    def __init__(
        self, label: str, secret: Any, headers: tuple[tuple[bytes, bytes], ...] | None = None
    ) -> None:
        self.label = label
        """The environment name or configuration path it came from."""
        self.secret = secret
        """Text, or for cloud identities one of ``providers.credentials``' structs."""
        self.headers = headers
        """What proves it, when that is the same for every request; None: ``providers.signing`` makes it each time."""

    def __repr__(self) -> str:
        return f"Credential({self.label!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"{self!r} holds a secret and is never pickled or copied")
