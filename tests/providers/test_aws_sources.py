"""Which identity is found where, in AWS's order, and what is said of a profile that cannot work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tieline.config.schema import ProviderConfig
from tieline.providers import registry
from tieline.providers.aws_sources import (
    MAX_ROLES,
    AwsContainer,
    AwsFileKeys,
    AwsKeys,
    AwsMachine,
    AwsRole,
    AwsStaticKeys,
    AwsWebIdentity,
    _machine,
    discover,
    region_of_profile,
)
from tieline.providers.credentials import ManagedIdentity, _azure_machine, credentials_of
from tieline.types.errors import ConfigError

KEYS = "aws_access_key_id = AKIAFILE\naws_secret_access_key = file-secret\n"
ROLE = "arn:aws:iam::1:role/r"

Home = Callable[..., dict[str, str]]


@pytest.fixture
def home(tmp_path: Path) -> Home:
    def make(config: str = "", keys: str = "", **environ: str) -> dict[str, str]:
        (tmp_path / ".aws").mkdir(exist_ok=True)
        (tmp_path / ".aws" / "config").write_text(config)
        (tmp_path / ".aws" / "credentials").write_text(keys)
        return {"HOME": str(tmp_path), **environ}

    return make


EVERYTHING = {
    "AWS_ACCESS_KEY_ID": "AKIAENV",
    "AWS_SECRET_ACCESS_KEY": "env-secret",
    "AWS_WEB_IDENTITY_TOKEN_FILE": "/token",
    "AWS_ROLE_ARN": ROLE,
    "AWS_PROFILE": "work",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/credentials/x",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT": "http://127.0.0.1:1338",
}


def test_the_order_is_that_of_awss_sdks(home: Home) -> None:
    environ = home(keys=f"[work]\n{KEYS}", **EVERYTHING)
    seen = []
    for drop in (
        ("AWS_ACCESS_KEY_ID",),
        ("AWS_WEB_IDENTITY_TOKEN_FILE",),
        ("AWS_PROFILE",),
        ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",),
        ("AWS_EC2_METADATA_SERVICE_ENDPOINT",),
    ):
        found = discover(environ, asked=False)
        seen.append(type(found[1]) if found else None)
        for name in drop:
            del environ[name]
    assert seen == [AwsKeys, AwsWebIdentity, AwsFileKeys, AwsContainer, AwsMachine]
    assert discover(environ, asked=False) is None


def test_the_default_profile_is_not_used_unasked(home: Home) -> None:
    """Somebody with the AWS CLI set up has not said that prompts may go there."""
    environ = home(keys=f"[default]\n{KEYS}", AWS_REGION="eu-west-1")
    row = registry.get("bedrock")
    assert row is not None
    assert credentials_of(row, None, environ) == ()
    (found,) = credentials_of(row, ProviderConfig(), environ)
    assert (found.label, type(found.secret)) == ("~/.aws (default)", AwsFileKeys)


def test_a_machine_is_told_by_its_firmware(tmp_path: Path) -> None:
    (tmp_path / "sys_vendor").write_text("Amazon EC2\n")
    assert _machine({}, asked=True, dmi=tmp_path) == AwsMachine("http://169.254.169.254")
    assert _machine({}, asked=False, dmi=tmp_path) is None
    assert _machine({"AWS_EC2_METADATA_DISABLED": "true"}, asked=True, dmi=tmp_path) is None
    (tmp_path / "sys_vendor").write_text("QEMU\n")
    assert _machine({}, asked=True, dmi=tmp_path) is None
    assert list(_azure_machine({}, None, asked=True, dmi=tmp_path)) == []
    (tmp_path / "chassis_asset_tag").write_text("7783-7084-3265-9085-8269-3286-77\n")
    (found,) = _azure_machine({}, "me", asked=True, dmi=tmp_path)
    assert found.secret == ManagedIdentity(client_id="me")
    assert list(_azure_machine({}, None, asked=False, dmi=tmp_path)) == []


def test_the_credentials_file_wins_and_the_region_is_the_profiles(home: Home) -> None:
    environ = home(
        "[profile work]\nregion = eu-north-1\ns3 =\n  max_concurrent_requests = 20\n", f"[work]\n{KEYS}"
    )
    environ["AWS_PROFILE"] = "work"
    row = registry.get("bedrock")
    assert row is not None
    assert region_of_profile(environ) == "eu-north-1"
    (found,) = credentials_of(row, None, environ)
    assert found.label == "AWS_PROFILE=work"


def test_roles_may_be_chained(home: Home) -> None:
    config = f"""
[profile a]
role_arn = {ROLE}/a
source_profile = b
duration_seconds = 900
role_session_name = me
[profile b]
role_arn = {ROLE}/b
credential_source = Environment
[profile self]
role_arn = {ROLE}/self
source_profile = self
"""
    environ = home(config, f"[self]\n{KEYS}", AWS_PROFILE="a", AWS_REGION="cn-north-1")
    environ |= {"AWS_ACCESS_KEY_ID": "AKIAENV", "AWS_SECRET_ACCESS_KEY": "s"}
    from tieline.providers.aws_sources import Profiles

    found = Profiles(environ).source("a")
    assert isinstance(found, AwsRole)
    assert (found.arn, found.duration_s, found.session_name) == (f"{ROLE}/a", 900, "me")
    assert found.sts_url == "https://sts.cn-north-1.amazonaws.com.cn"
    assert isinstance(found.source, AwsRole)
    assert found.source.source == AwsStaticKeys(AwsKeys("AKIAENV", "s"))
    alone = Profiles(environ).source("self")
    assert isinstance(alone, AwsRole)
    assert isinstance(alone.source, AwsFileKeys)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ("", "there is no profile `x`"),
        ("[profile x]\nregion = eu-west-1\n", "says nothing about an identity"),
        (f"[profile x]\nrole_arn = {ROLE}\nmfa_serial = arn:mfa\nsource_profile = x\n", "its role asks for MFA"),
        (f"[profile x]\nrole_arn = {ROLE}\n", "its role has nothing to be assumed with"),
        (f"[profile x]\nrole_arn = {ROLE}\ncredential_source = Moon\n", "its role has nothing to be assumed with"),
        (f"[profile x]\nrole_arn = {ROLE}\nsource_profile = y\n[profile y]\nrole_arn = {ROLE}\nsource_profile = x\n", "leads in a circle"),
        (f"[profile x]\nrole_arn = {ROLE}\nsource_profile = gone\n", "there is no profile `gone`"),
        (f"[profile x]\nrole_arn = {ROLE}\nsource_profile = x\nduration_seconds = 60\n", "duration_seconds is 900 to 43200"),
        ("[profile x]\nsso_account_id = 1\n", "its sign-on is not complete"),
        ("secret-line-without-section\n", "is no file of profiles"),
    ],
)  # fmt: skip
def test_what_is_said_of_a_profile_that_cannot_work(home: Home, config: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        discover(home(config, AWS_PROFILE="x"), asked=False)
    assert said in caught.value.full_message
    assert "secret-line" not in caught.value.full_message
    assert MAX_ROLES == 5


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("http://169.254.170.23/v1/credentials", True),
        ("http://[fd00:ec2::23]/v1/credentials", True),
        ("http://127.0.0.1:8080/x", True),
        ("http://localhost/x", True),
        ("https://credentials.example/x", True),
        ("http://credentials.example/x", False),
        ("http://10.0.0.1/x", False),
    ],
)
def test_where_a_container_may_be_sent_for_keys(url: str, allowed: bool) -> None:
    environ = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": url}
    if allowed:
        found = discover(environ, asked=False)
        assert found is not None
        assert isinstance(found[1], AwsContainer)
        return
    with pytest.raises(ConfigError, match="neither https"):
        discover(environ, asked=False)


def test_nothing_shows_what_it_holds() -> None:
    secret = AwsRole(
        arn=ROLE,
        source=AwsStaticKeys(AwsKeys("AKIA", "secret")),
        sts_url="https://sts",
        region="r",
        external_id="x",
    )
    for shown in (repr(secret), repr(secret.source), str(AwsContainer(url="u", authorization="secret"))):
        assert "secret" not in shown
        assert "AKIA" not in shown
