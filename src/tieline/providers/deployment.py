"""A model at a provider with its credentials: the unit routed to."""

from __future__ import annotations

from msgspec import Struct, field

from tieline.dialects.base import Target
from tieline.providers.card import ModelCard
from tieline.providers.row import Credential, Provider


class Endpoint(Struct, frozen=True, eq=False):
    """One dialect that a deployment speaks, ready to be used."""

    base_url: str
    target: Target


class Deployment(Struct, frozen=True, eq=False, kw_only=True):
    id: str
    """``provider/model``"""
    provider: Provider
    model: str
    """The upstream's id."""
    name: str
    """The model whatever the host; equal names are the same model."""
    endpoints: dict[str, Endpoint]
    """By dialect, preferred first."""
    credentials: tuple[Credential, ...]
    card: ModelCard | None = None
    http2: bool = False
    ca_file: str | None = None
    static_headers: list[tuple[bytes, bytes]] = field(default_factory=list)

    def __repr__(self) -> str:
        """Without headers, which may prove who we are."""
        return f"Deployment({self.id!r})"

    def endpoint_for(self, dialect: str) -> Endpoint:
        """The caller's own dialect when it is spoken here, else the preferred one."""
        return self.endpoints.get(dialect) or next(iter(self.endpoints.values()))
