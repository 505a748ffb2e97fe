"""Whether a request is signed as AWS wants it: the signature is made again from the known secret and compared."""

from __future__ import annotations

import hashlib
import hmac
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol
from urllib.parse import quote

from tieline.simulator.answer import Refusal

if TYPE_CHECKING:
    from tieline.simulator.clouds import AwsIdentity, Clouds

_SCHEME = re.compile(
    r"AWS4-HMAC-SHA256 Credential=(?P<key>[^/,]+)/(?P<day>\d{8})/(?P<region>[^/,]+)/(?P<service>[^/,]+)/aws4_request, ?"
    r"SignedHeaders=(?P<headers>[^,]+), ?Signature=(?P<signature>[0-9a-f]{64})"
)
_SKEW_S = 300
_MUST_SIGN = {"host", "x-amz-date"}


class Signed(Protocol):
    """What a signature is about: an exchange with a model, or a request to another service."""

    @property
    def method(self) -> str: ...
    @property
    def target(self) -> str: ...
    @property
    def headers(self) -> dict[str, str]: ...
    @property
    def raw(self) -> bytes: ...


def verify(exchange: Signed, clouds: Clouds, region: str | None, service: str = "bedrock") -> str:
    """The access key id. ``region`` is the door's; None takes any. Raises Refusal as AWS says no."""
    given = _SCHEME.fullmatch(exchange.headers.get("authorization", ""))
    stamp = exchange.headers.get("x-amz-date", "")
    if given is None or not re.fullmatch(r"\d{8}T\d{6}Z", stamp):
        raise Refusal("incomplete_signature")
    identity = clouds.aws.get(given["key"])
    if identity is None:
        raise Refusal("auth")
    _check_session(exchange, identity, clouds)
    if region is not None and given["region"] != region:
        raise Refusal("signature", "Credential should be scoped to a valid region.")
    if given["service"] != service:
        raise Refusal("signature", f"Credential should be scoped to correct service: '{service}'.")
    _check_time(stamp, given["day"], clouds)
    if not hmac.compare_digest(_signature(exchange, given, stamp, identity), given["signature"]):
        raise Refusal("signature")
    return given["key"]


def _check_session(exchange: Signed, identity: AwsIdentity, clouds: Clouds) -> None:
    if identity.expired or identity.until <= clouds.clock():
        raise Refusal("expired")
    if exchange.headers.get("x-amz-security-token") != identity.session_token:
        raise Refusal("auth")


def _check_time(stamp: str, day: str, clouds: Clouds) -> None:
    signed = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    now = datetime.fromtimestamp(clouds.clock(), UTC)
    if not stamp.startswith(day):
        raise Refusal("signature", "Date in Credential scope does not match YYYYMMDD from ISO-8601 version.")
    if abs((now - signed).total_seconds()) > _SKEW_S:
        raise Refusal(
            "signature", f"Signature expired: {stamp} is now earlier than {now:%Y%m%dT%H%M%SZ} - 5 min."
        )


def _signature(exchange: Signed, given: re.Match[str], stamp: str, identity: AwsIdentity) -> str:
    names = given["headers"].split(";")
    if not set(names) >= _MUST_SIGN or names != sorted(names):
        raise Refusal("signature")
    if identity.session_token and "x-amz-security-token" not in names:
        raise Refusal("signature")
    path, _, query = exchange.target.partition("?")
    lines = [
        exchange.method,
        # Every service but S3 encodes what stands on the wire once more.
        "/".join(quote(segment, safe="-_.~") for segment in path.split("/")),
        "&".join(sorted(query.split("&"))) if query else "",
        *(f"{name}:{' '.join(exchange.headers.get(name, '').split())}" for name in names),
        "",
        given["headers"],
        hashlib.sha256(exchange.raw).hexdigest(),
    ]
    scope = f"{given['day']}/{given['region']}/{given['service']}/aws4_request"
    hashed = hashlib.sha256("\n".join(lines).encode("latin-1")).hexdigest()
    key = f"AWS4{identity.secret}".encode()
    for step in (*scope.split("/"), f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashed}"):
        key = hmac.new(key, step.encode(), hashlib.sha256).digest()
    return key.hex()
