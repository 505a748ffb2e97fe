from __future__ import annotations

import copy
import json
import pickle

import msgspec
import pytest

from tieline.config.schema import ProviderConfig
from tieline.providers import registry
from tieline.providers.credentials import (
    AuthorizedUser,
    AwsKeys,
    EntraApp,
    MetadataIdentity,
    ServiceAccount,
    credentials_of,
)
from tieline.providers.row import Credential, Provider
from tieline.types.errors import ConfigError

SECRET = "sk-very-secret"


def row(name: str) -> Provider:
    found = registry.get(name)
    assert found is not None
    return found


def test_discovery_rotates_and_drops_duplicates() -> None:
    environ = {
        "OPENAI_API_KEY": " sk-1\n",
        "OPENAI_API_KEY_2": "sk-2",
        "OPENAI_API_KEY_4": "sk-2",
        "OPENAI_API_KEY_9": "sk-9",
        "OPENAI_API_KEY_10": "sk-10",
        "OPENAI_API_KEY_3": "",
    }
    found = credentials_of(row("openai"), None, environ)
    assert [credential.label for credential in found] == [
        "OPENAI_API_KEY",
        "OPENAI_API_KEY_2",
        "OPENAI_API_KEY_9",
    ]
    assert found[0].headers == ((b"authorization", b"Bearer sk-1"),)
    assert credentials_of(row("openai"), None, environ, discover=False) == ()


@pytest.mark.parametrize(
    ("name", "variable", "header"),
    [
        ("anthropic", "ANTHROPIC_API_KEY", b"x-api-key"),
        ("google", "GEMINI_API_KEY", b"x-goog-api-key"),
        ("azure", "AZURE_OPENAI_API_KEY", b"api-key"),
    ],
)
def test_each_scheme_has_its_header(name: str, variable: str, header: bytes) -> None:
    (credential,) = credentials_of(row(name), None, {variable: "k"})
    assert credential.headers == ((header, b"k"),)


def test_configured_keys_win_and_are_labelled_by_where_they_are() -> None:
    config = ProviderConfig(api_key=["${ONE}", "sk-literal", "${ONE}"])
    found = credentials_of(row("openai"), config, {"ONE": "sk-1", "OPENAI_API_KEY": "sk-env"})
    assert [credential.label for credential in found] == ["ONE", "providers.openai.api_key.2"]
    with pytest.raises(ConfigError, match="ONE is not set"):
        credentials_of(row("openai"), config, {})


def test_local_hosts_want_none_but_take_one() -> None:
    (none,) = credentials_of(row("vllm"), None, {})
    assert (none.label, none.headers) == ("none", ())
    (key,) = credentials_of(row("vllm"), None, {"VLLM_API_KEY": "k"})
    assert key.headers == ((b"authorization", b"Bearer k"),)


def test_a_credential_never_shows_its_secret() -> None:
    credential = Credential("LABEL", SECRET)
    assert repr(credential) == "Credential('LABEL')"
    for attempt in (
        pickle.dumps,
        copy.copy,
        copy.deepcopy,
        msgspec.json.encode,
        msgspec.msgpack.encode,
        json.dumps,
    ):
        with pytest.raises(TypeError) as caught:
            attempt(credential)
        assert SECRET not in str(caught.value)
    for identity in (AwsKeys("a", SECRET), ServiceAccount("a", SECRET), EntraApp("a", "b", SECRET)):
        assert SECRET not in repr(identity)


@pytest.mark.parametrize("key", ["sk-1\nx-evil: 1", "sk-\x00", "sk-…"])
def test_a_key_that_is_no_header_is_refused_without_being_shown(key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        credentials_of(row("openai"), ProviderConfig(api_key=key), {})
    assert "not a usable key" in str(caught.value)
    assert key not in str(caught.value)


def test_aws() -> None:
    environ = {"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_SESSION_TOKEN": "t"}
    (keys,) = credentials_of(row("bedrock"), None, environ)
    assert keys.secret == AwsKeys("AKID", SECRET, "t")
    assert keys.headers is None
    (bearer,) = credentials_of(row("bedrock"), None, environ | {"AWS_BEARER_TOKEN_BEDROCK": "b"})
    assert bearer.headers == ((b"authorization", b"Bearer b"),)
    (written,) = credentials_of(row("bedrock"), ProviderConfig(api_key=f"AKID:{SECRET}"), {})
    assert written.secret == AwsKeys("AKID", SECRET)


def test_google(tmp_path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "key.json"
    path.write_text(
        json.dumps(
            {"type": "service_account", "client_email": "a@b", "private_key": SECRET, "project_id": "p"}
        )
    )
    (account,) = credentials_of(row("vertex"), None, {"GOOGLE_APPLICATION_CREDENTIALS": str(path)})
    assert account.secret == ServiceAccount("a@b", SECRET, project_id="p")
    path.write_text(
        json.dumps({"type": "authorized_user", "client_id": "i", "client_secret": "s", "refresh_token": "r"})
    )
    (user,) = credentials_of(row("vertex"), None, {"GOOGLE_APPLICATION_CREDENTIALS": str(path)})
    assert user.secret == AuthorizedUser("i", "s", "r")
    (machine,) = credentials_of(row("vertex"), None, {"K_SERVICE": "x"})
    assert machine.secret == MetadataIdentity()
    path.write_text(f"[{SECRET}")
    with pytest.raises(ConfigError) as caught:
        credentials_of(row("vertex"), None, {"GOOGLE_APPLICATION_CREDENTIALS": str(path)})
    assert SECRET not in str(caught.value)
    with pytest.raises(ConfigError, match="cannot read"):
        credentials_of(row("vertex"), None, {"GOOGLE_APPLICATION_CREDENTIALS": "/nowhere"})


def test_entra_is_taken_when_azure_has_no_key() -> None:
    environ = {"AZURE_TENANT_ID": "t", "AZURE_CLIENT_ID": "c", "AZURE_CLIENT_SECRET": "s"}
    (app,) = credentials_of(row("azure"), None, environ)
    assert app.secret == EntraApp("t", "c", "s")
    (key,) = credentials_of(row("azure"), None, environ | {"AZURE_API_KEY": "k"})
    assert key.label == "AZURE_API_KEY"
