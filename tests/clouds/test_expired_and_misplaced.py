"""Ended credentials and places that are not there, as each caller hears of them: provider, field and fix, in its dialect."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from google.genai import errors as gemini_errors

from tieline.simulator import SimulatorServer
from tieline.simulator.clouds import AwsIdentity

from .callers import CALLERS
from .conftest import CLOUDS, environment, serving

ERRORS = (openai.APIStatusError, anthropic.APIStatusError, gemini_errors.APIError)
CLAUDE = "bedrock@eu-west-1/eu.anthropic.claude-sonnet-4-5-20250929-v1:0"


async def told(url: str, caller: str, model: str, feature: str) -> tuple[int, str]:
    with pytest.raises(ERRORS) as caught:
        await CALLERS[caller](url, model, feature)
    error: Any = caught.value
    return getattr(error, "status_code", None) or error.code, str(error.message)


# credentials that have ended ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("feature", ["text", "stream"])
@pytest.mark.parametrize("caller", CALLERS)
async def test_temporary_aws_keys_that_ended(
    simulator: SimulatorServer, tmp_path: Path, caller: str, feature: str
) -> None:
    simulator.clouds.aws["ASIATEMPORARY"] = AwsIdentity("simulated-secret", "session", expired=True)
    environ = environment(simulator, tmp_path) | {
        "AWS_ACCESS_KEY_ID": "ASIATEMPORARY",
        "AWS_SESSION_TOKEN": "session",
    }
    async with serving(simulator, environ) as served:
        status, said = await told(served.url, caller, CLAUDE, feature)
    assert status == 502  # never 401 (WIRE_FACTS 36)
    assert (
        "bedrock@eu-west-1 (AWS_ACCESS_KEY_ID): The security token included in the request is expired" in said
    )
    assert "set the three AWS_ variables anew" in said


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("model", ["vertex/gemini-2.5-flash", "vertex-anthropic/claude-sonnet-4-6"])
async def test_a_vertex_token_that_ended(
    simulator: SimulatorServer, tmp_path: Path, caller: str, model: str
) -> None:
    """A token that somebody pasted (`gcloud auth print-access-token`) lives an hour and cannot be renewed by us."""
    provider = model.partition("/")[0]
    text = CLOUDS.replace(
        f'  {provider}: {{base_url: "${{SIM}}/vertex"}}',
        f'  {provider}: {{base_url: "${{SIM}}/vertex", api_key: "${{PASTED}}"}}',
    )
    environ = environment(simulator, tmp_path) | {
        "PASTED": "ya29.pasted-and-ended",
        "GOOGLE_CLOUD_PROJECT": "simulated-project",
    }
    async with serving(simulator, environ, text) as served:
        status, said = await told(served.url, caller, model, "stream")
    assert status == 502
    assert f"{provider} (PASTED): Request had invalid authentication credentials." in said
    assert "Set a valid key in PASTED." in said
    assert "ya29" not in said


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize("provider", ["azure", "azure-deployments"])
async def test_an_entra_token_that_ended(
    simulator: SimulatorServer, tmp_path: Path, caller: str, provider: str
) -> None:
    text = CLOUDS.replace(f"  {provider}:\n", f'  {provider}:\n    auth: entra\n    api_key: "${{PASTED}}"\n')
    environ = environment(simulator, tmp_path) | {"PASTED": "eyJ0eXAiOiJKV1Qi.pasted-and-ended"}
    async with serving(simulator, environ, text) as served:
        status, said = await told(served.url, caller, f"{provider}/chat-prod", "text")
    assert status == 502
    assert f"{provider} (PASTED): " in said
    assert "Set a valid key in PASTED." in said
    assert "eyJ" not in said


# places that are not there --------------------------------------------------------------------------------------------------

NOWHERE = """
discover: false
server: {port: 0}
store: {database: none}
routing: {fallback: none}
providers:
  bedrock@eu-west-9: {}
  vertex@europe-west99: {api_key: t}
  azure@no-such-resource: {api_key: k, models: [gpt-4o]}
"""


@pytest.fixture
def no_such_names(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The resolver of a machine that finds none of the clouds' misspelt hosts; nothing leaves this one."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def resolve(host: Any, *args: Any, **kwargs: Any) -> Any:
        if host in (None, "127.0.0.1", "localhost"):
            return real(host, *args, **kwargs)
        asked.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return asked


@pytest.mark.parametrize("caller", CALLERS)
@pytest.mark.parametrize(
    ("model", "host", "fix"),
    [
        ("bedrock@eu-west-9/amazon.nova-lite-v1:0", "bedrock-runtime.eu-west-9.amazonaws.com", "`eu-west-9` may be no region of AWS, or one without Bedrock: set AWS_REGION"),
        ("vertex@europe-west99/gemini-2.5-flash", "europe-west99-aiplatform.googleapis.com", "`europe-west99` may be no location of Vertex AI: set GOOGLE_CLOUD_LOCATION"),
        ("azure@no-such-resource/gpt-4o", "no-such-resource.openai.azure.com", "There may be no resource of this name: set AZURE_OPENAI_ENDPOINT"),
    ],
)  # fmt: skip
async def test_a_place_that_is_not_there(
    simulator: SimulatorServer,
    tmp_path: Path,
    no_such_names: list[str],
    caller: str,
    model: str,
    host: str,
    fix: str,
) -> None:
    environ = environment(simulator, tmp_path) | {"GOOGLE_CLOUD_PROJECT": "p"}
    async with serving(simulator, environ, NOWHERE) as served:
        status, said = await told(served.url, caller, model, "stream")
    assert status in (502, 503)
    assert said.count(host) >= 1
    assert fix in said
    assert set(no_such_names) == {host}


@pytest.mark.parametrize("caller", CALLERS)
async def test_a_deployment_of_another_resource(
    simulator: SimulatorServer, tmp_path: Path, caller: str
) -> None:
    """Two resources with their own deployments: what one has, the other does not know."""
    text = CLOUDS + "  azure@other:\n    base_url: ${SIM}/azure/openai/v1\n    models: [gpt-4o]\n"
    simulator.clouds.azure_deployments = {"chat-prod": "gpt-4o"}
    environ = environment(simulator, tmp_path)
    async with serving(simulator, environ, text) as served:
        status, said = await told(served.url, caller, "azure@other/gpt-4o", "text")
    assert status == 404
    assert "azure@other: The API deployment for this resource does not exist." in said
    assert "listed under providers.azure@other.models as `deployment: model`" in said
