"""Pages in the browser of whoever runs a gateway that asks for no keys: any of them can send it a request, and would spend."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import ip_address
from urllib.parse import urlsplit


def is_elsewhere(origin: str) -> bool:
    """Whether an ``Origin`` is a page of another site. Programs send none; a page that hides where it is from (``null``), or
    whose name only resolves to this machine (DNS rebinding), is elsewhere. What is no web page (``app://…``) is not."""
    scheme, _, netloc = origin.partition("://")
    if scheme in ("http", "https"):
        return not names_loopback(netloc)
    return origin == "null"


@lru_cache(16)
def is_anybodys(netloc: str) -> bool:
    """Whether a ``Host`` is a name that a site may have registered and given to this machine, for its page to read what is here
    (DNS rebinding). No public DNS has a name without a dot (nginx sends that of an ``upstream``), nor one below
    ``.localhost`` or ``.internal`` (``host.docker.internal``, which leads to the loopback of a desktop)."""
    host = _host_of(netloc)
    if host is None:
        return True
    return "." in host and not host.endswith((".localhost", ".internal")) and not _is_address(host)


def names_loopback(netloc: str) -> bool:
    """Else a name of somebody's that resolves to this machine would do (DNS rebinding)."""
    host = _host_of(netloc) or ""
    return host == "localhost" or host.endswith(".localhost") or is_loopback(host)


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _host_of(netloc: str) -> str | None:
    """None: it is none."""
    try:
        return urlsplit(f"//{netloc}").hostname or ""
    except ValueError:
        return None
