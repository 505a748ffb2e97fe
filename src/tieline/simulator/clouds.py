"""Who may use the simulated clouds, and the services that hand out their tokens: Google's, its metadata server's, Entra's.

They live under ``/google-oauth/token``, ``/computeMetadata/v1/…`` and ``/entra/{tenant}/oauth2/v2.0/token``; AWS's are in
``aws_services``, Azure's machines and apps ask ``/metadata/identity/oauth2/token`` and ``/msi/token``.
"""

from __future__ import annotations

import base64
import json
import math
import time
from functools import cache
from typing import Any
from urllib.parse import parse_qsl

import msgspec
from msgspec import Struct

from tieline.simulator.answer import Refusal
from tieline.simulator.aws_services import AwsServices
from tieline.simulator.exchange import Reply, encode
from tieline.simulator.wire import HttpRequest

GOOGLE_TOKEN_PATH = "/google-oauth/token"  # noqa: S105
METADATA_PATH = "/computeMetadata/v1/"
ENTRA_PATH = "/entra/"
AZURE_MACHINE_PATH = "/metadata/identity/oauth2/token"
AZURE_APP_PATH = "/msi/token"
APP_SECRET = "simulated-identity-header"  # noqa: S105
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_GOOGLE_SCOPES = frozenset({"https://www.googleapis.com/auth/cloud-platform"})
_AZURE_SCOPES = frozenset({"https://cognitiveservices.azure.com/.default", "https://ai.azure.com/.default"})
_CLOCK_SKEW_S = 300
_MAX_ASSERTION_S = 3600
MAX_TOKENS = 10_000
"""Issued tokens that are remembered; the oldest go first."""


class AwsIdentity(Struct, frozen=True):
    secret: str
    session_token: str | None = None
    """What must come with it, for temporary credentials."""
    expired: bool = False
    until: float = math.inf
    """When temporary keys end."""


class EntraClient(Struct, frozen=True):
    secret: str
    expired: bool = False


class Issued(Struct, frozen=True):
    cloud: str
    """google or azure"""
    until: float
    audience: str


class Clouds:
    """Identities, what was issued to them, and what exists. Change it as a test needs; ``clock`` gives Unix seconds."""

    def __init__(self) -> None:
        self.clock = time.time
        self.aws = {"AKIASIMULATED": AwsIdentity("simulated-secret")}
        self.entra = {("simulated-tenant", "simulated-client"): EntraClient("simulated-secret")}
        self.federated = {"simulated-kubernetes-token"}
        """What an Entra client may prove itself with instead of its secret."""
        self.azure_identities: set[str] = set()
        """Client ids of the identities that the machine has besides its own; None of these is asked for: its own."""
        self.has_identity = True
        self.aws_services = AwsServices(self)
        self.project = "simulated-project"
        self.locations = {"global", "us", "eu", "us-central1", "us-east5", "europe-west1", "europe-west4"}
        """Where Vertex has its models."""
        self.azure_deployments: dict[str, str] | None = None
        """Name -> model; None: every name is a deployment of the model called so."""
        self.azure_versions = {"2024-10-21", "2024-12-01-preview", "2025-01-01-preview", "2025-04-01-preview"}
        self.token_life_s = 3600.0
        self.exchanges: list[str] = []
        """What was asked of the token services: `service_account`, `metadata`, `refresh_token`, `client_credentials`."""
        self._issued: dict[str, Issued] = {}
        self._accounts: dict[str, Any] = {}
        """Service account -> its public key."""

    # what a client needs ------------------------------------------------------------------------------------------

    def service_account(
        self, url: str, email: str = "robot@simulated-project.iam.gserviceaccount.com"
    ) -> str:
        """A new JSON key file of an account whose tokens come from the simulator at ``url``."""
        key, pem = _key_of(email)
        self._accounts[email] = key.public_key()
        return json.dumps(
            {
                "type": "service_account",
                "project_id": self.project,
                "private_key_id": "simulated-key-1",
                "private_key": pem,
                "client_email": email,
                "token_uri": url + GOOGLE_TOKEN_PATH,
            }
        )

    def issue_aws(self, key: str, secret: str, session_token: str, until: float) -> None:
        while len(self.aws) >= MAX_TOKENS:
            del self.aws[next(iter(self.aws))]
        self.aws[key] = AwsIdentity(secret, session_token, until=until)

    def forget_account(self, email: str = "robot@simulated-project.iam.gserviceaccount.com") -> None:
        """As if its key had been deleted."""
        self._accounts.pop(email, None)

    def revoke(self) -> None:
        """Every token issued until now is refused from now on, although its time is not over."""
        self._issued.clear()

    def check_token(self, cloud: str, token: str) -> None:
        """Raises Refusal ``expired`` or ``auth``."""
        issued = self._issued.get(token)
        if issued is None or issued.cloud != cloud:
            raise Refusal("auth")
        if issued.until <= self.clock():
            raise Refusal("expired")
        if cloud == "azure" and issued.audience not in _AZURE_SCOPES:
            raise Refusal("auth")

    # the token services -------------------------------------------------------------------------------------------

    def answer(self, request: HttpRequest, url: str) -> Reply | None:
        """None for a path that is no token service's."""
        if request.path == GOOGLE_TOKEN_PATH:
            return self._google(dict(parse_qsl(request.body.decode("utf-8", "replace"))), url)
        if request.path.startswith(METADATA_PATH):
            return self._metadata(request)
        if request.path.startswith(ENTRA_PATH):
            tenant = request.path.removeprefix(ENTRA_PATH).partition("/")[0]
            return self._entra(tenant, dict(parse_qsl(request.body.decode("utf-8", "replace"))))
        if request.path in (AZURE_MACHINE_PATH, AZURE_APP_PATH):
            return self._managed(request)
        return self.aws_services.answer(request)

    def _google(self, form: dict[str, str], url: str) -> Reply:
        if form.get("grant_type") == "refresh_token":
            self.exchanges.append("refresh_token")
            if form.get("refresh_token") != "simulated-refresh":
                return _json(
                    400,
                    {"error": "invalid_grant", "error_description": "Token has been expired or revoked."},
                )
            return self._token("google", "cloud-platform", "ya29.sim-")
        self.exchanges.append("service_account")
        if form.get("grant_type") != _GRANT:
            return _json(400, {"error": "unsupported_grant_type", "error_description": "Invalid grant_type."})
        problem = self._assertion_problem(form.get("assertion", ""), url + GOOGLE_TOKEN_PATH)
        if problem:
            return _json(400, {"error": "invalid_grant", "error_description": problem})
        return self._token("google", "cloud-platform", "ya29.sim-")

    def _assertion_problem(self, assertion: str, audience: str) -> str | None:
        try:
            head, body, signature = assertion.split(".")
            header, claims = (msgspec.json.decode(_bytes(part)) for part in (head, body))
            proof = _bytes(signature)
        except (ValueError, msgspec.DecodeError):
            return "Bad Request: the assertion is not a JWT."
        if header.get("alg") != "RS256":
            return "Invalid JWT: only RS256 is supported."
        public = self._accounts.get(claims.get("iss"))
        if public is None:
            return "Invalid grant: account not found"
        if not _signed(public, proof, f"{head}.{body}".encode()):
            return "Invalid JWT Signature."
        now, issued, ends = self.clock(), claims.get("iat", 0), claims.get("exp", 0)
        if claims.get("aud") != audience:
            return "Invalid JWT: Failed audience check."
        if not now - _CLOCK_SKEW_S - _MAX_ASSERTION_S < issued < now + _CLOCK_SKEW_S or ends <= now:
            return (
                "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. "
                "Check your iat and exp values in the JWT claim."
            )
        if ends - issued > _MAX_ASSERTION_S:
            return "Invalid JWT: the token lives longer than 60 minutes."
        if not set(str(claims.get("scope", "")).split()) & _GOOGLE_SCOPES:
            return "Invalid OAuth scope or ID token audience provided."
        return None

    def _metadata(self, request: HttpRequest) -> Reply:
        if request.headers.get("metadata-flavor") != "Google":
            return Reply(403, b"Missing required header: Metadata-Flavor\n", [("content-type", "text/plain")])
        what = request.path.removeprefix(METADATA_PATH)
        if what == "project/project-id":
            return Reply(
                200,
                self.project.encode(),
                [("content-type", "application/text"), ("metadata-flavor", "Google")],
            )
        if what != "instance/service-accounts/default/token":
            return Reply(404, b"404 page not found\n", [("content-type", "text/plain")])
        self.exchanges.append("metadata")
        reply = self._token("google", "cloud-platform", "ya29.sim-")
        reply.headers.append(("metadata-flavor", "Google"))
        return reply

    def _entra(self, tenant: str, form: dict[str, str]) -> Reply:
        self.exchanges.append("client_credentials")
        client_id, scope = form.get("client_id", ""), form.get("scope", "")
        if tenant not in {known for known, _ in self.entra}:
            said = f"AADSTS90002: Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID."
            return _json(400, {"error": "invalid_request", "error_description": said, "error_codes": [90002]})
        client = self.entra.get((tenant, client_id))
        if client is None:
            said = f"AADSTS700016: Application with identifier '{client_id}' was not found in the directory."
            return _json(
                400, {"error": "unauthorized_client", "error_description": said, "error_codes": [700016]}
            )
        if client.expired:
            said = f"AADSTS7000222: The provided client secret keys for app '{client_id}' are expired."
            return _json(
                401, {"error": "invalid_client", "error_description": said, "error_codes": [7000222]}
            )
        if form.get("client_assertion_type") == ASSERTION_TYPE:
            if form.get("client_assertion") not in self.federated:
                said = "AADSTS700213: No matching federated identity record found for presented assertion subject."
                return _json(
                    401, {"error": "invalid_client", "error_description": said, "error_codes": [700213]}
                )
        elif form.get("client_secret") != client.secret:
            said = (
                "AADSTS7000215: Invalid client secret provided. Ensure the secret being sent in the request is the client "
                "secret value, not the client secret ID."
            )
            return _json(
                401, {"error": "invalid_client", "error_description": said, "error_codes": [7000215]}
            )
        if form.get("grant_type") != "client_credentials" or not scope.endswith("/.default"):
            said = "AADSTS1002012: The provided value for scope is not valid for client credential flows."
            return _json(400, {"error": "invalid_scope", "error_description": said, "error_codes": [1002012]})
        return self._token("azure", scope, "eyJ0eXAiOiJKV1Qi.sim-")

    def _managed(self, request: HttpRequest) -> Reply:
        """Numbers are text here, and an app is told when a token ends, not how long it lives."""
        app = request.path == AZURE_APP_PATH
        self.exchanges.append("managed_app" if app else "managed_machine")
        if app and request.headers.get("x-identity-header") != APP_SECRET:
            return _json(401, {"statusCode": 401, "message": "Unauthorized"})
        if not app and request.headers.get("metadata") != "true":
            said = "Required metadata header not specified"
            return _json(400, {"error": "invalid_request", "error_description": said})
        if request.query.get("api-version") != ("2019-08-01" if app else "2018-02-01"):
            return _json(400, {"error": "invalid_request", "error_description": "Invalid API version"})
        wanted = request.query.get("client_id")
        if not self.has_identity or (wanted and wanted not in self.azure_identities):
            return _json(400, {"error": "invalid_request", "error_description": "Identity not found"})
        issued = self._token(
            "azure", request.query.get("resource", "") + "/.default", "eyJ0eXAiOiJKV1Qi.sim-"
        )
        body = json.loads(issued.body)
        life = body.pop("expires_in")
        ends = {"expires_on": str(int(self.clock() + life))} | ({} if app else {"expires_in": str(life)})
        return _json(200, body | ends)

    def _token(self, cloud: str, audience: str, prefix: str) -> Reply:
        token = f"{prefix}{len(self.exchanges):08d}"
        while len(self._issued) >= MAX_TOKENS:
            del self._issued[next(iter(self._issued))]
        self._issued[token] = Issued(cloud, self.clock() + self.token_life_s, audience)
        answer = {"access_token": token, "expires_in": int(self.token_life_s), "token_type": "Bearer"}
        return _json(200, answer)


@cache
def _key_of(email: str) -> tuple[Any, str]:
    """Made once in a process: a tenth of a second each."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return key, pem.decode()


def _bytes(segment: str) -> bytes:
    return base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))


def _signed(public: Any, proof: bytes, message: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    try:
        public.verify(proof, message, padding.PKCS1v15(), hashes.SHA256())
    except InvalidSignature:
        return False
    return True


def _json(status: int, body: Any) -> Reply:
    return Reply(status, encode(body), [("content-type", "application/json; charset=utf-8")])
