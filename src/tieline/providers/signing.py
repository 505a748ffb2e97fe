"""What proves to a provider who asks: headers for one request."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import pairwise
from urllib.parse import quote, unquote, urlsplit

from tieline.providers.aws_sources import AwsKeys
from tieline.providers.credentials import AuthorizedUser
from tieline.providers.row import Credential, Provider
from tieline.types.call import Headers

_UNSIGNED = frozenset(
    {b"authorization", b"connection", b"expect", b"user-agent", b"x-amzn-trace-id", b"host"}
)
"""Headers that hops change or that are signed in their own way."""


def sign(
    provider: Provider,
    credential: Credential,
    method: str,
    url: str,
    headers: Headers,
    body: bytes,
    now: datetime,
    token: str | AwsKeys | None = None,
) -> Headers:
    """The headers to add. ``token`` is what ``tokens.TokenSource`` gave, for cloud identities. Pure."""
    if credential.headers is not None:
        return list(credential.headers)
    keys = credential.secret if isinstance(credential.secret, AwsKeys) else token
    if isinstance(keys, AwsKeys):
        return sigv4(keys, region_of(provider, url), "bedrock", method, url, headers, body, now)
    if not isinstance(token, str):
        raise ValueError(f"{credential!r} needs a token")
    proof: Headers = [(b"authorization", b"Bearer " + token.encode("latin-1"))]
    if isinstance(credential.secret, AuthorizedUser) and credential.secret.quota_project_id:
        # A person's own credentials name the project that pays (cloud.google.com/docs/quotas/set-quota-project).
        proof.append((b"x-goog-user-project", credential.secret.quota_project_id.encode("latin-1")))
    return proof


def needs_token(credential: Credential) -> bool:
    """Whether a token must be fetched before ``sign``."""
    return credential.headers is None and not isinstance(credential.secret, AwsKeys)


def ended(status: int, errortype: bytes | None) -> bool:
    """Whether a refusal is of the token or temporary keys themselves, so that fresh ones may be accepted.

    AWS says 403 to everything; which of it, it says in ``x-amzn-errortype`` too.
    """
    return status == 401 or (status == 403 and (errortype or b"").startswith(_ENDED))


_ENDED = (b"ExpiredToken", b"UnrecognizedClient", b"InvalidClientTokenId")


def region_of(provider: Provider, url: str) -> str:
    """What follows `bedrock-runtime` in an AWS host name (VPC endpoints have more in front and behind), else the row's."""
    labels = (urlsplit(url).hostname or "").split(".")
    if "amazonaws" in labels or labels[-2:] == ["api", "aws"]:
        for service, region in pairwise(labels):
            if service.startswith("bedrock-runtime"):
                return region
    return provider.params.get("region", "us-east-1")


def sigv4(
    keys: AwsKeys,
    region: str,
    service: str,
    method: str,
    url: str,
    headers: Headers,
    body: bytes,
    now: datetime,
) -> Headers:
    """AWS Signature Version 4 (docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html)."""
    stamp = now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    added: Headers = [(b"x-amz-date", stamp.encode())]
    if keys.session_token:
        added.append((b"x-amz-security-token", keys.session_token.encode()))
    parts = urlsplit(url)
    signed = {b"host": _host(parts.scheme, parts.netloc)}
    for name, value in (*headers, *added):
        lower = name.lower()
        if lower not in _UNSIGNED:
            trimmed = b" ".join(value.split())
            signed[lower] = signed[lower] + b"," + trimmed if lower in signed else trimmed
    order = sorted(signed)
    listed = b";".join(order)
    canonical = b"\n".join(
        [
            method.encode(),
            _path(parts.path),
            _query(parts.query),
            *(name + b":" + signed[name] for name in order),
            b"",
            listed,
            hashlib.sha256(body).hexdigest().encode(),
        ]
    )
    scope = f"{stamp[:8]}/{region}/{service}/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical).hexdigest()}"
    key = _derive(keys.secret_access_key, (stamp[:8], region, service, "aws4_request"))
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    proof = (
        f"AWS4-HMAC-SHA256 Credential={keys.access_key_id}/{scope}, "
        f"SignedHeaders={listed.decode()}, Signature={signature}"
    )
    return [*added, (b"authorization", proof.encode())]


def _derive(secret: str, steps: Iterable[str]) -> bytes:
    key = f"AWS4{secret}".encode()
    for step in steps:
        key = hmac.new(key, step.encode(), hashlib.sha256).digest()
    return key


def _host(scheme: str, netloc: str) -> bytes:
    host = netloc.rpartition("@")[2]
    default = {"https": ":443", "http": ":80"}.get(scheme, "")
    return host.removesuffix(default).encode() if default else host.encode()


def _path(path: str) -> bytes:
    """Every service but S3 encodes the path once more than the wire does."""
    return quote(path or "/", safe="/-_.~").encode()


def _query(query: str) -> bytes:
    pairs = [part.partition("=") for part in query.split("&") if part]
    encoded = sorted((_again(name), _again(value)) for name, _, value in pairs)
    return "&".join(f"{name}={value}" for name, value in encoded).encode()


def _again(text: str) -> str:
    return quote(unquote(text), safe="-_.~")
