"""The data policy that a request brings itself (``tieline.policy``, ``tieline-policy``)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import openai
import pytest
from msgspec.structs import replace
from openai import AsyncOpenAI

from tests.served import HELLO, chat, configuration, post, serving
from tieline.config.schema import PolicyRules
from tieline.gateway import Gateway

CHAT = "/v1/chat/completions"


@pytest.mark.parametrize("where", ["body", "header"])
@pytest.mark.parametrize(
    ("policy", "status", "words"),
    [
        ({"deny_providers": ["openai"]}, 200, ()),
        ({"deny_providers": ["sim-openai"]}, 404, ("sim-openai is denied",)),
        ({"allow_providers": ["openai"]}, 404, ("not among allow_providers",)),
        ({"no_training": True, "jurisdictions": ["EU"]}, 200, ()),
        (
            {"deny_providers": ["openai", "sim-opnai"]},
            400,
            (
                "tieline.policy.deny_providers[1]",
                "there is no provider 'sim-opnai'",
                "Did you mean sim-openai?",
            ),
        ),
        (
            {"allow_providers": ["xyzzy"]},
            400,
            ("tieline.policy.allow_providers[0]", "One of your own is configured"),
        ),
        ({"no_trainig": True}, 400, ("tieline.policy", "no_trainig")),
    ],
)
async def test_a_request_s_own_policy(
    tmp_path: Path, where: str, policy: dict[str, Any], status: int, words: tuple[str, ...]
) -> None:
    async with serving(tmp_path) as served, await served.connect() as raw:
        if where == "body":
            raw.send(post(CHAT, chat("sim-openai/sim-echo", tieline={"policy": policy})))
        else:
            raw.send(post(CHAT, chat("sim-openai/sim-echo"), f"tieline-policy: {json.dumps(policy)}"))
        heard = await raw.hear()
    assert heard.status == status, heard.body
    for word in words:
        assert word in json.dumps(heard.json, ensure_ascii=False), heard.body
    assert len(served.simulator.log) == (status == 200)


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("tieline-max-cost-usds: 0.01", ("tieline-max-cost-usds", "Did you mean tieline-max-cost-usd?")),
        ("Tieline-Polcy: {}", ("tieline-polcy", "Did you mean tieline-policy?")),
        ("tieline-xyzzy: 1", ("Known options: profile, ",)),
        ("tieline-: 1", ("Known options: ",)),
        ("tieline-\xff: 1", ()),
    ],
)
async def test_an_option_that_is_misspelt_is_not_passed_over(
    tmp_path: Path, header: str, words: tuple[str, ...]
) -> None:
    async with serving(tmp_path) as served, await served.connect() as raw:
        raw.send(post(CHAT, chat("sim-openai/sim-echo"), header))
        heard = await raw.hear()
    assert heard.status == 400, heard.body
    for word in words:
        assert word in heard.json["error"]["message"]
    assert not served.simulator.log


async def test_headers_of_an_answer_may_be_sent_back(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, await served.connect() as raw:
        raw.send(post(CHAT, chat("sim-openai/sim-echo")))
        answered = await raw.hear()
        ours = [f"{name}: {value}" for name, value in answered.headers.items() if name.startswith("tieline-")]
        assert len(ours) >= 7
        raw.send(post(CHAT, chat("sim-openai/sim-echo"), *ours))
        assert (await raw.hear()).status == 200


async def test_an_sdk_does_not_try_again_what_nobody_may_serve(tmp_path: Path) -> None:
    policy = {"tieline-policy": '{"deny_providers": ["sim-openai"]}'}
    async with serving(tmp_path) as served:
        async with AsyncOpenAI(base_url=f"{served.url}/v1", api_key="unused", max_retries=2) as client:
            with pytest.raises(openai.NotFoundError) as caught:
                await client.chat.completions.create(
                    model="sim-openai/sim-echo",
                    messages=[{"role": "user", "content": "hi"}],
                    extra_headers=policy,
                )
        assert caught.value.code == "no_candidate"
        assert "sim-openai is denied" in caught.value.message
        assert len(await served.records()) == 1


async def test_in_the_caller_s_dialect(tmp_path: Path) -> None:
    body = {"model": "sim-openai/sim-echo", "max_tokens": 9, "messages": HELLO}
    async with serving(tmp_path) as served, await served.connect() as raw:
        raw.send(
            post("/v1/messages", json.dumps(body).encode(), 'tieline-policy: {"deny_providers": ["opena"]}')
        )
        heard = await raw.hear()
    assert heard.status == 400
    assert heard.json["type"] == "error"
    assert heard.json["error"]["type"] == "invalid_request_error"
    assert "Did you mean openai?" in heard.json["error"]["message"]


def test_what_the_configuration_denies_is_no_candidate_of_explain(tmp_path: Path) -> None:
    policy = PolicyRules(deny_providers=["sim-openai"])
    gateway = Gateway(
        replace(configuration("http://127.0.0.1:9", tmp_path), policy=policy), environ={}, dry=True
    )
    told = gateway.explain("demo")
    usable = [one["deployment"] for one in told["candidates"] if one["order"]]
    assert usable == ["sim-anthropic/claude-sim", "sim-backup/gpt-sim"]
    assert told["excluded"] == {"sim-openai/gpt-sim": "policy: provider sim-openai is denied"}
