"""What Azure's machines, apps and Kubernetes workloads have of themselves, end to end over sockets."""

from __future__ import annotations

from pathlib import Path

import pytest

from tieline.simulator import SimulatorServer
from tieline.simulator.clouds import APP_SECRET

from .callers import CALLERS, ask_chat
from .conftest import Served, environment, serving
from .test_credentials import refused

MODELS = ("azure/chat-prod", "azure-deployments/chat-prod")


def without_key(simulator: SimulatorServer, folder: Path, **other: str) -> dict[str, str]:
    environ = environment(simulator, folder)
    del environ["AZURE_OPENAI_API_KEY"]
    return environ | other


async def works(served: Served) -> None:
    for model in MODELS:
        for feature in ("text", "stream"):
            assert (await ask_chat(served.url, model, feature)).text


async def test_a_machine(simulator: SimulatorServer, tmp_path: Path) -> None:
    environ = without_key(simulator, tmp_path, AZURE_POD_IDENTITY_AUTHORITY_HOST=simulator.url)
    async with serving(simulator, environ) as served:
        await works(served)
        assert simulator.clouds.exchanges == ["managed_machine"] * 2  # a row each
    simulator.clouds.has_identity = False
    async with serving(simulator, environ) as served:
        said = await refused(served, MODELS[0])
    assert "Identity not found" in said
    assert "Assign a managed identity; of several, name one in AZURE_CLIENT_ID." in said


async def test_one_of_several_identities(simulator: SimulatorServer, tmp_path: Path) -> None:
    environ = without_key(
        simulator, tmp_path, AZURE_POD_IDENTITY_AUTHORITY_HOST=simulator.url, AZURE_CLIENT_ID="second"
    )
    async with serving(simulator, environ) as served:
        assert "Identity not found" in await refused(served, MODELS[0])
        simulator.clouds.azure_identities = {"second"}
        await works(served)


async def test_an_app(simulator: SimulatorServer, tmp_path: Path) -> None:
    """App Service, Functions, Container Apps: a local endpoint and a secret header, `expires_on` as text."""
    environ = without_key(
        simulator, tmp_path, IDENTITY_ENDPOINT=f"{simulator.url}/msi/token", IDENTITY_HEADER=APP_SECRET
    )
    async with serving(simulator, environ) as served:
        await works(served)
        assert simulator.clouds.exchanges == ["managed_app"] * 2
    async with serving(simulator, environ | {"IDENTITY_HEADER": "wrong-header"}) as served:
        said = await refused(served, MODELS[0])
    assert "azure (IDENTITY_ENDPOINT): the token service answered 401." in said
    assert "wrong-header" not in said


async def test_a_workload(simulator: SimulatorServer, tmp_path: Path) -> None:
    """Azure's workload identity for Kubernetes: the projected token is the proof, and is read anew."""
    file = tmp_path / "token"
    file.write_text("somebody-elses-token")
    environ = without_key(
        simulator,
        tmp_path,
        AZURE_TENANT_ID="simulated-tenant",
        AZURE_CLIENT_ID="simulated-client",
        AZURE_FEDERATED_TOKEN_FILE=str(file),
        AZURE_AUTHORITY_HOST=f"{simulator.url}/entra",
    )
    async with serving(simulator, environ) as served:
        said = await refused(served, MODELS[0])
        assert "AADSTS700213" in said
        assert "the federated credential of the identity names this service account" in said
        assert "somebody-elses-token" not in said
        file.write_text("simulated-kubernetes-token")
        await works(served)
        file.unlink()
        assert (await ask_chat(served.url, MODELS[0], "text")).text  # the token at hand still holds


@pytest.mark.parametrize("caller", CALLERS)
async def test_a_token_that_ended_is_replaced_unseen(
    simulator: SimulatorServer, tmp_path: Path, caller: str
) -> None:
    environ = without_key(simulator, tmp_path, AZURE_POD_IDENTITY_AUTHORITY_HOST=simulator.url)
    async with serving(simulator, environ) as served:
        await CALLERS[caller](served.url, MODELS[0], "text")
        simulator.clouds.revoke()
        assert (await CALLERS[caller](served.url, MODELS[0], "stream")).text
    assert [entry.status for entry in simulator.log] == [200, 401, 200]
