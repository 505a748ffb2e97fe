"""The vendors' own clients understand the simulated clouds, so that passing against these means something."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import anthropic
import botocore.session
import botocore.tokens
import httpx2
import openai
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config as BotoConfig
from botocore.credentials import Credentials
from botocore.exceptions import ClientError
from google import genai
from google.oauth2 import credentials as google_credentials

from tieline.providers.aws_sources import AwsKeys, discover
from tieline.providers.row import Credential
from tieline.providers.signing import sigv4
from tieline.providers.tokens import TokenSource
from tieline.simulator import SimulatorServer, expected_text
from tieline.simulator.aws_services import CONTAINER_TOKEN, ROLE, SSO_TOKEN, WEB_TOKEN
from tieline.simulator.clouds import AwsIdentity
from tieline.transport.http1 import Http1Transport

from .callers import PROMPT

TEXT = expected_text(PROMPT, 48, 0)
HI: Any = [{"role": "user", "content": PROMPT}]
REGION = "eu-west-1"


async def google_token(simulator: SimulatorServer) -> str:
    async with httpx2.AsyncClient() as client:
        answer = await client.get(
            f"{simulator.url}/computeMetadata/v1/instance/service-accounts/default/token",
            headers={"metadata-flavor": "Google"},
        )
    return str(answer.json()["access_token"])


async def test_anthropics_vertex_client(simulator: SimulatorServer) -> None:
    async with anthropic.AsyncAnthropicVertex(
        region="us-east5",
        project_id="simulated-project",
        access_token=await google_token(simulator),
        base_url=f"{simulator.url}/vertex/v1",
        max_retries=0,
    ) as client:
        whole = await client.messages.create(model="claude-sonnet-4-6", max_tokens=99, messages=HI)
        assert whole.content[0].text == TEXT  # type: ignore[union-attr]
        async with client.messages.stream(model="claude-sonnet-4-6", max_tokens=99, messages=HI) as stream:
            assert "".join([text async for text in stream.text_stream]) == TEXT
        counted = await client.messages.count_tokens(model="claude-sonnet-4-6", messages=HI)
        assert counted.input_tokens > 0
        with pytest.raises(anthropic.BadRequestError, match="Unexpected value"):
            await client.beta.messages.create(
                model="claude-sonnet-4-6", max_tokens=9, messages=HI, betas=["effort-2025-11-24"]
            )


async def test_googles_client_in_vertex_mode(simulator: SimulatorServer) -> None:
    identity = google_credentials.Credentials(token=await google_token(simulator))  # type: ignore[no-untyped-call]
    client = genai.Client(
        vertexai=True,
        project="simulated-project",
        location="europe-west1",
        credentials=identity,
        http_options={"base_url": f"{simulator.url}/vertex", "api_version": "v1"},
    )
    whole = await client.aio.models.generate_content(model="gemini-2.5-flash", contents=PROMPT)
    assert whole.text == TEXT
    stream = await client.aio.models.generate_content_stream(model="gemini-2.5-flash", contents=PROMPT)
    assert "".join([chunk.text or "" async for chunk in stream]) == TEXT
    counted = await client.aio.models.count_tokens(model="gemini-2.5-flash", contents=PROMPT)
    assert counted.total_tokens
    await client.aio.aclose()
    client.close()


async def test_openais_azure_client(simulator: SimulatorServer) -> None:
    simulator.clouds.azure_deployments = {"prod": "gpt-4o"}
    async with openai.AsyncAzureOpenAI(
        azure_endpoint=f"{simulator.url}/azure", api_key="k", api_version="2024-10-21", max_retries=0
    ) as client:
        whole = await client.chat.completions.create(model="prod", messages=HI)
        assert (whole.choices[0].message.content, whole.model) == (TEXT, "gpt-4o")
        with pytest.raises(openai.NotFoundError, match="deployment for this resource does not exist"):
            await client.chat.completions.create(model="other", messages=HI)
    async with openai.AsyncAzureOpenAI(
        azure_endpoint=f"{simulator.url}/azure", api_key="k", api_version="1999-01-01", max_retries=0
    ) as old:
        with pytest.raises(openai.BadRequestError, match="API version not supported"):
            await old.chat.completions.create(model="prod", messages=HI)


def bedrock(simulator: SimulatorServer, **keys: str) -> Any:
    return botocore.session.get_session().create_client(
        "bedrock-runtime",
        region_name=REGION,
        endpoint_url=f"{simulator.url}/bedrock@{REGION}",
        aws_access_key_id=keys.get("id", "AKIASIMULATED"),
        aws_secret_access_key=keys.get("secret", "simulated-secret"),
        aws_session_token=keys.get("token"),
        config=BotoConfig(retries={"max_attempts": 0}),
    )


async def test_amazons_client(simulator: SimulatorServer) -> None:
    """Its signatures are accepted, and it reads the event stream with its checksums."""

    def ask(client: Any) -> tuple[str, str]:
        asked = {
            "modelId": "eu.anthropic.claude-sonnet-4-5-20250929-v1:0",
            "messages": [{"role": "user", "content": [{"text": PROMPT}]}],
        }
        whole = client.converse(**asked)["output"]["message"]["content"][0]["text"]
        events = list(client.converse_stream(**asked)["stream"])
        deltas = [event["contentBlockDelta"]["delta"] for event in events if "contentBlockDelta" in event]
        assert events[-1]["metadata"]["usage"]["outputTokens"] == 48
        return whole, "".join(delta["text"] for delta in deltas)

    simulator.clouds.aws["AKIDTEMPORARY"] = AwsIdentity("simulated-secret", "a/session+token=")
    assert await asyncio.to_thread(ask, bedrock(simulator)) == (TEXT, TEXT)
    temporary = bedrock(simulator, id="AKIDTEMPORARY", token="a/session+token=")
    assert await asyncio.to_thread(ask, temporary) == (TEXT, TEXT)
    for keys in ({"secret": "wrong"}, {"id": "AKIDTEMPORARY"}, {"id": "AKIDNOBODY"}):
        with pytest.raises(ClientError):
            await asyncio.to_thread(ask, bedrock(simulator, **keys))


@pytest.mark.parametrize("token", [None, "a/session+token="])
@pytest.mark.parametrize(
    "path",
    [
        "/model/eu.anthropic.claude-v1%3A0/converse-stream",
        "/bedrock@eu-west-1/model/arn%3Aaws%3Abedrock%3Aeu-west-1%3A1%3Ainference-profile%2Fx/converse",
        "/model/a%20b/converse?x=1&a=%2F",
    ],
)
def test_our_signature_is_amazons(path: str, token: str | None) -> None:
    url = f"https://bedrock-runtime.{REGION}.amazonaws.com{path}"
    body = json.dumps({"messages": []}).encode()
    theirs = AWSRequest("POST", url, data=body, headers={"content-type": "application/json"})
    SigV4Auth(Credentials("AKID", "secret", token), "bedrock", REGION).add_auth(theirs)
    stamp = datetime.strptime(theirs.headers["X-Amz-Date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    ours = sigv4(
        AwsKeys("AKID", "secret", token),
        REGION,
        "bedrock",
        "POST",
        url,
        [(b"content-type", b"application/json")],
        body,
        stamp,
    )
    assert dict(ours)[b"authorization"].decode() == theirs.headers["Authorization"]


@pytest.mark.parametrize("kind", ["role", "web", "container", "machine", "sso"])
async def test_amazons_client_gets_keys_from_it(
    simulator: SimulatorServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """What ours accepts as AWS's services, botocore accepts too: same files, same variables."""
    home = tmp_path / ".aws"
    (home / "sso" / "cache").mkdir(parents=True)
    (home / "config").write_text(
        f"[profile role]\nrole_arn = {ROLE}\nsource_profile = base\n"
        "[profile base]\naws_access_key_id = AKIASIMULATED\naws_secret_access_key = simulated-secret\n"
        "[profile sso]\nsso_session = corp\nsso_account_id = 123456789012\nsso_role_name = Developer\n"
        "[sso-session corp]\nsso_start_url = https://corp.awsapps.com/start\nsso_region = eu-west-1\n"
    )
    (tmp_path / "token").write_text(WEB_TOKEN)
    cached = {"accessToken": SSO_TOKEN, "expiresAt": "2999-01-01T00:00:00Z"}
    (home / "sso" / "cache" / f"{hashlib.sha1(b'corp').hexdigest()}.json").write_text(json.dumps(cached))
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    given = {
        "role": {"AWS_PROFILE": "role"},
        "sso": {"AWS_PROFILE": "sso"},
        "web": {"AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "token"), "AWS_ROLE_ARN": ROLE},
        "container": {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{simulator.url}/ecs/credentials",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": CONTAINER_TOKEN,
        },
        "machine": {"AWS_EC2_METADATA_SERVICE_ENDPOINT": simulator.url},
    }[kind]
    everywhere = {
        "HOME": str(tmp_path),
        "AWS_REGION": "eu-west-1",
        "AWS_DEFAULT_REGION": "eu-west-1",
        "AWS_ENDPOINT_URL_STS": f"{simulator.url}/sts/",
        "AWS_ENDPOINT_URL_SSO": simulator.url,
        "AWS_CONFIG_FILE": str(home / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(home / "credentials"),
    }
    for name, value in (everywhere | given).items():
        monkeypatch.setenv(name, value)
    # Worked out when botocore is imported, from the home directory of then.
    monkeypatch.setattr(botocore.tokens.SSOTokenProvider, "_SSO_TOKEN_CACHE_DIR", str(home / "sso" / "cache"))
    found = await asyncio.to_thread(_botocore_keys)
    assert found.access_key in simulator.clouds.aws
    # And ours, from the very same environment.
    source = discover(os.environ, asked=True)
    assert source is not None
    transport = Http1Transport()
    tokens = TokenSource(transport)
    ours = await tokens.token(Credential(*source))
    await tokens.aclose()
    await transport.aclose()
    assert isinstance(ours, AwsKeys)
    identity = simulator.clouds.aws[ours.access_key_id]
    assert (ours.secret_access_key, ours.session_token) == (identity.secret, identity.session_token)


def _botocore_keys() -> Any:
    found = botocore.session.Session().get_credentials()
    assert found is not None
    return found.get_frozen_credentials()
