"""A model at a provider with its credentials: the unit routed to."""

from __future__ import annotations

from tieline.dialects.base import Target
from tieline.providers.card import ModelCard
from tieline.providers.row import Credential, Provider

_MAX_PATHS = 16


class Endpoint:
    """One dialect that a deployment speaks, ready to be used."""

    __slots__ = ("_urls", "base_url", "target")

    def __init__(self, base_url: str, target: Target) -> None:
        self.base_url = base_url
        self.target = target
        self._urls: dict[str, str] = {}

    def url(self, path: str) -> str:
        """Where a request with ``path`` goes: the same text each time, so that whoever looks it up has its hash."""
        url = self._urls.get(path)
        if url is None:
            if len(self._urls) >= _MAX_PATHS:
                self._urls.clear()
            url = self._urls[path] = self.base_url + path
        return url


class Deployment:
    """Never changed once it is made; every one is equal to itself only."""

    __slots__ = (
        "ca_file",
        "card",
        "credentials",
        "endpoints",
        "http2",
        "id",
        "model",
        "name",
        "provider",
        "static_headers",
    )

    def __init__(
        self,
        *,
        id: str,
        provider: Provider,
        model: str,
        name: str,
        endpoints: dict[str, Endpoint],
        credentials: tuple[Credential, ...],
        card: ModelCard | None = None,
        http2: bool = False,
        ca_file: str | None = None,
        static_headers: list[tuple[bytes, bytes]] | None = None,
    ) -> None:
        self.id = id
        """``provider/model``"""
        self.provider = provider
        self.model = model
        """The upstream's id."""
        self.name = name
        """The model whatever the host; equal names are the same model."""
        self.endpoints = endpoints
        """By dialect, preferred first."""
        self.credentials = credentials
        self.card = card
        self.http2 = http2
        self.ca_file = ca_file
        self.static_headers: list[tuple[bytes, bytes]] = static_headers or []

    def __repr__(self) -> str:
        """Without headers, which may prove who we are."""
        return f"Deployment({self.id!r})"

    def endpoint_for(self, dialect: str) -> Endpoint:
        """The caller's own dialect when it is spoken here, else the preferred one."""
        found = self.endpoints.get(dialect)
        return next(iter(self.endpoints.values())) if found is None else found
