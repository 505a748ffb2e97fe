"""Keys from the environment and the configuration. A credential is named by where it came from, never by what it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from tieline.config.expand import ExpansionError, read_secret, reference_name
from tieline.config.schema import ProviderConfig
from tieline.providers import aws_sources
from tieline.providers.aws_sources import DMI, AwsKeys, said_by
from tieline.providers.row import Auth, Credential, Provider
from tieline.types.errors import ConfigError

MAX_PER_NAME = 9
"""NAME, NAME_2 … NAME_9."""

AZURE_METADATA = "http://169.254.169.254"
_AZURE_CHASSIS = "7783-7084-3265-9085-8269-3286-77"
"""What the firmware of Azure's machines says (cloud-init tells them by it too)."""

_HEADER: dict[str, bytes] = {
    "x-api-key": b"x-api-key",
    "x-goog-api-key": b"x-goog-api-key",
    "api-key": b"api-key",
}


class ServiceAccount(Struct, frozen=True, rename={"key_id": "private_key_id"}):
    """The part we need of Google's JSON key file."""

    client_email: str
    private_key: str
    token_uri: str = "https://oauth2.googleapis.com/token"  # noqa: S105
    key_id: str | None = None
    project_id: str | None = None

    def __repr__(self) -> str:
        return "ServiceAccount(…)"


class AuthorizedUser(Struct, frozen=True):
    """What ``gcloud auth application-default login`` leaves behind."""

    client_id: str
    client_secret: str
    refresh_token: str
    token_uri: str = "https://oauth2.googleapis.com/token"  # noqa: S105
    quota_project_id: str | None = None

    def __repr__(self) -> str:
        return "AuthorizedUser(…)"


class MetadataIdentity(Struct, frozen=True):
    """The identity that a Google Cloud machine has of itself."""

    host: str = "metadata.google.internal"


class EntraApp(Struct, frozen=True):
    """A client of Microsoft Entra ID."""

    tenant: str
    client_id: str
    client_secret: str
    authority: str = "https://login.microsoftonline.com"

    def __repr__(self) -> str:
        return "EntraApp(…)"


class WorkloadIdentity(Struct, frozen=True):
    """A client of Entra ID that proves itself with a token which Kubernetes writes into a file."""

    tenant: str
    client_id: str
    token_file: str
    authority: str = "https://login.microsoftonline.com"

    def __repr__(self) -> str:
        return "WorkloadIdentity(…)"


class ManagedIdentity(Struct, frozen=True, kw_only=True):
    """The identity that an Azure machine or app has of itself."""

    endpoint: str = f"{AZURE_METADATA}/metadata/identity/oauth2/token"
    version: str = "2018-02-01"
    header: str | None = None
    """What an app's endpoint wants to see; None: a machine's."""
    client_id: str | None = None
    """Of several identities this one."""

    def __repr__(self) -> str:
        return "ManagedIdentity(…)"


def constant_headers(auth: Auth, secret: object) -> tuple[tuple[bytes, bytes], ...] | None:
    """The header that proves a plain key; None when it must be made for each request. Raises ValueError."""
    if auth == "none" and secret is None:
        return ()
    if isinstance(secret, AwsKeys):
        _for_header(secret.access_key_id + (secret.session_token or ""))
    if not isinstance(secret, str):
        return None
    value = _for_header(secret)
    name = _HEADER.get(auth)
    return ((name, value),) if name else ((b"authorization", b"Bearer " + value),)


def _for_header(text: str) -> bytes:
    value = text.encode("latin-1")
    if any(byte < 0x20 or byte == 0x7F for byte in value):
        raise ValueError("a key has no control characters")
    return value


def make(label: str, auth: Auth, secret: object) -> Credential:
    """Raises ConfigError when the key cannot be a header."""
    try:
        return Credential(label, secret, constant_headers(auth, secret))
    except ValueError as error:
        hint = "It holds characters that no key has: was it copied whole, without line breaks?"
        raise ConfigError("not a usable key.", place=label, hint=hint) from error


NO_ENVIRONMENT: Mapping[str, str] = {}


def credentials_of(
    row: Provider,
    config: ProviderConfig | None,
    environ: Mapping[str, str],
    discover: bool = True,
    stored: Sequence[tuple[str, str]] = (),
) -> tuple[Credential, ...]:
    """Configured keys, else those of the environment; and beside them the ``stored`` ones (label, secret). Without any,
    for a host that wants none, an empty one. May be empty."""
    kept = tuple(stored_credential(row, label, secret, environ) for label, secret in stored)
    if config is not None and config.api_key is not None:
        return (*_configured(row, config.api_key, environ), *kept)
    asked = config is not None
    found = (*_discovered(row, environ, asked), *kept) if discover or asked else kept
    if not found and row.auth == "none":
        return (Credential("none", None, ()),)
    return found


def stored_credential(
    row: Provider, label: str, secret: str, environ: Mapping[str, str] = NO_ENVIRONMENT
) -> Credential:
    """One that was given through the admin API. Raises ConfigError when it cannot be a key of this provider."""
    named = f"stored/{label}"
    return make(named, "bearer" if row.auth == "none" else row.auth, _typed(row.auth, secret, named, environ))


def _configured(row: Provider, keys: str | list[str], environ: Mapping[str, str]) -> Iterator[Credential]:
    place = f"providers.{row.name}.api_key"
    written = [keys] if isinstance(keys, str) else keys
    seen: set[str] = set()
    for number, text in enumerate(written, 1):
        label = reference_name(text) or (place if len(written) == 1 else f"{place}.{number}")
        try:
            secret = read_secret(text, environ)
        except ExpansionError as error:
            raise ConfigError(str(error), place=place) from error
        if secret not in seen:
            seen.add(secret)
            yield make(label, row.auth, _typed(row.auth, secret, label, environ))


def _typed(auth: Auth, secret: str, label: str, environ: Mapping[str, str]) -> object:
    """A JSON key file of Google where the scheme is Google's, `id:secret[:token]` where it is AWS's, `tenant:client:secret`
    where it is Entra's, else the text."""
    if auth == "google_oauth" and secret.startswith("{"):
        return parse_google_key(secret, label)
    if auth == "sigv4" and ":" in secret:
        return AwsKeys(*secret.split(":", 2))
    if auth == "entra" and secret.count(":") >= 2:
        tenant, client_id, client_secret = secret.split(":", 2)
        return EntraApp(tenant, client_id, client_secret, _authority(environ))
    return secret


def _discovered(row: Provider, environ: Mapping[str, str], asked: bool) -> Iterator[Credential]:
    seen: set[str] = set()
    # A key of Azure's is no token of Entra's: where tokens are asked for, the keys of the environment are left alone.
    for name in row.env if row.auth != "entra" else ():
        for label in numbered(name):
            secret = environ.get(label, "").strip()
            if secret and secret not in seen:
                seen.add(secret)
                yield make(label, "bearer" if row.auth == "none" else row.auth, secret)
    if not seen:
        yield from _cloud_identity(row, environ, asked)


def numbered(name: str) -> tuple[str, ...]:
    return (name, *(f"{name}_{number}" for number in range(2, MAX_PER_NAME + 1)))


def _cloud_identity(row: Provider, environ: Mapping[str, str], asked: bool) -> Iterator[Credential]:
    if row.auth == "sigv4":
        found = aws_sources.discover(environ, asked=asked)
        if found is not None:
            yield Credential(*found)
    elif row.auth == "google_oauth":
        yield from _google(environ)
    elif row.auth in ("entra", "api-key"):  # Azure takes either
        yield from _entra(environ, asked)


def _google(environ: Mapping[str, str]) -> Iterator[Credential]:
    name = "GOOGLE_APPLICATION_CREDENTIALS"
    path = environ.get(name)
    if path:
        try:
            text = read_secret(f"file:{path}", {})
        except ExpansionError as error:
            raise ConfigError(str(error), place=name) from error
        yield Credential(name, parse_google_key(text, name))
    elif environ.get("GCE_METADATA_HOST"):
        yield Credential("GCE_METADATA_HOST", MetadataIdentity(environ["GCE_METADATA_HOST"]))
    elif environ.get("K_SERVICE") or environ.get("GAE_SERVICE"):  # Cloud Run and App Engine say so
        yield Credential("metadata", MetadataIdentity())


class _GoogleFile(Struct):
    type: str = "service_account"


def parse_google_key(text: str, label: str) -> ServiceAccount | AuthorizedUser:
    """A service account's JSON key or application default credentials. Raises ConfigError, without any of the text."""
    try:
        kind = msgspec.json.decode(text, type=_GoogleFile).type
        if kind == "authorized_user":
            return msgspec.json.decode(text, type=AuthorizedUser)
        return msgspec.json.decode(text, type=ServiceAccount)
    except msgspec.DecodeError as error:
        hint = "It must be the JSON key of a service account (client_email and private_key)."
        raise ConfigError("is not a key that Google Cloud made.", place=label, hint=hint) from error


def _entra(environ: Mapping[str, str], asked: bool) -> Iterator[Credential]:
    """In the order of Azure's own SDKs: a client secret, a workload's token, what an app or machine has of itself."""
    tenant, client_id = environ.get("AZURE_TENANT_ID", ""), environ.get("AZURE_CLIENT_ID", "")
    secret, token_file = environ.get("AZURE_CLIENT_SECRET"), environ.get("AZURE_FEDERATED_TOKEN_FILE")
    if tenant and client_id and secret:
        yield Credential("AZURE_CLIENT_ID", EntraApp(tenant, client_id, secret, _authority(environ)))
    elif tenant and client_id and token_file:
        identity = WorkloadIdentity(tenant, client_id, token_file, _authority(environ))
        yield Credential("AZURE_FEDERATED_TOKEN_FILE", identity)
    elif environ.get("IDENTITY_ENDPOINT") and environ.get("IDENTITY_HEADER"):
        app = ManagedIdentity(
            endpoint=environ["IDENTITY_ENDPOINT"],
            version="2019-08-01",
            header=environ["IDENTITY_HEADER"],
            client_id=client_id or None,
        )
        yield Credential("IDENTITY_ENDPOINT", app)
    else:
        yield from _azure_machine(environ, client_id or None, asked)


def _azure_machine(
    environ: Mapping[str, str], client_id: str | None, asked: bool, dmi: Path = DMI
) -> Iterator[Credential]:
    given = environ.get("AZURE_POD_IDENTITY_AUTHORITY_HOST", "").rstrip("/")
    if given:
        endpoint = f"{given}/metadata/identity/oauth2/token"
        yield Credential(
            "AZURE_POD_IDENTITY_AUTHORITY_HOST", ManagedIdentity(endpoint=endpoint, client_id=client_id)
        )
    elif asked and said_by(dmi, "chassis_asset_tag") == _AZURE_CHASSIS:
        yield Credential("managed identity", ManagedIdentity(client_id=client_id))


def _authority(environ: Mapping[str, str]) -> str:
    """AZURE_AUTHORITY_HOST may be written with or without its scheme, as in Azure's own SDKs."""
    host = environ.get("AZURE_AUTHORITY_HOST", "").strip().rstrip("/") or "login.microsoftonline.com"
    return host if "://" in host else f"https://{host}"
