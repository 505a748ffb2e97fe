"""Identities of clouds: fetched, kept, renewed ahead, refused with the provider and the fix named."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import anthropic
import openai
import pytest
from msgspec.structs import replace

from tieline.simulator import SimulatorServer
from tieline.simulator.clouds import AwsIdentity, EntraClient

from .callers import CALLERS, PROMPT, ask_anthropic, ask_chat
from .conftest import CLOUDS, Served, environment, serving

GEMINI = "vertex/gemini-2.5-flash"
CLAUDE = "bedrock@eu-west-1/eu.anthropic.claude-sonnet-4-5-20250929-v1:0"


async def refused(served: Served, model: str) -> str:
    """What an OpenAI caller is told; a provider's 401 is never ours (WIRE_FACTS 36)."""
    with pytest.raises(openai.APIStatusError) as caught:
        await ask_chat(served.url, model, "text")
    assert caught.value.status_code == 502
    assert caught.value.code == "credential"
    return caught.value.message.removeprefix("Error code: 502 - ")


# Google -------------------------------------------------------------------------------------------------------------------


async def test_one_exchange_for_many_callers(served: Served) -> None:
    await asyncio.gather(*(ask_chat(served.url, GEMINI, "text") for _ in range(5)))
    await ask_anthropic(served.url, "vertex-anthropic/claude-sonnet-4-6", "stream")
    # Two rows, two credentials: each row asks for itself.
    assert served.clouds.exchanges == ["service_account", "service_account"]


async def test_renewed_ahead_of_its_end(served: Served) -> None:
    """A token within five minutes of its end still serves while the next is fetched behind the request."""
    served.clouds.token_life_s = 60
    await ask_chat(served.url, GEMINI, "text")
    served.clouds.token_life_s = 3600
    await ask_chat(served.url, GEMINI, "text")
    async with asyncio.timeout(5):
        while len(served.clouds.exchanges) < 2:
            await asyncio.sleep(0.01)
    for _ in range(3):
        await ask_chat(served.url, GEMINI, "text")
    assert len(served.clouds.exchanges) == 2


async def test_an_ended_token_is_not_sent(served: Served) -> None:
    served.clouds.token_life_s = 15
    for _ in range(2):
        await ask_chat(served.url, GEMINI, "text")
    assert len(served.clouds.exchanges) == 2
    assert [entry.status for entry in served.simulator.log] == [200, 200]


@pytest.mark.parametrize("caller", CALLERS)
async def test_a_revoked_token_is_replaced_unseen(served: Served, caller: str) -> None:
    await CALLERS[caller](served.url, GEMINI, "text")
    served.clouds.revoke()
    said = await CALLERS[caller](served.url, GEMINI, "stream")
    assert said.text
    assert [entry.status for entry in served.simulator.log] == [200, 401, 200]


async def test_a_deleted_service_account(served: Served) -> None:
    served.clouds.forget_account()
    said = await refused(served, GEMINI)
    assert said.startswith("vertex (GOOGLE_APPLICATION_CREDENTIALS): the token service answered 400.")
    assert "account not found" in said
    assert "Make a new key of the service account robot@simulated-project.iam.gserviceaccount.com" in said
    assert "PRIVATE KEY" not in said


async def test_a_key_of_another_account(served: Served, simulator: SimulatorServer) -> None:
    """The signature is checked: a key file whose key was replaced is refused."""
    path = Path(served.environ["GOOGLE_APPLICATION_CREDENTIALS"])
    other = json.loads(simulator.clouds.service_account(simulator.url, "other@simulated-project.example"))
    mixed = json.loads(path.read_text()) | {"private_key": other["private_key"]}
    path.write_text(json.dumps(mixed))
    async with serving(simulator, served.environ) as again:
        assert "Invalid JWT Signature." in await refused(again, GEMINI)


async def test_an_unusable_private_key(served: Served, simulator: SimulatorServer) -> None:
    path = Path(served.environ["GOOGLE_APPLICATION_CREDENTIALS"])
    path.write_text(json.dumps(json.loads(path.read_text()) | {"private_key": "nonsense"}))
    async with serving(simulator, served.environ) as again:
        said = await refused(again, GEMINI)
    assert "vertex (GOOGLE_APPLICATION_CREDENTIALS): the service account's private key cannot be read" in said
    assert "nonsense" not in said


async def test_no_right_to_the_project(served: Served) -> None:
    served.clouds.project = "somebody-elses"
    said = await refused(served, GEMINI)
    assert "aiplatform.endpoints.predict" in said
    assert "roles/aiplatform.user" in said


async def test_the_metadata_server(simulator: SimulatorServer, tmp_path: Path) -> None:
    environ = environment(simulator, tmp_path)
    del environ["GOOGLE_APPLICATION_CREDENTIALS"]
    environ |= {
        "GCE_METADATA_HOST": simulator.url.removeprefix("http://"),
        "GOOGLE_CLOUD_PROJECT": "simulated-project",
    }
    async with serving(simulator, environ) as served:
        assert (await ask_chat(served.url, GEMINI, "text")).text
        assert served.clouds.exchanges == ["metadata"]


async def test_a_persons_own_credentials(simulator: SimulatorServer, tmp_path: Path) -> None:
    environ = environment(simulator, tmp_path)
    key = {
        "type": "authorized_user",
        "client_id": "c",
        "client_secret": "s",
        "refresh_token": "simulated-refresh",
        "quota_project_id": "simulated-project",
        "token_uri": f"{simulator.url}/google-oauth/token",
    }
    path = Path(environ["GOOGLE_APPLICATION_CREDENTIALS"])
    path.write_text(json.dumps(key))
    async with serving(simulator, environ) as served:
        assert (await ask_chat(served.url, GEMINI, "text")).text
        assert served.clouds.exchanges == ["refresh_token"]
    path.write_text(json.dumps(key | {"refresh_token": "old"}))
    async with serving(simulator, environ) as served:
        said = await refused(served, GEMINI)
    assert "expired or revoked" in said
    assert "gcloud auth application-default login" in said


# Azure ----------------------------------------------------------------------------------------------------------------------


def entra(simulator: SimulatorServer, folder: Path, **other: str) -> dict[str, str]:
    environ = environment(simulator, folder)
    del environ["AZURE_OPENAI_API_KEY"]
    return environ | {
        "AZURE_TENANT_ID": "simulated-tenant",
        "AZURE_CLIENT_ID": "simulated-client",
        "AZURE_CLIENT_SECRET": "simulated-secret",
        "AZURE_AUTHORITY_HOST": f"{simulator.url}/entra",
        **other,
    }


@pytest.mark.parametrize("model", ["azure/chat-prod", "azure-deployments/chat-prod"])
@pytest.mark.parametrize("feature", ["text", "stream"])
async def test_entra(simulator: SimulatorServer, tmp_path: Path, model: str, feature: str) -> None:
    async with serving(simulator, entra(simulator, tmp_path)) as served:
        for caller in CALLERS.values():
            assert (await caller(served.url, model, feature)).text
        assert served.clouds.exchanges == ["client_credentials"]
        served.clouds.revoke()
        assert (await ask_chat(served.url, model, feature)).text


async def test_entra_in_the_configuration(simulator: SimulatorServer, tmp_path: Path) -> None:
    """``auth: entra`` leaves a key in the environment alone; ``tenant:client:secret`` is an application."""
    environ = entra(simulator, tmp_path) | {"AZURE_OPENAI_API_KEY": "not-a-token"}
    text = CLOUDS.replace("  azure-deployments:\n", "  azure-deployments:\n    auth: entra\n").replace(
        "  azure:\n", "  azure:\n    auth: entra\n    api_key: simulated-tenant:simulated-client:wrong\n"
    )
    async with serving(simulator, environ, text) as served:
        assert (await ask_chat(served.url, "azure-deployments/chat-prod", "text")).text
        said = await refused(served, "azure/chat-prod")
    assert said.startswith("azure (providers.azure.api_key): the token service answered 401. AADSTS7000215")
    assert "wrong" not in said.partition("(tried")[0].replace("wrong API", "")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"AZURE_CLIENT_SECRET": "old"}, "AADSTS7000215"),
        ({"AZURE_TENANT_ID": "nobody"}, "AADSTS90002"),
        ({"AZURE_CLIENT_ID": "nobody"}, "AADSTS700016"),
    ],
)
async def test_entra_says_no(
    simulator: SimulatorServer, tmp_path: Path, change: dict[str, str], said: str
) -> None:
    async with serving(simulator, entra(simulator, tmp_path, **change)) as served:
        message = await refused(served, "azure/chat-prod")
    assert message.startswith("azure (AZURE_CLIENT_ID): ")
    assert said in message
    assert "App registrations" in message


async def test_an_expired_client_secret(simulator: SimulatorServer, tmp_path: Path) -> None:
    simulator.clouds.entra = {
        ("simulated-tenant", "simulated-client"): EntraClient("simulated-secret", expired=True)
    }
    async with serving(simulator, entra(simulator, tmp_path)) as served:
        with pytest.raises(anthropic.APIStatusError) as caught:
            await ask_anthropic(served.url, "azure/chat-prod", "stream")
    assert caught.value.status_code == 502
    assert "AADSTS7000222" in caught.value.message
    assert "renewed in Entra ID" in caught.value.message


async def test_a_wrong_azure_key(simulator: SimulatorServer, tmp_path: Path) -> None:
    environ = environment(simulator, tmp_path) | {"AZURE_OPENAI_API_KEY": "an-invalid-key"}
    async with serving(simulator, environ) as served:
        said = await refused(served, "azure-deployments/chat-prod")
    assert said.startswith("azure-deployments (AZURE_OPENAI_API_KEY): Access denied")
    assert "Set a valid key in AZURE_OPENAI_API_KEY." in said
    assert "an-invalid-key" not in said


# AWS ------------------------------------------------------------------------------------------------------------------------


async def test_temporary_keys(simulator: SimulatorServer, tmp_path: Path) -> None:
    simulator.clouds.aws["AKIDTEMPORARY"] = AwsIdentity("simulated-secret", "session/token+==")
    environ = environment(simulator, tmp_path) | {
        "AWS_ACCESS_KEY_ID": "AKIDTEMPORARY",
        "AWS_SESSION_TOKEN": "session/token+==",
    }
    async with serving(simulator, environ) as served:
        for caller in CALLERS.values():
            assert (await caller(served.url, CLAUDE, "stream")).text
        simulator.clouds.aws["AKIDTEMPORARY"] = replace(simulator.clouds.aws["AKIDTEMPORARY"], expired=True)
        said = await refused(served, CLAUDE)
    assert said.startswith(
        "bedrock@eu-west-1 (AWS_ACCESS_KEY_ID): The security token included in the request is expired"
    )
    assert "aws sso login" in said


@pytest.mark.parametrize(
    ("change", "said", "fix"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "signature we calculated", "belongs to AWS_ACCESS_KEY_ID"),
        ({"AWS_ACCESS_KEY_ID": "AKIDUNKNOWN"}, "security token included", "temporary keys need AWS_SESSION_TOKEN"),
    ],
)  # fmt: skip
async def test_wrong_aws_keys(
    simulator: SimulatorServer, tmp_path: Path, change: dict[str, str], said: str, fix: str
) -> None:
    async with serving(simulator, environment(simulator, tmp_path) | change) as served:
        message = await refused(served, CLAUDE)
    assert said in message
    assert fix in message


async def test_a_wrong_clock(served: Served) -> None:
    real = served.clouds.clock
    served.clouds.clock = lambda: real() + 3600
    said = await refused(served, CLAUDE)
    assert "Signature expired" in said
    assert "Set this machine's clock." in said


async def test_a_bedrock_key(simulator: SimulatorServer, tmp_path: Path) -> None:
    environ = environment(simulator, tmp_path) | {"AWS_BEARER_TOKEN_BEDROCK": "bedrock-api-key-1"}
    async with serving(simulator, environ) as served:
        assert (await ask_chat(served.url, CLAUDE, "stream")).text
    assert served.simulator.log[0].key == "ey-1"


async def test_other_credentials_rotate(simulator: SimulatorServer, tmp_path: Path) -> None:
    """A dead identity is passed over for the next of the same provider."""
    text = CLOUDS.replace(
        '{base_url: "${SIM}/bedrock@eu-west-1"}',
        '{base_url: "${SIM}/bedrock@eu-west-1", api_key: ["AKIDUNKNOWN:x", "AKIASIMULATED:simulated-secret"]}',
    )
    async with serving(simulator, environment(simulator, tmp_path), text) as served:
        for _ in range(3):
            assert (await ask_chat(served.url, CLAUDE, "text")).text
    assert PROMPT
