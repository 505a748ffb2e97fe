"""AWS identities as a user has them, end to end over sockets: what ~/.aws, containers and machines give signs requests."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from pathlib import Path

import pytest

from tieline.simulator import SimulatorServer
from tieline.simulator.aws_services import CONTAINER_TOKEN, ROLE, SSO_TOKEN, WEB_TOKEN
from tieline.simulator.clouds import AwsIdentity

from .callers import CALLERS, ask_chat
from .conftest import Served, environment, serving
from .test_credentials import CLAUDE, refused

STATIC = "aws_access_key_id = AKIASIMULATED\naws_secret_access_key = simulated-secret\n"


def aws(
    simulator: SimulatorServer, folder: Path, config: str = "", keys: str = "", **other: str
) -> dict[str, str]:
    """An environment without keys, whose ~/.aws holds these two files."""
    environ = environment(simulator, folder)
    del environ["AWS_ACCESS_KEY_ID"], environ["AWS_SECRET_ACCESS_KEY"]
    (folder / ".aws").mkdir(exist_ok=True)
    (folder / ".aws" / "config").write_text(config)
    (folder / ".aws" / "credentials").write_text(keys)
    return environ | {
        "HOME": str(folder),
        "AWS_ENDPOINT_URL_STS": f"{simulator.url}/sts",
        "AWS_ENDPOINT_URL_SSO": simulator.url,
        **other,
    }


async def works(served: Served) -> None:
    for feature in ("text", "stream"):
        assert (await ask_chat(served.url, CLAUDE, feature)).text


async def test_a_profile(simulator: SimulatorServer, tmp_path: Path) -> None:
    environ = aws(simulator, tmp_path, keys=f"[work]\n{STATIC}", AWS_PROFILE="work")
    async with serving(simulator, environ) as served:
        await works(served)
        (record,) = [e.key for e in simulator.log[:1]]
    assert record


async def test_the_default_profile_of_a_configured_provider(
    simulator: SimulatorServer, tmp_path: Path
) -> None:
    async with serving(simulator, aws(simulator, tmp_path, config=f"[default]\n{STATIC}")) as served:
        await works(served)


async def test_keys_that_another_program_renews(simulator: SimulatorServer, tmp_path: Path) -> None:
    """Temporary keys in the file end; whoever wrote them writes new ones; the caller sees nothing of it."""
    clouds = simulator.clouds
    clouds.aws["ASIAOLD"] = AwsIdentity("simulated-secret", "old")
    environ = aws(simulator, tmp_path, keys=_temporary("ASIAOLD", "old"), AWS_PROFILE="work")
    async with serving(simulator, environ) as served:
        await works(served)
        clouds.aws["ASIAOLD"] = AwsIdentity("simulated-secret", "old", expired=True)
        assert "has ended" not in await refused(served, CLAUDE)
        clouds.aws["ASIANEW"] = AwsIdentity("simulated-secret", "new")
        (tmp_path / ".aws" / "credentials").write_text(_temporary("ASIANEW", "new"))
        before = len(simulator.log)
        await works(served)
    assert [entry.status for entry in simulator.log[before:]] == [403, 200, 200]


def _temporary(key: str, token: str) -> str:
    return f"[work]\naws_access_key_id={key}\naws_secret_access_key=simulated-secret\naws_session_token={token}\n"


async def test_a_role(simulator: SimulatorServer, tmp_path: Path) -> None:
    """One AssumeRole for all who wait, signed for STS; its keys sign for Bedrock."""
    config = (
        f"[profile prod]\nrole_arn = {ROLE}\nsource_profile = base\nexternal_id = x-1\nregion = eu-west-1\n"
    )
    simulator.clouds.aws_services.external_id = "x-1"
    environ = aws(simulator, tmp_path, config, f"[base]\n{STATIC}", AWS_PROFILE="prod")
    async with serving(simulator, environ) as served:
        await asyncio.gather(*(ask_chat(served.url, CLAUDE, "text") for _ in range(5)))
    assert simulator.clouds.exchanges == ["AssumeRole"]


async def test_a_role_that_may_not_be_assumed(simulator: SimulatorServer, tmp_path: Path) -> None:
    config = f"[profile prod]\nrole_arn = {ROLE}2\nsource_profile = base\n"
    environ = aws(simulator, tmp_path, config, f"[base]\n{STATIC}", AWS_PROFILE="prod")
    async with serving(simulator, environ) as served:
        said = await refused(served, CLAUDE)
    assert said.startswith("bedrock@eu-west-1 (AWS_PROFILE=prod): AWS STS answered 403. AccessDenied: ")
    assert "Allow these keys sts:AssumeRole on the role" in said
    assert "simulated-secret" not in said


async def test_a_web_identity(simulator: SimulatorServer, tmp_path: Path) -> None:
    """As EKS sets it up for a service account; the file is read anew for each exchange."""
    file = tmp_path / "token"
    file.write_text("stale\n")
    environ = aws(simulator, tmp_path, AWS_WEB_IDENTITY_TOKEN_FILE=str(file), AWS_ROLE_ARN=ROLE)
    async with serving(simulator, environ) as served:
        said = await refused(served, CLAUDE)
        assert "(AWS_WEB_IDENTITY_TOKEN_FILE): AWS STS answered 400. InvalidIdentityToken" in said
        assert "stale" not in said
        file.write_text(WEB_TOKEN + "\n")
        await works(served)


async def test_a_sign_on(simulator: SimulatorServer, tmp_path: Path) -> None:
    config = (
        "[profile dev]\nsso_session = corp\nsso_account_id = 123456789012\nsso_role_name = Developer\n"
        "[sso-session corp]\nsso_start_url = https://corp.awsapps.com/start\nsso_region = eu-west-1\n"
    )
    environ = aws(simulator, tmp_path, config, AWS_PROFILE="dev")
    cache = tmp_path / ".aws" / "sso" / "cache" / f"{hashlib.sha1(b'corp').hexdigest()}.json"
    cache.parent.mkdir(parents=True)
    async with serving(simulator, environ) as served:
        assert "nobody is signed on for the profile `dev`" in await refused(served, CLAUDE)
        cache.write_text(json.dumps({"accessToken": SSO_TOKEN, "expiresAt": "2020-01-01T00:00:00Z"}))
        said = await refused(served, CLAUDE)
        assert "the sign-on of the profile `dev` has ended. Run `aws sso login --profile dev`." in said
        assert SSO_TOKEN not in said
        cache.write_text(json.dumps({"accessToken": SSO_TOKEN, "expiresAt": "2999-01-01T00:00:00Z"}))
        await works(served)
    assert simulator.clouds.exchanges == ["sso"]


async def test_a_program(simulator: SimulatorServer, tmp_path: Path) -> None:
    keys = {"Version": 1, "AccessKeyId": "AKIASIMULATED", "SecretAccessKey": "simulated-secret"}
    script = tmp_path / "keys.py"
    script.write_text(f"print({json.dumps(keys)!r})")
    config = f'[profile tool]\ncredential_process = "{sys.executable}" "{script}"\n'
    environ = aws(simulator, tmp_path, config, AWS_PROFILE="tool")
    async with serving(simulator, environ) as served:
        await works(served)
    script.write_text("import sys; print('simulated-secret'); sys.exit(3)")
    async with serving(simulator, environ) as served:
        said = await refused(served, CLAUDE)
    assert "the credential_process of the profile `tool` ended with 3." in said
    assert "simulated-secret" not in said


async def test_a_container(simulator: SimulatorServer, tmp_path: Path) -> None:
    file = tmp_path / "authorization"
    file.write_text(CONTAINER_TOKEN)
    environ = aws(
        simulator,
        tmp_path,
        AWS_CONTAINER_CREDENTIALS_FULL_URI=f"{simulator.url}/ecs/credentials",
        AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=str(file),
    )
    async with serving(simulator, environ) as served:
        await works(served)
    file.write_text("wrong")
    async with serving(simulator, environ) as served:
        said = await refused(served, CLAUDE)
    assert "the container's credential service answered 401. The authorization token is wrong" in said
    assert "Check the task role (ECS) or the pod identity association (EKS)." in said


async def test_a_machine(simulator: SimulatorServer, tmp_path: Path) -> None:
    """Version 2 of the metadata service: without its session token nothing is answered."""
    environ = aws(simulator, tmp_path, AWS_EC2_METADATA_SERVICE_ENDPOINT=simulator.url)
    async with serving(simulator, environ) as served:
        await works(served)
        assert simulator.clouds.exchanges == ["machine"]
    simulator.clouds.aws_services.machine_role = None
    async with serving(simulator, environ) as served:
        said = await refused(served, CLAUDE)
    assert "(EC2 instance role): the EC2 metadata service answered 404. This machine has no role." in said
    assert "Give this instance a role" in said


@pytest.mark.parametrize("caller", CALLERS)
async def test_keys_that_ended_are_replaced_unseen(
    simulator: SimulatorServer, tmp_path: Path, caller: str
) -> None:
    environ = aws(simulator, tmp_path, AWS_EC2_METADATA_SERVICE_ENDPOINT=simulator.url)
    clouds = simulator.clouds
    async with serving(simulator, environ) as served:
        await CALLERS[caller](served.url, CLAUDE, "text")
        for key, identity in clouds.aws.items():
            clouds.aws[key] = AwsIdentity(identity.secret, identity.session_token, expired=True)
        assert (await CALLERS[caller](served.url, CLAUDE, "stream")).text
    assert [entry.status for entry in simulator.log] == [200, 403, 200]


async def test_renewed_ahead_of_their_end(simulator: SimulatorServer, tmp_path: Path) -> None:
    clouds = simulator.clouds
    environ = aws(simulator, tmp_path, AWS_EC2_METADATA_SERVICE_ENDPOINT=simulator.url)
    async with serving(simulator, environ) as served:
        clouds.token_life_s = 60
        await ask_chat(served.url, CLAUDE, "text")
        clouds.token_life_s = 3600
        await ask_chat(served.url, CLAUDE, "text")
        async with asyncio.timeout(5):
            while len(clouds.exchanges) < 2:
                await asyncio.sleep(0.01)
        for _ in range(3):
            await ask_chat(served.url, CLAUDE, "text")
    assert clouds.exchanges == ["machine", "machine"]
    assert {entry.status for entry in simulator.log} == {200}


async def test_no_secret_is_ever_said(
    simulator: SimulatorServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither in what callers get nor in what is written to the terminal."""
    environ = aws(simulator, tmp_path, AWS_EC2_METADATA_SERVICE_ENDPOINT=simulator.url)
    async with serving(simulator, environ) as served:
        await works(served)
        for key, identity in simulator.clouds.aws.items():
            simulator.clouds.aws[key] = AwsIdentity("changed", identity.session_token)
        said = await refused(served, CLAUDE)
    assert "signature" in said
    captured = capfd.readouterr()
    for text in (said, captured.out, captured.err):
        for secret in ("secret-1", "session-1", "ASIASIM"):
            assert secret not in text
