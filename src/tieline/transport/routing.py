"""Which transport serves which origin: the environment's proxies and HTTP/2 through ``proxied``, all else ``http1``."""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Mapping

from tieline.transport.base import Transport, UpstreamRequest, UpstreamResponse
from tieline.transport.http1 import Http1Transport
from tieline.transport.limits import PoolLimits
from tieline.transport.origin import Origin, split_url
from tieline.transport.proxied import ProxiedTransport

_MAX_ORIGINS = 1024


def open_transport(
    *,
    http2: bool = False,
    environ: Mapping[str, str] | None = None,
    limits: PoolLimits | None = None,
    ca_file: str | None = None,
) -> Transport:
    """``Http1Transport`` itself where neither a proxy nor HTTP/2 is asked for: no detour on the usual path."""
    environ = os.environ if environ is None else environ
    if http2 or any(_variable(environ, name) for name in ("http_proxy", "https_proxy", "all_proxy")):
        return RoutingTransport(http2=http2, environ=environ, limits=limits, ca_file=ca_file)
    return Http1Transport(limits=limits, ca_file=ca_file)


class Transports:
    """A transport for each way a provider wants to be reached; opened when first asked for, closed together."""

    def __init__(
        self,
        environ: Mapping[str, str],
        default: Transport | None = None,
        *,
        limits: PoolLimits | None = None,
    ) -> None:
        self._environ = environ
        self._limits = limits
        self.default = default or open_transport(environ=environ, limits=limits)
        self._others: dict[tuple[bool, str | None], Transport] = {}

    def of(self, http2: bool, ca_file: str | None) -> Transport:
        if not http2 and ca_file is None:
            return self.default
        found = self._others.get((http2, ca_file))
        if found is None:
            found = open_transport(http2=http2, environ=self._environ, limits=self._limits, ca_file=ca_file)
            self._others[http2, ca_file] = found
        return found

    async def aclose(self) -> None:
        for transport in (self.default, *self._others.values()):
            await transport.aclose()


class RoutingTransport:
    """Picks once per origin. ``http2`` concerns https only; the environment is read when an origin is first seen."""

    def __init__(
        self,
        *,
        http2: bool = False,
        environ: Mapping[str, str],
        limits: PoolLimits | None = None,
        ca_file: str | None = None,
    ) -> None:
        self._http2 = http2
        self._environ = environ
        self._limits = limits
        self._ca_file = ca_file
        self._opened: dict[tuple[str | None, bool], Transport] = {}
        self._by_origin: dict[str, Transport] = {}

    async def send(self, request: UpstreamRequest) -> UpstreamResponse:
        url = request.url
        end = url.find("/", 8)
        key = url if end < 0 else url[:end]
        transport = self._by_origin.get(key) or self._pick(key)
        return await transport.send(request)

    async def aclose(self) -> None:
        for transport in self._opened.values():
            await transport.aclose()

    def _pick(self, key: str) -> Transport:
        origin, _ = split_url(key)
        wanted = (proxy_for(origin, self._environ), self._http2 and origin.scheme == "https")
        transport = self._opened.get(wanted)
        if transport is None:
            transport = self._opened[wanted] = self._open(*wanted)
        if len(self._by_origin) >= _MAX_ORIGINS:
            self._by_origin.clear()
        self._by_origin[key] = transport
        return transport

    def _open(self, proxy: str | None, http2: bool) -> Transport:
        if proxy is None and not http2:
            return Http1Transport(limits=self._limits, ca_file=self._ca_file)
        return ProxiedTransport(proxy=proxy, http2=http2, limits=self._limits, ca_file=self._ca_file)


def proxy_for(origin: Origin, environ: Mapping[str, str]) -> str | None:
    """The proxy that the usual variables name for ``origin``; loopback is never proxied, and no link-local address: a
    cloud's metadata service asked through a proxy would answer with the proxy's identity.

    ``NO_PROXY`` holds ``*``, names (which cover their subdomains), addresses, networks, each perhaps with a port.
    """
    proxy = _variable(environ, f"{origin.scheme}_proxy") or _variable(environ, "all_proxy")
    if not proxy or _is_near(origin.host):
        return None
    excepted = _variable(environ, "no_proxy").split(",")
    if any(_covers(entry.strip().lower(), origin) for entry in excepted):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _variable(environ: Mapping[str, str], name: str) -> str:
    return (environ.get(name) or environ.get(name.upper()) or "").strip()


def _is_near(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
        return address.is_loopback or address.is_link_local
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _covers(entry: str, origin: Origin) -> bool:
    if entry in ("", "*"):
        return entry == "*"
    try:
        return ipaddress.ip_address(origin.host) in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        pass
    name, _, port = entry.rpartition(":")
    if port.isdigit() and name:
        return int(port) == origin.port and _covers(name.strip("[]"), origin)
    name = entry.lstrip("*").lstrip(".")
    return origin.host == name or origin.host.endswith(f".{name}")
