"""Pages in the browser of whoever runs a gateway that asks for no keys: any of them can send it a request, and would spend."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit


def is_elsewhere(origin: str) -> bool:
    """Whether an ``Origin`` is a page of another site. Programs send none; a page that hides where it is from (``null``), or
    whose name only resolves to this machine (DNS rebinding), is elsewhere. What is no web page (``app://…``) is not."""
    scheme, _, netloc = origin.partition("://")
    if scheme in ("http", "https"):
        return not names_loopback(netloc)
    return origin == "null"


def names_loopback(netloc: str) -> bool:
    """Else a name of somebody's that resolves to this machine would do (DNS rebinding)."""
    try:
        host = urlsplit(f"//{netloc}").hostname or ""
    except ValueError:
        return False
    return host == "localhost" or host.endswith(".localhost") or is_loopback(host)


def is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
