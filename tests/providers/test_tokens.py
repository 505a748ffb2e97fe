from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from urllib.parse import parse_qs

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from google.auth import jwt

from tieline.providers.credentials import AuthorizedUser, EntraApp, MetadataIdentity, ServiceAccount
from tieline.providers.row import Credential
from tieline.providers.tokens import TokenError, TokenSource, exchange_request
from tieline.transport.base import TransportError, UpstreamRequest
from tieline.types.call import Headers
from tieline.types.errors import ConfigError, FailureClass


class Answer:
    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        self.headers: Headers = []
        self.body = body
        self.closed = False

    async def read(self, limit: int) -> bytes:
        return self.body[:limit]

    async def pipe(self, on_data: Callable[[bytes], None]) -> None:
        on_data(self.body)

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    def abort(self, error: BaseException) -> None: ...

    def close(self) -> None:
        self.closed = True

    def header(self, name: bytes) -> bytes | None:
        return None


class Service:
    """A token service behind the Transport seam; hands out t1, t2, …"""

    def __init__(self) -> None:
        self.requests: list[UpstreamRequest] = []
        self.answers: list[Answer] = []
        self.next: Answer | Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def send(self, request: UpstreamRequest) -> Answer:
        self.requests.append(request)
        await self.gate.wait()
        if isinstance(self.next, Exception):
            raise self.next
        text = json.dumps(
            {"access_token": f"t{len(self.requests)}", "expires_in": 3600, "token_type": "Bearer"}
        )
        answer = self.next or Answer(200, text.encode())
        self.answers.append(answer)
        return answer

    async def aclose(self) -> None: ...


class Clock:
    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


APP = Credential("AZURE_CLIENT_ID", EntraApp("tenant", "client", "secret"))


async def test_one_exchange_for_all_who_wait() -> None:
    service = Service()
    service.gate.clear()
    source = TokenSource(service, Clock())
    assert source.cached(APP) is None
    waiting = [asyncio.create_task(source.token(APP)) for _ in range(5)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    service.gate.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert results[1:] == ["t1"] * 4
    assert isinstance(results[0], asyncio.CancelledError)
    assert len(service.requests) == 1
    assert source.cached(APP) == "t1"
    assert all(answer.closed for answer in service.answers)


async def test_renewed_ahead_without_anyone_waiting() -> None:
    service, clock = Service(), Clock()
    source = TokenSource(service, clock)
    assert await source.token(APP) == "t1"
    clock.now += 3600 - 200
    assert source.cached(APP) == "t1"
    await asyncio.sleep(0.01)
    assert source.cached(APP) == "t2"
    clock.now += 3600 - 5
    assert source.cached(APP) is None
    assert await source.token(APP) == "t3"
    await source.aclose()


async def test_a_failed_renewal_leaves_the_token_that_still_holds() -> None:
    service, clock = Service(), Clock()
    source = TokenSource(service, clock)
    await source.token(APP)
    service.next = TransportError("connect", "refused", sent=False)
    clock.now += 3600 - 200
    assert source.cached(APP) == "t1"
    await asyncio.sleep(0.01)
    assert source.cached(APP) == "t1"
    await source.aclose()


@pytest.mark.parametrize(
    ("answer", "kind", "said"),
    [
        (
            Answer(401, b'{"error":"invalid_client","error_description":"AADSTS7000215: wrong"}'),
            FailureClass.CREDENTIAL,
            "AADSTS7000215",
        ),
        (Answer(400, b'{"error":"invalid_grant"}'), FailureClass.CREDENTIAL, "invalid_grant"),
        (Answer(503, b"<html>"), FailureClass.TRANSIENT, "503"),
        (Answer(429, b""), FailureClass.TRANSIENT, "429"),
        (Answer(200, b"{}"), FailureClass.TRANSIENT, "no token"),
        (Answer(200, b"\xff"), FailureClass.TRANSIENT, "no token"),
        (TransportError("dns", "no such host", sent=False), FailureClass.CONNECT, "no such host"),
    ],
)
async def test_failures_say_whose_they_are(answer: Answer | Exception, kind: FailureClass, said: str) -> None:
    service = Service()
    service.next = answer
    with pytest.raises(TokenError) as caught:
        await TokenSource(service, Clock()).token(APP)
    assert caught.value.kind is kind
    assert said in caught.value.message
    assert "secret" not in caught.value.message


def test_entra_request() -> None:
    request = exchange_request(APP.secret, 0)
    assert request.url == "https://login.microsoftonline.com/tenant/oauth2/v2.0/token"
    assert parse_qs(request.body.decode()) == {
        "grant_type": ["client_credentials"],
        "client_id": ["client"],
        "client_secret": ["secret"],
        "scope": ["https://cognitiveservices.azure.com/.default"],
    }


def test_metadata_request() -> None:
    request = exchange_request(MetadataIdentity(), 0)
    assert request.method == "GET"
    assert request.url.startswith("http://metadata.google.internal/computeMetadata/v1/")
    assert request.headers == [(b"metadata-flavor", b"Google")]


def test_authorized_user_request() -> None:
    request = exchange_request(AuthorizedUser("i", "s", "r"), 0)
    assert parse_qs(request.body.decode())["refresh_token"] == ["r"]


def test_service_account_assertion_is_verified_by_googles_own_library() -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    account = ServiceAccount("svc@p.iam.gserviceaccount.com", private, key_id="kid1")
    import time

    form = parse_qs(exchange_request(account, time.time()).body.decode())
    assert form["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]
    claims = jwt.decode(
        form["assertion"][0], certs={"kid1": public}, audience="https://oauth2.googleapis.com/token"
    )
    assert claims["iss"] == "svc@p.iam.gserviceaccount.com"
    assert claims["scope"] == "https://www.googleapis.com/auth/cloud-platform"
    assert claims["exp"] - claims["iat"] == 3600


def test_unusable_private_keys() -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        exchange_request(ServiceAccount("a", "no key"), 0)
    with pytest.raises(TypeError):
        exchange_request("sk-plain", 0)
