"""Temporary AWS keys, fetched from where ``aws_sources`` says they are."""

from __future__ import annotations

import asyncio
import html
import re
import shlex
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlencode

import msgspec
from msgspec import Struct

from tieline.providers.aws_sources import (
    AwsContainer,
    AwsFileKeys,
    AwsKeys,
    AwsMachine,
    AwsProcess,
    AwsRole,
    AwsSource,
    AwsSso,
    AwsStaticKeys,
    AwsWebIdentity,
    read_sections,
)
from tieline.providers.signing import sigv4
from tieline.providers.token_error import TokenError
from tieline.transport.base import UpstreamRequest
from tieline.types.call import Headers
from tieline.types.errors import ConfigError, FailureClass

UNDATED_S = 600.0
"""Keys that do not say when they end are looked up again after this; halfway through already, behind a request."""
MAX_TOKEN_FILE_BYTES = 64 * 1024
MAX_OUTPUT_BYTES = 64 * 1024
PROCESS_TIMEOUT_S = 20.0
IMDS_TOKEN_TTL_S = 21_600
STS_VERSION = "2011-06-15"
_FORM = (b"content-type", b"application/x-www-form-urlencoded; charset=utf-8")

Send = Callable[[UpstreamRequest, str], Awaitable[tuple[int, bytes]]]
"""(request, what the service is called) -> (status, body). Raises TokenError."""


class _Keys(Struct, rename="pascal"):
    """As containers, machines and processes write them."""

    access_key_id: str
    secret_access_key: str
    token: str | None = None
    session_token: str | None = None
    expiration: str | None = None
    code: str = "Success"
    message: str = ""


class _RoleCredentials(Struct, rename="camel"):
    access_key_id: str
    secret_access_key: str
    session_token: str
    expiration: int
    """Milliseconds."""


class _Sso(Struct, rename="camel"):
    role_credentials: _RoleCredentials


class _SsoToken(Struct, rename="camel"):
    access_token: str
    expires_at: str


async def fetch(source: AwsSource, send: Send, now: float) -> tuple[AwsKeys, float]:
    """(keys, until). Raises TokenError."""
    if isinstance(source, AwsFileKeys):
        return _from_file(source), now + UNDATED_S
    if isinstance(source, AwsStaticKeys):
        return source.keys, now + UNDATED_S
    if isinstance(source, AwsRole):
        return await _assume_role(source, send, now)
    if isinstance(source, AwsWebIdentity):
        return await _web_identity(source, send)
    if isinstance(source, AwsSso):
        return await _sign_on(source, send, now)
    if isinstance(source, AwsProcess):
        return await _run(source, now)
    if isinstance(source, AwsContainer):
        return await _container(source, send, now)
    if isinstance(source, AwsMachine):
        return await _machine(source, send, now)
    raise TypeError(f"{source!r} is no source of keys")


def _from_file(source: AwsFileKeys) -> AwsKeys:
    try:
        found = read_sections(source.config_file).get(f"profile {source.profile}", {})
        if source.profile == "default":
            found = found or read_sections(source.config_file).get("default", {})
        found = found | read_sections(source.credentials_file).get(source.profile, {})
    except ConfigError as error:
        raise TokenError(FailureClass.CREDENTIAL, error.full_message) from error
    key, secret = found.get("aws_access_key_id"), found.get("aws_secret_access_key")
    if not key or not secret:
        raise TokenError(
            FailureClass.CREDENTIAL,
            f"the profile `{source.profile}` of {source.credentials_file} has no keys.",
        )
    return AwsKeys(key, secret, found.get("aws_session_token") or None)


# STS ----------------------------------------------------------------------------------------------------------------------


async def _assume_role(source: AwsRole, send: Send, now: float) -> tuple[AwsKeys, float]:
    keys, _ = await fetch(source.source, send, now)
    form = {
        "Action": "AssumeRole",
        "Version": STS_VERSION,
        "RoleArn": source.arn,
        "RoleSessionName": source.session_name,
        "DurationSeconds": str(source.duration_s),
    }
    if source.external_id:
        form["ExternalId"] = source.external_id
    body, url = urlencode(form).encode(), source.sts_url + "/"
    headers: Headers = [_FORM]
    proof = sigv4(keys, source.region, "sts", "POST", url, headers, body, datetime.fromtimestamp(now, UTC))
    request = UpstreamRequest(url=url, headers=headers + proof, body=body)
    return _of_sts(*await send(request, "AWS STS"))


async def _web_identity(source: AwsWebIdentity, send: Send) -> tuple[AwsKeys, float]:
    form = {
        "Action": "AssumeRoleWithWebIdentity",
        "Version": STS_VERSION,
        "RoleArn": source.arn,
        "RoleSessionName": source.session_name,
        "WebIdentityToken": token_in(source.token_file),
    }
    request = UpstreamRequest(url=source.sts_url + "/", headers=[_FORM], body=urlencode(form).encode())
    return _of_sts(*await send(request, "AWS STS"))


def _of_sts(status: int, body: bytes) -> tuple[AwsKeys, float]:
    """Four elements of a small XML document: no parser, and so nothing that a document could make it do."""
    found = {
        match[1].decode(): html.unescape(match[2].decode("utf-8", "replace"))
        for match in re.finditer(rb"<(\w+)>([^<]*)</\1>", body)
    }
    if status != 200:
        raise _refused("AWS STS", status, found.get("Code", ""), found.get("Message", ""))
    try:
        keys = AwsKeys(found["AccessKeyId"], found["SecretAccessKey"], found["SessionToken"])
        return keys, _ends(found["Expiration"])
    except (KeyError, ValueError) as error:
        raise TokenError(FailureClass.TRANSIENT, "AWS STS answered without keys.") from error


# sign-on ------------------------------------------------------------------------------------------------------------------


async def _sign_on(source: AwsSso, send: Send, now: float) -> tuple[AwsKeys, float]:
    again = f"Run `aws sso login --profile {source.profile}`."
    try:
        token = msgspec.json.decode(_read(source.cache_file), type=_SsoToken)
        ends = _ends(token.expires_at)
    except (OSError, msgspec.DecodeError, ValueError) as error:
        raise TokenError(
            FailureClass.CREDENTIAL, f"nobody is signed on for the profile `{source.profile}`. {again}"
        ) from error
    if ends <= now:
        raise TokenError(
            FailureClass.CREDENTIAL, f"the sign-on of the profile `{source.profile}` has ended. {again}"
        )
    query = urlencode({"role_name": source.role, "account_id": source.account})
    headers: Headers = [(b"x-amz-sso_bearer_token", token.access_token.encode("latin-1", "replace"))]
    request = UpstreamRequest(
        method="GET", url=f"{source.portal_url}/federation/credentials?{query}", headers=headers
    )
    status, body = await send(request, "IAM Identity Center")
    if status != 200:
        raise _refused("IAM Identity Center", status, "", _said(body))
    try:
        found = msgspec.json.decode(body, type=_Sso).role_credentials
    except msgspec.DecodeError as error:
        raise TokenError(FailureClass.TRANSIENT, "IAM Identity Center answered without keys.") from error
    return AwsKeys(found.access_key_id, found.secret_access_key, found.session_token), found.expiration / 1000


# a program ----------------------------------------------------------------------------------------------------------------


async def _run(source: AwsProcess, now: float) -> tuple[AwsKeys, float]:
    """The command is the user's own, from their ~/.aws; it is run without a shell and what it says on stderr is not kept."""
    name = f"credential_process of the profile `{source.profile}`"
    try:
        process = await asyncio.create_subprocess_exec(
            *shlex.split(source.command),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a command"
        raise TokenError(FailureClass.CREDENTIAL, f"the {name} cannot be run: {reason}.") from error
    try:
        async with asyncio.timeout(PROCESS_TIMEOUT_S):
            assert process.stdout is not None
            output = await _all_of(process.stdout)
            code = await process.wait()
    except TimeoutError as error:
        raise TokenError(
            FailureClass.TRANSIENT, f"the {name} took longer than {PROCESS_TIMEOUT_S:.0f} s."
        ) from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if code != 0:
        raise TokenError(FailureClass.CREDENTIAL, f"the {name} ended with {code}.")
    return _decoded(output, f"the {name}", now)


async def _all_of(stream: asyncio.StreamReader) -> bytes:
    output = bytearray()
    while len(output) <= MAX_OUTPUT_BYTES:
        piece = await stream.read(MAX_OUTPUT_BYTES)
        if not piece:
            break
        output += piece
    return bytes(output[:MAX_OUTPUT_BYTES])


# containers and machines --------------------------------------------------------------------------------------------------


async def _container(source: AwsContainer, send: Send, now: float) -> tuple[AwsKeys, float]:
    headers: Headers = []
    proof = token_in(source.authorization_file) if source.authorization_file else source.authorization
    if proof:
        headers.append((b"authorization", proof.strip().encode("latin-1", "replace")))
    status, body = await send(
        UpstreamRequest(method="GET", url=source.url, headers=headers), "the container's credential service"
    )
    if status != 200:
        raise _refused("the container's credential service", status, "", _said(body))
    return _decoded(body, "the container's credential service", now)


async def _machine(source: AwsMachine, send: Send, now: float) -> tuple[AwsKeys, float]:
    """Version 2: a token for a session first, so that nothing that merely forwards requests can ask."""
    service, base = "the EC2 metadata service", f"{source.endpoint}/latest"
    lives = (b"x-aws-ec2-metadata-token-ttl-seconds", str(IMDS_TOKEN_TTL_S).encode())
    status, token = await send(
        UpstreamRequest(method="PUT", url=f"{base}/api/token", headers=[lives]), service
    )
    if status != 200:
        raise _refused(service, status, "", "It gave no session token.")
    headers: Headers = [(b"x-aws-ec2-metadata-token", token.strip()[:1024])]
    where = f"{base}/meta-data/iam/security-credentials/"
    status, names = await send(UpstreamRequest(method="GET", url=where, headers=headers), service)
    role = names.decode("utf-8", "replace").partition("\n")[0].strip()
    if status != 200 or not re.fullmatch(r"[\w+=,.@-]{1,128}", role):
        raise _refused(service, status if status != 200 else 404, "", "This machine has no role.")
    status, body = await send(UpstreamRequest(method="GET", url=where + role, headers=headers), service)
    if status != 200:
        raise _refused(service, status, "", _said(body))
    return _decoded(body, service, now)


def _decoded(body: bytes, service: str, now: float) -> tuple[AwsKeys, float]:
    try:
        found = msgspec.json.decode(body, type=_Keys)
        until = _ends(found.expiration) if found.expiration else now + UNDATED_S
    except (msgspec.DecodeError, ValueError) as error:
        raise TokenError(FailureClass.TRANSIENT, f"{service} answered without keys.") from error
    if found.code != "Success":
        raise TokenError(FailureClass.CREDENTIAL, f"{service}: {found.code}. {found.message[:300]}".strip())
    return AwsKeys(found.access_key_id, found.secret_access_key, found.token or found.session_token), until


# ----------------------------------------------------------------------------------------------------------------------------


def token_in(path: str) -> str:
    """Read anew each time: orchestrators renew it in place. Raises TokenError."""
    try:
        return _read(path).decode().strip()
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise TokenError(FailureClass.CREDENTIAL, f"{path} cannot be read: {reason}.") from error


def _read(path: str) -> bytes:
    with Path(path).open("rb") as file:
        return file.read(MAX_TOKEN_FILE_BYTES)


def _ends(text: str) -> float:
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


class _Said(Struct):
    message: str = ""


def _said(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=_Said).message
    except msgspec.DecodeError:
        return ""


def _refused(service: str, status: int, code: str, message: str) -> TokenError:
    kind = FailureClass.TRANSIENT if status >= 500 or status == 429 else FailureClass.CREDENTIAL
    said = f"{code}: {message}" if code else message
    return TokenError(kind, f"{service} answered {status}. {said[:300]}".strip())
