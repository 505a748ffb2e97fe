"""Where AWS keys come from: the environment, profiles of ~/.aws, and what containers and machines have of themselves.

Names and order are those of AWS's own SDKs (docs.aws.amazon.com/sdkref/latest/guide/standardized-credentials.html): keys
in the environment, a web identity, a profile, a container, a machine. Nothing here touches the network: ``aws_keys`` does,
when the first request needs keys. Only identities that the environment names are found; the default profile and the role
of an EC2 machine are taken only for a `bedrock` that is configured, so that no account is used unasked.
"""

from __future__ import annotations

import configparser
import hashlib
import os
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from msgspec import Struct

from tieline.types.errors import ConfigError

MAX_FILE_BYTES = 1024 * 1024
MAX_ROLES = 5
"""Profiles that name one another as source."""
SESSION_NAME = "tieline"
DMI = Path("/sys/class/dmi/id")
_LINK_LOCAL = "169.254.169.254"
_CONTAINER_HOST = "http://169.254.170.2"
_CONTAINER_HOSTS = frozenset({"169.254.170.2", "169.254.170.23", "fd00:ec2::23"})
"""ECS and EKS Pod Identity; besides them only https and this machine may be asked, as in AWS's SDKs."""


class AwsKeys(Struct, frozen=True):
    access_key_id: str
    secret_access_key: str
    session_token: str | None = None

    def __repr__(self) -> str:
        return "AwsKeys(…)"


class AwsSource(Struct, frozen=True):
    """What keys can be had from, time and again. Shows nothing of itself."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}(…)"


class AwsFileKeys(AwsSource, frozen=True):
    """Keys of a profile, read again every few minutes: other programs renew them in place."""

    profile: str
    credentials_file: str
    config_file: str


class AwsStaticKeys(AwsSource, frozen=True):
    """Keys that a role is assumed with, from the environment."""

    keys: AwsKeys


class AwsRole(AwsSource, frozen=True, kw_only=True):
    """A role assumed with other keys."""

    arn: str
    source: AwsSource
    sts_url: str
    region: str
    session_name: str = SESSION_NAME
    external_id: str | None = None
    duration_s: int = 3600


class AwsWebIdentity(AwsSource, frozen=True, kw_only=True):
    """A role assumed with a token that an orchestrator writes into a file (EKS, GitHub Actions)."""

    arn: str
    token_file: str
    sts_url: str
    session_name: str = SESSION_NAME


class AwsSso(AwsSource, frozen=True, kw_only=True):
    """What `aws sso login` left behind."""

    profile: str
    cache_file: str
    account: str
    role: str
    portal_url: str


class AwsProcess(AwsSource, frozen=True, kw_only=True):
    """A program that prints keys: `credential_process`."""

    profile: str
    command: str


class AwsContainer(AwsSource, frozen=True, kw_only=True):
    """The role of an ECS task or, through EKS Pod Identity, of a pod."""

    url: str
    authorization: str | None = None
    authorization_file: str | None = None


class AwsMachine(AwsSource, frozen=True):
    """The role of an EC2 instance, through version 2 of its metadata service."""

    endpoint: str = f"http://{_LINK_LOCAL}"


def discover(environ: Mapping[str, str], *, asked: bool) -> tuple[str, AwsKeys | AwsSource] | None:
    """(where it came from, the identity). ``asked``: the provider is configured. Raises ConfigError for a profile that
    the environment names and that cannot work."""
    key, secret = environ.get("AWS_ACCESS_KEY_ID"), environ.get("AWS_SECRET_ACCESS_KEY")
    if key and secret:
        return "AWS_ACCESS_KEY_ID", AwsKeys(key, secret, environ.get("AWS_SESSION_TOKEN") or None)
    token_file, role = environ.get("AWS_WEB_IDENTITY_TOKEN_FILE"), environ.get("AWS_ROLE_ARN")
    if token_file and role:
        return "AWS_WEB_IDENTITY_TOKEN_FILE", AwsWebIdentity(
            arn=role,
            token_file=token_file,
            sts_url=_endpoint("sts", _region_of({}, environ), environ),
            session_name=environ.get("AWS_ROLE_SESSION_NAME") or SESSION_NAME,
        )
    named = environ.get("AWS_PROFILE") or environ.get("AWS_DEFAULT_PROFILE")
    profiles = Profiles(environ) if named or asked else None
    if profiles is not None and named:
        return f"AWS_PROFILE={named}", profiles.source(named)
    if profiles is not None and profiles.has_identity("default"):
        return "~/.aws (default)", profiles.source("default")
    container = _container(environ)
    if container is not None:
        return container
    machine = _machine(environ, asked)
    return ("EC2 instance role", machine) if machine is not None else None


def region_of_profile(environ: Mapping[str, str]) -> str | None:
    """What the profile in use says. Raises ConfigError for a file that cannot be read."""
    name = environ.get("AWS_PROFILE") or environ.get("AWS_DEFAULT_PROFILE") or "default"
    return Profiles(environ).settings(name).get("region")


# containers and machines ------------------------------------------------------------------------------------------------


def _container(environ: Mapping[str, str]) -> tuple[str, AwsContainer] | None:
    relative = environ.get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
    if relative:
        return "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", AwsContainer(url=_CONTAINER_HOST + relative)
    full = environ.get("AWS_CONTAINER_CREDENTIALS_FULL_URI")
    if not full:
        return None
    if not _may_ask(full):
        raise ConfigError(
            "is neither https, nor this machine, nor an address of ECS or EKS.",
            place="AWS_CONTAINER_CREDENTIALS_FULL_URI",
        )
    return "AWS_CONTAINER_CREDENTIALS_FULL_URI", AwsContainer(
        url=full,
        authorization=environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN") or None,
        authorization_file=environ.get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") or None,
    )


def _may_ask(url: str) -> bool:
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme == "https" or host == "localhost" or host in _CONTAINER_HOSTS:
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _machine(environ: Mapping[str, str], asked: bool, dmi: Path = DMI) -> AwsMachine | None:
    if environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
        return None
    endpoint = environ.get("AWS_EC2_METADATA_SERVICE_ENDPOINT", "").rstrip("/")
    if endpoint:
        return AwsMachine(endpoint)
    return AwsMachine() if asked and said_by(dmi, "sys_vendor") == "Amazon EC2" else None


def said_by(dmi: Path, name: str) -> str:
    """What the firmware says of the machine: told apart without asking the network. Empty where it says nothing."""
    try:
        return (dmi / name).read_text().strip()[:100]
    except OSError:
        return ""


# profiles ---------------------------------------------------------------------------------------------------------------


class Profiles:
    """~/.aws/config and ~/.aws/credentials, read when first asked."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        home = Path(environ.get("HOME") or environ.get("USERPROFILE") or os.devnull) / ".aws"
        self.environ = environ
        self.home = home
        self.credentials_file = environ.get("AWS_SHARED_CREDENTIALS_FILE") or str(home / "credentials")
        self.config_file = environ.get("AWS_CONFIG_FILE") or str(home / "config")
        self._config = read_sections(self.config_file)
        self._credentials = read_sections(self.credentials_file)

    def settings(self, name: str) -> dict[str, str]:
        """Of both files; the credentials file wins. Empty for a profile that there is not."""
        section = self._config.get(f"profile {name}") or (
            self._config.get(name) if name == "default" else None
        )
        return {**(section or {}), **self._credentials.get(name, {})}

    def has_identity(self, name: str) -> bool:
        return bool(_KINDS.intersection(self.settings(name)))

    def source(self, name: str, depth: int = 0) -> AwsSource:
        """Raises ConfigError, naming the profile and never what is in it."""
        place = f"profile `{name}` of {self.config_file}"
        settings = self.settings(name)
        if not settings:
            raise ConfigError(
                f"there is no profile `{name}`.",
                place="AWS_PROFILE",
                hint=f"Profiles are read from {self.config_file} and {self.credentials_file}.",
            )
        if depth > MAX_ROLES:
            raise ConfigError("its source_profile leads in a circle.", place=place)
        if settings.get("role_arn"):
            return self._role(name, settings, place, depth)
        if settings.get("aws_access_key_id") and settings.get("aws_secret_access_key"):
            return AwsFileKeys(name, self.credentials_file, self.config_file)
        if settings.get("sso_account_id"):
            return self._sso(name, settings, place)
        if settings.get("credential_process"):
            return AwsProcess(profile=name, command=settings["credential_process"])
        hint = "It needs keys, role_arn, sso_account_id or credential_process."
        raise ConfigError("says nothing about an identity.", place=place, hint=hint)

    def _role(self, name: str, settings: dict[str, str], place: str, depth: int) -> AwsSource:
        if settings.get("mfa_serial"):
            hint = (
                "Nobody is there to type the code: use `aws configure export-credentials` or another profile."
            )
            raise ConfigError("its role asks for MFA.", place=place, hint=hint)
        region = _region_of(settings, self.environ)
        sts_url = _endpoint("sts", region, self.environ)
        session = settings.get("role_session_name") or SESSION_NAME
        token_file = settings.get("web_identity_token_file")
        if token_file:
            return AwsWebIdentity(
                arn=settings["role_arn"], token_file=token_file, sts_url=sts_url, session_name=session
            )
        return AwsRole(
            arn=settings["role_arn"],
            source=self._source_of_role(name, settings, place, depth),
            sts_url=sts_url,
            region=region,
            session_name=session,
            external_id=settings.get("external_id"),
            duration_s=_duration(settings.get("duration_seconds"), place),
        )

    def _source_of_role(self, name: str, settings: dict[str, str], place: str, depth: int) -> AwsSource:
        source = settings.get("source_profile")
        if source == name:  # a role assumed with the keys beside it
            return AwsFileKeys(name, self.credentials_file, self.config_file)
        if source:
            return self.source(source, depth + 1)
        kind = settings.get("credential_source", "")
        found = self._named_source(kind)
        if found is None:
            hint = "It needs source_profile, or credential_source: Environment, EcsContainer or Ec2InstanceMetadata."
            raise ConfigError("its role has nothing to be assumed with.", place=place, hint=hint)
        return found

    def _named_source(self, kind: str) -> AwsSource | None:
        environ = self.environ
        if kind == "Ec2InstanceMetadata":
            return _machine(environ, asked=False) or AwsMachine()
        if kind == "EcsContainer":
            container = _container(environ)
            return container[1] if container else None
        key, secret = environ.get("AWS_ACCESS_KEY_ID"), environ.get("AWS_SECRET_ACCESS_KEY")
        if kind == "Environment" and key and secret:
            return AwsStaticKeys(AwsKeys(key, secret, environ.get("AWS_SESSION_TOKEN") or None))
        return None

    def _sso(self, name: str, settings: dict[str, str], place: str) -> AwsSso:
        session = settings.get("sso_session")
        common = self._config.get(f"sso-session {session}", {}) if session else {}
        start = common.get("sso_start_url") or settings.get("sso_start_url")
        region = common.get("sso_region") or settings.get("sso_region")
        role = settings.get("sso_role_name")
        if not (start and region and role):
            hint = "It needs sso_session (or sso_start_url and sso_region) and sso_role_name."
            raise ConfigError("its sign-on is not complete.", place=place, hint=hint)
        # What `aws sso login` calls the file: the session's name, or the address where there is no session.
        named = hashlib.sha1((session or start).encode(), usedforsecurity=False).hexdigest()
        return AwsSso(
            profile=name,
            cache_file=str(self.home / "sso" / "cache" / f"{named}.json"),
            account=settings["sso_account_id"],
            role=role,
            portal_url=_endpoint("portal.sso", region, self.environ, "SSO"),
        )


_KINDS = {"aws_access_key_id", "role_arn", "sso_account_id", "credential_process"}


def read_sections(path: str) -> dict[str, dict[str, str]]:
    """Empty for a file that there is not. Raises ConfigError, without any of its text."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read(MAX_FILE_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "not text"
        raise ConfigError(f"cannot be read: {reason}.", place=path) from error
    if len(text) > MAX_FILE_BYTES:
        raise ConfigError("is too large.", place=path)
    parser = configparser.RawConfigParser(default_section="\0", strict=False)
    try:
        parser.read_string(text)
    except configparser.Error:
        # Its message quotes the line, which may hold a key.
        raise ConfigError("is no file of profiles.", place=path) from None
    return {name: dict(parser[name]) for name in parser.sections()}


def _region_of(settings: Mapping[str, str], environ: Mapping[str, str]) -> str:
    return (
        environ.get("AWS_REGION")
        or environ.get("AWS_DEFAULT_REGION")
        or settings.get("region")
        or "us-east-1"
    )


def _endpoint(service: str, region: str, environ: Mapping[str, str], name: str | None = None) -> str:
    given = environ.get(f"AWS_ENDPOINT_URL_{name or service.upper()}") or environ.get("AWS_ENDPOINT_URL")
    if given:
        return given.rstrip("/")
    suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return f"https://{service}.{region}.{suffix}"


def _duration(text: str | None, place: str) -> int:
    if text is None:
        return 3600
    if text.isdecimal() and 900 <= int(text) <= 43_200:
        return int(text)
    raise ConfigError("duration_seconds is 900 to 43200.", place=place)
