"""AWS's services that hand out temporary keys: STS, IAM Identity Center, containers and the EC2 metadata service.

They live under ``/sts/``, ``/federation/credentials``, ``/ecs/credentials`` and ``/latest/…``. The keys they give are keys
of the simulated Bedrock, and end when they say.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from tieline.simulator.answer import Refusal
from tieline.simulator.exchange import Reply, encode
from tieline.simulator.sigv4 import verify
from tieline.simulator.wire import HttpRequest

if TYPE_CHECKING:
    from tieline.simulator.clouds import Clouds

STS_PATH = "/sts/"
SSO_PATH = "/federation/credentials"
CONTAINER_PATH = "/ecs/credentials"
MACHINE_PATH = "/latest/"
ROLE = "arn:aws:iam::123456789012:role/simulated"
WEB_TOKEN = "simulated-web-identity"  # noqa: S105
SSO_TOKEN = "simulated-sso-token"  # noqa: S105
CONTAINER_TOKEN = "simulated-container-token"  # noqa: S105
_SESSION_TOKEN = "simulated-imds-session"  # noqa: S105


class AwsServices:
    """Change it as a test needs; what was asked is in ``Clouds.exchanges``."""

    def __init__(self, clouds: Clouds) -> None:
        self._clouds = clouds
        self.roles = {ROLE}
        """What may be assumed."""
        self.external_id: str | None = None
        self.machine_role: str | None = "simulated-instance-role"

    def answer(self, request: HttpRequest) -> Reply | None:
        if request.path == STS_PATH:
            return self._sts(request)
        if request.path == SSO_PATH:
            return self._sso(request)
        if request.path == CONTAINER_PATH:
            return self._container(request)
        return self._machine(request) if request.path.startswith(MACHINE_PATH) else None

    def _issue(self) -> dict[str, Any]:
        clouds = self._clouds
        number = len(clouds.exchanges)
        keys = {"AccessKeyId": f"ASIASIM{number:04d}", "SecretAccessKey": f"secret-{number}/+="}
        until = clouds.clock() + clouds.token_life_s
        clouds.issue_aws(keys["AccessKeyId"], keys["SecretAccessKey"], f"session-{number}/+==", until)
        ends = datetime.fromtimestamp(until, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return keys | {"Token": f"session-{number}/+==", "Expiration": ends}

    # STS speaks XML ---------------------------------------------------------------------------------------------

    def _sts(self, request: HttpRequest) -> Reply:
        form = dict(parse_qsl(request.body.decode("utf-8", "replace")))
        action = form.get("Action", "")
        self._clouds.exchanges.append(action)
        if form.get("Version") != "2011-06-15":
            return _sts_error(
                400, "InvalidAction", f"Could not find operation {action} for version NO_VERSION"
            )
        if action == "AssumeRole":
            try:
                verify(request, self._clouds, None, "sts")
            except Refusal as refusal:
                return _sts_error(403, *_STS_KINDS.get(refusal.kind, ("InvalidClientTokenId", "")))
            who = "User: arn:aws:iam::123456789012:user/simulated"
        elif action == "AssumeRoleWithWebIdentity":
            if form.get("WebIdentityToken") != WEB_TOKEN:
                return _sts_error(
                    400, "InvalidIdentityToken", "No OpenIDConnect provider found in your account"
                )
            who = "Not"
        else:
            return _sts_error(400, "InvalidAction", "Could not find operation")
        if form.get("RoleArn") not in self.roles or form.get("ExternalId") != self.external_id:
            said = f"{who} is not authorized to perform: sts:{action} on resource: {form.get('RoleArn')}"
            return _sts_error(403, "AccessDenied", said)
        return self._assumed(action)

    def _assumed(self, action: str) -> Reply:
        keys = self._issue()
        keys["SessionToken"] = keys.pop("Token")
        inner = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in keys.items())
        body = (
            f'<{action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><{action}Result><Credentials>{inner}'
            f"</Credentials></{action}Result></{action}Response>"
        )
        return Reply(200, body.encode(), [("content-type", "text/xml")])

    # JSON -------------------------------------------------------------------------------------------------------

    def _sso(self, request: HttpRequest) -> Reply:
        self._clouds.exchanges.append("sso")
        if request.headers.get("x-amz-sso_bearer_token") != SSO_TOKEN:
            return _json(401, {"message": "Session token not found or invalid"})
        if not request.query.get("role_name") or not request.query.get("account_id"):
            return _json(400, {"message": "role_name and account_id are required"})
        keys = self._issue()
        found = {
            "accessKeyId": keys["AccessKeyId"],
            "secretAccessKey": keys["SecretAccessKey"],
            "sessionToken": keys["Token"],
            "expiration": int(datetime.fromisoformat(keys["Expiration"]).timestamp() * 1000),
        }
        return _json(200, {"roleCredentials": found})

    def _container(self, request: HttpRequest) -> Reply:
        self._clouds.exchanges.append("container")
        if request.headers.get("authorization") != CONTAINER_TOKEN:
            return _json(401, {"message": "The authorization token is wrong"})
        return _json(200, self._issue() | {"RoleArn": ROLE})

    def _machine(self, request: HttpRequest) -> Reply:
        """Version 2 only, as new instances are set up."""
        what = request.path.removeprefix(MACHINE_PATH)
        if what == "api/token":
            life = request.headers.get("x-aws-ec2-metadata-token-ttl-seconds", "")
            if request.method != "PUT" or not life.isdecimal() or not 1 <= int(life) <= 21_600:
                return Reply(400, b"", [("content-type", "text/plain")])
            return Reply(200, _SESSION_TOKEN.encode(), [("content-type", "text/plain")])
        if request.headers.get("x-aws-ec2-metadata-token") != _SESSION_TOKEN:
            return Reply(401, b"", [("content-type", "text/plain")])
        where = "meta-data/iam/security-credentials/"
        if self.machine_role is None or not what.startswith(where):
            return Reply(404, b"", [("content-type", "text/plain")])
        if what == where:
            return Reply(200, self.machine_role.encode(), [("content-type", "text/plain")])
        if what != where + self.machine_role:
            return Reply(404, b"", [("content-type", "text/plain")])
        self._clouds.exchanges.append("machine")
        return _json(200, {"Code": "Success", "Type": "AWS-HMAC"} | self._issue())


_STS_KINDS = {
    "auth": ("InvalidClientTokenId", "The security token included in the request is invalid."),
    "expired": ("ExpiredToken", "The security token included in the request is expired"),
    "signature": (
        "SignatureDoesNotMatch",
        "The request signature we calculated does not match the signature you provided.",
    ),
}


def _sts_error(status: int, code: str, message: str) -> Reply:
    body = (
        '<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>'
        f"<Code>{code}</Code><Message>{escape(message)}</Message></Error><RequestId>0</RequestId></ErrorResponse>"
    )
    return Reply(status, body.encode(), [("content-type", "text/xml")])


def _json(status: int, body: Any) -> Reply:
    return Reply(status, encode(body), [("content-type", "application/json")])
