from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from tieline.providers import registry, signing
from tieline.providers.aws_sources import AwsKeys
from tieline.providers.credentials import EntraApp
from tieline.providers.row import Credential
from tieline.providers.signing import needs_token, sign, sigv4

NOW = datetime(2026, 11, 21, 12, 30, 15, tzinfo=UTC)
HOST = "https://bedrock-runtime.eu-west-1.amazonaws.com"


def botocore_headers(
    url: str, body: bytes, headers: dict[str, str], keys: AwsKeys, monkey: Any
) -> dict[str, str]:
    request = AWSRequest(method="POST", url=url, data=body, headers=headers)
    monkey.setattr("botocore.auth.get_current_datetime", lambda remove_tzinfo=True: NOW.replace(tzinfo=None))
    SigV4Auth(
        Credentials(keys.access_key_id, keys.secret_access_key, keys.session_token), "bedrock", "eu-west-1"
    ).add_auth(request)
    return dict(request.headers.items())


URLS = [
    f"{HOST}/model/anthropic.claude-sonnet-4-5-20250929-v1%3A0/converse-stream",
    f"{HOST}/model/anthropic.claude-sonnet-4-5-20250929-v1:0/converse",
    f"{HOST}/model/arn%3Aaws%3Abedrock%3Aus%3A1%3Ap%2Fx/converse?b=2&a=1%20x&a=0&c",
    f"{HOST}",
]


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize("token", [None, "session/token=="])
def test_as_botocore_signs(url: str, token: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = AwsKeys("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", token)
    headers = [
        (b"content-type", b"application/json"),
        (b"X-Custom", b"  a   b "),
        (b"user-agent", b"tieline"),
    ]
    body = b'{"messages": []}'
    theirs = botocore_headers(url, body, {k.decode(): v.decode() for k, v in headers}, keys, monkeypatch)
    ours = dict(sigv4(keys, "eu-west-1", "bedrock", "POST", url, headers, body, NOW))
    assert ours[b"authorization"].decode() == theirs["Authorization"]
    assert ours[b"x-amz-date"].decode() == theirs["X-Amz-Date"]
    assert ours.get(b"x-amz-security-token", b"").decode() == theirs.get("X-Amz-Security-Token", "")


@given(
    model=st.text("abz09-._~:/% +é", min_size=1, max_size=20).filter(lambda text: text.strip(".")),
    body=st.binary(max_size=64),
)
def test_as_botocore_signs_any_path(model: str, body: bytes) -> None:
    from urllib.parse import quote

    url = f"{HOST}/model/{quote(model, safe='')}/converse"
    keys = AwsKeys("AKID", "secret")
    with pytest.MonkeyPatch.context() as monkey:
        theirs = botocore_headers(url, body, {}, keys, monkey)
    ours = dict(sigv4(keys, "eu-west-1", "bedrock", "POST", url, [], body, NOW))
    assert ours[b"authorization"].decode() == theirs["Authorization"]


def test_sign_chooses_by_what_the_credential_is() -> None:
    row = registry.get("bedrock")
    assert row is not None
    keyed = Credential("K", "k", ((b"authorization", b"Bearer k"),))
    assert sign(row, keyed, "POST", URLS[0], [], b"", NOW) == [(b"authorization", b"Bearer k")]
    aws = Credential("A", AwsKeys("AKID", "s"))
    assert (
        b"/eu-west-1/bedrock/aws4_request"
        in dict(sign(row, aws, "POST", URLS[0], [], b"", NOW))[b"authorization"]
    )
    entra = Credential("E", EntraApp("t", "c", "s"))
    assert sign(row, entra, "POST", URLS[0], [], b"", NOW, token="t0") == [(b"authorization", b"Bearer t0")]
    assert [needs_token(item) for item in (keyed, aws, entra)] == [False, False, True]
    with pytest.raises(ValueError, match="needs a token"):
        sign(row, entra, "POST", URLS[0], [], b"", NOW)


@pytest.mark.parametrize(
    ("url", "region"),
    [
        (HOST, "eu-west-1"),
        ("https://bedrock-runtime-fips.us-gov-west-1.amazonaws.com/x", "us-gov-west-1"),
        ("https://bedrock-runtime.cn-north-1.amazonaws.com.cn/x", "cn-north-1"),
        ("http://127.0.0.1:9/x", "us-east-1"),
    ],
)
def test_region(url: str, region: str) -> None:
    row = registry.get("bedrock")
    assert row is not None
    assert signing.region_of(row, url) == region
