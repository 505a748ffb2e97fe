"""WIRE_FACTS as a caller of a running gateway meets them: what only shows when the whole pipeline is at work.

The dialects' own tests hold the rest; ``test_every_numbered_fact_has_a_test`` sees to it that none is missing.
"""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import anthropic
import httpx2
import openai
import pytest

from tests.conformance.world import HOSTS, World
from tests.features.asking import PROMPT, chat, contents, messages, post, record_of, responses
from tests.features.conftest import Start
from tieline.config.schema import Config, ModelConfig, Routing
from tieline.ledger.pricing import cost
from tieline.providers.card import Price, PriceTier
from tieline.route.storm import DOUBTS
from tieline.simulator.schedule import Phase, Schedule
from tieline.types.usage import Usage

FACTS = range(1, 37)
_NAMED = re.compile(r"wire_(?:facts_)?0*(\d+)(?!\d)", re.IGNORECASE)
_TESTS = Path(__file__).parents[1]
DOORS = ("/v1/chat/completions", "/v1/messages", "/v1/responses", "gemini")
_BODIES: dict[str, Any] = {
    "/v1/chat/completions": chat,
    "/v1/messages": messages,
    "/v1/responses": responses,
}


def ask(world: World, door: str, model: str, **more: Any) -> Any:
    if door == "gemini":
        return post(world, f"/v1beta/models/{model}:generateContent", contents(**more))
    return post(world, door, _BODIES[door](model, **more))


def test_every_numbered_fact_has_a_test() -> None:
    named = {
        int(number)
        for path in _TESTS.rglob("test_*.py")
        for line in path.read_text().splitlines()
        if line.lstrip().startswith(("def test_", "async def test_"))
        for number in _NAMED.findall(line)
    }
    assert [number for number in FACTS if number not in named] == []


# streams --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", [host.name for host in HOSTS])
def test_wire_06_every_answer_has_one_id_and_names_its_model(world: World, host: str) -> None:
    """Converse and Cohere name no model, and Converse gives no id."""
    for door in ("/v1/chat/completions", "/v1/messages", "/v1/responses"):
        heard = ask(world, door, f"{host}/sim-echo")
        assert heard.json["id"], heard.text
        assert heard.json["model"], heard.text
    with openai.OpenAI(base_url=f"{world.url}/v1", api_key="k", max_retries=0) as sdk:
        chunks = list(sdk.chat.completions.create(**chat(f"{host}/sim-echo"), stream=True))
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[0].id
    assert {chunk.model for chunk in chunks} == {"sim-echo"}


@pytest.mark.parametrize("host", ["chat", "responses", "claude", "gemini"])
def test_wire_09_an_error_inside_a_200_is_the_error_that_it_says(world: World, host: str) -> None:
    heard = ask(world, "/v1/chat/completions", f"{host}-down/sim-error-200")
    assert heard.status >= 500, heard.text
    record = record_of(world, heard)
    assert record.outcome in ("transient", "overloaded"), record.outcome


@pytest.mark.parametrize("host", ["chat", "responses", "claude", "gemini", "cohere"])
def test_wire_10_a_complete_answer_without_a_terminator_is_complete(world: World, host: str) -> None:
    with openai.OpenAI(base_url=f"{world.url}/v1", api_key="k", max_retries=0) as sdk:
        chunks = list(sdk.chat.completions.create(**chat(f"{host}/sim-no-done"), stream=True))
    assert [c.finish_reason for chunk in chunks for c in chunk.choices if c.finish_reason] == ["stop"]


@pytest.mark.parametrize("door", ["/v1/chat/completions", "/v1/messages", "/v1/responses"])
def test_wire_12_a_waiting_stream_is_kept_alive(start: Start, door: str) -> None:
    from tieline.config.schema import ServerConfig

    world = start(server=ServerConfig(port=0, keepalive_s=0.1))
    body = _BODIES[door]("chat/sim-echo:ttft_ms=600,tokens=4", stream=True)
    with (
        httpx2.Client(timeout=10) as client,
        client.stream("POST", world.url + door, json=body) as answer,
    ):
        lines = list(answer.iter_lines())
    pings = [
        line for line in lines if line.startswith(": keep-alive") or line == "event: ping" or line == ": ping"
    ]
    assert len(pings) >= 3, lines[:8]


# messages -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("host", [host.name for host in HOSTS])
def test_wire_25_fields_for_the_gateway_never_reach_a_provider(world: World, door: str, host: str) -> None:
    world.begin()
    heard = ask(
        world,
        door,
        f"{host}/sim-echo",
        tieline={"tags": {"team": "a"}},
        models=[f"{host}/sim-long"],
        provider={"allow_fallbacks": False},
    )
    assert heard.status == 200, heard.text
    (entry,) = world.upstream()
    assert not {"tieline", "models", "provider", "route"} & entry.body.keys()
    assert record_of(world, heard).tags == {"team": "a"}


def test_wire_25_unknown_fields_pass_through_to_their_own_dialect(world: World) -> None:
    world.begin()
    ask(world, "/v1/chat/completions", "chat/sim-echo", brand_new_field=1)
    assert world.upstream()[-1].body["brand_new_field"] == 1
    heard = ask(world, "/v1/chat/completions", "claude/sim-echo", brand_new_field=1)
    assert (heard.status, heard.error["param"]) == (400, "brand_new_field")


# ends -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", [host.name for host in HOSTS])
def test_wire_28_a_caller_that_leaves_cancels_the_upstream_and_pays_for_what_was_made(
    world: World, host: str
) -> None:
    world.begin()
    body = chat(f"{host}/sim-long:tps=100", stream=True)
    with (
        httpx2.Client(timeout=10) as client,
        client.stream("POST", f"{world.url}/v1/chat/completions", json=body) as answer,
    ):
        request_id = answer.headers["tieline-request-id"]
        for _, line in zip(range(20), answer.iter_lines(), strict=False):
            assert line is not None
    (entry,) = world.upstream()
    assert world.wait_for(lambda: entry.cancelled_by_client)
    assert world.wait_for(lambda: world.gateway.in_flight == 0), "the slot is free"
    heard = type("Heard", (), {"headers": {"tieline-request-id": request_id}})()
    record = record_of(world, heard)
    assert (record.outcome, record.status) == ("caller_gone", 499)
    (attempt,) = record.attempts
    assert attempt.usage is not None
    assert attempt.usage.estimated
    assert 0 < attempt.usage.output_tokens < 500


# money ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["chat", "responses", "claude", "gemini", "bedrock", "cohere"])
@pytest.mark.parametrize("stream", [False, True])
def test_wire_29_cached_tokens_are_billed_once(start: Start, host: str, stream: bool) -> None:
    from msgspec.structs import replace

    from tests.conformance.world import providers

    model = "sim-cache:cached_tokens=7,cache_write_tokens=0"
    world = start()
    made = providers(world.simulator.url)
    price: Any = {"input": "1", "output": "10", "cache_read": "0.1"}
    made[host] = replace(made[host], prices={model: price})
    world.gateway.reload(replace(world.gateway.config, providers=made))
    heard = ask(world, "/v1/messages", f"{host}/{model}", stream=stream)
    record = record_of(world, heard)
    usage, entry = record.attempts[0].usage, world.upstream()[-1]
    assert usage is not None, record
    assert (usage.input_tokens, usage.cache_read_tokens) == (entry.input_tokens, 7)
    wanted = (entry.input_tokens - 7) * 1_000_000 + 7 * 100_000 + entry.output_tokens * 10_000_000
    assert record.cost == wanted


def test_wire_31_a_tier_holds_for_the_whole_request() -> None:
    def tier(above: int, each: int) -> PriceTier:
        return PriceTier(input=each, output=each * 4, above_input_tokens=above)

    price = Price(tiers=(tier(0, 1_000_000), tier(200_000, 2_000_000)))
    below = cost(price, Usage(input_tokens=200_000, output_tokens=10), at_unix=0)
    above = cost(price, Usage(input_tokens=200_001, output_tokens=10), at_unix=0)
    assert below == 200_000 * 1_000_000 + 10 * 4_000_000
    assert above == 200_001 * 2_000_000 + 10 * 8_000_000, "all of it, not the excess"


# errors and limits ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "kind"),
    [("chat", "quota_exhausted"), ("gemini", "quota_exhausted"), ("cohere", "quota_exhausted")],
)
def test_wire_32_an_empty_account_is_not_a_rate_limit(world: World, host: str, kind: str) -> None:
    quota = ask(world, "/v1/chat/completions", f"{host}-down/sim-fail-quota")
    assert (quota.status, quota.error["code"]) == (502, kind), quota.text


def test_wire_32_digits_in_a_message_prove_nothing(start: Start) -> None:
    """The simulator's Gemini names a limit of 403 in its 429, as Google once did."""
    world = start()
    heard = ask(world, "/v1/chat/completions", "gemini/sim-fail-429")
    assert (heard.status, heard.error["code"]) == (429, "rate_limited")
    assert "403" in heard.error["message"]


@pytest.mark.parametrize(
    ("behaviour", "seconds"),
    [
        ("fail-429:retry_after=7", 7),
        ("fail-429:retry_after_ms=6500,limits=0", 7),
        ("fail-429:reset=6m0s", 360),
        ("fail-503:retry_after=9", 9),
    ],
)
def test_wire_33_when_to_come_back_reaches_the_caller(start: Start, behaviour: str, seconds: int) -> None:
    world = start(routing=Routing(fallback="none", patience_s=0.0))
    heard = ask(world, "/v1/messages", f"chat/sim-{behaviour}")
    assert heard.status in (429, 503), heard.text
    if "reset" not in behaviour:
        assert int(heard.headers["retry-after"]) in (seconds, seconds - 1)


def test_wire_33_a_date_and_a_negative_number(start: Start) -> None:
    from tieline.providers.limits import retry_after

    now = 1_795_000_000.0
    date = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(now + 30)).encode()
    assert retry_after([(b"retry-after", date)], now) == 30
    assert retry_after([(b"retry-after-ms", b"-1")], now) is None
    assert retry_after([(b"retry-after", b"-1")], now) is None


def test_wire_34_one_hosts_400s_and_401s_do_not_stop_what_another_can_serve(start: Start) -> None:
    """Valid keys have got 401, and 400 has been an outage: another host answers, and the caller never sees it."""
    models = {
        "keyless": ModelConfig(deployments=["chat-down/sim-fail-401"], fallbacks=["claude/sim-echo"]),
        "limited": ModelConfig(deployments=["chat-down/sim-fail-429"], fallbacks=["claude/sim-echo"]),
    }
    world = start("-down", models=models, routing=Config().routing)
    for name in models:
        heard = ask(world, "/v1/chat/completions", name)
        assert heard.status == 200, heard.text
        assert heard.headers["tieline-provider"] == "claude"


@pytest.mark.parametrize(
    ("door", "host", "sibling"),
    [
        ("/v1/chat/completions", "chat", "claude"),
        ("/v1/messages", "claude", "chat"),
        ("/v1/responses", "responses", "claude"),
        ("gemini", "gemini", "claude"),
    ],
)
def test_wire_34_a_storm_of_400s_is_an_outage_when_a_sibling_accepts_the_same(
    start: Start, door: str, host: str, sibling: str
) -> None:
    """Azure answered good requests with 400 for 20 hours (March 2026): no caller gets to see one of them."""
    storm = ModelConfig(deployments=[f"{host}/sim-echo"], fallbacks=[f"{sibling}/sim-echo"])
    world = start(models={"prod": storm}, routing=Config().routing)
    heard = ask(world, door, "prod")
    assert (heard.status, heard.headers["tieline-provider"]) == (200, host), heard.text
    outage = Phase(at_s=0, for_s=3600, provider=host, behaviour="fail-400")
    world.simulator.set_schedule(Schedule(phases=[outage]))
    seen = [ask(world, door, "prod") for _ in range(12)]
    assert [one.status for one in seen] == [200] * 12
    assert {one.headers["tieline-provider"] for one in seen} == {sibling}
    asked = [entry.provider for entry in world.upstream()]
    assert asked.count(host) < 12, "its breaker opened: it is not asked every time"


def test_wire_34_a_400_that_siblings_share_stays_the_callers(start: Start) -> None:
    """Bad requests in numbers are no outage: they stay the caller's, and only so many are doubted."""
    shared = ModelConfig(deployments=["chat-down/sim-echo"], fallbacks=["claude/sim-echo"])
    world = start("-down", models={"prod": shared}, routing=Config().routing)
    assert ask(world, "/v1/chat/completions", "prod").status == 200
    everywhere = Phase(at_s=0, for_s=3600, behaviour="fail-400")
    world.simulator.set_schedule(Schedule(phases=[everywhere]))
    statuses = [ask(world, "/v1/chat/completions", "prod").status for _ in range(24)]
    assert statuses == [400] * 24
    asked = [entry.provider for entry in world.upstream()]
    assert asked.count("claude") <= DOUBTS + 2, asked


@pytest.mark.parametrize("door", DOORS)
def test_wire_35_a_cdns_page_is_no_answer_of_the_provider(world: World, door: str) -> None:
    heard = ask(world, door, "claude-down/sim-fail-502-html")
    assert heard.status == 502
    assert "<html" not in heard.text.lower()
    assert "CDN" in heard.text


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("host", [host.name for host in HOSTS])
def test_wire_36_a_providers_401_is_never_ours(world: World, door: str, host: str) -> None:
    heard = ask(world, door, f"{host}-down/sim-fail-401")
    assert heard.status == 502, heard.text
    assert "simulated-key" not in heard.text


def test_wire_36_the_official_sdks_raise_no_authentication_error(world: World) -> None:
    with (
        openai.OpenAI(base_url=f"{world.url}/v1", api_key="k", max_retries=0) as gpt,
        pytest.raises(openai.InternalServerError),
    ):
        gpt.chat.completions.create(**chat("chat-raw/sim-fail-401"))
    with (
        anthropic.Anthropic(base_url=world.url, api_key="k", max_retries=0) as claude,
        pytest.raises(anthropic.InternalServerError),
    ):
        claude.messages.create(**messages("claude-raw/sim-fail-401"))


def test_wire_36_a_fault_of_ours_is_never_401_or_402(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from tieline.pipeline import Flight

    def broken(self: Flight) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(Flight, "match", broken)
    for door in DOORS:
        heard = ask(world, door, "chat/sim-echo")
        assert heard.status == 500
        assert "a bug" not in json.dumps(heard.json)
        assert PROMPT not in heard.text
