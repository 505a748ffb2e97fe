"""Short-lived tokens and keys of cloud identities: fetched through the Transport seam, kept, renewed ahead of their end."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Callable
from urllib.parse import urlencode, urlsplit

import msgspec
from msgspec import Struct

from tieline.providers import aws_keys
from tieline.providers.aws_sources import AwsKeys, AwsSource
from tieline.providers.credentials import (
    AuthorizedUser,
    EntraApp,
    ManagedIdentity,
    MetadataIdentity,
    ServiceAccount,
    WorkloadIdentity,
)
from tieline.providers.row import Credential
from tieline.providers.token_error import TokenError
from tieline.transport.base import Transport, TransportError, UpstreamRequest
from tieline.types.errors import ConfigError, FailureClass

RENEW_BEFORE_S = 300.0
"""Google's and Microsoft's tokens live an hour; metadata servers hand out a new one 5 minutes before the end."""
GONE_BEFORE_S = 20.0
"""A token this near its end is not used: the request it signs must still arrive."""
MAX_ANSWER_BYTES = 64 * 1024
TIMEOUT_S = 10.0
RENEW_AGAIN_S = 5.0
"""After a renewal ahead of time that failed: the token still holds, and its service is not asked with every request."""
ASSERTION_LIFE_S = 3600
"""The longest that Google takes (developers.google.com/identity/protocols/oauth2/service-account)."""

GOOGLE_SCOPE = "https://www.googleapis.com/auth/cloud-platform"
_AZURE_SUFFIXES = {
    "login.microsoftonline.us": "azure.us",
    "login.chinacloudapi.cn": "azure.cn",
    "login.partner.microsoftonline.cn": "azure.cn",
}
"""Authorities of the sovereign clouds, whose resources have names of their own."""
_JWT_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_FORM = [(b"content-type", b"application/x-www-form-urlencoded")]


class _Answer(Struct):
    access_token: str
    expires_in: float | str | None = None
    """Azure's metadata service writes numbers as text."""
    expires_on: float | str | None = None
    """Unix seconds: all that App Service says."""

    def until(self, now: float) -> float:
        """Raises ValueError."""
        if self.expires_in is None and self.expires_on is not None:
            return float(self.expires_on)
        return now + float(self.expires_in if self.expires_in is not None else 3600)


class _Refusal(Struct):
    error: str = ""
    error_description: str = ""


Proof = str | AwsKeys
"""What an identity proves itself with: a bearer token, or keys to sign with."""


class _Token(Struct, frozen=True):
    proof: Proof
    until: float


class TokenSource:
    """One for a process. ``clock`` gives Unix seconds."""

    def __init__(self, transport: Transport, clock: Callable[[], float] = time.time) -> None:
        self._transport = transport
        self._clock = clock
        self._tokens: dict[Credential, _Token] = {}
        self._under_way: dict[Credential, asyncio.Task[_Token]] = {}
        self._not_before: dict[Credential, float] = {}

    def cached(self, credential: Credential) -> Proof | None:
        """Without waiting; None when ``token`` must be awaited. Renews in the background when the end is near."""
        token = self._tokens.get(credential)
        if token is None:
            return None
        left = token.until - self._clock()
        if left <= GONE_BEFORE_S:
            return None
        if left <= RENEW_BEFORE_S and self._clock() >= self._not_before.get(credential, 0.0):
            self._renew(credential)
        return token.proof

    def forget(self, credential: Credential, proof: Proof) -> None:
        """The provider refuses this token although its time is not over: revoked, or its clock differs from ours."""
        token = self._tokens.get(credential)
        if token is not None and token.proof == proof:
            del self._tokens[credential]

    async def token(self, credential: Credential) -> Proof:
        """Callers at the same time share one exchange, which goes on if one of them is cancelled. Raises TokenError."""
        known = self.cached(credential)
        if known is not None:
            return known
        token = await asyncio.shield(self._renew(credential))
        return token.proof

    async def aclose(self) -> None:
        tasks = list(self._under_way.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _renew(self, credential: Credential) -> asyncio.Task[_Token]:
        task = self._under_way.get(credential)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._exchange(credential))
            self._under_way[credential] = task
            task.add_done_callback(lambda done: self._renewed(credential, done))
        return task

    def _renewed(self, credential: Credential, task: asyncio.Task[_Token]) -> None:
        self._under_way.pop(credential, None)
        if task.cancelled():
            return
        known = self._tokens.get(credential)
        if task.exception() is None:
            self._tokens[credential] = task.result()
        if task.exception() is not None or known == task.result():
            # Refused, or handed out once more: the service has no newer one yet.
            self._not_before[credential] = self._clock() + RENEW_AGAIN_S

    async def _exchange(self, credential: Credential) -> _Token:
        now = self._clock()
        if isinstance(credential.secret, AwsSource):
            return _Token(*await aws_keys.fetch(credential.secret, self._send, now))
        try:
            request = exchange_request(credential.secret, now)
        except ConfigError as error:
            raise TokenError(FailureClass.CREDENTIAL, error.full_message) from error
        status, body = await self._send(request)
        if status != 200:
            raise _refused(status, body)
        try:
            answer = msgspec.json.decode(body, type=_Answer)
            return _Token(answer.access_token, answer.until(now))
        except (msgspec.DecodeError, ValueError) as error:
            raise TokenError(FailureClass.TRANSIENT, "the token service's answer holds no token.") from error

    async def _send(self, request: UpstreamRequest, service: str = "the token service") -> tuple[int, bytes]:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                response = await self._transport.send(request)
                try:
                    return response.status, await response.read(MAX_ANSWER_BYTES)
                finally:
                    response.close()
        except TimeoutError as error:
            raise TokenError(FailureClass.TRANSIENT, f"{service} did not answer in time.") from error
        except TransportError as error:
            raise TokenError(FailureClass.CONNECT, f"{service}: {error.message}") from error


def _refused(status: int, body: bytes) -> TokenError:
    try:
        refusal = msgspec.json.decode(body, type=_Refusal)
    except msgspec.DecodeError:
        refusal = _Refusal()
    said = (refusal.error_description or refusal.error)[:300]
    kind = FailureClass.TRANSIENT if status >= 500 or status == 429 else FailureClass.CREDENTIAL
    return TokenError(kind, f"the token service answered {status}. {said}".strip())


def exchange_request(secret: object, now: float) -> UpstreamRequest:
    """What fetches a token for an identity. Raises TypeError for a secret that needs none."""
    if isinstance(secret, ServiceAccount):
        form = {"grant_type": _JWT_GRANT, "assertion": assertion(secret, now)}
        return _post(secret.token_uri, form)
    if isinstance(secret, AuthorizedUser):
        form = {
            "grant_type": "refresh_token",
            "refresh_token": secret.refresh_token,
            "client_id": secret.client_id,
            "client_secret": secret.client_secret,
        }
        return _post(secret.token_uri, form)
    if isinstance(secret, EntraApp):
        form = {
            "grant_type": "client_credentials",
            "client_id": secret.client_id,
            "client_secret": secret.client_secret,
            "scope": _azure_scope(secret.authority),
        }
        return _post(f"{secret.authority}/{secret.tenant}/oauth2/v2.0/token", form)
    if isinstance(secret, MetadataIdentity):
        path = "/computeMetadata/v1/instance/service-accounts/default/token"
        headers = [(b"metadata-flavor", b"Google")]
        return UpstreamRequest(method="GET", url=f"http://{secret.host}{path}", headers=headers)
    if isinstance(secret, WorkloadIdentity):
        form = {
            "grant_type": "client_credentials",
            "client_id": secret.client_id,
            "client_assertion_type": _ASSERTION_TYPE,
            "client_assertion": aws_keys.token_in(secret.token_file),
            "scope": _azure_scope(secret.authority),
        }
        return _post(f"{secret.authority}/{secret.tenant}/oauth2/v2.0/token", form)
    if isinstance(secret, ManagedIdentity):
        return _managed(secret)
    raise TypeError(f"{type(secret).__name__} needs no token")


def _managed(identity: ManagedIdentity) -> UpstreamRequest:
    """An app's endpoint proves itself by a secret header, a machine's by answering only who says `Metadata`."""
    asked = {"api-version": identity.version, "resource": "https://cognitiveservices.azure.com"}
    if identity.client_id:
        asked["client_id"] = identity.client_id
    proof = (
        (b"x-identity-header", identity.header.encode("latin-1"))
        if identity.header
        else (b"metadata", b"true")
    )
    return UpstreamRequest(method="GET", url=f"{identity.endpoint}?{urlencode(asked)}", headers=[proof])


def _azure_scope(authority: str) -> str:
    suffix = _AZURE_SUFFIXES.get(urlsplit(authority).hostname or "", "azure.com")
    return f"https://cognitiveservices.{suffix}/.default"


def _post(url: str, form: dict[str, str]) -> UpstreamRequest:
    return UpstreamRequest(url=url, headers=list(_FORM), body=urlencode(form).encode())


def assertion(account: ServiceAccount, now: float) -> str:
    """The RS256 JWT that a service account proves itself with. Raises ConfigError for an unusable private key."""
    try:
        from cryptography.hazmat.primitives import hashes, serialization
        from cryptography.hazmat.primitives.asymmetric import padding, rsa
    except ImportError as error:
        raise ConfigError("service accounts need `cryptography`.", hint="Install tieline[server].") from error
    header = {"alg": "RS256", "typ": "JWT", **({"kid": account.key_id} if account.key_id else {})}
    claims = {
        "iss": account.client_email,
        "scope": GOOGLE_SCOPE,
        "aud": account.token_uri,
        "iat": int(now),
        "exp": int(now) + ASSERTION_LIFE_S,
    }
    signed = _segment(msgspec.json.encode(header)) + b"." + _segment(msgspec.json.encode(claims))
    try:
        key = serialization.load_pem_private_key(account.private_key.encode(), password=None)
    except ValueError as error:
        raise ConfigError("the service account's private key cannot be read.") from error
    if not isinstance(key, rsa.RSAPrivateKey):
        raise ConfigError("the service account's private key is not RSA.")
    signature = key.sign(signed, padding.PKCS1v15(), hashes.SHA256())
    return (signed + b"." + _segment(signature)).decode()


def _segment(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
